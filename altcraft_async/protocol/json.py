"""The JSON codec: envelopes as UTF-8 JSON objects.

Where orjson is installed (the extra ``speed``) it does the work, as far as it
means the same. What it would write or read in another way, or not at all, goes
through the standard library, so nobody can tell which of them was at work, with
one exception: nesting is refused near a thousand levels, and each draws that
line where it likes.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from altcraft_async.errors import UnreadableResponseError

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.protocol.values import JSON

__all__ = ["CONTENT_TYPE", "decode", "encode", "writer"]

CONTENT_TYPE = "application/json"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


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


_write, _read = (_write_plain, _read_plain) if orjson is None else (_write_fast, _read_fast)


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
