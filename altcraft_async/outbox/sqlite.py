"""The outbox in one SQLite file: the store that is built in.

Puts of all tasks that come while one commit runs share the next one. Ids are assigned inside the transaction, so
several processes may put into one file.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from altcraft_async.errors import ConfigurationError, InvalidUpdateError, OutboxError, OutboxFullError, StorageError
from altcraft_async.outbox.store import Counts, DeadLetter, Entry, EntryPage, Forgotten, Leases, Settled, another_change
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.storage.lock import Lock
from altcraft_async.storage.sqlite import (
    FileKind,
    GroupWriter,
    Upgrade,
    insert_many,
    open_database,
    shred,
    translated,
)

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    from altcraft_async.outbox.store import Burial

__all__ = ["SqliteStore"]

_T = TypeVar("_T")


def _bring_to_version_2(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE entry ADD COLUMN traceparent TEXT")
    connection.execute("ALTER TABLE dead ADD COLUMN traceparent TEXT")
    # not unique: in a file of the first version two puts may wait under one id
    connection.execute("CREATE INDEX entry_of_request ON entry (request_id)")


_KIND = FileKind(
    name="the outbox",
    application_id=0x414C544F,
    version=2,
    schema="""
        CREATE TABLE IF NOT EXISTS entry (
            id INTEGER PRIMARY KEY, order_external_id TEXT NOT NULL, order_line_external_id TEXT NOT NULL,
            status_external_id TEXT NOT NULL, request_id TEXT NOT NULL, put_at REAL NOT NULL, traceparent TEXT
        );
        CREATE INDEX IF NOT EXISTS entry_of_request ON entry (request_id);
        CREATE INDEX IF NOT EXISTS entry_of_line ON entry (order_external_id, order_line_external_id);
        CREATE TABLE IF NOT EXISTS dead (
            id INTEGER PRIMARY KEY, order_external_id TEXT NOT NULL, order_line_external_id TEXT NOT NULL,
            status_external_id TEXT NOT NULL, request_id TEXT NOT NULL, put_at REAL NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL, attempts INTEGER NOT NULL, died_at REAL NOT NULL,
            overtaken INTEGER NOT NULL DEFAULT 0, traceparent TEXT
        );
        CREATE INDEX IF NOT EXISTS dead_of_line ON dead (order_external_id, order_line_external_id);
        CREATE TABLE IF NOT EXISTS state (
            only INTEGER PRIMARY KEY CHECK (only = 1), pending INTEGER NOT NULL, dead INTEGER NOT NULL,
            last_id INTEGER NOT NULL
        );
        INSERT OR IGNORE INTO state VALUES (1, 0, 0, 0)
    """,
    error=OutboxError,
    upgrades={1: Upgrade(write=_bring_to_version_2, read=_bring_to_version_2)},  # every opening may write
)

_CHANGE = "request_id, order_external_id, order_line_external_id, status_external_id"
_ENTRY = "id, order_external_id, order_line_external_id, status_external_id, request_id, put_at, traceparent"
_LETTER = (
    "id, order_external_id, order_line_external_id, status_external_id, request_id, put_at, state, reason, attempts, "
    "died_at, overtaken, traceparent"
)

_NOT_OVERTAKEN = """
    overtaken = 0 AND NOT EXISTS (
        SELECT 1 FROM entry WHERE entry.order_external_id = dead.order_external_id
        AND entry.order_line_external_id = dead.order_line_external_id AND entry.id > dead.id
    )
"""
"""No newer update of the line has been delivered, or waits to be."""

_IDS_AT_ONCE = 500
"""Ids in one question; SQLite takes 999 parameters at least."""

_LINGER = 0.01
"""Seconds that ends of deliveries wait for company; a put never waits."""

_LOOK_EVERY = 0.25
"""Seconds between two looks whether the file's lock has become free."""


class _Job(Generic[_T]):
    """One piece of writing: `work` does it inside the transaction, `done` gets its result after the commit.

    `request_id` is that of a put, None for anything else.
    """

    __slots__ = ("done", "request_id", "result", "work")

    def __init__(self, work: Callable[[_Ledger], _T], request_id: str | None = None) -> None:
        self.work = work
        self.request_id = request_id
        self.done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self.result: _T | InvalidUpdateError | OutboxError | None = None


class _Ledger:
    """One transaction: the counts as they stand in it, and the puts that are inserted together at its end.

    `waiting` has those of the `asked` request ids, and of the ids of its own puts, that wait, each with its change.
    """

    __slots__ = ("connection", "dead", "last_id", "pending", "puts", "waiting")

    def __init__(self, connection: sqlite3.Connection, asked: Sequence[str]) -> None:
        self.connection = connection
        self.waiting = _waiting_among(connection, asked)
        self.pending, self.dead, self.last_id = connection.execute(
            "SELECT pending, dead, last_id FROM state"
        ).fetchone()
        self.puts: list[tuple[object, ...]] = []

    def add(self, update: LineStatusUpdate, request_id: str, put_at: float, traceparent: str | None) -> None:
        """Let an update wait, unless its id does so already."""
        ids = (update.order_external_id, update.order_line_external_id, update.status_external_id)
        if request_id in self.waiting:
            if self.waiting[request_id] != ids:
                raise another_change(request_id)
            return
        self.waiting[request_id] = ids
        self.last_id += 1
        self.pending += 1
        self.puts.append((self.last_id, *ids, request_id, put_at, traceparent))

    def remove(self, entries: Sequence[Entry]) -> None:
        """Delete what no longer waits, where it is still there."""
        if entries:
            ids = [(entry.id,) for entry in entries]
            self.pending -= self.connection.executemany("DELETE FROM entry WHERE id = ?", ids).rowcount
            for entry in entries:
                self.waiting.pop(entry.request_id, None)

    def has(self, entry: Entry) -> bool:
        """Say whether an entry that was read waits still."""
        return self.connection.execute("SELECT 1 FROM entry WHERE id = ?", (entry.id,)).fetchone() is not None

    def flush(self) -> None:
        """Insert the puts of the group so far, for a job that looks at what waits."""
        insert_many(self.connection, f"INSERT INTO entry ({_ENTRY})", self.puts)
        self.puts = []

    def close(self) -> None:
        self.flush()
        self.connection.execute(
            "UPDATE state SET pending = ?, dead = ?, last_id = ?", (self.pending, self.dead, self.last_id)
        )


class _Phase(enum.Enum):
    """Where a store stands in its life."""

    NEW = "not open"
    OPEN = "open"
    CLOSED = "closed"


class SqliteStore:
    """Keeps an outbox in the file at `path`, made if it does not exist; see `OutboxStore`.

    At most `capacity` updates wait; dead letters are not counted among them.
    """

    __slots__ = ("_connection", "_lock", "_phase", "_writer", "capacity", "path")

    _connection: sqlite3.Connection
    _writer: GroupWriter[_Job[Any]]

    def __init__(self, path: str | os.PathLike[str], *, capacity: int) -> None:
        self.path = str(path)
        self.capacity = capacity
        self._lock = Lock(_KIND, self.path)
        self._phase = _Phase.NEW

    def __repr__(self) -> str:
        """Show the file."""
        return f"<SqliteStore {self.path}>"

    async def open(self, *, target: str | None) -> None:
        """Open the file, checking it whole; it does not know where it is delivered to."""
        del target
        self._lock.check_names()
        self._connection = await asyncio.to_thread(open_database, _KIND, self.path)
        try:
            writing = open_database(_KIND, self.path, check=False)
        except BaseException:
            self._connection.close()
            raise
        self._writer = GroupWriter(
            _KIND,
            self.path,
            writing,
            write=_write,
            committed=_resolve,
            failed=_reject,
            linger=_LINGER,
            stop_on_failure=False,
        )
        self._phase = _Phase.OPEN

    async def lease(self) -> Leases:
        """Take the file's lock, unless another process has it: who has it holds the one bucket, without end."""
        if self._lock.try_acquire():
            return Leases({0: 0})
        return Leases({}, again=_LOOK_EVERY, drainers=2)

    async def release(self, buckets: Collection[int]) -> None:
        """Give the lock back."""
        if buckets:
            self._lock.release()

    async def put_within(
        self, connection: object, update: LineStatusUpdate, request_id: str, traceparent: str | None = None
    ) -> None:
        """Refuse: a file of its own takes part in no transaction of others."""
        del connection, update, request_id, traceparent
        msg = f"connection needs an outbox in the same database, and {self.path} is a file of its own; leave it out"
        raise ConfigurationError(msg, field="connection")

    def bucket_of(self, update: LineStatusUpdate) -> int:
        """Return the only bucket."""
        del update
        return 0

    async def put(
        self, update: LineStatusUpdate, request_id: str, put_at: float, traceparent: str | None = None
    ) -> Counts:
        """Accept an update; after a cancellation it may or may not have been accepted."""

        def work(ledger: _Ledger) -> Counts:
            if ledger.pending >= self.capacity and request_id not in ledger.waiting:
                msg = (
                    f"the outbox {self.path} is full: {ledger.pending} updates wait; put it again later, and look "
                    "whether they are delivered at all"
                )
                raise OutboxFullError(msg, path=self.path, capacity=self.capacity)
            ledger.add(update, request_id, put_at, traceparent)
            return self._counted(ledger)

        job = _Job(work, request_id)
        self._writer.submit(job)
        self._writer.hurry()
        return await job.done

    async def pending(self, after: Mapping[int, int], *, last: EntryPage | None, limit: int) -> EntryPage:
        """Read waiting entries; none is ever seen late, since ids are given inside the one writing transaction."""
        del last
        with translated(_KIND, self.path):
            rows = self._connection.execute(
                f"SELECT {_ENTRY} FROM entry WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - our own
                (after[0], limit),
            ).fetchall()
        entries = [Entry(row[0], LineStatusUpdate(*row[1:4]), row[4], row[5], 0, row[6]) for row in rows]
        return EntryPage(entries, frozenset({0}) if len(rows) == limit else frozenset())

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Settled:
        """Delete what was delivered, and move the dead."""

        def work(ledger: _Ledger) -> Settled:
            buried = [burial for burial in dead if ledger.has(burial.entry)]
            ledger.remove([burial.entry for burial in buried])
            insert_many(ledger.connection, f"INSERT INTO dead ({_LETTER})", [_buried(burial) for burial in buried])
            ledger.dead += len(buried)
            ledger.remove(delivered)
            if ledger.dead:  # after the burials: what was delivered overtakes those of the same settling too
                ledger.connection.executemany(
                    "UPDATE dead SET overtaken = 1 "
                    "WHERE order_external_id = ? AND order_line_external_id = ? AND id < ?",
                    [(*entry.update.key, entry.id) for entry in delivered],
                )
            return Settled(self._counted(ledger), frozenset(burial.entry.id for burial in buried))

        return await self._done(_Job(work))

    async def counts(self) -> Counts:
        """Read the counts."""
        with translated(_KIND, self.path):
            pending, dead = self._connection.execute("SELECT pending, dead FROM state").fetchone()
            oldest = self._connection.execute("SELECT put_at FROM entry ORDER BY id LIMIT 1").fetchone()
        return Counts(pending, dead, oldest[0] if oldest else None)

    async def try_writing(self) -> None:
        """Commit an empty change."""
        await self._done(_Job(self._counted))

    async def dead_letters(self, *, after: int, limit: int) -> Sequence[DeadLetter]:
        """Read dead letters."""
        with translated(_KIND, self.path):
            rows = self._connection.execute(
                f"SELECT {_LETTER} FROM dead WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - our own
                (after, limit),
            ).fetchall()
        return [_letter(row) for row in rows]

    async def retry(self, ids: Sequence[int] | None, put_at: float) -> int:
        """Move dead letters back."""

        def work(ledger: _Ledger) -> int:
            ledger.flush()  # a newer put of the line may be in this very group
            letters = [_letter(row) for row in _chosen(ledger.connection, ids, _NOT_OVERTAKEN)]
            ids_of = [letter.request_id for letter in letters]
            ledger.waiting |= _waiting_among(ledger.connection, ids_of)
            for letter in letters:
                fresh = letter.state is OutcomeState.REJECTED  # an answer kept for the old id could only say the same
                id_ = str(uuid4()) if fresh else letter.request_id
                ledger.add(letter.update, id_, put_at, letter.traceparent)
            ledger.connection.executemany("DELETE FROM dead WHERE id = ?", [(letter.id,) for letter in letters])
            ledger.dead -= len(letters)
            return len(letters)

        return await self._done(_Job(work))

    async def purge(self, ids: Sequence[int] | None) -> int:
        """Delete dead letters."""

        def work(ledger: _Ledger) -> int:
            chosen = [row[:1] for row in _chosen(ledger.connection, ids, "1")]
            ledger.connection.executemany("DELETE FROM dead WHERE id = ?", chosen)
            ledger.dead -= len(chosen)
            return len(chosen)

        return await self._done(_Job(work))

    async def trim(self, *, most: int | None, age: float | None, now: float) -> int:
        """Delete old dead letters; the oldest are those that were accepted first."""

        def work(ledger: _Ledger) -> int:
            connection, count = ledger.connection, 0
            if age is not None:
                count += connection.execute("DELETE FROM dead WHERE died_at < ?", (now - age,)).rowcount
            if most is not None and (surplus := ledger.dead - count - most) > 0:
                oldest = "DELETE FROM dead WHERE id IN (SELECT id FROM dead ORDER BY id LIMIT ?)"
                count += connection.execute(oldest, (surplus,)).rowcount
            ledger.dead -= count
            return count

        return await self._done(_Job(work))

    async def forget(self, order_external_id: str) -> Forgotten:
        """Delete the data of an order, and the remains of deleted updates in the file."""

        def work(ledger: _Ledger) -> Forgotten:
            ledger.flush()
            of_order = "WHERE order_external_id = ?"
            waiting = ledger.connection.execute(f"DELETE FROM entry {of_order}", (order_external_id,)).rowcount  # noqa: S608
            dead = ledger.connection.execute(f"DELETE FROM dead {of_order}", (order_external_id,)).rowcount  # noqa: S608
            ledger.pending -= waiting
            ledger.dead -= dead
            return Forgotten(waiting, dead)

        forgotten = await self._done(_Job(work))
        await asyncio.to_thread(shred, _KIND, self.path)
        return forgotten

    async def aclose(self) -> None:
        """Commit what was begun, close the file, give the lock back."""
        try:
            if self._phase is _Phase.OPEN:
                await self._writer.aclose()
        finally:
            if self._phase is _Phase.OPEN:
                self._connection.close()
            self._phase = _Phase.CLOSED
            self._lock.release()

    async def _done(self, job: _Job[_T]) -> _T:
        self._writer.submit(job)
        return await job.done

    def _counted(self, ledger: _Ledger) -> Counts:
        return Counts(ledger.pending, ledger.dead, None)


def _waiting_among(connection: sqlite3.Connection, request_ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return those of these ids that wait, each with its change."""
    found: dict[str, tuple[str, str, str]] = {}
    for start in range(0, len(request_ids), _IDS_AT_ONCE):
        some = request_ids[start : start + _IDS_AT_ONCE]
        query = f"SELECT {_CHANGE} FROM entry WHERE request_id IN ({','.join('?' * len(some))})"  # noqa: S608 - marks
        found.update((row[0], (row[1], row[2], row[3])) for row in connection.execute(query, some))
    return found


def _chosen(connection: sqlite3.Connection, ids: Sequence[int] | None, otherwise: str) -> list[tuple[object, ...]]:
    chosen = f"SELECT {_LETTER} FROM dead WHERE"  # noqa: S608 - our own
    if ids is None:
        return connection.execute(f"{chosen} {otherwise} ORDER BY id").fetchall()
    found = [connection.execute(f"{chosen} id = ?", (id_,)).fetchone() for id_ in sorted(set(ids))]
    return [row for row in found if row is not None]


def _buried(burial: Burial) -> tuple[object, ...]:
    entry, update = burial.entry, burial.entry.update
    ids = (update.order_external_id, update.order_line_external_id, update.status_external_id)
    head = (entry.id, *ids, entry.request_id, entry.put_at)
    return (*head, str(burial.state), burial.reason, burial.attempts, burial.died_at, 0, entry.traceparent)


def _letter(row: Sequence[object]) -> DeadLetter:
    id_, order, line, status, request_id, put_at, state, reason, attempts, died_at, overtaken, trace = row
    update = LineStatusUpdate(order, line, status)  # type: ignore[arg-type]  # columns are typed by the schema
    state = OutcomeState(str(state))
    return DeadLetter(id_, update, request_id, state, reason, attempts, put_at, died_at, bool(overtaken), trace)  # type: ignore[arg-type]


def _write(connection: sqlite3.Connection, jobs: Sequence[_Job[Any]]) -> None:
    """Do the jobs of one group; a refusal is the result of its job alone."""
    ledger = _Ledger(connection, [job.request_id for job in jobs if job.request_id is not None])
    for job in jobs:
        try:
            job.result = job.work(ledger)
        except (InvalidUpdateError, OutboxError) as refusal:
            job.result = refusal
    ledger.close()


def _resolve(jobs: Sequence[_Job[Any]]) -> None:
    for job in jobs:
        if job.done.done():  # its caller was cancelled
            continue
        if isinstance(job.result, InvalidUpdateError | OutboxError):
            job.done.set_exception(job.result)
        else:
            job.done.set_result(job.result)


def _reject(error: StorageError, jobs: Sequence[_Job[Any]]) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(type(error)(error.message, path=error.path))
