"""How an answer is broken on the wire: cut, swollen, dripping, or replaced by a TCP reset."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from typing import TYPE_CHECKING

from altcraft_async.sandbox.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from altcraft_async.sandbox.state import Answer

__all__ = ["reset", "send_broken"]

_DRIPS = 10
_CHUNK = 64 * 1024


async def send_broken(
    request: web.BaseRequest, response: web.StreamResponse, answer: Answer, fault: Fault, *, xml: bool
) -> None:
    """Send an answer with its body cut, swollen or dripping, as the kind of `fault` says.

    Raises `ConnectionError` where the client hangs up first.
    """
    body = answer.body
    if fault.kind is FaultKind.OVERSIZED:
        await response.prepare(request)
        for piece in _swollen(body, fault.size, xml=xml):
            await response.write(piece)
        return
    response.content_length = len(body)
    await response.prepare(request)
    if fault.kind is FaultKind.TRUNCATED:
        response.force_close()
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return
    step = max(1, math.ceil(len(body) / _DRIPS))
    for start in range(0, len(body), step):
        await asyncio.sleep(fault.drip / _DRIPS)
        await response.write(body[start : start + step])


def _swollen(body: bytes, size: int, *, xml: bool) -> Iterable[bytes]:
    """Give the body with a field of padding, valid and at least `size` bytes long, in pieces."""
    end, opening, closing = (b"</xml>", b"<padding>", b"</padding></xml>") if xml else (b"}", b',"padding":"', b'"}')
    yield body.removesuffix(end) + opening
    left = size
    while left > 0:
        yield b"x" * min(left, _CHUNK)
        left -= _CHUNK
    yield closing


def reset(transport: asyncio.Transport | None) -> None:
    """Close a connection with a TCP reset instead of an orderly end."""
    if transport is None:
        return
    known = transport.get_extra_info("socket")
    if known is not None:
        # A copy of the descriptor, because not every event loop lets its own socket be touched.
        with contextlib.suppress(OSError), socket.fromfd(known.fileno(), known.family, known.type) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
