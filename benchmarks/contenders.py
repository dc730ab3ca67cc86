"""The ways of sending many updates that are measured against each other.

A contender is an asynchronous context manager: it takes the server's base URL,
opens its session or client, and gives a coroutine function that sends a list of
updates. Opening is not measured. For fairness every contender starts from the
same 3-tuples of ids, builds its own request from them, keeps at most `IN_FLIGHT`
requests open, reads every answer and checks that its ``error`` is 0.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias, Unpack

import aiohttp
import attrs
import yarl
from aiohttp_retry import ExponentialRetry, RetryClient

from altcraft_async import AltcraftClient
from altcraft_async.blocking import AltcraftClient as BlockingClient
from altcraft_async.client import ClientOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["CONTENDERS", "FIXED", "IN_FLIGHT", "NAIVE", "ONE_AT_A_TIME", "STREAMED", "TOKEN", "Contender", "Ids"]

Ids: TypeAlias = tuple[str, str, str]
Send: TypeAlias = "Callable[[Sequence[Ids]], Awaitable[None]]"

IN_FLIGHT = 64
TOKEN = "0123456789abcdef0123456789abcdef"
PATH = "/api/v1.1/market/orders/update_order_line_status"
NAIVE = "naive aiohttp worker loop"
STREAMED = "ours, streamed"
FIXED = "ours, streamed, concurrency=64"
ONE_AT_A_TIME = "bare session.post, one at a time"


@attrs.frozen
class Contender:
    """One way: `baseline` names the contender it is divided by, `share` is the part of the updates it gets."""

    name: str
    opened: Callable[[str], AbstractAsyncContextManager[Send]]
    baseline: str = NAIVE
    share: float = 1.0
    limit: float | None = None
    """The highest ratio that the targets allow, where there is one."""


def _payload(ids: Ids) -> dict[str, str]:
    order, line, status = ids
    return {
        "token": TOKEN,
        "order_external_id": order,
        "order_line_external_id": line,
        "status_external_id": status,
    }


def _check(answer: dict[str, object]) -> None:
    if answer["error"] != 0:
        msg = f"the server answered {answer}"
        raise RuntimeError(msg)


async def _by_workers(send_one: Callable[[Ids], Awaitable[None]], updates: Sequence[Ids]) -> None:
    """Share the updates among `IN_FLIGHT` workers, as most people write it."""
    shared = iter(updates)

    async def work() -> None:
        for ids in shared:
            await send_one(ids)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


class _Bare(asyncio.Protocol):
    """One connection that sends the next update as soon as the last is answered, without any client."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the server."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take an answer; those of the server here come in one piece."""
        if self._answer is not None:
            self._answer.set_result(data)

    async def send_one(self, ids: Ids) -> None:
        """Send an update and check its answer."""
        body = json.dumps(_payload(ids)).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: bare\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head + body)
        answer = await self._answer
        _check(json.loads(answer[answer.index(b"\r\n\r\n") :]))


@asynccontextmanager
async def _bare(base_url: str) -> AsyncIterator[Send]:
    """Use sockets and JSON alone: what no client can be below."""
    url, loop = yarl.URL(base_url), asyncio.get_running_loop()
    bare = [await loop.create_connection(_Bare, url.host, url.port) for _ in range(IN_FLIGHT)]

    async def send(updates: Sequence[Ids]) -> None:
        shared = iter(updates)

        async def work(connection: _Bare) -> None:
            for ids in shared:
                await connection.send_one(ids)

        await asyncio.gather(*(work(protocol) for _, protocol in bare))

    yield send
    for transport, _ in bare:
        transport.close()


@asynccontextmanager
async def _naive(base_url: str) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession() as session:

        async def send_one(ids: Ids) -> None:
            async with session.post(base_url + PATH, json=_payload(ids)) as response:
                _check(await response.json())

        yield lambda updates: _by_workers(send_one, updates)


@asynccontextmanager
async def _one_at_a_time(base_url: str) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession() as session:

        async def send(updates: Sequence[Ids]) -> None:
            for ids in updates:
                async with session.post(base_url + PATH, json=_payload(ids)) as response:
                    _check(await response.json())

        yield send


@asynccontextmanager
async def _semaphore(base_url: str) -> AsyncIterator[Send]:
    """Start a task for every update at once, and let a semaphore hold them back."""
    async with aiohttp.ClientSession() as session:
        permits = asyncio.Semaphore(IN_FLIGHT)

        async def send_one(ids: Ids) -> None:
            async with permits, session.post(base_url + PATH, json=_payload(ids)) as response:
                _check(await response.json())

        async def send(updates: Sequence[Ids]) -> None:
            await asyncio.gather(*(send_one(ids) for ids in updates))

        yield send


@asynccontextmanager
async def _tuned(base_url: str) -> AsyncIterator[Send]:
    """Use every public setting of aiohttp that makes a call cheaper; even the timeout is off."""
    url = yarl.URL(base_url + PATH, encoded=True)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    ) as session:

        async def send_one(ids: Ids) -> None:
            async with session.post(url, data=json.dumps(_payload(ids)).encode()) as response:
                _check(json.loads(await response.read()))

        yield lambda updates: _by_workers(send_one, updates)


@asynccontextmanager
async def _aiohttp_retry(base_url: str) -> AsyncIterator[Send]:
    async with RetryClient(retry_options=ExponentialRetry(attempts=5)) as client:

        async def send_one(ids: Ids) -> None:
            async with client.post(base_url + PATH, json=_payload(ids)) as response:
                _check(await response.json())

        yield lambda updates: _by_workers(send_one, updates)


@asynccontextmanager
async def _httpx(base_url: str) -> AsyncIterator[Send]:
    import httpx  # noqa: PLC0415 - slow to import, and not every run needs it

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits) as client:

        async def send_one(ids: Ids) -> None:
            _check((await client.post(base_url + PATH, json=_payload(ids))).json())

        yield lambda updates: _by_workers(send_one, updates)


def _client(base_url: str, concurrency: int | None, **options: Unpack[ClientOptions]) -> AltcraftClient:
    if concurrency is not None:
        options["concurrency"] = concurrency
    return AltcraftClient(base_url, TOKEN, **options)


def _prometheus() -> ClientOptions:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - not every run needs it

    from altcraft_async.integrations.prometheus import PrometheusObserver  # noqa: PLC0415

    return {"observers": [PrometheusObserver(CollectorRegistry())]}


def _opentelemetry() -> ClientOptions:
    """Use the real SDK, with spans that are made and not exported."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - not every run needs it
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from altcraft_async.integrations.opentelemetry import OpenTelemetryObserver  # noqa: PLC0415

    return {"observers": [OpenTelemetryObserver(TracerProvider(), MeterProvider([InMemoryMetricReader()]))]}


def _propagating() -> ClientOptions:
    """Send trace context too, which takes aiohttp's session for each call."""
    from altcraft_async.integrations.opentelemetry import propagation  # noqa: PLC0415 - not every run needs it

    return {**_opentelemetry(), "trace_configs": [propagation()]}


def _streamed(
    concurrency: int | None, options: Callable[[], ClientOptions] = ClientOptions
) -> Callable[[str], AbstractAsyncContextManager[Send]]:
    @asynccontextmanager
    async def opened(base_url: str) -> AsyncIterator[Send]:
        async with _client(base_url, concurrency, **options()) as altcraft:

            async def send(updates: Sequence[Ids]) -> None:
                async for outcome in altcraft.market.orders.stream_order_line_statuses(updates):
                    if not outcome.ok:
                        raise outcome.error or RuntimeError(outcome)

            yield send

    return opened


@asynccontextmanager
async def _journaled(base_url: str) -> AsyncIterator[Send]:
    """Keep a journal, a fresh one for each run, where the system keeps its temporary files.

    The limit is fixed, as its baseline's is: on a server that answers in no time the
    writer's turns look like latency to the adaptive one, and the fewer calls are in
    flight, the more each costs.
    """
    async with _client(base_url, IN_FLIGHT) as altcraft:
        with tempfile.TemporaryDirectory() as directory:
            numbers = itertools.count()

            async def send(updates: Sequence[Ids]) -> None:
                journal = f"{directory}/{next(numbers)}.journal"
                async for outcome in altcraft.market.orders.stream_order_line_statuses(updates, journal=journal):
                    if not outcome.ok:
                        raise outcome.error or RuntimeError(outcome)

            yield send


def _gathered(concurrency: int | None) -> Callable[[str], AbstractAsyncContextManager[Send]]:
    @asynccontextmanager
    async def opened(base_url: str) -> AsyncIterator[Send]:
        async with _client(base_url, concurrency) as altcraft:

            async def send(updates: Sequence[Ids]) -> None:
                report = await altcraft.market.orders.update_order_line_statuses(updates)
                report.raise_for_failures()

            yield send

    return opened


@asynccontextmanager
async def _single(base_url: str) -> AsyncIterator[Send]:
    async with _client(base_url, None) as altcraft:
        update = altcraft.market.orders.update_order_line_status

        async def send_one(ids: Ids) -> None:
            await update(*ids)

        yield lambda updates: _by_workers(send_one, updates)


@asynccontextmanager
async def _single_one_at_a_time(base_url: str) -> AsyncIterator[Send]:
    async with _client(base_url, None) as altcraft:
        update = altcraft.market.orders.update_order_line_status

        async def send(updates: Sequence[Ids]) -> None:
            for ids in updates:
                await update(*ids)

        yield send


@asynccontextmanager
async def _blocking_streamed(base_url: str) -> AsyncIterator[Send]:
    """Send from a thread of its own, as a script does from its main one."""
    client = BlockingClient(base_url, TOKEN)

    def send(updates: Sequence[Ids]) -> None:
        for outcome in client.market.orders.stream_order_line_statuses(updates):
            if not outcome.ok:
                raise outcome.error or RuntimeError(outcome)

    try:
        yield lambda updates: asyncio.to_thread(send, updates)
    finally:
        await asyncio.to_thread(client.close)


@asynccontextmanager
async def _blocking_one_at_a_time(base_url: str) -> AsyncIterator[Send]:
    client = BlockingClient(base_url, TOKEN)

    def send(updates: Sequence[Ids]) -> None:
        update = client.market.orders.update_order_line_status
        for ids in updates:
            update(*ids)

    try:
        yield lambda updates: asyncio.to_thread(send, updates)
    finally:
        await asyncio.to_thread(client.close)


CONTENDERS = (
    Contender(NAIVE, _naive),
    Contender(STREAMED, _streamed(None), limit=1.0),
    Contender(FIXED, _streamed(IN_FLIGHT), limit=1.0),
    Contender("ours, the same with a journal", _journaled, baseline=FIXED, limit=1.15),
    Contender("ours, streamed, Prometheus", _streamed(None, _prometheus)),
    Contender("ours, streamed, OpenTelemetry", _streamed(None, _opentelemetry)),
    Contender("ours, streamed, trace context sent", _streamed(None, _propagating)),
    Contender("ours, gathered", _gathered(None), limit=1.05),
    Contender("ours, gathered, concurrency=64", _gathered(IN_FLIGHT), limit=1.05),
    Contender("ours, single calls from 64 workers", _single, limit=1.15),
    Contender("sockets and JSON alone", _bare),
    Contender("tuned aiohttp worker loop", _tuned),
    Contender("gather and semaphore", _semaphore),
    Contender("aiohttp-retry worker loop", _aiohttp_retry),
    Contender("httpx worker loop", _httpx, share=0.1),
    Contender(ONE_AT_A_TIME, _one_at_a_time, baseline=ONE_AT_A_TIME, share=0.5),
    Contender("ours, single, one at a time", _single_one_at_a_time, baseline=ONE_AT_A_TIME, share=0.5, limit=1.15),
    Contender("ours, blocking, streamed", _blocking_streamed, baseline=STREAMED),
    Contender("ours, blocking, one at a time", _blocking_one_at_a_time, baseline=ONE_AT_A_TIME, share=0.5),
)
"""Every contender."""
