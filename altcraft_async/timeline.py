"""A run over time, in a bounded number of buckets: what ended, what was sent, how fast the server was; pure.

Buckets are of one width, at first a second. When there are too many of them, each
two neighbours become one, and the width doubles: so an hour and a week take the same
room. Only buckets in which something happened exist, so a pause between two runs of
one input costs nothing. Latencies are counted in classes that grow by a fifth: a
median or percentile read from them is off by a tenth at most.

Time is an argument, in seconds since the run was created.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from altcraft_async.flow.limit import LearnedLimit
    from altcraft_async.protocol.states import OutcomeState

__all__ = ["Bucket", "Changes", "Level", "Sample", "Timeline"]

MOST_BUCKETS = 240
"""A bucket for each column of a wide chart; the file keeps some kilobytes for them."""

_FINEST, _GROWTH = 1e-4, math.log(1.2)
"""The first class of latencies, in seconds, and how much each further one is above it: a fifth."""


@attrs.frozen
class Sample:
    """The state of a run at one moment.

    `sent`, `retries` and `throttled` count since the run began in this process, as in
    `Report`. `limit` is how many requests may be in flight, `in_flight` how many are.
    `outage` says whether nobody is served. `learned` is what another run may begin with.
    """

    sent: int
    retries: int
    throttled: int
    limit: int
    in_flight: int
    outage: bool
    learned: LearnedLimit | None = None


@attrs.frozen
class Level:
    """A number that goes up and down: its `last` value in a span of time, and the `most` in that span."""

    last: int
    most: int


@attrs.frozen(kw_only=True)
class Bucket:
    """What happened in one span of a run's time.

    `start` is in seconds since the run was created, `width` in seconds. `ended` counts rows by the state in which they
    ended; a row that was sent again counts at each end. `sent`, `retries` and `throttled` are as in `Report`.
    `latencies` counts, by class, how long rows took from their first attempt to their end: see `latency`. `limit` and
    `in_flight` are None if they were not recorded. `outage` is the number of its seconds in which nobody was served.
    """

    start: int = 0
    width: int = 1
    ended: Mapping[OutcomeState, int] = attrs.field(factory=dict)
    sent: int = 0
    retries: int = 0
    throttled: int = 0
    latencies: Mapping[int, int] = attrs.field(factory=dict)
    limit: Level | None = None
    in_flight: Level | None = None
    outage: float = 0.0

    @property
    def failed(self) -> int:
        """How many of the rows that ended have something left to do for them."""
        return sum(count for state, count in self.ended.items() if not state.ok)

    def latency(self, share: float) -> float | None:
        """Return the seconds in which that `share` of the rows had ended, 0.5 for the median; None without rows.

        It is right to a tenth.
        """
        left = math.ceil(share * sum(self.latencies.values()))
        for number, count in sorted(self.latencies.items()):
            left -= count
            if left <= 0:
                return _FINEST * math.exp(number * _GROWTH)
        return None


_NOTHING = Bucket()


@attrs.frozen
class Changes:
    """What there is to write: `buckets`, and whether they replace `all` that was written before."""

    buckets: Sequence[Bucket]
    all: bool


class Timeline:
    """The buckets of a run, at most `most`; it goes on from the `buckets` of earlier runs of the same input."""

    __slots__ = (
        "_all_changed", "_buckets", "_changed", "_fresh_latencies", "_fresh_start", "_fresh_states", "_last", "_most",
        "_sampled_at", "_width",
    )  # fmt: skip

    def __init__(self, buckets: Iterable[Bucket] = (), *, most: int = MOST_BUCKETS) -> None:
        self._buckets = {bucket.start: bucket for bucket in buckets}
        self._width = max((bucket.width for bucket in self._buckets.values()), default=1)
        self._most = most
        self._changed: set[int] = set()
        self._all_changed = False
        self._last = Sample(0, 0, 0, 0, 0, outage=False)
        self._sampled_at = 0.0
        self._fresh_start = 0
        self._fresh_states: Counter[OutcomeState] = Counter()
        self._fresh_latencies: Counter[int] = Counter()
        while len(self._buckets) > most:
            self._widen()

    def __repr__(self) -> str:
        """Show how many buckets there are, and their width."""
        return f"<Timeline of {len(self._buckets)} buckets of {self._width} s>"

    @property
    def buckets(self) -> list[Bucket]:
        """All buckets, by their start."""
        self._fold()
        return self._sorted()

    def ended(self, at: float, states: Mapping[OutcomeState, int], elapsed: Iterable[float]) -> None:
        """Count rows that ended, by state, and the `elapsed` seconds of those that were sent."""
        if self._start_of(at) != self._fresh_start:
            self._fold()
            self._fresh_start = self._start_of(at)
        self._fresh_states.update(states)
        self._fresh_latencies.update(map(_class_of, elapsed))

    def sampled(self, at: float, sample: Sample) -> None:
        """Take note of the run's state; what it counts is what came since the sample before, and stands in between."""
        last, self._last = self._last, sample
        before, self._sampled_at = self._sampled_at, at
        since = Bucket(
            sent=sample.sent - last.sent,
            retries=sample.retries - last.retries,
            throttled=sample.throttled - last.throttled,
            outage=max(0.0, at - before) if last.outage else 0.0,
        )
        now = Bucket(limit=Level(sample.limit, sample.limit), in_flight=Level(sample.in_flight, sample.in_flight))
        self._fold()
        if since != _NOTHING:  # else the pause before a run that goes on would get a bucket in its middle
            self._add((before + at) / 2 if before < at else at, since)
        self._add(at, now)

    def take_changes(self) -> Changes:
        """Return what has changed since this was asked for the last time."""
        self._fold()
        whole, self._all_changed = self._all_changed, False
        starts, self._changed = self._changed, set()
        return Changes(self._sorted() if whole else [self._buckets[start] for start in sorted(starts)], whole)

    def _sorted(self) -> list[Bucket]:
        return [self._buckets[start] for start in sorted(self._buckets)]

    def _start_of(self, at: float) -> int:
        return max(0, int(at)) // self._width * self._width

    def _fold(self) -> None:
        """Put into its bucket what ended lately; one by one it would cost more than all else that a row costs here."""
        if self._fresh_states or self._fresh_latencies:
            what = Bucket(ended=self._fresh_states, latencies=self._fresh_latencies)
            self._fresh_states, self._fresh_latencies = Counter(), Counter()
            self._add(self._fresh_start, what)

    def _add(self, at: float, what: Bucket) -> None:
        start = self._start_of(at)
        known = self._buckets.get(start) or Bucket(start=start, width=self._width)
        self._buckets[start] = _together(known, what, start, self._width)
        self._changed.add(start)
        while len(self._buckets) > self._most:
            self._widen()

    def _widen(self) -> None:
        self._width *= 2
        merged: dict[int, Bucket] = {}
        for bucket in self._sorted():
            start = bucket.start // self._width * self._width
            known = merged.get(start) or Bucket()
            merged[start] = _together(known, bucket, start, self._width)
        self._buckets = merged
        self._all_changed = True
        self._changed.clear()


def _class_of(seconds: float) -> int:
    return round(math.log(seconds / _FINEST) / _GROWTH) if seconds > _FINEST else 0


def _together(one: Bucket, later: Bucket, start: int, width: int) -> Bucket:
    """Return what happened in both, as one bucket."""
    return Bucket(
        start=start,
        width=width,
        ended=Counter(one.ended) + Counter(later.ended),
        sent=one.sent + later.sent,
        retries=one.retries + later.retries,
        throttled=one.throttled + later.throttled,
        latencies=Counter(one.latencies) + Counter(later.latencies),
        limit=_level(one.limit, later.limit),
        in_flight=_level(one.in_flight, later.in_flight),
        outage=min(float(width), one.outage + later.outage),
    )


def _level(one: Level | None, later: Level | None) -> Level | None:
    if one is None or later is None:
        return later or one
    return Level(later.last, max(one.most, later.most))
