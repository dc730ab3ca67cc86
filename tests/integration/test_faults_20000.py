"""The promise, whole: 20,000 updates of 2,000 order lines through one tenth of mixed faults."""

from __future__ import annotations

import random

import pytest

from altcraft_async import OrderLineStatus, RetryPolicy
from altcraft_async.sandbox import Faults

UPDATES = 20_000


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "streamed"), [("json", False), ("xml", True)])
async def test_nothing_is_lost_duplicated_or_reordered(start_sandbox, connect, codec, streamed):
    sandbox = await start_sandbox(orders=0, seed=11, faults=Faults.mixed(0.10, latency=0.002, jitter=0.5))
    keys = sandbox.seed_orders(400, 5)
    chance = random.Random(5)
    statuses = [status.value for status in OrderLineStatus]
    updates = [(*chance.choice(keys), chance.choice(statuses)) for _ in range(UPDATES)]
    client = connect(
        sandbox,
        request_format=codec,
        response_format=codec,
        concurrency=64,
        retry=RetryPolicy(attempts=12, base=0.02),
        retry_budget=5000,
    )

    if streamed:
        outcomes = [outcome async for outcome in client.market.orders.stream_order_line_statuses(updates)]
        outcomes.sort(key=lambda outcome: outcome.index)
    else:
        outcomes = list((await client.market.orders.update_order_line_statuses(updates)).outcomes)

    assert [outcome.index for outcome in outcomes] == list(range(UPDATES))
    assert {outcome.state for outcome in outcomes} == {"applied", "duplicate"}
    assert len({outcome.request_id for outcome in outcomes}) == UPDATES
    check = sandbox.ledger.check(updates)
    assert check.ok, str(check)
    assert check.applied == UPDATES
    assert sandbox.ledger.in_flight_overlaps == 0
    final = {(order, line): status for order, line, status in updates}
    assert {key: sandbox.line_status(*key) for key in final} == final
    assert len(sandbox.ledger.answers) > 8  # the faults did come
    assert client.statistics().in_flight == 0
    assert client.statistics().retries > UPDATES * 0.08
