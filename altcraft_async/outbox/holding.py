"""The buckets that a process holds: won, kept, lost and given back.

What the store says of leases is believed only for as long as it was promised, on a clock that
goes on while the process or the machine is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

import attrs

from altcraft_async.engine.work import Lease
from altcraft_async.errors import StorageError
from altcraft_async.outbox.failures import Topic
from altcraft_async.outbox.store import lease_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from altcraft_async.outbox.failures import FailureLog
    from altcraft_async.outbox.store import Leases, OutboxStore

__all__ = ["Held", "Holding"]

_log = logging.getLogger("altcraft_async")

_AFTER_TROUBLE = 0.5
"""Seconds after which a store that could not be asked is asked again."""

_LOOK_AT_SURPLUS = 0.02
"""Seconds between two looks whether anything of what is to be given back is still under way."""


@attrs.define(eq=False)
class Held:
    """One bucket under one lease.

    `since` is the Unix time at which it was won, `cursor` the highest id that was read of it.
    `begun` has the ids of its entries that a run began, and may have left in doubt: whoever wins the bucket next takes
    all that was put before for begun. `read` has the ids of those that were read in this run and may still be in the
    store: none of these is sent again if a read gives it again. `unsettled` counts its ended deliveries that the store
    does not have yet. `leaving` says that it is to be given back.
    """

    bucket: int
    epoch: int
    lease: Lease
    since: float
    cursor: int = -1
    begun: set[int] = attrs.field(factory=set, init=False)
    read: set[int] = attrs.field(factory=set, init=False)
    unsettled: int = 0
    leaving: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing of it is under way."""
        return not self.lease.in_flight and not self.unsettled


class Holding:
    """Holds buckets of `store`; `changed` is called with how many there are now, were won and were lost.

    `shared` is called with the part of all buckets that this process may begin something of, each time before others
    can have the rest, and says whether no more is under way than goes with that part: before, nothing is given back.
    `some` is set while any is held. `drainers` is as in `Leases`, as of the last look. `problem` says why
    the store could not be asked, or is None.
    """

    __slots__ = (
        "_buckets", "_changed", "_clock", "_failures", "_held", "_shared", "_stands_by", "_store", "drainers",
        "problem", "some",
    )  # fmt: skip

    def __init__(
        self,
        store: OutboxStore,
        *,
        clock: Callable[[], float],
        changed: Callable[[int, int, int], None],
        shared: Callable[[float], bool],
        failures: FailureLog,
    ) -> None:
        self._store = store
        self._clock = clock
        self._changed = changed
        self._shared = shared
        self._failures = failures
        self._buckets = 1
        self._held: dict[int, Held] = {}
        self._stands_by = False
        self.some = asyncio.Event()
        self.drainers = 1
        self.problem: str | None = None

    def __repr__(self) -> str:
        """Show how many are held."""
        return f"<Holding {len(self._held)} buckets, {self.drainers} drainers>"

    def __len__(self) -> int:
        """Count the buckets."""
        return len(self._held)

    def current(self) -> Mapping[int, Held]:
        """Return the buckets of which something may be sent now."""
        return {bucket: held for bucket, held in self._held.items() if held.lease.left() > 0}

    def holds(self, bucket: int) -> bool:
        """Say whether something of a bucket may be sent now."""
        held = self._held.get(bucket)
        return held is not None and held.lease.left() > 0

    def rewind(self) -> None:
        """Read all buckets from their beginnings again."""
        for held in self._held.values():
            held.cursor, held.unsettled = -1, 0
            held.read.clear()

    async def take(self) -> float | None:
        """Ask the store once; return after how many seconds to ask again, or None for never."""
        leases = await self._store.lease()
        self._adopt(leases)
        return leases.again

    async def try_to_take(self) -> float | None:
        """Ask the store once; where it fails, `problem` says so, and it is soon to be asked again."""
        try:
            again = await self.take()
        except StorageError as error:
            self.problem = str(error)
            self._failures.record(Topic.STORE, str(error))
            self._drop_lapsed()
            return _AFTER_TROUBLE
        self.problem = None
        return again

    async def keep(self, again: float | None) -> None:
        """Keep what is held and take what comes, first after `again` seconds; until cancellation, or None."""
        while again is not None:
            await self._give_back(again)
            again = await self.try_to_take()

    def _adopt(self, leases: Leases) -> None:
        self._drop_lapsed()
        won = 0
        lost = self._forget([bucket for bucket in self._held if bucket not in leases.epochs])
        for bucket, epoch in leases.epochs.items():
            held = self._held.get(bucket)
            if held is None or held.epoch != epoch:
                won += 1
                lost += self._forget([bucket])
                held = self._held[bucket] = Held(bucket, epoch, Lease(lease_clock, leases.ends_at), self._clock())
            elif not held.leaving:
                held.lease.ends_at = leases.ends_at
            if bucket in leases.surplus:
                held.leaving = True
                held.lease.ends_at = -math.inf
        self.drainers, self._buckets = leases.drainers, leases.buckets
        self._tell(won, lost)

    def _drop_lapsed(self) -> None:
        """Drop what was not kept in time: what was read of it is nobody's now, and is read again."""
        lapsed = [held.bucket for held in self._held.values() if not held.leaving and held.lease.left() <= 0]
        self._tell(0, self._forget(lapsed))

    def _forget(self, buckets: Iterable[int]) -> int:
        """Begin nothing more of these; return how many of them were held."""
        gone = [held for bucket in buckets if (held := self._held.pop(bucket, None)) is not None]
        for held in gone:
            held.lease.ends_at = -math.inf
        return len(gone)

    def _share(self) -> bool:
        return self._shared(sum(not held.leaving for held in self._held.values()) / self._buckets)

    def _tell(self, won: int, lost: int) -> None:
        self._share()
        if self._held:
            self.some.set()
        else:
            self.some.clear()
            if not self._stands_by:
                _log.info("another process delivers the outbox %s; this one stands by", self._store.path)
        self._stands_by = not self._held
        if won or lost:
            self._changed(len(self._held), won, lost)

    async def _give_back(self, seconds: float) -> None:
        """Spend some seconds, and release meanwhile what is due to others, as soon as nothing of it is under way."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while any(held.leaving for held in self._held.values()) and loop.time() < until:
            idle = [held.bucket for held in self._held.values() if held.leaving and held.idle]
            if idle and self._share():
                try:
                    await self._store.release(idle)
                except StorageError as error:
                    self.problem = str(error)
                    break
                self._tell(0, self._forget(idle))
            else:
                await asyncio.sleep(_LOOK_AT_SURPLUS)
        await asyncio.sleep(max(0.0, until - loop.time()))
