"""The sandbox's own strict reader of requests and writer of answers.

It shares nothing with the client's codec, on purpose: an emulator that used the
same code would agree with its mistakes. A request is refused with a sentence
that names the field and the remedy; see `Refusal`.

API guide: "General information", "Update order line status", "Import orders",
"Get order status".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from xml.parsers import expat
from xml.sax.saxutils import escape

import xmltodict

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["METHODS", "Fields", "Refusal", "read_body", "read_fields", "write_answer"]

Fields: TypeAlias = "dict[str, Any]"
"""What a request says, after its check: names to strings, ints, bools, lists and such mappings."""


class Refusal(Exception):  # noqa: N818 - an answer of the sandbox, not an error of the library
    """The request is refused with this `code` and `text`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def _refuse(text: str) -> NoReturn:
    raise Refusal(400, text)


# -- from bytes to fields ---------------------------------------------------------------------------


def read_body(content_type: str, body: bytes) -> tuple[Fields, bool]:
    """Return the fields of a request as they stand, and whether it was XML.

    `content_type` is the header's whole value. Raises `Refusal` (400).
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if parameters:
        charset = re.search(r'charset\s*=\s*"?([\w-]+)', parameters, re.IGNORECASE)
        if charset and charset[1].lower() not in {"utf-8", "utf8"}:
            _refuse(f"the charset must be UTF-8, not {charset[1]}")
    if kind == "application/json":
        return _read_json(body), False
    if kind in {"application/xml", "text/xml"}:
        return _read_xml(body), True
    return _refuse(f"Content-Type must be application/json or application/xml, not {kind[:80] or 'absent'}")


def _once(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        _refuse(f"the JSON has the field {next(n for n in names if names.count(n) > 1)!r} twice in one object")
    return fields


def _constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant)


def _read_json(body: bytes) -> Fields:
    try:
        fields = _JSON.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        _refuse(f"the body is not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        _refuse(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        _refuse("the JSON is nested too deeply")
    if not isinstance(fields, dict):
        _refuse(f"the body must be a JSON object, not {_kind(fields)}")
    return fields


class _StrictExpat:
    """Stands in for the expat module; its parsers refuse a DOCTYPE, and with it every entity."""

    ParserCreate = None
    ExpatError = expat.ExpatError

    @staticmethod
    def create(*arguments: Any) -> expat.XMLParserType:
        parser = expat.ParserCreate(*arguments)

        def refuse(*_: object) -> None:
            _refuse("the XML has a DOCTYPE; send it without")

        parser.StartDoctypeDeclHandler = refuse
        return parser


_StrictExpat.ParserCreate = _StrictExpat.create  # type: ignore[assignment]
_ARRAYS = ("data", "lines", "tags", "custom_fields", "custom_line_statuses")
"""Elements that may stand several times: arrays are repeated siblings without a wrapper."""


def _read_xml(body: bytes) -> Fields:
    try:
        document = xmltodict.parse(body, expat=_StrictExpat)
    except expat.ExpatError as error:
        _refuse(f"the body is not XML: {expat.ErrorString(error.code)} at line {error.lineno}, column {error.offset}")
    except (ValueError, LookupError):
        _refuse("the body is not XML that can be read: entities and odd encodings are refused")
    except RecursionError:
        _refuse("the XML is nested too deeply")
    ((root, fields),) = document.items()
    if root != "xml":
        _refuse(f"the XML's root element must be <xml>, not <{root}>")
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        _refuse("the element <xml> must hold elements, not text")
    _check_elements(fields)
    return fields


def _check_elements(fields: Fields) -> None:
    for name, value in fields.items():
        if name.startswith(("@", "#")):
            what = f"the attribute {name[1:]!r}" if name.startswith("@") else "text between elements"
            _refuse(f"the XML has {what}; give every value as an element of its own")
        if isinstance(value, list) and name not in _ARRAYS:
            _refuse(f"the element <{name}> stands {len(value)} times; it is no array")
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                _check_elements(item)
            elif isinstance(item, str) and len(item) > 1 and item[0] == item[-1] == '"':
                _refuse(f"the element <{name}> has literal double quotes around its text; leave them out")


# -- the shapes of the methods ----------------------------------------------------------------------

Check: TypeAlias = Callable[[str, Any, bool], Any]
"""``(path of the field, value, loose) -> value``; `loose`: everything came as text, from XML."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _text(path: str, value: Any, loose: bool) -> str:
    if value is None and loose:
        return ""
    if not isinstance(value, str):
        _refuse(f"{path}: must be a string, not {_kind(value)}")
    return value


def _id(path: str, value: Any, loose: bool) -> str:
    text = _text(path, value, loose)
    if not text or text.isspace():
        _refuse(f"{path}: must not be empty")
    if not text.isprintable() and _CONTROL.search(text):
        _refuse(f"{path}: must not hold control characters")
    return text


def _one_of(*allowed: str) -> Check:
    def check(path: str, value: Any, loose: bool) -> str:
        text = _text(path, value, loose)
        if text not in allowed:
            _refuse(f"{path}: must be one of {', '.join(allowed)}, not {text[:80]!r}")
        return text

    return check


def _bool(path: str, value: Any, loose: bool) -> bool:
    if loose and value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        _refuse(f"{path}: must be true or false")
    return value


def _int(path: str, value: Any, loose: bool) -> int:
    if loose and isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(f"{path}: must be a whole number, not {_kind(value)}")
    return value


def _amount(path: str, value: Any, loose: bool) -> str:
    text = _text(path, value, loose)
    if not re.fullmatch(r"-?[0-9]+([.,][0-9]+)?", text):
        _refuse(f"{path}: must be an amount as a string of digits, for example '199.90'")
    return text


def _object(path: str, value: Any, loose: bool) -> Fields:
    if value is None and loose:
        return {}
    if not isinstance(value, dict):
        _refuse(f"{path}: must be an object, not {_kind(value)}")
    return value


def _array(item: Check, *, least: int = 0) -> Check:
    def check(path: str, value: Any, loose: bool) -> list[Any]:
        if loose and not isinstance(value, list):
            value = [] if value is None else [value]
        if not isinstance(value, list):
            _refuse(f"{path}: must be an array, not {_kind(value)}")
        if len(value) < least:
            _refuse(f"{path}: must have at least {least} entry")
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

    def read(self, prefix: str, fields: Fields, loose: bool) -> Fields:
        for name in self._required:
            if name not in fields:
                _refuse(f"{prefix}{name}: required, and not there")
        checks = self._fields
        read = {}
        for name, value in fields.items():
            check = checks.get(name)
            if check is not None:
                read[name] = check(prefix + name, value, loose)
            elif self._open:
                read[name] = _text(prefix + name, value, loose)
            else:
                _refuse(f"{prefix}{name[:80]}: unknown field; known are {', '.join(checks)}")
        return read


_COMMON: Mapping[str, Check] = {"token": _text, "format": _one_of("json", "xml")}

_LINE = _Shape(
    {"external_id": _id},
    {
        "status": _id,
        "product": _id,
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
        _refuse(f"{path}.custom_fields: stands several times; it is one element")
    order = _ORDER(path, value, loose)
    matching = order.get("matching", "email")
    others = order.keys() - _ORDER.names
    if matching == "email" and others != {"email"}:
        odd = sorted(others - {"email"})
        _refuse(
            f"{path}.{odd[0][:80]}: unknown field of an order matched by email"
            if odd
            else f"{path}.email: required where matching is 'email' (the default), and not there"
        )
    if not others:
        _refuse(f"{path}: matching {matching[:80]!r} needs its own field beside it, and there is none")
    names = [line["external_id"] for line in order["lines"]]
    if len(set(names)) != len(names):
        _refuse(f"{path}.lines: two lines have the same external_id")
    return order


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
        "default_value": lambda _path, value, _loose: value,
    },
    {"enum_values": _object},
)

METHODS: Mapping[str, _Shape] = {
    "market/orders/update_order_line_status": _Shape(
        {"order_external_id": _id, "order_line_external_id": _id, "status_external_id": _id}, _COMMON
    ),
    "market/orders/import": _Shape(
        {"data": _array(_order, least=1)},
        {
            **_COMMON,
            "custom_fields": _array(_CUSTOM_FIELD),
            "custom_line_statuses": _array(_CUSTOM_STATUS),
            "skip_triggers": _bool,
        },
    ),
    "market/orders/get_status": _Shape({}, {**_COMMON, "id": _int, "external_id": _id}),
}
"""The methods of this sandbox and the shapes of their requests."""


def read_fields(method: str, fields: Fields, *, xml: bool) -> Fields:
    """Return the fields of a request, each checked and of its right type; raises `Refusal` (400)."""
    read = METHODS[method].read("", fields, xml)
    if method == "market/orders/get_status" and ("id" in read) == ("external_id" in read):
        _refuse("id, external_id: give exactly one of them")
    return read


# -- from fields to bytes ---------------------------------------------------------------------------

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def write_answer(fields: Mapping[str, object], *, xml: bool) -> bytes:
    """Return an answer's body in the chosen format."""
    if not xml:
        return _dumps(fields).encode("utf-8", "replace")
    parts = ['<?xml version="1.0" encoding="UTF-8"?><xml>']
    _write_elements(fields.items(), parts)
    parts.append("</xml>")
    return "".join(parts).encode("utf-8", "replace")


def _write_elements(items: Iterable[tuple[str, object]], parts: list[str]) -> None:
    for name, value in items:
        if isinstance(value, (list, tuple)):
            _write_elements(((name, item) for item in value), parts)
            continue
        parts.append(f"<{name}>")
        if isinstance(value, Mapping):
            _write_elements(value.items(), parts)
        elif value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            parts.append(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", escape(text)))
        parts.append(f"</{name}>")
