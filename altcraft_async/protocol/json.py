"""The JSON codec: envelopes as UTF-8 JSON objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from altcraft_async.errors import UnreadableResponseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.protocol.values import JSON

__all__ = ["CONTENT_TYPE", "decode", "encode"]

CONTENT_TYPE = "application/json"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode

_BROKEN = object()


def encode(fields: Mapping[str, JSON]) -> bytes:
    """Write the body of a request.

    Raises `ValueError` or `TypeError` for what JSON cannot carry.
    """
    return _encode(fields).encode()


def decode(body: bytes) -> dict[str, JSON]:
    """Read the body of an answer, which must be one JSON object.

    Raises `UnreadableResponseError`, which never quotes the body.
    """
    try:
        value = _decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        value = _BROKEN  # raised below, outside the handler: the decoder's own error holds the body
    if value is _BROKEN:
        msg = f"the answer of {len(body)} bytes is not JSON (malformed or cut off)"
        raise UnreadableResponseError(msg)
    if type(value) is not dict:
        msg = f"the answer is a JSON {type(value).__name__} where an object belongs"
        raise UnreadableResponseError(msg)
    return value
