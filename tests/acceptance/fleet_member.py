"""One process of a fleet, for the tests to kill: it puts numbered statuses, or it drains.

Arguments: ``put`` or ``drain``, the database's address, the URL and token of the platform; for a putter then its
number, how many lines it has, and the status number to begin with. A putter has a task for each of its lines, which
prints ``put LINE NUMBER`` once an update was accepted, and ``back LINE NUMBER`` for one that it rolled back. SIGTERM
ends both in order.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys

import psycopg

from altcraft_async import AltcraftClient, OutboxError, RetryPolicy
from altcraft_async.outbox import Outbox, PostgresStore

BUCKETS = 16
LEASE = 3.0


def store_at(url: str) -> PostgresStore:
    return PostgresStore(url, buckets=BUCKETS, lease=LEASE, capacity=1_000_000)


def told_to_end() -> asyncio.Event:
    event = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, event.set)
    return event


async def opened(make):
    """Open an outbox, however long the database is away."""
    while True:
        outbox = make()
        try:
            await outbox.open()
        except OutboxError:
            await asyncio.sleep(0.2)
        else:
            return outbox


async def put_surely(outbox: Outbox, update: tuple[str, str, str]) -> None:
    request_id = None
    while True:
        try:
            await outbox.put(update, request_id=request_id)
        except OutboxError as error:
            request_id = error.request_id if error.maybe_accepted else request_id
            await asyncio.sleep(0.1)
        else:
            return


async def put_in_transaction(outbox: Outbox, url: str, update: tuple[str, str, str], *, rolled_back: bool) -> bool:
    """Put within a transaction; say whether it ended as it should."""
    try:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await outbox.put(update, connection=connection)
            if rolled_back:
                await connection.rollback()
    except (psycopg.Error, OutboxError):
        return False
    return True


async def put(url: str, putter: int, lines: int, first: int) -> None:
    end, chance = told_to_end(), random.Random(putter)
    outbox = await opened(lambda: Outbox(store_at(url)))

    async def line_by_line(line: int) -> None:
        key = (f"order_{line}", f"line_{line}_1")
        for number in range(first, 1_000_000):
            if end.is_set():
                return
            kind = chance.random()
            if kind < 0.02 and await put_in_transaction(outbox, url, (*key, f"r{number}"), rolled_back=True):
                os.write(1, f"back {line} {number}\n".encode())
            if kind > 0.96:
                if not await put_in_transaction(outbox, url, (*key, f"s{number}"), rolled_back=False):
                    continue  # nobody knows; the number is not used again
            else:
                await put_surely(outbox, (*key, f"s{number}"))
            os.write(1, f"put {line} {number}\n".encode())
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for line in range(putter * lines + 1, (putter + 1) * lines + 1):
            group.create_task(line_by_line(line))
    await outbox.aclose()


async def drain(url: str, base_url: str, token: str) -> None:
    end = told_to_end()
    retry = RetryPolicy(attempts=20, base=0.05, max_delay=0.5)
    async with AltcraftClient(base_url, token, retry=retry) as altcraft:
        outbox = await opened(lambda: Outbox(store_at(url), altcraft))
        os.write(1, b"drains\n")
        await end.wait()
        await outbox.aclose()


if __name__ == "__main__":
    role, url, base_url, token, *rest = sys.argv[1:]
    asyncio.run(put(url, *(int(value) for value in rest)) if role == "put" else drain(url, base_url, token))
