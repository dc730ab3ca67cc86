"""The transport: an aiohttp session pool that sends a `WireRequest` and gives a `WireResponse`.

There are two ways through aiohttp, which answer alike. The direct way
(`engine.direct`) costs half the CPU; whatever needs the session's own work (a
session that was given, traces, proxies of the environment) goes the session's way.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import aiohttp
import attrs
from yarl import URL

from altcraft_async.engine.carrier import OwnTransport
from altcraft_async.engine.connections import (
    Carriage,
    CleanConnector,
    UnaskedBytesError,
    carriage_of_task,
    watching_writes,
)
from altcraft_async.engine.direct import DirectWay, misfit
from altcraft_async.engine.mapping import map_cut_off, map_error, map_unsent, no_status
from altcraft_async.errors import (
    AltcraftError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryError,
    EventLoopError,
)
from altcraft_async.kinds import refusal
from altcraft_async.protocol.encoding import decoded, too_large
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from altcraft_async.protocol.wire import WireRequest

__all__ = ["AiohttpTransport"]

_log = logging.getLogger("altcraft_async")

_KEEP_ALIVE = 15.0
_DECODED_BY_SESSIONS = frozenset({"gzip", "deflate", "br", "zstd"})
_NAMES_KEPT = 30
"""Seconds for which a resolved name is believed, unless a connection fails before."""


class AiohttpTransport(OwnTransport):
    """Sends below `base_url` through one aiohttp session, opened at the first call.

    Requests go out on clean connections only (see `engine.connections`), and a
    kept one that dies before a byte of its answer is replaced once, within the
    call. The session's own connection limit is off: the gate limits, and a second
    limiter would only hide calls from it. Redirects are answers like any other and
    are not followed, so the token never leaves for another host. `trust_env` means
    the proxies of the environment, read at the first call, and never ``.netrc``.

    A `session` that was given is used as it is and never closed. Its connections
    are aiohttp's: what arrives unasked on a kept one is not noticed, none is
    replaced, `fresh` and the answer's `discard` do nothing, and its own settings
    for proxies and ``.netrc`` hold.
    """

    __slots__ = (
        "_base", "_closed", "_headers", "_loop", "_session", "_session_was_given", "_tls", "_traces", "_trust_env",
        "_way",
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
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise refusal(name="session", words="an aiohttp.ClientSession", value=session)
        fits = isinstance(trace_configs, list | tuple) and all(
            isinstance(x, aiohttp.TraceConfig) for x in trace_configs
        )
        if not fits:
            raise refusal(name="trace_configs", words="a list of aiohttp.TraceConfig", value=trace_configs)
        self._base = base_url.rstrip("/") + "/api/v1.1/"
        self._session = session
        self._session_was_given = session is not None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._way: DirectWay | _SessionWay | None = None
        self._tls = tls
        self._trust_env = trust_env
        self._traces = list(trace_configs)
        self._headers = {"User-Agent": user_agent}

    def __repr__(self) -> str:
        """Show where to and in which state."""
        state = "closed" if self._closed else "open" if self._session else "idle"
        return f"<AiohttpTransport {self._base} {state}>"

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        try:
            way = self._way if self._loop is not None else self._opened()
            return await way.send(  # type: ignore[union-attr]
                request, connect=connect, total=total, max_bytes=max_bytes, fresh=fresh
            )
        except (ConnectError, ConnectionLostError) as error:
            failure = error
        raise self._explained(failure)  # outside the handler, so that no context clings to it

    async def aclose(self) -> None:
        """Close the session if it is ours."""
        self._closed = True
        self._loop = None  # so that a later send meets the check in _open
        if self._way is not None:
            await self._way.close()
        if not self._session_was_given and self._session is not None:
            await self._session.close()

    def _opened(self) -> DirectWay | _SessionWay:
        try:
            return self._open()
        except AltcraftError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing has been sent, whatever it is
            failure = map_unsent(error, in_doubt=False)
        raise failure  # outside the handler, so that no context clings to it

    def _open(self) -> DirectWay | _SessionWay:
        if self._closed:
            raise ClientClosedError
        loop = asyncio.get_running_loop()
        if getattr(self._session, "_loop", loop) is not loop:
            msg = "the session that was given belongs to another event loop; make session and client in one loop"
            raise EventLoopError(msg)
        url = URL(self._base)  # first: where there can be none, nothing else is made
        proxy = _proxy_for(url) if self._trust_env and not self._session_was_given else None
        if self._session is None:
            self._session = self._make_session(fresh=False)
        if self._can_go_direct(proxy):
            self._way = DirectWay(self._session, self._base, self._headers, keep=_KEEP_ALIVE)
        else:
            make_fresh = None if self._session_was_given else lambda: self._make_session(fresh=True)
            self._way = _SessionWay(self._session, self._base, proxy=proxy, make_fresh=make_fresh)
        self._loop = loop  # last: a way that could not be made is made anew by the next call
        return self._way

    def _make_session(self, *, fresh: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=CleanConnector(
                limit=0,
                use_dns_cache=not fresh,
                ttl_dns_cache=_NAMES_KEPT,
                force_close=fresh,
                keepalive_timeout=None if fresh else _KEEP_ALIVE,
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Accept"),
            headers=self._headers,
            trace_configs=[watching_writes(), *self._traces],
        )

    def _can_go_direct(self, proxy: _Proxy | None) -> bool:
        """Whether nothing needs the session's way, and aiohttp is inside as the direct way knows it."""
        if self._session_was_given or self._traces or proxy is not None or URL(self._base).user is not None:
            return False
        unknown = misfit()
        if unknown is not None:
            _log.warning(
                "aiohttp %s is not as the direct way knows it (%s); calls go through its session, which costs more CPU",
                aiohttp.__version__,
                unknown,
            )
        return unknown is None

    def _explained(self, error: ConnectError | ConnectionLostError) -> ConnectError | ConnectionLostError:
        """Forget what the name resolved to, and where no connection was made, name a proxy that is set and not used."""
        if self._session_was_given or self._session is None:
            return error
        connector = self._session.connector
        if isinstance(connector, aiohttp.TCPConnector):
            connector.clear_dns_cache()
        if self._trust_env or self._way is None or not isinstance(error, ConnectError):
            return error
        variable = _proxy_variable(URL(self._base))
        if variable is None:
            return error
        said = f"{error.message}; {variable} is set and not used; trust_env=True (ALTCRAFT_TRUST_ENV=true) uses it"
        return ConnectError(said, maybe_applied=error.maybe_applied, local=error.local)


@attrs.frozen
class _Proxy:
    """A proxy of the environment, with the headers that name us to it."""

    url: URL = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)


def _proxy_for(url: URL) -> _Proxy | None:
    """Return the proxy that the environment wants for `url`; without a look into ``.netrc``, as aiohttp has."""
    given = getproxies().get(url.scheme)
    if not given or proxy_bypass(url.host or ""):
        return None
    try:
        proxy = URL(given if "://" in given else f"http://{given}")
        usable = proxy.scheme in {"http", "https"} and " " not in (proxy.host or " ") and bool(proxy.port)
    except ValueError:
        usable = False
    if not usable:
        variable = _proxy_variable(url) or f"{url.scheme.upper()}_PROXY"
        msg = f"{variable} has no proxy of HTTP, like http://proxy:3128; set it so, or leave trust_env out"
        raise ConfigurationError(msg, field="trust_env")
    headers = {}
    if proxy.user is not None:
        credentials = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {credentials}"
    return _Proxy(proxy.with_user(None), headers)


def _proxy_variable(url: URL) -> str | None:
    """Return the name of the variable whose proxy is used for `url` with `trust_env`."""
    if not getproxies_environment().get(url.scheme) or proxy_bypass(url.host or ""):
        return None
    name = f"{url.scheme}_proxy"
    return name if os.environ.get(name) else name.upper()


class _SessionWay:
    """Sends requests to `base` with calls of `session`.

    `make_fresh` makes the session whose connections carry one call each; None
    where the session is the user's, of which nothing is known.
    """

    __slots__ = ("_base", "_decodes", "_fresh", "_headers", "_make_fresh", "_proxy", "_session", "_timeouts", "_urls")

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        *,
        proxy: _Proxy | None,
        make_fresh: Callable[[], aiohttp.ClientSession] | None,
    ) -> None:
        self._session = session
        self._base = base
        self._proxy: dict[str, Any] = {}
        self._headers: Mapping[str, str] = {}
        if proxy is not None:
            self._proxy = {"proxy": proxy.url}
            if base.startswith("https:"):  # said to the proxy when the tunnel is made, and never to the platform
                self._proxy["proxy_headers"] = proxy.headers or None
            else:
                self._headers = proxy.headers
        self._make_fresh = make_fresh
        self._fresh: aiohttp.ClientSession | None = None
        self._decodes = session.auto_decompress
        self._urls: dict[str, URL] = {}
        self._timeouts: dict[tuple[float, float], aiohttp.ClientTimeout] = {}

    async def close(self) -> None:
        """Close the session for fresh connections; the other one is its owner's."""
        if self._fresh is not None:
            await self._fresh.close()

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        loop = asyncio.get_running_loop()
        due = loop.time() + total
        session = self._fresh_one() if fresh else self._session
        carriage = Carriage()
        answer = await self._ask(session, request, connect, total, max_bytes, carriage)
        if answer is not None:
            return answer
        left = max(due - loop.time(), 0.001)
        carriage = Carriage(in_doubt=not carriage.spoiled, unasked=carriage.unasked)
        answer = await self._ask(self._fresh_one(), request, min(connect, left), left, max_bytes, carriage)
        assert answer is not None  # noqa: S101 - only kept connections die without an error
        return answer

    def _fresh_one(self) -> aiohttp.ClientSession:
        if self._make_fresh is None:
            return self._session
        if self._fresh is None:
            self._fresh = self._make_fresh()
        return self._fresh

    async def _ask(  # noqa: PLR0913, PLR0917 - the parts of a call
        self,
        session: aiohttp.ClientSession,
        request: WireRequest,
        connect: float,
        total: float,
        max_bytes: int,
        carriage: Carriage,
    ) -> WireResponse | None:
        """Make one call; None where it died on a kept connection before a byte of the answer, and may be made again."""
        noted = carriage_of_task.set(carriage)
        response: aiohttp.ClientResponse | None = None
        failure: AltcraftError
        try:
            async with session.post(
                self._url(request.path),
                data=request.body,
                headers={**request.headers, **self._headers},
                timeout=self._timeout(connect, total),
                allow_redirects=False,
                raise_for_status=False,
                **self._proxy,
            ) as response:
                body = await self._body(response, max_bytes)
            if not carriage.spoiled:
                carriage.unasked |= carriage.tap is not None and carriage.tap.said_more()
                return WireResponse(
                    response.status, response.headers, body, carriage.discard, carriage.in_doubt, carriage.unasked
                )
        except DeliveryError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - what came before the request was written has sent nothing
            failure = self._judged(error, session, carriage)
        finally:
            carriage_of_task.reset(noted)
            carriage.finish()
        if carriage.spoiled:
            failure = map_unsent(UnaskedBytesError(), in_doubt=carriage.in_doubt)
        elif response is not None:
            failure = map_cut_off(failure, response.status, response.headers)
        if carriage.kept and carriage.unanswered and isinstance(failure, ConnectionLostError):
            return None
        raise failure  # outside the handlers, so that no context clings to it

    def _judged(self, error: Exception, session: aiohttp.ClientSession, carriage: Carriage) -> AltcraftError:
        """Return our error for one that a call raised; raise on what nobody can tell the effect of."""
        runtime = error.__cause__ if carriage.unanswered and not isinstance(error, RuntimeError) else error
        if isinstance(runtime, RuntimeError):  # aiohttp and uvloop say so of something closed
            if session.closed:
                return ClientClosedError("the session was closed; make a new client with an open session")
            if carriage.unanswered:  # writing to a transport that is closed
                return map_unsent(UnaskedBytesError(), in_doubt=carriage.in_doubt)
        known = isinstance(error, (aiohttp.ClientError, TimeoutError, OSError))
        unsent = carriage.tap is None if known else not carriage.written
        if unsent and self._make_fresh is not None:
            return map_unsent(error, in_doubt=carriage.in_doubt)
        if known:
            return map_error(error)
        raise error

    async def _body(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        """Read a body, and give up beyond `max_bytes`."""
        if response.status < 100:  # noqa: PLR2004 - the least that HTTP has
            response.close()
            raise no_status(response.status)
        if (response.content_length or 0) <= max_bytes:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    break
            else:
                encoding = response.headers.get("Content-Encoding", "")
                if self._decodes and encoding.lower() in _DECODED_BY_SESSIONS:
                    return bytes(body)
                return decoded(bytes(body), encoding, max_bytes=max_bytes)
        response.close()
        raise too_large(max_bytes)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base + path, encoded=True)
        return url

    def _timeout(self, connect: float, total: float) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get((connect, total))
        if timeout is None:
            # aiohttp rounds longer timeouts up to whole seconds, which would overrun a deadline
            timeout = aiohttp.ClientTimeout(total=total, sock_connect=connect, ceil_threshold=float("inf"))
            if not self._timeouts:  # the usual one; those cut by a deadline are all different
                self._timeouts[connect, total] = timeout
        return timeout
