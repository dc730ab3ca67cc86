"""The whole engine on a virtual clock: speed, order of classes, and exact repetition."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

import pytest

from altcraft_async.flow.retry import RetryPolicy
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    LimitChanged,
    RetryPlanned,
    SendingPaused,
)
from samples import sampled

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from virtual import Behaviour, SimulatedServer, VirtualLoop, is_stuck, simulated_client, updates  # noqa: E402

pytestmark = pytest.mark.usefixtures("untraced")

PATIENT = {"retry": RetryPolicy(attempts=50), "retry_budget": None}


class Diary:
    """An observer that writes down when what happened, without what is random by design (the run's id)."""

    def __init__(self):
        self.entries = []

    def on_event(self, event):
        now = asyncio.get_running_loop().time()
        match event:
            case AttemptStarted() | AttemptEnded() | RetryPlanned():
                detail = (event.request_id[-12:], event.attempt, getattr(event, "delay", getattr(event, "elapsed", 0)))
            case LimitChanged(limit=limit) | SendingPaused(seconds=limit):
                detail = (limit,)
            case CallStarted() | CallEnded():
                detail = (event.request_id[-12:], getattr(event, "elapsed", 0))
            case _:
                detail = (event.outcome.index, event.outcome.state)
        self.entries.append((now, type(event).__name__, detail))


def run(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def deliver(behaviour, lines, *, seed=0, settled_from=float("inf"), **options):
    """Run a bulk delivery; give its report and what the server counted."""
    server = SimulatedServer(behaviour, seed=seed, settled_from=settled_from)

    async def work():
        async with simulated_client(server, seed=seed, **options) as client:
            return await client.market.orders.update_order_line_statuses(updates(lines))

    return run(work()), server.counts


TROUBLE = Behaviour(jitter=0.5, over_slots="reject", errors=0.05, retry_after=1, changes=((0.5, 20), (1.0, 50)))


def diary_of(seed):
    diary = Diary()
    report, _ = deliver(TROUBLE, 500, seed=seed, **PATIENT, observers=[diary])
    assert report.ok
    return diary.entries


def test_the_same_seed_gives_the_same_run_to_the_last_bit():
    assert diary_of(1) == diary_of(1)


def test_another_seed_gives_another_run():
    assert diary_of(1) != diary_of(2)


@pytest.mark.parametrize("jitter", sampled([0.0, 0.5], 0.5))
@pytest.mark.parametrize("over_slots", ["queue", "reject"])
def test_the_adaptive_limit_reaches_nearly_the_ideal_time(over_slots, jitter):
    behaviour = Behaviour(jitter=jitter, over_slots=over_slots)
    ideal = behaviour.ideal(3000)
    report, counts = deliver(behaviour, 3000, settled_from=ideal / 2)
    assert report.ok
    assert ideal / report.elapsed >= 0.90
    assert counts.rejected / counts.sent <= 0.02
    assert counts.settled_peak <= 2 * behaviour.slots


def test_the_rate_of_a_server_is_found_and_kept():
    behaviour = Behaviour(rate=100.0)
    report, counts = deliver(behaviour, 2000)
    assert report.ok
    assert behaviour.ideal(2000) / report.elapsed >= 0.90
    assert counts.rejected / counts.sent <= 0.02


def test_random_failures_are_not_taken_for_overload():
    behaviour = Behaviour(jitter=0.5, errors=0.02)
    report, _ = deliver(behaviour, 3000)
    assert report.ok
    assert behaviour.ideal(3000) / report.elapsed >= 0.98 * 0.85


def test_lines_that_back_off_for_long_hold_up_nobody_else():
    stuck = sum(is_stuck(f"line_{number}", 0.01) for number in range(3000))
    assert stuck
    _, usual = deliver(Behaviour(jitter=0.5), 3000 - stuck)
    report, counts = deliver(Behaviour(jitter=0.5, stuck=0.01), 3000)
    assert report.ok
    assert report.elapsed > 30.0
    assert counts.last_free <= 1.05 * usual.last_free


def test_an_outage_of_half_a_minute_loses_no_line_and_meets_no_storm():
    behaviour = Behaviour(jitter=0.5, outage=(0.5, 30.5), refused=True)
    report, counts = deliver(behaviour, 1000)
    assert report.ok
    assert counts.sent <= 1.1 * 1000
    assert report.elapsed <= 40.0


def test_a_single_call_under_a_saturating_bulk_run_waits_one_server_latency_at_most():
    behaviour = Behaviour()
    server = SimulatedServer(behaviour)
    waits = []

    async def work():
        async with simulated_client(server, concurrency=50) as client:
            orders = client.market.orders
            bulk = asyncio.create_task(orders.update_order_line_statuses(updates(3000)))
            clock = asyncio.get_running_loop().time
            for number in range(20):
                await asyncio.sleep(0.037)
                started = clock()
                await orders.update_order_line_status("single", f"line_{number}", "delivered")
                waits.append(clock() - started)
            assert not bulk.done()
            await bulk

    run(work())
    assert max(waits) <= 2 * behaviour.latency + 0.001


def latencies_of_a_service(watcher, flaky):
    """Let 300 handlers call now and then; give the sorted times of the calls that took one attempt."""
    server = SimulatedServer(Behaviour(latency=0.05, jitter=0.1, slots=None, flaky=flaky), seed=2)
    chance, times = Random(2), []

    async def handle(client, number, clock):
        while clock() < 5.0:
            await asyncio.sleep(chance.expovariate(1 / 0.3))
            started, request_id = clock(), f"{number} at {clock()}"
            await client.market.orders.update_order_line_status(
                f"order_{number}", "line", "delivered", request_id=request_id
            )
            times.append((request_id, clock() - started))

    async def work():
        clock = asyncio.get_running_loop().time
        async with simulated_client(server, seed=2, observers=[watcher]) as client:
            await asyncio.gather(*(handle(client, number, clock) for number in range(300)))

    run(work())
    retried = {event.request_id for event in watcher.of(RetryPlanned)}
    return sorted(time for request_id, time in times[2000:] if request_id not in retried)


@pytest.mark.slow
def test_rejects_that_no_load_explains_do_not_make_the_calls_of_a_service_wait(watcher):
    usual, flaky = latencies_of_a_service(watcher, 0.0), latencies_of_a_service(watcher, 0.01)
    assert flaky[len(flaky) * 99 // 100] <= 1.15 * usual[len(usual) * 99 // 100]


def test_the_clock_jumps_and_orders_timers():
    async def work():
        loop = asyncio.get_running_loop()
        fired = []
        loop.call_later(7200.0, fired.append, "late")
        loop.call_later(3600.0, fired.append, "early")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400.0):
                await loop.create_future()
        return fired, loop.time()

    fired, now = run(work())
    assert fired == ["early", "late"]
    assert now == pytest.approx(86_400.0)


def test_a_call_that_the_server_never_reaches_in_time_ends_in_a_timeout():
    behaviour = Behaviour(slots=1, latency=100.0)
    report, counts = deliver(behaviour, 2, concurrency=2, retry=RetryPolicy(attempts=1))
    assert [str(outcome.state) for outcome in report.outcomes] == ["unknown", "unknown"]
    assert [outcome.elapsed for outcome in report.outcomes] == pytest.approx([30.0, 30.0])
    assert counts.sent == 2


def test_a_simulation_that_waits_for_nothing_says_so():
    async def work():
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    try:
        task = loop.create_task(work())
        with pytest.raises(RuntimeError, match="stands still"):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()
