from __future__ import annotations

import asyncio

import pytest

from altcraft_async import AltcraftClient, ConnectError, OutagePolicy, OutcomeState, RetryPolicy
from altcraft_async.sandbox import Faults, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]


async def test_an_outage_is_waited_out_and_every_line_is_applied():
    async with Sandbox(faults=Faults(latency=0.002)) as sandbox:
        keys = sandbox.seed_orders(50, 4)
        updates = [(*keys[n % len(keys)], "delivering") for n in range(2000)]
        async with AltcraftClient(sandbox.base_url, token=sandbox.token, concurrency=20) as client:
            run = asyncio.create_task(client.market.orders.update_order_line_statuses(updates))
            while client.statistics().sent < 300:  # noqa: ASYNC110 - a statistic is polled
                await asyncio.sleep(0.001)
            await sandbox.stop()
            while client.statistics().outage is None:
                assert not run.done()
                await asyncio.sleep(0.01)
            down = client.statistics()
            await asyncio.sleep(0.5)
            probes = client.statistics().sent - down.sent
            await sandbox.start()
            report = await run
            assert client.statistics().outage is None
        assert report.ok
        assert sandbox.ledger.check(updates).ok
        assert probes <= 20 + 3  # those in flight when it closed, then one at a time


async def test_a_server_that_never_answered_is_given_up_after_the_first_patience(unused_tcp_port: int):
    outage = OutagePolicy(first_patience=0.3)
    async with AltcraftClient(f"http://127.0.0.1:{unused_tcp_port}", token="t", outage=outage) as client:
        report = await client.market.orders.update_order_line_statuses((f"o{n}", "l", "new") for n in range(300))
    assert report.counts[OutcomeState.NOT_SENT] == 300
    assert report.sent < 40
    assert report.elapsed < 5
    assert "no connection to the server" in str(report.outcomes[-1].error)
    assert "no connection to the server" in str(report.outcomes[0].error)


async def test_a_deadline_bounds_the_wait_for_a_server_that_is_away(unused_tcp_port: int):
    async with AltcraftClient(f"http://127.0.0.1:{unused_tcp_port}", token="t") as client:
        report = await client.market.orders.update_order_line_statuses(
            [(f"o{n}", "l", "new") for n in range(50)], deadline=0.6
        )
        assert report.counts[OutcomeState.NOT_SENT] == 50
        assert report.elapsed < 3.0
        assert client.statistics().in_flight == 0


async def test_a_single_call_says_that_nothing_was_sent(unused_tcp_port: int):
    policy = RetryPolicy(attempts=2, base=0.01)
    async with AltcraftClient(f"http://127.0.0.1:{unused_tcp_port}", token="t", retry=policy) as client:
        with pytest.raises(ConnectError, match="no connection") as caught:
            await client.market.orders.update_order_line_status("o", "l", "new")
    assert not caught.value.maybe_applied
    assert caught.value.attempts == 2
