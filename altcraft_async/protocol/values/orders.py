"""Orders, as they are imported, listed and calculated beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from altcraft_async.protocol.values.schema import (
    FIELDS,
    ID,
    KEY,
    MONEY,
    TEXT,
    TIME,
    WHOLE,
    Value,
    formed,
    many,
    one,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altcraft_async.protocol.values.lines import JSON

__all__ = ["Order", "OrderLine", "OrderStatus", "Preorder", "Profile"]

_Status: TypeAlias = Literal["new", "confirmed", "delivered", "paid", "canceled", "part_refunded"] | str  # noqa: PYI051
_Matching: TypeAlias = Literal["email", "phone", "profile_id"] | str  # noqa: PYI051
_LineStatus: TypeAlias = (
    Literal["new", "processing", "delivering", "delivered", "canceled", "refunded"] | str  # noqa: PYI051
)


@attrs.frozen(kw_only=True, field_transformer=formed)
class OrderLine(Value):
    """One position of an order: a `product`, or a `sku`, by its external id.

    The guide shows `sku` only in preorders, and does not say which fields an import needs
    beside `external_id`.

    Guide: "Import orders", "Get orders list", "Preorder".
    """

    external_id: str = attrs.field(metadata=ID)
    status: _LineStatus | None = attrs.field(default=None, metadata=ID)
    product: str | None = attrs.field(default=None, metadata=ID)
    sku: str | None = attrs.field(default=None, metadata=ID)
    base_price_per_item: str | None = attrs.field(default=None, metadata=MONEY)
    min_price_per_item: str | None = attrs.field(default=None, metadata=MONEY)
    final_price_per_item: str | None = attrs.field(default=None, metadata=MONEY)
    count: int | None = attrs.field(default=None, metadata=WHOLE)
    currency: str | None = attrs.field(default=None, metadata=ID)
    custom_fields: Mapping[str, JSON] = attrs.field(factory=dict, metadata=FIELDS)


@attrs.frozen(kw_only=True, field_transformer=formed)
class Profile(Value):
    """The profile of a listed order."""

    profile_id: str | None = attrs.field(default=None, metadata=ID)
    xxh: str | None = attrs.field(default=None, metadata=TEXT)


@attrs.frozen(kw_only=True, field_transformer=formed)
class Order(Value):
    """An order.

    For an import it needs the field that matches it to a profile: `email`, or the field of its `matching`, `phone` or
    `profile_id`; the field of another mode goes into ``extra``. An order of a list has its `profile` instead. Amounts
    are decimal texts and stay unchanged; the guide's examples suggest that lists have them in minor units, a hundred
    times those of an import. The statuses are those of the platform, beside those that the guide names.

    Guide: "Import orders", "Get orders list".
    """

    external_id: str = attrs.field(metadata=ID)
    endpoint: str = attrs.field(metadata=ID)
    status: _Status = attrs.field(metadata=ID)
    total_price: str = attrs.field(metadata=MONEY)
    currency: str = attrs.field(metadata=ID)
    lines: Sequence[OrderLine] = attrs.field(metadata=many(one(OrderLine)))
    matching: _Matching | None = attrs.field(default=None, metadata=ID)
    email: str | None = attrs.field(default=None, metadata=ID)
    phone: str | None = attrs.field(default=None, metadata=ID)
    profile_id: int | str | None = attrs.field(default=None, metadata=KEY)
    profile: Profile | None = attrs.field(default=None, metadata=one(Profile))
    tags: Sequence[str] = attrs.field(default=(), metadata=many(TEXT))
    delivery_cost: str | None = attrs.field(default=None, metadata=MONEY)
    create_time: str | None = attrs.field(default=None, metadata=TIME)
    update_time: str | None = attrs.field(default=None, metadata=TIME)
    region: str | None = attrs.field(default=None, metadata=TEXT)
    custom_fields: Mapping[str, JSON] = attrs.field(factory=dict, metadata=FIELDS)

    def _check(self) -> None:
        """Refuse an order that does not say whose it is."""
        if self.profile is not None:
            return
        owners = {"email": self.email, "phone": self.phone, "profile_id": self.profile_id}
        matching = self.matching or "email"
        if owners.get(matching, matching) is None:
            default = "" if self.matching else " (the default)"
            wrong(matching, f"is required where matching is {matching}{default}; give it, or another matching")


@attrs.frozen(kw_only=True, field_transformer=formed)
class OrderStatus(Value):
    """The status of an order, and its touchpoint.

    Guide: "Get order status".
    """

    status: _Status = attrs.field(metadata=ID)
    endpoint: str | None = attrs.field(default=None, metadata=ID)


@attrs.frozen(kw_only=True, field_transformer=formed)
class Preorder(Value):
    """An order that does not exist yet: it is calculated, and then committed.

    Amounts are in major units, like ``"2500.00"``; `total_price` is the sum before discounts. One version of the guide
    requires `final_total_price` too, above all for a commit. Each line needs its `product` or its `sku`.

    Guide: "Preorder", "Preorder commit".
    """

    endpoint: str = attrs.field(metadata=ID)
    status: _Status = attrs.field(metadata=ID)
    currency: str = attrs.field(metadata=ID)
    total_price: str = attrs.field(metadata=MONEY)
    lines: Sequence[OrderLine] = attrs.field(metadata=many(one(OrderLine)))
    final_total_price: str | None = attrs.field(default=None, metadata=MONEY)
    delivery_cost: str | None = attrs.field(default=None, metadata=MONEY)
    create_time: str | None = attrs.field(default=None, metadata=TIME)
    region: str | None = attrs.field(default=None, metadata=TEXT)

    def _check(self) -> None:
        """Refuse a line that does not say what is bought."""
        for place, line in enumerate(self.lines):
            if line.product is None and line.sku is None:
                wrong(f"lines[{place}].product", "is required where the line has no sku; give one of the two")
