"""The gate: no permit lost or doubled, whatever is cancelled, resized or released, in any order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from altcraft_async.engine.gate import SINGLES_IN_A_ROW, Gate
from altcraft_async.engine.notifier import Notifier
from altcraft_async.flow.circuit import THRESHOLD, Circuit
from altcraft_async.flow.limit import FixedLimit, LimitStatistics, Signal
from altcraft_async.observe import LimitChanged, SendingPaused


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
        self.waiting: list[tuple[bool, asyncio.Task[None]]] = []
        self.held = 0

    def teardown(self):
        for _, task in self.waiting:
            task.cancel()
        self.collect()
        for _ in range(self.held):
            self.run(self.gate.release)
        assert self.run(self.gate.statistics).in_flight == 0
        self.loop.close()

    def collect(self):
        """Count the tasks that have got their permit."""
        settle(self.loop)
        for entry in list(self.waiting):
            task = entry[1]
            if task.done():
                self.waiting.remove(entry)
                self.held += not task.cancelled()

    def run(self, function, *arguments):
        async def inside():
            return function(*arguments)

        return self.loop.run_until_complete(inside())

    @rule(bulk=st.booleans())
    def acquire(self, bulk):
        self.waiting.append((bulk, self.loop.create_task(self.gate.acquire(bulk=bulk))))
        self.collect()

    @rule()
    def try_acquire(self):
        could = self.held < self.gate.limit and not self.waiting
        assert self.run(self.gate.try_acquire) is could
        self.held += could

    @precondition(lambda self: self.held)
    @rule()
    def release(self):
        self.run(self.gate.release)
        self.held -= 1
        self.collect()

    @rule(limit=st.integers(1, 6))
    def resize(self, limit):
        self.run(self.gate.resize, limit)
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        data.draw(st.sampled_from(self.waiting))[1].cancel()
        self.collect()

    @precondition(lambda self: self.held and self.waiting)
    @rule(data=st.data())
    def release_and_cancel_in_the_same_moment(self, data):
        _, task = data.draw(st.sampled_from(self.waiting))

        def both():
            self.gate.release()
            task.cancel()

        self.run(both)
        self.held -= 1
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), limit=st.integers(1, 6))
    def resize_and_cancel_in_the_same_moment(self, data, limit):
        _, task = data.draw(st.sampled_from(self.waiting))

        def both():
            self.gate.resize(limit)
            task.cancel()

        self.run(both)
        self.collect()

    @invariant()
    def every_permit_has_one_holder(self):
        now = self.run(self.gate.statistics)
        assert now.in_flight == self.held
        assert now.waiting == len(self.waiting)

    @invariant()
    def nobody_waits_without_need(self):
        assert not self.waiting or self.held >= self.gate.limit


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


async def passes(gate, order, name, *, bulk):
    await gate.acquire(bulk=bulk)
    order.append(name)
    gate.release()


async def test_waiters_of_one_class_are_served_in_their_order():
    gate, order = Gate(FixedLimit(1)), []
    assert gate.try_acquire()
    tasks = [asyncio.ensure_future(passes(gate, order, n, bulk=True)) for n in range(10)]
    await asyncio.sleep(0)
    gate.release()
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_single_calls_go_first_but_bulk_ones_keep_their_share():
    gate, order = Gate(FixedLimit(1)), []
    assert gate.try_acquire()
    bulk = [asyncio.ensure_future(passes(gate, order, "bulk", bulk=True)) for _ in range(3)]
    await asyncio.sleep(0)
    singles = [asyncio.ensure_future(passes(gate, order, "single", bulk=False)) for _ in range(12)]
    await asyncio.sleep(0)
    gate.release()
    await asyncio.gather(*bulk, *singles)
    turn = ["single"] * SINGLES_IN_A_ROW + ["bulk"]
    assert order == turn * 3


async def test_a_newcomer_does_not_overtake_those_who_wait():
    gate = Gate(FixedLimit(1))
    assert gate.try_acquire()
    waiter = asyncio.ensure_future(gate.acquire())
    await asyncio.sleep(0)
    gate.resize(2)
    gate.resize(1)
    assert not gate.try_acquire()
    await waiter


async def test_raising_the_limit_wakes_waiters_and_lowering_it_lets_holders_finish():
    gate = Gate(FixedLimit(1))
    assert gate.try_acquire()
    waiters = [asyncio.ensure_future(gate.acquire()) for _ in range(4)]
    await asyncio.sleep(0)
    gate.resize(3)
    await asyncio.sleep(0)
    assert [waiter.done() for waiter in waiters] == [True, True, False, False]
    gate.resize(1)
    gate.release()
    gate.release()
    await asyncio.sleep(0)
    assert not waiters[2].done()
    gate.release()
    await asyncio.sleep(0)
    assert waiters[2].done()
    assert not waiters[3].done()
    gate.release()
    await waiters[3]


async def test_a_pause_holds_everybody_and_then_lets_them_go(watcher):
    gate = Gate(FixedLimit(5), notifier=Notifier([watcher]))
    loop = asyncio.get_running_loop()
    started = loop.time()
    gate.pause(0.03)
    assert gate.statistics().paused == pytest.approx(0.03, abs=0.01)
    assert not gate.try_acquire()
    await asyncio.gather(*(gate.acquire() for _ in range(5)))
    assert loop.time() - started >= 0.029
    assert watcher.events == [SendingPaused(0.03)]
    assert gate.statistics().paused == 0


async def test_of_several_pauses_the_one_that_ends_last_counts(watcher):
    gate = Gate(FixedLimit(5), notifier=Notifier([watcher]))
    loop = asyncio.get_running_loop()
    started = loop.time()
    for seconds in (0.01, 0.04, 0.02):
        gate.pause(seconds)
    await gate.acquire()
    assert loop.time() - started >= 0.039
    assert watcher.of(SendingPaused) == [SendingPaused(0.01), SendingPaused(0.04)]


async def test_a_pause_that_becomes_longer_while_calls_wait_holds_them_on():
    gate = Gate(FixedLimit(5))
    loop = asyncio.get_running_loop()
    started = loop.time()
    gate.pause(0.01)
    waiter = asyncio.ensure_future(gate.acquire())
    await asyncio.sleep(0)
    gate.pause(0.04)
    await waiter
    assert loop.time() - started >= 0.039


async def test_the_rate_spreads_the_starts():
    gate = Gate(FixedLimit(100), rate=500.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(gate.acquire() for _ in range(11)))
    assert loop.time() - started >= 10 / 500


async def test_a_rate_above_what_timers_can_do_is_reached():
    gate = Gate(FixedLimit(1000), rate=4000.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(gate.acquire() for _ in range(400)))
    assert 0.09 < loop.time() - began < 0.2  # one start a timer would take 0.4 and more


async def test_a_cancelled_waiter_does_not_use_up_the_rate():
    gate = Gate(FixedLimit(100), rate=100.0)
    await gate.acquire()
    waiters = [asyncio.ensure_future(gate.acquire()) for _ in range(50)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    started = asyncio.get_running_loop().time()
    await gate.acquire()
    assert asyncio.get_running_loop().time() - started < 0.2
    assert gate.statistics().in_flight == 2


class Downhill:
    """A law that takes one permit for each overload, and knows a rate."""

    def __init__(self):
        self.limit = 4
        self.rate = None

    def on_result(self, now, latency, signal, in_flight):
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
        assert gate.try_acquire()
    gate.record(1.0, 0.1, Signal.SUCCESS)
    gate.record(1.0, 0.1, Signal.OVERLOAD)
    gate.pause(0.001)
    assert watcher.of(LimitChanged) == [LimitChanged(3, 4), LimitChanged(2, 3)]
    assert gate.limit == 2
    assert gate.statistics().rate == 1000.0


async def test_a_learned_rate_never_goes_above_the_one_that_was_set():
    gate = Gate(Downhill(), rate=10.0)
    gate._in_flight = 4
    gate.record(1.0, 0.1, Signal.SUCCESS)
    assert gate.statistics().rate == 10.0


async def test_a_fixed_limit_does_not_move():
    gate = Gate(FixedLimit(4))
    for signal in Signal:
        gate.record(1.0, 0.1, signal)
    assert gate.limit == 4


async def test_an_unreachable_server_gets_one_probe_at_a_time_until_it_answers():
    gate = Gate(FixedLimit(8), circuit=Circuit(patience=60.0, first_patience=60.0))
    now = asyncio.get_running_loop().time()
    for _ in range(THRESHOLD):
        assert not gate.record_unreachable(now)
    assert gate.statistics().reachable is False
    assert gate.limit == 1
    assert not gate.try_acquire()
    gate.record(now + 0.1, 0.2, Signal.NEUTRAL)  # begun before the outage: proves nothing
    assert gate.statistics().reachable is False
    gate.record(now + 0.3, 0.1, Signal.NEUTRAL)
    assert gate.statistics().reachable is True
    assert gate.limit == 8
    assert gate.try_acquire()


async def test_the_repr_tells_the_state():
    gate = Gate(FixedLimit(2))
    gate.try_acquire()
    assert repr(gate) == "<Gate 1/2 in flight, 0 waiting>"
