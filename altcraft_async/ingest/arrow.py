"""Updates out of columns: Parquet, Arrow's files and streams, and data frames, a batch of rows at a time.

An input is one file, or the files of a directory or a pattern in the order of their paths, or an object that hands
over its columns. Of each the needed columns alone are read. Values are taken as they stand, like those of JSON:
texts, and whole numbers, which become texts; blanks are not dropped.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from itertools import repeat
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError, InvalidUpdateError, Unit
from altcraft_async.ingest.errors import HeldBackError, InputError, clip
from altcraft_async.ingest.suspicion import concerns
from altcraft_async.ingest.table import FIELDS, Table, csv_record, ids_of, with_column
from altcraft_async.protocol.plain import escaped
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.storage.columns import (
    ARROW_FILE,
    ARROW_STREAM,
    PARQUET,
    ArrowStream,
    ColumnsError,
    open_columns,
    read_ahead,
    stream_of,
)
from altcraft_async.storage.places import is_readable, is_remote, matching, open_file, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import BinaryIO

    from altcraft_async.ingest.table import Reading, ReadItem
    from altcraft_async.storage.columns import Cell, Columns

__all__ = ["SUFFIXES", "ColumnRows", "ColumnarInput", "columnar_input", "is_input", "label_of", "name_of"]

SUFFIXES: Final = {".parquet": PARQUET, ".pq": PARQUET, ".arrow": ARROW_FILE, ".feather": ARROW_FILE,
                   ".ipc": ARROW_FILE, ".arrows": ARROW_STREAM}  # fmt: skip
"""The ends of the names that such files have as a rule, and how their content begins."""
_HEADS: Final = (PARQUET, ARROW_FILE, ARROW_STREAM)
_HEAD_BYTES: Final = max(map(len, _HEADS))
_KNOWN_STATUSES: Final = 4096


def label_of(address: str) -> str:
    """Return the name of an input as all that is said of it has it."""
    return escaped(shown(address))


ReadRow: TypeAlias = "tuple[ReadItem, int, _Row]"


@attrs.frozen
class ColumnarInput:
    """An input of columns: the addresses of its `files`, or what it was `given`, a stream or an object."""

    name: str = attrs.field(converter=label_of)
    files: Sequence[str] = ()
    given: ArrowStream | BinaryIO | None = None
    is_parquet: bool = False

    def parts(self) -> Generator[tuple[str, Columns], None, None]:
        """Yield the columns of each file, which is open until the next is asked for; raises `InputError`."""
        for address in self.files:
            name = self.name if len(self.files) == 1 else label_of(address)
            with _opened(address) as file, self._columns(file, name) as columns:
                yield name, columns
        if self.given is not None:
            with self._columns(self.given, self.name) as columns:
                yield self.name, columns

    def _columns(self, source: ArrowStream | BinaryIO, name: str) -> Columns:
        try:
            if isinstance(source, ArrowStream):
                return stream_of(source)
            head = _head(source)
            if head.startswith((PARQUET, ARROW_FILE)) and not source.seekable():
                msg = f"{name} is a file of columns, which cannot be read from a pipe; give the file by its name"
                raise InputError(msg, source=name)
            return open_columns(source, head)
        except ColumnsError as error:
            msg = f"{name} cannot be read, it is damaged or cut off ({error}); write it anew"
            if isinstance(source, ArrowStream):
                msg = f"{name} hands over no table ({error}); give a table or a data frame, each column of one type"
            raise InputError(msg, source=name) from None

    def held_back(self, error: ColumnsError, name: str, number: int) -> HeldBackError:
        """Return the error that nothing can be read of a file, or of what was given, after that many rows."""
        msg = f"{name}, after row {number}: the file breaks off or is damaged ({error}); write it anew"
        if isinstance(self.given, ArrowStream):
            msg = f"{name}, after row {number}: its batches break off, or are wrong ({error}); look at what makes them"
        return HeldBackError(msg, source=name, line=number + 1)


def columnar_input(
    source: str | os.PathLike[str] | BinaryIO | ArrowStream, name: str | None = None, *, chosen: bool = False
) -> ColumnarInput | None:
    """Return an input of columns; None if it is another one, for others to read. `chosen` says that it must be.

    It is told by what an object can do, and by the first bytes of a file or stream, whatever its name. A directory or a
    pattern stands for all of its files. Raises `InputError` if no file is found, or one that cannot be read, or is
    another one beside others: none is left out in silence.
    """
    if isinstance(source, ArrowStream):
        return ColumnarInput(name or type(source).__name__, given=source)
    if not isinstance(source, str | os.PathLike):
        head = _head(source)
        if not head.startswith(_HEADS):
            return None
        return ColumnarInput(name or name_of(source), given=source, is_parquet=head[:4] == PARQUET)
    address = os.fspath(source)
    files = _found(address)
    return _single(address, name, chosen=chosen) if files is None else _several(address, files, name)


def _found(address: str) -> list[str] | None:
    """Return the files that a directory or a pattern stands for; None for a single file."""
    try:
        return matching(address, ("",))
    except ConfigurationError:
        raise
    except OSError as error:
        if not is_remote(address) and not os.path.isdir(address):  # noqa: PTH112 - as it was given
            return None  # whoever opens it says what is wrong
        what = error.filename if isinstance(error.filename, str) else address
        msg = (
            f"{what} cannot be looked at: {error.strerror or error}; check the address, its credentials, and that "
            "the storage can be reached"
        )
        raise InputError(msg, source=address) from error
    except ValueError as error:
        msg = f"{address} is no pattern that can be used: {error}; write ** only as a whole part of a path, like a/**/*"
        raise InputError(msg, source=address) from None


def _several(address: str, files: Sequence[str], name: str | None) -> ColumnarInput:
    if not files:
        what = "stands for no file" if _has_pattern(address) else "is a directory without files"
        msg = f"{address} {what}; give a file, or a directory or pattern with Parquet or Arrow files"
        raise InputError(msg, source=address)
    strange = next((file for file in files if not is_readable(file)), None)
    if strange is not None:
        msg = f"{address} stands for {strange} too, which is a pipe, a device or a link to nothing; move it away"
        raise InputError(msg, source=address)
    heads = [_head_of(file) for file in files]
    for file, head in zip(files, heads, strict=True):
        if not head.startswith(_HEADS):
            msg = (
                f"{address} stands for {file} too, which is neither Parquet nor Arrow; move it away, or give such "
                "files one by one (in a directory, names that begin with _ or . are passed over)"
            )
            raise InputError(msg, source=address)
    name = name or (address if len(files) > 1 else files[0])
    return ColumnarInput(name, files=files, is_parquet=heads[0].startswith(PARQUET))


def _single(address: str, name: str | None, *, chosen: bool) -> ColumnarInput | None:
    if not chosen and not is_remote(address) and not os.path.isfile(address):  # noqa: PTH113 - as it was given
        return None
    head = _head_of(address)
    if head.startswith(_HEADS):
        return ColumnarInput(name or address, files=(address,), is_parquet=head[:4] == PARQUET)
    if chosen or os.path.splitext(address.lower())[1] in SUFFIXES:  # noqa: PTH122 - of an address too
        msg = f"{name or address} is neither Parquet nor Arrow, or it is cut off; write it anew, or name its format"
        raise InputError(msg, source=name or address)
    return None


def _has_pattern(address: str) -> bool:
    return bool(set("*?[") & set(address))


def _head_of(address: str) -> bytes:
    with _opened(address) as file:
        return file.read(_HEAD_BYTES)


def _opened(address: str) -> BinaryIO:
    try:
        return open_file(address)
    except FileNotFoundError:
        msg = f"{address} does not exist; check the path"
    except (OSError, ValueError) as error:
        msg = f"{address} cannot be read: {getattr(error, 'strerror', None) or error}"
    raise InputError(msg, source=address)


def is_input(source: object) -> bool:
    """Say whether it can be read as an input, and is no iterable of rows."""
    if isinstance(source, str | os.PathLike | ArrowStream):
        return True
    # Asked of the object and not of its class: a named temporary file hands its calls on.
    return callable(getattr(source, "read", None)) and callable(getattr(source, "seekable", None))


def name_of(stream: object) -> str:
    """Return the name of the file that a stream reads; ``input`` where it has none, or only a number."""
    name = getattr(stream, "name", None)
    return os.fsdecode(name) if isinstance(name, str | bytes) and name else "input"


def _head(stream: BinaryIO) -> bytes:
    """Return the first bytes of a stream, and leave them in it; none where that cannot be."""
    if isinstance(stream, io.BufferedReader):
        return stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if not stream.seekable():
        return b""
    at = stream.tell()
    head = stream.read(_HEAD_BYTES)
    stream.seek(at)
    return head


def _foreign_byte(text: str) -> str | None:
    """Say which byte of a text is not UTF-8, and where; None if all are."""
    try:
        text.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{error.object[error.start]:02X} at position {error.start + 1}"
    return None


class _Row(tuple["Cell", "Cell", "Cell"]):
    """The three values of a row; its bytes are those of an input that is read in the same way."""

    __slots__ = ()

    write: ClassVar[Callable[[Sequence[Cell]], bytes]]

    def __bytes__(self) -> bytes:
        return type(self).write(self)


def _rows_written_by(write: Callable[[Sequence[Cell]], bytes]) -> type[_Row]:
    """Return a class of rows whose bytes are what `write` makes of their values, when they are asked for."""
    return type("_WrittenRow", (_Row,), {"__slots__": (), "write": staticmethod(write)})


class ColumnRows:
    """The rows of an input of columns; iterating gives them. ``table`` has the notes.

    ``line`` of a row is its 1-based number in its file, and an error names that file. The bytes of a row are a JSON
    line or, after `write_csv`, a line of CSV, with the columns that were read; ``header`` goes before them.
    Raises `InputError` where a file lacks a column, or has one whose type gives no ids.
    """

    __slots__ = (
        "_closed",
        "_given",
        "_known",
        "_names",
        "_now",
        "_parts",
        "_reading",
        "_row",
        "_source",
        "header",
        "table",
    )

    def __init__(self, source: ColumnarInput, reading: Reading) -> None:
        self._source = source
        self._reading = reading
        self._names = [None if field in reading.constants else column for field, column in reading.columns.items()]
        self._row = _rows_written_by(self._as_json)
        self.header = b""
        self._known: dict[Cell, str] = {}
        parts = source.parts()
        first = next(parts)
        self.table, places = self._look_at(*first)
        self._closed = False
        self._parts = parts
        self._now = first[1]
        self._given = self._give(parts, first, places)

    def write_csv(self) -> None:
        """From now on let rows be lines of CSV; call it before the first of them."""
        self.header = csv_record([name for name in self._names if name is not None])
        self._row = _rows_written_by(self._as_csv)

    def _as_json(self, row: Sequence[Cell]) -> bytes:
        said = {name: cell for name, cell in zip(self._names, row, strict=True) if name is not None}
        return json.dumps(said, ensure_ascii=False).encode(errors="surrogateescape") + b"\n"

    def _as_csv(self, row: Sequence[Cell]) -> bytes:
        said = [cell for name, cell in zip(self._names, row, strict=True) if name is not None]
        return csv_record(said, surrogates="surrogateescape")

    def close(self) -> None:
        """Close what is open; harmless when called again.

        Waits a second at most for a read that goes on in another thread, which else closes when that read is over.
        """
        self._closed = True
        self._now.close()
        with contextlib.suppress(ValueError):  # a thread is in it, and ends it as nothing more comes
            self._given.close()
            self._parts.close()

    def __iter__(self) -> Iterator[ReadRow]:
        """Return the rows; raises `HeldBackError` if a file breaks off."""
        return self._given

    def unread(self) -> Iterator[bytes]:
        """Yield the rows that were not given, as JSON lines; raises where a file breaks off. Ends the reading."""
        for _, _, row in self._given:
            yield bytes(row)

    def _look_at(self, name: str, columns: Columns) -> tuple[Table, list[int | str]]:
        """Find the columns of a file: their places in it, or for a field that is the same in all rows its value."""
        table = Table(columns.names, self._reading, name, place=name, unit=Unit.ROW)
        places = table.picked([*map(str, range(len(columns.names)))])
        found: list[int | str] = [
            str(place) if field in self._reading.constants else int(place)
            for field, place in zip(self._reading.columns, places, strict=True)
        ]
        for field, place in zip(FIELDS, found, strict=True):
            kind = None if isinstance(place, str) else columns.kind(place)
            if kind is not None:
                column = clip(columns.names[int(place)])
                msg = f"{name}: {field} is in the column {column} of type {kind}; write it as text or as whole numbers"
                raise InputError(msg, source=name)
        return table, found

    def _give(
        self, parts: Iterator[tuple[str, Columns]], first: tuple[str, Columns], places: list[int | str]
    ) -> Generator[ReadRow, None, None]:
        part: tuple[str, Columns] | None = first
        while part is not None:
            yield from self._rows(*part, places)
            part = None if self._closed else next(parts, None)
            if part is not None:
                self._now = part[1]
                _, places = self._look_at(*part)

    def _rows(self, name: str, columns: Columns, places: list[int | str]) -> Iterator[ReadRow]:
        number, known, kind = 0, self._known, self._row
        wanted = [place for place in places if isinstance(place, int)]
        try:
            for batch in read_ahead(columns.batches(wanted)):
                found = iter(batch)
                orders, lines, statuses = (
                    next(found) if isinstance(place, int) else repeat(place, len(batch[0])) for place in places
                )
                looks = concerns("\n".join(str(cell) for column in batch[:2] for cell in column))
                for row in map(kind, zip(orders, lines, statuses, strict=True)):
                    number += 1
                    item: ReadItem
                    try:
                        item = LineStatusUpdate(row[0], row[1], known[row[2]])  # type: ignore[arg-type]  # it checks them
                    except (KeyError, InvalidUpdateError):
                        item = self._item(row, name, number)
                    if looks and isinstance(item, LineStatusUpdate):
                        self.table.suspicions.look(item, number)
                    yield item, number, row
        except ColumnsError as error:
            raise self._source.held_back(error, name, number) from None

    def _item(self, row: _Row, name: str, number: int) -> ReadItem:
        """Return what a row becomes that is wrong, or has a status for the first time."""
        order, line, status = row
        for field, cell in zip(FIELDS, row, strict=True):
            if cell is None:
                msg = f"{field} is null; every update needs all three ids"
                return self._wrong(InvalidUpdateError(msg, field=field), row, name, number)
            if (byte := _foreign_byte(str(cell))) is not None:
                msg = f"{field} is not UTF-8: it has the {byte}; write the column as UTF-8"
                return self._wrong(InvalidUpdateError(msg, field=field), row, name, number)
        meant = str(status)
        meant = self._reading.statuses.get(meant.strip(), meant)
        try:
            update = LineStatusUpdate(order, line, meant)  # type: ignore[arg-type]  # none is None
        except InvalidUpdateError as error:
            return self._wrong(error, row, name, number)
        if not self.table.suspicions.look_at_status(meant, number) and len(self._known) < _KNOWN_STATUSES:
            self._known[status] = meant
        return update

    def _wrong(self, error: InvalidUpdateError, row: _Row, name: str, number: int) -> InvalidUpdateError:
        said = with_column(error, self._reading.columns)
        return InvalidUpdateError(said, field=error.field, source=name, line=number, unit=Unit.ROW, ids=ids_of(row))
