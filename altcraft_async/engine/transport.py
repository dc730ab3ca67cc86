"""The transport: an aiohttp session pool that sends a `WireRequest` and gives a `WireResponse`.

The only module that knows aiohttp's client. Its errors are mapped to ours by
`map_error`; none of them is kept as a cause or context, because they can hold
request headers, and so the token.

There are two ways through aiohttp. The direct way takes a connection from the
session's connector, writes the request and reads the answer with aiohttp's
parser: half the CPU of a session call, which repeats for every request what is
the same for all of ours. Whatever needs the session's own work (a session that
was given, traces, proxies from the environment) goes the session's way.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
from typing import TYPE_CHECKING, Protocol

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from altcraft_async.errors import (
    AttemptTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryError,
    EventLoopError,
    ResponseTooLargeError,
    UnreadableResponseError,
)
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

    from altcraft_async.errors import AltcraftError
    from altcraft_async.protocol.wire import WireRequest

__all__ = ["AiohttpTransport", "Transport", "map_error"]


class Transport(Protocol):
    """What the engine asks of a transport; anything that can do this can carry the calls."""

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request` and read the whole answer, within `total` seconds and `max_bytes`.

        Raises `TransportError` when there was no answer, and
        `UnreadableResponseError` when its body could not be read to the end.
        Cancellation drops the connection; the server may have taken the call.
        """

    async def aclose(self) -> None:
        """Free what the transport owns; harmless when called again."""


def map_error(error: Exception) -> AltcraftError:  # noqa: PLR0911 - one answer a kind
    """Return our error for one of aiohttp's client, of a timeout, or of the operating system."""
    name = type(error).__name__
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return ConnectError(f"no connection to the server ({_reason(error)})")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(f"the proxy refused the connection (HTTP {error.status})")
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return ConnectError("the server's TLS certificate has another fingerprint")
    if isinstance(error, _WRONG_ADDRESS):
        said = f"base_url does not lead to the API ({name}); give the platform's own address"
        return ConfigurationError(said, field="base_url")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UnreadableResponseError("the answer was cut off")
    if isinstance(error, HttpProcessingError):
        return UnreadableResponseError(f"the answer is not valid HTTP ({name})", status=error.code or 0)
    if isinstance(error, aiohttp.ClientResponseError):
        return UnreadableResponseError(f"the answer is not valid HTTP ({name})", status=error.status)
    if isinstance(error, TimeoutError):
        return AttemptTimeoutError("no answer in time")
    return ConnectionLostError(f"the connection broke ({_reason(error)})")


_WRONG_ADDRESS = (
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.RedirectClientError,
    aiohttp.TooManyRedirects,
)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(inner, ssl.SSLError):
        why = getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or type(inner).__name__
        return f"TLS: {why.lower().replace('_', ' ')}"
    if isinstance(inner, TimeoutError):
        return "not in time"
    number = getattr(inner, "errno", None)
    if isinstance(inner, OSError) and isinstance(number, int) and number > 0:
        return os.strerror(number)
    return getattr(inner, "strerror", None) or type(inner).__name__


class AiohttpTransport:
    """Sends below `base_url` through one aiohttp session, opened at the first call.

    A `session` that was given is used and never closed. The session's own
    connection limit is off: the gate limits, and a second limiter would only
    hide calls from it. Redirects are answers like any other and are not
    followed, so the token never leaves for another host.
    """

    __slots__ = (
        "_base", "_closed", "_direct", "_loop", "_owned", "_session", "_session_options", "_timeouts", "_tls", "_urls",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the settings of a pool
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        tls: ssl.SSLContext | bool = True,
        trust_env: bool = False,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        user_agent: str = "altcraft_async",
    ) -> None:
        self._base = base_url.rstrip("/") + "/api/v1.1/"
        self._urls: dict[str, URL] = {}
        self._session = session
        self._owned = session is None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._direct: _DirectWay | None = None
        self._tls = tls
        self._timeouts: dict[tuple[float, float], aiohttp.ClientTimeout] = {}
        self._session_options = {
            "trust_env": trust_env,
            "trace_configs": list(trace_configs) or None,
            "headers": {"User-Agent": user_agent},
        }

    def __repr__(self) -> str:
        """Show where to and in which state."""
        state = "closed" if self._closed else "open" if self._session else "idle"
        return f"<AiohttpTransport {self._base} {state}>"

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        session = self._session if self._loop is not None else self._open()
        if self._direct is not None:
            return await self._direct.send(request, connect=connect, total=total, max_bytes=max_bytes)
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = URL(self._base + request.path, encoded=True)
        timeout = self._timeouts.get((connect, total)) or self._timeout(connect, total)
        failure: AltcraftError
        try:
            async with session.post(  # type: ignore[union-attr]
                url, data=request.body, headers=request.headers, timeout=timeout, allow_redirects=False
            ) as response:
                length = response.content_length
                if length is not None and length <= max_bytes and self._owned:
                    body = await response.read()
                else:  # no promise of the length, or one that decompression could break
                    body = await _read_capped(response, max_bytes)
                return WireResponse(response.status, response.headers, body)
        except DeliveryError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = map_error(error)
        except RuntimeError:
            if not session.closed:  # type: ignore[union-attr]
                raise
            failure = ClientClosedError("the session was closed; make a new client with an open session")
        raise failure  # outside the handler, so that no context clings to it

    async def aclose(self) -> None:
        """Close the session if it is ours."""
        self._closed = True
        self._loop = None  # so that a later send meets the check in _open
        if self._direct is not None:
            self._direct.close()
        if self._owned and self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            msg = "the client is closed; make a new one"
            raise ClientClosedError(msg)
        loop = asyncio.get_running_loop()
        if getattr(self._session, "_loop", loop) is not loop:
            msg = "the session that was given belongs to another event loop; make session and client in one loop"
            raise EventLoopError(msg)
        self._loop = loop
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=15.0, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "Accept"),
                **self._session_options,  # type: ignore[arg-type]
            )
            if self._can_go_direct():
                self._direct = _DirectWay(self._session, self._base, self._session_options["headers"])  # type: ignore[arg-type]
        return self._session

    def _can_go_direct(self) -> bool:
        """Whether nothing needs the session's way; the direct one is the same through all of aiohttp 3."""
        special = self._session_options["trust_env"] or self._session_options["trace_configs"]
        return not special and URL(self._base).user is None and aiohttp.__version__.startswith("3.")

    def _timeout(self, connect: float, total: float) -> aiohttp.ClientTimeout:
        # aiohttp rounds longer timeouts up to whole seconds, which would overrun a deadline
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=connect, ceil_threshold=float("inf"))
        if not self._timeouts:  # the usual one; those cut by a deadline are all different
            self._timeouts[connect, total] = timeout
        return timeout


async def _read_capped(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Read a body of unknown length, and give up beyond `max_bytes`."""
    if (response.content_length or 0) <= max_bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    response.close()
    msg = f"the answer is longer than max_response_bytes ({max_bytes})"
    raise ResponseTooLargeError(msg, status=response.status)


_FORBIDDEN_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class _Target(aiohttp.ClientRequest):
    """Where connections go to: what a connector asks of a request, made once."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class _DirectWay:
    """Sends requests over the connections of `session`'s connector; see the module.

    One timer serves the timeouts of all requests under way: a timer for each
    would cost a tenth of the request. A request that is out of time loses its
    connection.
    """

    __slots__ = ("_connector", "_due", "_expired", "_head", "_heads", "_loop", "_target", "_timeouts", "_timer")

    def __init__(self, session: aiohttp.ClientSession, base: str, headers: Mapping[str, str]) -> None:
        """Go to `base`, with `headers` in every request; the session stays its owner's."""
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
        self._due: dict[ResponseHandler, float] = {}
        self._expired: set[ResponseHandler] = set()
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Stop the timer; requests under way end when the session closes their connections."""
        if self._timer is not None:
            self._timer.cancel()

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        due = self._loop.time() + total
        data = self._written(request)
        failure: AltcraftError
        try:
            connection = await self._connector.connect(self._target, [], self._timeout(min(connect, total)))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            mapped = map_error(error)  # whatever went wrong here, nothing was sent
            never_sent = isinstance(mapped, ConnectError)
            failure = mapped if never_sent else ConnectError(f"no connection to the server ({_reason(error)})")
        else:
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 - it was taken from the pool in this moment
            try:
                self._watch(protocol, due)
                response = await self._exchange(protocol, data, max_bytes)
                if protocol not in self._expired:
                    connection.release()  # to the pool, or closed where the server or the parser wants that
                    return response
                failure = AttemptTimeoutError("no answer in time")
            except DeliveryError:
                raise
            except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
                failure = AttemptTimeoutError("no answer in time") if protocol in self._expired else map_error(error)
            finally:
                self._due.pop(protocol, None)
                self._expired.discard(protocol)
                connection.close()  # nothing, after a release
        raise failure  # outside the handlers, so that no context clings to it

    def _written(self, request: WireRequest) -> bytes:
        head = self._heads.get(request.path)
        if head is None:
            head = self._heads[request.path] = request.path.join(self._head)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        own = "\r\n".join(lines)
        if _FORBIDDEN_IN_HEADER.search("".join(lines)):
            msg = "a header has a control character; give a request_id without"
            raise ConfigurationError(msg, field="request_id")
        return f"{head}Content-Length: {len(request.body)}\r\n{own}\r\n\r\n".encode() + request.body

    async def _exchange(
        self, protocol: ResponseHandler, data: bytes, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        transport = protocol.transport
        if transport is None or transport.is_closing():
            msg = "the connection was closed before the request went out"
            raise ConnectionLostError(msg, maybe_applied=False)
        protocol.set_response_params(read_until_eof=True)
        transport.write(data)
        message, payload = await protocol.read()
        while message.code < 200:  # noqa: PLR2004 - informational answers come before the real one
            message, payload = await protocol.read()
        if payload.is_eof():  # the usual case: the whole answer came in one piece
            body = payload.read_nowait()
            if len(body) > max_bytes:
                raise _too_large(max_bytes, message.code)
        else:
            body = await _read_rest(message, payload, max_bytes)
        return WireResponse(message.code, message.headers, body)

    def _timeout(self, connect: float) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get(connect)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=connect, ceil_threshold=float("inf"))
            if not self._timeouts:  # the usual one; those cut by a deadline are all different
                self._timeouts[connect] = timeout
        return timeout

    def _watch(self, protocol: ResponseHandler, due: float) -> None:
        self._due[protocol] = due
        if self._timer is None or due < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        now = self._loop.time()
        for protocol in [protocol for protocol, due in self._due.items() if due <= now]:
            del self._due[protocol]
            self._expired.add(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()
        self._timer = self._loop.call_at(min(self._due.values()), self._on_timer) if self._due else None


async def _read_rest(message: RawResponseMessage, payload: StreamReader, max_bytes: int) -> bytes:
    """Read a body that comes in several pieces, and give up beyond `max_bytes`."""
    if int(message.headers.get("Content-Length", "0")) > max_bytes:
        raise _too_large(max_bytes, message.code)
    body = bytearray()
    while chunk := await payload.readany():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes, message.code)
    return bytes(body)


def _too_large(max_bytes: int, status: int) -> ResponseTooLargeError:
    return ResponseTooLargeError(f"the answer is longer than max_response_bytes ({max_bytes})", status=status)
