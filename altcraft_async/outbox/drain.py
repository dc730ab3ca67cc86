"""The delivering side of an outbox: the store feeds a bulk run, and the run's outcomes go back to the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from altcraft_async.errors import AltcraftError, DeadlineError, OutboxError, StorageError
from altcraft_async.outbox.failures import Topic
from altcraft_async.outbox.holding import Held, Holding
from altcraft_async.outbox.store import Burial, DeadLetter
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from altcraft_async.client import AltcraftClient
    from altcraft_async.engine.run import Run
    from altcraft_async.engine.work import Lease
    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.outbox.failures import FailureLog
    from altcraft_async.outbox.store import Counts, Entry, EntryPage, OutboxStore, Settled
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.values import LineStatusUpdate
    from altcraft_async.timeline import Sample

__all__ = ["Drainer"]

_log = logging.getLogger("altcraft_async")

_AT_ONCE = 256
"""Entries read from the store in one go."""

_LOOK_EVERY = 0.25
"""Seconds between two looks for what other processes have put."""

_SETTLE_EVERY = 0.02
"""Seconds between the beginnings of two commits of ends at least: each costs as much as several updates, and a put that
is committed beside it waits for the disk twice."""

_AFTER_TROUBLE = 0.5
"""Seconds after which a store that failed is asked again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before delivery is tried again when something stopped it altogether, like a refused token."""


class Drainer:
    """Delivers what waits in the buckets that it holds of `store`, until `finish` or cancellation.

    One run lasts for as long as nothing stops it, like a refused token, which
    `problem` then says; then it starts anew with all that waits. A store that fails is
    asked again, while the run goes on as far as its leases reach. `changed` is
    called with the store's counts after each commit, `leased` as `Holding` says, `died` with
    new dead letters once they are safe.
    """

    __slots__ = (
        "_altcraft", "_changed", "_clock", "_closing", "_cut", "_died", "_ended", "_entries", "_failed",
        "_failures", "_fed", "_finishing", "_flowing", "_flusher", "_give_up_after", "_last", "_loop", "_news",
        "_placing", "_recorded", "_resting", "_run", "_settled_ids", "_since", "_stopped_by", "_store", "_troubles",
        "_unplaced", "delivered", "holding", "last_success",
    )  # fmt: skip

    _recorded: Callable[[Sequence[Outcome[object]]], None]
    _failed: Callable[[StorageError], None]

    def __init__(  # noqa: PLR0913 - what a drainer is made of
        self,
        store: OutboxStore,
        altcraft: AltcraftClient,
        *,
        give_up_after: float | None,
        clock: Callable[[], float],
        changed: Callable[[Counts], None],
        leased: Callable[[int, int, int], None],
        died: Callable[[Sequence[DeadLetter]], None],
        failures: FailureLog,
    ) -> None:
        self._store = store
        self._altcraft = altcraft
        self._give_up_after = give_up_after
        self._clock = clock
        self._changed = changed
        self._died = died
        self._failures = failures
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._finishing = asyncio.Event()
        self._closing = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._resting = asyncio.Event()  # set while no run is under way
        self._resting.set()
        self._since = clock()
        self._entries: dict[int, tuple[Entry, Held]] = {}
        self._settled_ids: list[tuple[Held, int]] = []
        self._last: EntryPage | None = None
        self._fed = 0
        self._cut = False
        self._run: Run[LineStatusUpdate] | None = None
        self._placing, self._unplaced = asyncio.Event(), asyncio.Event()
        self._placing.set()
        self._ended: list[Outcome[object]] = []
        self._flusher: asyncio.Task[None] | None = None
        self.delivered = 0
        self.last_success: float | None = None
        self.holding = Holding(
            store, clock=clock, changed=self._on_leased(leased), shared=altcraft.take_part, failures=failures
        )
        self._stopped_by: str | None = None
        self._troubles: dict[str, str] = {}

    @property
    def draining(self) -> bool:
        """Whether this process delivers anything."""
        return self.holding.some.is_set()

    @property
    def problem(self) -> str | None:
        """What keeps updates from being delivered, in words, or None."""
        said = self._stopped_by or next(iter(self._troubles.values()), None) or self.holding.problem
        if said is not None or not self.draining or self._altcraft.closed:
            return said
        now = self._altcraft.statistics()
        if now.outage is None:
            return None
        return f"the server has served nobody for {now.outage:.0f} s; next try in {now.paused:.1f} s; {now.problem}"

    @property
    def paused(self) -> bool:
        """Whether delivery is paused."""
        return not self._flowing.is_set()

    async def pause(self) -> None:
        """Begin nothing more, and wait until all that is under way has ended and is safe; cancelled, it stays paused.

        A wait between two attempts ends: the next attempt is made after `resume`, under the same id.
        """
        self._flowing.clear()
        self._let_go()
        if self._run is not None:
            self._run.stop("the outbox is paused")
        await self._resting.wait()

    def resume(self) -> None:
        """Deliver again."""
        self._flowing.set()

    def wake_again(self) -> None:
        """Say that something waits that may have been sent before."""
        self._since = self._clock()
        self._news.set()

    async def place(self, update: LineStatusUpdate) -> None:
        """Wait until what was put has its place in the client's lanes, where its bucket is delivered here.

        Not where it could last: nothing is delivered now, or so much waits that the run reads no more. There a call of
        the client overtakes it, as the guarantees say.
        """
        if self.paused or not self.holding.holds(self._store.bucket_of(update)):
            return
        self._news.set()
        if self._run is not None and not self._run.full and "reading" not in self._troubles:
            await self._unplaced.wait()

    def _let_go(self) -> None:
        """Wake all that wait for a place."""
        self._placing.set()
        self._unplaced.set()
        self._unplaced = asyncio.Event()

    def finish(self) -> None:
        """Let `run` return once all that waits is delivered, or as soon as delivery is stopped by something."""
        self._finishing.set()
        self._news.set()

    async def run(self, again: float | None) -> None:
        """Deliver what is held, and look after `again` seconds for more; see `Holding.keep`.

        Cancelled, it gives requests in flight the grace of a bulk run, and records how they end.
        """
        pause = _FIRST_PAUSE
        keeper = self._loop.create_task(self.holding.keep(again))
        try:
            while await self._may_deliver():
                pause = await self._deliver_once(pause)
                if self._last is not None and self._last.anew:
                    continue
                if self._finishing.is_set():
                    return
                if not self.paused:
                    reason = self.problem or "a part of it could not be delivered"
                    said = f"the outbox {self._store.path} delivers again in {pause:.0f} s: {reason}"
                    self._failures.record(Topic.DELIVERY, said)
                    await _within(self._finishing, pause)
        finally:
            keeper.cancel()
            await asyncio.wait((keeper,))

    async def _deliver_once(self, pause: float) -> float:
        """Deliver in one run; return the seconds after which to begin another, where the last pause is given."""
        before = self.delivered
        try:
            await self._deliver()
        except AltcraftError as error:
            self._stopped_by = str(error)
        except Exception as error:  # noqa: BLE001 - a defect must not end the delivery of a service for good
            said = f"the delivery of the outbox {self._store.path} failed, and is begun anew"
            self._failures.record(Topic.DELIVERY, said, error=error)
            self._stopped_by = f"delivery failed ({type(error).__name__})"
        return _FIRST_PAUSE if self.delivered > before else min(2 * pause, _LONGEST_PAUSE)

    def _on_leased(self, leased: Callable[[int, int, int], None]) -> Callable[[int, int, int], None]:
        def changed(held: int, won: int, lost: int) -> None:
            if won:
                self._news.set()
            leased(held, won, lost)

        return changed

    async def _may_deliver(self) -> bool:
        """Wait until this process may deliver something; false when there is nothing to wait for any more."""
        while not (self._flowing.is_set() and self.holding.some.is_set()):
            if self._finishing.is_set():
                return False
            awaited = self.holding.some if self._flowing.is_set() else self._flowing
            tasks = [self._loop.create_task(event.wait()) for event in (awaited, self._finishing)]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
        return True

    async def _deliver(self) -> None:
        self._entries.clear()
        self._settled_ids.clear()
        self.holding.rewind()
        self._last = None
        self._closing.clear()
        self._fed = 0
        self._cut = False
        self._run = run = self._altcraft.market.orders.drain(self._feed(), recorder=self)
        self._resting.clear()
        try:
            async with contextlib.aclosing(run.stream()) as outcomes:
                async for outcome in outcomes:
                    known = self._entries.get(outcome.index)
                    if known is None or outcome.error is None or self.paused:
                        continue
                    entry, held = known
                    if outcome.state is not OutcomeState.UNKNOWN:
                        held.begun.discard(entry.id)
                    if held.lease.left() <= 0:  # another process has it, or reads it again
                        del self._entries[outcome.index]
                    else:  # it goes on waiting
                        self._stopped_by = str(outcome.error.message)
                        self._cut = True  # the run was stopped, and ends when it is fed no more
                        self._news.set()
        finally:
            self._run = None
            self._let_go()
            self._resting.set()

    async def _feed(self) -> AsyncGenerator[LineStatusUpdate, None]:
        while not self._cut:
            self._news.clear()
            if self._placing.is_set():  # what was put so far is found by this read, or while it goes on
                self._placing, self._unplaced = self._unplaced, asyncio.Event()
            batch = await self._read_surely()
            for entry, held in batch:
                if self._cut:
                    return
                self._entries[self._fed] = entry, held
                self._fed += 1
                if self._run is None or self._run.full:
                    self._let_go()
                yield entry.update
            more = self._last is not None and bool(self._last.more)
            if not more:
                self._placing.set()
            if more or self._news.is_set():
                continue
            if not self._finishing.is_set():
                await _within(self._news, _LOOK_EVERY)
            elif not batch:
                return

    async def _read_surely(self) -> list[tuple[Entry, Held]]:
        """Read, as often as it takes; raises what the store raises once the outbox is being closed."""
        while True:
            try:
                batch = await self._read()
            except StorageError as error:
                self._troubles["reading"] = str(error)
                self._failures.record(Topic.STORE, str(error))
                self._let_go()
                if self._finishing.is_set() or self._cut:
                    raise
                await _within(self._finishing, _AFTER_TROUBLE)
            else:
                self._troubles.pop("reading", None)
                return batch

    async def _read(self) -> list[tuple[Entry, Held]]:
        """Read what is new in the buckets that are held, and nothing that was read before.

        A read may begin before an entry is settled and end after that: only the next one cannot give it any more.
        """
        current = self.holding.current()
        if not current:
            self._last = None  # of what is won from here on nothing was read
            return []
        for held, id_ in self._settled_ids:
            held.read.discard(id_)
        self._settled_ids.clear()
        cursors = {bucket: held.cursor for bucket, held in current.items()}
        batch = self._last = await self._store.pending(cursors, last=self._last, limit=_AT_ONCE)
        if batch.anew:  # in a run that begins when all of this one has ended: nothing is sent by both
            self._since = self._clock()
            self._cut = True
        fresh = []
        for entry in batch.entries:
            held = current[entry.bucket]
            held.cursor = max(held.cursor, entry.id)
            if entry.id not in held.read:
                held.read.add(entry.id)
                fresh.append((entry, held))
        return fresh

    # -- the recorder of the run

    async def open(
        self,
        recorded: Callable[[Sequence[Outcome[object]]], None],
        failed: Callable[[StorageError], None],
        sample: Callable[[], Sample] | None = None,
    ) -> None:
        """Take the run's callbacks; the store is open."""
        del sample  # nobody looks back at the deliveries of an outbox
        self._recorded = recorded
        self._failed = failed

    def recall(self, index: int, row: LineStatusUpdate | InvalidUpdateError) -> OutcomeState | None:
        """Know of nothing that ended: that is deleted."""

    def ahead(self, index: int) -> int:
        """Know of nothing that ended."""
        del index
        return 0

    def skip(self, rows: Sequence[LineStatusUpdate | InvalidUpdateError]) -> None:
        """Pass nothing over."""

    def recalled(self, row: LineStatusUpdate | InvalidUpdateError) -> Outcome[object]:
        """Never happens, as nothing is recalled."""
        raise LookupError(row)

    def request_id(self, index: int, update: LineStatusUpdate) -> str:
        """Return the id that the entry was accepted with."""
        del update
        entry, held = self._entries[index]
        held.begun.add(entry.id)
        return entry.request_id

    def asked_before(self, index: int) -> bool:
        """Say whether an earlier run, or another process, may have sent the entry.

        That is so of what was put before this process began, also where the clock was set back since.
        """
        entry, held = self._entries[index]
        before = entry.put_at <= max(self._since, held.since) or entry.put_at > self._clock()
        return before or entry.id in held.begun

    def left_in_doubt(self, index: int) -> bool:
        """Say so of all that was asked before."""
        return self.asked_before(index)

    def doubt_ends_at(self, index: int) -> float | None:
        """Return until when the entry may be repeated; after that the platform no longer knows its id."""
        if self._give_up_after is None:
            return None
        return self._loop.time() + self._entries[index][0].put_at + self._give_up_after - self._clock()

    def traceparent_of(self, index: int) -> str | None:
        """Return the span that put the entry."""
        return self._entries[index][0].traceparent

    def lease_of(self, index: int) -> Lease:
        """Return the lease of the entry's bucket."""
        return self._entries[index][1].lease

    def record(self, outcomes: Sequence[Outcome[object]]) -> None:
        """Queue ends for the store, which takes all that are queued together."""
        self._ended += outcomes
        for outcome in outcomes:
            self._entries[outcome.index][1].unsettled += 1
        if self._flusher is None:
            self._flusher = self._loop.create_task(self._flush())

    def exhausted(self, rows: int) -> None:
        """Have no opinion: the feed ends when the outbox is closed."""

    async def aclose(self) -> None:
        """Wait until the store has all ends, or fails once more; the store stays open."""
        self._closing.set()
        if self._flusher is not None:
            await asyncio.wait((self._flusher,))

    async def _flush(self) -> None:
        try:
            while self._ended:
                again_at = self._loop.time() + _SETTLE_EVERY
                outcomes, self._ended = self._ended, []
                self._changed(await self._settled(outcomes))
                self._recorded(outcomes)
                await _within(self._closing, again_at - self._loop.time())
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever for a store that broke its promise
            self._ended.clear()
            if not isinstance(error, StorageError):
                _log.exception("the store of the outbox %s failed unexpectedly", self._store.path)
                said = f"the outbox {self._store.path} failed ({type(error).__name__}); check its store"
                error = OutboxError(said, path=self._store.path)
            self._failed(error)
        finally:
            self._flusher = None

    async def _settled(self, outcomes: Sequence[Outcome[object]]) -> Counts:
        """Bring ends into the store, as often as it takes until the run is closed."""
        ended = [(*self._entries[outcome.index], outcome) for outcome in outcomes]
        delivered = [entry for entry, _, outcome in ended if outcome.ok]
        dead = [self._buried(entry, held, outcome) for entry, held, outcome in ended if not outcome.ok]
        settled = await self._settle(delivered, dead)
        for outcome in outcomes:
            entry, held = self._entries.pop(outcome.index)
            held.begun.discard(entry.id)
            held.unsettled -= 1
            self._settled_ids.append((held, entry.id))
        if delivered:
            self.delivered += len(delivered)
            self.last_success = self._clock()
            self._stopped_by = None
        if settled.buried:
            self._died([_letter(burial) for burial in dead if burial.entry.id in settled.buried])
        return settled.counts

    async def _settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Settled:
        while True:
            try:
                settled = await self._store.settle(delivered, dead)
            except StorageError as error:
                self._troubles["settling"] = str(error)
                self._failures.record(Topic.STORE, str(error))
                if self._closing.is_set():
                    raise
                await _within(self._closing, _AFTER_TROUBLE)
            else:
                self._troubles.pop("settling", None)
                return settled

    def _buried(self, entry: Entry, held: Held, outcome: Outcome[object]) -> Burial:
        reason = "" if outcome.error is None else str(outcome.error)
        if isinstance(outcome.error, DeadlineError):
            said = (
                f"the outbox {self._store.path} gives dead letter {entry.id} up after {outcome.attempts} attempts "
                f"since the last start: it was put {self._clock() - entry.put_at:,.0f} s ago, more than give_up_after"
            )
            self._failures.record(Topic.EXPIRED, said)
        return Burial(entry, held.epoch, outcome.state, reason, outcome.attempts, self._clock())


def _letter(burial: Burial) -> DeadLetter:
    entry = burial.entry
    return DeadLetter(
        id=entry.id,
        update=entry.update,
        request_id=entry.request_id,
        state=burial.state,
        reason=burial.reason,
        attempts=burial.attempts,
        put_at=entry.put_at,
        died_at=burial.died_at,
        traceparent=entry.traceparent,
    )


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for some seconds, not at all if they are over; say whether it came."""
    if seconds <= 0 or event.is_set():
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
