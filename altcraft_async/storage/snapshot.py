"""A copy of a SQLite file as it is in one moment, while another thread or process writes it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from altcraft_async.storage.sqlite import connect, translated

if TYPE_CHECKING:
    from altcraft_async.storage.sqlite import FileKind

__all__ = ["copy_database"]


def copy_database(kind: FileKind, path: str, target: str) -> None:
    """Copy the file at `path`, with all that is committed, to one at `target`, in the place of what is there.

    The copy is one file, without a log beside it. Raises the kind's error.
    """
    Path(target).unlink(missing_ok=True)
    with (
        translated(kind, path, write=False),
        contextlib.closing(connect(f"{Path(path).absolute().as_uri()}?mode=rw", uri=True)) as source,
        contextlib.closing(connect(target)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
