"""Why rows failed, put together: one reason is told once, with how many rows it met and the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async import AltcraftError
from altcraft_async.errors import Unit
from altcraft_async.report.reasons import without_lists

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async import Outcome
    from altcraft_async.report.reasons import Place

__all__ = ["Reason", "Reasons"]

_FIRST = 3
"""Rows that are named for one reason."""

_KINDS = 200
"""Reasons that are told apart; texts that say something else for each row count together."""

_SHOWN = 10
"""Reasons on a screen."""

_SOME_ID = "…"
_OTHER = "other reasons"


@attrs.define
class Reason:
    """One reason, the `state` it led to, the `count` of its rows, and the first of their `places`."""

    state: str
    text: str
    count: int = 0
    places: list[int] = attrs.field(factory=list)

    def where(self, *, lines: bool) -> str:
        """Name the first rows, by their `lines` in the input or by their numbers."""
        noun = "line" if lines else "row"
        more = self.count - len(self.places)
        said = f"{noun}{'s' if self.count > 1 else ''} {', '.join(map(str, self.places))}"
        return f"{said} and {more:,} more" if more else said


class Reasons:
    """Puts outcomes that failed together by reason.

    Texts that differ only in the ids of their rows are one reason. What is kept does not grow with the input.
    """

    __slots__ = ("_found", "_lines")

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Reason] = {}
        self._lines = True

    def __len__(self) -> int:
        """Count the reasons."""
        return len(self._found)

    def __iter__(self) -> Iterator[Reason]:
        """Give the reasons, the most frequent first."""
        return iter(sorted(self._found.values(), key=lambda reason: -reason.count))

    def add(self, outcome: Outcome[object], place: Place) -> None:
        """Count a failure, at its place in the input."""
        state, text = str(outcome.state), _text_of(outcome)
        key = state, _without_ids(text, outcome)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _KINDS:
                key = state, _OTHER
                text = _OTHER
            found = self._found.setdefault(key, Reason(state, text))
        elif found.text != key[1]:
            found.text = key[1]  # a second row: what is its own is left out
        found.count += 1
        self._lines = self._lines and place.line is not None and place.unit is Unit.LINE
        if len(found.places) < _FIRST:
            found.places.append(outcome.index + 1 if place.line is None else place.line)

    def told(self) -> Iterator[tuple[str, str, str]]:
        """Give the state with its count, the text and the rows of those that fit on a screen, and what is left out."""
        shown = list(self)[:_SHOWN]
        for reason in shown:
            yield f"{reason.count:,} {reason.state}", reason.text, reason.where(lines=self._lines)
        if more := list(self)[_SHOWN:]:
            count = sum(reason.count for reason in more)
            yield f"{count:,} more", f"for {len(more):,} other reasons", ""

    def records(self) -> Sequence[dict[str, object]]:
        """Give all reasons for programs."""
        name = "lines" if self._lines else "rows"
        return [
            {"state": reason.state, "reason": reason.text, "count": reason.count, name: list(reason.places)}
            for reason in self
        ]


def _text_of(outcome: Outcome[object]) -> str:
    error = outcome.error
    return error.message if isinstance(error, AltcraftError) and error.message else str(error or outcome.state)


def _without_ids(text: str, outcome: Outcome[object]) -> str:
    """Leave out what is the row's own: the ids of its order and line, wherever they stand as words."""
    update = outcome.update
    ids = {outcome.external_id} if update is None else {update.order_external_id, update.order_line_external_id}
    for known in sorted(filter(None, ids), key=len, reverse=True):
        text = _without(text, known)
    return without_lists(text)


def _without(text: str, word: str) -> str:
    """Leave a word out: a pattern would have to be compiled for each row."""
    start = 0
    while (at := text.find(word, start)) >= 0:
        end = at + len(word)
        if text[at - 1 : at].isalnum() or text[end : end + 1].isalnum():
            start = end
        else:
            text = f"{text[:at]}{_SOME_ID}{text[end:]}"
            start = at + 1
    return text
