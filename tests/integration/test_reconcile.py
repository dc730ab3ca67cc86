"""`orders.reconcile`: what the platform shows against what was sent, and what could not be checked."""

from __future__ import annotations

import pytest

from altcraft_async import AuthenticationError, ConfigurationError, InvalidUpdateError, RetryPolicy
from altcraft_async.market.reconcile import Difference
from altcraft_async.sandbox import Faults, Readings
from altcraft_async.values import Order

ORDER = {
    "external_id": "order_A",
    "endpoint": "shop",
    "status": "paid",
    "total_price": "1",
    "currency": "RUB",
    "email": "a@b.example",
    "lines": [{"external_id": "l", "status": "delivered"}, {"external_id": "m"}],
}


@pytest.fixture
async def made(start_sandbox, connect):
    async def make(orders=5, faults=None, retry=None, **readings):
        sandbox = await start_sandbox(orders=orders, readings=Readings(**readings), faults=faults or Faults())
        sandbox.import_rows("orders", [ORDER])
        return sandbox, connect(sandbox, **({} if retry is None else {"retry": retry})).market.orders

    return make


@pytest.mark.parametrize("by", ["status", "list"])
async def test_what_is_as_expected_does_not_differ(made, by):
    _, orders = await made(line_statuses=True)
    found = await orders.reconcile([ORDER, Order.from_dict({**ORDER, "external_id": "order_A"})], by=by)
    assert (found.by, found.orders, found.lines, found.differences) == (by, 1, 1, ())
    assert found.ok is (by == "list")
    assert found.unchecked_lines == (1 if by == "status" else 0)


@pytest.mark.parametrize("by", ["status", "list"])
async def test_orders_that_are_missing_or_have_another_status_are_found(made, by):
    _, orders = await made(line_statuses=True)
    expected = [{**ORDER, "external_id": "nobody"}, {**ORDER, "status": "canceled"}]
    found = await orders.reconcile(expected, by=by)
    missing, changed = found.differences
    assert (missing.order_external_id, missing.expected, missing.found) == ("nobody", "paid", None)
    assert ("there is no such order" in missing.reason) is (by == "status")
    assert changed == Difference("order_A", None, "canceled", "paid")


async def test_the_lines_are_compared_where_the_list_shows_their_statuses(made):
    _, orders = await made(line_statuses=True)
    await orders.update_order_line_status("order_1", "line_1_1", "delivered")
    rows = [("order_1", "line_1_1", "new"), ("order_1", "line_1_1", "delivered"), ("order_2", "line_2_1", "canceled")]
    found = await orders.reconcile([*rows, ("order_3", "no_such_line", "new")], by="list")
    assert found.differences == (
        Difference("order_2", "line_2_1", "canceled", "new"),
        Difference("order_3", "no_such_line", "new", None),
    )
    assert not found.ok


async def test_lines_whose_status_is_not_shown_are_counted_and_said(made):
    _, orders = await made()
    found = await orders.reconcile([("order_1", "line_1_1", "delivered")], by="list")
    assert (found.differences, found.unchecked_lines, found.ok) == ((), 1, False)
    assert str(found) == (
        "1 orders and 1 of their lines compared: 0 differences, the platform did not show the status of 1 lines"
    )


async def test_few_orders_are_looked_up_and_many_listed(made):
    _, orders = await made()
    rows = [(f"order_{number}", f"line_{number}_1", "new") for number in range(1, 6)]
    assert (await orders.reconcile(rows, bound=5)).by == "status"
    assert (await orders.reconcile(rows, bound=4, limit=2)).by == "list"


async def test_orders_behind_a_list_that_does_not_go_on_are_not_missing_but_unchecked(made):
    _, orders = await made(cursor=False)
    rows = [("order_1", "line_1_1", "new"), ("order_5", "line_5_1", "new")]
    found = await orders.reconcile(rows, by="list", limit=2)
    assert list(found.unchecked_orders) == ["order_5"]
    assert found.differences == ()


async def test_orders_that_a_shorter_page_may_have_hidden_are_unchecked(made):
    _, orders = await made(cursor=False, page_limit=3)
    found = await orders.reconcile([("order_1", "line_1_1", "new"), ("order_5", "line_5_1", "new")], by="list")
    assert list(found.unchecked_orders) == ["order_5"]
    assert "may be shorter than the list" in found.unchecked_orders["order_5"]
    assert found.differences == ()


def answer(status, body):
    kind = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    return kind % (status, len(body), body)


@pytest.mark.parametrize(("status", "code"), [(200, 400), (400, 400), (404, 404), (200, 404)])
async def test_an_order_that_is_refused_as_incorrect_or_not_found_is_missing(start_raw_server, connect, status, code):
    server = await start_raw_server(answer(status, b'{"error":%d,"error_text":"no such order"}' % code))
    found = await connect(server).market.orders.reconcile([("order_1", "line_1_1", "new")])
    (missing,) = found.differences
    assert "no such order" in missing.reason
    assert not found.unchecked_orders


NOT_A_NO = [
    (200, b'{"error":402,"error_text":"the tariff"}'),
    (402, b'{"error":402,"error_text":"the tariff"}'),
    (200, b'{"error":413,"error_text":"too large"}'),
    (200, b'{"error":409,"error_text":"at work"}'),
    (200, b'{"error":440,"error_text":"?"}'),
    (404, b"<html>"),
    (200, b'{"error":0}'),
    (200, b'{"error":0,"result":[]}'),
    (200, b'{"error":0,"result":{"status":null}}'),
    (200, b'{"error":0,"result":[{"status":"new"},{"status":"paid"}]}'),
    (200, b'{"error":0,"result":"new"}'),
]


@pytest.mark.parametrize(("status", "body"), NOT_A_NO)
async def test_whatever_else_is_answered_leaves_an_order_unchecked(start_raw_server, connect, status, body):
    server = await start_raw_server(answer(status, body))
    orders = connect(server, retry=RetryPolicy(attempts=1)).market.orders
    found = await orders.reconcile([("order_1", "line_1_1", "new")])
    assert (list(found.unchecked_orders), found.differences) == (["order_1"], ())
    assert not found.ok


@pytest.mark.parametrize("by", ["status", "list"])
async def test_a_mapping_is_compared_as_the_order_that_an_import_makes_of_it(made, by):
    _, orders = await made(line_statuses=True)
    differing = {**ORDER, "status": "new", "lines": [{"external_id": "l", "status": "new"}, {"external_id": "n"}]}
    as_value = await orders.reconcile([Order.from_dict(differing)], by=by)
    assert as_value.differences
    bare = {name: value for name, value in differing.items() if name != "email"}  # an import looks at no more
    for given in (differing, bare):
        assert await orders.reconcile([given], by=by) == as_value


async def test_a_mapping_may_be_an_update_of_a_line_too(made):
    _, orders = await made(line_statuses=True)
    names = ("order_external_id", "order_line_external_id", "status_external_id")
    row = ("order_2", "line_2_1", "canceled")
    as_tuple = await orders.reconcile([row], by="list")
    assert as_tuple.differences
    assert await orders.reconcile([dict(zip(names, row, strict=True))], by="list") == as_tuple


async def test_an_order_that_cannot_be_looked_up_is_unchecked(made):
    _, orders = await made(faults=Faults(error_500=1.0), retry=RetryPolicy(attempts=1))
    found = await orders.reconcile([("order_1", "line_1_1", "new")])
    assert list(found.unchecked_orders) == ["order_1"]
    assert not found.ok


async def test_rows_may_come_asynchronously(made):
    _, orders = await made()

    async def rows():
        yield ("order_1", "line_1_1", "new")

    assert (await orders.reconcile(rows())).orders == 1


async def test_what_befalls_every_order_is_raised(start_sandbox, connect):
    sandbox = await start_sandbox()
    orders = connect(sandbox, "wrong").market.orders
    rows = [(f"order_{number}", "l", "new") for number in range(500)]
    with pytest.raises(AuthenticationError):
        await orders.reconcile(rows)


@pytest.mark.parametrize(
    ("rows", "options", "error"),
    [
        ([("o", "l")], {}, InvalidUpdateError),
        ([{"external_id": "o"}], {}, InvalidUpdateError),
        ([], {"by": "guess"}, ConfigurationError),
    ],
)
async def test_what_cannot_be_compared_is_refused(connect, closed_port, rows, options, error):
    with pytest.raises(error):
        await connect(closed_port).market.orders.reconcile(rows, **options)
