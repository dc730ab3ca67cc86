"""The delivering side of an outbox: the store feeds a bulk run, and the run's outcomes go back to the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import AltcraftError, OutboxError, StorageError
from altcraft_async.outbox.store import DeadLetter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from altcraft_async.client import AltcraftClient
    from altcraft_async.engine.run import Run
    from altcraft_async.engine.timeline import Sample
    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.outbox.store import Counts, Entry, OutboxStore
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.states import OutcomeState
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["Drainer"]

_log = logging.getLogger("altcraft_async")

_AT_ONCE = 256
"""Entries read from the store in one go."""

_LOOK_EVERY = 0.25
"""Seconds between two looks for what other processes have put, and for a free claim."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before delivery is tried again when something stopped it altogether, like a refused token."""


class Drainer:
    """Delivers what waits in `store`, in one run after the other, until `finish` or cancellation.

    One run lasts for as long as nothing stops it, like a refused token, which
    `problem` then says; then it starts anew with all that waits. `changed` is
    called with the store's counts after each commit.
    """

    __slots__ = (
        "_altcraft", "_changed", "_clock", "_cut", "_ended", "_entries", "_failed", "_fed", "_finishing", "_flusher",
        "_give_up_after", "_loop", "_news", "_recorded", "_run", "_since", "_stopped_by", "_store", "_unplaced",
        "delivered", "draining", "last_success",
    )  # fmt: skip

    _recorded: Callable[[Sequence[Outcome[object]]], None]
    _failed: Callable[[StorageError], None]

    def __init__(
        self,
        store: OutboxStore,
        altcraft: AltcraftClient,
        *,
        give_up_after: float | None,
        clock: Callable[[], float],
        changed: Callable[[Counts], None],
    ) -> None:
        self._store = store
        self._altcraft = altcraft
        self._give_up_after = give_up_after
        self._clock = clock
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._finishing = asyncio.Event()
        self._since = clock()
        self._entries: dict[int, Entry] = {}
        self._fed = 0
        self._cut = False
        self._run: Run[LineStatusUpdate] | None = None
        self._unplaced: list[asyncio.Future[None]] = []
        self._ended: list[Outcome[object]] = []
        self._flusher: asyncio.Task[None] | None = None
        self.delivered = 0
        self.last_success: float | None = None
        self.draining = False
        self._stopped_by: str | None = None

    @property
    def problem(self) -> str | None:
        """What keeps updates from being delivered, in words, or None."""
        if self._stopped_by is not None or not self.draining or self._altcraft.closed:
            return self._stopped_by
        now = self._altcraft.statistics()
        if now.outage is None:
            return None
        return f"the server has served nobody for {now.outage:.0f} s; next try in {now.paused:.1f} s; {now.problem}"

    def wake_again(self) -> None:
        """Say that something waits that may have been sent before."""
        self._since = self._clock()
        self._news.set()

    async def place(self) -> None:
        """Wait until what was put has its place in the client's lanes.

        Not where it could last: nothing is delivered now, or so much waits that the run reads no more.
        """
        self._news.set()
        if self._run is not None and not self._run.full:
            placed = self._loop.create_future()
            self._unplaced.append(placed)
            await placed

    def _let_go(self) -> None:
        """Wake those that wait for a place."""
        for placed in self._unplaced:
            if not placed.done():
                placed.set_result(None)
        self._unplaced.clear()

    def finish(self) -> None:
        """Let `run` return once all that waits is delivered, or as soon as delivery is stopped by something."""
        self._finishing.set()
        self._news.set()

    async def run(self) -> None:
        """Deliver. Cancelled, it gives requests in flight the grace of a bulk run, and records how they end."""
        pause = _FIRST_PAUSE
        while await self._claimed():
            before = self.delivered
            try:
                await self._deliver()
            except AltcraftError as error:
                self._stopped_by = str(error)
            except Exception as error:  # noqa: BLE001 - a defect must not end the delivery of a service for good
                _log.exception("the delivery of the outbox %s failed, and is begun anew", self._store.path)
                self._stopped_by = f"delivery failed ({type(error).__name__})"
            if self._finishing.is_set():
                return
            pause = _FIRST_PAUSE if self.delivered > before else min(2 * pause, _LONGEST_PAUSE)
            _log.warning("the outbox %s delivers again in %.0f s: %s", self._store.path, pause, self._stopped_by)
            await _within(self._finishing, pause)

    async def _claimed(self) -> bool:
        """Wait until this process may deliver; false when there is nothing to wait for any more."""
        said = False
        while not self.draining:
            try:
                self.draining = await self._store.claim()
            except StorageError as error:
                self._stopped_by = str(error)
            if not self.draining:
                if not said:
                    _log.info("another process delivers the outbox %s; this one stands by", self._store.path)
                    said = True
                if await _within(self._finishing, _LOOK_EVERY):
                    return False
        return True

    async def _deliver(self) -> None:
        self._entries.clear()
        self._since = self._clock()
        self._fed = 0
        self._cut = False
        self._run = run = self._altcraft.market.orders.drain(self._feed(), recorder=self)
        try:
            async with contextlib.aclosing(run.stream()) as outcomes:
                async for outcome in outcomes:
                    if outcome.index in self._entries and outcome.error is not None:  # it goes on waiting
                        self._stopped_by = str(outcome.error.message)
                        self._cut = True  # the run was stopped, and ends when it is fed no more
                        self._news.set()
        finally:
            self._run = None
            self._let_go()

    async def _feed(self) -> AsyncGenerator[LineStatusUpdate, None]:
        after = -1
        while not self._cut:
            self._news.clear()
            entries = await self._store.pending(after=after, limit=_AT_ONCE)
            for entry in entries:
                if self._cut:
                    return
                self._entries[self._fed] = entry
                self._fed += 1
                if self._run is None or self._run.full:
                    self._let_go()
                yield entry.update
            if len(entries) < _AT_ONCE and not self._news.is_set():  # all that was put is taken in
                self._let_go()
            if entries:
                after = entries[-1].id
            elif self._finishing.is_set():
                return
            elif not self._cut:
                await _within(self._news, _LOOK_EVERY)

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
        return self._entries[index].request_id

    def asked_before(self, index: int) -> bool:
        """Say whether the entry is older than this run: an earlier one, or another process, may have sent it."""
        return self._entries[index].put_at <= self._since

    def doubt_ends_at(self, index: int) -> float | None:
        """Return until when the entry may be repeated; after that the platform no longer knows its id."""
        if self._give_up_after is None:
            return None
        return self._loop.time() + self._entries[index].put_at + self._give_up_after - self._clock()

    def record(self, outcomes: Sequence[Outcome[object]]) -> None:
        """Queue ends for the store, which takes all that are queued together."""
        self._ended += outcomes
        if self._flusher is None:
            self._flusher = self._loop.create_task(self._flush())

    def exhausted(self, rows: int) -> None:
        """Have no opinion: the feed ends when the outbox is closed."""

    async def aclose(self) -> None:
        """Wait until the store has all ends; the store stays open."""
        if self._flusher is not None:
            await asyncio.wait((self._flusher,))

    async def _flush(self) -> None:
        try:
            while self._ended:
                outcomes, self._ended = self._ended, []
                entries = [self._entries[outcome.index] for outcome in outcomes]
                pairs = list(zip(entries, outcomes, strict=True))
                delivered = [entry for entry, outcome in pairs if outcome.ok]
                counts = await self._store.settle(
                    delivered, [self._buried(entry, outcome) for entry, outcome in pairs if not outcome.ok]
                )
                for outcome in outcomes:
                    del self._entries[outcome.index]
                if delivered:
                    self.delivered += len(delivered)
                    self.last_success = self._clock()
                    self._stopped_by = None
                self._changed(counts)
                self._recorded(outcomes)
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever for a store that broke its promise
            self._ended.clear()
            if not isinstance(error, StorageError):
                _log.exception("the store of the outbox %s failed unexpectedly", self._store.path)
                said = f"the outbox {self._store.path} failed ({type(error).__name__}); check its store"
                error = OutboxError(said, path=self._store.path)
            self._failed(error)
        finally:
            self._flusher = None

    def _buried(self, entry: Entry, outcome: Outcome[object]) -> DeadLetter:
        reason = "" if outcome.error is None else str(outcome.error)
        return DeadLetter(
            **attrs.asdict(entry, recurse=False),
            state=outcome.state,
            reason=reason,
            attempts=outcome.attempts,
            died_at=self._clock(),
        )


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for some seconds; say whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
