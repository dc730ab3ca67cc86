"""The inputs of commands, and how an input that is not the one of a journal is told."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from altcraft_async import ConfigurationError, InputChangedError, JournalError
from altcraft_async.ingest import UpdateReader, read_updates

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["named_in", "open_input"]


def open_input(source: str, input_format: str | None, columns: Mapping[str, str]) -> UpdateReader:
    """Open a file, or for ``-`` standard input; the reader keeps the rows."""
    if source != "-":
        return read_updates(source, input_format=input_format, columns=columns, keep_rows=True)
    try:
        # Not sys.stdin's own buffer: its lock, held by a blocked read, would stop the interpreter from ending.
        stream = io.BufferedReader(io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
    except (AttributeError, OSError, ValueError):
        msg = "standard input is closed; give a file, or pipe the updates in"
        raise ConfigurationError(msg) from None
    return read_updates(stream, input_format=input_format, columns=columns, name="stdin", keep_rows=True)


def named_in(error: JournalError, reader: UpdateReader) -> JournalError:
    """Return the error with the place in the input where that differs from the journal, and the option that helps."""
    if not isinstance(error, InputChangedError):
        return error
    row = None if error.index is None else reader.take_row(error.index)
    place = "" if row is None else f"{reader.source}, line {row.line}: "
    message = error.message.replace("(extend)", "(--extend)")
    return InputChangedError(f"{place}{message}", path=error.path, index=error.index)
