"""Cancelling and early closing: what is in flight gets its grace, nothing leaks, nothing more is read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from altcraft_async import RetryPolicy
from altcraft_async.engine import run
from altcraft_async.engine.run import Run, RunOptions
from altcraft_async.market.orders import _call_of
from altcraft_async.observe import AttemptStarted, UpdateSettled
from altcraft_async.sandbox import Fault, Faults


class Source:
    """An endless source that counts what was taken from it."""

    def __init__(self, *, lines=20):
        self.taken = 0
        self.lines = lines

    def _next(self):
        self.taken += 1
        n = self.taken % self.lines + 1
        return (f"order_{n}", f"line_{n}_1", "delivered")

    def __iter__(self):
        while True:
            yield self._next()

    async def asynchronous(self):
        while True:
            await asyncio.sleep(0)
            yield self._next()


def own_tasks():
    """The tasks of the library, not those of the sandbox or of the test."""
    return [task for task in asyncio.all_tasks() if task.get_coro().cr_code.co_filename == run.__file__]


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_cancelling_a_gathering_call_stops_reading_and_gives_back_every_permit(
    start_sandbox, connect, asynchronous, until
):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox)
    source = Source()
    rows = source.asynchronous() if asynchronous else source
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows))
    await until(lambda: sandbox.ledger.requests > 20)
    assert own_tasks() != []
    await cancel(task)
    taken = source.taken
    await asyncio.sleep(0.02)
    assert source.taken == taken
    assert client.statistics().in_flight == client.statistics().waiting == 0
    assert own_tasks() == []
    assert sandbox.ledger.in_flight == 0


async def test_what_is_in_flight_ends_in_its_grace_and_observers_hear_of_it(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=0.05)
    client = connect(sandbox, concurrency=4, observers=[watcher])
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(Source(), window=10))
    await until(lambda: len(watcher.of(AttemptStarted)) == 4)
    await cancel(task)
    outcomes = [event.outcome for event in watcher.of(UpdateSettled)]
    assert sorted(outcome.index for outcome in outcomes) == list(range(10))
    assert [outcome.state for outcome in outcomes].count("applied") == 4
    assert [outcome.state for outcome in outcomes].count("not_sent") == 6
    assert sandbox.ledger.answers == {"applied": 4}


async def test_a_retry_in_flight_gets_the_grace_too(sandbox, connect, watcher, until):
    sandbox.faults = Faults(script=[Fault("error", status=500), Fault("delay", delay=0.05)])
    client = connect(sandbox, observers=[watcher])
    rows = [("order_1", "line_1_1", "delivered")]
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows))
    await until(lambda: len(watcher.of(AttemptStarted)) == 2)
    await cancel(task)
    (settled,) = watcher.of(UpdateSettled)
    assert (settled.outcome.state, settled.outcome.attempts) == ("applied", 2)


async def test_what_fails_in_its_grace_is_not_tried_again(sandbox, connect, watcher, until):
    sandbox.faults = Faults(script=[Fault("error", status=500), *[Fault("error", status=500, delay=0.05)] * 9])
    client = connect(sandbox, observers=[watcher], retry=RetryPolicy(attempts=9, base=0.001))
    rows = [("order_1", "line_1_1", "delivered")]
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows))
    await until(lambda: len(watcher.of(AttemptStarted)) == 2)
    await cancel(task)
    (settled,) = watcher.of(UpdateSettled)
    assert (settled.outcome.state, settled.outcome.attempts) == ("unknown", 2)
    assert sandbox.ledger.requests == 2


async def test_a_line_that_backs_off_is_not_waited_for(sandbox, connect, watcher, until):
    sandbox.faults = Faults(error_500=1.0)
    client = connect(sandbox, observers=[watcher], retry=RetryPolicy(base=1000.0, max_delay=1000.0))
    rows = [("order_1", "line_1_1", "delivered")]
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows))
    await until(lambda: sandbox.ledger.requests == 1 and client.statistics().sent == 1)
    started = asyncio.get_running_loop().time()
    await cancel(task)
    assert asyncio.get_running_loop().time() - started < 4.0
    (settled,) = watcher.of(UpdateSettled)
    assert settled.outcome.state == "unknown"
    assert settled.outcome.request_id == sandbox.ledger.arrivals("order_1", "line_1_1")[0].request_id


async def test_the_grace_is_bounded_and_what_it_cuts_is_unknown(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=3.0)
    client = connect(sandbox, observers=[watcher])
    options = RunOptions(window=5, grace=0.02)
    run = Run(client._dispatcher, Source(lines=3), options, call_of=_call_of, gathered=True)
    task = asyncio.ensure_future(run.gather())
    await until(lambda: len(watcher.of(AttemptStarted)) == 3)
    await cancel(task)
    states = [event.outcome.state for event in watcher.of(UpdateSettled)]
    assert sorted(states) == ["not_sent", "not_sent", "unknown", "unknown", "unknown"]
    cut = [event.outcome.error for event in watcher.of(UpdateSettled) if event.outcome.state == "unknown"]
    assert all("while a request was under way" in str(error) for error in cut)
    assert client.statistics().in_flight == 0
    assert own_tasks() == []


async def test_a_second_cancellation_ends_the_grace(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=3.0)
    client = connect(sandbox, observers=[watcher])
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(Source(lines=3), window=5))
    await until(lambda: len(watcher.of(AttemptStarted)) == 3)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    started = asyncio.get_running_loop().time()
    await cancel(task)
    assert asyncio.get_running_loop().time() - started < 2.5
    assert len(watcher.of(UpdateSettled)) == 5
    assert client.statistics().in_flight == 0
    assert own_tasks() == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_leaving_a_stream_early_stops_reading_and_lets_what_is_in_flight_end(
    start_sandbox, connect, asynchronous
):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox)
    source = Source()
    rows = source.asynchronous() if asynchronous else source
    async with aclosing(client.market.orders.stream_order_line_statuses(rows, window=32)) as stream:
        async for outcome in stream:
            if outcome.index >= 16:
                break
    taken = source.taken
    await asyncio.sleep(0.02)
    assert source.taken == taken
    assert client.statistics().in_flight == client.statistics().waiting == 0
    assert own_tasks() == []
    assert set(sandbox.ledger.answers) == {"applied"}


async def test_cancelling_the_consumer_of_a_stream_closes_it(start_sandbox, connect, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox)
    seen = []

    async def consume():
        async with aclosing(client.market.orders.stream_order_line_statuses(Source())) as stream:
            async for outcome in stream:
                seen.append(outcome)  # noqa: PERF401 - cancelled in the middle

    task = asyncio.ensure_future(consume())
    await until(lambda: len(seen) > 20)
    await cancel(task)
    assert client.statistics().in_flight == 0
    assert own_tasks() == []


async def test_an_async_source_that_waits_for_ever_is_cancelled(sandbox, connect, until):
    ended = asyncio.Event()

    async def source():
        try:
            yield ("order_1", "line_1_1", "delivered")
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = connect(sandbox)
    task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(source()))
    await until(lambda: sandbox.ledger.requests == 1)
    await cancel(task)
    assert ended.is_set()


async def test_a_cancelled_run_leaves_the_client_fit_for_use(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox, concurrency=2)
    for _ in range(3):
        task = asyncio.ensure_future(client.market.orders.update_order_line_statuses(Source()))
        await asyncio.sleep(0.02)
        await cancel(task)
    report = await client.market.orders.update_order_line_statuses([("order_1", "line_1_1", "refunded")])
    assert report.ok


async def test_a_timeout_around_a_run_is_a_cancellation(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.market.orders.update_order_line_statuses(Source())
    assert client.statistics().in_flight == 0
    assert own_tasks() == []


async def test_a_task_group_that_fails_cancels_its_runs_cleanly(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox)

    async def fail():
        await asyncio.sleep(0.03)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what is tested
        async with asyncio.TaskGroup() as group:
            group.create_task(client.market.orders.update_order_line_statuses(Source()))
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert own_tasks() == []
