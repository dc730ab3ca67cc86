"""What the gate keeps of calls: of those that wait, and, apart, of those that carry batches."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from altcraft_async.flow.pace import Pacer

if TYPE_CHECKING:
    import asyncio

    from altcraft_async.engine.work import Patience
    from altcraft_async.flow.limit import ConcurrencyLimit, Signal

__all__ = ["Batches", "Waiter"]


class Waiter:
    """A call that waits for a permit."""

    __slots__ = ("future", "kind", "patience")

    def __init__(self, future: asyncio.Future[int], kind: str, patience: Patience | None) -> None:
        self.future = future
        self.kind = kind
        self.patience = patience


class Batches:
    """What calls that carry batches have apart: their limit and pace, who holds a permit, and who waits.

    `turn` says that they are to go next, before the others.
    """

    __slots__ = ("held", "law", "pacer", "turn", "waiting")

    def __init__(self, law: ConcurrencyLimit) -> None:
        self.law = law
        self.pacer = Pacer()
        self.held: set[int] = set()
        self.waiting: deque[Waiter] = deque()
        self.turn = True

    def on_result(self, now: float, latency: float, signal: Signal, kind: str) -> None:
        """Tell the limit how a batch ended."""
        self.law.on_result(now, latency, signal, len(self.held), kind)
        self._follow_rate()

    def on_pause(self, now: float, seconds: float) -> None:
        """Tell the limit of a pause that the server asks for."""
        self.law.on_pause(now, seconds)
        self._follow_rate()

    def resume(self, now: float, since: float) -> None:
        """Go on after an outage that began at `since`."""
        self.law.resume(now, since)
        self._follow_rate()

    def _follow_rate(self) -> None:
        if self.pacer.rate != self.law.rate:
            self.pacer.rate = self.law.rate
