"""Pacing: the promises of `Pacer` and `LearnedRate`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.pace import DOUBTFUL, Background, LearnedRate, Pacer, PaceState


def starts(pacer: Pacer, count: int, now: float = 0.0) -> list[float]:
    """Make `count` starts as early as the pacer lets them, all asked for at `now`."""
    return [now + pacer.reserve(now) for _ in range(count)]


def test_starts_are_spread_evenly_at_the_rate() -> None:
    assert starts(Pacer(10.0), 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_burst_goes_out_at_once_and_then_the_rate_holds() -> None:
    assert starts(Pacer(10.0, burst=3), 5) == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])


def test_time_unused_is_never_worth_more_than_the_burst() -> None:
    pacer = Pacer(10.0, burst=2)
    starts(pacer, 2)

    assert starts(pacer, 3, now=100.0) == pytest.approx([100.0, 100.0, 100.1])


def test_starts_that_come_late_keep_the_rate() -> None:
    pacer = Pacer(1000.0)
    pacer.reserve(0.0)
    for late in (0.0025, 0.005, 0.0075):  # a timer that can do no better: what was due by then goes out
        while pacer.peek(late) == 0.0:
            pacer.reserve(late, late=0.01)

    assert pacer.peek(0.0075) == pytest.approx(0.0005)


def test_a_start_that_comes_later_than_is_allowed_for_loses_the_rest() -> None:
    pacer = Pacer(1000.0)
    pacer.reserve(0.0)
    pacer.reserve(1.0, late=0.002)

    assert [pacer.reserve(1.0, late=0.002) for _ in range(4)] == pytest.approx([0.0, 0.0, 0.001, 0.002])


def test_no_rate_never_waits() -> None:
    assert starts(Pacer(None), 100) == [0.0] * 100


def test_a_new_rate_counts_from_the_next_reservation() -> None:
    pacer = Pacer(1.0)
    pacer.reserve(0.0)
    pacer.rate = 100.0

    assert [pacer.reserve(1.0) for _ in range(3)] == pytest.approx([0.0, 0.01, 0.02])


def test_taking_the_rate_away_lets_everything_go_at_once() -> None:
    pacer = Pacer(1.0)
    starts(pacer, 5)
    pacer.rate = None

    assert pacer.reserve(0.0) == 0.0


def test_peek_takes_nothing() -> None:
    pacer = Pacer(10.0)
    pacer.reserve(0.0)

    assert pacer.peek(0.0) == pacer.peek(0.0) == pytest.approx(0.1)
    assert pacer.peek(0.25) == 0.0


def test_a_start_after_the_wait_that_peek_gave_is_allowed() -> None:
    pacer = Pacer(3.0)
    pacer.reserve(0.0)
    now = pacer.peek(0.0)

    assert pacer.reserve(now) == 0.0


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_cannot_work_is_named(rate: float) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Pacer(rate)

    assert caught.value.field == "rate"


def test_a_burst_below_one_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Pacer(1.0, burst=0)

    assert caught.value.field == "burst"


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_no_stretch_of_time_sees_more_than_burst_and_rate_allow(rate: float, burst: int, gaps: list[float]) -> None:
    pacer, now, made = Pacer(rate, burst=burst), 0.0, []
    for gap in gaps:
        now += gap
        made.append(now + pacer.reserve(now))

    for first in range(len(made)):
        for last in range(first, len(made)):
            allowed = burst + rate * (made[last] - made[first])
            assert last - first + 1 <= allowed * (1 + 1e-6) + 1e-6


def drive(learned: LearnedRate, seconds: float, accepts: float, now: float = 0.0) -> float:
    """Send at the learned rate for `seconds` to a server that accepts `accepts` a second, one at a time."""
    end, free, trip = now + seconds, now, 0.01
    while now < end:
        now += 1 / learned.rate
        if now >= free:
            free = max(free + 1 / accepts, now - 0.05)
            learned.on_accepted(now + trip, now, full=False)
        else:
            learned.on_throttled(now + trip, now)
    return now


def test_the_rate_a_server_accepts_is_found_from_far_below() -> None:
    learned = LearnedRate(0.0, rate=5.0, trip=0.01)
    drive(learned, seconds=30.0, accepts=100.0)

    assert 92.0 <= learned.rate <= 108.0


def test_the_rate_a_server_accepts_is_found_from_far_above() -> None:
    learned = LearnedRate(0.0, rate=800.0, trip=0.01)
    drive(learned, seconds=30.0, accepts=100.0)

    assert 92.0 <= learned.rate <= 108.0


def test_a_server_that_accepts_more_later_is_followed() -> None:
    learned = LearnedRate(0.0, rate=50.0, trip=0.01)
    now = drive(learned, seconds=20.0, accepts=50.0)
    drive(learned, seconds=60.0, accepts=200.0, now=now)

    assert learned.rate > 150.0


def accept(learned: LearnedRate, calls: int, every: float = 0.1, begin: float = 0.0, *, full: bool = False) -> bool:
    """Report `calls` accepted calls, one `every` so many seconds; say whether the rate binds to the end."""
    times = [begin + every * call for call in range(1, calls + 1)]
    return all(learned.on_accepted(now, now - 0.01, full=full) for now in times)


def test_a_rate_that_is_not_in_demand_is_not_raised() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01)
    accept(learned, 200)

    assert learned.rate == 100.0


def test_a_rate_that_the_concurrency_never_reaches_stops_binding() -> None:
    assert not accept(LearnedRate(0.0, rate=100.0, trip=0.01), 200, full=True)


@pytest.mark.parametrize(("observed", "binds"), [(60.0, False), (70.0, True)])
def test_a_rate_binds_up_to_half_above_what_the_full_concurrency_makes(observed: float, binds: bool) -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01)

    assert accept(learned, int(0.25 * observed) + 2, every=1 / observed, full=True) is binds


def test_answers_to_calls_of_an_older_rate_say_nothing() -> None:
    learned = LearnedRate(10.0, rate=100.0, trip=0.01)
    for _ in range(500):
        learned.on_throttled(10.5, started=9.9)

    assert learned.rate == 100.0


def test_a_pause_lowers_the_rate_once_for_all_the_answers_that_carry_it() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01)
    for _ in range(20):
        learned.on_throttled(1.0, started=0.9)
        learned.on_pause(1.0, 1.0)

    assert learned.rate == pytest.approx(90.0)


def test_a_server_that_is_shut_is_asked_a_quarter_as_often_until_it_accepts_again() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01)
    for call in range(1, 6):
        learned.on_throttled(call * 0.01, started=call * 0.01 - 0.001)

    assert learned.state is PaceState.SHUT
    assert learned.rate == pytest.approx(0.9 * 25.0)

    for call in range(20_000):
        learned.on_throttled(1.0 + call * 0.01, started=1.0 + call * 0.01)
    assert learned.rate == pytest.approx(0.9 * 25.0)

    accept(learned, 1, begin=300.0)
    assert learned.state is PaceState.HOLDING
    assert learned.rate == pytest.approx(90.0)


def test_a_rate_that_goes_on_after_an_outage_remembers_what_was_too_high() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01)
    for _ in range(5):
        learned.on_throttled(1.0, 1.0)
    learned.resume(5.0, 95.0)
    accept(learned, 30, every=0.01, begin=5.0)

    assert learned.rate == pytest.approx(95.0 * 1.02)


def until_it_rises(learned: LearnedRate, now: float) -> float:
    """Let calls be accepted from `now` on, as many as the rate allows; give the seconds until it is higher."""
    begin, rate = now, learned.rate
    while learned.rate <= rate:
        now += 1 / rate
        learned.on_accepted(now, now - 1e-4, full=False)
    return now - begin


@pytest.mark.parametrize(("trip", "wait"), [(0.01, 0.25), (0.8, 1.6)])
def test_a_rate_is_first_raised_after_a_quarter_second_or_two_round_trips(trip: float, wait: float) -> None:
    assert until_it_rises(LearnedRate(1.0, rate=200.0, trip=trip), 1.0) == pytest.approx(wait, abs=0.02)


@pytest.mark.parametrize(("trip", "wait"), [(0.01, 0.25), (0.8, 1.6)])
def test_a_rate_is_raised_as_soon_after_an_outage(trip: float, wait: float) -> None:
    learned = LearnedRate(1.0, rate=200.0, trip=trip)
    learned.resume(9.0, 200.0)

    assert until_it_rises(learned, 9.0) == pytest.approx(wait, abs=0.02)


@pytest.mark.parametrize(("trip", "wait"), [(0.01, 0.25), (0.8, 1.6)])
def test_a_rate_far_from_what_was_too_high_is_raised_as_soon_again(trip: float, wait: float) -> None:
    learned = LearnedRate(1.0, rate=200.0, trip=trip)
    risen = 1.0 + until_it_rises(learned, 1.0)

    assert until_it_rises(learned, risen) == pytest.approx(wait, abs=0.02)


def test_a_rate_just_below_what_was_too_high_is_raised_once_a_second() -> None:
    learned = LearnedRate(1.0, rate=200.0, trip=0.01, ceiling=205.0)
    risen = 1.0 + until_it_rises(learned, 1.0)

    assert until_it_rises(learned, risen) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("trip", "wait"), [(0.01, 1.0), (0.8, 1.6)])
def test_a_rate_that_fell_far_rises_again_after_a_second_or_two_round_trips(trip: float, wait: float) -> None:
    learned, now = LearnedRate(0.0, rate=100.0, trip=trip), 2.0
    while learned.rate == 100.0:
        now += 0.01
        learned.on_accepted(now, now - 0.01, full=False)
        learned.on_throttled(now, now - 0.01)

    assert learned.rate < 70.0
    assert until_it_rises(learned, now) == pytest.approx(wait, abs=0.05)


@pytest.mark.parametrize(("trip", "wait"), [(0.01, 1.0), (0.8, 1.6)])
def test_a_rate_falls_after_a_second_or_two_round_trips(trip: float, wait: float) -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=trip)
    for _ in range(3):
        learned.on_throttled(wait - 0.01, started=0.1)
    assert learned.rate == 100.0
    learned.on_throttled(wait + 0.01, started=0.1)

    assert learned.rate < 100.0


def test_after_a_pause_only_what_all_sent_after_it_counts() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01, reach=0.5)
    learned.on_pause(1.0, 1.0)
    for _ in range(5):
        learned.on_throttled(2.6, started=2.4)
    assert learned.state is PaceState.HOLDING
    for _ in range(5):
        learned.on_throttled(2.6, started=2.6)

    assert learned.state is PaceState.SHUT


def test_a_server_that_is_shut_again_before_the_first_cut_has_come_to_all_is_not_cut_twice() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.2, reach=0.25)
    for _ in range(5):
        learned.on_throttled(1.0, started=0.9)
    shut = learned.rate
    learned.on_accepted(1.3, 1.3, full=False)
    for _ in range(5):
        learned.on_throttled(1.6, started=1.6)

    assert learned.state is PaceState.SHUT
    assert learned.rate == shut


def test_a_first_rate_counts_from_the_last_start_before_it() -> None:
    pacer = Pacer(None)
    pacer.reserve(5.0)
    pacer.rate = 10.0

    assert pacer.reserve(5.0) == pytest.approx(0.1)


def test_a_step_up_that_fails_is_taken_back_and_comes_later_the_next_time() -> None:
    learned = LearnedRate(0.0, rate=100.0, trip=0.01)
    accept(learned, 200, every=0.01)
    assert learned.state is PaceState.CLIMBING
    higher = learned.rate

    for _ in range(3):
        learned.on_throttled(2.5, started=2.45)

    assert learned.rate < higher
    assert learned.state is PaceState.HOLDING


def fall(learned: LearnedRate, now: float, accepted: int, throttled: int) -> float:
    """Let calls be throttled among accepted ones, the last so late that the rate falls; give the time then."""
    for _ in range(accepted):
        learned.on_accepted(now + 0.02, now + 0.01, full=False)
    for at in [now + 0.02] * (throttled - 1) + [now + 1.5]:
        learned.on_throttled(at, now + 0.01)
    return now + 1.5


@pytest.mark.parametrize(("accepted", "tested"), [(7, True), (6, False)])
def test_up_to_three_in_ten_throttled_answers_are_doubtful_the_second_time(accepted: int, tested: bool) -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01)
    now = fall(learned, 0.0, accepted, 3)
    assert not learned.testing
    fall(learned, now, accepted, 3)

    assert learned.testing is tested


def test_what_is_doubtful_is_counted_anew_after_an_outage() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01)
    now = fall(learned, 0.0, 30, 3)
    learned.resume(now, 90.0)
    now = fall(learned, now, 30, 3)
    assert not learned.testing
    fall(learned, now, 30, 3)

    assert learned.testing


def test_three_in_ten_are_doubtful_from_the_beginning() -> None:
    assert LearnedRate(0.0, rate=90.0, trip=0.01, share=DOUBTFUL).testing


@pytest.mark.parametrize(("throttled", "share"), [(2, 0.0), (3, 0.075), (24, 0.6), (25, 0.0)])
def test_what_stays_in_a_test_is_background_from_three_answers_to_six_in_ten(throttled: int, share: float) -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01, share=DOUBTFUL)
    accept(learned, 40 - throttled, every=0.02)
    for _ in range(throttled):
        learned.on_throttled(1.0, 0.5)

    assert learned.result(1.0) == pytest.approx(share)


def test_a_doubtful_share_of_throttled_answers_is_tested_at_a_lower_rate() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01, share=0.05)

    assert learned.testing
    assert learned.rate < 0.7 * 90.0


def test_throttled_answers_that_go_away_in_the_test_are_about_rate() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01, share=0.05)
    accept(learned, 200, every=0.02)

    assert learned.result(4.0) == 0.0
    assert not learned.testing
    assert learned.rate == pytest.approx(90.0)


def test_throttled_answers_that_stay_in_the_test_are_background() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01, share=0.05)
    for call in range(1, 101):
        learned.on_accepted(call * 0.02, call * 0.02 - 0.01, full=False)
        if call % 20 == 0:
            learned.on_throttled(call * 0.02, started=call * 0.02 - 0.01)

    assert learned.result(2.0) == pytest.approx(0.05, abs=0.01)


def test_a_test_goes_on_until_it_proves_something() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01, share=0.05)
    accept(learned, 99, every=0.02)

    assert learned.result(2.0) is None
    assert learned.testing


def test_a_test_on_a_slow_server_lasts_thirty_round_trips() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=1.0, share=0.05)

    assert learned.result(29.9) is None
    assert learned.result(30.0) == 0.0


def test_quick_refusals_count_in_a_test_only_once_calls_of_the_same_time_are_served() -> None:
    learned = LearnedRate(0.0, rate=90.0, trip=0.01, share=0.05)
    for _ in range(20):
        learned.on_throttled(0.01, started=0.005)

    assert learned.result(0.02) is None


def forgiven(background: Background, rejects: int, every: int, *, paced: bool = True) -> int:
    """Count the forgiven of `rejects` that come one in `every` accepted calls."""
    return sum(background.forgives(call * every, paced=paced) for call in range(1, rejects + 1))


def test_a_known_background_is_forgiven() -> None:
    background = Background()
    background.learn(0.02, accepted=0)

    assert forgiven(background, 100, every=50) == 100


def test_what_exceeds_the_background_is_not_forgiven() -> None:
    background = Background()
    background.learn(0.02, accepted=0)

    assert forgiven(background, 1000, every=5) <= 250


def test_a_background_wears_away() -> None:
    background = Background()
    background.learn(0.02, accepted=0)

    assert forgiven(background, 2000, every=50) <= 1000


@pytest.mark.parametrize(("longest", "share"), [(80, 0.05), (81, 0.0)])
def test_a_share_is_no_background_where_a_stretch_had_room_for_more_than_four_and_had_none(
    longest: int, share: float
) -> None:
    background = Background()
    for accepted in (10, 10 + longest, 20 + longest):
        background.on_throttled(accepted, paced=True)

    assert background.judge(0.05) == share
    assert background.judge(0.05) == 0.05  # what comes after the test is looked at anew


def test_a_stretch_before_the_pace_says_nothing_of_a_share() -> None:
    background = Background()
    background.on_throttled(1000, paced=False)
    background.on_throttled(1010, paced=True)

    assert background.judge(0.05) == 0.05


@pytest.mark.parametrize(("stretch", "share"), [(300, 0.05), (301, 0.0)])
def test_a_background_ends_with_a_stretch_that_had_room_for_more_than_fifteen_and_had_none(
    stretch: int, share: float
) -> None:
    background = Background()
    background.learn(0.05, accepted=0)
    background.on_throttled(stretch, paced=False)

    assert background.share == share


def test_an_unknown_background_is_forgiven_one_in_a_hundred_and_fifty() -> None:
    assert forgiven(Background(), 20, every=150, paced=False) == 20
    assert forgiven(Background(), 200, every=30, paced=False) <= 45
