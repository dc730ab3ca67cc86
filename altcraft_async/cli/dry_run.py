"""``sync --dry-run``: all of the input is read and held against the journal, and nothing is sent."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from altcraft_async import InputChangedError, InvalidUpdateError, JournalError, Outcome, OutcomeState
from altcraft_async.cli.display import summary
from altcraft_async.cli.exits import ExitCode, Tally
from altcraft_async.cli.inputs import named_in, said_of
from altcraft_async.cli.job import print_json
from altcraft_async.ingest import HeldBackError
from altcraft_async.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async.cli.display import Talk
    from altcraft_async.cli.job import SyncJob
    from altcraft_async.ingest import KeptRow, ReadItem, UpdateReader
    from altcraft_async.journal import JournalSummary

__all__ = ["dry_run", "say_ready"]

_RETRIED = {OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.NOT_SENT}


def dry_run(job: SyncJob, reader: UpdateReader, talk: Talk) -> int:
    """Check the input, tell what a run would have to do, and return the exit code.

    Raises `JournalError` where a run would be refused because of its journal.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        journal = None
        if job.journal is not None and Path(job.journal).exists():
            journal = stack.enter_context(JournalReader(job.journal))
        check = _Check(job, reader, journal)
        held_back: str | None = None
        notes = len(reader.notes)
        try:
            check.run()
        except JournalError as error:
            raise named_in(error, reader) from None
        except HeldBackError as error:
            held_back = said_of(error)
    tally = check.tally
    elapsed = time.monotonic() - started
    for note in reader.notes[notes:]:
        talk.note(note)
    summary(talk, tally, elapsed, results=True)
    talk.suspicions(reader.suspicions)
    valid = f"updates {tally.states['valid']:,}, order lines {len(check.lines):,}"
    say_ready(talk, valid, held_back)
    if job.journal is not None:
        talk.say(_said_of_journal(job.journal, check))
    code = ExitCode.NOT_ALL_APPLIED if tally.failed or held_back else ExitCode.OK
    if job.as_json:
        print_json(job, reader, tally, elapsed=elapsed, code=code, journal=_facts(check))
    return code


def say_ready(talk: Talk, counted: str, held_back: str | None) -> None:
    """Say what a run would send: all that was `counted`, or no more than that because the rest is `held_back`."""
    if held_back is None:
        talk.say(f"Dry run, nothing was sent; ready to go: {counted}.")
        return
    talk.say(f"A run would stop: {held_back}", "red")
    talk.say(f"Dry run, nothing was sent; not ready: before that place there are {counted}.")


def _said_of_journal(path: str, check: _Check) -> str:
    known = check.known
    if known is None:
        return f"Journal {path}: not there yet; a run would begin it."
    said = f"Journal {path}: the input is the one that it records; {check.tally.done_before:,} rows are done, "
    said += f"{check.tally.recalled:,} failed, {check.left:,} are left."
    return f"{said} A run is writing it now." if known.in_use else said


def _facts(check: _Check) -> dict[str, object] | None:
    known = check.known
    if known is None:
        return None
    return {
        "path": known.path,
        "run_id": known.run_id,
        "continued": True,
        "recorded_before": known.recorded,
        "failed_before": check.tally.recalled,
        "left": check.left,
    }


class _Check:
    """Reads the rows, and counts them by what a run would do with them.

    ``known`` is what the journal says, ``left`` counts the rows that a run would have to
    deal with, ``lines`` are the order lines that it would send updates for.
    """

    __slots__ = ("_item", "_job", "_journal", "_reader", "known", "left", "lines", "tally")

    def __init__(self, job: SyncJob, reader: UpdateReader, journal: JournalReader | None) -> None:
        self._job = job
        self._reader = reader
        self._journal = journal
        self._item: ReadItem | None = None
        self.known: JournalSummary | None = None if journal is None else journal.summary()
        self.tally = Tally()
        self.left = 0
        self.lines: set[object] = set()

    def run(self) -> None:
        known = self.known
        length = None if known is None or self._job.extend else known.length
        retried = _RETRIED if known is not None and known.finished and self._job.retry_failed else set()
        for index, outcome in enumerate(itertools.islice(self._outcomes(), self._job.limit)):
            if length is not None and index >= length:
                msg = f"the input has more rows than the {length:,} that the journal knows; --extend permits that"
                raise InputChangedError(msg, path=self._job.journal, index=index)
            row = self._reader.take_row(index)
            if outcome is None or outcome.state in retried:
                self._take(index, row)
            elif outcome.ok:
                self.tally.done_before += 1
            else:
                self.tally.add(outcome, row, recalled=True)

    def _take(self, index: int, row: KeptRow | None) -> None:
        item = self._item
        self.left += 1
        if isinstance(item, InvalidUpdateError):
            self.tally.add(Outcome(index, None, OutcomeState.INVALID, error=item), row)
        elif item is not None:
            self.lines.add(item.key)
            self.tally.states["valid"] += 1

    def _outcomes(self) -> Iterator[Outcome[object] | None]:
        rows = self._rows()
        return (None for _ in rows) if self._journal is None else self._journal.joined(rows)

    def _rows(self) -> Iterator[ReadItem]:
        for item in self._reader:
            self._item = item
            yield item
