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
from altcraft_async.errors import ConfigurationError, DeadlineError, JournalError, RunStoppedError
from altcraft_async.flow.limit import Shared
from altcraft_async.ingest import FIELDS
from altcraft_async.journal import JournalReader, begin_journal
from altcraft_async.journal.format import KIND
from altcraft_async.kinds import DEADLINE
from altcraft_async.observe import UpdateSettled
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.shards.errors import ShardBusyError, ShardError, in_words
from altcraft_async.shards.lease import BEAT, Holder, Progress, Watched, silence_of
from altcraft_async.shards.members import Members
from altcraft_async.shards.plan import checksum_of, foreign, name_of, read_plan
from altcraft_async.shards.report import ShardReport, ShardState, read_report
from altcraft_async.shards.rows import places_of, rows_of
from altcraft_async.storage.columns import ParquetRows
from altcraft_async.storage.places import Place
from altcraft_async.storage.scratch import remove_dead, scratch
from altcraft_async.storage.snapshot import copy_database

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
_FAILED: Final[Mapping[str, type]] = {
    "index": int, "row": int, "order_external_id": str, "order_line_external_id": str, "status_external_id": str,
    "state": str, "attempts": int, "request_id": str, "error_type": str, "error": str,
}  # fmt: skip
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
    shard again. `deadline` is in seconds; rows that it cuts off are sent next time.

    A done shard is not sent again: its report is returned. The journal is kept on this machine's disk while it runs,
    with a snapshot in the directory every 10 seconds and at the end. After a death another copy goes on: it sends the
    rows that the snapshot misses again, under the same ids. What a killed copy left on the disk is removed by the next
    one of this user on the same host. If another copy is at work, or takes over from this one,
    `busy` says what to do: ``"wait"`` until it has ended or counts as dead, ``"fail"`` with `ShardBusyError` (or with
    a report that says so, if this copy had begun), or ``"join"``: send the same beside it. That is harmless if the
    platform recognises repeats; if it does not, changes are made twice.

    Returns a `ShardReport` even if the shard has not come to its end (a refused token, an outage beyond all patience,
    the deadline): then the shard is ``stopped``, with the ``problem``. Raises `ShardError` if the directory or the
    shard cannot be used, and `ConfigurationError` for settings that cannot work. An interruption writes a last snapshot
    and is passed on. Within a running event loop await `deliver_shard_here` instead.
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
    place = Place(directory)
    with in_words(place.address):
        plan = await asyncio.to_thread(read_plan, place)
    number = plan.check_number(number, place.address)
    given = {name: value for name, value in (("concurrency", concurrency), ("rate", rate)) if value is not None}
    with in_words(place.address, number):
        done = await asyncio.to_thread(read_report, place, plan, number)
        if done is not None and not (retry_failed and done.failed):
            return done
        await asyncio.to_thread(remove_dead, _SCRATCH)
        while True:
            counter = _Counter()
            client = _make_client(place, plan, number, observers=(counter,), **given)
            copy = _Copy(place, plan, number, client, counter, retry_failed=retry_failed, deadline=deadline)
            with scratch(_SCRATCH) as folder:
                told = await copy.run(folder, busy)
            if not copy.taken_over or busy != "wait":
                return told


def _make_client(place: Place, plan: Plan, number: int, **given: Any) -> AltcraftClient:
    """Make the client by this process's own environment; raises `ShardError` if it is not for the plan's target."""
    environ = dict(os.environ)
    if plan.target is not None and not environ.get("ALTCRAFT_CONFIG"):
        environ["ALTCRAFT_BASE_URL"] = environ.get("ALTCRAFT_BASE_URL") or plan.target
    client = AltcraftClient.from_env(environ, **given)
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
        "_before", "_begun", "_client", "_counts", "_deadline", "_ended", "_file", "_holder", "_holds", "_journal",
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
        deadline: float | None,
    ) -> None:
        self._place = place
        self._plan = plan
        self._number = number
        self._client = client
        self._run_id = plan.run_id(number)
        self._retry_failed = retry_failed
        self._deadline = deadline
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
                    await members.join()
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
            await asyncio.sleep(_LOOK_EVERY)

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
        """Fetch the snapshot of an earlier copy; without it, all that it has is only repeated."""
        try:
            self._place.fetch(name_of(self._number, "journal"), self._journal)
            with JournalReader(self._journal) as journal:
                if journal.summary().run_id != self._run_id:
                    raise foreign(self._place, self._number, "journal")
                for _ in journal.outcomes():  # damage shows where it is read
                    pass
                return
        except FileNotFoundError:
            pass
        except JournalError as error:
            _log.warning("shard %d of %s begins anew, under its old ids: %s", self._number, self._place.address, error)
        for path in self._journal.parent.glob(f"{self._journal.name}*"):
            path.unlink()

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
                deadline=self._deadline,
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
            finally:
                if self._holds and not self.taken_over:
                    self._holder.write(self._place, self._number, progress, ended=True)
        return self._told(state, progress)

    def _write_report(self, summary: JournalSummary, progress: Progress) -> None:
        if summary.length != self._plan.shards[self._number].rows:
            msg = f"shard {self._number} of {self._place.address} has {summary.length} rows, and not as many as planned"
            raise ShardError(msg, directory=self._place.address, shard=self._number)
        self._write_failed(summary)
        told = self._told(ShardState.DONE, progress)
        self._place.write(name_of(self._number, "report.json"), json.dumps(told.to_dict()).encode())

    def _told(self, state: ShardState, progress: Progress) -> ShardReport:
        problem = None if state is ShardState.DONE else self._problem or "it has not come to its end"
        rows = self._plan.shards[self._number].rows
        return ShardReport(self._number, state, self._run_id, rows, **progress.told() | {"problem": problem})

    def _write_failed(self, summary: JournalSummary) -> None:
        name = name_of(self._number, "failed.parquet")
        if not summary.failed:
            self._place.remove(name)
            return
        failed = self._journal.with_name("failed")
        with JournalReader(self._journal) as journal, contextlib.ExitStack() as opened:
            outcomes = list(journal.outcomes(*(state for state in OutcomeState if not state.ok)))
            places = places_of(self._plan, self._file, [outcome.index for outcome in outcomes], opened)
            rows = ParquetRows(failed, _FAILED)
            for outcome in outcomes:
                place, ids = places[outcome.index]
                said = outcome.to_dict() | dict(zip(FIELDS, ids, strict=True)) | {"row": outcome.index, "index": place}
                rows.add([said[column] for column in _FAILED])
            rows.close()
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
