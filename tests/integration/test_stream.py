"""Many updates, streamed: outcomes as they come, flat memory, back-pressure to the source."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from altcraft_async import ConfigurationError, SourceError
from altcraft_async.sandbox import Fault, Faults


def updates_of(count, statuses=("delivered",)):
    return [(f"order_{n}", f"line_{n}_1", status) for status in statuses for n in range(1, count + 1)]


async def test_every_update_gives_one_outcome(sandbox, connect):
    updates = updates_of(20, ("processing", "delivered"))
    seen = [outcome async for outcome in connect(sandbox).market.orders.stream_order_line_statuses(updates)]
    assert sorted(outcome.index for outcome in seen) == list(range(40))
    assert all(outcome.state == "applied" for outcome in seen)
    assert sandbox.ledger.check(updates).ok


async def test_outcomes_come_as_updates_end_not_in_input_order(sandbox, connect):
    sandbox.faults = Faults(lines={("order_1", "line_1_1"): Fault("delay", delay=0.1)})
    stream = connect(sandbox).market.orders.stream_order_line_statuses(updates_of(5))
    indices = [outcome.index async for outcome in stream]
    assert indices[-1] == 0
    assert sorted(indices) == [0, 1, 2, 3, 4]


async def test_outcomes_of_one_line_come_in_its_order(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults.mixed(0.3, latency=0.001), seed=4)
    updates = updates_of(4, ("processing", "delivering", "delivered", "refunded"))
    per_line: dict[str, list[int]] = {}
    async for outcome in connect(sandbox).market.orders.stream_order_line_statuses(updates):
        per_line.setdefault(outcome.update.order_external_id, []).append(outcome.index)
    assert all(indices == sorted(indices) for indices in per_line.values())


async def test_an_outcome_comes_before_the_source_has_ended(sandbox, connect):
    more = asyncio.Event()

    async def source():
        yield ("order_1", "line_1_1", "delivered")
        await more.wait()
        yield ("order_2", "line_2_1", "delivered")

    async with aclosing(connect(sandbox).market.orders.stream_order_line_statuses(source())) as stream:
        assert (await anext(stream)).index == 0
        more.set()
        assert (await anext(stream)).index == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_slow_consumer_holds_back_the_source(sandbox, connect, asynchronous):
    taken = 0

    def rows():
        nonlocal taken
        for n in range(400):
            taken += 1
            yield (f"order_{n % 20 + 1}", f"line_{n % 20 + 1}_1", "delivered")

    async def async_rows():
        for row in rows():
            yield row

    orders = connect(sandbox).market.orders
    stream = orders.stream_order_line_statuses(async_rows() if asynchronous else rows(), window=16)
    seen = 0
    async with aclosing(stream):
        async for _ in stream:
            seen += 1
            assert taken <= seen + 16
            if seen % 50 == 0:
                await asyncio.sleep(0.02)  # long enough for a source without bounds to run far ahead
    assert seen == 400


async def test_a_gathering_call_reads_its_source_no_further_than_the_window(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002))
    taken = 0

    def rows():
        nonlocal taken
        for n in range(200):
            assert taken - sandbox.ledger.requests <= 16
            taken += 1
            yield (f"order_{n % 20 + 1}", f"line_{n % 20 + 1}_1", "delivered")

    report = await connect(sandbox).market.orders.update_order_line_statuses(rows(), window=16)
    assert report.ok


async def test_a_window_of_one_works(sandbox, connect):
    stream = connect(sandbox).market.orders.stream_order_line_statuses(updates_of(5), window=1)
    assert [outcome.index async for outcome in stream] == [0, 1, 2, 3, 4]


async def test_a_source_that_raises_ends_the_stream_with_a_source_error_after_the_outcomes(sandbox, connect):
    def source():
        yield from updates_of(3)
        raise KeyError

    seen = []
    with pytest.raises(SourceError) as caught:  # noqa: PT012 - an error of the loop, not of one call
        async for outcome in connect(sandbox).market.orders.stream_order_line_statuses(source()):
            seen.append(outcome.index)  # noqa: PERF401 - the error must not lose what was seen
    assert sorted(seen) == [0, 1, 2]
    assert caught.value.taken == 3
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_stream_that_is_never_read_sends_nothing(sandbox, connect):
    stream = connect(sandbox).market.orders.stream_order_line_statuses(updates_of(3))
    await asyncio.sleep(0.01)
    await stream.aclose()
    assert sandbox.ledger.requests == 0


async def test_a_wrong_keyword_is_refused_at_the_call_not_at_the_first_outcome(sandbox, connect):
    with pytest.raises(ConfigurationError):
        connect(sandbox).market.orders.stream_order_line_statuses([], window=0)


async def test_a_wrong_token_ends_the_stream_with_the_rest_not_sent(sandbox, connect):
    client = connect(sandbox, "wrong-token", concurrency=1)
    states = [outcome.state async for outcome in client.market.orders.stream_order_line_statuses(updates_of(20))]
    assert states.count("rejected") == sandbox.ledger.requests == 1
    assert states.count("not_sent") == 19


async def test_superseded_updates_are_streamed_too(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.005))
    updates = [("order_1", "line_1_1", status) for status in ("new", "processing", "delivering", "delivered")]
    stream = connect(sandbox).market.orders.stream_order_line_statuses(updates, coalesce="latest")
    states = {outcome.index: outcome.state async for outcome in stream}
    assert len(states) == 4
    assert states[3] == "applied"
    assert "superseded" in states.values()
