"""Where the outcomes of a run go: first into a recorder, where there is one, and then to the caller.

Outcomes come in groups: those of one item belong together, and are recorded together or
not at all. The lanes of an item open when its outcomes are handed on, so that with a
recorder at most one change of each line is ever in doubt.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.recorder import Recorder
    from altcraft_async.engine.work import WorkItem
    from altcraft_async.outcome import Outcome

__all__ = ["Sink"]


class Sink:
    """Takes the outcomes of one run, and has them ready for the caller.

    `handed` is called with outcomes when they may be seen, `leave` with an item whose lanes
    may open. With `gathered` all outcomes are kept by their index; otherwise they stand in
    `output` until they are taken. `open` counts the rows that were taken in and have no
    outcome yet.
    """

    __slots__ = ("_broken", "_handed", "_leave", "_notifier", "_pending", "_recorder", "gathered", "open", "output")

    def __init__(
        self,
        recorder: Recorder | None,
        notifier: Notifier | None,
        *,
        gathered: bool,
        handed: Callable[[Sequence[Outcome[object]]], None],
        leave: Callable[[WorkItem], None],
    ) -> None:
        self._recorder = recorder
        self._notifier = notifier
        self._handed = handed
        self._leave = leave
        self._pending: dict[int, WorkItem | None] = {}
        self._broken = False
        self.gathered: list[Outcome[object] | None] | None = [] if gathered else None
        self.output: deque[Outcome[object]] = deque()
        self.open = 0

    def __repr__(self) -> str:
        """Show what is still to come."""
        return f"<Sink {self.open} open, {len(self._pending)} being recorded>"

    def expect(self, count: int = 1) -> None:
        """Take note of more rows."""
        self.open += count
        if self.gathered is not None:
            self.gathered += [None] * count

    def put_back(self, outcome: Outcome[object]) -> None:
        """Show the outcome that a row had in an earlier run."""
        if self.gathered is not None:
            self.gathered.append(outcome)
        else:
            self.output.append(outcome)

    def settle(self, outcomes: Sequence[Outcome[object]], item: WorkItem | None = None, *, cut: bool = False) -> None:
        """Take the outcomes of one item, or of a row that never became one.

        Outcomes that were `cut` by the end of the run are none of the line's own:
        they are not recorded, so that the next run sends the updates.
        """
        if self._recorder is None or cut:
            self._hand_over(outcomes, item)
        elif self._broken:
            self._drop(len(outcomes), item)
        else:
            for outcome in outcomes:
                self._pending[outcome.index] = item
            self._recorder.record(outcomes)

    def recorded(self, outcomes: Sequence[Outcome[object]]) -> None:
        """Take note that outcomes are safe, whole groups of them."""
        items = dict.fromkeys(self._pending.pop(outcome.index) for outcome in outcomes)
        self._hand_over(outcomes, None)
        for item in items:
            if item is not None:
                self._leave(item)

    def break_off(self) -> None:
        """Drop the outcomes that could not be made safe: their updates are in doubt, and the next run sends them."""
        self._broken = True
        count, items = len(self._pending), dict.fromkeys(self._pending.values())
        self._pending.clear()
        self._drop(count, *items)

    def _drop(self, count: int, *items: WorkItem | None) -> None:
        """Give up the outcomes of items; their lanes open all the same, for whoever else is on them."""
        self.open -= count
        for item in items:
            if item is not None:
                self._leave(item)

    def _hand_over(self, outcomes: Sequence[Outcome[object]], item: WorkItem | None) -> None:
        self.open -= len(outcomes)
        if self._notifier is not None:
            for outcome in outcomes:
                self._notifier.update_settled(outcome)
        if self.gathered is None:
            self.output += outcomes
        else:
            for outcome in outcomes:
                self.gathered[outcome.index] = outcome
        self._handed(outcomes)
        if item is not None:
            self._leave(item)
