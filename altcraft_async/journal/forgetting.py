"""Deleting the data of one order from a journal, so that it stays readable and its run can go on."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from altcraft_async.errors import JournalError
from altcraft_async.journal.format import FORGOTTEN, KIND
from altcraft_async.journal.notes import drop_command
from altcraft_async.storage.lock import Lock
from altcraft_async.storage.sqlite import open_database, shred, translated

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterator

__all__ = ["forget"]

_SAID = "what this row said was deleted from the journal"
_BLOTTED = "(deleted)"


def forget(path: str | os.PathLike[str], order_external_id: str) -> int:
    """Delete the data of an order from a journal; return how many rows were about it.

    The data are the contents of failed rows and the texts of their errors, also if another row's error names the order.
    Nothing of them is left in the file. The outcome of each row stays, with the digest by which a run that goes on
    recognises the row, so the order is not sent again by mistake; a digest does not reveal the row. For rows that were
    applied a journal has never had more. Raises `JournalError` if there is no journal, or a run writes it.
    """
    name = str(path)
    open_database(KIND, name, write=False, check=False).close()  # one that is not there is not to be made
    lock = Lock(KIND, name)
    lock.acquire(f"the journal {name} is written by another process; wait until that has ended")
    try:
        with contextlib.closing(open_database(KIND, name)) as connection, translated(KIND, name):
            connection.execute("BEGIN IMMEDIATE")
            try:
                count = _forget(connection, name, order_external_id)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        shred(KIND, name)
    finally:
        lock.release()
    return count


def _forget(connection: sqlite3.Connection, path: str, order: str) -> int:
    named = re.compile(rf"(?<!\w){re.escape(order)}(?!\w)")
    count = 0
    changed: list[tuple[str | None, str, int]] = []
    for row, content, facts in _failures(connection, path):
        if _is_about(content, order) or (content is None and any(map(named.search, _texts(facts)))):
            count += 1
            kept = {name: value for name, value in facts.items() if not isinstance(value, str)}
            changed.append((FORGOTTEN, json.dumps({**kept, "message": _SAID}), row))
        elif content is not None and any(map(named.search, _texts(facts))):  # as the first row of its batch
            blotted = {
                name: named.sub(_BLOTTED, value) if isinstance(value, str) else value for name, value in facts.items()
            }
            changed.append((json.dumps(content), json.dumps(blotted), row))
    connection.executemany("UPDATE failure SET content = ?, facts = ? WHERE row = ?", changed)
    drop_command(connection, named)
    return count


def _failures(connection: sqlite3.Connection, path: str) -> Iterator[tuple[int, dict[str, Any] | None, dict[str, Any]]]:
    for row, content, facts in connection.execute("SELECT row, content, facts FROM failure").fetchall():
        try:
            yield row, None if content is None else json.loads(content), json.loads(facts)
        except (TypeError, ValueError):
            msg = f"row {row + 1} of the journal {path} cannot be read; put the file aside and restore a copy"
            raise JournalError(msg, path=path) from None


def _is_about(content: dict[str, Any] | None, order: str) -> bool:
    return content is not None and order in {content.get("order_external_id"), content.get("external_id")}


def _texts(facts: dict[str, Any]) -> Iterator[str]:
    return (value for value in facts.values() if isinstance(value, str))
