"""The gate: how many calls may be under way, and how soon the next may start.

One gate for all calls of a client. It holds the concurrency limit, the pace, the
pause that a server asks for, and the outage law that lets only probes through while
nobody is served. Waiters are served first come, first served in two classes: single
calls go ahead of bulk ones, but of every `SINGLES_IN_A_ROW` + 1 permits at least
one goes to a waiting bulk call, so neither class starves.

Calls that carry batches are *apart*: they have a limit of their own, since an answer
of seconds and one of milliseconds say nothing of each other. Where the concurrency is a
number that was set, it bounds both together. Pace, pause and outage are those of all.

What the client shares with others, `groups` carry: the limit itself, or a known total of calls or of starts a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from altcraft_async.engine.batches import Batches, Waiter
from altcraft_async.errors import ClientClosedError, EventLoopError
from altcraft_async.flow.limit import FixedLimit, Signal
from altcraft_async.flow.outage import THRESHOLD, Outage, OutageState
from altcraft_async.flow.pace import TIMER_SLACK, Pacer
from altcraft_async.flow.share import TICK, Load
from altcraft_async.protocol.verdict import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from altcraft_async.engine.group import Group
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.work import Patience
    from altcraft_async.flow.limit import ConcurrencyLimit, LearnedLimit
    from altcraft_async.flow.total import SharedTotal
    from altcraft_async.protocol.verdict import Verdict

__all__ = ["NO_PERMIT", "SINGLES_IN_A_ROW", "Gate", "GateStatistics"]

SINGLES_IN_A_ROW: Final = 4
NO_PERMIT: Final = 0
"""What is given where there is no permit; all others are above it."""

_LOOK_EVERY = 0.5
"""Seconds between two looks for calls that are overdue."""

T = TypeVar("T")
_CAP_ROUNDS = 64
"""Rounds of served calls, at most, after which one more call is tried where this machine had no room for it."""

_CLEAR, _OPEN, _SUCCESS = OutageState.CLEAR, OutageState.OPEN, Signal.SUCCESS
_log = logging.getLogger("altcraft_async")


@attrs.frozen
class GateStatistics:
    """A snapshot: `limit` permits, `in_flight` of them held, `waiting` calls, `rate` in calls a second or None.

    `outage` is how many seconds nobody has been served, None while calls are served.
    `paused` is how many seconds nobody may start, be it for a pause or until a probe. `processes` share the
    limit, this one among them; `doing` is in words what it is doing.
    """

    limit: int
    in_flight: int
    waiting: int
    rate: float | None
    paused: float
    outage: float | None
    processes: int
    doing: str


def _end(wait: asyncio.Future[T], *, result: T) -> None:
    if not wait.done():
        wait.set_result(result)


class Gate:
    """Gives out permits; see the module.

    A permit is a number above `NO_PERMIT`, and must be released exactly once. Cancelling a
    waiter takes it out of the queue and never costs a permit. `loop` is the event loop
    that the client belongs to, None before its first call. `lost` counts the calls that hold
    none any more, because an outage left them without an answer; `crews` are called when it
    grows, so that others take their place. Once it is `closed`, nobody gets a permit, and nobody waits.
    """

    __slots__ = (
        "_adaptive", "_apart", "_batches", "_began", "_bulk", "_cap", "_cap_grew", "_cap_rounds", "_cap_served",
        "_given", "_held", "_law", "_notifier", "_opens_at", "_pacer", "_probe", "_rate", "_remembers", "_rests",
        "_seen", "_singles", "_singles_in_a_row", "_ticker", "_timer", "_timer_at", "_totals", "_turns", "_watch",
        "closed", "crews", "groups", "limit", "loop", "lost", "outage",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - each part is optional
        self,
        law: ConcurrencyLimit,
        batch_law: ConcurrencyLimit | None = None,
        *,
        rate: float | None = None,
        notifier: Notifier | None = None,
        groups: Sequence[Group] = (),
        totals: Sequence[SharedTotal] = (),
        remembers: bool = True,
    ) -> None:
        self._law = law
        self._batches = Batches(batch_law or FixedLimit(1))
        self._apart = 0
        self._adaptive = law.learns
        self.limit = law.limit
        self.lost = 0
        self.crews: set[Callable[[], None]] = set()
        self.groups = groups
        self._totals = totals
        self._remembers = remembers
        self._ticker: asyncio.TimerHandle | None = None
        self._cap: int | None = None
        self._cap_grew = False
        self._cap_rounds = 1
        self._cap_served = 0
        self._rate = rate
        self._pacer = Pacer(rate)
        self.outage = Outage()
        self._seen = _CLEAR
        self._began = float("inf")
        self._notifier = notifier
        self._held: dict[int, tuple[float, str]] = {}
        self._given = NO_PERMIT
        self._probe = NO_PERMIT
        self._opens_at = 0.0
        self._turns: dict[asyncio.Future[bool], Patience] = {}
        self._rests: set[asyncio.Future[bool]] = set()
        self._singles: deque[Waiter] = deque()
        self._bulk: deque[Waiter] = deque()
        self._singles_in_a_row = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed = False
        self._follow_rate()

    def __repr__(self) -> str:
        """Show the gate's state."""
        outage = "" if self.outage.state is _CLEAR else f", outage {self.outage.state.value}"
        waiting = len(self._singles) + len(self._bulk) + len(self._batches.waiting)
        return f"<Gate {len(self._held)}/{self.limit} in flight, {waiting} waiting{outage}>"

    @property
    def in_flight(self) -> int:
        """How many permits are held."""
        return len(self._held)

    @property
    def batch_limit(self) -> int:
        """How many calls that carry batches may be under way."""
        limit = self._batches.law.limit
        return limit if self._cap is None else min(limit, self._cap)

    def statistics(self) -> GateStatistics:
        """Take a snapshot."""
        waiting = len(self._singles) + len(self._bulk) + len(self._batches.waiting)
        now = asyncio.get_running_loop().time()
        clear = self.outage.state is _CLEAR
        return GateStatistics(
            limit=self.limit,
            in_flight=len(self._held),
            waiting=waiting,
            rate=self._pacer.rate,
            paused=max(0.0, self._opens_at - now, 0.0 if clear else self._wait_for_outage(now)),
            outage=None if clear else max(0.0, now - self.outage.since),
            processes=self.processes,
            doing=self._law.statistics().doing,
        )

    @property
    def processes(self) -> int:
        """How many processes share the limit, or a total, this one among them."""
        return max((group.processes for group in self.groups), default=1)

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

    def close(self) -> None:
        """Stop the timers, and let nobody wait any longer."""
        self.closed = True
        for timer in (self._timer, self._watch, self._ticker):
            if timer is not None:
                timer.cancel()
        self._timer = self._watch = self._ticker = None
        for group in self.groups:
            group.close()
        if self.loop is not None and self.loop.is_closed():  # nobody is left to wait
            return
        for queue in (self._singles, self._bulk, self._batches.waiting):
            while queue:
                _end(queue.popleft().future, result=NO_PERMIT)
        for turn in (*self._turns, *self._rests):
            _end(turn, result=False)

    def check_open(self) -> None:
        """Raise `ClientClosedError` once the gate is closed."""
        if self.closed:
            raise ClientClosedError

    def resize(self, limit: int) -> None:
        """Move the limit: a higher one wakes waiters at once, under a lower one the holders finish."""
        if self._cap is not None:
            limit = min(limit, self._cap)
        previous, self.limit = self.limit, limit
        if self._notifier is not None and limit != previous:
            self._notifier.limit_changed(limit, previous)
        if limit > previous:
            self._wake()

    # -- permits

    def try_acquire(self, kind: str, *, apart: bool = False) -> int:
        """Take a permit for a `kind` of call if one is free now and nobody waits."""
        if apart:
            return self._try_acquire_apart(kind)
        if len(self._held) - self._apart >= self.limit or self._singles or self._bulk or self.closed:
            return NO_PERMIT
        now = asyncio.get_running_loop().time()
        if self._opens_at or self._pacer.rate is not None or self.outage.state is not _CLEAR:
            if self._delay(now) > 0.0:
                return NO_PERMIT
            self._pacer.reserve(now)
        return self._grant(now, kind)

    def _try_acquire_apart(self, kind: str) -> int:
        now = asyncio.get_running_loop().time()
        if self._batches.waiting or self.closed or not self._may_start_batch(now) or self._delay(now) > 0.0:
            return NO_PERMIT
        self._pacer.reserve(now)
        return self._grant(now, kind, apart=True)

    def _may_start_batch(self, now: float) -> bool:
        """Say whether one more call with a batch may start, as far as their own limit and pace are concerned."""
        batches = self._batches
        if self.outage.state is not _CLEAR:
            return True  # what may start then is the outage's to say
        full = len(batches.held) >= self.batch_limit or (not self._adaptive and len(self._held) >= self.limit)
        return not full and batches.pacer.peek(now) <= 0.0

    async def acquire(
        self, kind: str, *, bulk: bool = False, patience: Patience | None = None, apart: bool = False
    ) -> int:
        """Wait for a permit; give `NO_PERMIT` where an outage outlasts the caller's patience, or the gate is closed."""
        permit = self.try_acquire(kind, apart=apart)
        if permit or self.closed:
            return permit
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop.create_future(), kind, patience)
        queue = self._batches.waiting if apart else self._bulk if bulk else self._singles
        queue.append(waiter)
        self._wake()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                if waiter in queue:
                    queue.remove(waiter)
            elif permit := waiter.future.result():  # granted in the same moment: hand it on
                self.release(permit, unused=True)
            raise

    async def bear(self, turn: asyncio.Future[bool], patience: Patience) -> bool:
        """Wait for a turn elsewhere; false where an outage outlasts the caller's patience, or the gate is closed."""
        if self.closed:
            return False
        self._turns[turn] = patience
        if self.outage.state is _OPEN:
            now = asyncio.get_running_loop().time()
            self._sleep(now, self._lose_patience(now, _LOOK_EVERY))
        try:
            return await turn
        finally:
            del self._turns[turn]

    async def rest(self, seconds: float) -> None:
        """Wait so many seconds, or until the gate is closed."""
        if self.closed or seconds <= 0.0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(seconds, lambda: _end(over, result=True))
        self._rests.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._rests.discard(over)

    def release(self, permit: int, *, unused: bool = False) -> None:
        """Give a permit back; an `unused` one, with which nothing was sent, was no probe."""
        if self._held.pop(permit, None) is None:  # an outage has taken it already
            self.lost -= 1
        if self._batches.held:
            self._let_go_of_batch(permit)
        if permit == self._probe:
            self._probe = NO_PERMIT
            self.outage.probe_ended(unused=unused)
        if self._singles or self._bulk or self._batches.waiting:
            self._wake()

    def _let_go_of_batch(self, permit: int) -> None:
        held = self._batches.held
        held.discard(permit)
        self._apart = len(held) if self._adaptive else 0

    def _grant(self, now: float, kind: str, *, apart: bool = False) -> int:
        self._given = permit = self._given + 1
        self._held[permit] = (now, kind)
        if apart:
            batches = self._batches
            batches.held.add(permit)
            batches.pacer.reserve(now, late=TIMER_SLACK)
            self._apart = len(batches.held) if self._adaptive else 0
        if self.outage.state is _OPEN:
            self.outage.probe_started(now, kind)
            self._probe = permit
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)
        if self._ticker is None and self.groups:
            self._enter(now)
        return permit

    # -- what is shared

    def _enter(self, now: float) -> None:
        """Look who is there, and begin to tick."""
        before = self.processes
        for group in self.groups:
            group.enter(now)
        self._after_tick(before)

    def _tick(self) -> None:
        """Tell the groups what was seen, and follow what they say; without calls there is nothing to tell."""
        self._ticker = None
        waiting = bool(self._singles or self._bulk or (self._batches.waiting and not self._adaptive))
        if not self._held and not waiting:
            for group in self.groups:
                group.rest()
            return
        now, before = asyncio.get_running_loop().time(), self.processes
        in_flight = len(self._held) - self._apart
        load = Load(in_flight, self._given, waiting, in_flight >= self.limit)
        for group in self.groups:
            group.tick(now, load)
            if group.paused_until > now:
                self._opens_at = max(self._opens_at, group.paused_until)
        self._after_tick(before)

    def _after_tick(self, before: int) -> None:
        if self._notifier is not None and self.processes != before:
            self._notifier.limit_shared(self.processes)
        self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick)
        self._follow()

    def take_part(self, part: float | None) -> bool:
        """Have this part of the totals that are shared among the drainers of an outbox, or among shards.

        With None no call starts for the moment: which part it is, is not known.

        Says whether no more calls are under way than a known limit allows, so that others may have the rest of it.
        """
        for total in self._totals:
            if total.among != "host":
                total.take_part(part)
        self._follow()
        return self._adaptive or len(self._held) <= self.limit

    @property
    def learned(self) -> LearnedLimit | None:
        """What the limit of another run may begin with; None where there is nothing, as in an outage."""
        return self._law.learned if self.outage.state is _CLEAR else None

    def begin_at(self, learned: LearnedLimit) -> None:
        """Begin at half of what another run ended with, where nothing is known yet."""
        if self._remembers:
            self._law.begin_at(asyncio.get_running_loop().time(), learned)
            self._follow()

    def _follow(self) -> None:
        self._follow_rate()
        if self._law.limit != self.limit:
            self.resize(self._law.limit)

    # -- what has come

    def record(  # noqa: PLR0913 - what one attempt showed, on the hot path
        self,
        now: float,
        latency: float,
        verdict: Verdict,
        *,
        kind: str,
        line: Hashable,
        first_failure: float,
        apart: bool = False,
    ) -> None:
        """Tell the laws how a call ended that still holds its permit; `line` names what the call is about."""
        outage = self.outage
        clear = outage.state is _CLEAR
        if verdict.served:
            ended = outage.on_served(now, now - latency, kind, line)
            if outage.state is not self._seen:
                self._on_state(now, ended=ended)
            signal = _SUCCESS
            if self._cap is not None:
                self._regrow(self._cap)
        else:
            signal = Signal.OVERLOAD if verdict.throttled else Signal.NEUTRAL
            self._record_failure(now, verdict, kind, line, first_failure)
        if apart:
            if clear and outage.state is _CLEAR:
                self._record_batch(now, latency, signal, kind)
        elif self._adaptive and clear and outage.state is _CLEAR:
            law = self._law
            limit = law.on_result(now, latency, signal, len(self._held) - self._apart, kind)
            if law.rate is not self._pacer.rate:
                self._follow_rate()
            if limit != self.limit:
                self.resize(limit)

    def _record_failure(self, now: float, verdict: Verdict, kind: str, line: Hashable, first_failure: float) -> None:
        if verdict.scope is Scope.LOAD:
            self.outage.on_back_pressure(now, kind)
        else:
            self.outage.on_failure(now, kind, None if verdict.scope is Scope.SERVER else line, first_failure)
        if self.outage.state is not self._seen:
            self._on_state(now)

    def _record_batch(self, now: float, latency: float, signal: Signal, kind: str) -> None:
        self._batches.on_result(now, latency, signal, kind)
        if self._batches.waiting:
            self._wake()

    def pause(self, seconds: float, *, apart: bool = False) -> None:
        """Let nobody start for `seconds`; of several pauses the one that ends last counts."""
        now = asyncio.get_running_loop().time()
        if now + seconds <= self._opens_at:
            return
        self._opens_at = now + seconds
        if self._notifier is not None:
            self._notifier.sending_paused(seconds)
        if self.outage.state is not _CLEAR:
            return
        if apart:
            self._batches.on_pause(now, seconds)
            return
        limit = self._law.on_pause(now, seconds)
        self._follow_rate()
        if limit != self.limit:
            self.resize(limit)

    def on_no_room(self, now: float, *, kind: str, line: Hashable, first_failure: float) -> None:
        """Take note that this machine has no room for one more call, as one of `line` found that holds its permit.

        Never more than now are under way from here on, until an outage ends: where there is no room at all, it is one.
        """
        outage = self.outage
        if outage.state is _CLEAR:
            self._lower_cap()
        outage.on_no_room(now, kind, line if len(self._held) > 1 else None, first_failure)
        if outage.state is not self._seen:
            self._on_state(now)

    def _lower_cap(self) -> None:
        cap = max(1, len(self._held) - 1)
        if self._cap is None:
            said = "this machine has no room for more connections; until it has, at most %d calls go side by side"
            _log.warning(said, cap)
            self._cap_rounds = 1
        elif self._cap_grew:
            self._cap_rounds = min(2 * self._cap_rounds, _CAP_ROUNDS)
        self._cap_grew, self._cap_served = False, 0
        self._cap = cap if self._cap is None else min(cap, self._cap)
        self.resize(min(self.limit, self._cap))

    def _regrow(self, cap: int) -> None:
        """Let one more call start after some rounds of served ones: there may be room again."""
        self._cap_served += 1
        if self._cap_served < cap * self._cap_rounds:
            return
        self._cap_grew, self._cap_served = True, 0
        self._cap = cap + 1 if cap < max(self._law.limit, self._batches.law.limit) else None
        self.resize(self._law.limit)
        if self._batches.waiting:
            self._wake()

    def _follow_rate(self) -> None:
        rates = [self._rate, self._law.rate, *(total.rate for total in self._totals)]
        rate = min((rate for rate in rates if rate is not None), default=None)
        if rate != self._pacer.rate:
            self._pacer.rate = rate
            self._wake()

    # -- outages

    def _wait_for_outage(self, now: float) -> float:
        """Let the time pass in an outage; give the seconds until it lets a call start."""
        delay = self.outage.look(now)
        if self.outage.state is not self._seen:
            self._on_state(now)
        return delay

    def _on_state(self, now: float, *, ended: bool = False) -> None:
        """Do what a change of the outage's state asks for."""
        before, self._seen = self._seen, self.outage.state
        if before is _CLEAR:
            self._began = self.outage.since
        if self._seen is _OPEN and self._notifier is not None:
            self._notifier.outage_began(max(0.0, now - self.outage.since))
        if ended:
            self._resume(now)
            if self._notifier is not None:
                self._notifier.outage_ended(now - self._began)
        if self._seen is _OPEN:
            self._lose_patience(now, 0.0)
        if before is not self._seen:
            self._wake()

    def _resume(self, now: float) -> None:
        """Go on near where it was, without the calls that nobody will answer any more."""
        self._opens_at = 0.0
        self._cap = None
        self._lose(now)
        self._law.resume(now, self._began)
        self._batches.resume(now, self._began)
        self._follow_rate()
        self.resize(self._law.limit)

    def _lose(self, now: float) -> None:
        """Take the permits of calls that are overdue: nobody will answer them any more."""
        before = self.lost
        for permit, (started, kind) in list(self._held.items()):
            if self._is_overdue(now, permit, started, kind):
                del self._held[permit]
                self.lost += 1
                self._let_go_of_batch(permit)
        if self.lost > before:
            for staff in tuple(self.crews):
                staff()

    def _is_overdue(self, now: float, permit: int, started: float, kind: str) -> bool:
        return now - started >= self.outage.overdue_after(kind, apart=permit in self._batches.held)

    def _look(self) -> None:
        """Look for calls that are overdue."""
        self._watch = None
        if not self._held:
            return
        loop = asyncio.get_running_loop()
        now, outage = loop.time(), self.outage
        held = self._held.items()
        overdue = [started for permit, (started, kind) in held if self._is_overdue(now, permit, started, kind)]
        if len(overdue) >= THRESHOLD and outage.on_overdue(now, overdue[0], overdue[THRESHOLD - 1]):
            self._on_state(now)
        if outage.state is _OPEN:
            self._lose(now)
        self._watch = loop.call_later(_LOOK_EVERY, self._look)

    # -- waiters

    def _delay(self, now: float) -> float:
        """Give the seconds until a start is allowed by time alone."""
        delay = 0.0
        if self.outage.state is not _CLEAR:
            delay = self._wait_for_outage(now)
        if self._opens_at:
            if now < self._opens_at:
                return max(delay, self._opens_at - now)
            self._opens_at = 0.0
        return max(delay, self._pacer.peek(now))

    def _wake(self) -> None:
        """Grant what can be granted now, and set the one timer for what must wait for time."""
        batches = self._batches
        while self._singles or self._bulk or batches.waiting:
            room = self.outage.state is not _CLEAR or len(self._held) - self._apart < self.limit
            others = room and (self._singles or self._bulk)
            if not (others or batches.waiting):
                return
            now = asyncio.get_running_loop().time()
            batch = batches.waiting and self._may_start_batch(now)
            if not (others or batch):
                if batches.waiting and (pace := batches.pacer.peek(now)) > 0.0:
                    self._sleep(now, pace)
                return
            delay = self._delay(now)
            if delay > 0.0:
                self._sleep(now, self._lose_patience(now, delay))
                return
            apart = bool(batch and (batches.turn or not others))
            batches.turn = not apart
            waiter = batches.waiting.popleft() if apart else self._next_waiter()
            if waiter.future.done():  # cancelled while it waited
                continue
            # it waited, so it may be late: at thousands a second, a timer's delay is longer than the interval
            self._pacer.reserve(now, late=TIMER_SLACK)
            waiter.future.set_result(self._grant(now, waiter.kind, apart=apart))

    def _lose_patience(self, now: float, delay: float) -> float:
        """Send away who has waited long enough in an outage; give the seconds until the next look, `delay` at most."""
        if self.outage.state is not _OPEN:
            return delay
        for queue in (self._singles, self._bulk, self._batches.waiting):
            for waiter in list(queue):
                ends_at = float("inf") if waiter.patience is None else waiter.patience.ends_at(self.outage)
                if ends_at <= now:
                    queue.remove(waiter)
                    if not waiter.future.done():
                        waiter.future.set_result(NO_PERMIT)
                else:
                    delay = min(delay, ends_at - now)
        for turn, patience in self._turns.items():
            ends_at = patience.ends_at(self.outage)
            if ends_at > now:
                delay = min(delay, ends_at - now)
            elif not turn.done():
                turn.set_result(False)
        return delay

    def _sleep(self, now: float, delay: float) -> None:
        if not (self._singles or self._bulk or self._turns or self._batches.waiting):
            return
        if self._timer is not None:
            if self._timer_at <= now + delay:
                return
            self._timer.cancel()
        self._timer_at = now + delay  # kept here, because a handle of uvloop may not know it
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _next_waiter(self) -> Waiter:
        if self._singles and (not self._bulk or self._singles_in_a_row < SINGLES_IN_A_ROW):
            self._singles_in_a_row += 1
            return self._singles.popleft()
        self._singles_in_a_row = 0
        return self._bulk.popleft()

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()
        if self._turns and self._timer is None and self.outage.state is _OPEN:
            now = asyncio.get_running_loop().time()
            self._sleep(now, self._lose_patience(now, _LOOK_EVERY))
