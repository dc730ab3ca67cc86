"""One copy of a shard at work: it claims the shard, gives signs of life, delivers it, and leaves all in order."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import logging
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

import attrs

from altcraft_async.errors import AltcraftError, DeadlineError, RunStoppedError
from altcraft_async.flow.limit import Shared
from altcraft_async.journal import JournalReader
from altcraft_async.journal.recorder import STALE
from altcraft_async.observe import UpdateSettled
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.shards.errors import ShardBusyError, ShardError
from altcraft_async.shards.lease import BEAT, Holder, Progress, Watched, silence_of
from altcraft_async.shards.local import Local
from altcraft_async.shards.members import Members
from altcraft_async.shards.plan import foreign, name_of
from altcraft_async.shards.report import ShardReport, ShardState, read_report
from altcraft_async.shards.rows import rows_of, write_failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from altcraft_async.client import AltcraftClient
    from altcraft_async.journal import JournalSummary
    from altcraft_async.observe import Event
    from altcraft_async.shards.plan import Plan
    from altcraft_async.shards.report import Known
    from altcraft_async.storage.places import Place

__all__ = ["Busy", "Copy", "Counter", "Job"]

_T = TypeVar("_T")
Busy: TypeAlias = Literal["wait", "fail", "join"]

SNAPSHOT_EVERY: Final = 10.0
"""Seconds between two snapshots of the journal: what a death can cost in repeats."""
_LOOK_EVERY: Final = 1.0
_SETTLE_SECONDS: Final = 0.05
"""How long a claim waits at least, for a copy that looked in the same moment to say so too; five times as long as the
claim took, where that is more."""
_PATIENCE: Final = 10.0
"""Seconds after which somebody who has interrupted a copy is told what is still done, again and again."""
_STILL_LEFT: Final = (
    "shard %d of %s is still being left in order, with a last snapshot if anything was sent; to end at once, kill "
    "process %d (SIGKILL): what the snapshot before misses then goes out again, under the same ids"
)
_TAKEN_OVER: Final = "another copy of the shard has taken over"
_log = logging.getLogger("altcraft_async")
_notes = logging.getLogger("altcraft_async.shards")
"""What a person must know."""


class Counter:
    """Counts the outcomes of a client, and what a journal had before."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = dict.fromkeys(OutcomeState, 0)

    def on_event(self, event: Event, /) -> None:
        """Count an outcome; what the end of the run has cut off has none, and is sent next time."""
        if type(event) is UpdateSettled and not isinstance(event.outcome.error, RunStoppedError | DeadlineError):
            self.counts[event.outcome.state] += 1


@attrs.frozen
class Job:
    """What a copy is to do; `ends_at` is its deadline by the monotonic clock."""

    place: Place
    plan: Plan
    number: int
    known: Known
    retry_failed: bool
    ends_at: float | None = None

    def left(self) -> float | None:
        """Return the seconds until the deadline, none once it has passed; None without one."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def done(self) -> ShardReport | None:
        """Return the report of a shard that is done, where nothing of it is to be sent again."""
        done, known = self.reported(), self.known.done
        again = done is not None and self.retry_failed and done.failed and known in (None, done)
        return None if again else done

    def reported(self) -> ShardReport | None:
        """Return the report that the directory has."""
        return read_report(self.place, self.plan, self.number)


class _Phase(enum.Enum):
    CLAIMING = enum.auto()
    """The journal is not here yet: what it knows is what the copy before has said."""
    AT_WORK = enum.auto()
    ENDED = enum.auto()
    """Nothing more is written."""


class Copy:
    """One copy of a shard at work. ``taken_over`` says that another copy delivers it, or has come further."""

    __slots__ = (
        "_before", "_begun", "_client", "_counts", "_holder", "_holds", "_job", "_known", "_local", "_lock", "_phase",
        "_problem", "_run_id", "taken_over",
    )  # fmt: skip

    def __init__(self, job: Job, client: AltcraftClient, counter: Counter, folder: Path) -> None:
        self._job = job
        self._client = client
        self._counts = counter.counts
        self._local = Local(job.place, job.plan, job.number, folder)
        self._run_id = job.plan.run_id(job.number)
        self._holder = Holder.own(self._run_id)
        self._holds = False
        self._known: ShardReport | None = None
        self._before = Progress()
        self._begun = time.monotonic()
        self._problem: str | None = None
        self._phase = _Phase.CLAIMING
        self._lock = threading.Lock()  # a thread that is not waited for any more may still be at it
        self.taken_over = False

    async def run(self, busy: Busy) -> ShardReport:
        """Deliver the shard; return its report, or that of the copy which was waited for."""
        # Signs of life are given from the claim until all is written: fetching and writing may take minutes.
        async with contextlib.AsyncExitStack() as stack:
            try:
                done = await self._take(busy)
                if done is not None:
                    return done
                await _beside(stack, self._again_and_again(BEAT, lambda: partial(self._sign, self._progress())))
                if await asyncio.to_thread(self._fetch):
                    await asyncio.to_thread(self._withdraw, self._progress())
            except BaseException as error:
                # Nothing is here yet that could be told, so what the directory has stays as it is.
                await self._in_the_end(self._give_back, error)
                raise
            try:
                await self._deliver()
            except BaseException as error:
                await self._in_the_end(partial(self._end, self._progress()), error)
                raise
            return await self._in_the_end(partial(self._end, self._progress()))

    async def _deliver(self) -> None:
        async with self._client, contextlib.AsyncExitStack() as stack:
            if _is_shared(self._client):
                members = Members(self._job.place, self._client)
                stack.callback(members.leave)
                await members.join(self._job.left())
                await _beside(stack, members.stay())
            await _beside(stack, self._again_and_again(SNAPSHOT_EVERY, lambda: self._snapshot))
            await self._send()

    async def _in_the_end(self, work: Callable[[], _T], problem: BaseException | None = None) -> _T:
        """Do to its end what must be done, and raise the `problem` that led here, or the cancellation that came then.

        However often this is cancelled: what the work needs is removed when this is left.
        """
        number, address = self._job.number, self._job.place.address
        # No task, since the end of asyncio.run cancels all that there are.
        ending = asyncio.get_running_loop().run_in_executor(None, work)
        while not ending.done():
            try:
                await asyncio.wait((ending,), timeout=_PATIENCE)
            except asyncio.CancelledError as cancelled:
                problem = problem or cancelled
            else:
                if problem is not None and not ending.done():
                    _notes.warning(_STILL_LEFT, number, address, os.getpid())
        if problem is None:
            return ending.result()
        if (error := ending.exception()) is not None:
            _notes.warning("shard %d of %s could not be left in order (%s)", number, address, error)
        raise problem

    # -- who delivers

    async def _take(self, busy: Busy) -> ShardReport | None:
        """Take the shard, or return the report of one that is done."""
        watched = Watched(self._job.known.dead)
        while True:
            done = await asyncio.to_thread(self._job.done)
            if done is not None:
                return done
            begun = time.monotonic()
            holder = await asyncio.to_thread(self._claim, watched, busy)
            if holder is None:
                if self._holds and await self._lost_the_claim(time.monotonic() - begun):
                    continue
                self._begun = time.monotonic()
                return None
            if busy == "fail":
                raise self._busy(holder)
            left = self._job.left()
            if left == 0.0:
                problem = f"process {holder.pid} of {holder.host} delivers it, and had not ended at the deadline"
                return self._told(ShardState.RUNNING, attrs.evolve(holder.progress, problem=problem))
            await asyncio.sleep(_LOOK_EVERY if left is None else min(_LOOK_EVERY, left))

    def _busy(self, holder: Holder) -> ShardBusyError:
        number, directory = self._job.number, self._job.place.address
        who = f"process {holder.pid} of {holder.host}"
        msg = f"shard {number} of {directory} is delivered by {who} now; wait for its end"
        return ShardBusyError(msg, directory=directory, shard=number, host=holder.host, pid=holder.pid)

    def _claim(self, watched: Watched, busy: Busy) -> Holder | None:
        """Say that this copy delivers the shard, or return who does; to ``join`` one says nothing."""
        place, number = self._job.place, self._job.number
        self._known = self._job.reported()
        holder = Holder.read(place, number)
        silence = silence_of(place, number, holder) if watched.is_first else 0.0
        lives = watched.lives(holder, time.monotonic(), silence)
        if holder is not None:
            if holder.run_id != self._run_id:
                raise foreign(place, number, "lease.json")
            self._before = attrs.evolve(holder.progress, elapsed=0.0, problem=None)
        if lives and busy != "join":
            return holder
        self._holds = not lives
        with self._lock:
            if self._holds and self._phase is not _Phase.ENDED:
                self._holder.write(place, number, self._before)
        return None

    async def _lost_the_claim(self, took: float) -> bool:
        """Look whether a copy that found nobody in the same moment has claimed the shard after this one."""
        await asyncio.sleep(max(_SETTLE_SECONDS, 5 * took))
        holder = await asyncio.to_thread(Holder.read, self._job.place, self._job.number)
        return holder is not None and holder.copy != self._holder.copy

    async def _again_and_again(self, every: float, prepare: Callable[[], Callable[[], None]]) -> None:
        """Do in a thread what is prepared here, every so many seconds, until this is cancelled."""
        while True:
            await asyncio.sleep(every)
            try:
                await asyncio.to_thread(prepare())
            except Exception as error:  # noqa: BLE001 - each file system has errors of its own, and the run goes on
                said = "shard %d of %s: no sign of life or snapshot could be written (%s)"
                _log.warning(said, self._job.number, self._job.place.address, error)

    def _sign(self, progress: Progress) -> None:
        """Give a sign of life, unless another copy has taken over."""
        with self._lock:
            if self._holds and self._phase is not _Phase.ENDED and not self._is_taken_over():
                self._holder.write(self._job.place, self._job.number, progress)

    def _is_taken_over(self) -> bool:
        """Look whether another copy, which took this one for dead, delivers the shard now, or has come further."""
        holder = Holder.read(self._job.place, self._job.number)
        if holder is not None and holder.copy != self._holder.copy:
            at_work = not (holder.ended or holder.is_gone())
            self.taken_over = at_work or self._job.reported() != self._known or self._is_behind()
        return self.taken_over

    def _is_behind(self) -> bool:
        return self._phase is _Phase.AT_WORK and self._local.is_behind()

    def _snapshot(self, *, last: bool = False) -> None:
        if not self._local.snapshot(last=last) and self._holds:
            self.taken_over = True

    def _progress(self) -> Progress:
        if self._phase is _Phase.CLAIMING:
            return self._before
        now, before = self._client.statistics(), self._before
        return Progress(
            {str(state): count for state, count in self._counts.items()},
            before.sent + now.sent,
            before.retries + now.retries,
            before.throttled + now.throttled,
            round(time.monotonic() - self._begun, 3),
            self._problem,
        )

    # -- the run

    def _fetch(self) -> bool:
        """Bring all here; say whether rows are sent again of which the directory has a report, or had one."""
        if self._holds:  # and so nobody else is writing them
            self._job.place.tidy(name_of(self._job.number, ""))
        summary = self._local.fetch(self._client.base_url)
        if self._job.retry_failed and summary.finished:
            announced = self._local.announce_retry()
            self.taken_over = announced is None and self._holds
            summary = announced or summary
        for state, count in summary.counts.items():
            self._counts[state] += count
        self._phase = _Phase.AT_WORK
        return not self.taken_over and (self._known is not None or summary.reopened > 0)

    def _withdraw(self, progress: Progress) -> None:
        """Take back the report and the failed rows of before, which are no longer true once one is sent again.

        The journal that is in the directory by now has these rows open, so a kill at any moment leaves what is true.
        """
        self._sign(progress)  # which is shown from then on
        place, number = self._job.place, self._job.number
        with self._lock:
            if self._phase is not _Phase.ENDED and not self.taken_over:
                place.remove(name_of(number, "report.json"))  # first: without it the shard is delivered again
                place.remove(name_of(number, "failed.parquet"))
                self._known = None

    async def _send(self) -> None:
        if self.taken_over:
            self._problem = _TAKEN_OVER
            return
        with contextlib.ExitStack() as opened:
            opened.callback(STALE.reset, STALE.set(self._local.note))
            outcomes = self._client.market.orders.stream_order_line_statuses(
                rows_of(self._job.plan, self._job.number, self._local.rows, opened),
                journal=self._local.journal,
                retry_failed=self._job.retry_failed,
                deadline=self._job.left(),
            )
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    error = outcome.error
                    if isinstance(error, RunStoppedError | DeadlineError) and self._problem is None:
                        self._problem = error.message  # without the line that it is of
                    if self.taken_over:
                        self._problem = _TAKEN_OVER
                        break

    def _give_back(self) -> None:
        """Say that this copy has ended, which has sent nothing."""
        with self._lock:
            self._phase = _Phase.ENDED
            if self._is_own():
                self._holder.write(self._job.place, self._job.number, self._before, ended=True)

    def _is_own(self) -> bool:
        """Whether the lease is this copy's."""
        holder = Holder.read(self._job.place, self._job.number)
        return holder is not None and holder.copy == self._holder.copy

    def _end(self, progress: Progress) -> ShardReport:
        """Write the last snapshot, the failed rows and the report; tell that this copy has ended."""
        state = ShardState.STOPPED
        try:
            if self._holds:
                with self._lock:
                    self._is_taken_over()
            if not self.taken_over:
                state, progress = self._write_end(progress)
        except AltcraftError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise self._local.keep(error) from error
        finally:
            with self._lock, contextlib.suppress(Exception):  # it counts as dead in a moment
                self._phase = _Phase.ENDED
                if self._holds and (not self.taken_over or self._is_own()):
                    self._holder.write(self._job.place, self._job.number, progress, ended=True)
        return self._told(state, progress)

    def _write_end(self, progress: Progress) -> tuple[ShardState, Progress]:
        summary = self._local.summary()
        # What was cut off by the end is in no journal, and has no outcome; nor has it for who looks meanwhile.
        self._counts.update(summary.counts)
        progress = attrs.evolve(progress, counts={str(state): count for state, count in summary.counts.items()})
        self._snapshot(last=True)
        if self.taken_over:
            return ShardState.STOPPED, progress
        state = ShardState.STOPPED
        if summary.finished:
            state = ShardState.DONE
            self._write_report(summary, progress)
        self._local.forget_kept()
        return state, progress

    def _write_report(self, summary: JournalSummary, progress: Progress) -> None:
        place, number = self._job.place, self._job.number
        if summary.length != self._job.plan.shards[number].rows:
            msg = f"shard {number} of {place.address} has {summary.length} rows, and not as many as planned"
            raise ShardError(msg, directory=place.address, shard=number)
        self._write_failed(summary)
        told = self._told(ShardState.DONE, progress)
        place.write(name_of(number, "report.json"), json.dumps(told.to_dict()).encode())

    def _told(self, state: ShardState, progress: Progress) -> ShardReport:
        problem = None if state is ShardState.DONE else progress.problem or "it has not come to its end"
        number = self._job.number
        rows = self._job.plan.shards[number].rows
        return ShardReport(number, state, self._run_id, rows, **progress.told() | {"problem": problem})

    def _write_failed(self, summary: JournalSummary) -> None:
        place, number, local = self._job.place, self._job.number, self._local
        name = name_of(number, "failed.parquet")
        if not summary.failed:
            place.remove(name)
            return
        failed = local.rows.with_name("failed")
        with JournalReader(local.journal) as journal, contextlib.ExitStack() as opened:
            write_failed(failed, journal, self._job.plan, number, local.rows, opened)
        place.put(failed, name)


def _is_shared(client: AltcraftClient) -> bool:
    settings = client.settings
    return any(isinstance(one, Shared) and one.among == "shards" for one in (settings.concurrency, settings.rate))


async def _beside(stack: contextlib.AsyncExitStack, work: Any) -> None:
    """Let work go on beside the run, until the stack is left."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait((task,))

    stack.push_async_callback(end)
