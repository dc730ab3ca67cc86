"""A job for cron: the status changes of one day, out of a database, with a journal.

ALTCRAFT_BASE_URL=… ALTCRAFT_TOKEN=… python nightly_sync.py shop.db 2026-11-25

It can be killed at any moment and is simply run again. The exit code is 0 when every
change is made, 2 when some were not.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections import Counter
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from altcraft_async import AltcraftClient
from altcraft_async.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator


def changes_of(connection: sqlite3.Connection, day: str) -> Iterator[tuple[str, str, str]]:
    """Yield the day's changes, the oldest first.

    The order must be the same in every run, since the journal compares row by row.
    Any DB-API cursor will do in place of this one, and any asynchronous one in place
    of that: ``async for row in cursor: yield …``.
    """
    yield from connection.execute(
        "SELECT order_id, line_id, status FROM status_change WHERE day = ? ORDER BY id", (day,)
    )


async def sync(database: str, day: str) -> Counter[str]:
    """Send the changes of a day, and count how all of them ended, those of earlier runs included."""
    journal = f"{day}.journal"
    with closing(sqlite3.connect(database)) as connection:
        async with AltcraftClient.from_env() as altcraft:
            outcomes = altcraft.market.orders.stream_order_line_statuses(changes_of(connection, day), journal=journal)
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    if not outcome.ok:
                        print(f"row {outcome.index + 1}: {outcome.state}: {outcome.error}", file=sys.stderr)
    with JournalReader(journal) as reader:
        summary = reader.summary()
    return Counter({str(state): count for state, count in summary.counts.items() if count})


def main() -> int:
    """Run the job and return its exit code."""
    _, database, day = sys.argv
    counts = asyncio.run(sync(database, day))
    print(dict(counts))
    return 0 if not counts.keys() - {"applied", "duplicate", "superseded"} else 2


if __name__ == "__main__":
    sys.exit(main())
