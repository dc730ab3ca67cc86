"""What a report needs of a run, collected outcome by outcome in memory that does not grow with it; pure."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Final, Unpack

from altcraft_async.errors import Unit
from altcraft_async.report.figures import Figures, SlowRow
from altcraft_async.report.reasons import Place, Reasons, place_of
from altcraft_async.timeline import Sample, Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.states import OutcomeState
    from altcraft_async.report.figures import Facts

    class Statistics(Protocol):
        """What is read of `altcraft_async.ClientStatistics`."""

        @property
        def sent(self) -> int: ...
        @property
        def retries(self) -> int: ...
        @property
        def throttled(self) -> int: ...
        @property
        def limit(self) -> int: ...
        @property
        def in_flight(self) -> int: ...
        @property
        def outage(self) -> float | None: ...


__all__ = ["Collection", "Recording"]

_SLOWEST: Final = 20
_KNOWN_BY_NAME: Final = 100
"""Slow rows that are remembered: a journal, which counts milliseconds, may take others of them for the slowest."""


class Collection:
    """What outcomes say together, whenever they ended."""

    __slots__ = ("_attempts", "_reasons", "_slowest", "_states")

    def __init__(self) -> None:
        self._states: Counter[OutcomeState] = Counter()
        self._attempts: Counter[int] = Counter()
        self._reasons = Reasons()
        self._slowest: list[tuple[float, int, int, Place]] = []

    def __repr__(self) -> str:
        """Show how many there were."""
        return f"<{type(self).__name__} of {self._states.total():,} outcomes>"

    def take(self, outcome: Outcome[object], *, line: int | None = None, unit: Unit = Unit.LINE) -> None:
        """Count an outcome; `line` is its row's in the input, where there is one, counted in `unit`."""
        self._states[outcome.state] += 1
        self._attempts[outcome.attempts] += 1
        if not outcome.state.ok:
            self._reasons.add(outcome, place_of(outcome, line, unit))
        slowest = self._slowest
        if outcome.attempts and (len(slowest) < _KNOWN_BY_NAME or outcome.elapsed > slowest[0][0]):
            entry = (outcome.elapsed, -outcome.index, outcome.attempts, place_of(outcome, line, unit))
            heapq.heappush(slowest, entry) if len(slowest) < _KNOWN_BY_NAME else heapq.heappushpop(slowest, entry)

    @property
    def places(self) -> Mapping[int, Place]:
        """The slowest rows by their index, some more, and those that are shown with a reason."""
        first = {place.index: place for reason in self._reasons.found() for place in reason.first}
        return first | {place.index: place for *_, place in self._slowest}

    def figures(self, **facts: Unpack[Facts]) -> Figures:
        """Return the figures; `facts` are those that outcomes do not tell, by the names of `Figures`."""
        slowest = [
            SlowRow(place, elapsed, attempts) for elapsed, _, attempts, place in heapq.nlargest(_SLOWEST, self._slowest)
        ]
        return Figures(
            states=dict(self._states),
            attempts=dict(self._attempts),
            reasons=self._reasons.found(),
            slowest=slowest,
            **facts,
        )


class Recording(Collection):
    """A collection that knows when outcomes came, for pictures over time.

    Give it each outcome as it comes, and about once a second the client's statistics. Moments are in seconds of one
    clock, like `time.monotonic`; `began` is the run's first moment.
    """

    __slots__ = ("_last", "_timeline", "began")

    def __init__(self, began: float) -> None:
        super().__init__()
        self.began = began
        self._last: Statistics | None = None
        self._timeline = Timeline()

    def add(self, at: float, outcome: Outcome[object], *, line: int | None = None, unit: Unit = Unit.LINE) -> None:
        """Take an outcome that came at the moment `at`."""
        self.take(outcome, line=line, unit=unit)
        self._timeline.ended(at - self.began, {outcome.state: 1}, (outcome.elapsed,) if outcome.attempts else ())

    def look(self, at: float, statistics: Statistics) -> None:
        """Record the client's statistics at the moment `at`."""
        self._last = statistics
        sample = Sample(
            statistics.sent,
            statistics.retries,
            statistics.throttled,
            statistics.limit,
            statistics.in_flight,
            outage=statistics.outage is not None,
        )
        self._timeline.sampled(at - self.began, sample)

    def figures(self, **facts: Unpack[Facts]) -> Figures:
        """Return the figures with the timeline, and with the requests that were counted at the last look."""
        known: Facts = {"timeline": self._timeline.buckets}
        if self._last is not None:
            known |= {"sent": self._last.sent, "retries": self._last.retries, "throttled": self._last.throttled}
        known |= facts
        return super().figures(**known)
