"""The promise, whole: updates of many order lines through one tenth of mixed faults, and none suffers.

The default tests send a sample; ``nox -s hostile`` sends 20,000 updates of 2,000 order lines.
"""

from __future__ import annotations

import random

import pytest

from altcraft_async import OrderLineStatus, RetryPolicy
from altcraft_async.sandbox import Faults

WAYS = [("json", False), ("xml", True)]


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("codec", "streamed"), WAYS)
async def test_of_a_sample_nothing_is_lost_duplicated_or_reordered(start_sandbox, connect, codec, streamed):
    await deliver(start_sandbox, connect, codec, count=500, streamed=streamed)


@pytest.mark.hostile
@pytest.mark.parametrize(("codec", "streamed"), WAYS)
async def test_of_20000_updates_nothing_is_lost_duplicated_or_reordered(start_sandbox, connect, codec, streamed):
    await deliver(start_sandbox, connect, codec, count=20_000, streamed=streamed)


async def deliver(start_sandbox, connect, codec, *, count, streamed):
    sandbox = await start_sandbox(orders=0, seed=11, faults=Faults.mixed(0.10, latency=0.002, jitter=0.5))
    keys = sandbox.seed_orders(count // 50, 5)
    chance = random.Random(5)
    statuses = [status.value for status in OrderLineStatus]
    updates = [(*chance.choice(keys), chance.choice(statuses)) for _ in range(count)]
    client = connect(
        sandbox,
        request_format=codec,
        response_format=codec,
        concurrency=64,
        retry=RetryPolicy(attempts=12, base=0.02),
        retry_budget=count // 4,
    )

    if streamed:
        outcomes = [outcome async for outcome in client.market.orders.stream_order_line_statuses(updates)]
        outcomes.sort(key=lambda outcome: outcome.index)
    else:
        outcomes = list((await client.market.orders.update_order_line_statuses(updates)).outcomes)

    assert [outcome.index for outcome in outcomes] == list(range(count))
    assert {outcome.state for outcome in outcomes} == {"applied", "duplicate"}
    assert len({outcome.request_id for outcome in outcomes}) == count
    check = sandbox.ledger.check(updates)
    assert check.ok, str(check)
    assert check.applied == count
    assert sandbox.ledger.in_flight_overlaps == 0
    final = {(order, line): status for order, line, status in updates}
    assert {key: sandbox.line_status(*key) for key in final} == final
    assert len(sandbox.ledger.answers) > 8  # the faults did come
    assert client.statistics().in_flight == 0
    assert client.statistics().retries > count * 0.08
