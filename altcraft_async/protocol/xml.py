"""The XML codec: envelopes under a root ``<xml>``, arrays as repeated elements.

The only module that knows xmltodict. Reading is strict: no DOCTYPE and so no
entities of its own, no attributes, a bounded depth. Everything is text in XML,
so the caller turns numbers into numbers; blanks around a text are not kept.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn
from xml.parsers import expat

import xmltodict

from altcraft_async.errors import ConfigurationError, UnreadableResponseError
from altcraft_async.protocol.plain import plain_decimal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from altcraft_async.protocol.values import JSON

__all__ = [
    "CONTENT_TYPE",
    "decode",
    "encode",
    "encode_row",
    "encode_rows",
    "join_rows",
    "length_of_rows",
    "split_rows",
    "with_rows",
    "writer",
]

CONTENT_TYPE = "application/xml"

_STARTS = (
    "A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME = re.compile(f"[{_STARTS}][{_STARTS}0-9.\xb7\u0300-\u036f\u203f\u2040-]*")
"""XML's names, without the colon: that is for namespaces."""

_MAX_DEPTH = 32
"""No answer of the guide is deeper than 6; the cap keeps a hostile one from costing memory."""


class _ShallowParser:
    """An expat parser that gives up at the first element that is too deep, before it costs anything."""

    __slots__ = ("_depth", "_parser")

    def __init__(self, parser: expat.XMLParserType) -> None:
        object.__setattr__(self, "_parser", parser)
        object.__setattr__(self, "_depth", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def __setattr__(self, name: str, value: Any) -> None:
        step = {"StartElementHandler": 1, "EndElementHandler": -1}.get(name)
        setattr(self._parser, name, value if step is None else self._counting(value, step))

    def _counting(self, handler: Callable[..., None], step: int) -> Callable[..., None]:
        def count(*args: Any) -> None:
            depth = self._depth + step
            if depth > _MAX_DEPTH:
                msg = f"elements are nested deeper than {_MAX_DEPTH}"
                raise ValueError(msg)
            object.__setattr__(self, "_depth", depth)
            handler(*args)

        return count


class _StrictExpat:
    """Makes expat parsers that refuse a DOCTYPE and deep nesting."""

    @staticmethod
    def ParserCreate(*args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the name xmltodict calls
        parser = expat.ParserCreate(*args, **kwargs)
        parser.StartDoctypeDeclHandler = _refuse_doctype
        return _ShallowParser(parser)


def _refuse_doctype(*_: object) -> NoReturn:
    msg = "a DOCTYPE is not allowed"
    raise ValueError(msg)


def encode(fields: Mapping[str, JSON]) -> bytes:
    """Write the body of a request: ``<xml>`` with an element for each field.

    Lists become repeated elements, booleans ``true`` and ``false``, None an
    empty element. Raises `ConfigurationError` for a name, as of a custom field, that
    no element can have.
    """
    for value in fields.values():
        if type(value) is not str:
            _check_names(value)
    return _unparsed({"xml": _with_plain_numbers(fields)}, full_document=True)


def _unparsed(tree: dict[str, Any], *, full_document: bool) -> bytes:
    """Write a tree; what a reader would take for the end of a line goes as it can be read back."""
    text: str = xmltodict.unparse(tree, full_document=full_document, short_empty_elements=True)
    return text.replace("\r", "&#13;").encode()


def _with_plain_numbers(value: Any) -> Any:
    """Return the same with texts for numbers that would be written with an exponent, as no amount is."""
    if isinstance(value, dict):
        return {name: inner if type(inner) is str else _with_plain_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_plain_numbers(inner) for inner in value]
    return plain_decimal(value) if isinstance(value, float) else value


def _check_names(value: JSON) -> None:
    """Raise for what JSON could not carry either, and for a name that no element can have."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not _is_name(name):
                msg = f"{name!r} cannot be the name of an XML element; send it in JSON (request_format='json')"
                raise ConfigurationError(msg, field="request_format")
            if type(inner) is not str:
                _check_names(inner)
    elif isinstance(value, list | tuple):
        for item in value:
            if type(item) is not str:
                _check_names(item)
    elif isinstance(value, float) and not math.isfinite(value):
        msg = f"{value} is no number that can be sent"
        raise ValueError(msg)
    elif not isinstance(value, str | int | float | None):
        msg = f"Object of type {type(value).__name__} cannot be sent; give it as text, or its to_dict()"
        raise TypeError(msg)


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def writer(fixed: Mapping[str, JSON]) -> Callable[[Mapping[str, JSON]], bytes]:
    """Return a function that writes a call's fields behind the `fixed` ones.

    A field of the call takes the place of a fixed one with its name. The function
    raises what `encode` raises.
    """

    def write(fields: Mapping[str, JSON]) -> bytes:
        return encode({**fixed, **fields})

    return write


_UNFIT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
"""What no XML can hold, however it is written."""
_END = b"</xml>"
_DATA_TAG = re.compile(rb"<(?P<end>/?)data(?P<empty>/?)>")
"""A row may have a field of that name too."""


def encode_row(row: Mapping[str, JSON]) -> bytes:
    """Write one row of a batch: an element ``<data>``.

    Raises `ValueError` or `TypeError` for what XML cannot carry, and `ConfigurationError` for a name that
    no element can have.
    """
    fields = row if type(row) is dict else dict(row)
    _check_names(fields)
    body = _unparsed({"data": _with_plain_numbers(fields)}, full_document=False)
    if _UNFIT.search(body):
        msg = "a text has a control character, which XML cannot carry"
        raise ValueError(msg)
    return body


def encode_rows(rows: list[dict[str, JSON]]) -> bytes:
    """Write the rows of a batch at once, as `join_rows` of each one does; raises what `encode_row` raises."""
    return join_rows(map(encode_row, rows))


def join_rows(rows: Iterable[bytes]) -> bytes:
    """Put the rows of a batch together, as they stand in its call."""
    return b"".join(rows)


def length_of_rows(rows: bytes, count: int) -> int:
    """Say how many bytes the `count` rows of a batch are, one by one."""
    del count
    return len(rows)


def split_rows(rows: bytes) -> list[bytes]:
    """Return each of the rows of a batch as it was written."""
    found: list[bytes] = []
    depth = start = 0
    for tag in _DATA_TAG.finditer(rows):
        if not tag["empty"]:
            depth += -1 if tag["end"] else 1
        if not depth:
            found.append(rows[start : tag.end()])
            start = tag.end()
    return found


def with_rows(body: bytes, rows: bytes) -> bytes:
    """Return a written body with the rows of a batch behind its fields."""
    return b"".join((body.removesuffix(_END), rows, _END))


def decode(body: bytes) -> dict[str, JSON]:
    """Read the body of an answer, in UTF-8: what stands under its root ``<xml>``.

    What the declaration says of the encoding is passed over: the caller has
    settled it.

    Texts stay texts, an empty element is None, and only an element that stands several
    times is a list: which names are arrays, the method knows
    (`altcraft_async.protocol.methods.Method.arrange`). Raises `UnreadableResponseError`,
    which never quotes the body.
    """
    reason = None
    try:
        tree = xmltodict.parse(body, encoding="utf-8", expat=_StrictExpat, xml_attribs=False)
    except (expat.ExpatError, ValueError) as error:
        reason = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else "not allowed here"
    if reason is not None:  # raised outside the handler, so that no context clings to it
        msg = f"the answer of {len(body)} bytes is not acceptable XML ({reason})"
        raise UnreadableResponseError(msg)
    root = tree.get("xml")
    if not isinstance(root, dict):
        msg = "the answer's XML root is not <xml> with elements in it"
        raise UnreadableResponseError(msg)
    return root
