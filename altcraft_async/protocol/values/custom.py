"""What an import may define beside its rows: custom fields and statuses, and categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from altcraft_async.protocol.values.schema import ANY, FIELDS, FLAG, ID, TEXT, Value, formed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.protocol.values.lines import JSON

__all__ = ["Category", "CustomField", "CustomLineStatus"]

_EntityType: TypeAlias = Literal["product", "sku", "order", "line_order"] | str  # noqa: PYI051 - an open set
_ValueType: TypeAlias = Literal["unicode", "int", "float", "bool", "enum", "date"] | str  # noqa: PYI051
_StatusType: TypeAlias = Literal["delivered", "canceled", "refunded", "in_process"] | str  # noqa: PYI051


@attrs.frozen(kw_only=True, field_transformer=formed)
class CustomField(Value):
    """The definition of a custom field.

    `enum_values` gives the numbers of the names, where `value_type` is ``"enum"``.

    Guide: "Import orders", "Import products", "Import SKU".
    """

    external_id: str = attrs.field(metadata=ID)
    name: str = attrs.field(metadata=ID)
    entity_type: _EntityType = attrs.field(metadata=ID)
    required: bool = attrs.field(metadata=FLAG)
    value_type: _ValueType = attrs.field(metadata=ID)
    default_value: JSON = attrs.field(metadata=ANY)
    enum_values: Mapping[str, JSON] = attrs.field(factory=dict, metadata=FIELDS)


@attrs.frozen(kw_only=True, field_transformer=formed)
class CustomLineStatus(Value):
    """The definition of a custom status of order lines.

    A line of the same import may have it already.

    Guide: "Import orders".
    """

    external_id: str = attrs.field(metadata=ID)
    name: str = attrs.field(metadata=TEXT)
    type: _StatusType = attrs.field(metadata=ID)


@attrs.frozen(kw_only=True, field_transformer=formed)
class Category(Value):
    """A category of products.

    Guide: "Import products", "Import SKU".
    """

    external_id: str = attrs.field(metadata=ID)
    name: str = attrs.field(metadata=ID)
    parent_external_id: str | None = attrs.field(default=None, metadata=ID)
