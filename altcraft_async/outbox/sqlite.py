"""The outbox in one SQLite file: the store that is built in.

Puts of all tasks that come while one commit runs share the next one. Ids are
given inside the transaction, so several processes may put into one file.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import uuid4

from altcraft_async.errors import ConfigurationError, OutboxError, OutboxFullError, StorageError
from altcraft_async.outbox.store import Counts, DeadLetter, Entry, EntryPage, Leases
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.storage.lock import Lock
from altcraft_async.storage.sqlite import FileKind, GroupWriter, insert_many, open_database, translated

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    from altcraft_async.outbox.store import Burial

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

_KIND = FileKind(
    name="the outbox",
    application_id=0x414C544F,
    version=1,
    schema="""
        CREATE TABLE IF NOT EXISTS entry (
            id INTEGER PRIMARY KEY, order_external_id TEXT NOT NULL, order_line_external_id TEXT NOT NULL,
            status_external_id TEXT NOT NULL, request_id TEXT NOT NULL, put_at REAL NOT NULL
        );
        CREATE INDEX IF NOT EXISTS entry_of_line ON entry (order_external_id, order_line_external_id);
        CREATE TABLE IF NOT EXISTS dead (
            id INTEGER PRIMARY KEY, order_external_id TEXT NOT NULL, order_line_external_id TEXT NOT NULL,
            status_external_id TEXT NOT NULL, request_id TEXT NOT NULL, put_at REAL NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL, attempts INTEGER NOT NULL, died_at REAL NOT NULL, overtaken INTEGER NOT NULL DEFAULT 0
        );
        CREATE INDEX IF NOT EXISTS dead_of_line ON dead (order_external_id, order_line_external_id);
        CREATE TABLE IF NOT EXISTS state (
            only INTEGER PRIMARY KEY CHECK (only = 1), pending INTEGER NOT NULL, dead INTEGER NOT NULL,
            last_id INTEGER NOT NULL
        );
        INSERT OR IGNORE INTO state VALUES (1, 0, 0, 0)
    """,
    error=OutboxError,
)

_NOT_OVERTAKEN = """
    overtaken = 0 AND NOT EXISTS (
        SELECT 1 FROM entry WHERE entry.order_external_id = dead.order_external_id
        AND entry.order_line_external_id = dead.order_line_external_id AND entry.id > dead.id
    )
"""
"""No newer update of the line has been delivered, or waits to be."""

_LINGER = 0.01
"""Seconds that ends of deliveries wait for company; a put never waits."""

_LOOK_EVERY = 0.25
"""Seconds between two looks whether the file's lock has become free."""


class _Job(Generic[_T]):
    """One piece of writing: `work` does it inside the transaction, `done` gets its result after the commit."""

    __slots__ = ("done", "result", "work")

    def __init__(self, work: Callable[[_Ledger], _T]) -> None:
        self.work = work
        self.done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self.result: _T | OutboxError | None = None


class _Ledger:
    """One transaction: the counts as they stand in it, and the puts that are inserted together at its end."""

    __slots__ = ("connection", "dead", "last_id", "pending", "puts")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.pending, self.dead, self.last_id = connection.execute(
            "SELECT pending, dead, last_id FROM state"
        ).fetchone()
        self.puts: list[tuple[object, ...]] = []

    def add(self, update: LineStatusUpdate, request_id: str, put_at: float) -> None:
        self.last_id += 1
        self.pending += 1
        ids = (update.order_external_id, update.order_line_external_id, update.status_external_id)
        self.puts.append((self.last_id, *ids, request_id, put_at))

    def flush(self) -> None:
        """Insert the puts of the group so far, for a job that looks at what waits."""
        insert_many(self.connection, "INSERT INTO entry", self.puts)
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
    """Keeps an outbox in the file at `path`, made if it is not there; see `OutboxStore`.

    At most `capacity` updates wait; dead letters are not counted among them.
    """

    __slots__ = ("_connection", "_lock", "_phase", "_writer", "capacity", "path")

    _connection: sqlite3.Connection
    _writer: GroupWriter[_Job[Counts] | _Job[int]]

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

    async def put_within(self, connection: object, update: LineStatusUpdate, request_id: str) -> None:
        """Refuse: a file of its own takes part in no transaction of others."""
        del connection, update, request_id
        msg = f"connection needs an outbox in the same database, and {self.path} is a file of its own; leave it out"
        raise ConfigurationError(msg, field="connection")

    def bucket_of(self, update: LineStatusUpdate) -> int:
        """Return the only bucket."""
        del update
        return 0

    async def put(self, update: LineStatusUpdate, request_id: str, put_at: float) -> Counts:
        """Accept an update; cancelled, it may or may not have been accepted."""

        def work(ledger: _Ledger) -> Counts:
            if ledger.pending >= self.capacity:
                msg = (
                    f"the outbox {self.path} is full: {ledger.pending} updates wait; put it again later, and look "
                    "whether they are delivered at all"
                )
                raise OutboxFullError(msg, path=self.path, capacity=self.capacity)
            ledger.add(update, request_id, put_at)
            return self._counted(ledger)

        job = _Job(work)
        self._writer.submit(job)
        self._writer.hurry()
        return await job.done

    async def pending(self, after: Mapping[int, int], *, last: EntryPage | None, limit: int) -> EntryPage:
        """Read waiting entries; none is ever seen late, since ids are given inside the one writing transaction."""
        del last
        with translated(_KIND, self.path):
            rows = self._connection.execute(
                "SELECT * FROM entry WHERE id > ? ORDER BY id LIMIT ?", (after[0], limit)
            ).fetchall()
        entries = [Entry(row[0], LineStatusUpdate(*row[1:4]), *row[4:]) for row in rows]
        return EntryPage(entries, frozenset({0}) if len(rows) == limit else frozenset())

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Counts:
        """Delete what was delivered, and move the dead."""

        def work(ledger: _Ledger) -> Counts:
            ended = [entry.id for entry in delivered] + [burial.entry.id for burial in dead]
            ledger.connection.executemany("DELETE FROM entry WHERE id = ?", [(id_,) for id_ in ended])
            if ledger.dead:
                ledger.connection.executemany(
                    "UPDATE dead SET overtaken = 1 "
                    "WHERE order_external_id = ? AND order_line_external_id = ? AND id < ?",
                    [(*entry.update.key, entry.id) for entry in delivered],
                )
            insert_many(ledger.connection, "INSERT INTO dead", [_buried(burial) for burial in dead])
            ledger.pending -= len(delivered) + len(dead)
            ledger.dead += len(dead)
            return self._counted(ledger)

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
                "SELECT * FROM dead WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        return [_letter(row) for row in rows]

    async def retry(self, ids: Sequence[int] | None, put_at: float) -> int:
        """Move dead letters back."""

        def work(ledger: _Ledger) -> int:
            ledger.flush()  # a newer put of the line may be in this very group
            letters = [_letter(row) for row in _chosen(ledger.connection, ids, _NOT_OVERTAKEN)]
            for letter in letters:
                fresh = letter.state is OutcomeState.REJECTED  # an answer kept for the old id could only say the same
                ledger.add(letter.update, str(uuid4()) if fresh else letter.request_id, put_at)
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
        self._writer.submit(job)  # type: ignore[arg-type]  # the writer does not look at results
        return await job.done

    def _counted(self, ledger: _Ledger) -> Counts:
        return Counts(ledger.pending, ledger.dead, None)


def _chosen(connection: sqlite3.Connection, ids: Sequence[int] | None, otherwise: str) -> list[tuple[object, ...]]:
    if ids is None:
        return connection.execute(f"SELECT * FROM dead WHERE {otherwise} ORDER BY id").fetchall()  # noqa: S608 - our own
    found = [connection.execute("SELECT * FROM dead WHERE id = ?", (id_,)).fetchone() for id_ in sorted(set(ids))]
    return [row for row in found if row is not None]


def _buried(burial: Burial) -> tuple[object, ...]:
    entry, update = burial.entry, burial.entry.update
    ids = (update.order_external_id, update.order_line_external_id, update.status_external_id)
    head = (entry.id, *ids, entry.request_id, entry.put_at)
    return (*head, str(burial.state), burial.reason, burial.attempts, burial.died_at, 0)


def _letter(row: Sequence[object]) -> DeadLetter:
    id_, order, line, status, request_id, put_at, state, reason, attempts, died_at, overtaken = row
    update = LineStatusUpdate(order, line, status)  # type: ignore[arg-type]  # columns are typed by the schema
    state = OutcomeState(str(state))
    return DeadLetter(id_, update, request_id, state, reason, attempts, put_at, died_at, bool(overtaken))  # type: ignore[arg-type]


def _write(connection: sqlite3.Connection, jobs: Sequence[_Job[Counts] | _Job[int]]) -> None:
    """Do the jobs of one group; a refusal is the result of its job alone."""
    ledger = _Ledger(connection)
    for job in jobs:
        try:
            job.result = job.work(ledger)
        except OutboxError as refusal:
            job.result = refusal
    ledger.close()


def _resolve(jobs: Sequence[_Job[Counts] | _Job[int]]) -> None:
    for job in jobs:
        if job.done.done():  # its caller was cancelled
            continue
        if isinstance(job.result, OutboxError):
            job.done.set_exception(job.result)
        else:
            job.done.set_result(job.result)  # type: ignore[arg-type]  # the type of its own work


def _reject(error: StorageError, jobs: Sequence[_Job[Counts] | _Job[int]]) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(type(error)(error.message, path=error.path))
