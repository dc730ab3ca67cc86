"""The methods of the Market, one row each: where, what goes in, what comes out, what a repeat does.

The resources, the reading of XML and the documents' table are made of these rows.
What the guide leaves open about a method is in ``docs/explanation/unknowns.md``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from altcraft_async.protocol.values import JSON

__all__ = [
    "BY_PATH",
    "COMMIT_PREORDER",
    "DELETE_ORDER",
    "DELETE_PRODUCTS",
    "DELETE_SKUS",
    "GET_ORDER_STATUS",
    "IMPORT_ORDERS",
    "IMPORT_PRODUCTS",
    "IMPORT_SKUS",
    "LIST_ORDERS",
    "LIST_PRODUCTS",
    "LIST_SKUS",
    "METHODS",
    "PREORDER",
    "ROWS",
    "UPDATE_LINE_STATUS",
    "Method",
    "Repeat",
]


class Repeat(enum.Enum):
    """What a call does when it is made a second time and the platform does not recognise it as a repeat."""

    READS = "reads again"
    """It changes nothing: it returns the state at that moment."""
    SAME = "ends in the same state"
    """The second call sets a value that is set already, or deletes a row that is gone."""
    TWICE = "may be applied twice"
    """It spends again: the client repeats such a call in doubt only under an id of the caller's own."""


@attrs.frozen(kw_only=True, eq=False)
class Method:
    """One method of the API.

    `path` stands below ``/api/v1.1/``. `required` and `optional` are the fields of a
    request, apart from ``token`` and ``format``; of the fields in `either` a call has one.
    `payload` is the envelope's key that holds the answer, None for a bare envelope.
    `arrays` are the places of arrays in an answer, each written as names with dots from the
    envelope down: in XML an array of one looks like a single element. `page` is the page of
    the guide, `since` the version of the platform in which the method appeared, "" for as
    far back as the guide goes.
    """

    path: str
    page: str
    required: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    payload: str | None = None
    arrays: tuple[str, ...] = ()
    repeat: Repeat
    since: str = ""

    def arrange(self, payload: dict[str, JSON]) -> None:
        """Make the arrays of a decoded answer lists, in their places: one of XML that stands alone, and an empty one.

        An array that is not there stays away.
        """
        for place in self.arrays:
            _arrange(payload, place.split("."))


def _arrange(value: dict[str, JSON], place: list[str]) -> None:
    name, *inner = place
    if name not in value:
        return
    found = value[name]
    if not isinstance(found, list):
        found = value[name] = [] if found is None else [found]
    if inner:
        for item in found:
            if isinstance(item, dict):
                _arrange(item, inner)


ROWS: Final = ("result", "data")
"""Where an answer may have rows: those of a list, or what an import says of each, as other sections' do."""


def _rows(*arrays: str) -> tuple[str, ...]:
    """Return the places of rows, and of the arrays in each."""
    return tuple(place for name in ROWS for place in (name, *(f"{name}.{array}" for array in arrays)))


UPDATE_LINE_STATUS: Final = Method(
    path="market/orders/update_order_line_status",
    page="Update order line status",
    required=("order_external_id", "order_line_external_id", "status_external_id"),
    payload="data",
    repeat=Repeat.SAME,
)
IMPORT_ORDERS: Final = Method(
    path="market/orders/import",
    page="Import orders",
    required=("data",),
    optional=("custom_fields", "custom_line_statuses", "skip_triggers"),
    arrays=ROWS,
    repeat=Repeat.SAME,
)
LIST_ORDERS: Final = Method(
    path="market/orders/list",
    page="Get orders list",
    optional=("from_id", "limit", "endpoint"),
    payload="result",
    arrays=_rows("tags", "lines"),
    repeat=Repeat.READS,
)
GET_ORDER_STATUS: Final = Method(
    path="market/orders/get_status",
    page="Get order status",
    either=("id", "external_id"),
    payload="result",
    repeat=Repeat.READS,
)
DELETE_ORDER: Final = Method(
    path="market/orders/delete",
    page="Delete order",
    either=("id", "external_id"),
    optional=("group_id", "with_fire"),
    repeat=Repeat.SAME,
)
PREORDER: Final = Method(
    path="market/orders/preorder",
    page="Preorder",
    required=("external_id", "matching", "data"),
    either=("email", "phone", "profile_id"),
    repeat=Repeat.READS,
    since="v75",
)
COMMIT_PREORDER: Final = Method(
    path="market/orders/preorder_commit",
    page="Preorder commit",
    required=("external_id", "data"),
    either=("email", "phone", "profile_id"),
    optional=("skip_triggers",),
    repeat=Repeat.TWICE,
    since="v75",
)
IMPORT_PRODUCTS: Final = Method(
    path="market/products/import",
    page="Import products",
    required=("data",),
    optional=("custom_fields", "categories"),
    arrays=ROWS,
    repeat=Repeat.SAME,
)
LIST_PRODUCTS: Final = Method(
    path="market/products/list",
    page="Get products list",
    optional=("from_id", "limit"),
    payload="result",
    arrays=_rows("sku"),
    repeat=Repeat.READS,
)
DELETE_PRODUCTS: Final = Method(
    path="market/products/delete",
    page="Delete products",
    optional=("ids", "external_ids"),
    payload="deleted_count",
    repeat=Repeat.SAME,
)
IMPORT_SKUS: Final = Method(
    path="market/sku/import",
    page="Import SKU",
    required=("data",),
    optional=("custom_fields", "categories"),
    arrays=ROWS,
    repeat=Repeat.SAME,
)
LIST_SKUS: Final = Method(
    path="market/sku/list",
    page="Get SKU list",
    optional=("from_id", "limit"),
    payload="result",
    arrays=ROWS,
    repeat=Repeat.READS,
)
DELETE_SKUS: Final = Method(
    path="market/sku/delete",
    page="Delete SKU",
    optional=("ids", "external_ids"),
    payload="deleted_count",
    repeat=Repeat.SAME,
)

METHODS: Final = (
    UPDATE_LINE_STATUS,
    IMPORT_ORDERS,
    LIST_ORDERS,
    GET_ORDER_STATUS,
    DELETE_ORDER,
    PREORDER,
    COMMIT_PREORDER,
    IMPORT_PRODUCTS,
    LIST_PRODUCTS,
    DELETE_PRODUCTS,
    IMPORT_SKUS,
    LIST_SKUS,
    DELETE_SKUS,
)
"""All methods of the Market."""

BY_PATH: Final = {method.path: method for method in METHODS}
