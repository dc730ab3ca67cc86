"""A method's value together with the answer that it was made of."""

from __future__ import annotations

import asyncio

import pytest

from altcraft_async import BadRequestError, ConfigurationError, UpdatedOrderLine
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")


async def test_a_value_comes_with_status_headers_and_effort(sandbox, connect):
    client = connect(sandbox)
    raw = await client.with_raw_response(client.market.orders.update_order_line_status, *LINE, request_id="mine")
    assert raw.value == UpdatedOrderLine(*LINE)
    assert (raw.status, raw.request_id, raw.attempts, raw.duplicate) == (200, "mine", 1, False)
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.elapsed > 0
    again = await client.with_raw_response(client.market.orders.update_order_line_status, *LINE, request_id="mine")
    assert again.duplicate


async def test_retries_count_and_the_last_answer_is_shown(sandbox, connect):
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    client = connect(sandbox)
    raw = await client.with_raw_response(client.call, "market/orders/get_status", {"external_id": "order_1"})
    assert (raw.value["error"], raw.status, raw.attempts) == (0, 200, 2)


async def test_two_at_once_see_their_own_answers(sandbox, connect):
    client = connect(sandbox)
    update = client.market.orders.update_order_line_status
    raws = await asyncio.gather(
        *(client.with_raw_response(update, f"order_{n}", f"line_{n}_1", "new", request_id=f"id-{n}") for n in (1, 2))
    )
    assert [raw.request_id for raw in raws] == ["id-1", "id-2"]
    assert [raw.value.order_line_external_id for raw in raws] == ["line_1_1", "line_2_1"]


async def test_errors_are_the_methods_own_and_a_bulk_call_is_refused(sandbox, connect):
    client = connect(sandbox)
    orders, sent = client.market.orders, client.statistics().sent
    with pytest.raises(BadRequestError):
        await client.with_raw_response(orders.update_order_line_status, "order_1", "line_1_1", "no_such_status")
    with pytest.raises(ConfigurationError, match="single calls"):
        await client.with_raw_response(orders.update_order_line_statuses, [LINE])
    assert client.statistics().sent == sent + 1  # the single call


async def test_a_list_is_no_single_call(sandbox, connect):
    client = connect(sandbox)
    with pytest.raises(ConfigurationError, match="one call, not a list"):
        await client.with_raw_response(client.market.orders.list)
