"""CSV: lines become records, and no record is ever made of what may stand inside an open quote.

The law of quotes. A quote opens where a cell begins, blanks aside; elsewhere in
an unquoted cell it is text, as in ``5" pipe``. It closes at the next quote that
is not doubled, and behind that, blanks aside, stand the separator or the end of
the line. From this follow three things:

- A record whose quotes close well is one record, over as many lines as it has,
  up to 16 MB.
- A record is **broken** where text follows a closing quote, where the quote is
  still open at the end or after 16 MB, or where the record spans lines and does
  not fit the header, so that its quote may be a stray one. Nobody can tell where
  the next record begins: what looks like one may be a line of somebody's note.
  So everything from the broken record on is held back, together, and
  `HeldBackError` says so once.
- A record over several lines that does not fit is a row of its own only where
  its last line, read by itself, leaves no quote open: then both ways of reading
  agree on where the next record begins.

A quote behind ``=``, as spreadsheets write it, is text where the cell closes on its
line; where it does not, the record is broken.

**The last line** without its end is held back where the input may still grow, and
sent where it cannot, with a note; see `Watch`. What follows a header of another order
is held back too; see `Table`.

A record without a quote is split at the separators, and one of quoted cells
alone at what stands between two; only the others are gone through piece by piece.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from altcraft_async.errors import InvalidUpdateError
from altcraft_async.ingest.errors import HeldBackError, InputError
from altcraft_async.ingest.suspicion import concerns
from altcraft_async.ingest.table import Table, fold
from altcraft_async.ingest.text import MAX_RECORD_BYTES, not_in_encoding
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from altcraft_async.ingest.table import Reading, ReadItem, ReadRow
    from altcraft_async.ingest.text import Lines, Watch

__all__ = ["CsvRows"]

_SEPARATORS = (",", ";", "\t")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_BLANKS = "".join(
    map(chr, (*b" \t\x0b\x0c", 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C), 0x2028, 0x2029, 0x202F, 0x205F))
)
_BLANKS += "\u2060\u3000\ufeff"
"""What nobody sees of a line, as ``str.isspace`` has it, and the marks of no width."""
_MAX_HEADER_LINES = 16
_RULE = re.compile(r"[-+| ]*-[-+| ]*")

_OPEN_AT_END = "a quote is opened and not closed; close it, or double the quotes inside a quoted value"
_TOO_LONG = f"a quote is opened and not closed within {MAX_RECORD_BYTES >> 20} MB; close it"
_TEXT_BEHIND = "text follows a closing quote; double the quotes inside a quoted value"
_FORMULA = 'a quote behind "=" is opened and not closed on its line; close it'
_MISFIT = (
    "a quoted value spans lines, and the row does not fit the header: its quote may be a stray one; correct the row"
)
_BARE_RETURN = "a bare carriage return stands inside the line; remove it, or save with ordinary line ends"


class _BrokenError(Exception):
    """The end of a record cannot be told; the message says why."""


def all_quoted(block: str, joint: str) -> bool:
    """Say whether the lines of a block are quoted cells alone, none with a quote in it; `joint` stands between two.

    It is told of all lines together, which costs next to nothing a line.
    """
    bare = block.removesuffix("\n").replace(joint, ";")
    between = bare.count("\n")
    if bare.startswith('"\n') or bare.endswith('\n"') or not bare[:1] == bare[-1:] == '"':
        return False
    return bare.count('"\n"') == between and bare.count('"') == 2 * between + 2


def split_simple(text: str, separator: str) -> list[str] | None:
    """Return, quickly, the cells of a line with one quoted cell or of quoted cells alone, none with a quote in it.

    None for any other: `split_record` tells.
    """
    pieces = text.split('"')
    if len(pieces) == 3:  # noqa: PLR2004 - before, inside and behind
        before, cell, behind = pieces
        if (before and before[-1] != separator) or (behind and behind[0] != separator):
            return None
        cells = before[:-1].split(separator) if before else []
        cells.append(cell)
        return cells + behind[1:].split(separator) if behind else cells
    if pieces[0] or pieces[-1] or not len(pieces) % 2:
        return None
    cells = pieces[1::2]
    between = pieces[2:-1:2]
    return cells if between.count(separator) == len(between) else None


def split_record(text: str, separator: str, more: Callable[[], str]) -> list[str]:
    """Return the cells of a record that begins with the line `text`; `more` gives its further lines.

    Raises what `more` raises, and `_BrokenError` where text follows a closing quote.
    """
    blanks = _BLANKS.replace(separator, "")
    cells: list[str] = []
    pieces = text.split('"')
    at = 0
    outside = pieces[0]
    while True:
        if "\r" in outside:  # perhaps a line end, and then a quote behind it opens
            raise _BrokenError(_BARE_RETURN)
        new = outside.split(separator)
        at += 1
        if at == len(pieces):
            return cells + new
        if before := new[-1].strip(blanks):  # the quote stands in the middle of a cell
            _check_formula(before, pieces[at:], separator, blanks)
            outside = f'{new.pop()}"{pieces[at]}'
            cells += new
            continue
        cells += new[:-1]
        inside = []
        while True:
            inside.append(pieces[at])
            at += 1
            if at == len(pieces):
                inside.append("\n")
                pieces = more().split('"')
                at = 0
            elif pieces[at] or at + 1 == len(pieces):
                break
            else:  # a doubled quote
                inside.append('"')
                at += 1
        cells.append("".join(inside))
        behind = pieces[at].lstrip(blanks)
        if not behind and at + 1 == len(pieces):
            return cells
        if not behind.startswith(separator):
            raise _BrokenError(_TEXT_BEHIND)
        outside = behind[1:]


def _check_formula(before: str, pieces: list[str], separator: str, blanks: str) -> None:
    """Raise `_BrokenError` for a quote behind ``=`` where none of those between the pieces of the line ends a cell."""
    behind = [piece.lstrip(blanks) for piece in pieces[1:]]
    if before == "=" and behind[-1:] != [""] and not any(piece.startswith(separator) for piece in behind):
        raise _BrokenError(_FORMULA)


class CsvRows:
    """The rows of one CSV. The header is read when it is made; iterating gives the rows.

    ``header`` has the bytes up to the end of the header, ``table`` the columns.
    Raises `InputError` if the header cannot be read.
    """

    __slots__ = ("_lines", "_reading", "_record", "_separator", "_size", "_source", "_watch", "header", "table")

    def __init__(self, lines: Lines, source: str, reading: Reading, watch: Watch) -> None:
        self._lines = lines
        self._source = source
        self._reading = reading
        self._watch = watch
        self._record: list[bytes] = []
        self._size = 0
        self._separator = ""
        self.header = b""
        self.table = self._read_header()

    # -- the header

    def _read_header(self) -> Table:
        text, line = self._first_line()
        names = self._split_header(text, line)
        if not self._lines.ended:
            self._watch.check_last(self._source, line)
        self.header += b"".join(raw + b"\n" for raw in self._record)
        try:
            return Table(names, self._reading, self._source, line)
        except InputError as error:
            self._look_for_another_cause(error, line)
            raise

    def _first_line(self) -> tuple[str, int]:
        """Return the header's first line and its number: behind skipped, blank and ``sep=`` lines."""
        for text in self._lines:
            self._record = [self._lines.raw]
            named = _SEPARATOR_LINE.fullmatch(text.strip(" \r\xa0"))
            if named:
                self._separator = named[1]
            elif self._lines.number > self._reading.skip_lines and text.strip("".join(_SEPARATORS) + ' \r"'):
                return text, self._lines.number
            self.header += self._lines.raw + b"\n"
        wanted = ",".join(
            column for field, column in self._reading.columns.items() if field not in self._reading.constants
        )
        msg = f"{self._source} is empty; a CSV starts with a header line: {wanted}"
        raise InputError(msg, source=self._source)

    def _split_header(self, text: str, line: int) -> list[str]:
        """Find the separator: the one that gives the needed columns, else the most columns."""
        reading = self._reading
        needed = {fold(column) for field, column in reading.columns.items() if field not in reading.constants}
        if "\r" in text:
            place = f"{self._source}, line {line}"
            msg = f"{place}: a bare carriage return stands in the header; save with ordinary line ends"
            raise InputError(msg, source=self._source)
        split: dict[str, list[str]] = {}
        for _ in range(_MAX_HEADER_LINES):
            for separator in (self._separator,) if self._separator else _SEPARATORS:
                with contextlib.suppress(_BrokenError):
                    split[separator] = split_record(text, separator, _no_more)
            if split or (further := next(iter(self._lines), None)) is None:
                break
            self._record.append(self._lines.raw)
            text += f"\n{further}"
        if not split:
            msg = f"{self._source}, line {line}: the header has a quote that is not closed; correct it"
            raise InputError(msg, source=self._source)
        self._separator = max(split, key=lambda one: (needed <= set(map(fold, split[one])), len(split[one])))
        return split[self._separator]

    def _look_for_another_cause(self, error: InputError, line: int) -> None:
        """Raise a better error where the header lacks a column because the input is no CSV, or in another encoding."""
        header = b"\n".join(self._record)
        if "\udc80" <= max(header.decode(self._reading.encoding, "surrogateescape")) <= "\udcff":
            said, likely = not_in_encoding(header, self._reading.encoding)
            msg = f"{self._source}, line {line}: {said}"
            raise InputError(msg, source=self._source, encoding=likely) from None
        ruled = _RULE.fullmatch(header.decode("latin-1").strip()) or _RULE.fullmatch(self._lines.peek().strip())
        if ruled and error.field is not None:
            msg = (
                f"{self._source} is the output of a database for people, in aligned columns; "
                "have it written as CSV (psql --csv, mysql --batch)"
            )
            raise InputError(msg, source=self._source) from None

    # -- the rows

    def __iter__(self) -> Iterator[ReadRow]:
        """Yield the rows; raises `HeldBackError` behind the last one whose end is known."""
        lines, table, separator = self._lines, self.table, self._separator
        item, look = table.item, table.suspicions.look
        block, plain, quoted, suspect, last = "", True, False, False, False
        line, raw = 0, b""
        joint = f'"{separator}"'
        try:
            for text in lines:
                if lines.block is not block:
                    block, last = lines.block, lines.last_block
                    plain, suspect = not ('"' in block or "\r" in block), concerns(block)
                    quoted = not plain and "\r" not in block and all_quoted(block, joint)
                line, raw = lines.number, lines.raw
                if quoted:
                    made = item(text[1:-1].split(joint), line, raw)
                elif plain or not ('"' in text or "\r" in text):
                    made = item(text.split(separator), line, raw)
                else:
                    made = self._quoted(text, line)
                    raw = b"\n".join(self._record)
                if made is None:
                    continue
                if last and not lines.ended:
                    self._watch.let_pass(self._source, line)
                if suspect and type(made) is LineStatusUpdate:
                    look(made, line)
                yield made, line, raw
        except HeldBackError as error:
            if error.line == line:
                lines.give_back(raw.split(b"\n"))
            raise

    def unread(self) -> Iterator[bytes]:
        """Give, in blocks, the bytes of the rows that were not given. Ends the reading."""
        return self._lines.unread()

    def _quoted(self, text: str, line: int) -> ReadItem | None:
        """Return what a record becomes that has a quote, or a bare carriage return."""
        table = self.table
        self._record = [self._lines.raw]
        if (cells := split_simple(text, self._separator)) is not None and "\r" not in text:
            return table.item(cells, line, self._record[0])
        if "\r" in text and '"' not in text:
            return table.invalid(_BARE_RETURN, line)
        self._size = len(text)
        try:
            cells = split_record(text, self._separator, self._more)
            if len(self._record) == 1:
                return table.item(cells, line, self._record[0])
            made = table.item(cells, line, b"\n".join(self._record))
            if isinstance(made, InvalidUpdateError) and self._may_be_stray(cells):
                raise _BrokenError(_MISFIT)  # noqa: TRY301 - the same end
        except _BrokenError as broken:
            msg = f"{self._source}, line {line}: {broken}; nothing from this line on was sent"
            self._lines.give_back(self._record)
            raise HeldBackError(msg, source=self._source, line=line, broken=True) from None
        except HeldBackError:
            self._lines.give_back(self._record)
            raise
        return made

    def _more(self) -> str:
        """Return the next line of a record whose quote is open."""
        text = next(iter(self._lines), None)
        if text is None:
            raise _BrokenError(_OPEN_AT_END)
        self._record.append(self._lines.raw)
        self._size += len(text)
        if self._size > MAX_RECORD_BYTES:
            raise _BrokenError(_TOO_LONG)
        return text

    def _may_be_stray(self, cells: list[str]) -> bool:
        """Say whether the quote of a record over several lines may be one that its writer meant as text."""
        if len(cells) == self.table.width and not any("\n" in cell for cell in self.table.picked(cells)):
            return False
        last = self._record[-1].decode(self._reading.encoding, "surrogateescape")
        try:
            split_record(last, self._separator, _no_more)
        except _BrokenError:
            return True
        return False


def _no_more() -> str:
    raise _BrokenError(_OPEN_AT_END)
