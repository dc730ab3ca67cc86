"""Connections that are clean: nothing is sent on one that has said more than it was asked.

A proxy's 408, a late answer or a doubled one can stand on a kept connection,
read already or still in the kernel. The next request would take it for its own
answer, and every answer after it would be shifted. So a `Tap` counts what comes,
and a connection is used again only where these bytes were exactly one whole
answer, and nothing waits to be read. All of it uses public interfaces only.
"""

from __future__ import annotations

import asyncio
import functools
import re
import select
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

import aiohttp
import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Carriage", "CleanConnector", "Tap", "UnaskedBytesError", "carriage_of_task", "watching_writes"]

_MAX_HEAD = 65536
"""Of an answer's head no more is looked at: aiohttp's parser gives up before."""

_READ_AT_ONCE = 65536
"""Bytes that are read from a connection in one go: less than aiohttp holds before it pauses a connection."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_LAST_CHUNK = re.compile(rb"(?:\A|\r\n)0+[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n\Z")
"""The last chunk, with extensions and trailers."""
_TAIL = 8192
"""Bytes that are kept of an answer's end where it comes in several pieces: more than trailers have."""
_TURNS = 8
"""How often the loop may read before a connection that stays readable is given up; one or two do for TLS tickets."""


class UnaskedBytesError(aiohttp.ClientConnectionError):
    """A new connection spoke, or ended, before anything was written to it."""

    def __init__(self) -> None:
        super().__init__("it spoke or ended before the request was written")


class Tap(asyncio.BufferedProtocol):
    """Stands between a connection and aiohttp's protocol for it: passes all on, and counts.

    `received` is the number of bytes since `begin`, `head_length` where among them the answer's head ends, that of
    informational answers before it included. What comes is read into a buffer that all
    connections of a loop share, because a read is over before another begins: without one
    asyncio takes 256 KB anew for every read, which the system maps and unmaps each time.
    """

    __slots__ = (
        "_buffer", "_feed", "_head", "_head_at", "_inner", "_last", "busy", "head_length", "received", "transport",
        "waiting",
    )  # fmt: skip

    def __init__(self, connection: aiohttp.connector.Connection, buffer: memoryview) -> None:
        """Take the place of the protocol of `connection`, which must be open."""
        self._buffer = buffer
        self._inner = cast("asyncio.Protocol", connection.protocol)
        self._feed = self._inner.data_received
        self.transport = cast("asyncio.Transport", connection.transport)
        self.waiting = _poll(self.transport)
        self.busy = False
        self.begin()
        self.transport.set_protocol(self)

    @staticmethod
    def of(connection: aiohttp.connector.Connection) -> Tap | None:
        """Return the tap of a connection that was handed out before, None for a new one."""
        transport = cast("asyncio.Transport", connection.transport)
        known = transport.get_protocol()
        return known if isinstance(known, Tap) else None

    def begin(self) -> None:
        """Count anew, for a request that will now be written."""
        self._head = self._last = b""
        self._head_at = self.head_length = self.received = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give what the next bytes are read into."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came and pass it on."""
        data = bytes(self._buffer[:nbytes])
        if not self.head_length and len(self._head) < _MAX_HEAD:
            self._head += data
            self._find_head()
        self._last = (self._last + data)[-_TAIL:] if self._last else data
        self.received += nbytes
        self._feed(data)

    def _find_head(self) -> None:
        """Look for the end of the answer's head, behind those of informational answers."""
        head, at = self._head, self._head_at
        while (end := head.find(_HEAD_END, at)) >= 0:
            if head[at + 9 : at + 10] != b"1" or head[at + 9 : at + 12] == b"101":  # which is the last that speaks HTTP
                self.head_length = end + 4
                return
            self._head_at = at = end + 4

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def behind_head(self, size: int) -> bytes | None:
        """Return what came behind the head, where that is `size` bytes and all came in one piece or is short.

        aiohttp pauses no connection for as much as one piece holds, so it need not know that this is taken.
        """
        start = self.head_length
        return self._last[start:] if start and start + size == self.received == len(self._last) else None

    def ended(self) -> bool:
        """Whether what was received is exactly one whole answer; what cannot be proven is not."""
        head = self._head[self._head_at : self.head_length]
        if not head or head[9:10] == b"1":  # another protocol may follow it
            return False
        body = self.received - self.head_length
        length = _LENGTH.search(head)
        if length is not None:
            return body == int(length[1])
        if _CHUNKED.search(head) is not None:
            return _LAST_CHUNK.search(self._last, len(self._last) - _TAIL) is not None
        return body == 0

    def said_more(self) -> bool:
        """Whether more came than the answer that its head announces, as far as it does."""
        length = _LENGTH.search(self._head[self._head_at : self.head_length])
        return length is not None and self.received > self.head_length + int(length[1])

    async def settled(self) -> bool:
        """Let the loop read what waits on a new connection, as TLS tickets do; false where it was anything else."""
        for _ in range(_TURNS):
            if self.received or self.transport.is_closing() or not self.waiting():
                break
            await asyncio.sleep(0)
        return not (self.received or self.transport.is_closing() or self.waiting())

    async def read_on(self) -> int:
        """Let the loop read what waits on an idle connection; give the bytes since `begin`."""
        for _ in range(_TURNS):
            if self.transport.is_closing() or not self.waiting():
                break
            await asyncio.sleep(0)
        return self.received


def _poll(transport: asyncio.Transport) -> Callable[[], object]:
    """Return what tells whether bytes, or the end, wait in the kernel."""
    socket = transport.get_extra_info("socket")
    if socket is None or (descriptor := socket.fileno()) < 0:
        return lambda: False
    if not hasattr(select, "poll"):  # Windows
        return lambda: select.select([descriptor], [], [], 0)[0]
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return functools.partial(poll.poll, 0)


@attrs.define(eq=False)
class Carriage:
    """How one call travelled on the session's way.

    `in_doubt` is true where the same request went out before, without an answer, `unasked`
    where a kept connection brought bytes that nobody had asked for.
    `tap` is that of its connection, `kept` whether that had carried calls before,
    `written` whether the request's body was begun, and `spoiled` whether
    bytes came before that.
    """

    in_doubt: bool = False
    tap: Tap | None = None
    kept: bool = False
    written: bool = False
    spoiled: bool = False
    unasked: bool = False

    @property
    def unanswered(self) -> bool:
        """Whether no byte came that could be of the answer."""
        return self.tap is not None and (self.spoiled or not self.tap.received)

    def finish(self) -> None:
        """Let the connection, if it is kept, carry other calls."""
        if self.tap is not None:
            self.tap.busy = False

    def discard(self) -> None:
        """Close the connection, so that nothing else is ever sent on it."""
        if self.tap is not None:
            self.tap.transport.abort()


carriage_of_task: ContextVar[Carriage | None] = ContextVar("carriage_of_task", default=None)
"""Where a connector notes what it handed out; aiohttp connects in the caller's own task."""


class CleanConnector(aiohttp.TCPConnector):
    """A connector that hands out clean connections only.

    A kept one must have ended with exactly one answer, that of a call which has
    returned; others are closed. Raises `UnaskedBytesError` where a new one spoke first.
    """

    @functools.cached_property
    def _buffer(self) -> memoryview:
        return memoryview(bytearray(_READ_AT_ONCE))

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> aiohttp.connector.Connection:
        """Get from the pool, or make, a clean connection."""
        while True:
            connection = await super().connect(req, traces, timeout)
            try:
                if await self._is_clean(connection):
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()

    async def _is_clean(self, connection: aiohttp.connector.Connection) -> bool:
        """Whether a kept connection may carry another call; one that is new is clean, or an `UnaskedBytesError`."""
        tap = Tap.of(connection)
        kept = tap is not None
        carriage = carriage_of_task.get()
        if tap is None:
            tap = await self._tapped(connection)
        elif tap.busy or not tap.ended() or connection.protocol.should_close or tap.waiting():  # type: ignore[union-attr]
            if carriage is not None and not tap.busy:
                await tap.read_on()
                carriage.unasked |= not tap.ended()
            return False
        tap.begin()
        if carriage is not None:
            carriage.tap, carriage.kept = tap, kept
            tap.busy = True
        return True

    async def _tapped(self, connection: aiohttp.connector.Connection) -> Tap:
        if not connection.closed and not connection.protocol.should_close:  # type: ignore[union-attr]
            tap = Tap(connection, self._buffer)
            if await tap.settled():
                return tap
        raise UnaskedBytesError


def watching_writes() -> aiohttp.TraceConfig:
    """Make traces that look at a connection once more in the moment when the request is written.

    Between connector and writing the loop may turn, and what comes then was not asked for either.
    """

    async def on_chunk(*_: object) -> None:
        carriage = carriage_of_task.get()
        if carriage is None or carriage.written or (tap := carriage.tap) is None:
            return
        carriage.written = True
        carriage.spoiled = True  # also where the answer to nothing is read while the connection settles
        carriage.spoiled = not await tap.settled()
        if carriage.spoiled:
            tap.transport.abort()

    traces = aiohttp.TraceConfig()
    traces.on_request_chunk_sent.append(on_chunk)
    return traces
