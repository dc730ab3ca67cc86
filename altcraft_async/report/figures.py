"""The figures of a run: what a person asks first, and what pictures are drawn of; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

import attrs

from altcraft_async.protocol.states import OutcomeState
from altcraft_async.report.course import Course

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altcraft_async.protocol.values import JSON
    from altcraft_async.report.reasons import Place, Reason
    from altcraft_async.timeline import Bucket

__all__ = ["Facts", "Figures", "SlowRow"]


class Facts(TypedDict, total=False):
    """The figures that no outcome tells; see `Figures`."""

    source: str | None
    noun: str
    target: str | None
    began: float | None
    elapsed: float
    done_before: int
    waiting: int | None
    complete: bool
    stopped: str | None
    sent: int | None
    retries: int | None
    throttled: int | None
    timeline: Sequence[Bucket]


@attrs.frozen
class SlowRow:
    """One of the slowest rows: the `elapsed` seconds from its first attempt to its end, and its `attempts`."""

    place: Place
    elapsed: float
    attempts: int


@attrs.frozen(kw_only=True)
class Figures:
    """All figures of a run's report.

    `source` names the input, `noun` one row of it, and `target` the platform. `began` is a Unix time, `elapsed` the
    seconds at work, without the pauses between the runs of one journal. `states` counts the rows by their final state.
    `done_before` counts rows that were done before and of which no more is known, `waiting` those without an outcome
    yet, None if the number of rows is not known. `complete` says that the input was read to its end, `stopped` why it
    was not, in words. `sent`, `retries` and `throttled` count requests, None if they were not counted. `outage` is the
    number of seconds in which nobody was served, as far as `timeline` shows. `attempts` counts rows by their attempts.
    `timeline` is empty if nothing was sampled.
    """

    source: str | None = None
    noun: str = "update"
    target: str | None = None
    run_id: str | None = None
    began: float | None = None
    elapsed: float = 0.0
    states: Mapping[OutcomeState, int] = attrs.field(factory=dict)
    done_before: int = 0
    waiting: int | None = 0
    complete: bool = True
    in_use: bool = False
    stopped: str | None = None
    sent: int | None = None
    retries: int | None = None
    throttled: int | None = None
    reasons: Sequence[Reason] = ()
    attempts: Mapping[int, int] = attrs.field(factory=dict)
    slowest: Sequence[SlowRow] = ()
    timeline: Sequence[Bucket] = attrs.field(default=(), repr=lambda buckets: f"<{len(buckets)} buckets>")

    @property
    def total(self) -> int:
        """How many rows have an outcome here."""
        return sum(self.states.values())

    @property
    def failed(self) -> int:
        """How many of them did not arrive, or perhaps did not."""
        return sum(count for state, count in self.states.items() if not state.ok)

    @property
    def unknown(self) -> int:
        """How many of those may have arrived all the same."""
        return self.states.get(OutcomeState.UNKNOWN, 0)

    @property
    def finished(self) -> bool:
        """Whether every row has an outcome, as far as anybody knows."""
        return self.complete and not self.waiting and self.stopped is None

    @property
    def ok(self) -> bool:
        """Whether everything arrived."""
        return self.finished and not self.failed

    @property
    def rate(self) -> float | None:
        """How many rows had their turn in a second; None if that means nothing."""
        handled = self.total - self.states.get(OutcomeState.NOT_SENT, 0)
        return handled / self.elapsed if self.elapsed > 0 and handled else None

    @property
    def course(self) -> Course:
        """When the run was at work."""
        ends = None if len(Course.of(self.timeline).sessions) != 1 else self.timeline[0].start + self.elapsed
        return Course.of(self.timeline, ends)

    @property
    def outage(self) -> float:
        """For how many seconds nobody was served."""
        return sum(bucket.outage for bucket in self.timeline)

    def to_dict(self) -> dict[str, JSON]:
        """Return it ready for JSON; times are in seconds, `began` is in ISO 8601 too.

        Figures that the summary of ``sync --json`` has too have the same names here.
        """
        return {
            "ok": self.ok,
            "finished": self.finished,
            "in_use": self.in_use,
            "source": self.source,
            "noun": self.noun,
            "target": self.target,
            "run_id": self.run_id,
            "began": None if self.began is None else datetime.fromtimestamp(self.began, UTC).isoformat(),
            "elapsed": round(self.elapsed, 3),
            "updates": self.total,
            "done_before": self.done_before,
            "without_outcome": self.waiting,
            "complete": self.complete,
            "stopped": self.stopped,
            "failed": self.failed,
            "states": {str(state): count for state, count in self.states.items() if count},
            "rate": None if self.rate is None else round(self.rate, 3),
            "requests": self.sent,
            "retries": self.retries,
            "throttled": self.throttled,
            "outage": round(self.outage, 3),
            "pauses": [[round(after, 3), round(seconds, 3)] for after, seconds in self.course.pauses],
            "reasons": [_reason(reason) for reason in self.reasons],
            "attempts": {str(attempts): count for attempts, count in sorted(self.attempts.items())},
            "slowest": [
                {**_place(slow.place), "elapsed": round(slow.elapsed, 3), "attempts": slow.attempts}
                for slow in self.slowest
            ],
            "timeline": [_bucket(bucket) for bucket in self.timeline],
        }


def _place(place: Place) -> dict[str, JSON]:
    return {
        "index": place.index,
        "line": place.line,
        "unit": str(place.unit),
        "subject": place.subject,
        "status": place.status,
    }


def _reason(reason: Reason) -> dict[str, JSON]:
    return {
        "state": str(reason.state),
        "count": reason.count,
        "error": reason.error,
        "code": reason.code,
        "status": reason.status,
        "text": reason.text,
        "quoted": reason.quoted,
        "remedy": reason.remedy,
        "first": [_place(place) for place in reason.first],
    }


def _bucket(bucket: Bucket) -> dict[str, JSON]:
    median, p99 = bucket.latency(0.5), bucket.latency(0.99)
    return {
        "start": bucket.start,
        "width": bucket.width,
        "ended": {str(state): count for state, count in bucket.ended.items()},
        "requests": bucket.sent,
        "retries": bucket.retries,
        "throttled": bucket.throttled,
        "latency_median": None if median is None else round(median, 4),
        "latency_p99": None if p99 is None else round(p99, 4),
        "limit": None if bucket.limit is None else bucket.limit.last,
        "most_in_flight": None if bucket.in_flight is None else bucket.in_flight.most,
        "outage": round(bucket.outage, 3),
    }
