from __future__ import annotations

import asyncio

import pytest

from altcraft_async import AltcraftClient, ConfigurationError
from altcraft_async.sandbox import Sandbox

pytestmark = pytest.mark.slow


async def _seconds(client: AltcraftClient, count: int, **options: float) -> float:
    updates = [(f"order_{n % 20 + 1}", f"line_{n % 20 + 1}_1", "new") for n in range(count)]
    report = await client.market.orders.update_order_line_statuses(updates, **options)
    assert report.ok
    return report.elapsed


async def test_the_rate_of_a_run_is_kept():
    async with Sandbox() as sandbox:
        sandbox.seed_orders(20)
        async with AltcraftClient(sandbox.base_url, token=sandbox.token) as client:
            assert 0.19 <= await _seconds(client, 41, rate=200.0) < 0.4


async def test_the_rate_of_a_client_is_shared_by_its_runs():
    async with Sandbox() as sandbox:
        sandbox.seed_orders(20)
        async with AltcraftClient(sandbox.base_url, token=sandbox.token, rate=200.0) as client:
            seconds = await asyncio.gather(_seconds(client, 20), _seconds(client, 21))
            assert 0.19 <= max(seconds) < 0.4
            assert client.statistics().rate == 200.0


async def test_a_deadline_ends_a_paced_run():
    async with Sandbox() as sandbox:
        sandbox.seed_orders(20)
        async with AltcraftClient(sandbox.base_url, token=sandbox.token) as client:
            updates = [("order_1", f"line_1_{n}", "new") for n in range(50)]
            report = await client.market.orders.update_order_line_statuses(updates, rate=10.0, deadline=0.25)
    assert report.elapsed < 0.5
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
