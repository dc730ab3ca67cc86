"""The adaptive concurrency law: how many calls may be in flight at once.

Nobody publishes what the server can take, so the limit is found from its answers. Each ended call is reported with
one of three signals: `Signal.SUCCESS` (its latency is a measurement), `Signal.OVERLOAD` (425, 429, 503, a timeout) or
`Signal.NEUTRAL` (500 and other errors; it changes nothing). Only what is used is grown: the limit rises while
calls fill it.

=============  ============================================================  ====================================
state          what happens                                                  what the law does, and the next state
=============  ============================================================  ====================================
``DOUBLING``   a served answer (above `_EAGER` two), no slower than before   one permit more
``DOUBLING``   as much as a law before it ended with                         stays there: ``HOLDING``
``DOUBLING``   as much as may be                                             ``FOLLOWING``
``DOUBLING``   a round of answers that waited in a queue                     falls to what works: ``FOLLOWING``
any            a throttled answer that is not forgiven                       takes its permit back: ``HOLDING``
``HOLDING``    fell below where a failed try began                           back to it, step by step
``HOLDING``    `_HOLD` round trips, doubled by each failed try               ``FOLLOWING``
not ``PACED``  a full round with a queue                                     down to what works: ``FOLLOWING``
``FOLLOWING``  a full round without one                                      up to what works, and a quarter
``FOLLOWING``  `_SOON` rounds bound by a baseline that was raised            below what works: ``DIPPING``
``HOLDING``    few permits, and some of the tries                            starts come evenly: ``SPREADING``
``SPREADING``  a throttled answer                                            the limit of before: ``HOLDING``
``SPREADING``  a round without one                                           as many, unspread: ``FOLLOWING``
``FOLLOWING``  a throttled answer in the round after that one                the rate of it: ``PACED``
``DIPPING``    a round without a queue                                       measures it: ``FOLLOWING``
``HOLDING``    `_OFTEN` to `_SELDOM` seconds at what the server accepted     a third less: ``YIELDING``
``YIELDING``   `_YIELD` seconds                                              back, step by step: ``HOLDING``
not ``PACED``  throttled answers that fewer calls do not end                 the limit of before: ``PACED``
``PACED``      a rate that does not bind any more                            ``FOLLOWING``
``PACED``      throttled answers that a lower rate does not end, all along   forgives as many: ``FOLLOWING``
``PACED``      throttled answers that a lower rate ends, for the 2nd time    what it had in flight: ``HOLDING``
``HOLDING``    these go on before the first try                              the rate of before: ``PACED``
=============  ============================================================  ====================================

**What works** (Little's law). A round of answers has a typical latency (the mean) and a standard error; the
*baseline* is the lowest typical latency seen, of each kind of call apart. The server works on
``in flight * baseline / latency`` calls, the rest wait in a queue; the limit may be `Adaptive.headroom` times that,
plus one. So it grows only while the throughput follows. A millisecond of waiting may be this process's own, and is
allowed on top of the baseline. The error is added to the baseline and taken from the latency: jitter inside it neither
raises the one nor triggers the other. It remembers the spread of the rounds before, since slow answers that are rare
are missing in some. Where the limit has fallen for latency's sake and the latency did not fall with it, the queue is
not ours: the server became slower, or others wait there too, and the latency of today is the new baseline.

**Throttled answers.** Each takes its own permit back, so the limit comes to rest at what the server *was accepting*: no
guess, no blind halving. Where they go on for three round trips, or while the limit falls to half, or where there is no
permit to take back, they do not depend on the concurrency: the server counts calls by time, and
`altcraft_async.flow.pace.LearnedRate` paces the starts. A moment of failures, or of fewer slots, looks the same, and a
rate near what slots serve is throttled now and then for good. So a rate that is too high again and again is doubted,
more seldom each time: the limit is what it had in flight, and if that is not throttled, it was the slots. Where a lower
pace does not end them either, and they were there all the time, no load explains them, and
`altcraft_async.flow.pace.Background` forgives as many from then on. Where one asks for a pause, a try can cost a pause,
and tries are as seldom as the pause is long; but the first one while doubling may be a stray.

A server that counts calls by time and lets only a few through at once looks like one of so few slots: fewer calls do
end its throttled answers. So of the tries at few permits some are made with starts that come evenly. Where more is
accepted like that, and not when it starts as it comes, the rate is what counts.

**Strangers.** A client that is held down by throttled answers can only grow where another leaves room. So who is at a
ceiling of such answers leaves a third of it for a moment now and then, which costs some two points of the throughput,
and comes back step by step, no further than what nobody has taken. Where the server counts calls by time, throttled
answers that come and go are those of others: they are no background, and what was taken for one by mistake ends.

The limit never leaves ``minimum … maximum``. Pure: no clock, no randomness, no I/O; time is an argument in seconds,
of which only differences matter.
"""

from __future__ import annotations

import math

import attrs

from altcraft_async.flow.limit import MOST, Adaptive, FixedLimit, LearnedLimit, LimitState, LimitStatistics, Signal
from altcraft_async.flow.pace import DOUBTFUL, Background, LearnedRate

__all__ = ["AdaptiveLimit", "make_limit", "make_limit_of_batches"]

_SUCCESS, _OVERLOAD = Signal.SUCCESS, Signal.OVERLOAD
_DOUBLING, _FOLLOWING, _HOLDING = LimitState.DOUBLING, LimitState.FOLLOWING, LimitState.HOLDING
_DIPPING, _PACED, _YIELDING = LimitState.DIPPING, LimitState.PACED, LimitState.YIELDING
_SPREADING = LimitState.SPREADING

_FULL = 0.85
"""The share of the limit that must be in use for a round to count as full."""
_ROUND, _QUICK = 20, 4
"""The fewest answers in a round after doubling, since fewer say too little about noise; but no more than those of so
many round trips, which at few permits must be over before the room that somebody leaves is gone."""
_FADES, _SURE = 0.9, 2.5
"""What is left of the spread of latencies a round later, since few slow answers are missing in some rounds; and the
standard errors by which a baseline lies above its round."""
_EAGER = 36
"""Permits up to which each served answer adds one. Beyond it is every second: a queue is seen a round trip after it
began, and would be twice the server by then."""
_HOLD, _LONGEST_HOLD = 4, 16
"""Round trips between a throttled answer and the next try: about one call in a hundred is the price of knowing."""
_UNMEASURED = 0.1
"""The round trip assumed before the first success, in seconds: a quick refusal is no measure of it."""
_PAUSES = 30
"""A try that can cost a pause waits this many pauses: about 3 % of the time."""
_OWN = 0.001
"""Seconds of a latency that may be this process's own turn: they say nothing of the server."""
_FALLEN, _DIP = 0.67, 0.8
"""The share of the load at which a fall is judged, far enough to see through noise; and the depth of a dip, as a share
of the calls the server is working on."""
_SOON = 4
"""Rounds bound by latency from a higher baseline to the dip that shows whether it was right."""
_BENEFIT, _CHANCE = 0.15, 24
"""The share and number of throttled answers that do not end the doubling: a full server soon gives more."""
_FAR = 0.4
"""What is left of the limit where fewer calls do not end throttled answers."""
_QUIET, _LASTING, _TRIPS = 2, 5, 3
"""Round trips without throttled answers after which others begin; and the answers, and round trips, after which they
do not end by themselves."""
_FEW, _ASKS, _WIDER = 12, 32, 1.25
"""Permits up to which a burst that is let through may look like slots; of so many tries there the first, the second,
the fourth, … are spread; and how much faster than what was accepted they are."""
_BATCHES = 2
"""What the limit of batches begins with: each is the work of seconds."""
_YIELD, _LEFT = 1.5, 0.67
"""Seconds for which room is left for others, at least, and the share of the limit that is kept meanwhile."""
_MANY, _STEPS = 12, 8
"""Permits of which a part is worth leaving, and the part of the limit that is the first step back."""
_OFTEN, _SELDOM = 10.0, 20.0
"""Seconds between two such moments: where somebody took the room, and where nobody did."""
_ROOM = 10
"""Round trips in such a moment, at least; it and the time to the next are longer where the server is slow."""
_MARK_EVERY, _SECONDS = 1.0, 2.0
"""Seconds between two notes of what holds, since what an outage is resumed with is older than its first failures; and
of an outage that may be a server which counts calls by the second."""


@attrs.define
class _Round:
    """The answers of one kind of call, round by round; latencies in seconds.

    Of the last round: `typical` latency, its `error`, `slow` (the ninth decile) and `load`, the calls in flight. Of
    all: the `spread`, of which `_FADES` is left a round later, the `baseline`, and `brake`, above which a call is
    slower than any before. A round begins at `opens`.
    """

    opens: float = -math.inf
    typical: float = 0.0
    spread: float = 0.0
    error: float = 0.0
    slow: float = 0.0
    load: float = 0.0
    baseline: float = math.inf
    brake: float = math.inf
    _samples: list[float] = attrs.Factory(list)
    _loads: int = 0
    _enough: int = 0

    def add(self, latency: float, in_flight: int, fewest: int) -> bool:
        """Take an answer; say whether the round is complete."""
        if not self._samples:
            self._enough = max(in_flight, fewest)
        self._samples.append(latency)
        self._loads += in_flight
        return len(self._samples) >= self._enough

    def close(self, headroom: float) -> None:
        """Say what the round showed."""
        samples, count = sorted(self._samples), len(self._samples)
        self.typical = sum(samples) / count
        spread = math.dist(samples, [self.typical] * count) / math.sqrt(count)
        self.spread = max(spread, _FADES * self.spread)
        self.error = self.spread / math.sqrt(count)
        self.slow = samples[count * 9 // 10]
        self.brake = min(self.brake, (self.slow + _OWN) * headroom)
        self.load = self._loads / count
        self.baseline = min(self.baseline, self.typical + _SURE * self.error)
        self.restart(-math.inf)

    def restart(self, opens: float) -> None:
        """Throw away what was gathered, and gather from `opens` on."""
        self._samples.clear()
        self._loads = 0
        self.opens = max(self.opens, opens)


@attrs.frozen
class _Mark:
    """What held at a time, before whatever came later."""

    at: float
    limit: int
    rate: float | None
    state: LimitState
    accepted: int


@attrs.define
class _Spell:
    """Throttled answers of one time, `since` the first and until the `last`, at the `level` where the limit was.

    A try that failed goes back to the `good` limit that it began with, also where more was taken back than it had
    added. `late` of them were not to be expected: they came though the limit had fallen, or at a limit that was good.
    It is of one matter with spells before it, the first of which had `begun` after so many `accepted` and `throttled`
    answers.
    """

    since: float
    last: float
    level: int
    good: int
    late: int
    begun: float
    accepted: int
    throttled: int


class AdaptiveLimit:
    """The adaptive law of this module, for one client.

    `limit` is the most calls that may be in flight now; `rate` is the learned pace in starts per second, or None.
    Both change only inside the methods. `reach` is how many seconds it takes until a change has come to all calls.
    """

    __slots__ = (
        "_accepted", "_background", "_ceiling", "_fell_from", "_good", "_grown_at", "_hold", "_holds_until", "_left",
        "_marks", "_pace", "_passed", "_proves_in", "_round", "_rounds", "_spell", "_step", "_throttled", "_tries",
        "_yields_at", "limit", "rate", "reach", "settings", "state",
    )  # fmt: skip

    def __init__(self, settings: Adaptive | None = None) -> None:
        self.settings = settings if settings is not None else Adaptive()
        self.limit = self._within(self.settings.initial)
        self.rate: float | None = None
        self.reach = 0.0
        self.state = _DOUBLING
        self._accepted = self._throttled = 0
        self._rounds: dict[str, _Round] = {}
        self._round = _Round()
        first = _Mark(-math.inf, self.limit, None, self.state, 0)
        self._marks = (first, first)
        # The load and latency from which the limit fell, and the rounds until a dip is due.
        self._fell_from: tuple[float, float] | None = None
        self._proves_in = math.inf
        self._ceiling, self._good, self._step = self.settings.maximum, self.limit, 1
        self._hold = _HOLD
        self._holds_until = self._grown_at = -math.inf
        self._yields_at = math.inf
        self._spell: _Spell | None = None
        self._tries = 0
        self._background = Background()
        self._pace: LearnedRate | None = None
        # The rate at which spread starts were accepted, and the pace that is doubted, each until the next try.
        self._passed: float | None = None
        self._left: LearnedRate | None = None

    learns = True

    @classmethod
    def started_at(cls, now: float, learned: LearnedLimit, settings: Adaptive | None = None) -> AdaptiveLimit:
        """Make a law that goes on where another one was."""
        law = cls(settings)
        law.limit = law._ceiling = law._within(learned.limit)
        law.state = _FOLLOWING
        law._step = law.limit // 4 + 1
        if learned.rate is not None:
            law._begin_pace(LearnedRate(now, learned.rate, _UNMEASURED, ceiling=learned.rate))
        return law

    def __repr__(self) -> str:
        """Show the state."""
        pace = "" if self.rate is None else f", paced at {self.rate:.1f}/s"
        return f"<AdaptiveLimit {self.limit}{pace}, {self.state.value}>"

    @property
    def learned(self) -> LearnedLimit | None:
        """What another law may begin with; None while this one is still looking."""
        if self.state is _DOUBLING:
            return None
        if self.state is _SPREADING:
            return LearnedLimit(self._good)
        lowered = self.state in {_HOLDING, _YIELDING, _DIPPING}  # for a moment
        return LearnedLimit(max(self.limit, self._ceiling) if lowered else self.limit, self.rate)

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        """Begin at half of what another law ended with, and come up to it as fast as from the beginning."""
        if self.state is not _DOUBLING:
            return
        self.limit = self._within(max(learned.limit // 2, min(learned.limit, self.limit)))
        self._ceiling = self._within(learned.limit)
        self._hold = _LONGEST_HOLD // 2  # it was tried
        if learned.rate is not None:
            self._begin_pace(LearnedRate(now, learned.rate / 2, _UNMEASURED, ceiling=learned.rate))

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        """Learn from one ended call and give the limit.

        `latency` is the seconds from its start to `now`; `in_flight` counts the calls in flight with this one still
        among them. The latencies of each `kind` of call are judged apart.
        """
        if signal is _SUCCESS:
            self._accepted += 1
            if now >= self._marks[1].at + _MARK_EVERY and self.state is not _SPREADING:
                self._marks = (self._marks[1], _Mark(now, self.limit, self.rate, self.state, self._accepted))
            round_ = self._rounds.get(kind) or self._rounds.setdefault(kind, _Round())
            if now >= round_.opens:
                doubling = self.state is _DOUBLING
                complete = round_.add(latency, in_flight, 1 if doubling else min(_ROUND, _QUICK * self.limit))
                grows = self.limit < _EAGER or self._accepted % 2
                if doubling and grows and in_flight >= _FULL * self.limit and latency <= round_.brake:
                    self._double(now)
                if complete:
                    self._close(now, round_)
            elif in_flight > self.limit:  # still draining: the answers are of the old limit
                round_.opens = now + round_.slow
            if self._pace is not None:
                binds = self._pace.on_accepted(now, now - latency, full=in_flight >= self.limit)
                self._follow_pace(now, self._pace, binds=binds)
        elif signal is _OVERLOAD:
            self._on_throttled(now, latency)
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:
        """Learn that the server asked for `seconds` without starts; report its throttled answer first."""
        self._restart_rounds(now + seconds)
        stray = self.state is _DOUBLING and self._throttled == 1
        if not stray and not self._background.share:
            if self._pace is None and (self._spell is None or self._spell.last < now):  # it was forgiven
                self._take_back(now)
            self._holds_until = max(self._holds_until, now + _PAUSES * seconds)
            if self._spell is not None:
                self._spell.last = max(self._spell.last, now + seconds)
            if self._pace is not None:
                self._pace.on_pause(now, seconds)
                self.rate = self._pace.rate
        return self.limit

    def expect_more(self, now: float) -> None:
        """Learn that for a moment more calls are in flight than the limit: what that costs says nothing of it."""
        self._stop_spreading()
        self._grown_at, self._good = now, self.limit

    def resume(self, now: float, since: float) -> None:
        """Go on as before an outage that began at `since`: what failed in it said nothing of the load."""
        before, last = self._marks
        mark = last if last.at + _MARK_EVERY <= since else before
        rate = mark.rate
        if rate is None and self._pace is not None and now - since < _SECONDS:  # a counter, shut for its second
            rate = (self._accepted - mark.accepted) / (now - max(mark.at, since - _MARK_EVERY))
        self._stop_spreading()
        self._spell = self._passed = self._left = None
        self.limit = max(self.limit, mark.limit)
        self._ceiling = self.settings.maximum if mark.state is _DOUBLING else max(self._ceiling, self.limit)
        self.state = _FOLLOWING if mark.state in {_DIPPING, _PACED} else mark.state
        pace, self._pace, self.rate = self._pace, None, None
        if rate is not None:
            pace = pace or LearnedRate(now, rate, self._trip, reach=self.reach)
            pace.resume(now, rate)
            self._begin_pace(pace)
        self._restart_rounds(now)

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        measured = self._round.baseline < math.inf
        latency, baseline = (self._round.typical, self._round.baseline) if measured else (None, None)
        return LimitStatistics(
            self.limit, self.rate, latency, baseline, self._accepted, self._throttled, self.state.value
        )

    @property
    def _trip(self) -> float:
        return self._round.typical or _UNMEASURED

    def _rest(self, now: float) -> None:
        """Stay at the limit, until it is time to try more."""
        self.state, self._step = _HOLDING, 1
        self._holds_until = max(self._holds_until, now + self._hold * self._trip)
        if self._yields_at == math.inf:  # the first time counts from here
            self._yields_at = now + _OFTEN * self._slowness

    # What latency says

    def _double(self, now: float) -> None:
        self.limit = min(self.limit + 1, self._ceiling)
        if self.limit == self.settings.maximum:
            self.state = _FOLLOWING
        elif self.limit == self._ceiling:  # as much as there was
            self._rest(now)

    def _close(self, now: float, round_: _Round) -> None:
        if self.state is _YIELDING:
            if now >= self._yields_at:
                self._stop_yielding(now)
            round_.restart(-math.inf)
            return
        before = self._round.load
        round_.close(self.settings.headroom)
        self._round = round_
        if self.state is _SPREADING:
            self._judge_spreading(now, round_)
        elif round_.load >= _FULL * self.limit:
            if self._is_to_yield(now):
                self._yield(now)
                return
            # While doubling, the answers of a round were started at the load of the round before.
            held = before if self.state is _DOUBLING else round_.load
            self._judge_fall(held, round_)
            self._follow(now, held, round_)

    def _follow(self, now: float, held: float, round_: _Round) -> None:
        """Go to what works, by a round of answers with `held` in flight."""
        working = held * (round_.baseline + _OWN) / max(round_.typical - round_.error, 1e-9)
        target = self._within(int(working * self.settings.headroom + 1))
        self._proves_in -= target <= 1.1 * held
        doubling = self.state is _DOUBLING
        if self.state is _DIPPING:
            self.state = _FOLLOWING
            self._move(now, max(self.limit, min(self._ceiling, target)))
        elif self._proves_in <= 0 and self.state in {_FOLLOWING, _HOLDING}:
            self._proves_in = math.inf
            self._fell_from = (held, round_.typical)
            self.state = _DIPPING
            self._move(now, self._within(min(self.limit, int(_DIP * working))))
        elif target < held:
            self._ceiling = target if doubling else self._ceiling
            if doubling or self._fell_from is None:
                self._fell_from = (held, round_.typical)
            self.state = _PACED if self._pace is not None else _FOLLOWING
            self._move(now, target)
        elif not doubling:
            self._grow(now, target)

    def _judge_fall(self, held: float, round_: _Round) -> None:
        """Raise the baseline where a lower limit did not bring the latency down."""
        if self._fell_from is None or held > _FALLEN * self._fell_from[0]:
            return
        load, then = self._fell_from
        self._fell_from = None
        latency = round_.typical + round_.error
        if latency > 0.5 * then * (1 + held / load) and round_.typical > round_.baseline:
            round_.baseline = round_.typical
            self._proves_in = _SOON

    def _grow(self, now: float, target: int) -> None:
        self._passed = None
        if now < self._holds_until:
            target = min(target, self._ceiling)
        elif self.state is _HOLDING:
            self.state, self._left = _FOLLOWING, None
            if self._is_to_spread():
                self._spread(now)
                return
        if self.limit >= target:
            return
        if self._step == 1:
            self._good = self.limit
        self.limit = min(self.limit + self._step, target)
        if self.limit > self._ceiling + 1:  # there is more than there was
            self._yields_at = max(self._yields_at, now + _OFTEN * self._slowness)
        self._ceiling = max(self._ceiling, self.limit)
        self._step = min(2 * self._step, self.limit // 4 + 1)
        self._fell_from = None
        self._grown_at = now
        self._restart_rounds(now)

    def _move(self, now: float, limit: int) -> None:
        self.limit, self._step = limit, max(1, min(abs(self.limit - limit), limit // 4 + 1))
        self._restart_rounds(now)

    def _restart_rounds(self, now: float) -> None:
        for round_ in self._rounds.values():
            round_.restart(now + self.reach + round_.slow)

    def _within(self, limit: int) -> int:
        return max(self.settings.minimum, min(self.settings.maximum, limit))

    # Starts that are spread: a server that counts calls by time and allows no burst looks like one of so few slots

    def _is_to_spread(self) -> bool:
        few = self._ceiling <= self.limit <= _FEW and self.limit < self.settings.maximum
        if not few or self._pace is not None or self._background.share:
            return False
        self._tries = self._tries % _ASKS + 1
        return self._tries & (self._tries - 1) == 0

    def _spread(self, now: float) -> None:
        """Let more start than was accepted, but evenly, so that no two start at once."""
        self.state, self._good, self._grown_at = _SPREADING, self.limit, now
        self.rate = _WIDER * self.limit / self._trip
        self._move(now, self._within(int(_WIDER * self.limit) + 1))

    def _judge_spreading(self, now: float, round_: _Round) -> None:
        """Go on without spreading, where more were accepted: what is throttled now was throttled for its moment."""
        accepted, limit = self.rate, self.limit
        self._stop_spreading()
        if round_.load > self.limit:
            self._passed, self.limit, self._ceiling, self._step = accepted, limit, limit, 1
            self._grown_at, self._tries = now, 0
            self._restart_rounds(now)

    def _stop_spreading(self) -> None:
        if self.state is _SPREADING:
            self.state, self.rate, self.limit = _FOLLOWING, None, self._good

    # Others

    @property
    def _slowness(self) -> float:
        """How much longer a moment and the time between two are, so that a moment has room for some round trips."""
        trip = self._round.baseline if self._round.baseline < math.inf else _UNMEASURED
        return max(1.0, _ROOM * trip / _YIELD)

    def _is_to_yield(self, now: float) -> bool:
        settled = self.state is _HOLDING and self.limit >= _MANY and not self._background.share
        return settled and now >= max(self._yields_at, self._holds_until)

    def _yield(self, now: float) -> None:
        """Leave room for a moment: where somebody else is held down by throttled answers, it will take it."""
        self.state = _YIELDING
        self._good = self.limit
        self.limit = self._within(int(self.limit * _LEFT))
        self._yields_at = now + _YIELD * self._slowness + self.reach

    def _stop_yielding(self, now: float) -> None:
        """Go back to what there was, and no further: what somebody has taken is throttled now."""
        self._rest(now)
        self._ceiling, self._good = self._good, self.limit
        self._step = self.limit // _STEPS + 1
        self._grown_at = now
        self._yields_at = now + _SELDOM * self._slowness

    # What throttled answers say

    def _on_throttled(self, now: float, latency: float) -> None:
        self._throttled += 1
        if self.state is _DOUBLING and self._throttled <= min(4 + _BENEFIT * self._accepted, _CHANCE):
            return
        pace = self._pace
        self._background.on_throttled(self._accepted, paced=pace is not None)
        if (pace is None or not pace.testing) and self._background.forgives(self._accepted, paced=pace is not None):
            return
        if pace is None:
            self._take_back(now)
        else:
            pace.on_throttled(now, now - latency)
            self._follow_pace(now, pace)

    def _take_back(self, now: float) -> None:
        """Take the permit of a throttled answer back."""
        lag = _TRIPS * self._trip + self.reach
        if self.state is _SPREADING:
            self._stop_spreading()
            self.limit += 1  # the one that is taken back
        spell = self._spell
        if spell is None or now > spell.last + _QUIET * self._trip + self.reach or self._grown_at > spell.last:
            spell = self._spell = self._begin_spell(now, lag, spell)
        self.limit = max(self.settings.minimum, self.limit - 1)
        self._rest(now)
        self._ceiling = max(self.limit, spell.good)
        spell.last = now
        for round_ in self._rounds.values():
            round_.restart(-math.inf)
        spell.late += now > spell.since + lag
        if self._passed is not None:
            self._begin_pace(LearnedRate(now, self._passed, self._trip, reach=self.reach))
            self._good, self.limit = self.limit, self.settings.maximum
            self._spell = self._passed = None
        elif self._accepted:  # else it is no pace that they want: whether it is an outage is the gate's to see
            self._suspect(now, spell)

    def _begin_spell(self, now: float, lag: float, before: _Spell | None) -> _Spell:
        trying = now < self._grown_at + lag
        self._hold = min(2 * self._hold, _LONGEST_HOLD) if trying else _HOLD
        late, begun, accepted, throttled = 0, now, self._accepted, self._throttled - 1
        if before is not None and now <= before.last + _LONGEST_HOLD * self._trip:  # the same matter
            late, begun, accepted, throttled = before.late, before.begun, before.accepted, before.throttled
        if trying and self.limit < self._ceiling:  # on the way back: somebody took it
            self._yields_at = min(self._yields_at, now + _OFTEN * self._slowness)
        late += not trying and self.state is not _DOUBLING
        return _Spell(now, now, self.limit, self._good if trying else 0, late, begun, accepted, throttled)

    def _suspect(self, now: float, spell: _Spell) -> None:
        """Pace the starts, where throttled answers go on though the limit falls."""
        fallen = self.limit < _FAR * spell.level or spell.level <= self.settings.minimum
        if not fallen and spell.late < _LASTING:
            return
        rate = self.limit / self._trip  # what is left in flight was accepted: by Little's law a rate
        throttled, accepted = self._throttled - spell.throttled, self._accepted - spell.accepted
        share = 1.0 if fallen else throttled / (accepted + throttled)
        if share <= DOUBTFUL:
            rate = spell.level / self._trip
            if self._holds_until > now + _LONGEST_HOLD * self._trip:  # as much as was accepted, pauses and all
                rate = min(rate, accepted / (now - spell.begun))
        self.limit = self._good = max(self.limit, spell.level)
        self._spell = None
        if self._left is not None:  # it was a rate
            self._left.resume(now, self._left.rate)
            self._begin_pace(self._left)
            return
        self._begin_pace(LearnedRate(now, rate, self._trip, share, reach=self.reach))

    def _begin_pace(self, pace: LearnedRate) -> None:
        self._pace, self.rate, self.state = pace, pace.rate, _PACED

    def _follow_pace(self, now: float, pace: LearnedRate, *, binds: bool = True) -> None:
        """Take the rate of the pace, and what its test has shown; end one that does not bind, or is not the cause."""
        share = pace.result(now) if binds and pace.testing else None
        if share is not None:
            share = self._background.judge(share)
        self.rate = pace.rate
        if binds and (share is None or (share == 0.0 and not pace.is_doubted())):
            return
        self._pace = self.rate = None
        if share == 0.0:  # were it calls in flight that count, so many would be accepted
            self._left = pace
            self.limit = self._ceiling = self._good = self._within(int(pace.rate * self._trip))
            self._rest(now)
            return
        if share:
            self._background.learn(share, self._accepted)
            self._holds_until = now
        self.limit = min(self.limit, max(self._ceiling, self._good))
        self._step = self.limit // 4 + 1
        self.state = _FOLLOWING


def make_limit(concurrency: int | Adaptive) -> FixedLimit | AdaptiveLimit:
    """Make the limit that a ``concurrency`` setting asks for."""
    return AdaptiveLimit(concurrency) if isinstance(concurrency, Adaptive) else FixedLimit(concurrency)


def make_limit_of_batches(concurrency: int | Adaptive) -> AdaptiveLimit:
    """Make the limit of the calls that carry batches: it is always found, from two on, within what is set."""
    adaptive = concurrency if isinstance(concurrency, Adaptive) else Adaptive(initial=1, maximum=min(concurrency, MOST))
    initial = min(_BATCHES, adaptive.maximum)
    return AdaptiveLimit(attrs.evolve(adaptive, initial=initial, minimum=min(adaptive.minimum, initial)))
