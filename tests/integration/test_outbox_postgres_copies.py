"""A server that goes on from a copy: it lost its last commits and gives ids again, or counts transactions anew."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from altcraft_async import LineStatusUpdate, OutcomeState, RetryPolicy
from altcraft_async.outbox import Burial, Outbox, PostgresStore
from altcraft_async.sandbox import Fault, Faults

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: nox -s postgres")

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LINE = ("order_1", "line_1_1")


@pytest.fixture
async def owner(postgres):
    async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
async def store(postgres, schema):
    store = PostgresStore(postgres.url(), schema=schema, buckets=1)
    await store.open(target=None)
    yield store
    await store.aclose()


async def read_all(store, last=None):
    cursor = max((entry.id for entry in last.entries), default=-1) if last is not None else -1
    return await store.pending({0: cursor}, last=last, limit=10_000)


async def another_takes_its_id(owner, schema):
    """Do what a server does that has lost the put of an entry: another put gets the id."""
    await owner.execute(f"UPDATE {schema}.entry SET request_id = 'id-2', status_external_id = 'newer'")


async def copied_from_afar(owner, schema, ahead):
    """Make the rows those of a server that had counted so many more transactions."""
    await owner.execute(
        f"UPDATE {schema}.entry SET xid = CAST(CAST(CAST(CAST(pg_current_xact_id() AS text) AS bigint) + {ahead}"
        " AS text) AS xid8)"
    )


# -- ids that are given again


async def test_the_end_of_an_entry_that_was_lost_deletes_no_other_of_its_id(store, schema, owner):
    await store.put(LineStatusUpdate(*LINE, "older"), "id-1", 0.0)
    lost = (await read_all(store)).entries
    await another_takes_its_id(owner, schema)
    settled = await store.settle(lost, [])
    (entry,) = (await read_all(store)).entries
    assert (entry.id, entry.request_id) == (lost[0].id, "id-2")
    assert settled.counts.pending == 1


async def test_the_death_of_an_entry_that_was_lost_buries_no_other_of_its_id(store, schema, owner):
    await store.put(LineStatusUpdate(*LINE, "older"), "id-1", 0.0)
    epochs = (await store.lease()).epochs
    (lost,) = (await read_all(store)).entries
    await another_takes_its_id(owner, schema)
    settled = await store.settle([], [Burial(lost, epochs[0], OutcomeState.REJECTED, "", 1, 0.0)])
    assert settled.buried == frozenset()
    assert await store.dead_letters(after=-1, limit=9) == []
    assert [entry.request_id for entry in (await read_all(store)).entries] == ["id-2"]


# -- rows that another server has numbered


async def test_rows_of_a_server_that_was_ahead_are_read_once(store, schema, owner):
    for number in range(5):
        await store.put(LineStatusUpdate(*LINE, f"s{number}"), f"id-{number}", 0.0)
    await copied_from_afar(owner, schema, 1_000_000)
    first = await read_all(store)
    assert len(first.entries) == 5
    second = await read_all(store, first)
    assert second.entries == []
    await store.put(LineStatusUpdate(*LINE, "s5"), "id-5", 0.0)
    cursor = {0: first.entries[-1].id}
    third = await store.pending(cursor, last=second, limit=10)
    assert [entry.request_id for entry in third.entries] == ["id-5"]


async def test_rows_of_a_server_that_was_ahead_are_sent_once_while_this_one_catches_up(  # noqa: PLR0917 - fixtures
    sandbox, connect, postgres, schema, owner, until
):
    updates = [(f"order_{n}", f"line_{n}_1", status) for status in ("processing", "delivered") for n in range(1, 21)]
    sandbox.faults = Faults(latency=0.3)
    async with Outbox(PostgresStore(postgres.url(), schema=schema, buckets=1)) as putter:
        for update in updates:
            await putter.put(update)
    await copied_from_afar(owner, schema, 15)
    client = connect(sandbox, concurrency=5)
    async with Outbox(PostgresStore(postgres.url(), schema=schema, buckets=1), client) as outbox:
        for _ in range(40):
            await owner.execute("SELECT pg_current_xact_id()")
            await asyncio.sleep(0.02)
        await until(lambda: outbox.statistics().delivered == 40)
    assert sandbox.ledger.requests == 40
    assert sandbox.ledger.check(updates).ok


class Slow(PostgresStore):
    """Gives what it read first once more, from a read that began before that was settled and ends after it."""

    first = None
    repeated = False

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.all_settled = asyncio.Event()

    async def settle(self, delivered, dead):
        settled = await super().settle(delivered, dead)
        if not (await self.counts()).pending:
            asyncio.get_running_loop().call_later(0.1, self.all_settled.set)  # when the drainer knows that too
        return settled

    async def pending(self, after, *, last, limit):
        page = await super().pending(after, last=last, limit=limit)
        if self.first is None and page.entries:
            self.first = page.entries
            return attrs.evolve(page, more=frozenset(after))  # so the next read begins before any of these is sent
        if self.first is not None and not self.repeated:
            self.repeated = True
            await self.all_settled.wait()
            return attrs.evolve(page, entries=[*self.first, *page.entries])
        return page


async def test_what_ended_while_it_was_read_again_is_not_sent_behind_a_newer_one(
    sandbox, connect, postgres, schema, until
):
    sandbox.faults = Faults(latency=0.5, lines={LINE: [Fault("error", status=500)] * 2})
    client = connect(sandbox, retry=RetryPolicy(attempts=2, base=0.01))
    async with Outbox(PostgresStore(postgres.url(), schema=schema, buckets=1)) as putter:
        for status in ("processing", "delivered"):
            await putter.put((*LINE, status))
    store = Slow(postgres.url(), schema=schema, buckets=1)
    async with Outbox(store, client) as outbox:
        await until(lambda: store.repeated and not outbox.statistics().pending)
        assert outbox.statistics().dead == 1
    assert [change.status for change in sandbox.ledger.changes(*LINE)] == ["delivered"]
    assert sandbox.ledger.requests == 3
