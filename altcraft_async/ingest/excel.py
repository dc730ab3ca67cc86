"""Excel: the first sheet of an .xlsx file becomes updates, row by row.

The library is openpyxl in its reading mode. It streams the sheet, so memory grows
with the different texts of the file alone; python-calamine is fifteen times as
quick, but holds all cells of a sheet.

A number counts as its digits: ``123`` and ``123.0`` are ``123``. A formula counts
as what Excel has computed last. A date or a truth value is no id, and is refused.
What failed is written as CSV, since nobody appends to a workbook.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import tempfile
import zipfile
from typing import TYPE_CHECKING, TypeAlias

from altcraft_async.errors import MissingExtraError
from altcraft_async.ingest.errors import InputError
from altcraft_async.ingest.suspicion import concerns
from altcraft_async.ingest.table import FIELDS, Table
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.ingest.table import Reading, ReadRow
    from altcraft_async.ingest.text import Feed

__all__ = ["ExcelRows"]

_Cell: TypeAlias = "str | int | float | bool | dt.date | dt.time | dt.timedelta | None"

_EXACT = 10**15
"""Excel keeps fifteen digits of a number; the others are zeros."""
_DIGITS_LOST = "ids of more than 15 digits in number cells, of which Excel keeps only 15"
_IN_MEMORY = 16 << 20


class ExcelRows:
    """The rows of the first visible sheet; iterating gives them.

    ``header`` has the header as a line of CSV, ``table`` the columns. ``line`` of a row is
    its number in the sheet. Raises `InputError` where the file cannot be read, and
    `MissingExtraError` without the extra ``excel``.
    """

    __slots__ = ("_given", "_rows", "header", "table")

    def __init__(self, feed: Feed, source: str, reading: Reading) -> None:
        self._rows = enumerate(_sheet_rows(feed, source), 1)
        header, line = self._first_row(reading, source)
        self.header = _record(header) + b"\n"
        self.table = Table(header, reading, source, line)
        self._given = self._give()

    def _first_row(self, reading: Reading, source: str) -> tuple[list[str], int]:
        for line, cells in self._rows:
            header = list(map(_text, cells))
            if line > reading.skip_lines and any(header):
                while not header[-1]:
                    header.pop()
                return header, line
        msg = f"{source}: the first sheet is empty; it starts with a row of column names"
        raise InputError(msg, source=source)

    def __iter__(self) -> Iterator[ReadRow]:
        """Give the rows."""
        return self._given

    def _give(self) -> Iterator[ReadRow]:
        table = self.table
        for line, cells in self._rows:
            fields = list(map(_text, cells))
            fields += [""] * (table.width - len(fields))
            wanted = table.picked([*cells, *fields[len(cells) :]][: table.width])
            made = self._unfit(wanted, line) or table.item(fields, line, b"")
            if made is None:
                continue
            if isinstance(made, LineStatusUpdate):
                self._look(made, wanted, line)
            yield made, line, _record(fields)

    def _unfit(self, wanted: tuple[_Cell, ...], line: int) -> InvalidUpdateError | None:
        """Return what is wrong with cells that are no text and no number."""
        for field, cell in zip(FIELDS, wanted, strict=True):
            if isinstance(cell, bool | dt.date | dt.time | dt.timedelta):
                what = "true or false" if isinstance(cell, bool) else "a date or a time"
                return self.table.invalid(
                    f"{field} is {what}; format the column as text, and enter it anew", line, field
                )
        return None

    def _look(self, made: LineStatusUpdate, wanted: tuple[_Cell, ...], line: int) -> None:
        if concerns(f"{made.order_external_id}\n{made.order_line_external_id}"):
            self.table.suspicions.look(made, line)
        for cell in wanted[:2]:
            if isinstance(cell, int | float) and abs(cell) >= _EXACT:
                self.table.suspicions.note(_DIGITS_LOST, line, _text(cell))

    def unread(self) -> Iterator[bytes]:
        """Give the rows that were not given, as CSV. Ends the reading."""
        for _, _, raw in self._given:
            yield raw + b"\n"


def _sheet_rows(feed: Feed, source: str) -> Iterator[tuple[_Cell, ...]]:
    try:
        import openpyxl  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "reading Excel files needs openpyxl, which is not installed: pip install 'altcraft-async[excel]'"
        raise MissingExtraError(msg) from None
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        while block := feed.read():
            file.write(block)
        file.seek(0)
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = next(sheet for sheet in book.worksheets if sheet.sheet_state == "visible")
            sheet.reset_dimensions()  # what a file says of its size is often wrong
            yield from sheet.iter_rows(values_only=True)
        except (zipfile.BadZipFile, KeyError, StopIteration, ValueError, EOFError) as error:
            kind = type(error).__name__
            msg = f"{source} cannot be read as an Excel workbook ({kind}); open it in Excel and save it anew"
            raise InputError(msg, source=source) from None


def _text(cell: _Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return f"{cell:.0f}"
    return str(cell)


def _record(fields: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue().encode("utf-8", "surrogatepass")
