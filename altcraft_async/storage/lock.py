"""The lock of a file: held by one process at a time, and freed by the system when that dies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from altcraft_async.storage.sqlite import connect, succeeds, translated

if TYPE_CHECKING:
    import sqlite3

    from altcraft_async.storage.sqlite import FileKind

__all__ = ["Lock"]

_LOOK_SECONDS = 0.25
"""How long a lock is waited for that may only be looked at."""

_TAKING = ("PRAGMA journal_mode=MEMORY", "BEGIN EXCLUSIVE", "PRAGMA user_version=1")
"""On a file that cannot be written SQLite would begin an exclusive transaction without a lock; so something is written,
which never reaches the file, since the transaction has no end."""


class Lock:
    """A file's lock, held by one process at a time.

    It is a SQLite lock on an empty file of its own beside the one it is about,
    so that readers of that one are not shut out, and works wherever SQLite does.
    A lock that cannot be taken, because its file cannot be written, is an error of
    the `kind`: it never counts as taken.
    """

    __slots__ = ("_about", "_connection", "_kind", "_named", "path")

    def __init__(self, kind: FileKind, path: str) -> None:
        self.path = f"{os.path.realpath(path)}.lock"  # one lock for all names that a file has through links
        self._about = path
        self._named = kind.name
        self._kind = attrs.evolve(kind, name=f"the lock of {kind.name}")
        self._connection: sqlite3.Connection | None = None

    def check_names(self) -> None:
        """Refuse a file of two names by a hard link: each has a lock, and a log of SQLite's, of its own."""
        with translated(self._kind, self._about), contextlib.suppress(FileNotFoundError):
            if Path(self._about).is_file() and Path(self._about).stat().st_nlink > 1:
                msg = (
                    f"{self._named} {self._about} has another name (a hard link), under which another process could "
                    "write it; remove that, or go on with a copy"
                )
                raise self._kind.error(msg, path=self._about)

    def acquire(self, message: str) -> None:
        """Take the lock, or raise the kind's error with `message` where another holds it; see `check_names` too."""
        self.check_names()
        if not self.try_acquire(patience=_LOOK_SECONDS):
            raise self._kind.error(message, path=self._about)

    def try_acquire(self, *, patience: float = 0.0) -> bool:
        """Take the lock; false where another holds it, for longer than the seconds of `patience`."""
        if self._connection is not None:
            return True
        with translated(self._kind, self.path):
            connection = connect(self.path, timeout=patience)
            try:
                taken = all(succeeds(connection, statement) for statement in _TAKING)
            except BaseException:
                connection.close()
                raise
        if taken:
            self._connection = connection
        else:
            connection.close()
        return taken

    def held(self) -> bool:
        """Say whether somebody holds the lock; the right to read is enough."""
        if not Path(self.path).exists():
            return False
        with (
            translated(self._kind, self.path, write=False),
            contextlib.closing(connect(f"{Path(self.path).as_uri()}?mode=ro", uri=True, timeout=0.0)) as connection,
        ):
            return not succeeds(connection, "SELECT count(*) FROM sqlite_schema")

    def release(self) -> None:
        """Give the lock back; harmless without it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
