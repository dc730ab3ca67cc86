"""The examples of the documents, run as they stand there against real servers on loopback."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from altcraft_async import AltcraftClient
from altcraft_async.sandbox import Faults, Sandbox, ThreadedSandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import ModuleType

    Until = Callable[[Callable[[], object]], Awaitable[None]]

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
STOPPED = (0, -signal.SIGTERM)
"""uvicorn ends in order, and then hands the signal on to itself."""
SOME_FAULTS = Faults.mixed(0.1, latency=0.003)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(sandbox: Sandbox | ThreadedSandbox, **more: str) -> dict[str, str]:
    given = {"ALTCRAFT_BASE_URL": sandbox.base_url, "ALTCRAFT_TOKEN": sandbox.token, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **given, **more}


# -- courier_webhooks: FastAPI under uvicorn, with the outbox


class Service:
    """The example under uvicorn, in a process of its own."""

    def __init__(self, sandbox: ThreadedSandbox, outbox: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = environment(sandbox, OUTBOX=str(outbox))

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "courier_webhooks:app", "--port", str(self.port), "--log-level", "error"],
            cwd=EXAMPLES,
            env=self.environ,
        )

    async def ready(self, http: aiohttp.ClientSession) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while True:
                try:
                    async with http.get(f"{self.url}/readyz") as answer:
                        found: dict[str, Any] = await answer.json()
                        return found
                except (aiohttp.ClientError, ConnectionError):
                    assert self.process.poll() is None, "the service did not start"
                    await asyncio.sleep(0.02)


async def post_events(
    service: Service, http: aiohttp.ClientSession, order: int, count: int, accepted: list[str]
) -> None:
    """A courier: posts the events of one line one after the other, each again until it is accepted."""
    kinds = ("picked_up", "handed_over", "returned")
    for number in range(count):
        event = {"event_id": f"event-{order}-{number:03}", "order": f"order_{order}", "line": f"line_{order}_1"}
        while True:
            try:
                async with http.post(
                    f"{service.url}/webhooks/courier", json={**event, "what": kinds[number % 3]}
                ) as answer:
                    assert answer.status == 202, await answer.text()
                    accepted.append(event["event_id"])
                    break
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("kills", "events"), [(1, 20), pytest.param(10, 40, marks=pytest.mark.chaos)])
async def test_the_webhook_service_loses_no_accepted_update_when_it_is_killed(
    tmp_path: Path, kills: int, events: int
) -> None:
    with ThreadedSandbox(faults=SOME_FAULTS, seed=4) as sandbox:
        sandbox.seed_orders(10)
        service = Service(sandbox, tmp_path / "outbox.db")
        accepted: list[str] = []
        async with aiohttp.ClientSession() as http:
            service.start()
            await service.ready(http)
            couriers = [
                asyncio.create_task(post_events(service, http, order, events, accepted)) for order in range(1, 11)
            ]
            for _ in range(kills):
                await asyncio.sleep(0.25)
                service.process.kill()
                service.process.wait()
                service.start()
            await asyncio.gather(*couriers)
            async with asyncio.timeout(60):
                while (await service.ready(http))["outbox"]["pending"]:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.05)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) in STOPPED
        assert len(accepted) == 10 * events
        for order in range(1, 11):
            changes = sandbox.ledger.changes(f"order_{order}", f"line_{order}_1")
            ids = [change.request_id for change in changes]
            assert ids == sorted(event for event in accepted if event.startswith(f"event-{order}-"))


async def test_the_webhook_service_refuses_what_it_cannot_send(tmp_path: Path) -> None:
    with ThreadedSandbox() as sandbox:
        service = Service(sandbox, tmp_path / "outbox.db")
        service.start()
        async with aiohttp.ClientSession() as http:
            await service.ready(http)
            event = {"event_id": "e", "order": "", "line": "line_1_1", "what": "returned"}
            async with http.post(f"{service.url}/webhooks/courier", json=event) as answer:
                assert answer.status == 422
                assert (await answer.json())["detail"] == "order_external_id is empty; every update needs all three ids"
        service.process.terminate()
        assert service.process.wait(60) in STOPPED


# -- nightly_sync: a cron job with the journal


def test_the_nightly_job_can_be_killed_and_run_again(tmp_path: Path) -> None:
    day = "2026-11-25"
    rows = [
        (day, f"order_{n % 50 + 1}", f"line_{n % 50 + 1}_1", ("processing", "delivered")[n // 200]) for n in range(400)
    ]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE status_change (id INTEGER PRIMARY KEY, day, order_id, line_id, status)")
        connection.executemany("INSERT INTO status_change (day, order_id, line_id, status) VALUES (?, ?, ?, ?)", rows)
    command = [sys.executable, str(EXAMPLES / "nightly_sync.py"), "shop.db", day]
    with ThreadedSandbox(faults=Faults(latency=0.02)) as sandbox:
        sandbox.seed_orders(50)
        with subprocess.Popen(command, cwd=tmp_path, env=environment(sandbox)) as killed:
            while sandbox.ledger.requests < 100:
                assert killed.poll() is None
                time.sleep(0.005)
            killed.kill()
        sandbox.faults = Faults()
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment(sandbox), capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        assert sandbox.check([row[1:] for row in rows]).ok
        counted = sum(int(part.split(":")[1]) for part in ended.stdout.strip(" {}\n").split(","))
        assert counted == 400
        assert len({a.request_id for key in sandbox.ledger.lines for a in sandbox.ledger.arrivals(*key)}) == 400


# -- sync_inbox.sh: a job of the shell


def inbox_job(directory: Path, sandbox: ThreadedSandbox) -> subprocess.Popen[bytes]:
    """Start the script with an `altcraft-async` of this checkout in its path."""
    script = directory / "bin" / "altcraft-async"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m altcraft_async "$@"\n')
    script.chmod(0o755)
    environ = environment(sandbox, PATH=f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    command = ["sh", str(EXAMPLES / "sync_inbox.sh"), "inbox", "."]
    return subprocess.Popen(command, cwd=directory, env=environ, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.chaos) for one in (signal.SIGINT, signal.SIGHUP))],
)
def test_the_inbox_job_hands_a_signal_on_and_waits_for_its_run(tmp_path: Path, number: int) -> None:
    rows = [(f"order_{n % 20 + 1}", f"line_{n % 20 + 1}_1", ("processing", "delivered")[n // 100]) for n in range(200)]
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    header = "order_external_id,order_line_external_id,status_external_id\n"
    for name in ("A.CSV", "b.csv"):
        (inbox / name).write_text(header + "".join(",".join(row) + "\n" for row in rows))
    with ThreadedSandbox(faults=Faults(latency=0.02)) as sandbox:
        sandbox.seed_orders(20)
        with inbox_job(tmp_path, sandbox) as job:
            while sandbox.ledger.requests < 40:
                assert job.poll() is None
                time.sleep(0.005)
            job.send_signal(number)
            _, said = job.communicate(timeout=60)
            assert job.returncode == 143, said
            requests = sandbox.ledger.requests
        sandbox.faults = Faults()
        assert requests < 200
        with inbox_job(tmp_path, sandbox) as job:
            _, said = job.communicate(timeout=60)
            assert (job.returncode, said) == (0, b"")
        assert sorted(path.name for path in inbox.glob("done/*")) == ["A.CSV", "b.csv"]
        assert sandbox.ledger.requests == 400


# -- queue_consumer: acknowledges after the outcome


class QueuedMessage:
    """A message of a broker that is an `asyncio.Queue`."""

    def __init__(self, id_: str, order: str, line: str, status: str) -> None:
        self.id = id_
        self.body = {"order": order, "line": line, "status": status}
        self.fate: str | None = None

    async def ack(self) -> None:
        self.fate = "acknowledged"

    async def reject(self, reason: str) -> None:
        self.fate = reason


async def test_the_consumer_acknowledges_after_the_outcome_and_keeps_the_order_of_a_line(until: Until) -> None:
    consumer = example("queue_consumer")
    consumer.PAUSE = 0.01
    life = ("processing", "delivering", "delivered")
    async with Sandbox(faults=SOME_FAULTS, seed=2) as sandbox:
        keys = sandbox.seed_orders(30)
        messages = [QueuedMessage(f"{key[0]}-{status}", *key, status) for status in life for key in keys]
        messages.append(QueuedMessage("wrong", "order_1", "", "new"))
        messages.append(QueuedMessage("unknown", "nope", "nope", "new"))
        queue: asyncio.Queue[Any] = asyncio.Queue()
        for message in messages:
            queue.put_nowait(message)
        async with AltcraftClient(sandbox.base_url, sandbox.token) as altcraft:
            task = asyncio.create_task(consumer.consume(altcraft, consumer.messages_of(queue)))
            await until(lambda: all(message.fate for message in messages))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        check = sandbox.ledger.check([(*key, status) for status in life for key in keys])
    assert check.ok, str(check)
    assert [message.fate for message in messages[:-2]] == ["acknowledged"] * 90
    assert "order_line_external_id is empty" in (messages[-2].fate or "")
    assert "there is no order 'nope'" in (messages[-1].fate or "")


async def test_a_message_in_doubt_is_not_acknowledged_and_comes_again_under_its_id(until: Until) -> None:
    consumer = example("queue_consumer")
    message = QueuedMessage("message-1", "order_1", "line_1_1", "delivered")
    async with Sandbox(faults=Faults(latency=0.3)) as sandbox:
        sandbox.seed_orders(1)
        for redelivered in (False, True):
            queue: asyncio.Queue[Any] = asyncio.Queue()
            queue.put_nowait(message)
            async with AltcraftClient(sandbox.base_url, sandbox.token) as altcraft:
                task = asyncio.create_task(consumer.consume(altcraft, consumer.messages_of(queue)))
                await until(lambda: message.fate if redelivered else sandbox.ledger.in_flight)  # noqa: B023 - at once
                task.cancel()
                await asyncio.wait((task,))
            assert message.fate == ("acknowledged" if redelivered else None)
        assert [arrival.request_id for arrival in sandbox.ledger.arrivals("order_1", "line_1_1")] == ["message-1"] * 2
        assert sandbox.ledger.check([("order_1", "line_1_1", "delivered")]).ok


# -- aiohttp_service


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_aiohttp_service_makes_changes_in_time_and_tells_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    service = example("aiohttp_service")
    async with Sandbox() as sandbox:
        sandbox.seed_orders(2)
        monkeypatch.setenv("ALTCRAFT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("ALTCRAFT_TOKEN", sandbox.token)
        async with serving(service.make_app()) as url, aiohttp.ClientSession() as http:
            async with http.put(f"{url}/orders/order_1/lines/line_1_1/status", data="delivered") as answer:
                assert (answer.status, await answer.json()) == (200, {"status": "delivered"})
            async with http.put(f"{url}/orders/nope/lines/nope/status", data="delivered") as answer:
                assert answer.status == 422
                assert answer.content_type == "application/problem+json"
            async with http.get(f"{url}/readyz") as answer:
                assert (answer.status, (await answer.json())["status"]) == (200, "pass")
            sandbox.faults = Faults(latency=5.0)
            late = {"Request-Timeout": "0.1", "Idempotency-Key": "change-1"}
            async with http.put(
                f"{url}/orders/order_2/lines/line_2_1/status", data="delivered", headers=late
            ) as answer:
                assert answer.status == 504
                assert (await answer.json())["request_id"] == "change-1"
