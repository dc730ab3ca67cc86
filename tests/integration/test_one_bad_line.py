"""One line that the server or a firewall will not have is that line's own affair: it ends, and nobody waits for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from altcraft_async import AltcraftClient, DeliveryError, OutcomeState, RetryPolicy
from altcraft_async.outbox import Outbox
from hostile import FAILING_LINES, FIREWALL_LINES, HostileServer, broken_promises, numbered_updates

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

FAILING = ("order_x", f"{FAILING_LINES}_x", "status_1")
FIREWALLED = ("order_x", f"{FIREWALL_LINES}_x", "status_1")
ATTEMPTS = 4
RETRY = RetryPolicy(attempts=ATTEMPTS, base=0.2, max_delay=0.4)


@pytest.fixture
def server():
    with HostileServer(slots=20, seconds=0.005) as running:
        yield running


@pytest.fixture
async def client(server):
    async with AltcraftClient(server.base_url, server.token, retry=RETRY) as client:
        yield client


def times(server, update):
    return sum((arrival.order, arrival.line) == update[:2] for arrival in server.ledger.arrivals)


@pytest.mark.parametrize("place", [300, 150, 0], ids=["last", "in the middle", "first"])
async def test_a_line_that_always_fails_ends_by_its_own_attempts(server, client, place):
    updates = numbered_updates(300)
    updates.insert(place, FAILING)
    async with asyncio.timeout(60):
        report = await client.market.orders.update_order_line_statuses(updates)
    assert broken_promises(server.ledger, updates, report.outcomes) == []
    outcome = report.outcomes[place]
    assert (outcome.state, outcome.attempts) == (OutcomeState.UNKNOWN, ATTEMPTS)
    assert times(server, FAILING) == ATTEMPTS


async def test_a_single_call_that_always_fails_ends_by_its_own_attempts(server, client):
    async with asyncio.timeout(60):
        with pytest.raises(DeliveryError, match="500") as caught:
            await client.market.orders.update_order_line_status(*FAILING)
    assert (caught.value.attempts, times(server, FAILING)) == (ATTEMPTS, ATTEMPTS)


async def test_nobody_waits_for_a_line_that_always_fails(server, client):
    bad = asyncio.create_task(client.market.orders.update_order_line_statuses([FAILING]))
    begun_bad = time.monotonic()
    longest = 0.0
    number = 0
    while not bad.done():
        begun = time.monotonic()
        await client.market.orders.update_order_line_status("order_y", f"line_{(number := number + 1)}", "status_1")
        longest = max(longest, time.monotonic() - begun)
        await asyncio.sleep(0.02)
    assert (await bad).outcomes[0].state is OutcomeState.UNKNOWN
    assert longest < (time.monotonic() - begun_bad) / 2


async def wait_for(condition, seconds):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a statistic is polled
            await asyncio.sleep(0.01)


async def test_alone_in_an_outbox_it_is_given_up_after_its_own_attempts(server, client, tmp_path):
    async with Outbox(tmp_path / "outbox.db", client, drain_timeout=0.1) as outbox:
        request_id = await outbox.put(FAILING)
        await wait_for(lambda: outbox.statistics().dead, 60)
        (letter,) = [letter async for letter in outbox.dead_letters()]
        assert (letter.request_id, letter.state, letter.attempts) == (request_id, OutcomeState.UNKNOWN, ATTEMPTS)
        assert outbox.statistics().problem is None


async def test_nobody_waits_for_it_in_an_outbox(server, client, tmp_path):
    updates = numbered_updates(100)
    async with Outbox(tmp_path / "outbox.db", client, drain_timeout=0.1) as outbox:
        await outbox.put(FAILING)
        await wait_for(lambda: times(server, FAILING) > 1, 30)
        await asyncio.gather(*(outbox.put(update) for update in updates))
        await wait_for(lambda: outbox.statistics().delivered == 100, 2)
    assert len(server.ledger.made) == 100


async def test_a_firewalled_line_of_400_is_rejected_and_the_others_are_applied(server, client):
    updates = numbered_updates(399)
    updates.insert(200, FIREWALLED)
    async with asyncio.timeout(60):
        report = await client.market.orders.update_order_line_statuses(updates)
    assert broken_promises(server.ledger, updates, report.outcomes) == []
    assert report.counts[OutcomeState.APPLIED] == 399
    assert report.outcomes[200].state is OutcomeState.REJECTED
    assert "firewall" in str(report.outcomes[200].error)
    assert times(server, FIREWALLED) == ATTEMPTS


async def test_a_firewalled_line_in_an_outbox_is_given_up_and_holds_up_nobody(server, client, tmp_path):
    updates = numbered_updates(400)
    updates.insert(200, FIREWALLED)
    async with Outbox(tmp_path / "outbox.db", client, drain_timeout=0.1) as outbox:
        await asyncio.gather(*(outbox.put(update) for update in updates))
        await wait_for(lambda: outbox.statistics().delivered == 400, 30)
        await wait_for(lambda: outbox.statistics().dead, 60)
        (letter,) = [letter async for letter in outbox.dead_letters()]
        assert letter.state is OutcomeState.REJECTED
        assert "firewall" in letter.reason
        assert outbox.statistics().problem is None
