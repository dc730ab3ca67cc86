"""The contract between an outbox and a database, and the values that pass between them.

The updates of an outbox are in *buckets*, all updates of one order in the same bucket. A process that delivers holds
buckets on *leases*, so that each bucket is delivered by one process at a time. A store for one process, like a SQLite
file, has one bucket, and its lease has no end.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Protocol

import attrs

from altcraft_async.errors import InvalidUpdateError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from altcraft_async.protocol.states import OutcomeState
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = [
    "Burial",
    "Counts",
    "DeadLetter",
    "Entry",
    "EntryPage",
    "Forgotten",
    "Leases",
    "OutboxStore",
    "Settled",
    "another_change",
    "lease_clock",
]


def another_change(request_id: str) -> InvalidUpdateError:
    """Make the error of a put under the id of another change, which waits."""
    msg = f"request_id {request_id!r} is that of another change, which waits; give each change an id of its own"
    return InvalidUpdateError(msg, field="request_id")


def lease_clock() -> float:
    """Return the seconds of the clock for leases: it goes on while the process or machine is stopped."""
    if sys.platform == "linux":  # elsewhere the monotonic clock does so itself
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@attrs.frozen
class Entry:
    """One accepted update. `put_at` is the Unix time of it by this host's clock, in seconds.

    `id` rises in the order of acceptance if one process accepts, or if the callers put the updates of a line one after
    the other. `traceparent` names the span that put it, in the form of the W3C header of that name, or is None.
    """

    id: int
    update: LineStatusUpdate
    request_id: str
    put_at: float
    bucket: int = 0
    traceparent: str | None = None


@attrs.frozen
class EntryPage:
    """Entries that were read together, by id. The buckets in `more` have more of them; `mark` is the store's own.

    `anew` says that nothing was read, since the store may have forgotten what was told of it, as after a failover that
    lost the last commits: what was settled may wait again. Read all buckets from their beginnings.
    """

    entries: Sequence[Entry]
    more: frozenset[int] = frozenset()
    mark: object = None
    anew: bool = False


@attrs.frozen
class Burial:
    """An entry that is given up: the `state` in which it ended, why, and the number of requests since the last start.

    It was read under the lease of its bucket that has this `epoch`.
    """

    entry: Entry
    epoch: int
    state: OutcomeState
    reason: str
    attempts: int
    died_at: float


@attrs.frozen
class DeadLetter:
    """An update that was given up.

    `id` is that of its `Entry`. `state` is ``rejected`` if the server said no, ``unknown`` or ``not_sent`` if its time
    ran out; `reason` says why in words, `attempts` is the number of requests since the last start. `put_at` and
    `died_at` are Unix times. `overtaken` is true once a newer update of the line has been delivered: sending this one
    would put the line back. `traceparent` is that of its `Entry`.
    """

    id: int
    update: LineStatusUpdate
    request_id: str
    state: OutcomeState
    reason: str
    attempts: int
    put_at: float
    died_at: float
    overtaken: bool = False
    traceparent: str | None = None


@attrs.frozen
class Counts:
    """How many updates wait, how many are dead, and the Unix time at which the oldest waiting one was put, or None.

    For a database server also the number of deleted rows of the outbox that are not cleaned up yet, and the seconds for
    which its oldest transaction has been open; None if that is not known.
    """

    pending: int
    dead: int
    oldest: float | None
    dead_tuples: int | None = None
    oldest_transaction: float | None = None


@attrs.frozen
class Settled:
    """The state after a commit of ends: the counts, and the ids of the new dead letters."""

    counts: Counts
    buried: frozenset[int] = frozenset()


@attrs.frozen
class Forgotten:
    """How many updates were deleted for good: waiting ones, and dead letters."""

    waiting: int
    dead: int


@attrs.frozen
class Leases:
    """What one process may deliver.

    `epochs` has the buckets that it holds, each with a number that rises whenever the bucket gets another holder. The
    process holds them until `ends_at` on the `lease_clock`, or until it releases them if that is infinite. The
    `surplus` among them belongs to others: release it once nothing of it is under way. `drainers` counts the processes
    that would deliver, `buckets` all existing buckets. Call `OutboxStore.lease` again after `again` seconds, or never
    if that is None.
    """

    epochs: Mapping[int, int]
    ends_at: float = math.inf
    again: float | None = None
    surplus: frozenset[int] = frozenset()
    drainers: int = 1
    buckets: int = 1


class OutboxStore(Protocol):
    """Keeps the updates of an outbox. Every method raises `OutboxError` if it cannot do its work.

    The changes of a method are durable when it returns. Calls come from one event loop and overlap freely; several
    processes may share the data.
    """

    @property
    def path(self) -> str:
        """Where the data is, for messages; never with a password."""

    @property
    def capacity(self) -> int:
        """How many updates may wait."""

    async def open(self, *, target: str | None) -> None:
        """Get ready to deliver to the platform at the address `target`, or only to accept if that is None."""

    async def lease(self) -> Leases:
        """Keep the buckets that this process holds, and take those that are free and due to it."""

    async def release(self, buckets: Collection[int]) -> None:
        """Give buckets back, for others to take at once."""

    async def put(
        self, update: LineStatusUpdate, request_id: str, put_at: float, traceparent: str | None = None
    ) -> Counts:
        """Accept an update behind all accepted before it; raises `OutboxFullError` at the capacity.

        If its request id already waits, it counts as accepted, and nothing is added.
        """

    async def put_within(
        self, connection: object, update: LineStatusUpdate, request_id: str, traceparent: str | None = None
    ) -> None:
        """Accept an update when the transaction of somebody's `connection` is committed.

        Raises `ConfigurationError` if the store or the connection cannot do that.
        """

    def bucket_of(self, update: LineStatusUpdate) -> int:
        """Return the bucket of an update."""

    async def pending(self, after: Mapping[int, int], *, last: EntryPage | None, limit: int) -> EntryPage:
        """Return waiting entries, by id, about `limit` of them: for each bucket in `after`, those above its id there.

        It also returns entries at or below that id that were not visible at the `last` read of the buckets. All buckets
        were part of that read, except those with -1. An entry that was visible when another was put is never returned
        after that one.
        """

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Settled:
        """Delete delivered entries, and make dead letters of the dead whose buckets are still held under their epochs.

        An entry that was forgotten meanwhile is neither counted nor made a dead letter.
        """

    async def counts(self) -> Counts:
        """Count."""

    async def try_writing(self) -> None:
        """Raise an error if nothing could be accepted now."""

    async def dead_letters(self, *, after: int, limit: int) -> Sequence[DeadLetter]:
        """Return the first `limit` dead letters whose id is above `after`, by id."""

    async def retry(self, ids: Sequence[int] | None, put_at: float) -> int:
        """Let these dead letters wait again, behind all others.

        With None, it takes all letters whose line has no newer update that was delivered or waits. A rejected one gets
        a new ``Request-ID``, the others keep theirs. Returns how many they were.
        """

    async def purge(self, ids: Sequence[int] | None) -> int:
        """Delete these dead letters, or all; return how many they were."""

    async def trim(self, *, most: int | None, age: float | None, now: float) -> int:
        """Delete dead letters: those that died more than `age` seconds before `now`, and the oldest above `most`.

        Returns how many they were.
        """

    async def forget(self, order_external_id: str) -> Forgotten:
        """Delete the waiting updates and dead letters of an order for good."""

    async def aclose(self) -> None:
        """Finish begun changes, give up all buckets, free everything; harmless when called again."""
