"""The shapes of the requests: which fields each method takes, and how each is checked.

The sandbox's own, read from the guide a second time; see `altcraft_async.sandbox.reading`.

API guide: the pages of Market → Orders, Products and SKU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from altcraft_async.sandbox.reading import CONTROL, Refusal, kind_of, refuse

if TYPE_CHECKING:
    from altcraft_async.sandbox.reading import Fields

__all__ = ["IMPORTS", "METHODS", "READS", "read_fields"]

Check: TypeAlias = Callable[[str, Any, bool], Any]
"""``(path of the field, value, loose) -> value``; `loose`: everything came as text, from XML."""


def _text(path: str, value: Any, loose: bool) -> str:
    if value is None and loose:
        return ""
    if not isinstance(value, str):
        refuse(f"{path}: must be a string, not {kind_of(value)}")
    return value


def _id(path: str, value: Any, loose: bool) -> str:
    text = _text(path, value, loose)
    if not text or text.isspace():
        refuse(f"{path}: must not be empty")
    if not text.isprintable() and CONTROL.search(text):
        refuse(f"{path}: must not hold control characters")
    return text


def _one_of(*allowed: str) -> Check:
    def check(path: str, value: Any, loose: bool) -> str:
        text = _text(path, value, loose)
        if text not in allowed:
            refuse(f"{path}: must be one of {', '.join(allowed)}, not {text[:80]!r}")
        return text

    return check


def _bool(path: str, value: Any, loose: bool) -> bool:
    if loose and value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        refuse(f"{path}: must be true or false")
    return value


def _int(path: str, value: Any, loose: bool) -> int:
    if loose and isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(f"{path}: must be a whole number, not {kind_of(value)}")
    return value


def _amount(path: str, value: Any, loose: bool) -> str:
    text = _text(path, value, loose)
    if not re.fullmatch(r"-?[0-9]+([.,][0-9]+)?", text):
        refuse(f"{path}: must be an amount as a string of digits, for example '199.90'")
    return text


def _object(path: str, value: Any, loose: bool) -> Fields:
    if value is None and loose:
        return {}
    if not isinstance(value, dict):
        refuse(f"{path}: must be an object, not {kind_of(value)}")
    return value


def _array(item: Check, *, least: int = 0) -> Check:
    def check(path: str, value: Any, loose: bool) -> list[Any]:
        if loose and not isinstance(value, list):
            value = [] if value is None else [value]
        if not isinstance(value, list):
            refuse(f"{path}: must be an array, not {kind_of(value)}")
        if len(value) < least:
            refuse(f"{path}: must have at least {least} entry")
        return [item(f"{path}[{place}]", entry, loose) for place, entry in enumerate(value)]

    return check


class _Shape:
    """The fields of one kind of object: which there are, which are required, how each is checked."""

    __slots__ = ("_fields", "_open", "_required")

    def __init__(self, required: Mapping[str, Check], optional: Mapping[str, Check], *, extra: bool = False) -> None:
        self._required = tuple(required)
        self._fields = {**required, **optional}
        self._open = extra

    def __call__(self, path: str, value: Any, loose: bool) -> Fields:
        fields = _object(path, value, loose)
        return self.read(f"{path}.", fields, loose)

    @property
    def names(self) -> frozenset[str]:
        """The names of the known fields."""
        return frozenset(self._fields)

    def read(self, prefix: str, fields: Fields, loose: bool, **instead: Check) -> Fields:
        for name in self._required:
            if name not in fields:
                refuse(f"{prefix}{name}: required, and not there")
        checks = {**self._fields, **instead} if instead else self._fields
        read = {}
        for name, value in fields.items():
            check = checks.get(name)
            if check is not None:
                read[name] = check(prefix + name, value, loose)
            elif self._open:
                read[name] = _text(prefix + name, value, loose)
            else:
                refuse(f"{prefix}{name[:80]}: unknown field; known are {', '.join(checks)}")
        return read


_COMMON: Mapping[str, Check] = {"token": _text, "format": _one_of("json", "xml")}

_LINE = _Shape(
    {"external_id": _id},
    {
        "status": _id,
        "product": _id,
        "sku": _id,
        "base_price_per_item": _amount,
        "min_price_per_item": _amount,
        "final_price_per_item": _amount,
        "count": _int,
        "custom_fields": _object,
    },
)
_ORDER = _Shape(
    {
        "external_id": _id,
        "endpoint": _id,
        "status": _one_of("new", "delivered", "paid", "canceled", "part_refunded"),
        "total_price": _amount,
        "currency": _id,
        "lines": _array(_LINE, least=1),
    },
    {
        "matching": _id,
        "tags": _array(_text),
        "delivery_cost": _amount,
        "create_time": _text,
        "update_time": _text,
        "custom_fields": _object,
        "region": _text,
    },
    extra=True,
)


def _order(path: str, value: Any, loose: bool) -> Fields:
    """Check an order; beside its known fields it may have those that its `matching` mode needs."""
    if isinstance(value, dict) and isinstance(value.get("custom_fields"), list) and loose:
        refuse(f"{path}.custom_fields: stands several times; it is one element")
    order = _ORDER(path, value, loose)
    matching = order.get("matching", "email")
    others = order.keys() - _ORDER.names
    if matching == "email" and others != {"email"}:
        odd = sorted(others - {"email"})
        refuse(
            f"{path}.{odd[0][:80]}: unknown field of an order matched by email"
            if odd
            else f"{path}.email: required where matching is 'email' (the default), and not there"
        )
    if not others:
        refuse(f"{path}: matching {matching[:80]!r} needs its own field beside it, and there is none")
    names = [line["external_id"] for line in order["lines"]]
    if len(set(names)) != len(names):
        refuse(f"{path}.lines: two lines have the same external_id")
    return order


def _plain(path: str, value: Any, loose: bool) -> Any:
    del path, loose
    return value


_CUSTOM_STATUS = _Shape(
    {"external_id": _id, "name": _text, "type": _one_of("delivered", "canceled", "refunded", "in_process")}, {}
)
_CUSTOM_FIELD = _Shape(
    {
        "external_id": _id,
        "name": _text,
        "entity_type": _one_of("product", "sku", "order", "line_order"),
        "required": _bool,
        "value_type": _one_of("unicode", "int", "float", "bool", "enum", "date"),
        "default_value": _plain,
    },
    {"enum_values": _object},
)
_CATEGORY = _Shape({"external_id": _id, "name": _id}, {"parent_external_id": _id})


def _description(path: str, value: Any, loose: bool) -> str:
    text = _text(path, value, loose)
    if len(text) > 1000:  # noqa: PLR2004 - the guide's limit
        refuse(f"{path}: must have at most 1000 characters, not {len(text)}")
    return text


_REGIONAL: Mapping[str, Check] = {
    "price": _amount,
    "old_price": _amount,
    "currency": _id,
    "custom_fields": _object,
    "count": _int,
    "is_available": _bool,
    "delivery": _plain,
}
_GOODS: Mapping[str, Check] = {
    **_REGIONAL,
    "tags": _array(_text),
    "manufacturer_name": _text,
    "url": _text,
    "description": _description,
    "pictures": _array(_text),
    "categories": _array(_plain),
    "expiration_time": _text,
    "barcode": _array(_int),
    "manufacturer_warranty": _plain,
    "regional_data": _array(_Shape({"external_id": _id}, _REGIONAL)),
}
_PRODUCT = _Shape({"external_id": _id, "name": _id}, _GOODS)
_SKU = _Shape({"external_id": _id, "name": _id, "product_external_id": _id}, _GOODS)


def _bought(path: str, value: Any, loose: bool) -> Fields:
    line = _LINE(path, value, loose)
    if not {"product", "sku"} & line.keys():
        refuse(f"{path}.product: required where there is no sku, and not there")
    return line


_PREORDER = _Shape(
    {
        "endpoint": _id,
        "status": _id,
        "currency": _id,
        "total_price": _amount,
        "lines": _array(_bought, least=1),
    },
    {"final_total_price": _amount, "delivery_cost": _amount, "create_time": _text, "region": _text},
)


def _whose(path: str, value: Any, loose: bool) -> int | str:
    return value if isinstance(value, int) and not isinstance(value, bool) else _id(path, value, loose)


_WHOSE: Mapping[str, Check] = {"email": _id, "phone": _id, "profile_id": _whose}
_PAGE: Mapping[str, Check] = {**_COMMON, "from_id": _text, "limit": _int}
_GONE = _Shape({}, {**_COMMON, "ids": _array(_int), "external_ids": _array(_id)})


def _imports(row: Check, also: Mapping[str, Check]) -> _Shape:
    return _Shape({"data": _array(row, least=1)}, {**_COMMON, "custom_fields": _array(_CUSTOM_FIELD), **also})


_ROWS: Mapping[str, Check] = {
    "market/orders/import": _order,
    "market/products/import": _PRODUCT,
    "market/sku/import": _SKU,
}
_CATEGORIES: Mapping[str, Check] = {"categories": _array(_CATEGORY)}

METHODS: Mapping[str, _Shape] = {
    "market/orders/update_order_line_status": _Shape(
        {"order_external_id": _id, "order_line_external_id": _id, "status_external_id": _id}, _COMMON
    ),
    "market/orders/import": _imports(_order, {"custom_line_statuses": _array(_CUSTOM_STATUS), "skip_triggers": _bool}),
    "market/orders/list": _Shape({}, {**_PAGE, "endpoint": _id}),
    "market/orders/get_status": _Shape({}, {**_COMMON, "id": _int, "external_id": _id}),
    "market/orders/delete": _Shape(
        {}, {**_COMMON, "id": _int, "external_id": _id, "group_id": _int, "with_fire": _bool}
    ),
    "market/orders/preorder": _Shape(
        {"external_id": _id, "matching": _one_of(*_WHOSE), "data": _PREORDER}, {**_COMMON, **_WHOSE}
    ),
    "market/orders/preorder_commit": _Shape(
        {"external_id": _id, "data": _PREORDER}, {**_COMMON, **_WHOSE, "skip_triggers": _bool}
    ),
    "market/products/import": _imports(_PRODUCT, _CATEGORIES),
    "market/products/list": _Shape({}, _PAGE),
    "market/products/delete": _GONE,
    "market/sku/import": _imports(_SKU, _CATEGORIES),
    "market/sku/list": _Shape({}, _PAGE),
    "market/sku/delete": _GONE,
}
"""The methods of this sandbox and the shapes of their requests."""

IMPORTS = frozenset(_ROWS)
"""The methods that take many rows."""
READS = frozenset({
    "market/orders/list", "market/orders/get_status", "market/orders/preorder", "market/products/list",
    "market/sku/list",
})  # fmt: skip
"""The methods that change nothing."""


def read_fields(method: str, fields: Fields, *, xml: bool, partial: bool = False) -> Fields:
    """Return the fields of a request, each checked and of its right type; raises `Refusal` (400).

    With `partial` a wrong row of an import is not raised: its `Refusal` stands in its place.
    """
    rows = _ROWS.get(method)
    if partial and rows is not None and "data" in fields:
        return METHODS[method].read("", fields, xml, data=_array(_or_refusal(rows), least=1))
    read = METHODS[method].read("", fields, xml)
    if method in _ONE_ORDER and ("id" in read) == ("external_id" in read):
        refuse("id, external_id: give exactly one of them")
    if METHODS[method] is _GONE and not (read.get("ids") or read.get("external_ids")):
        refuse("ids, external_ids: give at least one id")
    if "data" in read and rows is None:
        _check_whose(read)
    return read


_ONE_ORDER = ("market/orders/get_status", "market/orders/delete")


def _check_whose(read: Fields) -> None:
    given = [name for name in _WHOSE if name in read]
    if len(given) != 1:
        refuse(f"{', '.join(_WHOSE)}: give exactly one of them")
    if read.get("matching", given[0]) != given[0]:
        refuse(f"{read['matching']}: required where matching is {read['matching']!r}, and not there")


def _or_refusal(row: Check) -> Check:
    def check(path: str, value: Any, loose: bool) -> Any:
        try:
            return row(path, value, loose)
        except Refusal as refusal:
            if isinstance(value, dict) and isinstance(value.get("external_id"), str):
                refusal.row_id = value["external_id"]
            return refusal

    return check
