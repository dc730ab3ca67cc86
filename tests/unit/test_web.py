"""What strangers are told: a problem for every error, deadlines, and health that is true."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import attrs
import pytest

from altcraft_async import AltcraftClient, ConfigurationError, Outcome, OutcomeState, Report, errors
from altcraft_async.errors import AltcraftError
from altcraft_async.integrations.web import PROBLEMS, Deadline, DeadlineHeader, problem_of, readiness_of
from altcraft_async.outbox import OutboxStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-5d1f0c77e3"


def tree(kind: type[AltcraftError] = AltcraftError) -> Iterator[type[AltcraftError]]:
    if kind.__module__ == errors.__name__:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)


ALL = list(tree())


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_problem_of_its_own(kind):
    assert kind in PROBLEMS, f"say in PROBLEMS what callers are told of {kind.__name__}"


@pytest.mark.parametrize("kind", ALL)
def test_a_problem_says_all_that_the_standard_asks_and_gives_nothing_away(kind):
    error = kind(f"{CANARY} from 10.0.0.7")
    vars(error).update(subject=CANARY, text=CANARY, path=f"/srv/{CANARY}", source=CANARY)
    if kind is errors.InvalidUpdateError:
        error.message = "order_external_id is empty"
    body = problem_of(error, instance="/lines").body
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    assert body["detail"]
    assert body["status"] >= 422 or body["status"] == 409
    assert body["status"] not in {401, 403, 429}
    assert CANARY not in json.dumps(body)
    assert "10.0.0.7" not in json.dumps(body)


@pytest.mark.parametrize(
    ("kind", "status", "slug"),
    [
        (errors.InvalidUpdateError, 422, "invalid-update"),
        (errors.BadRequestError, 422, "bad-request"),
        (errors.APIError, 502, "api"),
        (errors.AuthenticationError, 502, "authentication"),
        (errors.ServerError, 502, "server"),
        (errors.RateLimitError, 503, "rate-limit"),
        (errors.RetryBudgetError, 503, "retry-budget"),
        (errors.OutboxFullError, 503, "outbox-full"),
        (errors.DeadlineError, 504, "deadline"),
        (errors.AttemptTimeoutError, 504, "attempt-timeout"),
        (errors.ConfigurationError, 500, "configuration"),
    ],
)
def test_status_and_type_are_those_of_the_error(kind, status, slug):
    problem = problem_of(kind("x"), types="https://example.test/problems/")
    assert (problem.status, problem.type) == (status, f"https://example.test/problems/{slug}")


def test_a_class_of_somebody_elses_counts_as_its_ancestor():
    class StrangeServerError(errors.ServerError):
        pass

    assert problem_of(StrangeServerError("x")).type.endswith(":server")


def test_a_change_in_doubt_is_asked_for_again_under_its_id():
    error = errors.DeadlineError("x")
    error.request_id, error.maybe_applied = "change-1", True
    problem = problem_of(error)
    assert problem.members == {"request_id": "change-1", "maybe_applied": True}
    assert "under the same request_id" in problem.detail


def test_the_wait_comes_from_the_server_where_it_gave_one():
    error = errors.RetryBudgetError("x")
    error.__cause__ = errors.RateLimitError("x", retry_after=7.2)
    assert problem_of(error).headers == {"Retry-After": "8"}
    assert problem_of(errors.RetryBudgetError("x")).headers == {"Retry-After": "5"}
    assert problem_of(errors.RateLimitError("x", retry_after=0.01)).headers == {"Retry-After": "1"}
    assert problem_of(errors.RateLimitError("x", retry_after=float("inf"))).headers == {"Retry-After": "1"}
    assert problem_of(errors.ServerError("x")).headers == {}


def test_an_invalid_update_names_its_field_but_not_the_file_it_came_from():
    error = errors.InvalidUpdateError("order_external_id is empty", field="order_external_id", source="/srv/x", line=3)
    problem = problem_of(error)
    assert problem.detail == "order_external_id is empty"
    assert problem.members == {"field": "order_external_id"}


def test_a_batch_is_told_in_counts():
    rejected = Outcome(1, None, OutcomeState.REJECTED, error=errors.BadRequestError(CANARY))
    report = Report([Outcome(0, None, OutcomeState.APPLIED), rejected], 1.0, 2, 0, 0)
    problem = problem_of(errors.BatchError(CANARY, report=report, failures=[rejected]))
    assert problem.members == {"counts": {"applied": 1, "rejected": 1}}


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("Request-Timeout", "2", 2.0),
        ("Request-Timeout", " 2.5 ", 2.5),
        ("Request-Timeout", "0", 0.0),
        ("Request-Timeout", "600", 30.0),
        ("Request-Timeout", "", 10.0),
        ("Request-Timeout", "-1", 10.0),
        ("Request-Timeout", "nan", 10.0),
        ("Request-Timeout", "2S", 10.0),
        ("Request-Timeout", "1e9", 10.0),
        ("Request-Timeout", "²", 10.0),
        ("X-Envoy-Expected-Rq-Timeout-Ms", "1500", 1.5),
        ("Prefer", "wait=4", 4.0),
        ("Prefer", 'respond-async, wait="4"; x=1', 4.0),
        ("Prefer", "await=4", 10.0),
        ("Prefer", "return=minimal", 10.0),
        ("grpc-timeout", "1500m", 1.5),
        ("grpc-timeout", "4S", 4.0),
        ("grpc-timeout", "1H", 30.0),
        ("grpc-timeout", "9" * 400, 10.0),
    ],
)
def test_a_deadline_is_read_and_bounded(name, value, seconds):
    assert DeadlineHeader(name).read({name: value}).seconds == seconds


def test_a_request_without_the_header_gets_the_default_under_the_maximum():
    assert DeadlineHeader(default=3.0).read({}).seconds == 3.0
    assert DeadlineHeader(maximum=5.0).read({}).seconds == 5.0


def test_what_is_left_of_a_deadline_shrinks_to_zero():
    now = 100.0
    deadline = Deadline(2.0, lambda: now)
    assert deadline.left() == 2.0
    now = 101.5
    assert deadline.left() == 0.5
    now = 103.0
    assert deadline.left() == 0.0


@pytest.mark.parametrize("wrong", [{"default": 0}, {"maximum": float("inf")}, {"default": float("nan")}])
def test_times_that_cannot_bound_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        DeadlineHeader(**wrong)


class Kept:
    """Stands in for an outbox with these statistics."""

    GOOD = OutboxStatistics(
        pending=3,
        dead=0,
        capacity=10,
        delivered=7,
        oldest=1.5,
        last_success=1e9,
        draining=True,
        accepting=True,
        problem=None,
    )

    def __init__(self, **changes):
        self._statistics = attrs.evolve(self.GOOD, **changes)

    def statistics(self):
        return self._statistics


@pytest.fixture
async def client():
    async with AltcraftClient("https://altcraft.example.test", CANARY) as altcraft:
        yield altcraft


async def test_a_service_that_can_work_is_ready_and_shows_its_figures(client):
    health = readiness_of(client, Kept())
    assert (health.status, health.http_status, health.notes) == ("pass", 200, ())
    assert health.body["outbox"]["pending"] == 3
    assert health.body["outbox"]["last_success"] == 1e9
    assert health.body["altcraft"]["limit"] == client.statistics().limit
    assert health.body["altcraft"]["outage"] is None
    assert health.body["altcraft"]["last_success"] is None


@pytest.mark.parametrize(
    ("changes", "status", "note"),
    [
        ({"pending": 10}, "fail", "the outbox is full"),
        ({"accepting": False, "problem": f"/srv/{CANARY}"}, "fail", "the outbox cannot be used"),
        ({"problem": f"/srv/{CANARY}"}, "warn", "the outbox does not deliver"),
        ({"dead": 1}, "warn", "the outbox has dead letters"),
        ({"oldest": 301.0}, "warn", "the outbox is behind"),
    ],
)
async def test_an_outbox_in_need_is_told(client, changes, status, note):
    health = readiness_of(client, Kept(**changes))
    assert (health.status, health.notes) == (status, (note,))
    assert CANARY not in json.dumps(health.body)


async def test_a_missing_or_closed_client_is_a_failure(client):
    assert readiness_of(None).http_status == 503
    await client.aclose()
    assert readiness_of(client).body == {"status": "fail", "notes": ["the client is not open"]}


async def test_an_altcraft_that_is_away_is_a_warning_only(client):
    now = asyncio.get_running_loop().time()
    for _ in range(3):
        client._engine.gate.outage.on_failure(now, "update", None, now)
    health = readiness_of(client)
    assert (health.status, health.http_status) == ("warn", 200)
    assert "Altcraft serves nobody" in health.notes


async def test_a_pause_and_an_empty_budget_are_warnings(client):
    client._engine.gate.pause(60.0)
    client._engine.budget.tokens = 0.0
    assert readiness_of(client).notes == ("Altcraft asked for a pause", "no retries are left")


def test_a_put_whose_end_is_lost_is_told_with_the_id_to_repeat_it_under():
    error = errors.OutboxError("lost", maybe_accepted=True)
    error.request_id = "message-17"
    problem = problem_of(error)
    assert (problem.status, problem.members["request_id"]) == (503, "message-17")
    assert "under the same request_id" in problem.detail
    assert "maybe_accepted" not in problem_of(errors.OutboxError("away")).members
