"""The command ``sync``: an input of updates goes out, and every row's outcome comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from altcraft_async import InputChangedError, JournalError, OutcomeState, SourceError
from altcraft_async.cli.advice import Advice, reason_of
from altcraft_async.cli.descriptors import prepare_for_few_descriptors
from altcraft_async.cli.display import Talk, summary
from altcraft_async.cli.dry_run import dry_run
from altcraft_async.cli.exits import ExitCode
from altcraft_async.cli.inputs import named_in, said_of
from altcraft_async.cli.job import print_json
from altcraft_async.cli.memory import Memory
from altcraft_async.cli.progress import following
from altcraft_async.cli.results import RecordFile, refuse_clashes, results_file
from altcraft_async.cli.signals import interruptible
from altcraft_async.cli.sink import Sink, Watcher
from altcraft_async.ingest import HeldBackError, InputError
from altcraft_async.journal import DedupWindowWarning, JournalReader, LongerRowWarning
from altcraft_async.storage.places import shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.cli.job import SyncJob
    from altcraft_async.cli.report import ReportFile
    from altcraft_async.ingest import ReadItem, UpdateReader
    from altcraft_async.observe import Observer

    MakeClient = Callable[[Sequence[Observer]], AltcraftClient]

__all__ = ["sync"]

_GZIP = b"\x1f\x8b"
"""What packed files begin with; their lines are not to be counted."""


def sync(job: SyncJob, make_client: MakeClient, dry: Callable[[UpdateReader, Talk], int] | None = None) -> int:
    """Do `job` and return the exit code. Raises `ConfigurationError` or `JournalError` before anything is sent.

    `dry` is what a dry run does instead of that of ``sync``.
    """
    job.check()
    files = {"input": job.input.source, "--journal": job.journal, "--results": job.results, "--failed": job.failed}
    refuse_clashes(**files, **{"--report": job.report})
    talk = Talk(quiet=job.quiet)
    with contextlib.ExitStack() as opened:
        reader = opened.enter_context(job.input.open())
        for note in reader.notes:
            talk.note(note)
        if job.failed is not None:
            reader.keep_for(job.failed)
        if job.dry_run:
            return talk.end(dry_run(job, reader, talk) if dry is None else dry(reader, talk))
        watcher = Watcher(reader, talk)
        client = make_client((watcher,))
        results = None if job.results is None else opened.enter_context(results_file(job.results, job.columns))
        failed = (
            None if job.failed is None else opened.enter_context(RecordFile(job.failed, at_end=job.journal is not None))
        )
        report = None
        if job.report is not None:
            from altcraft_async.cli.report import ReportFile  # noqa: PLC0415 - most runs make none

            report = opened.enter_context(ReportFile(job.report))
        sink = Sink(reader, watcher, results, failed, by_journal=job.journal is not None, report=report)
        if job.journal is None:
            sink.start()
        prepare_for_few_descriptors()
        return talk.end(asyncio.run(_Run(job, reader, sink, watcher, talk, report).main(client)))


class _Run:
    """One run of ``sync`` with a client; `main` returns the exit code."""

    __slots__ = (
        "_held",
        "_job",
        "_reader",
        "_refused",
        "_regular",
        "_report",
        "_sink",
        "_stopped_by",
        "_talk",
        "_watcher",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a run is made of
        self, job: SyncJob, reader: UpdateReader, sink: Sink, watcher: Watcher, talk: Talk, report: ReportFile | None
    ) -> None:
        self._job = job
        self._reader = reader
        self._sink = sink
        self._watcher = watcher
        self._regular = job.input.is_file
        self._stopped_by: str | None = None
        self._held: HeldBackError | None = None
        self._refused = False
        self._talk = talk
        self._report = report

    async def main(self, client: AltcraftClient) -> int:
        started = time.monotonic()
        notes = len(self._reader.notes)
        with interruptible() as interruption, _warnings_as_notes(self._talk):
            try:
                watched = following(self._talk, self._sink.tally, self._total, client)
                async with client, watched, self._looking(client):
                    await self._send(client)
            except asyncio.CancelledError:
                if interruption.exit_code is None:
                    raise
                interruption.settle()
        elapsed = time.monotonic() - started
        self._sink.tally.take_traffic(client.statistics())
        self._stopped_by = self._stopped_by or self._sink.problem
        cut = interruption.exit_code is not None or self._stopped_by is not None
        unread = not self._reader.exhausted and (cut or self._job.limit is None)
        self._finish_files(unread=unread)
        self._stopped_by = self._stopped_by or self._sink.problem
        code = interruption.exit_code or self._code(unread=unread)
        for note in self._reader.notes[notes:]:
            self._talk.note(note)
        summary(self._talk, self._sink.tally, elapsed, results=self._job.results is not None, noun=self._job.noun)
        self._talk.suspicions(self._reader.suspicions)
        if not self._write_report(elapsed, unread=unread, interrupted=interruption.exit_code is not None):
            code = max(code, ExitCode.NOT_ALL_APPLIED)
        Advice(
            job=self._job,
            reader=self._reader,
            sink=self._sink,
            stopped_by=self._stopped_by,
            interrupted=interruption.exit_code is not None,
            held=self._held,
            unread=unread,
            copied=unread and self._copies_unread and self._sink.failed_is_whole,
        ).give(self._talk)
        if self._job.as_json:
            facts = self._watcher.journal_facts()
            print_json(self._job, self._reader, self._sink.tally, elapsed=elapsed, code=code, journal=facts)
        return code

    async def _send(self, client: AltcraftClient) -> None:
        outcomes = self._job.stream(client, self._updates())
        memory = Memory.of(os.environ, client)
        waiting = self._watcher.waiting
        try:
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    self._sink.take(outcome, recalled=outcome.index not in waiting)
                    memory.recall(client, outcome)
                    waiting.pop(outcome.index, None)
                    if self._sink.problem is not None or self._makes_no_sense():
                        break
        except SourceError as error:
            cause = error.__cause__
            if not isinstance(cause, _LimitReached):
                self._stopped_by = said_of(cause) if isinstance(cause, InputError) else f"{error}: {cause}"
                self._held = cause if isinstance(cause, HeldBackError) else None
        except JournalError as error:
            if not client.statistics().sent:
                raise named_in(error, self._reader) from None
            self._refused = isinstance(error, InputChangedError)
            self._stopped_by = str(named_in(error, self._reader))
        except Exception as error:
            if not client.statistics().sent:
                raise
            self._stopped_by = f"the run failed ({type(error).__name__}: {error})"
        finally:
            memory.keep(client)
            for index in sorted(waiting):
                self._sink.take(waiting.pop(index))

    def _makes_no_sense(self) -> bool:
        """Stop where everything is rejected for one reason: it is the input or the platform, not the rows."""
        reason = self._sink.tally.only_reason
        if reason is None or self._job.max_failures is not None or self._sink.tally.total < self._job.enough:
            return False
        self._stopped_by = (
            f"the first {self._sink.tally.total} {self._job.noun}s were all rejected for one reason: {reason}; "
            "to go on regardless, add --max-failures none"
        )
        return True

    def _updates(self) -> Iterable[ReadItem] | AsyncGenerator[ReadItem, None]:
        limit = self._job.limit
        if self._regular:
            return self._reader if limit is None else self._first(limit)
        return self._reader.in_thread() if limit is None else self._first_in_thread(limit)

    def _first(self, count: int) -> Iterator[ReadItem]:
        yield from itertools.islice(self._reader, count)
        self._end_early()

    async def _first_in_thread(self, count: int) -> AsyncGenerator[ReadItem, None]:
        async with contextlib.aclosing(self._reader.in_thread()) as rows:
            async for row in rows:
                yield row
                if self._reader.rows_read == count:
                    break
        self._end_early()

    def _end_early(self) -> None:
        """Keep a journal from taking the last row of ``--sample`` for the last of the input."""
        if self._job.journal is not None and not self._reader.exhausted:
            raise _LimitReached

    def _finish_files(self, *, unread: bool) -> None:
        """Complete the results, and the failed file: by the journal, or else with all that was not sent."""
        self._sink.complete_results()
        if self._job.journal is None:
            self._sink.finish(with_unread=unread and self._copies_unread)
            return
        if self._refused:
            return
        recorded: set[int] = set()
        if self._sink.doubtful:
            with contextlib.suppress(JournalError), JournalReader(self._job.journal) as journal:
                failures = journal.outcomes(*(state for state in OutcomeState if not state.ok))
                recorded = {outcome.index for outcome in failures}
        self._sink.finish_by(recorded)

    def _looking(self, client: AltcraftClient) -> contextlib.AbstractAsyncContextManager[None]:
        """Have the report look at the client, where there is one to be made."""
        return contextlib.nullcontext() if self._report is None else self._report.looking(client)

    def _write_report(self, elapsed: float, *, unread: bool, interrupted: bool) -> bool:
        """Write the report, if one was asked for, and say where it is; return false where it could not be written."""
        report, job = self._report, self._job
        if report is None:
            return True
        source, stopped = shown(job.input.source), self._why_stopped(interrupted=interrupted)
        figures = None
        if job.journal is not None:
            with contextlib.suppress(JournalError):  # then it is what this run saw
                figures = report.figures_by(job.journal, source=source, stopped=stopped)
        if figures is None:
            figures = report.figures(
                source=source,
                noun=job.noun,
                elapsed=elapsed,
                done_before=self._sink.tally.done_before,
                waiting=None if unread else 0,
                complete=not unread,
                stopped=stopped,
            )
        problem = report.write(figures)
        if problem is None:
            self._talk.say(f"Report: {report.path}")
        else:
            self._talk.say(f"The report is missing: {problem}", "red")
        return problem is None

    def _why_stopped(self, *, interrupted: bool) -> str | None:
        """Say what ended the run before its end, None where nothing did."""
        tally = self._sink.tally
        if self._stopped_by is not None:
            return self._stopped_by
        if interrupted:
            return "the run was interrupted; every update that was under way has its outcome"
        stopped = tally.refused or tally.stopped
        return None if stopped is None else reason_of(stopped)

    @property
    def _copies_unread(self) -> bool:
        """Whether rows that were not read belong in the failed file.

        Not those of a pipe, nor beyond a limit, nor with a journal: the next run sends them, and some may be done.
        """
        return self._regular and self._job.limit is None and self._job.journal is None

    def _total(self) -> int | None:
        """Count the lines of a regular file, for the eye; rows of several lines make it a little too high."""
        if not self._regular or self._reader.format.of_rows is not self._reader.format:
            return self._job.limit
        with Path(self._job.input.source).open("rb") as file:
            if file.read(len(_GZIP)) == _GZIP:
                return self._job.limit
            file.seek(0)
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        rows = max(0, lines - bool(self._reader.header))
        return rows if self._job.limit is None else min(rows, self._job.limit)

    def _code(self, *, unread: bool) -> int:
        code = self._sink.tally.exit_code
        if self._stopped_by is not None:
            return max(code, ExitCode.NOT_ALL_APPLIED)
        return max(code, ExitCode.STOPPED) if unread else code


@contextlib.contextmanager
def _warnings_as_notes(talk: Talk) -> Iterator[None]:
    """Tell of a run that is continued late, or with a longer last row, in words, as of all else."""
    ours = (DedupWindowWarning, LongerRowWarning)

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, ours):
            talk.note(str(message))
        else:
            usual(message, category, *place, **more)

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show
        for kind in ours:
            warnings.simplefilter("always", kind)
        yield


class _LimitReached(Exception):  # noqa: N818 - no error
    """The source ends before the end of the input."""
