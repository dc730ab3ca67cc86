"""The course of a run: when it was at work, when it paused, when nobody was served; pure.

A run may be continued days after it was stopped. Its own time leaves such pauses out: it goes on only while
the run is at work, so that a picture shows the work and not the nights between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from altcraft_async.timeline import Bucket

__all__ = ["Course", "Session"]

_PAUSE: Final = 5.0
"""Seconds without a bucket that are a pause; a run at work has one a second."""


@attrs.frozen
class Session:
    """A time at work without a pause, from `start` to `end`, in seconds since the run was created."""

    start: float
    end: float
    buckets: Sequence[Bucket] = attrs.field(repr=False)


@attrs.frozen
class Course:
    """The sessions of a run, in order."""

    sessions: Sequence[Session]

    @classmethod
    def of(cls, buckets: Iterable[Bucket], ended: float | None = None) -> Course:
        """Find the sessions in the buckets of a timeline; `ended` is when the last one did, where that is known."""
        sessions: list[list[Bucket]] = []
        for bucket in buckets:
            last = sessions[-1][-1] if sessions else None
            if last is None or bucket.start - last.start - last.width > max(_PAUSE, bucket.width):
                sessions.append([])
            sessions[-1].append(bucket)
        found = [Session(own[0].start, own[-1].start + own[-1].width, own) for own in sessions]
        if found and ended is not None and found[-1].start < ended < found[-1].end:
            found[-1] = attrs.evolve(found[-1], end=ended)
        return cls(found)

    @property
    def length(self) -> float:
        """The seconds at work."""
        return sum(session.end - session.start for session in self.sessions)

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """For each pause: after how many seconds of work it came, and how many seconds it lasted."""
        found, worked = [], 0.0
        for one, following in zip(self.sessions, self.sessions[1:], strict=False):
            worked += one.end - one.start
            found.append((worked, following.start - one.end))
        return found

    def worked(self, at: float) -> float:
        """Return the seconds of work until the moment `at`."""
        return sum(max(0.0, min(at, session.end) - session.start) for session in self.sessions)

    @property
    def outages(self) -> list[tuple[float, float]]:
        """From when to when, in seconds of work, nobody was served; right to the width of a bucket."""
        found: list[tuple[float, float]] = []
        for session in self.sessions:
            previous: Bucket | None = None
            for bucket in session.buckets:
                begin = self.worked(bucket.start)
                if not bucket.outage:
                    previous = None
                elif previous is not None:
                    found[-1] = (found[-1][0], begin + bucket.outage)
                else:
                    late = bucket.width - bucket.outage if self._goes_on(session, bucket) else 0.0
                    found.append((begin + late, begin + late + bucket.outage))
                previous = bucket if bucket.outage else None
        return found

    @staticmethod
    def _goes_on(session: Session, bucket: Bucket) -> bool:
        """Say whether an outage lasts beyond its first bucket, and so began late in it."""
        return any(other.start == bucket.start + bucket.width and other.outage for other in session.buckets)
