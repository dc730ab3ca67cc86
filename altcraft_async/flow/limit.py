"""The adaptive concurrency law: how many calls may be in flight at once.

Nobody publishes what the server can take, so the limit is found from its
answers. Each ended call is reported with one of three signals: `Signal.SUCCESS`
(its latency is a measurement), `Signal.OVERLOAD` (429, 503, a timeout) or
`Signal.NEUTRAL` (500 and other errors; it changes nothing). The rules, in the
order in which a run meets them:

1. **Doubling.** From `Adaptive.initial` every success adds one permit, so the
   limit doubles in a round trip, until the first signal: a reject, or latency
   beyond noise. A success that was slow already adds nothing.
2. **A reject takes its own permit back.** The limit falls by one for each
   rejected send, and so comes to rest at the number that the server *was
   accepting*, which is its capacity: no guess, no blind halving. (Where the
   limit stood far above what was in use, it falls to the most that was in use in
   the last second or two, at most by half.)
3. **The ceiling is probed seldom.** After a reject the limit holds for 100
   accepted calls (or 10 round trips, whichever is sooner), then adds 1, 2, 4, …
   a round, at most a quarter of itself. A probe that fails doubles the hold, to
   800 calls at most, so about one send in a hundred is the price of knowing.
   Where rejects come with a pause, the hold is at least 30 times the pause.
   Below the ceiling there is no hold.
4. **Latency bounds it.** A round of answers has a typical latency (the mean
   without its highest and lowest eighth) and a standard error. The *baseline* is
   the lowest typical latency seen. By Little's law the server is working on
   ``in flight * baseline / latency`` calls, the rest are queueing; the limit may
   be `Adaptive.headroom` times that, plus one. So it grows only while the
   throughput follows, and a server with 50 slots that queues is held at some 63.
   The error is added to the baseline and taken from the latency: jitter inside
   it neither raises the one nor triggers the other.
5. **The baseline is put to the test.** When the limit has fallen by a third for
   latency's sake and the latency did not fall with it, the queue was not ours:
   the server became slower, and the latency of today is the new baseline. When
   latency has bound the limit for 20 rounds (then 40, up to 160), it dips for
   one round to see the server without a queue.
6. **Unused is not grown.** Rules 1, 3 and 4 act only while calls fill the limit.
7. **Rejects that ignore the concurrency are about rate.** When they come at a
   level that was good, or go on while the limit falls to half, the limit goes
   back to where it was, and `AdaptiveLimit.rate` paces the starts instead
   (`altcraft_async.flow.pace.LearnedRate`) until it is no longer what binds.
8. **Rejects that ignore the load are nobody's fault.** A flaky proxy refuses the
   same share at every level, a full server nothing below its capacity. So a share
   of up to 15 % is put to the test: some 150 calls at two thirds of the pace. What
   stays is *background*: as much is forgiven from then on (`Background`), and only
   the excess counts in rules 2, 3 and 7. It is forgotten slowly, and tested again.
   Untested, a reject in 150 calls is forgiven, unless it asks for a pause.

The limit never leaves ``minimum … maximum``. Pure: no clock, no randomness, no
I/O; time is an argument in seconds, of which only differences matter.
"""

from __future__ import annotations

import enum
import math
from typing import Protocol

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.pace import Background, LearnedRate, Suspicion

__all__ = [
    "Adaptive",
    "AdaptiveLimit",
    "ConcurrencyLimit",
    "FixedLimit",
    "LimitStatistics",
    "Signal",
    "make_limit",
    "make_limit_of_batches",
]


class Signal(enum.Enum):
    """What one ended call says about the load of the server."""

    SUCCESS = "success"
    """Served: its latency is a measurement."""
    OVERLOAD = "overload"
    """Too much: 429, 503, a timeout. Its latency is not used."""
    NEUTRAL = "neutral"
    """Nothing: 500, other errors, a cancelled call. Its latency is not used."""


_SUCCESS, _OVERLOAD = Signal.SUCCESS, Signal.OVERLOAD

_FULL = 0.85
"""The share of the limit that must be in use for a round to count as full."""
_ROUND = 20
"""The fewest answers in a round after doubling: fewer say too little about noise."""
_HOLD, _LONGEST_HOLD = 100, 800
"""Accepted calls between a reject and the next probe."""
_UNMEASURED = 0.1
"""The round trip assumed before the first success, in seconds: a quick reject is no measure of it."""
_PAUSES = 30
"""A probe that can cost a pause waits this many pauses: about 3 % of the time."""
_STEEP = 0.75
"""A fall below this share is measured twice: one round may straddle the change."""
_FALLEN = 0.67
"""The share of the limit at which a fall is judged: far enough to see through noise."""
_DIP = 0.8
"""The depth of a dip, as a share of the calls the server is working on."""
_PATIENCE, _LONGEST_PATIENCE = 20, 160
"""Rounds bound by latency before a dip: doubled by each dip, until the baseline is raised."""


@attrs.frozen(kw_only=True)
class Adaptive:
    """Settings of the adaptive limit (the default for ``concurrency``).

    The limit starts at `initial` and stays within `minimum` and `maximum`.
    `headroom` is how far above the server's working capacity it may go: 1.25
    keeps a queue of a quarter. A setting that cannot work raises
    `ConfigurationError`, which names the field.
    """

    minimum: int = 1
    initial: int = 10
    maximum: int = 256
    headroom: float = 1.25

    def __attrs_post_init__(self) -> None:
        """Check the settings against each other."""
        for field in ("minimum", "initial", "maximum"):
            value = getattr(self, field)
            _check(type(value) is int, field, f"must be a whole number, not {value!r}")
        low, high = self.minimum, self.maximum
        _check(low >= 1, "minimum", f"must be at least 1, not {low}")
        _check(high >= low, "maximum", f"must be at least minimum ({low}), not {high}")
        _check(low <= self.initial <= high, "initial", f"must lie between {low} and {high}, not {self.initial}")
        _check(1.05 <= self.headroom <= 2.0, "headroom", f"must lie between 1.05 and 2.0, not {self.headroom}")  # noqa: PLR2004


def _check(ok: bool, field: str, problem: str) -> None:
    if not ok:
        msg = f"{field} {problem}"
        raise ConfigurationError(msg, field=field)


@attrs.frozen
class LimitStatistics:
    """A snapshot of a limit; latencies in seconds, None before the first round.

    `rate` is the learned pace in starts per second, None where there is none.
    `latency` is the typical latency of the last round, `baseline` the one of the
    server without a queue. `accepted` and `rejected` count since the beginning.
    """

    limit: int
    rate: float | None = None
    latency: float | None = None
    baseline: float | None = None
    accepted: int = 0
    rejected: int = 0


class ConcurrencyLimit(Protocol):
    """What the gate asks of a limit: read `limit` and `rate` after every report."""

    limit: int
    rate: float | None

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        """Learn from one ended call, itself still counted in `in_flight`; give the limit.

        `kind` names the kind of call: latencies of different kinds are no measure of each other.
        """

    def on_pause(self, now: float, seconds: float) -> int:
        """Learn that no call starts for `seconds` from `now`; give the limit."""

    def resume(self, now: float, limit: int, *, paced: bool) -> None:
        """Go on after an outage near the `limit` that held before it, with the learned rate where it was `paced`."""

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""


class FixedLimit:
    """The limit of an ``int`` setting: it counts, and never moves."""

    __slots__ = ("_accepted", "_rejected", "limit", "rate")

    def __init__(self, limit: int) -> None:
        _check(type(limit) is int and limit >= 1, "concurrency", f"must be a whole number of at least 1, not {limit!r}")
        self.limit = limit
        self.rate: float | None = None
        self._accepted = self._rejected = 0

    def __repr__(self) -> str:
        """Show the limit."""
        return f"<FixedLimit {self.limit}>"

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Count one ended call."""
        if signal is _SUCCESS:
            self._accepted += 1
        elif signal is _OVERLOAD:
            self._rejected += 1
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:  # noqa: ARG002
        """Change nothing."""
        return self.limit

    def resume(self, now: float, limit: int, *, paced: bool) -> None:
        """Change nothing."""

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        return LimitStatistics(self.limit, accepted=self._accepted, rejected=self._rejected)


class AdaptiveLimit:
    """The adaptive law of this module, for one client.

    `limit` is the most calls that may be in flight now; `rate` is the learned
    pace in starts per second, or None. Both change only inside `on_result` and
    `on_pause`.
    """

    __slots__ = (
        "_accepted", "_background", "_baseline", "_bound", "_brake", "_ceiling", "_dipped", "_doubling", "_enough",
        "_fell_from", "_full", "_grown_at", "_hold", "_hold_calls", "_hold_pause", "_hold_until", "_kind", "_latency",
        "_learned", "_load", "_load_before", "_mark_at", "_opens", "_patience", "_paused_until", "_peak",
        "_peak_before", "_rejected", "_rejected_at", "_risen", "_samples", "_settings", "_slowest", "_step",
        "_suspicion", "limit", "rate",
    )  # fmt: skip

    def __init__(self, settings: Adaptive | None = None) -> None:
        self._settings = settings if settings is not None else Adaptive()
        self.limit = self._settings.initial
        self.rate: float | None = None
        self._kind: str | None = None
        self._accepted = self._rejected = 0
        # The most calls in flight, of one or two seconds, among which the server accepted one.
        self._peak = self._peak_before = 0
        self._doubling = True
        # The round being collected: latencies, the sum of in-flight counts, when it may begin, when it is complete.
        self._samples: list[float] = []
        self._load = self._enough = self._full = 0
        self._opens = self._mark_at = -math.inf
        # What the rounds before it taught.
        self._latency = self._slowest = self._load_before = 0.0
        self._baseline = self._brake = math.inf
        self._fell_from: tuple[float, float] | None = None
        self._risen = False
        self._bound = self._dipped = 0
        self._patience = _PATIENCE
        # What rejects taught: the level they left, the next step up, and when it may come.
        self._ceiling = self.limit
        self._step = 1
        self._hold, self._hold_calls = _HOLD, 0
        self._hold_until = self._hold_pause = self._paused_until = -math.inf
        self._grown_at = self._rejected_at = -math.inf
        self._background, self._suspicion = Background(), Suspicion()
        self._learned: LearnedRate | None = None

    def __repr__(self) -> str:
        """Show the state."""
        pace = "" if self.rate is None else f", paced at {self.rate:.1f}/s"
        return f"<AdaptiveLimit {self.limit}{pace}, {self._accepted} accepted, {self._rejected} rejected>"

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: C901 - the hot path, unrolled
        """Learn from one ended call and give the limit.

        `latency` is the seconds from its start to `now`; `in_flight` counts the
        calls in flight with this one still among them. Latencies are measured of the first
        `kind` of call that was served.
        """
        if signal is _SUCCESS:
            self._accepted += 1
            if kind != self._kind:
                if self._kind is not None:
                    return self.limit
                self._kind = kind
            if in_flight > self._peak or now >= self._mark_at:
                self._note_use(now, in_flight)
            if now >= self._opens:
                samples = self._samples
                if not samples:
                    self._enough = in_flight if self._doubling else max(in_flight, _ROUND)
                    # judged once a round: several answers may come before a new permit can be used
                    self._full = in_flight if in_flight >= _FULL * self.limit else self.limit
                samples.append(latency)
                self._load += in_flight
                if self._doubling and in_flight >= self._full and latency <= self._brake:
                    self.limit = min(self.limit + 1, self._settings.maximum)
                if len(samples) >= self._enough:
                    self._close_round(now)
            elif in_flight > self.limit:  # still draining: the answers are of the old limit
                self._opens = now + self._slowest
            if self._learned is not None:
                self._on_paced_success(now, self._learned, in_flight)
        elif signal is _OVERLOAD:
            self._on_overload(now, latency, in_flight)
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:
        """Learn that the server asked for `seconds` without starts; report its reject first."""
        self._paused_until = max(self._paused_until, now + seconds)
        self._restart_round(self._paused_until + self._slowest)
        if self._background.forgave and self._background.share:
            return self.limit
        if self._background.forgave:
            self._react(now, self._latency, self.limit)
        self._hold_pause = max(self._hold_pause, now + _PAUSES * seconds)
        if self._learned is not None:
            self._learned.on_pause(now, seconds)
            self.rate = self._learned.rate
        return self.limit

    def resume(self, now: float, limit: int, *, paced: bool) -> None:
        """Go on after an outage near the `limit` that held before it: what failed in it said nothing of the load."""
        if not paced:
            self._learned = self.rate = None
        self._suspicion = Suspicion()
        self.limit = max(self.limit, limit)
        self._ceiling = max(self._ceiling, self.limit)
        self._paused_until = -math.inf
        self._restart_round(now + self._slowest)

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        measured = self._baseline < math.inf
        latency, baseline = (self._latency, self._baseline) if measured else (None, None)
        return LimitStatistics(self.limit, self.rate, latency, baseline, self._accepted, self._rejected)

    def _note_use(self, now: float, in_flight: int) -> None:
        if now >= self._mark_at:
            self._mark_at = self._suspicion.mark(now, self._accepted)
            self._peak_before, self._peak = self._peak, in_flight
        else:
            self._peak = in_flight

    # Rounds: what latency says (rules 3 to 6)

    def _close_round(self, now: float) -> None:
        samples = self._samples
        count = len(samples)
        samples.sort()
        trim = count // 8
        self._latency = latency = sum(samples[trim : count - trim]) / (count - 2 * trim)
        error = 0.93 * (samples[count * 3 // 4] - samples[count // 4]) / math.sqrt(count)
        self._slowest = samples[count * 9 // 10]
        self._brake = min(self._brake, self._slowest * self._settings.headroom)
        load = self._load / count
        samples.clear()
        self._load = 0
        # While doubling, the answers of a round were started at the load of the round before.
        held = self._load_before if self._doubling and self._load_before else load
        self._load_before = load
        self._lower_baseline(latency + 2 * error)
        if load >= _FULL * self.limit:
            self._judge_fall(held, latency + error)
            self._follow(now, held, latency - (3 if self._doubling else 1) * error)

    def _lower_baseline(self, latency: float) -> None:
        if latency >= self._baseline:
            return
        at_once = self._dipped or self._baseline == math.inf
        self._baseline = latency if at_once else self._baseline + 0.3 * (latency - self._baseline)

    def _judge_fall(self, held: float, latency: float) -> None:
        """Raise the baseline where a lower limit did not bring the latency down."""
        if self._fell_from is None or held > _FALLEN * self._fell_from[0]:
            return
        load, then = self._fell_from
        self._fell_from = None
        if latency > 0.5 * then * (1 + held / load) and latency > self._baseline:
            self._baseline = self._latency
            self._bound, self._patience = _PATIENCE - 4, _PATIENCE

    def _follow(self, now: float, held: float, latency: float) -> None:
        """Set the limit by what the server was working on in a full round."""
        working = held * self._baseline / max(latency, 1e-9)
        settings = self._settings
        target = max(settings.minimum, min(settings.maximum, int(working * settings.headroom + 1)))
        if self._dipped:
            self._move(now, max(self.limit, min(self._dipped, target)), held)
            self._dipped = 0
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
        elif target < held:
            self._fall(now, target, held)
        elif not self._doubling:
            self._risen = False
            self._grow(now, target)
        self._bound += target <= 1.1 * held and not self._risen
        if self._bound >= self._patience and not self._doubling:
            self._bound, self._dipped = 0, self.limit
            self._fell_from = (held, self._latency)
            self._move(now, max(settings.minimum, min(self.limit, int(_DIP * working))), held)

    def _fall(self, now: float, target: int, held: float) -> None:
        steep = target < _STEEP * held
        if steep and not self._risen and not self._doubling:
            self._risen = True
            self._opens = now + self._slowest
            return
        if steep or self._doubling or self._fell_from is None:
            self._fell_from = (held, self._latency)
        self._doubling = self._risen = False
        self._step = target // 4 + 1
        self._move(now, target, held)

    def _grow(self, now: float, target: int) -> None:
        holding = self._accepted < self._hold_calls and now < self._hold_until
        if holding or now < self._hold_pause:
            target = min(target, self._ceiling)
        if self.limit >= target:
            return
        self.limit = min(self.limit + self._step, target)
        self._ceiling = max(self._ceiling, self.limit)
        self._step = min(2 * self._step, self.limit // 4 + 1)
        if self._fell_from is not None and self.limit >= self._fell_from[0]:
            self._fell_from = None
        self._grown_at = now
        self._opens = now + self._slowest

    def _move(self, now: float, limit: int, held: float) -> None:
        self.limit = limit
        self._slowest *= min(1.0, limit / held)
        self._opens = now + self._slowest

    def _restart_round(self, opens: float) -> None:
        self._samples.clear()
        self._load = 0
        self._opens = max(self._opens, opens)

    # Rejects (rules 2, 3, 7 and 8)

    def _on_overload(self, now: float, latency: float, in_flight: int) -> None:
        self._rejected += 1
        learned = self._learned
        if learned is not None and learned.on_trial:  # every reject is evidence
            self._background.forgave = False
        elif self._background.forgives(self._accepted, paced=learned is not None):
            return
        if learned is None:
            self._react(now, latency, in_flight)
        else:
            learned.on_reject(now, now - latency)
            self._follow_pace(now, learned)

    def _react(self, now: float, latency: float, in_flight: int) -> None:
        trip = self._latency or max(latency, _UNMEASURED)
        if now > self._rejected_at + 2 * trip or self._grown_at > self._rejected_at:
            probing = now < self._grown_at + 3 * trip
            self._hold = min(2 * self._hold, _LONGEST_HOLD) if probing else _HOLD
            counts = (self._accepted, self._rejected)
            self._suspicion.begin(now, self.limit, counts, probing=probing, expected=probing or self._doubling)
        used = max(in_flight, self._peak, self._peak_before)
        in_use = self.limit if now < self._paused_until else max(used, self.limit // 2)
        self.limit = max(self._settings.minimum, min(self.limit, in_use) - 1)
        self._doubling = False
        self._step, self._dipped = 1, 0
        self._ceiling = self.limit
        self._rejected_at = now
        self._hold_calls = self._accepted + self._hold
        self._hold_until = now + self._hold / 10 * trip
        self._restart_round(-math.inf)
        self._suspect_rate(now, trip)

    def _suspect_rate(self, now: float, trip: float) -> None:
        suspicion = self._suspicion
        fallen = self.limit < suspicion.level // 2 or self.limit == self._settings.minimum
        counts, quiet = (self._accepted, self._rejected), self._paused_until < suspicion.since
        self._learned = suspicion.judge(now, trip, counts, fallen_to=self.limit if fallen else 0, quiet=quiet)
        if self._learned is not None:
            self.rate = self._learned.rate
            self.limit = max(self.limit, suspicion.good)

    def _on_paced_success(self, now: float, learned: LearnedRate, in_flight: int) -> None:
        if learned.on_success(now, full=in_flight >= self.limit):
            self._follow_pace(now, learned)
        else:
            self._learned = self.rate = None

    def _follow_pace(self, now: float, learned: LearnedRate) -> None:
        if learned.on_trial and (share := learned.end_trial(now)):
            self._background.learn(share, self._accepted)
            self._hold_calls = 0
            self._step = self.limit // 4 + 1
            self._doubling = not self._bound and self._fell_from is None
            self._load_before = 0.0
        self.rate = learned.rate


def make_limit(concurrency: int | Adaptive) -> FixedLimit | AdaptiveLimit:
    """Make the limit that a ``concurrency`` setting asks for."""
    return AdaptiveLimit(concurrency) if isinstance(concurrency, Adaptive) else FixedLimit(concurrency)


_BATCHES = 2
"""Batches in flight at the beginning: each is the work of hundreds of calls."""


def make_limit_of_batches(concurrency: int | Adaptive) -> AdaptiveLimit:
    """Make the limit of the calls that carry batches: it is always found, from two on, within what is set."""
    maximum, headroom = (
        (concurrency.maximum, concurrency.headroom) if isinstance(concurrency, Adaptive) else (concurrency, 1.25)
    )
    return AdaptiveLimit(Adaptive(initial=min(_BATCHES, maximum), maximum=maximum, headroom=headroom))
