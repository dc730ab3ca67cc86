"""The process behind `hostile`: a server with the weather and the manners of real networks.

It knows nothing of the library: its parsing, its deduplication and its ledger are
its own. `serve` is the whole program; it is run by `hostile.HostileServer`, which
speaks with it over a pipe.

A change is made when its request gets a slot, and answered when the slot's time is
over, so a connection that breaks in between leaves a change that was made and
whose answer is lost. A repeat of an id that is known gets the first answer again, with
``Duplicate-Request: true``, and waits for it where the first is still at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import socket
import ssl
import struct
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from hostile_answers import (
    FAILING_LINES,
    FIREWALL_LINES,
    IDS,
    PAGES,
    REFUSED_LINES,
    TOKEN,
    Arrival,
    Made,
    Manners,
    Misdeed,
    Weather,
    envelope,
    html,
    zipped,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe

_KILLING = {Weather.REFUSED, Weather.TLS_DROPPED, Weather.TLS_FAILS}
"""Weather that breaks the connections that are there."""
_TLS_ALERT = bytes.fromhex("15030300020228")
"""A fatal alert: handshake failure."""
_REPEATS = {
    Misdeed.REPEAT_404: html(404, "Not Found"),
    Misdeed.REPEAT_405: html(405, "Not Allowed"),
    Misdeed.REPEAT_413: html(413, "Request Entity Too Large"),
    Misdeed.REPEAT_400: html(400, "Bad Request"),
}
_UNSERVED = {
    Misdeed.THROTTLED: html(429, "Too Many Requests"),
    Misdeed.UNAVAILABLE: html(503, "Service Unavailable", Retry_After="0.02"),
    Misdeed.BAD_GATEWAY: html(502, "Bad Gateway"),
}
_WITHOUT_ECHO = {Misdeed.DOUBLED, Misdeed.UNASKED_REFUSAL, Misdeed.GLUED}
_NOTICED_AFTER = 50
"""Requests after the first answer of another line, by when its client has surely met it."""


@dataclasses.dataclass
class _Work:
    """One request id: what is asked, whether it is made, and its answer."""

    ids: tuple[str, ...]
    form: str
    answer: asyncio.Future[bytes]
    made: bool = False
    arrivals: int = 0
    next_answers: deque[bytes] = dataclasses.field(default_factory=deque)


@dataclasses.dataclass(frozen=True)
class _Request:
    head: dict[str, str]
    fields: dict[str, str]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.fields.get(name, "") for name in IDS)

    @property
    def token(self) -> str:
        return self.fields.get("token") or self.head.get("authorization", "").removeprefix("Bearer ")


def _read(head: bytes, body: bytes) -> _Request:
    headers = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "xml" in headers.get("content-type", ""):
        return _Request(headers, {child.tag: child.text or "" for child in ET.fromstring(body)})
    return _Request(headers, json.loads(body))


class _Connection(asyncio.Protocol):
    """One connection: it reads requests, and answers them in their order."""

    def __init__(self, server: Server) -> None:
        server.connections += 1
        self.number = server.connections
        self.transport: Any = None
        self.hanging = False
        self.open = True
        self._server = server
        self._buffer = bytearray()
        self._shaken = server.tls is None
        self._fails = False
        self._last: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._server.open.add(self)
        if self._server.weather is Weather.REFUSED:  # it was accepted in the moment before
            self.reset()
        elif self._server.weather is Weather.ACCEPTS_ONLY:
            self.hang()
        elif not self._shaken:
            self._fails = self._server.weather is Weather.TLS_FAILS
            if not self._fails:
                transport.pause_reading()
                self._server.start(self._shake_hands(transport))

    async def _shake_hands(self, transport: Any) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, ssl.SSLError, AttributeError, RuntimeError):
            self.transport = await loop.start_tls(transport, self, self._server.tls, server_side=True)
            self._shaken = True
            if self._server.weather is Weather.TLS_DROPPED:
                self.reset()
            self._read_requests()

    def connection_lost(self, _: Exception | None) -> None:
        self.open = False
        self._server.open.discard(self)
        self.stay_awake()

    def data_received(self, data: bytes) -> None:
        if self._fails:
            self.transport.write(_TLS_ALERT)
            self.transport.close()
            return
        self._buffer += data
        if self._shaken:  # a request may come together with the last of the handshake
            self._read_requests()

    def _read_requests(self) -> None:
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            start = head.lower().find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self.stay_awake()
            self._last = self._server.start(self._server.answer(self, _read(head, body), self._last))

    def write(self, data: bytes) -> None:
        if self.open:
            self.transport.write(data)

    def close(self) -> None:
        if self.open:
            self.transport.close()

    def reset(self) -> None:
        """Break the connection with a RST."""
        if self.open:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()

    def hang(self) -> None:
        """Neither read nor answer from now on."""
        self.hanging = True
        self.transport.pause_reading()

    def stay_awake(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def when_idle(self, seconds: float, said: bytes) -> None:
        """Say something and close, unless a request comes first."""

        def end() -> None:
            self.write(said)
            self.close()

        self.stay_awake()
        self._idle = asyncio.get_running_loop().call_later(seconds, end)


class Server:
    """The server itself; see the module."""

    def __init__(self, manners: Manners, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.weather = Weather.FAIR
        self.weathers: list[tuple[float, Weather]] = []
        self.connections = 0
        self.open: set[_Connection] = set()
        self.arrivals: list[Arrival] = []
        self.made: list[Made] = []
        self.port = 0
        self._manners = manners
        self._slots = asyncio.Semaphore(manners.slots)
        self._chance = random.Random(manners.seed)
        self._works: dict[str, _Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._earlier: deque[tuple[tuple[str, ...], bytes]] = deque(maxlen=20)
        self._shown_at: int | None = None
        self._plans: list[tuple[int, Weather, float]] = []
        self._listener: asyncio.Server | None = None

    def start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- commands

    async def listen(self) -> None:
        """Open the port: at first one that no outgoing connection of the machine can happen to have."""
        loop = asyncio.get_running_loop()
        chance = random.Random(os.urandom(8))
        while self._listener is None:
            port = self.port or chance.randrange(18_000, 32_000)
            try:
                self._listener = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=1024)
            except OSError:
                if self.port:
                    await asyncio.sleep(0.01)
            else:
                self.port = port

    async def switch(self, weather: Weather) -> None:
        """Let everybody meet `weather` from now on."""
        self.weathers.append((time.monotonic(), weather))
        before, self.weather = self.weather, weather
        if weather is Weather.REFUSED and self._listener is not None:
            self._listener.close()
            self._listener = None
            self._forget_what_is_at_work()
        if weather in _KILLING:
            for connection in list(self.open):
                connection.reset()
        if weather is Weather.ACCEPTS_ONLY:
            for connection in self.open:
                connection.hang()
        if before is not weather and before is not Weather.BLACK_HOLE:
            for connection in [connection for connection in self.open if connection.hanging]:
                if weather is not Weather.ACCEPTS_ONLY:
                    connection.reset()
        if weather is not Weather.REFUSED:
            await self.listen()

    def plan(self, weather: Weather, after: int, seconds: float) -> None:
        """Switch to `weather` when that many changes are made, and back after `seconds`."""
        self._plans.append((after, weather, seconds))
        self._look_at_plans()

    def behave(self, manners: Manners) -> None:
        """Have other manners from now on; slots that are taken stay so."""
        if manners.slots != self._manners.slots:
            self._slots = asyncio.Semaphore(manners.slots)
        self._manners = manners

    def _look_at_plans(self) -> None:
        if self._plans and len(self.made) >= self._plans[0][0]:
            _, weather, seconds = self._plans.pop(0)
            self.start(self._play(weather, seconds))

    async def _play(self, weather: Weather, seconds: float) -> None:
        await self.switch(weather)
        await asyncio.sleep(seconds)
        await self.switch(Weather.FAIR)

    def _forget_what_is_at_work(self) -> None:
        for request_id, work in list(self._works.items()):
            if work.answer.done():
                continue
            if not work.made:
                del self._works[request_id]
            work.answer.cancel()
            if work.made:
                work.answer = asyncio.get_running_loop().create_future()
                work.answer.set_result(envelope(0, "Successful operation", work.form, work.ids))

    # -- answering

    async def answer(self, connection: _Connection, request: _Request, last: asyncio.Task[None] | None) -> None:
        """Answer one request, after the one before it on the connection."""
        request_id = request.head.get("request-id") or request.head.get("x-request-id") or ""
        arrival = Arrival(time.monotonic(), *request.ids, request_id, connection.number, self.weather)
        self.arrivals.append(arrival)
        if await self._met_the_weather(connection):
            return
        if last is not None and not last.done():
            await asyncio.wait({last})
        try:
            await self._serve(connection, request, request_id)
        except asyncio.CancelledError:
            if self._listener is not None:  # otherwise the server died, and the work with it
                raise
        if request.head.get("connection", "").lower() == "close" or self._manners.close_each:
            connection.close()
        elif self._manners.idle_close is not None:
            connection.when_idle(self._manners.idle_close, b"")

    async def _met_the_weather(self, connection: _Connection) -> bool:
        weather = self.weather
        if weather in PAGES:
            await asyncio.sleep(min(self._manners.seconds, 0.005))
            connection.write(PAGES[weather])
        elif weather is Weather.RESET:
            connection.reset()
        elif weather is Weather.CLOSED:
            connection.close()
        elif weather in {Weather.SILENT, Weather.BLACK_HOLE}:
            connection.hanging = True
        else:
            return False
        return True

    async def _serve(self, connection: _Connection, request: _Request, request_id: str) -> None:
        line, form = request.ids[1], request.fields.get("format") or "json"
        if request.token != TOKEN:
            connection.write(envelope(401, "token required", form))
            return
        if line.startswith((FIREWALL_LINES, FAILING_LINES)):
            await self._take_a_slot()
            firewall = line.startswith(FIREWALL_LINES)
            connection.write(html(403, "Forbidden") if firewall else envelope(500, "internal error", form))
            return
        work = self._works.get(request_id)
        if work is not None and work.next_answers:
            connection.write(work.next_answers.popleft())
            return
        misdeed = self._misdeed(request, 0 if work is None else work.arrivals)
        if misdeed in _UNSERVED or (misdeed in {Misdeed.ERROR_500, Misdeed.ANOTHERS} and self._chance.random() < 0.5):
            await self._take_a_slot()
            self._write(connection, misdeed, request, b"")
            return
        repeat = work is not None
        if work is None:
            work = self._works[request_id] = _Work(request.ids, form, asyncio.get_running_loop().create_future())
            self.start(self._make(work, request_id))
        work.arrivals += 1
        if misdeed in _REPEATS:
            work.next_answers.append(_REPEATS[misdeed])
        elif misdeed is Misdeed.BUSY:
            work.next_answers.append(envelope(409, "a request with this id is in progress", form))
        said = await asyncio.shield(work.answer)
        if repeat:
            said = said.replace(b"\r\n", b"\r\nDuplicate-Request: true\r\nDuplicate-Key: aG9zdGlsZQ==\r\n", 1)
        self._write(connection, misdeed, request, said)

    async def _take_a_slot(self) -> None:
        async with self._slots:
            await asyncio.sleep(self._manners.seconds)

    async def _make(self, work: _Work, request_id: str) -> None:
        """Make a change, and answer it when its time in the slot is over."""
        async with self._slots:
            if work.answer.cancelled():
                return
            said = envelope(400, "order line not found", work.form)
            if not work.ids[1].startswith(REFUSED_LINES):
                work.made = True
                self.made.append(Made(time.monotonic(), *work.ids, request_id))
                said = envelope(0, "Successful operation", work.form, work.ids)
                self._earlier.append((work.ids, said))
                self._look_at_plans()
            await asyncio.sleep(self._manners.seconds)
        if not work.answer.done():
            work.answer.set_result(said)

    def _misdeed(self, request: _Request, arrivals: int) -> Misdeed | None:
        if arrivals > 1:
            return None
        left = self._chance.random()
        for misdeed, share in self._manners.misdeeds.items():
            if left < share:
                return self._recognisable(misdeed, request)
            left -= share
        return None

    def _recognisable(self, misdeed: Misdeed, request: _Request) -> Misdeed | None:
        """Return `misdeed`, or one in its place where nobody could recognise it.

        A refusal has no echo. One that comes unasked, and just after the next request
        was written, is recognised only by a client that has met an anomaly before.
        """
        if misdeed in _WITHOUT_ECHO and (self._shown_at is None or len(self.arrivals) < self._shown_at):
            misdeed = Misdeed.ANOTHERS
        if misdeed is Misdeed.ANOTHERS:
            if self._anothers(request) is None:
                return None
            if self._shown_at is None:
                self._shown_at = len(self.arrivals) + _NOTICED_AFTER
        return misdeed

    def _anothers(self, request: _Request) -> bytes | None:
        return next((said for ids, said in self._earlier if ids[:2] != request.ids[:2]), None)

    def _write(self, connection: _Connection, misdeed: Misdeed | None, request: _Request, said: bytes) -> None:  # noqa: C901, PLR0912 - a case a misdeed
        later = asyncio.get_running_loop().call_later
        form = request.fields.get("format") or "json"
        match misdeed:
            case Misdeed.LOST | Misdeed.BUSY:
                connection.reset()
            case _ if misdeed in _REPEATS:
                connection.close()
            case _ if misdeed in _UNSERVED:
                connection.write(_UNSERVED[misdeed])
            case Misdeed.ERROR_500:
                connection.write(envelope(500, "internal error", form))
            case Misdeed.ANOTHERS:
                connection.write(self._anothers(request) or said)
            case Misdeed.LATE:
                later(self._manners.late, connection.write, said)
            case Misdeed.SPLIT:
                self.start(self._write_in_pieces(connection, said))
            case Misdeed.GZIP:
                connection.write(zipped(said))
            case Misdeed.CUT:
                connection.write(said[:-10])
                connection.close()
            case Misdeed.GLUED:
                connection.write(said + (self._anothers(request) or said))
            case _:
                connection.write(said)
        match misdeed:
            case Misdeed.DOUBLED:
                later(0.005, connection.write, said)
            case Misdeed.UNASKED_408:
                later(0.005, connection.write, html(408, "Request Time-out"))
            case Misdeed.UNASKED_REFUSAL:
                later(0.005, connection.write, envelope(400, "incorrect request", form))
            case Misdeed.CLOSES:
                connection.close()
            case Misdeed.IDLE_408:
                connection.when_idle(self._chance.uniform(0.001, 0.03), html(408, "Request Time-out"))

    async def _write_in_pieces(self, connection: _Connection, said: bytes) -> None:
        cuts = sorted(self._chance.sample(range(1, len(said)), 3))
        for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
            connection.write(said[begin:end])
            await asyncio.sleep(0.001)


# -- the program


def _tls(pem: bytes | None) -> ssl.SSLContext | None:
    if pem is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        Path(file.name).write_bytes(pem)
        context.load_cert_chain(file.name)
    return context


async def _run(manners: Manners, pem: bytes | None, pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    # connections that a client breaks in the handshake are no news here
    loop.set_exception_handler(lambda *_: None)
    server = Server(manners, _tls(pem))
    await server.listen()
    hung_up = asyncio.Event()
    commands: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()

    def read() -> None:
        try:
            commands.put_nowait(pipe.recv())
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            hung_up.set()

    loop.add_reader(pipe.fileno(), read)
    pipe.send(server.port)

    async def obey() -> None:
        while True:
            name, arguments = await commands.get()
            if name == "ledger":
                pipe.send((list(server.arrivals), list(server.made), list(server.weathers), server.connections))
                continue
            result = getattr(server, name)(*arguments)
            if asyncio.iscoroutine(result):
                await result
            pipe.send(None)

    obeying = loop.create_task(obey())
    await hung_up.wait()
    obeying.cancel()


def serve(manners: Manners, pem: bytes | None, pipe: Pipe) -> None:
    """Serve until the other end of `pipe` is closed."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(manners, pem, pipe))
