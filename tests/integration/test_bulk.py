"""Many updates, gathered: outcomes, order per line, the end of a run."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from random import Random

import pytest

from altcraft_async import (
    Adaptive,
    AuthenticationError,
    BatchError,
    ConfigurationError,
    ConnectError,
    InvalidUpdateError,
    LineStatusUpdate,
    OrderLineStatus,
    OutagePolicy,
    RetryBudgetError,
    RetryPolicy,
    RunStoppedError,
    SourceError,
)
from altcraft_async.observe import AttemptStarted, UpdateSettled
from altcraft_async.sandbox import Fault, Faults

STATUSES = ("processing", "delivering", "delivered")


def updates_of(keys, statuses=STATUSES):
    return [(*key, status) for status in statuses for key in keys]


def keys_of(count):
    return [(f"order_{n}", f"line_{n}_1") for n in range(1, count + 1)]


async def trickle(rows):
    for row in rows:
        await asyncio.sleep(0)
        yield row


async def test_outcomes_come_in_input_order_one_for_each_update(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.003, jitter=1.0))
    updates = updates_of(keys_of(20))
    report = await connect(sandbox).market.orders.update_order_line_statuses(updates)
    assert [outcome.index for outcome in report.outcomes] == list(range(60))
    assert [outcome.update for outcome in report.outcomes] == [LineStatusUpdate(*update) for update in updates]
    assert {outcome.state for outcome in report.outcomes} == {"applied"}
    assert report.ok
    assert (report.sent, report.retries, report.throttled, report.complete) == (60, 0, 0, True)
    assert sandbox.ledger.check(updates).ok


async def test_each_outcome_has_a_request_id_of_its_own_that_the_server_saw(sandbox, connect):
    report = await connect(sandbox).market.orders.update_order_line_statuses(updates_of(keys_of(5)))
    ids = [outcome.request_id for outcome in report.outcomes]
    assert len(set(ids)) == 15
    seen = {change.request_id for key in keys_of(5) for change in sandbox.ledger.changes(*key)}
    assert seen == set(ids)


async def test_two_runs_never_share_request_ids(sandbox, connect):
    orders = connect(sandbox).market.orders
    runs = [await orders.update_order_line_statuses(updates_of(keys_of(3))) for _ in range(2)]
    first, second = ({outcome.request_id for outcome in run.outcomes} for run in runs)
    assert not first & second


@pytest.mark.parametrize("make", [list, tuple, iter, deque, lambda rows: (row for row in rows), trickle])
async def test_any_iterable_is_a_source(sandbox, connect, make):
    updates = updates_of(keys_of(4))
    report = await connect(sandbox).market.orders.update_order_line_statuses(make(updates))
    assert report.counts["applied"] == len(updates)
    assert sandbox.ledger.check(updates).ok


@pytest.mark.parametrize("make", [list, trickle])
async def test_an_empty_source_gives_an_empty_report_that_is_ok(sandbox, connect, make):
    report = await connect(sandbox).market.orders.update_order_line_statuses(make([]))
    assert (list(report.outcomes), report.ok, report.sent) == ([], True, 0)


async def test_updates_and_tuples_and_lists_can_be_mixed(sandbox, connect):
    rows = [
        LineStatusUpdate("order_1", "line_1_1", OrderLineStatus.DELIVERED),
        ("order_2", "line_2_1", OrderLineStatus.REFUNDED),
        ["order_3", "line_3_1", "new"],
    ]
    report = await connect(sandbox).market.orders.update_order_line_statuses(rows)
    assert [outcome.state for outcome in report.outcomes] == ["applied"] * 3
    assert sandbox.line_status("order_2", "line_2_1") == "refunded"


async def test_wrong_rows_become_invalid_outcomes_and_stop_nobody(sandbox, connect):
    given = InvalidUpdateError("the row has two columns", source="orders.csv", line=7)
    rows = [
        ("order_1", "line_1_1", "delivered"),
        given,
        ("order_2", "", "delivered"),
        ("order_2", "line_2_1"),
        "order_2",
        None,
        ("order_2", "line_2_1", 0.5),
        ("order_3", "line_3_1", "delivered"),
    ]
    report = await connect(sandbox).market.orders.update_order_line_statuses(rows)
    assert [outcome.state for outcome in report.outcomes] == ["applied", *["invalid"] * 6, "applied"]
    assert report.outcomes[1].error is given
    assert report.outcomes[2].error.field == "order_line_external_id"
    assert all(isinstance(outcome.error, InvalidUpdateError) for outcome in report.outcomes[1:7])
    assert {(outcome.update, outcome.attempts, outcome.request_id) for outcome in report.outcomes[1:7]} == {
        (None, 0, None)
    }
    assert not report.ok
    assert sandbox.ledger.requests == 2


async def test_a_rejected_line_does_not_stop_the_others_or_its_own_next_update(sandbox, connect):
    rows = [("order_1", "line_1_1", "no_such_status"), ("order_1", "line_1_1", "delivered"), *updates_of(keys_of(3))]
    report = await connect(sandbox).market.orders.update_order_line_statuses(rows)
    assert report.outcomes[0].state == "rejected"
    assert report.outcomes[0].error.code == 400
    assert report.counts["applied"] == len(rows) - 1
    with pytest.raises(BatchError, match=r"1 of 11 updates were not applied \(1 rejected\); the first, at index 0"):
        report.raise_for_failures()


async def test_updates_of_one_line_are_never_in_flight_together_and_keep_their_order(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002, jitter=1.0))
    updates = [("order_1", "line_1_1", STATUSES[n % 3]) for n in range(40)]
    await connect(sandbox, concurrency=20).market.orders.update_order_line_statuses(updates)
    assert sandbox.ledger.in_flight_overlaps == 0
    assert sandbox.ledger.peak_in_flight == 1
    assert [change.status for change in sandbox.ledger.changes("order_1", "line_1_1")] == [u[2] for u in updates]


async def test_a_lane_goes_on_after_a_retry_when_nothing_else_is_left_to_do(sandbox, connect):
    sandbox.faults = Faults(lines={("order_1", "line_1_1"): [Fault("error", status=500)]})
    updates = updates_of(keys_of(1))
    async with asyncio.timeout(30):
        report = await connect(sandbox).market.orders.update_order_line_statuses(updates)
    assert [outcome.attempts for outcome in report.outcomes] == [2, 1, 1]
    assert sandbox.ledger.check(updates).ok


async def test_a_line_keeps_its_order_while_it_backs_off(sandbox, connect):
    line = ("order_1", "line_1_1")
    sandbox.faults = Faults(lines={line: [Fault("error", status=503), Fault("reset_before"), None, Fault("truncated")]})
    updates = updates_of(keys_of(10))
    report = await connect(sandbox).market.orders.update_order_line_statuses(updates)
    assert sandbox.ledger.check(updates).ok
    assert sandbox.ledger.in_flight_overlaps == 0
    assert Counter(outcome.state for outcome in report.outcomes) == {"applied": 29, "duplicate": 1}


class LongestWait(Random):
    """Takes the chance out of the backoff: every wait is as long as the policy allows."""

    def random(self):
        return 0.999


async def test_a_line_that_backs_off_holds_no_permit(sandbox, connect):
    stuck, *others = keys_of(20)
    sandbox.faults = Faults(lines={stuck: [Fault("error", status=500)]})
    client = connect(sandbox, concurrency=1, retry=RetryPolicy(attempts=2, base=1.0))
    client._dispatcher.delivery.random = LongestWait()
    report = await client.market.orders.update_order_line_statuses(updates_of([stuck, *others]))
    assert report.ok
    first, *again = sandbox.ledger.arrivals(*stuck)
    assert first.number == 1
    last_of_others = max(arrival.number for key in others for arrival in sandbox.ledger.arrivals(*key))
    assert min(arrival.number for arrival in again) > last_of_others


async def test_many_lines_that_back_off_keep_no_worker_from_fresh_lines(sandbox, connect, until):
    stuck, well, fresh = keys_of(20)[:15], ("order_19", "line_19_1"), ("order_20", "line_20_1")
    sandbox.faults = Faults(lines={key: [Fault("error", status=500)] for key in stuck})
    client = connect(sandbox, concurrency=2, retry=RetryPolicy(attempts=2, base=1.0))
    client._dispatcher.delivery.random = LongestWait()

    async def source():
        for number, key in enumerate(stuck):  # one that is served after each, or it were an outage
            yield (*key, "delivered")
            yield (*well, STATUSES[number % 3])
            await until(lambda: sandbox.ledger.requests >= 2 * (number + 1))  # noqa: B023 - awaited at once
        yield (*fresh, "delivered")

    report = await client.market.orders.update_order_line_statuses(source())
    assert report.ok
    assert sandbox.ledger.arrivals(*fresh)[0].number == 2 * len(stuck) + 1


async def test_no_more_calls_are_in_flight_than_the_limit(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002))
    await connect(sandbox, concurrency=3).market.orders.update_order_line_statuses(updates_of(keys_of(20)))
    assert sandbox.ledger.peak_in_flight == 3


async def test_two_runs_of_one_client_share_its_limit(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002))
    orders = connect(sandbox, concurrency=3).market.orders
    first, second = keys_of(20)[:10], keys_of(20)[10:]
    await asyncio.gather(*(orders.update_order_line_statuses(updates_of(keys)) for keys in (first, second)))
    assert sandbox.ledger.peak_in_flight == 3


async def test_lane_order_never_overlaps_updates_of_one_order(start_sandbox, connect):
    sandbox = await start_sandbox(orders=1, lines=10, faults=Faults(latency=0.001))
    updates = [("order_1", f"line_1_{n}", status) for status in STATUSES for n in range(1, 11)]
    report = await connect(sandbox).market.orders.update_order_line_statuses(updates, lane="order")
    assert report.ok
    assert sandbox.ledger.peak_in_flight == 1
    sandbox.ledger.clear()
    await connect(sandbox).market.orders.update_order_line_statuses(updates)
    assert sandbox.ledger.peak_in_flight > 1


async def test_coalesce_latest_drops_waiting_updates_that_a_newer_one_replaces(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.005))
    updates = [("order_1", "line_1_1", status) for status in ("new", "processing", "delivering", "delivered")]
    report = await connect(sandbox).market.orders.update_order_line_statuses(updates, coalesce="latest")
    states = [outcome.state for outcome in report.outcomes]
    assert states[-1] == "applied"
    assert states.count("superseded") >= 2
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"
    assert report.ok
    superseded = next(outcome for outcome in report.outcomes if outcome.state == "superseded")
    assert (superseded.attempts, superseded.request_id, superseded.error) == (0, None, None)


async def test_all_updates_are_sent_unless_coalescing_was_asked_for(sandbox, connect):
    updates = [("order_1", "line_1_1", "delivered")] * 10
    report = await connect(sandbox).market.orders.update_order_line_statuses(updates)
    assert report.counts["applied"] == 10
    assert len(sandbox.ledger.changes("order_1", "line_1_1")) == 10


@pytest.mark.parametrize("keywords", [{"coalesce": "some"}, {"lane": "shop"}, {"window": 0}, {"deadline": -1.0}])
async def test_a_keyword_that_cannot_work_is_named(sandbox, connect, keywords):
    (name,) = keywords
    with pytest.raises(ConfigurationError, match=name) as caught:
        await connect(sandbox).market.orders.update_order_line_statuses([], **keywords)
    assert caught.value.field == name


@pytest.mark.parametrize("error_style", ["http200", "http4xx"])
async def test_a_wrong_token_costs_one_refused_call_and_the_rest_is_not_sent(start_sandbox, connect, error_style):
    sandbox = await start_sandbox(error_style=error_style)
    client = connect(sandbox, "wrong-token", concurrency=1)
    report = await client.market.orders.update_order_line_statuses(updates_of(keys_of(20)))
    assert sandbox.ledger.requests == 1
    assert report.outcomes[0].state == "rejected"
    assert isinstance(report.outcomes[0].error, AuthenticationError)
    assert report.counts["not_sent"] == 59
    assert all(isinstance(outcome.error, RunStoppedError) for outcome in report.outcomes[1:])
    assert "token" in str(report.outcomes[-1].error)
    assert report.complete


async def test_a_wrong_token_costs_at_most_as_many_calls_as_were_in_flight(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002))
    client = connect(sandbox, "wrong-token", concurrency=8)
    report = await client.market.orders.update_order_line_statuses(trickle(updates_of(keys_of(20)) * 5))
    assert 1 <= sandbox.ledger.requests <= 8
    assert report.counts["rejected"] == sandbox.ledger.requests
    assert report.counts["rejected"] + report.counts["not_sent"] == 300


async def test_a_role_without_the_market_stops_the_run(start_sandbox, connect):
    sandbox = await start_sandbox(market_right=False)
    report = await connect(sandbox, concurrency=1).market.orders.update_order_line_statuses(updates_of(keys_of(5)))
    assert (report.counts["rejected"], report.counts["not_sent"]) == (1, 14)


async def test_a_fatal_answer_spares_what_is_in_flight(sandbox, connect):
    slow, refused = ("order_1", "line_1_1"), ("order_2", "line_2_1")
    sandbox.faults = Faults(lines={slow: Fault("delay", delay=0.1), refused: Fault("error", status=403)})
    report = await connect(sandbox).market.orders.update_order_line_statuses(
        [(*slow, "delivered"), (*refused, "delivered"), (*slow, "refunded")]
    )
    assert [outcome.state for outcome in report.outcomes] == ["applied", "rejected", "not_sent"]
    assert sandbox.line_status(*slow) == "delivered"


async def test_a_fatal_answer_lets_a_retry_in_flight_end(sandbox, connect, watcher):
    slow, refused = ("order_1", "line_1_1"), ("order_2", "line_2_1")
    again = Fault("delay", delay=0.15)
    sandbox.faults = Faults(
        lines={slow: [Fault("error", status=500), again], refused: Fault("error", status=403, delay=0.06)}
    )
    report = await connect(sandbox, observers=[watcher]).market.orders.update_order_line_statuses(
        [(*slow, "delivered"), (*refused, "delivered")]
    )
    assert [outcome.state for outcome in report.outcomes] == ["applied", "rejected"]
    assert report.outcomes[0].attempts == 2


async def test_an_outcome_that_waited_out_its_backoff_when_the_run_stopped_says_so(sandbox, connect):
    stuck, refused = ("order_1", "line_1_1"), ("order_2", "line_2_1")
    sandbox.faults = Faults(lines={stuck: Fault("error", status=429), refused: Fault("error", status=403, delay=0.05)})
    client = connect(sandbox, retry=RetryPolicy(base=60.0, max_delay=60.0))
    async with asyncio.timeout(30):
        report = await client.market.orders.update_order_line_statuses([(*stuck, "new"), (*refused, "new")])
    assert [outcome.state for outcome in report.outcomes] == ["not_sent", "rejected"]
    assert report.outcomes[0].attempts == 1


async def test_a_server_that_is_down_gives_not_sent_after_bounded_retries(closed_port, connect, watcher):
    client = connect(
        closed_port,
        observers=[watcher],
        retry=RetryPolicy(attempts=3, base=0.01),
        outage=OutagePolicy(first_patience=0.3),
    )
    report = await client.market.orders.update_order_line_statuses(updates_of(keys_of(4)))
    assert report.counts["not_sent"] == 12
    assert all("no connection to the server" in str(outcome.error) for outcome in report.outcomes)
    assert not any(outcome.error.maybe_applied for outcome in report.outcomes)
    assert len(watcher.of(AttemptStarted)) == report.sent <= 36


async def test_failing_connections_are_an_outage_whose_probes_cost_no_budget(closed_port, connect):
    client = connect(
        closed_port, retry=RetryPolicy(attempts=10, base=0.001), retry_budget=5, outage=OutagePolicy(first_patience=0.8)
    )
    report = await client.market.orders.update_order_line_statuses(updates_of(keys_of(2)), deadline=2.0)
    assert report.sent <= 4 + 3  # those that showed the outage, and the probes of 0.8 seconds
    assert client.statistics().retry_budget >= 3  # only what failed before the outage was known is paid
    assert not any(isinstance(outcome.error, RetryBudgetError) for outcome in report.outcomes)
    assert report.counts["not_sent"] == 6


async def test_a_failed_connection_after_a_lost_answer_stays_unknown(start_sandbox, connect, until):
    sandbox = await start_sandbox(faults=Faults(script=[Fault("reset_after", delay=0.02)]))
    outage = OutagePolicy(patience=0.5, first_patience=0.5)
    client = connect(sandbox, retry=RetryPolicy(attempts=3, base=0.1), outage=outage)

    run = asyncio.ensure_future(client.market.orders.update_order_line_statuses([("order_1", "line_1_1", "new")]))
    await until(lambda: sandbox.ledger.requests)
    await sandbox.stop()
    outcome = (await run).outcomes[0]
    assert outcome.state == "unknown"
    assert isinstance(outcome.error, ConnectError)
    assert "may have been applied" in str(outcome.error)


async def test_a_source_that_raises_gives_a_source_error_with_the_report_of_what_was_taken(sandbox, connect):
    broken = ZeroDivisionError("by the caller")

    def source():
        yield from updates_of(keys_of(2))
        raise broken

    with pytest.raises(SourceError, match="after 6 rows") as caught:
        await connect(sandbox).market.orders.update_order_line_statuses(source())
    assert caught.value.__cause__ is broken
    assert caught.value.taken == 6
    assert caught.value.report.counts["applied"] == 6


async def test_an_async_source_that_raises_gives_a_source_error_too(sandbox, connect):
    async def source():
        yield ("order_1", "line_1_1", "delivered")
        raise OSError

    with pytest.raises(SourceError) as caught:
        await connect(sandbox).market.orders.update_order_line_statuses(source())
    assert [outcome.state for outcome in caught.value.report.outcomes] == ["applied"]


async def cancelled():
    elsewhere = asyncio.get_running_loop().create_future()
    elsewhere.cancel()
    await elsewhere


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("keywords", [{}, {"journal": "run.journal"}], ids=["plain", "journal"])
async def test_what_was_cancelled_elsewhere_is_an_error_of_the_source_that_awaits_it(
    sandbox, connect, tmp_path, kind, keywords
):
    def source():
        yield from updates_of(keys_of(2))
        raise asyncio.CancelledError

    async def asynchronous():
        for row in updates_of(keys_of(2)):
            yield row
        await cancelled()

    orders = connect(sandbox).market.orders
    make = {"sync": source, "async": asynchronous}[kind]
    keywords = {name: tmp_path / file for name, file in keywords.items()}
    with pytest.raises(SourceError, match=r"after 6 rows \(CancelledError\)") as caught:
        await orders.update_order_line_statuses(make(), **keywords)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert caught.value.report.counts["applied"] == 6
    with pytest.raises(SourceError):
        [_ async for _ in orders.stream_order_line_statuses(make())]


@pytest.mark.parametrize(
    "whole",
    [
        5,
        None,
        "order_1",
        b"order_1",
        ("order_1", "line_1_1", "delivered"),
        {"order_external_id": "order_1", "order_line_external_id": "line_1_1", "status_external_id": "delivered"},
        LineStatusUpdate("order_1", "line_1_1", "delivered"),
    ],
)
async def test_one_row_or_no_iterable_instead_of_rows_is_a_type_error_at_once(sandbox, connect, whole):
    orders = connect(sandbox).market.orders
    with pytest.raises(TypeError, match="updates must be an iterable of rows"):
        await orders.update_order_line_statuses(whole)
    with pytest.raises(TypeError, match="updates must be an iterable of rows"):
        orders.stream_order_line_statuses(whole)
    assert sandbox.ledger.requests == 0


async def test_observers_hear_of_every_outcome_once(sandbox, connect, watcher):
    client = connect(sandbox, observers=[watcher])
    report = await client.market.orders.update_order_line_statuses([*updates_of(keys_of(3)), None])
    settled = sorted((event.outcome for event in watcher.of(UpdateSettled)), key=lambda outcome: outcome.index)
    assert settled == list(report.outcomes)


async def test_single_calls_overtake_a_bulk_run(start_sandbox, connect, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.005))
    orders = connect(sandbox, concurrency=2).market.orders
    run = asyncio.ensure_future(orders.update_order_line_statuses(updates_of(keys_of(19), STATUSES * 3)))
    await until(lambda: sandbox.ledger.requests >= 4)
    before = sandbox.ledger.requests
    await orders.update_order_line_status("order_20", "line_20_1", "delivered")
    assert sandbox.ledger.requests - before <= 6
    assert not run.done()
    assert (await run).ok


async def test_the_rate_spreads_the_starts(sandbox, connect):
    loop = asyncio.get_running_loop()
    started = loop.time()
    report = await connect(sandbox, rate=200.0).market.orders.update_order_line_statuses(updates_of(keys_of(10)))
    assert report.ok
    assert loop.time() - started >= 29 / 200


async def test_the_adaptive_limit_carries_a_run(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002, slots=5, over_slots="reject"))
    client = connect(sandbox, concurrency=Adaptive(), retry=RetryPolicy(attempts=20, base=0.005))
    updates = updates_of(keys_of(20), STATUSES * 3)
    report = await client.market.orders.update_order_line_statuses(updates)
    assert report.ok
    assert sandbox.ledger.check(updates).ok
