"""What is wrong with a directory of shards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from altcraft_async.errors import AltcraftError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ShardBusyError", "ShardError", "in_words"]


class ShardError(AltcraftError):
    """A directory of shards cannot be used; ``directory`` is its address, ``shard`` the number of a shard."""

    effect = "what other shards, or earlier copies of this one, have sent"
    remedy = "Correct what the message names, then deliver the shard again: what is done is not sent again."

    def __init__(self, message: str = "", *, directory: str = "", shard: int | None = None) -> None:
        super().__init__(message)
        self.directory = directory
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
