"""The transport: an aiohttp session pool that sends a `WireRequest` and gives a `WireResponse`.

The only module that knows aiohttp's client. Its errors are mapped to ours by
`map_error`; none of them is kept as a cause or context, because they can hold
request headers, and so the token.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import aiohttp
from yarl import URL

from altcraft_async.errors import (
    AttemptTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryError,
    ResponseTooLargeError,
    UnreadableResponseError,
)
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from altcraft_async.errors import AltcraftError
    from altcraft_async.protocol.wire import WireRequest

__all__ = ["AiohttpTransport", "Transport", "map_error"]


class Transport(Protocol):
    """What the engine asks of a transport; anything that can do this can carry the calls."""

    async def send(self, request: WireRequest, *, connect: float, total: float, max_bytes: int) -> WireResponse:
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
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.TooManyRedirects)):
        return ConfigurationError(f"the base URL does not lead to the API ({name})", field="base_url")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UnreadableResponseError("the answer was cut off")
    if isinstance(error, aiohttp.ClientResponseError):
        return UnreadableResponseError(f"the answer is not valid HTTP ({name})", status=error.status)
    if isinstance(error, TimeoutError):
        return AttemptTimeoutError("no answer in time")
    return ConnectionLostError(f"the connection broke ({_reason(error)})")


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    return getattr(inner, "strerror", None) or type(inner).__name__


class AiohttpTransport:
    """Sends below `base_url` through one aiohttp session, opened at the first call.

    A `session` that was given is used and never closed. The session's own
    connection limit is off: the gate limits, and a second limiter would only
    hide calls from it. Redirects are answers like any other and are not
    followed, so the token never leaves for another host.
    """

    __slots__ = ("_base", "_closed", "_loop", "_owned", "_session", "_session_options", "_timeouts", "_tls", "_urls")

    def __init__(
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

    async def send(self, request: WireRequest, *, connect: float, total: float, max_bytes: int) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        session = self._session if self._loop is not None else self._open()
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
            failure = ClientClosedError("the session was closed; make a new client")
        raise failure  # outside the handler, so that no context clings to it

    async def aclose(self) -> None:
        """Close the session if it is ours."""
        self._closed = True
        if self._owned and self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            msg = "the client is closed; make a new one"
            raise ClientClosedError(msg)
        self._loop = asyncio.get_running_loop()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=15.0, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "Accept"),
                **self._session_options,  # type: ignore[arg-type]
            )
        return self._session

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
