"""A work item: the state in which it ends, and what its errors say; and how long its caller waits."""

from __future__ import annotations

from math import inf

import pytest

from altcraft_async import LineStatusUpdate, OutagePolicy, ServerError
from altcraft_async.engine.work import Attempt, Patience, Phase, WorkItem
from altcraft_async.flow.outage import Outage
from altcraft_async.flow.retry import Stop, StopReason
from altcraft_async.protocol.verdict import TABLE, Evidence
from altcraft_async.protocol.wire import Call

UPDATE = LineStatusUpdate("o1", "l1", "new")


class Owner:
    stopped = False

    def on_ready(self, item):
        raise AssertionError(item)


def item_of(evidence=None, *, maybe_applied=False, reason=None, attempts=1, update=UPDATE):
    item = WorkItem(Call("market/x", {}), "id-1", owner=Owner(), update=update)
    item.attempts = attempts
    item.maybe_applied = maybe_applied
    if evidence is not None:
        item.last = Attempt(TABLE[evidence], {})
    item.stop = None if reason is None else Stop(reason)
    return item


# -- the state, for each way in which the last attempt can have ended


SETTLED = {
    Evidence.SUCCESS: "applied",
    Evidence.DUPLICATE_SUCCESS: "duplicate",
    Evidence.REFUSED: "rejected",
    Evidence.TOO_LARGE: "rejected",
    Evidence.DUPLICATE_FAILURE: "rejected",
}
"""A served answer says what there is to say, whatever was in doubt before."""
SURE = [Evidence.NO_ROOM, Evidence.NEVER_SENT, Evidence.THROTTLED, Evidence.RENEWED]
"""Nothing was applied by this attempt; an earlier one may have been."""
DOUBTFUL = set(Evidence) - set(SETTLED) - set(SURE) - {Evidence.FATAL, Evidence.FOREIGN}

EVERY_REASON = [None, *StopReason]


@pytest.mark.parametrize("reason", EVERY_REASON)
@pytest.mark.parametrize("maybe_applied", [False, True])
@pytest.mark.parametrize("evidence", SETTLED)
def test_a_served_answer_settles_the_state(evidence, maybe_applied, reason):
    assert item_of(evidence, maybe_applied=maybe_applied, reason=reason).state == SETTLED[evidence]


@pytest.mark.parametrize("reason", EVERY_REASON)
@pytest.mark.parametrize("evidence", SURE)
def test_where_nothing_was_applied_the_state_is_not_sent(evidence, reason):
    assert item_of(evidence, reason=reason).state == "not_sent"


@pytest.mark.parametrize("reason", EVERY_REASON)
@pytest.mark.parametrize("evidence", [*SURE, *sorted(DOUBTFUL), Evidence.FOREIGN, Evidence.FATAL])
def test_without_a_served_answer_a_doubt_stays_a_doubt(evidence, reason):
    assert item_of(evidence, maybe_applied=True, reason=reason).state == "unknown"


@pytest.mark.parametrize("evidence", sorted(DOUBTFUL))
def test_every_other_end_is_a_doubt_by_itself(evidence):
    assert item_of(evidence).state == "unknown"


@pytest.mark.parametrize(
    ("reason", "state"),
    [(None, "not_sent")]
    + [(reason, "rejected" if reason is StopReason.ATTEMPTS else "not_sent") for reason in StopReason],
)
def test_a_page_of_somebody_else_rejects_a_line_only_after_all_its_attempts(reason, state):
    assert item_of(Evidence.FOREIGN, reason=reason).state == state


@pytest.mark.parametrize("reason", EVERY_REASON)
def test_a_refused_token_rejects_what_was_not_in_doubt(reason):
    assert item_of(Evidence.FATAL, reason=reason).state == "rejected"


@pytest.mark.parametrize(("maybe_applied", "state"), [(False, "not_sent"), (True, "unknown")])
@pytest.mark.parametrize("reason", EVERY_REASON)
def test_without_an_attempt_that_ended_only_a_doubt_is_known(maybe_applied, state, reason):
    assert item_of(maybe_applied=maybe_applied, reason=reason).state == state


# -- what its errors say


@pytest.mark.parametrize("maybe_applied", [False, True])
def test_an_error_is_signed_with_what_it_concerns_and_what_was_tried(maybe_applied):
    item = item_of(Evidence.THROTTLED, maybe_applied=maybe_applied, attempts=3)
    error = item.sign(ServerError("no"))
    assert (error.subject, error.request_id, error.attempts) == ("order line o1/l1", "id-1", 3)
    assert error.maybe_applied is maybe_applied


def test_what_was_never_sent_has_no_id():
    assert item_of(attempts=0).sign(ServerError("no")).request_id is None


def test_a_call_that_is_no_line_update_is_named_by_its_method():
    assert item_of(update=None).subject == "call market/x"


def test_the_repr_tells_the_phase():
    item = item_of()
    item.phase = Phase.BETWEEN
    assert repr(item) == "<WorkItem order line o1/l1: between two attempts, 1 attempts>"


# -- patience


def outage_of(*, since, served=True):
    outage = Outage()
    if served:
        outage.on_served(1.0, 0.9, "m")
    outage.since = since
    return outage


POLICY = OutagePolicy(patience=1000.0, call_patience=60.0, first_patience=5.0)


@pytest.mark.parametrize(("bulk", "ends_at"), [(False, 160.0), (True, 1100.0)])
def test_a_caller_waits_as_long_as_its_kind_from_the_beginning_of_the_outage(bulk, ends_at):
    assert Patience(POLICY, 10.0, bulk=bulk).ends_at(outage_of(since=100.0)) == ends_at


def test_a_caller_that_came_later_waits_from_its_own_beginning():
    assert Patience(POLICY, 500.0).ends_at(outage_of(since=100.0)) == 560.0


@pytest.mark.parametrize("bulk", [False, True])
def test_where_nothing_was_ever_served_the_first_patience_is_a_bound(bulk):
    assert Patience(POLICY, 10.0, bulk=bulk).ends_at(outage_of(since=100.0, served=False)) == 105.0


def test_who_says_that_it_has_too_much_to_do_is_not_a_wrong_address():
    outage = Outage()
    outage.on_back_pressure(100.0, "m")
    assert Patience(POLICY, 10.0).ends_at(outage) == 160.0


def test_a_first_patience_that_is_longer_prolongs_nothing():
    patience = Patience(OutagePolicy(call_patience=2.0), 10.0)
    assert patience.ends_at(outage_of(since=100.0, served=False)) == 102.0


def test_without_a_first_patience_the_usual_one_counts():
    patience = Patience(OutagePolicy(first_patience=None), 10.0)
    assert patience.ends_at(outage_of(since=100.0, served=False)) == 160.0


@pytest.mark.parametrize("served", [False, True])
def test_none_waits_without_end(served):
    policy = OutagePolicy(patience=None, first_patience=None)
    assert Patience(policy, 10.0, bulk=True).ends_at(outage_of(since=100.0, served=served)) == inf


def test_fail_fast_is_for_single_calls_alone():
    policy = OutagePolicy(fail_fast=True)
    assert Patience(policy, 500.0).ends_at(outage_of(since=100.0)) == 100.0
    assert Patience(policy, 500.0, bulk=True).ends_at(outage_of(since=100.0)) == 2300.0
