"""FastAPI: one client, and outbox, for each application, opened and closed in order with it.

.. code-block:: python

    from fastapi import FastAPI

    from altcraft_async.integrations.fastapi import (
        AltcraftDep,
        DeadlineDep,
        altcraft_lifespan,
        health_router,
        install_problem_handlers,
    )

    app = FastAPI(lifespan=altcraft_lifespan())
    install_problem_handlers(app)
    app.include_router(health_router())


    @app.post("/lines/{order}/{line}")
    async def delivered(order: str, line: str, altcraft: AltcraftDep, deadline: DeadlineDep) -> None:
        await altcraft.market.orders.update_order_line_status(order, line, "delivered", deadline=deadline.left())

Needs the extra ``fastapi``: ``pip install 'altcraft-async[fastapi]'``. `altcraft_async.integrations.web` has the texts
of problems and health, and reads deadlines.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final, Self, TypeAlias, Unpack

import attrs

from altcraft_async.client import AltcraftClient, ClientOptions
from altcraft_async.errors import AltcraftError, ConfigurationError, MissingExtraError
from altcraft_async.integrations.openapi import show_problems
from altcraft_async.integrations.web import (
    PROBLEM_MEDIA_TYPE,
    PROBLEM_TYPES,
    Deadline,
    DeadlineHeader,
    failing_fast,
    idempotency_key_of,
    problem_of,
    readiness_of,
)
from altcraft_async.outbox import Outbox

try:
    from fastapi import APIRouter, Depends, FastAPI, Header, Request
    from fastapi.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotations
    from fastapi.responses import JSONResponse, Response
except ImportError:
    msg = "the FastAPI integration needs fastapi, which is not installed: pip install 'altcraft-async[fastapi]'"
    raise MissingExtraError(msg) from None

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from types import TracebackType

    from starlette.types import ASGIApp, Receive, Scope, Send

    from altcraft_async.sandbox import Sandbox, ThreadedSandbox

__all__ = [
    "AltcraftDep",
    "Deadline",
    "DeadlineDep",
    "DeadlineHeader",
    "IdempotencyKeyDep",
    "OutboxDep",
    "SandboxedApp",
    "altcraft_client",
    "altcraft_lifespan",
    "altcraft_outbox",
    "deadline_from",
    "health_router",
    "idempotency_key",
    "install_problem_handlers",
    "use_sandbox",
]

_log = logging.getLogger("altcraft_async")

OutboxSource: TypeAlias = "str | os.PathLike[str] | Callable[[AltcraftClient], Outbox]"
"""The path of an outbox, or a function that makes one for a client."""
Lifespan: TypeAlias = "Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, object] | None]]"
"""A lifespan as FastAPI takes it."""

_CLIENT: Final = "altcraft"
_OUTBOX: Final = "altcraft_outbox"
_REPLACEMENT: Final = "altcraft_replacement"


@attrs.frozen
class _Parts:
    """What a lifespan opens."""

    make_client: Callable[[], AltcraftClient]
    outbox: OutboxSource | None


def altcraft_lifespan(
    make_client: Callable[[], AltcraftClient] = AltcraftClient.from_env,
    *,
    outbox: OutboxSource | None = None,
    lifespan: Lifespan | None = None,
    fail_fast: bool = True,
) -> Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, object]]]:
    """Return the lifespan for ``FastAPI(lifespan=…)``, which opens one client and closes it.

    `make_client` returns the client; by default its settings come from the environment. `outbox` adds an outbox: its
    path, or a function that makes it for the client. `lifespan` is your own. It runs inside: client and outbox are open
    before it begins, and are closed after it has ended, first the outbox, which sends as much as it can in its
    ``drain_timeout``, then the client.

    In an outage handlers do not wait: their single calls fail at once with `OutageError`, a 503 with ``Retry-After``,
    except the one that is the probe. With `fail_fast` false they wait as long as the client's `OutagePolicy` says.

    The state that your lifespan yields is kept; ``altcraft`` and ``altcraft_outbox`` are
    added to it. A lifespan that needs the client itself can be written around this one:

    .. code-block:: python

        from collections.abc import AsyncIterator, Mapping
        from contextlib import asynccontextmanager

        from fastapi import FastAPI
        from shop import warehouse  # your own code

        from altcraft_async.integrations.fastapi import altcraft_lifespan


        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
            async with altcraft_lifespan()(app) as state, warehouse(state["altcraft"]) as stock:
                yield {**state, "stock": stock}

    A server that runs several worker processes starts the lifespan in each, so each has a client of its own.
    """
    usual = _Parts(make_client, outbox)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        parts: _Parts = getattr(app.state, _REPLACEMENT, usual)
        async with AsyncExitStack() as stack:
            altcraft = await stack.enter_async_context(parts.make_client())
            state: dict[str, object] = {_CLIENT: failing_fast(altcraft) if fail_fast else altcraft}
            source = parts.outbox if usual.outbox is not None else None
            if source is not None:
                make = source if callable(source) else partial(Outbox, source)
                state[_OUTBOX] = await stack.enter_async_context(make(altcraft))
            own = None if lifespan is None else await stack.enter_async_context(lifespan(app))
            yield {**(own or {}), **state}

    return run


async def altcraft_client(connection: HTTPConnection) -> AltcraftClient:
    """Return the application's client; raises `ConfigurationError` if no lifespan has opened one."""
    found = getattr(connection.state, _CLIENT, None)
    if not isinstance(found, AltcraftClient):
        raise _absent(connection, "Altcraft client", "altcraft_lifespan()", field="lifespan")
    return found


async def altcraft_outbox(connection: HTTPConnection) -> Outbox:
    """Return the application's outbox; raises `ConfigurationError` if no lifespan has opened one."""
    found = getattr(connection.state, _OUTBOX, None)
    if not isinstance(found, Outbox):
        raise _absent(connection, "outbox", "altcraft_lifespan(outbox=PATH)", field="outbox")
    return found


def _absent(connection: HTTPConnection, what: str, lifespan: str, *, field: str) -> ConfigurationError:
    """Return the error of a client or outbox that is not there, which says why it is not."""
    scope = connection.scope
    if scope.get("state"):
        msg = f"the application has no {what}; make it with FastAPI(lifespan={lifespan})"
    elif scope.get("root_path", "") != scope.get("app_root_path", scope.get("root_path", "")):
        msg = (
            f"there is no {what}: this application is mounted in another one, and only the outer one's lifespan runs; "
            f"give lifespan={lifespan} to the outer one"
        )
    else:
        msg = (
            f"there is no {what}, because no lifespan has run; in a test write 'with TestClient(app) as client:', "
            f"under uvicorn do not set --lifespan off, and make the application with FastAPI(lifespan={lifespan})"
        )
    return ConfigurationError(msg, field=field)


def deadline_from(header: DeadlineHeader) -> Callable[[HTTPConnection], Awaitable[Deadline]]:
    """Return the dependency that reads a request's deadline from `header`.

    .. code-block:: python

        from typing import Annotated

        from fastapi import Depends

        from altcraft_async.integrations.fastapi import DeadlineHeader, deadline_from
        from altcraft_async.integrations.web import Deadline

        EnvoyDeadline = Annotated[Deadline, Depends(deadline_from(DeadlineHeader("X-Envoy-Expected-Rq-Timeout-Ms")))]

    The time runs from when FastAPI has read the request.
    """
    shown = Header(None, alias=header.name, description="How long the caller waits for the answer.")

    async def read(connection: HTTPConnection, value: str | None = shown) -> Deadline:
        del value  # only OpenAPI asks for it
        return header.read(connection.headers)

    return read


async def idempotency_key(
    value: str | None = Header(
        None, alias="Idempotency-Key", description="The id of the change: given again, it is not made twice."
    ),
) -> str | None:
    """Return the ``Idempotency-Key`` of a request, for the ``request_id`` of a call or a put; None without one.

    Raises `InvalidUpdateError` for a key that cannot be an id.
    """
    return None if value is None else idempotency_key_of(value)


AltcraftDep = Annotated[AltcraftClient, Depends(altcraft_client)]
"""A handler's argument of this type is the application's client."""
OutboxDep = Annotated[Outbox, Depends(altcraft_outbox)]
"""A handler's argument of this type is the application's outbox."""
IdempotencyKeyDep = Annotated[str | None, Depends(idempotency_key)]
"""A handler's argument of this type is the caller's ``Idempotency-Key``: pass it on as ``request_id``."""
DeadlineDep = Annotated[Deadline, Depends(deadline_from(DeadlineHeader()))]
"""A handler's argument of this type is the request's `Deadline`, from ``Request-Timeout``; see `deadline_from`."""


def install_problem_handlers(app: FastAPI, *, types: str = PROBLEM_TYPES) -> None:
    """Let `app` answer our errors with problem documents (RFC 9457), as ``application/problem+json``.

    `altcraft_async.integrations.web.problem_of` makes the document: it has nothing that a stranger should not read. If
    the status is 500 or above, the whole error goes to the log ``altcraft_async``, as a WARNING. `types` is the prefix
    of a problem's ``type``.

    A handler of your own for one of our classes takes precedence. WebSocket handlers get their errors unchanged. The
    documents are in the application's OpenAPI, at the operations that use the client or the outbox.
    """

    async def answer(request: Request, error: Exception) -> Response:
        if not isinstance(error, AltcraftError) or request.scope["type"] != "http":
            raise error
        problem = problem_of(error, instance=request.url.path, types=types)
        if problem.status >= 500:  # noqa: PLR2004 - not the caller's fault
            extra = {"request_id": problem.members.get("request_id")}
            _log.warning("%s %s: %s", request.method, request.url.path, error, extra=extra)
        return JSONResponse(problem.body, problem.status, problem.headers, PROBLEM_MEDIA_TYPE)

    app.add_exception_handler(AltcraftError, answer)
    show_problems(app, {altcraft_client: (422, 502, 503, 504), altcraft_outbox: (422, 503)})


def health_router(
    *, liveness: str | None = "/livez", readiness: str | None = "/readyz", overdue: float = 300.0
) -> APIRouter:
    """Return the two routes for a supervisor.

    `liveness` answers 200 as long as the event loop runs. `readiness` answers 200, or 503 if the service cannot do its
    work, with the figures of that judgement: see `altcraft_async.integrations.web.readiness_of`, also for `overdue`. A
    path that is None is left out.
    """
    router = APIRouter(include_in_schema=False)
    fresh = {"Cache-Control": "no-store"}

    async def live() -> Response:
        return JSONResponse({"status": "pass"}, headers=fresh)

    async def ready(request: Request) -> Response:
        state = request.state
        health = readiness_of(getattr(state, _CLIENT, None), getattr(state, _OUTBOX, None), overdue=overdue)
        return JSONResponse(health.body, health.http_status, fresh)

    for path, endpoint in ((liveness, live), (readiness, ready)):
        if path is not None:
            router.add_api_route(path, endpoint, methods=["GET", "HEAD"])
    return router


def use_sandbox(
    app: FastAPI,
    sandbox: Sandbox | ThreadedSandbox,
    *,
    outbox: OutboxSource | None = None,
    **options: Unpack[ClientOptions],
) -> SandboxedApp:
    """Connect `app` to a sandbox instead of Altcraft, for a test.

    The application's `altcraft_lifespan` opens a client of `sandbox`, made with `options`, instead of its own. If the
    application has an outbox, it gets `outbox` instead, or a fresh one in a temporary directory. All else runs as in
    production. Use it with ``with`` around a ``TestClient``, and with ``async with`` around httpx, whose transport does
    not run lifespans:

    .. code-block:: python

        from fastapi.testclient import TestClient
        from shop import app  # your own code

        from altcraft_async.integrations.fastapi import use_sandbox


        def test_the_service_is_ready(altcraft_sandbox):  # the pytest fixture
            with use_sandbox(app, altcraft_sandbox), TestClient(app) as http:
                assert http.get("/readyz").status_code == 200

    .. code-block:: python

        from httpx import ASGITransport, AsyncClient
        from shop import app  # your own code

        from altcraft_async.integrations.fastapi import use_sandbox


        async def test_the_service_is_ready(altcraft_sandbox):  # with pytest-asyncio or anyio
            async with use_sandbox(app, altcraft_sandbox) as running:
                async with AsyncClient(transport=ASGITransport(running), base_url="http://test") as http:
                    assert (await http.get("/readyz")).status_code == 200
    """
    return SandboxedApp(app, _Parts(partial(AltcraftClient, sandbox.base_url, sandbox.token, **options), outbox))


class SandboxedApp:
    """An application that is connected to a sandbox while this context is open; see `use_sandbox`."""

    __slots__ = ("_app", "_parts", "_running", "_stack")

    def __init__(self, app: FastAPI, parts: _Parts) -> None:
        self._app = app
        self._parts = parts
        self._stack = ExitStack()
        self._running = AsyncExitStack()

    def __repr__(self) -> str:
        """Show the application."""
        return f"<SandboxedApp {self._app.title}>"

    def __enter__(self) -> Self:
        """Replace what the lifespan will open."""
        parts = self._parts
        if parts.outbox is None:
            directory = self._stack.enter_context(TemporaryDirectory(prefix="altcraft-", ignore_cleanup_errors=True))
            parts = attrs.evolve(parts, outbox=Path(directory) / "outbox.db")
        before = getattr(self._app.state, _REPLACEMENT, None)
        self._stack.callback(self._replace, before)
        self._replace(parts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the application back as it was."""
        self._stack.close()

    async def __aenter__(self) -> ASGIApp:
        """Run the application's lifespan as well, and give the application as a client can call it."""
        self.__enter__()
        try:
            state = await self._running.enter_async_context(self._app.router.lifespan_context(self._app))
        except BaseException:
            self._stack.close()
            raise

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, "state": dict(state or {})}, receive, send)

        return with_state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the lifespan, then put the application back as it was."""
        try:
            await self._running.__aexit__(kind, error, trace)
        finally:
            self._stack.close()

    def _replace(self, parts: _Parts | None) -> None:
        if parts is None:
            delattr(self._app.state, _REPLACEMENT)
        else:
            setattr(self._app.state, _REPLACEMENT, parts)
