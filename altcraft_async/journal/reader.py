"""Reading the journal of a bulk run: what a person, or a program, wants to know of it.

A run writes its journal where it is given one:

.. code-block:: python

    report = await altcraft.market.orders.update_order_line_statuses(updates, journal="run.journal")

and `JournalReader` reads it, also while the run goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from altcraft_async.errors import JournalError
from altcraft_async.journal.format import (
    KIND,
    NUMBERS,
    OPEN,
    SELECT_LINE,
    STATES,
    Line,
    Replay,
    RunRecord,
    id_prefix,
    outcome_of,
)
from altcraft_async.journal.recorder import DedupWindowWarning
from altcraft_async.storage.sqlite import Lock, open_database, translated

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.states import OutcomeState
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["DedupWindowWarning", "JournalReader", "JournalSummary"]


@attrs.frozen
class JournalSummary:
    """What a journal says of its run.

    `created` and `written` (the last commit) are Unix times in seconds. `length`
    is how many rows the input has, None until a run has read it to its end.
    `counts` has the recorded lines by state; `reopened` failed ones beside them are
    to be sent again. `size` is the file's in bytes. `in_use` is true while a run
    writes it.
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


class JournalReader:
    """Reads the journal at `path`; a context manager.

    Raises `JournalError` where there is none, or where it cannot be read.
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
        with translated(KIND, self.path):
            found = dict(self._connection.execute("SELECT state, count(*) FROM line GROUP BY state").fetchall())
        run = self._run()
        return JournalSummary(
            path=self.path,
            run_id=run.run_id,
            target=run.target,
            created=run.created,
            written=run.written,
            length=run.length,
            counts={state: found.get(number, 0) for number, state in enumerate(STATES)},
            reopened=found.get(OPEN, 0),
            size=sum(_size(self.path + suffix) for suffix in ("", "-wal")),
            in_use=Lock(KIND, self.path).held(),
        )

    def outcomes(self, *states: OutcomeState) -> Iterator[Outcome[object]]:
        """Give the recorded outcomes of these states, or of all, by index.

        The journal keeps the ids of an update only where it failed; elsewhere
        `Outcome.update` and `Outcome.request_id` are None here. `joined` has them all.
        """
        wanted = ",".join(str(NUMBERS[state]) for state in states or STATES)
        with translated(KIND, self.path):
            prefix = id_prefix(self._run().run_id)
            for row in self._connection.execute(f"{SELECT_LINE} WHERE state IN ({wanted}) ORDER BY line"):
                yield outcome_of(self._connection, self.path, Line(*row), None, prefix)

    def joined(self, rows: Iterable[LineStatusUpdate | InvalidUpdateError]) -> Iterator[Outcome[object] | None]:
        """Give for each row of the run's input, in order, its whole outcome, or None where it has none yet.

        `rows` are what `altcraft_async.ingest.read_updates` gives. Raises
        `InputChangedError` at the first row that is not the one recorded.
        """
        prefix = id_prefix(self._run().run_id)
        replay = Replay(self._connection, self.path)
        index = -1
        for index, row in enumerate(rows):
            if index != replay.expected:
                yield None
                continue
            line = replay.match(index, row)
            yield None if line.state == OPEN else outcome_of(self._connection, self.path, line, row, prefix)
        replay.end(index + 1)

    def _run(self) -> RunRecord:
        with translated(KIND, self.path):
            run = RunRecord.read(self._connection, self.path)
        if run is None:
            msg = f"the journal {self.path} records no run yet; give another path"
            raise JournalError(msg, path=self.path)
        return run


def _size(path: str) -> int:
    """Return a file's size; a log comes and goes beside its journal."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0
