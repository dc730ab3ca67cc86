"""Pacing: starts spread evenly over time, at a rate that can move while running.

The law is GCRA, the leaky bucket without a bucket: one number, the moment at
which the next start is due when starts come at exactly `Pacer.rate`. A start
may come early by at most the allowance of the burst. No state grows, no timer
is needed, and a change of the rate counts from the very next reservation.

`LearnedRate` finds the rate of a server that nobody published, from its rejects.

Pure: the clock is an argument, in seconds, and only its differences matter.
"""

from __future__ import annotations

import math

from altcraft_async.errors import ConfigurationError

__all__ = ["LearnedRate", "Pacer"]


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

    def reserve(self, now: float) -> float:
        """Take the next start and give the seconds to wait for it (0.0: go now).

        Every call is one start, to be made after the wait; reservations are
        served in the order they were made.
        """
        if self._rate is None:
            return 0.0
        due = max(now, self._due)
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

    `rate` is in starts per second, to be read after each report.
    """

    __slots__ = (
        "_accepted", "_ceiling", "_changed", "_climbed", "_cut", "_hold", "_pause", "_rejected", "_step", "_trip",
        "_until", "rate",
    )  # fmt: skip

    def __init__(self, now: float, rate: float, trip: float) -> None:
        self.rate = max(_SLOWEST, rate)
        self._trip = trip
        self._ceiling = math.inf
        self._step = _CLIMB
        self._cut = 0.1
        self._hold = 1.0
        self._pause = 0.0
        self._climbed = 0.0
        self._restart(now, max(0.25, 2 * trip))

    def __repr__(self) -> str:
        """Show the state."""
        return f"<LearnedRate {self.rate:.1f}/s below {self._ceiling:.1f}/s>"

    def on_success(self, now: float, *, full: bool) -> bool:
        """Count an accepted call; False says that the rate no longer binds.

        `full` says that the concurrency limit was in use to the last permit.
        """
        self._accepted += 1
        if now < self._until or self._accepted < _FEWEST:
            return True
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
        if not self._excess():
            return
        if self._climbed:
            self._back_off(now)
        else:
            self._settle(now)

    def on_pause(self, now: float, seconds: float) -> None:
        """Learn that the reject just reported asked for `seconds` without starts."""
        if self._changed > now:
            return
        self._pause = seconds
        if self._climbed:
            self._back_off(now)
        elif self._changed < now:
            self._fall(now, 1 - self._cut)
            self._cut = min(0.5, 2 * self._cut)
        self._hold = max(self._hold, min(_LONGEST_HOLD, 10 * seconds))
        self._restart(now + seconds, max(2 * self._trip, self._hold if self._near_ceiling() else seconds))

    def _excess(self) -> bool:
        return self._rejected > 1 + _STRAY * (self._accepted + self._rejected)

    def _near_ceiling(self) -> bool:
        return self.rate * 1.08 > self._ceiling

    def _climb(self, now: float) -> None:
        self._cut = 0.1
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
