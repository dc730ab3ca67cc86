"""What the tests share: real servers on loopback, clients that are closed, and no real waiting."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import attrs
import pytest

from altcraft_async import AltcraftClient, RetryPolicy, Timeout
from altcraft_async.sandbox import Sandbox
from postgres_server import PostgresServer, programs

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from altcraft_async.observe import Event

os.environ["ALTCRAFT_LIMIT_GROUP"] = "off"  # the tests' own clients are no group; those of groups turn it on
os.environ["ALTCRAFT_REMEMBER"] = "false"  # nor do they learn from each other
QUICK = RetryPolicy(attempts=3, base=0.001, max_delay=0.01)

with suppress(ImportError):  # the session of the engines has no hypothesis
    import hypothesis

    BUSY = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("sample", max_examples=50, **BUSY)
    hypothesis.settings.register_profile("whole", max_examples=100, **BUSY)  # of the session long
    hypothesis.settings.load_profile("sample")

LONG = ("chaos", "hostile", "simulate", "balancers", "engines")
"""The marks of what takes minutes, in sessions of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what takes minutes two hours; everything else ends with the five minutes of the settings."""
    for item in items:
        if any(item.get_closest_marker(mark) for mark in LONG):
            item.add_marker(pytest.mark.timeout(7200))


def pytest_collection(session: pytest.Session) -> None:
    """Let each worker import a part of the test modules first, so that the others find these compiled.

    On a new machine nothing is compiled yet, and rewriting the assertions takes most of the time of a collection. Side
    by side the workers would all do it, each for all modules.
    """
    worker, places = os.environ.get("PYTEST_XDIST_WORKER"), [Path(place) for place in session.config.args]
    if worker is None or not all(place.is_dir() for place in places):
        return
    modules = sorted(module for place in places for module in place.resolve().rglob("test_*.py"))
    for module in modules[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        if str(module.parent) not in sys.path:
            sys.path.insert(0, str(module.parent))
        with suppress(Exception, pytest.skip.Exception):  # the collection meets it again, and tells
            importlib.import_module(module.stem)


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what was collected: it stays to the end, and is much."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def signals_that_are_not_ignored() -> Iterator[None]:
    """Let the tests' processes get every signal, also where the tests run under ``nohup`` or in the background."""
    handlers = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@attrs.frozen
class RawRequest:
    """What a `RawServer` was sent: the request's head as text, and its body."""

    head: str
    body: bytes


class RawServer:
    """A server that answers every request with bytes of the test's choice.

    `answers` are taken in turn, the last one again and again; None closes the
    connection without an answer, and `HANG` gives none at all. The connection is
    closed after each answer unless `keep_alive`. With `tls` it speaks HTTPS.
    """

    HANG = b"(no answer)"

    def __init__(
        self, answers: list[bytes | None], *, keep_alive: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answers = answers
        self.keep_alive = keep_alive
        self.tls = tls
        self.requests: list[RawRequest] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def answer(body: bytes, *, status: int = 200, content_type: str = "application/json", **headers: str) -> bytes:
        """Write a whole answer; `headers` are names with ``_`` for ``-``."""
        lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    @property
    def base_url(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{'https' if self.tls else 'http'}://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        task.add_done_callback(self._tasks.discard)
        try:
            while await self._answer_one(reader, writer) and self.keep_alive:
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().splitlines() if line.startswith("content-length:"))
        body = await reader.readexactly(int(length.split(":")[1]))
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(RawRequest(head, body))
        if answer is self.HANG:
            await asyncio.Event().wait()
        if answer is None:
            return False
        writer.write(answer)
        await writer.drain()
        return True


class Watcher:
    """An observer that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event, /) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of a worker; without one the tests are skipped."""
    if programs() is None:
        pytest.skip("needs PostgreSQL, which is not installed: nox -s postgres")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def schema() -> str:
    """The name of a schema of the test's own."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may stop."""
    if programs() is None:
        pytest.skip("needs PostgreSQL, which is not installed: nox -s postgres")
    with PostgresServer() as server:
        yield server


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to tell of it
            await asyncio.sleep(0.001)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Wait for a condition that another task or the server brings about; fail after 20 seconds."""
    return _until


@contextmanager
def _unmeasured() -> Iterator[None]:
    """Leave what is done meanwhile, and the threads that are begun, out of the measurement of coverage."""
    tracer, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        threading.settrace(of_threads)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Leave a test out of the measurement of coverage, which makes all code two to three times as slow.

    It is for what runs the same lines thousands of times, or lines that other tests run too.
    """
    with _unmeasured():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Leave property tests out of the measurement: they run the same lines a hundred times."""
    with _unmeasured() if getattr(getattr(item, "obj", None), "is_hypothesis_test", False) else nullcontext():
        return (yield)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Leave the process that only hands out tests out of the measurement, and the processes that tests start.

    Nearly all that these do is done within the tests' own processes too, and measured they start twice as slowly.
    """
    if session.config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.settrace(None)
    else:
        for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS_")]:
            del os.environ[name]


@pytest.fixture
def quick() -> RetryPolicy:
    """Three attempts with hardly a wait between them."""
    return QUICK


@pytest.fixture
async def start_sandbox() -> AsyncIterator[Callable[..., Awaitable[Sandbox]]]:
    """Start sandboxes with given settings and 20 orders of one line."""
    async with AsyncExitStack() as stack:

        async def start(*, orders: int = 20, lines: int = 1, **settings: Any) -> Sandbox:
            sandbox = await stack.enter_async_context(Sandbox(**settings))
            sandbox.seed_orders(orders, lines)
            return sandbox

        yield start


@pytest.fixture
async def sandbox(start_sandbox: Callable[..., Awaitable[Sandbox]]) -> Sandbox:
    """A sandbox without faults, with 20 orders of one line."""
    return await start_sandbox()


@pytest.fixture
async def start_raw_server() -> AsyncIterator[Callable[..., Awaitable[RawServer]]]:
    """Start servers that answer with given bytes."""
    async with AsyncExitStack() as stack:

        async def start(*answers: bytes | None, **options: Any) -> RawServer:
            return await stack.enter_async_context(RawServer(list(answers), **options))

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., AltcraftClient]]:
    """Make clients of a server, with quick retries, and close them after the test."""
    async with AsyncExitStack() as stack:

        def make(server: Sandbox | RawServer | str, token: str | None = None, **options: Any) -> AltcraftClient:
            url = server if isinstance(server, str) else server.base_url
            options = {"retry": QUICK, "concurrency": 8, "timeout": Timeout(connect=2.0, total=5.0), **options}
            client = AltcraftClient(url, token or getattr(server, "token", "sandbox-token"), **options)
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def closed_port() -> str:
    """The URL of a port of this machine on which nothing listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    server.close()
    await server.wait_closed()
    return f"http://{host}:{port}"
