"""What can stand between an outbox and its database: lost sessions, a bouncer, a pool, a full disk."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time

import pytest

from altcraft_async import LineStatusUpdate, OutboxError
from altcraft_async.integrations.web import readiness_of
from altcraft_async.outbox import Outbox, PostgresStore
from altcraft_async.sandbox import Faults
from postgres_server import PostgresServer

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: nox -s postgres")

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LINE = ("order_1", "line_1_1")


@pytest.fixture
def bouncer(postgres):
    """PgBouncer in transaction mode, with two sessions for all; its address."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("needs pgbouncer, which is not installed")
    folder = postgres.directory / "bouncer"
    folder.mkdir()
    shutil.chown(folder, *_owner(postgres))
    (folder / "ini").write_text(
        f"[databases]\n* = host={postgres.directory} user=altcraft\n[pgbouncer]\nunix_socket_dir = {folder}\n"
        "listen_addr =\nlisten_port = 6432\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    process = subprocess.Popen(
        [program, "-q", str(folder / "ini")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **postgres._as
    )
    for _ in range(100):
        if (folder / ".s.PGSQL.6432").exists():
            break
        time.sleep(0.05)
    yield f"postgresql://altcraft@/postgres?host={folder}&port=6432"
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


def _owner(postgres):
    about = postgres.directory.stat()
    return about.st_uid, about.st_gid


async def test_pgbouncer_in_transaction_mode_may_stand_before_the_server(sandbox, connect, bouncer, schema, until):
    async with Outbox(PostgresStore(bouncer, schema=schema, buckets=4), connect(sandbox)) as outbox:
        for status in ("processing", "delivered"):
            await asyncio.gather(*(outbox.put((f"order_{n}", f"line_{n}_1", status)) for n in range(1, 21)))
        await until(lambda: not outbox.statistics().pending)
        assert outbox.statistics().problem is None
    updates = [(f"order_{n}", f"line_{n}_1", status) for status in ("processing", "delivered") for n in range(1, 21)]
    assert sandbox.ledger.check(updates).ok


async def test_a_standby_takes_over_and_what_was_accepted_is_delivered_in_order(sandbox, connect, schema, until):
    lines = [(f"order_{n}", f"line_{n}_1") for n in range(1, 21)]
    accepted = []

    async def put(status):
        for line in lines:
            await outbox.put((*line, status))
            accepted.append((*line, status))

    with PostgresServer() as primary, PostgresServer(standby_of=primary) as standby:
        hosts = f"{primary.directory},{standby.directory}"
        url = f"postgresql://altcraft@/postgres?host={hosts}&target_session_attrs=read-write&connect_timeout=2"
        with psycopg.connect(primary.url(), autocommit=True) as owner:
            owner.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")  # what is committed is on both
            owner.execute("SELECT pg_reload_conf()")
        sandbox.faults = Faults(latency=0.2)
        async with Outbox(PostgresStore(url, schema=schema, buckets=4), connect(sandbox)) as outbox:
            await put("processing")
            await put("delivering")
            await asyncio.to_thread(primary.stop, "immediate")
            with pytest.raises(OutboxError):
                await outbox.put((*lines[0], "canceled"))
            await asyncio.to_thread(standby.promote)
            await until(lambda: outbox.statistics().problem is None)
            await put("delivered")
            await until(lambda: not outbox.statistics().pending)
    assert sandbox.ledger.check(accepted).ok


async def test_what_waits_again_after_a_failover_that_lost_its_end_is_repeated_under_its_id(
    sandbox, connect, schema, until
):
    with PostgresServer() as primary, PostgresServer(standby_of=primary) as standby:
        hosts = f"{primary.directory},{standby.directory}"
        url = f"postgresql://altcraft@/postgres?host={hosts}&target_session_attrs=read-write&connect_timeout=2"
        async with Outbox(PostgresStore(url, schema=schema, buckets=4), connect(sandbox)) as outbox:
            await until(lambda: outbox.statistics().draining)
            await outbox.pause()
            await outbox.put((*LINE, "delivered"))
            with psycopg.connect(primary.url()) as first, psycopg.connect(standby.url(), autocommit=True) as copy:
                written = first.execute("SELECT pg_current_wal_lsn()").fetchone()
                await until(lambda: copy.execute("SELECT pg_last_wal_replay_lsn() >= %s", written).fetchone()[0])
            await asyncio.to_thread(standby.stop)
            outbox.resume()
            await until(lambda: outbox.statistics().delivered == 1)
            await asyncio.to_thread(primary.stop, "immediate")
            await asyncio.to_thread(standby.start)
            await asyncio.to_thread(standby.promote)
            await until(lambda: outbox.statistics().delivered == 2)
            await until(lambda: not outbox.statistics().pending and outbox.statistics().problem is None)
    assert (len(sandbox.ledger.changes(*LINE)), sandbox.ledger.requests) == (1, 2)


async def test_a_pool_of_the_users_own_is_used_and_left_open(sandbox, connect, postgres, schema, until):
    pools = pytest.importorskip("psycopg_pool")
    async with pools.AsyncConnectionPool(postgres.url(), min_size=1, max_size=4, open=False) as pool:
        async with Outbox(PostgresStore(pool, schema=schema, buckets=4), connect(sandbox)) as outbox:
            await outbox.put((*LINE, "delivered"))
            await until(lambda: sandbox.line_status(*LINE) == "delivered")
            assert await outbox.purge() == 0
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")


async def test_a_put_whose_end_is_lost_says_so_and_is_made_sure_under_its_id(postgres, schema):
    store = PostgresStore(postgres.url(), schema=schema, buckets=4)
    async with Outbox(store) as outbox, await psycopg.AsyncConnection.connect(postgres.url()) as other:
        await outbox.put((*LINE, "new"))
        await other.execute(f"LOCK TABLE {schema}.entry")
        task = asyncio.create_task(outbox.put((*LINE, "delivered")))
        pid = store._writing._connection.info.backend_pid
        async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as judge:
            waits_for = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
            waits = ("nothing",)
            while waits != ("Lock",):
                waits = await (await judge.execute(waits_for, (pid,))).fetchone()
            await judge.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(OutboxError, match="ended the session") as caught:
            await task
        await other.rollback()
        assert caught.value.maybe_accepted
        for _ in range(2):
            assert await outbox.put((*LINE, "delivered"), request_id=caught.value.request_id)
        entries = (await store.pending(dict.fromkeys(range(4), -1), last=None, limit=100)).entries
        assert [entry.update.status_external_id for entry in entries] == ["new", "delivered"]


async def test_a_refused_write_is_told_by_readiness_until_one_goes_well(sandbox, connect, postgres, schema, until):
    client = connect(sandbox)
    async with Outbox(PostgresStore(postgres.url(), schema=schema, buckets=4), client) as outbox:
        async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as owner:
            await owner.execute(
                f"CREATE FUNCTION {schema}.full() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
            )
            await owner.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT ON {schema}.entry EXECUTE FUNCTION {schema}.full()"
            )
            with pytest.raises(OutboxError, match="has a full disk") as caught:
                await outbox.put((*LINE, "new"))
            assert not caught.value.maybe_accepted
            assert readiness_of(client, outbox).http_status == 503
            await asyncio.sleep(1.2)
            assert readiness_of(client, outbox).http_status == 503  # it was tried, and failed again
            await owner.execute(f"DROP TRIGGER full_disk ON {schema}.entry")
        await until(lambda: outbox.statistics().accepting)


async def test_a_request_id_that_an_open_transaction_has_put_delays_nobody_else_for_long(postgres, schema):
    store = PostgresStore(postgres.url(), schema=schema, buckets=4)
    async with Outbox(store) as outbox, await psycopg.AsyncConnection.connect(postgres.url()) as open_one:
        await outbox.put((*LINE, "new"), request_id="message-17", connection=open_one)
        same = asyncio.create_task(outbox.put((*LINE, "new"), request_id="message-17"))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(8):
            with pytest.raises(OutboxError, match="lock that did not become free"):
                await same
            await outbox.put((*LINE, "delivered"))
        await open_one.rollback()


async def test_reading_costs_no_more_beside_a_transaction_that_stays_open(postgres, schema):
    store = PostgresStore(postgres.url(), schema=schema, buckets=1, capacity=100_000)
    await store.open(target=None)
    await store.lease()

    async def pages():
        async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as judge:
            _, end, open_then = last.mark.as_of.partition(" ")[0].split(":")
            parameters = {"cursors": [last_id], "end": end, "open": open_then.split(","), "buckets": [0]}
            hits = []
            tables, late = store._tables, bool(open_then)
            for plan, most in ((tables.pending(late=late), [256]), (tables.news(late=late), 256)):
                explained = await judge.execute(
                    f"EXPLAIN (ANALYZE, BUFFERS) {plan}".encode(), {**parameters, "most": most}
                )
                line = next(row[0] for row in await explained.fetchall() if "Buffers" in row[0])
                hits.append(int(line.split("hit=")[1].split()[0]))
        return hits

    try:
        async with await psycopg.AsyncConnection.connect(postgres.url()) as open_one:
            await open_one.execute("CREATE TEMP TABLE pinned (one integer)")  # open, and with a number of its own
            last, last_id, costs = None, -1, []
            for round_ in range(12):
                many = [store.put(LineStatusUpdate(*LINE, "new"), f"id-{round_}-{n}", 0.0) for n in range(500)]
                await asyncio.gather(*many)
                while True:
                    last = await store.pending({0: last_id}, last=last, limit=1000)
                    if not last.entries:
                        break
                    last_id = last.entries[-1].id
                    await store.settle(last.entries, [])
                costs.append(await pages())
        for ours in zip(*costs, strict=True):
            assert ours[-1] <= 2 * max(ours[:2]), costs
    finally:
        await store.aclose()
