"""What a connection to a database is like: its encoding, its mode, and who is let in."""

from __future__ import annotations

import asyncio

import pytest

from altcraft_async import ConfigurationError, InvalidUpdateError, LineStatusUpdate, OutboxError, OutcomeState
from altcraft_async.outbox import Burial, Outbox, PostgresStore, schema_sql
from altcraft_async.storage.postgres import Database
from postgres_server import PostgresServer

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: nox -s postgres")

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LINE = ("order_1", "line_1_1")


@pytest.fixture
def database(postgres):
    """Make databases with an encoding."""

    def make(encoding):
        name = f"in_{encoding.lower()}"
        with psycopg.connect(postgres.url(), autocommit=True) as owner:
            owner.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            owner.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        return postgres.url(name)

    return make


# -- encodings


@pytest.mark.parametrize("options", ["", "?client_encoding=latin1"])
async def test_a_character_that_the_database_lacks_fails_its_own_put_alone(database, options):
    async with Outbox(PostgresStore(database("LATIN1") + options, buckets=4)) as outbox:
        orders = ["order-1", "заказ-2", "order-é"]
        first, refused, last = await asyncio.gather(
            *(outbox.put((order, "line", "new")) for order in orders), return_exceptions=True
        )
        assert isinstance(refused, InvalidUpdateError)
        assert "encoding" in str(refused)
        assert "another change" not in str(refused)
        assert isinstance(first, str)
        assert isinstance(last, str)
        assert outbox.statistics().accepting


async def test_a_character_that_a_connection_of_the_caller_lacks_is_an_invalid_update(database):
    url = database("LATIN1")
    async with Outbox(PostgresStore(url, buckets=4)) as outbox, await psycopg.AsyncConnection.connect(url) as mine:
        with pytest.raises(InvalidUpdateError, match="encoding"):
            await outbox.put(("заказ-2", "line", "new"), connection=mine)
        await outbox.put(("order-1", "line", "new"), connection=mine)
        await mine.commit()
        with pytest.raises(psycopg.errors.DataError), psycopg.connect(url, client_encoding="UTF8") as other:
            other.execute("SELECT %s::text", ["заказ"])
    async with await psycopg.AsyncConnection.connect(url, client_encoding="UTF8") as other:
        with pytest.raises(psycopg.errors.UntranslatableCharacter):  # no word of another change
            await outbox._store.put_within(other, LineStatusUpdate("заказ-3", "line", "new"), "id-3")


async def test_a_reason_that_the_database_lacks_characters_for_holds_nothing_up(database):
    store = PostgresStore(database("LATIN1"), buckets=1)
    await store.open(target=None)
    try:
        for number in (1, 2):
            await store.put(LineStatusUpdate(*LINE, f"s{number}"), f"id-{number}", 0.0)
        epochs = (await store.lease()).epochs
        one, two = (await store.pending({0: -1}, last=None, limit=10)).entries
        await store.settle([one], [Burial(two, epochs[0], OutcomeState.REJECTED, "нет «é»", 1, 0.0)])
        (letter,) = await store.dead_letters(after=-1, limit=9)
        assert letter.reason.encode().decode("unicode_escape") == "нет «é»"
        assert (await store.counts()).pending == 0
    finally:
        await store.aclose()


async def test_a_database_without_an_encoding_works(sandbox, connect, database, until):
    url = database("SQL_ASCII")
    for status in ("processing", "delivered"):
        async with Outbox(PostgresStore(url, buckets=4), connect(sandbox)) as outbox:
            await outbox.put((*LINE, status))
            await until(lambda status=status: sandbox.line_status(*LINE) == status)


async def test_a_connection_without_an_encoding_is_refused_at_every_opening(database):
    url = database("SQL_ASCII") + "?client_encoding=SQL_ASCII"
    for _ in range(2):
        with pytest.raises(OutboxError, match="encoding SQL_ASCII; connect with client_encoding=UTF8"):
            async with Outbox(PostgresStore(url, buckets=4)):
                pass


# -- whose connection it is


@pytest.mark.parametrize("autocommit", [False, True])
async def test_a_pipeline_raises_at_the_put_too(postgres, schema, autocommit):
    async with Outbox(PostgresStore(postgres.url(), schema=schema, buckets=4)) as outbox:
        await outbox.put((*LINE, "new"), request_id="message-17")
        mine = await psycopg.AsyncConnection.connect(postgres.url(), autocommit=autocommit)
        async with mine, mine.pipeline():
            with pytest.raises(InvalidUpdateError, match="'message-17' is that of another change"):
                await outbox.put((*LINE, "delivered"), request_id="message-17", connection=mine)


async def test_a_put_in_a_pipeline_is_part_of_its_transaction(postgres, schema):
    store = PostgresStore(postgres.url(), schema=schema, buckets=4)
    async with Outbox(store) as outbox, await psycopg.AsyncConnection.connect(postgres.url()) as mine:
        async with mine.pipeline():
            await outbox.put((*LINE, "processing"), connection=mine)
        await mine.rollback()
        async with mine.pipeline():
            await outbox.put((*LINE, "delivered"), connection=mine)
        await mine.commit()
        entries = (await store.pending(dict.fromkeys(range(4), -1), last=None, limit=10)).entries
        assert [entry.update.status_external_id for entry in entries] == ["delivered"]


async def test_a_connection_with_raw_cursors_puts(postgres, schema):
    store = PostgresStore(postgres.url(), schema=schema, buckets=4)
    raw = await psycopg.AsyncConnection.connect(postgres.url(), cursor_factory=psycopg.AsyncRawCursor)
    async with Outbox(store) as outbox, raw:
        await outbox.put((*LINE, "new"), connection=raw)
        async with raw.cursor() as cursor:
            await outbox.put((*LINE, "delivered"), connection=cursor)
        await raw.commit()
        entries = (await store.pending(dict.fromkeys(range(4), -1), last=None, limit=10)).entries
        assert [entry.update.status_external_id for entry in entries] == ["new", "delivered"]


async def test_an_engine_is_no_connection(postgres, schema):
    pytest.importorskip("sqlalchemy")
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    engine = create_async_engine(postgres.sqlalchemy_url("psycopg"))
    async with Outbox(PostgresStore(postgres.url(), schema=schema, buckets=4)) as outbox:
        with pytest.raises(ConfigurationError, match="AsyncEngine; give a connection or a session") as caught:
            await outbox.put((*LINE, "new"), connection=engine)
    assert caught.value.field == "connection"
    await engine.dispose()


def test_a_statement_that_has_an_id_twice_is_refused(postgres):
    with pytest.raises(InvalidUpdateError, match="'id-1' is given twice") as caught:
        PostgresStore(postgres.url()).statement([(*LINE, "new"), (*LINE, "new")], request_ids=["id-1", "id-1"])
    assert caught.value.field == "request_id"


# -- who is let in


async def test_who_is_not_let_in_reads_why():
    with PostgresServer(max_connections="6", superuser_reserved_connections="0") as server:
        with psycopg.connect(server.url(), autocommit=True) as owner:
            owner.execute("CREATE ROLE shop LOGIN PASSWORD 'right'")
            (server.data / "pg_hba.conf").write_text("local all shop scram-sha-256\nlocal all all trust\n")
            owner.execute("SELECT pg_reload_conf()")
        wrong = server.url().replace("altcraft@", "shop:wr0ng@")
        for url, why in (
            (wrong, "password authentication failed"),
            (server.url().replace("altcraft@", "ghost@"), 'role "ghost" does not exist'),
            (server.url("nowhere"), 'database "nowhere" does not exist'),
        ):
            with pytest.raises(OutboxError, match=why) as caught:
                await Outbox(PostgresStore(url)).open()
            assert "wr0ng" not in str(caught.value)
            assert not caught.value.maybe_accepted
        crowd = [await psycopg.AsyncConnection.connect(server.url()) for _ in range(6)]
        with pytest.raises(OutboxError, match="too many clients"):
            await Outbox(PostgresStore(server.url())).open()
        for one in crowd:
            await one.close()


@pytest.mark.parametrize("address", ["postgresql://shop:p@ss@db/shop", "postgresql://shop:a@b,c@d@db/shop"])
def test_an_at_sign_in_a_password_is_refused_and_not_shown(address):
    with pytest.raises(ConfigurationError, match="write it as %40") as caught:
        Database(address)
    assert "@d" not in str(caught.value)


# -- what rights it has


@pytest.fixture
def role(postgres, schema):
    """Make roles with rights on tables that another owns, as `schema_sql` names them."""
    made = []
    with psycopg.connect(postgres.url(), autocommit=True) as owner:
        owner.execute(schema_sql(schema=schema, buckets=4).encode())
        grants = [line[5:] for line in schema_sql(schema=schema).splitlines() if line.startswith("--   ")]

        def make(*which):
            name = f"role_{len(made)}_{schema}"
            made.append(name)
            owner.execute(f"CREATE ROLE {name} LOGIN")
            for number in which:
                owner.execute(grants[number].replace("TO ROLE", f"TO {name}").encode())
            return PostgresStore(
                postgres.url().replace("altcraft@", f"{name}@"), schema=schema, buckets=4, make_tables=False
            )

        yield make
        for name in made:
            owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_the_rights_that_are_named_are_enough_to_put_and_to_deliver(sandbox, connect, role, until):
    store = role(0, 1)
    async with Outbox(role(0, 2, 3)) as putting, Outbox(store, connect(sandbox)) as delivering:
        await putting.put((*LINE, "delivered"))
        await putting.put(("order_99", "line_99_1", "delivered"))
        await until(lambda: delivering.statistics().dead == 1)
        assert await delivering.retry() == 1
        await until(lambda: delivering.statistics().dead == 1)
        assert await delivering.purge() == 1
        assert await store.compact()
        assert await store._looking.rows(f"{store._tables.compact_leases}; SELECT true") == [(True,)]
    assert sandbox.line_status(*LINE) == "delivered"


async def test_a_role_without_rights_reads_where_they_are_named(role):
    with pytest.raises(OutboxError, match="`altcraft-async outbox schema` says what to grant"):
        await Outbox(role()).open()


# -- what hangs


class Relay:
    """Stands before a server, and passes nothing on once it is `frozen`: so hangs a server whose connections stay."""

    def __init__(self, postgres, directory):
        self._server, self._path = f"{postgres.directory}/.s.PGSQL.5432", f"{directory}/.s.PGSQL.5432"
        self.url = f"postgresql://altcraft@/postgres?host={directory}"
        self.flows = asyncio.Event()
        self.flows.set()
        self._tasks = []

    async def __aenter__(self):
        self._listener = await asyncio.start_unix_server(self._relay, self._path)
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader, writer):
        reader2, writer2 = await asyncio.open_unix_connection(self._server)
        self._tasks += [asyncio.create_task(self._pass_on(*way)) for way in ((reader, writer2), (reader2, writer))]

    async def _pass_on(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
        finally:
            writer.close()


async def test_closing_beside_a_database_that_hangs_ends_in_time(postgres, schema, tmp_path, sandbox, connect):
    async with Relay(postgres, tmp_path) as relay:
        outbox = Outbox(PostgresStore(relay.url, schema=schema, buckets=4), connect(sandbox), drain_timeout=0.5)
        await outbox.open()
        relay.flows.clear()
        await asyncio.sleep(0.5)  # each of its looks hangs now
        began = asyncio.get_running_loop().time()
        await outbox.aclose()
        assert asyncio.get_running_loop().time() - began < 9.5
        relay.flows.set()


async def test_a_put_into_a_database_that_hangs_ends_in_time(postgres, schema, tmp_path, monkeypatch):
    monkeypatch.setattr("altcraft_async.storage.postgres._WORK_SECONDS", 1.0)
    async with (
        Relay(postgres, tmp_path) as relay,
        Outbox(PostgresStore(relay.url, schema=schema, buckets=4)) as outbox,
    ):
        await outbox.put((*LINE, "processing"))
        relay.flows.clear()
        began = asyncio.get_running_loop().time()
        with pytest.raises(OutboxError, match="lost in the middle of the work") as caught:
            await outbox.put((*LINE, "delivered"))
        assert asyncio.get_running_loop().time() - began < 4.0
        assert caught.value.maybe_accepted
        relay.flows.set()
        await outbox.put((*LINE, "delivered"), request_id=caught.value.request_id)
