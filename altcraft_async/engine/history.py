"""What a gathering run remembers of its course, for its report: a number a row, and a look at itself once a second."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

import attrs

from altcraft_async.timeline import Timeline

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from altcraft_async.outcome import Outcome
    from altcraft_async.timeline import Bucket, Sample

__all__ = ["History", "Remembered"]

_LOOK_EVERY = 1.0
"""Seconds between two looks, which is the width of the timeline's finest bucket."""
_AFTER = 0.001
"""Seconds behind the begin of a bucket for its look: by rounding a timer may be due before its time."""


@attrs.frozen
class Remembered:
    """What a run left of its course; made into a timeline only when somebody asks.

    `began` is a Unix time. `order` has the indices of the rows as they ended, and until each of the `moments`, in
    seconds since the run began, as many of them as `counts` says. `looks` are what the run showed of itself.
    """

    began: float
    order: Sequence[int]
    moments: Sequence[float]
    counts: Sequence[int]
    looks: Sequence[Bucket]

    def timeline(self, outcomes: Mapping[int, Outcome[object]]) -> list[Bucket]:
        """Return the course of a run with these `outcomes`, by their index."""
        timeline, before, last = Timeline(self.looks), 0, 0.0
        for moment, count in zip(self.moments, self.counts, strict=True):
            for index in self.order[before:count]:
                outcome = outcomes[index]
                elapsed = (outcome.elapsed,) if outcome.attempts else ()
                timeline.ended((last + moment) / 2, {outcome.state: 1}, elapsed)
            before, last = count, moment
        return timeline.buckets


class History:
    """Takes notes while a run goes on; `ended` is called with the index of each row that ends.

    A run of less than a second costs nothing but these numbers.
    """

    __slots__ = (
        "_began",
        "_counts",
        "_loop",
        "_moments",
        "_order",
        "_sample",
        "_started",
        "_timeline",
        "_timer",
        "ended",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sample: Callable[[], Sample]) -> None:
        self._began = time.time()
        self._loop = loop
        self._sample = sample
        self._started = loop.time()
        self._order = array("Q")
        self._moments = array("d")
        self._counts = array("Q")
        self._timeline: Timeline | None = None
        self._timer = loop.call_later(_LOOK_EVERY, self._look)
        self.ended = self._order.append

    def __repr__(self) -> str:
        """Show how much there is."""
        return f"<History of {len(self._order)} rows in {len(self._moments)} seconds>"

    def _look(self) -> None:
        if self._timeline is None:
            self._timeline = Timeline()
        at = self._note()
        due = (at // _LOOK_EVERY + 1) * _LOOK_EVERY  # not a second from now: a look in each second, none left out
        self._timer = self._loop.call_at(self._started + due + _AFTER, self._look)
        self._timeline.sampled(at, self._sample())

    def _note(self) -> float:
        at = self._loop.time() - self._started
        self._moments.append(at)
        self._counts.append(len(self._order))
        return at

    def close(self) -> Remembered:
        """End it, and return what it has."""
        self._timer.cancel()
        at = self._note()
        if self._timeline is not None:
            self._timeline.sampled(at, self._sample())
        looks = [] if self._timeline is None else self._timeline.buckets
        return Remembered(self._began, self._order, self._moments, self._counts, looks)
