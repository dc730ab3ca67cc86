"""A durable queue for services: accept a status change, answer the caller, crash, and still deliver it.

.. code-block:: python

    import asyncio

    from altcraft_async import AltcraftClient, LineStatusUpdate
    from altcraft_async.outbox import Outbox


    async def main() -> None:
        async with AltcraftClient.from_env() as altcraft, Outbox("outbox.db", altcraft) as outbox:
            await outbox.put(LineStatusUpdate("order_1", "line_1", "delivered"))  # on disk when this returns


    asyncio.run(main())

An accepted update stays in the file until the server has said yes or no. It is delivered in the background, by the
engine of the bulk calls: in order for each line, as many side by side as the server allows, under one ``Request-ID``
however often the process dies. An update that cannot be delivered becomes a dead letter, with the reason; you can list,
retry and purge dead letters.

The file is SQLite. Services with several replicas use a `PostgresStore` instead: any replica puts, also within its own
transaction, and those with a client share the delivery. For any other database implement `OutboxStore`.
"""

from __future__ import annotations

from altcraft_async.outbox.postgres import DrainerSeen, PostgresStore, schema_sql
from altcraft_async.outbox.service import Outbox, OutboxStatistics
from altcraft_async.outbox.sqlite import SqliteStore
from altcraft_async.outbox.store import (
    Burial,
    Counts,
    DeadLetter,
    Entry,
    EntryPage,
    Forgotten,
    Leases,
    OutboxStore,
    Settled,
)
from altcraft_async.outbox.transaction import Statement

__all__ = [
    "Burial",
    "Counts",
    "DeadLetter",
    "DrainerSeen",
    "Entry",
    "EntryPage",
    "Forgotten",
    "Leases",
    "Outbox",
    "OutboxStatistics",
    "OutboxStore",
    "PostgresStore",
    "Settled",
    "SqliteStore",
    "Statement",
    "schema_sql",
]
