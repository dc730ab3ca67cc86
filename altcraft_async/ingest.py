"""Updates out of files: CSV and JSON lines, row by row, with flat memory.

`read_updates` opens an input and gives an `UpdateReader`: an iterable of
updates to hand to a bulk call as it is. A row that cannot become an update is
an `InvalidUpdateError` in its place, naming file, line, field and remedy; the
bulk call turns it into an ``invalid`` outcome, and the other rows go on. Only
an input of which nothing can be read raises, with `InputError`.

.. code-block:: python

    with read_updates("orders.csv", columns={"order_external_id": "Order"}, keep_rows=True) as updates:
        async for outcome in altcraft.market.orders.stream_order_line_statuses(updates):
            row = updates.take_row(outcome.index)

**CSV.** The first line is the header. The separator is ``,``, ``;`` or a tab,
found from the header. Fields may be quoted, and a quoted field may span lines.
Blanks around an id are dropped, blank lines skipped.

**JSON lines.** One object a line, one key a field. Whole numbers count as
their digits. Blank lines are skipped.

Both are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import asyncio
import csv
import enum
import functools
import io
import json
import operator
import os
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["FIELDS", "InputError", "InputFormat", "KeptRow", "ReadItem", "UpdateReader", "read_updates"]

FIELDS = ("order_external_id", "order_line_external_id", "status_external_id")
"""The fields of an update, which are also the default column names."""

ReadItem: TypeAlias = LineStatusUpdate | InvalidUpdateError
"""What a row becomes: the update, or what is wrong with the row."""

_Read: TypeAlias = "tuple[ReadItem, int, bytes]"  # the item, its first line's number, its bytes

_MAX_LINE_BYTES = 1 << 20  # the API takes bodies of 10 MB, and an id is a few dozen bytes
_MAX_ROW_LINES = 256  # a quote that is never closed must not swallow the rest of the file
_MAX_HEADER_LINES = 16
_SEPARATORS = (",", ";", "\t")
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_NEWLINE = 10


class InputError(ConfigurationError):
    """Nothing can be read from an input; ``source`` names it.

    ``field`` is the field of the update whose column is missing, where that is
    the trouble.
    """

    effect = "nothing"
    remedy = "Mend the input, or how it is called, as the message says; then read it again."

    def __init__(self, message: str = "", *, field: str | None = None, source: str = "input") -> None:
        super().__init__(message, field=field)
        self.source = source


class KeptRow(NamedTuple):
    """A row as it stood in its input."""

    line: int
    """The 1-based number of its first line."""
    raw: bytes
    """Its bytes, with a line end."""


class InputFormat(enum.StrEnum):
    """The formats that can be read."""

    CSV = "csv"
    JSONL = "jsonl"


_BY_SUFFIX = {
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.CSV,
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".json": InputFormat.JSONL,
}


def read_updates(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    input_format: InputFormat | str | None = None,
    columns: Mapping[str, str] | None = None,
    name: str | None = None,
    keep_rows: bool = False,
) -> UpdateReader:
    """Open an input of updates, a path or a binary stream, and read its header.

    The format is `input_format`, or else follows from the file's suffix, or
    else from the first line. `columns` says which column (JSON: key) holds a
    field, where it is not the field's own name. `name` is how messages call the
    input. With `keep_rows` the reader keeps each row as it stood in the input
    until `UpdateReader.take_row` asks for it.

    A path is opened here and closed by the reader; a stream stays the caller's.
    From a pipe this blocks until the first line is there.

    Raises `InputError` where nothing can be read: no such file, a directory, no
    right to read, another encoding, an empty CSV, a needed column that is
    missing or there twice. Raises `ConfigurationError` for an unknown format or
    field.
    """
    mapping = _column_mapping(columns or {})
    chosen = _chosen_format(input_format)
    stream, own = (_open(source), True) if isinstance(source, str | os.PathLike) else (source, False)
    label = name or str(source if own else getattr(source, "name", "input"))
    try:
        return UpdateReader(stream, label, chosen, mapping, own=own, keep_rows=keep_rows)
    except BaseException:
        if own:
            stream.close()
        raise


def _column_mapping(columns: Mapping[str, str]) -> dict[str, str]:
    for field, column in columns.items():
        if field not in FIELDS:
            msg = f"{field!r} is not a field of an update; the fields are {', '.join(FIELDS)}"
            raise ConfigurationError(msg, field=field)
        if not column.strip():
            msg = f"the column for {field} has an empty name; give the column's name in the header"
            raise ConfigurationError(msg, field=field)
    return {field: columns.get(field, field).strip() for field in FIELDS}


def _chosen_format(given: InputFormat | str | None) -> InputFormat | None:
    if given is None:
        return None
    try:
        return InputFormat(given)
    except ValueError:
        msg = f"{str(given)!r} is not an input format; choose {' or '.join(InputFormat)}"
        raise ConfigurationError(msg, field="input_format") from None


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except IsADirectoryError:
        msg = f"{path} is a directory; give a file"
    except FileNotFoundError:
        msg = f"{path} does not exist; check the path"
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    raise InputError(msg, source=str(path))


class UpdateReader:
    """The updates of one input, in its order; can be iterated once.

    ``source`` is the input's name, ``format`` its format, ``header`` its first
    line as it stood there (empty for JSON lines), ``notes`` what a person
    should know and nothing is lost by. ``exhausted`` turns true when the last
    row has been handed out, ``rows_read`` counts those handed out.

    A context manager; leaving it closes what `read_updates` opened.
    """

    __slots__ = (
        "_columns",
        "_keep",
        "_kept",
        "_lines",
        "_own",
        "_rows",
        "_stream",
        "exhausted",
        "format",
        "header",
        "notes",
        "rows_read",
        "source",
    )

    def __init__(  # noqa: PLR0913 - made by read_updates alone
        self,
        stream: BinaryIO,
        source: str,
        input_format: InputFormat | None,
        columns: dict[str, str],
        *,
        own: bool,
        keep_rows: bool,
    ) -> None:
        """Read the header of `stream`; see `read_updates`, which is the way in."""
        self.source = source
        self.notes: tuple[str, ...] = ()
        self.header = b""
        self.exhausted = False
        self.rows_read = 0
        self._stream = stream
        self._own = own
        self._keep = keep_rows
        self._kept: dict[int, _Read] = {}
        self._columns = columns
        self._lines = _Lines(stream)
        first = self._first_line()
        self.format = input_format or _BY_SUFFIX.get(Path(source).suffix.lower()) or _format_of(first)
        self._rows = self._start_csv(first) if self.format is InputFormat.CSV else self._start_jsonl(first)

    def __repr__(self) -> str:
        """Show the input and how far it has been read."""
        return f"<UpdateReader {self.source!r} {self.format}, {self.rows_read} rows read>"

    def __enter__(self) -> Self:
        """Give the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the input where it is our own."""
        self.close()

    def close(self) -> None:
        """Close the input where `read_updates` opened it; closing twice is harmless."""
        if self._own:
            self._stream.close()

    def __iter__(self) -> Iterator[ReadItem]:
        """Give the rows in input order: updates, and errors for the rows that are none."""
        kept = self._kept if self._keep else None
        for row in self._rows:
            if kept is not None:
                kept[self.rows_read] = row
            self.rows_read += 1
            yield row[0]
        self.exhausted = True

    async def in_thread(self, *, ahead: int = 1024) -> AsyncGenerator[ReadItem, None]:
        """Give the same rows without ever blocking the event loop: for pipes and terminals.

        A thread reads at most `ahead` rows in advance. A row is handed on as
        soon as its line has come. Closing the generator, or cancelling the task
        that waits in it, stops the thread at its next row; a read that blocks
        keeps neither the event loop nor the process from ending.
        """
        pump = _Pump(self._rows, ahead)
        pump.start()
        try:
            while (row := await pump.next_row()) is not None:
                if self._keep:
                    self._kept[self.rows_read] = row
                self.rows_read += 1
                yield row[0]
            self.exhausted = True
        finally:
            pump.stop()

    def take_row(self, index: int) -> KeptRow | None:
        """Give, once, the row with 0-based `index` as it stood in the input.

        None where it was taken before, or not kept. For an `Outcome` this is
        the row that it came from.
        """
        row = self._kept.pop(index, None)
        if row is None:
            return None
        _, line, raw = row
        return KeptRow(line, raw if not raw or raw[-1] == _NEWLINE else raw + b"\n")

    def drop_rows(self, first: int, count: int) -> None:
        """Keep no longer the `count` rows from the 0-based index `first` on: those of an `UpdatesSkipped`."""
        for index in range(first, first + count):
            self._kept.pop(index, None)

    @property
    def first_kept(self) -> int:
        """The 0-based index of the first kept row that was not taken yet; ``rows_read`` where there is none."""
        return next(iter(self._kept), self.rows_read)

    def unread(self) -> Iterator[bytes]:
        """Give, in blocks, the bytes of all rows that were not handed out yet. Ends the reading."""
        while self._lines.again:
            yield self._lines.again.popleft()
        while block := self._stream.read(_MAX_LINE_BYTES):
            yield block

    def _first_line(self) -> bytes:
        try:
            first = self._lines.read()
        except OSError as error:
            msg = f"{self.source} cannot be read: {error.strerror or error}"
            raise InputError(msg, source=self.source) from error
        if first.startswith(_UTF16_BOMS):
            msg = f"{self.source} is UTF-16; save it as UTF-8"
            raise InputError(msg, source=self.source)
        return first

    def _start_csv(self, first: bytes) -> Iterator[_Read]:
        raw = first
        for _ in range(_MAX_HEADER_LINES):
            if raw.count(b'"') % 2 == 0:
                break
            raw += self._lines.read()
        if not raw.removeprefix(_BOM).strip():
            msg = f"{self.source} is empty; a CSV starts with a header line: {','.join(self._columns.values())}"
            raise InputError(msg, source=self.source)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            msg = f"{self.source}, line 1: {_not_utf8(error)}"
            raise InputError(msg, source=self.source) from None
        if "\r" in text.rstrip("\r\n").replace("\r\n", ""):
            msg = f"{self.source}, line 1: a bare carriage return stands in the header; save with ordinary line ends"
            raise InputError(msg, source=self.source)
        separator, header = _split_header(text, set(self._columns.values()))
        self._check_header(header)
        self.header = raw if raw.endswith(b"\n") else raw + b"\n"
        return _Csv(self.source, separator, header, self._columns).rows(self._lines)

    def _check_header(self, header: list[str]) -> None:
        for field, column in self._columns.items():
            found = header.count(column)
            if found == 1:
                continue
            if found:
                msg = (
                    f"{self.source}, line 1: the header has the column {column!r} {found} times; "
                    "rename all but one of them"
                )
            else:
                msg = (
                    f"{self.source}, line 1: the header lacks the column {column!r}; add it, or say which of "
                    f"the columns holds {field}: {', '.join(map(repr, header))}"
                )
            raise InputError(msg, field=field, source=self.source)
        twice = sorted({name for name in header if name and header.count(name) > 1})
        if twice:
            said = ", ".join(map(repr, twice))
            self.notes = (
                f"{self.source}, line 1: the header has {said} more than once; not needed here, rename if it matters",
            )

    def _start_jsonl(self, first: bytes) -> Iterator[_Read]:
        start = first.removeprefix(_BOM)
        if start.lstrip()[:1] == b"[" or start.strip() == b"{":
            msg = f"{self.source} is not JSON lines: it must have one whole object a line, without an outer array"
            raise InputError(msg, source=self.source)
        if start:
            self._lines.push_back([start])
        return _jsonl_rows(self._lines, self.source, self._columns)


def _format_of(first: bytes) -> InputFormat:
    return InputFormat.JSONL if first.removeprefix(_BOM).lstrip()[:1] in {b"{", b"["} else InputFormat.CSV


def _split_header(text: str, needed: set[str]) -> tuple[str, list[str]]:
    """Find the separator: the one that gives the needed columns, else the most columns."""
    split: list[tuple[bool, int, str, list[str]]] = []
    for separator in _SEPARATORS:
        fields = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        names = [name.strip() for name in fields]
        split.append((needed <= set(names), len(names), separator, names))
    best = max(split, key=lambda one: one[:2])
    return best[2], best[3]


class _Lines:
    """The physical lines of a stream, counted, of which some can be read again.

    `taken` are the lines of the row being read, `trouble` says why one of them
    cannot be used.
    """

    __slots__ = ("_readline", "again", "number", "taken", "trouble")

    def __init__(self, stream: BinaryIO) -> None:
        self._readline = functools.partial(stream.readline, _MAX_LINE_BYTES)
        self.again: deque[bytes] = deque()
        self.number = 0
        self.taken: list[bytes] = []
        self.trouble: str | None = None

    def read(self) -> bytes:
        raw = self.again.popleft() if self.again else self._readline()
        if raw:
            self.number += 1
        return raw

    def push_back(self, lines: list[bytes]) -> None:
        self.again.extendleft(reversed(lines))
        self.number -= len(lines)

    def texts(self) -> Iterator[str]:
        """Give the lines decoded; where one is unusable, note the `trouble` and give what there is."""
        again, readline, taken = self.again, self._readline, self.taken
        while raw := again.popleft() if again else readline():
            self.number += 1
            taken.append(raw)
            if len(raw) == _MAX_LINE_BYTES and raw[-1] != _NEWLINE:
                if len(taken) > 1:  # inside an open quote; it gets its own turn when read again
                    raise csv.Error
                self._skip_long_line()
                yield "\n"
                continue
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                self.trouble = self.trouble or _not_utf8(error)
                text = raw.decode(errors="replace")
            if len(taken) > _MAX_ROW_LINES:
                raise csv.Error
            yield text

    def row(self) -> bytes:
        """Give the bytes of the lines taken since the last call, which end the row."""
        taken = self.taken
        raw = taken[0] if len(taken) == 1 else b"".join(taken)
        taken.clear()
        return raw

    def _skip_long_line(self) -> None:
        self.trouble = (
            f"the line is longer than {_MAX_LINE_BYTES} bytes and is not kept; "
            "check that the file has line ends, and shorten the line"
        )
        self.taken[-1] = b""
        while (piece := self._readline()) and piece[-1] != _NEWLINE:
            continue


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02X} at position {error.start + 1} is not UTF-8; save the file as UTF-8"


class _Csv:
    """The rows of one CSV: which columns are needed, and what each record says."""

    __slots__ = ("_columns", "_headings", "_pick", "_separator", "_source", "_width")

    def __init__(self, source: str, separator: str, header: list[str], columns: dict[str, str]) -> None:
        self._source = source
        self._separator = separator
        self._columns = columns
        self._pick = operator.itemgetter(*(header.index(columns[field]) for field in FIELDS))
        self._headings = self._pick(header)
        self._width = len(header)

    def rows(self, lines: _Lines) -> Iterator[_Read]:
        """Give the rows; one that cannot be costs its first line only, and reading goes on from the second."""
        item, taken = self._item, lines.taken
        while True:
            message = _bad_quoting("")
            try:
                for fields in csv.reader(lines.texts(), delimiter=self._separator, strict=True):
                    line = lines.number
                    if len(taken) == 1:
                        raw = taken.pop()
                    elif self._runs_away(fields):
                        break
                    else:
                        line -= len(taken) - 1
                        raw = lines.row()
                    if (trouble := lines.trouble) is not None:
                        lines.trouble = None
                        yield self._invalid(trouble, line), line, raw
                    elif fields:
                        yield item(fields, line), line, raw
                else:
                    return
            except csv.Error as error:
                message = _bad_quoting(str(error))
            line = lines.number - len(taken) + 1
            trouble, lines.trouble = lines.trouble if len(taken) == 1 else None, None
            lines.push_back(taken[1:])
            del taken[1:]
            yield self._invalid(trouble or message, line), line, lines.row()

    def _runs_away(self, fields: list[str]) -> bool:
        """Tell whether a record over several lines comes from a stray quote: no id has a line break in it."""
        return len(fields) != self._width or any("\n" in value for value in self._pick(fields))

    def _item(self, fields: list[str], line: int) -> ReadItem:
        if len(fields) != self._width:
            return self._invalid(_wrong_width(len(fields), self._width, self._separator), line)
        values = self._pick(fields)
        if values == self._headings:
            return self._invalid("the header stands here again; delete this line", line)
        order, order_line, status = values
        try:
            return LineStatusUpdate(order.strip(), order_line.strip(), status.strip())
        except InvalidUpdateError as error:
            return self._invalid(_with_column(error, self._columns), line, error.field)

    def _invalid(self, message: str, line: int, field: str | None = None) -> InvalidUpdateError:
        return InvalidUpdateError(message, field=field, source=self._source, line=line)


def _bad_quoting(said: str) -> str:
    if "new-line character" in said:
        return "a bare carriage return stands inside the line; remove it, or save with ordinary line ends"
    if "expected after" in said:
        return "text follows a closing quote; double the quotes inside a quoted field"
    if "field limit" in said:
        return "a field is longer than 131072 characters; close its quote or shorten it"
    return "a quote is opened and not closed; close it, or double the quotes inside a quoted field"


def _wrong_width(found: int, width: int, separator: str) -> str:
    shown = "tab" if separator == "\t" else separator
    return (
        f"the row has {found} {'column' if found == 1 else 'columns'} where the header has {width}; "
        f"quote a value that has the separator ({shown}) in it, or mend the row"
    )


def _with_column(error: InvalidUpdateError, columns: dict[str, str]) -> str:
    column = columns.get(error.field or "")
    return error.message if column in {None, error.field} else f"{error.message} (column {column!r})"


def _jsonl_rows(lines: _Lines, source: str, columns: dict[str, str]) -> Iterator[_Read]:
    loads = json.loads
    for text in lines.texts():
        trouble, lines.trouble = lines.trouble, None
        raw, line = lines.row(), lines.number
        if trouble is not None:
            yield InvalidUpdateError(trouble, source=source, line=line), line, raw
            continue
        if text.isspace():
            continue
        try:
            item: ReadItem = _from_object(loads(text), columns)
        except InvalidUpdateError as error:
            item = InvalidUpdateError(_with_column(error, columns), field=error.field, source=source, line=line)
        except json.JSONDecodeError as error:
            message = f"the line is not JSON ({error.msg} at position {error.pos + 1}); write one object a line"
            item = InvalidUpdateError(message, source=source, line=line)
        except (ValueError, RecursionError):
            message = "the line has a value that cannot be read; remove numbers or nesting beyond all measure"
            item = InvalidUpdateError(message, source=source, line=line)
        yield item, line, raw


def _from_object(value: object, columns: dict[str, str]) -> LineStatusUpdate:
    if not isinstance(value, dict):
        msg = "the line is no JSON object; write one object a line, with a key for each field"
        raise InvalidUpdateError(msg)
    found: list[str] = []
    for field, key in columns.items():
        if key not in value:
            msg = f"the key {key!r} is missing; every update needs all three ids"
            raise InvalidUpdateError(msg, field=field)
        given = value[key]
        found.append(str(given) if type(given) is int else given)
    return LineStatusUpdate(found[0], found[1], found[2])


class _Pump:
    """A thread that reads rows, and the event loop's end of its bounded queue."""

    __slots__ = ("_ahead", "_ended", "_failure", "_loop", "_queue", "_room", "_rows", "_stopped", "_waiter")

    def __init__(self, rows: Iterator[_Read], ahead: int) -> None:
        self._rows = rows
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Read] = deque()
        self._room = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._stopped = False
        self._failure: BaseException | None = None

    def start(self) -> None:
        # A daemon: a read from a terminal may block for ever, and an executor's thread would be waited for.
        threading.Thread(target=self._read, name="altcraft-ingest", daemon=True).start()

    def stop(self) -> None:
        with self._room:
            self._stopped = True
            self._room.notify_all()

    async def next_row(self) -> _Read | None:
        """Give the next row, None at the end; raise what the reading raised."""
        while True:
            with self._room:
                if self._queue:
                    row = self._queue.popleft()
                    if len(self._queue) == self._ahead // 2:
                        self._room.notify_all()
                    return row
                if self._ended:
                    if self._failure is not None:
                        raise self._failure
                    return None
                self._room.notify_all()
                waiter = self._waiter = self._loop.create_future()
            await waiter

    def _read(self) -> None:
        try:
            for row in self._rows:
                with self._room:
                    while len(self._queue) >= self._ahead and not self._stopped:
                        self._room.wait()
                    if self._stopped:
                        return
                    self._queue.append(row)
                    self._wake()
        except BaseException as error:  # noqa: BLE001 - handed to the reading task
            self._failure = error
        finally:
            with self._room:
                self._ended = True
                self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(_resolve, waiter)
            except RuntimeError:  # the loop was closed in between: nobody waits
                return


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
