"""What is wrong with a directory of shards."""

from __future__ import annotations

from altcraft_async.errors import AltcraftError

__all__ = ["ShardBusyError", "ShardError"]


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
