"""How a limit is shared: the rule, the roles, and that nothing is given twice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import Adaptive, LearnedLimit, LimitState, Shared, Signal
from altcraft_async.flow.share import GroupLimit, Load, Report, Role, Share, divide, hand_out

KIND = "update"
FULL = math.inf


def test_who_wants_less_than_an_equal_share_gets_it_and_the_rest_is_divided_equally() -> None:
    assert divide(100.0, [10.0, FULL, FULL]) == [10.0, 45.0, 45.0]


def test_nobody_gets_more_than_it_wants() -> None:
    assert divide(100.0, [10.0, 20.0]) == [10.0, 20.0]


@given(total=st.floats(0, 1e4), wants=st.lists(st.floats(0, 1e4), min_size=1, max_size=20))
def test_nobody_gets_less_while_another_has_more(total: float, wants: list[float]) -> None:
    shares = divide(total, wants)

    assert sum(shares) <= total * (1 + 1e-9)
    for share, want in zip(shares, wants, strict=True):
        assert share == want or share >= max(shares) - 1e-6


def test_what_grows_waits_until_what_shrinks_has_come_free() -> None:
    assert hand_out(50, [50, 1], [FULL, FULL]) == [25, 1]
    assert hand_out(50, [40, 1], [FULL, FULL]) == [25, 10]
    assert hand_out(50, [25, 1], [FULL, FULL]) == [25, 25]


def test_nobody_has_permits_that_it_does_not_want() -> None:
    assert hand_out(100, [0, 0], [10.0, 20.0]) == [10, 20]
    assert hand_out(100, [0, 0], [1.0, 20.0]) == [1, 20]


@pytest.mark.parametrize("turn", range(3))
def test_a_permit_that_cannot_be_divided_goes_to_nobody_who_has_all_that_it_wants(turn: int) -> None:
    assert hand_out(35, [10, 12, 12], [10.0, FULL, FULL], turn)[0] == 10


def test_who_has_some_and_wants_little_more_gets_no_more_than_that() -> None:
    assert hand_out(100, [10, 0], [12.0, FULL]) == [12, 88]


def test_those_who_have_too_much_are_left_with_the_limit_and_not_one_more() -> None:
    assert hand_out(10, [9, 9, 9, 9], [FULL] * 4) == [3, 3, 2, 2]


def test_everybody_has_a_permit_even_where_there_are_more_members_than_permits() -> None:
    assert hand_out(2, [0, 0, 0], [FULL, FULL, FULL]) == [1, 1, 1]


def test_the_permit_of_who_wants_none_is_one_of_the_limits() -> None:
    assert hand_out(2, [0, 2], [0.0, FULL]) == [1, 1]
    assert hand_out(10, [0, 0, 0, 0], [0.0, 0.0, 0.0, FULL]) == [1, 1, 1, 7]


def test_permits_that_cannot_be_divided_go_round() -> None:
    turns = [hand_out(10, [2, 2, 2, 2], [FULL] * 4, turn) for turn in range(4)]

    assert [sum(column) for column in zip(*turns, strict=True)] == [10, 10, 10, 10]
    assert all(sum(shares) == 10 for shares in turns)


@given(
    total=st.integers(1, 300),
    members=st.lists(
        st.tuples(st.integers(0, 60), st.one_of(st.floats(0, 99), st.just(FULL))), min_size=1, max_size=12
    ),
    turn=st.integers(0, 100),
)
def test_what_is_handed_out_is_never_more_than_the_limit(
    total: int, members: list[tuple[int, float]], turn: int
) -> None:
    held, wants = [have for have, _ in members], [want for _, want in members]
    shares = hand_out(total, held, wants, turn)
    gained = sum(max(0, share - have) for share, have in zip(shares, held, strict=True))

    assert min(shares) >= 1
    assert sum(shares) <= max(total, len(members), *[sum(shares)] if sum(held) > total else [0])
    assert gained <= max(0, total - sum(held)) + len(members)


class Listening(AdaptiveLimit):
    """A law that notes of which pauses and outages it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, float, float]] = []

    def on_pause(self, now: float, seconds: float) -> int:
        self.heard.append(("pause", now, seconds))
        return self.limit

    def resume(self, now: float, since: float) -> None:
        self.heard.append(("outage", now, since))


def member(role: Role, limit: int = 10) -> GroupLimit:
    """Give a member of a group with a share."""
    found = GroupLimit(AdaptiveLimit(Adaptive(initial=40)))
    if role is Role.FOLLOWING:
        found.follow(Share(limit), 40, 4)
    return found


def test_alone_a_member_is_what_its_law_is() -> None:
    alone, law = member(Role.ALONE), AdaptiveLimit(Adaptive(initial=40))
    for step in range(200):
        assert alone.on_result(step * 0.01, 0.1, Signal.SUCCESS, 40, KIND) == law.on_result(
            step * 0.01, 0.1, Signal.SUCCESS, 40, KIND
        )


def test_a_throttled_answer_takes_its_permit_back_before_the_leader_knows_and_no_second_time_after() -> None:
    follower = member(Role.FOLLOWING, 10)
    for _ in range(3):
        follower.on_result(1.0, 0.01, Signal.OVERLOAD, 10, KIND)
    assert follower.limit == 7

    follower.follow(Share(10), 40, 4)  # the leader has heard of none of them
    assert follower.limit == 7

    told = follower.report(1.1, Load(7, waiting=True))
    follower.follow(Share(9, heard=told.throttled), 37, 4)
    assert follower.limit == 9


def test_a_member_whose_last_permit_was_throttled_waits_until_the_leader_can_have_heard() -> None:
    follower = member(Role.FOLLOWING, 1)
    follower.on_result(1.0, 0.002, Signal.OVERLOAD, 1, KIND)

    assert follower.limit == 1
    assert follower.rate == pytest.approx(1 / 0.3)

    follower.follow(Share(1, heard=1), 40, 4)
    assert follower.rate is None


def test_a_permit_that_is_throttled_again_before_the_leader_has_heard_is_told_once() -> None:
    follower = member(Role.FOLLOWING, 1)
    for now in (1.0, 1.1):
        follower.on_result(now, 0.002, Signal.OVERLOAD, 1, KIND)
    told = follower.report(1.2, Load(0, waiting=True))

    assert told.throttled == 1
    assert [call.at for call in told.calls] == [1.0]


def test_a_joiner_has_hardly_any_pace_and_starts_afresh() -> None:
    joiner = member(Role.FOLLOWING, 1)
    joiner.on_result(1.0, 0.002, Signal.OVERLOAD, 1, KIND)
    joiner.join(40, 4)

    assert joiner.limit == 1
    assert joiner.rate == pytest.approx(10.0)


class Counting(AdaptiveLimit):
    """A law that notes how many calls it was told are in flight."""

    def __init__(self, settings: Adaptive) -> None:
        super().__init__(settings)
        self.seen: list[int] = []

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        self.seen.append(in_flight)
        return super().on_result(now, latency, signal, in_flight, kind)


@pytest.mark.parametrize(("limit", "seen"), [(4, [4, 4]), (40, [6, 7])])
def test_the_law_is_told_of_all_that_is_in_flight_and_never_of_more_than_it_allows(limit: int, seen: list[int]) -> None:
    law = Counting(Adaptive(initial=limit, maximum=limit))
    leader, follower = GroupLimit(law), member(Role.FOLLOWING, 1)
    follower.on_result(1.0, 0.1, Signal.SUCCESS, 1, KIND)
    told = follower.report(1.0, Load(1))
    leader.lead(1.0, Report(3, 3, hungry=True), {1: told, **{number: Report(1, 1, hungry=True) for number in (2, 3)}})
    leader.on_result(1.1, 0.1, Signal.SUCCESS, 4, KIND)

    assert law.seen == seen


def test_the_leader_tells_its_law_what_the_others_saw() -> None:
    leader, follower = member(Role.ALONE), member(Role.FOLLOWING, 10)
    leader.lead(0.0, Report(30, 30, hungry=True), {1: Report(10, 10, hungry=True)})
    for step in range(12):
        follower.on_result(1.0 + step * 0.001, 0.1, Signal.SUCCESS, 10, KIND)
    own = leader.report(1.1, Load(30, waiting=True))
    shares = leader.lead(1.1, own, {1: follower.report(1.1, Load(10, waiting=True))})

    assert leader.law.statistics().accepted == 12
    assert leader.role is Role.LEADING
    assert shares[1].limit >= 10


def test_what_is_throttled_because_somebody_has_joined_is_given_back_soon() -> None:
    leader = member(Role.ALONE)
    leader.law.state = LimitState.FOLLOWING
    leader.lead(1.0, Report(40, 40, hungry=True), {1: Report(1, 1, hungry=True)})
    for _ in range(6):
        leader.on_result(1.1, 0.01, Signal.OVERLOAD, 40, KIND)
    fallen = leader.law.limit
    assert fallen < 40

    for step in range(90):  # less than a hundred calls, which is how long a limit is held otherwise
        leader.law.on_result(2.0 + step * 0.01, 0.1, Signal.SUCCESS, leader.law.limit, KIND)
    assert fallen < leader.law.limit <= 40


def test_a_pause_that_one_was_asked_for_is_everybodys() -> None:
    leader = member(Role.ALONE)
    shares = leader.lead(1.0, Report(20, 20, hungry=True), {1: Report(20, 20, hungry=True, paused_until=3.0)})

    assert shares[1].paused_until == 3.0
    assert leader.paused_until == 3.0


def test_a_member_that_follows_keeps_to_the_longest_pause_that_it_knows_of() -> None:
    follower = member(Role.FOLLOWING)
    for until, known in ((3.0, 3.0), (5.0, 5.0), (4.0, 5.0)):
        follower.follow(Share(10, None, until), 40, 4)
        assert follower.paused_until == known


def test_a_pace_is_divided_by_what_each_makes_of_it() -> None:
    leader = member(Role.ALONE)
    leader.law = AdaptiveLimit.started_at(0.0, LearnedLimit(40, 100.0))
    reports = {1: Report(5, 5, hungry=False, per_second=10.0), 2: Report(5, 5, hungry=True)}
    shares = leader.lead(1.0, Report(20, 20, hungry=True), reports)

    assert shares[1].rate == pytest.approx(13.5)
    assert shares[2].rate == leader.rate == pytest.approx((100.0 - 13.5) / 2)


def test_a_new_leader_goes_on_where_the_old_one_was() -> None:
    follower = member(Role.FOLLOWING, 10)
    follower.take_over(1.0, LearnedLimit(follower.total))

    assert follower.law.limit == 40
    assert follower.role is Role.LEADING


def test_who_is_alone_again_has_all_that_the_law_allows() -> None:
    leader = member(Role.ALONE)
    leader.lead(1.0, Report(40, 40, hungry=True), {1: Report(1, 1, hungry=True)})
    assert leader.limit < 40

    assert leader.members == 2
    assert leader.law.reach == pytest.approx(0.3)

    leader.stay_alone()
    assert (leader.limit, leader.members, leader.law.reach) == (40, 1, 0.0)
    assert "alone" in repr(leader)


def test_who_leaves_goes_on_alone_from_its_share() -> None:
    follower = member(Role.FOLLOWING, 10)
    follower.leave(1.0)
    assert (follower.limit, follower.law.limit, follower.role) == (10, 10, Role.ALONE)

    law = follower.law
    follower.leave(2.0)
    assert follower.law is law


def test_a_limit_is_begun_from_and_handed_on_only_where_its_law_runs() -> None:
    alone, follower = member(Role.ALONE), member(Role.FOLLOWING, 10)
    for one in (alone, follower):
        one.begin_at(0.0, LearnedLimit(200))
        one.law = AdaptiveLimit.started_at(0.0, LearnedLimit(one.limit), one.law.settings)

    assert (alone.limit, alone.learned) == (100, LearnedLimit(100))
    assert (follower.limit, follower.learned) == (10, None)


def test_a_member_begins_alone_and_its_limit_learns_and_may_be_passed_for_a_moment() -> None:
    alone = member(Role.ALONE)

    assert (alone.role, alone.members, alone.learns, alone.strict) == (Role.ALONE, 1, True, False)


def test_what_is_not_told_is_nothing() -> None:
    assert Load(1) == Load(1, started=0, waiting=False, full=True)
    assert Report(1, 1, hungry=False) == Report(1, 1, False, 0.0, (), -math.inf, -math.inf, 0, 0.0)  # noqa: FBT003
    assert Share(1) == Share(1, None, -math.inf, 0)


def test_as_many_members_as_permits_have_one_each_and_no_pace() -> None:
    leader = member(Role.ALONE)
    leader.law = AdaptiveLimit(Adaptive(initial=2, maximum=2))
    for trip in range(1, 30):
        leader.law.on_result(trip * 0.1, 0.1, Signal.SUCCESS, 2, KIND)
    shares = leader.lead(9.0, Report(1, 1, hungry=True), {1: Report(1, 1, hungry=True)})

    assert leader.law.statistics().latency
    assert (shares[1].limit, shares[1].rate, leader.rate) == (1, None, None)


def test_statistics_say_in_words_what_a_member_is() -> None:
    seen = member(Role.FOLLOWING, 10).statistics()

    assert seen.doing == "shares the limit of a group: 10 of 40"
    assert (seen.limit, seen.accepted, seen.throttled) == (10, 0, 0)

    leader = member(Role.ALONE)
    law = leader.statistics().doing
    leader.lead(1.0, Report(20, 20, hungry=True), {1: Report(20, 20, hungry=True)})
    assert leader.statistics().doing == f"leads the limit of a group: 20 of 40; {law}"


@pytest.mark.parametrize(("learned", "together"), [(None, 20.0), (8.0, 8.0), (40.0, 20.0)])
def test_more_members_than_permits_have_one_each_and_a_pace_that_makes_up_for_it(
    learned: float | None, together: float
) -> None:
    leader = member(Role.ALONE)
    leader.law = AdaptiveLimit(Adaptive(initial=2, maximum=2))
    for trip in range(1, 30):
        leader.law.on_result(trip * 0.1, 0.1, Signal.SUCCESS, 2, KIND)
    leader.law.rate = learned
    shares = leader.lead(9.0, Report(1, 1, hungry=True), {1: Report(1, 1, hungry=True), 2: Report(1, 1, hungry=True)})

    assert [share.limit for share in shares.values()] == [1, 1]
    assert [share.rate for share in shares.values()] == pytest.approx([together / 3] * 2)


def test_who_uses_little_keeps_a_quarter_more_and_one_to_show_that_it_wants_more() -> None:
    assert Report(40, 8, hungry=False).wants == 11.0
    assert Report(40, 34, hungry=False).wants == math.inf
    assert Report(40, 33, hungry=False).wants < 43
    assert Report(40, 0, hungry=True).wants == math.inf


def test_an_outage_that_one_came_through_is_everybodys_once() -> None:
    leader = member(Role.ALONE)
    leader.law = law = Listening()
    for now in (1.0, 1.1, 1.2):
        leader.lead(now, Report(5, 5, hungry=True), {1: Report(5, 5, hungry=True, resumed=0.5)})

    assert law.heard == [("outage", 1.0, 0.5)]


def test_a_pause_is_told_to_the_law_once() -> None:
    leader = member(Role.ALONE)
    leader.law = law = Listening()
    for now in (1.0, 1.1):
        leader.lead(now, Report(5, 5, hungry=True), {1: Report(5, 5, hungry=True, paused_until=3.0)})

    assert law.heard == [("pause", 1.0, 2.0)]


def test_a_report_has_what_was_seen_since_the_last_one() -> None:
    follower = member(Role.FOLLOWING, 10)
    for number in range(4):
        follower.on_result(1.0 + number / 10, 0.1, Signal.SUCCESS, 7 - number, KIND)
    follower.on_pause(1.4, 2.0)
    told = follower.report(1.5, Load(3))
    again = follower.report(1.6, Load(2))

    assert (told.held, told.peak, told.per_second, len(told.calls), told.paused_until) == (10, 7, 4, 4, 3.4)
    assert (again.peak, again.per_second, len(again.calls)) == (3, 4, 0)
    assert not again.hungry
    assert follower.report(2.25, Load(0)).per_second == 4
    assert follower.report(2.7, Load(0)).per_second == 0
    assert follower.report(2.8, Load(12)).held == 12


def test_who_follows_tells_of_every_call_and_who_leads_counts_those_that_say_something() -> None:
    leader, follower = member(Role.ALONE), member(Role.FOLLOWING)
    leader.lead(1.0, Report(5, 5, hungry=True), {1: Report(5, 5, hungry=True)})
    for one in (leader, follower):
        one.on_result(1.1, 0.1, Signal.NEUTRAL, 5, KIND)
        one.on_result(1.1, 0.1, Signal.SUCCESS, 5, KIND)

    assert [one.report(1.2, Load(4)).per_second for one in (leader, follower)] == [1, 2]


def test_parts_of_a_shared_total_have_their_parts_of_it_and_never_nothing() -> None:
    assert Shared(128).pace(0.25) == 32.0
    assert Shared(128).pace(0.0) == 2.0
    assert [Shared(10).permits(part) for part in (0.0, 0.25, 0.3, 1.0)] == [1, 2, 3, 10]


def test_a_member_that_follows_tells_no_law_of_its_pauses_and_outages() -> None:
    follower = member(Role.FOLLOWING)
    follower.law = law = Listening()
    follower.on_pause(1.0, 2.0)
    follower.resume(4.0, 3.0)

    assert law.heard == []


def test_a_member_that_leads_tells_its_law_of_its_own_outage_and_not_again_as_the_others() -> None:
    leader = member(Role.ALONE)
    leader.law = law = Listening()
    leader.lead(1.0, Report(5, 5, hungry=True), {1: Report(5, 5, hungry=True)})
    leader.resume(4.0, 3.0)
    leader.lead(4.1, Report(5, 5, hungry=True), {1: Report(5, 5, hungry=True, resumed=2.9)})

    assert law.heard == [("outage", 4.0, 3.0)]


def test_a_permit_that_cannot_be_divided_is_one_members_for_two_seconds() -> None:
    leader = GroupLimit(AdaptiveLimit(Adaptive(initial=3)))
    held, seen = [1, 1], []
    for tenth in range(80):
        shares = leader.lead(tenth / 10, Report(held[0], 1, hungry=True), {1: Report(held[1], 1, hungry=True)})
        held = [leader.limit, shares[1].limit]
        seen.append(held[0])

    changes = [tenth / 10 for tenth in range(1, 80) if seen[tenth] != seen[tenth - 1]]
    assert changes == pytest.approx([2.0, 4.0, 6.0], abs=0.15)


def test_a_pause_leaves_a_leader_its_share() -> None:
    leader = member(Role.ALONE)
    leader.law = AdaptiveLimit.started_at(0.0, LearnedLimit(40, 100.0))
    leader.lead(1.0, Report(20, 20, hungry=True), {1: Report(20, 20, hungry=True)})
    leader.on_pause(1.1, 2.0)

    assert (leader.limit, leader.rate) == (20, 50.0)


def test_a_pause_lowers_the_pace_of_who_is_alone_as_its_law_says() -> None:
    alone = GroupLimit(AdaptiveLimit.started_at(0.0, LearnedLimit(40, 100.0)))

    assert alone.on_pause(1.0, 2.0) == alone.limit == 40
    assert alone.rate == alone.law.rate == pytest.approx(90.0)


def test_an_outage_that_is_over_ends_the_pause_too() -> None:
    alone = member(Role.ALONE)
    alone.on_pause(1.0, 20.0)
    alone.resume(2.0, 1.0)

    assert alone.report(2.1, Load(1)).paused_until == -math.inf
