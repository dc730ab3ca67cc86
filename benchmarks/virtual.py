"""A simulation of the whole client: a virtual clock, and servers that exist only as a transport.

The engine runs as it is, gate, lanes, retries and all, on an event loop whose
clock jumps from one timer to the next instead of waiting. Nothing is sent
anywhere: `SimulatedServer` is the client's transport and answers as a server of
the given `Behaviour` would. A run of hours takes seconds, and the same seed
gives the same run to the last bit.

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        report = runner.run(send_many())
"""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections import deque
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Literal

import attrs

from altcraft_async import AltcraftClient
from altcraft_async.errors import AttemptTimeoutError, ConnectError
from altcraft_async.flow.limit import Adaptive
from altcraft_async.flow.retry import RetryPolicy
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.flow.limit import ConcurrencyLimit
    from altcraft_async.observe import Observer
    from altcraft_async.protocol.wire import WireRequest

__all__ = ["Behaviour", "Counts", "SimulatedServer", "VirtualLoop", "is_stuck", "simulated_client", "updates"]


class _JumpingSelector:
    """Waits for nothing: moves the clock on by the time it was asked to wait."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[object]:
        """Let `timeout` seconds pass at once; raises `RuntimeError` where only the outside could end the wait."""
        if timeout is None:
            msg = "the simulation stands still: every task waits, and no timer is set"
            raise RuntimeError(msg)
        if timeout > 0.0:
            self.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on a virtual clock that starts at 0; it has no sockets, signals or processes.

    Sleeps and timeouts take no real time. Order and times of all callbacks
    depend on nothing but the program, so a seeded program repeats exactly.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector = _JumpingSelector()

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._selector.now

    def _process_events(self, event_list: Sequence[object]) -> None:
        """Do nothing: there are no events from outside."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop never sleeps, so nothing need wake it."""


@attrs.frozen(kw_only=True)
class Behaviour:
    """What a simulated server is like. Times are in seconds.

    Service takes `latency` on average; the share `jitter` of it is exponential,
    the rest fixed. At most `slots` calls are served at once, one more waits its
    turn (``"queue"``) or is turned away with 429 (``"reject"``); `changes` are
    pairs of a time and the number of slots from then on. With `knee` there are
    no slots: with ``n > knee`` calls in service the latency is multiplied by
    ``(n / knee) ** steepness``. With `rate` only that many calls a second, after
    `burst` at once, are let in and the others answered 429.

    `retry_after` (whole seconds) goes with each 429. Turning a call away takes
    `refusal`. The share `flaky` of the calls is turned away whatever the load, and
    the share `errors` of the served calls is answered 500. Within
    `outage`, from its first to its second time, every call is answered 503, or
    with `refused` finds no connection. The share `stuck` of the order lines is
    answered 500 with ``Retry-After: 30`` until 30 s after its first call.
    """

    latency: float = 0.1
    jitter: float = 0.0
    slots: int | None = 50
    over_slots: Literal["queue", "reject"] = "queue"
    changes: tuple[tuple[float, int], ...] = ()
    knee: int | None = None
    steepness: float = 1.0
    rate: float | None = None
    burst: int = 10
    retry_after: int | None = None
    refusal: float = 0.002
    flaky: float = 0.0
    errors: float = 0.0
    outage: tuple[float, float] | None = None
    refused: bool = False
    stuck: float = 0.0

    def ideal(self, lines: int) -> float:
        """Give the seconds in which a client that knows the server in advance delivers `lines`, waste included.

        Calls are a fluid here: the last one's own latency is not added. Stuck
        lines are left out; `errors` and the outage are the server's, and so not.
        """
        if self.rate is not None:
            return (lines - self.burst) / self.rate + self.latency
        slots = self.knee or self.slots or lines
        steps = list(self.changes)
        if self.outage is not None:
            steps = [(self.outage[0], 0), (self.outage[1], slots)]
        now, done = 0.0, 0.0
        for time, count in steps:
            more = (time - now) * slots / self.latency
            if done + more >= lines:
                break
            now, done, slots = time, done + more, count
        return now + (lines - done) * self.latency / slots


@attrs.define
class Counts:
    """What a server saw: `sent` requests, `rejected` of them with 429, 503 or no connection, `failed` with 500.

    `peak` is the most calls it had at once, `settled_peak` the same from
    `SimulatedServer.settled_from` on. `applied_at` are the times at which it
    answered with success, `last_free` the last of them for a line that never stuck.
    """

    sent: int = 0
    rejected: int = 0
    failed: int = 0
    peak: int = 0
    settled_peak: int = 0
    applied_at: list[float] = attrs.field(factory=list, repr=lambda times: f"<{len(times)} times>")
    last_free: float = 0.0


def _envelope(status: int, text: str, **headers: str) -> WireResponse:
    body = json.dumps({"error": 0 if status == 200 else status, "error_text": text}).encode()
    return WireResponse(status, {"Content-Type": "application/json", **headers}, body)


_SUCCESS = _envelope(200, "")
_FAILURE = _envelope(500, "Internal error")
_STUCK_FOR = 30
_STUCK = _envelope(500, "Internal error", **{"Retry-After": str(_STUCK_FOR)})
_DOWN = _envelope(503, "Service unavailable")


class SimulatedServer:
    """A transport that answers as a server of `behaviour` would, on the running loop's clock.

    `seed` decides the jitter and which calls fail. A call whose client is gone
    is served to its end all the same, as servers do.
    """

    __slots__ = (
        "_behaviour", "_due", "_filled_at", "_first_seen", "_in_flight", "_loop", "_queue", "_random", "_serving",
        "_timer", "_tokens", "_turned_away", "counts", "settled_from",
    )  # fmt: skip

    def __init__(self, behaviour: Behaviour, *, seed: int = 0, settled_from: float = math.inf) -> None:
        self._behaviour = behaviour
        self._random = Random(f"server {seed}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving = self._in_flight = 0
        self._queue: deque[tuple[asyncio.Future[WireResponse], bool]] = deque()
        self._tokens, self._filled_at = float(behaviour.burst), 0.0
        self._first_seen: dict[str, float] = {}
        self._due: dict[asyncio.Future[WireResponse], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        wait = behaviour.retry_after
        headers = {} if wait is None else {"Retry-After": str(wait)}
        self._turned_away = _envelope(429, "Too many requests", **headers)
        self.settled_from = settled_from
        self.counts = Counts()

    def __repr__(self) -> str:
        """Show what the server is doing."""
        return f"<SimulatedServer {self._serving} served, {len(self._queue)} waiting>"

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Take one call; see `altcraft_async.engine.carrier.Transport`."""
        del connect, max_bytes, fresh
        loop = self._loop or self._open()
        now = loop.time()
        counts = self.counts
        counts.sent += 1
        self._in_flight += 1
        counts.peak = max(counts.peak, self._in_flight)
        if now >= self.settled_from:
            counts.settled_peak = max(counts.settled_peak, self._in_flight)
        answer: asyncio.Future[WireResponse] = loop.create_future()
        try:
            self._arrive(answer, request, now)
            self._watch(answer, now + total)
            return await answer
        finally:
            self._due.pop(answer, None)
            self._in_flight -= 1

    async def aclose(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _open(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        for time, _ in self._behaviour.changes:
            self._loop.call_at(time, self._serve_waiting)
        return self._loop

    # -- the way of one call

    def _arrive(self, answer: asyncio.Future[WireResponse], request: WireRequest, now: float) -> None:
        server = self._behaviour
        if server.outage is not None and server.outage[0] <= now < server.outage[1]:
            self._refuse(answer, None if server.refused else _DOWN)
        elif self._turns_away(now):
            self._refuse(answer, self._turned_away)
        else:
            free = True
            if server.stuck:
                line = json.loads(request.body)["order_line_external_id"]
                free = not is_stuck(line, server.stuck)
                if not free and now < self._first_seen.setdefault(line, now) + _STUCK_FOR:
                    self._later(server.refusal, answer, _STUCK)
                    self.counts.failed += 1
                    return
            if self._serving < self._slots(now):
                self._serve(answer, free)
            elif server.over_slots == "queue":
                self._queue.append((answer, free))
            else:
                self._refuse(answer, self._turned_away)

    def _turns_away(self, now: float) -> bool:
        server = self._behaviour
        if server.rate is not None and not self._admitted(now):
            return True
        return server.flaky > 0.0 and self._random.random() < server.flaky

    def _slots(self, now: float) -> float:
        server = self._behaviour
        if server.slots is None or server.knee is not None or server.rate is not None:
            return math.inf
        slots = server.slots
        for time, count in server.changes:
            if now >= time - 1e-9:
                slots = count
        return slots

    def _admitted(self, now: float) -> bool:
        server = self._behaviour
        assert server.rate is not None  # asked only then
        self._tokens = min(server.burst, self._tokens + (now - self._filled_at) * server.rate)
        self._filled_at = now
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens -= 1.0
        return True

    def _serve(self, answer: asyncio.Future[WireResponse], free: bool) -> None:
        server = self._behaviour
        self._serving += 1
        time = server.latency
        if server.jitter:
            time *= 1.0 - server.jitter + self._random.expovariate(1.0 / server.jitter)
        if server.knee is not None and self._serving > server.knee:
            time *= (self._serving / server.knee) ** server.steepness
        self._running().call_later(time, self._served, answer, free)

    def _served(self, answer: asyncio.Future[WireResponse], free: bool) -> None:
        now = self._running().time()
        self._serving -= 1
        if self._behaviour.errors and self._random.random() < self._behaviour.errors:
            self.counts.failed += 1
            _answer(answer, _FAILURE)
        else:
            self.counts.applied_at.append(now)
            if free:
                self.counts.last_free = now
            _answer(answer, _SUCCESS)
        if self._queue:
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        slots = self._slots(self._running().time())
        while self._queue and self._serving < slots:
            self._serve(*self._queue.popleft())

    def _refuse(self, answer: asyncio.Future[WireResponse], response: WireResponse | None) -> None:
        self.counts.rejected += 1
        self._later(self._behaviour.refusal, answer, response)

    def _later(self, delay: float, answer: asyncio.Future[WireResponse], response: WireResponse | None) -> None:
        self._running().call_later(delay, partial(_answer, answer, response))

    def _running(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None  # opened by the first call
        return self._loop

    # -- timeouts: one timer for all calls

    def _watch(self, answer: asyncio.Future[WireResponse], due: float) -> None:
        self._due[answer] = due
        if self._timer is None or due < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._running().call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        now = self._running().time()
        for answer in [answer for answer, due in self._due.items() if due <= now + 1e-9]:
            del self._due[answer]
            if not answer.done():
                answer.set_exception(AttemptTimeoutError("no answer in time"))
        self._timer = self._running().call_at(min(self._due.values()), self._on_timer) if self._due else None


def _answer(answer: asyncio.Future[WireResponse], response: WireResponse | None) -> None:
    if answer.done():  # the client gave up on it
        return
    if response is None:
        answer.set_exception(ConnectError("no connection to the server (Connection refused)"))
    else:
        answer.set_result(response)


def is_stuck(line: str, share: float) -> bool:
    """Say whether a line is one of those that fail, the `share` of them all; it is the same lines every time."""
    return zlib.crc32(line.encode()) < share * 2**32


def simulated_client(  # noqa: PLR0913 - the options of a client
    server: SimulatedServer,
    *,
    seed: int = 0,
    concurrency: int | Adaptive = Adaptive(),  # noqa: B008 - frozen
    law: ConcurrencyLimit | None = None,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    retry_budget: float | None = 500.0,
    observers: Sequence[Observer] = (),
) -> AltcraftClient:
    """Make a client of `server` whose backoff is drawn from `seed`; `law` takes the place of the concurrency limit."""
    client = AltcraftClient(
        "http://127.0.0.1",
        "0123456789abcdef0123456789abcdef",
        concurrency=concurrency if law is None else Adaptive(),
        retry=retry,
        retry_budget=retry_budget,
        observers=observers,
        transport=server,
    )
    client._dispatcher.delivery.random = Random(f"client {seed}")
    if law is not None:
        client._engine.gate._law = law
        client._engine.gate.limit = law.limit
    return client


def updates(lines: int) -> list[tuple[str, str, str]]:
    """Give one update for each of `lines` order lines."""
    return [(f"order_{number // 4}", f"line_{number}", "delivered") for number in range(lines)]
