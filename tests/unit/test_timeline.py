"""A run over time: bounded, mergeable, and right to a tenth."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import OutcomeState
from altcraft_async.timeline import Bucket, Level, Sample, Timeline

APPLIED, UNKNOWN = OutcomeState.APPLIED, OutcomeState.UNKNOWN


def counted(timeline):
    return sum(sum(bucket.ended.values()) for bucket in timeline.buckets)


def test_what_ends_is_counted_in_its_second():
    timeline = Timeline()
    timeline.ended(0.2, {APPLIED: 2}, [0.01, 0.02])
    timeline.ended(0.9, {APPLIED: 1, UNKNOWN: 1}, [0.01])
    timeline.ended(7.0, {APPLIED: 1}, [])
    assert [(bucket.start, bucket.width, bucket.ended) for bucket in timeline.buckets] == [
        (0, 1, {APPLIED: 3, UNKNOWN: 1}),
        (7, 1, {APPLIED: 1}),
    ]


@given(st.lists(st.floats(0, 1e7), max_size=60), st.integers(1, 7))
def test_the_buckets_are_never_more_than_permitted_and_lose_nothing(moments, most):
    timeline = Timeline(most=most)
    for at in moments:
        timeline.ended(at, {APPLIED: 1}, [0.01])
    assert len(timeline.buckets) <= most
    assert counted(timeline) == len(moments)
    widths = {bucket.width for bucket in timeline.buckets}
    assert len(widths) <= 1
    for bucket in timeline.buckets:
        assert bucket.start % bucket.width == 0
        inside = [at for at in moments if bucket.start <= int(at) < bucket.start + bucket.width]
        assert sum(bucket.ended.values()) == len(inside)


def test_a_pause_between_two_runs_costs_no_resolution():
    timeline = Timeline()
    for day in range(3):
        for second in range(50):
            timeline.ended(day * 86_400 + second, {APPLIED: 1}, [])
    assert len(timeline.buckets) == 150
    assert timeline.buckets[0].width == 1


@given(st.lists(st.floats(0.0001, 1000), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_right_to_a_tenth(elapsed, share):
    timeline = Timeline()
    timeline.ended(0, {}, elapsed)
    (bucket,) = timeline.buckets
    true = sorted(elapsed)[math.ceil(share * len(elapsed)) - 1]
    assert bucket.latency(share) == pytest.approx(true, rel=0.1)


def test_percentiles_survive_merging():
    timeline, chance = Timeline(most=4), random.Random(1)
    elapsed = [chance.expovariate(10) for _ in range(5000)]
    for number, seconds in enumerate(elapsed):
        timeline.ended(number, {APPLIED: 1}, [seconds])
    assert len(timeline.buckets) <= 4
    for bucket in timeline.buckets:
        mine = sorted(elapsed[bucket.start : bucket.start + bucket.width])
        assert bucket.latency(0.5) == pytest.approx(mine[len(mine) // 2], rel=0.11)


def test_nothing_ended_has_no_percentile():
    assert Bucket().latency(0.5) is None


def test_samples_count_what_came_since_the_one_before():
    timeline = Timeline()
    timeline.sampled(0.0, Sample(0, 0, 0, limit=10, in_flight=0, outage=False))
    timeline.sampled(0.5, Sample(7, 1, 0, limit=20, in_flight=9, outage=False))
    timeline.sampled(0.9, Sample(9, 1, 2, limit=15, in_flight=4, outage=False))
    timeline.sampled(1.9, Sample(10, 2, 2, limit=15, in_flight=1, outage=False))
    first, second = timeline.buckets
    assert (first.sent, first.retries, first.throttled) == (9, 1, 2)
    assert (first.limit, first.in_flight) == (Level(15, 20), Level(4, 9))
    assert (second.sent, second.retries, second.throttled) == (1, 1, 0)


def test_an_outage_counts_from_where_it_was_seen_to_where_it_was_not():
    timeline = Timeline()
    for at, outage in ((0.0, False), (0.25, True), (1.0, True), (1.5, False), (2.0, False)):
        timeline.sampled(at, Sample(0, 0, 0, 10, 0, outage=outage))
    assert [bucket.outage for bucket in timeline.buckets] == [0.75, 0.5, 0.0]


def test_only_what_changed_is_to_be_written_unless_the_width_did():
    timeline = Timeline(most=2)
    timeline.ended(0, {APPLIED: 1}, [])
    timeline.ended(1, {APPLIED: 1}, [])
    assert [bucket.start for bucket in timeline.take_changes().buckets] == [0, 1]
    timeline.ended(1, {APPLIED: 1}, [])
    changes = timeline.take_changes()
    assert ([bucket.start for bucket in changes.buckets], changes.all) == ([1], False)
    assert timeline.take_changes().buckets == []
    timeline.ended(2, {APPLIED: 1}, [])
    changes = timeline.take_changes()
    assert ([(bucket.start, bucket.width) for bucket in changes.buckets], changes.all) == ([(0, 2), (2, 2)], True)


def test_a_timeline_goes_on_from_its_buckets():
    timeline = Timeline(most=4)
    for second in range(9):
        timeline.ended(second, {APPLIED: 1}, [0.1])
    again = Timeline(timeline.buckets, most=4)
    again.ended(9, {APPLIED: 1}, [0.1])
    assert counted(again) == 10
    assert again.buckets[0].width == 4


def test_time_that_runs_backwards_is_harmless():
    timeline = Timeline()
    timeline.ended(-5, {APPLIED: 1}, [])
    timeline.sampled(3, Sample(0, 0, 0, 1, 0, outage=True))
    timeline.sampled(1, Sample(0, 0, 0, 1, 0, outage=True))
    assert [bucket.outage for bucket in timeline.buckets] == [0.0, 0.0, 0.0]
