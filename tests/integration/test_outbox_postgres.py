"""The outbox on PostgreSQL: any replica puts, drainers share the buckets, nothing is lost, reordered or made twice."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager

import attrs
import pytest

from altcraft_async import (
    ConfigurationError,
    InvalidUpdateError,
    LineStatusUpdate,
    OutboxError,
    OutboxFullError,
    OutcomeState,
    RetryPolicy,
    Shared,
)
from altcraft_async.observe import LeasesChanged
from altcraft_async.outbox import Burial, Outbox, PostgresStore, schema_sql
from altcraft_async.outbox.store import Leases, lease_clock
from altcraft_async.sandbox import Fault, Faults
from altcraft_async.storage.postgres import Database, Failure, Fate, array

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: nox -s postgres")

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LINE = ("order_1", "line_1_1")


@pytest.fixture
def store_of(postgres, schema):
    """Make stores of one outbox."""

    def make(**options):
        return PostgresStore(postgres.url(), schema=schema, **{"buckets": 8, "lease": 3.0, **options})

    return make


@asynccontextmanager
async def opened(store, *, target=None):
    await store.open(target=target)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def connection(postgres):
    async with await psycopg.AsyncConnection.connect(postgres.url()) as connection:
        yield connection


async def letters_of(outbox):
    return [letter async for letter in outbox.dead_letters()]


async def read_all(store):
    cursors = dict.fromkeys(range(store.buckets), -1)
    return (await store.pending(cursors, last=None, limit=10_000)).entries


# -- as with a file


async def test_what_is_put_is_delivered_in_order_for_each_line(start_sandbox, connect, store_of):
    sandbox = await start_sandbox(seed=5, faults=Faults.mixed(0.2, latency=0.001))
    updates = [(f"order_{n}", f"line_{n}_1", status) for status in ("processing", "delivered") for n in range(1, 21)]
    client = connect(sandbox, retry=RetryPolicy(attempts=20, base=0.001, max_delay=0.01))
    async with Outbox(store_of(), client) as outbox:
        await asyncio.gather(*(outbox.put(update) for update in updates))
    assert outbox.statistics().pending == 0
    assert outbox.statistics().delivered == 40
    check = sandbox.ledger.check(updates)
    assert check.ok, str(check)


async def test_an_address_is_enough(sandbox, connect, postgres, until):
    async with Outbox(postgres.url(), connect(sandbox)) as outbox:
        await outbox.put((*LINE, "delivered"))
        await until(lambda: sandbox.line_status(*LINE) == "delivered")
        assert outbox.statistics().leases == 64


async def test_puts_of_a_replica_without_a_client_are_delivered_by_another(sandbox, connect, store_of, until):
    async with Outbox(store_of(), connect(sandbox)), Outbox(store_of()) as accepting:
        await accepting.put((*LINE, "delivered"), request_id="message-17")
        await until(lambda: sandbox.line_status(*LINE) == "delivered")
    assert [arrival.request_id for arrival in sandbox.ledger.arrivals(*LINE)] == ["message-17"]


async def test_an_update_outlives_the_one_who_put_it(sandbox, connect, store_of):
    async with Outbox(store_of()) as accepting:
        await accepting.put((*LINE, "delivered"))
    async with Outbox(store_of(), connect(sandbox)):
        pass
    assert sandbox.line_status(*LINE) == "delivered"


async def test_a_put_is_idempotent_by_its_request_id_while_that_waits(store_of):
    async with opened(store_of()) as store:
        for _ in range(2):
            await store.put(LineStatusUpdate(*LINE, "new"), "message-17", 0.0)
        puts = [store.put(LineStatusUpdate(*LINE, "new"), "message-18", 0.0) for _ in range(3)]
        await asyncio.gather(*puts)
        assert [entry.request_id for entry in await read_all(store)] == ["message-17", "message-18"]


async def test_a_put_of_another_change_under_an_id_that_waits_is_refused_alone(store_of):
    async with opened(store_of()) as store:
        await store.put(LineStatusUpdate(*LINE, "new"), "message-17", 0.0)
        puts = [
            store.put(LineStatusUpdate(*LINE, "new"), "message-18", 0.0),
            store.put(LineStatusUpdate(*LINE, "delivered"), "message-17", 0.0),
            store.put(LineStatusUpdate(*LINE, "delivered"), "message-19", 0.0),
        ]
        first, refused, last = await asyncio.gather(*puts, return_exceptions=True)
        assert not isinstance(first, BaseException)
        assert not isinstance(last, BaseException)
        assert isinstance(refused, InvalidUpdateError)
        assert "is that of another change" in str(refused)
        assert [entry.request_id for entry in await read_all(store)] == ["message-17", "message-18", "message-19"]


async def test_a_put_of_another_change_under_an_id_that_waits_is_refused_in_a_transaction_too(postgres, store_of):
    pytest.importorskip("sqlalchemy")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: PLC0415

    async with Outbox(store_of()) as outbox:
        await outbox.put((*LINE, "new"), request_id="message-17")
        async with await psycopg.AsyncConnection.connect(postgres.url()) as connection:
            with pytest.raises(InvalidUpdateError, match="'message-17' is that of another change"):
                await outbox.put((*LINE, "delivered"), request_id="message-17", connection=connection)
        engine = create_async_engine(postgres.sqlalchemy_url("psycopg"))
        async with AsyncSession(engine) as session:
            with pytest.raises(InvalidUpdateError, match="'message-17' is that of another change"):
                await outbox.put((*LINE, "delivered"), request_id="message-17", connection=session)
        await engine.dispose()


async def test_puts_of_many_callers_share_statements_and_keep_their_order(store_of, monkeypatch):
    async with opened(store_of()) as store:
        groups = []
        put_all = store._puts._work

        async def counted(rows):
            groups.append(len(rows))
            await put_all(rows)

        store._puts._work = counted
        await asyncio.gather(*(store.put(LineStatusUpdate(*LINE, f"s{n}"), f"id-{n}", 0.0) for n in range(500)))
        entries = await read_all(store)
    assert [entry.update.status_external_id for entry in entries] == [f"s{n}" for n in range(500)]
    assert len(groups) < 10


@pytest.mark.parametrize(
    "odd", ['"', "\\", "{a,b}", "NULL", " a ", "'; DROP TABLE entry; --", "%s %(a)s", "E'\\\\x'", "заказ 🙂", "$$", "?"]
)
async def test_an_id_comes_back_as_it_was_whatever_it_is_written_with(store_of, odd):
    async with opened(store_of()) as store:
        await store.put(LineStatusUpdate(odd, odd, odd), "id-1", 0.0)
        entries = await read_all(store)
        assert [entry.update for entry in entries] == [LineStatusUpdate(odd, odd, odd)]
        await store.settle(entries, [])
        assert await read_all(store) == []


async def test_arrays_come_back_as_they_were_written(postgres):
    texts = ['"', "\\", "{a,b}", "NULL", "", " a ", ",", "'", "a\nb", "заказ 🙂", "x" * 10_000, '\\"']
    session = Database(postgres.url()).session()
    try:
        for values in (texts, texts[:1], []):
            assert await session.rows("SELECT %s::text[]", [array(values)]) == [(values,)]
        for numbers in ([1, -2, 2**62], [7], []):
            assert await session.rows("SELECT %s::bigint[]", [array(numbers)]) == [(numbers,)]
        assert await session.rows("SELECT %s::text[]", [array(["a\x1fb", "c"])]) == [(["a b", "c"],)]
    finally:
        await session.aclose()


async def test_statements_of_one_transaction_are_done_together_or_not_at_all(postgres):
    session = Database(postgres.url()).session()
    try:
        await session.transact(("CREATE TABLE together (a integer PRIMARY KEY)", ()))
        insert = "INSERT INTO together VALUES (%s) RETURNING a"
        assert await session.transact((insert, [1]), ("SELECT 'no %%s parameter'", ()), (insert, [2])) == [
            [(1,)], [("no %%s parameter",)], [(2,)]
        ]  # fmt: skip
        with pytest.raises(Failure) as caught:
            await session.transact((insert, [3]), (insert, [1]))
        assert caught.value.fate is Fate.REFUSED
        assert await session.rows("SELECT a FROM together ORDER BY a") == [(1,), (2,)]
    finally:
        await session.rows("DROP TABLE together")
        await session.aclose()


async def test_a_put_waits_for_a_lock_no_longer_than_it_says(store_of, schema, connection):
    async with opened(store_of()) as store:
        await connection.execute(f"LOCK TABLE {schema}.entry")
        async with asyncio.timeout(8):
            with pytest.raises(OutboxError, match="did not become free in time") as caught:
                await store.put(LineStatusUpdate(*LINE, "new"), "id-1", 0.0)
        assert not caught.value.maybe_accepted


async def test_one_that_cannot_be_accepted_harms_no_other_of_its_statement(store_of):
    async with opened(store_of()) as store:
        too_long = "".join(str(uuid.uuid4()) for _ in range(1000))  # more than an index takes
        ids = ["id-1", too_long, "id-2"]
        results = await asyncio.gather(
            *(store.put(LineStatusUpdate(*LINE, "new"), id_, 0.0) for id_ in ids), return_exceptions=True
        )
        assert [isinstance(result, OutboxError) for result in results] == [False, True, False]
        assert [entry.request_id for entry in await read_all(store)] == ["id-1", "id-2"]


async def test_a_full_outbox_says_so(store_of):
    async with Outbox(store_of(capacity=2)) as outbox:
        for _ in range(2):
            await outbox.put((*LINE, "new"))
        with pytest.raises(OutboxFullError, match="is full: about 2 updates wait"):
            await outbox.put((*LINE, "new"))


async def test_dead_letters_are_kept_retried_and_purged(sandbox, connect, store_of, until):
    async with Outbox(store_of(), connect(sandbox)) as outbox:
        first = await outbox.put(("order_99", "line_99_1", "delivered"))
        await outbox.put((*LINE, "no-such-status"))
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().dead == 2 and not outbox.statistics().pending)
        letters = {letter.update.order_external_id: letter for letter in await letters_of(outbox)}
        assert letters["order_1"].overtaken
        assert (letters["order_99"].state, letters["order_99"].overtaken) == (OutcomeState.REJECTED, False)
        assert letters["order_99"].put_at <= letters["order_99"].died_at
        sandbox.add_order("order_99", ["line_99_1"])
        assert await outbox.retry() == 1
        await until(lambda: sandbox.line_status("order_99", "line_99_1") == "delivered")
        assert await outbox.purge() == 1
        assert await letters_of(outbox) == []
    assert {a.request_id for a in sandbox.ledger.arrivals("order_99", "line_99_1")} > {first}
    assert sandbox.line_status(*LINE) == "delivered"


async def test_retrying_all_never_puts_a_line_behind_an_update_whose_transaction_is_still_open(store_of, connection):
    async with opened(store_of()) as store:
        await store.put(LineStatusUpdate(*LINE, "older"), "id-1", 0.0)
        leases = await store.lease()
        (entry,) = await read_all(store)
        await store.settle([], [Burial(entry, leases.epochs[entry.bucket], OutcomeState.UNKNOWN, "", 1, 0.0)])
        await store.put_within(connection, LineStatusUpdate(*LINE, "newer"), "id-2")
        with pytest.raises(OutboxError, match="end the transaction that has it"):
            await store.retry(None, 0.0)
        await connection.commit()
        assert await store.retry(None, 0.0) == 0
        assert await store.retry([entry.id], 0.0) == 1


async def test_what_was_delivered_overtakes_the_dead_of_the_same_settling(store_of):
    async with opened(store_of()) as store:
        await store.put(LineStatusUpdate(*LINE, "refused"), "id-1", 0.0)
        await store.put(LineStatusUpdate(*LINE, "applied"), "id-2", 0.0)
        epochs = (await store.lease()).epochs
        refused, applied = await read_all(store)
        burial = Burial(refused, epochs[refused.bucket], OutcomeState.REJECTED, "", 1, 0.0)
        settled = await store.settle([applied], [burial])
        assert (settled.counts.pending, settled.counts.dead) == (0, 1)
        (letter,) = await store.dead_letters(after=-1, limit=9)
        assert letter.overtaken
        assert await store.retry(None, 0.0) == 0


async def test_only_who_holds_the_bucket_under_this_epoch_buries(store_of):
    async with opened(store_of()) as one, opened(store_of()) as two:
        await one.put(LineStatusUpdate(*LINE, "new"), "id-1", 0.0)
        epochs = (await one.lease()).epochs
        (entry,) = await read_all(one)
        burial = Burial(entry, epochs[entry.bucket], OutcomeState.UNKNOWN, "", 1, 0.0)
        await one.release(epochs)
        await two.lease()
        await one.settle([], [burial])
        assert await one.dead_letters(after=-1, limit=9) == []
        assert len(await read_all(one)) == 1


# -- rows that become visible late


async def test_an_uncommitted_lower_id_is_delivered_once_it_is_committed(sandbox, connect, store_of, connection, until):
    store = store_of()
    async with Outbox(store, connect(sandbox)) as outbox:
        await outbox.put((*LINE, "processing"), connection=connection)
        for n in range(2, 21):
            await outbox.put((f"order_{n}", f"line_{n}_1", "delivered"))
        await until(lambda: outbox.statistics().delivered == 19)
        await connection.commit()
        await until(lambda: sandbox.line_status(*LINE) == "processing")
        await outbox.put((*LINE, "delivered"))  # serialised by the caller: put after the commit
        await until(lambda: sandbox.line_status(*LINE) == "delivered")
    # the second was put after the first could be seen, so it comes after it: both are read by id
    assert [change.status for change in sandbox.ledger.changes(*LINE)] == ["processing", "delivered"]


async def test_what_is_late_is_found_and_what_is_known_is_not_read_again(store_of, connection):
    async with opened(store_of(buckets=1)) as store:
        await store.put_within(connection, LineStatusUpdate(*LINE, "late"), "id-1")
        for number in (2, 3):
            await store.put(LineStatusUpdate(*LINE, "new"), f"id-{number}", 0.0)
        first = await store.pending({0: -1}, last=None, limit=10)
        two, three = first.entries
        second = await store.pending({0: three.id}, last=first, limit=10)
        assert second.entries == []
        await connection.commit()
        third = await store.pending({0: three.id}, last=second, limit=10)
        (late,) = third.entries
        assert (late.request_id, late.id < two.id) == ("id-1", True)
        assert (await store.pending({0: three.id}, last=third, limit=10)).entries == []


async def test_what_was_put_after_a_late_one_could_be_seen_is_never_read_before_it(store_of, connection):
    """One line, serialised by its caller, while others put into its bucket: its ids are read in their order."""
    async with opened(store_of(buckets=1)) as store:
        await store.put_within(connection, LineStatusUpdate(*LINE, "first"), "id-1")
        await store.put(LineStatusUpdate("order_2", "line_2_1", "new"), "id-2", 0.0)
        first = await store.pending({0: -1}, last=None, limit=10)
        await connection.commit()
        await store.put(LineStatusUpdate(*LINE, "second"), "id-3", 0.0)
        second = await store.pending({0: first.entries[-1].id}, last=first, limit=10)
        assert [entry.request_id for entry in second.entries] == ["id-1", "id-3"]


async def test_more_than_is_asked_for_is_read_in_parts_and_what_is_late_with_it(store_of, connection):
    async with opened(store_of(buckets=1)) as store:
        await store.put_within(connection, LineStatusUpdate(*LINE, "late"), "late")
        await store.put(LineStatusUpdate(*LINE, "new"), "id-first", 0.0)
        last = await store.pending({0: -1}, last=None, limit=100)
        seen, cursor = [entry.request_id for entry in last.entries], last.entries[-1].id
        await asyncio.gather(*(store.put(LineStatusUpdate(*LINE, "new"), f"id-{n}", 0.0) for n in range(250)))
        await connection.commit()
        while len(seen) < 252:
            last = await store.pending({0: cursor}, last=last, limit=100)
            assert last.entries
            seen += [entry.request_id for entry in last.entries]
            cursor = max(cursor, *(entry.id for entry in last.entries))
        assert seen == ["id-first", "late", *(f"id-{n}" for n in range(250))]
        assert (await store.pending({0: cursor}, last=last, limit=100)).entries == []


async def test_a_bucket_that_was_won_again_is_read_from_its_beginning(store_of):
    async with opened(store_of(buckets=2)) as store:
        for number in range(20):
            await store.put(LineStatusUpdate(f"order_{number}", "line", "new"), f"id-{number}", 0.0)
        first = await store.pending({0: -1, 1: -1}, last=None, limit=100)
        highest = {bucket: max(e.id for e in first.entries if e.bucket == bucket) for bucket in (0, 1)}
        assert (await store.pending(highest, last=first, limit=100)).entries == []
        again = await store.pending({0: -1, 1: highest[1]}, last=first, limit=100)
        assert [e.id for e in again.entries] == [e.id for e in first.entries if e.bucket == 0]


async def test_of_one_full_bucket_more_is_read_at_once(store_of):
    async with opened(store_of()) as store:
        await asyncio.gather(*(store.put(LineStatusUpdate(*LINE, "new"), f"id-{n}", 0.0) for n in range(200)))
        bucket = store.bucket_of(LineStatusUpdate(*LINE, "new"))
        first = await store.pending(dict.fromkeys(range(8), -1), last=None, limit=80)
        assert (len(first.entries), first.more) == (10, {bucket})
        cursors = dict.fromkeys(range(8), -1) | {bucket: first.entries[-1].id}
        second = await store.pending(cursors, last=first, limit=80)
        assert len(second.entries) == 80
        assert second.entries[0].id > first.entries[-1].id


# -- deleted rows


async def churn(store, count):
    """Put and settle, in statements of two hundred."""
    for start in range(0, count, 200):
        ids = range(start, start + 200)
        await asyncio.gather(*(store.put(LineStatusUpdate(f"order_{n}", "line", "new"), f"id-{n}", 0.0) for n in ids))
        await store.settle([entry for entry in await read_all(store) if entry.request_id != "kept"], [])


async def size_of(connection, schema, table="entry"):
    rows = await connection.execute("SELECT pg_total_relation_size(%s)", (f"{schema}.{table}",))
    return (await rows.fetchone())[0]


async def test_rows_that_were_deleted_beside_an_open_transaction_are_cleaned_up(
    store_of, postgres, connection, schema, monkeypatch
):
    monkeypatch.setattr("altcraft_async.outbox.postgres._MOST_DEAD_TUPLES", 1000)
    async with (
        opened(store_of()) as store,
        await psycopg.AsyncConnection.connect(postgres.url()) as open_one,
    ):
        await open_one.execute("SELECT pg_current_xact_id()")
        await store.lease()
        await store.put(LineStatusUpdate(*LINE, "first"), "kept", 5.0)
        (kept,) = await read_all(store)
        await churn(store, 3000)
        await connection.set_autocommit(True)
        before = await size_of(connection, schema)

        async with asyncio.timeout(20):
            while await size_of(connection, schema) > before / 4:
                await store.counts()
                await asyncio.sleep(0.2)  # the server's statistics come late
        (again,) = await read_all(store)
        assert attrs.evolve(again, put_at=0.0) == attrs.evolve(kept, put_at=0.0)
        assert again.put_at == pytest.approx(kept.put_at, abs=0.5)
        await store.put(LineStatusUpdate(*LINE, "second"), "second", 0.0)
        assert [entry.request_id for entry in await read_all(store)] == ["kept", "second"]
        await store.settle(await read_all(store), [])
        assert await read_all(store) == []


async def test_leases_that_were_renewed_beside_an_open_transaction_are_cleaned_up(
    store_of, postgres, connection, schema, monkeypatch
):
    monkeypatch.setattr("altcraft_async.outbox.postgres._MOST_DEAD_LEASES", 500)
    monkeypatch.setattr("altcraft_async.outbox.leasing._RENEW_EVERY", 0.0)
    await connection.set_autocommit(True)
    async with (
        opened(store_of(buckets=64, lease=60.0)) as store,
        await psycopg.AsyncConnection.connect(postgres.url()) as open_one,
    ):
        await open_one.execute("SELECT pg_current_xact_id()")
        before = (await store.lease()).epochs
        for _ in range(60):
            await store.lease()
        grown = await size_of(connection, schema, "bucket")
        async with asyncio.timeout(20):
            while await size_of(connection, schema, "bucket") > grown / 3:
                await store.counts()
                await asyncio.sleep(0.2)  # the server's statistics come late
        assert (await store.lease()).epochs == before
        assert [seen.buckets for seen in await store.drainers()] == [64]


async def test_a_cleaning_that_does_nothing_says_so(store_of, monkeypatch):
    monkeypatch.setattr("altcraft_async.outbox.tables._MOVABLE", 2)
    async with opened(store_of()) as store:
        await asyncio.gather(*(store.put(LineStatusUpdate(*LINE, "new"), f"id-{n}", 0.0) for n in range(3)))
        assert not await store.compact()
        await store.settle((await read_all(store))[:1], [])
        assert await store.compact()
        assert len(await read_all(store)) == 2


async def test_nothing_is_read_twice_or_lost_over_a_cleaning(store_of):
    async with opened(store_of(buckets=1)) as store:
        await store.put(LineStatusUpdate(*LINE, "new"), "id-1", 0.0)
        first = await store.pending({0: -1}, last=None, limit=10)
        await store.put(LineStatusUpdate(*LINE, "new"), "id-2", 0.0)
        assert await store.compact()
        cursor = first.entries[0].id
        second = await store.pending({0: cursor}, last=first, limit=10)
        assert [entry.request_id for entry in second.entries] == ["id-2"]
        third = await store.pending({0: second.entries[0].id}, last=second, limit=10)
        assert third.entries == []


async def test_a_transaction_that_has_put_is_never_cleaned_away_and_stops_no_others(store_of, connection):
    async with opened(store_of(buckets=1)) as store:
        await store.put(LineStatusUpdate(*LINE, "new"), "id-1", 0.0)
        await store.put_within(connection, LineStatusUpdate(*LINE, "late"), "id-2")
        cleaning = asyncio.create_task(store.compact())
        async with asyncio.timeout(1.5):
            await store.put(LineStatusUpdate(*LINE, "new"), "id-3", 0.0)
            assert not await cleaning
        await connection.commit()
        assert [entry.request_id for entry in await read_all(store)] == ["id-1", "id-2", "id-3"]
        assert await store.compact()
        assert [entry.request_id for entry in await read_all(store)] == ["id-1", "id-2", "id-3"]


async def test_a_drainer_delivers_on_in_order_while_its_table_is_cleaned_again_and_again(
    start_sandbox, connect, store_of, until
):
    sandbox = await start_sandbox(faults=Faults(latency=0.005))
    statuses = ["processing", "delivered"] * 10
    updates = [(f"order_{n}", f"line_{n}_1", status) for status in statuses for n in range(1, 21)]
    store, cleanings = store_of(), 0
    async with Outbox(store, connect(sandbox, concurrency=16)) as outbox:

        async def clean():
            nonlocal cleanings
            while True:
                cleanings += await store.compact()
                await asyncio.sleep(0.02)

        cleaner = asyncio.create_task(clean())
        for start in range(0, 400, 20):
            await asyncio.gather(*(outbox.put(update) for update in updates[start : start + 20]))
        await until(lambda: outbox.statistics().delivered == 400)
        cleaner.cancel()
    assert cleanings >= 3
    assert sandbox.ledger.check(updates).ok


# -- in the caller's transaction


async def test_what_is_rolled_back_is_never_sent(sandbox, connect, store_of, connection, until):
    async with Outbox(store_of(), connect(sandbox)) as outbox:
        await outbox.put((*LINE, "canceled"), connection=connection)
        await connection.rollback()
        await outbox.put(("order_2", "line_2_1", "delivered"))
        await until(lambda: sandbox.line_status("order_2", "line_2_1") == "delivered")
    assert not sandbox.ledger.arrivals(*LINE)


async def test_a_put_is_part_of_an_asyncpg_transaction(store_of, postgres):
    asyncpg = pytest.importorskip("asyncpg")
    connection = await asyncpg.connect(postgres.url())
    try:
        async with Outbox(store_of()) as outbox:
            transaction = connection.transaction()
            await transaction.start()
            await outbox.put((*LINE, "canceled"), connection=connection)
            await transaction.rollback()
            async with connection.transaction():
                await outbox.put((*LINE, "delivered"), connection=connection)
            entries = await read_all(outbox._store)
    finally:
        await connection.close()
    assert [entry.update.status_external_id for entry in entries] == ["delivered"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_put_is_part_of_a_sqlalchemy_session(store_of, postgres, driver):
    pytest.importorskip(driver)
    orm = pytest.importorskip("sqlalchemy.ext.asyncio")
    engine = orm.create_async_engine(postgres.sqlalchemy_url(driver))
    try:
        async with Outbox(store_of()) as outbox:
            async with orm.AsyncSession(engine) as session:
                await outbox.put((*LINE, "canceled"), connection=session)
                await session.rollback()
            async with orm.AsyncSession(engine) as session, session.begin():
                await outbox.put((*LINE, "delivered"), connection=session)
            async with engine.begin() as connection:
                await outbox.put((*LINE, "refunded"), connection=connection)
            entries = await read_all(outbox._store)
    finally:
        await engine.dispose()
    assert [entry.update.status_external_id for entry in entries] == ["delivered", "refunded"]


async def test_a_put_in_a_transaction_that_fails_raises_what_the_driver_raises(postgres, connection):
    async with opened(PostgresStore(postgres.url(), schema="elsewhere_not_made_here", buckets=2)) as store:
        pass
    async with await psycopg.AsyncConnection.connect(postgres.url()) as other:
        await other.execute("DROP SCHEMA elsewhere_not_made_here CASCADE")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await store.put_within(connection, LineStatusUpdate(*LINE, "new"), "id-1")


async def test_a_connection_that_blocks_or_is_no_connection_is_refused(store_of, postgres):
    async with Outbox(store_of()) as outbox:
        with psycopg.connect(postgres.url()) as blocking:
            for connection in (blocking, object()):
                with pytest.raises(ConfigurationError, match=r"statement\(\)") as caught:
                    await outbox.put((*LINE, "new"), connection=connection)
                assert caught.value.field == "connection"


async def test_a_statement_is_accepted_by_sync_code_too(store_of, postgres):
    async with opened(store_of()) as store:
        statement = store.statement(
            [(*LINE, "new"), LineStatusUpdate(*LINE, "delivered")], request_ids=["id-1", "id-2"]
        )
        with psycopg.connect(postgres.url()) as blocking:
            blocking.execute(statement.sql, statement.parameters)
        entries = await read_all(store)
    assert statement.request_ids == ("id-1", "id-2")
    assert [(entry.request_id, entry.update.status_external_id) for entry in entries] == [
        ("id-1", "new"), ("id-2", "delivered")
    ]  # fmt: skip


# -- leases


async def test_drainers_share_the_buckets_fairly(store_of):
    async with (
        opened(store_of(buckets=9)) as one,
        opened(store_of(buckets=9)) as two,
        opened(store_of(buckets=9)) as three,
    ):
        stores = [one, two, three]
        for _ in range(6):
            for store in stores:
                leases = await store.lease()
                await store.release(leases.surplus)
        held = [set((await store.lease()).epochs) for store in stores]
    assert [len(buckets) for buckets in held] == [3, 3, 3]
    assert len(set.union(*held)) == 9


async def test_a_lease_that_ran_out_is_taken_over_under_a_higher_epoch(store_of):
    async with opened(store_of(lease=0.4)) as one, opened(store_of(lease=0.4)) as two:
        first = (await one.lease()).epochs
        assert (await two.lease()).epochs == {}
        await asyncio.sleep(0.45)
        second = (await two.lease()).epochs
    assert set(second) == set(first)
    assert all(second[bucket] > first[bucket] for bucket in first)


async def test_a_lease_that_nobody_renews_is_looked_at_again_when_it_ends(store_of):
    async with opened(store_of(lease=3.0)) as dead, opened(store_of(lease=3.0)) as other:
        ends_at = (await dead.lease()).ends_at
        assert (await other.lease()).again == 0.5
        await asyncio.sleep(ends_at - lease_clock() - 0.2)
        assert (await other.lease()).again < 0.25


async def test_what_is_given_back_can_be_taken_at_once(store_of):
    async with opened(store_of()) as two:
        async with opened(store_of()) as one:
            await one.lease()
        assert len((await two.lease()).epochs) == 8


async def test_a_drainer_that_joins_gets_its_share_and_observers_hear_of_it(sandbox, connect, store_of, until, watcher):
    async with Outbox(store_of(), connect(sandbox, observers=[watcher])) as first:
        await until(lambda: first.statistics().leases == 8)
        async with Outbox(store_of(), connect(sandbox)) as second:
            await until(lambda: (first.statistics().leases, second.statistics().leases) == (4, 4))
            assert (first.statistics().drainers, second.statistics().drainers) == (2, 2)
        await until(lambda: first.statistics().leases == 8)
    told = watcher.of(LeasesChanged)
    assert told[0] == LeasesChanged(8, 8, 0)
    assert sum(event.lost for event in told) == 4


async def test_nothing_starts_once_the_lease_is_over(start_sandbox, connect, store_of, until, monkeypatch):
    sandbox = await start_sandbox(faults=Faults(latency=0.02))
    async with Outbox(store_of(), connect(sandbox, concurrency=1), drain_timeout=0.0) as outbox:
        for n in range(1, 21):
            await outbox.put((f"order_{n}", f"line_{n}_1", "delivered"))
        await until(lambda: sandbox.ledger.requests)
        held = outbox._drainer.holding._held.values()
        for one in held:  # as after a SIGSTOP
            one.lease.ends_at = one.lease.clock() - 1.0
        seen = sandbox.ledger.requests
        outbox._tasks[0].cancel()
        await asyncio.sleep(0.2)
        assert sandbox.ledger.requests <= seen + 1
    assert outbox.statistics().dead == 0


async def test_nothing_is_remembered_of_buckets_that_were_lost(start_sandbox, connect, store_of, until):
    sandbox = await start_sandbox(faults=Faults(latency=5.0))
    async with Outbox(store_of(), connect(sandbox, concurrency=4), drain_timeout=0.0) as outbox:
        for n in range(1, 5):
            await outbox.put((f"order_{n}", f"line_{n}_1", "delivered"))
        holding = outbox._drainer.holding
        await until(lambda: sum(len(held.begun) for held in holding._held.values()) == 4)
        holding._adopt(Leases({}))  # another process has them all
        assert not len(holding)
        holding._adopt(Leases(dict.fromkeys(range(8), 99)))
        assert not any(held.begun for held in holding._held.values())


async def test_the_loop_turns_on_when_all_leases_end_while_there_is_more_to_read(
    start_sandbox, connect, store_of, until
):
    sandbox = await start_sandbox(faults=Faults(latency=0.05))
    async with Outbox(store_of()) as accepting:
        await asyncio.gather(*(accepting.put((f"order_{n}", "line", "new")) for n in range(2000)))
    async with Outbox(store_of(), connect(sandbox, concurrency=2), drain_timeout=0.0) as outbox:
        await until(lambda: sandbox.ledger.requests)
        for held in outbox._drainer.holding._held.values():
            held.lease.ends_at = held.lease.clock() - 1.0
        async with asyncio.timeout(2.0):
            await asyncio.sleep(0.2)
        await until(lambda: outbox.statistics().leases == 8)  # won again, and delivered on
        seen = sandbox.ledger.requests
        await until(lambda: sandbox.ledger.requests > seen)


async def test_closing_hands_over_at_once_where_others_deliver(start_sandbox, connect, store_of, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.05))
    second = Outbox(store_of(), connect(sandbox), drain_timeout=30.0)
    async with Outbox(store_of(), connect(sandbox, concurrency=1), drain_timeout=30.0) as first:
        await second.open()
        await until(lambda: (first.statistics().leases, second.statistics().leases) == (4, 4))
        updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 21)]
        await asyncio.gather(*(first.put(update) for update in updates))
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2.0
    await until(lambda: sandbox.ledger.check(updates).ok)
    await second.aclose()


# -- a limit for all drainers


async def test_all_drainers_together_keep_to_a_known_total_also_when_they_join_and_leave(
    start_sandbox, connect, store_of, until
):
    sandbox = await start_sandbox(faults=Faults(latency=0.05))
    everybody = Shared(24, among="drainers")
    updates = [(f"order_{n}", f"line_{n}_1", status) for status in ("processing", "delivered") for n in range(1, 401)]
    sandbox.seed_orders(400)
    async with Outbox(store_of(buckets=24)) as accepting:
        for update in updates:
            await accepting.put(update)

    def drainer():
        return Outbox(store_of(buckets=24), connect(sandbox, concurrency=everybody), drain_timeout=30.0)

    async with drainer() as first:
        await until(lambda: sandbox.ledger.peak_in_flight == 24)  # alone it has all
        async with drainer() as second, drainer() as third:
            await until(lambda: {o.statistics().leases for o in (first, second, third)} == {8})
            await until(lambda: sandbox.ledger.in_flight >= 22)  # and three use all of it, too
        await until(lambda: first.statistics().leases == 24)
    assert sandbox.ledger.peak_in_flight == 24
    assert sandbox.ledger.check(updates).ok


async def test_a_bucket_is_given_back_only_when_no_more_is_under_way_than_goes_with_the_others(
    start_sandbox, connect, store_of, until
):
    """All that is under way is of one bucket, which stays, so the others are idle from the beginning."""
    sandbox = await start_sandbox(faults=Faults(latency=2.0))
    everybody = Shared(8, among="drainers")
    client = connect(sandbox, concurrency=everybody)
    async with Outbox(store_of(lease=6.0), client, drain_timeout=0.0) as first:
        await until(lambda: first.statistics().leases == 8)
        kept = [
            f"order_{n}" for n in range(1000) if first._store.bucket_of(LineStatusUpdate(f"order_{n}", "l", "s")) == 0
        ]
        await asyncio.gather(*(first.put((order, "line", "new")) for order in kept[:40]))
        await until(lambda: client.statistics().in_flight == 8)
        async with Outbox(store_of(lease=6.0), connect(sandbox, concurrency=everybody), drain_timeout=0.0) as second:
            while second.statistics().leases == 0:
                before = client.statistics().in_flight
                await asyncio.sleep(0.01)
            assert before <= 4


# -- trouble


async def test_an_outbox_of_another_target_version_or_number_of_buckets_is_refused(store_of, connection, schema):
    async with opened(store_of(), target="https://one.test"):
        pass
    for options, target, said in (
        ({}, "https://two.test", "is delivered to https://one.test"),
        ({"buckets": 16}, None, "was made for 8 buckets, not 16"),
    ):
        store = store_of(**options)
        with pytest.raises(OutboxError, match=said):
            await store.open(target=target)
        await store.aclose()
    await connection.execute(f"UPDATE {schema}.meta SET version = 99")
    await connection.commit()
    store = store_of()
    with pytest.raises(OutboxError, match="has version 99, and this altcraft_async knows version 2"):
        await store.open(target=None)
    await store.aclose()


async def test_many_that_open_at_once_make_the_tables_once(store_of):
    stores = [store_of() for _ in range(8)]
    try:
        await asyncio.gather(*(store.open(target="https://one.test") for store in stores))
    finally:
        await asyncio.gather(*(store.aclose() for store in stores))


async def test_who_learns_the_platform_while_another_notes_it_sees_what_was_noted(store_of, schema, connection):
    async with opened(store_of()):  # makes the tables, and knows no platform
        pass
    await connection.execute(f"UPDATE {schema}.meta SET target = 'https://one.test'")
    store = store_of()
    opening = asyncio.ensure_future(store.open(target="https://one.test"))
    waits = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    async with asyncio.timeout(20):
        while not (await connection.execute(waits)).rowcount:  # noqa: ASYNC110 - a lock has no event
            await asyncio.sleep(0.01)
    await connection.commit()
    await opening
    await store.aclose()


async def test_a_session_that_was_ended_is_renewed_without_anybody_noticing(store_of, connection):
    async with opened(store_of()) as store:
        await store.put(LineStatusUpdate(*LINE, "new"), "id-1", 0.0)
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE application_name = 'altcraft_async'"
        )
        await store.put(LineStatusUpdate(*LINE, "delivered"), "id-2", 0.0)
        assert len(await read_all(store)) == 2


async def test_a_database_that_is_away_refuses_puts_at_once_and_all_goes_on_by_itself(
    own_postgres, sandbox, connect, until
):
    store = PostgresStore(own_postgres.url(), buckets=4, lease=3.0)
    async with Outbox(store, connect(sandbox)) as outbox:
        await outbox.put((*LINE, "processing"))
        await until(lambda: sandbox.line_status(*LINE) == "processing")
        await asyncio.to_thread(own_postgres.stop)
        began = asyncio.get_running_loop().time()
        with pytest.raises(OutboxError, match="is not reached") as caught:
            await outbox.put((*LINE, "canceled"))
        assert asyncio.get_running_loop().time() - began < 4.0
        assert not caught.value.maybe_accepted
        assert not outbox.statistics().accepting
        assert "is not reached" in outbox.statistics().problem
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: outbox.statistics().accepting)
        await outbox.put((*LINE, "delivered"))
        await until(lambda: sandbox.line_status(*LINE) == "delivered")
        await until(lambda: outbox.statistics().problem is None)
    assert [change.status for change in sandbox.ledger.changes(*LINE)] == ["processing", "delivered"]


async def test_a_client_of_the_sandbox_outage_costs_nothing(sandbox, connect, store_of, until):
    client = connect(sandbox)
    await sandbox.stop()
    async with Outbox(store_of(), client) as outbox:
        await outbox.put((*LINE, "processing"))
        await outbox.put((*LINE, "delivered"))
        await until(lambda: client.statistics().retries > 2)
        await sandbox.start()
        await until(lambda: not outbox.statistics().pending)
    assert sandbox.ledger.check([(*LINE, "processing"), (*LINE, "delivered")]).ok


async def test_the_clock_of_the_host_may_be_wrong(start_sandbox, connect, store_of, until):
    sandbox = await start_sandbox(faults=Faults(lines={LINE: Fault("reset_after")}), dedup_request_id=False)
    client = connect(sandbox, retry=RetryPolicy(attempts=None, base=0.001, max_delay=0.01))

    def clock():
        return 5.0  # as if it were 1970

    async with Outbox(store_of(clock=clock), client, give_up_after=60.0, clock=clock) as outbox:
        await outbox.put((*LINE, "delivered"))
        await until(lambda: client.statistics().retries > 3)
        assert outbox.statistics().dead == 0


async def test_neither_token_nor_password_is_shown(postgres):
    store = PostgresStore("postgresql://somebody:canary-5ec@127.0.0.1:1/nowhere")
    outbox = Outbox(store)
    with pytest.raises(OutboxError) as caught:
        await outbox.open()
    assert "canary" not in f"{caught.value!r}{caught.value}{store!r}{outbox!r}{store.path}{store._writing!r}"
    assert "postgresql://127.0.0.1:1/nowhere" in str(caught.value)


async def test_an_invalid_update_is_not_accepted(store_of):
    async with Outbox(store_of()) as outbox:
        with pytest.raises(InvalidUpdateError):
            await outbox.put(("order_1", "", "new"))


# -- the owner's care


async def as_of_version_1(connection, schema):
    """Turn the tables into those of the first version."""
    for table in ("entry", "dead"):
        await connection.execute(f"ALTER TABLE {schema}.{table} DROP COLUMN traceparent")
    await connection.execute(f"UPDATE {schema}.meta SET version = 1")
    await connection.commit()


async def test_tables_of_the_first_version_are_brought_to_this_one_with_all_that_waits(
    sandbox, connect, store_of, connection, schema
):
    async with Outbox(store_of()) as outbox:
        await outbox.put((*LINE, "delivered"), request_id="message-17")
    await as_of_version_1(connection, schema)
    await connection.execute(  # as a process of the first version goes on putting
        f"INSERT INTO {schema}.entry "
        "(bucket, order_external_id, order_line_external_id, status_external_id, request_id) "
        "VALUES (0, 'nope', 'nope', 'new', 'message-18')"
    )
    await connection.commit()
    async with Outbox(store_of(), connect(sandbox)) as outbox:
        await outbox.put(("order_2", "line_2_1", "delivered"))
    assert (outbox.statistics().delivered, outbox.statistics().dead) == (2, 1)
    assert sandbox.line_status(*LINE) == "delivered"


async def test_who_makes_the_tables_by_hand_is_told_how_to_bring_them_to_this_version(store_of, connection, schema):
    async with opened(store_of()):
        pass
    await as_of_version_1(connection, schema)
    store = store_of(make_tables=False)
    with pytest.raises(OutboxError, match="has tables of version 1; run what `altcraft-async outbox schema --since 1`"):
        await store.open(target=None)
    await store.aclose()
    await connection.execute(schema_sql(schema=schema, since=1).encode())
    await connection.commit()
    async with opened(store_of(make_tables=False)):
        pass
    with pytest.raises(ConfigurationError, match="since must be an older version"):
        schema_sql(since=2)


async def test_the_hook_is_called_once_for_each_dead_letter(sandbox, connect, store_of):
    heard = []
    async with Outbox(store_of(), connect(sandbox), on_dead=heard.append) as outbox:
        await outbox.put((*LINE, "delivered"))
        for order in ("nope-1", "nope-2"):
            await outbox.put((order, "nope", "delivered"))
    async with Outbox(store_of()) as outbox:
        letters = await letters_of(outbox)
    assert sorted(letter.id for letter in heard) == [letter.id for letter in letters]
    assert {letter.request_id for letter in heard} == {letter.request_id for letter in letters}


async def test_who_lost_the_bucket_has_no_dead_letter_to_tell_of(store_of):
    async with opened(store_of(buckets=1)) as one:
        epochs = (await one.lease()).epochs
        await one.put(LineStatusUpdate(*LINE, "older"), "id-1", 0.0)
        (entry,) = await read_all(one)
        wrong = await one.settle([], [Burial(entry, epochs[0] - 1, OutcomeState.UNKNOWN, "", 1, 0.0)])
        right = await one.settle([], [Burial(entry, epochs[0], OutcomeState.UNKNOWN, "", 1, 0.0)])
    assert (wrong.buried, right.buried) == (frozenset(), {entry.id})


async def test_a_paused_drainer_keeps_what_it_holds_and_sends_nothing(sandbox, connect, store_of, until):
    async with Outbox(store_of(), connect(sandbox)) as outbox:
        await until(lambda: outbox.statistics().leases == 8)
        await outbox.pause()
        await outbox.put((*LINE, "delivered"))
        await asyncio.sleep(1.5)
        assert (outbox.statistics().leases, sandbox.ledger.requests) == (8, 0)
        outbox.resume()
        await until(lambda: sandbox.line_status(*LINE) == "delivered")


async def test_dead_letters_that_are_too_many_or_too_old_are_dropped(  # noqa: PLR0917 - fixtures
    sandbox, connect, store_of, connection, schema, until
):
    async with Outbox(store_of(), connect(sandbox)) as outbox:
        for number in range(5):
            await outbox.put((f"nope-{number}", "nope", "delivered"))
        await until(lambda: outbox.statistics().dead == 5)
        oldest, *_ = await letters_of(outbox)
    await connection.execute(f"UPDATE {schema}.dead SET died_at = died_at - interval '1 hour' WHERE id = {oldest.id}")
    await connection.commit()
    async with Outbox(store_of(), connect(sandbox), dead_capacity=2, dead_age=60.0) as outbox:
        await until(lambda: outbox.statistics().dropped == 3)
        assert [letter.update.order_external_id for letter in await letters_of(outbox)] == ["nope-3", "nope-4"]
    async with opened(store_of()) as store:
        assert await store.trim(most=None, age=None, now=0.0) == 0


async def test_what_concerns_an_order_is_forgotten(sandbox, connect, store_of):
    async with Outbox(store_of(), connect(sandbox)) as outbox:
        await outbox.put(("secret", "nope", "delivered"))
    async with Outbox(store_of()) as outbox:
        await outbox.put(("secret", "nope", "delivered"))
        await outbox.put((*LINE, "delivered"))
        forgotten = await outbox.forget("secret")
        assert (forgotten.waiting, forgotten.dead) == (1, 1)
        assert await letters_of(outbox) == []
        assert outbox.statistics().pending == 1


async def test_a_statement_takes_the_request_ids_that_its_updates_have(store_of):
    updates = [LineStatusUpdate(*LINE, "new", request_id="message-17"), (*LINE, "delivered")]
    made = store_of().statement(updates)
    assert made.request_ids[0] == "message-17"
    assert len(made.request_ids[1]) == 36
    assert made.request_ids[0] in made.parameters
    assert store_of().statement(updates, request_ids=["a", "b"]).request_ids == ("a", "b")


async def test_the_trace_of_a_put_comes_with_its_entry_and_its_dead_letter(store_of, connection):
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with Outbox(store_of(buckets=1), traceparent=lambda: trace) as outbox:
        await outbox.put((*LINE, "new"))
        await outbox.put((*LINE, "delivered"), connection=connection)
        await connection.commit()
    async with opened(store_of(buckets=1)) as store:
        await store.put(LineStatusUpdate(*LINE, "untraced"), "id-1", 0.0)
        epochs = (await store.lease()).epochs
        entries = await read_all(store)
        assert [entry.traceparent for entry in entries] == [trace, trace, None]
        await store.settle([], [Burial(entry, epochs[0], OutcomeState.UNKNOWN, "", 1, 0.0) for entry in entries])
        letters = await store.dead_letters(after=-1, limit=9)
        assert [letter.traceparent for letter in letters] == [trace, trace, None]
        await store.retry(None, 0.0)
        assert [entry.traceparent for entry in await read_all(store)] == [trace, trace, None]
