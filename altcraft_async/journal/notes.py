"""Notes in a journal for the caller of a run, beside the data that the run needs itself."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import attrs

from altcraft_async.errors import JournalError
from altcraft_async.journal.format import KIND
from altcraft_async.storage.sqlite import open_database, translated

if TYPE_CHECKING:
    import os
    import re
    import sqlite3
    from collections.abc import Iterator, Sequence

__all__ = ["CommandNote", "command_of", "drop_command", "keep_command"]

_TABLE = "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_COMMAND = "command"


@attrs.frozen
class CommandNote:
    """The `words` of the command that makes a run, those that name its input, and the directory it was run in."""

    words: Sequence[str]
    source: Sequence[str]
    directory: str


def keep_command(path: str | os.PathLike[str], note: CommandNote) -> None:
    """Note in a journal, which a run may be writing, the command that continues it; raises `JournalError`."""
    name = str(path)
    value = json.dumps(attrs.asdict(note))
    with contextlib.closing(open_database(KIND, name, check=False)) as connection, translated(KIND, name):
        connection.execute(_TABLE)
        connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (_COMMAND, value))


def command_of(connection: sqlite3.Connection, path: str) -> CommandNote | None:
    """Read the command back; None if nobody noted one."""
    with translated(KIND, path, write=False):
        found = _found(connection)
    try:
        said: dict[str, Any] | None = None if found is None else json.loads(found)
        if said is None:
            return None
        return CommandNote([*map(str, said["words"])], [*map(str, said["source"])], str(said["directory"]))
    except (TypeError, ValueError, LookupError):
        msg = f"the note of a command in the journal {path} cannot be read"
        raise JournalError(msg, path=path) from None


def drop_command(connection: sqlite3.Connection, named: re.Pattern[str]) -> None:
    """Delete the command where it has in it what is `named`."""
    found = _found(connection)
    if found is not None and any(named.search(text) for text in _words(json.loads(found))):
        connection.execute("DELETE FROM note WHERE name = ?", (_COMMAND,))


def _words(said: object) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, dict | list):
        for part in said.values() if isinstance(said, dict) else said:
            yield from _words(part)


def _found(connection: sqlite3.Connection) -> str | None:
    there = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'note'").fetchone()[0]
    row = connection.execute("SELECT value FROM note WHERE name = ?", (_COMMAND,)).fetchone() if there else None
    return None if row is None else str(row[0])
