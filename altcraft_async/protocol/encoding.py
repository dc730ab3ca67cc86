"""The body of an answer without its ``Content-Encoding``; pure.

Nothing asks for compression, but proxies compress unasked.
"""

from __future__ import annotations

import zlib

from altcraft_async.errors import ResponseTooLargeError, UnreadableResponseError

__all__ = ["decoded", "too_large"]

_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15


def decoded(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Return `body` as it was before it was encoded; `encoding` is the header's text.

    Knows gzip and deflate. Raises `ResponseTooLargeError` beyond `max_bytes`, of
    which no more is ever unpacked, and `UnreadableResponseError` for another
    encoding or a body that is cut off or broken. Their `status` is the caller's to set.
    """
    name = encoding.strip().lower()
    if not body or name in {"", "identity"}:
        return body
    if name in {"gzip", "x-gzip"}:
        window = _GZIP
    elif name == "deflate":
        window = _ZLIB if body[0] & 0xF == zlib.DEFLATED else _RAW_DEFLATE
    else:
        msg = "the answer has a Content-Encoding that was not asked for"
        raise UnreadableResponseError(msg)
    plain = bytearray()
    while body:  # a gzip file may have several members
        member = zlib.decompressobj(window)
        try:
            plain += member.decompress(body, max_bytes + 1 - len(plain))
        except zlib.error:
            msg = f"the answer is not the {name} that it says it is"
            raise UnreadableResponseError(msg) from None
        if len(plain) > max_bytes:
            raise too_large(max_bytes)
        if not member.eof:
            msg = "the answer was cut off"
            raise UnreadableResponseError(msg)
        body = member.unused_data
    return bytes(plain)


def too_large(max_bytes: int, status: int = 0, retry_after: str | None = None) -> ResponseTooLargeError:
    """Return the error for an answer that is longer than `max_bytes`."""
    msg = f"the answer is longer than max_response_bytes ({max_bytes})"
    return ResponseTooLargeError(msg, status=status, retry_after=retry_after)
