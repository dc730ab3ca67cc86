"""Delivering one shard, anywhere: synchronous, with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from altcraft_async.client import AltcraftClient
from altcraft_async.errors import AltcraftError, ConfigurationError, DeadlineError, JournalError, RunStoppedError
from altcraft_async.flow.limit import Shared
from altcraft_async.journal import JournalReader, begin_journal
from altcraft_async.journal.format import KIND
from altcraft_async.kinds import DEADLINE
from altcraft_async.observe import UpdateSettled
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.shards.errors import ShardBusyError, ShardError, in_words
from altcraft_async.shards.kept import forget_kept, keep, take_kept
from altcraft_async.shards.lease import BEAT, Holder, Progress, Watched, silence_of
from altcraft_async.shards.members import Members
from altcraft_async.shards.plan import checksum_of, foreign, name_of, read_plan
from altcraft_async.shards.report import ShardReport, ShardState, read_report
from altcraft_async.shards.rows import rows_of, write_failed
from altcraft_async.storage.places import Place
from altcraft_async.storage.scratch import remove_dead, scratch
from altcraft_async.storage.snapshot import copy_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from altcraft_async.flow.limit import Adaptive
    from altcraft_async.journal import JournalSummary
    from altcraft_async.observe import Event
    from altcraft_async.shards.plan import Plan

__all__ = ["Busy", "deliver_shard", "deliver_shard_here"]

Busy: TypeAlias = Literal["wait", "fail", "join"]

_SNAPSHOT_EVERY: Final = 10.0
"""Seconds between two snapshots of the journal: what a death can cost in repeats."""
_LOOK_EVERY: Final = 1.0
_SCRATCH: Final = "altcraft-shard-"
_SETTLE_SECONDS: Final = 0.05
"""How long a claim waits at least, for a copy that looked in the same moment to say so too; five times as long as the
claim took, where that is more."""
_log = logging.getLogger("altcraft_async")


def deliver_shard(  # noqa: PLR0913 - what can be said of a delivery, by keyword
    directory: str | os.PathLike[str],
    number: int,
    *,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
    deadline: float | None = None,
    busy: Busy = "wait",
) -> ShardReport:
    """Deliver one shard of a directory to its end, or go on with it, and return its report.

    A function for any engine's workers: synchronous, with an event loop of its own, and picklable with all its
    arguments and results. Address, token and all other settings come from the worker's own environment, or from the
    files that it names (``ALTCRAFT_TOKEN_FILE``, ``ALTCRAFT_CONFIG``); a token is no argument, so that it is in no
    pickle. If the environment has no address, the plan's target is taken.

    `concurrency` and `rate` take precedence over the settings; `Shared` among ``"shards"`` is a total for all that
    deliver shards of this directory, among ``"host"`` for this machine. `retry_failed` sends the failed rows of a done
    shard again. `deadline` is in seconds, and also ends the waiting for another copy, or for a part of a total; rows
    that it cuts off are sent next time.

    A done shard is not sent again: its report is returned. The journal is kept on this machine's disk while it runs,
    with a snapshot in the directory every 10 seconds and at the end. After a death another copy goes on: it sends the
    rows that the snapshot misses again, under the same ids. What a killed copy left on the disk is removed by the next
    one of this user on the same host. If the directory takes no last snapshot, the journal is kept here, and the error
    says where; the next copy on this machine goes on with it. If another copy is at work, or takes over from this one,
    `busy` says what to do: ``"wait"`` until it has ended or counts as dead, ``"fail"`` with `ShardBusyError` (or with
    a report that says so, if this copy had begun), or ``"join"``: send the same beside it. That is harmless if the
    platform recognises repeats; if it does not, changes are made twice.

    Returns a `ShardReport` even if the shard has not come to its end (a refused token, an outage beyond all patience,
    the deadline): then the shard is ``stopped``, or ``running`` if another copy is at work, with the ``problem``.
    Raises `ShardError` if the directory or the shard cannot be used, and `ConfigurationError` for settings that cannot
    work. An interruption writes a last snapshot and is passed on. Within a running event loop await
    `deliver_shard_here` instead.
    """
    delivery = deliver_shard_here(
        directory,
        number,
        concurrency=concurrency,
        rate=rate,
        retry_failed=retry_failed,
        deadline=deadline,
        busy=busy,
    )
    return asyncio.run(delivery)


async def deliver_shard_here(  # noqa: PLR0913 - what can be said of a delivery, by keyword
    directory: str | os.PathLike[str],
    number: int,
    *,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
    deadline: float | None = None,
    busy: Busy = "wait",
) -> ShardReport:
    """Deliver one shard in the running event loop; see `deliver_shard`. Cancellation writes a last snapshot."""
    if busy not in {"wait", "fail", "join"}:
        msg = f"busy must be 'wait', 'fail' or 'join', not {busy!r}"
        raise ConfigurationError(msg, field="busy")
    DEADLINE.or_none().check("deadline", deadline)
    begun = time.monotonic()
    place = Place(directory)
    plan = await asyncio.to_thread(read_plan, place)
    number = plan.check_number(number, place.address)
    given = {name: value for name, value in (("concurrency", concurrency), ("rate", rate)) if value is not None}
    with in_words(place.address, number):
        done = await asyncio.to_thread(read_report, place, plan, number)
        if done is not None and not (retry_failed and done.failed):
            return done
        await asyncio.to_thread(remove_dead, _SCRATCH)
        ends_at = None if deadline is None else begun + deadline
        while True:
            counter = _Counter()
            client = _make_client(place, plan, number, observers=(counter,), **given)
            copy = _Copy(place, plan, number, client, counter, retry_failed=retry_failed, ends_at=ends_at)
            with scratch(_SCRATCH) as folder:
                told = await copy.run(folder, busy)
            if not copy.taken_over or busy != "wait":
                return told


def _make_client(place: Place, plan: Plan, number: int, **given: Any) -> AltcraftClient:
    """Make the client by this process's own environment; raises `ShardError` if it is not for the plan's target."""
    client = AltcraftClient.from_env(plan.environ(os.environ), **given)
    if plan.target not in {None, client.base_url}:
        msg = (
            f"the plan in {place.address} is for {plan.target}, and the settings are for {client.base_url}; change one"
        )
        raise ShardError(msg, directory=place.address, shard=number)
    return client


class _Counter:
    """Counts the outcomes of a client, and what a journal had before."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = dict.fromkeys(OutcomeState, 0)

    def on_event(self, event: Event, /) -> None:
        """Count an outcome."""
        if type(event) is UpdateSettled:
            self.counts[event.outcome.state] += 1


class _Copy:
    """One copy of a shard at work."""

    __slots__ = (
        "_before", "_begun", "_client", "_counts", "_ended", "_ends_at", "_file", "_holder", "_holds", "_journal",
        "_known", "_lock", "_number", "_place", "_plan", "_problem", "_retry_failed", "_run_id", "_snapshot_at",
        "taken_over",
    )  # fmt: skip

    _file: Path
    _journal: Path

    def __init__(  # noqa: PLR0913 - what a copy is made of
        self,
        place: Place,
        plan: Plan,
        number: int,
        client: AltcraftClient,
        counter: _Counter,
        *,
        retry_failed: bool,
        ends_at: float | None,
    ) -> None:
        self._place = place
        self._plan = plan
        self._number = number
        self._client = client
        self._run_id = plan.run_id(number)
        self._retry_failed = retry_failed
        self._ends_at = ends_at
        self._holder = Holder.own(self._run_id)
        self._known: ShardReport | None = None
        self._holds = False
        self._before = Progress()
        self._begun = time.monotonic()
        self._counts = counter.counts
        self._problem: str | None = None
        self._snapshot_at = time.monotonic()
        self.taken_over = False
        self._lock = threading.Lock()  # a thread that is not waited for any more may still be at it
        self._ended = False

    async def run(self, folder: Path, busy: Busy) -> ShardReport:
        try:
            done = await self._take(busy)
            if done is not None:
                return done
            self._file, self._journal = folder / self._plan.shards[self._number].file, folder / "journal"
            await asyncio.to_thread(self._fetch)
        except BaseException:
            # Nothing is here yet that could be told, so what the directory has stays as it is.
            await self._in_the_end(self._give_back)
            raise
        try:
            async with self._client, contextlib.AsyncExitStack() as stack:
                if _is_shared(self._client):
                    members = Members(self._place, self._client)
                    stack.callback(members.leave)
                    await members.join(self._left())
                    await _beside(stack, members.stay())
                await _beside(stack, self._beat())
                await self._send()
        except BaseException:
            await self._in_the_end(partial(self._end, self._progress()))
            raise
        return await asyncio.shield(asyncio.to_thread(self._end, self._progress()))

    async def _in_the_end(self, work: Callable[[], object]) -> None:
        """Do what must be done also where this is cancelled or has failed; that stays the error which is raised."""
        try:
            await asyncio.shield(asyncio.to_thread(work))
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            _log.warning("shard %d of %s could not be left in order (%s)", self._number, self._place.address, error)

    # -- who delivers

    async def _take(self, busy: Busy) -> ShardReport | None:
        """Take the shard, or return the report of one that is done."""
        watched = Watched()
        while True:
            done = await asyncio.to_thread(read_report, self._place, self._plan, self._number)
            if done is not None and not (self._retry_failed and done.failed):
                return done
            self._known = done
            begun = time.monotonic()
            holder = await asyncio.to_thread(self._claim, watched, busy)
            if holder is None:
                if self._holds and await self._lost_the_claim(time.monotonic() - begun):
                    continue
                self._begun = time.monotonic()
                return None
            if busy == "fail":
                who = f"process {holder.pid} of {holder.host}"
                msg = f"shard {self._number} of {self._place.address} is delivered by {who} now; wait for its end"
                raise ShardBusyError(
                    msg, directory=self._place.address, shard=self._number, host=holder.host, pid=holder.pid
                )
            left = self._left()
            if left == 0.0:
                problem = f"process {holder.pid} of {holder.host} delivers it, and had not ended at the deadline"
                progress = attrs.evolve(holder.progress, problem=problem)
                return self._told(ShardState.RUNNING, progress)
            await asyncio.sleep(_LOOK_EVERY if left is None else min(_LOOK_EVERY, left))

    def _left(self) -> float | None:
        """Return the seconds until the deadline, none once it has passed; None without one."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def _claim(self, watched: Watched, busy: Busy) -> Holder | None:
        """Say that this copy delivers the shard, or return who does; to ``join`` one says nothing."""
        holder = Holder.read(self._place, self._number)
        silence = silence_of(self._place, self._number, holder) if watched.is_first else 0.0
        lives = watched.lives(holder, time.monotonic(), silence)
        if holder is not None:
            if holder.run_id != self._run_id:
                raise foreign(self._place, self._number, "lease.json")
            self._before = attrs.evolve(holder.progress, elapsed=0.0, problem=None)
        if lives and busy != "join":
            return holder
        self._holds = not lives
        if self._holds:
            self._holder.write(self._place, self._number, self._before)
        return None

    async def _lost_the_claim(self, took: float) -> bool:
        """Look whether a copy that found nobody in the same moment has claimed the shard after this one."""
        await asyncio.sleep(max(_SETTLE_SECONDS, 5 * took))
        holder = await asyncio.to_thread(Holder.read, self._place, self._number)
        return holder is not None and holder.copy != self._holder.copy

    async def _beat(self) -> None:
        """Write signs of life and snapshots, until this is cancelled; stop if another copy has taken over."""
        while True:
            await asyncio.sleep(BEAT)
            try:
                await asyncio.to_thread(self._sign, self._progress())
            except Exception as error:  # noqa: BLE001 - each file system has errors of its own, and the run goes on
                said = "shard %d of %s: no sign of life or snapshot could be written (%s)"
                _log.warning(said, self._number, self._place.address, error)

    def _sign(self, progress: Progress) -> None:
        with self._lock:
            if self._ended:
                return
            if self._holds:
                if self._is_taken_over():
                    return
                self._holder.write(self._place, self._number, progress)
            if time.monotonic() - self._snapshot_at >= _SNAPSHOT_EVERY:
                self._snapshot()

    def _is_taken_over(self) -> bool:
        """Look whether another copy, which took this one for dead, delivers the shard now."""
        holder = Holder.read(self._place, self._number)
        if holder is not None and holder.copy != self._holder.copy:
            at_work = not (holder.ended or holder.is_gone())
            self.taken_over = at_work or read_report(self._place, self._plan, self._number) != self._known
        return self.taken_over

    def _progress(self) -> Progress:
        now, before = self._client.statistics(), self._before
        return Progress(
            {str(state): count for state, count in self._counts.items()},
            before.sent + now.sent,
            before.retries + now.retries,
            before.throttled + now.throttled,
            round(time.monotonic() - self._begun, 3),
            self._problem,
        )

    # -- what is on this machine

    def _fetch(self) -> None:
        """Bring the shard and its journal here; refuse a shard that is not the planned one."""
        shard = self._plan.shards[self._number]
        try:
            self._place.fetch(shard.file, self._file)
        except FileNotFoundError:
            msg = f"{shard.file} of {self._place.address} is not there; put it back"
            raise ShardError(msg, directory=self._place.address, shard=self._number) from None
        if checksum_of(self._file) != shard.checksum:
            where = f"{shard.file} of {self._place.address}"
            msg = f"{where} is not the file that was planned; put that back, or make a new plan elsewhere"
            raise ShardError(msg, directory=self._place.address, shard=self._number)
        if self._holds:  # and so nobody else is writing them
            self._place.tidy(name_of(self._number, ""))
        self._restore()
        if not self._journal.exists():
            begin_journal(self._journal, run_id=self._run_id, target=self._client.base_url, now=time.time())
        with JournalReader(self._journal) as journal:
            for state, count in journal.summary().counts.items():
                self._counts[state] += count

    def _restore(self) -> None:
        """Take the journal of an earlier copy, of the directory or kept here, that knows most; or all is repeated."""
        fetch = partial(self._place.fetch, name_of(self._number, "journal"))
        most = -1
        for name, bring in (("fetched", fetch), ("kept", partial(take_kept, self._run_id))):
            path = self._journal.with_name(name)
            with contextlib.suppress(FileNotFoundError):
                bring(path)
                known = self._known_to(path)
                if known > most:
                    most = known
                    path.replace(self._journal)

    def _known_to(self, path: Path) -> int:
        """Return how many outcomes a journal has, -1 if it is damaged; refuse that of another plan."""
        try:
            with JournalReader(path) as journal:
                if journal.summary().run_id != self._run_id:
                    raise foreign(self._place, self._number, "journal")
                return sum(1 for _ in journal.outcomes())  # damage shows where it is read
        except JournalError as error:
            said = "a journal of shard %d of %s is left alone, what it had goes out again under its old ids: %s"
            _log.warning(said, self._number, self._place.address, error)
            return -1

    def _snapshot(self) -> None:
        copy = self._journal.with_name("snapshot")
        copy_database(KIND, str(self._journal), str(copy))
        self._place.put(copy, name_of(self._number, "journal"))
        self._snapshot_at = time.monotonic()

    # -- the run

    async def _send(self) -> None:
        with contextlib.ExitStack() as opened:
            outcomes = self._client.market.orders.stream_order_line_statuses(
                rows_of(self._plan, self._file, opened),
                journal=self._journal,
                retry_failed=self._retry_failed,
                deadline=self._left(),
            )
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    if type(outcome.error) in {RunStoppedError, DeadlineError} and self._problem is None:
                        self._problem = str(outcome.error)
                    if self.taken_over:
                        self._problem = "another copy of the shard has taken over"
                        break

    def _give_back(self) -> None:
        """Say that this copy has ended, which has sent nothing."""
        with self._lock:
            self._ended = True
            holder = Holder.read(self._place, self._number)
            if holder is not None and holder.copy == self._holder.copy:
                self._holder.write(self._place, self._number, self._before, ended=True)

    def _end(self, progress: Progress) -> ShardReport:
        """Write the last snapshot, the failed rows and the report; tell that this copy has ended."""
        state = ShardState.STOPPED
        with self._lock:
            self._ended = True
            try:
                if self._holds:
                    self._is_taken_over()
                if not self.taken_over:
                    self._snapshot()
                    with JournalReader(self._journal) as journal:
                        summary = journal.summary()
                    # What was cut off by the end is in no journal, and has no outcome.
                    counts = {str(state): count for state, count in summary.counts.items()}
                    progress = attrs.evolve(progress, counts=counts)
                    if summary.finished:
                        state = ShardState.DONE
                        self._write_report(summary, progress)
                    forget_kept(self._run_id)
            except AltcraftError:
                raise
            except Exception as error:  # each file system has errors of its own
                raise self._kept(error) from error
            finally:
                if self._holds and not self.taken_over:
                    with contextlib.suppress(Exception):  # it counts as dead in a moment
                        self._holder.write(self._place, self._number, progress, ended=True)
        return self._told(state, progress)

    def _kept(self, error: Exception) -> ShardError:
        """Keep the journal on this machine, as its directory does not take it, and return the error that says so."""
        copy = self._journal.with_name("snapshot")
        copy_database(KIND, str(self._journal), str(copy))
        kept = keep(copy, self._run_id)
        msg = (
            f"shard {self._number} of {self._place.address} could not be written there in the end ({error}); its "
            f"journal is kept at {kept}: correct that, and deliver the shard again on this machine, and it goes on"
        )
        return ShardError(msg, directory=self._place.address, shard=self._number)

    def _write_report(self, summary: JournalSummary, progress: Progress) -> None:
        if summary.length != self._plan.shards[self._number].rows:
            msg = f"shard {self._number} of {self._place.address} has {summary.length} rows, and not as many as planned"
            raise ShardError(msg, directory=self._place.address, shard=self._number)
        self._write_failed(summary)
        told = self._told(ShardState.DONE, progress)
        self._place.write(name_of(self._number, "report.json"), json.dumps(told.to_dict()).encode())

    def _told(self, state: ShardState, progress: Progress) -> ShardReport:
        problem = None if state is ShardState.DONE else progress.problem or "it has not come to its end"
        rows = self._plan.shards[self._number].rows
        return ShardReport(self._number, state, self._run_id, rows, **progress.told() | {"problem": problem})

    def _write_failed(self, summary: JournalSummary) -> None:
        name = name_of(self._number, "failed.parquet")
        if not summary.failed:
            self._place.remove(name)
            return
        failed = self._journal.with_name("failed")
        with JournalReader(self._journal) as journal, contextlib.ExitStack() as opened:
            write_failed(failed, journal, self._plan, self._file, opened)
        self._place.put(failed, name)


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
