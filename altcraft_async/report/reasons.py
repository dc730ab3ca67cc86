"""Why rows did not arrive: failures with one reason are one, counted, with the first of their rows; pure.

A server's text often names the order that it is about, so that a thousand failures with one reason have a
thousand texts. So ids of the row, and lists of quoted words, are left out before texts are compared. Where
texts still differ without end, only the first few stand for themselves.
"""

from __future__ import annotations

import re
from bisect import insort
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.errors import InvalidUpdateError, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.errors import AltcraftError
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.states import OutcomeState

__all__ = ["ROWS", "Place", "Reason", "Reasons", "place_of", "without_lists"]

ROWS: Final = 3
"""Rows that are named for a reason: enough to look at, few enough to read."""
_TEXTS: Final = 8
"""Different texts of one kind of failure that are kept apart."""
_KINDS: Final = 200
"""Different kinds that are kept apart: a server may number its failures one by one."""
_LONGEST: Final = 300
"""Characters of a text; a server may answer with a page."""
_LEFT_OUT: Final = "…"
_OTHER: Final = "other texts, each different"
_LIST: Final = re.compile(r"'[^']*'(?:, '[^']*')+")
_index = attrgetter("index")


@attrs.frozen
class Place:
    """A row of the input: its 0-based `index`, its `line` in the input where that is known, and what it is about.

    `unit` says whether `line` counts lines or rows.

    `subject` has the ids of the order line, or of the order, product or SKU of an import row; None if they are not
    known. `status` is the status in the row.
    """

    index: int
    line: int | None = None
    subject: str | None = None
    status: str | None = None
    unit: Unit = Unit.LINE

    @property
    def where(self) -> str:
        """The place in words, with numbers that count from 1."""
        return f"row {self.index + 1:,}" if self.line is None else f"{self.unit} {self.line:,}"


def place_of(outcome: Outcome[object], line: int | None = None, unit: Unit = Unit.LINE) -> Place:
    """Return the row of an outcome; an error that knows its place says it where nobody else does."""
    update, error = outcome.update, outcome.error
    if line is None and isinstance(error, InvalidUpdateError):
        line, unit = error.line, error.unit
    if update is None:
        return Place(outcome.index, line, outcome.external_id, unit=unit)
    subject = f"{update.order_external_id} / {update.order_line_external_id}"
    return Place(outcome.index, line, subject, update.status_external_id, unit)


@attrs.frozen(kw_only=True)
class Reason:
    """Why `count` rows ended in `state`.

    `error` is the class of the error, `code` the platform's own number and `status` that of HTTP, where there was
    an answer. `text` says what happened, with ``…`` in the place of the row's ids; where it is `quoted` it is the
    server's own. `first` are the first rows, `remedy` says what to do.
    """

    state: OutcomeState
    error: str
    code: int | None
    status: int | None
    text: str
    quoted: bool
    count: int
    first: Sequence[Place]
    remedy: str


@attrs.define
class _Group:
    text: str
    quoted: bool
    remedy: str
    count: int = 0
    first: list[Place] = attrs.Factory(list)


_Kind = tuple["OutcomeState", str, int | None, int | None]


class Reasons:
    """Collects failures by their reason, in memory that does not grow with their number."""

    __slots__ = ("_groups", "_texts")

    def __init__(self) -> None:
        self._groups: dict[tuple[_Kind, str], _Group] = {}
        self._texts: dict[_Kind, int] = {}

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<Reasons: {len(self._groups)}>"

    def add(self, outcome: Outcome[object], place: Place, count: int = 1) -> None:
        """Count a failure, as `count` of them where others say the very same."""
        error = outcome.error
        kind = self._kind(
            outcome.state, type(error).__name__, getattr(error, "code", None), getattr(error, "status", None)
        )
        text, quoted = _text_of(error, outcome)
        if (kind, text) not in self._groups:
            seen = self._texts[kind] = self._texts.get(kind, 0) + 1
            text, quoted = (text, quoted) if seen <= _TEXTS else (_OTHER, False)
        group = self._groups.setdefault((kind, text), _Group(text, quoted, getattr(error, "remedy", "")))
        group.count += count
        if len(group.first) < ROWS or place.index < group.first[-1].index:  # outcomes come as they end
            insort(group.first, place, key=_index)
            del group.first[ROWS:]

    def more_like(self, state: OutcomeState, error: str, code: int | None, status: int | None, count: int) -> None:
        """Count failures of a kind of which one was added, and whose texts nobody looks at any more."""
        kind = self._kind(state, error, code, status)
        group = self._groups.get((kind, _OTHER))
        if group is None:
            self._texts.setdefault(kind, 0)
            remedy = next((one.remedy for (other, _), one in self._groups.items() if other == kind), "")
            group = self._groups[kind, _OTHER] = _Group(_OTHER, quoted=False, remedy=remedy)
        group.count += count

    def _kind(self, state: OutcomeState, error: str, code: int | None, status: int | None) -> _Kind:
        """Return the kind of a failure, without its numbers if there are too many kinds already."""
        kind = (state, error, code, status)
        return kind if kind in self._texts or len(self._texts) < _KINDS else (state, error, None, None)

    def found(self) -> list[Reason]:
        """Return the reasons, the most frequent first."""
        reasons = [
            Reason(
                state=state,
                error=error,
                code=code,
                status=status,
                text=group.text,
                quoted=group.quoted,
                count=group.count,
                first=tuple(group.first),
                remedy=group.remedy,
            )
            for ((state, error, code, status), _), group in self._groups.items()
        ]
        return sorted(reasons, key=lambda reason: (-reason.count, reason.first[0].index if reason.first else 0))


def _text_of(error: AltcraftError | None, outcome: Outcome[object]) -> tuple[str, bool]:
    """Return what an error says, the server's own words where it has some, without the ids of its row."""
    if error is None:
        return "", False
    said: str = getattr(error, "text", "")
    update, text = outcome.update, said or error.message
    ids = (outcome.external_id,) if update is None else (update.order_external_id, update.order_line_external_id)
    for one in sorted({one for one in ids if one}, key=len, reverse=True):
        if one in text:
            text = _without(text, one)
    text = without_lists(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}{_LEFT_OUT}", bool(said)


def without_lists(text: str) -> str:
    """Leave out lists of quoted words: a server names what there is, and that is another list for each row."""
    return _LIST.sub(f"'{_LEFT_OUT}'", text) if "', '" in text else text


def _without(text: str, one: str) -> str:
    """Leave an id out of a text where it stands by itself; a pattern for each of a million would take half a minute."""
    found, *parts = text.split(one)
    for part in parts:
        alone = not _inside(found[-1:]) and not _inside(part[:1])
        found += (_LEFT_OUT if alone else one) + part
    return found


def _inside(letter: str) -> bool:
    """Say whether a letter beside an id makes it a part of something else."""
    return letter.isalnum() or letter == "_"
