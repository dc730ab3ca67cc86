"""Where the outcomes of ``sync`` go, and what is noted beside them."""

from __future__ import annotations

import contextlib
import heapq
from pathlib import Path
from typing import TYPE_CHECKING

from altcraft_async import JournalError, RunStoppedError
from altcraft_async.cli.exits import Tally
from altcraft_async.cli.inputs import INPUT_OPTIONS, command_again
from altcraft_async.errors import AuthenticationError, DeadlineError, PermissionDeniedError, TransportError
from altcraft_async.ingest import InputError
from altcraft_async.journal import CommandNote, keep_command
from altcraft_async.observe import JournalOpened, UpdateSettled, UpdatesSkipped

if TYPE_CHECKING:
    from collections.abc import Container

    from altcraft_async import Outcome
    from altcraft_async.cli.display import Talk
    from altcraft_async.cli.report import ReportFile
    from altcraft_async.cli.results import RecordFile, ResultsFile
    from altcraft_async.ingest import UpdateReader
    from altcraft_async.observe import Event

__all__ = ["Sink", "Watcher"]


class Watcher:
    """Takes note of what the client tells beside the stream of outcomes.

    ``waiting`` has the outcomes that the stream has not yielded yet, ``opened`` what was
    told of the journal. Rows that a journal skips are counted, and kept no longer.
    """

    __slots__ = ("_reader", "_talk", "opened", "tally", "waiting")

    def __init__(self, reader: UpdateReader, talk: Talk) -> None:
        self._reader = reader
        self._talk = talk
        self.tally = Tally()
        self.waiting: dict[int, Outcome[object]] = {}
        self.opened: JournalOpened | None = None

    @property
    def continues(self) -> bool:
        """Whether the journal has anything of an earlier run."""
        return self.opened is not None and self.opened.recorded + self.opened.retried > 0

    def journal_facts(self) -> dict[str, object] | None:
        """Give what there is to tell of the journal to programs."""
        opened = self.opened
        if opened is None:
            return None
        return {
            "path": opened.path,
            "run_id": opened.run_id,
            "continued": self.continues,
            "recorded_before": opened.recorded,
            "failed_before": self.tally.recalled,
            "sent_again": opened.retried,
        }

    def on_event(self, event: Event, /) -> None:
        """Keep an update's outcome, and what the journal is about."""
        if type(event) is UpdateSettled:
            self.waiting[event.outcome.index] = event.outcome
        elif type(event) is UpdatesSkipped:
            self.tally.done_before += event.count
            self._reader.drop_rows(event.first, event.count)
        elif type(event) is JournalOpened:
            self.opened = event
            said = "a run goes on" if self.continues else "a new run begins"
            said += f"; rows that have ended: {event.recorded:,}" if self.continues else ""
            said += f", failed ones that are sent again: {event.retried:,}" if event.retried else ""
            self._talk.say(f"Journal {event.path}: {said}.")
            self._note_command(event.path)

    def _note_command(self, path: str) -> None:
        """Let ``journal show`` say how to go on, also where this run is killed; it is no reason to end one."""
        note = CommandNote(command_again(without=("limit",)), command_again(only=INPUT_OPTIONS), str(Path.cwd()))
        with contextlib.suppress(JournalError, OSError):
            keep_command(path, note)


class Sink:
    """Where outcomes go: the tally, the report, the results file, and for a failure its row to the failed file.

    Outcomes come as they end; the failed file has its rows in input order all
    the same, so that feeding it again keeps the order of every line. A failed
    row therefore waits until all rows before it have ended.

    `by_journal` says that a journal decides what has failed: an update that was only
    cut short is none, since the next run sends it. Once one was cut short, or may have
    been (``doubtful``), failures wait for `finish_by`.

    The files keep what they hold until `start`, which the first outcome makes
    at the latest; with a journal the failed file keeps it until `finish_by`: a run that a journal
    refuses leaves those of the run before alone. ``uncopied`` says why not all unread rows could be copied.
    """

    __slots__ = (
        "_by_journal", "_failed", "_held", "_reader", "_report", "_results", "_started", "_watcher", "doubtful",
        "tally", "uncopied",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - one for each file
        self,
        reader: UpdateReader,
        watcher: Watcher,
        results: ResultsFile | None,
        failed: RecordFile | None,
        *,
        by_journal: bool,
        report: ReportFile | None = None,
    ) -> None:
        self._reader = reader
        self._watcher = watcher
        self._results = results
        self._failed = failed
        self._by_journal = by_journal
        self._report = report
        self._held: list[tuple[int, bytes]] = []
        self._started = False
        self.doubtful = False
        self.uncopied: InputError | None = None
        self.tally = watcher.tally

    @property
    def problem(self) -> str | None:
        """Why a file could not be written, or None."""
        return next((file.problem for file in (self._results, self._failed) if file and file.problem), None)

    @property
    def failed_is_whole(self) -> bool:
        """Whether there is a failed file that has all that it should have."""
        return self._failed is not None and self._failed.problem is None

    def start(self) -> None:
        """Begin the files: anew, but the results of a run that is continued at their end."""
        if self._started:
            return
        self._started = True
        if self._results is not None:
            self._results.start(keep=self._watcher.continues)
        if self._failed is not None:
            self._failed.start()
            self._failed.write(self._reader.header)

    def take(self, outcome: Outcome[object], *, recalled: bool = False) -> None:
        """Take an outcome; a `recalled` one is in the results of the run that it came from."""
        self.start()
        row = self._reader.take_row(outcome.index)
        self.tally.add(outcome, row, recalled=recalled)
        if self._report is not None:
            self._report.take(outcome, row, recalled=recalled)
        if self._results is not None and not recalled:
            self._results.add(outcome, None if row is None else row.line)
        if self._failed is None:
            return
        cut = self._by_journal and isinstance(outcome.error, RunStoppedError | DeadlineError)
        self.doubtful = self.doubtful or cut or (self._by_journal and isinstance(outcome.error, _ENDS_A_RUN))
        if row is not None and not outcome.ok and not cut:
            heapq.heappush(self._held, (outcome.index, row.raw))
        if self._held and not self.doubtful:
            self._write_failed(self._reader.first_kept)

    def complete_results(self) -> None:
        """Complete the results file; ``problem`` says if that could not be."""
        if self._results is not None:
            self._results.complete()

    def finish(self, *, with_unread: bool) -> None:
        """Write the failed rows that still wait, those without an outcome, and if asked those not read yet."""
        self.start()
        if self._failed is None:
            return
        while (index := self._reader.first_kept) < self._reader.rows_read:
            row = self._reader.take_row(index)
            if row is not None:
                heapq.heappush(self._held, (index, row.raw))
        self._write_failed(self._reader.rows_read)
        if with_unread:
            try:
                for block in self._reader.unread():
                    self._failed.write(block)
            except InputError as error:
                self.uncopied = error
            except OSError as error:
                self.uncopied = InputError(f"it cannot be read: {error.strerror or error}")

    def finish_by(self, recorded: Container[int]) -> None:
        """Write the failed rows that still wait; where some are doubtful, those that a journal has `recorded`."""
        self.start()
        if self.doubtful:
            self._held = [held for held in self._held if held[0] in recorded]
            heapq.heapify(self._held)
        self._write_failed(self._reader.rows_read)
        if self._failed is not None:
            self._failed.complete()

    def _write_failed(self, below: int) -> None:
        while self._held and self._held[0][0] < below and self._failed is not None:
            self._failed.write(heapq.heappop(self._held)[1])


_ENDS_A_RUN = (AuthenticationError, PermissionDeniedError, TransportError)
"""With one of these a run may have ended, so that the update was not recorded."""
