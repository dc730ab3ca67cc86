"""Excel: the first sheet of an .xlsx file becomes updates, row by row.

The library is openpyxl in its reading mode. It streams the sheet, so memory grows
with the different texts of the file alone; python-calamine is fifteen times as
quick, but holds all cells of a sheet.

A number counts as its digits: ``123`` and ``123.0`` are ``123``. A formula counts
as what Excel has computed last. A date or a truth value is no id, and is refused.
What failed is written as CSV, since nobody appends to a workbook; a row that was refused for
a cell of another kind gets one cell more, which says why, so that it is refused there too.
What a workbook hides from its reader (other sheets, hidden rows, a number's format) is
suspicious.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import tempfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from altcraft_async.errors import MissingExtraError, Unit
from altcraft_async.ingest.errors import HeldBackError, InputError, clip
from altcraft_async.ingest.suspicion import concerns
from altcraft_async.ingest.table import FIELDS, Table
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.ingest.table import Reading, ReadRow
    from altcraft_async.ingest.text import Feed

__all__ = ["ExcelRows"]

_Cell: TypeAlias = "str | int | float | bool | dt.date | dt.time | dt.timedelta | None"


class _Read(Protocol):
    """A cell as openpyxl reads it."""

    value: _Cell
    number_format: str


_EXACT = 10**15
"""Excel keeps fifteen digits of a number; the others are zeros."""
_TOO_WIDE = "give every value a column with a name, or remove it"
_PLAIN_FORMATS = {"General", "@", "0", "#", "#,##0", "0.00", "#,##0.00"}
_HIDDEN_ROW = re.compile(rb'<(?:\w+:)?row\b[^>]*\bhidden="(?:1|true)"')
_DIGITS_LOST = "ids of more than 15 digits in number cells, of which Excel keeps only 15"
_IN_MEMORY = 16 << 20


class ExcelRows:
    """The rows of the first visible sheet; iterating gives them.

    ``header`` has the header as a line of CSV, ``table`` the columns. ``line`` of a row is
    its number in the sheet. Raises `InputError` if the file cannot be read, and
    `MissingExtraError` without the extra ``excel``.
    """

    __slots__ = ("_given", "_held", "_sheet", "header", "table")

    def __init__(self, feed: Feed, source: str, reading: Reading) -> None:
        self._sheet = _Sheet(feed, source)
        header, line = self._first_row(reading, source)
        self.header = _record(header) + b"\n"
        self.table = Table(header, reading, source, line, too_wide=_TOO_WIDE, unit=Unit.ROW)
        for what, count, example in self._sheet.hides():
            self.table.suspicions.note(what, line, example, count)
        self._held: HeldBackError | None = None
        self._given = self._give()

    def _first_row(self, reading: Reading, source: str) -> tuple[list[str], int]:
        for line, cells in self._sheet.rows:
            header = [_text(cell.value) for cell in cells]
            if line > reading.skip_lines and any(header):
                while not header[-1]:
                    header.pop()
                return header, line
        msg = f"{source}: the first sheet is empty; it starts with a row of column names"
        raise InputError(msg, source=source)

    def __iter__(self) -> Iterator[ReadRow]:
        """Return the rows; raises `HeldBackError` if the sheet breaks off."""
        return self._given

    def _give(self) -> Iterator[ReadRow]:
        try:
            yield from self._rows()
        except HeldBackError as error:
            self._held = error
            raise

    def _rows(self) -> Iterator[ReadRow]:
        table = self.table
        for line, cells in self._sheet.rows:
            fields = [_text(cell.value) for cell in cells]
            fields += [""] * (table.width - len(fields))
            whole: list[_Read | str] = [*cells, *fields[len(cells) :]]
            wanted = table.picked(whole[: table.width])
            unfit = self._unfit(wanted, line)
            made = unfit or table.item(fields, line, b"")
            if made is None:
                continue
            if isinstance(made, LineStatusUpdate):
                self._look(made, wanted, line)
            yield made, line, _record(fields if unfit is None else [*fields, unfit.message])

    def _unfit(self, wanted: tuple[_Read | str, ...], line: int) -> InvalidUpdateError | None:
        """Return what is wrong with cells that are no text and no number."""
        for field, cell in zip(FIELDS, map(_value, wanted), strict=True):
            if isinstance(cell, bool | dt.date | dt.time | dt.timedelta):
                what = "true or false" if isinstance(cell, bool) else "a date or a time"
                return self.table.invalid(
                    f"{field} is {what}; format the column as text, and enter it anew", line, field
                )
        return None

    def _look(self, made: LineStatusUpdate, wanted: tuple[_Read | str, ...], line: int) -> None:
        suspicions = self.table.suspicions
        if concerns(f"{made.order_external_id}\n{made.order_line_external_id}"):
            suspicions.look(made, line)
        for cell in wanted:
            value = _value(cell)
            if not isinstance(value, int | float) or isinstance(cell, str):
                continue
            if abs(value) >= _EXACT:
                suspicions.note(_DIGITS_LOST, line, _text(value))
            if cell.number_format not in _PLAIN_FORMATS:
                shown = f"numbers with the format {clip(cell.number_format)}, which are sent as bare digits"
                suspicions.note(shown, line, _text(value))

    def unread(self) -> Iterator[bytes]:
        """Yield the rows that were not given, as CSV; raises where the sheet breaks off. Ends the reading."""
        for _, _, raw in self._given:
            yield raw + b"\n"
        if self._held is not None:
            raise self._held


class _Sheet:
    """The first visible sheet of a workbook: its rows, by number, and what the workbook hides beside them."""

    def __init__(self, feed: Feed, source: str) -> None:
        self._source = source
        self._hidden: list[tuple[str, int, str]] = []
        self.rows = enumerate(self._read(feed), 1)

    def hides(self) -> list[tuple[str, int, str]]:
        """Return what a person may not know of, how often it is there, and an example; once a row was read."""
        return self._hidden

    def _read(self, feed: Feed) -> Iterator[Sequence[_Read]]:
        try:
            import openpyxl  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
        except ImportError:
            msg = "reading Excel files needs openpyxl, which is not installed: pip install 'altcraft-async[excel]'"
            raise MissingExtraError(msg) from None
        line = 0
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            while block := feed.read():
                file.write(block)
            file.seek(0)
            try:
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
                seen = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
                sheet = seen[0]
                self._look_around(file, sheet, [other.title for other in seen[1:]])
                sheet.reset_dimensions()  # what a file says of its size is often wrong
                for line, cells in enumerate(sheet.iter_rows(), 1):  # noqa: B007 - an error names the line
                    yield cells
            except (zipfile.BadZipFile, zlib.error, LookupError, ValueError, EOFError, SyntaxError):
                raise self._unreadable(line, file) from None

    def _look_around(self, file: IO[bytes], sheet: Any, others: Sequence[str]) -> None:
        if others:
            self._hidden.append(("other sheets, which are not read", len(others), others[0]))
        rows = 0
        with zipfile.ZipFile(file) as archive, archive.open(sheet._worksheet_path) as text:  # noqa: SLF001 - it tells no other way
            before = b""
            while block := text.read(1 << 20):
                block = before + block
                cut = max(0, block.rfind(b"<"))
                rows += len(_HIDDEN_ROW.findall(block, 0, cut))
                before = block[cut:]
        if rows:
            self._hidden.append(("hidden rows, which are sent as all others", rows, sheet.title))

    def _unreadable(self, line: int, file: IO[bytes]) -> InputError:
        """Return what is wrong: behind a row, that the sheet breaks off; else what the file is."""
        source = self._source
        if line:
            msg = f"{source}, after row {line}: the sheet breaks off; open it in Excel and save it anew"
            return HeldBackError(msg, source=source, line=line + 1)
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, EOFError):
            names = ["xl/"]
        if any(name.startswith("xl/") for name in names):
            said = "cannot be read as an Excel workbook, it is damaged or cut off; open it in Excel and save it anew"
        elif "content.xml" in names:
            said = "is an OpenDocument file (.ods); save it as .xlsx or CSV"
        else:
            said = "is a zip archive and no Excel workbook; unpack it, and give the file inside"
        return InputError(f"{source} {said}", source=source)


def _value(cell: _Read | str) -> _Cell:
    return cell if isinstance(cell, str) else cell.value


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
