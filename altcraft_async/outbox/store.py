"""What an outbox asks of a database, and the values that pass between them.

The updates of an outbox lie in *buckets*, and all updates of one order in the same one. Who
delivers holds buckets on *leases*, so that each bucket is delivered by one process at a time.
A store for one process, as a SQLite file is, has one bucket, and its lease has no end.
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
    """Give the seconds of the clock that leases are counted on: it goes on while the process or machine is stopped."""
    if sys.platform == "linux":  # elsewhere the monotonic clock does so itself
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@attrs.frozen
class Entry:
    """One accepted update. `put_at` is the Unix time of it by this host's clock, in seconds.

    `id` rises in the order of acceptance where one process accepts, or the callers put the updates of a line one
    after the other. `traceparent` names the span that put it, as the W3C's header of that name does, or is None.
    """

    id: int
    update: LineStatusUpdate
    request_id: str
    put_at: float
    bucket: int = 0
    traceparent: str | None = None


@attrs.frozen
class EntryPage:
    """Entries that were read together, by id. Of the buckets in `more` there are more; `mark` is the store's own."""

    entries: Sequence[Entry]
    more: frozenset[int] = frozenset()
    mark: object = None


@attrs.frozen
class Burial:
    """An entry that is given up: in which `state` it ended, why, and after how many requests since the last start.

    `epoch` is that of the lease of its bucket under which it was read.
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

    `id` is the one of its `Entry`. `state` is ``rejected`` where the server said
    no, ``unknown`` or ``not_sent`` where the time for it ran out; `reason` says why in
    words, `attempts` how many requests were made since the last start. `put_at` and
    `died_at` are Unix times. `overtaken` is true once a newer update of the line has
    been delivered: sending this one would put the line back. `traceparent` is that of its `Entry`.
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
    """How many updates wait, how many are dead, and the Unix time at which the oldest that waits was put, or None.

    Of a database server also how many rows of the outbox are deleted and not cleaned away yet, and for how many
    seconds its oldest transaction has been open; None where nothing is known of it.
    """

    pending: int
    dead: int
    oldest: float | None
    dead_rows: int | None = None
    oldest_transaction: float | None = None


@attrs.frozen
class Settled:
    """What a commit of ends left: the counts, and the ids of those that are dead letters now."""

    counts: Counts
    buried: frozenset[int] = frozenset()


@attrs.frozen
class Forgotten:
    """How many updates were deleted for good: those that waited, and those that were dead letters."""

    waiting: int
    dead: int


@attrs.frozen
class Leases:
    """What one process may deliver.

    `epochs` has the buckets that it holds, each with a number that rises whenever the bucket
    gets another holder. They are held until `ends_at` on the `lease_clock`, or
    until they are released where that is infinite. The `surplus` among them is due to others: it is to be
    released once nothing of it is under way. `drainers` counts the processes that would deliver,
    `buckets` all buckets that there are. `OutboxStore.lease` is to be called again after
    `again` seconds, or never where that is None.
    """

    epochs: Mapping[int, int]
    ends_at: float = math.inf
    again: float | None = None
    surplus: frozenset[int] = frozenset()
    drainers: int = 1
    buckets: int = 1


class OutboxStore(Protocol):
    """Keeps the updates of an outbox. Every method raises `OutboxError` where it cannot do its work.

    What a method has done is durable when it returns. Calls come from one event
    loop and overlap freely; several processes may share the data.
    """

    @property
    def path(self) -> str:
        """Where the data is, for messages; never with a password."""

    @property
    def capacity(self) -> int:
        """How many updates may wait."""

    async def open(self, *, target: str | None) -> None:
        """Get ready to deliver to the platform at the address `target`, or only to accept where that is None."""

    async def lease(self) -> Leases:
        """Keep the buckets that this process holds, and take those that are free and due to it."""

    async def release(self, buckets: Collection[int]) -> None:
        """Give buckets back, for others to take at once."""

    async def put(
        self, update: LineStatusUpdate, request_id: str, put_at: float, traceparent: str | None = None
    ) -> Counts:
        """Accept an update behind all accepted before it; raises `OutboxFullError` at the capacity.

        One whose request id waits already is accepted by that, and nothing is added.
        """

    async def put_within(
        self, connection: object, update: LineStatusUpdate, request_id: str, traceparent: str | None = None
    ) -> None:
        """Accept an update when the transaction of somebody's `connection` is committed.

        Raises `ConfigurationError` where the store or the connection cannot do that.
        """

    def bucket_of(self, update: LineStatusUpdate) -> int:
        """Say in which bucket an update lies."""

    async def pending(self, after: Mapping[int, int], *, last: EntryPage | None, limit: int) -> EntryPage:
        """Return entries that wait, by id, about `limit` of them: of each bucket in `after` those above the id there.

        Also those at or below it that could not be seen at the `last` read of the buckets, which all of them were part
        of but those with -1. An entry that could be seen when another was put is never returned after that one.
        """

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Settled:
        """Delete what was delivered, and bury the dead whose buckets are still held under their epochs.

        What is not there any more, as it was forgotten meanwhile, is neither counted nor buried.
        """

    async def counts(self) -> Counts:
        """Count."""

    async def try_writing(self) -> None:
        """Raise where nothing could be accepted now."""

    async def dead_letters(self, *, after: int, limit: int) -> Sequence[DeadLetter]:
        """Return the first `limit` dead letters whose id is above `after`, by id."""

    async def retry(self, ids: Sequence[int] | None, put_at: float) -> int:
        """Let these dead letters wait again, behind all others.

        With None, all those of whose line no newer update was delivered or waits. A
        rejected one gets a new ``Request-ID``, the others keep theirs. Returns how many
        they were.
        """

    async def purge(self, ids: Sequence[int] | None) -> int:
        """Delete these dead letters, or all; return how many they were."""

    async def trim(self, *, most: int | None, age: float | None, now: float) -> int:
        """Delete dead letters: those that died more than `age` seconds before `now`, and the oldest above `most`.

        Returns how many they were.
        """

    async def forget(self, order_external_id: str) -> Forgotten:
        """Delete for good what waits for an order, and its dead letters."""

    async def aclose(self) -> None:
        """Make durable what was begun, give up all buckets, free everything; harmless when called again."""
