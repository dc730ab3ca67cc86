"""The updates of one line take effect in the order in which their callers began, whoever they are."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from altcraft_async import AltcraftClient, RetryPolicy
from altcraft_async.outbox import Outbox
from hostile import HostileServer, Misdeed, numbered_updates

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

LINES = 60
OFTEN_FAIL = {Misdeed.ERROR_500: 0.3}
"""Enough retries, and enough answers between them that nobody takes it for an outage."""
FIRST, SECOND, THIRD = (
    [update for update in numbered_updates(LINES, 3) if update[2] == f"status_{number}"] for number in (1, 2, 3)
)


@pytest.fixture
async def start():
    """Start a server with `misdeeds`, and a client of it that has time for all retries."""
    async with AsyncExitStack() as stack:

        async def start(misdeeds):
            server = stack.enter_context(HostileServer(slots=100, seconds=0.005, misdeeds=misdeeds))
            retry = RetryPolicy(attempts=10, base=0.05, max_delay=0.2)
            client = AltcraftClient(server.base_url, server.token, concurrency=LINES * 2, retry=retry)
            return server, await stack.enter_async_context(client)

        yield start


def made(server):
    """Return the different orders in which the lines were given their statuses."""
    return {tuple(statuses) for statuses in server.ledger.statuses().values()}


async def until_arrived(server, count):
    async with asyncio.timeout(30):
        while len(server.ledger.arrivals) < count:  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(0.005)


async def call_all(client, updates):
    return await asyncio.gather(*(client.market.orders.update_order_line_status(*update) for update in updates))


@pytest.mark.parametrize(
    "misdeeds", [{}, OFTEN_FAIL, {Misdeed.LOST: 0.2, Misdeed.UNAVAILABLE: 0.2, Misdeed.BUSY: 0.2}],
    ids=["no faults", "many fail", "answers get lost"],
)  # fmt: skip
async def test_single_calls_of_many_handlers(start, misdeeds):
    server, client = await start(misdeeds)
    updates = numbered_updates(LINES, 5)
    async with asyncio.timeout(60):
        echoes = await call_all(client, updates)
    assert [(echo.order_line_external_id, echo.status_external_id) for echo in echoes] == [
        update[1:] for update in updates
    ]
    assert made(server) == {tuple(f"status_{number}" for number in range(1, 6))}


async def test_single_calls_that_come_while_others_are_retried(start):
    server, client = await start(OFTEN_FAIL)
    async with asyncio.timeout(60):
        first = asyncio.create_task(call_all(client, FIRST))
        await until_arrived(server, LINES)
        await asyncio.gather(first, call_all(client, SECOND))
    assert made(server) == {("status_1", "status_2")}


async def test_single_calls_between_the_rows_of_a_run(start):
    server, client = await start(OFTEN_FAIL)
    go_on = asyncio.Event()

    async def rows():
        for update in FIRST:
            yield update
        await go_on.wait()
        for update in THIRD:
            yield update

    async with asyncio.timeout(60):
        run = asyncio.create_task(client.market.orders.update_order_line_statuses(rows()))
        await until_arrived(server, LINES)
        singles = asyncio.create_task(call_all(client, SECOND))
        await asyncio.sleep(0)
        go_on.set()
        report = await run
        await singles
    assert report.ok
    assert made(server) == {("status_1", "status_2", "status_3")}


async def test_a_run_that_begins_while_single_calls_are_retried(start):
    server, client = await start(OFTEN_FAIL)
    async with asyncio.timeout(60):
        singles = asyncio.create_task(call_all(client, FIRST))
        await until_arrived(server, LINES)
        report = await client.market.orders.update_order_line_statuses(SECOND)
        await singles
    assert report.ok
    assert made(server) == {("status_1", "status_2")}


async def test_two_runs_side_by_side(start):
    server, client = await start(OFTEN_FAIL)
    async with asyncio.timeout(60):
        first = asyncio.create_task(client.market.orders.update_order_line_statuses(FIRST))
        await until_arrived(server, LINES)
        second = await client.market.orders.update_order_line_statuses(SECOND)
        assert (await first).ok
        assert second.ok
    assert made(server) == {("status_1", "status_2")}


async def test_a_copy_of_the_client_stands_in_the_same_lanes(start):
    server, client = await start(OFTEN_FAIL)
    copy = client.with_options(request_format="xml")
    async with asyncio.timeout(60):
        first = asyncio.create_task(call_all(client, FIRST))
        await until_arrived(server, LINES)
        await asyncio.gather(first, call_all(copy, SECOND))
    assert made(server) == {("status_1", "status_2")}


async def test_what_was_put_into_an_outbox_goes_before_a_later_single_call(start, tmp_path):
    server, client = await start(OFTEN_FAIL)
    async with asyncio.timeout(60), Outbox(tmp_path / "outbox.db", client) as outbox:
        await asyncio.gather(*(outbox.put(update) for update in FIRST))
        await call_all(client, SECOND)
    assert made(server) == {("status_1", "status_2")}


async def test_a_single_call_that_is_retried_goes_before_what_is_put_into_an_outbox_later(start, tmp_path):
    server, client = await start(OFTEN_FAIL)
    async with asyncio.timeout(60), Outbox(tmp_path / "outbox.db", client) as outbox:
        singles = asyncio.create_task(call_all(client, FIRST))
        await until_arrived(server, LINES)
        await asyncio.gather(*(outbox.put(update) for update in SECOND))
        await singles
    assert made(server) == {("status_1", "status_2")}


async def test_other_lines_do_not_wait_for_one_that_is_retried(start):
    server, client = await start({})
    server.behave(slots=100, seconds=0.005, misdeeds={Misdeed.ERROR_500: 1.0})
    retried = asyncio.create_task(client.market.orders.update_order_line_status(*FIRST[0]))
    await until_arrived(server, 1)
    server.behave(slots=100, seconds=0.005)
    async with asyncio.timeout(5):
        await call_all(client, FIRST[1:])
        assert len(server.ledger.made) >= LINES - 1
        await retried
