"""One client shared by hundreds of handlers, many of them cancelled: nobody else suffers, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from contextlib import aclosing
from pathlib import Path

import pytest

from altcraft_async import DeliveryError, RetryPolicy
from altcraft_async.sandbox import Fault, Faults

HANDLERS = 300
ORDER = {
    "matching": "email", "email": "a@example.com", "endpoint": "shop", "status": "new", "total_price": "300.00",
    "currency": "RUB", "lines": [{"external_id": "line", "product": "p", "status": "new", "count": 1}],
}  # fmt: skip
DESCRIPTORS = Path("/proc/self/fd")


def descriptors() -> int:
    return sum(1 for _ in DESCRIPTORS.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
async def test_cancelled_handlers_harm_nobody_and_leave_nothing_behind(start_sandbox, connect):
    sandbox = await start_sandbox(orders=HANDLERS, seed=6, faults=Faults.mixed(0.1, latency=0.01))
    client = connect(sandbox, concurrency=64, retry=RetryPolicy(attempts=20, base=0.01, max_delay=0.1))
    update = client.market.orders.update_order_line_status
    chance = random.Random(1)
    done, failed = [], []

    async def handle(number):
        for status in ("processing", "delivering", "delivered"):
            try:
                await update(f"order_{number}", f"line_{number}_1", status, deadline=60.0)
            except DeliveryError as error:
                failed.append(error)
        done.append(number)

    handlers = {number: asyncio.create_task(handle(number)) for number in range(1, HANDLERS + 1)}
    cancelled = chance.sample(sorted(handlers), HANDLERS // 3)
    for number in cancelled:
        await asyncio.sleep(0.002)
        handlers[number].cancel()
    await asyncio.wait(handlers.values())

    assert not failed
    assert set(done) >= set(handlers) - set(cancelled)
    assert {sandbox.line_status(f"order_{n}", f"line_{n}_1") for n in done} == {"delivered"}
    statistics = client.statistics()
    assert (statistics.in_flight, statistics.waiting) == (0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="looks into /proc")
async def test_connections_are_bounded_by_the_limit_and_gone_after_closing(start_sandbox, connect):
    sandbox = await start_sandbox(orders=HANDLERS, faults=Faults(latency=0.005))
    before = descriptors()
    client = connect(sandbox, concurrency=32)
    update = client.market.orders.update_order_line_status
    for _ in range(3):
        await asyncio.gather(*(update(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, HANDLERS + 1)))
        assert descriptors() - before <= 2 * 32 + 4  # both ends are in this process
    await client.aclose()
    async with asyncio.timeout(30):
        while descriptors() - before > 4:  # noqa: ASYNC110 - the other ends close in their own time
            await asyncio.sleep(0.01)


async def test_a_timeout_around_a_call_is_a_cancellation_that_costs_no_permit(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=5.0))
    client = connect(sandbox, concurrency=1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.market.orders.update_order_line_status("order_1", "line_1_1", "delivered")
    sandbox.faults = Faults()
    await client.market.orders.update_order_line_status("order_2", "line_2_1", "delivered")
    assert client.statistics().in_flight == 0


async def test_a_task_group_that_fails_ends_the_calls_of_its_others(start_sandbox, connect, until):
    sandbox = await start_sandbox(faults=Faults(latency=5.0))
    client = connect(sandbox)

    async def fail():
        await until(lambda: client.statistics().in_flight == 2)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what is tested
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(
                    client.market.orders.update_order_line_status(f"order_{number}", f"line_{number}_1", "new")
                )
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert client.statistics().in_flight == 0


class Source(list):
    """Rows that are known to be gone when they are; a run has them for as long as it lives."""


async def gather(orders, rows, **keywords):
    return (await orders.update_order_line_statuses(rows, **keywords)).complete


async def stream(orders, rows, **keywords):
    return len([outcome async for outcome in orders.stream_order_line_statuses(rows, **keywords)])


async def leave(orders, rows, **keywords):
    async with aclosing(orders.stream_order_line_statuses(rows, **keywords)) as outcomes:
        await anext(outcomes)


async def import_orders(orders, rows, **keywords):
    rows[:] = [{**ORDER, "external_id": order} for order, _, _ in rows]
    return (await orders.import_orders(rows, **keywords)).complete


@pytest.mark.parametrize("send", [gather, stream, leave, import_orders])
@pytest.mark.parametrize("journal", [None, "run.journal"])
async def test_nothing_of_a_run_that_has_ended_is_kept_by_the_client(start_sandbox, connect, tmp_path, send, journal):
    sandbox = await start_sandbox(faults=Faults(script=[None, Fault("error", status=503)]))
    client = connect(sandbox)
    rows = Source((f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 31))  # ten are not there
    gone = weakref.ref(rows)
    await send(client.market.orders, rows, journal=journal and tmp_path / journal, deadline=600.0)
    del rows
    gc.collect()
    assert gone() is None
