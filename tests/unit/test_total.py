"""A known total: nobody has more than is there, and what is there is used by whoever can."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import Shared
from altcraft_async.flow.limit import LearnedLimit, LimitStatistics, Signal
from altcraft_async.flow.share import Load, Report, Role
from altcraft_async.flow.total import SharedTotal, hand_out_pace

FULL = math.inf


def members(count: int, permits: Shared | None, rate: Shared | None = None) -> list[SharedTotal]:
    return [SharedTotal(permits, rate) for _ in range(count)]


def settle(group: list[SharedTotal], loads: list[Load], rounds: int = 5) -> None:
    """Let the first lead, and the others follow; each begins no more than it may."""
    for step in range(rounds):
        now = 100.0 + step * 0.1
        leader, *others = group
        reports = {number: member.report(now, loads[number]) for number, member in enumerate(others, start=1)}
        shares = leader.lead(now, leader.report(now, loads[0]), reports)
        for number, member in enumerate(others, start=1):
            member.follow(shares[number], leader.whole.limit, len(group))


def busy(in_flight: int) -> Load:
    return Load(in_flight, waiting=True, full=True)


def test_who_does_not_know_the_others_yet_has_one_permit_and_hardly_a_pace() -> None:
    total = SharedTotal(Shared(64), Shared(128))

    assert (total.limit, total.rate) == (1, 2.0)


def test_who_is_alone_has_all_of_it() -> None:
    total = SharedTotal(Shared(64), Shared(128))
    total.stay_alone()

    assert (total.limit, total.rate) == (64, 128)
    assert repr(total) == "<SharedTotal alone: 64 of 64, 128 of 128 a second>"


def test_full_members_have_equal_shares_of_all_of_it() -> None:
    group = members(4, Shared(64))
    settle(group, [busy(1)] * 4)

    assert [member.limit for member in group] == [16] * 4
    assert [member.members for member in group] == [4] * 4


def test_what_one_does_not_need_others_have() -> None:
    group = members(3, Shared(60))
    settle(group, [Load(2), busy(1), busy(1)])

    assert sorted(member.limit for member in group) == [3, 28, 29]


def test_a_newcomer_gets_no_permit_that_is_still_in_use() -> None:
    first, second = members(2, Shared(10))
    first.stay_alone()
    first.lead(1.0, first.report(1.0, busy(10)), {1: second.report(1.0, busy(1))})
    shares = first.lead(1.1, first.report(1.1, busy(9)), {1: second.report(1.1, busy(1))})

    assert first.limit == 5
    assert shares[1].limit == 1


def test_a_pace_is_for_those_who_wait_for_it_and_not_for_those_who_wait_for_permits() -> None:
    group = members(2, None, Shared(100))
    settle(group, [Load(5, waiting=True, full=True), Load(5, waiting=True, full=False)])

    assert [member.rate for member in group] == pytest.approx([100 / 64, 100 - 100 / 64])


def test_who_makes_little_of_its_pace_keeps_a_quarter_more_than_it_makes() -> None:
    idle = SharedTotal(rate=Shared(100))
    for step in range(21):
        report = idle.report(step * 0.1, Load(0, started=step))
    shares = idle.lead(2.0, report, {1: Report(5, 5, hungry=True, per_second=FULL, pace=50.0)})

    assert report.per_second == pytest.approx(10.0)
    assert idle.rate == pytest.approx(13.5)
    assert shares[1].rate == pytest.approx(86.5)


@given(
    held=st.lists(st.floats(0, 50), min_size=2, max_size=8),
    total=st.floats(1, 300),
    data=st.data(),
)
def test_paces_never_grow_by_more_than_is_free(held: list[float], total: float, data: st.DataObject) -> None:
    wants = [data.draw(st.one_of(st.floats(0, 99), st.just(FULL))) for _ in held]
    paces = hand_out_pace(total, held, wants, least=0.0)
    gained = sum(max(0.0, pace - have) for pace, have in zip(paces, held, strict=True))

    assert gained <= max(0.0, total - sum(held)) + 1e-6
    assert all(pace <= want + 1e-9 for pace, want in zip(paces, wants, strict=True))


@given(rounds=st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=1, max_size=20))
def test_all_together_never_have_more_than_the_total(rounds: list[list[int]]) -> None:
    group = members(3, Shared(20))
    for waits in rounds:
        settle(
            group,
            [
                Load(min(want, member.limit), waiting=want > member.limit)
                for want, member in zip(waits, group, strict=True)
            ],
            1,
        )

        assert sum(member.limit for member in group) <= 20


def test_a_part_gives_its_permits_and_its_pace() -> None:
    total = SharedTotal(Shared(10, among="drainers"), Shared(100, among="drainers"))
    total.take_part(0.25)

    assert (total.limit, total.rate) == (2, 25.0)


def test_without_a_part_one_may_still_ask() -> None:
    total = SharedTotal(Shared(10, among="drainers"), Shared(128, among="drainers"))
    total.take_part(0.0)

    assert (total.limit, total.rate) == (1, 2.0)


def test_throttled_answers_change_nothing() -> None:
    total = SharedTotal(Shared(10))
    total.stay_alone()
    total.on_result(1.0, 0.1, Signal.OVERLOAD, 10)
    total.on_pause(1.0, 5.0)
    total.resume(9.0, 1.0)

    assert total.limit == 10


def test_who_joins_has_one_permit_and_hardly_a_pace_until_it_has_its_share() -> None:
    total = SharedTotal(Shared(10), Shared(128))
    total.stay_alone()
    total.join(10, 2)

    assert (total.limit, total.rate, total.members, total.role) == (1, 2.0, 2, Role.FOLLOWING)


def test_who_leaves_keeps_to_its_share_since_the_others_reckon_with_it() -> None:
    group = members(2, Shared(10))
    settle(group, [busy(1)] * 2)
    group[1].leave(2.0)

    assert group[1].limit == 5


def test_the_leader_in_anothers_place_begins_from_its_share() -> None:
    group = members(2, Shared(10))
    settle(group, [busy(1)] * 2)
    group[1].take_over(2.0, LearnedLimit(10))

    assert (group[1].limit, group[1].role) == (5, Role.LEADING)


def test_where_more_is_held_than_there_is_nobody_gains() -> None:
    assert hand_out_pace(10.0, [20.0, 1.0], [FULL, FULL], 0.1) == [5.0, 1.0]


def test_what_is_free_is_for_those_who_can_use_it() -> None:
    assert hand_out_pace(10.0, [8.0, 1.0], [FULL, FULL], 0.1) == [5.0, 2.0]


def test_a_permit_that_cannot_be_divided_is_one_members_for_two_seconds() -> None:
    leader = SharedTotal(Shared(3))
    seen = []
    for step in range(8):
        leader.lead(100.0 + step / 2, Report(1, 2, hungry=True), {1: Report(1, 1, hungry=True)})
        seen.append(leader.limit)

    assert seen in ([2] * 4 + [1] * 4, [1] * 4 + [2] * 4)


def test_what_is_told_of_the_starts_is_those_of_the_last_second() -> None:
    total = SharedTotal(rate=Shared(100))
    told = [
        total.report(at, Load(0, started)).per_second
        for at, started in [(100.0, 0), (100.125, 40), (101.0, 40), (101.125, 40), (101.25, 41)]
    ]

    assert told == [0.0, 40.0, 40.0, 0.0, 1.0]


def test_where_only_one_of_the_two_is_shared_the_other_is_no_matter() -> None:
    permits, pace = SharedTotal(Shared(8)), SharedTotal(rate=Shared(8))
    for total in (permits, pace):
        total.take_part(0.5)
    assert [(total.limit, total.rate) for total in (permits, pace)] == [(4, None), (1, 4.0)]
    assert [total.whole for total in (permits, pace)] == [LearnedLimit(8), LearnedLimit(1, 8.0)]
    assert [total.report(1.0, Load(0)).pace for total in (permits, pace)] == [0.0, 4.0]


def test_a_known_total_is_kept_strictly_and_nothing_is_learned_of_it() -> None:
    total = SharedTotal(Shared(8))

    assert (total.strict, total.learns, total.learned, total.members) == (True, False, None, 1)
    assert total.paused_until < 0.0
    assert total.statistics() == LimitStatistics(1, None, doing="shares the limit of a group: 1 of 8")


def test_who_is_left_alone_is_one_of_one() -> None:
    total = SharedTotal(Shared(8))
    total.join(8, 3)
    total.stay_alone()

    assert (total.members, total.role) == (1, Role.ALONE)
