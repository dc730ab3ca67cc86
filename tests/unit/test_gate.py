"""The gate: no permit lost or doubled, whatever is cancelled, resized or released, in any order."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from altcraft_async import OutagePolicy
from altcraft_async.engine.gate import NO_PERMIT, SINGLES_IN_A_ROW, Gate
from altcraft_async.engine.notifier import Notifier
from altcraft_async.engine.work import Patience
from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import Adaptive, FixedLimit, LimitStatistics, Signal
from altcraft_async.flow.outage import FIRST_WAIT, THRESHOLD, OutageState
from altcraft_async.observe import LimitChanged, OutageBegan, OutageEnded, SendingPaused
from altcraft_async.protocol.verdict import TABLE, Evidence

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from virtual import VirtualLoop  # noqa: E402

KIND = "market/orders/update_order_line_status"
SERVED, REFUSED, THROTTLED = TABLE[Evidence.SUCCESS], TABLE[Evidence.REFUSED], TABLE[Evidence.THROTTLED]
FAILED, NO_CONNECTION = TABLE[Evidence.RETRIABLE], TABLE[Evidence.NEVER_SENT]


def settle(loop):
    """Let everything run that can run now."""
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))


class GateMachine(RuleBasedStateMachine):
    """Acquires, cancels, releases and resizes on a loop that is driven by hand."""

    @initialize(limit=st.integers(1, 4))
    def start(self, limit):
        self.loop = asyncio.new_event_loop()
        self.gate = Gate(FixedLimit(limit))
        self.waiting: list[asyncio.Task[int]] = []
        self.held: list[int] = []
        self.given: set[int] = set()

    def teardown(self):
        for task in self.waiting:
            task.cancel()
        self.collect()
        while self.held:
            self.run(self.gate.release, self.held.pop())
        assert self.run(self.gate.statistics).in_flight == 0
        self.loop.close()

    def collect(self):
        """Count the tasks that have got their permit."""
        settle(self.loop)
        for task in list(self.waiting):
            if task.done():
                self.waiting.remove(task)
                if not task.cancelled():
                    self.hold(task.result())

    def hold(self, permit):
        assert permit > NO_PERMIT
        assert permit not in self.given
        self.given.add(permit)
        self.held.append(permit)

    def run(self, function, *arguments):
        async def inside():
            return function(*arguments)

        return self.loop.run_until_complete(inside())

    @rule(bulk=st.booleans())
    def acquire(self, bulk):
        self.waiting.append(self.loop.create_task(self.gate.acquire(KIND, bulk=bulk)))
        self.collect()

    @rule()
    def try_acquire(self):
        could = len(self.held) < self.gate.limit and not self.waiting
        permit = self.run(self.gate.try_acquire, KIND)
        assert bool(permit) is could
        if permit:
            self.hold(permit)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        permit = data.draw(st.sampled_from(self.held))
        self.held.remove(permit)
        self.run(self.gate.release, permit)
        self.collect()

    @rule(limit=st.integers(1, 6))
    def resize(self, limit):
        self.run(self.gate.resize, limit)
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.waiting)).cancel()
        self.collect()

    @precondition(lambda self: self.held and self.waiting)
    @rule(data=st.data())
    def release_and_cancel_in_the_same_moment(self, data):
        task = data.draw(st.sampled_from(self.waiting))
        permit = self.held.pop()

        def both():
            self.gate.release(permit)
            task.cancel()

        self.run(both)
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), limit=st.integers(1, 6))
    def resize_and_cancel_in_the_same_moment(self, data, limit):
        task = data.draw(st.sampled_from(self.waiting))

        def both():
            self.gate.resize(limit)
            task.cancel()

        self.run(both)
        self.collect()

    @invariant()
    def every_permit_has_one_holder(self):
        now = self.run(self.gate.statistics)
        assert now.in_flight == len(self.held)
        assert now.waiting == len(self.waiting)

    @invariant()
    def nobody_waits_without_need(self):
        assert not self.waiting or len(self.held) >= self.gate.limit


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


async def passes(gate, order, name, *, bulk):
    permit = await gate.acquire(KIND, bulk=bulk)
    order.append(name)
    gate.release(permit)


async def test_waiters_of_one_class_are_served_in_their_order():
    gate, order = Gate(FixedLimit(1)), []
    permit = gate.try_acquire(KIND)
    tasks = [asyncio.ensure_future(passes(gate, order, n, bulk=True)) for n in range(10)]
    await asyncio.sleep(0)
    gate.release(permit)
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_single_calls_go_first_but_bulk_ones_keep_their_share():
    gate, order = Gate(FixedLimit(1)), []
    permit = gate.try_acquire(KIND)
    bulk = [asyncio.ensure_future(passes(gate, order, "bulk", bulk=True)) for _ in range(3)]
    await asyncio.sleep(0)
    singles = [asyncio.ensure_future(passes(gate, order, "single", bulk=False)) for _ in range(12)]
    await asyncio.sleep(0)
    gate.release(permit)
    await asyncio.gather(*bulk, *singles)
    turn = ["single"] * SINGLES_IN_A_ROW + ["bulk"]
    assert order == turn * 3


async def test_a_newcomer_does_not_overtake_those_who_wait():
    gate = Gate(FixedLimit(1))
    assert gate.try_acquire(KIND)
    waiter = asyncio.ensure_future(gate.acquire(KIND))
    await asyncio.sleep(0)
    gate.resize(2)
    gate.resize(1)
    assert not gate.try_acquire(KIND)
    await waiter


async def test_raising_the_limit_wakes_waiters_and_lowering_it_lets_holders_finish():
    gate = Gate(FixedLimit(1))
    permit = gate.try_acquire(KIND)
    waiters = [asyncio.ensure_future(gate.acquire(KIND)) for _ in range(4)]
    await asyncio.sleep(0)
    gate.resize(3)
    await asyncio.sleep(0)
    assert [waiter.done() for waiter in waiters] == [True, True, False, False]
    gate.resize(1)
    gate.release(permit)
    gate.release(waiters[0].result())
    await asyncio.sleep(0)
    assert not waiters[2].done()
    gate.release(waiters[1].result())
    await asyncio.sleep(0)
    assert waiters[2].done()
    assert not waiters[3].done()
    gate.release(waiters[2].result())
    await waiters[3]


async def test_a_pause_holds_everybody_and_then_lets_them_go(watcher):
    gate = Gate(FixedLimit(5), notifier=Notifier([watcher]))
    loop = asyncio.get_running_loop()
    started = loop.time()
    gate.pause(0.03)
    assert gate.statistics().paused == pytest.approx(0.03, abs=0.01)
    assert not gate.try_acquire(KIND)
    await asyncio.gather(*(gate.acquire(KIND) for _ in range(5)))
    assert loop.time() - started >= 0.029
    assert watcher.events == [SendingPaused(0.03)]
    assert gate.statistics().paused == 0


async def test_of_several_pauses_the_one_that_ends_last_counts(watcher):
    gate = Gate(FixedLimit(5), notifier=Notifier([watcher]))
    loop = asyncio.get_running_loop()
    started = loop.time()
    for seconds in (0.01, 0.04, 0.02):
        gate.pause(seconds)
    await gate.acquire(KIND)
    assert loop.time() - started >= 0.039
    assert watcher.of(SendingPaused) == [SendingPaused(0.01), SendingPaused(0.04)]


async def test_a_pause_that_becomes_longer_while_calls_wait_holds_them_on():
    gate = Gate(FixedLimit(5))
    loop = asyncio.get_running_loop()
    started = loop.time()
    gate.pause(0.01)
    waiter = asyncio.ensure_future(gate.acquire(KIND))
    await asyncio.sleep(0)
    gate.pause(0.04)
    await waiter
    assert loop.time() - started >= 0.039


async def test_the_rate_spreads_the_starts():
    gate = Gate(FixedLimit(100), rate=500.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(gate.acquire(KIND) for _ in range(11)))
    assert loop.time() - started >= 10 / 500


async def test_a_rate_above_what_timers_can_do_is_reached():
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(5):  # a busy machine may hold one of them up
        gate = Gate(FixedLimit(1000), rate=4000.0)
        began = loop.time()
        await asyncio.gather(*(gate.acquire(KIND) for _ in range(400)))
        took.append(loop.time() - began)
    assert 0.09 < min(took) < 0.2  # one start a timer would take 0.4 and more


async def test_a_cancelled_waiter_does_not_use_up_the_rate():
    gate = Gate(FixedLimit(100), rate=5.0)
    await gate.acquire(KIND)
    waiters = [asyncio.ensure_future(gate.acquire(KIND)) for _ in range(50)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    started = asyncio.get_running_loop().time()
    await gate.acquire(KIND)
    assert asyncio.get_running_loop().time() - started < 5.0  # with those of the cancelled it would be 10
    assert gate.statistics().in_flight == 2


def record(gate, now, verdict, *, line="line", latency=0.1, first_failure=None):
    """Tell the gate how a call ended that began `latency` seconds before `now`."""
    first = now if first_failure is None else first_failure
    gate.record(now, latency, verdict, kind=KIND, line=line, first_failure=first)


class Downhill:
    """A law that takes one permit for each overload, and knows a rate."""

    learns = True

    def __init__(self):
        self.limit = 4
        self.rate = None

    minimum = 1

    def on_result(self, now, latency, signal, in_flight, kind):
        assert kind == KIND
        assert in_flight == 4  # the call itself still counts
        self.limit -= signal is Signal.OVERLOAD
        self.rate = 1000.0
        return self.limit

    def on_pause(self, now, seconds):
        self.limit = 2
        return self.limit

    def statistics(self):
        return LimitStatistics(self.limit)


async def test_a_moving_limit_is_followed_and_told_of(watcher):
    gate = Gate(Downhill(), notifier=Notifier([watcher]))
    for _ in range(4):
        assert gate.try_acquire(KIND)
    record(gate, 1.0, SERVED)
    record(gate, 1.0, THROTTLED)
    gate.pause(0.001)
    assert watcher.of(LimitChanged) == [LimitChanged(3, 4), LimitChanged(2, 3)]
    assert gate.limit == 2
    assert gate.statistics().rate == 1000.0


async def test_a_learned_rate_never_goes_above_the_one_that_was_set():
    gate = Gate(Downhill(), rate=10.0)
    for _ in range(4):
        await gate.acquire(KIND)
    record(gate, 1.0, SERVED)
    assert gate.statistics().rate == 10.0


async def test_a_fixed_limit_does_not_move():
    gate = Gate(FixedLimit(4))
    for verdict in (SERVED, THROTTLED, SERVED, FAILED):
        record(gate, 1.0, verdict)
    assert gate.limit == 4


async def test_a_refusal_lets_the_limit_grow_as_a_success_does():
    grown = []
    for verdict in (SERVED, REFUSED):
        gate = Gate(AdaptiveLimit(Adaptive(initial=4)))
        for number in range(200):
            permits = [gate.try_acquire(KIND) for _ in range(gate.limit)]
            for permit in permits:
                record(gate, 1.0 + number / 10, verdict)
                gate.release(permit)
        grown.append(gate.limit)
    assert grown[0] == grown[1] > 4


async def test_the_repr_tells_the_state():
    gate = Gate(FixedLimit(2))
    gate.try_acquire(KIND)
    assert repr(gate) == "<Gate 1/2 in flight, 0 waiting>"


# -- outages, on a clock that jumps


def on_virtual_clock(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())


def clock():
    return asyncio.get_running_loop().time()


def break_down(gate, *, lines=THRESHOLD):
    """Let `lines` different lines fail now."""
    for line in range(lines):
        record(gate, clock(), FAILED, line=line)


async def in_outage(gate):
    """Bring the gate into an outage that has just opened, after a call was served at the second 10."""
    await asyncio.sleep(10.0)
    record(gate, clock(), SERVED)
    await asyncio.sleep(1.0)
    break_down(gate)
    await asyncio.sleep(0.1)
    assert gate.statistics().paused == pytest.approx(FIRST_WAIT)
    assert gate.outage.state is OutageState.OPEN


def test_while_an_outage_is_suspected_nobody_starts_and_a_served_answer_lets_all_go():
    async def work():
        gate = Gate(FixedLimit(3))
        record(gate, clock(), SERVED, latency=5.0)
        await asyncio.sleep(1.0)
        break_down(gate)
        assert gate.try_acquire(KIND) == NO_PERMIT
        waiters = [asyncio.ensure_future(gate.acquire(KIND)) for _ in range(3)]
        await asyncio.sleep(4.0)
        assert not any(waiter.done() for waiter in waiters)
        record(gate, clock(), SERVED, latency=0.1)
        await asyncio.gather(*waiters)
        assert clock() == 5.0
        assert gate.statistics().outage is None
        gate.close()

    on_virtual_clock(work)


def test_an_outage_that_is_suspected_opens_by_itself_while_calls_wait(watcher):
    async def work():
        gate = Gate(FixedLimit(3), notifier=Notifier([watcher]))
        record(gate, clock(), SERVED, latency=2.0)
        await asyncio.sleep(1.0)
        break_down(gate)
        waiter = asyncio.ensure_future(gate.acquire(KIND))
        await waiter
        assert clock() == pytest.approx(1.0 + 2.0 + FIRST_WAIT)  # a round trip, and then the first probe
        gate.close()

    on_virtual_clock(work)
    assert watcher.of(OutageBegan) == [OutageBegan(pytest.approx(2.0))]


def test_an_outage_that_nobody_waits_in_is_told_of_once_it_is_looked_at(watcher):
    async def work():
        gate = Gate(FixedLimit(3), notifier=Notifier([watcher]))
        record(gate, clock(), SERVED)
        await asyncio.sleep(1.0)
        break_down(gate)
        await asyncio.sleep(5.0)
        assert gate.statistics().outage == pytest.approx(5.0)
        assert len(watcher.of(OutageBegan)) == 1
        record(gate, clock(), SERVED)
        assert len(watcher.of(OutageEnded)) == 1
        gate.close()

    on_virtual_clock(work)


def test_in_an_outage_one_probe_after_the_other_starts_also_above_the_limit():
    async def work():
        gate = Gate(FixedLimit(2))
        held = [gate.try_acquire(KIND), gate.try_acquire(KIND)]
        await in_outage(gate)
        opened, starts = clock(), []
        for _ in range(4):
            permit = await gate.acquire(KIND)
            starts.append(clock() - opened)
            gate.release(permit)
        assert starts == pytest.approx([0.25, 0.75, 1.75, 2.75])
        assert gate.lost == len(held)  # overdue for long: the others do not wait for them
        gate.close()

    on_virtual_clock(work)


def test_a_probe_without_an_answer_does_not_hold_up_the_next():
    async def work():
        gate = Gate(FixedLimit(2))
        await in_outage(gate)
        opened, starts = clock(), []
        for _ in range(3):
            await gate.acquire(KIND)
            starts.append(clock() - opened)
        assert starts == pytest.approx([0.25, 1.25, 2.25])
        gate.close()

    on_virtual_clock(work)


def test_a_call_that_comes_when_a_probe_is_due_is_the_probe():
    async def work():
        gate = Gate(FixedLimit(2))
        await in_outage(gate)
        await asyncio.sleep(FIRST_WAIT)
        assert gate.try_acquire(KIND) > NO_PERMIT
        assert gate.try_acquire(KIND) == NO_PERMIT
        gate.close()

    on_virtual_clock(work)


@pytest.mark.parametrize("bulk", [False, True])
def test_a_waiter_whose_patience_ends_gets_no_permit(bulk):
    policy = OutagePolicy(patience=20.0, call_patience=20.0)

    async def work():
        gate = Gate(FixedLimit(1))
        await in_outage(gate)
        patience = Patience(policy, 0.0, bulk=bulk)
        others = asyncio.ensure_future(keep_probing(gate))
        await asyncio.sleep(0)
        permits = []
        while not permits or permits[-1]:
            permits.append(await gate.acquire(KIND, bulk=bulk, patience=patience))
        assert clock() == pytest.approx(11.0 + 20.0)
        assert gate.statistics().waiting <= 1  # the one that keeps probing
        others.cancel()
        gate.close()

    on_virtual_clock(work)


async def keep_probing(gate):
    while True:
        await gate.acquire(KIND)


def test_a_patience_without_end_is_never_lost():
    async def work():
        gate = Gate(FixedLimit(1))
        await in_outage(gate)
        for _ in range(100):
            assert await gate.acquire(KIND, patience=Patience(OutagePolicy(call_patience=None), 0.0))
        assert clock() > 240.0
        gate.close()

    on_virtual_clock(work)


def test_fail_fast_waits_for_nothing_but_is_the_probe_when_one_is_due():
    async def work():
        gate = Gate(FixedLimit(4))
        await in_outage(gate)
        patience = Patience(OutagePolicy(fail_fast=True), clock())
        began = clock()
        assert await gate.acquire(KIND, patience=patience) == NO_PERMIT
        assert clock() == began
        await asyncio.sleep(FIRST_WAIT)
        assert await gate.acquire(KIND, patience=patience) > NO_PERMIT
        assert await gate.acquire(KIND, patience=patience) == NO_PERMIT
        assert clock() == pytest.approx(began + FIRST_WAIT)
        gate.close()

    on_virtual_clock(work)


def test_who_waited_before_the_outage_loses_patience_with_the_others():
    async def work():
        gate = Gate(FixedLimit(1))
        gate.try_acquire(KIND)
        waiter = asyncio.ensure_future(gate.acquire(KIND, patience=Patience(OutagePolicy(fail_fast=True), 0.0)))
        await in_outage(gate)
        assert await waiter == NO_PERMIT
        gate.close()

    on_virtual_clock(work)


def test_at_its_end_everybody_goes_on_near_the_limit_that_held_before(watcher):
    async def work():
        gate = Gate(AdaptiveLimit(Adaptive(initial=8)), notifier=Notifier([watcher]))
        await in_outage(gate)
        limit = gate.limit
        waiters = [asyncio.ensure_future(gate.acquire(KIND)) for _ in range(20)]
        await asyncio.sleep(FIRST_WAIT + 0.01)
        assert sum(waiter.done() for waiter in waiters) == 1  # the probe
        await asyncio.sleep(0.1)
        record(gate, clock(), SERVED, latency=0.1)
        gate.release(waiters[0].result())
        await asyncio.sleep(0)
        assert gate.limit == limit
        assert sum(waiter.done() for waiter in waiters) == 1 + limit
        for waiter in waiters:
            waiter.cancel()
        gate.close()

    on_virtual_clock(work)
    assert [type(event) for event in watcher.events if not isinstance(event, LimitChanged)] == [
        OutageBegan,
        OutageEnded,
    ]


def test_the_end_of_an_outage_ends_a_pause_that_was_asked_for_in_it():
    async def work():
        gate = Gate(FixedLimit(2))
        await in_outage(gate)
        await asyncio.sleep(FIRST_WAIT)
        gate.release(gate.try_acquire(KIND))
        gate.pause(30.0)
        assert gate.try_acquire(KIND) == NO_PERMIT
        record(gate, clock(), SERVED)
        assert gate.try_acquire(KIND) > NO_PERMIT
        gate.close()

    on_virtual_clock(work)


def test_calls_that_nobody_answers_open_an_outage_and_do_not_count_any_more_after_it():
    async def work():
        gate = Gate(FixedLimit(5))
        await asyncio.sleep(10.0)
        record(gate, clock(), SERVED)
        await asyncio.sleep(0.5)
        lost = [gate.try_acquire(KIND) for _ in range(5)]
        await asyncio.sleep(2.0)
        assert gate.outage.state is OutageState.OPEN
        probe = await gate.acquire(KIND)
        await asyncio.sleep(0.1)
        record(gate, clock(), SERVED)
        gate.release(probe)
        assert gate.statistics().in_flight == 0
        for permit in lost:
            gate.release(permit)
        assert gate.statistics().in_flight == 0
        gate.close()

    on_virtual_clock(work)


def test_two_calls_that_nobody_answers_are_no_outage():
    async def work():
        gate = Gate(FixedLimit(5))
        await asyncio.sleep(10.0)
        record(gate, clock(), SERVED)
        for _ in range(2):
            gate.try_acquire(KIND)
        await asyncio.sleep(60.0)
        assert gate.outage.state is OutageState.CLEAR
        gate.close()

    on_virtual_clock(work)


def test_back_pressure_is_the_limits_to_answer_until_it_has_served_nobody_for_long():
    async def work():
        gate = Gate(AdaptiveLimit(Adaptive(initial=200)))
        for line in range(10):
            record(gate, clock(), THROTTLED, line=line)
        assert gate.outage.state is OutageState.CLEAR
        await asyncio.sleep(0.4)
        record(gate, clock(), THROTTLED, line=10)
        assert gate.outage.state is OutageState.CLEAR
        await asyncio.sleep(0.2)
        record(gate, clock(), THROTTLED, line=11)
        assert gate.outage.state is OutageState.OPEN
        gate.close()

    on_virtual_clock(work)


def test_a_cancelled_waiter_costs_no_probe():
    async def work():
        gate = Gate(FixedLimit(2))
        await in_outage(gate)
        opened = clock()
        waiters = [asyncio.ensure_future(gate.acquire(KIND)) for _ in range(2)]
        await asyncio.sleep(0.1)
        waiters[0].cancel()
        await waiters[1]
        assert clock() - opened == pytest.approx(FIRST_WAIT)
        gate.close()

    on_virtual_clock(work)


def test_a_probe_that_is_cancelled_lets_the_next_go_in_its_time():
    async def work():
        gate = Gate(FixedLimit(2))
        await in_outage(gate)
        opened = clock()
        permit = await gate.acquire(KIND)
        gate.release(permit)  # as whoever is cancelled does
        await gate.acquire(KIND)
        assert clock() - opened == pytest.approx(0.75)
        gate.close()

    on_virtual_clock(work)


def test_a_permit_with_which_nothing_is_sent_costs_no_probe():
    async def work():
        gate = Gate(FixedLimit(2))
        await in_outage(gate)
        opened = clock()
        gate.release(await gate.acquire(KIND), unused=True)
        await gate.acquire(KIND)
        assert clock() - opened == pytest.approx(FIRST_WAIT)
        gate.close()

    on_virtual_clock(work)


# -- no room on this machine


def no_room(gate, line=None):
    now = asyncio.get_running_loop().time()
    gate.on_no_room(now, kind=KIND, line=line, first_failure=now)


async def test_a_machine_without_room_caps_the_limit_below_what_is_under_way_with_one_note(caplog):
    gate = Gate(FixedLimit(10))
    permits = [gate.try_acquire(KIND) for _ in range(6)]
    with caplog.at_level(logging.WARNING, "altcraft_async"):
        no_room(gate)
        assert gate.limit == 5
        gate.release(permits.pop())
        no_room(gate)
    assert gate.limit == 4
    assert ["at most 5 calls" in record.getMessage() for record in caplog.records] == [True]


async def test_a_cap_holds_whatever_the_limit_wants():
    gate = Gate(FixedLimit(10))
    for _ in range(4):
        gate.try_acquire(KIND)
    no_room(gate)
    gate.resize(100)
    assert gate.limit == 3


async def test_a_cap_leaves_room_for_one():
    gate = Gate(FixedLimit(10))
    for number in range(2):
        no_room(gate, number)
    assert gate.limit == 1


async def test_no_room_at_all_is_an_outage_of_this_machine_and_its_end_takes_the_cap_away():
    gate = Gate(FixedLimit(10))
    permit = gate.try_acquire(KIND)
    for _ in range(THRESHOLD):  # of one line: nothing else is under way that could show that there is room
        no_room(gate, "line")
    gate.release(permit)
    assert gate.outage.state is OutageState.SUSPECTED
    assert gate.outage.local
    permit = await gate.acquire(KIND)
    now = asyncio.get_running_loop().time()
    gate.record(now, 0.0, SERVED, kind=KIND, line="line", first_failure=now)
    assert gate.limit == 10


async def test_no_room_for_more_is_none_where_others_are_served():
    gate = Gate(FixedLimit(10))
    permits = [gate.try_acquire(KIND) for _ in range(6)]
    for number in range(THRESHOLD):
        no_room(gate, number)
    now = asyncio.get_running_loop().time()
    gate.record(now, 1.0, SERVED, kind=KIND, line="line", first_failure=0.0)
    assert gate.outage.state is OutageState.CLEAR
    assert gate.limit < len(permits)
