"""The law of retrying, each article of it, and the reading of ``Retry-After``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import ConfigurationError, OutagePolicy, RetryPolicy
from altcraft_async.flow.retry import Retry, RetryBudget, Stop, StopReason, decide, parse_retry_after
from altcraft_async.protocol.verdict import TABLE, Evidence

AGAIN = TABLE[Evidence.RETRIABLE]
NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def decision(verdict=AGAIN, **changes):
    facts = {
        "attempts": 1,
        "hopeless": False,
        "now": 100.0,
        "deadline": None,
        "retry_after": None,
        "policy": RetryPolicy(),
        "budget": RetryBudget(10),
        "random": 0.5,
    }
    return decide(verdict, **{**facts, **changes})


@pytest.mark.parametrize("evidence", [evidence for evidence in Evidence if not TABLE[evidence].retry])
def test_what_no_attempt_can_better_is_final(evidence):
    assert decision(TABLE[evidence]) == Stop(StopReason.FINAL)


@pytest.mark.parametrize("evidence", [evidence for evidence in Evidence if TABLE[evidence].retry])
def test_what_another_attempt_can_better_is_retried(evidence):
    assert isinstance(decision(TABLE[evidence]), Retry)


@pytest.mark.parametrize(("attempts", "stops"), [(1, False), (4, False), (5, True), (6, True)])
def test_no_more_attempts_are_made_than_the_policy_allows(attempts, stops):
    assert (decision(attempts=attempts) == Stop(StopReason.ATTEMPTS)) is stops


def test_one_attempt_means_no_retries():
    assert decision(policy=RetryPolicy(attempts=1)) == Stop(StopReason.ATTEMPTS)


def test_a_server_that_is_given_up_is_not_tried_again():
    assert decision(hopeless=True) == Stop(StopReason.UNREACHABLE)


@given(attempts=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_a_random_part_of_an_exponential_with_a_ceiling(attempts, random):
    policy = RetryPolicy(attempts=20_000, base=0.5, max_delay=30.0)
    ceiling = min(30.0, 0.5 * 2.0 ** min(attempts - 1, 60))
    assert decision(attempts=attempts, random=random, policy=policy) == Retry(ceiling * random)


@pytest.mark.parametrize(
    ("retry_after", "delay"), [(0.1, 0.25), (3.0, 3.0), (60.0, 60.0), (61.0, 60.0), (86_400.0, 60.0)]
)
def test_retry_after_is_a_minimum_beside_the_backoff_and_is_cut(retry_after, delay):
    assert decision(retry_after=retry_after) == Retry(delay)


@given(now=st.floats(0, 1e6), left=st.floats(0, 100), random=st.floats(0, 1, exclude_max=True))
def test_no_wait_is_begun_that_ends_at_or_after_the_deadline(now, left, random):
    result = decision(now=now, deadline=now + left, random=random)
    if isinstance(result, Retry):
        assert now + result.delay < now + left
    else:
        assert result == Stop(StopReason.DEADLINE)
        assert now + 0.5 * random >= now + left


ENDLESS = RetryPolicy(attempts=None)


@pytest.mark.parametrize("facts", [{"attempts": 10_000}, {"hopeless": True}])
def test_without_a_bound_of_attempts_only_a_verdict_or_a_deadline_ends_the_retries(facts):
    assert isinstance(decision(policy=ENDLESS, **facts), Retry)
    assert decision(TABLE[Evidence.REFUSED], policy=ENDLESS, **facts) == Stop(StopReason.FINAL)
    assert decision(policy=ENDLESS, deadline=100.1, **facts) == Stop(StopReason.DEADLINE)


@given(random=st.floats(0, 1, exclude_max=True))
def test_without_a_bound_of_attempts_an_empty_budget_makes_the_wait_long(random):
    retry = decision(policy=ENDLESS, budget=RetryBudget(0.5), random=random)
    assert isinstance(retry, Retry)
    assert ENDLESS.max_delay / 2 <= retry.delay <= ENDLESS.max_delay


def test_a_long_wait_for_an_empty_budget_keeps_the_deadline_too():
    assert decision(policy=ENDLESS, budget=RetryBudget(0.5), deadline=110.0) == Stop(StopReason.DEADLINE)


def test_every_retry_is_paid_and_an_empty_budget_stops():
    budget = RetryBudget(2)
    results = [decision(budget=budget) for _ in range(3)]
    assert [type(result) for result in results] == [Retry, Retry, Stop]
    assert results[-1].reason is StopReason.BUDGET
    assert budget.tokens == 0


def test_a_retry_that_is_not_made_costs_nothing():
    budget = RetryBudget(2)
    decision(TABLE[Evidence.REFUSED], budget=budget)
    decision(attempts=5, budget=budget)
    decision(deadline=100.0, budget=budget)
    decision(hopeless=True, budget=budget)
    assert budget.tokens == 2


@given(capacity=st.floats(1, 100), refund=st.floats(0.01, 5), events=st.lists(st.sampled_from(["spend", "success"])))
def test_the_budget_never_leaves_its_bounds(capacity, refund, events):
    budget = RetryBudget(capacity, refund)
    for event in events:
        before = budget.tokens
        if event == "success":
            budget.on_success()
            assert budget.tokens == min(capacity, before + refund)
        else:
            assert budget.spend() is (before >= 1.0)
        assert 0 <= budget.tokens <= capacity


def test_in_an_outage_the_retries_are_constant_however_many_calls_fail():
    budget = RetryBudget(50)
    assert sum(isinstance(decision(budget=budget), Retry) for _ in range(10_000)) == 50


def test_a_budget_of_none_has_no_end():
    budget = RetryBudget(None)
    assert all(budget.spend() for _ in range(1000))
    budget.on_success()
    assert budget.tokens == float("inf")


@pytest.mark.parametrize(
    "field",
    ["attempts", "base", "max_delay", "max_retry_after", "rules"],
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_policy_that_cannot_work_names_the_field(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        RetryPolicy(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["patience", "call_patience", "first_patience", "fail_fast"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5"])
def test_an_outage_policy_that_cannot_work_names_the_field(field, value):
    with pytest.raises(ConfigurationError, match=f"^{field} must be ") as caught:
        OutagePolicy(**{field: value})
    assert caught.value.field == field


def test_only_attempts_and_the_patience_of_runs_can_be_without_end():
    assert (RetryPolicy(attempts=None).attempts, OutagePolicy(patience=None).patience) == (None, None)
    with pytest.raises(ConfigurationError, match="call_patience must be a number above zero, not None"):
        OutagePolicy(call_patience=None)


@pytest.mark.parametrize(("text", "seconds"), [("1", 1.0), (" 120 ", 120.0), ("86400", 86_400.0)])
def test_seconds_are_read(text, seconds):
    assert parse_retry_after(text, now=NOW) == seconds


def test_a_date_is_read_as_seconds_from_now():
    then = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90)
    assert parse_retry_after(format_datetime(then, usegmt=True), now=NOW) == 90.0
    assert parse_retry_after(format_datetime(then), now=NOW) == 90.0
    assert parse_retry_after("Thu, 01 Jan 2026 00:01:30 -0000", now=NOW) == 90.0


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", "0", "-5", "1.5", "1e3", "soon", "86401", "999999999999999999999999", "٣", "²",
        "Wed, 31 Dec 2025 23:59:59 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 99 Jan 2026 00:00:00 GMT",
        "Thu, 01 Jan 99999 00:00:00 GMT", "Thu, 01 Jan 2026 00:01:30 +99999999999", "nan", "inf", "1, 2",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_ignored(text):
    assert parse_retry_after(text, now=NOW) is None


@given(st.text(max_size=40))
def test_no_text_can_break_the_reading(text):
    seconds = parse_retry_after(text, now=NOW)
    assert seconds is None or 0 < seconds <= 86_400
