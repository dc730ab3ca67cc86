"""The journal of an import: a batch is recorded whole, keeps its id over runs, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextlib import aclosing

import pytest
from test_imports import order, orders_of

from altcraft_async import InputChangedError, JournalError, OutcomeState, RetryPolicy, SourceError
from altcraft_async.journal import JournalReader
from altcraft_async.observe import JournalOpened
from altcraft_async.sandbox import Fault, Faults, Readings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.journal"


@pytest.fixture
def orders(sandbox, connect):
    return connect(sandbox).market.orders


def sent(sandbox):
    return [(arrival.request_id, len(arrival.rows)) for arrival in sandbox.ledger.import_arrivals]


async def cut_short(orders, rows, path, *, after, **options):
    """Take some outcomes of a run and close it, with what is under way cut off."""
    async with aclosing(orders.stream_import_orders(rows, journal=path, **options)) as outcomes:
        for _ in range(after):
            await anext(outcomes)


async def test_a_second_run_has_nothing_to_do_and_tells_the_same(sandbox, orders, path):
    rows = [*orders_of(25), {"external_id": "x"}]
    first = await orders.import_orders(rows, batch_size=10, journal=path)
    again = await orders.import_orders(rows, batch_size=10, journal=path)
    assert again.counts == first.counts
    assert again.sent == 0
    assert [outcome.row for outcome in again.outcomes] == rows
    assert len(sent(sandbox)) == 3


async def test_a_run_that_goes_on_makes_the_same_batches_under_the_same_ids(start_sandbox, connect, path):
    sandbox = await start_sandbox(orders=0, faults=Faults(latency=0.02))
    client = connect(sandbox, concurrency=2)
    rows = [order(number % 90, tags=[str(number)]) for number in range(200)]
    await cut_short(client.market.orders, rows, path, after=40, batch_size=7)
    before = sent(sandbox)
    report = await client.market.orders.import_orders(rows, batch_size=7, journal=path)
    assert report.ok
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert len(before) < len(dict(sent(sandbox)))
    assert len({request_id for request_id, _ in sent(sandbox)}) == len(sandbox_batches(rows, 7))


def sandbox_batches(rows, size):
    batches, keys, count = [], set(), 0
    for row in rows:
        if count == size or row["external_id"] in keys:
            batches.append(count)
            keys, count = set(), 0
        keys.add(row["external_id"])
        count += 1
    return [*batches, count]


async def test_what_was_in_doubt_is_asked_again_under_its_id_and_not_imported_twice(
    start_sandbox, connect, path, until
):
    sandbox = await start_sandbox(orders=0, faults=Faults(script=lambda number, _: Fault("delay", delay=0.4)))
    rows = orders_of(30)
    client = connect(sandbox, concurrency=3)
    task = asyncio.ensure_future(client.market.orders.import_orders(rows, batch_size=10, journal=path))
    await until(lambda: len(sent(sandbox)) >= 2)
    sandbox.faults = Faults()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    report = await client.market.orders.import_orders(rows, batch_size=10, journal=path)
    assert report.ok
    assert sandbox.ledger.check_imports("orders", rows).ok


async def test_a_batch_is_recorded_whole_or_not_at_all(start_sandbox, connect, path):
    sandbox = await start_sandbox(orders=0, faults=Faults(latency=0.01))
    rows = orders_of(100)
    await cut_short(connect(sandbox).market.orders, rows, path, after=1, batch_size=10)
    with JournalReader(path) as reader:
        recorded = {outcome.index for outcome in reader.outcomes()}
    assert recorded
    assert len(recorded) % 10 == 0
    assert all({first + n for n in range(10)} <= recorded for first in (index - index % 10 for index in recorded))


async def test_another_cut_is_refused_since_ids_hang_on_it(orders, path):
    rows = orders_of(9)
    await orders.import_orders(rows, batch_size=4, journal=path)
    for changed in (
        {"batch_size": 5},
        {"batch_size": 4, "batch_bytes": 900_000},
        {"batch_size": 4, "skip_triggers": True},
    ):
        with pytest.raises(JournalError, match=next(reversed(changed))):
            await orders.import_orders(rows, journal=path, **changed)


async def test_the_journal_of_another_method_is_refused(sandbox, connect, path):
    market = connect(sandbox).market
    await market.orders.import_orders(orders_of(3), journal=path)
    with pytest.raises(JournalError, match="market/orders/import"):
        await market.products.import_products([{"external_id": "p", "name": "P"}], journal=path)
    with pytest.raises(JournalError, match="update_order_line_status"):
        await market.orders.update_order_line_statuses([("o", "l", "new")], journal=path)


async def test_a_changed_row_is_refused(orders, path):
    rows = orders_of(6)
    await orders.import_orders(rows, batch_size=2, journal=path)
    rows[3] = order(4, status="paid")
    with pytest.raises(InputChangedError) as raised:
        await orders.import_orders(rows, batch_size=2, journal=path)
    assert raised.value.index == 3


async def test_rows_that_were_appended_make_batches_of_their_own(sandbox, orders, path):
    rows = orders_of(12)
    await orders.import_orders(rows[:7], batch_size=5, journal=path)
    report = await orders.import_orders(rows, batch_size=5, journal=path, extend=True)
    assert report.ok
    again = await orders.import_orders(rows, batch_size=5, journal=path)
    assert again.sent == 0
    assert [count for _, count in sent(sandbox)] == [5, 2, 5]


async def test_what_was_refused_is_sent_again_under_another_id(start_sandbox, connect, path):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]))
    orders = connect(sandbox).market.orders
    rows = [*orders_of(4), *(order(number, currency="XXX") for number in range(5, 9))]
    first = await orders.import_orders(rows, batch_size=4, journal=path)
    assert first.counts[OutcomeState.REJECTED] == 4
    again = await orders.import_orders(rows, batch_size=4, journal=path, retry_failed=True)
    assert again.counts[OutcomeState.REJECTED] == 4
    ids = [request_id for request_id, _ in sent(sandbox)]
    assert len(set(ids)) == 3


async def test_rows_that_failed_one_by_one_are_sent_again_alone(start_sandbox, connect, path):
    readings = Readings(row_results="result", partial_imports=True, currencies=["RUB"])
    sandbox = await start_sandbox(orders=0, readings=readings)
    orders = connect(sandbox).market.orders
    rows = orders_of(16)
    rows[5] = order(6, currency="XXX")
    await orders.import_orders(rows, batch_size=16, journal=path)
    again = await orders.import_orders(rows, batch_size=16, journal=path, retry_failed=True)
    assert [outcome.index for outcome in again.failures] == [5]
    assert [count for _, count in sent(sandbox)] == [16, 1]


async def test_a_source_that_fails_sends_no_half_of_a_batch(sandbox, orders, path):
    rows = orders_of(10)

    def broken():
        yield from rows[:7]
        raise OSError

    with pytest.raises(SourceError) as raised:
        await orders.import_orders(broken(), batch_size=5, journal=path)
    assert raised.value.report.counts[OutcomeState.NOT_SENT] == 2
    assert (await orders.import_orders(rows, batch_size=5, journal=path)).ok
    assert [count for _, count in sent(sandbox)] == [5, 5]


async def test_failures_are_told_again_by_a_stream_and_successes_are_not(start_sandbox, connect, path):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]))
    orders = connect(sandbox).market.orders
    rows = [*orders_of(4), *(order(number, currency="XXX") for number in range(5, 9))]
    await orders.import_orders(rows, batch_size=4, journal=path)
    told = [outcome async for outcome in orders.stream_import_orders(rows, batch_size=4, journal=path)]
    assert [outcome.index for outcome in told] == [4, 5, 6, 7]
    assert [outcome.row for outcome in told] == rows[4:]
    assert told[0].external_id == "order_5"
    assert told[0].error.code == 400


async def test_a_split_that_was_cut_short_goes_on_with_its_halves(start_sandbox, connect, path, until, watcher):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]), faults=Faults(latency=0.02))
    rows = orders_of(32)
    for wrong in (3, 21):
        rows[wrong] = order(wrong + 1, currency="XXX")
    chance = random.Random(4)
    options = {"batch_size": 16, "on_refused": "split", "journal": path}
    for number in range(6):
        client = connect(sandbox, concurrency=4, observers=[watcher])
        task = asyncio.ensure_future(client.market.orders.import_orders(rows, **options))
        await until(lambda number=number: len(watcher.of(JournalOpened)) > number)
        await asyncio.sleep(chance.uniform(0.02, 0.15))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    report = await connect(sandbox).market.orders.import_orders(rows, **options)
    assert [outcome.index for outcome in report.failures] == [3, 21]
    assert sandbox.ledger.check_imports("orders", [row for row in rows if row["currency"] == "RUB"]).ok


async def test_the_journal_reads_an_import_back(start_sandbox, connect, path):
    sandbox = await start_sandbox(orders=0, readings=Readings(currencies=["RUB"]))
    await connect(sandbox).market.orders.import_orders([order(1, currency="XXX"), {"external_id": "x"}], journal=path)
    with JournalReader(path) as reader:
        assert reader.summary().method == "market/orders/import"
        refused, invalid = reader.outcomes()
    assert (refused.external_id, refused.update, str(refused.state)) == ("order_1", None, "rejected")
    assert (invalid.external_id, str(invalid.state)) == (None, "invalid")


def with_ids(sandbox):
    """Each batch's rows by its id; a batch that came twice counts once."""
    found = {arrival.request_id: [name for _, name in arrival.rows] for arrival in sandbox.ledger.import_arrivals}
    return sorted(found.values())


INVALID = {"external_id": "order_3"}


async def test_a_corrected_row_does_not_change_the_batches_that_are_in_doubt(start_sandbox, connect, path, until):
    sandbox = await start_sandbox(orders=0, faults=Faults(script=lambda *_: Fault("delay", delay=0.4)))
    rows = orders_of(20)
    task = asyncio.ensure_future(
        connect(sandbox, concurrency=2).market.orders.import_orders(
            [*rows[:2], INVALID, *rows[3:]], batch_size=5, journal=path
        )
    )
    await until(lambda: len(sent(sandbox)) >= 2)
    sandbox.faults = Faults()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    client = connect(sandbox)
    for _ in range(3):  # it waits for the run to be finished, is sent, and has nothing to do
        report = await client.market.orders.import_orders(rows, batch_size=5, journal=path)
    assert report.ok
    assert report.sent == 0
    others = [row["external_id"] for row in rows if row["external_id"] != "order_3"]
    assert with_ids(sandbox) == sorted([["order_3"], *(others[first : first + 5] for first in range(0, 19, 5))])
    assert sandbox.ledger.check_imports("orders", [*rows[:2], *rows[3:], rows[2]]).ok


async def test_what_is_unknown_keeps_its_batch_while_a_row_before_it_is_corrected(start_sandbox, connect, path):
    """A batch is left unknown, a row of it was invalid; the row is corrected, and both are sent, and again."""
    sandbox = await start_sandbox(orders=0, faults=Faults(script=lambda *_: Fault("reset_after")))
    rows = orders_of(4)
    client = connect(sandbox, retry=RetryPolicy(attempts=1), concurrency=1)
    first = await client.market.orders.import_orders([*rows[:2], INVALID, *rows[3:]], batch_size=4, journal=path)
    assert first.counts[OutcomeState.UNKNOWN] == 3
    for _ in range(2):
        again = await client.market.orders.import_orders(rows, batch_size=4, journal=path, retry_failed=True)
        assert again.counts[OutcomeState.UNKNOWN] == 4
    sandbox.faults = Faults()
    last = await connect(sandbox).market.orders.import_orders(rows, batch_size=4, journal=path, retry_failed=True)
    assert last.ok
    assert with_ids(sandbox) == [["order_1", "order_2", "order_4"], ["order_3"]]
    assert sandbox.ledger.check_imports("orders", [*rows[:2], rows[3], rows[2]]).ok


async def test_a_corrected_row_keeps_its_place_among_those_of_its_order(sandbox, orders, path):
    rows = [order(1, tags=["0"]), order(2), order(1, tags=["2"]), order(3), order(1, tags=["4"])]
    sandbox.faults = Faults(script=lambda *_: Fault("error", status=400))
    wrong = [*rows[:2], {"external_id": "order_1"}, *rows[3:]]
    first = await orders.import_orders(wrong, batch_size=5, journal=path)
    assert first.counts[OutcomeState.REJECTED] == 4
    sandbox.faults = Faults()
    assert (await orders.import_orders(rows, batch_size=5, journal=path, retry_failed=True)).ok
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert [count for _, count in sent(sandbox)][-3:] == [3, 1, 1]
