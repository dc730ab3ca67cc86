"""The command ``sync``: an input of updates goes out, and every row's outcome comes back."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import io
import itertools
import json
import shlex
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from rich.text import Text

from altcraft_async import AltcraftError, ConfigurationError, InvalidUpdateError, Outcome, OutcomeState, SourceError
from altcraft_async.cli.display import following, stderr_console, summary
from altcraft_async.cli.exits import ExitCode, Tally
from altcraft_async.cli.results import RecordFile, ResultsFile, refuse_clashes
from altcraft_async.cli.signals import interruptible
from altcraft_async.ingest import UpdateReader, read_updates
from altcraft_async.observe import UpdateSettled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.ingest import ReadItem
    from altcraft_async.observe import Event, Observer

    MakeClient = Callable[[Sequence[Observer]], AltcraftClient]

__all__ = ["SyncJob", "sync"]


@attrs.frozen(kw_only=True)
class SyncJob:
    """What ``sync`` was asked to do; the fields are its options."""

    source: str
    columns: dict[str, str]
    input_format: str | None
    results: str | None
    failed: str | None
    dry_run: bool
    deadline: float | None
    limit: int | None
    coalesce: str
    as_json: bool


def sync(job: SyncJob, make_client: MakeClient) -> int:
    """Do `job` and return the exit code. Raises `ConfigurationError` before anything is sent."""
    if job.results == "-" and job.as_json:
        msg = "--results - and --json would both write to standard output; give the results a file"
        raise ConfigurationError(msg)
    refuse_clashes(**{"input": job.source, "--results": job.results, "--failed": job.failed})
    with contextlib.ExitStack() as opened:
        reader = opened.enter_context(_read(job))
        console = stderr_console()
        for note in reader.notes:
            console.print(Text(f"Note: {note}", style="yellow"))
        if job.dry_run:
            return _dry_run(job, reader)
        recorder = _SettledRecorder()
        client = make_client((recorder,))
        results = None if job.results is None else opened.enter_context(ResultsFile(job.results))
        failed = None if job.failed is None else opened.enter_context(RecordFile(job.failed))
        if failed is not None:
            failed.write(reader.header)
        run = _Run(job, reader, _Sink(reader, results, failed), recorder)
        return asyncio.run(run.main(client))


def _read(job: SyncJob) -> UpdateReader:
    if job.source != "-":
        return read_updates(job.source, input_format=job.input_format, columns=job.columns, keep_rows=True)
    try:
        # Not sys.stdin's own buffer: its lock, held by a blocked read, would stop the interpreter from ending.
        stream = io.BufferedReader(io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
    except (AttributeError, OSError, ValueError):
        msg = "standard input is closed; give a file, or pipe the updates in"
        raise ConfigurationError(msg) from None
    return read_updates(stream, input_format=job.input_format, columns=job.columns, name="stdin", keep_rows=True)


def _dry_run(job: SyncJob, reader: UpdateReader) -> int:
    tally = Tally()
    started = time.monotonic()
    lines = set()
    for index, item in enumerate(itertools.islice(reader, job.limit)):
        row = reader.take_row(index)
        if isinstance(item, InvalidUpdateError):
            tally.add(Outcome(index, None, OutcomeState.INVALID, error=item), row.line if row else None)
        else:
            lines.add(item.key)
            tally.states["valid"] += 1
    valid = tally.states["valid"]
    elapsed = time.monotonic() - started
    console = stderr_console()
    summary(console, tally, elapsed, results=True)
    console.print(f"Dry run, nothing was sent; ready to go: updates {valid:,}, order lines {len(lines):,}.")
    code = ExitCode.NOT_ALL_APPLIED if tally.states["invalid"] else ExitCode.OK
    if job.as_json:
        _print_json(job, reader, tally, elapsed, code)
    return code


class _SettledRecorder:
    """Keeps the outcomes that the client has told of and the stream has not yielded yet."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[int, Outcome] = {}

    def on_event(self, event: Event, /) -> None:
        """Keep an update's outcome."""
        if type(event) is UpdateSettled:
            self.waiting[event.outcome.index] = event.outcome


class _Sink:
    """Where outcomes go: the tally, the results file, and for a failure its row to the failed file.

    Outcomes come as they end; the failed file has its rows in input order all
    the same, so that feeding it again keeps the order of every line. A failed
    row therefore waits until all rows before it have ended.
    """

    __slots__ = ("_failed", "_held", "_reader", "_results", "tally")

    def __init__(self, reader: UpdateReader, results: ResultsFile | None, failed: RecordFile | None) -> None:
        self._reader = reader
        self._results = results
        self._failed = failed
        self._held: list[tuple[int, bytes]] = []
        self.tally = Tally()

    @property
    def trouble(self) -> str | None:
        """Why a file could not be written, or None."""
        return next((file.trouble for file in (self._results, self._failed) if file and file.trouble), None)

    def take(self, outcome: Outcome) -> None:
        row = self._reader.take_row(outcome.index)
        line = None if row is None else row.line
        self.tally.add(outcome, line)
        if self._results is not None:
            self._results.add(outcome, line)
        if self._failed is not None:
            if row is not None and not outcome.ok:
                heapq.heappush(self._held, (outcome.index, row.raw))
            if self._held:
                self._write_failed(self._reader.first_kept)

    def finish(self, *, with_unread: bool) -> None:
        """Write the failed rows that still wait, those without an outcome, and if asked those not read yet."""
        if self._failed is None:
            return
        while (index := self._reader.first_kept) < self._reader.rows_read:
            row = self._reader.take_row(index)
            if row is not None:
                heapq.heappush(self._held, (index, row.raw))
        self._write_failed(self._reader.rows_read)
        if with_unread:
            with contextlib.suppress(OSError):  # an input that broke has been told of
                for block in self._reader.unread():
                    self._failed.write(block)

    def _write_failed(self, below: int) -> None:
        while self._held and self._held[0][0] < below and self._failed is not None:
            self._failed.write(heapq.heappop(self._held)[1])


class _Run:
    """One run of ``sync`` with a client; `main` returns the exit code."""

    __slots__ = ("_console", "_job", "_reader", "_recorder", "_regular", "_sink", "_trouble")

    def __init__(self, job: SyncJob, reader: UpdateReader, sink: _Sink, recorder: _SettledRecorder) -> None:
        self._job = job
        self._reader = reader
        self._sink = sink
        self._recorder = recorder
        self._regular = job.source != "-" and stat.S_ISREG(Path(job.source).stat().st_mode)
        self._trouble: str | None = None
        self._console = stderr_console()

    async def main(self, client: AltcraftClient) -> int:
        started = time.monotonic()
        with interruptible() as interruption:
            try:
                async with client, following(self._console, self._sink.tally, self._total(), client):
                    await self._send(client)
            except asyncio.CancelledError:
                if interruption.exit_code is None:
                    raise
                interruption.settle()
        elapsed = time.monotonic() - started
        self._sink.tally.turned_away = client.statistics().rejected_sends
        self._trouble = self._trouble or self._sink.trouble
        cut = interruption.exit_code is not None or self._trouble is not None
        unread = not self._reader.exhausted and (cut or self._job.limit is None)
        self._sink.finish(with_unread=unread and self._copies_unread)
        code = interruption.exit_code or self._code(unread=unread)
        summary(self._console, self._sink.tally, elapsed, results=self._job.results is not None)
        self._advise(interruption.exit_code, unread=unread)
        if self._job.as_json:
            _print_json(self._job, self._reader, self._sink.tally, elapsed, code)
        return code

    async def _send(self, client: AltcraftClient) -> None:
        job = self._job
        outcomes = client.market.orders.stream_order_line_statuses(
            self._updates(),
            deadline=job.deadline,
            coalesce="latest" if job.coalesce == "latest" else "all",
        )
        waiting = self._recorder.waiting
        try:
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    self._sink.take(outcome)
                    waiting.pop(outcome.index, None)
                    if self._sink.trouble is not None:
                        break
        except SourceError as error:
            self._trouble = f"{error}: {error.__cause__}"
        finally:
            for index in sorted(waiting):
                self._sink.take(waiting.pop(index))

    def _updates(self) -> Iterable[ReadItem] | AsyncGenerator[ReadItem, None]:
        if self._regular:
            return itertools.islice(self._reader, self._job.limit)
        rows = self._reader.in_thread()
        return rows if self._job.limit is None else _first(rows, self._job.limit)

    @property
    def _copies_unread(self) -> bool:
        """Whether rows that were not read belong in the failed file: not those of a pipe, nor beyond a limit."""
        return self._regular and self._job.limit is None

    def _total(self) -> int | None:
        """Count the lines of a regular file, for the bar; rows of several lines make it a little too high."""
        if not self._regular or not sys.stderr.isatty():
            return None
        with Path(self._job.source).open("rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        rows = max(0, lines - bool(self._reader.header))
        return rows if self._job.limit is None else min(rows, self._job.limit)

    def _code(self, *, unread: bool) -> int:
        code = self._sink.tally.exit_code
        if self._trouble is not None:
            return max(code, ExitCode.NOT_ALL_APPLIED)
        return max(code, ExitCode.STOPPED) if unread else code

    def _advise(self, signalled: int | None, *, unread: bool) -> None:
        """Say in plain words what stopped the run, and what to do next."""
        tally, say = self._sink.tally, self._console.print
        if self._trouble is not None:
            say(Text(f"Stopped: {self._trouble}", style="red"))
        if signalled is not None:
            say(Text("Interrupted; every update that was under way has its outcome.", style="yellow"))
        if tally.refused is not None:
            say(Text(f"Nothing more was sent: {_reason(tally.refused)}.", style="red"))
        if tally.unreachable is not None:
            said = "The server could not be reached; check the address, and that it is up (altcraft-async doctor)."
            say(Text(said, style="red"))
        if unread and self._job.failed is not None and self._copies_unread:
            say(f"The rows that were not read are in {self._job.failed} too.")
        elif unread:
            say("The input was not read to its end.")
        if (tally.failed or unread) and self._job.failed not in {None, "-"}:
            again = ["altcraft-async", "sync", str(self._job.failed)]
            for field, column in self._job.columns.items():
                again += ["--map", f"{field}={column}"]
            say(Text(f"To send what failed again: {shlex.join(again)}"))


async def _first(rows: AsyncGenerator[ReadItem, None], count: int) -> AsyncGenerator[ReadItem, None]:
    async with contextlib.aclosing(rows):
        if count:
            left = count
            async for row in rows:
                yield row
                left -= 1
                if not left:
                    return


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, AltcraftError) else str(error)


def _print_json(job: SyncJob, reader: UpdateReader, tally: Tally, elapsed: float, code: int) -> None:
    said = {
        "source": reader.source,
        "format": str(reader.format),
        "dry_run": job.dry_run,
        "updates": tally.total,
        "states": dict(tally.states.most_common()),
        "requests": tally.sent,
        "retries": tally.retries,
        "turned_away": tally.turned_away,
        "elapsed": round(elapsed, 3),
        "complete": reader.exhausted,
        "exit_code": int(code),
        "failures": [
            {"index": outcome.index, "line": line, "state": str(outcome.state), "error": str(outcome.error)}
            for line, outcome in tally.failures
        ],
    }
    sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    sys.stdout.flush()
