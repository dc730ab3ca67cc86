"""Leases of buckets in a PostgreSQL database, shared fairly among the drainers that live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.outbox.store import Leases, lease_clock

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from altcraft_async.outbox.tables import Tables
    from altcraft_async.storage.postgres import Session

__all__ = ["Leasing"]

_LOOK_EVERY = 1.0
"""Seconds between two looks for free buckets, at most a sixth of a lease."""

_SOONEST = 0.02
"""Seconds between two looks at least."""

_RENEW_EVERY = 10.0
"""Seconds between two renewals, at most a quarter of a lease. Each leaves a dead row a bucket behind, for as long as
anybody's transaction is open."""

_LEAVE_WITHIN = 3.0
"""Seconds in which leases are given back: where the database hangs, they end by themselves."""


class Leasing:
    """What one drainer, the `owner`, holds in the database; `place` is its host and process, for people.

    All times are the database's; what is told of them is counted from before it was asked. Every drainer takes
    what is free until it has its share, the buckets divided by the drainers that were seen within a lease, and
    offers what it has above that.
    """

    __slots__ = ("_ends_at", "_epochs", "_place", "_renewed_at", "_seconds", "_session", "_tables", "owner")

    def __init__(
        self, session: Session, tables: Tables, *, seconds: float, owner: UUID, place: tuple[str, int]
    ) -> None:
        self._session = session
        self._tables = tables
        self._seconds = seconds
        self._place = place
        self._epochs: dict[int, int] = {}
        self._renewed_at: float | None = None
        self._ends_at = 0.0
        self.owner = owner

    def __repr__(self) -> str:
        """Show how many are held."""
        return f"<Leasing {len(self._epochs)} of {self._tables.buckets} buckets>"

    def holds(self, bucket: int) -> bool:
        """Say whether a bucket was held at the last look."""
        return bucket in self._epochs

    async def lease(self) -> Leases:
        """Renew in time, look, take; raises `Failure`."""
        session, tables, seconds = self._session, self._tables, self._seconds
        now = lease_clock()
        if self._renewed_at is None or now - self._renewed_at >= min(_RENEW_EVERY, seconds / 4):
            _, kept = await session.transact(
                (tables.seen, (self.owner, *self._place)), (tables.renew, (seconds, self.owner))
            )
            self._epochs = dict(kept)
            self._renewed_at, self._ends_at = now, now + seconds
        others, free, soon = (await session.rows(tables.look, (seconds, self.owner, self.owner)))[0]
        due = -(-tables.buckets // (others + 1))
        if free and len(self._epochs) < due:
            # they end later than what was renewed before: to believe them less long does no harm
            taken = await session.rows(tables.claim, (self.owner, seconds, due - len(self._epochs)))
            self._epochs |= dict(taken)
        surplus = frozenset(sorted(self._epochs)[due:])
        # those that live renew theirs long before: one that is about to end is a dead one's
        again = max(_SOONEST, min(_LOOK_EVERY, seconds / 6, seconds if soon is None else soon))
        return Leases(dict(self._epochs), self._ends_at, again, surplus, others + 1, tables.buckets)

    async def release(self, buckets: Collection[int]) -> None:
        """Give buckets back; raises `Failure`."""
        await self._session.rows(self._tables.release, (self.owner, list(buckets)))
        for bucket in buckets:
            self._epochs.pop(bucket, None)

    async def leave(self) -> None:
        """Give everything back, where there ever was something; raises `Failure`."""
        if self._renewed_at is None:
            return
        held, self._renewed_at, self._epochs = list(range(self._tables.buckets)), None, {}
        release, leave = (self._tables.release, (self.owner, held)), (self._tables.leave, (self.owner,))
        await self._session.transact(release, leave, within=_LEAVE_WITHIN)
