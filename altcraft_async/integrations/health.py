"""Health and metrics over HTTP, for a process that has no web server of its own: one that only drains an outbox.

.. code-block:: python

    import asyncio

    from altcraft_async import AltcraftClient
    from altcraft_async.integrations.health import HealthServer
    from altcraft_async.outbox import Outbox


    async def drain(path: str, end: asyncio.Event) -> None:
        async with AltcraftClient.from_env() as altcraft, Outbox(path, altcraft) as outbox:
            async with HealthServer(altcraft, outbox, port=8081):
                await end.wait()

``/livez`` answers 200 while the event loop turns, ``/readyz`` 200 or 503 as
`altcraft_async.integrations.web.readiness_of` judges, ``/metrics`` figures in the text format of Prometheus. They tell
numbers and fixed words only, and take nothing: anybody may ask.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from aiohttp import web

from altcraft_async.errors import ConfigurationError
from altcraft_async.integrations.web import readiness_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from altcraft_async.client import AltcraftClient
    from altcraft_async.outbox import Outbox

__all__ = ["HealthServer", "metrics_of"]

_FRESH = {"Cache-Control": "no-store"}
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def metrics_of(altcraft: AltcraftClient, outbox: Outbox) -> str:
    """Write the figures of a client and its outbox in the text format of Prometheus."""
    return "".join(
        f"# HELP altcraft_{name} {said}\n# TYPE altcraft_{name} {'counter' if name.endswith('_total') else 'gauge'}\n"
        f"altcraft_{name} {value:g}\n"
        for name, said, value in _figures(altcraft, outbox)
        if value is not None and math.isfinite(value)
    )


def _figures(altcraft: AltcraftClient, outbox: Outbox) -> Iterator[tuple[str, str, float | None]]:
    kept = outbox.statistics()
    yield "outbox_pending", "Updates that wait in the outbox.", kept.pending
    yield "outbox_capacity", "Updates that may wait in the outbox.", kept.capacity
    yield "outbox_oldest_seconds", "For how long the first update has been waiting.", kept.oldest
    yield "outbox_dead", "Updates that the outbox has given up.", kept.dead
    yield "outbox_delivered_total", "Updates that this process delivered.", kept.delivered
    yield "outbox_leases", "Buckets that this process delivers.", kept.leases
    yield "outbox_drainers", "Processes that deliver.", kept.drainers
    yield "outbox_dropped_total", "Dead letters that this process dropped.", kept.dropped
    yield "outbox_paused", "1 while delivery is paused here, 0 otherwise.", kept.paused
    yield "outbox_accepting", "1 while the outbox can be used, 0 otherwise.", kept.accepting
    yield "outbox_dead_tuples", "Deleted rows that the database has not cleaned away.", kept.dead_tuples
    yield "outbox_oldest_transaction_seconds", "Age of the database's oldest transaction.", kept.oldest_transaction
    if altcraft.closed:
        return
    client = altcraft.statistics()
    yield "limit", "How many requests may be in flight.", client.limit
    yield "requests_in_flight", "Requests under way.", client.in_flight
    yield "requests_total", "Requests that were sent.", client.sent
    yield "retries_total", "Requests that were not their call's first.", client.retries
    yield "throttled_total", "Requests that met with back-pressure.", client.throttled
    yield "outage_seconds", "For how long the server has served nobody.", client.outage or 0.0


class HealthServer:
    """Answers on `host` and `port`, where 0 takes any free one, while it is used with ``async with``.

    `overdue` is as for `readiness_of`. Raises `ConfigurationError` if the port cannot be used.
    """

    __slots__ = ("_altcraft", "_host", "_outbox", "_overdue", "_port", "_runner")

    def __init__(
        self,
        altcraft: AltcraftClient,
        outbox: Outbox,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        overdue: float = 300.0,
    ) -> None:
        self._altcraft = altcraft
        self._outbox = outbox
        self._host = host
        self._port = port
        self._overdue = overdue
        application = web.Application()
        for path, answer in (("/livez", self._live), ("/readyz", self._ready), ("/metrics", self._metrics)):
            application.router.add_get(path, answer)
        self._runner = web.AppRunner(application, access_log=None)

    def __repr__(self) -> str:
        """Show the address."""
        return f"<HealthServer {self.url}>"

    @property
    def url(self) -> str:
        """Where it answers."""
        addresses = self._runner.addresses
        host, port = addresses[0][:2] if addresses else (self._host, self._port)
        return f"http://{f'[{host}]' if ':' in str(host) else host}:{port}"

    async def __aenter__(self) -> Self:
        """Begin to answer."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            msg = f"{self._host}:{self._port} cannot be listened on ({error.strerror or error}); give another port"
            raise ConfigurationError(msg, field="port") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer no more."""
        await self._runner.cleanup()

    async def _live(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "pass"}, headers=_FRESH)

    async def _ready(self, request: web.Request) -> web.Response:
        del request
        health = readiness_of(self._altcraft, self._outbox, overdue=self._overdue)
        return web.json_response(health.body, status=health.http_status, headers=_FRESH)

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        text = metrics_of(self._altcraft, self._outbox)
        return web.Response(body=text.encode(), headers={**_FRESH, "Content-Type": _TEXT})
