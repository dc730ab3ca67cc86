"""Columns of Arrow: read in batches from files and from other libraries, and written to Parquet.

The one place beside `Report.to_arrow` that knows pyarrow. What it reads takes no more memory than a few batches of
the needed columns: a thread decodes the next two, over the borders of row groups, while the present one is used.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from altcraft_async.errors import MissingExtraError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO, BinaryIO, Self

__all__ = [
    "ARROW_FILE", "ARROW_STREAM", "PARQUET", "ArrowStream", "Cell", "Columns", "ColumnsError", "ParquetRows",
    "open_columns", "read_ahead", "stream_of",
]  # fmt: skip

PARQUET: Final = b"PAR1"
ARROW_FILE: Final = b"ARROW1"
ARROW_STREAM: Final = b"\xff\xff\xff\xff"
"""The first bytes of what can be read."""

_END_MARK: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of a whole stream."""

BATCH_ROWS: Final = 16_384
"""Rows decoded at once: enough to cost nothing a row, some 2 MB of ids."""
_GROUP_ROWS: Final = 65_536
"""Rows in a row group that is written."""
_EXIT_SECONDS: Final = 10.0
"""How long the end of the process waits for such a read."""
_CLOSING_SECONDS: Final = 1.0
"""How long closing waits for a read that goes on: what feeds a stream may be a slow query, or hang."""

Cell: TypeAlias = "str | int | None"


@runtime_checkable
class ArrowStream(Protocol):
    """Anything that hands over its columns as Arrow: polars, DuckDB, pandas, pyarrow, cuDF."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give the stream; see Arrow's PyCapsule interface."""


class ColumnsError(Exception):
    """What is read is no such file, or is damaged or cut off; the message says how Arrow calls it."""


def _arrow() -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "columns of Arrow and Parquet need pyarrow, which is not installed: pip install 'altcraft-async[arrow]'"
        raise MissingExtraError(msg) from None
    return pa


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    pa = _arrow()
    try:
        yield
    except (pa.ArrowException, SystemError, ValueError, OverflowError) as error:  # all are met in damaged files
        raise ColumnsError(_said(error)) from error
    except MemoryError as error:  # a damaged length asks for it
        msg = "it asks for more memory than there is"
        raise ColumnsError(msg) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ColumnsError(_said(error)) from error  # pyarrow says it so of damaged files


def _said(error: Exception) -> str:
    """Return the first line of an error, without the traceback that Arrow adds to one of Python's."""
    return str(error).partition("\n")[0].partition(". Detail: Python exception")[0]


def _nothing() -> None:
    """Close what needs no closing."""


class Columns:
    """The columns of one file or stream. ``names`` are those of all, `batches` reads some of them, once.

    A context manager, which closes what it was made of. One thread may read and another close: what it was made of
    is never used by two at a time.
    """

    __slots__ = ("_close", "_closing", "_read", "_schema", "_turn", "names", "rows")

    def __init__(
        self,
        schema: Any,
        read: Callable[[Sequence[int]], Iterator[Any]],
        *,
        rows: int | None = None,
        close: Callable[[], object] = _nothing,
    ) -> None:
        self._schema = schema
        self._read = read
        self._close = close
        self._closing = False
        self._turn = threading.Lock()
        self.names: list[str] = list(schema.names)
        self.rows = rows

    def __enter__(self) -> Self:
        """Give the columns themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what they were made of."""
        self.close()

    def close(self) -> None:
        """Close what they were made of, and read no further batch; harmless when called again.

        Waits a second at most for a read that goes on in another thread. If it goes on then, that thread closes.
        """
        if self._closing:
            return
        self._closing = True
        if self._turn.acquire(timeout=_CLOSING_SECONDS):
            self._end()

    def kind(self, column: int) -> str | None:
        """Return the name of a column's type where its values can be no ids; None where they are texts or integers."""
        pa = _arrow()
        kind = self._schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null)
        view = str(kind) == "string_view"  # not in the oldest pyarrow
        return None if view or any(fits(kind) for fits in texts) else str(kind)

    def batches(self, columns: Sequence[int]) -> Iterator[Sequence[list[Cell]]]:
        """Give the values of some columns, by their places, a batch of rows at a time; raises `ColumnsError`.

        A byte that is not UTF-8 becomes a lone surrogate, as with Python's ``surrogateescape``.
        """
        with _translated():
            read = self._read(columns)
            while (batch := self._next(read)) is not None:
                yield [_cells(batch.column(place)) for place in range(len(columns))]

    def _next(self, read: Iterator[Any]) -> Any:
        """Return the next batch; None at the end, or when it was closed meanwhile."""
        try:
            with self._turn:
                batch = None if self._closing else next(read, None)
        finally:
            if self._closing and self._turn.acquire(blocking=False):  # whoever closed no longer waits
                self._end()
        return None if self._closing else batch

    def _end(self) -> None:
        """Close what they were made of, once, by whoever has the turn; gives the turn back."""
        close, self._close = self._close, _nothing
        try:
            close()
        finally:
            self._turn.release()


def open_columns(file: BinaryIO, head: bytes) -> Columns:
    """Return the columns of a Parquet or Arrow file, which `head` are the first bytes of.

    The file is the caller's, who closes it. Raises `ColumnsError` where it is damaged, and `MissingExtraError`.
    """
    with _translated():
        if head.startswith(PARQUET):
            return _parquet(file)
        pa = _arrow()
        if head.startswith(ARROW_FILE):
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            return Columns(reader.schema, lambda columns: _selected(batches, columns))
        watched = _ToItsEnd(file)
        stream = pa.ipc.open_stream(watched)
        return Columns(stream.schema, lambda columns: watched.checked(_selected(stream, columns)))


class _ToItsEnd:
    """A stream of Arrow whose end is looked at: pyarrow takes one that breaks off between two batches for whole."""

    __slots__ = ("_file", "_last", "closed")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last = b""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Read as pyarrow asks."""
        block = self._file.read(size)
        # An end that is nothing but the end of the file reads as no bytes, so that it ends no mark.
        self._last = (self._last + block)[-len(_END_MARK) :] if block else b""
        return block

    def checked(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Give the batches; raises `ColumnsError` if no mark of the end comes after them, or something behind it."""
        yield from batches
        if self._last != _END_MARK:
            msg = "the mark of its end is missing, so whatever wrote it may have died"
            raise ColumnsError(msg)
        if self._file.read(1):
            msg = "there is more behind the mark of its end"
            raise ColumnsError(msg)


def _cells(column: Any) -> list[Cell]:
    try:
        cells: list[Cell] = column.to_pylist()
    except UnicodeDecodeError:
        texts = _as_bytes(column).to_pylist()
        return [None if text is None else text.decode(errors="surrogateescape") for text in texts]
    return cells


_BYTES: Final = {"string": "binary", "large_string": "large_binary", "string_view": "binary_view"}


def _as_bytes(column: Any) -> Any:
    """Return a column with its texts as bytes; they are neither copied nor looked at."""
    pa = _arrow()
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _as_bytes(column.dictionary))
    kind = _BYTES.get(str(column.type))
    return column if kind is None else column.view(kind)


def _parquet(file: BinaryIO) -> Columns:
    _arrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    # Buffered ahead, or a remote file is read in many small pieces; of one row group at a time, or it is all of them.
    parquet = pq.ParquetFile(file, pre_buffer=True)
    schema = parquet.schema_arrow

    def read(columns: Sequence[int]) -> Iterator[Any]:
        names = [schema.names[place] for place in columns]
        for group in range(parquet.num_row_groups):
            found = 0
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False):
                found += batch.num_rows
                yield batch.select(names)
            _check_rows(parquet.metadata, group, found)

    return Columns(schema, read, rows=parquet.metadata.num_rows)


def _check_rows(footer: Any, group: int, found: int) -> None:
    """Raise `ColumnsError` unless a row group had the rows that the footer says: damaged pages end it early."""
    said = footer.row_group(group).num_rows
    if found != said:
        msg = f"row group {group} has {found} rows, and {said} by the footer"
        raise ColumnsError(msg)


def stream_of(given: ArrowStream) -> Columns:
    """Return the columns that an object hands over, which are not copied."""
    pa = _arrow()
    with _translated():
        reader = pa.RecordBatchReader.from_stream(given)
    return Columns(reader.schema, lambda columns: _selected(reader, columns), close=reader.close)


def _selected(batches: Iterable[Any], columns: Sequence[int]) -> Iterator[Any]:
    """Give the batches as slices of some columns, whose content is checked: pyarrow believes all that it is given."""
    pa = _arrow()
    for batch in batches:
        few = batch.select(list(columns))
        for column in few.columns:
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                _as_bytes(column).validate(full=True)  # texts that are not UTF-8 are the rows' own mistake
        for start in range(0, few.num_rows, BATCH_ROWS):
            yield few.slice(start, BATCH_ROWS)


_END: Final = object()
_reading: Final[dict[threading.Thread, threading.Event]] = {}
"""The threads that read ahead, and what stops each."""


@atexit.register
def _stop_reading() -> None:
    """Let the threads end before the interpreter: one that comes back from Arrow later aborts the process."""
    until = time.monotonic() + _EXIT_SECONDS
    threads = dict(_reading)
    for stopped in threads.values():
        stopped.set()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def read_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """Give what an iterator gives, which a thread reads two ahead; raises what it raised.

    Closing it ends the thread with its next one; the end of the process waits for that, ten seconds at most.
    """
    ready: queue.Queue[object] = queue.Queue(1)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised where it is read
            failure.append(error)
        finally:
            _reading.pop(thread, None)
        put(_END)

    thread = threading.Thread(target=read, name="altcraft-columns", daemon=True)
    _reading[thread] = stopped
    thread.start()
    try:
        while (batch := ready.get()) is not _END:
            yield batch
        if failure:
            raise failure[0]
    finally:
        stopped.set()


class ParquetRows:
    """Writes rows to Parquet; `types` has for each column the type of its values.

    `target` is a path or an open file. Rows are gathered into row groups of `group_rows`; the file is whole when
    it is closed.
    """

    __slots__ = ("_columns", "_group_rows", "_rows", "_schema", "_writer")

    def __init__(
        self, target: str | os.PathLike[str] | IO[bytes], types: Mapping[str, type], *, group_rows: int = _GROUP_ROWS
    ) -> None:
        pa = _arrow()
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        schema = pa.schema([(name, kinds[kind]) for name, kind in types.items()])
        self._schema = schema
        self._group_rows = group_rows
        self._columns: list[list[object]] = [[] for _ in types]
        self._rows = 0
        self._writer = pq.ParquetWriter(target, schema, compression="zstd")

    def __len__(self) -> int:
        """Count the rows that were given."""
        return self._rows + len(self._columns[0])

    def add(self, values: Sequence[object]) -> None:
        """Write a row."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if len(self._columns[0]) >= self._group_rows:
            self._flush()

    def copy(self, source: BinaryIO) -> None:
        """Write all rows of another Parquet file with the same columns first; raises `ColumnsError` for any other."""
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

        with _translated():
            other = pq.ParquetFile(source)
            for group in range(other.num_row_groups):
                table = other.read_row_group(group)
                _check_rows(other.metadata, group, table.num_rows)
                self._writer.write_table(table.cast(self._schema))

    def close(self) -> None:
        """Write what is left, and the end."""
        if self._columns[0]:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file, whole or not; harmless after `close`."""
        for column in self._columns:
            column.clear()
        with contextlib.suppress(OSError):
            self._writer.close()
        self._writer.is_open = False  # or it closes again when it is collected, and complains

    def _flush(self) -> None:
        pa = _arrow()
        self._rows += len(self._columns[0])
        table = pa.table(dict(zip(self._schema.names, self._columns, strict=True)), schema=self._schema)
        self._writer.write_table(table)
        for column in self._columns:
            column.clear()
