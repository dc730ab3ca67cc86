"""Files of outcomes and of failed rows: each record reaches the file whole, as soon as it is known."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from altcraft_async import ConfigurationError
from altcraft_async.ingest import InputFormat
from altcraft_async.ingest.table import csv_record
from altcraft_async.storage.columns import ColumnsError, ParquetRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async import Outcome

__all__ = [
    "COLUMNS", "IMPORT_COLUMNS", "ParquetResults", "RecordFile", "ResultsFile", "refuse_clashes",
    "refuse_other_form", "results_file",
]  # fmt: skip

COLUMNS = (
    "index",
    "line",
    "order_external_id",
    "order_line_external_id",
    "status_external_id",
    "state",
    "attempts",
    "elapsed",
    "request_id",
    "error",
)
"""The columns (JSON: keys) of a results file."""
IMPORT_COLUMNS = ("index", "line", "external_id", "batch", "state", "attempts", "elapsed", "request_id", "error")
"""Those of an import; ``batch`` is the index of the first row that went in the same call."""


_PARQUET = (".parquet", ".pq")
_OTHERS = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "workbook"),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), "Arrow file"),
    **dict.fromkeys((".gz", ".gzip", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".br", ".zip", ".7z"), "compressed file"),
    ".tar": "archive",
    ".orc": "ORC file",
    ".avro": "Avro file",
    ".xml": "XML file",
}
"""What the ends of names stand for that nothing here is written as; a name with any other end has JSON lines."""


def refuse_clashes(**paths: str | None) -> None:
    """Raise `ConfigurationError` where two of the named files are one and the same."""
    seen: dict[object, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        place: object = path
        if path != "-":
            place = _identity(Path(path))
        elif name == "input":
            continue  # standard input; the others mean standard output
        if place in seen:
            msg = f"{name} and {seen[place]} are the same file ({path}); the one would overwrite the other"
            raise ConfigurationError(msg)
        seen[place] = name


def refuse_other_form(option: str, path: str, *, parquet: bool = False) -> None:
    """Raise `ConfigurationError` where a name asks for a form that is not written; Parquet is only with `parquet`.

    Those are results. Failed rows have the separator of their input, so that a name with ``.tsv`` may fit them.
    """
    others = _OTHERS | ({".tsv": "table with tabs"} if parquet else dict.fromkeys(_PARQUET, "Parquet file"))
    name, asked = Path(path), []
    while (kind := others.get(name.suffix.lower())) is not None:
        asked.append(kind)
        name = name.with_suffix("")
    if not asked:
        return
    if not name.suffix:
        is_columns = asked[-1] in {"Arrow file", "Parquet file"}
        name = name.with_suffix((".parquet" if parquet else ".jsonl") if is_columns else ".csv")
    writes = "CSV, JSON lines or Parquet (.csv, .jsonl, .parquet)" if parquet else "CSV or JSON lines (.csv, .jsonl)"
    msg = f"{option} writes {writes}, and no {asked[0]}; call the file {name.name}"
    raise ConfigurationError(msg)


def _identity(path: Path) -> object:
    """Give what is equal for two names of one file: links are seen through where the file is there."""
    try:
        status = path.stat()
    except OSError:
        return path.resolve()
    return (status.st_dev, status.st_ino)


class RecordFile:
    """A file whose records are written at once and whole: a kill leaves complete records.

    ``-`` is standard output. A context manager. Raises `ConfigurationError`
    where the file cannot be opened. What it held is left alone until `start`, and `at_end` until
    `complete`, where it is a regular file. When a write fails, ``problem`` says why and nothing more is written.
    """

    __slots__ = ("_file", "_made", "_regular", "_target", "path", "problem")

    def __init__(self, path: str, *, at_end: bool = False) -> None:
        self.path = path
        self.problem: str | None = None
        self._made = path != "-" and not Path(path).exists()
        try:
            if path == "-":
                self._file = io.FileIO(_stdout(), "wb", closefd=False)
            else:
                self._file = io.FileIO(path, "ab")
        except (OSError, ValueError) as error:
            msg = f"{path} cannot be written: {getattr(error, 'strerror', None) or error}"
            raise ConfigurationError(msg) from None
        self._regular = path != "-" and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._target: io.FileIO | None = None
        if at_end and self._regular:
            self._target, self._file = self._file, _beside(path)

    def __enter__(self) -> Self:
        """Give the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; one that was made for what did not come about is removed."""
        self._file.close()
        if self._target is not None:
            self._target.close()
            if self._made:
                Path(self.path).unlink(missing_ok=True)

    def complete(self) -> None:
        """Put what was written in the place of what the file held, where that was left alone until now."""
        if self._target is None or self.problem is not None:
            return
        try:
            _reserve(self._target, os.fstat(self._file.fileno()).st_size)
        except OSError as error:
            self.problem = f"{self.path} cannot be written: {error.strerror or error}"
            return
        written, self._file, self._target = self._file, self._target, None
        with written:
            written.seek(0)
            self._file.truncate(0)
            while block := written.read(1 << 16):
                self.write(block)

    @property
    def size(self) -> int:
        """How many bytes a file holds; 0 where it is none, like a pipe."""
        return os.fstat(self._file.fileno()).st_size if self._regular else 0

    def start(self, *, keep: bool = False) -> None:
        """Empty the file, or with `keep` go on behind what it holds."""
        if self._regular and not keep:
            self._file.truncate(0)

    def write(self, record: bytes) -> None:
        """Write one record; it has left the process when this returns."""
        if self.problem is not None:
            return
        left = record
        try:
            while left:  # a pipe may take it in parts
                left = left[self._file.write(left) :]
        except OSError as error:
            name = "standard output" if self.path == "-" else self.path
            self.problem = f"{name} cannot be written: {error.strerror or error}"
            if self._regular:  # a part of a record would spoil the next one
                self._file.truncate(self.size - (len(record) - len(left)))


def _stdout() -> int:
    if sys.stdout is None:
        msg = "standard output is closed"
        raise ValueError(msg)
    return sys.stdout.fileno()


def _beside(path: str) -> io.FileIO:
    """Open a file without a name, in the directory of another one where that can be."""
    try:
        return tempfile.TemporaryFile(buffering=0, dir=Path(path).resolve().parent)
    except OSError:
        return tempfile.TemporaryFile(buffering=0)


def _reserve(file: io.FileIO, size: int) -> None:
    """Have the disk keep place for what a file is to hold, so that what it holds is not lost on a full one."""
    before = os.fstat(file.fileno()).st_size
    if sys.platform != "linux" or size <= before:
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        file.truncate(before)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:  # else it cannot do that
            raise


class ResultsFile(RecordFile):
    """One record an outcome: JSON lines, or CSV where the file's name ends in ``.csv``."""

    __slots__ = ("_columns", "_csv")

    def __init__(self, path: str, columns: Sequence[str] = COLUMNS, *, at_end: bool = False) -> None:
        super().__init__(path, at_end=at_end)
        self._columns = columns
        self._csv = path.lower().endswith(".csv")

    def start(self, *, keep: bool = False) -> None:
        """Empty the file, or with `keep` go on behind what it holds; a CSV gets its header."""
        super().start(keep=keep)
        if self._csv and not self.size:
            self.write(csv_record(self._columns))

    def add(self, outcome: Outcome[object], line: int | None) -> None:
        """Write one outcome; `line` is its row's line in the input."""
        known = {**outcome.to_dict(), "line": line}
        values = [known[column] for column in self._columns]
        if self._csv:
            self.write(csv_record(values))
        else:
            self.write(
                json.dumps(dict(zip(self._columns, values, strict=True)), ensure_ascii=False).encode(
                    errors="backslashreplace"
                )
                + b"\n"
            )


_TYPES: dict[str, type] = {"index": int, "line": int, "batch": int, "attempts": int, "elapsed": float}


class ParquetResults(ResultsFile):
    """The outcomes as columns, a row each. The file is whole, and holds them, when this is closed.

    Until then it is what it was, so that a kill loses no results of before; what a journal has recorded,
    ``journal export`` writes at any time.
    """

    __slots__ = ("_rows",)

    def __init__(self, path: str, columns: Sequence[str] = COLUMNS, *, at_end: bool = True) -> None:
        del at_end  # it cannot be otherwise
        super().__init__(path, columns, at_end=True)
        self._rows: ParquetRows | None = None

    def start(self, *, keep: bool = False) -> None:
        """Begin anew, or with `keep` with the rows that the file holds."""
        try:
            self._rows = ParquetRows(self._file, {column: _TYPES.get(column, str) for column in self._columns})
        except OSError as error:
            self.problem = f"{self.path} cannot be written: {error.strerror or error}"
        if self._rows is None:
            return
        if keep and Path(self.path).stat().st_size:
            with Path(self.path).open("rb") as before:
                try:
                    self._rows.copy(before)
                except (ColumnsError, OSError) as error:
                    self.problem = (
                        f"{self.path} is no results file that can be continued ({error}); move it away, and get the "
                        "outcomes of before from the journal (journal export)"
                    )

    def add(self, outcome: Outcome[object], line: int | None) -> None:
        """Take one outcome."""
        if self._rows is None or self.problem is not None:
            return
        known = {**outcome.to_dict(), "line": line}
        try:
            self._rows.add([known[column] for column in self._columns])
        except OSError as error:
            self.problem = f"{self.path} cannot be written: {error.strerror or error}"

    def complete(self) -> None:
        """Write the end, and put it all in the place of what the file held."""
        rows, self._rows = self._rows, None
        if rows is None:
            return
        try:
            rows.close()
        except OSError as error:
            self.problem = self.problem or f"{self.path} cannot be written: {error.strerror or error}"
        super().complete()

    def __exit__(self, *_: object) -> None:
        """Complete and close it."""
        self.complete()
        super().__exit__()


def results_file(path: str, columns: Sequence[str] = COLUMNS, *, at_end: bool = False) -> ResultsFile:
    """Open the results file that a name asks for: Parquet, CSV, or else JSON lines."""
    kind = ParquetResults if InputFormat.of_name(path) is InputFormat.PARQUET else ResultsFile
    return kind(path, columns, at_end=at_end)
