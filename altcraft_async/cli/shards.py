"""The commands ``shards …``: plan, run and show the parts of a large input."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from altcraft_async import AltcraftError, ConfigurationError, Shared
from altcraft_async.cli.display import Talk
from altcraft_async.cli.exits import ExitCode
from altcraft_async.cli.inputs import said_of, started
from altcraft_async.cli.options import make_client
from altcraft_async.cli.signals import SIGNALS, interruptible
from altcraft_async.cli.talk import emit
from altcraft_async.ingest import HeldBackError, InputError, read_updates
from altcraft_async.shards import (
    ShardError,
    ShardReport,
    ShardState,
    adopt_shards,
    deliver_shard_here,
    plan_shards,
    read_plan,
    report,
    run_shards,
)
from altcraft_async.shards.freezing import check_beside
from altcraft_async.shards.report import Reports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from altcraft_async.cli.inputs import Input
    from altcraft_async.shards import Plan, ShardsReport

__all__ = ["ShardsJob", "adopt", "plan", "run", "show"]

_PLAIN_EVERY: Final = 10.0
_LIVE_EVERY: Final = 1.0
_FAREWELL: Final = 1.0
"""Seconds that the end of a run waits for a look that is under way."""
_LISTED: Final = 20


def plan(source: Input, directory: str, *, count: int, target: str | None) -> int:
    """Freeze an input into shards."""
    talk = Talk()
    given: Any = source.source
    if given == "-":
        given = io.BufferedReader(io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
    else:
        check_beside(given, directory, count)  # of a reader it could not be told
    reader = read_updates(
        given,
        name="stdin" if source.source == "-" else None,
        input_format=source.input_format,
        columns=source.columns,
        constants=source.constants,
        statuses=source.statuses,
        encoding=source.encoding,
        skip_lines=source.skip_lines,
        opened_at=started(),
    )
    with reader, _as_a_whole():
        made = plan_shards(reader, directory, shards=count, target=target)
        for note in reader.notes:
            talk.note(note)
        talk.suspicions(reader.suspicions)
    return _say_planned(talk, made, directory)


def adopt(how: Input, directory: str, *, target: str | None) -> int:
    """Make a plan of files that are there."""
    reading = {"columns": how.columns, "constants": how.constants, "statuses": how.statuses}
    with _as_a_whole():
        made = adopt_shards(directory, target=target, **reading)
    return _say_planned(Talk(), made, directory)


@contextlib.contextmanager
def _as_a_whole() -> Iterator[None]:
    """Take an input that breaks off for one that cannot be read: nothing of it is planned, or sent."""
    try:
        yield
    except HeldBackError as error:
        raise InputError(said_of(error), source=error.source) from None


def _say_planned(talk: Talk, made: Plan, directory: str) -> int:
    sizes = [shard.rows for shard in made.shards]
    where = f" for {made.target}" if made.target else ""
    talk.say(f"{made.rows:,} rows in {len(sizes):,} shards of {min(sizes):,} to {max(sizes):,} rows{where}.")
    talk.command("To deliver them", ["altcraft-async", "shards", "run", directory])
    return ExitCode.OK


@attrs.frozen(kw_only=True)
class ShardsJob:
    """What ``shards run`` was asked to do; the fields are its options."""

    directory: str
    shard: int | None
    of_a_job: bool
    processes: int | None
    concurrency_total: int | None
    rate_total: float | None
    retry_failed: bool
    deadline: float | None
    quiet: bool
    as_json: bool

    def check(self) -> None:
        """Raise `ConfigurationError` for options that do not go together."""
        if self.shard is not None and self.processes is not None:
            where = f" (from the environment: JOB_COMPLETION_INDEX={self.shard})" if self.of_a_job else ""
            msg = f"--shard N{where} is one shard in this process, and --processes are for all; give one of the two"
            raise ConfigurationError(msg)
        if self.shard is None and self.deadline is not None:
            msg = "--deadline goes with --shard N"
            raise ConfigurationError(msg)

    @property
    def totals(self) -> dict[str, Any]:
        """What goes before the settings."""
        found = {"concurrency": self.concurrency_total, "rate": self.rate_total}
        return {name: Shared(total, among="shards") for name, total in found.items() if total is not None}


def run(job: ShardsJob, environ: Mapping[str, str]) -> int:
    """Deliver shards; return the exit code. All processes get their settings by `environ`."""
    job.check()
    talk = Talk(quiet=job.quiet)
    plan = read_plan(job.directory)
    if job.shard is not None:
        plan.check_number(job.shard, job.directory)
    environ = plan.environ(environ)
    make_client(environ, **job.totals)  # a mistake of the settings is told before anything begins
    os.environ.clear()
    os.environ.update(environ)
    with _notes(talk):
        return _run(job, talk)


def _run(job: ShardsJob, talk: Talk) -> int:
    begun = time.monotonic()
    found: ShardsReport | ShardReport | None
    try:
        if job.shard is not None:
            code, found = asyncio.run(_run_one(job, job.shard, talk))
        else:
            with _ending(talk), _Progress(job.directory, talk) as progress:
                code, found = _run_all(job, progress)
    except ShardError as error:
        if error.shard is None:  # and so nothing was begun
            raise
        code, found = ExitCode.STOPPED, _left_by(job, error)
        for said in (f"Error: {error}", *getattr(error, "__notes__", ())):
            talk.say(said)
    if found is not None:
        _say(talk, found, time.monotonic() - begun)
        if job.as_json:
            emit(json.dumps(found.to_dict()) + "\n")
    return talk.end(code)


class _AsNotes(logging.Handler):
    def __init__(self, talk: Talk) -> None:
        super().__init__(logging.WARNING)
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record."""
        self._talk.note(record.getMessage())


@contextlib.contextmanager
def _notes(talk: Talk) -> Iterator[None]:
    """Say what the journals of shards have lost, here or in the processes: a log that nobody asked for says nothing."""
    log, handler = logging.getLogger("altcraft_async.shards"), _AsNotes(talk)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _left_by(job: ShardsJob, error: ShardError) -> ShardsReport | ShardReport:
    """Return how far the shards are after an error of one of them; raises that if it cannot be known."""
    try:
        return report(job.directory) if job.shard is None else Reports(job.directory).look_at(job.shard)
    except AltcraftError:
        raise error from None


def _run_all(job: ShardsJob, progress: _Progress) -> tuple[int, ShardsReport | None]:
    found = run_shards(
        job.directory,
        processes=job.processes,
        retry_failed=job.retry_failed,
        progress=progress.under_way,
        **job.totals,
    )
    return _code(found), found


async def _run_one(job: ShardsJob, number: int, talk: Talk) -> tuple[int, ShardReport | None]:
    with interruptible(once=True) as interruption, _Progress(job.directory, talk, number):
        try:
            found = await deliver_shard_here(
                job.directory, number, retry_failed=job.retry_failed, deadline=job.deadline, **job.totals
            )
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            talk.say(f"Shard {number} was interrupted; run it again, and it goes on.")
            return interruption.exit_code, None
    return _code(found), found


@contextlib.contextmanager
def _ending(talk: Talk) -> Iterator[None]:
    """Let a signal that ends the run do so as Ctrl-C does: the processes write their last snapshots.

    The first counts: others change nothing, and so cut nothing off.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ending = [n for n in before if before[n] is not signal.SIG_IGN or n in {signal.SIGINT, signal.SIGTERM}]

    def end(number: int, frame: object) -> None:
        del frame
        for one in ending:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in ending:
        signal.signal(number, end)
    try:
        yield
    except SystemExit:
        talk.say("The run was interrupted; run it again, and it goes on.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """Shows how far all shards are, or one: live on a terminal, else a plain line every ten seconds.

    It looks from a thread of its own, so that a slow directory holds nobody up, and rests after a look for as long as
    that took.
    """

    def __init__(self, directory: str, talk: Talk, shard: int | None = None) -> None:
        self._reports = Reports(directory)
        self._shard = shard
        self._here = 0
        live = sys.stderr.isatty() and talk.console.is_terminal and not talk.console.is_dumb_terminal
        self._status = talk.console.status("") if live and not talk.quiet else None
        self._every = _LIVE_EVERY if self._status is not None and "://" not in directory else _PLAIN_EVERY
        self._before: tuple[float, int] | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = None if talk.quiet else threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended.set()
        if self._status is not None:
            self._status.stop()
        if self._thread is not None:
            self._thread.join(_FAREWELL)

    def under_way(self, numbers: Sequence[int]) -> None:
        """Take note of the shards that are under way here."""
        self._here = len(numbers)

    def _go_on(self) -> None:
        pause = self._every
        while not self._ended.wait(pause):
            begun = time.monotonic()
            with contextlib.suppress(AltcraftError, OSError):  # in a moment it can be read again
                self._show(self._look(begun))
            pause = max(self._every, time.monotonic() - begun)

    def _look(self, now: float) -> str:
        found = self._reports.look() if self._shard is None else self._reports.look_at(self._shard)
        done = sum(found.counts.values())
        then, before = self._before or (now, done)
        self._before = (now, done)
        rate = f"{(done - before) / (now - then):,.0f}/s, " if now > then else ""
        said = f"{done:,} of {found.rows:,} rows, {rate}{_failed(found):,} failed"
        if isinstance(found, ShardReport):
            return f"shard {found.number}: {said}"
        shards = f"{len(found.numbers(ShardState.DONE)):,} of {len(found.shards):,} shards done"
        return f"{said}, {shards}, {self._here} here"

    def _show(self, said: str) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            if self._status is not None:
                self._status.update(said)
            else:
                sys.stderr.write(f"{said}\n")
                sys.stderr.flush()


def _failed(found: ShardsReport | ShardReport) -> int:
    return sum(count for state, count in found.counts.items() if not state.ok)


def _code(found: ShardsReport | ShardReport) -> int:
    if not found.complete:
        return ExitCode.STOPPED
    return ExitCode.OK if found.ok else ExitCode.NOT_ALL_APPLIED


def show(directory: str, *, as_json: bool) -> int:
    """Say how far the shards are."""
    found = report(directory)
    if as_json:
        emit(json.dumps(found.to_dict()) + "\n")
    else:
        emit("\n".join(_told(found)) + "\n")
    return ExitCode.OK


def _told(found: ShardsReport) -> Iterator[str]:
    states = ", ".join(f"{len(numbers):,} {state}" for state in ShardState if (numbers := found.numbers(state)))
    yield f"{found.directory}: {found.rows:,} rows in {len(found.shards):,} shards: {states}"
    yield f"Rows with an outcome: {_outcomes(found)}"
    listed = [
        shard for shard in found.shards if shard.state in {ShardState.RUNNING, ShardState.STOPPED} or shard.failed
    ]
    for shard in listed[:_LISTED]:
        yield f"shard {shard.number}: {_line(shard)}"
    if len(listed) > _LISTED:
        yield f"and {len(listed) - _LISTED:,} more; --json has all"
    if any(shard.failed for shard in found.shards):
        yield f"The failed rows of a shard that is done: {found.directory}/_altcraft/*.failed.parquet"


def _outcomes(found: ShardsReport | ShardReport) -> str:
    said = ", ".join(f"{count:,} {state}" for state, count in found.counts.items() if count)
    return said or "none yet"


def _line(shard: ShardReport) -> str:
    said = f"{shard.state}, {sum(shard.counts.values()):,} of {shard.rows:,} rows: {_outcomes(shard)}"
    return f"{said}; {shard.problem}" if shard.problem else said


def _say(talk: Talk, found: ShardsReport | ShardReport, elapsed: float) -> None:
    """Say what became of what was delivered."""
    if isinstance(found, ShardReport):
        talk.say(f"Shard {found.number} after {elapsed:,.1f} s: {_line(found)}")
        return
    for text in _told(found):
        talk.say(text)
    if not found.complete:
        talk.command("To go on", ["altcraft-async", "shards", "run", found.directory])
