"""Values that are correct but suspicious: ids and statuses that a spreadsheet or an export may have damaged.

They stop nothing. `Suspicions` counts them by kind, so that each kind is reported once, with the first place.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import Unit
from altcraft_async.ingest.errors import clip
from altcraft_async.protocol.values import OrderLineStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["Suspicion", "Suspicions", "concerns", "meant_status"]

_INVISIBLE = re.compile("[\xa0\xad\u034f\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufe00-\ufe0f\ufeff]")
_KINDS = {
    "scientific": "ids in scientific notation, as spreadsheets write long numbers",
    "fraction": "ids that end in .0, as spreadsheets and data frames write numbers",
    "formula": "ids that are a spreadsheet's formula",
    "nothing": "ids that stand for no value",
}
_SUSPICIOUS = re.compile(
    r"""(?P<scientific>[+-]?\d+(?:[.,]\d+)?[eE][+-]?\d+) | (?P<fraction>\d+[.,]0+) | (?P<formula>=.*) |
    (?P<nothing>(?i:null|\\n|nan|none|nil|<null>|\#?n/a|\#(?:ref|value|name)[?!]))""",
    re.VERBOSE,
)
_MARKS = (".", "+", "=", "\\", "#", "N")
"""One of these is in nearly every suspicious id, and to look for a single character in a long text costs nothing."""
_SYSTEM = tuple(str(status) for status in OrderLineStatus)
_LONG_ENOUGH = 5
"""Letters that a word needs for one of them to be a slip."""


@attrs.frozen
class Suspicion:
    """One kind of suspicious value: what, how many rows have it, and the first one's value and 1-based place.

    ``line`` is the place; ``unit`` says whether it counts lines or rows.
    """

    what: str
    count: int
    line: int
    example: str
    unit: Unit = Unit.LINE

    def __str__(self) -> str:
        """Say it in a sentence."""
        rows = "1 row" if self.count == 1 else f"{self.count:,} rows"
        return f"{self.what}: {rows}, the first in {self.unit} {self.line} ({clip(self.example)})"


def concerns(text: str) -> bool:
    """Say, quickly, whether a text may hold a suspicious id."""
    return any(mark in text for mark in _MARKS) or (not text.isascii() and _INVISIBLE.search(text) is not None)


@functools.lru_cache(maxsize=1024)
def meant_status(status: str) -> str | None:
    """Return the system status from which a status differs by case or one letter; None if there is none."""
    if status in _SYSTEM:
        return None
    low = status.casefold()
    for known in _SYSTEM:
        if low == known or (len(known) >= _LONG_ENOUGH and _one_letter_apart(low, known)):
            return known
    return None


def _one_letter_apart(one: str, other: str) -> bool:
    if len(one) < len(other):
        one, other = other, one
    if len(one) - len(other) > 1:
        return False
    at = next((at for at, letter in enumerate(other) if one[at] != letter), len(other))
    return one[at + 1 :] == other[at + (len(one) == len(other)) :]


class Suspicions:
    """Counts what is suspicious of the updates of one input; iterating gives a `Suspicion` a kind."""

    __slots__ = ("_found", "_unit")

    def __init__(self, unit: Unit = Unit.LINE) -> None:
        self._unit = unit
        self._found: dict[str, tuple[int, int, str]] = {}

    def __iter__(self) -> Iterator[Suspicion]:
        """Return the kinds in the order in which they were met."""
        return (Suspicion(what, *facts, self._unit) for what, facts in self._found.items())

    def __len__(self) -> int:
        """Count the kinds."""
        return len(self._found)

    def look(self, update: LineStatusUpdate, line: int) -> None:
        """Count an update of a text that `concerns`."""
        for value in (update.order_external_id, update.order_line_external_id):
            found = _SUSPICIOUS.fullmatch(value)
            if found is not None and found.lastgroup is not None:
                self.note(_KINDS[found.lastgroup], line, value)
            if not value.isascii() and _INVISIBLE.search(value):
                self.note("ids with characters that nobody sees", line, ascii(value)[1:-1])

    def look_at_status(self, status: str, line: int) -> bool:
        """Count a status that is perhaps not the one that was meant; say whether it is suspicious."""
        meant = meant_status(status)
        if meant is not None:
            self.note(f"the status {clip(status)} is sent as it stands, and is not {meant!r}", line, status)
        elif not status.isascii() and _INVISIBLE.search(status):
            self.note("statuses with characters that nobody sees", line, ascii(status)[1:-1])
        else:
            return False
        return True

    def note(self, what: str, line: int, value: str, times: int = 1) -> None:
        """Count one more value of a kind, or more."""
        count, first, example = self._found.get(what, (0, line, value))
        self._found[what] = (count + times, first, example)
