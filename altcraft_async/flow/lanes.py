"""Lanes: first in, first out for each key, at most one item of a key out at a time.

`Lanes.add` takes items in arrival order. `Lanes.take` hands out the item that
arrived first among those whose key has nothing out; the key is then busy until
`Lanes.done`. So what is done with two items of one key can never overlap or
swap, and a key that is stuck keeps nobody else waiting. Memory is that of the
items held: a key without items leaves no trace.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Lanes"]

T = TypeVar("T")


class _Slot(Generic[T]):
    """One waiting item: its arrival number, its key, and the item, which `latest_only` may replace."""

    __slots__ = ("arrival", "item", "key")

    def __init__(self, arrival: int, key: Hashable, item: T) -> None:
        self.arrival = arrival
        self.key = key
        self.item = item

    def __lt__(self, other: _Slot[T]) -> bool:
        return self.arrival < other.arrival


class Lanes(Generic[T]):
    """A queue with one lane a key; see the module.

    With `latest_only`, an item that still waits is replaced by a newer one of
    its key, which takes over its place; `add` returns the one that was replaced.
    """

    __slots__ = ("_arrivals", "_freed", "_fresh", "_lanes", "_latest_only", "_slots")

    def __init__(self, *, latest_only: bool = False) -> None:
        self._latest_only = latest_only
        self._arrivals = 0
        self._lanes: dict[Hashable, deque[_Slot[T]] | None] = {}
        self._fresh: deque[_Slot[T]] = deque()
        self._freed: list[_Slot[T]] = []
        self._slots: dict[Hashable, _Slot[T]] = {}

    def __repr__(self) -> str:
        """Show how many keys are held and how many items are ready."""
        return f"<Lanes keys={len(self._lanes)} ready={self.ready}>"

    def __len__(self) -> int:
        """Count the keys that have an item waiting or out."""
        return len(self._lanes)

    @property
    def ready(self) -> int:
        """How many items could be taken now."""
        return len(self._fresh) + len(self._freed)

    def add(self, key: Hashable, item: T) -> T | None:
        """Queue `item`; return the waiting item that it replaced, if any."""
        if self._latest_only and (slot := self._slots.get(key)) is not None:
            replaced = slot.item
            slot.item = item
            return replaced
        self._arrivals += 1
        slot = _Slot(self._arrivals, key, item)
        if self._latest_only:
            self._slots[key] = slot
        if key in self._lanes:
            waiting = self._lanes[key]
            if waiting is None:
                self._lanes[key] = deque((slot,))
            else:
                waiting.append(slot)
        else:
            self._lanes[key] = None
            self._fresh.append(slot)
        return None

    def take(self) -> T | None:
        """Hand out the ready item that arrived first; its key is busy from now. None when none is ready."""
        fresh, freed = self._fresh, self._freed
        if freed and (not fresh or freed[0].arrival < fresh[0].arrival):
            slot = heapq.heappop(freed)
        elif fresh:
            slot = fresh.popleft()
        else:
            return None
        if self._latest_only:
            del self._slots[slot.key]
        return slot.item

    def done(self, key: Hashable) -> None:
        """Say that the item of `key` that was out has ended: the key's next one becomes ready."""
        waiting = self._lanes[key]
        if waiting is None:
            del self._lanes[key]
            return
        slot = waiting.popleft()
        if not waiting:
            self._lanes[key] = None
        heapq.heappush(self._freed, slot)

    def clear(self) -> list[T]:
        """Remove and return, in arrival order, every item that waits; what is out stays out."""
        ready = [*self._fresh, *self._freed]
        slots = list(ready)
        for key, waiting in self._lanes.items():
            if waiting is not None:
                slots.extend(waiting)
                self._lanes[key] = None
        for slot in ready:
            del self._lanes[slot.key]
        self._fresh.clear()
        self._freed.clear()
        self._slots.clear()
        slots.sort()
        return [slot.item for slot in slots]
