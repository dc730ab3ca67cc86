"""The journal's first format: read as it is, and brought to the second.

It had one table ``run`` of one row, a ``line`` for each row of the input, and a
``failure`` bound to the three ids of a line update. What follows is said once, as
queries that give the second format's tables; reading takes them for views, and
bringing a file over for what to insert. A row's seal stays what it was, since the
numbers of the states are what they were; only a row that is to be sent again has
another number now.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from zlib import crc32

from altcraft_async.journal.seals import seal_of_facts, sealed

if TYPE_CHECKING:
    import sqlite3

__all__ = ["bring_to_version_2", "read_as_version_2"]

_METHOD = "market/orders/update_order_line_status"
"""What every run of the first format did."""

_OPEN, _OPEN_NOW = 7, 15

_OPENED = "opened_from_1(line, CAST(seal AS INTEGER), CAST(round AS INTEGER))"
_META: Final = f"""
    SELECT 'method' AS name, '{_METHOD}' AS value FROM run
    UNION ALL SELECT 'run_id', run_id FROM run UNION ALL SELECT 'target', target FROM run
    UNION ALL SELECT 'created', created FROM run UNION ALL SELECT 'written', written FROM run
    UNION ALL SELECT 'length', length FROM run
    UNION ALL SELECT 'seal', seal_from_1(run_id, target, created, written, length, seal) FROM run
"""  # noqa: S608 - of our own parts
_OUTCOME: Final = f"""
    SELECT line AS row, key, CASE state WHEN {_OPEN} THEN {_OPENED} ELSE seal END AS seal,
    CASE state WHEN {_OPEN} THEN {_OPEN_NOW} ELSE state END AS state, round, attempts, elapsed, at FROM line
"""  # noqa: S608
_FAILURE: Final = """
    SELECT failure.line AS row, state, content_from_1(order_external_id, order_line_external_id, status_external_id)
    AS content, kind AS error, facts FROM failure JOIN line ON line.line = failure.line
"""
_SLOWEST: Final = "SELECT line AS row, elapsed, attempts FROM line WHERE attempts > 0 ORDER BY elapsed DESC LIMIT 20"
_TIMELINE: Final = "SELECT 0 AS start, 1 AS width, '' AS facts WHERE 0"


def read_as_version_2(connection: sqlite3.Connection) -> None:
    """Make the file look like one of version 2 to this connection; its timeline is empty."""
    _make_functions(connection)
    views = {
        "meta": _META, "outcome": _OUTCOME, "failure": _FAILURE.replace("FROM failure", "FROM main.failure"),
        "slowest": _SLOWEST, "timeline": _TIMELINE,
    }  # fmt: skip
    for name, query in views.items():
        connection.execute(f"CREATE TEMP VIEW {name} AS {query}")


def bring_to_version_2(connection: sqlite3.Connection, tables: str) -> None:
    """Make the `tables` of version 2 and carry everything over; inside the caller's transaction.

    The table of outcomes, which is nearly all of the file, is not copied.
    """
    _make_functions(connection)
    connection.execute("ALTER TABLE failure RENAME TO failure_1")
    for statement in tables.split(";"):
        connection.execute(statement)
    connection.execute(f"INSERT INTO meta {_META}")
    connection.execute(f"INSERT INTO failure {_FAILURE.replace('failure', 'failure_1')}")
    connection.execute(f"INSERT INTO slowest {_SLOWEST}")
    connection.execute("DROP TABLE run")
    connection.execute("DROP TABLE failure_1")
    connection.execute(f"UPDATE line SET state = {_OPEN_NOW}, seal = {_OPENED} WHERE state = {_OPEN}")  # noqa: S608
    connection.execute("ALTER TABLE line RENAME COLUMN line TO row")
    connection.execute("ALTER TABLE line RENAME TO outcome")


def _make_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("seal_from_1", 6, _seal_from_1, deterministic=True)
    connection.create_function("opened_from_1", 3, _opened_from_1, deterministic=True)
    connection.create_function("content_from_1", 3, _content_from_1, deterministic=True)


def _seal_from_1(  # noqa: PLR0913, PLR0917 - the columns of the table
    run_id: str, target: str, created: float, written: float, length: int | None, seal: int
) -> int | None:
    """Return the seal of the facts, None if they do not fit the seal that they had."""
    facts = (run_id, target, created, written, length)
    if crc32("\x1f".join(map(repr, facts)).encode(errors="surrogatepass")) != seal:
        return None
    names = ("run_id", "target", "created", "written", "length")
    return seal_of_facts([("method", _METHOD), *zip(names, facts, strict=True)])


def _opened_from_1(row: int, seal: int, round_: int) -> int:
    return sealed(row, sealed(row, seal, _OPEN, round_), _OPEN_NOW, round_)


def _content_from_1(order: str | None, line: str | None, status: str | None) -> str | None:
    if order is None:
        return None
    content = {"order_external_id": order, "order_line_external_id": line, "status_external_id": status}
    return json.dumps(content)
