"""What a client has asked about lately, and whether its connections deserve trust."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from altcraft_async.protocol.values import LineKey, LineStatusUpdate

__all__ = ["Questions"]

_REMEMBERED: Final = 4096
"""Lines in each of two generations: more than are in flight, and than go over a connection within seconds."""
_ENOUGH: Final = 10
"""Answers under another name that were confirmed before more of their kind are taken at once."""
_DISTRUST: Final = 60.0
"""Seconds for which answers that do not name their line and status are confirmed, once a connection was not clean."""

_log = logging.getLogger("altcraft_async")


class Questions:
    """The memory of one client and its copies, by which an answer of another line is told."""

    __slots__ = ("_accepted", "_before", "_distrusted_until", "_now")

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()
        self._distrusted_until = float("-inf")
        self._accepted = 0

    def __repr__(self) -> str:
        """Show how many lines are remembered."""
        return f"<Questions {len(self._now) + len(self._before)} lines>"

    def ask(self, update: LineStatusUpdate) -> None:
        """Take note that a request about a line goes out."""
        if len(self._now) >= _REMEMBERED:
            self._before, self._now = self._now, set()
        self._now.add(hash((update.order_external_id, update.order_line_external_id)))

    def knows(self, line: LineKey) -> bool:
        """Say whether a request about the line went out lately."""
        asked = hash((line[0], line[1]))
        return asked in self._now or asked in self._before

    def distrust(self, now: float) -> None:
        """Take note of an answer that was another line's, or of bytes that nobody had asked for."""
        self._distrusted_until = now + _DISTRUST

    def suspicious(self, now: float) -> bool:
        """Say whether there were such within the last minute."""
        return now < self._distrusted_until

    @property
    def renamed(self) -> bool:
        """Whether it is known that the platform has names of its own for lines."""
        return self._accepted >= _ENOUGH

    def accept(self, line: LineKey) -> None:
        """Take note that the platform calls a line by another name, as it confirmed; warn once."""
        self._accepted += 1
        if self._accepted == 1:
            said = "the platform answers with other ids than it was asked for (%s/%s); that is accepted"
            _log.warning(said, line[0], line[1])
