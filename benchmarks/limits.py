"""Other concurrency laws, to compare ours with."""

from __future__ import annotations

import math

from altcraft_async.flow.limit import LearnedLimit, LimitStatistics, Signal

__all__ = ["AdaptiveRequestConcurrency"]

_RATIO = 0.9
_WEIGHT = 0.4
_DEVIATIONS = 2.5
_EQUAL = 1.0 + 1e-6
"""Means this close are the same: a server without jitter must not look slower by a rounding error."""


class AdaptiveRequestConcurrency:
    """A re-model of Vector's ARC: one step up or a tenth down each round trip.

    The window is one mean round trip. At its end the limit grows by one if it
    was reached, no back-pressure was seen and the window's mean latency is not
    above the past mean; it falls to nine tenths on back-pressure or where the
    mean is 2.5 deviations above the past. The past is a moving average (0.4) of
    mean and variance, of successes only. It starts at 1 and ends at 200.
    """

    __slots__ = (
        "_accepted", "_ends", "_latencies", "_maximum", "_mean", "_pressed", "_reached", "_rejected", "_variance",
        "limit", "rate",
    )  # fmt: skip

    learned = None
    """It keeps nothing for a next run."""

    def __init__(self, *, initial: int = 1, maximum: int = 200) -> None:
        self.limit = initial
        self.rate: float | None = None
        self._maximum = maximum
        self._mean: float | None = None
        self._variance = 0.0
        self._latencies: list[float] = []
        self._pressed = self._reached = False
        self._ends = -math.inf
        self._accepted = self._rejected = 0

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Learn from one ended call; give the limit."""
        self._reached = self._reached or in_flight >= self.limit
        if signal is Signal.SUCCESS:
            self._accepted += 1
            self._latencies.append(latency)
        elif signal is Signal.OVERLOAD:
            self._rejected += 1
            self._pressed = True
        if now >= self._ends:
            self._end_window(now)
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:  # noqa: ARG002
        """Change nothing."""
        return self.limit

    def resume(self, now: float, since: float) -> None:
        """Change nothing."""

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        """Change nothing."""

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        return LimitStatistics(self.limit, None, self._mean, None, self._accepted, self._rejected)

    def _end_window(self, now: float) -> None:
        mean = sum(self._latencies) / len(self._latencies) if self._latencies else None
        past = self._mean
        slower = mean is not None and past is not None and mean > past * _EQUAL
        if mean is not None and past is not None and not slower and self._reached and not self._pressed:
            self.limit = min(self._maximum, self.limit + 1)
        elif self._pressed or (
            slower and mean is not None and past is not None and mean >= past + _DEVIATIONS * math.sqrt(self._variance)
        ):
            self.limit = max(1, int(self.limit * _RATIO))
        if mean is not None and past is None:
            self._mean = mean
        elif mean is not None and past is not None:
            off = mean - past
            self._mean = past + _WEIGHT * off
            self._variance = (1.0 - _WEIGHT) * (self._variance + _WEIGHT * off * off)
        self._latencies = []
        self._pressed = self._reached = False
        self._ends = now + (self._mean or 0.1)
