"""What is wrong with a directory of shards."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from altcraft_async.errors import AltcraftError, JournalError
from altcraft_async.storage.places import shown, shown_in

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ShardBusyError", "ShardError", "here_in_words", "in_words"]


class ShardError(AltcraftError):
    """A directory of shards cannot be used.

    ``directory`` is its address, without what is secret in it, ``shard`` the number of a shard.
    """

    effect = "what other shards, or earlier copies of this one, have sent"
    remedy = "Correct what the message names, then deliver the shard again: what is done is not sent again."

    def __init__(self, message: str = "", *, directory: str = "", shard: int | None = None) -> None:
        super().__init__(shown_in(message, directory))
        self.directory = shown(directory)
        self.shard = shard


class ShardBusyError(ShardError):
    """Another copy of the shard is at work, on ``host`` as process ``pid``."""

    remedy = "Wait until it has ended; or deliver the shard beside it, which sends the same under the same ids."

    def __init__(
        self, message: str = "", *, directory: str = "", shard: int | None = None, host: str = "", pid: int = 0
    ) -> None:
        super().__init__(message, directory=directory, shard=shard)
        self.host = host
        self.pid = pid


@contextlib.contextmanager
def in_words(directory: str, shard: int | None = None) -> Iterator[None]:
    """Raise as `ShardError` what a file system says while a directory of shards, or a shard of it, is in use."""
    try:
        yield
    except AltcraftError:  # of which some are an `OSError` too
        raise
    except OSError as error:
        of = directory if shard is None else f"shard {shard} of {directory}"
        msg = f"{of} cannot be read or written ({error}); correct that, and do it again"
        raise ShardError(msg, directory=directory, shard=shard) from error


@contextlib.contextmanager
def here_in_words(folder: Path, directory: str, shard: int) -> Iterator[None]:
    """Raise as `ShardError` what fails in the `folder` that a shard has on this machine, and that is removed then."""
    try:
        yield
    except (JournalError, OSError) as error:
        path = error.path if isinstance(error, JournalError) else error.filename
        if path is None or not Path(path).is_relative_to(folder):
            raise
        there = folder.parent
        msg = (
            f"shard {shard} of {directory} has stopped: its rows and its journal could not be kept in {there}, which "
            f"has {shutil.disk_usage(there).free:,} bytes free; make room there, or set TMPDIR to another directory, "
            "and deliver the shard again: it goes on"
        )
        raise ShardError(msg, directory=directory, shard=shard) from error
