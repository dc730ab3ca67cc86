"""Pacing: starts spread evenly over time, at a rate that can move while running.

The law is GCRA, the leaky bucket without a bucket: one number, the moment at
which the next start is due when starts come at exactly `Pacer.rate`. A start
may come early by at most the allowance of the burst. No state grows, no timer
is needed, and a change of the rate counts from the very next reservation.

Pure: the clock is an argument, in seconds, and only its differences matter.
"""

from __future__ import annotations

import math

from altcraft_async.errors import ConfigurationError

__all__ = ["LearnedRate", "Pacer"]


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
        wait = self._due - (self._burst - 1) * self._interval - now
        return wait if wait > 0.0 else 0.0

    def reserve(self, now: float) -> float:
        """Take the next start and give the seconds to wait for it (0.0: go now).

        Every call is one start, to be made after the wait; reservations are
        served in the order they were made.
        """
        if self._rate is None:
            return 0.0
        due = self._due if self._due > now else now
        self._due = due + self._interval
        wait = due - (self._burst - 1) * self._interval - now
        return wait if wait > 0.0 else 0.0


class LearnedRate:
    """The rate a server accepts, found from its rejects."""

    __slots__ = (
        "_accepted", "_changed", "_climbed", "_cut", "_hold", "_hold_until", "_rejected", "_step", "_trip", "rate",
    )  # fmt: skip

    def __init__(self, now: float, rate: float, trip: float) -> None:
        self.rate = max(1.0, rate)
        self._trip = trip
        self._step = 0.5
        self._cut = 0.1
        self._hold = 1.0
        self._hold_until = now + 2 * trip
        self._climbed = 0.0
        self._changed = now
        self._accepted = self._rejected = 0

    def on_success(self, now: float, *, full: bool) -> bool:
        """Count an accepted call; say whether the rate still matters."""
        self._accepted += 1
        if now < self._hold_until or self._accepted + self._rejected < 4:
            return True
        if self._rejected:
            if now >= self._changed + max(1.0, 2 * self._trip):
                self._settle(now)
            return True
        observed = self._accepted / (now - self._changed)
        if full and self.rate > 1.5 * observed:
            return False
        if full or observed > 0.7 * self.rate:
            self._climb(now)
        return True

    def _climb(self, now: float) -> None:
        self.rate *= 1 + self._step
        self._cut = 0.1
        self._climbed = self._step
        self._step = min(0.5, 2 * self._step)
        self._reset(now)
        self._hold_until = now + (2 * self._trip if self._climbed > 0.1 else 1.0)

    def _reset(self, now: float) -> None:
        self._changed = now
        self._accepted = self._rejected = 0

    def on_reject(self, now: float, started: float) -> None:
        if started < self._changed:
            return
        self._rejected += 1
        if self._climbed:
            self._hold = min(30.0, 2 * self._hold) if self._climbed < 0.05 else 1.0
            self._fall(now, 1 / (1 + self._climbed))
        elif self._rejected >= 50 or now >= self._changed + max(1.0, 2 * self._trip):
            self._settle(now)

    def _settle(self, now: float) -> None:
        share = self._rejected / (self._accepted + self._rejected)
        self._fall(now, max(0.3, 0.99 * (1 - share)))
        if share > 0.9:
            self._step = 0.5

    def _fall(self, now: float, keep: float) -> None:
        self.rate = max(1.0, self.rate * keep)
        self._climbed = 0.0
        self._step = 0.02
        self._reset(now)
        self._hold_until = now + max(2 * self._trip, self._hold)

    def on_pause(self, now: float, seconds: float) -> None:
        if not self._climbed and self._changed < now:
            self._fall(now, 1 - self._cut)
            self._cut = min(0.5, 2 * self._cut)
        self._changed = now + seconds
        self._hold_until = now + max(self._hold, 30 * seconds)
