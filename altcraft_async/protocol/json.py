"""The JSON codec: envelopes as UTF-8 JSON objects.

Where orjson is installed (the extra ``speed``) it does the work, as far as it
means the same. What it would write or read in another way, or not at all, goes
through the standard library, so nobody can tell which of them was at work, with
one exception: nesting is refused near a thousand levels, and each draws that
line where it likes.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import partial
from json.encoder import encode_basestring
from typing import TYPE_CHECKING
from uuid import UUID

from altcraft_async.errors import UnreadableResponseError

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

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

CONTENT_TYPE = "application/json"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _value_of(value: object) -> object:
    """Return what is written for a value that is none of JSON's, as orjson does by itself."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    msg = f"a {type(value).__name__} is not JSON"
    raise TypeError(msg)


# What holds itself ends in a RecursionError: to look for it would cost every row.
_encode_row = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False, default=_value_of
).encode


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode

_BROKEN = object()
_MARK = b"\xef\xbb\xbf"
_BLANKS = " \t\n\r"
_NINES = bytes.maketrans(b"012345678", b"999999999")


def _write_plain(fields: dict[str, JSON]) -> bytes:
    members = []
    for name, value in fields.items():
        if type(value) is not str or type(name) is not str:
            return _encode(fields).encode()
        members.append(f"{encode_basestring(name)}:{encode_basestring(value)}")
    return f"{{{','.join(members)}}}".encode()  # only texts, as usual: in half of the encoder's time


def _write_fast(fields: dict[str, JSON]) -> bytes:
    for name, value in fields.items():
        if type(value) is not str or type(name) is not str:
            # orjson takes NaN, enums and UUIDs, and writes some floats in another way
            return _encode(fields).encode()
    try:
        return orjson.dumps(fields)
    except TypeError:  # a lone surrogate
        return _encode(fields).encode()


def _read_plain(body: bytes) -> object:
    text = body.removeprefix(_MARK).decode().lstrip(_BLANKS)
    value, end = _decode(text)
    if text[end:].strip(_BLANKS):
        msg = "there is more behind the end"
        raise ValueError(msg)
    return value


def _read_fast(body: bytes) -> object:
    # an integer beyond 64 bits, of 19 digits or more, would become a float: of its digits
    # every sixth one is at least three in a row
    if b"999" not in body[::6].translate(_NINES):
        try:
            return orjson.loads(body)
        except ValueError:  # broken, or a mark, a lone surrogate, or a number out of range
            return _read_plain(body)
    return _read_plain(body)


def _write_row_plain(row: Mapping[str, JSON]) -> bytes:
    return _encode_row(row if type(row) is dict else dict(row)).encode()


def _write_rows_plain(rows: list[dict[str, JSON]]) -> bytes:
    return _encode_row(rows).encode()


def _write_row_fast(row: Mapping[str, JSON]) -> bytes:
    try:
        body: bytes = _dumps(row)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, a key that is no text
        return _write_row_plain(row)
    return _write_row_plain(row) if b"null" in body else body  # it may have been NaN, which is an error


def _write_rows_fast(rows: list[dict[str, JSON]]) -> bytes:
    try:
        written: bytes = _dumps(rows)
    except TypeError:
        return _write_rows_plain(rows)
    return _write_rows_plain(rows) if b"null" in written else written


if orjson is not None:
    _dumps = partial(orjson.dumps, option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME)


_write, _read, _write_row, _write_rows = (
    (_write_plain, _read_plain, _write_row_plain, _write_rows_plain)
    if orjson is None
    else (_write_fast, _read_fast, _write_row_fast, _write_rows_fast)
)


def encode(fields: Mapping[str, JSON]) -> bytes:
    """Write the body of a request.

    Raises `ValueError` or `TypeError` for what JSON cannot carry.
    """
    return _write(dict(fields))


def writer(fixed: Mapping[str, JSON]) -> Callable[[Mapping[str, JSON]], bytes]:
    """Return a function that writes a call's fields behind the `fixed` ones, which it encodes once.

    A field of the call takes the place of a fixed one with its name. The function
    raises what `encode` raises.
    """
    names = fixed.keys()
    head = encode(fixed)[:-1] + b","

    def write(fields: Mapping[str, JSON]) -> bytes:
        if fixed and fields and names.isdisjoint(fields):
            return head + _write(dict(fields))[1:]
        return _write({**fixed, **fields})

    return write


def encode_row(row: Mapping[str, JSON]) -> bytes:
    """Write one row of a batch; raises what `encode` raises, or `RecursionError`.

    Enums and UUIDs are written as their values. Floats with an exponent are written
    in one of two ways, ``1e+16`` or ``1e16``.
    """
    return _write_row(row)


def encode_rows(rows: list[dict[str, JSON]]) -> bytes:
    """Write the rows of a batch at once, as `join_rows` of each one does; raises what `encode_row` raises."""
    return _write_rows(rows)


def join_rows(rows: Iterable[bytes]) -> bytes:
    """Put the rows of a batch together, as they stand in its call."""
    return b"[%b]" % b",".join(rows)


def length_of_rows(rows: bytes, count: int) -> int:
    """Say how many bytes the `count` rows of a batch are, one by one."""
    return len(rows) - count - 1


def split_rows(rows: bytes) -> list[bytes]:
    """Return each of the rows of a batch as it was written."""
    text = rows.decode()
    found: list[bytes] = []
    start = 1
    while start < len(text):
        _, end = _decode(text, start)
        found.append(text[start:end].encode())
        start = end + 1
    return found


def with_rows(body: bytes, rows: bytes) -> bytes:
    """Return a written body, an object that is not empty, with the rows of a batch behind its fields, as ``data``."""
    return b"".join((body[:-1], b',"data":', rows, b"}"))


def decode(body: bytes) -> dict[str, JSON]:
    """Read the body of an answer, which must be one JSON object in UTF-8.

    Raises `UnreadableResponseError`, which never quotes the body.
    """
    try:
        value = _read(body)
    except (ValueError, RecursionError):
        value = _BROKEN  # raised below, outside the handler: the decoder's own error holds the body
    if value is _BROKEN:
        msg = f"the answer of {len(body)} bytes is not JSON (malformed or cut off)"
        raise UnreadableResponseError(msg)
    if type(value) is not dict:
        msg = f"the answer is a JSON {type(value).__name__} where an object belongs"
        raise UnreadableResponseError(msg)
    return value
