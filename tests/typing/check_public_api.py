"""What a type checker sees of the public API; read by mypy and pyright in strict mode, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_type

import aiohttp  # noqa: TC002 - never run

from altcraft_async import (
    Adaptive,
    AltcraftClient,
    AltcraftError,
    APIError,
    Batch,
    BatchError,
    ClientStatistics,
    ConfigurationError,
    DeliveryError,
    FailureLimit,
    InvalidUpdateError,
    LineKey,
    LineStatusUpdate,
    OrderLineStatus,
    OutagePolicy,
    Outcome,
    OutcomeState,
    RawResponse,
    Report,
    RetryPolicy,
    Settings,
    Shared,
    SourceError,
    Timeout,
    UpdatedOrderLine,
    VerdictRules,
)
from altcraft_async.doctor import Check, Finding, Level, diagnose
from altcraft_async.integrations.opentelemetry import OpenTelemetryObserver, propagation
from altcraft_async.integrations.prometheus import PrometheusObserver
from altcraft_async.journal import JournalReader, JournalSummary
from altcraft_async.market import Listing, Market, Page, Products, Skus
from altcraft_async.market.reconcile import Difference, Reconciliation
from altcraft_async.observe import CallEnded, CallEvent, Event, LoggingObserver, Observer, UpdateSettled
from altcraft_async.outbox import DeadLetter, Outbox, OutboxStatistics, OutboxStore, SqliteStore
from altcraft_async.protocol.values import JSON
from altcraft_async.sandbox import Import, LedgerCheck, Readings, Sandbox, mark_of
from altcraft_async.values import (
    Category,
    CustomField,
    CustomLineStatus,
    Order,
    OrderLine,
    OrderStatus,
    Preorder,
    Product,
    Profile,
    RegionalData,
    Sku,
)

Row: TypeAlias = tuple[str, str, str]


class Counting:
    """An observer of the user's own."""

    def __init__(self) -> None:
        self.settled = 0

    def on_event(self, event: Event, /) -> None:
        match event:
            case UpdateSettled(outcome=outcome):
                assert_type(outcome, Outcome[object])
                self.settled += 1
            case CallEnded(state=state):
                assert_type(state, OutcomeState)
            case CallEvent():
                assert_type(event.order_external_id, str | None)
            case _:
                pass


def make_clients(session: aiohttp.ClientSession) -> AltcraftClient:
    observer: Observer = Counting()
    client = AltcraftClient(
        "https://ru.altkraft.com",
        token="t",
        request_format="xml",
        response_format="json",
        token_in="header",
        request_id_header="X-Request-ID",
        timeout=Timeout(connect=1.0, total=5),
        retry_budget=None,
        outage=OutagePolicy(patience=None, call_patience=5.0, fail_fast=True),
        ca_file="ca.pem",
        retry=RetryPolicy(attempts=3, rules=VerdictRules(retriable=frozenset({500}))),
        concurrency=Adaptive(maximum=50),
        rate=10.0,
        max_response_bytes=1000,
        observers=[observer, LoggingObserver(), OpenTelemetryObserver(), PrometheusObserver()],
        session=session,
        trace_configs=[propagation()],
        tls=True,
        trust_env=False,
        allow_insecure=False,
    )
    assert_type(client, AltcraftClient)
    assert_type(AltcraftClient.from_env(), AltcraftClient)
    assert_type(AltcraftClient.from_env({"ALTCRAFT_TOKEN": "t"}, concurrency=5), AltcraftClient)
    assert_type(client.with_options(timeout=1.5, token=lambda: "u", max_retries=3), AltcraftClient)
    assert_type(client.closed, bool)
    return client


async def use_single_calls(client: AltcraftClient) -> None:
    async with client as entered:
        assert_type(entered, AltcraftClient)
    orders = client.market.orders
    line = await orders.update_order_line_status(
        "order_1", "line_1", OrderLineStatus.DELIVERED, request_id="id", deadline=1.0
    )
    assert_type(line, UpdatedOrderLine)
    assert_type(line.status_external_id, str)
    envelope = await client.call("market/orders/get_status", {"external_id": "order_1"}, deadline=1.0)
    assert_type(envelope, dict[str, JSON])
    statistics = client.statistics()
    assert_type(statistics, ClientStatistics)
    assert_type(statistics.in_flight, int)
    assert_type(statistics.rate, float | None)
    await client.aclose()


def rows() -> Iterator[LineStatusUpdate | InvalidUpdateError]:
    yield LineStatusUpdate("o", "l", OrderLineStatus.NEW)
    yield InvalidUpdateError("no", field="x", source="f.csv", line=3)


async def async_rows() -> AsyncIterator[tuple[str, str, str]]:
    yield ("o", "l", "new")


async def use_bulk_calls(client: AltcraftClient) -> None:
    orders = client.market.orders
    updates: list[Row] = [("o", "l", "new"), ("o", "l", OrderLineStatus.DELIVERED)]
    report = await orders.update_order_line_statuses(
        updates,
        deadline=60.0,
        coalesce="latest",
        lane="order",
        window=100,
    )
    assert_type(report, Report[Row])
    assert_type(report.outcomes, Sequence[Outcome[Row]])
    assert_type(report.counts, Mapping[OutcomeState, int])
    assert_type(report.failures, list[Outcome[Row]])
    assert_type(report.ok, bool)
    report.raise_for_failures()
    for source in (rows(), [LineStatusUpdate("o", "l", "new")], {("o", "l", "new")}):
        await orders.update_order_line_statuses(source)
    await orders.update_order_line_statuses(async_rows())

    stream = orders.stream_order_line_statuses(async_rows())
    assert_type(stream, AsyncGenerator[Outcome[Row], None])
    async with aclosing(stream) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome.index, int)
            assert_type(outcome.update, LineStatusUpdate | None)
            assert_type(outcome.state, OutcomeState)
            assert_type(outcome.state.safe_to_resend, str)
            assert_type(outcome.request_id, str | None)
            assert_type(outcome.error, AltcraftError | None)
            if outcome.update is not None:
                assert_type(outcome.update.key, LineKey)


async def handle_errors(client: AltcraftClient) -> None:
    try:
        await client.market.orders.update_order_line_status("o", "l", "new")
    except APIError as error:
        assert_type(error.code, int | None)
        assert_type(error.retry_after, float | None)
    except DeliveryError as error:
        assert_type(error.maybe_applied, bool)
        assert_type(error.request_id, str | None)
        assert_type(error.attempts, int)
    except (ConfigurationError, InvalidUpdateError) as error:
        assert_type(error.field, str | None)
    except SourceError as error:
        assert_type(error.taken, int)
    except BatchError as error:
        assert_type(error.message, str)


def read_settings() -> None:
    settings = Settings.from_toml("")
    assert_type(settings, Settings)
    assert_type(settings.concurrency, int | Adaptive | Shared)
    assert_type(Settings.parse({"rate": "5"}).rate, float | Shared | None)


async def ask_the_doctor() -> None:
    async for finding in diagnose({"ALTCRAFT_TOKEN": "t"}, within=5.0, calls=3, tls=True, token_in="header"):
        assert_type(finding, Finding)
        assert_type(finding.check, Check)
        assert_type(finding.level, Level)
        assert_type(finding.remedy, str | None)
        assert_type(finding.error, AltcraftError | None)


def tell_what_to_do(error: AltcraftError) -> str:
    assert_type(error.effect, str)
    return error.remedy


async def keep_a_journal(client: AltcraftClient) -> None:
    orders = client.market.orders
    report = await orders.update_order_line_statuses(async_rows(), journal="run.journal", retry_failed=True)
    assert_type(report, Report[Row])
    stream = orders.stream_order_line_statuses(async_rows(), journal=Path("run.journal"), extend=True)
    assert_type(stream, AsyncGenerator[Outcome[Row], None])
    with JournalReader("run.journal") as reader:
        assert_type(reader.summary(), JournalSummary)
        assert_type(reader.outcomes(OutcomeState.REJECTED), Iterator[Outcome[object]])


async def keep_an_outbox(client: AltcraftClient, store: OutboxStore) -> None:
    async with Outbox("outbox.db", client, capacity=10, give_up_after=None, standby=False) as outbox:
        assert_type(await outbox.put(("o", "l", "new"), request_id="r", timeout=1.0), str)
        assert_type(outbox.statistics(), OutboxStatistics)
        async for letter in outbox.dead_letters():
            assert_type(letter, DeadLetter)
        assert_type(await outbox.retry([1]), int)
    own: OutboxStore = SqliteStore(Path("outbox.db"), capacity=1)
    assert_type(Outbox(store), Outbox)
    assert_type(Outbox(own), Outbox)


def make_values() -> Order:
    line = OrderLine(external_id="l", status="delivered", product="p", count=2, final_price_per_item="99.95")
    order = Order(
        external_id="o",
        endpoint="shop",
        status="as configured",
        total_price="199.90",
        currency="RUB",
        lines=[line],
        email="a@b.example",
        tags=["one"],
        custom_fields={"gift": True, "nested": [1, {"a": None}]},
        extra={"loyalty": "5"},
    )
    assert_type(order.lines, Sequence[OrderLine])
    assert_type(order.total_price, str)
    assert_type(order.delivery_cost, str | None)
    assert_type(order.profile, Profile | None)
    assert_type(order.profile_id, int | str | None)
    assert_type(order.to_dict(), dict[str, JSON])
    assert_type(Order.from_dict({"external_id": "o", "lines": [line]}), Order)
    assert_type(Order.from_answer(order.to_dict()), Order)
    Category(external_id="c", name="C", parent_external_id=None)
    CustomLineStatus(external_id="lost", name="Lost", type="canceled")
    CustomField(
        external_id="f",
        name="F",
        entity_type="order",
        required=False,
        value_type="enum",
        default_value=None,
        enum_values={"a": 1},
    )
    product = Product(external_id="p", name="P", barcode=[1], regional_data=[RegionalData(external_id="r", price="1")])
    assert_type(product.sku, Sequence[Sku])
    Sku(external_id="s", name="S", product_external_id="p", is_available=True)
    return order


async def use_the_market(client: AltcraftClient) -> None:
    market = client.market
    assert_type(market, Market)
    assert_type(market.orders.list(endpoint="shop", limit=10), Listing[Order])
    async for order in market.orders.list():
        assert_type(order, Order)
    async for page in market.products.list(deadline=1.0).pages("cursor"):
        assert_type(page, Page[Product])
        assert_type(page.items, Sequence[Product])
        assert_type(page.next_from_id, str | None)
    status = await market.orders.get_status(external_id="o", deadline=1.0)
    assert_type(status, OrderStatus)
    assert_type(status.endpoint, str | None)
    await market.orders.get_status(id=5)
    await market.orders.delete(id=5, group_id=1, with_fire=False, request_id="r")
    preorder = Preorder(
        endpoint="shop", status="new", currency="RUB", total_price="1", lines=[OrderLine(external_id="l", sku="s")]
    )
    assert_type(await market.orders.preorder(preorder, external_id="o", email="e"), dict[str, JSON])
    assert_type(
        await market.orders.preorder_commit(
            preorder.to_dict(), external_id="o", profile_id=5, skip_triggers=True, request_id="r"
        ),
        dict[str, JSON],
    )
    assert_type(market.products, Products)
    assert_type(market.skus, Skus)
    assert_type(await market.products.delete(ids=[1], external_ids={"a"}), int | None)
    assert_type(await market.skus.delete(external_ids=("a",)), int | None)
    assert_type([sku async for sku in market.skus.list()], list[Sku])
    found = await market.orders.reconcile([("o", "l", "new")], by="list", endpoint="shop")
    assert_type(found, Reconciliation)
    assert_type(found.differences, Sequence[Difference])
    await market.orders.reconcile([make_values()], bound=10)
    await market.orders.reconcile(async_rows())


def mappings() -> Iterator[Mapping[str, object]]:
    yield {"external_id": "o", "lines": [{"external_id": "l"}]}


async def async_orders() -> AsyncIterator[Order | InvalidUpdateError]:
    yield make_values()


async def import_goods(client: AltcraftClient) -> None:
    orders = client.market.orders
    report = await orders.import_orders(
        [make_values()],
        custom_line_statuses=[CustomLineStatus(external_id="lost", name="Lost", type="canceled")],
        custom_fields=({"external_id": "f", "name": "F"},),
        skip_triggers=True,
        batch_size=500,
        batch_bytes=1_000_000,
        window_bytes=8_000_000,
        on_refused="split",
        timeout=60.0,
        deadline=3600,
        rate=2.0,
        stop_after=FailureLimit(count=5),
        outage=OutagePolicy(patience=60.0),
        journal=Path("import.journal"),
        retry_failed=True,
        extend=True,
    )
    assert_type(report, Report[Order])
    assert_type(report.outcomes[0].row, Order | None)
    stream = orders.stream_import_orders(mappings(), batch_size=100)
    assert_type(stream, AsyncGenerator[Outcome[Mapping[str, object]], None])
    async with aclosing(orders.stream_import_orders(async_orders())) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome.row, Order | InvalidUpdateError | None)
            assert_type(outcome.external_id, str | None)
            assert_type(outcome.batch, Batch | None)
            if outcome.batch is not None:
                assert_type((outcome.batch.first, outcome.batch.rows, outcome.batch.size), tuple[int, int, int])
                assert_type(outcome.batch.answered_by_row, bool)
    planned = orders.preview_import_orders([{"external_id": "o"}], skip_triggers=False, journal="import.journal")
    assert_type(planned, Iterator[Batch | Outcome[dict[str, str]]])
    categories = [Category(external_id="c", name="C")]
    products = await client.market.products.import_products([Product(external_id="p", name="P")], categories=categories)
    assert_type(products, Report[Product])
    sku = Sku(external_id="s", name="S", product_external_id="p")
    assert_type(await client.market.skus.import_skus(iter([sku])), Report[Sku])
    assert_type(client.market.skus.stream_import_skus([sku]), AsyncGenerator[Outcome[Sku], None])


async def compare(client: AltcraftClient) -> None:
    found = await client.market.orders.reconcile([("o", "l", "new")], bound=10, deadline=5.0)
    assert_type(found.ok, bool)
    for difference in found.differences:
        assert_type(difference.order_external_id, str)
        assert_type(difference.order_line_external_id, str | None)
        assert_type(difference.expected, str | None)
        assert_type(difference.found, str | None)


def keep_a_ledger_of_imports() -> None:
    sandbox = Sandbox(tokens={"reader": "read"}, readings=Readings(row_results="data", currencies=["RUB"]))
    row = make_values().to_dict()
    sandbox.import_rows("orders", [row])
    assert_type(sandbox.has("sku", "s"), bool)
    assert_type(sandbox.ledger.imports("orders", "o"), Sequence[Import])
    assert_type(sandbox.ledger.check_imports("orders", [row]), LedgerCheck)
    assert_type(mark_of(row), str)


@dataclass
class Shipment:
    """A row of the user's own: an object with the three names."""

    order_external_id: int
    order_line_external_id: str
    status_external_id: str


async def rows_of_any_shape(client: AltcraftClient, shipments: list[Shipment], records: list[dict[str, str]]) -> None:
    """Each shape is a row, and comes back with its own type."""
    orders = client.market.orders
    assert_type(await orders.update_order_line_statuses(shipments), Report[Shipment])
    assert_type(await orders.update_order_line_statuses(records), Report[dict[str, str]])
    for outcome in await orders.update_order_line_statuses(shipments):
        assert_type(outcome, Outcome[Shipment])
        assert_type(outcome.to_dict(), dict[str, JSON])
    own = LineStatusUpdate(1001, 7, OrderLineStatus.NEW, request_id="mine", tag=object())
    assert_type(own.request_id, str | None)
    assert_type(own.tag, object)


async def raw_responses(client: AltcraftClient) -> None:
    """A raw response has the method's own value, and takes the method's own arguments."""
    raw = await client.with_raw_response(client.market.orders.update_order_line_status, "o", "l", "new", deadline=3)
    assert_type(raw, RawResponse[UpdatedOrderLine])
    assert_type(raw.headers, Mapping[str, str])
    assert_type(AltcraftClient.from_settings("altcraft.toml", profile="staging", rate=5), AltcraftClient)
