"""Answers that name another line than was asked for: a cache's, doubled ones, and those of a platform with own ids."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest

from altcraft_async import AltcraftClient, OutcomeState
from altcraft_async.observe import OutageBegan

FIELDS = ("order_external_id", "order_line_external_id", "status_external_id")
ROWS = [(f"order_{n}", f"line_{n}", "delivered") for n in range(400)]


class Server:
    """Answers with what `said(ids)` gives, from the request `doubled_from` on twice; `asked` has ids and times."""

    def __init__(self, said, *, doubled_from=None):
        self.said, self.doubled_from = said, doubled_from
        self.asked, self.tasks = [], set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=500)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _talk(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        before = b""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                ids = tuple(body[field] for field in FIELDS)
                self.asked.append((ids, time.monotonic()))
                writer.write(before)  # once more what the request before got
                await asyncio.sleep(0.01)
                answer = json.dumps(self.said(ids)).encode()
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
                writer.write(answer)
                if self.doubled_from is not None and len(self.asked) >= self.doubled_from:
                    before = answer
        writer.close()


class Seen:
    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)


def applied(*ids):
    return {"error": 0, "data": dict(zip(FIELDS, ids, strict=True))}


def own_names(order, line, status):
    return applied(f"shop-{order}", f"shop-{line}", status)


@pytest.fixture(params=["direct", "session"])
def options(request):
    """The two ways through aiohttp."""
    return {"group": None, "trace_configs": [] if request.param == "direct" else [aiohttp.TraceConfig()]}


@pytest.mark.parametrize(
    "cached", [ROWS[0], ("other_shop", "9", "delivered")], ids=["a line of ours", "an unknown one"]
)
async def test_a_cache_that_gives_all_the_same_answer_is_an_outage(options, cached):
    begun, made = [], []

    def said(ids):
        if not begun and len(server.asked) > 100:
            begun.append(time.monotonic())
        if begun and time.monotonic() < begun[0] + 2.0:
            return applied(*cached)
        made.append(ids)
        return applied(*ids)

    async with Server(said) as server, AltcraftClient(server.url, "t", concurrency=30, **options) as client:
        report = await client.market.orders.update_order_line_statuses(ROWS)
    assert {outcome.state for outcome in report} == {OutcomeState.APPLIED}
    assert set(made) == set(ROWS)
    assert sum(begun[0] <= at < begun[0] + 2.0 for _, at in server.asked) < 150


async def test_a_name_that_another_line_has_is_never_taken_unasked_on_a_platform_with_own_names(options):
    def said(ids):
        return {"error": 400} if ids[0].endswith("7") else own_names(*ids)

    async with (
        Server(said, doubled_from=60) as server,
        AltcraftClient(server.url, "t", concurrency=4, **options) as client,
    ):
        report = await client.market.orders.update_order_line_statuses(ROWS[:120])
    for outcome in report:
        if outcome.update.order_external_id.endswith("7"):
            assert outcome.state is OutcomeState.REJECTED
        else:
            assert outcome.echo.order_external_id == f"shop-{outcome.update.order_external_id}"


async def test_a_platform_with_own_names_is_asked_twice_only_at_first_and_that_is_no_outage(options):
    seen = Seen()
    options |= {"concurrency": 10, "observers": [seen]}
    async with Server(lambda ids: own_names(*ids)) as server, AltcraftClient(server.url, "t", **options) as client:
        report = await client.market.orders.update_order_line_statuses(ROWS)
    assert {outcome.state for outcome in report} == {OutcomeState.APPLIED}
    assert len(server.asked) <= len(ROWS) + 25
    assert not any(isinstance(event, OutageBegan) for event in seen.events)
