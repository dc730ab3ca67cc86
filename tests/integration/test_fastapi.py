"""FastAPI over real servers: one client in order with the application, problems, deadlines, health."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient

from altcraft_async import AltcraftClient, ConfigurationError, InvalidUpdateError, errors
from altcraft_async.integrations.fastapi import (
    AltcraftDep,
    DeadlineDep,
    DeadlineHeader,
    IdempotencyKeyDep,
    OutboxDep,
    altcraft_lifespan,
    deadline_from,
    health_router,
    install_problem_handlers,
    use_sandbox,
)
from altcraft_async.integrations.web import PROBLEMS, Deadline
from altcraft_async.sandbox import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CANARY = "canary-5d1f0c77e3"
LINE = "/lines/order_1/line_1_1"
ENVOY = "X-Envoy-Expected-Rq-Timeout-Ms"
EnvoyDeadline = Annotated[Deadline, Depends(deadline_from(DeadlineHeader(ENVOY, default=2.0, maximum=4.0)))]


class Failing:
    """A route that raises what the test gives it."""

    error: Exception = Exception()


def make_app(**lifespan: Any) -> FastAPI:
    app = FastAPI(lifespan=altcraft_lifespan(**lifespan))
    install_problem_handlers(app)
    app.include_router(health_router())

    @app.put("/lines/{order}/{line}")
    async def put(
        order: str, line: str, altcraft: AltcraftDep, deadline: DeadlineDep, idempotency_key: IdempotencyKeyDep
    ) -> dict[str, str]:
        done = await altcraft.market.orders.update_order_line_status(
            order, line, "delivered", request_id=idempotency_key, deadline=deadline.left()
        )
        return {"status": done.status_external_id}

    @app.get("/fail")
    async def fail() -> None:
        raise Failing.error

    return app


@pytest.fixture
def app() -> FastAPI:
    return make_app()


@pytest.fixture
async def http(app, sandbox, quick):
    async with (
        use_sandbox(app, sandbox, retry=quick) as running,
        httpx.AsyncClient(transport=httpx.ASGITransport(running), base_url="http://test") as client,
    ):
        yield client


@asynccontextmanager
async def serving(app: FastAPI, **config: Any) -> AsyncIterator[str]:
    """Run `app` under uvicorn on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None, **config))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.001)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def test_a_handler_gets_the_client(http, sandbox):
    answer = await http.put(LINE)
    assert (answer.status_code, answer.json()) == (200, {"status": "delivered"})
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"


def test_the_test_client_of_fastapi_works_with_a_threaded_sandbox(app, altcraft_sandbox):
    altcraft_sandbox.seed_orders(1)
    with use_sandbox(app, altcraft_sandbox), TestClient(app) as http:
        assert http.put(LINE).status_code == 200
    assert altcraft_sandbox.line_status("order_1", "line_1_1") == "delivered"


def test_a_lifespan_that_did_not_run_is_told_as_what_it_is(app):
    with pytest.raises(ConfigurationError, match="no lifespan has run; in a test write 'with TestClient"):
        TestClient(make_plain(app)).put(LINE)


def test_a_mounted_application_is_told_that_only_the_outer_lifespan_runs(app):
    outer = FastAPI()
    outer.mount("/inner", make_plain(app))
    with TestClient(outer) as http, pytest.raises(ConfigurationError, match="is mounted in another one"):
        http.put(f"/inner{LINE}")


def test_an_application_whose_lifespan_is_another_is_told_which_it_needs(app):
    @asynccontextmanager
    async def other(_: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        yield {"stock": 1}

    app.router.lifespan_context = other
    with TestClient(make_plain(app)) as http, pytest.raises(ConfigurationError, match="has no Altcraft client; make"):
        http.put(LINE)


def make_plain(app: FastAPI) -> FastAPI:
    """Let errors come up as they are."""
    app.exception_handlers.clear()
    return app


def test_problems_and_headers_stand_in_openapi(app):
    @app.post("/later")
    async def later(outbox: OutboxDep) -> None: ...

    document = app.openapi()
    assert app.openapi() is document
    put = document["paths"]["/lines/{order}/{line}"]["put"]
    assert {"Request-Timeout", "Idempotency-Key"} <= {one["name"] for one in put["parameters"]}
    for status in ("422", "502", "503", "504"):
        shown = put["responses"][status]["content"]["application/problem+json"]["schema"]
        assert shown == {"$ref": "#/components/schemas/Problem"}
    assert "application/json" in put["responses"]["422"]["content"]  # FastAPI's own
    assert {"422", "503"} <= document["paths"]["/later"]["post"]["responses"].keys()
    assert "503" not in document["paths"]["/fail"]["get"]["responses"]
    assert {"request_id", "retry_after"} <= document["components"]["schemas"]["Problem"]["properties"].keys()


@pytest.mark.parametrize("key", ["key-1", '"key-1"'])
async def test_an_idempotency_key_becomes_the_request_id_of_the_change(http, sandbox, key):
    for _ in range(2):
        assert (await http.put(LINE, headers={"Idempotency-Key": key})).status_code == 200
    assert [change.request_id for change in sandbox.ledger.changes("order_1", "line_1_1")] == ["key-1"]


async def test_an_idempotency_key_that_can_be_no_id_is_the_callers_mistake(http):
    answer = await http.put(LINE, headers={"Idempotency-Key": '" "'})
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


@pytest.mark.slow
async def test_all_requests_share_one_client_which_ends_with_the_application(sandbox):
    made = []

    def make() -> AltcraftClient:
        made.append(AltcraftClient(sandbox.base_url, sandbox.token))
        return made[-1]

    async with serving(make_app(make_client=make)) as url, httpx.AsyncClient() as http:
        answers = await asyncio.gather(*(http.put(f"{url}/lines/order_{n}/line_{n}_1") for n in range(1, 6)))
        (client,) = made
        assert not client.closed
    assert [answer.status_code for answer in answers] == [200] * 5
    assert client.closed
    assert client.statistics().sent == 5


async def test_the_client_outlives_the_lifespan_of_the_application_and_keeps_its_state(sandbox):
    seen = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        seen.append("begins")
        yield {"stock": 7}
        seen.append(f"ends with the client {'closed' if client.closed else 'open'}")

    client = AltcraftClient(sandbox.base_url, sandbox.token)
    lifespan = altcraft_lifespan(lambda: client, lifespan=own)
    app = FastAPI()
    async with lifespan(app) as state:
        assert state.keys() == {"stock", "altcraft"}
        copy = state["altcraft"]
        assert (copy.base_url, copy.settings.outage.fail_fast) == (client.base_url, True)
    assert seen == ["begins", "ends with the client open"]
    assert client.closed


async def test_a_lifespan_without_state_is_fine(sandbox):
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        yield

    async with altcraft_lifespan(lambda: AltcraftClient(sandbox.base_url, "t"), lifespan=own)(FastAPI()) as state:
        assert list(state) == ["altcraft"]


async def test_a_lifespan_that_fails_closes_the_client(sandbox):
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError
        yield

    client = AltcraftClient(sandbox.base_url, sandbox.token)
    with pytest.raises(RuntimeError):
        async with altcraft_lifespan(lambda: client, lifespan=own)(FastAPI()):
            pass
    assert client.closed


async def test_settings_that_are_missing_stop_the_application_at_its_start(monkeypatch):
    monkeypatch.delenv("ALTCRAFT_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="ALTCRAFT_TOKEN"):
        async with altcraft_lifespan()(FastAPI()):
            pass


async def test_a_mounted_application_shares_the_client(sandbox, quick):
    outer = FastAPI(lifespan=altcraft_lifespan())
    outer.mount("/inner", make_app())
    async with (
        use_sandbox(outer, sandbox, retry=quick) as running,
        httpx.AsyncClient(transport=httpx.ASGITransport(running), base_url="http://test") as http,
    ):
        assert (await http.put("/inner" + LINE)).status_code == 200


async def test_without_the_lifespan_the_fault_is_named():
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/")
    async def get(altcraft: AltcraftDep) -> None:
        pass

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.get("/")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:problem-type:altcraft:configuration")


async def test_the_sandbox_leaves_when_its_context_ends(app, sandbox, monkeypatch):
    monkeypatch.delenv("ALTCRAFT_TOKEN", raising=False)
    async with use_sandbox(app, sandbox):
        pass
    with pytest.raises(ConfigurationError):
        async with app.router.lifespan_context(app):
            pass


@pytest.mark.parametrize("kind", PROBLEMS)
async def test_every_error_becomes_a_problem(http, kind):
    Failing.error = kind(CANARY)
    if kind is InvalidUpdateError:
        Failing.error = InvalidUpdateError("order_external_id is empty", source=CANARY)
    answer = await http.get("/fail")
    assert answer.status_code == PROBLEMS[kind].status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["instance"]) == (answer.status_code, "/fail")
    assert answer.headers.get("retry-after") == (str(problem["retry_after"]) if "retry_after" in problem else None)
    assert CANARY not in answer.text + str(answer.headers)


async def test_a_refusal_of_the_server_is_told_without_its_words(http, sandbox):
    answer = await http.put("/lines/order_99/line_99_1", headers={"Idempotency-Key": "change-1"})
    assert answer.status_code == 422
    assert answer.json() == {
        "type": "urn:problem-type:altcraft:bad-request",
        "title": "Altcraft does not accept the update",
        "status": 422,
        "detail": "The order, the line or the status may not exist; correct it.",
        "instance": "/lines/order_99/line_99_1",
        "request_id": "change-1",
        "maybe_applied": False,
    }


async def test_a_token_that_altcraft_refuses_is_no_fault_of_the_caller(sandbox):
    app = make_app(make_client=lambda: AltcraftClient(sandbox.base_url, CANARY))
    async with serving(app) as url, httpx.AsyncClient() as http:
        answer = await http.put(url + LINE)
        health = await http.get(url + "/readyz")
    assert answer.status_code == 502
    assert CANARY not in answer.text + str(answer.headers) + health.text


async def test_a_rate_limit_of_altcraft_comes_with_retry_after(http, sandbox):
    sandbox.faults = Faults(script=lambda *_: Fault("error", status=429, retry_after=40))
    answer = await http.put(LINE, headers={"Request-Timeout": "0.1"})
    assert answer.status_code == 504
    assert 30 < int(answer.headers["retry-after"]) <= 40
    assert answer.json()["maybe_applied"] is False


async def test_what_the_caller_is_not_told_is_logged(http, caplog):
    Failing.error = errors.ServerError("the database of Altcraft is on fire")
    with caplog.at_level(logging.WARNING, "altcraft_async"):
        await http.get("/fail")
        Failing.error = errors.BadRequestError("the caller's own fault")
        await http.get("/fail")
    (record,) = caplog.records
    assert record.getMessage() == "GET /fail: the database of Altcraft is on fire"


async def test_a_handler_of_ones_own_goes_before(app, http):
    @app.exception_handler(errors.ServerError)
    async def own(request, error):
        raise HTTPException(418)

    app.middleware_stack = None
    Failing.error = errors.ServerError("x")
    assert (await http.get("/fail")).status_code == 418


def test_a_web_socket_gets_the_error_as_it_is(app):
    @app.websocket("/ws")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        raise errors.ServerError(CANARY)

    with (
        pytest.raises(errors.ServerError),
        TestClient(app).websocket_connect("/ws") as talking,
    ):
        talking.receive_text()


async def test_the_deadline_of_the_request_bounds_the_call(http, sandbox):
    sandbox.faults = Faults(script=lambda *_: Fault("delay", delay=5.0))
    began = asyncio.get_running_loop().time()
    answer = await http.put(LINE, headers={"Request-Timeout": "0.1", "Idempotency-Key": "change-1"})
    assert asyncio.get_running_loop().time() - began < 4.0
    assert answer.status_code == 504
    assert answer.json()["maybe_applied"] is True
    assert answer.json()["request_id"] == "change-1"


async def test_another_header_can_carry_the_deadline():
    app = FastAPI()

    @app.get("/")
    async def get(deadline: EnvoyDeadline) -> float:
        return deadline.seconds

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        given = [{}, {ENVOY.lower(): "1500"}, {ENVOY: "9000"}, {ENVOY: "soon"}]
        assert [(await http.get("/", headers=headers)).json() for headers in given] == [2.0, 1.5, 4.0, 2.0]


@pytest.mark.slow
async def test_a_caller_that_hangs_up_harms_nothing(sandbox, until):
    client = AltcraftClient(sandbox.base_url, sandbox.token, concurrency=1)
    sandbox.faults = Faults(script=[Fault("delay", delay=0.1)])
    async with serving(make_app(make_client=lambda: client)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"PUT {LINE} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await until(lambda: sandbox.ledger.in_flight == 1)
        writer.close()
        await until(lambda: client.statistics().in_flight == 0)
        async with httpx.AsyncClient() as http:
            assert (await http.put(f"{url}/lines/order_2/line_2_1")).status_code == 200
        del reader
    assert sandbox.ledger.check([("order_1", "line_1_1", "delivered"), ("order_2", "line_2_1", "delivered")]).ok


@pytest.mark.slow
async def test_a_shutdown_lets_handlers_finish_before_the_client_closes(sandbox, until):
    sandbox.faults = Faults(script=[Fault("delay", delay=0.2)])
    app = make_app(make_client=lambda: AltcraftClient(sandbox.base_url, sandbox.token))
    async with httpx.AsyncClient() as http:
        async with serving(app, timeout_graceful_shutdown=5) as url:
            call = asyncio.create_task(http.put(url + LINE))
            await until(lambda: sandbox.ledger.in_flight == 1)
        assert (await call).status_code == 200


async def test_health_says_alive_and_ready_with_figures(http):
    await http.put(LINE)
    alive, ready = await http.get("/livez"), await http.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "pass"})
    assert ready.status_code == 200
    assert ready.headers["cache-control"] == "no-store"
    assert ready.json()["altcraft"]["sent"] == 1
    assert ready.json()["altcraft"]["last_success"] > 1_700_000_000
    assert (await http.head("/readyz")).status_code == 200


async def test_without_a_client_the_service_is_alive_and_not_ready():
    app = FastAPI()
    app.include_router(health_router(liveness="/alive", readiness="/ready"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert (await http.get("/alive")).status_code == 200
        assert (await http.get("/ready")).status_code == 503


def test_health_paths_can_be_left_out_and_are_no_part_of_the_schema():
    app = FastAPI()
    app.include_router(health_router(liveness=None))
    with TestClient(app) as http:
        assert http.get("/livez").status_code == 404
        assert http.get("/openapi.json").json()["paths"] == {}


@pytest.mark.slow
def test_without_fastapi_the_extra_is_named():
    code = "import sys; sys.modules['fastapi'] = None; import altcraft_async.integrations.fastapi"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in run.stderr
    assert "pip install 'altcraft-async[fastapi]'" in run.stderr
