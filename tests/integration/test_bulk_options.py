from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from altcraft_async import AltcraftClient, ConfigurationError
from altcraft_async.sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from virtual import Behaviour, SimulatedServer, VirtualLoop, updates

pytestmark = pytest.mark.slow


def seconds_of(*counts, run_rate=None, **options):
    """Send runs of that many updates side by side, on a virtual clock; give the seconds of each."""

    async def work():
        server = SimulatedServer(Behaviour(latency=0.01, slots=None))
        async with AltcraftClient("http://127.0.0.1", "0123456789", transport=server, **options) as client:
            send = client.market.orders.update_order_line_statuses
            pace = {} if run_rate is None else {"rate": run_rate}
            reports = await asyncio.gather(*(send(updates(count), **pace) for count in counts))
            assert all(report.ok for report in reports)
            assert client.statistics().rate == options.get("rate")
            return [report.elapsed for report in reports]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())


def test_the_rate_of_a_run_is_kept():
    assert 0.19 <= seconds_of(41, run_rate=200.0)[0] < 0.25


def test_the_rate_of_a_client_is_shared_by_its_runs():
    assert 0.19 <= max(seconds_of(20, 21, rate=200.0)) < 0.3


async def test_a_deadline_ends_a_paced_run():
    async with Sandbox() as sandbox:
        sandbox.seed_orders(20)
        async with AltcraftClient(sandbox.base_url, token=sandbox.token) as client:
            rows = [("order_1", f"line_1_{n}", "new") for n in range(50)]
            report = await client.market.orders.update_order_line_statuses(rows, rate=10.0, deadline=0.25)
    assert report.elapsed < 2.0
    assert report.sent <= 4
    assert len(report.outcomes) == 50


async def test_a_rate_of_zero_is_refused():
    async with AltcraftClient("http://127.0.0.1:9", token="t") as client:
        with pytest.raises(ConfigurationError, match="rate"):
            await client.market.orders.update_order_line_statuses([], rate=0.0)


async def test_coalescing_is_refused_for_whole_orders():
    async with AltcraftClient("http://127.0.0.1:9", token="t") as client:
        with pytest.raises(ConfigurationError, match="lane='line'"):
            await client.market.orders.update_order_line_statuses([], coalesce="latest", lane="order")
