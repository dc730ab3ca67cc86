"""A source whose rows are read elsewhere, as in the thread that they belong to, and handed over some at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["Feed"]

RowT = TypeVar("RowT")


class Feed(AsyncIterable[RowT]):
    """Rows with what was read of each; it stands for an iterable with an end, which a run reads to its end."""

    __slots__ = ()

    @abstractmethod
    async def take(self, most: int) -> Sequence[tuple[RowT, LineStatusUpdate | InvalidUpdateError | None]]:
        """Give the next rows, at most so many, as soon as there is one; none at the end.

        Beside a row stands what it says, or None where the run reads it itself. Raises what the source raised.
        """

    async def __aiter__(self) -> AsyncGenerator[RowT, None]:
        """Give the rows one by one."""
        while given := await self.take(1):
            for row, _ in given:
                yield row
