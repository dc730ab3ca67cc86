"""The outbox: what was accepted is delivered, in order, whatever happens to the server or to the one who put it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time

import attrs
import pytest

from altcraft_async import (
    AltcraftClient,
    ConfigurationError,
    InvalidUpdateError,
    LineStatusUpdate,
    OutboxError,
    OutboxFullError,
    OutcomeState,
    RetryPolicy,
)
from altcraft_async.observe import OutboxChanged
from altcraft_async.outbox import Burial, Counts, DeadLetter, Entry, EntryPage, Leases, Outbox, Settled, SqliteStore
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1")
BUSY = Fault("error", status=429, retry_after=5.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


async def letters_of(outbox) -> list[DeadLetter]:
    return [letter async for letter in outbox.dead_letters()]


async def test_what_is_put_is_delivered_in_order_for_each_line(start_sandbox, connect, path):
    sandbox = await start_sandbox(seed=5, faults=Faults.mixed(0.2, latency=0.001))
    updates = [(f"order_{n}", f"line_{n}_1", status) for status in ("processing", "delivered") for n in range(1, 21)]
    # as many attempts as a fifth of faults can ask for: an update that fails in all of them is a dead letter
    client = connect(sandbox, retry=RetryPolicy(attempts=20, base=0.001, max_delay=0.01))
    async with Outbox(path, client) as outbox:
        await asyncio.gather(*(outbox.put(update) for update in updates))
    assert outbox.statistics().pending == 0
    assert outbox.statistics().delivered == 40
    check = sandbox.ledger.check(updates)
    assert check.ok, str(check)


async def test_an_update_outlives_the_one_who_put_it(sandbox, connect, path):
    async with Outbox(path) as accepting:
        await accepting.put((*LINE, "delivered"))
    async with Outbox(path, connect(sandbox)):
        pass
    assert sandbox.line_status(*LINE) == "delivered"


class StoreWithNews(SqliteStore):
    """A store into which another update is put during each of the first reads."""

    reads, most, accepted = 0, 20, 0

    async def put(self, *given):
        counts = await super().put(*given)
        self.accepted += 1
        return counts

    async def pending(self, after, *, last, limit):
        page = await super().pending(after, last=last, limit=limit)
        if self.reads < self.most:
            self.reads += 1
            await self.between(self.reads)
        return page


async def test_a_put_does_not_wait_until_no_other_comes(sandbox, connect, path):
    store, later = StoreWithNews(path, capacity=100), []

    async def put_another(number):
        accepted = store.accepted
        later.append(asyncio.create_task(outbox.put((*LINE, f"status_{number}"))))
        while store.accepted == accepted:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)

    store.between = put_another
    async with Outbox(store, connect(sandbox)) as outbox:
        await outbox.put((*LINE, "delivered"))
        assert store.reads < store.most
        store.reads = store.most  # no more news
        await asyncio.gather(*later)


async def test_puts_of_another_process_are_delivered_too(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox)) as delivering, Outbox(path) as accepting:
        await accepting.put((*LINE, "delivered"))
        await until(lambda: sandbox.line_status(*LINE) == "delivered")
        await until(lambda: not delivering.statistics().pending)


async def test_a_request_id_of_ones_own_is_the_one_that_is_sent(sandbox, connect, path):
    async with Outbox(path, connect(sandbox)) as outbox:
        assert await outbox.put((*LINE, "delivered"), request_id="message-17") == "message-17"
    assert [arrival.request_id for arrival in sandbox.ledger.arrivals(*LINE)] == ["message-17"]


@pytest.mark.parametrize("request_id", ["", " ", "a\nb", "ключ"])
async def test_a_request_id_that_cannot_be_a_header_is_refused(path, request_id):
    async with Outbox(path) as outbox:
        with pytest.raises(ConfigurationError, match="request_id"):
            await outbox.put((*LINE, "delivered"), request_id=request_id)
        assert outbox.statistics().pending == 0


async def test_an_invalid_update_is_not_accepted(path):
    async with Outbox(path) as outbox:
        with pytest.raises(InvalidUpdateError, match="order_line_external_id is empty"):
            await outbox.put(("order_1", "", "new"))
        assert outbox.statistics().pending == 0


async def test_a_full_outbox_says_so_and_accepts_nothing(path):
    async with Outbox(path, capacity=2) as outbox:
        results = await asyncio.gather(*(outbox.put((*LINE, "new")) for _ in range(4)), return_exceptions=True)
        assert [type(result) for result in results] == [str, str, OutboxFullError, OutboxFullError]
        assert results[2].capacity == 2
        assert "is full: 2 updates wait" in str(results[2])
        assert outbox.statistics().pending == 2


async def test_a_put_can_wait_for_room(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(latency=0.02))
    async with Outbox(path, connect(sandbox), capacity=1) as outbox:
        for status in ("new", "processing", "delivered"):
            await outbox.put((*LINE, status), timeout=5.0)
    assert sandbox.line_status(*LINE) == "delivered"


async def test_waiting_for_room_ends_in_time(path):
    async with Outbox(path, capacity=1) as outbox:
        await outbox.put((*LINE, "new"))
        with pytest.raises(OutboxFullError):
            await outbox.put((*LINE, "new"), timeout=0.01)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_outbox_that_is_not_open_accepts_nothing(path, when):
    outbox = Outbox(path)
    if when == "after":
        async with outbox:
            pass
        await outbox.aclose()
    with pytest.raises(OutboxError, match="not open yet" if when == "before" else "closed"):
        await outbox.put((*LINE, "new"))


async def test_an_outbox_is_opened_once(path):
    async with Outbox(path) as outbox:
        with pytest.raises(OutboxError, match="make a new one"):
            await outbox.open()


@pytest.mark.parametrize("setting", [{"capacity": 0}, {"give_up_after": 0}])
def test_settings_that_cannot_work_are_refused(path, setting):
    with pytest.raises(ConfigurationError, match="number above zero"):
        Outbox(path, **setting)


async def test_a_refused_update_becomes_a_dead_letter_and_the_next_one_goes_on(sandbox, connect, path):
    async with Outbox(path, connect(sandbox)) as outbox:
        request_id = await outbox.put((*LINE, "no-such-status"))
        await outbox.put((*LINE, "delivered"))
    assert sandbox.line_status(*LINE) == "delivered"
    async with Outbox(path) as outbox:
        (letter,) = await letters_of(outbox)
    assert letter.update == LineStatusUpdate(*LINE, "no-such-status")
    assert (letter.state, letter.attempts, letter.request_id) == (OutcomeState.REJECTED, 1, request_id)
    assert "order line order_1/line_1_1: the server answered error 400" in letter.reason
    assert letter.overtaken
    assert time.time() - 60 < letter.put_at <= letter.died_at <= time.time()


async def test_a_retried_letter_is_delivered_under_a_new_id(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox)) as outbox:
        await outbox.put(("order_99", "line_99_1", "delivered"))
        await until(lambda: outbox.statistics().dead == 1)
        sandbox.add_order("order_99", ["line_99_1"])
        assert await outbox.retry() == 1
        assert outbox.statistics().dead == 0
    first, second = sandbox.ledger.arrivals("order_99", "line_99_1")
    assert first.request_id != second.request_id
    assert sandbox.line_status("order_99", "line_99_1") == "delivered"


async def test_retrying_all_leaves_the_overtaken_ones_alone(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox)) as outbox:
        await outbox.put((*LINE, "no-such-status"))
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().dead == 1 and not outbox.statistics().pending)
        assert await outbox.retry() == 0
        (letter,) = await letters_of(outbox)
        assert await outbox.retry([letter.id, 999]) == 1


async def test_retrying_all_leaves_alone_what_a_waiting_update_will_overtake(sandbox, connect, path):
    async with Outbox(path, connect(sandbox)) as outbox:
        await outbox.put((*LINE, "no-such-status"))
        await outbox.put(("order_2", "line_2_1", "no-such-status"))
    async with Outbox(path) as outbox:
        await outbox.put((*LINE, "delivered"))
        assert await outbox.retry() == 1
        assert [letter.update.order_external_id for letter in await letters_of(outbox)] == ["order_1"]


async def test_what_was_delivered_overtakes_the_dead_of_the_same_settling(path):
    store = SqliteStore(path, capacity=10)
    await store.open(target=None)
    try:
        await store.put(LineStatusUpdate("o", "l", "refused"), "id-1", 1.0)
        await store.put(LineStatusUpdate("o", "l", "applied"), "id-2", 1.0)
        refused, applied = (await store.pending({0: -1}, last=None, limit=2)).entries
        await store.settle([applied], [Burial(refused, 0, OutcomeState.REJECTED, "", 1, died_at=2.0)])
        (letter,) = await store.dead_letters(after=-1, limit=9)
        assert letter.overtaken
        assert await store.retry(None, 3.0) == 0
    finally:
        await store.aclose()


async def test_retrying_all_sees_a_newer_put_that_shares_its_commit(path):
    store = SqliteStore(path, capacity=10)
    await store.open(target=None)
    try:
        await store.put(LineStatusUpdate("o", "l", "older"), "id-1", 1.0)
        (entry,) = (await store.pending({0: -1}, last=None, limit=1)).entries
        await store.settle([], [Burial(entry, 0, OutcomeState.UNKNOWN, "", 1, died_at=2.0)])
        busy = store.put(LineStatusUpdate("other", "l", "new"), "id-2", 3.0)
        newer = store.put(LineStatusUpdate("o", "l", "newer"), "id-3", 3.0)
        _, _, retried = await asyncio.gather(busy, newer, store.retry(None, 3.0))
        waiting = [
            entry.update.status_external_id for entry in (await store.pending({0: -1}, last=None, limit=9)).entries
        ]
    finally:
        await store.aclose()
    assert retried == 0
    assert waiting == ["new", "newer"]


async def test_dead_letters_can_be_purged(sandbox, connect, path):
    async with Outbox(path, connect(sandbox)) as outbox:
        for order in ("order_97", "order_98", "order_99"):
            await outbox.put((order, "line", "delivered"))
    async with Outbox(path) as outbox:
        first, *_ = await letters_of(outbox)
        assert await outbox.purge([first.id]) == 1
        assert [letter.update.order_external_id for letter in await letters_of(outbox)] == ["order_98", "order_99"]
        assert await outbox.purge() == 2
        assert await letters_of(outbox) == []
        assert outbox.statistics().dead == 0


async def test_an_outage_is_waited_out_whatever_the_retry_policy(sandbox, connect, path, until):
    client = connect(sandbox)  # three attempts, and they are quick
    await sandbox.stop()
    async with Outbox(path, client) as outbox:
        for status in ("processing", "delivered"):
            await outbox.put((*LINE, status))
        await until(lambda: client.statistics().retries > 2)
        assert (outbox.statistics().pending, outbox.statistics().dead) == (2, 0)
        await sandbox.start()
        await until(lambda: not outbox.statistics().pending)
    assert sandbox.ledger.check([(*LINE, "processing"), (*LINE, "delivered")]).ok


@pytest.mark.parametrize(
    ("fault", "state"),
    [(Fault("reset_after"), "unknown"), (Fault("reset_before"), "unknown")],
    ids=["reset after", "reset before"],
)
async def test_what_cannot_be_delivered_in_time_is_given_up(  # noqa: PLR0917 - fixtures
    start_sandbox, connect, path, until, fault, state
):
    sandbox = await start_sandbox(faults=Faults(lines={LINE: fault}), dedup_request_id=False)
    client = connect(sandbox, retry=RetryPolicy(attempts=None, base=0.001, max_delay=0.01))
    async with Outbox(path, client, give_up_after=0.2) as outbox:
        request_id = await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().dead == 1)
        (letter,) = await letters_of(outbox)
        assert (letter.state, letter.request_id) == (state, request_id)
        assert "deadline" in letter.reason
        assert letter.attempts > 1


async def test_what_is_refused_for_load_ends_by_its_attempts_and_never_by_its_age(start_sandbox, connect, path, until):
    busy = Fault("error", status=429, retry_after=0.1)
    sandbox = await start_sandbox(faults=Faults(lines={LINE: busy}))
    async with Outbox(path, connect(sandbox), give_up_after=0.05) as outbox:
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().dead == 1)
        (letter,) = await letters_of(outbox)
        assert (letter.state, letter.attempts) == ("not_sent", 3)


async def test_an_unknown_letter_is_retried_under_its_old_id(start_sandbox, connect, path, until):
    sandbox = await start_sandbox(faults=Faults(lines={LINE: Fault("reset_after")}))
    async with Outbox(path, connect(sandbox), give_up_after=0.05) as outbox:
        request_id = await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().dead == 1)
        sandbox.faults = Faults()
    async with Outbox(path, connect(sandbox)) as outbox:
        assert await outbox.retry() == 1
    assert {arrival.request_id for arrival in sandbox.ledger.arrivals(*LINE)} == {request_id}
    assert sandbox.ledger.check([(*LINE, "delivered")]).ok


async def test_a_refused_token_buries_nothing_and_is_told(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox, token="wrong-token"), drain_timeout=0.05) as outbox:
        await outbox.put((*LINE, "processing"))
        await until(lambda: outbox.statistics().problem is not None)
        assert "check the token" in outbox.statistics().problem
        await outbox.put((*LINE, "delivered"))
    assert (outbox.statistics().pending, outbox.statistics().dead) == (2, 0)
    async with Outbox(path, connect(sandbox)) as outbox:
        pass
    assert outbox.statistics().problem is None
    assert sandbox.ledger.check([(*LINE, "processing"), (*LINE, "delivered")]).ok


async def test_delivery_goes_on_by_itself_when_the_token_is_accepted_again(
    start_raw_server, connect, path, until, monkeypatch
):
    monkeypatch.setattr("altcraft_async.outbox.drain._FIRST_PAUSE", 0.05)
    no = b'{"error": 401, "error_text": "no such token"}'
    server = await start_raw_server(None)
    server.answers = [server.answer(no, status=401)] * 2 + [server.answer(b'{"error": 0, "error_text": ""}')]
    async with Outbox(path, connect(server, concurrency=1)) as outbox:
        await outbox.put((*LINE, "processing"))
        await until(lambda: outbox.statistics().problem is not None)
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().delivered == 2)
        assert outbox.statistics().problem is None
    statuses = [json.loads(request.body)["status_external_id"] for request in server.requests]
    assert statuses == ["processing"] * 3 + ["delivered"]


async def test_closing_is_bounded_and_what_is_left_goes_out_next_time_under_its_ids(
    start_sandbox, connect, path, until
):
    sandbox = await start_sandbox()
    updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 21)]
    async with Outbox(path, connect(sandbox, concurrency=2), drain_timeout=0.1) as outbox:
        ids = [await outbox.put(updates[0])]
        await until(lambda: outbox.statistics().delivered)
        sandbox.faults = Faults(latency=0.5)
        ids += [await outbox.put(update) for update in updates[1:]]
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 4.0
    left = outbox.statistics().pending
    assert 0 < left < 20
    sandbox.faults = Faults()
    async with Outbox(path, connect(sandbox)):
        pass
    assert sandbox.ledger.check(updates).ok
    assert {a.request_id for order, line, _ in updates for a in sandbox.ledger.arrivals(order, line)} == set(ids)


async def test_one_delivers_and_another_takes_over(sandbox, connect, path, until):
    first, second = Outbox(path, connect(sandbox)), Outbox(path, connect(sandbox))
    await first.open()
    await until(lambda: first.statistics().draining)
    await second.open()
    await second.put((*LINE, "delivered"))
    await until(lambda: sandbox.line_status(*LINE) == "delivered")
    assert not second.statistics().draining
    await first.aclose()
    await until(lambda: second.statistics().draining)
    await second.put((*LINE, "refunded"))
    await second.aclose()
    assert sandbox.line_status(*LINE) == "refunded"


async def test_one_that_stands_by_closes_at_once(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox)) as first:
        await until(lambda: first.statistics().draining)
        async with asyncio.timeout(2):
            async with Outbox(path, connect(sandbox), drain_timeout=60.0):
                pass


@pytest.mark.parametrize("address", ["postgresql+asyncpg://u:canary@h/db", "mysql://u:canary@h/db"])
def test_an_address_of_anything_else_is_no_file(address):
    with pytest.raises(ConfigurationError, match="lies in a file or at postgresql://") as caught:
        Outbox(address)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("delivers", [True, False])
async def test_a_file_of_two_names_is_refused_under_either(sandbox, connect, path, tmp_path, delivers):
    async with Outbox(path) as outbox:
        await outbox.put((*LINE, "delivered"))
    other = tmp_path / "other.db"
    other.hardlink_to(path)
    for name in (path, other):
        with pytest.raises(OutboxError, match=f"the outbox {name} has another name"):
            await Outbox(name, connect(sandbox) if delivers else None).open()
    other.unlink()
    async with Outbox(path, connect(sandbox)):
        pass
    assert sandbox.line_status(*LINE) == "delivered"


async def test_without_standby_a_second_one_that_would_deliver_is_refused(sandbox, connect, path):
    async with Outbox(path, connect(sandbox), standby=False) as first:
        assert first.statistics().draining
        with pytest.raises(OutboxError, match="is delivered by another process; open it without a client"):
            await Outbox(path, connect(sandbox), standby=False).open()


async def test_the_lock_is_free_again_after_closing(sandbox, connect, path):
    for _ in range(2):
        async with Outbox(path, connect(sandbox), standby=False):
            pass


async def test_a_cancelled_put_harms_nobody(sandbox, connect, path):
    async with Outbox(path, connect(sandbox)) as outbox:
        task = asyncio.ensure_future(outbox.put((*LINE, "processing")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await outbox.put((*LINE, "delivered"))
    assert sandbox.line_status(*LINE) == "delivered"


async def test_observers_are_told_of_the_backlog(sandbox, connect, path, watcher):
    async with Outbox(path, connect(sandbox, observers=[watcher])) as outbox:
        await outbox.put((*LINE, "delivered"))
        await outbox.put(("nope", "nope", "delivered"))
    changes = watcher.of(OutboxChanged)
    assert max(change.pending for change in changes) >= 1
    assert changes[-1] == OutboxChanged(0, 1)


async def test_statistics_tell_how_long_the_oldest_has_been_waiting(path):
    now = [1000.0]
    async with Outbox(path, clock=lambda: now[0]) as outbox:
        assert outbox.statistics().oldest == 0.0
        await outbox.put((*LINE, "new"))
        now[0] = 1007.5
        assert outbox.statistics().oldest == 7.5
        assert "1 pending, 0 dead" in repr(outbox)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"x" * 5000), "is damaged; put it aside"),
        (lambda path: path.write_bytes(path.read_bytes()[:4096]), "damaged|cannot be used"),
        (lambda path: execute(path, "PRAGMA user_version = 99"), "format version 99, and this altcraft_async knows"),
        (lambda path: execute(path, "PRAGMA application_id = 7"), "is no outbox of altcraft_async"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be written"),
    ],
    ids=["no database", "cut short", "other version", "another's file", "a directory"],
)
async def test_a_file_that_cannot_be_used_is_told_with_its_path(path, damage, said):
    async with Outbox(path) as outbox:
        for _ in range(50):
            await outbox.put((*LINE, "new"))
    damage(path)
    with pytest.raises(OutboxError, match=said) as caught:
        await Outbox(path).open()
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


def execute(path, statement):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_a_write_that_fails_is_told_to_its_caller_and_the_next_may_go_well(path):
    async with Outbox(path) as outbox:
        execute(path, "CREATE TRIGGER refuse BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'out of luck'); END")
        with pytest.raises(OutboxError, match="out of luck"):
            await outbox.put((*LINE, "new"))
        assert not outbox.statistics().accepting
        assert "out of luck" in outbox.statistics().problem
        execute(path, "DROP TRIGGER refuse")
        await outbox.put((*LINE, "new"))
        assert outbox.statistics().pending == 1
        assert outbox.statistics().accepting


async def test_a_store_that_fails_stops_the_delivery_and_is_told(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox), drain_timeout=0.05) as outbox:
        await until(lambda: outbox.statistics().draining)
        execute(path, "CREATE TRIGGER refuse BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'out of luck'); END")
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().problem is not None)
        assert "out of luck" in outbox.statistics().problem
    assert outbox.statistics().pending == 1
    execute(path, "DROP TRIGGER refuse")
    async with Outbox(path, connect(sandbox)) as outbox:
        pass
    assert outbox.statistics().pending == 0
    assert sandbox.ledger.check([(*LINE, "delivered")]).ok  # the repeat was told by its id


async def test_an_outbox_left_open_warns(path):
    outbox = Outbox(path)
    await outbox.open()
    with pytest.warns(ResourceWarning, match="unclosed <Outbox"):
        outbox.__del__()
    await outbox.aclose()


async def test_the_token_is_in_none_of_the_files(start_sandbox, connect, path):
    sandbox = await start_sandbox(token="canary-0b5e55ed")
    async with Outbox(path, connect(sandbox)) as outbox:
        await outbox.put((*LINE, "delivered"))
        await outbox.put(("nope", "nope", "delivered"))
        for file in path.parent.iterdir():
            assert b"canary" not in file.read_bytes()
    for file in path.parent.iterdir():
        assert b"canary" not in file.read_bytes()


class MemoryStore:
    """A store of another kind, as a user might write one: nothing of the outbox may depend on SQLite."""

    path = "(memory)"
    capacity = 10

    def __init__(self):
        self.entries: dict[int, Entry] = {}
        self.dead: dict[int, DeadLetter] = {}
        self.last_id = 0

    async def open(self, *, target):
        pass

    async def lease(self):
        return Leases({0: 0})

    async def release(self, buckets):
        pass

    async def try_writing(self):
        pass

    def bucket_of(self, update):
        return 0

    async def counts(self):
        return Counts(len(self.entries), len(self.dead), min((e.put_at for e in self.entries.values()), default=None))

    async def put(self, update, request_id, put_at, traceparent=None):
        if len(self.entries) >= self.capacity:
            raise OutboxFullError(path=self.path, capacity=self.capacity)
        self.last_id += 1
        self.entries[self.last_id] = Entry(self.last_id, update, request_id, put_at)
        return await self.counts()

    async def pending(self, after, *, last, limit):
        return EntryPage([entry for id_, entry in sorted(self.entries.items()) if id_ > after[0]])

    async def settle(self, delivered, dead):
        for ended in (*delivered, *(burial.entry for burial in dead)):
            del self.entries[ended.id]
        for burial in dead:
            entry = burial.entry
            facts = (entry.id, entry.update, entry.request_id, burial.state, burial.reason, burial.attempts)
            self.dead[entry.id] = DeadLetter(*facts, entry.put_at, burial.died_at)
        return Settled(await self.counts(), frozenset(burial.entry.id for burial in dead))

    async def dead_letters(self, *, after, limit):
        return [letter for id_, letter in sorted(self.dead.items()) if id_ > after][:limit]

    async def retry(self, ids, put_at):
        chosen = [self.dead.pop(id_) for id_ in list(self.dead) if ids is None or id_ in ids]
        for letter in chosen:
            await self.put(letter.update, letter.request_id, put_at)
        return len(chosen)

    async def purge(self, ids):
        chosen = [id_ for id_ in self.dead if ids is None or id_ in ids]
        for id_ in chosen:
            del self.dead[id_]
        return len(chosen)

    async def trim(self, *, most, age, now):
        return 0

    async def aclose(self):
        pass


async def test_any_store_will_do(sandbox, connect, until):
    async with Outbox(MemoryStore(), connect(sandbox)) as outbox:
        await outbox.put((*LINE, "delivered"))
        await outbox.put(("nope", "nope", "delivered"))
        await until(lambda: outbox.statistics().dead == 1)
        assert [letter.update.order_external_id for letter in await letters_of(outbox)] == ["nope"]
        assert outbox.statistics().capacity == 10
    assert sandbox.line_status(*LINE) == "delivered"


async def test_puts_at_once_share_commits(path, monkeypatch):
    store = SqliteStore(path, capacity=1000)
    async with Outbox(store) as outbox:
        groups = []
        committed = store._writer._committed
        store._writer._committed = lambda group: (groups.append(len(group)), committed(group))
        await asyncio.gather(*(outbox.put((*LINE, "new")) for _ in range(200)))
    assert sum(groups) == 200
    assert len(groups) < 20


async def test_ids_rise_over_processes_and_restarts(path):
    async with Outbox(path) as one, Outbox(path) as two:
        for outbox in (one, two, one, two):
            await outbox.put((*LINE, "new"))
        entries = (await one._store.pending({0: -1}, last=None, limit=10)).entries
    assert [entry.id for entry in entries] == [1, 2, 3, 4]
    assert all(attrs.has(type(entry)) for entry in entries)


async def test_a_client_that_was_closed_first_is_told_and_loses_nothing(sandbox, path, until):
    client = AltcraftClient(sandbox.base_url, sandbox.token)
    async with Outbox(path, client, drain_timeout=0.05) as outbox:
        await client.aclose()
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().problem is not None)
        assert "closed" in outbox.statistics().problem
    assert outbox.statistics().pending == 1


async def test_half_a_surrogate_in_an_error_text_keeps_nobody_from_the_outbox(start_raw_server, connect, path, until):
    body = b'{"error":400,"error_text":"no \\ud800 such line"}'
    answer = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    server = await start_raw_server(answer, keep_alive=True)
    async with Outbox(path, connect(server)) as outbox:
        await outbox.put((*LINE[:2], "delivered"))
        await until(lambda: outbox.statistics().dead == 1)
        (letter,) = [letter async for letter in outbox.dead_letters()]
        await outbox.put(("order_2", "line_2_1", "new"))
        await until(lambda: outbox.statistics().dead == 2)
    assert "such line" in letter.reason
    assert letter.reason.isprintable()
