"""The outage law: each row of its table, which failures count, and when probes go out."""

from __future__ import annotations

import itertools
import math

import pytest

from altcraft_async.flow.outage import FIRST_WAIT, LONG_WAIT, SHORT_WAIT, THRESHOLD, Outage, OutageState

CLEAR, SUSPECTED, OPEN = OutageState


def served(outage, now, *, took=0.1, kind="m"):
    return outage.on_served(now, now - took, kind)


def fails(outage, now, line, *, first=None, kind="m"):
    outage.on_failure(now, kind, line, now if first is None else first)


def suspected(now=10.0, *, took=0.1):
    """An outage law that has served a call in `took` seconds, and is suspected since `now`."""
    outage = Outage()
    served(outage, now - 1.0, took=took)
    for line in range(THRESHOLD):
        fails(outage, now, line)
    assert outage.state is SUSPECTED
    return outage


def opened(now=10.0):
    """One that opened at `now`, its first failure 0.1 seconds before."""
    outage = suspected(now - 0.1)
    outage.look(now + 1e-9)
    assert outage.state is OPEN
    return outage


# -- the table


def test_clear_becomes_suspected_at_the_third_failure_without_a_served_answer_between():
    outage = Outage()
    served(outage, 1.0)
    states = []
    for line in range(3):
        fails(outage, 2.0, line)
        states.append(outage.state)
    assert states == [CLEAR, CLEAR, SUSPECTED]


def test_clear_stays_clear_where_a_served_answer_comes_between_the_failures():
    outage = Outage()
    for number in range(20):
        fails(outage, number, f"line {number}")
        if number % 2:
            served(outage, number + 0.5)
    assert outage.state is CLEAR


def test_clear_opens_when_three_calls_are_overdue_and_nothing_came_meanwhile():
    outage = Outage()
    served(outage, 1.0)
    assert outage.on_overdue(5.0, 2.0, 3.0)
    assert (outage.state, outage.since) == (OPEN, 2.0)


def test_clear_stays_clear_where_a_call_was_served_since_the_third_overdue_one_began():
    outage = Outage()
    served(outage, 3.5)
    assert not outage.on_overdue(5.0, 2.0, 3.0)
    assert outage.state is CLEAR


@pytest.mark.parametrize(("begun", "state"), [(9.5, SUSPECTED), (10.1, CLEAR)])
def test_a_line_counts_unless_a_call_begun_after_its_first_failure_was_served(begun, state):
    outage = Outage()
    for line in range(THRESHOLD):
        fails(outage, 10.0, line)
    outage.on_served(10.5, begun, "m")
    for line in range(THRESHOLD):
        fails(outage, 11.0, line, first=10.0)
    assert outage.state is state


def test_suspected_becomes_clear_by_a_served_answer():
    outage = suspected(10.0)
    assert not served(outage, 10.05)  # it was no outage yet
    assert (outage.state, outage.since) == (CLEAR, math.inf)


@pytest.mark.parametrize(("started", "state"), [(9.9, SUSPECTED), (10.01, CLEAR)])
def test_where_no_connection_was_made_only_a_call_begun_after_the_first_failure_ends_the_suspicion(started, state):
    outage = Outage()
    served(outage, 9.0, took=0.4)
    for line in (None, "a", "b"):
        fails(outage, 10.0, line)
    outage.on_served(10.1, started, "m")
    assert outage.state is state


def test_suspected_becomes_open_a_round_trip_after_the_first_of_the_failures():
    outage = Outage()
    served(outage, 9.0, took=0.4)
    for line, now in enumerate((10.0, 10.1, 10.2)):
        fails(outage, now, line)
    assert outage.look(10.3) == pytest.approx(0.1)
    assert outage.state is SUSPECTED
    outage.look(10.41)
    assert (outage.state, outage.since) == (OPEN, 10.0)


def test_suspected_becomes_open_at_once_where_the_failures_took_a_round_trip_or_more():
    outage = Outage()
    served(outage, 9.0, took=0.1)
    for line, now in enumerate((10.0, 10.5, 11.0)):
        fails(outage, now, line)
    outage.look(11.0)
    assert outage.state is OPEN


def test_a_tenth_of_a_second_is_the_round_trip_before_one_was_measured():
    outage = Outage()
    for line in range(3):
        fails(outage, 10.0, line)
    assert outage.look(10.0) == pytest.approx(0.1)


def test_suspected_opens_when_three_calls_are_overdue_and_keeps_its_first_failure():
    outage = suspected(10.0, took=9.0)
    assert outage.on_overdue(10.5, 10.2, 10.4)
    assert (outage.state, outage.since) == (OPEN, 10.0)


def test_suspected_becomes_open_at_the_very_moment_that_a_round_trip_is_over():
    outage = Outage()
    for line in range(THRESHOLD):
        fails(outage, 0.0, line)
    assert outage.look(0.1) > 0.0
    assert outage.state is OPEN


def test_open_becomes_clear_by_a_served_answer_to_a_call_begun_after_the_first_failure():
    outage = opened(10.0)
    assert outage.on_served(11.0, 10.5, "m")
    assert (outage.state, outage.since) == (CLEAR, math.inf)
    assert outage.look(11.0) == 0.0


def test_open_stays_open_where_an_older_call_is_served():
    outage = opened(10.0)
    assert not outage.on_served(10.2, 9.8, "m")
    assert outage.state is OPEN


def test_open_is_not_opened_again():
    outage = opened(10.0)
    assert not outage.on_overdue(20.0, 1.0, 15.0)
    fails(outage, 20.0, "another")
    assert outage.since == pytest.approx(9.9)


def test_after_an_outage_it_takes_three_new_failures_to_suspect_another():
    outage = opened(10.0)
    served(outage, 11.0)
    fails(outage, 12.0, 1)
    fails(outage, 12.0, 2)
    assert outage.state is CLEAR
    fails(outage, 12.0, 3)
    assert (outage.state, outage.since) == (SUSPECTED, 12.0)


# -- which failures count


def test_a_failure_that_speaks_of_the_server_counts_from_any_call():
    outage = Outage()
    states = []
    for _ in range(3):
        fails(outage, 2.0, None, first=0.5)
        states.append(outage.state)
    assert states == [CLEAR, CLEAR, SUSPECTED]


def test_failures_of_lines_and_of_the_server_count_together():
    outage = Outage()
    fails(outage, 2.0, "a")
    fails(outage, 2.0, None)
    assert outage.state is CLEAR
    fails(outage, 2.0, "b")
    assert outage.state is SUSPECTED


def test_one_line_counts_once_however_often_it_fails():
    outage = Outage()
    for now in range(100):
        fails(outage, now, "a", first=0.0)
        fails(outage, now, "b", first=0.0)
    assert outage.state is CLEAR


def test_lines_whose_first_failure_came_before_the_last_served_answer_do_not_count():
    outage = Outage()
    served(outage, 5.0)
    for line in range(100):
        fails(outage, 6.0, line, first=4.0)
    assert outage.state is CLEAR


def test_one_line_that_always_fails_never_opens_an_outage_among_others_or_alone_at_the_end():
    outage = Outage()
    for now in range(50):
        fails(outage, now, "bad", first=0.0)
        served(outage, now + 0.5)
    for now in range(50, 1000):
        fails(outage, now, "bad", first=0.0)
        outage.look(now)
    assert outage.state is CLEAR
    assert outage.look(1000.0) == 0.0


def test_the_outage_is_since_the_first_failure_that_counts():
    outage = Outage()
    served(outage, 5.0)
    fails(outage, 6.0, "old", first=4.0)
    for now in (7.0, 8.0, 9.0):
        fails(outage, now, now)
    assert outage.since == 7.0


# -- overdue


def test_nothing_is_overdue_before_a_call_of_its_kind_was_served():
    outage = Outage()
    served(outage, 1.0, kind="one")
    assert outage.overdue_after("other") == math.inf


@pytest.mark.parametrize(("latency", "after"), [(0.01, 1.0), (0.3, 1.0), (0.5, 1.5), (10.0, 30.0)])
def test_overdue_is_three_times_the_usual_latency_and_a_second_at_least(latency, after):
    outage = Outage()
    served(outage, 100.0, took=latency)
    assert outage.overdue_after("m") == pytest.approx(after)


def test_the_usual_latency_follows_slowly_and_for_each_kind_apart():
    outage = Outage()
    served(outage, 100.0, took=1.0, kind="slow")
    served(outage, 200.0, took=2.0, kind="slow")
    served(outage, 200.0, took=0.5, kind="quick")
    assert outage.overdue_after("slow") == pytest.approx(3.3)
    assert outage.overdue_after("quick") == pytest.approx(1.5)


# -- probes


def probe_times(outage, now, end, *, unanswered):
    """The times at which probes start, each looked for as soon as the law says; each is answered at once, or never."""
    times = []
    while now < end:
        delay = outage.look(now)
        if delay > 0.0:
            now += delay + 1e-9
            continue
        times.append(now)
        outage.probe_started(now, "m")
        if not unanswered:
            outage.probe_ended()
    return times


def gaps_of(times):
    return [late - early for early, late in itertools.pairwise(times)]


def test_the_first_probe_goes_out_a_quarter_second_after_the_opening():
    assert opened(10.0).look(10.0) == pytest.approx(FIRST_WAIT)


def test_the_waits_double_up_to_a_second_in_the_first_minute():
    times = probe_times(opened(10.0), 10.0, 65.0, unanswered=False)
    assert gaps_of(times)[:4] == pytest.approx([0.5, 1.0, 1.0, 1.0], abs=1e-3)
    assert max(gaps_of(times)) == pytest.approx(SHORT_WAIT, abs=1e-3)


def test_after_the_first_minute_the_waits_grow_to_five_seconds():
    times = probe_times(opened(10.0), 10.0, 200.0, unanswered=False)
    later = gaps_of([time for time in times if time > 70.0])
    assert later[:2] == pytest.approx([2.0, 4.0], abs=1e-3)
    assert later[2:] == pytest.approx([LONG_WAIT] * len(later[2:]), abs=1e-3)


def test_a_new_outage_begins_with_short_waits_again():
    outage = opened(10.0)
    probe_times(outage, 10.0, 200.0, unanswered=False)
    served(outage, 201.0)
    for line in range(3):
        fails(outage, 300.0, line)
    outage.look(301.0)
    assert outage.look(301.0) == pytest.approx(FIRST_WAIT)


def test_a_probe_that_is_under_way_holds_up_the_next_one():
    outage = opened(10.0)
    outage.look(10.3)
    outage.probe_started(10.3, "m")
    assert outage.look(10.85) > 0.0
    outage.probe_ended()
    assert outage.look(10.85) == 0.0


def test_a_probe_that_was_not_used_lets_the_next_start_at_once():
    outage = opened(10.0)
    outage.look(10.3)
    outage.probe_started(10.3, "m")
    outage.probe_ended(unused=True)
    assert outage.look(10.3) == 0.0


def test_a_probe_that_is_overdue_does_not_hold_up_the_next():
    gaps = gaps_of(probe_times(opened(10.0), 10.0, 60.0, unanswered=True))
    assert gaps == pytest.approx([1.0] * len(gaps), abs=1e-3)


def test_a_probe_of_a_kind_that_was_never_served_has_a_second():
    outage = opened(10.0)
    outage.probe_started(10.25, "never served")
    assert outage.look(10.25) == pytest.approx(1.0)


def test_where_answers_are_slow_a_probe_has_three_times_as_long():
    outage = Outage()
    served(outage, 9.0, took=2.0)
    for line in range(3):
        fails(outage, 10.0, line)
    outage.look(13.0)
    gaps = gaps_of(probe_times(outage, 13.0, 60.0, unanswered=True))
    assert gaps == pytest.approx([6.0] * len(gaps), abs=1e-3)


def test_before_anything_was_served_a_call_is_overdue_after_the_time_that_a_first_answer_may_take():
    outage = Outage()
    assert outage.overdue_after("m") == 5.0
    assert outage.overdue_after("m", apart=True) == math.inf
    served(outage, 9.0, took=0.1)
    assert outage.overdue_after("another") == math.inf


# -- strangers


def test_three_strange_answers_say_that_the_address_is_wrong_where_nothing_was_ever_served():
    outage, found = Outage(), []
    for _ in range(3):
        outage.on_strange_answer()
        found.append(outage.misdirected)
    assert found == [False, False, True]


def test_strange_answers_say_nothing_of_the_address_where_something_was_served():
    outage = Outage()
    assert not outage.served
    served(outage, 1.0)
    for _ in range(10):
        outage.on_strange_answer()
    assert outage.served
    assert not outage.misdirected


def test_the_repr_tells_the_state():
    assert repr(opened()) == "<Outage open>"


def test_lines_that_failed_while_others_were_served_open_none_with_later_calls_of_theirs():
    law = Outage()
    for attempt in range(3):
        for line in range(3):
            moment = 10.0 * attempt + line
            law.on_failure(moment, "update", line, float(line))
            law.on_served(moment + 0.5, moment + 0.4, "update", "another")
    for line in range(3):  # alone now, and each with another call
        law.on_failure(100.0 + line, "update", line, 100.0 + line)
    assert law.state is OutageState.CLEAR


@pytest.mark.parametrize(("times", "state"), [(1, SUSPECTED), (2, CLEAR)])
def test_a_line_that_failed_twice_while_others_were_served_is_bad_and_once_is_a_coincidence(times, state):
    law = Outage()
    for attempt in range(times):
        for line in range(3):
            moment = 10.0 * attempt + line
            law.on_failure(moment, "update", line, moment)
            law.on_served(moment + 0.5, moment + 0.4, "update", "another")
    for line in range(3):
        law.on_failure(100.0 + line, "update", line, 100.0 + line)
    assert law.state is state


def test_a_line_that_was_served_again_counts_like_any_other():
    law = Outage()
    for line in range(3):
        law.on_failure(float(line), "update", line, float(line))
        law.on_served(line + 0.5, line + 0.4, "update", line)
    for line in range(3):
        law.on_failure(10.0, "update", line, 10.0)
    assert law.state is OutageState.SUSPECTED


@pytest.mark.parametrize(("took", "shut"), [(0.01, 0.5), (0.1, 0.5), (0.4, 1.2)])
def test_nothing_but_back_pressure_for_half_a_second_and_three_round_trips_opens_an_outage(took, shut):
    for seconds, state in ((shut - 0.01, CLEAR), (shut + 0.01, OPEN)):
        law = Outage()
        served(law, 9.0, took=took)
        for number in range(THRESHOLD):
            law.on_back_pressure(10.0 + seconds * number / (THRESHOLD - 1), "m")
        assert (law.state, law.is_open) == (state, state is OPEN)


def test_back_pressure_twice_is_no_outage_however_long_it_lasts():
    law = Outage()
    for now in (10.0, 60.0):
        law.on_back_pressure(now, "m")
    assert law.state is CLEAR
    law.on_back_pressure(60.1, "m")
    assert law.state is OPEN


def test_a_served_answer_between_says_that_back_pressure_is_no_outage():
    law = Outage()
    for number in range(20):
        law.on_back_pressure(number * 0.3, "m")
        served(law, number * 0.3 + 0.2)
    assert law.state is CLEAR


def test_a_failure_at_the_very_moment_from_which_others_were_served_is_a_lines_own():
    law = Outage()
    for moment in (1.0, 2.0):
        for line in range(3):
            law.on_failure(moment, "m", line, moment)
        served(law, moment + 0.1, took=0.1)  # begun when they failed
    for line in range(3):
        law.on_failure(9.0, "m", line, 9.0)
    assert law.state is CLEAR


# -- how long


def test_the_time_of_all_outages_is_added_up():
    outage = opened(10.0)  # its first failure came at 9.9
    assert outage.lasted(9.0) == 0.0
    assert outage.lasted(12.9) == pytest.approx(3.0)
    served(outage, 19.9)
    assert outage.lasted(100.0) == pytest.approx(10.0)
    for line in range(THRESHOLD):
        fails(outage, 200.0, line)
    assert outage.state is SUSPECTED
    assert outage.lasted(201.0) == pytest.approx(11.0)


def test_failures_that_are_no_outage_add_no_time():
    outage = Outage()
    fails(outage, 1.0, "line")
    assert outage.lasted(50.0) == 0.0
    served(outage, 51.0)
    assert outage.lasted(60.0) == 0.0


def test_an_outage_of_calls_without_an_answer_is_not_this_machines_own():
    law = Outage()
    law.on_overdue(5.0, 2.0, 3.0)
    assert (law.state, law.local) == (OPEN, False)


def test_a_failure_is_this_machines_own_until_another_one_is_not():
    law = Outage()
    law.on_no_room(1.0, "m", "a", 1.0)
    assert law.local
    fails(law, 2.0, "b")
    assert not law.local


def test_only_what_ends_an_outage_or_opens_one_says_so():
    outage = Outage()
    assert not served(outage, 1.0)
    assert outage.on_overdue(5.0, oldest=2.0, third=3.0)
    assert not outage.on_overdue(5.1, oldest=2.0, third=3.0)
    assert not outage.on_served(5.2, 1.5, "m")
    assert outage.on_served(5.3, 2.5, "m")
    assert not outage.on_overdue(9.0, oldest=1.0, third=2.0)


def test_before_anything_came_nothing_is_known():
    outage = Outage()
    assert (outage.state, outage.local, outage.served, outage.misdirected) == (CLEAR, False, False, False)
    assert outage.lasted(5.0) == 0.0


def test_the_time_of_an_outage_counts_from_its_first_failure():
    outage = suspected(10.0)
    assert [outage.lasted(now) for now in (9.5, 10.0, 10.25, 12.0)] == [0.0, 0.0, 0.25, 2.0]
