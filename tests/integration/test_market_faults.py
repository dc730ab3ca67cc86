"""Imports, lists and deletions under faults of every kind: nothing lost, nothing twice, no endless loop."""

from __future__ import annotations

import pytest

from altcraft_async import Adaptive, OutagePolicy, RetryPolicy
from altcraft_async.sandbox import Faults
from altcraft_async.sandbox.faults import _SHARES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

PATIENT = {"retry": RetryPolicy(attempts=None, base=0.001, max_delay=0.01), "retry_budget": None}


EVERY = Faults(**dict.fromkeys(_SHARES, 0.01), slow_body_seconds=0.05, oversized_bytes=50_000)
"""One call in a hundred meets each kind."""


@pytest.mark.long
async def test_one_percent_of_every_fault_loses_and_doubles_nothing_of_a_long_import(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, faults=EVERY, seed=12)
    client = connect(sandbox, concurrency=Adaptive(initial=8), max_response_bytes=40_000, **PATIENT)
    line = {"external_id": "l", "product": "p"}
    row = {"email": "a@b.example", "endpoint": "shop", "status": "new", "total_price": "1", "currency": "RUB"}
    rows = [{**row, "external_id": f"o{n % 9000}", "tags": [str(n)], "lines": [line]} for n in range(20_000)]
    count = 0
    async for outcome in client.market.orders.stream_import_orders(iter(rows), batch_size=20):
        assert outcome.ok, outcome.error
        count += 1
    assert count == 20_000
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert sandbox.ledger.in_flight_overlaps == 0
    assert sandbox.ledger.requests > 1050


@pytest.mark.long
async def test_one_percent_of_every_fault_leaves_a_long_list_whole(start_sandbox, connect):
    sandbox = await start_sandbox(orders=5000, faults=EVERY, seed=7)
    orders = connect(sandbox, max_response_bytes=40_000, **PATIENT).market.orders
    ids = [order.external_id async for order in orders.list(limit=10)]
    assert ids == [f"order_{number}" for number in range(1, 5001)]
    assert sandbox.ledger.requests > 525


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", ["json", "xml"])
async def test_a_list_under_faults_has_every_row_once(start_sandbox, connect, seed, form):
    sandbox = await start_sandbox(orders=600, seed=seed, faults=Faults.mixed(0.2))
    orders = connect(sandbox, response_format=form, outage=OutagePolicy(patience=30.0), **PATIENT).market.orders
    ids = [order.external_id async for order in orders.list(limit=10)]
    assert ids == [f"order_{number}" for number in range(1, 601)]
    assert sandbox.ledger.requests > 70


@pytest.mark.parametrize("seed", range(3))
async def test_deletions_under_faults_leave_nothing(start_sandbox, connect, seed):
    sandbox = await start_sandbox(orders=0, seed=seed, faults=Faults.mixed(0.2))
    rows = [{"external_id": f"p{number}", "name": "P"} for number in range(5000)]
    sandbox.import_rows("products", rows)
    products = connect(sandbox, **PATIENT).market.products
    assert await products.delete(external_ids=[row["external_id"] for row in rows]) == 5000
    assert [product async for product in products.list()] == []
