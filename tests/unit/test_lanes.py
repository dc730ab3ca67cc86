"""Lanes, behaviour by behaviour, and against a model that is too simple to be wrong."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from altcraft_async.flow.lanes import Lanes


class One:
    """A claimant: ``One("a", order="o")`` claims `a` exclusively and the order shared."""

    def __init__(self, *exclusive, order=None):
        self.claims = (*(((order, False),) if order else ()), *((key, True) for key in exclusive))
        self.arrival = self.blocked = 0
        self.withdrawn = False

    def __repr__(self):
        return f"<One {self.arrival}: {self.claims}>"


def add_all(lanes, *claimants):
    return [lanes.add(claimant) for claimant in claimants]


# -- one behaviour each


def test_the_first_on_a_key_is_ready_and_the_next_waits_until_it_leaves():
    lanes, first, second = Lanes(), One("a"), One("a")
    assert add_all(lanes, first, second) == [True, False]
    assert lanes.leave(first) == [second]
    assert lanes.leave(second) == []


def test_arrivals_are_numbered_in_the_order_of_coming():
    lanes, claimants = Lanes(), [One("a"), One("b"), One("a")]
    for claimant in claimants:
        lanes.add(claimant)
    assert [claimant.arrival for claimant in claimants] == [1, 2, 3]


def test_those_of_one_key_become_ready_one_by_one_in_their_order():
    lanes = Lanes()
    claimants = [One("a") for _ in range(5)]
    add_all(lanes, *claimants)
    for this, following in itertools.pairwise(claimants):
        assert lanes.leave(this) == [following]


def test_a_key_that_is_held_keeps_no_other_key_waiting():
    lanes = Lanes()
    assert add_all(lanes, One("a"), One("a"), One("b")) == [True, False, True]


def test_shared_claims_go_side_by_side():
    lanes = Lanes()
    assert add_all(lanes, *(One(f"line {n}", order="o") for n in range(3))) == [True] * 3


def test_an_exclusive_claim_waits_for_every_shared_one_before_it():
    lanes, lines, whole = Lanes(), [One(f"line {n}", order="o") for n in range(3)], One("o")
    assert add_all(lanes, *lines, whole) == [True, True, True, False]
    assert lanes.leave(lines[1]) == []
    assert lanes.leave(lines[0]) == []
    assert lanes.leave(lines[2]) == [whole]


def test_shared_claims_wait_for_the_exclusive_one_before_them_and_then_go_together():
    lanes, whole, lines = Lanes(), One("o"), [One(f"line {n}", order="o") for n in range(3)]
    assert add_all(lanes, whole, *lines) == [True, False, False, False]
    assert lanes.leave(whole) == lines


def test_a_shared_claim_does_not_pass_an_exclusive_one_that_waits():
    lanes, early, whole, late = Lanes(), One("line 1", order="o"), One("o"), One("line 2", order="o")
    assert add_all(lanes, early, whole, late) == [True, False, False]
    assert lanes.leave(early) == [whole]
    assert lanes.leave(whole) == [late]


def test_shared_claims_behind_shared_ones_are_granted_up_to_the_next_exclusive_one():
    lanes, first = Lanes(), One("o")
    before, whole, after = [One(f"b{n}", order="o") for n in range(2)], One("o"), One("after", order="o")
    add_all(lanes, first, *before, whole, after)
    assert lanes.leave(first) == before
    assert lanes.leave(before[0]) == []
    assert lanes.leave(before[1]) == [whole]
    assert lanes.leave(whole) == [after]


def test_several_keys_are_ready_only_when_all_are_granted():
    lanes, on_a, on_b, both = Lanes(), One("a"), One("b"), One("a", "b")
    assert add_all(lanes, on_a, on_b, both) == [True, True, False]
    assert lanes.leave(on_a) == []
    assert lanes.leave(on_b) == [both]


def test_a_place_on_a_granted_key_is_held_while_the_others_are_waited_for():
    lanes, on_a, both, on_b = Lanes(), One("a"), One("a", "b"), One("b")
    assert add_all(lanes, on_a, both, on_b) == [True, False, False]
    assert lanes.leave(on_a) == [both]
    assert lanes.leave(both) == [on_b]


def test_what_becomes_ready_together_comes_in_the_order_of_arrival():
    lanes, both, on_b, on_a = Lanes(), One("a", "b"), One("b"), One("a")
    add_all(lanes, both, on_b, on_a)
    assert lanes.leave(both) == [on_b, on_a]


def test_a_withdrawn_claimant_never_becomes_ready_and_lets_the_next_pass():
    lanes, first, gone, last = Lanes(), One("a"), One("a"), One("a")
    add_all(lanes, first, gone, last)
    gone.withdrawn = True
    assert lanes.leave(first) == [last]


def test_a_withdrawn_claimant_keeps_its_place_until_it_comes_to_it():
    lanes, first, gone, last = Lanes(), One("a"), One("a", "b"), One("b")
    add_all(lanes, first, gone, last)
    gone.withdrawn = True
    assert last.blocked
    assert lanes.leave(first) == [last]


def test_a_withdrawn_claimant_between_shared_ones_sets_them_all_free():
    lanes, early, gone = Lanes(), One("line 1", order="o"), One("o")
    late = [One(f"late {n}", order="o") for n in range(2)]
    add_all(lanes, early, gone, *late)
    gone.withdrawn = True
    assert lanes.leave(early) == late


def test_ten_thousand_withdrawn_in_one_lane_are_passed_in_one_go():
    lanes, first, last = Lanes(), One("a"), One("a")
    gone = [One("a") for _ in range(10_000)]
    add_all(lanes, first, *gone, last)
    for claimant in gone:
        claimant.withdrawn = True
    assert lanes.leave(first) == [last]
    assert lanes.leave(last) == []
    assert len(lanes) == 0


def test_without_claims_everybody_is_ready():
    lanes = Lanes()
    assert add_all(lanes, One(), One()) == [True, True]
    assert len(lanes) == 0


def test_last_is_who_came_last_on_a_key_be_it_ready_or_not():
    lanes, first, second = Lanes(), One("a", order="o"), One("a", order="o")
    assert lanes.last(first.claims) is None
    lanes.add(first)
    assert lanes.last(first.claims) is first
    lanes.add(second)
    assert lanes.last(first.claims) is second
    assert lanes.last((("o", True),)) is second


def test_last_is_whoever_claims_the_order_alone_and_came_after_the_line():
    lanes, line, order, other = Lanes(), One("a", order="o"), One("o"), One("b", order="o")
    add_all(lanes, line, order, other)
    assert lanes.last(line.claims) is order


def test_last_is_nobody_once_all_have_left():
    lanes, only = Lanes(), One("a")
    lanes.add(only)
    lanes.leave(only)
    assert lanes.last(only.claims) is None


def test_ahead_are_the_exclusive_holder_and_whoever_waits_before():
    lanes, holder, waits, asking, later = Lanes(), One("a"), One("a"), One("a"), One("a")
    add_all(lanes, holder, waits, asking, later)
    assert list(lanes.ahead(asking)) == [waits, holder]
    assert list(lanes.ahead(asking, lambda other: other is not waits)) == []


def test_ahead_of_several_keys_are_those_of_each():
    lanes, on_a, on_b, both = Lanes(), One("a"), One("b"), One("a", "b")
    add_all(lanes, on_a, on_b, both)
    assert list(lanes.ahead(both)) == [on_a, on_b]


def test_ahead_of_who_is_ready_is_nobody():
    lanes, holder, later = Lanes(), One("a", order="o"), One("a", order="o")
    add_all(lanes, holder, later)
    assert list(lanes.ahead(holder)) == []


def test_ahead_of_who_has_one_of_its_keys_is_nobody_behind_it_on_that_key():
    lanes, on_b, both, behind = Lanes(), One("b"), One("b", order="o"), One("o")
    add_all(lanes, on_b, both, behind)
    assert list(lanes.ahead(both)) == [on_b]


def test_an_heir_stands_alone_where_one_stood_and_is_ready():
    lanes, batch, heirs, behind = Lanes(), One("a", "b"), [One("a"), One("b")], One("b")
    add_all(lanes, batch, behind)
    lanes.hand_over(batch, heirs)
    assert [heir.arrival for heir in heirs] == [batch.arrival] * 2
    assert list(lanes.ahead(behind)) == [heirs[1]]
    assert lanes.leave(heirs[0]) == []
    assert lanes.leave(heirs[1]) == [behind]


def test_an_heir_is_the_last_where_the_one_before_it_was():
    lanes, batch, heir, shared = Lanes(), One("o", "p"), One("o"), One("line 1", order="o")
    lanes.add(batch)
    assert lanes.last(shared.claims) is batch
    lanes.add(shared)
    lanes.hand_over(batch, [heir])
    assert lanes.last((("o", False),)) is heir
    assert lanes.last((("o", True),)) is shared


def test_an_heir_is_not_the_last_where_another_came_after_the_one_before_it():
    lanes, batch, heir, later = Lanes(), One("o"), One("o"), One("o")
    add_all(lanes, batch, later)
    lanes.hand_over(batch, [heir])
    assert lanes.last((("o", False),)) is later
    assert lanes.last((("o", True),)) is later


def test_what_has_left_leaves_no_trace():
    lanes = Lanes()
    for number in range(1000):
        claimant = One(number, order=number % 7 - 100)
        assert lanes.add(claimant)
        assert lanes.leave(claimant) == []
    assert len(lanes) == 0


def test_the_repr_tells_how_many_keys_are_claimed():
    lanes = Lanes()
    add_all(lanes, One("a", order="o"), One("a", order="o"))
    assert repr(lanes) == "<Lanes keys=2>"


# -- and all of them together


KEYS = "abcd"


def conflict(one, other):
    """Whether two have a key in common that one of them claims exclusively."""
    theirs = dict(other.claims)
    return any(key in theirs and (exclusive or theirs[key]) for key, exclusive in one.claims)


class LanesMachine(RuleBasedStateMachine):
    """The model: one list of all that are there, in the order of coming.

    One is ready when none before it conflicts with it. One that is withdrawn leaves as soon as
    it would be ready.
    """

    def __init__(self):
        super().__init__()
        self.lanes = Lanes()
        self.present: list[One] = []
        self.ready: list[One] = []

    def settle(self):
        """Let the withdrawn go that nothing stands before; give those that are newly ready."""
        going = True
        while going:
            free = [
                one
                for place, one in enumerate(self.present)
                if one not in self.ready and not any(conflict(one, other) for other in self.present[:place])
            ]
            going = [one for one in free if one.withdrawn]
            self.present = [one for one in self.present if one not in going]
        self.ready += free
        return free

    @rule(claims=st.dictionaries(st.sampled_from(KEYS), st.booleans(), max_size=3))
    def add(self, claims):
        one = One()
        one.claims = tuple(claims.items())
        self.present.append(one)
        assert self.lanes.add(one) is bool(self.settle())

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def leave(self, data):
        one = data.draw(st.sampled_from(self.ready))
        self.ready.remove(one)
        self.present.remove(one)
        assert self.lanes.leave(one) == self.settle()

    @precondition(lambda self: len(self.present) > len(self.ready))
    @rule(data=st.data())
    def withdraw(self, data):
        data.draw(st.sampled_from([one for one in self.present if one not in self.ready])).withdrawn = True

    @invariant()
    def nobody_waits_without_need_and_nobody_is_ready_too_early(self):
        assert [one for one in self.present if not one.blocked] == [one for one in self.present if one in self.ready]

    @invariant()
    def only_claimed_keys_are_remembered(self):
        claimed = {key for one in self.present for key, _ in one.claims}
        assert len(self.lanes) == len(claimed)
        for key in KEYS:
            last = self.lanes.last(((key, True),))
            assert (last is not None) is (key in claimed)

    @invariant()
    def ahead_are_only_such_as_came_before(self):
        for one in self.present:
            for other in self.lanes.ahead(one):
                assert other.arrival < one.arrival
                assert other in self.present

    def teardown(self):
        while self.ready:
            one = self.ready.pop()
            self.present.remove(one)
            assert self.lanes.leave(one) == self.settle()
        assert not self.present
        assert len(self.lanes) == 0


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
