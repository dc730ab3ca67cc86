"""Rows of an input with the outcomes that a journal has of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self, cast

from altcraft_async.errors import InvalidUpdateError, JournalError
from altcraft_async.journal.format import KIND, LINE_STATUS, OPEN, Replay, RunRecord, outcome_of, recorded_rows
from altcraft_async.journal.seals import id_prefix
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.protocol.wire import row_codec
from altcraft_async.storage.sqlite import open_database, translated

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from altcraft_async.journal.seals import Fact, Row
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.wire import Format

__all__ = ["KeptRun", "joined", "run_of"]


def run_of(connection: sqlite3.Connection, path: str) -> RunRecord:
    """Read what is recorded of the run; raises `JournalError` if there is none yet."""
    with translated(KIND, path, write=False):
        run = RunRecord.read(connection, path)
    if run is None:
        msg = f"the journal {path} records no run yet; give another path"
        raise JournalError(msg, path=path)
    return run


def joined(connection: sqlite3.Connection, path: str, rows: Iterable[object]) -> Iterator[Outcome[object] | None]:
    """Give for each row its whole outcome, or None if it has none yet; see `JournalReader.joined`."""
    run = run_of(connection, path)
    prefix = id_prefix(run.run_id)
    replay = Replay(connection, path, run.length)
    index = -1
    for index, row in enumerate(_known(run, path, rows)):
        if index != replay.expected:
            yield None
            continue
        ended = replay.match(index, row)
        yield None if ended.state >= OPEN else outcome_of(connection, path, ended, row, prefix)
    replay.end(index + 1)


def _known(run: RunRecord, path: str, rows: Iterable[object]) -> Iterator[Row]:
    """Yield what a run's journal knows its rows by; those of imports are written as the run wrote them."""
    if run.method == LINE_STATUS:
        yield from cast("Iterable[Row]", rows)
        return
    from altcraft_async.engine.import_rows import row_reader  # noqa: PLC0415 - only journals of imports need it

    request_format: Format = "xml" if run.others.get("format") == "xml" else "json"
    read = row_reader(run.method, row_codec(request_format), int(run.others.get("row_bytes") or 0))
    for row in rows:
        if isinstance(row, LineStatusUpdate):
            msg = f"the journal {path} records a run of {run.method}, not of {LINE_STATUS}; give another journal"
            raise JournalError(msg, path=path)
        found = read(row)
        yield found if isinstance(found, InvalidUpdateError) else found[0]


class KeptRun:
    """A run of batches as its journal has it, for whoever asks what is left of it; a context manager.

    `ends` are the counts of rows after which its input ended. Raises `JournalError` if the run did something
    else than `method`, or had other `facts`.
    """

    __slots__ = ("_connection", "_path", "_run", "ends")

    def __init__(self, path: str | os.PathLike[str], method: str, facts: Mapping[str, Fact]) -> None:
        self._path = str(path)
        with contextlib.ExitStack() as opened:
            self._connection = opened.enter_context(contextlib.closing(open_database(KIND, self._path, write=False)))
            self._run = run_of(self._connection, self._path)
            self._run.check(self._path, method, facts)
            opened.pop_all()
        self.ends: Sequence[int] = self._run.ends

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def finished(self) -> bool:
        """Whether every row has an outcome."""
        with translated(KIND, self._path, write=False):
            return recorded_rows(self._connection) == self._run.length

    def joined(self, rows: Iterable[object]) -> Iterator[Outcome[object] | None]:
        """Give each row's outcome, as `joined` does."""
        return joined(self._connection, self._path, rows)
