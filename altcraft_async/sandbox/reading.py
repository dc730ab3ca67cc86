"""The sandbox's own strict reader of requests and writer of answers, in bytes.

It shares nothing with the client's codec, on purpose: an emulator that used the
same code would agree with its mistakes. A request is refused with a sentence
that names the field and the remedy; see `Refusal`.

API guide: "General information".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from xml.parsers import expat
from xml.sax.saxutils import escape

import xmltodict

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CONTROL", "Fields", "Refusal", "kind_of", "read_body", "refuse", "write_answer"]

Fields: TypeAlias = "dict[str, Any]"
"""What a request says, after its check: names to strings, ints, bools, lists and such mappings."""


class Refusal(Exception):  # noqa: N818 - an answer of the sandbox, not an error of the library
    """The request is refused with this `code` and `text`; one row of an import has its `row_id`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.row_id = ""


def refuse(text: str) -> NoReturn:
    """Refuse the request as incorrect."""
    raise Refusal(400, text)


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def kind_of(value: object) -> str:
    """Name the kind of a value for people."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


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
            refuse(f"the charset must be UTF-8, not {charset[1]}")
    if kind == "application/json":
        return _read_json(body), False
    if kind in {"application/xml", "text/xml"}:
        return _read_xml(body), True
    return refuse(f"Content-Type must be application/json or application/xml, not {kind[:80] or 'absent'}")


def _once(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        refuse(f"the JSON has the field {next(n for n in names if names.count(n) > 1)!r} twice in one object")
    return fields


def _constant(name: str) -> NoReturn:
    refuse(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant)


def _read_json(body: bytes) -> Fields:
    try:
        fields = _JSON.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        refuse(f"the body is not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        refuse(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        refuse("the JSON is nested too deeply")
    if not isinstance(fields, dict):
        refuse(f"the body must be a JSON object, not {kind_of(fields)}")
    return fields


class _StrictExpat:
    """Stands in for the expat module; its parsers refuse a DOCTYPE, and with it every entity."""

    ParserCreate = None
    ExpatError = expat.ExpatError

    @staticmethod
    def create(*arguments: Any) -> expat.XMLParserType:
        parser = expat.ParserCreate(*arguments)

        def doctype(*_: object) -> None:
            refuse("the XML has a DOCTYPE; send it without")

        parser.StartDoctypeDeclHandler = doctype
        return parser


_StrictExpat.ParserCreate = _StrictExpat.create  # type: ignore[assignment]
_ARRAYS = frozenset({
    "barcode", "categories", "custom_fields", "custom_line_statuses", "data", "external_ids", "ids", "lines",
    "pictures", "regional_data", "tags",
})  # fmt: skip
"""Elements that may stand several times: arrays are repeated siblings without a wrapper."""


def _read_xml(body: bytes) -> Fields:
    try:
        document = xmltodict.parse(body, expat=_StrictExpat)
    except expat.ExpatError as error:
        refuse(f"the body is not XML: {expat.ErrorString(error.code)} at line {error.lineno}, column {error.offset}")
    except (ValueError, LookupError):
        refuse("the body is not XML that can be read: entities and odd encodings are refused")
    except RecursionError:
        refuse("the XML is nested too deeply")
    ((root, fields),) = document.items()
    if root != "xml":
        refuse(f"the XML's root element must be <xml>, not <{root}>")
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        refuse("the element <xml> must hold elements, not text")
    _check_elements(fields)
    return fields


def _check_elements(fields: Fields) -> None:
    for name, value in fields.items():
        if name.startswith(("@", "#")):
            what = f"the attribute {name[1:]!r}" if name.startswith("@") else "text between elements"
            refuse(f"the XML has {what}; give every value as an element of its own")
        if isinstance(value, list) and name not in _ARRAYS:
            refuse(f"the element <{name}> stands {len(value)} times; it is no array")
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                _check_elements(item)
            elif isinstance(item, str) and len(item) > 1 and item[0] == item[-1] == '"':
                refuse(f"the element <{name}> has literal double quotes around its text; leave them out")


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


def _written(found: re.Match[str]) -> str:
    """Write a line break or a tab so that a reader gets it back, and what XML cannot carry as a mark."""
    letter = found[0]
    return f"&#{ord(letter)};" if letter in "\t\n\r" or "\x7f" <= letter <= "\x9f" else "\N{REPLACEMENT CHARACTER}"


def _write_elements(items: Iterable[tuple[str, object]], parts: list[str]) -> None:
    for name, value in items:
        if isinstance(value, list | tuple) and value:
            _write_elements(((name, item) for item in value), parts)
            continue
        if value in (None, [], ()):  # empty and null are self-closing
            parts.append(f"<{name}/>")
            continue
        parts.append(f"<{name}>")
        if isinstance(value, Mapping):
            _write_elements(value.items(), parts)
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            parts.append(CONTROL.sub(_written, escape(text)))
        parts.append(f"</{name}>")
