"""The adaptive concurrency law: one test for each of its promises."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.adaptive import AdaptiveLimit, make_limit, make_limit_of_batches
from altcraft_async.flow.limit import Adaptive, FixedLimit, LearnedLimit, LimitState, Signal
from altcraft_async.flow.pace import Pacer

SUCCESS, OVERLOAD, NEUTRAL = Signal.SUCCESS, Signal.OVERLOAD, Signal.NEUTRAL


class Model:
    """A saturating client and a server of `slots`, on a virtual clock.

    The server takes 0.1 s a call on average, `jitter` of it exponential. Above
    its slots it queues, or where `rejects`, answers 429 after 2 ms.
    """

    def __init__(
        self, law: AdaptiveLimit, slots: int, *, jitter: float = 0.0, rejects: bool = False, seed: int = 1
    ) -> None:
        self.law, self.slots, self.jitter, self.rejects = law, slots, jitter, rejects
        self.random = random.Random(seed)
        self.service = 0.1
        self.failing = self.flaky = 0.0
        self.now = 0.0
        self.in_flight = self.active = self.done = self.rejected = self.sent = 0
        self.events: list[tuple[float, int, float, Signal | None]] = []
        self.pacer = Pacer()
        self.wakes_at = math.inf
        self.waiting: deque[float] = deque()
        self.seen: list[int] = []

    def _serve(self, started: float) -> None:
        self.active += 1
        noise = self.random.expovariate(1 / self.jitter) if self.jitter else 0.0
        signal = NEUTRAL if self.random.random() < self.failing else SUCCESS
        self._push(self.now + self.service * (1 - self.jitter + noise), started, signal)

    def _push(self, end: float, started: float, signal: Signal) -> None:
        self.sent += 1
        heapq.heappush(self.events, (end, self.sent, started, signal))

    def _send(self) -> None:
        if self.law.rate != self.pacer.rate:
            self.pacer.rate = self.law.rate
        while self.in_flight < self.law.limit:
            delay = self.pacer.peek(self.now)
            if delay > 0.0:
                if self.now + delay < self.wakes_at:
                    self.wakes_at = self.now + delay
                    heapq.heappush(self.events, (self.wakes_at, self.sent, self.now, None))
                return
            self.pacer.reserve(self.now)
            self.in_flight += 1
            flaky = self.random.random() < self.flaky
            if self.active < self.slots and not flaky:
                self._serve(self.now)
            elif self.rejects or flaky:
                self._push(self.now + 0.002, self.now, OVERLOAD)
            else:
                self.waiting.append(self.now)

    def run(self, seconds: float) -> Model:
        """Run on for `seconds`; `done`, `rejected` and `seen` (in flight at each end) are of this stretch."""
        until = self.now + seconds
        self.done = self.rejected = 0
        self.seen = []
        self._send()
        while self.events[0][0] < until:
            self.now, _, started, signal = heapq.heappop(self.events)
            if signal is None:  # time for the next start
                self.wakes_at = math.inf
                self._send()
                continue
            self.seen.append(self.in_flight)
            self.law.on_result(self.now, self.now - started, signal, self.in_flight)
            self.in_flight -= 1
            if signal is OVERLOAD:
                self.rejected += 1
            else:
                self.done += signal is SUCCESS
                self.active -= 1
                while self.waiting and self.active < self.slots:
                    self._serve(self.waiting.popleft())
            self._send()
        self.now = until
        return self


def answer(law: AdaptiveLimit, count: int, now: float, latency: float = 0.1, *, in_flight: int | None = None) -> None:
    """Report `count` successes that end together, each with the limit in use unless told."""
    for _ in range(count):
        law.on_result(now, latency, SUCCESS, law.limit if in_flight is None else in_flight)


def exhaust(law: AdaptiveLimit, now: float) -> None:
    """Use up what is forgiven before any test, so that the next throttled answer counts."""
    for _ in range(4 + int(0.15 * law.statistics().accepted) - law.statistics().throttled + 2):
        law.on_result(now, 0.01, OVERLOAD, law.limit)


def settled(**settings: Any) -> AdaptiveLimit:
    """Give a law that has left its doubling and learned a 0.1 s baseline at a limit of about 50."""
    law = AdaptiveLimit(Adaptive(**settings))
    Model(law, 50, rejects=True).run(3.0)
    return law


# Rule 1: doubling


def test_the_limit_doubles_in_a_round_trip_until_the_first_signal_and_beyond_36_in_two() -> None:
    law = AdaptiveLimit(Adaptive(initial=4))

    limits = []
    for trip in range(1, 5):
        answer(law, law.limit, trip * 0.1)
        limits.append(law.limit)

    assert limits == [8, 16, 32, 50]


def test_a_success_that_was_slow_already_does_not_double() -> None:
    law = AdaptiveLimit(Adaptive(initial=4))
    answer(law, 4, 0.1)

    answer(law, 8, 0.4, latency=0.3)

    assert law.limit <= 8


def test_doubling_ends_with_the_first_reject_that_is_not_forgiven() -> None:
    law = AdaptiveLimit(Adaptive(initial=4))
    answer(law, 4, 0.1)
    exhaust(law, 0.15)
    law.on_result(0.15, 0.01, OVERLOAD, 8)

    answer(law, 14, 0.2)

    assert law.limit == 7


# Rule 2: rejects


def test_each_reject_takes_its_own_permit_back() -> None:
    law = AdaptiveLimit(Adaptive(initial=60))
    exhaust(law, 0.1)
    for in_flight in range(60, 50, -1):
        law.on_result(0.1, 0.01, OVERLOAD, in_flight)

    assert law.limit == 50


def test_a_throttled_answer_takes_one_permit_however_few_are_in_use() -> None:
    law = AdaptiveLimit(Adaptive(initial=60))
    exhaust(law, 0.1)
    law.on_result(0.1, 0.01, OVERLOAD, 2)

    assert law.limit == 59
    assert law.rate is None


def test_rejects_that_come_home_in_a_pause_cost_one_permit_each() -> None:
    law = AdaptiveLimit(Adaptive(initial=60))
    exhaust(law, 0.1)
    law.on_result(0.1, 0.01, OVERLOAD, 60)
    law.on_pause(0.1, 1.0)
    for in_flight in (30, 20, 10):
        law.on_result(0.2, 0.1, OVERLOAD, in_flight)

    assert law.limit == 56


def test_a_server_that_rejects_is_held_at_its_capacity() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True).run(20.0)

    assert model.rejected <= 0.02 * model.done
    assert model.done >= 0.95 * 20.0 * 500


def test_neutral_answers_change_nothing() -> None:
    law = settled()
    before = law.statistics()
    for step in range(500):
        law.on_result(4.0 + step * 0.01, 9.9, NEUTRAL, law.limit)

    assert law.statistics() == before


def test_random_failures_are_not_taken_for_overload() -> None:
    model = Model(AdaptiveLimit(), 50, jitter=0.5)
    model.failing = 0.02

    assert model.run(20.0).done >= 0.95 * 0.98 * 20.0 * 500


# Rule 3: the ceiling


def test_the_limit_holds_for_four_round_trips_after_a_reject() -> None:
    law = AdaptiveLimit(Adaptive(initial=40))
    answer(law, 40, 0.1, in_flight=20)
    exhaust(law, 0.1)
    law.on_result(0.1, 0.01, OVERLOAD, 40)
    held = law.limit

    for trip in (2, 3, 4):
        answer(law, held, trip / 10)
        assert law.limit == held

    answer(law, held, 0.51)
    assert law.limit == held + 1


@pytest.mark.usefixtures("untraced")
def test_failed_probes_become_rare() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True)
    model.run(10.0)

    assert model.run(10.0).rejected <= 0.006 * model.done


@pytest.mark.usefixtures("untraced")
def test_no_probe_follows_a_pause_for_thirty_pauses() -> None:
    law = settled()
    law.on_pause(3.0, 2.0)
    before = law.limit
    now = 5.0
    while now < 60.0:
        now += 0.1
        answer(law, law.limit, now)
        assert law.limit == before

    while now < 70.0:
        now += 0.1
        answer(law, law.limit, now)
    assert law.limit > before


def test_capacity_that_comes_back_is_found_again() -> None:
    model = Model(AdaptiveLimit(), 25, rejects=True)
    model.run(5.0)
    model.slots = 50
    model.run(5.0)

    assert model.run(2.0).done >= 0.9 * 2.0 * 500


def test_after_capacity_halves_goodput_is_back_within_fifteen_round_trips() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True, jitter=0.5)
    model.run(5.0)
    model.slots = 25
    model.run(1.5)

    assert model.run(3.0).done >= 0.9 * 3.0 * 250
    assert max(model.seen) <= 27


# Rules 4 and 5: latency


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_a_server_that_queues_is_held_within_twice_its_slots(jitter: float) -> None:
    model = Model(AdaptiveLimit(), 50, jitter=jitter)
    model.run(3.0)
    model.run(15.0)

    assert model.done >= 0.95 * 15.0 * 500
    assert max(model.seen) <= 100


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", range(4))
def test_jitter_alone_does_not_cut(seed: int) -> None:
    law = AdaptiveLimit(Adaptive(initial=40, maximum=40))
    model = Model(law, 1000, jitter=0.5, seed=seed)

    assert model.run(20.0).done >= 0.95 * 20.0 * 400


def test_the_latency_of_rejects_never_enters_the_estimate() -> None:
    law = settled()
    before = law.statistics()
    for step in range(30):
        law.on_result(3.0 + step * 1e-3, 30.0, OVERLOAD, law.limit)
    after = law.statistics()

    assert (after.latency, after.baseline) == (before.latency, before.baseline)


def test_a_server_that_becomes_slower_by_itself_is_not_starved() -> None:
    model = Model(AdaptiveLimit(), 50, jitter=0.5)
    model.run(5.0)
    model.service = 0.4
    model.run(10.0)

    assert model.run(20.0).done >= 0.9 * 20.0 * 125


def test_when_a_queueing_server_loses_half_its_slots_the_queue_is_drained() -> None:
    model = Model(AdaptiveLimit(), 50)
    model.run(5.0)
    model.slots = 25
    model.run(5.0)
    model.run(5.0)

    assert max(model.seen) <= 50
    assert model.done >= 0.95 * 5.0 * 250


# Rule 6: unused


def test_unused_limit_never_grows() -> None:
    law = AdaptiveLimit(Adaptive(initial=10))
    for step in range(1, 2000):
        law.on_result(step * 0.1, 0.1, SUCCESS, 5)

    assert law.limit == 10


def test_unused_limit_does_not_grow_after_a_reject_either() -> None:
    law = settled()
    law.on_result(3.5, 0.01, OVERLOAD, law.limit)
    before = law.limit
    for step in range(1, 2000):
        law.on_result(4.0 + step * 0.1, 0.1, SUCCESS, before // 2)

    assert law.limit == before


# Rule 7: rate


def test_rejects_that_ignore_the_concurrency_bring_a_pace() -> None:
    law = settled()
    level = law.limit
    for step in range(level):
        law.on_result(4.0 + step * 1e-3, 0.002, OVERLOAD, law.limit)

    assert law.rate is not None
    assert law.limit >= level - 1


def test_rejects_before_anything_was_accepted_bring_no_pace_but_the_least_limit() -> None:
    law = AdaptiveLimit(Adaptive(initial=10))
    for step in range(100):
        law.on_result(0.1 + step * 0.05, 0.002, OVERLOAD, law.limit)

    assert law.rate is None
    assert law.limit == 1


def test_a_pace_that_does_not_bind_goes_away() -> None:
    law = settled()
    for step in range(law.limit):
        law.on_result(4.0 + step * 1e-3, 0.002, OVERLOAD, law.limit)
    for step in range(2000):
        law.on_result(5.0 + step * 0.1, 0.1, SUCCESS, law.limit)

    assert law.rate is None


def test_one_loss_of_capacity_is_not_taken_for_a_rate() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True)
    model.run(5.0)
    model.slots = 30
    model.run(5.0)

    assert model.law.rate is None


def mixed(law: AdaptiveLimit, now: float) -> int:
    """Let half of the calls be throttled until there is a pace; give the limit of just before it."""
    before = law.limit
    while law.rate is None:
        before, now = law.limit, now + 0.04
        law.on_result(now, 0.1, SUCCESS, 20)
        law.on_result(now, 0.002, OVERLOAD, 20)
    return before


def test_throttled_answers_are_weighed_against_the_calls_of_the_same_time_only() -> None:
    law = settled()
    for call in range(1200):
        law.on_result(3.0 + call * 0.002, 0.1, SUCCESS, 20)
    allowed = mixed(law, 5.4)

    assert law.rate == pytest.approx((allowed - 1) / 0.1)  # what is in flight by Little's law, and no slower for a test


@pytest.mark.parametrize(("accepted", "doubtful"), [(14, True), (13, False)])
def test_up_to_three_in_ten_throttled_answers_of_a_pace_are_doubtful(accepted: int, doubtful: bool) -> None:
    law = AdaptiveLimit.started_at(0.0, LearnedLimit(20))
    for call in range(40):
        law.on_result(call * 0.01, 0.1, SUCCESS, 1)
    for _ in range(2):
        law.on_result(0.5, 0.002, OVERLOAD, 1)  # forgiven
    for _ in range(2):
        law.on_result(1.0, 0.002, OVERLOAD, 1)
    for _ in range(accepted):
        law.on_result(1.1, 0.1, SUCCESS, 1)
    for call in range(4):  # without the limit having been raised
        assert law.rate is None
        law.on_result(1.3 + 0.3 * call, 0.002, OVERLOAD, 1)

    assert law.rate == pytest.approx(0.67 * 150.0 if doubtful else 140.0)


def test_after_an_outage_shorter_than_a_counters_second_the_pace_is_what_was_accepted_around_it() -> None:
    law = settled()
    for call in range(300):  # 100 a second
        law.on_result(3.0 + call * 0.01, 0.1, SUCCESS, 20)
    for call in range(40):
        law.on_result(6.0 + call * 1e-3, 0.002, OVERLOAD, law.limit)
    assert law.state is LimitState.PACED
    law.resume(7.0, 6.0)

    assert law.rate is not None
    assert 50.0 <= law.rate <= 100.0


# Rule 8: background


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("share", "kept"), [(0.005, 0.85), (0.02, 0.8), (0.05, 0.6)])
def test_rejects_that_ignore_the_load_do_not_bring_the_limit_down(share: float, kept: float, seed: int) -> None:
    model = Model(AdaptiveLimit(), 50, jitter=0.5, seed=seed)
    model.flaky = share

    assert model.run(20.0).done >= kept * 20.0 * 500


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", range(4))
def test_a_capacity_is_found_behind_a_background_of_rejects(seed: int) -> None:
    model = Model(AdaptiveLimit(), 50, jitter=0.5, rejects=True, seed=seed)
    model.flaky = 0.02
    model.run(10.0)
    model.run(10.0)

    assert model.done >= 0.8 * 10.0 * 500
    assert model.rejected <= 0.06 * model.done


def test_an_overload_is_noticed_in_spite_of_a_background() -> None:
    model = Model(AdaptiveLimit(), 50, jitter=0.5, rejects=True)
    model.flaky = 0.02
    model.run(10.0)
    model.slots = 25
    model.run(5.0)
    model.run(5.0)

    assert model.done >= 0.65 * 5.0 * 250
    assert model.rejected <= 0.1 * model.done


def test_a_reject_that_asks_for_a_pause_is_not_forgiven_untested_but_for_the_first() -> None:
    law = AdaptiveLimit(Adaptive(initial=60))
    law.on_result(0.1, 0.01, OVERLOAD, 60)
    law.on_pause(0.1, 1.0)
    assert law.limit == 60  # it may be a stray

    law.on_result(1.2, 0.01, OVERLOAD, 60)
    law.on_pause(1.2, 1.0)
    assert law.limit == 59


def test_behind_a_background_the_limit_grows_by_a_quarter_a_round() -> None:
    law = AdaptiveLimit.started_at(0.0, LearnedLimit(40), Adaptive(headroom=2.0))
    answer(law, 40, 0.1)
    answer(law, law.limit, 0.3, 0.19)  # so that it does not double
    now, call, paced = 0.3, 0, False
    while not paced or law.rate is not None:
        now, call = now + 0.005, call + 1
        law.on_result(now, 0.19, SUCCESS, law.limit - 8)
        if call % 12 == 0:
            law.on_result(now, 0.002, OVERLOAD, law.limit - 8)
        paced = paced or law.rate is not None
    before = law.limit
    assert law.state is LimitState.FOLLOWING

    answer(law, law.limit, now + 1.0)
    assert law.limit == before + before // 4 + 1


# Bounds, settings, shapes


@given(
    bounds=st.tuples(st.integers(1, 20), st.integers(0, 60), st.integers(0, 60)),
    reports=st.lists(
        st.tuples(st.floats(0, 2), st.floats(0, 40), st.sampled_from(Signal), st.integers(1, 300), st.booleans()),
        max_size=300,
    ),
)
def test_the_limit_stays_within_its_bounds_whatever_is_reported(
    bounds: tuple[int, int, int], reports: list[tuple[float, float, Signal, int, bool]]
) -> None:
    low, more, most = bounds
    law = AdaptiveLimit(Adaptive(minimum=low, initial=low + more, maximum=low + more + most))
    now = 0.0
    for gap, latency, signal, in_flight, paused in reports:
        now += gap
        limit = law.on_result(now, latency, signal, in_flight)
        if paused and signal is OVERLOAD:
            limit = law.on_pause(now, gap)
        assert limit == law.limit
        assert low <= limit <= low + more + most
        assert law.rate is None or law.rate >= 1.0


@pytest.mark.usefixtures("untraced")
@given(seed=st.integers(0, 10_000), slots=st.integers(1, 80), rejects=st.booleans())
def test_the_limit_stays_within_its_bounds_in_a_living_system(seed: int, slots: int, rejects: bool) -> None:
    law = AdaptiveLimit(Adaptive(minimum=2, initial=4, maximum=64))
    model = Model(law, slots, jitter=0.5, rejects=rejects, seed=seed)
    for _ in range(8):
        model.run(0.1)
        assert 2 <= law.limit <= 64


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"minimum": 0}, "minimum"),
        ({"minimum": 9, "maximum": 8}, "maximum"),
        ({"initial": 0}, "initial"),
        ({"initial": 2.5}, "initial"),
        ({"headroom": 1.04}, "headroom"),
        ({"headroom": 2.01}, "headroom"),
        ({"headroom": "1.5"}, "headroom"),
        ({"headroom": None}, "headroom"),
        ({"maximum": 1_000_000}, "maximum"),
        ({"maximum": True}, "maximum"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=field) as caught:
        Adaptive(**settings)

    assert caught.value.field == field


def test_settings_may_leave_the_limit_no_choice_and_go_to_their_bounds() -> None:
    for headroom in (1.05, 2.0):
        assert AdaptiveLimit(Adaptive(minimum=7, initial=7, maximum=7, headroom=headroom)).limit == 7
    assert Adaptive(maximum=999_999).maximum == 999_999


def test_the_limit_begins_at_a_bound_where_its_beginning_lies_outside() -> None:
    assert AdaptiveLimit(Adaptive(maximum=4)).limit == 4
    assert AdaptiveLimit(Adaptive(minimum=20)).limit == 20


def test_an_int_is_a_fixed_limit_that_never_moves() -> None:
    law = make_limit(7)
    for signal in (SUCCESS, OVERLOAD, NEUTRAL):
        assert law.on_result(1.0, 0.1, signal, 7) == 7
    law.on_pause(1.0, 5.0)

    assert isinstance(law, FixedLimit)
    assert not law.learns
    assert (law.statistics().limit, law.statistics().accepted, law.statistics().throttled) == (7, 1, 1)


def test_only_what_is_adaptive_learns() -> None:
    assert make_limit(Adaptive()).learns
    assert not make_limit(8).learns


def test_one_call_at_a_time_is_a_fixed_limit_too() -> None:
    assert make_limit(1).limit == 1


def test_the_same_reports_give_the_same_law() -> None:
    first = Model(AdaptiveLimit(), 50, jitter=0.5, seed=3).run(5.0).law.statistics()
    second = Model(AdaptiveLimit(), 50, jitter=0.5, seed=3).run(5.0).law.statistics()

    assert first == second


def test_only_differences_of_time_matter() -> None:
    late = Model(AdaptiveLimit(), 50, rejects=True)
    late.now = 1024.0
    early = Model(AdaptiveLimit(), 50, rejects=True)

    assert late.run(4.0).law.limit == early.run(4.0).law.limit


def test_before_the_first_round_nothing_is_known_of_the_latency() -> None:
    seen = AdaptiveLimit().statistics()

    assert (seen.latency, seen.baseline) == (None, None)


@pytest.mark.parametrize(
    ("concurrency", "limit", "bounds"),
    [
        (8, 2, (1, 8)),
        (1, 1, (1, 1)),
        (Adaptive(), 2, (1, 256)),
        (Adaptive(minimum=4, initial=6, maximum=20), 2, (2, 20)),
    ],
)
def test_the_limit_of_batches_begins_with_two_within_what_is_set(
    concurrency: int | Adaptive, limit: int, bounds: tuple[int, int]
) -> None:
    law = make_limit_of_batches(concurrency)

    assert law.limit == limit
    assert (law.settings.minimum, law.settings.maximum) == bounds


def test_statistics_and_repr_tell_the_state() -> None:
    law = settled()
    seen = law.statistics()

    assert seen.limit == law.limit
    assert seen.latency == pytest.approx(0.1)
    assert seen.baseline == pytest.approx(0.1)
    assert str(law.limit) in repr(law)


# Strangers


def test_room_is_left_for_others_now_and_then_and_taken_back_where_nobody_wants_it() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True)
    seen = set()
    for _ in range(300):
        model.run(0.1)
        seen.add(model.law.state)
    model.run(3.0)

    assert LimitState.YIELDING in seen
    assert model.law.limit >= 47 or model.law.state is LimitState.YIELDING


def test_no_room_is_left_where_nothing_was_ever_throttled() -> None:
    model = Model(AdaptiveLimit(), 50)
    for _ in range(300):
        model.run(0.1)
        assert model.law.state is not LimitState.YIELDING


def test_a_client_with_few_permits_leaves_none_of_them() -> None:
    model = Model(AdaptiveLimit(), 8, rejects=True)
    for _ in range(300):
        model.run(0.1)
        assert model.law.state is not LimitState.YIELDING


def yields(model: Model, count: int, *, taken: int = 0) -> list[float]:
    """Give the times at which room is left, of which another takes so many slots each time."""
    times: list[float] = []
    before = model.law.state
    while len(times) < count:
        model.run(0.05)
        if model.law.state is LimitState.YIELDING is not before:
            times.append(model.now)
            model.slots -= taken
        before = model.law.state
    return times


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("taken", "after"), [(0, 20.0), (8, 10.0)])
def test_room_is_left_again_sooner_where_somebody_took_it(taken: int, after: float) -> None:
    first, second = yields(Model(AdaptiveLimit(), 50, rejects=True), 2, taken=taken)

    assert second - first == pytest.approx(after + 1.8, abs=0.5)


def test_what_was_learned_outlasts_an_outage_while_the_limit_is_on_its_way_back() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True)
    law = model.law
    while law.state is not LimitState.YIELDING:
        model.run(0.1)
    while law.state is LimitState.YIELDING:
        model.run(0.01)
    for call in range(60):  # too few to grow with
        law.on_result(model.now + call * 0.05, 0.1, SUCCESS, 1)
    before = law.learned
    assert before is not None
    assert law.limit < before.limit
    law.resume(model.now + 9.0, model.now + 5.0)

    assert law.learned == before


def test_what_is_learned_while_room_is_left_is_what_there_was_before() -> None:
    model = Model(AdaptiveLimit(), 50, rejects=True)
    yields(model, 1)

    assert model.law.learned == LearnedLimit(50)
    assert model.law.limit < 40


def test_a_law_that_goes_on_where_another_was_grows_by_a_quarter_a_round() -> None:
    law = AdaptiveLimit.started_at(0.0, LearnedLimit(40), Adaptive(headroom=2.0))
    answer(law, 40, 0.1)
    assert law.limit == 51

    answer(law, 51, 0.3)
    assert law.limit == 64
