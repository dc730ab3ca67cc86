"""What observers are told of a call, from its beginning to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing

import pytest

from altcraft_async import (
    AltcraftClient,
    BadRequestError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    RetryPolicy,
    ServerError,
)
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallEvent,
    CallStarted,
    LimitChanged,
    RetryPlanned,
    UpdateSettled,
)
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")
METHOD = "market/orders/update_order_line_status"
CANARY = "canary-5d1f0c77e3"


def kinds(watcher):
    return [type(event) for event in watcher.events if isinstance(event, CallEvent)]


def is_balanced(watcher):
    """Whether every beginning has its one end, attempts within calls."""
    calls, attempts = Counter(), Counter()
    for event in watcher.of(CallEvent):
        match event:
            case CallStarted():
                calls[event.call_id] += 1
            case AttemptStarted():
                assert calls[event.call_id] == 1
                attempts[event.call_id] += 1
            case AttemptEnded():
                attempts[event.call_id] -= 1
            case CallEnded():
                assert attempts[event.call_id] == 0
                calls[event.call_id] -= 1
    return not any(calls.values()) and not any(attempts.values())


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_retried_call_is_told_from_its_beginning_to_its_end(sandbox, connect, watcher):
    sandbox.faults = Faults(script=[Fault("error", status=503)])
    client = connect(sandbox, observers=[watcher])
    await client.market.orders.update_order_line_status(*LINE, request_id="id-1")
    assert kinds(watcher) == [
        CallStarted, AttemptStarted, AttemptEnded, RetryPlanned, AttemptStarted, AttemptEnded, CallEnded,
    ]  # fmt: skip
    told = watcher.of(CallEvent)
    assert {(event.method, event.request_id) for event in told} == {(METHOD, "id-1")}
    assert {(event.order_external_id, event.order_line_external_id) for event in told} == {LINE[:2]}
    assert len({event.call_id for event in told}) == 1
    assert [event.attempt for event in told[1:-1]] == [1, 1, 1, 2, 2]
    assert {event.url for event in watcher.of(AttemptStarted)} == {f"{sandbox.base_url}/api/v1.1/{METHOD}"}
    first, second = watcher.of(AttemptEnded)
    assert (first.status, type(first.error), first.throttled) == (503, ServerError, True)
    assert (second.status, second.error, second.throttled) == (200, None, False)
    (ended,) = watcher.of(CallEnded)
    assert (ended.state, ended.attempts, ended.error) == ("applied", 2, None)
    assert ended.elapsed >= first.elapsed + second.elapsed


async def test_a_call_that_fails_ends_in_the_error_that_is_raised(sandbox, connect, watcher):
    client = connect(sandbox, observers=[watcher])
    with pytest.raises(BadRequestError) as caught:
        await client.market.orders.update_order_line_status("order_99", "line_9", "delivered")
    (ended,) = watcher.of(CallEnded)
    assert (ended.state, ended.attempts, ended.error) == ("rejected", 1, caught.value)


async def test_the_status_of_an_answer_that_cannot_be_read_is_told(sandbox, connect, watcher):
    sandbox.faults = Faults(script=[Fault("oversized")])
    await connect(sandbox, observers=[watcher], max_response_bytes=2000).call("market/orders/get_status", {"id": 1})
    assert [event.status for event in watcher.of(AttemptEnded)] == [200, 200]


async def test_a_call_of_no_order_line_names_none(sandbox, connect, watcher):
    await connect(sandbox, observers=[watcher]).call("market/orders/get_status", {"external_id": "order_1"})
    assert {(event.order_external_id, event.order_line_external_id) for event in watcher.of(CallEvent)} == {
        (None, None)
    }
    assert kinds(watcher) == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]


async def test_a_call_whose_parameters_cannot_be_written_ends_unsent(sandbox, connect, watcher):
    with pytest.raises(ConfigurationError) as caught:
        await connect(sandbox, observers=[watcher]).call("market/orders/get_status", {"id": object()})
    assert kinds(watcher) == [CallStarted, CallEnded]
    (ended,) = watcher.of(CallEnded)
    assert (ended.state, ended.attempts, ended.error) == ("not_sent", 0, caught.value)


async def test_a_call_cancelled_in_flight_ends_unknown(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, observers=[watcher])
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(AttemptStarted))
    await cancelled(task)
    assert kinds(watcher) == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]
    (attempt,), (ended,) = watcher.of(AttemptEnded), watcher.of(CallEnded)
    assert (attempt.status, type(attempt.error)) == (0, asyncio.CancelledError)
    assert (ended.state, ended.attempts, type(ended.error)) == ("unknown", 1, asyncio.CancelledError)


async def test_a_call_cancelled_while_it_waits_for_a_permit_ends_unsent(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, observers=[watcher], concurrency=1)
    first = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(AttemptStarted))
    second = asyncio.ensure_future(client.market.orders.update_order_line_status("order_2", "line_2_1", "new"))
    await until(lambda: len(watcher.of(CallStarted)) == 2)
    await cancelled(second)
    (ended,) = watcher.of(CallEnded)
    assert (ended.order_external_id, ended.state, ended.attempts) == ("order_2", "not_sent", 0)
    await cancelled(first)
    assert is_balanced(watcher)


async def test_a_call_cancelled_between_attempts_ends_as_the_last_one_left_it(sandbox, connect, watcher, until):
    sandbox.faults = Faults(script=[Fault("error", status=429)])
    client = connect(sandbox, observers=[watcher], retry=RetryPolicy(base=1000.0, max_delay=1000.0))
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(RetryPlanned))
    await cancelled(task)
    (ended,) = watcher.of(CallEnded)
    assert (ended.state, ended.attempts) == ("not_sent", 1)
    assert is_balanced(watcher)


async def test_a_call_that_gets_no_permit_in_time_ends_without_an_attempt(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=0.2)
    client = connect(sandbox, observers=[watcher], concurrency=1)
    first = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(AttemptStarted))
    with pytest.raises(DeadlineError):
        await client.market.orders.update_order_line_status("order_2", "line_2_1", "new", deadline=0.03)
    (ended,) = watcher.of(CallEnded)
    assert (ended.state, ended.attempts) == ("not_sent", 0)
    assert ended.elapsed > 0.02
    await first


async def test_calls_that_overlap_under_one_request_id_are_told_apart(sandbox, connect, watcher):
    update = connect(sandbox, observers=[watcher]).market.orders.update_order_line_status
    await asyncio.gather(update(*LINE, request_id="same"), update(*LINE, request_id="same"))
    assert {event.request_id for event in watcher.of(CallEvent)} == {"same"}
    assert len({event.call_id for event in watcher.of(CallEvent)}) == 2
    assert is_balanced(watcher)


async def test_each_update_of_a_run_that_is_sent_is_a_call_that_ends_before_its_outcome(sandbox, connect, watcher):
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    rows = [LINE, ("order_2", "line_2_1", "new"), ("order_9", "wrong", "new"), ("order_3", "", "new")]
    report = await connect(sandbox, observers=[watcher]).market.orders.update_order_line_statuses(rows)
    ends = {event.request_id: event for event in watcher.of(CallEnded)}
    sent = [outcome for outcome in report.outcomes if outcome.attempts]
    assert len(sent) == 3
    for outcome in sent:
        end = ends.pop(outcome.request_id)
        assert (end.order_external_id, end.order_line_external_id, end.method) == (
            outcome.update.order_external_id, outcome.update.order_line_external_id, METHOD,
        )  # fmt: skip
        assert (end.state, end.attempts, end.error) == (outcome.state, outcome.attempts, outcome.error)
        assert end.elapsed == pytest.approx(outcome.elapsed, abs=1.0)
        settled = next(event for event in watcher.of(UpdateSettled) if event.outcome is outcome)
        assert watcher.events.index(end) < watcher.events.index(settled)
    assert ends == {}
    assert is_balanced(watcher)


async def test_updates_that_are_never_sent_are_no_calls(sandbox, connect, watcher):
    client = connect(sandbox, "wrong-token", observers=[watcher], concurrency=1)
    report = await client.market.orders.update_order_line_statuses([(f"o{n}", "l", "new") for n in range(10)])
    assert report.counts["not_sent"] == 9
    assert kinds(watcher) == [CallStarted, AttemptStarted, AttemptEnded, CallEnded]
    assert len(watcher.of(UpdateSettled)) == 10


async def test_an_update_without_time_for_an_attempt_is_no_call(sandbox, connect, watcher):
    client = connect(sandbox, observers=[watcher])
    await client.market.orders.update_order_line_statuses([LINE], deadline=0.0005)
    assert is_balanced(watcher)


@pytest.mark.parametrize("how", ["closed", "cancelled", "cut off"])
async def test_every_beginning_has_its_end_where_a_run_is_left(start_sandbox, connect, watcher, until, how):
    faults = Faults(latency=0.002, error_500=0.2, reset_before=0.1, too_many_requests=0.1)
    sandbox = await start_sandbox(seed=7, faults=faults)
    client = connect(sandbox, observers=[watcher])
    rows = [(f"order_{n % 20 + 1}", f"line_{n % 20 + 1}_1", "new") for n in range(1000)]

    async def consume(*, until=float("inf")):
        async with aclosing(client.market.orders.stream_order_line_statuses(rows)) as stream:
            async for outcome in stream:
                if outcome.index >= until:
                    break

    if how == "closed":
        await consume(until=50)
    else:
        task = asyncio.ensure_future(consume())
        await until(lambda: len(watcher.of(CallStarted)) > 20)
        task.cancel()
        if how == "cut off":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
    assert len(watcher.of(CallStarted)) > 20
    assert is_balanced(watcher)


class BodyError(BaseException):
    """What no handler of ordinary errors catches."""


@pytest.mark.parametrize(
    ("kind", "raised", "told", "message"),
    [
        (
            ZeroDivisionError,
            ConnectionLostError,
            ConnectionLostError,
            "the transport failed unexpectedly (ZeroDivisionError)",
        ),
        (BodyError, BodyError, DeliveryError, "an unexpected error (BodyError)"),
    ],
)
async def test_a_defect_below_is_told_without_its_text(watcher, kind, raised, told, message):
    class Broken:
        async def send(self, request, **_):
            raise kind(request.body)

        async def aclose(self):
            pass

    policy = RetryPolicy(attempts=1)
    async with AltcraftClient(
        "https://x.test", CANARY, transport=Broken(), observers=[watcher], retry=policy
    ) as client:
        with pytest.raises(raised):
            await client.market.orders.update_order_line_status(*LINE)
    assert is_balanced(watcher)
    for event in (*watcher.of(AttemptEnded), *watcher.of(CallEnded)):
        assert type(event.error) is told
        assert event.error.message == message
    assert CANARY not in repr(watcher.events)


@pytest.mark.parametrize(("concurrency", "limit"), [(5, 5), (64, 64)])
async def test_the_limit_is_told_when_the_client_is_made(sandbox, connect, watcher, concurrency, limit):
    connect(sandbox, observers=[watcher], concurrency=concurrency)
    assert watcher.events == [LimitChanged(limit, 0)]


async def test_an_observer_that_raises_on_every_event_harms_no_call(sandbox, connect, watcher, caplog):
    class Broken:
        def on_event(self, event):
            raise ZeroDivisionError

    sandbox.faults = Faults(script=[Fault("error", status=500)])
    client = connect(sandbox, observers=[Broken(), watcher])
    await client.market.orders.update_order_line_status(*LINE)
    with pytest.raises(BadRequestError):
        await client.market.orders.update_order_line_status("order_99", "line_9", "new")
    assert is_balanced(watcher)
    assert len(caplog.records) == len(watcher.events)
