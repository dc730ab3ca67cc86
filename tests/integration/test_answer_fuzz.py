"""Answers thrown at the client in random order: no outcome ever rests on another line's bytes.

The server knows the truth of each line: it makes the change, or refuses it. What it
writes is drawn from a seed: whole answers in pieces, glued together, twice, too late,
before anybody asked, of another line, or of no line at all. The bounds are those that
the documents name: a success that is another's names its line; a refusal that is
another's, and that nothing tells apart, comes only after the client has met such a
success, and never first on a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from random import Random

import aiohttp
import pytest

from altcraft_async import AltcraftClient, DeliveryError, RetryPolicy, Timeout
from samples import sampled

WAYS = {"direct": dict, "session": lambda: {"trace_configs": [aiohttp.TraceConfig()]}}
UNASKED = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"


def envelope(line, *, refused):
    order, name = line
    data = {"order_external_id": order, "order_line_external_id": name, "status_external_id": "done"}
    said = {"error": 400, "error_text": "No such line"} if refused else {"error": 0, "error_text": "", "data": data}
    body = json.dumps(said).encode()
    head = f"HTTP/1.1 {400 if refused else 200} Said\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def is_refused(line):
    return int(line[1].removeprefix("line_")) % 5 == 0


class Liar:
    """A server whose right answers come among others, as the seed has it."""

    def __init__(self, seed):
        self.draw = Random(seed)
        self.asked: list[tuple[str, str]] = []
        self.client: AltcraftClient | None = None
        self.lies = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def met(self):
        """Whether the client has met another's answer within the last minute."""
        return self.client._engine.questions.suspicious(asyncio.get_running_loop().time())

    async def _visit(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self.draw.random() < 0.05:
                await self._write(writer, self._lie())  # before anybody has asked
            first = True
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))
                await self._answer(writer, (asked["order_external_id"], asked["order_line_external_id"]), first=first)
                first = False
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _answer(self, writer, line, *, first):
        self.asked.append(line)
        right = envelope(line, refused=is_refused(line))
        kind = self.draw.random()
        if kind < 0.5:
            await self._write(writer, right)
        elif kind < 0.6:  # glued
            await self._write(writer, right + self._lie())
        elif kind < 0.65 and (self.met or not is_refused(line)):  # doubled
            await self._write(writer, right + right)
        elif kind < 0.8:  # and another, later or right behind it
            await self._write(writer, right)
            await self._while()
            await self._write(writer, self._lie())
        elif kind < 0.9:  # another's, and the right one behind it
            other = self._other(line)
            if other is not None:
                self.lies += 1
                await self._write(writer, envelope(other, refused=False))
                await self._while()
            await self._write(writer, right)
        elif kind < 0.95 and self.met and not first:
            self.lies += 1
            await self._write(writer, envelope(line, refused=True))
        else:
            await self._write(writer, UNASKED)
            await self._while()
            await self._write(writer, right)

    def _lie(self):
        """Give an answer that nobody asked for."""
        self.lies += 1
        kind, other = self.draw.random(), self._other(None)
        if kind < 0.3 or other is None:
            return UNASKED
        whole = envelope(other, refused=self.met and kind < 0.5)
        return whole[: self.draw.randrange(1, len(whole))] if kind > 0.8 else whole

    def _other(self, line):
        others = [other for other in self.asked[-20:] if other != line and not is_refused(other)]
        return self.draw.choice(others) if others else None

    async def _while(self):
        for _ in range(self.draw.randrange(4)):
            await asyncio.sleep(0)
        if self.draw.random() < 0.3:
            await asyncio.sleep(self.draw.random() * 0.003)

    async def _write(self, writer, data):
        """Write in one piece, or in several."""
        while data:
            size = len(data) if self.draw.random() < 0.7 else self.draw.randrange(1, len(data) + 1)
            writer.write(data[:size])
            data = data[size:]
            await writer.drain()
            if data:
                await self._while()


async def fuzz(seed, way, lines=120):
    retry = RetryPolicy(attempts=40, base=0.001, max_delay=0.01)
    async with Liar(seed) as liar:
        options = {"concurrency": 8, "retry": retry, "retry_budget": None, "timeout": Timeout(connect=3.0, total=3.0)}
        async with AltcraftClient(liar.base_url, "0123456789", **options, **WAYS[way]()) as client:
            liar.client = client
            rows = [(f"order_{number}", f"line_{number}", "done") for number in range(lines)]
            report = await client.market.orders.update_order_line_statuses(rows)
            assert liar.met
    for outcome in report.outcomes:
        line = outcome.row[:2]
        right = {"rejected"} if is_refused(line) else {"applied"}
        assert str(outcome.state) in right | {"unknown"}, (seed, way, outcome)
        assert line in liar.asked
        echo = outcome.echo
        assert echo is None or (echo.order_external_id, echo.order_line_external_id) == line, (seed, way, outcome)
    assert report.counts["unknown"] <= lines // 20
    assert liar.lies > lines // 10


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", sampled([0, 1, 1062, 1084, 1096], 0, 1062))
async def test_no_outcome_rests_on_anothers_bytes(way, seed):
    await fuzz(seed, way)


@pytest.mark.simulate
@pytest.mark.parametrize("way", WAYS)
async def test_no_outcome_rests_on_anothers_bytes_in_many_rounds(way):
    for seed in range(1000, 1100):
        await fuzz(seed, way)


class Stutterer(Liar):
    """A server that says each of its answers once more, too late; `echoes` are with the status or without."""

    def __init__(self, seed, *, echoes):
        super().__init__(seed)
        self.echoes = echoes

    async def _visit(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                asked = json.loads(await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0])))
                said = {"error": 0, "error_text": ""} | ({"data": {**asked, "token": ""}} if self.echoes else {})
                if self.draw.random() < 0.3:
                    said = {"error": 400, "error_text": f"no {asked['status_external_id']}"}
                body = json.dumps(said).encode()
                whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                self.asked.append((asked["status_external_id"], said["error"]))
                await asyncio.sleep(0.003)
                writer.write(whole)
                await asyncio.sleep(self.draw.random() * 0.003)
                writer.write(whole)
        writer.close()


@pytest.mark.parametrize("echoes", [True, False], ids=["with ids", "without ids"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", sampled(range(5), 0))
async def test_of_answers_that_come_twice_for_one_line_only_the_first_can_deceive(way, seed, echoes):
    wrong = 0
    async with Stutterer(seed, echoes=echoes) as server, AltcraftClient(server.base_url, "t", **WAYS[way]()) as client:
        for number in range(40):
            status = f"s{number}"
            try:
                await client.market.orders.update_order_line_status("o", "l", status)
                believed = 0
            except DeliveryError as error:
                believed = error.code
            wrong += (status, believed) not in server.asked
            await asyncio.sleep(server.draw.random() * 0.004)
    assert wrong <= 2
