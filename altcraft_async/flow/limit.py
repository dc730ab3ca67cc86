"""What a concurrency limit is: its settings, what it is told, what the gate reads of it; and the one that never moves.

The limit that finds itself is `altcraft_async.flow.adaptive.AdaptiveLimit`.
Pure: no clock, no randomness, no I/O.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, Protocol, Self

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.kinds import LARGEST, NUMBER, WHOLE, choice, shown

__all__ = [
    "MOST",
    "Adaptive",
    "ConcurrencyLimit",
    "FixedLimit",
    "LearnedLimit",
    "LimitState",
    "LimitStatistics",
    "Shared",
    "Signal",
]

_LEAST: Final = 1 / 64
"""The part of a shared rate that nobody goes below: who has nothing yet may still ask."""
MOST: Final = 10**6 - 1
"""The most calls in flight of an adaptive limit: no server was ever found to take as many."""
_SLOWEST: Final = 1e-6
"""Starts a second below which no pace is: it is one start in eleven days."""


class Signal(enum.Enum):
    """What one ended call says about the load of the server."""

    SUCCESS = "success"
    """Served: its latency is a measurement."""
    OVERLOAD = "overload"
    """Too much: 425, 429, 503, a timeout. Its latency is not used."""
    NEUTRAL = "neutral"
    """Nothing: 500, other errors, a cancelled call. Its latency is not used."""


class LimitState(enum.Enum):
    """What the law is doing; the values are for people."""

    DOUBLING = "looking for what the server can take"
    FOLLOWING = "growing while the throughput follows"
    HOLDING = "holding at what the server accepted"
    DIPPING = "measuring the server without a queue"
    YIELDING = "leaving room for others for a moment"
    SPREADING = "spreading the starts, to see whether the server counts them by time"
    PACED = "pacing: the server counts calls by time"


_SUCCESS, _OVERLOAD = Signal.SUCCESS, Signal.OVERLOAD


@attrs.frozen(kw_only=True)
class Adaptive:
    """Settings of the adaptive limit (the default for ``concurrency``).

    The limit stays within `minimum` and `maximum`, and starts at `initial` or, where that lies outside, at the bound
    next to it. `headroom` is how far it may go above the number of calls that the server works on: 1.25 keeps a queue
    of a quarter. Processes of one user on one host that call one address with one token and give the same settings
    share one such limit, each by its need; the settings are those of the whole. A setting that cannot work raises
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
            _check(
                type(value) is int and value <= MOST,
                field,
                f"must be a whole number below a million, not {shown(value)}",
            )
        low, high = self.minimum, self.maximum
        _check(low >= 1, "minimum", f"must be at least 1, not {low}")
        _check(high >= low, "maximum", f"must be at least minimum ({low}), not {high}")
        _check(self.initial >= 1, "initial", f"must be at least 1, not {self.initial}")
        headroom = self.headroom
        possible = type(headroom) in {int, float} and 1.05 <= headroom <= 2.0  # noqa: PLR2004
        _check(possible, "headroom", f"must be a number between 1.05 and 2.0, not {shown(headroom)}")


def _check(ok: bool, field: str, problem: str) -> None:
    if not ok:
        msg = f"{field} {problem}"
        raise ConfigurationError(msg, field=field)


@attrs.frozen
class Shared:
    """A total that several clients share: ``concurrency=Shared(64)`` calls in flight, ``rate=Shared(100)`` a second.

    `among` names the members: ``"host"``, the processes of one user on this host that call one address with one token
    and give the same total, each by its need; ``"drainers"``, those that deliver one outbox on PostgreSQL, each by its
    part of the leased buckets; or ``"shards"``, those that deliver shards of one directory, in equal parts. A member
    always has one permit, so if there are more members than permits, more calls are in flight than `total`. A setting
    that cannot work raises `ConfigurationError`, which names the field.
    """

    total: float = attrs.field(validator=NUMBER)
    among: Literal["host", "drainers", "shards"] = attrs.field(
        default="host", validator=choice("host", "drainers", "shards"), kw_only=True
    )

    def permits(self, part: float) -> int:
        """Give the permits of a member that has this `part` of all: of parts that make one, no more than the total."""
        return max(1, int(self.total * part + 1e-9))

    def pace(self, part: float) -> float:
        """Return the starts a second of a member that has this `part` of all."""
        return self.total * max(part, _LEAST)


@attrs.frozen
class LearnedLimit:
    """The limit that was learned of a server: calls in flight, and starts a second, or None.

    A number that cannot be raises `ConfigurationError`, which names the field.
    """

    limit: int = attrs.field(validator=WHOLE)
    rate: float | None = attrs.field(default=None, validator=NUMBER.or_none())

    @classmethod
    def read(cls, limit: object, rate: object, *, most: int = MOST) -> Self | None:
        """Give what a file says of a limit, or None if no limit can be so: the file may be damaged, or another's.

        `most` is what the reader never goes above.
        """
        if type(limit) is not int or not 1 <= limit <= most:
            return None
        if rate is not None and not (isinstance(rate, int | float) and _SLOWEST <= rate <= LARGEST):
            return None
        return cls(limit, rate)


@attrs.frozen
class LimitStatistics:
    """A snapshot of a limit; latencies in seconds, None before the first round.

    `rate` is the learned pace in starts per second, None if there is none.
    `latency` is the typical latency of the last round, `baseline` the one of the
    server without a queue. `accepted` and `throttled` count since the beginning. `doing` is the law's state in words.
    """

    limit: int
    rate: float | None = None
    latency: float | None = None
    baseline: float | None = None
    accepted: int = 0
    throttled: int = 0
    doing: str = ""


class ConcurrencyLimit(Protocol):
    """What the gate asks of a limit: read `limit` and `rate` after every report.

    One that `learns` is to be told of every call; the others were set.
    """

    learns: bool
    limit: int
    rate: float | None

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        """Learn from one ended call, itself still counted in `in_flight`; give the limit.

        `kind` names the kind of call: latencies of different kinds are no measure of each other.
        """

    def on_pause(self, now: float, seconds: float) -> int:
        """Learn that no call starts for `seconds` from `now`; give the limit."""

    def resume(self, now: float, since: float) -> None:
        """Go on as before an outage that began at `since`: what failed in it said nothing of the load."""

    @property
    def learned(self) -> LearnedLimit | None:
        """What another limit may begin with; None if there is nothing yet."""

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        """Begin at half of what another limit ended with, where there is nothing better to go by."""

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""


class FixedLimit:
    """The limit of an ``int`` setting: it counts, and never moves."""

    __slots__ = ("_accepted", "_throttled", "limit", "rate")
    learns = False
    learned = None

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rate: float | None = None
        self._accepted = self._throttled = 0

    def __repr__(self) -> str:
        """Show the limit."""
        return f"<FixedLimit {self.limit}>"

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Count one ended call."""
        if signal is _SUCCESS:
            self._accepted += 1
        elif signal is _OVERLOAD:
            self._throttled += 1
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
        return LimitStatistics(self.limit, accepted=self._accepted, throttled=self._throttled, doing="fixed")
