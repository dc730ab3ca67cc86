"""An aiohttp.web service that makes a change while its caller waits.

ALTCRAFT_BASE_URL=… ALTCRAFT_TOKEN=… python aiohttp_service.py
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aiohttp import web

from altcraft_async import AltcraftClient, AltcraftError
from altcraft_async.integrations.web import PROBLEM_MEDIA_TYPE, DeadlineHeader, problem_of, readiness_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ALTCRAFT: web.AppKey[AltcraftClient] = web.AppKey("altcraft")
DEADLINES = DeadlineHeader("Request-Timeout", default=5.0, maximum=20.0)


async def altcraft_client(app: web.Application) -> AsyncIterator[None]:
    """Open one client with the application, and close it with it."""
    async with AltcraftClient.from_env() as altcraft:
        app[ALTCRAFT] = altcraft
        yield


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer our errors with problem documents, which give nothing away."""
    try:
        return await handler(request)
    except AltcraftError as error:
        problem = problem_of(error, instance=request.path)
        return web.json_response(
            problem.body, status=problem.status, headers=problem.headers, content_type=PROBLEM_MEDIA_TYPE
        )


async def put_status(request: web.Request) -> web.Response:
    """Give an order line its status, in no more time than the caller has."""
    deadline = DEADLINES.read(request.headers)
    ids = request.match_info
    echo = await request.app[ALTCRAFT].market.orders.update_order_line_status(
        ids["order"],
        ids["line"],
        (await request.text()).strip(),
        request_id=request.headers.get("Idempotency-Key"),
        deadline=deadline.left(),
    )
    return web.json_response({"status": echo.status_external_id})


async def ready(request: web.Request) -> web.Response:
    """Tell a supervisor whether the service can do its work."""
    health = readiness_of(request.app[ALTCRAFT])
    return web.json_response(health.body, status=health.http_status)


def make_app() -> web.Application:
    """Put the service together."""
    app = web.Application(middlewares=[problems])
    app.cleanup_ctx.append(altcraft_client)
    app.add_routes([web.put("/orders/{order}/lines/{line}/status", put_status), web.get("/readyz", ready)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), port=int(os.environ.get("PORT", "8000")))
