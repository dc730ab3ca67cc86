"""SQLite files that hold updates: opened with care, and written in groups by one thread.

The one owner of sqlite3, under the journal and the outbox. Files are in WAL
mode with ``synchronous=FULL``: what is committed survives the death of the
process and of the machine. `GroupWriter` makes that affordable: whatever was
submitted while one commit ran shares the next one. Every failure of SQLite or
of the file system becomes the owner's `StorageError`, with the path and what
to do about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

import attrs

from altcraft_async.errors import StorageError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "FileKind",
    "GroupWriter",
    "Upgrade",
    "connect",
    "damaged",
    "insert_many",
    "open_database",
    "shred",
    "succeeds",
    "translated",
]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_BUSY_SECONDS = 10.0
"""How long a statement waits for another connection's commit; commits take milliseconds."""

_ROWS_AT_ONCE = 128
"""Rows in one INSERT. One statement lets go of the interpreter once, however many rows it brings; a statement a row
would wait for the busy event loop after each of them."""


_DAMAGED = (
    "{name} {path} is damaged; put it aside and restore a copy, or read out what is left of it with "
    "`sqlite3 FILE .recover`"
)


@attrs.frozen
class Upgrade:
    """How a file of an older format version is dealt with.

    `write` brings it to the next version, inside a transaction that is the caller's.
    `read` makes its content look like the present version to this connection,
    without changing the file.
    """

    write: Callable[[sqlite3.Connection], None]
    read: Callable[[sqlite3.Connection], None]


@attrs.frozen
class FileKind:
    """What a file is: its `name` in messages, its mark and format `version` inside, its `schema`, its error.

    `upgrades` has the way to the next version for each older one that is still understood.
    """

    name: str
    application_id: int
    version: int
    schema: str
    error: type[StorageError]
    upgrades: Mapping[int, Upgrade] = attrs.field(factory=dict)


@contextlib.contextmanager
def translated(kind: FileKind, path: str, *, write: bool = True) -> Iterator[None]:
    """Turn an error of SQLite or the file system into the kind's own, with the path and the remedy.

    `write` says whether the file was to be written.
    """
    import sqlite3  # noqa: PLC0415 - most programs keep no file

    try:
        yield
    except sqlite3.Error as error:
        said = _said(kind, path, getattr(error, "sqlite_errorname", "") or "", str(error), write=write)
    except OSError as error:
        said = f"{kind.name} {path} cannot be used ({error.strerror or error}); check the path and its rights"
    except UnicodeDecodeError:  # of SQLite's own message, which quotes what it has found
        said = damaged(kind, path).message
    else:
        return
    raise kind.error(said, path=path)


_CANNOT_READ = "{name} {path} cannot be read; check that it is a file, and that this user may read it"
_OPENING = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_REASONS = (
    (("SQLITE_BUSY", "SQLITE_LOCKED"), "{name} {path} is in use by another process; wait until that has ended"),
    (
        ("SQLITE_FULL",),
        "the disk with {name} {path} is full; free some space and run again with the same file",
    ),
    (
        ("SQLITE_NOTADB",),
        "{path} is no {kind} of altcraft_async, or is damaged; put it aside and restore a copy, or give another path",
    ),
    (("SQLITE_CORRUPT", "SQLITE_FORMAT"), _DAMAGED),
    (
        _OPENING,
        "{name} {path} cannot be written; check that its directory is there, and that this user may write to both",
    ),
    (
        ("SQLITE_IOERR",),
        "{name} {path} failed on its disk ({text}); check the disk and its space, and run again",
    ),
    ((), "{name} {path} cannot be used ({text}); check the file"),
)
"""What an error code of SQLite, by its beginning, means for a person; the last is for all others."""


def _said(kind: FileKind, path: str, code: str, text: str, *, write: bool) -> str:
    if not write and code.startswith(_OPENING):
        said = _CANNOT_READ
    else:
        said = next(said for codes, said in _REASONS if not codes or code.startswith(codes))
    return said.format(name=kind.name, kind=kind.name.split()[-1], path=path, text=text)


def damaged(kind: FileKind, path: str) -> StorageError:
    """Return the kind's error for a file whose content cannot be trusted."""
    return kind.error(_DAMAGED.format(name=kind.name, path=path), path=path)


def open_database(kind: FileKind, path: str, *, write: bool = True, check: bool = True) -> sqlite3.Connection:
    """Open the file, and where it is to be written, make it if it is not there; raises the kind's error.

    The connection is in autocommit mode and may be used by any one thread at a
    time. Refused are files of another kind or of an unknown format version, and,
    with `check`, which reads the whole file, damaged ones. A file of an older
    version is brought to this one where it is to be written, in one transaction
    that is done or not done whatever happens; otherwise it only looks so. To `write`
    means to try it at once: what is on a full disk or may not be written is refused here.
    Reading needs no right to write, neither to the file nor to its directory.
    """
    with translated(kind, path, write=write):
        if not write and not Path(path).is_file():
            msg = f"{kind.name} {path} does not exist; check the path"
            raise kind.error(msg, path=path)
        if _is_emptied(path):
            raise damaged(kind, path)
        connection = _opened_to_write(path) if write else _opened_to_read(path)
        try:
            version = _version(kind, path, connection, check=check)
            if not write and version == _FRESH:
                msg = f"{kind.name} {path} is empty; check the path"
                raise kind.error(msg, path=path)  # noqa: TRY301 - the connection is to be closed
            (_prepare_to_write if write else _prepare_to_read)(kind, connection, version)
        except BaseException:
            connection.close()
            raise
        return connection


def _is_emptied(path: str) -> bool:
    """Say whether a file lost all it held: SQLite would drop the log of an empty one, which is begun after the file."""
    file, log = Path(path), Path(f"{path}-wal")
    return file.is_file() and not file.stat().st_size and log.is_file() and log.stat().st_size > 0


def connect(name: str, *, uri: bool = False, timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Open any SQLite file in autocommit mode, for use by any one thread at a time."""
    import sqlite3  # noqa: PLC0415 - most programs keep no file

    return sqlite3.connect(name, uri=uri, timeout=timeout, isolation_level=None, check_same_thread=False)


def _opened(path: str | Path, options: str) -> sqlite3.Connection:
    """Connect to a file, and be sure that it can be read; SQLite itself opens it only at the first statement."""
    connection = connect(f"{Path(path).absolute().as_uri()}?{options}", uri=True)
    try:
        connection.execute(_MARKS[0]).fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _opened_to_write(path: str) -> sqlite3.Connection:
    return _opened(path, "mode=rwc")


def _opened_to_read(path: str) -> sqlite3.Connection:
    """Open a file without asking for more than the right to read it.

    The usual way is ``mode=rw``, since ``mode=ro`` would leave its log behind. It
    needs a shared index beside the log. Where that is missing and cannot be made,
    nobody has the file open, and it can be read as it is, or, with a log that has
    content, by a copy.
    """
    import sqlite3  # noqa: PLC0415 - most programs keep no file

    try:
        return _opened(path, "mode=rw")
    except sqlite3.OperationalError as error:
        if not getattr(error, "sqlite_errorname", "").startswith(_OPENING):
            raise
    log = Path(f"{path}-wal")
    if not log.is_file() or not log.stat().st_size:
        return _opened(path, "mode=ro&immutable=1")
    with tempfile.TemporaryDirectory(prefix="altcraft-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder, "copy")
        shutil.copyfile(path, copy)
        shutil.copyfile(log, f"{copy}-wal")
        connection = _opened(copy, "mode=rw")
        connection.execute("PRAGMA journal_mode=MEMORY")  # all in one file, which is open and needs its name no more
        return connection


_MARKS = ("SELECT count(*) FROM sqlite_schema", "PRAGMA application_id", "PRAGMA user_version")
_FRESH = 0
"""The version of a file without content."""


def _version(kind: FileKind, path: str, connection: sqlite3.Connection, *, check: bool) -> int:
    """Return the file's format version, `_FRESH` where it has no content yet; refuse what is not to be used."""
    connection.execute("BEGIN")  # one look: another process may be making the file in this moment
    tables, mark, version = (connection.execute(statement).fetchone()[0] for statement in _MARKS)
    connection.execute("COMMIT")
    if not (tables or mark or version):
        return _FRESH
    if mark != kind.application_id:
        msg = f"{path} is no {kind.name.split()[-1]} of altcraft_async; give another path"
        raise kind.error(msg, path=path)
    if version != kind.version and version not in kind.upgrades:
        msg = (
            f"{kind.name} {path} has format version {version}, and this altcraft_async knows version {kind.version}; "
            f"use the release that wrote it, or another path"
        )
        raise kind.error(msg, path=path)
    if check and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise damaged(kind, path)
    return int(version)


def _prepare_to_read(kind: FileKind, connection: sqlite3.Connection, version: int) -> None:
    if version != kind.version:
        connection.execute("PRAGMA temp_store=MEMORY")
        for older in range(version, kind.version):
            kind.upgrades[older].read(connection)
    connection.execute("PRAGMA query_only=ON")


def _prepare_to_write(kind: FileKind, connection: sqlite3.Connection, version: int) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if version == _FRESH:
        connection.executescript(
            f"BEGIN IMMEDIATE; {kind.schema}; PRAGMA application_id={kind.application_id}; "
            f"PRAGMA user_version={kind.version}; COMMIT;"
        )
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for older in range(connection.execute(_MARKS[2]).fetchone()[0], kind.version):
            kind.upgrades[older].write(connection)
        connection.execute(f"PRAGMA user_version={kind.version}")  # also where it is so already: it tries to write
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def insert_many(connection: sqlite3.Connection, head: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Run ``{head} VALUES (…), (…), …`` over all `rows`, many in one statement."""
    marks = f"({','.join('?' * len(rows[0]))})" if rows else ""
    start, size = 0, _ROWS_AT_ONCE
    while start < len(rows):
        while size > len(rows) - start:  # powers of two, so that few different statements are prepared
            size //= 2
        part = rows[start : start + size]
        connection.execute(f"{head} VALUES {','.join([marks] * size)}", [value for row in part for value in row])
        start += size


def shred(kind: FileKind, path: str) -> None:
    """Write a file anew without what was deleted from it, and empty its log; raises the kind's error.

    Other connections may be open, and wait meanwhile; where one of them reads, the log is emptied later.
    """
    with translated(kind, path):
        connection = connect(path)
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


def succeeds(connection: sqlite3.Connection, statement: str) -> bool:
    """Execute a statement that needs a lock; false where another connection has it."""
    import sqlite3  # noqa: PLC0415 - most programs keep no file

    try:
        connection.execute(statement).fetchall()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
            return False
        raise
    return True


class GroupWriter(Generic[_T]):
    """Commits what is submitted, in order and in groups, on a thread of its own.

    `write` makes the statements of one group; they are one transaction. After
    the commit `committed` is called on the event loop with the group. When a
    group fails, the transaction is rolled back and `failed` is called with the
    error and the group; with `stop_on_failure` nothing more is written then. A
    group is gathered for `linger` seconds, or until `hurry`.

    The connection is the writer's from here on, and closed by `aclose`.
    """

    __slots__ = (
        "_committed", "_connection", "_ended", "_failed", "_items", "_kind", "_linger", "_loop", "_path", "_signal",
        "_stop_on_failure", "_stopping", "_thread", "_urgent", "_write",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a writer is made of
        self,
        kind: FileKind,
        path: str,
        connection: sqlite3.Connection,
        *,
        write: Callable[[sqlite3.Connection, Sequence[_T]], None],
        committed: Callable[[Sequence[_T]], None],
        failed: Callable[[StorageError, Sequence[_T]], None],
        linger: float = 0.0,
        stop_on_failure: bool = True,
    ) -> None:
        self._kind = kind
        self._path = path
        self._connection = connection
        self._write = write
        self._committed = committed
        self._failed = failed
        self._linger = linger
        self._stop_on_failure = stop_on_failure
        self._items: deque[_T] = deque()
        self._signal = threading.Event()
        self._urgent = threading.Event()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon, so that a program that forgets to close can still end: what was not told as committed is in doubt.
        self._thread = threading.Thread(target=self._run, name=f"altcraft-{os.path.basename(path)}", daemon=True)  # noqa: PTH119
        self._thread.start()

    def submit(self, item: _T) -> None:
        """Queue an item for the next group."""
        self._items.append(item)
        if not self._signal.is_set():
            self._signal.set()

    def hurry(self) -> None:
        """Let the present group be committed without lingering."""
        if not self._urgent.is_set():
            self._urgent.set()

    async def aclose(self) -> None:
        """Commit what was submitted, end the thread, close the connection; harmless when called again.

        Cancellation does not cut it short: a commit takes milliseconds.
        """
        self._stopping = True
        self.hurry()
        self._signal.set()
        cancelled: asyncio.CancelledError | None = None
        while not self._ended.done():
            try:
                await asyncio.shield(self._ended)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _run(self) -> None:
        going = True
        while going:
            self._signal.wait()
            if self._linger and not self._stopping:
                self._urgent.wait(self._linger)
                self._urgent.clear()
            self._signal.clear()  # before it is looked what there is: what comes later sets it again
            going = not self._stopping
            group = [self._items.popleft() for _ in range(len(self._items))]
            if group and not self._end(group) and self._stop_on_failure:
                going = False
        with contextlib.suppress(Exception):
            self._connection.close()
        self._tell(_resolve, self._ended)

    def _end(self, group: list[_T]) -> bool:
        """Commit a group and tell; say whether it went well."""
        error: StorageError
        try:
            self._commit(group)
        except StorageError as failure:
            error = failure
        except Exception as defect:  # noqa: BLE001 - nobody may wait for ever for a thread that has died
            said = f"{self._kind.name} {self._path} could not be written ({type(defect).__name__}: {defect})"
            error = self._kind.error(said, path=self._path)
        else:
            self._tell(self._committed, group)
            return True
        self._tell(self._failed, error, group)
        return False

    def _commit(self, group: list[_T]) -> None:
        connection = self._connection
        with translated(self._kind, self._path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._write(connection, group)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(Exception):
                        connection.execute("ROLLBACK")
                raise

    def _tell(self, callback: Callable[[*_Ts], object], *values: *_Ts) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *values)


def _resolve(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
