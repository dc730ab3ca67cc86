"""Lists and deletions under faults of every kind: nothing lost, nothing twice, no endless loop."""

from __future__ import annotations

import pytest

from altcraft_async import OutagePolicy, RetryPolicy
from altcraft_async.sandbox import Faults

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

PATIENT = {"retry": RetryPolicy(attempts=None, base=0.001, max_delay=0.01), "retry_budget": None}


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
