"""The journal of a bulk run: one SQLite file that lets a killed run simply be run again.

It holds the run's random id, a fingerprint of every row that ended, and the
row's outcome. Nothing needs to be written before a send, because the
``Request-ID`` of an update is derived from the run's id, the row's index and
what the row says. So after a crash a row either has an outcome, and is passed
over, or has none, and is sent (again) under the same id as before: the platform
tells a repeat by it. A row that was edited meanwhile gets another id, so it can
never be taken for a repeat of what stood there before.

What is recorded is what ended by itself. What was cut short by the end of the
run (a deadline, a cancellation, a refused token, a server out of reach) is not,
and the next run sends it.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import TYPE_CHECKING
from uuid import uuid4

import attrs

from altcraft_async.errors import InputChangedError, JournalError
from altcraft_async.journal.format import (
    KIND,
    NUMBERS,
    OPEN,
    SELECT_LINE_AND_KEY,
    STATES,
    Line,
    Replay,
    RunRecord,
    content_of,
    failure_of,
    id_prefix,
    line_of,
    outcome_of,
    request_id_of,
    sealed,
)
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.storage.sqlite import GroupWriter, Lock, insert_many, open_database, translated

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Sequence

    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.errors import InvalidUpdateError, StorageError
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["DedupWindowWarning", "Journal"]

_LINGER = 0.025
"""Seconds that outcomes are gathered for one commit: forty commits a second cost next to nothing, nobody notices
the wait, and a line with many updates still gets dozens of them through each second."""

_RETRIED = [NUMBERS[state] for state in (OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.NOT_SENT)]
_OVERTAKING = [NUMBERS[state] for state in (OutcomeState.APPLIED, OutcomeState.DUPLICATE, OutcomeState.UNKNOWN)]


class DedupWindowWarning(UserWarning):
    """A run is continued after the platform's deduplication window: its updates in doubt may be applied twice."""


class Journal:
    """Records one run at `path`, or goes on with the run recorded there; see `altcraft_async.engine.recorder.Recorder`.

    `target` is where the run sends to; a journal of a run against another one is
    refused. With `retry_failed`, and where every row of the input has an outcome,
    the lines that ended rejected, unknown or not sent are sent again: a rejected one
    under a new id, because an answer that is kept for the old one could only say the
    same; but a failed update that a newer one of its line has overtaken becomes
    ``superseded``. A run that has not finished is finished first: a newer update that is
    in doubt may have been applied, and the older one must not follow it. `extend` permits more
    rows than the input had when it was last read to its end. `dedup_window` is
    the platform's, in seconds.
    """

    __slots__ = (
        "_clock", "_connection", "_dedup_window", "_extend", "_lock", "_new_length", "_notifier", "_path", "_prefix",
        "_recalled", "_recorded", "_replay", "_resumes", "_retry_failed", "_rounds", "_run", "_target", "_writer",
    )  # fmt: skip

    _recorded: Callable[[Sequence[Outcome]], None]
    _recalled: Line
    _connection: sqlite3.Connection
    _replay: Replay
    _run: RunRecord
    _writer: GroupWriter[Outcome | None]

    doubt_ends_at = None  # a doubt lasts until the run ends

    def __init__(  # noqa: PLR0913 - the settings of a record
        self,
        path: str | os.PathLike[str],
        *,
        target: str,
        retry_failed: bool = False,
        extend: bool = False,
        dedup_window: float = 86_400.0,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = str(path)
        self._target = target
        self._retry_failed = retry_failed
        self._extend = extend
        self._dedup_window = dedup_window
        self._notifier = notifier
        self._clock = clock
        self._lock = Lock(KIND, self._path)
        self._rounds: dict[int, int] = {}
        self._new_length: int | None = None
        self._prefix = ""
        self._resumes = False

    def __repr__(self) -> str:
        """Show the file and the run."""
        return f"<Journal {self._path} of run {self._run.run_id if hasattr(self, '_run') else '(not open)'}>"

    # -- life

    async def open(self, recorded: Callable[[Sequence[Outcome]], None], failed: Callable[[StorageError], None]) -> None:
        """Lock and read the file, or make it.

        Raises `JournalError` where that cannot be. Warns, with `DedupWindowWarning`,
        where lines in doubt will be sent after the deduplication window.
        """
        self._recorded = recorded
        opening = asyncio.get_running_loop().run_in_executor(None, self._open)
        try:
            writing, counts, stale = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._discard)
            raise
        self._writer = GroupWriter(
            KIND,
            self._path,
            writing,
            write=self._write,
            committed=self._committed,
            failed=lambda error, _: failed(error),
            linger=_LINGER,
        )
        if self._notifier is not None:
            self._notifier.journal_opened(self._path, self._run.run_id, *counts)
        if stale is not None:
            try:
                warnings.warn(stale, DedupWindowWarning, stacklevel=2)
            except DedupWindowWarning:  # made an error by a filter
                await self.aclose()
                raise

    def _discard(self, opening: asyncio.Future[tuple[sqlite3.Connection, tuple[int, int], str | None]]) -> None:
        """Undo an opening that nobody waits for any more."""
        if opening.exception() is None:
            opening.result()[0].close()
        self._free()

    def _open(self) -> tuple[sqlite3.Connection, tuple[int, int], str | None]:
        """Do what blocks; return a writing connection, the counts of lines to tell of, and the warning that is due."""
        self._lock.acquire(f"the journal {self._path} is in use by another run; wait until that has ended")
        try:
            connection = self._connection = open_database(KIND, self._path)
            with translated(KIND, self._path):
                counts, stale = self._begin(connection)
            return open_database(KIND, self._path, check=False), counts, stale
        except BaseException:
            self._free()
            raise

    def _begin(self, connection: sqlite3.Connection) -> tuple[tuple[int, int], str | None]:
        known = RunRecord.read(connection, self._path)
        retried, recorded, stale = 0, 0, None
        if known is None:
            now = float(self._clock())
            self._run = RunRecord(str(uuid4()), self._target, now, now)
            self._run.write(connection, first=True)
            # Into the file itself, since a log whose beginning is damaged is a log without content.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            self._run, self._resumes = known, True
            if known.target != self._target:
                msg = (
                    f"the journal {self._path} records a run against {known.target}, not {self._target}; "
                    "give another journal, or the address of that run"
                )
                raise JournalError(msg, path=self._path)
            recorded = _recorded_lines(connection)
            if self._retry_failed and recorded == known.length:
                retried = self._reopen(connection)
                recorded = _recorded_lines(connection)
            if recorded != known.length:
                stale = self._staleness(self._clock() - known.written)
        self._prefix = id_prefix(self._run.run_id)
        self._replay = Replay(connection, self._path)
        return (recorded, retried), stale

    def _staleness(self, age: float) -> str | None:
        """Say what can happen where lines may be in doubt for longer than the platform remembers their ids."""
        if age <= self._dedup_window:
            return None
        return (
            f"the journal {self._path} was last written {age / 3600:.0f} hours ago, and the platform remembers a "
            f"Request-ID for {self._dedup_window / 3600:.0f}: an update that was under way then, and had been applied, "
            "is now applied a second time"
        )

    def _reopen(self, connection: sqlite3.Connection) -> int:
        """Open the failed lines again, all at once, except those that a newer update of their line has overtaken."""
        failed = [
            (Line(*row), key)
            for *row, key in connection.execute(f"{SELECT_LINE_AND_KEY} WHERE state IN ({_among(_RETRIED)})")
        ]
        connection.execute("CREATE TEMP TABLE failed_key (key BLOB PRIMARY KEY)")
        connection.executemany("INSERT OR IGNORE INTO failed_key VALUES (?)", [(key,) for _, key in failed])
        newest = dict(
            connection.execute(
                f"SELECT key, max(line) FROM line WHERE state IN ({_among(_OVERTAKING)}) "  # noqa: S608 - our own numbers
                "AND key IN (SELECT key FROM failed_key) GROUP BY key"
            ).fetchall()
        )
        connection.execute("DROP TABLE failed_key")
        changed = []
        for line, key in failed:
            overtaken = newest.get(key, -1) > line.line
            state = NUMBERS[OutcomeState.SUPERSEDED] if overtaken else OPEN
            refused = line.state == NUMBERS[OutcomeState.REJECTED] and not overtaken
            content = sealed(line.line, line.seal, line.state, line.round)
            seal = sealed(line.line, content, state, line.round + refused)
            changed.append((state, line.round + refused, seal, line.line))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE line SET state = ?, round = ?, seal = ? WHERE line = ?", changed)
        connection.executemany("DELETE FROM failure WHERE line = ?", [row[-1:] for row in changed])
        connection.execute("COMMIT")
        return sum(row[0] == OPEN for row in changed)

    async def aclose(self) -> None:
        """Commit what was recorded, close the file, free the lock; harmless when called again."""
        try:
            if hasattr(self, "_writer"):
                await self._writer.aclose()
        finally:
            self._free()

    def _free(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.release()

    # -- what ended before

    def recall(self, index: int, row: LineStatusUpdate | InvalidUpdateError) -> OutcomeState | None:
        """Return the state in which the row ended, or None where it is to be sent.

        Raises `InputChangedError` for a row that is not the one recorded, and for
        one beyond the end that the input had.
        """
        if index != self._replay.expected:
            length = self._run.length
            if length is not None and index >= length and not self._extend:
                msg = (
                    f"the input has more rows than the {length} that the journal {self._path} knows; "
                    "say that rows were appended (extend), or give another journal"
                )
                raise InputChangedError(msg, path=self._path, index=index)
            return None
        line = self._recalled = self._replay.match(index, row)
        if line.state == OPEN:
            self._rounds[index] = line.round
            return None
        return STATES[line.state]

    def ahead(self, index: int) -> int:
        """Return how many rows from `index` on can be passed over together."""
        return self._replay.ahead() if index == self._replay.expected else 0

    def skip(self, rows: Sequence[LineStatusUpdate | InvalidUpdateError]) -> None:
        """Pass over that many rows; raises `InputChangedError` for one that is not the one recorded."""
        self._replay.skip(rows)

    def recalled(self, row: LineStatusUpdate | InvalidUpdateError) -> Outcome:
        """Return the outcome of the row recalled last."""
        return outcome_of(self._connection, self._path, self._recalled, row, self._prefix)

    # -- what ends now

    def request_id(self, index: int, update: LineStatusUpdate) -> str:
        """Return the ``Request-ID`` of an update."""
        return request_id_of(self._prefix, index, content_of(update), self._rounds.get(index, 0))

    def asked_before(self, index: int) -> bool:
        """Say whether this goes on with a run, whose open updates may all have been sent."""
        del index
        return self._resumes

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Queue outcomes for the next commit."""
        for outcome in outcomes:
            self._writer.submit(outcome)

    def exhausted(self, rows: int) -> None:
        """Note the length of the input; raises `InputChangedError` where it is known to have more."""
        self._replay.end(rows)
        known = self._run.length
        if known is not None and rows < known:
            msg = (
                f"the input ends after {rows} rows, and the journal {self._path} knows that it has {known}; "
                "give the input as it was, or another journal"
            )
            raise InputChangedError(msg, path=self._path, index=rows)
        if rows != known:
            self._new_length = rows
            self._writer.submit(None)

    def _write(self, connection: sqlite3.Connection, group: Sequence[Outcome | None]) -> None:
        """Write a group. What is written is made here, all at once, which costs half of making it one by one."""
        now = float(self._clock())
        at = max(0, int(now - self._run.created))
        outcomes = [outcome for outcome in group if outcome is not None]
        lines = [line_of(outcome, self._rounds.pop(outcome.index, 0), at) for outcome in outcomes]
        insert_many(connection, "INSERT OR REPLACE INTO line", lines)
        failures = [failure_of(outcome) for outcome in outcomes if not outcome.ok]
        insert_many(connection, "INSERT OR REPLACE INTO failure", failures)
        length = self._run.length if self._new_length is None else self._new_length
        attrs.evolve(self._run, written=now, length=length).write(connection)

    def _committed(self, group: Sequence[Outcome | None]) -> None:
        self._recorded([outcome for outcome in group if outcome is not None])


def _among(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _recorded_lines(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM line WHERE state <> ?", (OPEN,)).fetchone()[0]
    return count
