"""Lanes: what concerns the same thing goes one after the other, over all callers of a client.

A claimant claims one or more keys, each shared or exclusive. It takes its place
on all of them at once, first come, first served: on a key an exclusive claim waits
for everything before it, a shared one for every exclusive one before it. A
claimant whose claims are all granted is *ready*; it holds them until it leaves. So
two that share a key exclusively never overlap and never swap, whoever they come
from, and one that is stuck keeps nobody waiting but those of its own keys.

A line update claims its order shared and its line exclusively; what concerns an
order as a whole claims the order exclusively.

A claimant that is withdrawn before it was ready keeps its place, and gives it up
when it comes to it. Memory is that of the claimants held: a key that nobody claims
leaves no trace, and one that a single claimant has, as nearly all are, has no more than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from itertools import repeat, takewhile
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Alone", "Claim", "Claimant", "Lanes"]

Claim: TypeAlias = "tuple[Hashable, bool]"
"""A key, and whether it is claimed exclusively."""


class Alone(Sequence[Claim]):
    """Claims on many keys, each of them exclusive, that are made as they are asked for: of hundreds none is kept."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[Hashable]) -> None:
        self._keys = keys

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<Alone {len(self._keys)} keys>"

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._keys)

    def __iter__(self) -> Iterator[Claim]:
        """Give each claim."""
        return zip(self._keys, repeat(object=True), strict=False)

    @overload
    def __getitem__(self, place: int) -> Claim: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Claim]: ...

    def __getitem__(self, place: int | slice) -> Claim | Sequence[Claim]:
        """Give the claim in a place."""
        return Alone(self._keys[place]) if isinstance(place, slice) else (self._keys[place], True)


class Claimant(Protocol):
    """What stands in lanes: `claims` are its own, all of different keys; the rest belongs to the lanes.

    `arrival` is its number in the order of coming, `blocked` the count of its claims
    that are not granted yet, `withdrawn` says that it shall not become ready any more.
    """

    claims: Sequence[Claim]
    arrival: int
    blocked: int
    withdrawn: bool


C = TypeVar("C", bound=Claimant)


class _Lane(Generic[C]):
    """A key that several claim: `holders` of them have it, `exclusive` that one alone; `waiting` are in order.

    `last` came last, `last_exclusive` of those that claim it alone; both may have left.
    """

    __slots__ = ("exclusive", "first", "holders", "last", "last_exclusive", "waiting")

    def __init__(self, first: C, key: Hashable) -> None:
        exclusive = (key, True) in first.claims
        self.holders = 1
        self.exclusive = exclusive
        self.first = self.last = first
        self.last_exclusive = first if exclusive else None
        self.waiting: deque[tuple[C, bool]] | None = None


class Lanes(Generic[C]):
    """The lanes of one client; see the module."""

    __slots__ = ("_arrivals", "_lanes")

    def __init__(self) -> None:
        self._arrivals = 0
        self._lanes: dict[Hashable, C | _Lane[C]] = {}  # a claimant that has its key to itself stands there as it is

    def __repr__(self) -> str:
        """Show how many keys are claimed."""
        return f"<Lanes keys={len(self._lanes)}>"

    def __len__(self) -> int:
        """Count the keys that are claimed."""
        return len(self._lanes)

    def add(self, claimant: C) -> bool:
        """Give `claimant` its place on all its keys; say whether it is ready at once."""
        lanes = self._lanes
        self._arrivals += 1
        claimant.arrival = self._arrivals
        for key, exclusive in claimant.claims:
            if key not in lanes:
                lanes[key] = claimant
                continue
            lane = self._lane(key)
            lane.last = claimant
            if exclusive:
                lane.last_exclusive = claimant
            if lane.waiting is None and not exclusive and not lane.exclusive:
                lane.holders += 1
                continue
            claimant.blocked += 1
            if lane.waiting is None:
                lane.waiting = deque()
            lane.waiting.append((claimant, exclusive))
        return not claimant.blocked

    def leave(self, claimant: C) -> list[C]:
        """Give up the claims of one that was ready; return those that become ready by it, by arrival."""
        lanes = self._lanes
        ready: list[C] = []
        leaving = [claimant]
        while leaving:
            granted: list[C] = []
            one = leaving.pop()
            for key, _ in one.claims:
                lane = lanes[key]
                if lane is one:
                    del lanes[key]
                    continue
                assert isinstance(lane, _Lane)  # noqa: S101 - else it was another's alone
                lane.holders -= 1
                if lane.waiting is not None:
                    self._grant(key, lane, granted)
                elif not lane.holders:
                    del lanes[key]
            for one in granted:
                (leaving if one.withdrawn else ready).append(one)
        ready.sort(key=_arrival)
        return ready

    def hand_over(self, claimant: C, heirs: Sequence[C]) -> None:
        """Let `heirs` stand where `claimant`, which was ready, stood: each of its keys becomes one heir's, alone.

        They are ready as it was, and have arrived when it did.
        """
        for heir in heirs:
            heir.arrival = claimant.arrival
            for key, _ in heir.claims:
                lane = self._lanes[key]
                if lane is claimant:
                    self._lanes[key] = heir
                    continue
                assert isinstance(lane, _Lane)  # noqa: S101 - else it was another's alone
                lane.first = heir
                if lane.last is claimant:
                    lane.last = heir
                if lane.last_exclusive is claimant:
                    lane.last_exclusive = heir

    def last(self, claims: Sequence[Claim]) -> C | None:
        """Return the claimant that came last of those that one with `claims` would wait for, were none to leave.

        It may have left already. None where nobody is there.
        """
        found: C | None = None
        for key, exclusive in claims:
            if key not in self._lanes:
                continue
            lane = self._lane(key)
            last = lane.last if exclusive else lane.last_exclusive
            if last is not None and (found is None or last.arrival > found.arrival):
                found = last
        return found

    def ahead(self, claimant: C, concerned: Callable[[C], bool] = lambda _: True) -> Iterator[C]:
        """Give those that `claimant` waits for, key by key and the nearest first, for as long as `concerned` is true.

        That are whoever waits before it, and the exclusive holder of the key.
        """
        for key, _ in claimant.claims:
            yield from takewhile(concerned, self._before(claimant, self._lane(key)))

    def _lane(self, key: Hashable) -> _Lane[C]:
        """Return what is known of a key that somebody has; from then on others may come to it."""
        lane = self._lanes[key]
        if not isinstance(lane, _Lane):
            lane = self._lanes[key] = _Lane(lane, key)
        return lane

    @staticmethod
    def _before(claimant: C, lane: _Lane[C]) -> Iterator[C]:
        if lane.waiting is None:
            return
        for other, _ in reversed(lane.waiting):
            if other.arrival < claimant.arrival:
                yield other
        if lane.exclusive and lane.first.arrival < claimant.arrival:
            yield lane.first

    def _grant(self, key: Hashable, lane: _Lane[C], ready: list[C]) -> None:
        """Grant the claims that nothing stands before any more."""
        waiting = lane.waiting
        while waiting:
            claimant, exclusive = waiting[0]
            if lane.holders and (exclusive or lane.exclusive):
                return
            waiting.popleft()
            lane.holders += 1
            lane.exclusive = exclusive
            lane.first = claimant
            claimant.blocked -= 1
            if not claimant.blocked:
                ready.append(claimant)
            if exclusive:
                break
        if not waiting:
            lane.waiting = None
            if not lane.holders:
                del self._lanes[key]


def _arrival(claimant: Claimant) -> int:
    return claimant.arrival
