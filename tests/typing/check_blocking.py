"""What a type checker sees of the blocking client; read by mypy and pyright in strict mode, never run."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self, assert_type

from altcraft_async import (
    Batch,
    ClientStatistics,
    FailureLimit,
    LineStatusUpdate,
    Outcome,
    RawResponse,
    Report,
    Settings,
    UpdatedOrderLine,
)
from altcraft_async.blocking import AltcraftClient, Listing, Market, Orders, Products, Skus
from altcraft_async.market import Page
from altcraft_async.market.reconcile import Reconciliation
from altcraft_async.protocol.values import JSON
from altcraft_async.values import Order, OrderStatus, Product, Sku


@dataclass
class Shipment:
    """A row of the user's own: an object with the three names."""

    order_external_id: int
    order_line_external_id: str
    status_external_id: str


class OwnClient(AltcraftClient):
    """A client of the user's own."""

    def again(self) -> Self:
        return self.with_options(timeout=3.0, max_retries=2)


def make_clients() -> None:
    with AltcraftClient("https://altcraft.example", "token", concurrency=5, rate=None) as altcraft:
        assert_type(altcraft, AltcraftClient)
        assert_type(altcraft.base_url, str)
        assert_type(altcraft.settings, Settings)
        assert_type(altcraft.closed, bool)
        assert_type(altcraft.statistics(), ClientStatistics)
        assert_type(altcraft.market, Market)
        assert_type(altcraft.market.orders, Orders)
        assert_type(altcraft.market.products, Products)
        assert_type(altcraft.market.skus, Skus)
    assert_type(AltcraftClient.from_env(token=lambda: "token", timeout=3), AltcraftClient)
    assert_type(AltcraftClient.from_settings("altcraft.toml", profile="staging", rate=5), AltcraftClient)
    assert_type(OwnClient.from_env().again(), OwnClient)
    altcraft.close()


def send(altcraft: AltcraftClient, shipments: list[Shipment], records: Iterable[dict[str, str]]) -> None:
    orders = altcraft.market.orders
    assert_type(orders.update_order_line_status("o", "l", "new", request_id="r", deadline=1), UpdatedOrderLine)
    assert_type(orders.update_order_line_statuses(shipments, journal="run.journal"), Report[Shipment])
    assert_type(orders.update_order_line_statuses(records, stop_after=FailureLimit(count=1)), Report[dict[str, str]])
    stream = orders.stream_order_line_statuses([LineStatusUpdate("o", "l", "s")], coalesce="latest", window=10)
    assert_type(stream, Generator[Outcome[LineStatusUpdate], None, None])
    for outcome in orders.stream_order_line_statuses(shipments):
        assert_type(outcome.row, Shipment | None)
    stream.close()


def use_the_market(altcraft: AltcraftClient, rows: list[Order], mappings: Iterator[dict[str, object]]) -> None:
    market = altcraft.market
    assert_type(market.orders.import_orders(rows, skip_triggers=True, batch_size=100), Report[Order])
    assert_type(
        market.products.stream_import_products(mappings, categories=[{"external_id": "c"}]),
        Generator[Outcome[dict[str, object]], None, None],
    )
    assert_type(market.orders.preview_import_orders(rows), Iterator[Batch | Outcome[Order]])
    assert_type(market.orders.list(endpoint="shop", limit=10), Listing[Order])
    assert_type(list(market.skus.list()), list[Sku])
    for page in market.products.list(deadline=1.0).pages("cursor"):
        assert_type(page, Page[Product])
    assert_type(market.orders.get_status(external_id="o"), OrderStatus)
    assert_type(market.products.delete(ids=[1], external_ids={"a"}), int | None)
    assert_type(market.orders.reconcile([("o", "l", "new")], by="list"), Reconciliation)
    market.orders.delete(id=5, request_id="r")
    assert_type(altcraft.call("market/orders/get_status", {"id": 5}), dict[str, JSON])


def raw_responses(altcraft: AltcraftClient) -> None:
    raw = altcraft.with_raw_response(altcraft.market.orders.update_order_line_status, "o", "l", "new", deadline=3)
    assert_type(raw, RawResponse[UpdatedOrderLine])
    assert_type(raw.headers, Mapping[str, str])
