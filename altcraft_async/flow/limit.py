"""The adaptive concurrency law (being tuned; the interface is stable)."""

from __future__ import annotations

import enum
import math
from typing import Protocol

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.pace import LearnedRate

__all__ = ["Adaptive", "AdaptiveLimit", "ConcurrencyLimit", "FixedLimit", "LimitStatistics", "Signal", "make_limit"]


class Signal(enum.Enum):
    """What one answer says about the load of the server."""

    SUCCESS = "success"
    """Served: its latency is a measurement."""
    OVERLOAD = "overload"
    """Too much: 429, 503, a timeout."""
    NEUTRAL = "neutral"
    """Says nothing about load: 500 and other errors."""


SUCCESS = Signal.SUCCESS
OVERLOAD = Signal.OVERLOAD


@attrs.frozen(kw_only=True)
class Adaptive:
    """Settings of the adaptive limit."""

    minimum: int = 1
    initial: int = 10
    maximum: int = 256
    headroom: float = 1.25

    def __attrs_post_init__(self) -> None:
        if self.minimum < 1:
            msg = f"minimum must be at least 1, not {self.minimum}"
            raise ConfigurationError(msg, field="minimum")
        if self.maximum < self.minimum:
            msg = f"maximum must be at least minimum ({self.minimum}), not {self.maximum}"
            raise ConfigurationError(msg, field="maximum")
        if not self.minimum <= self.initial <= self.maximum:
            msg = f"initial must lie between {self.minimum} and {self.maximum}, not {self.initial}"
            raise ConfigurationError(msg, field="initial")


@attrs.frozen
class LimitStatistics:
    """A snapshot of a limit."""

    limit: int
    rate: float | None
    latency: float | None
    baseline: float | None
    accepted: int
    rejected: int


class ConcurrencyLimit(Protocol):
    """What the gate asks of a limit."""

    limit: int
    rate: float | None

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int) -> int: ...
    def _recent(self, now: float) -> float:
        """Give the calls accepted a second, over the last one to two seconds."""
        then, accepted = self._marks[0]
        return (self._accepted - accepted) / max(1.0, now - then)

    def on_pause(self, now: float, seconds: float) -> int: ...
    def statistics(self) -> LimitStatistics: ...


class FixedLimit:
    """A limit that never moves."""

    __slots__ = ("limit", "rate")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            msg = f"concurrency must be at least 1, not {limit}"
            raise ConfigurationError(msg, field="concurrency")
        self.limit = limit
        self.rate: float | None = None

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int) -> int:
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:
        return self.limit

    def statistics(self) -> LimitStatistics:
        return LimitStatistics(self.limit, None, None, None, 0, 0)


class AdaptiveLimit:
    """The adaptive law; see the module's docstring."""

    __slots__ = (
        "_accepted", "_base", "_doubling", "_enough", "_growth_at", "_grown_at", "_hold", "_hold_count", "_hold_until",
        "_episode_limit", "_latency", "_learned", "_load", "_load_before", "_mark_at", "_marks", "_opens", "_pause_hold", "_rejected", "_rejected_at", "_samples", "_settings",
        "_shrunk_from", "_slowest", "_still", "_step", "_suspicion", "limit", "rate",
    )  # fmt: skip

    def __init__(self, settings: Adaptive | None = None) -> None:
        self._settings = settings or Adaptive()
        self.limit = self._settings.initial
        self.rate: float | None = None
        self._accepted = self._rejected = 0
        self._doubling = True
        self._samples: list[float] = []
        self._enough = max(4, min(self.limit, 100))
        self._opens = -math.inf
        self._load = 0
        self._load_before = 0.0
        self._base = math.inf
        self._latency = 0.0
        self._step = 1
        self._hold = 100
        self._hold_count = 0
        self._hold_until = -math.inf
        self._pause_hold = -math.inf
        self._grown_at = -math.inf
        self._rejected_at = -math.inf
        self._shrunk_from: tuple[float, float] | None = None
        self._still = 0
        self._learned: LearnedRate | None = None
        self._episode_limit = 0
        self._suspicion = 0
        self._mark_at = -math.inf
        self._marks = ((0.0, 0), (0.0, 0))

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int) -> int:
        """Learn from one ended call; `in_flight` counts the calls in flight with this one still among them."""
        if signal is SUCCESS:
            self._accepted += 1
            if now >= self._mark_at:
                self._marks = (self._marks[1], (now, self._accepted))
                self._mark_at = now + 1.0
            if now >= self._opens:
                if not self._samples:
                    self._enough = max(4, in_flight)
                self._samples.append(latency)
                self._load += in_flight
                if self._doubling and in_flight >= self.limit < self._settings.maximum:
                    self.limit += 1
                if len(self._samples) >= self._enough:
                    self._close_round(now)
            learned = self._learned
            if learned is not None:
                self.rate = learned.rate
                if not learned.on_success(now, full=in_flight >= self.limit):
                    self._learned = self.rate = None
                else:
                    self.rate = learned.rate
        elif signal is OVERLOAD:
            self._on_overload(now, latency, in_flight)
        return self.limit

    def _close_round(self, now: float) -> None:
        samples = self._samples
        count = len(samples)
        samples.sort()
        median = samples[count // 2]
        error = 0.93 * (samples[(count * 3) // 4] - samples[count // 4]) / math.sqrt(count)
        load = self._load / count
        self._slowest = samples[count * 9 // 10]
        samples.clear()
        self._load = 0
        self._latency = median
        certain = median + 2 * error
        if certain < self._base:
            self._base = certain if self._base == math.inf else self._base + 0.3 * (certain - self._base)
        held = self._load_before if self._doubling and self._load_before else load
        self._load_before = load
        full = load >= 0.85 * self.limit
        served = held * self._base / max(median - (2 if self._doubling else 1) * error, 1e-9)
        target = min(self._settings.maximum, max(self._settings.minimum, int(served * self._settings.headroom + 1)))
        if target < self.limit:
            if target < load:
                self._shrink(now, target, load, error)
            elif not self._doubling: self._still += 1
        elif full and not self._doubling:
            self._grow(now, target)

    def _shrink(self, now: float, target: int, load: float, error: float) -> None:
        self._still = 0
        latency = self._latency
        if self._doubling:
            self._doubling = False
        if self._shrunk_from is not None:
            before, then = self._shrunk_from
            if load <= 0.8 * before:
                if latency + error > 0.5 * then * (1 + load / before):
                    self._base = latency
                    self._shrunk_from = None
                    self._step = 1
                    return
                self._shrunk_from = (load, latency)
        else:
            self._shrunk_from = (load, latency)
        self.limit = target
        self._step = 1
        self._opens = now + self._slowest

    def _grow(self, now: float, target: int) -> None:
        self._shrunk_from = None
        if self.limit >= target:
            return
        if now < self._pause_hold or (self._accepted < self._hold_count and now < self._hold_until):
            return
        self.limit = min(self.limit + self._step, target)
        self._step = min(2 * self._step, self.limit // 4 + 1)
        self._grown_at = now
        self._opens = now + self._slowest

    def _on_overload(self, now: float, latency: float, in_flight: int) -> None:
        self._rejected += 1
        self._doubling = False
        self._step = 1
        if self._learned is not None:
            self._learned.on_reject(now, now - latency)
            self.rate = self._learned.rate
            return
        floor = self._settings.minimum
        quiet = self._latency or latency
        fresh = now > self._rejected_at + 2 * quiet
        if fresh:
            self._episode_limit = self.limit
            probing = now - self._grown_at < 4 * quiet
            self._hold = min(2 * self._hold, 800) if probing else 100
            self._suspicion += not probing and self._rejected > 1
        self.limit = max(floor, min(self.limit, in_flight) - 1)
        self._rejected_at = now
        self._hold_count = self._accepted + self._hold
        self._hold_until = now + self._hold / 10 * quiet
        self._samples.clear()
        self._load = 0
        if self._suspicion >= 2 or self.limit < self._episode_limit // 2 or self.limit == floor:
            self._learned = LearnedRate(now, max(self.limit / quiet, self._recent(now)), quiet)
            self.rate = self._learned.rate
            self.limit = max(self.limit, self._episode_limit)
            self._suspicion = 0

    def _recent(self, now: float) -> float:
        """Give the calls accepted a second, over the last one to two seconds."""
        then, accepted = self._marks[0]
        return (self._accepted - accepted) / max(1.0, now - then)

    def on_pause(self, now: float, seconds: float) -> int:
        """Learn that the server asked for a pause of `seconds` from `now`."""
        self._pause_hold = max(self._pause_hold, now + 30 * seconds)
        self._opens = max(self._opens, now + seconds)
        self._samples.clear()
        self._load = 0
        if self._learned is not None:
            self._learned.on_pause(now, seconds)
            self.rate = self._learned.rate
        return self.limit

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        return LimitStatistics(self.limit, self.rate, self._latency, self._base, self._accepted, self._rejected)


def make_limit(concurrency: int | Adaptive) -> FixedLimit | AdaptiveLimit:
    """Make the limit that a `concurrency` setting asks for."""
    return AdaptiveLimit(concurrency) if isinstance(concurrency, Adaptive) else FixedLimit(concurrency)
