"""A small discrete-event simulation: servers, and clients with a real law behind a light gate.

Nothing here waits or sends: events lie on a heap and the clock jumps from one to the next. A client is the
law of `altcraft_async.flow` with the package's own pacer, outage law and backoff, without the engine around
them, so a client's minute takes about a second. The same seeds give the same run to the last bit.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Literal

import attrs

from altcraft_async.flow.limit import Signal
from altcraft_async.flow.outage import Outage, OutageState
from altcraft_async.flow.pace import TIMER_SLACK, Pacer

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.flow.limit import ConcurrencyLimit

__all__ = ["Behaviour", "Client", "Server", "World"]

BUCKET = 0.1
"""Seconds of a bucket in which a client's answers are counted."""
_BASE, _MAX_DELAY = 0.5, 30.0
"""The package's default backoff."""
_KIND = "update"


class World:
    """The clock and what is still to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._count = 0

    def at(self, time: float, call: Callable[..., object], *arguments: object) -> None:
        """Let something happen at `time`."""
        self._count += 1
        heapq.heappush(self._heap, (max(time, self.now), self._count, call, arguments))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, until `done`."""
        heap = self._heap
        while heap and heap[0][0] <= until and not done():
            self.now, _, call, arguments = heapq.heappop(heap)
            call(*arguments)
        if not done():
            self.now = max(self.now, until)


@attrs.frozen(kw_only=True)
class Behaviour:
    """What a server is like; times in seconds.

    Service takes `latency` on average, the share `jitter` of it exponential. At most `slots` calls are
    served at once; one more waits (``"queue"``, at most `patience`, then it is answered 503) or is
    answered 429 (``"reject"``); `changes` are times with the slots from then on. With `knee` there are no slots, and
    with ``n > knee`` calls the latency grows by ``(n / knee) ** steepness``.

    With `rate` only that many calls a second are let in: by a `"bucket"` that holds `burst`, by whole `"windows"` of
    so many seconds, or by a `"sliding"` second in which refused calls count too (HAProxy's request rate).
    A 429 takes `refusal`, and carries `retry_after`. The share `flaky` of the calls is throttled whatever the load,
    and in `outage`, from its first to its second time, every call.
    """

    latency: float = 0.1
    jitter: float = 0.0
    slots: int = 50
    over_slots: Literal["queue", "reject"] = "queue"
    patience: float = math.inf
    changes: tuple[tuple[float, int], ...] = ()
    knee: int | None = None
    steepness: float = 1.0
    rate: float | None = None
    counts: Literal["bucket", "windows", "sliding"] = "bucket"
    window: float = 1.0
    burst: int = 10
    retry_after: float | None = None
    refusal: float = 0.002
    flaky: float = 0.0
    outage: tuple[float, float] | None = None

    def slots_at(self, time: float) -> int:
        """Give the calls that can be served at once."""
        slots = self.knee or self.slots
        for since, count in self.changes:
            if time >= since:
                slots = count
        return slots

    def capacity(self, begin: float, end: float) -> float:
        """Give the calls that a client which knows the server makes between two times."""
        if self.rate is not None:
            return self.rate * (end - begin)
        edges = sorted({begin, end, *(time for time, _ in self.changes if begin < time < end)})
        return sum((b - a) * self.slots_at(a) / self.latency for a, b in itertools.pairwise(edges))


class Server:
    """Serves all clients of a world as its behaviour says; `peak` is the most calls it had at once."""

    def __init__(self, world: World, behaviour: Behaviour, seed: int = 0) -> None:
        self.world, self.behaviour = world, behaviour
        self._random = Random(f"server {seed}")
        self._queue: deque[tuple[Callable[..., None], float, list[bool]]] = deque()
        self.serving = self.waiting = self.peak = 0
        self.throttled = self.sent = 0
        self._tokens, self._filled = float(behaviour.burst), 0.0
        self._window, self._this, self._last = 0, 0, 0
        for time, _ in behaviour.changes:
            world.at(time, self._serve_waiting)

    def arrive(self, answer: Callable[..., None]) -> None:
        """Take a call; `answer(1, None)` says that it was served, `answer(0, retry_after)` that not."""
        now, server = self.world.now, self.behaviour
        self.sent += 1
        away = server.outage is not None and server.outage[0] <= now < server.outage[1]
        if away or not self._lets_in(now):
            self._refuse(answer)
        elif server.rate is not None or server.knee is not None or self.serving < server.slots_at(now):
            self._serve(answer)
        elif server.over_slots == "queue":
            waiting = [True]
            self.waiting += 1
            self._queue.append((answer, now, waiting))
            if server.patience < math.inf:
                self.world.at(now + server.patience, self._lose_patience, answer, waiting)
        else:
            self._refuse(answer)
        self.peak = max(self.peak, self.serving + self.waiting)

    def _lets_in(self, now: float) -> bool:
        server = self.behaviour
        if server.rate is not None and not self._admits(now):
            return False
        return not server.flaky or self._random.random() >= server.flaky

    def _admits(self, now: float) -> bool:
        server = self.behaviour
        assert server.rate is not None
        if server.counts == "bucket":
            self._tokens = min(server.burst, self._tokens + (now - self._filled) * server.rate)
            self._filled = now
            if self._tokens < 1.0 - 1e-9:
                return False
            self._tokens -= 1.0
            return True
        window = int(now / server.window)
        if window != self._window:
            self._last = self._this if window == self._window + 1 else 0
            self._this, self._window = 0, window
        if server.counts == "windows":
            admitted = self._this < server.rate * server.window
            self._this += admitted
            return admitted
        self._this += 1
        return self._this + self._last * (1.0 - (now - window)) <= server.rate

    def _serve(self, answer: Callable[..., None]) -> None:
        server = self.behaviour
        self.serving += 1
        time = server.latency
        if server.jitter:
            time *= 1.0 - server.jitter + self._random.expovariate(1.0 / server.jitter)
        if server.knee is not None and self.serving > server.knee:
            time *= (self.serving / server.knee) ** server.steepness
        self.world.at(self.world.now + time, self._served, answer)

    def _served(self, answer: Callable[..., None]) -> None:
        self.serving -= 1
        self._serve_waiting()
        answer(1, None)

    def _serve_waiting(self) -> None:
        slots = self.behaviour.slots_at(self.world.now)
        while self._queue and self.serving < slots:
            answer, _, waiting = self._queue.popleft()
            if waiting[0]:
                waiting[0] = False
                self.waiting -= 1
                self._serve(answer)

    def _lose_patience(self, answer: Callable[..., None], waiting: list[bool]) -> None:
        if waiting[0]:
            waiting[0] = False
            self.waiting -= 1
            self.throttled += 1
            answer(0, None)

    def _refuse(self, answer: Callable[..., None]) -> None:
        self.throttled += 1
        self.world.at(self.world.now + self.behaviour.refusal, answer, 0, self.behaviour.retry_after)


class Client:
    """One client that always has work between `joins` and `leaves`, or `lines` calls to make.

    `accepted`, `throttled` and `slow` (the sum of latencies) are per bucket of `BUCKET` seconds. With `most` it makes
    no more calls a second than that, whatever its law allows: no client is faster than its machine.
    """

    def __init__(  # noqa: PLR0913 - all of one client
        self, world: World, server: Server, law: ConcurrencyLimit, *,
        seed: int = 0, joins: float = 0.0, leaves: float = math.inf, lines: int | None = None,
        most: float | None = None,
    ) -> None:  # fmt: skip
        self.world, self.server, self.law = world, server, law
        self.joins, self.leaves = joins, leaves
        self.backlog = math.inf if lines is None else lines
        self.lines = lines
        self.limit, self.in_flight = law.limit, 0
        self.accepted: dict[int, int] = {}
        self.throttled: dict[int, int] = {}
        self.slow: dict[int, float] = {}
        self.done = self.sent = 0
        self.ended = math.inf
        self._pacer, self._machine = Pacer(law.rate), Pacer(most)
        self._outage, self._seen, self._began = Outage(), OutageState.CLEAR, math.inf
        self._opens = 0.0
        self._again: list[int] = []
        self._random = Random(f"client {seed}")
        self._timer = math.inf
        self._probe = False
        world.at(joins, self._pump)

    @property
    def here(self) -> bool:
        """Whether it is at work."""
        return self.joins <= self.world.now < self.leaves

    @property
    def waits(self) -> bool:
        """Whether a call waits for a permit or the pace."""
        return self.here and bool(self._again or self.backlog)

    def resize(self) -> None:
        """Follow the law."""
        self.limit = self.law.limit
        if self.law.rate is not self._pacer.rate:
            self._pacer.rate = self.law.rate
            self._timer = math.inf
        self._pump()

    def _pump(self) -> None:
        now = self.world.now
        if now >= self.leaves:
            return
        while self._again or self.backlog:
            clear = self._outage.state is OutageState.CLEAR
            if self.in_flight >= self.limit and clear:
                return
            delay = max(0.0, self._opens - now, self._pacer.peek(now), self._machine.peek(now))
            if not clear:
                delay = max(delay, self._outage.look(now))
                self._notice_outage(ended=False)
            if delay > 0.0:
                if now + delay < self._timer - 1e-9:
                    self._timer = now + delay
                    self.world.at(self._timer, self._wake, self._timer)
                return
            self._pacer.reserve(now, late=TIMER_SLACK)
            self._machine.reserve(now, late=TIMER_SLACK)
            self._send(now)

    def _wake(self, timer: float) -> None:
        if timer == self._timer:
            self._timer = math.inf
            self._pump()

    def _send(self, now: float) -> None:
        if self._again:
            attempts = self._again.pop()
        else:
            self.backlog -= 1
            attempts = 0
        self.in_flight += 1
        self.sent += 1
        if self._outage.state is OutageState.OPEN:
            self._outage.probe_started(now, _KIND)
        self.server.arrive(lambda ok, wait: self._answered(now, attempts + 1, wait, ok=bool(ok)))

    def _answered(self, started: float, attempts: int, wait: float | None, *, ok: bool) -> None:
        now, outage, law = self.world.now, self._outage, self.law
        clear, latency = outage.state is OutageState.CLEAR, now - started
        bucket = int(now / BUCKET)
        ended = False
        if ok:
            self.accepted[bucket] = self.accepted.get(bucket, 0) + 1
            self.slow[bucket] = self.slow.get(bucket, 0.0) + latency
            self.done += 1
            ended = outage.on_served(now, started, _KIND)
            if self.done == self.lines:
                self.ended = now
        else:
            self.throttled[bucket] = self.throttled.get(bucket, 0) + 1
            outage.on_back_pressure(now, _KIND)
        self._notice_outage(ended=ended)
        if clear and outage.state is OutageState.CLEAR:
            law.on_result(now, latency, Signal.SUCCESS if ok else Signal.OVERLOAD, self.in_flight, _KIND)
        if not ok and wait is not None and now + wait > self._opens:
            self._opens = now + wait
            if outage.state is OutageState.CLEAR:
                law.on_pause(now, wait)
        if not clear:
            outage.probe_ended()
        self.in_flight -= 1
        if not ok:
            in_outage = outage.state is not OutageState.CLEAR
            backoff = 0.0 if in_outage else self._random.random() * min(_MAX_DELAY, _BASE * 2.0 ** (attempts - 1))
            self.world.at(now + max(backoff, wait or 0.0), self._retry, attempts - in_outage)
        self.resize()

    def _retry(self, attempts: int) -> None:
        self._again.append(attempts)
        self._pump()

    def _notice_outage(self, *, ended: bool) -> None:
        before, self._seen = self._seen, self._outage.state
        if before is OutageState.CLEAR and self._seen is not before:
            self._began = self._outage.since
        if ended:
            self._opens = 0.0
            self.law.resume(self.world.now, self._began)
