"""Inputs of updates: what a reader is, and which one an input gets."""

from __future__ import annotations

import enum
import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import attrs

from altcraft_async.errors import ConfigurationError, Unit
from altcraft_async.ingest.arrow import ColumnRows, columnar_input, is_input, label_of, name_of
from altcraft_async.ingest.csv import CsvRows
from altcraft_async.ingest.errors import InputError
from altcraft_async.ingest.excel import ExcelRows
from altcraft_async.ingest.formats import OF_JSON, InputFormat, format_of
from altcraft_async.ingest.jsonl import ArrayRows, JsonLines
from altcraft_async.ingest.pump import Pump
from altcraft_async.ingest.table import FIELDS, Reading
from altcraft_async.ingest.text import (
    LastLine,
    Lines,
    Watch,
    byte_encoding,
    check_encoding,
    open_feed,
)
from altcraft_async.protocol.plain import escaped
from altcraft_async.storage.columns import ArrowStream
from altcraft_async.storage.places import is_remote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
    from types import TracebackType
    from typing import BinaryIO, Self, SupportsBytes

    from altcraft_async.ingest.arrow import ColumnarInput
    from altcraft_async.ingest.suspicion import Suspicion
    from altcraft_async.ingest.table import ReadItem
    from altcraft_async.ingest.text import Feed

__all__ = ["InputFormat", "KeptRow", "UpdateReader", "read_updates", "read_values"]

_Choice = TypeVar("_Choice", bound=enum.StrEnum)
_Rows: TypeAlias = "CsvRows | JsonLines | ArrayRows | ExcelRows | ColumnRows"
_Source: TypeAlias = "str | os.PathLike[str] | BinaryIO | ArrowStream"


class KeptRow:
    """An unchanged row of its input: `line` is the 1-based number of its first line, or with the `unit` ROW of the row.

    `raw` is its bytes, with a line end; for columns it is a JSON line of those that were read, which is made on demand,
    or one of CSV (`UpdateReader.keep_for`).
    """

    __slots__ = ("_content", "line", "unit")

    def __init__(self, line: int, raw: SupportsBytes, unit: Unit = Unit.LINE) -> None:
        self.line = line
        self.unit = unit
        self._content = raw

    @property
    def raw(self) -> bytes:
        """Its bytes, with a line end."""
        return bytes(self._content)

    def __eq__(self, other: object) -> bool:
        """Be equal to one of the same line and bytes."""
        return isinstance(other, KeptRow) and (self.line, self.raw) == (other.line, other.raw)

    def __hash__(self) -> int:
        """Go by line and bytes."""
        return hash((self.line, self.raw))

    def __repr__(self) -> str:
        """Show both."""
        return f"KeptRow(line={self.line}, raw={self.raw!r})"


_COLUMNAR = frozenset({InputFormat.PARQUET, InputFormat.ARROW})


def read_updates(  # noqa: PLR0913 - what can be said of an input, by keyword
    source: str | os.PathLike[str] | BinaryIO | ArrowStream,
    *,
    input_format: InputFormat | str | None = None,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    statuses: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    skip_lines: int = 0,
    last_line: LastLine | str = LastLine.AUTO,
    name: str | None = None,
    keep_rows: bool = False,
    opened_at: float | None = None,
) -> UpdateReader:
    """Open an input of updates (a path, a binary stream or an input of columns), and read its header.

    An input of columns is Parquet or Arrow: a file, the files of a directory or a pattern, also at an fsspec address
    (``s3://bucket/orders/*.parquet``), or an object with ``__arrow_c_stream__``, as polars, DuckDB and pandas have.
    Several files are read in the order of their paths, directory by directory, each name as text.

    The format is `input_format`, or else follows from the first bytes and the file's suffix. Gzip is unpacked.
    `columns` names the column (JSON: key) of a field, if that is not the field's own name; `constants` gives a field
    the same value in all rows, if there is no such column. `statuses` maps statuses of the input to those to send;
    other statuses are sent unchanged. `skip_lines` is the number of lines to skip before the header. `last_line` says
    what to do with a last line without a line end; whether a file still changes is judged at the Unix time `opened_at`,
    or else now. `name` is the name of the input in messages. With `keep_rows` the reader keeps each row unchanged until
    `UpdateReader.take_row` takes it.

    A path is opened here and closed by the reader; a stream stays the caller's. From a pipe this blocks until the first
    line has come.

    Raises `InputError` if nothing can be read: no such file, a directory, no right to read, another encoding, no CSV at
    all, an empty one, a needed column that is missing or there twice. Raises `ConfigurationError` for an unknown
    format, field or encoding.
    """
    mapped = _by_field(columns or {}, "column")
    if constants and set(constants) == set(FIELDS):
        msg = "all three fields are given for all rows, so nothing is left to read; leave one of them out"
        raise ConfigurationError(msg, field=FIELDS[0])
    reading = Reading(
        columns={field: mapped.get(field, field) for field in FIELDS},
        constants=_by_field(constants or {}, "value"),
        statuses={status.strip(): meant.strip() for status, meant in (statuses or {}).items()},
        encoding=check_encoding(encoding),
        skip_lines=skip_lines,
    )
    return _opened(source, reading, input_format, last_line, name=name, keep_rows=keep_rows, opened_at=opened_at)


def read_values(  # noqa: PLR0913 - what can be said of an input, by keyword
    source: str | os.PathLike[str] | BinaryIO,
    make: Callable[[Mapping[str, object]], object],
    *,
    encoding: str = "utf-8",
    last_line: LastLine | str = LastLine.AUTO,
    name: str | None = None,
    keep_rows: bool = False,
    opened_at: float | None = None,
) -> UpdateReader:
    """Open an input of JSON objects, one a line or in one array; `make` makes a value of each.

    `make` is for example `Order.from_dict`. If it raises `InvalidUpdateError` for a row, that error is in the row's
    place, with its line. All else is as for `read_updates`; the reader yields values instead of updates.
    """
    fields = {field: field for field in FIELDS}
    reading = Reading(columns=fields, encoding=check_encoding(encoding), make=make)
    return _opened(source, reading, None, last_line, name=name, keep_rows=keep_rows, opened_at=opened_at)


def _opened(  # noqa: PLR0913 - what can be said of an input
    source: _Source,
    reading: Reading,
    input_format: InputFormat | str | None,
    last_line: LastLine | str,
    *,
    name: str | None,
    keep_rows: bool,
    opened_at: float | None,
) -> UpdateReader:
    _check_source(source)
    chosen = None if input_format is None else _choice(InputFormat, input_format, "input_format", "an input format")
    ending = _choice(LastLine, last_line, "last_line", "a choice for a last line")
    if chosen in _COLUMNAR or (chosen is None and reading.make is None):
        columnar = columnar_input(source, name, chosen=chosen is not None)
        if columnar is not None:
            return UpdateReader(_columns(columnar, reading), keep_rows=keep_rows)
    if isinstance(source, ArrowStream) or chosen in _COLUMNAR:
        said = escaped(str(name or source))
        msg = f"{said} cannot be read as {chosen or 'values'}; give a file of that format"
        raise InputError(msg, source=said)
    stream, own = (_open(source), True) if isinstance(source, str | os.PathLike) else (source, False)
    label = label_of(str(name or (source if isinstance(source, str | os.PathLike) else name_of(source))))
    try:
        watch = Watch(stream, ending, opened_at=time.time() if opened_at is None else opened_at)
        return UpdateReader(_text(stream, label, chosen, reading, watch, own=own), keep_rows=keep_rows)
    except OSError as error:
        if own:
            stream.close()
        msg = f"{label} cannot be read: {error.strerror or error}"
        raise InputError(msg, source=label) from error
    except BaseException:
        if own:
            stream.close()
        raise


def _check_source(source: _Source) -> None:
    """Raise `InputError` for what is no input at all."""
    # It is that of a variable which is not set, and would be the current directory.
    if isinstance(source, str) and not source:
        msg = "the input has no name; give a path, or . for the current directory"
        raise InputError(msg)
    if isinstance(source, io.TextIOBase):
        name = escaped(name_of(source))
        msg = f"{name} is open as text; open it as bytes (mode 'rb'), or give its path"
        raise InputError(msg, source=name)
    if not is_input(source):
        name = type(source).__name__
        msg = (
            f"an input is a path, a binary stream, or an object with __arrow_c_stream__, and a {name} is none of them; "
            "collect a lazy frame, and give rows to the call that sends them"
        )
        raise InputError(msg, source=name)


@attrs.frozen
class _Open:
    """An input that is open: its `rows`, what is to be watched until the end, and how it is closed."""

    source: str
    format: InputFormat
    encoding: str
    rows: _Rows
    watch: Watch
    close: Callable[[], object]


def _columns(columnar: ColumnarInput, reading: Reading) -> _Open:
    """Open an input of columns, of which nothing can still be written."""
    kind = InputFormat.PARQUET if columnar.is_parquet else InputFormat.ARROW
    rows = ColumnRows(columnar, reading)
    return _Open(columnar.name, kind, "utf-8", rows, Watch(io.BytesIO(), opened_at=0.0), rows.close)


def _text(  # noqa: PLR0913 - what can be said of an input
    stream: BinaryIO, source: str, chosen: InputFormat | None, reading: Reading, watch: Watch, *, own: bool
) -> _Open:
    """Open an input of text, or a workbook, and read its header."""
    feed = open_feed(stream, source, reading.encoding)
    kind = format_of(source, feed.peek(), chosen)
    encoding = "utf-8" if kind is InputFormat.XLSX else byte_encoding(reading.encoding)
    rows = _rows_of(kind, feed, source, attrs.evolve(reading, encoding=encoding), watch)
    return _Open(source, kind, encoding, rows, watch, stream.close if own else _stay_open)


def _stay_open() -> None:
    """Leave a stream to its owner."""


def _rows_of(kind: InputFormat, feed: Feed, source: str, reading: Reading, watch: Watch) -> _Rows:
    if reading.make is not None and kind not in OF_JSON:
        msg = f"{source} is not JSON; write one object a line, or one array of objects"
        raise InputError(msg, source=source)
    if kind is InputFormat.XLSX:
        return ExcelRows(feed, source, reading)
    if kind is InputFormat.JSON:
        return ArrayRows(feed, source, reading)
    lines = Lines(feed, source, reading.encoding, watch)
    of_lines = CsvRows if kind is InputFormat.CSV else JsonLines
    return of_lines(lines, source, reading, watch)


def _by_field(given: Mapping[str, str], what: str) -> dict[str, str]:
    for field, value in given.items():
        if field not in FIELDS:
            msg = f"{field!r} is not a field of an update; the fields are {', '.join(FIELDS)}"
            raise ConfigurationError(msg, field=field)
        if not value.strip():
            msg = f"the {what} for {field} is empty; give it, or leave {field} out"
            raise ConfigurationError(msg, field=field)
    return {field: value.strip() for field, value in given.items()}


def _choice(choices: type[_Choice], given: str, field: str, what: str) -> _Choice:
    try:
        return choices(given)
    except ValueError:
        msg = f"{str(given)!r} is not {what}; choose {', '.join(choices)}"
        raise ConfigurationError(msg, field=field) from None


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except IsADirectoryError:
        msg = f"{path} is a directory; give a file"
    except FileNotFoundError:
        msg = f"{path} does not exist; check the path"
        if is_remote(path):
            msg = f"{path} is neither Parquet nor Arrow, and nothing else is read from an address; copy it here first"
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    raise InputError(escaped(msg), source=escaped(str(path)))


class UpdateReader:
    """The updates of one input, in its order; can be iterated once.

    ``source`` is the input's name, ``format`` its format, ``header`` its bytes up
    to the end of the header (empty for JSON). ``kept_as`` is the format of kept rows, CSV or JSON lines. ``exhausted``
    turns true when the last row has been handed out, ``rows_read`` counts those handed out.

    Iterating raises `HeldBackError` at a place after which it is not certain where rows begin. A context manager;
    leaving it closes the input that `read_updates` opened.
    """

    __slots__ = (
        "_close",
        "_keep",
        "_kept",
        "_rows",
        "_watch",
        "encoding",
        "exhausted",
        "format",
        "kept_as",
        "rows_read",
        "source",
    )

    def __init__(self, opened: _Open, *, keep_rows: bool) -> None:
        """Take an input that is open; `read_updates` is the way in."""
        self.source = opened.source
        self.format = opened.format
        self.encoding = opened.encoding
        self.exhausted = False
        self.rows_read = 0
        self.kept_as = opened.format.of_rows
        self._rows = opened.rows
        self._watch = opened.watch
        self._close = opened.close
        self._keep = keep_rows
        self._kept: dict[int, tuple[int, SupportsBytes]] = {}

    def __repr__(self) -> str:
        """Show the input and how far it has been read."""
        return f"<UpdateReader {self.source!r} {self.format}, {self.rows_read} rows read>"

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the input where it is our own."""
        self.close()

    def close(self) -> None:
        """Close the input if `read_updates` opened it; closing twice is harmless."""
        self._close()

    @property
    def header(self) -> bytes:
        """The bytes before the rows; write them before rows that were taken out of the input."""
        return self._rows.header

    def keep_for(self, name: str) -> None:
        """Let kept and unread rows fit a file of this name, as far as they can; call it before the first is read.

        Rows of columns become CSV for a name that ends in ``.csv``, else JSON lines. Rows of text and of workbooks are
        kept as they are, whatever the name.
        """
        if isinstance(self._rows, ColumnRows) and InputFormat.of_name(name) is InputFormat.CSV:
            self._rows.write_csv()
            self.kept_as = InputFormat.CSV

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for a person so far, about things by which nothing is lost."""
        return (*self._rows.table.notes, *self._watch.notes)

    @property
    def suspicions(self) -> tuple[Suspicion, ...]:
        """Values so far that are correct but suspicious."""
        return tuple(self._rows.table.suspicions)

    def __iter__(self) -> Iterator[ReadItem]:
        """Yield the rows in input order: updates, and errors for the rows that are none."""
        kept = self._kept if self._keep else None
        for item, line, raw in self._rows:
            if kept is not None:
                kept[self.rows_read] = (line, raw)
            self.rows_read += 1
            yield item
        self._end()

    async def in_thread(self, *, ahead: int = 1024) -> AsyncGenerator[ReadItem, None]:
        """Yield the same rows without ever blocking the event loop: for pipes and terminals.

        A thread reads at most `ahead` rows in advance. A row is handed on as soon as its line has come. Closing the
        generator, or cancelling the task that waits in it, stops the thread at its next row. A read that blocks does
        not keep the event loop or the process from ending.
        """
        pump = Pump(iter(self._rows), ahead)
        pump.start()
        try:
            while (row := await pump.next_row()) is not None:
                item, line, raw = row
                if self._keep:
                    self._kept[self.rows_read] = (line, raw)
                self.rows_read += 1
                yield item
            self._end()
        finally:
            pump.stop()

    def _end(self) -> None:
        self._watch.check_length(self.source)
        self.exhausted = True

    def take_row(self, index: int) -> KeptRow | None:
        """Return, once, the unchanged row with the 0-based `index`.

        None if it was taken before, or not kept. For an `Outcome` this is the row that it came from. A row of a
        workbook is returned as CSV, an object of an array or a row of columns as a JSON line.
        """
        row = self._kept.pop(index, None)
        if row is None:
            return None
        line, raw = row
        return KeptRow(line, raw + b"\n" if isinstance(raw, bytes) else raw, self._rows.table.unit)

    def drop_rows(self, first: int, count: int) -> None:
        """Stop keeping the `count` rows from the 0-based index `first` on: those of an `UpdatesSkipped`."""
        for index in range(first, first + count):
            self._kept.pop(index, None)

    @property
    def first_kept(self) -> int:
        """The 0-based index of the first kept row that was not taken yet; ``rows_read`` if there is none."""
        return next(iter(self._kept), self.rows_read)

    def unread(self) -> Iterator[bytes]:
        """Yield, in blocks, the bytes of all rows that were not handed out yet. Ends the reading.

        Raises `HeldBackError` if it cannot yield all of them: if a last line may be half a line, or if an array, a
        workbook or packed data break off.
        """
        return self._rows.unread()
