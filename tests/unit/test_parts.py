"""Equal parts of a total, by members that see each other late: never more than the whole, soon equal."""

from __future__ import annotations

import random

import pytest

from altcraft_async.flow.parts import Part, Parts, PartState


class Board:
    """What members have published, and who is at which step; each step is a read, and later a write."""

    def __init__(self) -> None:
        self.written: dict[str, Part] = {}
        self.members: dict[str, Parts] = {}

    def join(self, name: str) -> Parts:
        self.members[name] = Parts(name)
        self.written[name] = Part()
        return self.members[name]

    def leave(self, name: str) -> None:
        del self.members[name], self.written[name]

    def read(self, name: str) -> dict[str, Part]:
        return {other: part for other, part in self.written.items() if other != name}

    def step(self, name: str, *, settled: bool = True) -> None:
        self.members[name].step(self.read(name), settled=settled)
        self.written[name] = self.members[name].published

    @property
    def used(self) -> float:
        return sum(member.part for member in self.members.values())


def test_a_newcomer_has_nothing_and_claims_nothing() -> None:
    one = Parts("a")
    assert (one.part, one.published, one.state) == (0.0, Part(0.0, 0.0), PartState.STEADY)


@pytest.mark.parametrize(
    ("part", "state"),
    [
        (0.5012, PartState.SHRINKING),
        (0.5008, PartState.STEADY),
        (0.4992, PartState.STEADY),
        (0.4988, PartState.CLAIMING),
    ],
)
def test_a_difference_of_a_thousandth_moves_nobody(part: float, state: PartState) -> None:
    one = Parts("a")
    one.part = part
    one.step({"b": Part()}, settled=True)
    assert one.state is state
    assert one.published.claims == (0.5 if state is PartState.CLAIMING else 0.0)


@pytest.mark.parametrize(("free", "claims"), [(0.0012, 0.4012), (0.0008, 0.0)])
def test_nobody_claims_a_thousandth_that_is_free(free: float, claims: float) -> None:
    one = Parts("a")
    one.part = 0.4
    one.step({"b": Part(0.6 - free, 0.6 - free)}, settled=True)
    assert one.published.claims == pytest.approx(claims)


@pytest.mark.parametrize(
    ("claimed", "others", "claims"),
    [
        (0.5, {"c": Part(0.0, 0.75)}, 0.5),  # the other has the higher name, and withdraws
        (0.5, {"a": Part(0.0, 0.75)}, 0.25),  # this one withdraws, and claims what is left
        (0.5, {"a": Part(0.75, 0.75)}, 0.5),  # the other claims nothing, and will shrink
        (1 / 3, {"a": Part(0.0, 0.5), "c": Part(0.5, 0.5)}, 0.0),
        (0.6, {"c": Part(0.0, 0.75)}, 0.25),  # more than it is due now
    ],
)
def test_of_those_that_claim_too_much_together_the_one_with_the_lowest_name_waits(
    claimed: float, others: dict[str, Part], claims: float
) -> None:
    one = Parts("b")
    one.published, one.state = Part(0.0, claimed), PartState.CLAIMING
    one.step(others, settled=True)
    assert (one.part, one.published.claims) == (0.0, claims)


def test_a_member_alone_takes_the_whole_in_two_steps() -> None:
    board = Board()
    one = board.join("a")
    board.step("a")
    assert (one.part, one.published, one.state) == (0.0, Part(0.0, 1.0), PartState.CLAIMING)
    board.step("a")
    assert (one.part, one.published, one.state) == (1.0, Part(1.0, 1.0), PartState.STEADY)


def test_who_shrinks_claims_what_it_had_until_no_more_is_under_way_whoever_leaves() -> None:
    one = Parts("a")
    one.part, one.published = 1.0, Part(1.0, 1.0)
    one.step({"b": Part()}, settled=False)
    one.step({}, settled=False)
    assert (one.part, one.published, one.state) == (0.5, Part(1.0, 1.0), PartState.SHRINKING)


def test_a_newcomer_gets_its_part_when_the_other_has_given_it_up() -> None:
    board = Board()
    one, two = board.join("a"), board.join("b")
    board.leave("b")
    board.step("a")
    board.step("a")
    board.members["b"], board.written["b"] = two, Part()
    board.step("b")
    assert two.published.claims == 0.0, "nothing is free"
    board.step("a", settled=False)
    assert (one.part, one.published.claims) == (0.5, 1.0), "what is under way is still claimed"
    board.step("a", settled=True)
    assert one.published.claims == 0.5
    board.step("b")
    board.step("b")
    assert (one.part, two.part) == (0.5, 0.5)


def test_who_may_have_counted_as_gone_has_its_part_again_when_the_others_have_given_it_up() -> None:
    board = Board()
    one, two = board.join("a"), board.join("b")
    for _ in range(4):
        board.step("a")
        board.step("b")
    board.members["a"].part, board.written["a"] = 1.0, Part(1.0, 1.0)  # "b" had gone
    two.claim_again()
    board.written["b"] = two.published
    assert (two.part, two.published) == (0.0, Part(0.0, 0.5))
    board.step("b")
    assert two.part == 0.0, "the other has all"
    for _ in range(3):
        board.step("a")
        board.step("b")
        assert board.used <= 1.0
    assert (one.part, two.part) == (0.5, 0.5)


def test_of_two_that_claim_at_once_one_withdraws() -> None:
    board = Board()
    one, two = board.join("a"), board.join("b")
    sights = {name: {} for name in "ab"}  # neither sees the other yet
    for name in "ab":
        board.members[name].step(sights[name], settled=True)
        board.written[name] = board.members[name].published
    assert one.published.claims == two.published.claims == 1.0
    for _ in range(8):
        board.step("b")
        board.step("a")
        assert board.used <= 1.0
    assert (one.part, two.part) == (pytest.approx(0.5), pytest.approx(0.5))


@pytest.mark.parametrize("seed", range(200))
def test_whoever_joins_leaves_or_is_slow_all_parts_never_make_more_than_the_whole(seed: int) -> None:
    chance = random.Random(seed)
    board = Board()
    reads: dict[str, dict[str, Part]] = {}
    for number in range(300):
        if number < 200 and (not board.members or chance.random() < 0.03):
            board.join(f"{chance.random():.9f}")
        if number < 200 and len(board.members) > 1 and chance.random() < 0.02:
            gone = chance.choice(sorted(board.members))
            board.leave(gone)
            reads.pop(gone, None)
        name = chance.choice(sorted(board.members))
        if name not in reads:  # between its read and its write others take their turns
            reads[name] = board.read(name)
        else:
            board.members[name].step(reads.pop(name), settled=chance.random() < 0.7)
            board.written[name] = board.members[name].published
        assert board.used <= 1.0 + 1e-9
    for _ in range(60):
        for name in sorted(board.members):
            board.step(name)
    assert [member.part for member in board.members.values()] == pytest.approx(
        [1 / len(board.members)] * len(board.members), abs=5e-3
    )
