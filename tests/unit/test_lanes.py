"""Lanes against a model that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from altcraft_async.flow.lanes import Lanes

KEYS = st.sampled_from("abcd")


class LanesMachine(RuleBasedStateMachine):
    """The model: one list of all that waits, in arrival order, and the set of keys that are out."""

    @initialize(latest_only=st.booleans())
    def start(self, latest_only):
        self.latest_only = latest_only
        self.lanes = Lanes(latest_only=latest_only)
        self.waiting: list[tuple[str, int]] = []
        self.out: set[str] = set()
        self.number = 0

    @rule(key=KEYS)
    def add(self, key):
        self.number += 1
        item = (key, self.number)
        replaced = self.lanes.add(key, item)
        old = next((other for other in self.waiting if other[0] == key), None)
        if self.latest_only and old is not None:
            assert replaced == old
            self.waiting[self.waiting.index(old)] = item
        else:
            assert replaced is None
            self.waiting.append(item)

    def first_ready(self):
        return next((item for item in self.waiting if item[0] not in self.out), None)

    @rule()
    def take(self):
        expected = self.first_ready()
        assert self.lanes.take() == expected
        if expected is not None:
            self.waiting.remove(expected)
            self.out.add(expected[0])

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def done(self, data):
        key = data.draw(st.sampled_from(sorted(self.out)))
        self.out.remove(key)
        self.lanes.done(key)

    @rule()
    def clear(self):
        assert self.lanes.clear() == self.waiting
        self.waiting = []

    @invariant()
    def counts_agree(self):
        assert len(self.lanes) == len({key for key, _ in self.waiting} | self.out)
        assert self.lanes.ready == len({key for key, _ in self.waiting} - self.out)


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(KEYS, max_size=60))
def test_items_of_one_key_are_first_in_first_out_and_nothing_is_lost(keys):
    lanes: Lanes[tuple[str, int]] = Lanes()
    for number, key in enumerate(keys):
        lanes.add(key, (key, number))
    taken = []
    while (item := lanes.take()) is not None:
        taken.append(item)
        lanes.done(item[0])
    assert taken == [(key, number) for number, key in enumerate(keys)]


def test_a_key_that_is_out_keeps_no_other_waiting():
    lanes: Lanes[str] = Lanes()
    for key, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        lanes.add(key, item)
    assert [lanes.take(), lanes.take(), lanes.take()] == ["a1", "b1", None]
    lanes.done("a")
    assert lanes.take() == "a2"


def test_a_freed_item_goes_before_one_that_came_later():
    lanes: Lanes[str] = Lanes()
    for key, item in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")):
        lanes.add(key, item)
    assert lanes.take() == "a1"
    lanes.done("a")
    assert [lanes.take(), lanes.take(), lanes.take()] == ["a2", "b1", "c1"]


def test_what_has_ended_leaves_no_trace():
    lanes: Lanes[int] = Lanes(latest_only=True)
    for number in range(1000):
        lanes.add(number, number)
        lanes.take()
        lanes.done(number)
    assert len(lanes) == lanes.ready == 0
    assert not any(getattr(lanes, slot) for slot in ("_lanes", "_fresh", "_freed", "_slots"))


def test_an_item_that_is_out_is_never_replaced():
    lanes: Lanes[str] = Lanes(latest_only=True)
    lanes.add("a", "a1")
    assert lanes.take() == "a1"
    assert lanes.add("a", "a2") is None
    assert lanes.add("a", "a3") == "a2"
    lanes.done("a")
    assert lanes.take() == "a3"


def test_the_repr_tells_the_state():
    lanes: Lanes[int] = Lanes()
    lanes.add("a", 1)
    lanes.add("a", 2)
    assert repr(lanes) == "<Lanes keys=1 ready=1>"
