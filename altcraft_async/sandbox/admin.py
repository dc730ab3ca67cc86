"""The admin API below ``/_sandbox/`` and the page at ``/``: who is let in, which call it is, what happens now."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aiohttp import web

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox.admin_calls import ROUTES
from altcraft_async.sandbox.admin_http import (
    ADMIN_BODY,
    EVENTS,
    PREFIX,
    SAFE_HEADERS,
    Given,
    Problem,
    dumps,
    file_answer,
    json_answer,
    last_seen,
    read_given,
)
from altcraft_async.sandbox.forms import preset_of
from altcraft_async.sandbox.guard import objection
from altcraft_async.sandbox.redaction import REDACTED
from altcraft_async.sandbox.traffic import LOOKED_FOR_FROM, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from altcraft_async.sandbox.account import Account
    from altcraft_async.sandbox.routes import Route
    from altcraft_async.sandbox.server import Sandbox

__all__ = ["ADMIN_BODY", "PREFIX", "ROUTES", "Admin", "is_admin"]

_STREAMS = 32
"""Streams of events at once: a page that is opened again and again must not pile them up."""
_GATHERED = 0.2
"""Seconds for which news is gathered: a thousand requests a second are five events."""
_SILENCE = 15.0
"""Seconds without news after which a stream shows that it is still there."""
_IN_ONE_EVENT: Final = 100
"""Requests in one event; more are counted as missed, and a page asks for what it shows."""


def is_admin(request: web.BaseRequest) -> bool:
    """Return whether a request is for the admin API or the page, and not for the emulated platform."""
    path = request.rel_url.raw_path
    return path.startswith(PREFIX) or (path == "/" and request.method in {"GET", "HEAD"})


class Admin:
    """Answers the calls of the admin API of one sandbox."""

    __slots__ = ("_hosts", "_network", "_streams", "account", "sandbox", "since")

    def __init__(self, sandbox: Sandbox, account: Account, network: bool, hosts: Iterable[str]) -> None:
        self.sandbox = sandbox
        self.account = account
        self.since = time.monotonic()
        self._network = network
        self._hosts = frozenset(name.lower() for name in hosts)
        self._streams: set[asyncio.Task[object] | None] = set()

    def __repr__(self) -> str:
        """Show how many look on."""
        return f"<Admin: {len(self._streams)} streams>"

    async def close(self) -> None:
        """End the streams of events, which would go on for ever."""
        streams = [task for task in self._streams if task is not None]
        for task in streams:
            task.cancel()
        if streams:
            await asyncio.wait(streams, timeout=1.0)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one call."""
        try:
            response = await self._answer(request)
        except Problem as problem:
            response = self._json({"error": problem.text, "field": problem.field}, problem.status)
        except ConfigurationError as error:
            response = self._json({"error": str(error), "field": error.field}, 400)
        if not request.content.is_eof():
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        peer = request.transport and request.transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else None
        text = objection(address, request.headers, hosts=self._hosts, network=self._network, page=path in {"/", PREFIX})
        if text is not None:
            raise Problem(403, text)
        if path == "/":
            return file_answer("index.html")
        route, parts = _route_of(request.method, path.removeprefix(PREFIX.rstrip("/")))
        given = await read_given(request, route, parts)
        told = route.call(self, given)
        if inspect.isawaitable(told):
            told = await told
        return told if isinstance(told, web.StreamResponse) else self._json(told)

    async def stream(self, given: Given) -> web.StreamResponse:
        """Send what happens, as server-sent events, until the client goes or the sandbox stops."""
        if len(self._streams) >= _STREAMS:
            raise Problem(503, f"{_STREAMS} streams of events are open already; close one")
        head = {**SAFE_HEADERS, "Content-Type": f"{EVENTS}; charset=utf-8"}
        response = web.StreamResponse(headers=head)
        seen = last_seen(given.http, given.number("after", self.sandbox.traffic.last))
        task = asyncio.current_task()
        if task is not None:
            self._streams.add(task)
        try:
            await response.prepare(given.http)
            while True:
                news = self.sandbox.traffic.news()
                event, seen = self._event(seen)
                await response.write(event)
                done, _ = await asyncio.wait((news,), timeout=_SILENCE)
                if done:
                    await asyncio.sleep(_GATHERED)
        except ConnectionError:
            return response
        finally:
            self._streams.discard(task)

    def _event(self, seen: int) -> tuple[bytes, int]:
        traffic = self.sandbox.traffic
        seen = min(seen, traffic.last)
        rows = traffic.since(seen, _IN_ONE_EVENT)
        missed = traffic.last - max(seen, traffic.start) - len(rows)
        told = {"requests": [row.brief() for row in rows], "missed": max(0, missed), "state": self.figures()}
        return f"id: {traffic.last}\nevent: news\ndata: {self._written(told)}\n\n".encode(), traffic.last

    def _json(self, told: object, status: int = 200) -> web.Response:
        return json_answer(self._written(told), status)

    def _written(self, told: object) -> str:
        """Write JSON, in which a token stands nowhere: an id may be one by a slip of the caller's."""
        text = dumps(told)
        for token in self.sandbox.traffic.tokens:
            if len(token) >= LOOKED_FOR_FROM:
                text = text.replace(dumps(token)[1:-1], REDACTED)
        return text

    def figures(self) -> dict[str, object]:
        """Return what is quickly counted, for every event."""
        sandbox, book = self.sandbox, self.sandbox.ledger
        counts = sandbox.traffic.counts
        return {
            "orders": len(self.account.market),
            "requests": book.requests,
            "results": {str(result): counts[result] for result in Result},
            "in_flight": book.in_flight,
            "peak_in_flight": book.peak_in_flight,
            "faults": preset_of(sandbox.faults),
            "refused": sandbox.traffic.refused_now,
            "last": sandbox.traffic.last,
            "start": sandbox.traffic.start,
        }


def _route_of(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    allowed = []
    for route, pattern in _PATTERNS:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if route.method == method or (route.method == "GET" and method == "HEAD" and route.answers != EVENTS):
            return route, {name: unquote(value) for name, value in match.groupdict().items()}
        allowed.append(route.method)
    if allowed:
        raise Problem(405, f"this is called with {' or '.join(allowed)}")
    raise Problem(404, f"the admin API has no such call; {PREFIX} describes all of them")


_PATTERNS = [(route, route.pattern) for route in ROUTES]
