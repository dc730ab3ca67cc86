"""The journal of a bulk run: one SQLite file with which a killed run can simply be run again.

It holds the run's random id, a fingerprint of every row that ended, and the row's outcome. Nothing needs to be written
before a send, because the ``Request-ID`` of an update is derived from the run's id, the row's index and its content. So
after a crash a row either has an outcome, and is skipped, or has none, and is sent (again) under the same id as before,
by which the platform recognises a repeat. An edited row gets another id, so it can never be taken for a repeat of its
old content.

Outcomes of updates that ended by themselves are recorded. Updates that the end of the run cut short (a deadline, a
cancellation, a refused token, a server out of reach) are not recorded, and the next run sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import sys
import time
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import attrs

from altcraft_async.errors import InputChangedError, JournalError, RunStoppedError
from altcraft_async.journal.commits import Closing, Commits, Length, Overtaken, PutBack, Sampled, reopen
from altcraft_async.journal.format import (
    APART,
    CORRECTED,
    ENDS,
    KIND,
    LINE_STATUS,
    LONGER,
    OPEN,
    Ended,
    Replay,
    RunRecord,
    outcome_of,
    recorded_rows,
)
from altcraft_async.journal.seals import batch_request_id_of, id_prefix, request_id_of_update
from altcraft_async.outcome import Fingerprint, Outcome
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.storage.lock import Lock
from altcraft_async.storage.sqlite import GroupWriter, damaged, open_database, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.work import BatchRows
    from altcraft_async.errors import InvalidUpdateError, StorageError
    from altcraft_async.flow.limit import LearnedLimit
    from altcraft_async.journal.commits import Item
    from altcraft_async.journal.seals import Fact, Row
    from altcraft_async.protocol.values import LineStatusUpdate
    from altcraft_async.timeline import Sample

__all__ = ["DedupWindowWarning", "Journal", "LongerRowWarning", "begin_journal"]

_LINGER = 0.025
"""Seconds that outcomes are gathered for one commit: forty commits a second cost next to nothing, nobody notices
the wait, and a line with many updates still gets dozens of them through each second."""

_SAMPLE_EVERY = 1.0
"""Seconds between two looks at the run, which is the width of the timeline's finest bucket."""

_SAMPLE_AFTER = 0.01
"""Seconds after such a bucket's begin: a timer may be early by a little."""

_FAILED = frozenset({OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.NOT_SENT})
"""The states that `retry_failed` is about."""


def begin_journal(path: str | os.PathLike[str], *, run_id: str, target: str, now: float) -> None:
    """Make the journal, without rows, of a run over status updates that has this id, in the form of a UUID.

    A run that gets this journal goes on with it: its ids depend on `run_id`, so two runs with one id and one input send
    the same. `now` is a Unix time in seconds. Raises `JournalError` if the file cannot be made or is a journal.
    """
    with contextlib.closing(open_database(KIND, str(path))) as connection, translated(KIND, str(path)):
        if RunRecord.read(connection, str(path)) is not None:
            msg = f"the journal {path} records a run already; give another path"
            raise JournalError(msg, path=str(path))
        _write_record(connection, RunRecord(run_id, LINE_STATUS, target, now, now))


def _write_record(connection: sqlite3.Connection, run: RunRecord) -> None:
    connection.execute("BEGIN IMMEDIATE")  # the whole record or none of it, whenever the process dies
    run.write(connection)
    connection.execute("COMMIT")
    # Into the file itself, since a log whose beginning is damaged is a log without content.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class DedupWindowWarning(UserWarning):
    """A run goes on after the platform's dedup window: its updates in doubt may be applied twice."""


def _warn(stale: str) -> None:
    warnings.warn(stale, DedupWindowWarning, stacklevel=3)


STALE: Final[ContextVar[Callable[[str], None]]] = ContextVar("stale", default=_warn)
"""Is called with what a `DedupWindowWarning` says, for one who says it otherwise."""


class LongerRowWarning(UserWarning):
    """The last row of an input is longer than when it was sent: its line was not complete then."""


def _unset_clock() -> Callable[[], float]:
    """Return a clock of Unix time that goes on evenly where somebody sets the host's clock, and while it is suspended.

    Else an hour that the clock was set forward or back would stand in the run's history, and in its report.
    """
    passed = time.monotonic
    if sys.platform == "linux":  # elsewhere the monotonic clock goes on while the host is suspended
        passed = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)  # noqa: E731 - one of two clocks
    zero = time.time() - passed()
    return lambda: zero + passed()


class _Phase(enum.Enum):
    """Where a journal stands in its life."""

    NEW = "not open"
    OPEN = "open"
    CLOSED = "closed"


class _Retry(enum.Enum):
    """Whether failed rows were opened to be sent again."""

    NONE = enum.auto()
    UNDER_WAY = enum.auto()
    REFUSED = enum.auto()


@attrs.frozen
class _Opened:
    """What opening the file gave: how many rows have an outcome, how many are sent again, a warning that is due."""

    writing: sqlite3.Connection
    commits: Commits
    recorded: int
    retried: int
    stale: str | None


class Journal:
    """Records one run at `path`, or goes on with the run recorded there; see `altcraft_async.engine.recorder.Recorder`.

    `target` is the address that the run sends to, `method` the call that it makes there, and `facts` the other settings
    that must stay unchanged because ids depend on them; a journal of another run is refused.

    With `retry_failed`, if every row of the input has an outcome, the lines that ended rejected, unknown or not sent
    are sent again: a rejected one under a new id, because for the old one the platform could only repeat the answer
    that it keeps. A failed update that a newer one of its line has overtaken becomes ``superseded`` instead. The record
    of a failure stays until its new outcome replaces it; if the input is refused, failures that were not sent by then
    keep their state. A run that has not finished is finished first: a newer update that is in doubt may have been
    applied, and the older one must not follow it. For the same reason an invalid row that was corrected is not sent
    before the run is finished; then it is sent, or is ``superseded`` like a failed one. A last row that was recorded
    when its line was not complete is sent again in full, with a `LongerRowWarning`. `extend` permits more rows than the
    input had when it was last read to its end. `dedup_window` is the platform's, in seconds. `begin_at` is called with
    the limit that the run before had learned.
    """

    __slots__ = (
        "_apart",
        "_begin_at",
        "_clock",
        "_connection",
        "_corrected",
        "_dedup_window",
        "_extend",
        "_facts",
        "_finished",
        "_lock",
        "_method",
        "_notifier",
        "_overtaken",
        "_path",
        "_phase",
        "_prefix",
        "_recalled",
        "_recorded",
        "_replay",
        "_resources",
        "_resumes",
        "_retry",
        "_retry_failed",
        "_rounds",
        "_run",
        "_sample",
        "_sampling",
        "_sent_again",
        "_target",
        "_writer",
    )  # fmt: skip

    _recorded: Callable[[Sequence[Outcome[object]]], None]
    _recalled: Ended | Outcome[object]
    _connection: sqlite3.Connection
    _replay: Replay
    _run: RunRecord
    _writer: GroupWriter[Item]

    lease_of = None  # a journal is one process's
    traceparent_of = None  # the run's own span is its updates'
    doubt_ends_at = None  # a doubt lasts until the run ends

    def __init__(  # noqa: PLR0913 - the settings of a record
        self,
        path: str | os.PathLike[str],
        *,
        target: str,
        method: str = LINE_STATUS,
        facts: Mapping[str, Fact] | None = None,
        retry_failed: bool = False,
        extend: bool = False,
        dedup_window: float = 86_400.0,
        notifier: Notifier | None = None,
        begin_at: Callable[[LearnedLimit], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._target = target
        self._method = method
        self._facts = facts
        self._retry_failed = retry_failed
        self._retry = _Retry.NONE
        self._extend = extend
        self._dedup_window = dedup_window
        self._notifier = notifier
        self._begin_at = begin_at
        self._clock = clock or _unset_clock()
        self._phase = _Phase.NEW
        self._lock = Lock(KIND, self._path)
        self._resources = contextlib.ExitStack()
        self._overtaken: list[int] = []
        self._corrected: list[Outcome[object]] = []
        self._finished = False
        self._apart: set[int] = set()
        self._rounds: dict[int, int] = {}
        self._sent_again: set[int] = set()
        self._prefix = ""
        self._sample: Callable[[], Sample] | None = None
        self._sampling: asyncio.TimerHandle | None = None
        self._resumes = False

    def __repr__(self) -> str:
        """Show the file and the run."""
        run = f" of run {self._run.run_id}" if self._phase is _Phase.OPEN else ""
        return f"<Journal {self._path}{run} ({self._phase.value})>"

    # -- life

    async def open(
        self,
        recorded: Callable[[Sequence[Outcome[object]]], None],
        failed: Callable[[StorageError], None],
        sample: Callable[[], Sample] | None = None,
    ) -> None:
        """Lock and read the file, or make it, and test that it can be written.

        Raises `JournalError` if that fails. Warns, with `DedupWindowWarning`, if lines in doubt will be sent after the
        dedup window.
        """
        self._recorded = recorded
        self._sample = sample
        opening = asyncio.get_running_loop().run_in_executor(None, self._open)
        try:
            opened = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._discard)
            raise
        self._writer = GroupWriter(
            KIND,
            self._path,
            opened.writing,
            write=opened.commits.write,
            committed=self._committed,
            failed=lambda error, _: failed(error),
            linger=_LINGER,
        )
        self._phase = _Phase.OPEN
        if self._begin_at is not None and (learned := self._run.learned) is not None:
            self._begin_at(learned)
        if self._notifier is not None:
            self._notifier.journal_opened(self._path, self._run.run_id, opened.recorded, opened.retried)
        if opened.stale is not None:
            try:
                STALE.get()(opened.stale)
            except DedupWindowWarning:  # made an error by a filter
                self._refuse()
                await self.aclose()
                raise
        self._take_sample()

    def _discard(self, opening: asyncio.Future[_Opened]) -> None:
        """Undo an opening that nobody waits for any more."""
        if opening.exception() is None:
            opening.result().writing.close()
        self._resources.close()

    def _open(self) -> _Opened:
        """Do what blocks."""
        with contextlib.ExitStack() as resources:
            self._lock.acquire(f"the journal {self._path} is in use by another run; wait until that has ended")
            resources.callback(self._lock.release)
            connection = self._connection = resources.enter_context(contextlib.closing(open_database(KIND, self._path)))
            with translated(KIND, self._path):
                recorded, retried, stale = self._begin(connection)
            commits = Commits(
                connection, self._path, self._run, rounds=self._rounds, corrected=self._apart, clock=self._clock
            )
            writing = open_database(KIND, self._path, check=False)
            self._resources = resources.pop_all()
            return _Opened(writing, commits, recorded, retried, stale)

    def _begin(self, connection: sqlite3.Connection) -> tuple[int, int, str | None]:
        known = RunRecord.read(connection, self._path)
        retried, recorded, stale = 0, 0, None
        if known is None:
            now = float(self._clock())
            others = {} if self._facts is None else {**self._facts, ENDS: "", APART: ""}
            self._run = RunRecord(str(uuid4()), self._method, self._target, now, now, others=others)
            _write_record(connection, self._run)
        else:
            self._run, self._resumes = known, True
            self._apart.update(known.apart)
            self._check_run(known)
            recorded = recorded_rows(connection)
            self._finished = recorded == known.length
            if self._retry_failed and self._finished:
                self._retry = _Retry.UNDER_WAY
                retried = reopen(connection)
                recorded -= retried
            if recorded != known.length:
                stale = self._staleness(self._clock() - known.written)
        self._prefix = id_prefix(self._run.run_id)
        self._replay = Replay(connection, self._path, self._run.length)
        return recorded, retried, stale

    def _check_run(self, known: RunRecord) -> None:
        """Refuse the journal of a run that went elsewhere, or did something else."""
        if known.target != self._target:
            msg = (
                f"the journal {self._path} records a run against {known.target}, not {self._target}; "
                "give another journal, or the address of that run"
            )
            raise JournalError(msg, path=self._path)
        known.check(self._path, self._method, self._facts)

    def _staleness(self, age: float) -> str | None:
        """Say what can happen where lines may be in doubt for longer than the platform remembers their ids."""
        if age <= self._dedup_window:
            return None
        return (
            f"the journal {self._path} was last written {age / 3600:.0f} hours ago, and the platform remembers a "
            f"Request-ID for {self._dedup_window / 3600:.0f}: an update that was under way then, and had been applied, "
            "is now applied a second time"
        )

    async def aclose(self) -> None:
        """Commit what was recorded, close the file, free the lock; harmless when called again."""
        if self._sampling is not None:
            self._sampling.cancel()
        try:
            if self._phase is _Phase.OPEN:
                if self._sample is not None:
                    self._writer.submit(Sampled(self._clock(), self._sample()))
                if self._retry is _Retry.REFUSED:
                    self._writer.submit(PutBack(frozenset(self._sent_again)))
                self._writer.submit(Closing())
                await self._writer.aclose()
        finally:
            self._phase = _Phase.CLOSED
            self._resources.close()

    def _take_sample(self) -> None:
        """Look at the run, now and at the begin of each further second of its timeline, so that none is left out."""
        if self._sample is not None:
            now = self._clock()
            self._writer.submit(Sampled(now, self._sample()))
            delay = _SAMPLE_EVERY + _SAMPLE_AFTER - (now - self._run.created) % _SAMPLE_EVERY
            self._sampling = asyncio.get_running_loop().call_later(delay, self._take_sample)

    def _refuse(self) -> None:
        """Take note that the run does not come to its end, so that what it would have sent again is put back."""
        if self._retry is _Retry.UNDER_WAY:
            self._retry = _Retry.REFUSED

    # -- what ended before

    @property
    def ends(self) -> Sequence[int]:
        """The counts of rows after which the input had ended in an earlier run."""
        return self._run.ends

    def recall(self, index: int, row: Row) -> OutcomeState | None:
        """Return the state in which the row ended, or None if it is to be sent.

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
                self._refuse()
                raise InputChangedError(msg, path=self._path, index=index)
            return None
        try:
            ended = self._recalled = self._replay.match(index, row)
        except InputChangedError:
            self._refuse()
            raise
        if ended.state == CORRECTED:
            return self._recall_corrected(index, row)
        if ended.state in {OPEN, LONGER}:
            self._rounds[index] = ended.round
            if ended.state == LONGER:
                said = (
                    f"row {index + 1} says more than when the journal {self._path} recorded it as the last: its line "
                    "was not there as a whole; it is sent as it stands now"
                )
                warnings.warn(said, LongerRowWarning, stacklevel=2)
            return None
        try:
            state = OutcomeState.of_number(ended.state)
        except LookupError:
            raise damaged(KIND, self._path) from None
        if (
            self._retry is not _Retry.NONE and state in _FAILED
        ):  # it was not opened again: a newer one of its line has overtaken it
            state = OutcomeState.SUPERSEDED
            self._overtaken.append(index)
            self._recalled = ended._replace(state=state.number)
        return state

    def _recall_corrected(self, index: int, row: Row) -> OutcomeState | None:
        """Return what a row is that was invalid and was corrected: open, unless that would put its line back."""
        if isinstance(row, Exception):
            return None  # it is wrong in another way now
        self._apart.add(index)
        if not self._finished:
            error = RunStoppedError("the row was corrected, and is sent once the run is finished: run it again")
            self._recalled = _outcome(index, row, OutcomeState.NOT_SENT, error)
            return OutcomeState.NOT_SENT
        if self._replay.is_overtaken(index, row):
            self._recalled = _outcome(index, row, OutcomeState.SUPERSEDED)
            self._corrected.append(self._recalled)
            return OutcomeState.SUPERSEDED
        self._rounds[index] = 0
        return None

    def apart(self, index: int) -> bool:
        """Say whether the row recalled last was invalid once, and so stands in no batch with others."""
        return index in self._apart

    def ahead(self, index: int) -> int:
        """Return how many rows from `index` on can be passed over together."""
        return self._replay.ahead() if index == self._replay.expected else 0

    def skip(self, rows: Sequence[LineStatusUpdate | InvalidUpdateError]) -> None:
        """Pass over that many rows; raises `InputChangedError` for one that is not the one recorded."""
        try:
            self._replay.skip(rows)
        except InputChangedError:
            self._refuse()
            raise

    def recalled(self, row: Row) -> Outcome[object]:
        """Return the outcome of the row recalled last."""
        known = self._recalled
        if not isinstance(known, Ended):
            return known
        return outcome_of(self._connection, self._path, known, row, self._prefix)

    # -- what ends now

    def request_id(self, index: int, update: LineStatusUpdate) -> str:
        """Return the ``Request-ID`` of an update."""
        if index in self._rounds:
            self._sent_again.add(index)
        return request_id_of_update(self._prefix, index, update, self._rounds.get(index, 0))

    def batch_request_id(self, rows: BatchRows) -> str:
        """Return the ``Request-ID`` of a batch."""
        rounds = self._rounds
        if rounds:
            self._sent_again.update(rounds.keys() & set(rows.indices))
        said = [
            (index, content, rounds.get(index, 0)) for index, content in zip(rows.indices, rows.contents, strict=True)
        ]
        return batch_request_id_of(self._prefix, said)

    def asked_before(self, index: int) -> bool:
        """Say whether this goes on with a run, whose open updates may all have been sent."""
        del index
        return self._resumes

    def left_in_doubt(self, index: int) -> bool:
        """Say whether an earlier run knew the row, or was still under way: else it is new, behind a finished input."""
        return not self._finished or index < (self._run.length or 0)

    def record(self, outcomes: Sequence[Outcome[object]]) -> None:
        """Queue outcomes for the next commit, all for the same one."""
        self._writer.submit(tuple(outcomes))

    def exhausted(self, rows: int) -> None:
        """Note the length of the input; raises `InputChangedError` if it is known to have more."""
        known = self._run.length
        try:
            self._replay.end(rows)
        except InputChangedError:
            self._refuse()
            raise
        if known is not None and rows < known:  # and none of the missing ones is recorded
            msg = (
                f"the input ends after {rows} rows, and the journal {self._path} knows that it has {known}; "
                "give the input as it was, or another journal"
            )
            raise InputChangedError(msg, path=self._path, index=rows)
        if self._overtaken or self._corrected:
            self._writer.submit(Overtaken(self._overtaken, self._corrected))
        if rows != known:
            self._writer.submit(Length(rows))

    def _committed(self, group: Sequence[Item]) -> None:
        outcomes = [outcome for item in group if type(item) is tuple for outcome in item]
        if outcomes:
            self._sent_again.difference_update([outcome.index for outcome in outcomes] if self._sent_again else ())
            self._recorded(outcomes)


def _outcome(index: int, row: Row, state: OutcomeState, error: RunStoppedError | None = None) -> Outcome[object]:
    if isinstance(row, Fingerprint):
        return Outcome(index, None, state, error=error, **row._asdict())
    return Outcome(index, row, state, error=error)  # type: ignore[arg-type]  # no error comes here
