"""What an owner does with an outbox: hear of dead letters, pause it, keep its log and its file small, forget."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3

import pytest

from altcraft_async import (
    ConfigurationError,
    InvalidUpdateError,
    LineStatusUpdate,
    OutboxError,
    OutboxFullError,
    OutcomeState,
    RetryPolicy,
)
from altcraft_async.integrations.health import metrics_of
from altcraft_async.integrations.web import readiness_of
from altcraft_async.observe import OutboxChanged, UpdateSettled
from altcraft_async.outbox import Burial, Outbox, SqliteStore
from altcraft_async.outbox.failures import FailureLog, Topic
from altcraft_async.outbox.hook import DeadLetterHook
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1")
NOPE = ("nope", "nope", "delivered")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


async def letters_of(outbox):
    return [letter async for letter in outbox.dead_letters()]


def execute(path, statement):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- the hook


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_the_hook_is_called_once_for_each_dead_letter_and_for_nothing_else(sandbox, connect, path, kind):
    heard = []

    async def on_dead(letter):
        await asyncio.sleep(0)
        heard.append(letter)

    async with Outbox(path, connect(sandbox), on_dead=heard.append if kind == "plain" else on_dead) as outbox:
        await outbox.put((*LINE, "delivered"))
        await outbox.put(NOPE)
        await outbox.put((*LINE, "no-such-status"))
    async with Outbox(path) as outbox:
        assert heard == await letters_of(outbox)
    assert [letter.update.status_external_id for letter in heard] == ["delivered", "no-such-status"]


async def test_a_letter_is_on_disk_when_the_hook_is_called(sandbox, connect, path, until):
    found = []
    async with Outbox(
        path,
        connect(sandbox),
        on_dead=lambda letter: found.append(execute(path, f"SELECT * FROM dead WHERE id = {letter.id}")),
    ) as outbox:
        await outbox.put(NOPE)
        await until(lambda: found)
    assert len(found[0]) == 1


async def test_a_hook_that_fails_is_logged_and_hurts_nothing(sandbox, connect, path, caplog):
    def on_dead(letter):
        raise LookupError(letter.request_id)

    async with Outbox(path, connect(sandbox), on_dead=on_dead) as outbox:
        for _ in range(3):
            await outbox.put(NOPE)
        await outbox.put((*LINE, "delivered"))
    assert sandbox.line_status(*LINE) == "delivered"
    assert outbox.statistics().dead == 3
    assert warnings_of(caplog) == ["on_dead failed on dead letter 1"]
    assert caplog.records[-1].exc_info[0] is LookupError


async def test_no_delivery_waits_for_a_slow_hook(sandbox, connect, path, until):
    free = asyncio.Event()

    async def on_dead(letter):
        await free.wait()

    async with Outbox(path, connect(sandbox), on_dead=on_dead) as outbox:
        await outbox.put(NOPE)
        await outbox.put((*LINE, "delivered"))
        await until(lambda: outbox.statistics().delivered == 1 and outbox.statistics().dead == 1)
        free.set()


async def test_a_hook_that_never_ends_is_cancelled_at_the_end(  # noqa: PLR0917 - fixtures
    sandbox, connect, path, until, caplog, monkeypatch
):
    monkeypatch.setattr("altcraft_async.outbox.hook._PATIENCE", 0.01)

    async def on_dead(letter):
        await asyncio.Event().wait()

    async with Outbox(path, connect(sandbox), on_dead=on_dead) as outbox:
        await outbox.put(NOPE)
        await outbox.put(NOPE)
        await until(lambda: outbox.statistics().dead == 2)
    assert "cancelled at the end of its outbox; it was not called for 1 letters" in warnings_of(caplog)[0]


async def test_letters_that_wait_for_a_slow_hook_are_bounded(caplog, monkeypatch):
    monkeypatch.setattr("altcraft_async.outbox.hook._MOST", 2)
    heard = []
    hook = DeadLetterHook(heard.append, FailureLog())
    hook.tell(["a", "b", "c"])
    await hook.aclose()
    assert heard == ["a", "b"]
    assert "on_dead is too slow" in warnings_of(caplog)[0]


# -- the pause


async def test_a_paused_outbox_accepts_and_delivers_nothing_until_it_is_resumed(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox)) as outbox:
        await until(lambda: outbox.statistics().draining)
        await outbox.pause()
        await outbox.pause()
        async with asyncio.timeout(2):
            await outbox.put((*LINE, "delivered"))
        assert outbox.statistics().paused
        await asyncio.sleep(0.6)  # two looks of the feed
        assert (sandbox.ledger.requests, outbox.statistics().pending) == (0, 1)
        outbox.resume()
        assert not outbox.statistics().paused
        await until(lambda: sandbox.line_status(*LINE) == "delivered")


async def test_a_pause_waits_for_what_is_in_flight_and_sends_no_more(start_sandbox, connect, path, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.1))
    updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 21)]
    async with Outbox(path, connect(sandbox, concurrency=2)) as outbox:
        for update in updates:
            await outbox.put(update)
        await until(lambda: sandbox.ledger.requests)
        await outbox.pause()
        sent, delivered = sandbox.ledger.requests, outbox.statistics().delivered
        assert sent == delivered == 20 - outbox.statistics().pending
        assert delivered < 20
        assert outbox.statistics().problem is None
        await asyncio.sleep(0.3)
        assert sandbox.ledger.requests == sent
        sandbox.faults = Faults()
        outbox.resume()
        await until(lambda: not outbox.statistics().pending)
    assert sandbox.ledger.check(updates).ok


async def test_a_retry_waits_for_the_end_of_the_pause_under_its_old_id(start_sandbox, connect, path, until):
    sandbox = await start_sandbox(faults=Faults(lines={LINE: Fault("error", status=429, retry_after=30.0)}))
    client = connect(sandbox, retry=RetryPolicy(attempts=None, base=0.001, max_delay=0.01))
    async with Outbox(path, client) as outbox:
        request_id = await outbox.put((*LINE, "delivered"))
        await until(lambda: sandbox.ledger.requests)
        async with asyncio.timeout(5):
            await outbox.pause()
        assert outbox.statistics().pending == 1
    sandbox.faults = Faults()
    async with Outbox(path, connect(sandbox)):
        pass
    assert {arrival.request_id for arrival in sandbox.ledger.arrivals(*LINE)} == {request_id}
    assert sandbox.line_status(*LINE) == "delivered"


async def test_a_pause_is_seen_by_health_checks_and_survives_no_restart(sandbox, connect, path):
    client = connect(sandbox)
    async with Outbox(path, client, drain_timeout=60.0) as outbox:
        await outbox.pause()
        await outbox.put((*LINE, "delivered"))
        health = readiness_of(client, outbox)
        assert (health.status, health.notes) == ("warn", ("the outbox is paused",))
        assert health.body["outbox"]["paused"] is True
        assert "altcraft_outbox_paused 1\n" in metrics_of(client, outbox)
        async with asyncio.timeout(10):  # nothing is delivered at the end either: it does not wait for that
            await outbox.aclose()
    assert sandbox.ledger.requests == 0
    async with Outbox(path, connect(sandbox)) as outbox:
        assert not outbox.statistics().paused
    assert sandbox.line_status(*LINE) == "delivered"


async def test_an_outbox_without_a_client_cannot_be_paused(path):
    async with Outbox(path) as outbox:
        with pytest.raises(ConfigurationError, match="delivers nothing; pause it where it has one"):
            await outbox.pause()
        with pytest.raises(ConfigurationError):
            outbox.resume()


# -- the log


def test_what_fails_each_second_is_logged_at_once_and_then_each_minute_with_a_count(caplog):
    now = [0.0]
    log = FailureLog(clock=lambda: now[0])
    for second in range(121):
        now[0] = float(second)
        log.record(Topic.STORE, "the disk is full")
        if second == 30:
            log.record(Topic.HOOK, "on_dead failed")
    again = "the disk is full (59 times more since the last record of this)"
    assert warnings_of(caplog) == ["the disk is full", "on_dead failed", again, again]


async def test_a_store_that_fails_is_logged_once_not_at_each_look(sandbox, connect, path, until, caplog):
    async with Outbox(path, connect(sandbox), drain_timeout=0.05) as outbox:
        await until(lambda: outbox.statistics().draining)
        execute(path, "CREATE TRIGGER refuse BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'out of luck'); END")
        await outbox.put((*LINE, "delivered"))
        await asyncio.sleep(1.7)  # three tries
    (said,) = [text for text in warnings_of(caplog) if "out of luck" in text]
    assert str(path) in said


async def test_a_delivery_that_is_begun_again_and_again_is_logged_once(  # noqa: PLR0917 - fixtures
    sandbox, connect, path, until, caplog, monkeypatch
):
    monkeypatch.setattr("altcraft_async.outbox.drain._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("altcraft_async.outbox.drain._LONGEST_PAUSE", 0.01)
    async with Outbox(path, connect(sandbox, token="wrong-token"), drain_timeout=0.05) as outbox:
        await outbox.put((*LINE, "processing"))
        await until(lambda: sandbox.traffic.last > 5)
    (said,) = warnings_of(caplog)
    assert "delivers again in 0 s" in said


# -- the clock


async def test_an_update_gets_an_attempt_however_old_the_clock_makes_it(sandbox, connect, path):
    now = [1000.0]
    async with Outbox(path, clock=lambda: now[0]) as outbox:
        await outbox.put((*LINE, "delivered"))
    now[0] += 30 * 86_400.0
    async with Outbox(path, connect(sandbox), clock=lambda: now[0]) as outbox:
        pass
    assert (outbox.statistics().delivered, outbox.statistics().dead) == (1, 0)


async def test_a_clock_that_jumps_in_an_outage_buries_nothing_that_was_never_sent(sandbox, connect, path, until):
    now = [1000.0]
    client = connect(sandbox)
    await sandbox.stop()
    async with Outbox(path, client, clock=lambda: now[0]) as outbox:
        await outbox.put((*LINE, "processing"))
        await until(lambda: client.statistics().retries)
        now[0] += 30 * 86_400.0
        await outbox.put((*LINE, "delivered"))
        await asyncio.sleep(0.3)
        await sandbox.start()
        await until(lambda: not outbox.statistics().pending)
    assert outbox.statistics().dead == 0


async def test_what_an_earlier_process_may_have_sent_is_in_doubt_also_where_the_clock_was_set_back(
    start_raw_server, connect, path, until
):
    now = [10_000.0]
    async with Outbox(path, clock=lambda: now[0]) as outbox:
        await outbox.put((*LINE, "delivered"))
    now[0] -= 3600.0
    server = await start_raw_server(None)
    at_work = server.answer(b'{"error": 409, "error_text": "in progress"}', status=409)
    server.answers = [at_work, server.answer(b'{"error": 0, "error_text": ""}')]
    async with Outbox(path, connect(server), clock=lambda: now[0]) as outbox:
        await until(lambda: not outbox.statistics().pending)
    assert (outbox.statistics().delivered, outbox.statistics().dead) == (1, 0)


async def test_what_is_buried_for_its_age_is_said_in_the_log_with_how_old_it_was(
    start_sandbox, connect, path, until, caplog
):
    sandbox = await start_sandbox(faults=Faults(lines={LINE: Fault("reset_after")}), dedup_request_id=False)
    now = [1000.0]
    async with Outbox(path, clock=lambda: now[0]) as outbox:
        await outbox.put((*LINE, "delivered"))
    now[0] += 100_000.0
    async with Outbox(path, connect(sandbox), clock=lambda: now[0]) as outbox:
        await until(lambda: outbox.statistics().dead == 1)
        (letter,) = await letters_of(outbox)
    assert (letter.state, letter.attempts) == ("unknown", 1)
    assert "gives dead letter 1 up after 1 attempts since the last start: it was put 100,000 s ago" in caplog.text


# -- request ids


async def test_a_put_is_idempotent_by_its_request_id_while_that_waits(path):
    async with Outbox(path) as outbox:
        first = [outbox.put((*LINE, "new"), request_id="message-17") for _ in range(3)]
        assert await asyncio.gather(*first) == ["message-17"] * 3
        with pytest.raises(InvalidUpdateError, match="'message-17' is that of another change"):
            await outbox.put((*LINE, "delivered"), request_id="message-17")
        await outbox.put(LineStatusUpdate(*LINE, "delivered", request_id="message-18"))
        assert outbox.statistics().pending == 2
    rows = execute(path, "SELECT request_id, status_external_id FROM entry ORDER BY id")
    assert rows == [("message-17", "new"), ("message-18", "delivered")]


async def test_a_put_under_an_id_that_waits_needs_no_room(path):
    async with Outbox(path, capacity=1) as outbox:
        await outbox.put((*LINE, "new"), request_id="message-17")
        await outbox.put((*LINE, "new"), request_id="message-17")
        with pytest.raises(OutboxFullError):
            await outbox.put((*LINE, "new"), request_id="message-18")


async def test_after_its_delivery_an_id_is_accepted_again_and_the_platform_knows_it(sandbox, connect, path, until):
    async with Outbox(path, connect(sandbox)) as outbox:
        for _ in range(2):
            await outbox.put((*LINE, "delivered"), request_id="message-17")
            await until(lambda: not outbox.statistics().pending)
        assert outbox.statistics().delivered == 2
    assert sandbox.ledger.check([(*LINE, "delivered")]).ok


async def test_a_letter_that_is_retried_while_its_id_waits_is_accepted_by_that(path):
    store = SqliteStore(path, capacity=10)
    await store.open(target=None)
    try:
        await store.put(LineStatusUpdate(*LINE, "new"), "message-17", 1.0)
        (entry,) = (await store.pending({0: -1}, last=None, limit=9)).entries
        await store.settle([], [Burial(entry, 0, OutcomeState.UNKNOWN, "", 1, died_at=2.0)])
        await store.put(LineStatusUpdate(*LINE, "new"), "message-17", 3.0)
        assert await store.retry([entry.id], 4.0) == 1
        counts = await store.counts()
    finally:
        await store.aclose()
    assert (counts.pending, counts.dead) == (1, 0)


# -- dead letters that stay too long


async def bury(path, count, *, died_at=2.0):
    """Leave dead letters in a file, as a service would that had its updates refused."""
    store = SqliteStore(path, capacity=1000)
    await store.open(target=None)
    try:
        for number in range(count):
            await store.put(LineStatusUpdate(f"order_{number}", "line", "new"), f"id-{died_at}-{number}", 1.0)
        entries = (await store.pending({0: -1}, last=None, limit=1000)).entries
        await store.settle([], [Burial(entry, 0, OutcomeState.REJECTED, "no", 1, died_at) for entry in entries])
    finally:
        await store.aclose()


async def test_dead_letters_above_their_capacity_are_dropped_the_oldest_first(sandbox, connect, path, until, caplog):
    await bury(path, 7)
    client = connect(sandbox)
    async with Outbox(path, client, dead_capacity=3, dead_age=None) as outbox:
        await until(lambda: outbox.statistics().dropped)
        assert [letter.update.order_external_id for letter in await letters_of(outbox)] == [
            "order_4",
            "order_5",
            "order_6",
        ]
        assert (outbox.statistics().dead, outbox.statistics().dropped) == (3, 4)
        assert "altcraft_outbox_dropped_total 4\n" in metrics_of(client, outbox)
    (said,) = warnings_of(caplog)
    assert "dropped 4 dead letters" in said


async def test_dead_letters_above_their_age_are_dropped(sandbox, connect, path, until):
    await bury(path, 2, died_at=1000.0)
    await bury(path, 3, died_at=5000.0)
    async with Outbox(path, connect(sandbox), dead_age=3600.0, clock=lambda: 6000.0) as outbox:
        await until(lambda: outbox.statistics().dropped)
        assert [letter.died_at for letter in await letters_of(outbox)] == [5000.0] * 3


async def test_who_only_looks_drops_nothing(path):
    await bury(path, 7)
    async with Outbox(path, dead_capacity=3) as outbox:
        await asyncio.sleep(0.05)
        assert outbox.statistics().dead == 7


@pytest.mark.parametrize("setting", [{"dead_capacity": 0}, {"dead_age": 0}])
def test_settings_that_cannot_work_are_refused(path, setting):
    with pytest.raises(ConfigurationError, match="number above zero"):
        Outbox(path, **setting)


# -- forgetting


async def test_what_concerns_an_order_is_deleted_and_nothing_of_it_is_left_in_the_file(
    sandbox, connect, path, tmp_path
):
    async with Outbox(path, connect(sandbox)) as outbox:
        await outbox.put(("secret-order", "secret-line", "no-such-status"))
    async with Outbox(path) as outbox:
        await outbox.put(("secret-order", "secret-line", "delivered"))
        await outbox.put(("secret-order", "another-secret", "delivered"))
        await outbox.put((*LINE, "delivered"))
        forgotten = await outbox.forget("secret-order")
        assert (forgotten.waiting, forgotten.dead) == (2, 1)
        assert (outbox.statistics().pending, outbox.statistics().dead) == (1, 0)
        assert (await outbox.forget("secret-order")).waiting == 0
    for file in tmp_path.iterdir():
        assert b"secret" not in file.read_bytes(), file
    async with Outbox(path, connect(sandbox)):
        pass
    assert sandbox.line_status(*LINE) == "delivered"


async def test_an_update_that_is_forgotten_while_it_is_under_way_is_neither_counted_nor_buried(
    start_sandbox, connect, path, until, watcher
):
    sandbox = await start_sandbox(faults=Faults(latency=0.5))
    heard = []
    client = connect(sandbox, observers=[watcher])
    async with Outbox(path, client, on_dead=heard.append) as outbox:
        await outbox.put(("nope", "nope", "delivered"))
        await outbox.put((*LINE, "delivered"))
        await until(lambda: client.statistics().in_flight == 2)
        await outbox.forget("nope")
        await outbox.forget(LINE[0])
        await until(lambda: len(watcher.of(UpdateSettled)) == 2)
        assert (outbox.statistics().pending, outbox.statistics().dead) == (0, 0)
    assert heard == []
    assert execute(path, "SELECT pending, dead FROM state") == [(0, 0)]


# -- observers


async def test_observers_hear_at_once_what_was_there_before(sandbox, connect, path, watcher):
    await bury(path, 2)
    async with Outbox(path) as outbox:
        await outbox.put(NOPE)
    client = connect(sandbox, token="wrong-token", observers=[watcher])
    async with Outbox(path, client, drain_timeout=0.01):
        assert watcher.of(OutboxChanged) == [OutboxChanged(1, 2)]


async def test_an_outbox_that_is_not_open_cannot_be_paused(path):
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match="not open yet"):
        await outbox.pause()
