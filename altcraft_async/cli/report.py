"""Reports of runs as files: what ``--report`` writes at the end of a run, and the command ``report``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Final, Self, Unpack

import attrs

from altcraft_async import JournalError
from altcraft_async.cli.exits import ExitCode
from altcraft_async.cli.inputs import named_in
from altcraft_async.cli.results import RecordFile, refuse_clashes
from altcraft_async.cli.talk import complain, tidy
from altcraft_async.errors import Unit
from altcraft_async.journal import JournalReader
from altcraft_async.report import Recording, page
from altcraft_async.report.page import check_extra
from altcraft_async.report.reasons import place_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from altcraft_async import AltcraftClient, Outcome
    from altcraft_async.cli.inputs import Input
    from altcraft_async.ingest import KeptRow, UpdateReader
    from altcraft_async.report import Figures, Place
    from altcraft_async.report.figures import Facts

__all__ = ["ReportFile", "of_journal"]

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the client, which is the width of a timeline's finest bucket."""
_AFTER: Final = 0.01
"""Seconds after such a bucket's begin: a timer may be early by a little."""


class ReportFile:
    """The report of one run, which is written when that has ended; a context manager.

    Raises `MissingExtraError` or `ConfigurationError`, before anything is sent, where it could not be written.
    """

    __slots__ = ("_began", "_done_before", "_file", "_recording", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        if not _is_json(path):
            check_extra()
        self._file = RecordFile(path, at_end=True)
        self._began = time.time()
        self._recording = Recording(time.monotonic())

    def __enter__(self) -> Self:
        """Give it."""
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file; one that was made for a run that did not come about is removed."""
        self._file.__exit__(*error)

    def take(self, outcome: Outcome[object], row: KeptRow | None, *, recalled: bool) -> None:
        """Take an outcome; a `recalled` one is of an earlier run, and ended in none of this one's seconds."""
        line, unit = (None, Unit.LINE) if row is None else (row.line, row.unit)
        if recalled:
            self._recording.take(outcome, line=line, unit=unit)
        else:
            self._recording.add(time.monotonic(), outcome, line=line, unit=unit)

    @contextlib.asynccontextmanager
    async def looking(self, client: AltcraftClient) -> AsyncIterator[None]:
        """Look at the client while the body runs, and at its end."""
        task = asyncio.create_task(self._look_on(client))
        try:
            yield
        finally:
            task.cancel()
            self._recording.look(time.monotonic(), client.statistics())

    async def _look_on(self, client: AltcraftClient) -> None:
        """Look at the begin of each second of the timeline, so that none is left out."""
        while True:
            now = time.monotonic()
            self._recording.look(now, client.statistics())
            await asyncio.sleep(_LOOK_EVERY + _AFTER - (now - self._recording.began) % _LOOK_EVERY)

    def figures(self, **facts: Unpack[Facts]) -> Figures:
        """Return the figures of this run alone."""
        facts["began"] = self._began
        return self._recording.figures(**facts)

    def figures_by(self, journal: str, *, source: str, stopped: str | None) -> Figures:
        """Return the figures of all runs that a journal has; `stopped` says what ended the last one early."""
        with JournalReader(journal) as reader:
            return attrs.evolve(reader.figures(self._recording.places), source=source, stopped=stopped)

    def write(self, figures: Figures) -> str | None:
        """Write the report; return why it could not be, None where it was."""
        self._file.start()
        self._file.write(_rendered(figures, as_json=_is_json(self.path)))
        self._file.complete()
        return self._file.problem


def of_journal(path: str, output: str, source: Input | None, *, as_json: bool) -> int:
    """Write the report of the run that a journal records, and return the exit code."""
    refuse_clashes(**{"input": None if source is None else source.source, "the journal": path, "--output": output})
    as_json = as_json or _is_json(output)
    if not as_json:
        check_extra()
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(JournalReader(path))
        places: dict[int, Place] = {}
        if source is not None:
            reader = stack.enter_context(source.open())
            places = _places(journal, reader)
        file = stack.enter_context(RecordFile(output, at_end=True))
        file.start()
        file.write(_rendered(journal.figures(places), as_json=as_json))
        file.complete()
        if file.problem is not None:
            complain(tidy(f"Error: {file.problem}"))
            return ExitCode.NOT_ALL_APPLIED
    return ExitCode.OK


def _places(journal: JournalReader, reader: UpdateReader) -> dict[int, Place]:
    """Name the rows that a report shows by the input; raises `JournalError` where that is not the run's."""
    wanted = {slow.index for slow in journal.slowest()}
    wanted |= {place.index for reason in journal.figures().reasons for place in reason.first}
    places = {}
    try:
        for index, outcome in enumerate(journal.joined(reader)):
            row = reader.take_row(index)
            if index in wanted and outcome is not None:
                places[index] = place_of(outcome) if row is None else place_of(outcome, row.line, row.unit)
    except JournalError as error:
        raise named_in(error, reader) from None
    return places


def _is_json(path: str) -> bool:
    return path.lower().endswith(".json")


def _rendered(figures: Figures, *, as_json: bool) -> bytes:
    if as_json:
        return json.dumps(figures.to_dict(), indent=1).encode() + b"\n"
    return page(figures).encode()
