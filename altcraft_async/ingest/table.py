"""Records of a table become updates: which columns are needed, and what each row says.

Shared by all formats that have a header. Names of columns are compared without
case, outer blanks and byte order marks. Empty cells beyond the header are left alone.

What is no row is passed over, and the notes say so once: a header that stands
there again, a line of dashes, a count as ``(5 rows)``; a row of nothing but empty
cells is not even noted. A header that stands there again with other columns, or in
another order, ends the table: what follows is read by nobody's guess.
"""

from __future__ import annotations

import csv
import io
import operator
import re
from typing import TYPE_CHECKING, SupportsBytes, TypeAlias, TypeVar

import attrs

from altcraft_async.errors import InvalidUpdateError, Unit
from altcraft_async.ingest.errors import HeldBackError, InputError, clip
from altcraft_async.ingest.suspicion import Suspicions
from altcraft_async.ingest.text import not_in_encoding
from altcraft_async.protocol.plain import escaped
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_Cell = TypeVar("_Cell")

__all__ = ["FIELDS", "AnyRow", "ReadItem", "ReadRow", "Reading", "Table", "csv_record", "fold", "ids_of", "with_column"]

FIELDS = ("order_external_id", "order_line_external_id", "status_external_id")
"""The fields of an update, which are also the default column names."""

ReadItem: TypeAlias = LineStatusUpdate | InvalidUpdateError
"""What a row becomes: the update, or what is wrong with the row."""

ReadRow: TypeAlias = "tuple[ReadItem, int, bytes]"
"""The item, its first line's number, its bytes without the last line end."""

AnyRow: TypeAlias = "tuple[ReadItem, int, SupportsBytes]"
"""The same, where the bytes may be made when they are wanted."""

_QUOTE_IT = "quote a value that has the separator in it, or correct the row"
_COUNT = re.compile(r"\(\d+ [^()\d]{1,40}\)")
_NAMES_SHOWN = 20
_KNOWN_STATUSES = 4096
"""Statuses remembered; an input with more has its ids in that column."""


Ids: TypeAlias = "tuple[str | None, str | None, str | None]"


@attrs.frozen(kw_only=True)
class Reading:
    """How an input is to be read, checked; see `altcraft_async.ingest.read_updates`."""

    columns: Mapping[str, str]
    constants: Mapping[str, str] = attrs.field(factory=dict)
    statuses: Mapping[str, str] = attrs.field(factory=dict)
    encoding: str = "utf-8"
    skip_lines: int = 0
    last_line: str = "auto"
    make: Callable[[Mapping[str, object]], object] | None = None
    """What makes a row's value of an object, instead of an update; it raises `InvalidUpdateError`."""


def ids_of(values: Sequence[object]) -> Ids:
    """Return the ids of a wrong row as texts; None for each that is no text or whole number."""
    texts = (str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None for value in values)
    order, line, status = (text and escaped(text) for text in texts)
    return (order, line, status)


def fold(name: str) -> str:
    """Return what of a column's name counts."""
    return name.strip(" \t\r\n\xa0\ufeff").casefold()


def with_column(error: InvalidUpdateError, columns: Mapping[str, str]) -> str:
    """Return an error's message, with the name of the column where that is another one than the field's."""
    column = columns.get(error.field or "")
    return error.message if column is None or column == error.field else f"{error.message} (column {clip(column)})"


def csv_record(values: Sequence[object], *, surrogates: str = "backslashreplace") -> bytes:
    """Write the values as one line of a CSV; `surrogates` says how to encode what is no character."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode(errors=surrogates)


class Table:
    """The columns of one table, by its header, and the updates that its records make.

    Raises `InputError` if the header lacks a needed column, has one twice, or
    has one that is given as a constant too; `item` raises `HeldBackError` if another
    header stands. `too_wide` says what helps where a row has more cells than the header, `place` where that is, `unit`
    what the places of records count.
    """

    __slots__ = (
        "_constants", "_headings", "_known", "_names", "_notes", "_passed", "_pick", "_reading", "_statuses",
        "_too_wide", "_usual_width", "source", "suspicions", "unit", "width",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what is said of it by keyword
        self,
        header: Sequence[str],
        reading: Reading,
        source: str,
        line: int = 1,
        *,
        too_wide: str = _QUOTE_IT,
        place: str | None = None,
        unit: Unit = Unit.LINE,
    ) -> None:
        self.source = source
        self.unit = unit
        self.suspicions = Suspicions(unit)
        self.width = len(header)
        self._too_wide = too_wide
        self._notes: list[str] = []
        self._passed: dict[str, tuple[int, int]] = {}  # how many lines of a kind were passed over, and the first
        self._reading = reading
        self._statuses = reading.statuses
        self._constants = list(reading.constants.values())
        self._known: dict[str, str] = {}  # statuses that need no further look
        self._usual_width = -1 if self._constants else self.width
        places = self._places(header, place or f"{source}, {unit} {line}")
        self._pick = operator.itemgetter(*places)
        self._headings = tuple(fold(name) for name in self._pick([*header, *self._constants]))
        self._names = frozenset(fold(header[at]) for at in places if at < self.width)

    def _places(self, header: Sequence[str], place: str) -> list[int]:
        names = [fold(name) for name in header]
        constants = list(self._reading.constants)
        asked = {field: column for field, column in self._reading.columns.items() if field not in constants}
        missing = {field: column for field, column in asked.items() if fold(column) not in names}
        if missing:
            raise self._lacks(missing, header, place)
        places = []
        for field, column in self._reading.columns.items():
            if field in constants:
                if fold(column) in names:
                    msg = (
                        f"{place}: {field} is given for all rows, and the header has the column {clip(column)} too; "
                        "leave one of them out"
                    )
                    raise InputError(msg, source=self.source)
                places.append(self.width + constants.index(field))
            else:
                places.append(self._place_of(field, column, header, names, place))
        read = {names[at] for at in places if at < self.width}
        twice = sorted({name for name in names if name and names.count(name) > 1})
        for needed, what in ((True, "the one that is written exactly so is read"), (False, "not needed here")):
            if found := [name for name in twice if (name in read) is needed]:
                said = ", ".join(map(clip, found[:_NAMES_SHOWN]))
                self._notes.append(f"{place}: the header has {said} more than once; {what}, rename if it matters")
        return places

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know by now."""
        passed = (
            f"{self.source}, {self.unit} {line}: {what}; it was passed over"
            + (f", and {count - 1:,} more" * (count > 1))
            for what, (count, line) in self._passed.items()
        )
        return (*self._notes, *passed)

    def _place_of(self, field: str, column: str, header: Sequence[str], names: Sequence[str], place: str) -> int:
        found = [at for at, name in enumerate(names) if name == fold(column)]
        exact = [at for at in found if header[at].strip() == column]
        found = exact if len(exact) == 1 else found
        if len(found) == 1:
            return found[0]
        msg = f"{place}: the header has the column {clip(column)} {len(found)} times; rename all but one of them"
        raise InputError(msg, field=field, source=self.source)

    def _lacks(self, missing: Mapping[str, str], header: Sequence[str], place: str) -> InputError:
        """Return the error that names all columns which are missing, and those that there are."""
        shown = ", ".join(map(clip, header[:_NAMES_SHOWN])) + (", …" if len(header) > _NAMES_SHOWN else "")
        columns, fields = ", ".join(map(clip, missing.values())), ", ".join(missing)
        one = len(missing) == 1
        msg = (
            f"{place}: the header lacks the column{'' if one else 's'} {columns}; add {'it' if one else 'them'}, "
            f"or say which of the columns hold{'s' if one else ''} {fields}: {shown}"
        )
        return InputError(msg, field=next(iter(missing)), source=self.source)

    def item(self, fields: list[str], line: int, raw: bytes) -> ReadItem | None:
        """Return what a record becomes; None for one that is no row."""
        if len(fields) == self._usual_width:
            order, order_line, status = self._pick(fields)
            meant = self._known.get(status)
            if meant is not None:
                try:
                    return LineStatusUpdate(order.strip(), order_line.strip(), meant)
                except InvalidUpdateError:
                    pass  # it is told below, in full
        if len(fields) != self.width:
            if not any(map(str.strip, fields)) or self._passes_over(fields, line):
                return None
            if len(fields) < self.width or any(map(str.strip, fields[self.width :])):
                return self.invalid(self._wrong_width(len(fields)), line)
            fields = fields[: self.width]
        return self._item(fields, line, raw)

    def _item(self, fields: list[str], line: int, raw: bytes) -> ReadItem | None:
        """Return what a record becomes that is as wide as the header, and unusual in something."""
        order, order_line, status = picked = self.picked(fields)
        if self._passes_over(fields, line):
            return None
        status = self._statuses.get(status.strip(), status.strip())
        try:
            update = LineStatusUpdate(order.strip(), order_line.strip(), status)
        except InvalidUpdateError as error:
            if not any(map(str.strip, fields)):
                return None
            message = with_column(error, self._reading.columns)
            if any("\udc80" <= letter <= "\udcff" for value in picked for letter in value):
                message = not_in_encoding(raw, self._reading.encoding)[0]
            return self.invalid(message, line, error.field, ids=ids_of(picked))
        suspicious = self.suspicions.look_at_status(status, line)
        like_a_row = status.strip("-") and fold(picked[2]) not in self._names
        if like_a_row and not suspicious and len(self._known) < _KNOWN_STATUSES:
            self._known[picked[2]] = status
        return update

    def _passes_over(self, fields: list[str], line: int) -> bool:
        """Say whether a record is no row, but for an empty one; raise `HeldBackError` for another header."""
        names = [fold(field) for field in fields]
        filled = [name for name in names if name]
        if len(names) == self.width and tuple(map(fold, self.picked(fields))) == self._headings:
            what = "the header stands here again"
        elif len(self._names) > 1 and self._names.issubset(filled):
            msg = (
                f"{self.source}, {self.unit} {line}: the header stands here again, with other columns or "
                "in another order; give what follows as a file of its own; nothing from here on was sent"
            )
            raise HeldBackError(msg, source=self.source, line=line, broken=True)
        elif filled and not any(name.strip("-") for name in filled):
            what = "a line of dashes, as databases write it for people"
        elif len(filled) == 1 and filled[0] == names[0] and _COUNT.fullmatch(names[0]):
            what = "a count of rows"
        else:
            return False
        count, first = self._passed.get(what, (0, line))
        self._passed[what] = (count + 1, first)
        return True

    def picked(self, cells: Sequence[_Cell]) -> tuple[_Cell | str, ...]:
        """Return the needed ones of cells as wide as the header, in the order of `FIELDS`."""
        found: tuple[_Cell | str, ...] = self._pick([*cells, *self._constants])
        return found

    def invalid(
        self, message: str, line: int, field: str | None = None, *, ids: Ids | None = None
    ) -> InvalidUpdateError:
        """Return what is wrong with the row at a place."""
        return InvalidUpdateError(message, field=field, source=self.source, line=line, unit=self.unit, ids=ids)

    def _wrong_width(self, found: int) -> str:
        return (
            f"the row has {found} {'column' if found == 1 else 'columns'} where the header has {self.width}; "
            f"{self._too_wide}"
        )
