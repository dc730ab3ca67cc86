"""The direct way through aiohttp: its connections and its parser without its session.

A session call repeats for every request what is the same for all of ours. Here
the connector makes a connection once, and from then on it is ours: the request
is written by hand and the answer read with aiohttp's parser, for half the CPU.

This is the only module that reaches into aiohttp's insides. `misfit` says what
of them is not as known here; then the transport goes the session's way.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import re
from collections import deque
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from altcraft_async.engine.connections import Tap, UnaskedBytesError
from altcraft_async.engine.mapping import map_cut_off, map_error, map_unsent, no_status
from altcraft_async.errors import AttemptTimeoutError, ConfigurationError, DeliveryError, UnreadableResponseError
from altcraft_async.protocol.encoding import decoded, too_large
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_reqrep import ConnectionKey

    from altcraft_async.errors import AltcraftError
    from altcraft_async.protocol.wire import WireRequest

__all__ = ["DirectWay", "misfit"]

_FORBIDDEN_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_KNOWN_CALLS: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (aiohttp.ClientRequest, "__init__", ("method", "url", "loop", "session")),
    (aiohttp.TCPConnector, "connect", ("req", "traces", "timeout")),
    (aiohttp.TCPConnector, "_release", ("key", "protocol", "should_close")),
    (ResponseHandler, "set_response_params", ("read_until_eof", "auto_decompress")),
)
_KNOWN_NAMES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (aiohttp.ClientRequest, ("connection_key",)),
    (Connection, ("protocol", "transport")),
    (ResponseHandler, ("read", "should_close", "transport")),
    (StreamReader, ("is_eof", "read_nowait", "readany", "total_bytes")),
    (RawResponseMessage, ("code", "headers")),
)


def misfit() -> str | None:
    """Return what in this aiohttp is not as the direct way knows it, or None where all is."""
    for owner, name, parameters in _KNOWN_CALLS:
        function = getattr(owner, name, None)
        if not callable(function) or not set(parameters) <= inspect.signature(function).parameters.keys():
            return f"{owner.__name__}.{name}"
    for owner, names in _KNOWN_NAMES:
        for name in names:
            if not hasattr(owner, name) and name not in getattr(owner, "_fields", ()):
                return f"{owner.__name__}.{name}"
    for name in ("_connector", "_key", "_protocol"):  # set in the constructor, so they are its code's names
        if name not in Connection.__init__.__code__.co_names:
            return f"Connection.{name}"
    return None if inspect.iscoroutinefunction(ResponseHandler.read) else "ResponseHandler.read"


class _Target(aiohttp.ClientRequest):
    """Where connections go to: what a connector asks of a request, made once."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class _Died(enum.Enum):
    """How a kept connection failed before a byte of the answer came."""

    UNSENT = "before the request was written"
    UNANSWERED = "after it was written"


class _Carrier:
    """A connection that is ours until it is closed; `idle_since` is the loop's time of its last answer.

    `used` is true where it has carried calls, and `in_doubt` where it replaces one
    on which the same request went out before, without an answer. `expired` is true where it
    was dropped because a call was out of time. One parser reads all its answers: it carries
    another call only where every byte belonged to the answers before.

    It is taken out of aiohttp's `Connection`, which would warn, one by one, of
    all that are idle where a client is dropped without being closed.
    """

    __slots__ = ("_connector", "_key", "expired", "idle_since", "in_doubt", "protocol", "tap", "used")

    def __init__(self, connection: Connection, *, in_doubt: bool) -> None:
        tap = Tap.of(connection)
        assert tap is not None  # noqa: S101 - a clean connector puts one on each
        assert connection.protocol is not None  # noqa: S101 - it is open
        self.protocol = connection.protocol
        self.protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        self._connector, self._key = connection._connector, connection._key  # noqa: SLF001 - see the module
        connection._protocol = None  # noqa: SLF001
        self.tap = tap
        self.in_doubt = in_doubt
        self.used = self.expired = False
        self.idle_since = 0.0

    def close(self) -> None:
        """Close the connection; harmless when called again."""
        self._connector._release(self._key, self.protocol, should_close=True)  # noqa: SLF001

    def clean(self) -> bool:
        """Whether the bytes so far are the answers that were asked for, and nothing waits to be read."""
        return not self.tap.transport.is_closing() and not self.tap.received and not self.tap.waiting()


class DirectWay:
    """Sends requests to `base` over connections that `session`'s `CleanConnector` makes; see the module.

    One timer serves the timeouts of all requests under way: a timer for each
    would cost a tenth of the request. A request that is out of time loses its
    connection. Idle connections are closed after `keep` seconds; the one that
    was used last is taken first.
    """

    __slots__ = (
        "_connector", "_due", "_head", "_heads", "_idle", "_keep", "_loop", "_sweeper", "_target", "_timeouts",
        "_timer", "_timer_at", "_unclean",
    )  # fmt: skip

    def __init__(self, session: aiohttp.ClientSession, base: str, headers: Mapping[str, str], *, keep: float) -> None:
        """Put `headers` into every request; the session stays its owner's."""
        self._loop = asyncio.get_running_loop()
        url = URL(base, encoded=True)
        connector = session.connector
        assert connector is not None  # noqa: S101 - the session is open
        self._connector = connector
        self._target = _Target("POST", url, loop=self._loop, session=session)
        fixed = {"Host": url.host_port_subcomponent or "", "Accept": "*/*", **headers}
        self._head = (f"POST {url.raw_path}", " HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fixed.items()))
        self._heads: dict[str, str] = {}
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._keep = keep
        self._idle: deque[_Carrier] = deque()
        self._unclean: list[_Carrier] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._due: dict[_Carrier, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def close(self) -> None:
        """Close what is idle; requests under way end when the session closes their connections."""
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        if self._loop.is_closed():  # nothing can be said to it any more; the sockets close with their objects
            self._idle.clear()
        for carriers in (self._idle, self._unclean):
            while carriers:
                carriers.pop().close()

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        due = self._loop.time() + total
        data = self._written(request)
        answer: WireResponse | _Died = _Died.UNSENT
        carrier, unasked = None, False
        while not fresh:
            carrier = self._taken()
            if not self._unclean:
                break
            if carrier is not None:  # to be looked at again: nobody has asked it for what comes meanwhile
                self._idle.append(carrier)
            unasked |= await self._drop_unclean()
        if carrier is not None:
            answer = await self._exchange(carrier, data, due, max_bytes, unasked=unasked)
            if type(answer) is WireResponse:
                return answer
            total = due - self._loop.time()
        carrier = await self._connected(min(connect, total), in_doubt=answer is _Died.UNANSWERED)
        answer = await self._exchange(carrier, data, due, max_bytes, unasked=unasked)
        assert type(answer) is WireResponse  # noqa: S101 - only kept connections die without an error
        if fresh:
            carrier.close()
        return answer

    def _taken(self) -> _Carrier | None:
        """Take a clean connection out of those that are idle, and put those aside that are not clean."""
        while self._idle:
            carrier = self._idle.pop()
            if carrier.clean():
                return carrier
            self._unclean.append(carrier)
        return None

    async def _drop_unclean(self) -> bool:
        """Close what is not clean; say whether any of it brought bytes, and not just its end."""
        spoke = False
        while self._unclean:
            carrier = self._unclean.pop()
            try:
                spoke |= await carrier.tap.read_on() > 0
            finally:
                carrier.close()
        return spoke

    async def _connected(self, connect: float, *, in_doubt: bool) -> _Carrier:
        try:
            connection = await self._connector.connect(self._target, [], self._timeout(max(connect, 0.001)))
            return _Carrier(connection, in_doubt=in_doubt)
        except Exception as error:  # noqa: BLE001 - nothing has been written on it, whatever it is
            failure = map_unsent(error, in_doubt=in_doubt)
        raise failure  # outside the handler, so that no context clings to it

    async def _exchange(
        self, carrier: _Carrier, data: bytes, due: float, max_bytes: int, *, unasked: bool
    ) -> WireResponse | _Died:
        """Write the request and read its answer; the connection is then idle where it may be, or else closed."""
        protocol, tap = carrier.protocol, carrier.tap
        reusable = False
        self._watch(carrier, due)
        try:
            try:
                tap.transport.write(data)
            except RuntimeError:  # uvloop says so of a transport that is closed
                raise UnaskedBytesError from None
            message, payload = await protocol.read()
            while message.code < 200 and message.code != 101:  # noqa: PLR2004 - behind 101 no answer of HTTP comes
                if message.code < 100:  # noqa: PLR2004 - no informational answer either
                    raise no_status(message.code)
                message, payload = await protocol.read()
            eof = payload.is_eof()
            body = tap.behind_head(payload.total_bytes) if eof else await _rest(message, payload, max_bytes)
            if body is None:  # it is chunked, or came in pieces
                body = payload.read_nowait()
            if not carrier.expired:
                whole = tap.received == tap.head_length + len(body) or tap.ended()
                reusable = whole and not protocol.should_close
                plain = _plain(message, body, max_bytes)
                unasked |= not whole and tap.received > tap.head_length + len(body)
                return WireResponse(message.code, message.headers, plain, carrier.close, carrier.in_doubt, unasked)
            failure: AltcraftError | _Died = AttemptTimeoutError("no answer in time")
        except (aiohttp.ClientError, HttpProcessingError, OSError, DeliveryError) as error:
            failure = self._judged(carrier, error)
        finally:
            self._due.pop(carrier, None)
            if reusable:
                self._put_back(carrier)
            else:
                carrier.close()
        if isinstance(failure, _Died):
            return failure
        raise failure  # outside the handler, so that no context clings to it

    def _judged(self, carrier: _Carrier, error: Exception) -> AltcraftError | _Died:
        """Return what an exchange that raised `error` means."""
        if carrier.expired:
            return AttemptTimeoutError("no answer in time")
        if isinstance(error, DeliveryError):
            return error
        unsent = isinstance(error, UnaskedBytesError)
        if carrier.used and not carrier.tap.received:
            return _Died.UNSENT if unsent else _Died.UNANSWERED
        if unsent:
            return map_unsent(error, in_doubt=carrier.in_doubt)
        return map_error(error)

    def _put_back(self, carrier: _Carrier) -> None:
        carrier.used, carrier.in_doubt = True, False
        carrier.tap.begin()  # from here on every byte is one that nobody asked for
        carrier.idle_since = self._loop.time()
        self._idle.append(carrier)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keep, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        while self._idle and self._idle[0].idle_since + self._keep <= now:
            self._idle.popleft().close()
        next_due = self._idle[0].idle_since + self._keep if self._idle else None
        self._sweeper = None if next_due is None else self._loop.call_at(next_due, self._sweep)

    def _written(self, request: WireRequest) -> bytes:
        head = self._heads.get(request.path)
        if head is None:
            head = self._heads[request.path] = request.path.join(self._head)
        own = ""
        for name, value in request.headers.items():
            line = f"{name}: {value}"
            if not line.isprintable() and _FORBIDDEN_IN_HEADER.search(line):
                msg = "a header has a control character; give a request_id without"
                raise ConfigurationError(msg, field="request_id")
            own += line + "\r\n"
        return f"{head}Content-Length: {len(request.body)}\r\n{own}\r\n".encode() + request.body

    def _timeout(self, connect: float) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get(connect)
        if timeout is None:
            # aiohttp rounds longer timeouts up to whole seconds, which would overrun a deadline
            timeout = aiohttp.ClientTimeout(total=None, connect=connect, ceil_threshold=float("inf"))
            if not self._timeouts:  # the usual one; those cut by a deadline are all different
                self._timeouts[connect] = timeout
        return timeout

    def _watch(self, carrier: _Carrier, due: float) -> None:
        self._due[carrier] = due
        if self._timer is None or due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        self._timer_at = due  # kept here, because a handle of uvloop may not know it
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        now = self._loop.time()
        for carrier in [carrier for carrier, due in self._due.items() if due <= now]:
            del self._due[carrier]
            carrier.expired = True
            if carrier.protocol.transport is not None:
                carrier.protocol.transport.abort()
        self._timer = None
        if self._due:
            self._set_timer(min(self._due.values()))


async def _rest(message: RawResponseMessage, payload: StreamReader, max_bytes: int) -> bytes:
    """Read a body that comes in several pieces, and give up beyond `max_bytes`."""
    retry_after = message.headers.get("Retry-After")
    if int(message.headers.get("Content-Length", "0")) > max_bytes:
        raise too_large(max_bytes, message.code, retry_after)
    body = bytearray()
    try:
        while chunk := await payload.readany():
            body += chunk
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
        failure = map_cut_off(map_error(error), message.code, message.headers)
    else:
        failure = too_large(max_bytes, message.code, retry_after)
    raise failure


def _plain(message: RawResponseMessage, body: bytes, max_bytes: int) -> bytes:
    """Return a body without its encoding."""
    if len(body) > max_bytes:
        raise too_large(max_bytes, message.code, message.headers.get("Retry-After"))
    encoding = message.headers.get("Content-Encoding")
    if encoding is None:
        return body
    try:
        return decoded(body, encoding, max_bytes=max_bytes)
    except UnreadableResponseError as error:
        failure = map_cut_off(error, message.code, message.headers)
    raise failure
