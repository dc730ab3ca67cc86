"""The token of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.protocol.wire import Wire

__all__ = ["Credentials"]


class Credentials:
    """The wire with the token in force."""

    __slots__ = ("wire",)

    def __init__(self, wire: Wire) -> None:
        self.wire: Wire | None = wire

    async def ready(self) -> Wire:
        """Return the wire."""
        assert self.wire is not None
        return self.wire

    async def renew(self, refused: Wire) -> Wire | None:
        """Return another wire after one was refused."""
        return None
