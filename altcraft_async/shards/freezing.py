"""Making shards: an input is frozen into files, or files of another tool are adopted."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, cast

from altcraft_async.engine.rows import check_source, named_values, read_row
from altcraft_async.errors import AltcraftError, ConfigurationError, InvalidUpdateError
from altcraft_async.flow.partition import bucket_of
from altcraft_async.ingest import FIELDS, InputError, UpdateReader, read_updates
from altcraft_async.ingest.arrow import is_input
from altcraft_async.ingest.table import ids_of
from altcraft_async.protocol.plain import escaped
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.settings.address import check_base_url
from altcraft_async.shards.errors import ShardError, in_words
from altcraft_async.shards.plan import FROZEN, ShardFile, checksum_of, fresh_place, name_of, write_plan
from altcraft_async.storage.columns import ParquetRows
from altcraft_async.storage.places import is_data, is_readable, matching, shown, would_match
from altcraft_async.storage.scratch import remove_dead, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from altcraft_async.engine.rows import Row
    from altcraft_async.ingest import InputFormat, LastLine
    from altcraft_async.ingest.table import Ids
    from altcraft_async.shards.plan import Plan
    from altcraft_async.storage.columns import ArrowStream
    from altcraft_async.storage.places import Place

__all__ = ["MOST_SHARDS", "InputOptions", "adopt_shards", "check_beside", "plan_shards"]

MOST_SHARDS: Final = 500
"""Files that are written at once; for more shards, write them with an engine and adopt them."""
_SCRATCH: Final = "altcraft-plan-"
_ANY: Final = ("",)
"""The ends of the names of files that may be shards: what is none is named when it is read."""
_ROWS_IN_MEMORY: Final = 1_000_000
_FEWEST: Final = 1024
_BUCKETS: Final = 64
_ENTRY: Final = struct.Struct("16sI")


class InputOptions(TypedDict, total=False):
    """How an input is read: the keywords of `altcraft_async.ingest.read_updates`, each with a default."""

    input_format: InputFormat | str | None
    columns: Mapping[str, str] | None
    constants: Mapping[str, str] | None
    statuses: Mapping[str, str] | None
    encoding: str
    skip_lines: int
    last_line: LastLine | str
    name: str | None


def plan_shards(
    source: str | os.PathLike[str] | BinaryIO | ArrowStream | Iterable[Row],
    directory: str | os.PathLike[str],
    *,
    shards: int,
    target: str | None = None,
    **reading: Unpack[InputOptions],
) -> Plan:
    """Divide an input into one Parquet file for each shard, and write the plan beside them.

    `source` is an input as for `altcraft_async.ingest.read_updates`, which gets the other keywords (`columns`,
    `statuses`, …), or an iterable of rows as for a bulk call. `directory` is a path or an fsspec address. A hash of the
    order, the same everywhere, decides the shard of a row; rows of one order are in one shard, in the order of the
    input. A wrong row is included, and ends ``invalid``. `target` is the platform's address; the shards can then be
    delivered to that address only.

    Memory is flat: at most a million rows; this machine's disk has all files until they are written. Without the plan,
    which is written at the end, nothing can be delivered. Raises `ShardError` if the directory already has a plan or
    files of the shards' names, or if `source` reads what is in it, `TypeError` for one row in place of rows, and the
    errors of reading the input.
    """
    if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
        msg = f"shards must be a whole number from 1 to {MOST_SHARDS}, not {shards!r}; an engine can write more"
        raise ConfigurationError(msg, field="shards")
    checked = None if target is None else check_base_url(target, allow_insecure=True, name="target")
    place = fresh_place(directory)
    if isinstance(source, str | os.PathLike):
        check_beside(source, place.to_open, shards)
    names = [_name_of(number) for number in range(shards)]
    _check_free(place, names)
    with _own_scratch() as folder:
        paths = [folder / name for name in names]
        rows = _freeze(source, paths, reading)
        files = []
        for path, count in zip(paths, rows, strict=True):
            files.append(ShardFile(path.name, count, path.stat().st_size, checksum_of(path)))
            with in_words(place.address):
                place.put(path, path.name)
            path.unlink()
    with in_words(place.address):
        return write_plan(place, files, target=checked, frozen=True)


def check_beside(source: str | os.PathLike[str], directory: str, shards: int) -> None:
    """Raise `ShardError` if an input is a directory or pattern that has the shards too: the next plan would read them.

    Or their failed rows. Of two ways to one place elsewhere, like two names of a host, nothing is known.
    """
    if not os.fspath(source):
        return  # whoever reads it says that it has no name
    names = [name for number in range(shards) for name in (_name_of(number), name_of(number, "failed.parquet"))]
    try:
        within = would_match(os.fspath(source), directory, names)
    except OSError:
        return  # whoever reads it says what is wrong
    if within:
        msg = (
            f"{directory} is within the input {shown(os.fspath(source))}, and its shards would be read as rows with "
            "the next plan; give a directory beside the input"
        )
        raise ShardError(msg, directory=directory)


def _name_of(number: int) -> str:
    return f"shard-{number:05}.parquet"


def _check_free(place: Place, names: list[str]) -> None:
    """Raise `ShardError` if a file has one of the names; what a killed writer left is removed."""
    with in_words(place.address):
        there = sorted(place.sizes().keys() & set(names))
        place.tidy("shard-")
    if there:
        left = there[0] if len(there) == 1 else f"{len(there)} files, {there[0]} to {there[-1]},"
        which = "that file" if len(there) == 1 else "these files"
        msg = (
            f"{place.address} has {left} already: an input, or a plan that was cut off; give another directory, or "
            f"delete {which}"
        )
        raise ShardError(msg, directory=place.address)


@contextlib.contextmanager
def _own_scratch() -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            remove_dead(_SCRATCH)
            folder = stack.enter_context(scratch(_SCRATCH))
        except OSError as error:
            raise _unwritten(error) from error
        yield folder


@contextlib.contextmanager
def _gathering(folder: Path) -> Iterator[None]:
    """Raise as `ShardError` what this machine's disk says; an error of any other place names that."""
    try:
        yield
    except AltcraftError:  # of which some are an `OSError` too
        raise
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(folder)):
            raise _unwritten(error) from error
        raise


def _unwritten(error: OSError) -> ShardError:
    """Return the error that this machine's disk does not take what is gathered on it."""
    where = _temporary_directory()
    msg = (
        f"what is gathered in {where} cannot be written there ({error.strerror or error}); make room, let TMPDIR name "
        "another directory, or plan fewer shards: each is an open file"
    )
    return ShardError(msg, directory=where)


def _temporary_directory() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none
        return "TMPDIR"


def _freeze(source: Any, paths: list[Path], reading: Mapping[str, Any]) -> list[int]:
    """Write the rows to their files; return how many each has."""
    with ExitStack() as stack:
        rows = _rows_of(source, reading, stack)
        group = max(_FEWEST, _ROWS_IN_MEMORY // len(paths))
        files: list[ParquetRows] = []
        try:
            for path in paths:
                files.append(ParquetRows(path, FROZEN, group_rows=group))
                stack.callback(files[-1].abandon)
        except OSError as error:
            raise _unwritten(error) from error
        for index, row in enumerate(rows):
            update = read_row(row)
            try:
                files[_shard_of(update, index, len(files))].add(_columns(index, row, update))
            except OSError as error:
                raise _unwritten(error) from error
        if isinstance(rows, UpdateReader) and not rows.exhausted:
            msg = f"{rows.source} was not read to its end"
            raise InputError(msg, source=rows.source)
        try:
            for file in files:
                file.close()
        except OSError as error:
            raise _unwritten(error) from error
        return [len(file) for file in files]


def _rows_of(source: Any, reading: Mapping[str, Any], stack: ExitStack) -> Iterable[Any]:
    if is_input(source) or not isinstance(source, Iterable):  # what is neither is refused in words
        return stack.enter_context(read_updates(cast("BinaryIO", source), **reading))
    if reading:
        msg = f"{min(reading)} says how an input is read, and rows were given; leave it out"
        raise ConfigurationError(msg, field=min(reading))
    check_source(source)
    return source


def _shard_of(update: LineStatusUpdate | InvalidUpdateError, index: int, shards: int) -> int:
    return bucket_of(update.order_external_id, shards) if isinstance(update, LineStatusUpdate) else index % shards


def _columns(index: int, row: object, update: LineStatusUpdate | InvalidUpdateError) -> tuple[object, ...]:
    if isinstance(update, LineStatusUpdate):
        ids = (update.order_external_id, update.order_line_external_id, update.status_external_id)
        return (index, *ids, update.request_id, None, None, None, None, None)
    found = update.ids or _ids_of(row)
    said = (text and escaped(text) for text in (update.message, update.field, update.source))
    return (index, *found, None, *said, update.line, str(update.unit))


def _ids_of(row: object) -> Ids:
    """Return what a wrong row that is no row of a file has for ids."""
    named = named_values(row)
    if named is not None:
        return ids_of([named[name] for name in FIELDS])
    return ids_of(row) if isinstance(row, tuple | list) and len(row) == len(FIELDS) else (None, None, None)


def adopt_shards(
    directory: str | os.PathLike[str],
    *,
    target: str | None = None,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    statuses: Mapping[str, str] | None = None,
) -> Plan:
    """Make a plan of Parquet files that another tool has written: one file, one shard, in the order of their names.

    The tool must have put all rows of an order into one file (Spark: ``repartition(n, "order_external_id")``); the
    order of rows in the file is the order of sending. An order in two files raises `ShardError`, which names it.
    `columns`, `constants` and `statuses` say how the files are read, as for `altcraft_async.ingest.read_updates`, and
    `target` is as for `plan_shards`. The files must not change after this; the checksum of a shard is checked before
    its delivery.

    Each file is read twice. Memory is that of a 64th of all orders, some 100 bytes each.
    """
    checked = None if target is None else check_base_url(target, allow_insecure=True, name="target")
    place = fresh_place(directory)
    names = _files_of(place)
    reading = {"columns": dict(columns or {}), "constants": dict(constants or {}), "statuses": dict(statuses or {})}
    with _own_scratch() as folder, in_words(place.address), _gathering(folder), ExitStack() as stack:
        buckets = [stack.enter_context((folder / str(number)).open("w+b")) for number in range(_BUCKETS)]
        copy = folder / "shard.parquet"
        files = []
        for number, name in enumerate(names):
            place.fetch(name, copy)
            count = 0
            for order in _orders(copy, place.path(name), reading):
                count += 1
                digest = _digest(order)
                if order:
                    buckets[digest[0] % _BUCKETS].write(_ENTRY.pack(digest, number))
            files.append(ShardFile(name, count, copy.stat().st_size, checksum_of(copy)))
        for bucket in buckets:
            _check_apart(bucket, place, names, reading, copy)
        return write_plan(place, files, target=checked, frozen=False, reading=reading)


def _files_of(place: Place) -> list[str]:
    """Return the names of the files to adopt; raises `ShardError` where one would be left out."""
    with in_words(place.address):
        names = sorted(name for name in place.sizes() if is_data(name, _ANY))
        found = matching(place.to_open, _ANY) or []
    strange = next((address for address in found if not is_readable(address)), None)
    if strange is not None:
        msg = f"{strange} is a pipe, a device or a link to nothing, and no shard; move it away"
        raise ShardError(msg, directory=place.address)
    if len(found) > len(names):
        deepest = max(found, key=lambda address: address.count("/"))
        msg = f"{deepest} is not in {place.address} itself, where all shards must be; move it there, or away"
        raise ShardError(msg, directory=place.address)
    if not names:
        msg = f"{place.address} has no Parquet files; write one for each shard into it"
        raise ShardError(msg, directory=place.address)
    return names


def _digest(order: str) -> bytes:
    return blake2b(order.encode(errors="surrogatepass"), digest_size=16).digest()


def _orders(path: Path, name: str, reading: Mapping[str, Any]) -> Iterator[str]:
    """Yield the order of each row, an empty text for a wrong one; messages have the `name` of the file."""
    with read_updates(path, input_format="parquet", name=name, **reading) as rows:
        for row in rows:
            yield row.order_external_id if isinstance(row, LineStatusUpdate) else ""


def _check_apart(bucket: BinaryIO, place: Place, names: list[str], reading: Mapping[str, Any], copy: Path) -> None:
    """Raise `ShardError` if an order of this bucket stands in two files."""
    bucket.seek(0)
    found: dict[bytes, int] = {}
    while block := bucket.read(_ENTRY.size * 4096):
        for digest, number in _ENTRY.iter_unpack(block):
            first = found.setdefault(digest, number)
            if first == number:
                continue
            place.fetch(names[number], copy)
            order = next(
                order
                for order in _orders(copy, place.path(names[number]), reading)
                if order and _digest(order) == digest
            )
            msg = (
                f"order {order!r} stands in {names[first]} and in {names[number]} of {place.address}, so its changes "
                "could overtake each other; write all rows of an order into one file"
            )
            raise ShardError(msg, directory=place.address, shard=number)
