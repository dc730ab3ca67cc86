"""The gate: how many calls may be under way, and how soon the next may start.

One gate for all calls of a client. It holds the concurrency limit, the pace, the
pause that a server asks for, and the circuit that lets only probes through to a
server that cannot be reached. Waiters are served first come, first served in
two classes: single calls go ahead of bulk ones, but of every
`SINGLES_IN_A_ROW` + 1 permits at least one goes to a waiting bulk call, so
neither class starves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import EventLoopError
from altcraft_async.flow.circuit import Circuit
from altcraft_async.flow.limit import FixedLimit, Signal
from altcraft_async.flow.pace import TIMER_SLACK, Pacer

if TYPE_CHECKING:
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.flow.limit import ConcurrencyLimit

__all__ = ["SINGLES_IN_A_ROW", "Gate", "GateStatistics"]

SINGLES_IN_A_ROW = 4


@attrs.frozen
class GateStatistics:
    """A snapshot: `limit` permits, `in_flight` of them held, `waiting` calls, `rate` in calls a second or None.

    `paused` is how many seconds nobody may start; `reachable` is false while the
    circuit is open.
    """

    limit: int
    in_flight: int
    waiting: int
    rate: float | None
    paused: float
    reachable: bool


class Gate:
    """Gives out permits; see the module.

    Every acquired permit must be released exactly once. Cancelling a waiter
    takes it out of the queue and never costs a permit. `loop` is the event loop
    that the client belongs to, None before its first call.
    """

    __slots__ = (
        "_adaptive", "_bulk", "_circuit", "_in_flight", "_law", "_notifier", "_opens_at", "_pacer", "_rate",
        "_singles", "_singles_in_a_row", "_timer", "limit", "loop",
    )  # fmt: skip

    def __init__(
        self,
        law: ConcurrencyLimit,
        *,
        rate: float | None = None,
        circuit: Circuit | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._law = law
        self._adaptive = not isinstance(law, FixedLimit)
        self.limit = law.limit
        self._rate = rate
        self._pacer = Pacer(rate)
        self._circuit = circuit or Circuit(patience=60.0, first_patience=5.0)
        self._notifier = notifier
        self._in_flight = 0
        self._opens_at = 0.0
        self._singles: deque[asyncio.Future[None]] = deque()
        self._bulk: deque[asyncio.Future[None]] = deque()
        self._singles_in_a_row = 0
        self._timer: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<Gate {self._in_flight}/{self.limit} in flight, {len(self._singles) + len(self._bulk)} waiting>"

    def statistics(self) -> GateStatistics:
        """Take a snapshot."""
        waiting = len(self._singles) + len(self._bulk)
        paused = max(0.0, self._opens_at - asyncio.get_running_loop().time()) if self._opens_at else 0.0
        return GateStatistics(
            self.limit, self._in_flight, waiting, self._pacer.rate, paused, reachable=not self._circuit.is_open
        )

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to `loop` from now on; raises `EventLoopError` where that is another one already.

        What waits in one loop cannot be woken from another, and connections
        cannot be shared by two, so nothing else would end well.
        """
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            msg = "the client belongs to another event loop, that of its first call; make one client in each loop"
            raise EventLoopError(msg)

    def resize(self, limit: int) -> None:
        """Move the limit: a higher one wakes waiters at once, under a lower one the holders finish."""
        previous, self.limit = self.limit, limit
        if self._notifier is not None and limit != previous:
            self._notifier.limit_changed(limit, previous)
        if limit > previous:
            self._wake()

    def try_acquire(self) -> bool:
        """Take a permit if one is free now and nobody waits; say whether."""
        if self._in_flight >= self.limit or self._singles or self._bulk:
            return False
        if (self._opens_at or self._pacer.rate is not None) and self._delay() > 0.0:
            return False
        self._in_flight += 1
        if self._pacer.rate is not None:
            self._pacer.reserve(asyncio.get_running_loop().time())
        return True

    async def acquire(self, *, bulk: bool = False) -> None:
        """Wait for a permit."""
        if self.try_acquire():
            return
        waiter = asyncio.get_running_loop().create_future()
        queue = self._bulk if bulk else self._singles
        queue.append(waiter)
        self._wake()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if waiter in queue:
                    queue.remove(waiter)
            else:  # granted in the same moment: hand it on
                self.release()
            raise

    def release(self) -> None:
        """Give a permit back."""
        self._in_flight -= 1
        if self._singles or self._bulk:
            self._wake()

    def record(self, now: float, latency: float, signal: Signal) -> None:
        """Tell the law how a call ended that reached the server and still holds its permit."""
        if self._circuit.on_answer(now - latency):
            self._opens_at = 0.0
            self.resize(self._law.limit)
        if not self._adaptive:
            return
        limit = self._law.on_result(now, latency, signal, self._in_flight)
        if self._law.rate is not self._pacer.rate:
            self._follow_rate()
        if limit != self.limit and not self._circuit.is_open:
            self.resize(limit)

    def record_unreachable(self, now: float) -> bool:
        """Take note of a failed connection; say whether to give the server up."""
        wait = self._circuit.on_failure(now)
        if wait is not None:
            self._opens_at = max(self._opens_at, now + wait)
            self.resize(1)
        return self._circuit.hopeless(now)

    def pause(self, seconds: float) -> None:
        """Let nobody start for `seconds`; of several pauses the one that ends last counts."""
        now = asyncio.get_running_loop().time()
        if now + seconds <= self._opens_at:
            return
        self._opens_at = now + seconds
        limit = self._law.on_pause(now, seconds)
        self._follow_rate()
        if self._notifier is not None:
            self._notifier.sending_paused(seconds)
        if limit != self.limit and not self._circuit.is_open:
            self.resize(limit)

    def _follow_rate(self) -> None:
        rates = [rate for rate in (self._rate, self._law.rate) if rate is not None]
        self._pacer.rate = min(rates, default=None)

    def _delay(self) -> float:
        """Give the seconds until a start is allowed."""
        now = asyncio.get_running_loop().time()
        if self._opens_at:
            if now < self._opens_at:
                return self._opens_at - now
            self._opens_at = 0.0
        return self._pacer.peek(now)

    def _wake(self) -> None:
        """Grant what can be granted now, and set the one timer for what must wait for time."""
        while self._in_flight < self.limit and (self._singles or self._bulk):
            delay = self._delay()
            if delay > 0.0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)
                return
            waiter = self._next_waiter()
            if waiter.done():  # cancelled while it waited
                continue
            # it waited, so it may be late: at thousands a second, a timer's delay is longer than the interval
            self._pacer.reserve(asyncio.get_running_loop().time(), late=TIMER_SLACK)
            self._in_flight += 1
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[None]:
        if self._singles and (not self._bulk or self._singles_in_a_row < SINGLES_IN_A_ROW):
            self._singles_in_a_row += 1
            return self._singles.popleft()
        self._singles_in_a_row = 0
        return self._bulk.popleft()

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()
