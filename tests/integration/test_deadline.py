"""The total deadline of a bulk run: kept closely, and nothing hidden by it."""

from __future__ import annotations

import asyncio

import pytest

from altcraft_async import DeadlineError, RetryPolicy
from altcraft_async.observe import AttemptStarted
from altcraft_async.sandbox import Fault, Faults

SLACK = 4.0
"""Seconds by which a run may overrun on a busy machine; on a quiet one it is a few milliseconds."""


def updates_of(count, statuses=("delivered",)):
    return [(f"order_{n}", f"line_{n}_1", status) for status in statuses for n in range(1, count + 1)]


async def timed(awaitable):
    loop = asyncio.get_running_loop()
    started = loop.time()
    result = await awaitable
    return result, loop.time() - started


async def test_a_run_ends_at_its_deadline_with_every_update_accounted_for(sandbox, connect):
    sandbox.faults = Faults(latency=5.0)
    run = connect(sandbox, concurrency=4).market.orders.update_order_line_statuses(updates_of(20), deadline=0.2)
    report, took = await timed(run)
    assert 0.19 <= took < 0.2 + SLACK
    assert len(report.outcomes) == 20
    assert (report.counts["unknown"], report.counts["not_sent"]) == (4, 16)
    assert all(outcome.error.maybe_applied == (outcome.state == "unknown") for outcome in report.outcomes)


async def test_of_three_runs_one_at_least_keeps_its_deadline_to_a_few_hundredths(sandbox, connect):
    sandbox.faults = Faults(latency=5.0)
    orders = connect(sandbox, concurrency=4).market.orders
    over = []
    for _ in range(3):
        _, took = await timed(orders.update_order_line_statuses(updates_of(20), deadline=0.1))
        over.append(took - 0.1)
    assert min(over) < 0.05


async def test_what_had_not_its_turn_is_not_sent_for_the_deadlines_sake(sandbox, connect):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, concurrency=1)
    report = await client.market.orders.update_order_line_statuses(updates_of(3), deadline=0.05)
    waiting = report.outcomes[1]
    assert (waiting.state, waiting.attempts, waiting.request_id) == ("not_sent", 0, None)
    assert isinstance(waiting.error, DeadlineError)
    assert "order line order_2/line_2_1" in str(waiting.error)


async def test_what_was_applied_before_the_deadline_stays_applied(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    rows = updates_of(20, ("processing", "delivered") * 25)
    report, took = await timed(
        connect(sandbox, concurrency=4).market.orders.update_order_line_statuses(rows, deadline=1.0)
    )
    assert took < 1.0 + SLACK
    assert report.counts["applied"] >= 8
    assert report.counts["not_sent"] > 0
    assert len(report.outcomes) == len(rows)
    sent = [row for row, outcome in zip(rows, report.outcomes, strict=True) if outcome.state != "not_sent"]
    assert not sandbox.ledger.check(sent).duplicated
    assert not sandbox.ledger.check(sent).reordered


async def test_a_run_that_ends_in_time_takes_no_notice(sandbox, connect):
    report, took = await timed(connect(sandbox).market.orders.update_order_line_statuses(updates_of(20), deadline=30.0))
    assert report.ok
    assert took < 5.0


async def test_a_synchronous_source_is_read_to_its_end_so_that_nothing_is_hidden(sandbox, connect):
    sandbox.faults = Faults(latency=5.0)
    rows = iter(updates_of(20, ["delivered"] * 250))
    report, took = await timed(connect(sandbox).market.orders.update_order_line_statuses(rows, deadline=0.1, window=10))
    assert took < 0.1 + SLACK
    assert len(report.outcomes) == 5000
    assert report.complete
    assert next(rows, None) is None


async def test_an_asynchronous_source_is_read_no_further_and_the_report_says_so(sandbox, connect):
    async def endless():
        n = 0
        while True:
            n = n % 20 + 1
            yield (f"order_{n}", f"line_{n}_1", "delivered")
            await asyncio.sleep(0.001)

    report, took = await timed(connect(sandbox).market.orders.update_order_line_statuses(endless(), deadline=0.5))
    assert took < 0.5 + SLACK
    assert not report.complete
    assert not report.ok
    assert report.counts["applied"] > 0


async def test_an_asynchronous_source_that_had_ended_leaves_the_report_complete(sandbox, connect):
    async def rows():
        yield ("order_1", "line_1_1", "delivered")

    sandbox.faults = Faults(latency=5.0)
    report = await connect(sandbox).market.orders.update_order_line_statuses(rows(), deadline=0.05)
    assert report.complete


async def test_a_stream_ends_at_the_deadline_too(sandbox, connect):
    sandbox.faults = Faults(latency=5.0)
    stream = connect(sandbox, concurrency=2).market.orders.stream_order_line_statuses(updates_of(6), deadline=0.1)

    async def read():
        return [outcome.state async for outcome in stream]

    states, took = await timed(read())
    assert took < 0.1 + SLACK
    assert sorted(states) == ["not_sent"] * 4 + ["unknown"] * 2


async def test_a_backoff_that_would_end_after_the_deadline_is_not_begun(sandbox, connect):
    sandbox.faults = Faults(script=[Fault("error", status=429, retry_after=30)])
    client = connect(sandbox)
    report, took = await timed(client.market.orders.update_order_line_statuses(updates_of(1), deadline=5.0))
    assert took < 4.0
    outcome = report.outcomes[0]
    assert (outcome.state, outcome.attempts) == ("not_sent", 1)
    assert isinstance(outcome.error, DeadlineError)
    assert "429" in str(outcome.error)


async def test_a_line_in_backoff_ends_at_the_deadline_with_what_is_known_of_it(sandbox, connect):
    sandbox.faults = Faults(error_500=1.0)
    client = connect(sandbox, retry=RetryPolicy(attempts=1000, base=0.1, max_delay=0.1))
    # of two lines, because three that fail are an outage
    report, took = await timed(client.market.orders.update_order_line_statuses(updates_of(2), deadline=1.0))
    assert took < 1.0 + SLACK
    assert {outcome.state for outcome in report.outcomes} == {"unknown"}
    assert all(isinstance(outcome.error, DeadlineError) for outcome in report.outcomes)
    assert all(outcome.attempts > 1 for outcome in report.outcomes)


async def test_a_server_that_never_answers_cannot_hold_a_run(start_raw_server, connect):
    server = await start_raw_server(b"(no answer)")
    server.answers = [server.HANG]
    report, took = await timed(connect(server).market.orders.update_order_line_statuses(updates_of(4), deadline=1.0))
    assert took < 1.0 + SLACK
    assert report.counts["unknown"] == 4


@pytest.mark.parametrize("deadline", [0.0001, 0.001])
async def test_a_deadline_too_short_for_anything_sends_nothing_after_it(sandbox, connect, watcher, deadline):
    sandbox.faults = Faults(latency=0.05)
    client = connect(sandbox, observers=[watcher])
    report = await client.market.orders.update_order_line_statuses(updates_of(20), deadline=deadline)
    assert len(report.outcomes) == 20
    assert {outcome.state for outcome in report.outcomes} <= {"not_sent", "unknown"}
    attempted = sum(outcome.attempts for outcome in report.outcomes)
    assert attempted == len(watcher.of(AttemptStarted)) <= 8
