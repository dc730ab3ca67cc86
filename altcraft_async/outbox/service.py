"""`Outbox`: what a service holds, puts into, and closes at its end."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from typing import TYPE_CHECKING, Self

import attrs

from altcraft_async.engine.rows import update_of
from altcraft_async.errors import ConfigurationError, OutboxError, OutboxFullError, StorageError
from altcraft_async.kinds import DEADLINE, SECONDS, WHOLE
from altcraft_async.outbox.drain import Drainer
from altcraft_async.outbox.failures import FailureLog, Topic
from altcraft_async.outbox.hook import DeadLetterHook
from altcraft_async.outbox.sqlite import SqliteStore
from altcraft_async.outbox.store import Counts
from altcraft_async.protocol.values import check_request_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from types import TracebackType

    from altcraft_async.client import AltcraftClient
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.rows import Row
    from altcraft_async.outbox.store import DeadLetter, Forgotten, OutboxStore

__all__ = ["Outbox", "OutboxStatistics"]

_LOOK_EVERY = 1.0
"""Seconds between two looks at the counts, which other processes change too."""

_TRIM_EVERY = 60.0
"""Seconds between two looks for dead letters that are too old; of too many they are rid at once."""

_LETTERS_AT_ONCE = 256


def _store_of(given: str | os.PathLike[str] | OutboxStore, capacity: int) -> OutboxStore:
    if isinstance(given, str) and given.startswith(("postgresql://", "postgres://")):
        from altcraft_async.outbox.postgres import PostgresStore  # noqa: PLC0415 - most outboxes are files

        return PostgresStore(given, capacity=capacity)
    if isinstance(given, str) and "://" in given:  # the name that SQLAlchemy has for a driver, or another database
        msg = f"an outbox lies in a file or at postgresql://…, not at {given.partition('://')[0]}://…"
        raise ConfigurationError(msg, field="store")
    return SqliteStore(given, capacity=capacity) if isinstance(given, str | os.PathLike) else given


def _fresh_id() -> str:
    """Make a random UUID: what `uuid.uuid4` does, in a third of its time."""
    digits = os.urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


@attrs.frozen
class OutboxStatistics:
    """A snapshot of an outbox, as of the last commit or of the last look, at most a second ago.

    `pending` updates wait or are under way, at most `capacity`; `dead` were given up. `oldest` is the number of seconds
    for which the first update in the queue has waited, 0.0 without one. `delivered` counts the updates that this
    process delivered since it started, `last_success` is the Unix time of the last of them, or None. `draining` is true
    in the process that delivers, `paused` if `Outbox.pause` has stopped that. `dropped` counts the dead letters that
    this process deleted, because there were too many or they were too old. `accepting` is false if the outbox is not
    open, or if its file could not be read or written the last time; a full outbox still counts as accepting. `problem`
    says in words why updates are not delivered or accepted, or is None.

    `leases` is the number of buckets that this process delivers, `drainers` the number of processes that deliver, as
    far as this one knows; a file has one bucket. `dead_tuples` and `oldest_transaction` are those of `Counts`.
    """

    pending: int
    dead: int
    capacity: int
    oldest: float
    delivered: int
    last_success: float | None
    draining: bool
    accepting: bool
    problem: str | None
    leases: int = 0
    drainers: int = 0
    dead_tuples: int | None = None
    oldest_transaction: float | None = None
    paused: bool = False
    dropped: int = 0


class Outbox:
    """A durable queue of status updates: ``async with Outbox("outbox.db", altcraft) as outbox``.

    `store` is the path of a SQLite file (made if it does not exist), the address of a PostgreSQL database,
    ``postgresql://…``, or an `OutboxStore`. With a client the outbox delivers in the background; without one it only
    accepts, and another process delivers. Any number of processes of one host may put into one file. One of them
    delivers; the others stand by to take over when it ends. With `standby` false, opening a second outbox that would
    deliver raises `OutboxError` instead.

    At most `capacity` updates wait (in a file; a store has its own). An update becomes a dead letter if it was refused,
    or if it failed in all attempts of the client's `RetryPolicy` while others were served. An outage is waited out
    without end, and costs no attempts. An update in doubt is repeated for `give_up_after` seconds after its put, a day
    by default, because after that the platform no longer recognises a repeat; with None, without end. Whatever its age,
    each update gets an attempt after each start before it is given up.

    `on_dead`, a plain or an async function, is called once with each `DeadLetter` that this process makes, after the
    letter is on disk: one after the other, beside the delivery. Errors that it raises are logged. If the process ends
    before the call, the call is never made. The process that delivers keeps the newest `dead_capacity` dead letters,
    for `dead_age` seconds: 100,000 and 90 days by default, with None all. Dropped letters are logged and counted.

    `traceparent` is called at each put for the current span, in the form of the W3C header of that name; the delivery
    is linked to that span. By default the client's observers are asked.

    It belongs to one event loop. Close it before the client: closing waits up to `drain_timeout` seconds for waiting
    updates, and up to 5 more for requests in flight. The rest is delivered after the next start.

    Raises `OutboxError` if the file cannot be used.
    """

    __slots__ = (
        "_altcraft",
        "_clock",
        "_closed",
        "_counts",
        "_dead_age",
        "_dead_capacity",
        "_drain_timeout",
        "_drainer",
        "_dropped",
        "_failures",
        "_give_up_after",
        "_hook",
        "_problems",
        "_room",
        "_said",
        "_standby",
        "_store",
        "_tasks",
        "_traceparent",
        "_trim_at",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the settings of a service
        self,
        store: str | os.PathLike[str] | OutboxStore,
        altcraft: AltcraftClient | None = None,
        *,
        capacity: int = 100_000,
        drain_timeout: float = 10.0,
        give_up_after: float | None = 86_400.0,
        standby: bool = True,
        on_dead: Callable[[DeadLetter], Awaitable[None] | None] | None = None,
        dead_capacity: int | None = 100_000,
        dead_age: float | None = 90 * 86_400.0,
        traceparent: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        WHOLE.check("capacity", capacity)
        WHOLE.or_none().check("dead_capacity", dead_capacity)
        for field, value in (("give_up_after", give_up_after), ("dead_age", dead_age)):
            SECONDS.or_none().check(field, value)
        DEADLINE.check("drain_timeout", drain_timeout)
        self._store = _store_of(store, capacity)
        self._altcraft = altcraft
        self._drain_timeout = drain_timeout
        self._give_up_after = give_up_after
        self._standby = standby
        self._dead_capacity = dead_capacity
        self._dead_age = dead_age
        self._dropped = 0
        self._trim_at = 0.0
        self._traceparent = self._traceparent_of_client if traceparent is None else traceparent
        self._failures = FailureLog()
        self._hook = None if on_dead is None else DeadLetterHook(on_dead, self._failures)
        self._clock = clock
        self._counts = self._said = Counts(0, 0, None)
        self._room = asyncio.Event()
        self._drainer: Drainer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._problems: dict[str, str] = {}
        self._closed: bool | None = None  # None: not open yet

    def __repr__(self) -> str:
        """Show the file and how much waits."""
        state = {None: "not open", True: "closed", False: f"{self._counts.pending} pending, {self._counts.dead} dead"}
        return f"<Outbox {self._store.path} {state[self._closed]}>"

    # -- life

    async def open(self) -> None:
        """Open the store and begin to deliver its waiting updates; ``async with`` calls it."""
        if self._closed is not None:
            msg = f"the outbox {self._store.path} was opened before; make a new one"
            raise OutboxError(msg, path=self._store.path)
        try:
            await self._store.open(target=None if self._altcraft is None else self._altcraft.base_url)
            self._counts = await self._store.counts()
            if self._altcraft is not None:
                await self._start_drainer(self._altcraft)
        except BaseException:
            await self._store.aclose()
            raise
        self._closed = False
        if self._notifier is not None:  # what was there before, before anything changes
            self._notifier.outbox_changed(self._counts.pending, self._counts.dead)
        self._tasks.append(asyncio.create_task(self._look()))

    async def _start_drainer(self, altcraft: AltcraftClient) -> None:
        drainer = Drainer(
            self._store,
            altcraft,
            give_up_after=self._give_up_after,
            clock=self._clock,
            changed=self._on_changed,
            leased=self._on_leased,
            died=self._on_died,
            failures=self._failures,
        )
        if self._standby:  # before anything is put: what is put later was begun by nobody before
            again = await drainer.holding.try_to_take()
        else:
            again = await drainer.holding.take()
            if not drainer.draining:
                msg = f"the outbox {self._store.path} is delivered by another process; open it without a client"
                raise OutboxError(msg, path=self._store.path)
        self._drainer = drainer
        self._tasks.append(asyncio.create_task(drainer.run(again)))

    async def aclose(self) -> None:
        """Accept nothing more, deliver as much as possible in time, close the store; harmless when called again.

        Cancellation cuts the time for delivering short.
        """
        if self._closed is not False:
            return
        self._closed = True
        try:
            if self._drainer is not None:
                self._drainer.finish()
                # where others deliver too, they go on with what waits: only what is under way is ended here
                patience = 0.0 if self._drainer.draining and self._drainer.holding.drainers > 1 else self._drain_timeout
                await asyncio.wait(self._tasks[:1], timeout=patience)
        finally:
            for task in self._tasks:
                task.cancel()
            try:
                await asyncio.wait(self._tasks)
                if self._hook is not None:
                    await self._hook.aclose()
            finally:
                await self._store.aclose()

    async def __aenter__(self) -> Self:
        """Open the outbox."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the outbox."""
        await self.aclose()

    def __del__(self) -> None:
        """Warn of an outbox that was never closed."""
        if getattr(self, "_closed", None) is False:
            warnings.warn(f"unclosed {self!r}; use 'async with' or await aclose()", ResourceWarning, stacklevel=2)

    # -- accepting

    async def put(
        self,
        update: Row,
        *,
        request_id: str | None = None,
        connection: object = None,
        timeout: float = 0.0,  # noqa: ASYNC109 - of waiting for room alone, which a cancellation could not tell apart
    ) -> str:
        """Accept an update, and return its ``Request-ID`` when it is on disk.

        Updates of one line are delivered in the order in which this process began
        their puts, except those that had to wait for room. In the process that delivers, calls
        that are made with the client after a put come after it too, while delivery is not stopped as a whole and fewer
        than 1,000 updates are under way. Puts that overlap share a commit. `request_id` is the id of the change, if the
        caller has one of its own, like the id of the message that the change came with; by default it is the update's
        own, or else a fresh UUID. A put under an id that already waits for the same change does nothing and returns
        that id; for another change it is refused.

        With a `connection` (an async one of psycopg or asyncpg, or an async session of SQLAlchemy) the update is part
        of that connection's transaction: it is accepted when that is committed, and never if that is rolled back. The
        outbox must be in the same PostgreSQL database. Then `put` raises the connection's own errors.

        The update is a row of any shape that the bulk calls take; its `tag` is not kept.

        Raises `InvalidUpdateError` for ids that cannot be sent and for the id of another change that waits,
        `OutboxFullError` if there is no room within `timeout` seconds, and `OutboxError` if the outbox is closed or
        its file cannot be written: in all these cases the update was not accepted. After a cancellation it may or may
        not have been accepted.
        """
        DEADLINE.check("timeout", timeout)
        made = update_of(update)
        request_id = made.request_id if request_id is None else request_id
        request_id = _fresh_id() if request_id is None else check_request_id(request_id)
        traceparent = self._traceparent()
        if connection is not None:
            self._check_open()
            await self._store.put_within(connection, made, request_id, traceparent)
            return request_id
        give_up = asyncio.get_running_loop().time() + timeout
        while True:
            self._check_open()
            try:
                counts = await self._store.put(made, request_id, self._clock(), traceparent)
            except OutboxFullError:
                if not await self._wait_for_room(give_up):
                    raise
            except StorageError as error:
                self._problems["writing"] = str(error)
                if isinstance(error, OutboxError):
                    error.request_id = request_id
                raise
            else:
                break
        self._problems.pop("writing", None)
        self._on_changed(counts)
        if self._drainer is not None:
            await self._drainer.place(made)
        return request_id

    async def _wait_for_room(self, give_up: float) -> bool:
        left = give_up - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        self._room.clear()
        try:
            async with asyncio.timeout(min(left, _LOOK_EVERY)):  # another process may make room too
                await self._room.wait()
        except TimeoutError:
            pass
        return True

    def _check_open(self) -> None:
        if self._closed is not False:
            state = "not open yet; use 'async with'" if self._closed is None else "closed; make a new one"
            msg = f"the outbox {self._store.path} is {state}"
            raise OutboxError(msg, path=self._store.path)

    # -- delivering

    async def pause(self) -> None:
        """Stop delivering in this process: return when all updates under way have ended, and their ends are on disk.

        Updates that are put meanwhile wait, like those that waited before: other processes do not take them over while
        this one holds them, and each process is paused by itself. A pause does not survive a restart. Harmless when
        called again. Raises `ConfigurationError` if the outbox has no client, so that nothing is delivered here.
        """
        await self._delivering().pause()

    def resume(self) -> None:
        """Deliver again after `pause`; harmless without one."""
        self._delivering().resume()

    def _delivering(self) -> Drainer:
        self._check_open()
        if self._drainer is None:
            msg = f"the outbox {self._store.path} has no client here and delivers nothing; pause it where it has one"
            raise ConfigurationError(msg, field="altcraft")
        return self._drainer

    # -- looking

    def statistics(self) -> OutboxStatistics:
        """Take a snapshot."""
        drainer, counts = self._drainer, self._counts
        return OutboxStatistics(
            pending=counts.pending,
            dead=counts.dead,
            capacity=self._store.capacity,
            oldest=0.0 if counts.oldest is None or not counts.pending else max(0.0, self._clock() - counts.oldest),
            delivered=0 if drainer is None else drainer.delivered,
            last_success=None if drainer is None else drainer.last_success,
            draining=drainer is not None and drainer.draining,
            accepting=self._closed is False and not self._problems,
            problem=next(iter(self._problems.values()), None if drainer is None else drainer.problem),
            leases=0 if drainer is None else len(drainer.holding),
            drainers=0 if drainer is None else drainer.holding.drainers,
            dead_tuples=counts.dead_tuples,
            oldest_transaction=counts.oldest_transaction,
            paused=drainer is not None and drainer.paused,
            dropped=self._dropped,
        )

    async def _look(self) -> None:
        """Look again and again at what the commits of this process do not tell."""
        while True:
            try:
                self._on_changed(await self._store.counts())
                self._problems.pop("reading", None)
                if "writing" in self._problems:
                    await self._store.try_writing()
                    del self._problems["writing"]
                if self._drainer is not None and self._drainer.draining:
                    await self._trim()
            except StorageError as error:
                self._problems["reading"] = str(error)
                self._failures.record(Topic.STORE, str(error))
            await asyncio.sleep(_LOOK_EVERY)

    async def _trim(self) -> None:
        """Drop the dead letters that are too many or too old."""
        now, most = asyncio.get_running_loop().time(), self._dead_capacity
        if now < self._trim_at and (most is None or self._counts.dead <= most):
            return
        self._trim_at = now + _TRIM_EVERY
        if not self._counts.dead or (most is None and self._dead_age is None):
            return
        count = await self._store.trim(most=most, age=self._dead_age, now=self._clock())
        if count:
            self._dropped += count
            said = (
                f"the outbox {self._store.path} dropped {count:,} dead letters: more than dead_capacity were kept, or "
                "they were older than dead_age"
            )
            self._failures.record(Topic.DROPPED, said, times=count)
            self._on_changed(await self._store.counts())

    def _on_changed(self, counts: Counts) -> None:
        if counts is self._said:  # puts that shared a commit
            return
        self._said = counts
        before, self._counts = self._counts, counts
        if counts.oldest is None and counts.pending:  # a commit does not tell
            self._counts = Counts(
                counts.pending,
                counts.dead,
                before.oldest or self._clock(),
                counts.dead_tuples or before.dead_tuples,
                counts.oldest_transaction or before.oldest_transaction,
            )
        if counts.pending < before.pending:
            self._room.set()
        notifier = self._notifier
        if notifier is not None and (counts.pending, counts.dead) != (before.pending, before.dead):
            notifier.outbox_changed(counts.pending, counts.dead)

    def _on_died(self, letters: Sequence[DeadLetter]) -> None:
        if self._hook is not None:
            self._hook.tell(letters)

    def _traceparent_of_client(self) -> str | None:
        notifier = self._notifier
        return None if notifier is None else notifier.traceparent()

    def _on_leased(self, held: int, won: int, lost: int) -> None:
        if self._notifier is not None:
            self._notifier.leases_changed(held, won, lost)

    @property
    def _notifier(self) -> Notifier | None:
        altcraft = self._altcraft
        return None if altcraft is None or altcraft.closed else altcraft.market.orders.notifier

    # -- dead letters

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """Yield the updates that were given up, in the order in which they were accepted."""
        self._check_open()
        after = -1
        while letters := await self._store.dead_letters(after=after, limit=_LETTERS_AT_ONCE):
            for letter in letters:
                yield letter
            after = letters[-1].id

    async def retry(self, ids: Iterable[int] | None = None) -> int:
        """Put dead letters back for delivery, behind all waiting updates; return how many.

        `ids` are those of `DeadLetter`. With None all letters are taken, except if a newer update of the line was
        delivered or waits: that line would be put back to an older status. A rejected one gets a new ``Request-ID``,
        because for the old one the platform could only repeat the answer that it keeps; the others keep theirs.
        """
        self._check_open()
        count = await self._store.retry(None if ids is None else list(ids), self._clock())
        if self._drainer is not None:
            self._drainer.wake_again()
        self._on_changed(await self._store.counts())
        return count

    async def purge(self, ids: Iterable[int] | None = None) -> int:
        """Delete dead letters, those with these `ids` or all; return how many."""
        self._check_open()
        count = await self._store.purge(None if ids is None else list(ids))
        self._on_changed(await self._store.counts())
        return count

    async def forget(self, order_external_id: str) -> Forgotten:
        """Delete the data of an order for good: its waiting updates are never sent, its dead letters are gone.

        Use it when a person asks to be forgotten. Updates that are under way, or were just read to be sent, may still
        reach the platform. Afterwards a file has nothing left of them, nor of updates that were deleted earlier; a
        database's own cleaning does that later.
        """
        self._check_open()
        forgotten = await self._store.forget(order_external_id)
        self._on_changed(await self._store.counts())
        return forgotten
