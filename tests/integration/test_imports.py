"""Imports in batches: an outcome for each row, an order's imports in their order, and nothing twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from altcraft_async import (
    Adaptive,
    ConfigurationError,
    FailureLimit,
    InvalidUpdateError,
    OutcomeState,
    RetryPolicy,
    RunStoppedError,
    SourceError,
    Timeout,
)
from altcraft_async.observe import AttemptStarted, CallEnded
from altcraft_async.protocol.values.orders import Order
from altcraft_async.protocol.values.products import Product, Sku
from altcraft_async.sandbox import Fault, Faults, Readings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PATIENT = RetryPolicy(attempts=12, base=0.001, max_delay=0.01)


def order(number, *, lines=3, status="new", **more):
    return {
        "external_id": f"order_{number}", "matching": "email", "email": "a@example.com", "endpoint": "shop",
        "status": status, "total_price": "300.00", "currency": "RUB",
        "lines": [
            {"external_id": f"line_{number}_{place}", "product": "p", "status": "new", "count": 1}
            for place in range(1, lines + 1)
        ],
        **more,
    }  # fmt: skip


def orders_of(count, first=1):
    return [order(number) for number in range(first, first + count)]


@pytest.fixture
def orders(sandbox, connect):
    return connect(sandbox).market.orders


def states(outcomes):
    return [str(outcome.state) for outcome in outcomes]


def sizes(sandbox):
    return [len(arrival.rows) for arrival in sandbox.ledger.import_arrivals]


# -- what goes out, and what comes back


@pytest.mark.parametrize("style", ["json", "xml"])
@pytest.mark.parametrize("token_in", ["body", "header"])
async def test_every_order_arrives_once_in_both_formats_and_with_both_places_of_the_token(
    sandbox, connect, style, token_in
):
    client = connect(sandbox, request_format=style, response_format=style, token_in=token_in)
    rows = orders_of(120)
    report = await client.market.orders.import_orders(rows, batch_size=50)
    assert states(report.outcomes) == ["applied"] * 120
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert sizes(sandbox) == [50, 50, 20]


async def test_an_outcome_names_its_batch_and_has_what_was_given(sandbox, orders):
    rows = orders_of(5)
    report = await orders.import_orders(rows, batch_size=2)
    assert [outcome.row for outcome in report.outcomes] == rows
    assert [(outcome.batch.first, outcome.batch.rows) for outcome in report.outcomes] == [
        (0, 2), (0, 2), (2, 2), (2, 2), (4, 1),
    ]  # fmt: skip
    assert [outcome.external_id for outcome in report.outcomes] == [row["external_id"] for row in rows]
    ids = [outcome.request_id for outcome in report.outcomes]
    assert ids[0] == ids[1] != ids[2]
    assert {arrival.request_id for arrival in sandbox.ledger.import_arrivals} == set(ids)


async def test_values_and_mappings_say_the_same(sandbox, orders):
    value = Order.from_dict(order(1))
    report = await orders.import_orders([value, order(2)])
    assert report.ok
    assert report.outcomes[0].row is value
    assert sandbox.ledger.check_imports("orders", [order(1), order(2)]).ok


async def test_products_and_skus_are_imported_with_their_categories(sandbox, connect):
    market = connect(sandbox).market
    categories = [{"external_id": "c", "name": "Cups"}]
    products = [Product(external_id="p1", name="Cup"), {"external_id": "p2", "name": "Mug"}]
    report = await market.products.import_products(products, categories=categories)
    assert states(report.outcomes) == ["applied", "applied"]
    skus = [Sku(external_id="s1", name="Cup", product_external_id="p1")]
    assert (await market.skus.import_skus(skus, categories=categories)).ok
    assert len(sandbox.ledger.imports("products", "p2")) == 1
    assert len(sandbox.ledger.imports("sku", "s1")) == 1


async def test_definitions_and_triggers_go_with_every_batch(start_raw_server, connect):
    server = await start_raw_server(RawServer_ok(), keep_alive=True)
    fields = [{"external_id": "gift", "name": "Gift", "entity_type": "order", "required": False, "value_type": "bool",
               "default_value": False}]  # fmt: skip
    statuses = [{"external_id": "packed", "name": "Packed", "type": "in_process"}]
    report = await connect(server).market.orders.import_orders(
        orders_of(2), batch_size=1, custom_fields=fields, custom_line_statuses=statuses, skip_triggers=True
    )
    assert report.ok
    for request in server.requests:
        assert b'"skip_triggers":true' in request.body
        assert b'"gift"' in request.body
        assert b'"packed"' in request.body


def RawServer_ok():  # noqa: N802 - made like the server's own
    body = b'{"error":0,"error_text":""}'
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_row_that_cannot_be_sent_is_invalid_and_the_others_go_on(sandbox, orders):
    wrong = [
        {"external_id": "x"},
        order(1) | {"lines": []},
        order(2) | {"external_id": 2.5},
        order(3) | {"comment": {1, 2}},
        order(4) | {"rate": float("nan")},
        order(5) | {"comment": "\ud800"},
        7,
        InvalidUpdateError("not JSON", line=3),
    ]
    report = await orders.import_orders([*wrong, order(9)])
    assert states(report.outcomes) == ["invalid"] * len(wrong) + ["applied"]
    assert [outcome.error.field for outcome in report.outcomes[:3]] == ["endpoint", "lines", "external_id"]
    assert all(outcome.batch is None for outcome in report.outcomes[:-1])
    assert report.outcomes[-1].batch.rows == 1


async def test_an_order_that_no_body_has_room_for_is_invalid_and_says_how_much_there_is(sandbox, orders):
    rows = [order(1), order(2, comment="x" * 5000), order(3)]
    report = await orders.import_orders(rows, batch_bytes=3000, window_bytes=6000)
    assert states(report.outcomes) == ["applied", "invalid", "applied"]
    assert "batch_bytes" in str(report.outcomes[1].error)
    assert sizes(sandbox) == [2]


async def test_integers_as_ids_are_texts(sandbox, orders):
    report = await orders.import_orders([order(1) | {"external_id": 77}])
    assert (report.outcomes[0].external_id, report.ok) == ("77", True)
    assert sandbox.has("orders", "77")


BAD_IDS = [" a", "a ", "a\tb", "a\nb", "a\x00b", "\x9f", " ", "\ud800", "\ufffe"]


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("count", [1, 50], ids=["a row by itself", "a whole batch"])
async def test_an_id_that_a_value_cannot_have_is_refused_in_a_mapping_too(start_sandbox, connect, form, count):
    sandbox = await start_sandbox(orders=0)
    orders = connect(sandbox, request_format=form).market.orders
    for bad in BAD_IDS:
        with pytest.raises(InvalidUpdateError) as caught:
            Order.from_dict(order(1, external_id=bad))
        assert caught.value.field == "external_id"
        report = await orders.import_orders([order(1, external_id=bad), *orders_of(count - 1)], batch_size=count)
        first = report.outcomes[0]
        assert (str(first.state), first.error.field, str(first.error)) == ("invalid", "external_id", str(caught.value))
        assert states(report.outcomes[1:]) == ["applied"] * (count - 1)
    assert not [name for name in BAD_IDS if sandbox.has("orders", name.strip())]


async def test_no_batch_is_longer_than_it_may_be(start_sandbox, connect):
    sandbox = await start_sandbox(max_body_bytes=4000)
    client = connect(sandbox)
    report = await client.market.orders.import_orders(orders_of(60), batch_bytes=3900)
    assert report.ok
    assert max(sizes(sandbox)) < 12
    assert client.statistics().sent == len(sizes(sandbox))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("batch_size", 0), ("batch_bytes", 0), ("window_bytes", 10), ("timeout", 0), ("on_refused", "retry"),
        ("deadline", -1), ("stop_after", 3), ("batch_bytes", 10), ("batch_bytes", 500), ("skip_triggers", "no"),
        ("retry_failed", "no"), ("extend", 1), ("custom_fields", "abc"), ("custom_fields", [{"name": "x"}]),
    ],
)  # fmt: skip
def test_a_keyword_that_cannot_work_is_named(orders, keyword, value):
    with pytest.raises(ConfigurationError) as raised:
        orders.stream_import_orders([], **{keyword: value})
    assert raised.value.field == keyword


def test_a_batch_without_room_for_a_row_says_what_it_needs(orders):
    with pytest.raises(ConfigurationError, match=r"^batch_bytes must be above \d+, not 10: so much of every batch"):
        orders.stream_import_orders([], batch_bytes=10)


def test_an_unknown_keyword_is_a_type_error(orders):
    with pytest.raises(TypeError, match="windows"):
        orders.stream_import_orders([], windows=3)


def test_retry_failed_needs_a_journal(orders):
    with pytest.raises(ConfigurationError, match="retry_failed"):
        orders.stream_import_orders([], retry_failed=True)


def test_a_preview_gives_the_batches_and_what_is_wrong(orders):
    found = list(orders.preview_import_orders([order(1), {"external_id": "x"}, order(1), order(2)], batch_size=3))
    assert [getattr(one, "rows", "wrong") for one in found] == ["wrong", 1, 2]


# -- order


async def test_an_orders_imports_reach_the_server_in_their_order(sandbox, orders):
    rows = [order(number % 7, tags=[f"version {number}"]) for number in range(200)]
    report = await orders.import_orders(rows, batch_size=5)
    assert report.ok
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert sandbox.ledger.in_flight_overlaps == 0


async def test_an_order_stands_in_a_batch_once(sandbox, orders):
    await orders.import_orders([order(1), order(2), order(1), order(3)], batch_size=10)
    assert sizes(sandbox) == [2, 2]


async def test_imports_and_line_updates_of_an_order_never_meet(start_sandbox, connect):
    sandbox = await start_sandbox(orders=30, lines=3, faults=Faults(latency=0.01))
    market = connect(sandbox, concurrency=Adaptive(initial=20)).market
    rows = [order(number) for number in range(1, 31)]
    updates = [
        (f"order_{number}", f"line_{number}_{place}", "delivered") for number in range(1, 31) for place in (1, 2)
    ]
    reports = await asyncio.gather(
        market.orders.import_orders(rows * 3, batch_size=7),
        market.orders.update_order_line_statuses(updates * 3),
        *(market.orders.update_order_line_status(*update) for update in updates[:10]),
    )
    assert all(report.ok for report in reports[:2])
    assert sandbox.ledger.in_flight_overlaps == 0
    assert sandbox.ledger.check_imports("orders", rows * 3).ok


async def test_the_halves_of_a_batch_keep_its_place_before_the_next_import_of_an_order(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]), faults=Faults(latency=0.005))
    rows = orders_of(8)
    rows[3] = order(4, currency="XXX")
    later = [order(number, status="paid") for number in range(1, 9)]
    report = await connect(sandbox).market.orders.import_orders([*rows, *later], batch_size=8, on_refused="split")
    assert [outcome.index for outcome in report.failures] == [3]
    done = [row for place, row in enumerate([*rows, *later]) if place != 3]
    assert sandbox.ledger.check_imports("orders", done).ok
    assert sandbox.ledger.in_flight_overlaps == 0


# -- refusals


async def test_without_results_per_row_the_refusal_of_a_batch_is_each_rows(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]))
    rows = [*orders_of(3), order(4, currency="XXX"), *orders_of(4, 5)]
    report = await connect(sandbox).market.orders.import_orders(rows, batch_size=4)
    assert states(report.outcomes) == ["rejected"] * 4 + ["applied"] * 4
    assert {outcome.error.code for outcome in report.failures} == {400}


@pytest.mark.parametrize("style", ["http200", "http4xx"])
async def test_split_finds_the_wrong_rows_and_imports_each_other_once(start_sandbox, connect, style):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]), error_style=style)
    rows = orders_of(64)
    for wrong in (5, 6, 40):
        rows[wrong] = order(wrong + 1, currency="XXX")
    report = await connect(sandbox).market.orders.import_orders(rows, batch_size=32, on_refused="split")
    assert [outcome.index for outcome in report.failures] == [5, 6, 40]
    assert sandbox.ledger.check_imports("orders", [row for row in rows if row["currency"] == "RUB"]).ok
    ids = [arrival.request_id for arrival in sandbox.ledger.import_arrivals]
    assert len(set(ids)) == len(ids), "each half goes under its own id"


@pytest.mark.parametrize("form", ["result", "data"])
@pytest.mark.parametrize("style", ["json", "xml"])
async def test_results_per_row_become_outcomes_per_row(start_sandbox, connect, form, style):
    readings = Readings(row_results=form, partial_imports=True, currencies=["RUB"])
    sandbox = await start_sandbox(orders=0, readings=readings, answer_format=style)
    rows = [order(1), order(2, currency="XXX"), order(3)]
    report = await connect(sandbox).market.orders.import_orders(rows)
    assert states(report.outcomes) == ["applied", "rejected", "applied"]
    assert "order_2" in str(report.outcomes[1].error)
    assert report.outcomes[1].error.code == 400
    assert report.outcomes[0].batch.answered_by_row


async def test_a_single_result_of_xml_is_one_too(start_sandbox, connect):
    readings = Readings(row_results="result", partial_imports=True, currencies=["RUB"])
    sandbox = await start_sandbox(orders=0, readings=readings, answer_format="xml")
    report = await connect(sandbox).market.orders.import_orders([order(1, currency="XXX")])
    assert states(report.outcomes) == ["rejected"]


def said(body, status=200, kind=b"json"):
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/%b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


NOT_MATCHED = [
    (b'{"error":0,"data":[{"external_id":"other","error":400}]}', b"json"),
    (b'{"error":0,"result":[{"error":0},{"error":400}]}', b"json"),
    (b'{"error":0,"result":[{"error":0},{"error":0},{"error":0},{"error":"E_BAD"}]}', b"json"),
    (b"<xml><error>0</error><data><external_id>other</external_id><error>400</error></data></xml>", b"xml"),
    (b"<xml><error>0</error><result><error>E_BAD</error></result></xml>", b"xml"),
]


@pytest.mark.parametrize(("body", "kind"), NOT_MATCHED)
async def test_rows_of_whose_end_the_answer_does_not_say_are_unknown_and_not_applied(
    start_raw_server, connect, body, kind
):
    server = await start_raw_server(said(body, kind=kind))
    report = await connect(server).market.orders.import_orders(orders_of(3))
    assert states(report.outcomes) == ["unknown"] * 3
    for outcome in report.outcomes:
        assert outcome.error.maybe_applied
        assert outcome.error.request_id == outcome.request_id
        assert "the answer says of a row that it does not name" in str(outcome.error)


@pytest.mark.parametrize("code", [b'"E_BAD"', b"true", b"[1]", b"1.5"])
async def test_a_row_whose_code_cannot_be_read_is_unknown_and_the_others_are_applied(start_raw_server, connect, code):
    server = await start_raw_server(said(b'{"error":0,"result":[{"error":0},{"error":%b},{"error":"0"}]}' % code))
    report = await connect(server).market.orders.import_orders(orders_of(3))
    assert states(report.outcomes) == ["applied", "unknown", "applied"]
    assert "cannot be read" in str(report.outcomes[1].error)


PARTLY = [(1, 0), (2, 7), (3, 0)]
PARTLY_MADE = {
    "json": b'{"error":400,"result":[%b]}' % b",".join(b'{"error":%d}' % code for _, code in PARTLY),
    "xml": b"<xml><error>400</error>%b</xml>"
    % b"".join(b"<data><external_id>order_%d</external_id><error>%d</error></data>" % row for row in reversed(PARTLY)),
}


@pytest.mark.parametrize("on_refused", ["report", "split"])
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("form", PARTLY_MADE)
async def test_of_a_refused_batch_rows_that_it_says_were_taken_are_unknown(
    start_raw_server, connect, form, status, on_refused
):
    server = await start_raw_server(said(PARTLY_MADE[form], status, form.encode()))
    report = await connect(server).market.orders.import_orders(orders_of(3), on_refused=on_refused)
    assert states(report.outcomes) == ["unknown", "rejected", "unknown"]
    assert "says of this row that it was taken" in str(report.outcomes[0].error)
    assert report.outcomes[1].error.code == 7
    assert len(server.requests) == 1, "what may be imported is not imported again"


async def test_a_refusal_that_names_only_the_wrong_rows_is_each_others_too_and_can_be_split(start_raw_server, connect):
    refusal = said(b'{"error":400,"error_text":"all","data":[{"external_id":"order_2","error":7}]}')
    server = await start_raw_server(refusal, keep_alive=True)
    report = await connect(server).market.orders.import_orders(orders_of(2))
    assert [outcome.error.code for outcome in report.outcomes] == [400, 7]
    server = await start_raw_server(refusal, RawServer_ok(), said(b'{"error":400,"error_text":"no"}'), keep_alive=True)
    report = await connect(server, concurrency=1).market.orders.import_orders(orders_of(2), on_refused="split")
    assert states(report.outcomes) == ["applied", "rejected"]


async def test_in_a_refused_batch_an_applied_row_that_is_not_named_leaves_the_others_unknown(start_raw_server, connect):
    server = await start_raw_server(said(b'{"error":400,"data":[{"error":0}]}'))
    report = await connect(server).market.orders.import_orders(orders_of(2), on_refused="split")
    assert states(report.outcomes) == ["unknown"] * 2


@pytest.mark.parametrize("code", [1, 400, 413, 429, 500])
async def test_a_413_goes_in_halves_whatever_its_envelope_says(start_raw_server, connect, code):
    refusal = said(b'{"error":%d,"error_text":"too large"}' % code, 413)
    server = await start_raw_server(refusal, RawServer_ok(), keep_alive=True)
    report = await connect(server, concurrency=1).market.orders.import_orders(orders_of(4))
    assert report.ok
    assert len(server.requests) == 3


async def test_a_batch_that_is_too_large_goes_in_halves_and_the_next_ones_are_smaller(start_sandbox, connect, watcher):
    sandbox = await start_sandbox(orders=0, max_body_bytes=6000)
    rows = orders_of(200)
    client = connect(sandbox, concurrency=1, observers=[watcher])
    report = await client.market.orders.import_orders(rows, batch_size=40)
    assert report.ok
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert sizes(sandbox) == [10] * 20
    assert len(watcher.of(AttemptStarted)) == 2 + 20, "what waited was divided before it was sent"


async def test_a_proxys_413_is_understood_too(start_raw_server, connect):
    page = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
    refusal = b"HTTP/1.1 413 X\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
    server = await start_raw_server(refusal, RawServer_ok(), keep_alive=True)
    report = await connect(server, concurrency=1).market.orders.import_orders(orders_of(4))
    assert report.ok
    assert len(server.requests) == 3


async def test_one_row_that_is_too_large_for_the_server_is_rejected(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, max_body_bytes=2000)
    rows = [order(1), order(2, comment="x" * 3000), order(3)]
    report = await connect(sandbox).market.orders.import_orders(rows)
    assert states(report.outcomes) == ["applied", "rejected", "applied"]
    assert report.outcomes[1].attempts == 1


async def test_a_used_up_tariff_is_not_split(start_raw_server, connect):
    body = b'{"error":402,"error_text":"limit"}'
    refusal = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    server = await start_raw_server(refusal, keep_alive=True)
    report = await connect(server).market.orders.import_orders(orders_of(8), on_refused="split")
    assert states(report.outcomes) == ["rejected"] * 8
    assert len(server.requests) == 1


async def test_stop_after_counts_answers(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]))
    rows = [order(number, currency="XXX") for number in range(100)]
    run = connect(sandbox, concurrency=1).market.orders.import_orders(
        rows, batch_size=5, stop_after=FailureLimit(count=3)
    )
    report = await run
    assert report.counts[OutcomeState.REJECTED] == 15
    assert report.counts[OutcomeState.NOT_SENT] == 85
    assert "answers" in str(report.outcomes[-1].error)


async def test_the_answer_of_a_line_update_is_not_taken_for_that_of_a_batch(start_raw_server, connect):
    stray = b'{"error":0,"data":{"order_external_id":"o","order_line_external_id":"l","status_external_id":"s"}}'
    answer = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(stray), stray)
    server = await start_raw_server(answer, RawServer_ok(), keep_alive=True)
    report = await connect(server).market.orders.import_orders(orders_of(3))
    assert report.ok
    assert len({request.head.lower().split("request-id: ")[1][:36] for request in server.requests}) == 1


# -- faults, deadlines, ends


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "fault",
    [
        "too_many_requests", "error_500", "error_502", "error_503", "error_after", "html_502", "reset_before",
        "reset_after", "truncated", "malformed",
    ],
)  # fmt: skip
async def test_faults_of_every_kind_lose_and_double_nothing(start_sandbox, connect, fault):
    sandbox = await start_sandbox(orders=0, faults=Faults(**{fault: 0.1}), seed=3)
    client = connect(sandbox, concurrency=Adaptive(initial=10), retry=PATIENT, retry_budget=None)
    rows = [order(number % 360) for number in range(600)]
    report = await client.market.orders.import_orders(rows, batch_size=10)
    assert report.ok, report
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert sandbox.ledger.in_flight_overlaps == 0


async def test_an_attempt_of_an_import_has_a_timeout_of_its_own(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, faults=Faults(latency=0.3))
    client = connect(sandbox, timeout=Timeout(connect=1.0, total=0.1))
    assert (await client.market.orders.import_orders(orders_of(2))).ok
    report = await client.market.orders.import_orders(orders_of(2), timeout=0.05)
    assert states(report.outcomes) == ["unknown"] * 2


async def test_a_deadline_leaves_what_was_not_sent(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, faults=Faults(latency=0.2))
    client = connect(sandbox, concurrency=1)
    report = await client.market.orders.import_orders(orders_of(50), batch_size=5, deadline=0.5)
    counts = report.counts
    assert len(report.outcomes) == 50
    assert counts[OutcomeState.APPLIED] >= 5
    assert counts[OutcomeState.NOT_SENT] >= 20


async def test_a_source_that_fails_loses_nothing_that_it_gave(sandbox, orders):
    def source():
        yield from orders_of(7)
        raise OSError

    with pytest.raises(SourceError) as raised:
        await orders.import_orders(source(), batch_size=5)
    assert states(raised.value.report.outcomes) == ["applied"] * 7


async def test_a_refused_token_stops_the_run(sandbox, connect):
    report = await connect(sandbox, "wrong").market.orders.import_orders(orders_of(50), batch_size=5)
    assert report.counts[OutcomeState.NOT_SENT] >= 40
    assert isinstance(report.outcomes[-1].error, RunStoppedError)


async def test_cancelling_a_stream_ends_it_with_nothing_left(start_sandbox, connect):
    sandbox = await start_sandbox(orders=0, faults=Faults(latency=0.05))
    client = connect(sandbox)
    async with aclosing(client.market.orders.stream_import_orders(iter(orders_of(500)), batch_size=10)) as outcomes:
        async for outcome in outcomes:
            assert outcome.ok
            break
    assert client.statistics().in_flight == 0
    assert not client._engine.lanes


async def test_a_slow_consumer_holds_the_source_back(sandbox, orders):
    read = 0

    def source():
        nonlocal read
        for row in orders_of(2000):
            read += 1
            yield row

    row_bytes = 400
    limits = {"batch_size": 10, "batch_bytes": 10_000, "window_bytes": 20_000}
    async with aclosing(orders.stream_import_orders(source(), **limits)) as outcomes:
        async for _ in outcomes:
            await asyncio.sleep(0.05)
            break
        assert read <= 20_000 / row_bytes * 1.6
        rest = [outcome async for outcome in outcomes]
    assert len(rest) == 1999


async def test_a_live_source_that_pauses_has_its_rows_sent(sandbox, orders):
    more = asyncio.Event()

    async def source():
        yield order(1)
        yield order(2)
        await more.wait()
        yield order(3)

    async with asyncio.timeout(5), aclosing(orders.stream_import_orders(source())) as outcomes:
        first = [await anext(outcomes), await anext(outcomes)]
        assert [outcome.batch.rows for outcome in first] == [2, 2]
        more.set()
        assert (await anext(outcomes)).batch.rows == 1


async def test_a_failed_batch_is_told_to_observers_once(start_sandbox, connect, watcher):
    sandbox = await start_sandbox(orders=0, faults=Faults(script=[Fault("error"), None]))
    await connect(sandbox, observers=[watcher]).market.orders.import_orders(orders_of(3))
    assert len(watcher.of(AttemptStarted)) == 2
    assert [event.state for event in watcher.of(CallEnded)] == ["applied"]


# -- side by side


async def test_imports_begin_with_two_in_flight(start_sandbox, connect, watcher):
    sandbox = await start_sandbox(orders=0, faults=Faults(latency=0.1))
    client = connect(sandbox, concurrency=Adaptive(initial=50))
    run = asyncio.ensure_future(client.market.orders.import_orders(orders_of(40), batch_size=5))
    await asyncio.sleep(0.08)
    assert client.statistics().in_flight == 2
    assert (await run).ok


async def test_a_number_that_was_set_bounds_imports_and_updates_together(start_sandbox, connect):
    sandbox = await start_sandbox(orders=20, lines=1, faults=Faults(latency=0.02))
    client = connect(sandbox, concurrency=3)
    peak = 0

    async def look():
        nonlocal peak
        while True:
            peak = max(peak, client.statistics().in_flight)
            await asyncio.sleep(0.001)

    looking = asyncio.ensure_future(look())
    updates = [(f"order_{number}", f"line_{number}_1", "delivered") for number in range(1, 21)]
    await asyncio.gather(
        client.market.orders.import_orders(orders_of(40, 100), batch_size=2),
        client.market.orders.update_order_line_statuses(updates * 3),
    )
    looking.cancel()
    assert peak == 3


@pytest.mark.usefixtures("untraced")
@pytest.mark.slow
async def test_imports_of_seconds_do_not_spoil_the_limit_of_updates_nor_the_other_way_round(start_sandbox, connect):
    """Updates of milliseconds beside imports that take a hundred times as long: each kind finds its own limit."""
    sandbox = await start_sandbox(orders=200, lines=1)

    arrived: list[float] = []

    def slow_imports(_: int, path: str) -> Fault | None:
        if not path.endswith("import"):
            return Fault("delay", delay=0.004)
        arrived.append(time.monotonic())
        return Fault("delay", delay=0.4)

    sandbox.faults = Faults(script=slow_imports)
    client = connect(sandbox, concurrency=Adaptive())
    chance = random.Random(1)
    updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in (chance.randrange(1, 201) for _ in range(1000))]
    rows = orders_of(120, 181)  # twenty of them are updated too
    alone = await client.market.orders.update_order_line_statuses(updates)
    together, imported = await asyncio.gather(
        client.market.orders.update_order_line_statuses(updates),
        client.market.orders.import_orders(rows, batch_size=10),
    )
    assert alone.ok
    assert together.ok
    assert imported.ok
    assert together.elapsed < 4 * alone.elapsed, "the imports' seconds are no measure of updates"
    assert any(second - first < 0.4 for first, second in itertools.pairwise(arrived)), "two side by side at least"
    assert sandbox.ledger.in_flight_overlaps == 0
    assert sandbox.ledger.check(updates * 2).ok
    assert sandbox.ledger.check_imports("orders", rows).ok


@asynccontextmanager
async def answering(answer: Callable[[list[str], str], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Serve imports by a function of the rows' ids and the ``Request-ID``."""

    async def handle(request: web.Request) -> web.Response:
        rows = json.loads(await request.read())["data"]
        return await answer([row["external_id"] for row in rows], request.headers["Request-ID"])

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


OK = {"error": 0, "error_text": ""}


async def test_a_batch_in_doubt_goes_whole_under_its_id_whatever_was_too_large_meanwhile(connect, tmp_path):
    rows = [order(number, region="x" * (1000 if number <= 4 else 800)) for number in range(1, 9)]
    ids = [row["external_id"] for row in rows]
    seen: list[tuple[list[str], str]] = []
    speaks = asyncio.Event()

    async def answer(given: list[str], request_id: str) -> web.Response:
        seen.append((given, request_id))
        await speaks.wait()
        if given == ids[:4]:
            return web.Response(status=413)
        return web.json_response(OK)

    async with answering(answer) as url:
        first = connect(url, concurrency=2).market.orders.import_orders(
            rows, batch_size=4, journal=tmp_path / "j", deadline=0.3
        )
        assert states((await first).outcomes) == ["unknown"] * 8
        speaks.set()
        assert (
            await connect(url, concurrency=1).market.orders.import_orders(rows, batch_size=4, journal=tmp_path / "j")
        ).ok
    whole = [request_id for given, request_id in seen if given == ids[4:]]
    assert len(whole) == 2
    assert len(set(whole)) == 1
    assert not [given for given, _ in seen if given in (ids[4:6], ids[6:])]


async def test_the_parts_of_a_refused_batch_that_are_never_sent_are_rejected_and_not_unsent(connect):
    async def answer(given: list[str], request_id: str) -> web.Response:
        return web.json_response({"error": 400, "error_text": "some rows"})

    async with answering(answer) as url:
        report = await connect(url, concurrency=1).market.orders.import_orders(
            orders_of(40), batch_size=20, on_refused="split", stop_after=FailureLimit(count=2)
        )
    refused = [outcome for outcome in report if outcome.state == "rejected"]
    assert len(refused) >= 20, "the server has had these rows"
    assert {outcome.attempts for outcome in refused} == {1}
    assert all(outcome.request_id for outcome in refused)
    assert states(report.outcomes[:20]) == ["rejected"] * 20
