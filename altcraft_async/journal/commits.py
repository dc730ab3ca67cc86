"""What one commit of a journal writes. All of it happens on the writer's thread, which alone knows the timeline."""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import attrs

from altcraft_async.journal.format import KIND, OPEN, OVERTAKING, bucket_columns, bucket_of, columns_of, failure_of
from altcraft_async.journal.seals import sealed
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.storage.sqlite import insert_many, open_database, translated
from altcraft_async.timeline import Timeline

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Collection, MutableMapping, Sequence

    from altcraft_async.journal.format import RunRecord
    from altcraft_async.outcome import Outcome
    from altcraft_async.timeline import Sample

__all__ = ["Closing", "Commits", "Item", "Length", "Overtaken", "PutBack", "Sampled", "reopen", "reopen_failed"]

_HISTORY_EVERY = 1.0
"""Seconds between two writes of the timeline and of the slowest rows: what a kill can cost them."""

_SLOWEST = 20

_NUMBERS = {state: state.number for state in OutcomeState}

_RETRIED = ",".join(str(s.number) for s in (OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.NOT_SENT))
_REJECTED, _SUPERSEDED = OutcomeState.REJECTED.number, OutcomeState.SUPERSEDED.number


@attrs.frozen
class Sampled:
    """A look at the run, `at` a Unix time in seconds."""

    at: float
    sample: Sample


@attrs.frozen
class Length:
    """The input has that many `rows`."""

    rows: int


@attrs.frozen
class Overtaken:
    """Failed `rows`, and some that were `corrected`, were not sent, since a newer one of their line had been."""

    rows: Sequence[int]
    corrected: Sequence[Outcome[object]]


@attrs.frozen
class PutBack:
    """The rows that were to be sent again are what they were, all but those that were `sent`: the input was refused."""

    sent: Collection[int]


@attrs.frozen
class Closing:
    """Nothing follows."""


Item: TypeAlias = "tuple[Outcome[object], ...] | Sampled | Length | Overtaken | PutBack | Closing"
"""What is queued for a commit; a tuple of outcomes is a group, all of it in one commit."""


class Commits:
    """Writes the groups of one run.

    `rounds` has for each row that is sent again how often it was rejected; what is written is
    taken out of it. `corrected` are the rows that were invalid and are not any more. `clock` gives
    Unix time in seconds.
    """

    __slots__ = (
        "_clock", "_corrected", "_history_due", "_learned", "_rounds", "_run", "_slowest", "_slowest_changed",
        "_timeline",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a commit is made of
        self,
        connection: sqlite3.Connection,
        path: str,
        run: RunRecord,
        *,
        rounds: MutableMapping[int, int],
        corrected: Collection[int],
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._rounds = rounds
        self._corrected = corrected
        self._clock = clock
        with translated(KIND, path, write=False):
            buckets = connection.execute("SELECT start, width, facts FROM timeline").fetchall()
            slowest = connection.execute("SELECT row, elapsed, attempts FROM slowest").fetchall()
        self._timeline = Timeline(bucket_of(columns, path) for columns in buckets)
        self._history_due = 0.0
        self._learned = run.learned
        self._slowest = {row: (elapsed, attempts) for row, elapsed, attempts in slowest}
        self._slowest_changed = False

    def write(self, connection: sqlite3.Connection, group: Sequence[Item]) -> None:
        """Write a group. What is written is made here, all at once, which costs half of making it one by one."""
        now = float(self._clock())
        outcomes: list[Outcome[object]] = []
        length, closing = self._run.length, False
        for item in group:
            if type(item) is tuple:
                outcomes += item
            elif isinstance(item, Overtaken):
                _supersede(connection, item.rows, item.corrected)
            elif isinstance(item, Sampled):
                self._timeline.sampled(item.at - self._run.created, item.sample)
                self._learned = item.sample.learned or self._learned
            elif isinstance(item, Length):
                length = item.rows
            elif isinstance(item, PutBack):
                _put_back(connection, item.sent)
            else:
                closing = True
        if outcomes:
            self._write_outcomes(connection, outcomes, now - self._run.created)
        run = self._run.ended_at(length).with_apart(self._apart_in(group))
        if outcomes or run is not self._run:
            self._run = attrs.evolve(run, written=now)
            self._run.write_progress(connection)
        if closing or not 0.0 <= self._history_due - now <= _HISTORY_EVERY:  # also where the clock was set back
            self._history_due = now + _HISTORY_EVERY
            self._write_history(connection)

    def _apart_in(self, group: Sequence[Item]) -> set[int]:
        """Return which rows of a group were corrected: what is recorded of them now no longer tells."""
        if not self._corrected:
            return set()
        told: list[Sequence[Outcome[object]]] = [item for item in group if isinstance(item, tuple)]
        told += [item.corrected for item in group if isinstance(item, Overtaken)]
        return {one.index for outcomes in told for one in outcomes if one.index in self._corrected}

    def _write_outcomes(self, connection: sqlite3.Connection, outcomes: Sequence[Outcome[object]], at: float) -> None:
        seconds, rounds = max(0, int(at)), self._rounds
        if rounds:
            sent_again = [(outcome.index,) for outcome in outcomes if outcome.index in rounds and outcome.ok]
            connection.executemany("DELETE FROM failure WHERE row = ?", sent_again)
        numbers = [_NUMBERS[outcome.state] for outcome in outcomes]
        rows = [
            columns_of(outcome, number, rounds.pop(outcome.index, 0), seconds)
            for outcome, number in zip(outcomes, numbers, strict=True)
        ]
        insert_many(connection, "INSERT OR REPLACE INTO outcome", rows)
        failures = [failure_of(outcome) for outcome in outcomes if not outcome.ok]
        insert_many(connection, "INSERT OR REPLACE INTO failure", failures)
        counts = {OutcomeState.of_number(number): count for number, count in Counter(numbers).items()}
        self._timeline.ended(at, counts, [outcome.elapsed for outcome in outcomes if outcome.attempts])
        self._note_slowest(outcomes)

    def _note_slowest(self, outcomes: Sequence[Outcome[object]]) -> None:
        known = self._slowest
        least = min(known.values())[0] if len(known) >= _SLOWEST else -1
        shortest = (least + 0.5) / 1000
        slow = {
            outcome.index: (round(outcome.elapsed * 1000), outcome.attempts)
            for outcome in outcomes
            if (outcome.elapsed >= shortest or outcome.index in known) and outcome.attempts
        }
        if slow:
            self._slowest = dict(heapq.nlargest(_SLOWEST, (known | slow).items(), key=lambda entry: entry[1]))
            self._slowest_changed = True

    def _write_history(self, connection: sqlite3.Connection) -> None:
        if self._learned != self._run.learned:
            self._run = self._run.with_learned(self._learned)
            self._run.write_progress(connection)
        changes = self._timeline.take_changes()
        if changes.all:
            connection.execute("DELETE FROM timeline")
        insert_many(connection, "INSERT OR REPLACE INTO timeline", list(map(bucket_columns, changes.buckets)))
        if self._slowest_changed:
            self._slowest_changed = False
            connection.execute("DELETE FROM slowest")
            insert_many(connection, "INSERT INTO slowest", [(row, *effort) for row, effort in self._slowest.items()])


def reopen(connection: sqlite3.Connection) -> int:
    """Have the failed rows sent again, all in one transaction, and return how many.

    Left as they are: those that a newer row of their line has overtaken. What is recorded
    of a failure stays until the row's new outcome replaces it.
    """
    connection.create_function("sealed", 4, sealed, deterministic=True)
    connection.execute("CREATE TEMP TABLE newest (key BLOB PRIMARY KEY, row INTEGER NOT NULL)")
    connection.execute(
        f"INSERT INTO newest SELECT key, max(row) FROM outcome WHERE state IN ({OVERTAKING}) "  # noqa: S608 - our own
        f"AND key IN (SELECT key FROM outcome WHERE state IN ({_RETRIED})) GROUP BY key"
    )
    changed = connection.execute(
        f"UPDATE outcome SET seal = {_resealed('state', 'round', str(OPEN), f'round + (state = {_REJECTED})')}, "  # noqa: S608
        f"round = round + (state = {_REJECTED}), state = {OPEN} WHERE state IN ({_RETRIED}) "
        "AND row >= coalesce((SELECT newest.row FROM newest WHERE newest.key = outcome.key), -1)"
    )
    connection.execute("DROP TABLE newest")
    return changed.rowcount


def reopen_failed(path: str | os.PathLike[str]) -> None:
    """Have the failed rows of a journal that nobody writes sent again, as `retry_failed` does when a run begins.

    Raises `JournalError` if the file cannot be read or written.
    """
    with contextlib.closing(open_database(KIND, str(path))) as connection, translated(KIND, str(path)):
        reopen(connection)


def _supersede(connection: sqlite3.Connection, rows: Sequence[int], corrected: Sequence[Outcome[object]]) -> None:
    """Let rows be superseded, and forget their failures."""
    connection.create_function("sealed", 4, sealed, deterministic=True)
    seal = _resealed("state", "round", str(_SUPERSEDED), "round")
    which = [(row,) for row in rows]
    connection.executemany(f"UPDATE outcome SET seal = {seal}, state = {_SUPERSEDED} WHERE row = ?", which)  # noqa: S608
    insert_many(connection, "INSERT OR REPLACE INTO outcome", [columns_of(one, _SUPERSEDED, 0, 0) for one in corrected])
    which += [(one.index,) for one in corrected]
    connection.executemany("DELETE FROM failure WHERE row = ?", which)


def _put_back(connection: sqlite3.Connection, sent: Collection[int]) -> None:
    """Undo `reopen`, but for the rows that were sent."""
    connection.create_function("sealed", 4, sealed, deterministic=True)
    round_ = f"round - (failure.state = {_REJECTED})"
    connection.execute(
        "INSERT OR REPLACE INTO outcome "  # noqa: S608 - our own numbers
        f"SELECT row, key, {_resealed(str(OPEN), 'round', 'failure.state', round_)}, failure.state, {round_}, "
        f"attempts, elapsed, at FROM outcome JOIN failure USING (row) WHERE outcome.state = {OPEN} "
        f"AND row NOT IN ({','.join(map(str, sent))})"
    )


def _resealed(state: str, round_: str, new_state: str, new_round: str) -> str:
    """Return what gives the seal of a row with another state and round, from the seal that it has."""
    content = f"sealed(row, CAST(seal AS INTEGER), {state}, CAST({round_} AS INTEGER))"
    return f"sealed(row, {content}, {new_state}, CAST({new_round} AS INTEGER))"
