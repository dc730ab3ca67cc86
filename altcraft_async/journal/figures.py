"""The figures of a run, out of its journal: four passes over the file, and memory for what is shown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from altcraft_async.journal.format import KIND, LINE_STATUS, OPEN, SELECT_ENDED, Ended, outcome_of
from altcraft_async.journal.seals import id_prefix
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.report.course import Course
from altcraft_async.report.figures import Figures, SlowRow
from altcraft_async.report.reasons import ROWS, Place, Reasons, place_of
from altcraft_async.storage.sqlite import damaged, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from altcraft_async.journal.reader import JournalReader, JournalSummary, Slow
    from altcraft_async.outcome import Outcome
    from altcraft_async.report.reasons import Reason
    from altcraft_async.timeline import Bucket

__all__ = ["figures_of"]

_DIFFERENT: Final = 500
"""Different failures that are looked at one by one; of more, only the kinds are counted."""

_IDS: Final = ("order_line_external_id", "order_external_id", "external_id")
_TEXT: Final = "coalesce(nullif(json_extract(facts, '$.text'), ''), json_extract(facts, '$.message'))"
_FAILURES: Final = f"""
    SELECT row, state, error, json_extract(facts, '$.code'), json_extract(facts, '$.status'),
    {"replace(" * len(_IDS)}{_TEXT}{"".join(f", coalesce(json_extract(content, '$.{one}'), ''), '…')" for one in _IDS)}
    FROM failure
"""  # noqa: S608 - our own names
"""The failures, their texts roughly without the ids of their rows: enough to tell which of them are alike."""
_BUT_THE_OPEN: Final = f" WHERE row NOT IN (SELECT row FROM outcome WHERE state = {OPEN})"  # noqa: S608 - our own number
"""What is recorded of a failure stays until its row, which is to be sent again, has another outcome."""


def figures_of(
    reader: JournalReader, connection: sqlite3.Connection, places: Mapping[int, Place], source: str
) -> Figures:
    """Return the figures of a run; see `JournalReader.figures`."""
    summary, timeline = reader.summary(), reader.timeline()
    counted = any(bucket.sent for bucket in timeline)
    left = None if summary.length is None else max(0, summary.length - summary.recorded)
    return Figures(
        source=source,
        noun="update" if summary.method == LINE_STATUS else "row",
        target=summary.target,
        run_id=summary.run_id,
        began=summary.created,
        elapsed=_elapsed(summary, timeline),
        states={state: count for state, count in summary.counts.items() if count},
        waiting=left,
        complete=summary.length is not None,
        in_use=summary.in_use,
        sent=sum(bucket.sent for bucket in timeline) if counted else None,
        retries=sum(bucket.retries for bucket in timeline) if counted else None,
        throttled=sum(bucket.throttled for bucket in timeline) if counted else None,
        reasons=_reasons(connection, summary, places),
        attempts=_attempts(connection, reader.path),
        slowest=_slowest(connection, summary, reader.slowest(), places),
        timeline=timeline,
    )


def _elapsed(summary: JournalSummary, timeline: Sequence[Bucket]) -> float:
    """Return the seconds at work; a journal of the first edition knows only from when to when."""
    whole = max(0.0, summary.written - summary.created)
    if timeline:  # a run that was killed in an outage was at work after its last outcome
        whole = max(whole, float(timeline[-1].start))
    course = Course.of(timeline, whole)
    return course.length if len(course.sessions) > 1 else whole


def _attempts(connection: sqlite3.Connection, path: str) -> dict[int, int]:
    query = "SELECT CAST(attempts AS INTEGER), count(*) FROM outcome WHERE state <> ? GROUP BY 1"
    with translated(KIND, path, write=False):
        return dict(connection.execute(query, (OPEN,)).fetchall())


def _reasons(connection: sqlite3.Connection, summary: JournalSummary, places: Mapping[int, Place]) -> list[Reason]:
    """Count equal failures first, so that only the first few of a million must be made again."""
    counts: Counter[tuple[int, str, int | None, int | None, str | None]] = Counter()
    first: dict[tuple[int, str, int | None, int | None, str | None], list[int]] = {}
    with translated(KIND, summary.path, write=False):
        query = _FAILURES + (_BUT_THE_OPEN if summary.reopened else "") + " ORDER BY row"
        for row, state, error, code, status, text in connection.execute(query):
            key = (state, error, code, status, text)
            if key not in counts and len(counts) >= _DIFFERENT:
                key = (state, error, code, status, None)
            counts[key] += 1
            if counts[key] <= ROWS:
                first.setdefault(key, []).append(row)
    reasons = Reasons()
    for key, count in counts.items():
        rows = first[key]
        if key[-1] is None:
            reasons.more_like(_state(key[0], summary.path), *key[1:4], count=count)
            continue
        for nth, row in enumerate(rows):
            outcome = _outcome(connection, summary, row)
            if outcome is not None:
                reasons.add(outcome, places.get(row) or place_of(outcome), 1 if nth else count - len(rows) + 1)
    return reasons.found()


def _state(number: int, path: str) -> OutcomeState:
    try:
        return OutcomeState.of_number(number)
    except LookupError:
        raise damaged(KIND, path) from None


def _slowest(
    connection: sqlite3.Connection, summary: JournalSummary, slowest: Sequence[Slow], places: Mapping[int, Place]
) -> list[SlowRow]:
    """Name the slowest rows: by whoever knows them, else by what is recorded, which has the ids of failures only."""
    found = []
    for slow in slowest:
        place = places.get(slow.index)
        if place is None:
            outcome = _outcome(connection, summary, slow.index)
            place = Place(slow.index) if outcome is None else place_of(outcome)
        found.append(SlowRow(place, slow.elapsed, slow.attempts))
    return found


def _outcome(connection: sqlite3.Connection, summary: JournalSummary, row: int) -> Outcome[object] | None:
    """Read the outcome of a row, None for one that is to be sent again, perhaps since a moment ago."""
    with translated(KIND, summary.path, write=False):
        found = connection.execute(f"{SELECT_ENDED} WHERE row = ?", (row,)).fetchone()
    if found is None or found[2] >= OPEN:
        return None
    return outcome_of(connection, summary.path, Ended(*found), None, id_prefix(summary.run_id))
