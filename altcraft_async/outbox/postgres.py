"""The outbox in a PostgreSQL database: any replica puts, and drainers share the buckets.

Updates are rows that are appended and deleted. Puts of all tasks that come while one statement runs share the next
one. A process that delivers holds buckets on leases that the database's clock ends. An id is taken before its row is
visible, so a lower id may appear after a higher one: `PostgresStore.pending` finds it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import attrs

from altcraft_async.engine.rows import update_of
from altcraft_async.errors import ConfigurationError, InvalidUpdateError, OutboxError, OutboxFullError
from altcraft_async.flow.partition import bucket_of
from altcraft_async.kinds import SECONDS, WHOLE
from altcraft_async.outbox.ends import ends, in_ascii
from altcraft_async.outbox.grouped import Grouped
from altcraft_async.outbox.leasing import Leasing
from altcraft_async.outbox.store import Counts, DeadLetter, Entry, EntryPage, Forgotten, Leases, Settled, another_change
from altcraft_async.outbox.tables import ANOTHER_CHANGE, VERSION, Tables
from altcraft_async.outbox.transaction import Statement, bind, execute_on, refuses_another_change
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate, check_request_id
from altcraft_async.storage.postgres import Database, Failure, Fate, array

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from altcraft_async.engine.rows import Row
    from altcraft_async.outbox.store import Burial
    from altcraft_async.outbox.transaction import ParamStyle
    from altcraft_async.storage.postgres import Pool, Rows

__all__ = ["DrainerSeen", "PostgresStore", "schema_sql"]

_COUNTING_PART = 0.05
"""The part of the time that counting may take at most: with a hundred thousand rows it takes milliseconds."""

_FEW = 8
"""The most that is read at once of a bucket that had no more the last time, while others have."""

_NOTHING_SEEN = "0:18446744073709551615: "
"""A snapshot after which no transaction has begun, of no server: without cursors nothing can be late."""

_MOST_DEAD_TUPLES = 200_000
"""Deleted rows that are left to the database's own cleaning, which needs a minute: about 50 MB with their indexes."""

_MOST_DEAD_LEASES = 20_000
"""The same for leases: each drainer looks at all of them once a second, for about ten milliseconds then."""

_COMPACT_EVERY = 60.0
"""Seconds between two tries to clean: all puts wait while it waits for its lock, and the count of rows comes late."""

_LOCK_WAIT = "SET LOCAL lock_timeout = '2s'"
"""All puts wait behind one that waits for a lock: for its request id, which an open transaction has put too, or for the
table, which is to be stopped."""


@attrs.frozen
class _Mark:
    """As of which snapshot something was read of the server that began when, and up to which id of each bucket."""

    as_of: str
    cursors: Mapping[int, int]


@attrs.frozen
class DrainerSeen:
    """A process that delivers: its host, when it was last seen, in seconds, and how many buckets it holds now."""

    host: str
    pid: int
    seen: float
    buckets: int


def schema_sql(*, schema: str = "altcraft", buckets: int = 64, since: int | None = None) -> str:
    """Return the statements that make the tables of an outbox, to make them by hand, and the rights that a role needs.

    With `since` it returns those that upgrade tables of that version to this release; raises `ConfigurationError` for a
    version that never existed.
    """
    tables = Tables(schema, buckets)
    if since is None:
        return f"{tables}{tables.grants}"
    upgrade = tables.upgrade(since)
    if upgrade is None:
        msg = f"since must be an older version of the tables than {VERSION}, not {since}"
        raise ConfigurationError(msg, field="since")
    return upgrade


class PostgresStore:
    """Keeps an outbox in a PostgreSQL database, at an address or behind a pool of psycopg; see `OutboxStore`.

    `url` is ``postgresql://…`` or a ``psycopg_pool.AsyncConnectionPool``. The tables are in
    `schema`, and are made if they do not exist; with `make_tables` false they must exist, as `schema_sql` makes them.
    `buckets` is the number of parts into which the work can be divided among drainers; it is fixed once the tables are
    made. A drainer that dies keeps its buckets for `lease` seconds. About `capacity` updates wait: that is checked once
    a second. Needs the extra ``postgres`` and a server of version 13 or later.

    Raises `ConfigurationError` for settings that cannot work.
    """

    __slots__ = (
        "_clock", "_counts", "_leases", "_leasing", "_looking", "_make_tables", "_next_compaction", "_next_count",
        "_puts", "_reading", "_settling", "_tables", "_writing", "buckets", "capacity", "path",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the settings of a store
        self,
        url: str | Pool,
        *,
        schema: str = "altcraft",
        buckets: int = 64,
        capacity: int = 100_000,
        lease: float = 45.0,
        make_tables: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        WHOLE.check("capacity", capacity)
        SECONDS.check("lease", lease)
        self._tables = Tables(schema, buckets)
        self._make_tables = make_tables
        database = Database(url)
        self.path = f"{database.name} ({schema})"
        self.buckets = buckets
        self.capacity = capacity
        self._clock = clock
        self._writing, self._settling = database.session(), database.session()
        self._reading, self._looking = database.session(), database.session()
        self._leasing = database.session()
        self._leases = Leasing(self._leasing, self._tables, seconds=lease, owner=uuid4(), place=_place())
        self._puts = Grouped(self._put_all)
        self._counts = Counts(0, 0, None)
        self._next_count = self._next_compaction = 0.0

    def __repr__(self) -> str:
        """Show where it is, without the password."""
        return f"<PostgresStore {self.path}>"

    # -- life

    async def open(self, *, target: str | None) -> None:
        """Make the tables if they do not exist, and check that they are of this release and for this platform."""
        with self._told():
            (unreadable,), (there,) = (
                rows[0]
                for rows in await self._looking.transact((self._tables.unreadable, ()), (self._tables.there, ()))
            )
            if unreadable:
                self._refuse("is connected to with the encoding SQL_ASCII; connect with client_encoding=UTF8")
            if not there:
                if not self._make_tables:
                    self._refuse("does not exist; check the address and the schema, or `altcraft-async outbox schema`")
                await self._looking.transact((self._tables.lock, ()), (self._tables.make, ()))
            version, buckets, aim = (await self._looking.rows(self._tables.meta))[0]
            upgrade = self._tables.upgrade(version) if version < VERSION else None
            if upgrade is not None:
                if not self._make_tables:
                    self._refuse(f"has tables of version {version}; run what `altcraft-async outbox schema --since "
                                 f"{version}` prints")  # fmt: skip
                await self._looking.transact((_LOCK_WAIT, ()), (self._tables.lock, ()), (upgrade, ()))
                version, buckets, aim = (await self._looking.rows(self._tables.meta))[0]
            if version == VERSION and target is not None and aim is None:
                aim = (await self._looking.rows(self._tables.aim, (target,)))[0][0]
        if version != VERSION:
            self._refuse(
                f"has version {version}, and this altcraft_async knows version {VERSION}; use the release that made it"
            )
        if buckets != self.buckets:
            self._refuse(
                f"was made for {buckets} buckets, not {self.buckets}; give buckets={buckets}, or "
                f"--buckets {buckets} to a command"
            )
        if target is not None and aim != target:
            self._refuse(f"is delivered to {aim}, not to {target}; give another schema for another platform")

    def _refuse(self, said: str) -> None:
        msg = f"the outbox {self.path} {said}"
        raise OutboxError(msg, path=self.path)

    async def aclose(self) -> None:
        """End the puts that were begun, give the buckets to others, close the sessions."""
        await self._puts.aclose()
        try:
            await self._leases.leave()
        except Failure:
            pass  # they are free when their time is over
        finally:
            for session in (self._writing, self._settling, self._reading, self._looking, self._leasing):
                await session.aclose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Failure as failure:
            raise self._error(failure) from failure

    def _error(self, failure: Failure) -> OutboxError:
        msg = f"the outbox {self.path} cannot be used: {failure.message}"
        return OutboxError(msg, path=self.path, maybe_accepted=failure.fate is Fate.LOST)

    # -- leases

    async def lease(self) -> Leases:
        """Renew the leases in time, and take or offer buckets until each drainer has its share of them."""
        with self._told():
            return await self._leases.lease()

    async def release(self, buckets: Collection[int]) -> None:
        """Give buckets back."""
        with self._told():
            await self._leases.release(buckets)

    def bucket_of(self, update: LineStatusUpdate) -> int:
        """Return the bucket of an update: all updates of one order are in the same one."""
        return bucket_of(update.order_external_id, self.buckets)

    # -- accepting

    async def put(
        self, update: LineStatusUpdate, request_id: str, put_at: float, traceparent: str | None = None
    ) -> Counts:
        """Accept an update, at the database's time; if its request id already waits, it counts as accepted.

        An `OutboxError` with ``maybe_accepted`` says that the connection was lost at the end: repeat the same put under
        the same id to make sure. After a cancellation the update may or may not have been accepted.
        """
        del put_at
        self._check_room()
        try:
            await self._puts.do(self._row(update, request_id, traceparent))
        except Failure as failure:
            if failure.code == ANOTHER_CHANGE:
                raise another_change(request_id) from failure
            if failure.fate is Fate.INVALID:
                msg = f"the outbox {self.path} cannot take the update: {failure.message}"
                raise InvalidUpdateError(msg) from failure
            raise self._error(failure) from failure
        return self._counts

    async def put_within(
        self, connection: object, update: LineStatusUpdate, request_id: str, traceparent: str | None = None
    ) -> None:
        """Accept an update when the transaction of a connection is committed; see `execute_on`.

        Raises `InvalidUpdateError` for another change under a request id that waits; the transaction has failed then.
        So it does for a character that the connection's encoding lacks, which harms no transaction.
        """
        self._check_room()
        row = self._row(update, request_id, traceparent)
        try:
            await execute_on(connection, lambda style: self._statement([row], style))
        except UnicodeEncodeError as error:
            msg = f"a character of the update is not in the connection's encoding {error.encoding}; use UTF8"
            raise InvalidUpdateError(msg) from error
        except Exception as error:  # each driver has errors of its own
            if refuses_another_change(error):
                raise another_change(request_id) from error
            raise

    def statement(
        self,
        updates: Iterable[Row],
        *,
        request_ids: Iterable[str] | None = None,
        paramstyle: ParamStyle = "format",
        traceparent: str | None = None,
    ) -> Statement:
        """Return the SQL that accepts updates, for any driver, also a synchronous one; it uses no connection.

        The updates are accepted when the transaction that executes the SQL is committed, and never if that is rolled
        back. `updates` are rows of any shape, as for a put. `request_ids` are theirs, by default each update's own, or
        else a fresh one. `traceparent` names the span that puts them. Raises `InvalidUpdateError` as a put does, and
        `ConfigurationError` without an update.
        """
        made = [update_of(update) for update in updates]
        given = (update.request_id or str(uuid4()) for update in made) if request_ids is None else request_ids
        ids = [check_request_id(id_) for id_ in given]
        if not made or len(ids) != len(made):
            msg = f"a statement needs updates, and as many request ids, not {len(made)} and {len(ids)}"
            raise ConfigurationError(msg, field="request_ids" if made else "updates")
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_ in ids if ids.count(id_) > 1)
            msg = f"request_id {twice!r} is given twice; give each change an id of its own"
            raise InvalidUpdateError(msg, field="request_id")
        rows = [self._row(update, id_, traceparent) for update, id_ in zip(made, ids, strict=True)]
        return self._statement(rows, paramstyle)

    def _statement(self, rows: Sequence[tuple[object, ...]], paramstyle: str) -> Statement:
        marks, parameters = bind(rows, paramstyle)
        return Statement(self._tables.put_values(marks), parameters, tuple(str(row[-2]) for row in rows))

    def _row(self, update: LineStatusUpdate, request_id: str, traceparent: str | None) -> tuple[object, ...]:
        ids = (update.order_external_id, update.order_line_external_id, update.status_external_id)
        return (self.bucket_of(update), *ids, request_id, traceparent)

    async def _put_all(self, rows: Sequence[tuple[object, ...]]) -> None:
        columns = _columns((*row[:-1], row[-1] or "") for row in rows)
        await self._writing.transact((_LOCK_WAIT, ()), (self._tables.put, columns))
        self._count(waiting=len(rows))

    def _check_room(self) -> None:
        pending = self._counts.pending
        if pending >= self.capacity:
            msg = (
                f"the outbox {self.path} is full: about {pending} updates wait; put it again later, and look whether "
                "they are delivered at all"
            )
            raise OutboxFullError(msg, path=self.path, capacity=self.capacity)

    async def try_writing(self) -> None:
        """Accept an update, and take it back."""
        row = (0, "", "", "", str(uuid4()), "")
        with self._told():
            await self._writing.rehearse(self._tables.put, [[value] for value in row])

    # -- delivering

    async def pending(self, after: Mapping[int, int], *, last: EntryPage | None, limit: int) -> EntryPage:
        """Read waiting entries, all of them as of one snapshot.

        Entries that were not visible in the snapshot of the `last` read are found by their transaction, so that
        nothing is read twice, and deleted rows that are not cleaned up yet cost nothing.
        """
        mark = last.mark if last is not None and isinstance(last.mark, _Mark) else _Mark(_NOTHING_SEEN, {})
        if last is not None and not last.more and mark.cursors == after:  # all that is there has been read
            rows, as_of = await self._rows(self._tables.news, mark, buckets=array(after), most=limit + 1)
            if _is_other(as_of, mark):
                return EntryPage((), anew=True)
            if len(rows) <= limit:
                return self._page(rows, as_of, after, frozenset())
        hungry = (after.keys() & last.more if last is not None else set()) or after.keys()
        most = {bucket: -(-limit // len(hungry)) if bucket in hungry else _FEW for bucket in after}
        wanted = {"buckets": array(after), "cursors": array(after.values()), "most": array(most.values())}
        rows, as_of = await self._rows(self._tables.pending, mark, **wanted)
        if _is_other(as_of, mark):
            return EntryPage((), anew=True)
        found = dict.fromkeys(after, 0)
        for row in rows:
            found[row[0]] += row[1] > after[row[0]]
        more = frozenset(bucket for bucket, count in found.items() if count >= most[bucket])
        return self._page(rows, as_of, after, more)

    async def _rows(self, sql: Callable[..., str], mark: _Mark, **wanted: object) -> tuple[Rows, str]:
        """Read rows, and the snapshot as of which they were read, with its server's start."""
        _, end, open_then = mark.as_of.partition(" ")[0].split(":")
        if open_then:
            wanted["open"] = f"{{{open_then}}}"
        with self._told():
            (first, *rows) = await self._reading.rows(sql(late=bool(open_then)), {**wanted, "end": end})
        return rows, first[8]

    def _page(self, rows: Rows, as_of: str, after: Mapping[int, int], more: frozenset[int]) -> EntryPage:
        now = self._clock()  # of this host, which may be wrong: only ages are believed
        cursors = dict(after)
        for row in rows:
            cursors[row[0]] = max(cursors[row[0]], row[1])
        entries = [Entry(row[1], LineStatusUpdate(*row[2:5]), row[5], now - row[7], row[0], row[6]) for row in rows]
        return EntryPage(entries, more, _Mark(as_of, cursors))

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Settled:
        """Delete what was delivered, and move the dead."""
        with self._told():
            try:
                found = await self._settling.transact(*ends(self._tables, self._leases.owner, delivered, dead))
            except Failure as failure:
                if failure.fate is not Fate.INVALID:
                    raise
                # all else came from the database: a reason has characters that its encoding lacks
                dead = [in_ascii(burial) for burial in dead]
                found = await self._settling.transact(*ends(self._tables, self._leases.owner, delivered, dead))
        buried = frozenset(row[0] for row in found[0]) if dead else frozenset()
        self._count(waiting=-(found[-1][0][0] if delivered else 0) - len(buried), dead=len(buried))
        return Settled(self._counts, buried)

    # -- looking

    async def counts(self) -> Counts:
        """Count, unless that was just done and took long; the process adds its own changes since then."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._next_count:
            return self._counts
        with self._told():
            pending, dead, age, dead_tuples, open_for, dead_leases = (
                await self._looking.rows(self._tables.counts, (self.capacity + 1,))
            )[0]
        took = loop.time() - began
        self._next_count = loop.time() + took / _COUNTING_PART if took > _COUNTING_PART else 0.0
        oldest = None if age is None else self._clock() - age
        self._counts = Counts(pending, dead, oldest, dead_tuples, open_for)
        if self._leases.holds(0) and began >= self._next_compaction:
            if (dead_tuples or 0) > _MOST_DEAD_TUPLES:
                self._next_compaction = began + _COMPACT_EVERY
                await self.compact()
            if (dead_leases or 0) > _MOST_DEAD_LEASES:
                self._next_compaction = began + _COMPACT_EVERY
                await self._compacted(self._tables.compact_leases)
        return self._counts

    async def compact(self) -> bool:
        """Give back the space of deleted rows that no vacuum can remove; say whether that could be done.

        It cannot be done while a transaction is open that has put or looked at what waits, nor while more than 10,000
        updates wait, nor without the right to truncate the table.
        """
        found = await self._compacted(self._tables.compact)
        return bool(found and found[0][0])

    async def _compacted(self, sql: str) -> Rows:
        try:
            return await self._looking.rows(sql)
        except Failure:
            return []

    def _count(self, *, waiting: int = 0, dead: int = 0) -> None:
        """Reckon with what a statement did: one value for all whose puts shared it."""
        now = self._counts
        self._counts = Counts(
            max(0, now.pending + waiting), now.dead + dead, now.oldest, now.dead_tuples, now.oldest_transaction
        )

    # -- dead letters

    async def drainers(self) -> Sequence[DrainerSeen]:
        """Return the processes that deliver, or did so within the last day."""
        with self._told():
            return [DrainerSeen(*row) for row in await self._looking.rows(self._tables.drainers)]

    async def dead_letters(self, *, after: int, limit: int) -> Sequence[DeadLetter]:
        """Read dead letters."""
        with self._told():
            return _letters(await self._looking.rows(self._tables.letters, (after, limit)))

    async def retry(self, ids: Sequence[int] | None, put_at: float) -> int:
        """Move dead letters back.

        Without `ids` a newer update of the line may be in a transaction that is still open, so it stops all puts for
        that moment; raises `OutboxError` if that is not possible within two seconds.
        """
        del put_at
        retry = (self._tables.retry, {"ids": None if ids is None else list(ids)})
        guard = [] if ids is not None else [(_LOCK_WAIT, ()), (self._tables.stop_puts, ())]
        with self._told():
            count: int = (await self._looking.transact(*guard, retry))[-1][0][0]
        self._next_count = 0.0
        return count

    async def purge(self, ids: Sequence[int] | None) -> int:
        """Delete dead letters."""
        with self._told():
            rows = await self._looking.rows(self._tables.purge, {"ids": None if ids is None else list(ids)})
        self._next_count = 0.0
        count: int = rows[0][0]
        return count

    async def trim(self, *, most: int | None, age: float | None, now: float) -> int:
        """Delete old dead letters, by the database's clock; the oldest are those that were accepted first."""
        del now
        with self._told():
            rows = await self._looking.rows(self._tables.trim, {"age": age, "most": most})
        self._next_count = 0.0
        count: int = rows[0][0]
        return count

    async def forget(self, order_external_id: str) -> Forgotten:
        """Delete the data of an order; the database's own cleaning removes the deleted rows from its files."""
        bucket = bucket_of(order_external_id, self.buckets)
        with self._told():
            rows = await self._looking.rows(self._tables.forget, (bucket, order_external_id, order_external_id))
        self._next_count = 0.0
        return Forgotten(*rows[0])


def _is_other(as_of: str, mark: _Mark) -> bool:
    """Say whether a read was of another server than the one before it, or of one that was started anew."""
    before = mark.as_of.partition(" ")[2]
    return before not in {"", as_of.partition(" ")[2]}


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return [array(column) for column in zip(*rows, strict=True)]


def _letters(rows: Rows) -> list[DeadLetter]:
    return [
        DeadLetter(row[0], LineStatusUpdate(*row[1:4]), row[4], OutcomeState(row[5]), *row[6:])  # as `Tables.letters`
        for row in rows
    ]


def _place() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()
