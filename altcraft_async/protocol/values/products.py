"""Products, and the variants of them that are sold (SKU)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async.protocol.values.schema import (
    ANY,
    FIELDS,
    FLAG,
    ID,
    MONEY,
    TEXT,
    WHOLE,
    Value,
    formed,
    many,
    one,
    text_up_to,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altcraft_async.protocol.values.lines import JSON

__all__ = ["Product", "RegionalData", "Sku"]

_LONGEST_DESCRIPTION = 1000


@attrs.frozen(kw_only=True, field_transformer=formed)
class RegionalData(Value):
    """The differences of a product in one region.

    Guide: "Import products", "Import SKU".
    """

    external_id: str = attrs.field(metadata=ID)
    price: str | None = attrs.field(default=None, metadata=MONEY)
    old_price: str | None = attrs.field(default=None, metadata=MONEY)
    currency: str | None = attrs.field(default=None, metadata=ID)
    count: int | None = attrs.field(default=None, metadata=WHOLE)
    is_available: bool | None = attrs.field(default=None, metadata=FLAG)
    delivery: JSON = attrs.field(default=None, metadata=ANY)
    custom_fields: Mapping[str, JSON] = attrs.field(factory=dict, metadata=FIELDS)


@attrs.frozen(kw_only=True, field_transformer=formed)
class _Goods(Value):
    """What products and SKU have in common."""

    external_id: str = attrs.field(metadata=ID)
    name: str = attrs.field(metadata=ID)
    price: str | None = attrs.field(default=None, metadata=MONEY)
    old_price: str | None = attrs.field(default=None, metadata=MONEY)
    currency: str | None = attrs.field(default=None, metadata=ID)
    tags: Sequence[str] = attrs.field(default=(), metadata=many(TEXT))
    manufacturer_name: str | None = attrs.field(default=None, metadata=TEXT)
    url: str | None = attrs.field(default=None, metadata=TEXT)
    description: str | None = attrs.field(default=None, metadata=text_up_to(_LONGEST_DESCRIPTION))
    pictures: Sequence[str] = attrs.field(default=(), metadata=many(TEXT))
    categories: Sequence[JSON] = attrs.field(default=(), metadata=many(ANY))
    count: int | None = attrs.field(default=None, metadata=WHOLE)
    expiration_time: str | None = attrs.field(default=None, metadata=TEXT)
    is_available: bool | None = attrs.field(default=None, metadata=FLAG)
    delivery: JSON = attrs.field(default=None, metadata=ANY)
    barcode: Sequence[int] = attrs.field(default=(), metadata=many(WHOLE))
    manufacturer_warranty: JSON = attrs.field(default=None, metadata=ANY)
    custom_fields: Mapping[str, JSON] = attrs.field(factory=dict, metadata=FIELDS)
    regional_data: Sequence[RegionalData] = attrs.field(default=(), metadata=many(one(RegionalData)))


@attrs.frozen(kw_only=True, field_transformer=formed)
class Sku(_Goods):
    """One variant of a product that is sold.

    An import needs `product_external_id`; lists leave it out, and it is then empty. The fields from `categories` on
    are in no table of the guide, only in an example.

    Guide: "Import SKU", "Get SKU list".
    """

    product_external_id: str = attrs.field(metadata=ID)


@attrs.frozen(kw_only=True, field_transformer=formed)
class Product(_Goods):
    """A product.

    Lists have its `sku`. The fields from `categories` on are in no table of the guide, only in an example.

    Guide: "Import products", "Get products list".
    """

    sku: Sequence[Sku] = attrs.field(default=(), metadata=many(one(Sku)))
