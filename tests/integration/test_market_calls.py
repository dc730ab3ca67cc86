"""The calls of the Market against the sandbox: each in JSON and XML, and with both readings of what is not known."""

from __future__ import annotations

import asyncio
import random
import warnings

import pytest

from altcraft_async import (
    APIError,
    BadRequestError,
    ConfigurationError,
    InvalidUpdateError,
    PermissionDeniedError,
    RetryPolicy,
    ServerError,
    UnreadableResponseError,
)
from altcraft_async.market import Behind, IncompleteListWarning, Page
from altcraft_async.sandbox import Faults, Readings
from altcraft_async.values import Order, OrderLine, OrderStatus, Preorder, Product, Profile, Sku

ORDER = {
    "external_id": "order_A",
    "endpoint": "shop",
    "status": "paid",
    "total_price": "199.90",
    "currency": "RUB",
    "email": "a@b.example",
    "tags": ["one"],
    "custom_fields": {"gift": "yes"},
    "lines": [{"external_id": "l", "product": "p", "count": 2, "final_price_per_item": "99.95"}],
}
PREORDER = {
    "endpoint": "shop",
    "status": "new",
    "currency": "RUB",
    "total_price": "2500.00",
    "final_total_price": "2000.00",
    "lines": [{"external_id": "l", "sku": "s"}],
}
GOODS = [{"external_id": f"p{number}", "name": f"Product {number}"} for number in range(5)]
SKUS = [{"external_id": "s", "name": "S", "product_external_id": "p1"}]

WIRES = [
    {"request_format": sent, "response_format": asked, "token_in": token}
    for sent, asked, token in [("json", "json", "body"), ("xml", "xml", "header"), ("json", "xml", "header")]
]


def answer(status, body=None):
    said = body or f'{{"error":{status},"error_text":"no"}}'.encode()
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n"
    return head.encode() + said


OK = b'{"error":0,"error_text":""}'


@pytest.fixture(params=WIRES, ids=lambda wire: "-".join(wire.values()))
def wire(request):
    return request.param


@pytest.fixture
async def market(start_sandbox, connect, wire):
    async def make(*, orders=0, faults=None, **readings):
        sandbox = await start_sandbox(orders=orders, readings=Readings(**readings), faults=faults or Faults())
        sandbox.import_rows("orders", [ORDER])
        sandbox.import_rows("products", GOODS)
        sandbox.import_rows("sku", SKUS)
        return sandbox, connect(sandbox, **wire).market

    return make


# -- orders


async def test_the_orders_are_listed_with_all_that_they_have(market):
    _, market = await market()
    (order,) = [order async for order in market.orders.list()]
    assert order.lines == (
        OrderLine(external_id="l", product="p", count=2, final_price_per_item="99.95", currency="RUB"),
    )
    assert (order.profile, order.tags, order.total_price) == (
        Profile(profile_id="1", xxh="0000000000000001"),
        ("one",),
        "199.90",
    )
    assert order.custom_fields == {"gift": "yes"}
    assert order.extra == {}


async def test_only_the_orders_of_a_touchpoint_are_listed(market):
    _, market = await market(orders=3)
    assert [order.external_id async for order in market.orders.list(endpoint="shop")] == ["order_A"]


@pytest.mark.parametrize("reading", ["object", "array"])
async def test_the_status_of_an_order_is_asked_by_either_id(market, reading):
    _, market = await market(status_result=reading)
    expected = OrderStatus(status="paid", endpoint="shop")
    assert await market.orders.get_status(external_id="order_A") == expected
    assert await market.orders.get_status(id=1) == expected


async def test_an_order_that_is_not_there_has_no_status(market):
    _, market = await market()
    with pytest.raises(BadRequestError, match=r"^order nobody: the server answered error 400") as caught:
        await market.orders.get_status(external_id="nobody")
    assert not caught.value.maybe_applied


@pytest.mark.parametrize("style", ["http200", "http4xx"])
async def test_a_refusal_is_one_whatever_its_http_status(start_sandbox, connect, wire, style):
    sandbox = await start_sandbox(error_style=style)
    market = connect(sandbox, **wire).market
    for refused in (market.orders.get_status(external_id="x"), market.orders.delete(external_id="x")):
        with pytest.raises(BadRequestError, match="there is no such order"):
            await refused
    assert sandbox.ledger.requests == 2


@pytest.mark.parametrize("named", [{"external_id": "order_A"}, {"id": 1, "group_id": 5, "with_fire": False}])
async def test_an_order_is_deleted(market, named):
    sandbox, market = await market()
    await market.orders.delete(**named)
    assert not sandbox.has("orders", "order_A")


async def test_the_platform_says_whether_it_minds_what_is_not_there(market):
    _, refusing = await market()
    with pytest.raises(APIError):
        await refusing.orders.delete(external_id="nobody")


async def test_a_platform_that_does_not_mind_deletes_nothing_without_a_word(market):
    _, ignoring = await market(unknown_orders="ignored")
    await ignoring.orders.delete(external_id="nobody")


@pytest.mark.parametrize("named", [{}, {"external_id": "o", "id": 1}])
async def test_an_order_is_named_in_exactly_one_way(connect, closed_port, named):
    orders = connect(closed_port).market.orders
    with pytest.raises(ConfigurationError, match="give exactly one of external_id or id"):
        await orders.get_status(**named)
    with pytest.raises(ConfigurationError, match="give exactly one of external_id or id"):
        await orders.delete(**named)


@pytest.mark.parametrize("order", [PREORDER, Preorder.from_dict(PREORDER)], ids=["mapping", "value"])
async def test_a_preorder_is_calculated_and_creates_nothing(market, order):
    sandbox, market = await market()
    envelope = await market.orders.preorder(order, external_id="new", email="a@b.example")
    assert envelope["data"] == {"external_id": "new", "final_total_price": "2000.00"}
    assert not sandbox.has("orders", "new")


@pytest.mark.parametrize("whose", [{"email": "a@b.example"}, {"phone": "+7"}, {"profile_id": 5}])
async def test_a_preorder_is_committed_once(market, whose):
    sandbox, market = await market()
    await market.orders.preorder_commit(PREORDER, external_id="new", **whose)
    assert sandbox.has("orders", "new")
    assert len(sandbox.ledger.imports("orders", "new")) == 1


BAD_NAMES = ["", "  ", "a\x01b", "a\nb", 2.5, True, b"o", None]


@pytest.mark.parametrize("bad", BAD_NAMES)
async def test_an_id_that_cannot_be_one_is_refused_before_anything_is_sent(start_sandbox, connect, bad):
    sandbox = await start_sandbox()
    orders = connect(sandbox).market.orders
    given = {"external_id": bad}
    for refused in (
        orders.get_status(**given),
        orders.delete(**given),
        orders.preorder(PREORDER, **given, email="e"),
        orders.preorder_commit(PREORDER, **given, email="e"),
    ):
        with pytest.raises((InvalidUpdateError, ConfigurationError), match="external_id"):
            await refused
    assert sandbox.ledger.requests == 0


@pytest.mark.parametrize("bad", ["1", 1.0, True])
async def test_a_number_that_is_none_is_refused_before_anything_is_sent(connect, closed_port, bad):
    orders = connect(closed_port).market.orders
    for refused in (
        orders.get_status(id=bad),
        orders.delete(id=bad),
        orders.delete(id=1, group_id=bad),
        orders.delete(id=1, with_fire="no"),
        orders.preorder(PREORDER, external_id="o", email=" "),
        orders.preorder_commit(PREORDER, external_id="o", email="e", skip_triggers="no"),
    ):
        with pytest.raises((InvalidUpdateError, ConfigurationError), match=r"must be|is empty"):
            await refused


async def test_a_whole_number_is_an_external_id_as_in_updates(market):
    sandbox, market = await market()
    sandbox.import_rows("orders", [{**ORDER, "external_id": "77"}])
    assert (await market.orders.get_status(external_id=77)).status == "paid"
    await market.orders.delete(external_id=77)
    assert not sandbox.has("orders", "77")


async def test_the_envelope_of_a_preorder_is_the_same_in_both_formats(start_raw_server, connect):
    in_json = (
        b'{"error":0,"error_text":"","data":{"total":1999.90,"points":12,"huge":1e17,"ok":true,"no":null,"text":"",'
        b'"none":{},"lines":[{"external_id":"l","price":5}],"promo":["x","y"],"one":["z"]}}'
    )
    in_xml = (
        b"<xml><error>0</error><error_text/><data><total>1999.9</total><points>12</points>"
        b"<huge>100000000000000000</huge><ok>true</ok><no/><text></text><none/><lines><external_id>l</external_id>"
        b"<price>5</price></lines><promo>x</promo><promo>y</promo><one>z</one></data></xml>"
    )
    found = []
    for body, kind in ((in_json, b"json"), (in_xml, b"xml")):
        server = await start_raw_server(listed(body, kind))
        orders = connect(server).market.orders
        found.append(await orders.preorder(PREORDER, external_id="o", email="e"))
        found.append(await orders.preorder_commit(PREORDER, external_id="o", email="e"))
    assert found[1:] == found[:-1]
    assert (found[0]["error"], found[0]["error_text"]) == (0, "")
    assert found[0]["data"]["lines"] == [{"external_id": "l", "price": "5"}]
    assert found[0]["data"]["huge"] == "100000000000000000"


ODD_STATUSES = [b"[]", b"{}", b"null", b'"new"', b'[{"status":"new"},{"status":"new"}]', b'{"status":null}',
                b'{"status":" "}', b'{"status":{"x":1}}', b'{"endpoint":"e"}']  # fmt: skip


@pytest.mark.parametrize("result", ODD_STATUSES)
async def test_an_answer_without_a_status_is_an_error_that_names_the_order(start_raw_server, connect, result):
    server = await start_raw_server(listed(b'{"error":0,"result":%b}' % result))
    with pytest.raises(UnreadableResponseError, match=r"^order o: the answer has no result with a status") as caught:
        await connect(server).market.orders.get_status(external_id="o")
    assert not caught.value.maybe_applied


async def test_a_preorder_that_cannot_be_sent_is_refused_by_its_field(connect, closed_port):
    orders = connect(closed_port).market.orders
    with pytest.raises(InvalidUpdateError, match=r"^lines\[0\].product is required"):
        await orders.preorder({**PREORDER, "lines": [{"external_id": "l"}]}, external_id="o", email="e")
    with pytest.raises(ConfigurationError, match="give exactly one of email or phone or profile_id; none was given"):
        await orders.preorder_commit(PREORDER, external_id="o")


# -- what may be applied twice


async def test_a_commit_in_doubt_is_not_repeated_and_says_that_it_may_have_been_made(start_raw_server, connect):
    server = await start_raw_server(None, b"")
    orders = connect(server).market.orders
    with pytest.raises(Exception, match="the change may have been applied") as caught:
        await orders.preorder_commit(PREORDER, external_id="o", email="e")
    assert (len(server.requests), caught.value.attempts, caught.value.maybe_applied) == (1, 1, True)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_commit_is_not_repeated_after_a_failure_of_the_server(start_raw_server, connect, status):
    server = await start_raw_server(answer(status))
    with pytest.raises(ServerError) as caught:
        await connect(server).market.orders.preorder_commit(PREORDER, external_id="o", email="e")
    assert (len(server.requests), caught.value.maybe_applied) == (1, True)


async def test_a_commit_that_was_not_taken_is_repeated(start_raw_server, connect):
    server = await start_raw_server(answer(429), answer(200, OK))
    envelope = await connect(server).market.orders.preorder_commit(PREORDER, external_id="o", email="e")
    assert (envelope["error"], len(server.requests)) == (0, 2)


async def test_a_commit_under_an_id_of_the_callers_is_repeated_under_it(start_raw_server, connect):
    server = await start_raw_server(None, answer(200, OK))
    await connect(server).market.orders.preorder_commit(PREORDER, external_id="o", email="e", request_id="mine")
    assert ["request-id: mine" in request.head.lower() for request in server.requests] == [True, True]


async def test_a_commit_does_not_go_out_on_a_kept_connection_that_may_die_under_it(start_raw_server, connect):
    status = answer(200, b'{"error":0,"result":{"status":"new"}}')
    server = await start_raw_server(status, status, answer(200, OK), keep_alive=True)
    orders = connect(server).market.orders
    for _ in range(2):
        await orders.get_status(external_id="o")
    assert server.connections == 1
    await orders.preorder_commit(PREORDER, external_id="o", email="e")
    assert server.connections == 2


async def test_what_only_reads_has_never_applied_anything(start_raw_server, connect):
    server = await start_raw_server(None)
    with pytest.raises(Exception, match="order o: ") as caught:
        await connect(server).market.orders.get_status(external_id="o")
    assert not caught.value.maybe_applied
    assert len(server.requests) == 3


# -- products and SKU


async def test_products_are_listed_with_their_skus(market):
    _, market = await market()
    products = [product async for product in market.products.list()]
    assert [product.external_id for product in products] == ["p0", "p1", "p2", "p3", "p4"]
    assert products[1] == Product(external_id="p1", name="Product 1", sku=products[1].sku)
    assert [(sku.external_id, sku.name) for sku in products[1].sku] == [("s", "S")]
    assert products[0].sku == ()


async def test_skus_are_listed(market):
    _, market = await market()
    (sku,) = [sku async for sku in market.skus.list()]
    assert isinstance(sku, Sku)
    assert (sku.external_id, sku.name, sku.product_external_id) == ("s", "S", "")


async def test_products_are_deleted_by_both_kinds_of_ids(market):
    sandbox, market = await market()
    assert await market.products.delete(ids=[1, 2], external_ids=["p4", "nobody"]) == 3
    assert [name for name in ("p0", "p1", "p2", "p3", "p4") if sandbox.has("products", name)] == ["p2", "p3"]


async def test_skus_are_deleted(market):
    sandbox, market = await market()
    assert await market.skus.delete(external_ids=iter(["s"])) == 1
    assert not sandbox.has("sku", "s")


async def test_a_platform_that_minds_unknown_ids_refuses_them(market):
    _, market = await market(unknown_goods="refused")
    with pytest.raises(APIError, match="nobody"):
        await market.products.delete(external_ids=["p1", "nobody"])


async def test_many_ids_go_in_several_calls(market):
    sandbox, market = await market()
    before = sandbox.ledger.requests
    assert await market.products.delete(external_ids=[f"p{number}" for number in range(2500)]) == 5
    assert sandbox.ledger.requests - before == 3


async def test_no_ids_are_no_call(connect, closed_port):
    assert await connect(closed_port).market.products.delete() == 0


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ({"external_ids": "p1"}, TypeError),
        ({"external_ids": [" "]}, ConfigurationError),
        ({"ids": ["1"]}, ConfigurationError),
        ({"ids": [True]}, ConfigurationError),
        ({"external_ids": ["a\x01"]}, ConfigurationError),
        ({"external_ids": [None]}, ConfigurationError),
    ],
)
async def test_ids_of_the_wrong_kind_are_refused(connect, closed_port, ids, error):
    with pytest.raises(error, match="ids"):
        await connect(closed_port).market.products.delete(**ids)


@pytest.mark.parametrize("bad", [" ", 2.5, "a\x00"])
async def test_a_wrong_id_behind_a_thousand_good_ones_deletes_nothing(start_sandbox, connect, bad):
    sandbox = await start_sandbox()
    for goods in (connect(sandbox).market.products, connect(sandbox).market.skus):
        for given in ({"external_ids": ["s"] * 1500 + [bad]}, {"ids": [1] * 1500 + [bad]}):
            with pytest.raises(ConfigurationError, match=r"ids\[1500\]"):
                await goods.delete(**given)
    assert sandbox.ledger.requests == 0


COUNTS = [b"", b',"deleted_count":-1', b',"deleted_count":"-3"', b',"deleted_count":true', b',"deleted_count":"x"']


@pytest.mark.parametrize("count", COUNTS)
async def test_a_deletion_that_is_not_counted_says_so(start_raw_server, connect, count):
    server = await start_raw_server(answer(200, b'{"error":0%b}' % count))
    assert await connect(server).market.skus.delete(ids=[1]) is None


# -- pages


async def test_a_list_is_read_to_its_end_in_pages(market):
    sandbox, market = await market(orders=6)
    pages = [page async for page in market.orders.list(limit=3).pages()]
    assert [len(page.items) for page in pages] == [3, 3, 1]
    ids = [order.external_id for page in pages for order in page.items]
    assert len(set(ids)) == 7
    assert sandbox.ledger.answers["listed"] >= 4


async def test_a_list_goes_on_from_the_cursor_of_a_page(market):
    _, market = await market(orders=6)
    listing = market.products.list(limit=2)
    first = await anext(listing.pages())
    assert isinstance(first, Page)
    behind = [page async for page in listing.pages(first.next_from_id)]
    assert [item.external_id for page in behind for item in page.items] == ["p2", "p3", "p4"]


async def test_a_list_can_be_read_again(market):
    _, market = await market()
    listing = market.products.list(limit=2)
    for _ in range(2):
        assert [product.external_id async for product in listing] == ["p0", "p1", "p2", "p3", "p4"]


async def test_an_empty_list_has_no_rows(start_sandbox, connect, wire):
    sandbox = await start_sandbox(orders=0)
    assert [order async for order in connect(sandbox, **wire).market.orders.list()] == []


async def test_a_list_without_a_cursor_is_one_page(market):
    _, market = await market(cursor=False)
    assert len([product async for product in market.products.list(limit=6)]) == 5


async def test_a_full_list_without_a_cursor_warns_that_there_may_be_more(market):
    _, market = await market(cursor=False)
    with pytest.warns(IncompleteListWarning, match="market/products/list gave 5 rows"):
        assert len([product async for product in market.products.list(limit=5)]) == 5


async def test_smaller_pages_than_asked_for_are_read_to_the_end_all_the_same(market):
    _, market = await market(page_limit=2)
    assert len([product async for product in market.products.list()]) == 5


@pytest.mark.parametrize("limit", [0, -1, True, "5"])
async def test_a_limit_that_cannot_be_is_refused(connect, closed_port, limit):
    with pytest.raises(ConfigurationError, match=r"^limit must be"):
        connect(closed_port).market.orders.list(limit=limit)


async def test_a_role_may_only_read(start_sandbox, connect, wire):
    sandbox = await start_sandbox(tokens={"reader": "read", "stranger": "none"})
    reader, stranger = connect(sandbox, "reader", **wire).market, connect(sandbox, "stranger", **wire).market
    assert len([order async for order in reader.orders.list()]) == 20
    with pytest.raises(PermissionDeniedError, match="may only read"):
        await reader.orders.delete(external_id="order_1")
    with pytest.raises(PermissionDeniedError, match="does not include the market"):
        [order async for order in stranger.orders.list()]


async def collect(listing, found):
    async for one in listing:
        found.append(one.external_id)


def page(first, last, cursor):
    rows = ",".join(f'{{"external_id":"p{number}","name":"P"}}' for number in range(first, last))
    return answer(200, f'{{"error":0,"result":[{rows}],"next_from_id":{cursor}}}'.encode())


async def test_a_page_that_leads_back_is_asked_for_again(start_raw_server, connect):
    server = await start_raw_server(page(0, 2, '"a"'), page(0, 2, '"a"'), page(2, 4, '"b"'), page(0, 0, '""'))
    products = connect(server).market.products
    assert [one.external_id async for one in products.list()] == ["p0", "p1", "p2", "p3"]
    ids = [line for request in server.requests for line in request.head.lower().splitlines() if "request-id" in line]
    assert len(set(ids)) == 4


async def test_a_list_that_goes_in_a_circle_ends_with_an_error(start_raw_server, connect):
    server = await start_raw_server(page(0, 2, '"a"'), page(2, 4, '"b"'), page(4, 6, '"a"'))
    found = []
    with pytest.raises(UnreadableResponseError, match="so the list would never end") as caught:
        await collect(connect(server).market.products.list(), found)
    assert found == ["p0", "p1", "p2", "p3"]
    assert not caught.value.maybe_applied
    assert len(server.requests) == 5


@pytest.mark.long
@pytest.mark.slow
async def test_one_percent_of_pages_repeated_cut_and_refused_leave_a_list_whole(start_raw_server, connect):
    """A thousand pages; before the right one comes, at times, one that was there, half of it, or a refusal to serve."""
    chance = random.Random(5)
    answers = []
    for number in range(1000):
        whole = page(2 * number, 2 * number + 2, f'"{number}"')
        faults = [page(2 * number - 2, 2 * number, f'"{number - 1}"'), whole[:-20], answer(429), answer(503), None]
        answers += [fault for fault in faults if number and chance.random() < 0.01]
        answers.append(whole)
    server = await start_raw_server(*answers, page(0, 0, '""'))
    products = connect(server, retry=RetryPolicy(attempts=5, base=0.001, max_delay=0.01)).market.products
    assert [one.external_id async for one in products.list(limit=2)] == [f"p{number}" for number in range(2000)]
    assert len(server.requests) == len(answers) + 1 > 1030


async def test_another_calls_answer_does_not_end_a_list(start_raw_server, connect):
    anothers = answer(200, b'{"error":0,"error_text":"","data":{"order_external_id":"o"}}')
    server = await start_raw_server(page(0, 2, '"a"'), anothers, page(2, 4, "null"))
    assert len([one async for one in connect(server).market.products.list()]) == 4


async def test_a_row_that_is_no_object_ends_a_list_with_an_error(start_raw_server, connect):
    server = await start_raw_server(answer(200, b'{"error":0,"result":[7]}'))
    with pytest.raises(UnreadableResponseError, match="a row that is no object"):
        [one async for one in connect(server).market.skus.list()]


async def test_the_next_page_is_fetched_while_one_is_worked_on(start_raw_server, connect, until):
    server = await start_raw_server(page(0, 2, '"a"'), page(2, 4, '"b"'), page(4, 5, "null"))
    pages = connect(server).market.products.list().pages()
    await anext(pages)
    await until(lambda: len(server.requests) == 2)
    await pages.aclose()


async def test_a_page_that_fails_raises_after_the_pages_before_it(start_raw_server, connect):
    server = await start_raw_server(page(0, 2, '"a"'), answer(200, b'{"error":400,"error_text":"x"}'))
    found = []
    with pytest.raises(BadRequestError):
        await collect(connect(server).market.products.list(), found)
    assert found == ["p0", "p1"]


async def test_a_list_that_is_left_early_leaves_no_task_behind(start_raw_server, connect):
    server = await start_raw_server(page(0, 2, '"a"'), b"(no answer)")
    pages = connect(server).market.products.list().pages()
    await anext(pages)
    before = len(asyncio.all_tasks())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await pages.aclose()
    assert len(asyncio.all_tasks()) == before - 1


async def test_the_warning_of_a_list_that_is_cut_names_the_line_that_reads_it(market):
    _, market = await market(cursor=False)
    listing = market.products.list(limit=5)
    for read in (listing, listing.pages()):
        with pytest.warns(IncompleteListWarning) as caught:
            assert [one async for one in read]
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("limit", "readings", "behind"),
    [
        (2, {}, [Behind.PAGE, Behind.PAGE, Behind.PAGE]),
        (9, {"cursor": False}, [Behind.UNSAID]),
        (9, {"cursor": False, "page_limit": 3}, [Behind.UNSAID]),
    ],
)
async def test_a_page_says_what_is_behind_it(market, limit, readings, behind):
    _, market = await market(**readings)
    assert [page.behind async for page in market.products.list(limit=limit).pages()] == behind


def listed(body, kind=b"json"):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/%b\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
    return head + body


NO_ROWS = [
    (b'{"error":0,"next_from_id":"b"}', b"json"),
    (b"<xml><error>0</error><next_from_id>b</next_from_id></xml>", b"xml"),
]


@pytest.mark.parametrize(("body", "kind"), NO_ROWS, ids=["json", "xml"])
async def test_an_answer_that_goes_on_and_has_no_rows_does_not_end_a_list_quietly(
    start_raw_server, connect, body, kind
):
    server = await start_raw_server(page(0, 2, '"a"'), listed(body, kind))
    found = []
    with pytest.raises(UnreadableResponseError, match="gave a next_from_id and no rows") as caught:
        await collect(connect(server).market.products.list(), found)
    assert (found, len(server.requests), caught.value.maybe_applied) == (["p0", "p1"], 3, False)


@pytest.mark.parametrize("body", [b'{"error":0,"next_from_id":"a"}', b'{"error":0,"result":[],"next_from_id":"z"}'])
async def test_a_page_without_rows_ends_a_list_whose_cursor_stands_still_or_that_says_so(
    start_raw_server, connect, body
):
    server = await start_raw_server(page(0, 2, '"a"'), listed(body))
    assert len([one async for one in connect(server).market.products.list()]) == 2


async def test_an_empty_page_with_a_cursor_is_followed(start_raw_server, connect):
    last = listed(b'{"error":0,"result":[{"external_id":"p9"}],"next_from_id":""}')
    server = await start_raw_server(page(0, 2, '"a"'), listed(b'{"error":0,"result":[],"next_from_id":"b"}'), last)
    found = []
    await collect(connect(server).market.products.list(), found)
    assert found == ["p0", "p1", "p9"]


def two(name):
    return "".join(f"<{name}><external_id>p{number}</external_id></{name}>" for number in (0, 1))


ROWS_OF_DATA = [
    ('{"error":0,"data":[{"external_id":"p0"},{"external_id":"p1"}]}', b"json"),
    ('{"error":0,"result":[],"data":[{"external_id":"p0"},{"external_id":"p1"}]}', b"json"),
    (f"<xml><error>0</error>{two('data')}</xml>", b"xml"),
    (f"<xml><error>0</error><result>{two('product')}</result></xml>", b"xml"),
    (f"<xml><error>0</error><data>{two('row')}</data></xml>", b"xml"),
]


@pytest.mark.parametrize(("body", "kind"), ROWS_OF_DATA)
async def test_the_rows_of_a_list_may_stand_in_data_and_in_one_more_element(start_raw_server, connect, body, kind):
    server = await start_raw_server(listed(body.encode(), kind))
    assert [one.external_id async for one in connect(server).market.products.list()] == ["p0", "p1"]


@pytest.mark.parametrize("body", [b"<xml><error>0</error><result><product/></result></xml>",
                                  b"<xml><error>0</error><result/></xml>"])  # fmt: skip
async def test_an_empty_array_in_one_more_element_is_an_empty_list(start_raw_server, connect, body):
    server = await start_raw_server(listed(body, b"xml"))
    assert [one async for one in connect(server).market.products.list()] == []


async def test_data_that_are_no_rows_do_not_end_a_list_quietly(start_raw_server, connect):
    server = await start_raw_server(listed(b'{"error":0,"data":{"order_external_id":"o"}}'))
    with pytest.raises(UnreadableResponseError, match="gave data that are no rows"):
        [one async for one in connect(server).market.products.list()]


async def test_the_same_rows_under_ever_new_cursors_end_a_list_with_an_error(start_raw_server, connect):
    answers = [page(2 * (number % 2), 2 * (number % 2) + 2, f'"c{number}"') for number in range(20)]
    server = await start_raw_server(*answers)
    found = []
    with pytest.raises(UnreadableResponseError, match="gave the rows of a page that it had given before"):
        await collect(connect(server).market.products.list(), found)
    assert found == ["p0", "p1", "p2", "p3"]


# -- lanes


async def test_a_deletion_waits_for_the_lines_of_its_order_and_they_for_it(start_sandbox, connect):
    sandbox = await start_sandbox(orders=2, lines=2, faults=Faults(latency=0.02))
    orders = connect(sandbox).market.orders
    first = asyncio.create_task(orders.update_order_line_status("order_1", "line_1_1", "delivered"))
    await asyncio.sleep(0)
    gone = asyncio.create_task(orders.delete(external_id="order_1"))
    await asyncio.sleep(0)
    last = asyncio.create_task(orders.update_order_line_status("order_1", "line_1_2", "delivered"))
    await first
    await gone
    with pytest.raises(BadRequestError, match="there is no order"):
        await last


async def test_orders_that_came_back_are_orders_to_import(market):
    _, market = await market()
    (order,) = [order async for order in market.orders.list()]
    assert Order.from_dict(order.to_dict()) == order
