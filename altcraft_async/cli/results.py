"""Files of outcomes and of failed rows: each record reaches the file whole, as soon as it is known."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from altcraft_async import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async import Outcome

__all__ = ["COLUMNS", "IMPORT_COLUMNS", "RecordFile", "ResultsFile", "csv_record", "refuse_clashes"]

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
    where the file cannot be opened. What it held is left alone until `start`. When a
    write fails, ``problem`` says why and nothing more is written.
    """

    __slots__ = ("_file", "_regular", "path", "problem")

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem: str | None = None
        try:
            if path == "-":
                self._file = io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
            else:
                self._file = io.FileIO(path, "ab")
        except (OSError, ValueError, AttributeError) as error:
            msg = f"{path} cannot be written: {getattr(error, 'strerror', None) or error}"
            raise ConfigurationError(msg) from None
        self._regular = path != "-" and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def __enter__(self) -> Self:
        """Give the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()

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


class ResultsFile(RecordFile):
    """One record an outcome: JSON lines, or CSV where the file's name ends in ``.csv``."""

    __slots__ = ("_columns", "_csv")

    def __init__(self, path: str, columns: Sequence[str] = COLUMNS) -> None:
        super().__init__(path)
        self._columns = columns
        self._csv = path.lower().endswith(".csv")

    def start(self, *, keep: bool = False) -> None:
        """Empty the file, or with `keep` go on behind what it holds; a CSV gets its header."""
        super().start(keep=keep)
        if self._csv and not self.size:
            self.write(csv_record(self._columns))

    def add(self, outcome: Outcome[object], line: int | None) -> None:
        """Write one outcome; `line` is its row's line in the input."""
        update, batch = outcome.update, outcome.batch
        known: dict[str, object] = {
            "index": outcome.index,
            "line": line,
            "order_external_id": None if update is None else update.order_external_id,
            "order_line_external_id": None if update is None else update.order_line_external_id,
            "status_external_id": None if update is None else update.status_external_id,
            "external_id": outcome.external_id,
            "batch": None if batch is None else batch.first,
            "state": str(outcome.state),
            "attempts": outcome.attempts,
            "elapsed": round(outcome.elapsed, 6),
            "request_id": outcome.request_id,
            "error": None if outcome.error is None else str(outcome.error),
        }
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


def csv_record(values: Sequence[object]) -> bytes:
    """Write the values as one line of a CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode(errors="backslashreplace")
