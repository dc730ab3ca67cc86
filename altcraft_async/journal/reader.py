"""Reading the journal of a bulk run: its summary, outcomes, timeline and figures.

A run writes a journal if you give it one:

.. code-block:: python

    from altcraft_async.blocking import AltcraftClient

    updates = [("order_1", "line_1", "delivered")]
    with AltcraftClient.from_env() as altcraft:
        altcraft.market.orders.update_order_line_statuses(updates, journal="run.journal")

and `JournalReader` reads it, also while the run goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from altcraft_async.journal.format import (
    KIND,
    LINE_STATUS,
    OPEN,
    SELECT_ENDED,
    Ended,
    bucket_of,
    outcome_of,
)
from altcraft_async.journal.joining import joined, run_of
from altcraft_async.journal.notes import command_of
from altcraft_async.journal.recorder import DedupWindowWarning, LongerRowWarning
from altcraft_async.journal.seals import id_prefix
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.storage.lock import Lock
from altcraft_async.storage.sqlite import open_database, translated

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from altcraft_async.journal.format import RunRecord
    from altcraft_async.journal.notes import CommandNote
    from altcraft_async.outcome import Outcome
    from altcraft_async.report.figures import Figures
    from altcraft_async.report.reasons import Place
    from altcraft_async.timeline import Bucket

__all__ = ["DedupWindowWarning", "JournalReader", "JournalSummary", "LongerRowWarning", "Slow"]


@attrs.frozen
class JournalSummary:
    """The summary of a journal's run.

    `method` is the call that the run made for its rows, `facts` the other settings that must stay unchanged when it
    goes on: for an import ``batch_size``, ``batch_bytes`` and ``skip_triggers``, among others. `created` and `written`
    (the last commit of an outcome) are Unix times in seconds. `length` is the number of rows of the input, None until a
    run has read it to its end. `counts` has the recorded lines by state; another `reopened` failed ones will be sent
    again. `size` is the file's size in bytes. `in_use` is true while a run writes it. `command` is the command that
    made it, if `keep_command` was given one, as the command line does.
    """

    path: str
    run_id: str
    target: str
    created: float
    written: float
    length: int | None
    counts: Mapping[OutcomeState, int]
    reopened: int
    size: int
    in_use: bool
    method: str = LINE_STATUS
    facts: Mapping[str, str | float | None] = attrs.field(factory=dict, repr=False)
    command: CommandNote | None = None

    @property
    def recorded(self) -> int:
        """How many lines have an outcome."""
        return sum(self.counts.values())

    @property
    def finished(self) -> bool:
        """Whether every row of the input has an outcome."""
        return self.recorded == self.length

    @property
    def failed(self) -> int:
        """How many lines ended in a state that is not `OutcomeState.ok`."""
        return sum(count for state, count in self.counts.items() if not state.ok)


@attrs.frozen
class Slow:
    """One of the slowest rows: its `index`, the `elapsed` seconds from its first attempt to its end, the `attempts`."""

    index: int
    elapsed: float
    attempts: int


class JournalReader:
    """Reads the journal at `path`, of this format or an older one; a context manager.

    It never writes the file, and needs no right to. Raises `JournalError` if there is no journal, or if it cannot be
    read.
    """

    __slots__ = ("_connection", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self._connection = open_database(KIND, self.path, write=False)

    def __repr__(self) -> str:
        """Show the file."""
        return f"<JournalReader {self.path}>"

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; harmless when called again."""
        self._connection.close()

    def summary(self) -> JournalSummary:
        """Count what is recorded; reads the file once."""
        with translated(KIND, self.path, write=False):
            found = dict(self._connection.execute("SELECT state, count(*) FROM outcome GROUP BY state").fetchall())
        run = self._run()
        return JournalSummary(
            path=self.path,
            run_id=run.run_id,
            target=run.target,
            created=run.created,
            written=run.written,
            length=run.length,
            counts={state: found.get(state.number, 0) for state in OutcomeState},
            reopened=found.get(OPEN, 0),
            size=sum(_size(self.path + suffix) for suffix in ("", "-wal")),
            in_use=Lock(KIND, self.path).held(),
            method=run.method,
            facts=run.facts,
            command=command_of(self._connection, self.path),
        )

    def rounds(self) -> int:
        """Return how many times rejected rows of the input were sent again, over all its runs."""
        with translated(KIND, self.path, write=False):
            found = self._connection.execute("SELECT total(CAST(round AS INTEGER)) FROM outcome").fetchone()
        return int(found[0])

    def outcomes(self, *states: OutcomeState) -> Iterator[Outcome[object]]:
        """Yield the recorded outcomes of these states, or of all, by index.

        The journal keeps the ids of an update only if it failed; otherwise, and if the row was forgotten,
        `Outcome.update` and `Outcome.request_id` are None here. `joined` has them all.
        """
        wanted = ",".join(str(state.number) for state in states or OutcomeState)
        with translated(KIND, self.path, write=False):
            prefix = id_prefix(self._run().run_id)
            for row in self._connection.execute(f"{SELECT_ENDED} WHERE state IN ({wanted}) ORDER BY row"):
                yield outcome_of(self._connection, self.path, Ended(*row), None, prefix)

    def timeline(self) -> Sequence[Bucket]:
        """Return the history of all runs of the input: at most 240 buckets of one width, by their start.

        A kill can lose the last second. Outcomes that the first edition recorded are not in it.
        """
        with translated(KIND, self.path, write=False):
            found = self._connection.execute("SELECT start, width, facts FROM timeline ORDER BY start").fetchall()
        return [bucket_of(columns, self.path) for columns in found]

    def slowest(self) -> Sequence[Slow]:
        """Return the twenty rows that took longest from their first attempt to their end, the slowest first.

        A kill can lose the rows of the last second.
        """
        query = "SELECT row, elapsed, attempts FROM slowest ORDER BY elapsed DESC, row"
        with translated(KIND, self.path, write=False):
            found = self._connection.execute(query).fetchall()
        return [Slow(row, milliseconds / 1000, attempts) for row, milliseconds, attempts in found]

    def joined(self, rows: Iterable[object]) -> Iterator[Outcome[object] | None]:
        """Yield for each row of the run's input, in order, its whole outcome, or None if it has none yet.

        `rows` are the rows that were given to the run, for example from `altcraft_async.ingest.read_updates`, or from
        `read_values` for an import. Raises `InputChangedError` at the first row that differs from the recorded one.
        """
        return joined(self._connection, self.path, rows)

    def figures(self, places: Mapping[int, Place] | None = None, *, source: str | None = None) -> Figures:
        """Return the figures of a report: see `altcraft_async.report`; a second for some hundred thousand rows.

        `places` names rows by their index if the journal does not know them: it keeps only the ids of failures.
        `source` names the input in words; without it, the journal's path stands there.
        """
        from altcraft_async.journal.figures import figures_of  # noqa: PLC0415 - only reports need it

        return figures_of(self, self._connection, places or {}, source or self.path)

    def _run(self) -> RunRecord:
        return run_of(self._connection, self.path)


def _size(path: str) -> int:
    """Return a file's size; a log comes and goes beside its journal."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0
