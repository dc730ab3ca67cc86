"""Pacing: starts spread evenly over time, at a rate that can move while running.

The law is GCRA, the leaky bucket without a bucket: one number, the moment at
which the next start is due when starts come at exactly `Pacer.rate`. A start
may come early by at most the allowance of the burst. No state grows, no timer
is needed, and a change of the rate counts from the very next reservation.

`LearnedRate` finds the rate of a server that nobody published, from its rejects;
`Suspicion` says when rejects look like a rate at all, and `Background` forgives
the share of them that no load explains.

Pure: the clock is an argument, in seconds, and only its differences matter.
"""

from __future__ import annotations

import math

from altcraft_async.errors import ConfigurationError

__all__ = ["TIMER_SLACK", "Background", "LearnedRate", "Pacer", "Suspicion"]

TIMER_SLACK = 0.01
"""How late a timer, and what it wakes, may come in a busy event loop without slowing the pace, in seconds."""
_SLOWEST = 2.0
"""Starts per second that a learned rate never goes below: slower, it could not learn."""
_CLIMB = 0.5
"""The largest step up."""
_LONGEST_HOLD = 30.0
"""Seconds between probes of a known ceiling, at most."""
_FEWEST, _ENOUGH = 4, 300
"""Accepted calls before a climb: without a reject, and with a stray one."""
_STRAY = 0.007
"""The share of rejects that is no sign of a rate."""
_DOUBTFUL = 0.15
"""The largest share of rejects that may be background: a load too high by more refuses more."""
_TRIAL = 0.67
"""The share of the pace during a trial: below what a server accepts that refuses a doubtful share."""
_PROOF, _EXPECTED = 5, 8
"""A trial ends with this many rejects, or when this many would have been expected."""
_SHORTEST_TRIAL, _LONGEST_TRIAL = 150, 600
"""Calls in a trial, within which the expected number of rejects decides."""
_CREDIT, _UNTESTED_CREDIT = 6.0, 2.0
"""The most rejects that can be forgiven in a row, with and without a tested background."""
_UNTESTED = 0.0035
"""The share that is forgiven, twice over, before any test."""
_FORGET = 0.998
"""What a forgiven reject leaves of the share: half of it after some 350."""
_STORM = 50
"""Rejects that are answered without waiting for a whole second."""


class Pacer:
    """Say how long each start has to wait, so that starts keep to a rate.

    `rate` is in starts per second, None for no limit; it may be assigned at any
    time. `burst` is the most starts that may go out at one instant after a
    quiet time: over any stretch of ``t`` seconds at a steady rate at most
    ``burst + rate * t`` starts are let through. Time that went unused is never
    worth more than the burst.

    Raises `ConfigurationError`, naming the field, for a rate that is not above
    zero and a burst below one.
    """

    __slots__ = ("_burst", "_due", "_interval", "_rate")

    def __init__(self, rate: float | None = None, burst: int = 1) -> None:
        if burst < 1:
            msg = f"burst must be at least 1, not {burst}"
            raise ConfigurationError(msg, field="burst")
        self._burst = burst
        self._due = -math.inf
        self._rate: float | None = None
        self._interval = 0.0
        self.rate = rate

    def __repr__(self) -> str:
        """Show the settings."""
        return f"<Pacer rate={self._rate} burst={self._burst}>"

    @property
    def rate(self) -> float | None:
        """Starts per second, or None for no limit."""
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        if rate is not None and not 0 < rate < math.inf:
            msg = f"rate must be a number of starts per second above 0, or None, not {rate}"
            raise ConfigurationError(msg, field="rate")
        self._rate = rate
        self._interval = 0.0 if rate is None else 1.0 / rate

    @property
    def burst(self) -> int:
        """The most starts at one instant after a quiet time."""
        return self._burst

    def peek(self, now: float) -> float:
        """Give the seconds until a start is allowed (0.0: now), without taking it."""
        if self._rate is None:
            return 0.0
        return max(0.0, self._due - (self._burst - 1) * self._interval - now)

    def reserve(self, now: float, *, late: float = 0.0) -> float:
        """Take the next start and give the seconds to wait for it (0.0: go now).

        Every call is one start, to be made after the wait; reservations are
        served in the order they were made. A start that comes at most `late`
        seconds after it was due counts as made when it was due, so that what held
        it back costs the following ones nothing.
        """
        if self._rate is None:
            return 0.0
        due = max(now - late, self._due)
        self._due = due + self._interval
        return max(0.0, due - (self._burst - 1) * self._interval - now)


class LearnedRate:
    """The rate that a server accepts, found from its rejects.

    Starts from `rate`, an estimate, for a server with a round trip of `trip`
    seconds. While nothing is rejected the rate climbs by half each round, and
    calls that were not in want of a higher rate never raise it. Rejects right
    after a climb take the climb back; otherwise the rate falls to the share
    that was accepted, measured over at least a second (a server that counts by
    the second looks shut for the rest of it). The rate of the last fall is
    remembered: below it the rate climbs halfway at a time; just under it, it
    holds, longer after each failed probe (up to 30 s), and then probes by 2 %,
    4 %, …. A stray reject (under 0.7 %) is tolerated.

    Rejects of a doubtful `share`, given at the start or seen after two falls in a
    row, are put to a trial: `on_trial`, the rate is lowered by a third, until
    `end_trial` can say whether they went away.

    `rate` is in starts per second, to be read after each report.
    """

    __slots__ = (
        "_accepted", "_ceiling", "_changed", "_climbed", "_cut", "_doubts", "_hold", "_obsolete", "_pause", "_rejected",
        "_step", "_trial", "_trip", "_until", "rate",
    )  # fmt: skip

    def __init__(self, now: float, rate: float, trip: float, share: float = 1.0) -> None:
        self.rate = max(_SLOWEST, rate)
        self._trip = trip
        self._ceiling = math.inf
        self._step = _CLIMB
        self._cut = 0.1
        self._hold = 1.0
        self._pause = 0.0
        self._climbed = 0.0
        self._doubts = 0
        self._trial = 0.0
        self._obsolete = False
        self._restart(now, max(0.25, 2 * trip))
        if share <= _DOUBTFUL:
            self._begin_trial(now, share)

    def __repr__(self) -> str:
        """Show the state."""
        return f"<LearnedRate {self.rate:.1f}/s below {self._ceiling:.1f}/s>"

    def on_success(self, now: float, *, full: bool) -> bool:
        """Count an accepted call; False says that the rate no longer binds.

        `full` says that the concurrency limit was in use to the last permit.
        """
        if self._trial:
            if now > self._changed + 1.5 * self._trip:
                self._accepted += 1
            return True
        self._accepted += 1
        if now < self._until or self._accepted < _FEWEST:
            return not self._obsolete
        if self._excess():
            self._settle(now)
            return True
        if self._rejected and self._accepted < _ENOUGH and self._near_ceiling():
            return True
        observed = self._accepted / (now - self._changed)
        if full and self.rate > 1.5 * observed:
            return False
        if full or observed > 0.7 * self.rate:
            self._climb(now)
        return True

    def on_reject(self, now: float, started: float) -> None:
        """Count a rejected call that was sent at `started`; what an older rate sent says nothing."""
        if started < self._changed:
            return
        self._rejected += 1
        if self._trial or not self._excess():
            return
        if self._climbed:
            self._back_off(now)
        else:
            self._settle(now)

    def on_pause(self, now: float, seconds: float) -> None:
        """Learn that the reject just reported asked for `seconds` without starts."""
        if self._changed > now or self._trial:
            return
        self._pause = seconds
        if self._climbed:
            self._back_off(now)
        elif self._changed < now:
            self._fall(now, 1 - self._cut)
            self._cut = min(0.5, 2 * self._cut)
        self._hold = max(self._hold, min(_LONGEST_HOLD, 10 * seconds))
        self._restart(now + seconds, max(2 * self._trip, self._hold if self._near_ceiling() else seconds))

    @property
    def on_trial(self) -> bool:
        """Whether the rate is lowered to see if the rejects go away."""
        return self._trial > 0

    def end_trial(self, now: float) -> float:
        """End the trial once it has a result: the share of rejects that ignore the pace, else 0.0."""
        calls = self._accepted + self._rejected
        needed = min(_LONGEST_TRIAL, max(_SHORTEST_TRIAL, _EXPECTED / self._trial))
        if self._rejected < _PROOF and calls < needed:
            return 0.0
        share = self._rejected / calls
        stayed = self._rejected > 1 and 0.25 * self._trial <= share <= 2 * _DOUBTFUL
        self._trial = 0.0
        self._doubts = 0
        self.rate /= _TRIAL
        if stayed:
            self._obsolete = self._ceiling == math.inf
            self._ceiling = math.inf
            self._step = _CLIMB
            self._climbed = 0.0
            self.rate *= 1 + _CLIMB
        self._restart(now, max(0.25, 2 * self._trip))
        return share if stayed else 0.0

    def _begin_trial(self, now: float, share: float) -> None:
        self.rate *= _TRIAL
        self._restart(now, 0.0)
        self._trial = share

    def _excess(self) -> bool:
        return self._rejected > 1 + _STRAY * (self._accepted + self._rejected)

    def _near_ceiling(self) -> bool:
        return self.rate * 1.08 > self._ceiling

    def _climb(self, now: float) -> None:
        self._cut = 0.1
        self._doubts = 0
        if self._near_ceiling():
            wait = max(1.0, self._pause)
            self._climbed = self._step
            self._step = min(_CLIMB, 2 * self._step)
        else:
            wait = max(0.25, 2 * self._trip, self._pause)
            known = self._ceiling < math.inf
            self._climbed = min(_CLIMB, math.sqrt(self._ceiling / self.rate) - 1) if known else self._step
        self.rate *= 1 + self._climbed
        if self.rate > self._ceiling:
            self._ceiling = self.rate
        elif self._near_ceiling():
            wait = max(wait, self._hold)
        self._restart(now, wait)

    def _back_off(self, now: float) -> None:
        failed_probe = self._climbed < 0.1  # noqa: PLR2004 - larger steps are the search, not a probe
        self._hold = min(_LONGEST_HOLD, 2 * self._hold) if failed_probe else max(1.0, self._pause)
        self._fall(now, 1 / (1 + self._climbed))

    def _settle(self, now: float) -> None:
        age = now - self._changed
        if age < 2 * self._trip or (age < 1.0 and self._rejected < _STORM):
            return
        share = self._rejected / (self._accepted + self._rejected)
        self._fall(now, max(0.5, 0.99 * (1 - share)))
        self._doubts = self._doubts + 1 if share <= _DOUBTFUL else 0
        if self._doubts > 1:
            self._begin_trial(now, share)
            return
        if share > 0.9:  # noqa: PLR2004 - shut, not slow: nothing was learned about its rate
            self._ceiling = math.inf
            self._step = 1.0

    def _fall(self, now: float, keep: float) -> None:
        self._ceiling = self.rate
        self.rate = max(_SLOWEST, self.rate * keep)
        self._climbed = 0.0
        self._step = 0.02
        self._restart(now, max(1.0, 2 * self._trip, self._hold if self._near_ceiling() else 0.0))

    def _restart(self, now: float, wait: float) -> None:
        self._changed = now
        self._until = now + wait
        self._accepted = self._rejected = 0


class Background:
    """Forgives the rejects that no load explains, by a credit that accepted calls earn.

    Each accepted call earns twice `share`, each forgiven reject costs one; what
    exceeds the credit is the load's. Rejects forgiven wear the share away, so that
    it is tested again. While no background is known (`share` is 0.0), the calls
    earn a little all the same, though not while `paced`, where a probe costs more.
    `forgave` tells what became of the last reject.
    """

    __slots__ = ("_credit", "_credited", "forgave", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self.forgave = False
        self._credit = _UNTESTED_CREDIT
        self._credited = 0

    def __repr__(self) -> str:
        """Show the share."""
        return f"<Background {self.share:.2%}>"

    def learn(self, share: float, accepted: int) -> None:
        """Take `share` for the background, after so many `accepted` calls."""
        self.share = share
        self._credit = _CREDIT
        self._credited = accepted

    def forgives(self, accepted: int, *, paced: bool) -> bool:
        """Say whether a reject is forgiven, after so many `accepted` calls since the beginning."""
        if self.share > _UNTESTED:
            earning, most = self.share, _CREDIT
        else:
            self.share = 0.0
            earning, most = (0.0, 0.0) if paced else (_UNTESTED, _UNTESTED_CREDIT)
        self._credit = min(most, self._credit + 2 * earning * (accepted - self._credited))
        self._credited = accepted
        self.forgave = self._credit >= 1
        if self.forgave:
            self._credit -= 1
            self.share *= _FORGET
        return self.forgave


class Suspicion:
    """Gathers what makes rejects look like a matter of rate, and not of concurrency.

    Rejects come in episodes, each `since` a time and at the `level` of the limit
    then. Suspicious are the second episode at a level that was good, an episode
    in which the limit falls to half, and one that goes on for three round trips
    with few rejects. `counts` are the calls accepted and rejected since the beginning.
    """

    __slots__ = ("_before", "_count", "_marks", "_rejected", "good", "level", "since")

    def __init__(self) -> None:
        self.level = self.good = 1
        self.since = 0.0
        self._count = self._rejected = 0
        self._before = (0, 0)
        # Two marks of (time, accepted), a second apart: the recent throughput.
        self._marks: tuple[tuple[float, int], tuple[float, int]] | None = None

    def mark(self, now: float, accepted: int) -> float:
        """Note the throughput; give the time of the next mark."""
        mark = (now, accepted)
        self._marks = (mark, mark) if self._marks is None else (self._marks[1], mark)
        return now + 1.0

    def begin(self, now: float, level: int, counts: tuple[int, int], *, probing: bool, expected: bool) -> None:
        """Begin an episode with the reject just counted; one that is `expected` is no sign, a failed probe clears."""
        if not self._count:
            self._before = (counts[0], counts[1] - 1)
            self.good = level
        self._count = 0 if probing else self._count + (not expected)
        self.level, self.since, self._rejected = level, now, counts[1]

    def judge(
        self, now: float, trip: float, counts: tuple[int, int], *, fallen_to: int, quiet: bool
    ) -> LearnedRate | None:
        """Give the rate to learn from, if the rejects look like one; the limit then goes back to `good`.

        `fallen_to` is the limit where it fell to half, else 0; `quiet` says that
        nothing paused the calls.
        """
        share = self._share(counts)
        several = counts[1] - self._rejected >= 2  # noqa: PLR2004 - the third reject of the episode
        lasting = counts[1] - self._before[1] >= _PROOF and now > self.since + 3 * trip and share <= _DOUBTFUL
        # Once at a good level can be a server that lost capacity.
        if self._count < 2 and not (several and fallen_to) and not lasting:  # noqa: PLR2004
            return None
        # What is left in flight was accepted: by Little's law a rate, and exact where rejects are quick.
        rate = max(self._throughput(now, trip, counts[0]), fallen_to / trip)
        if share <= _DOUBTFUL:
            self.good = max(self.level, self.good)
            rate = max(rate, self.good / trip) if quiet else rate
        else:
            self.good = self.level
        self._count = 0
        return LearnedRate(now, rate, trip, share)

    def _share(self, counts: tuple[int, int]) -> float:
        accepted, rejected = counts[0] - self._before[0], counts[1] - self._before[1]
        return rejected / max(1, accepted + rejected)

    def _throughput(self, now: float, trip: float, accepted: int) -> float:
        """Give the calls accepted a second over the last one or two seconds."""
        if self._marks is None:
            return 0.0
        then, before = self._marks[0]
        return (accepted - before) / max(2 * trip, now - then)
