"""Cutting rows into batches: the same way every time, so that a run that goes on makes the batches it made before.

Rows are cut in their order. A batch is closed when it has its count, when one more
row would make it longer than a body may be, and before a row that is about what a row of it
is about already: of an order only one row stands in a batch, because what a platform makes
of two in one call is not known. Nothing but the rows decides, no clock and no answer.

What an answer decides is how a batch is *divided*: always into its halves, and those into
theirs. So the parts of a batch are known beforehand, and whatever of them has ended is
recognised: `open_parts` says which are left.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Cutter", "fitting", "halves", "open_parts"]


R = TypeVar("R")


class Cutter(Generic[R]):
    """Cuts rows into batches of at most `count` rows and `size` bytes.

    `overhead` is the bytes that every body has beside its rows, and `between` those that
    stand before each. A row that is too long for any batch is not for `add`: `fits` says so.
    """

    __slots__ = ("_between", "_bytes", "_count", "_keys", "_overhead", "_rows", "_size")

    def __init__(self, *, count: int, size: int, overhead: int, between: int) -> None:
        self._count = count
        self._size = size
        self._overhead = overhead
        self._between = between
        self._rows: list[R] = []
        self._keys: set[str] = set()
        self._bytes = overhead

    def __repr__(self) -> str:
        """Show how much waits for the rest of its batch."""
        return f"<Cutter {len(self._rows)} rows, {self._bytes} bytes>"

    def __len__(self) -> int:
        """Count the rows that wait for the rest of their batch."""
        return len(self._rows)

    def fits(self, size: int) -> bool:
        """Say whether a row of that size fits into a batch of its own."""
        return self._overhead + self._between + size <= self._size

    def holds(self, key: str) -> bool:
        """Say whether a row about that waits for the rest of its batch."""
        return key in self._keys

    def add(self, row: R, key: str, size: int) -> list[list[R]]:
        """Take one row; return the batches that it closes, in order: none, one, or two."""
        size += self._between
        closed: list[list[R]] = []
        if self._rows and (key in self._keys or self._bytes + size > self._size):
            closed.append(self.take())
        self._rows.append(row)
        self._keys.add(key)
        self._bytes += size
        if len(self._rows) == self._count:
            closed.append(self.take())
        return closed

    def take(self) -> list[R]:
        """Close the batch that is begun, and return its rows."""
        rows = self._rows
        self._rows, self._keys, self._bytes = [], set(), self._overhead
        return rows


def halves(rows: Sequence[R]) -> tuple[Sequence[R], Sequence[R]]:
    """Divide a batch of two rows or more; the first half is the longer one where they differ."""
    middle = (len(rows) + 1) // 2
    return rows[:middle], rows[middle:]


def fitting(rows: Sequence[R], size_of: Callable[[Sequence[R]], int], most: float) -> list[Sequence[R]]:
    """Divide a batch until each part has at most `most` bytes, or is one row; the parts in order."""
    if len(rows) == 1 or size_of(rows) <= most:
        return [rows]
    return [part for half in halves(rows) for part in fitting(half, size_of, most)]


def open_parts(rows: Sequence[R], is_open: Callable[[R], bool]) -> list[Sequence[R]]:
    """Return the largest parts of a batch of which every row is open, in order.

    A batch of which nothing has ended is one part, itself; where some has, it had been
    divided, and what is left of it are parts that may have been sent.
    """
    left = sum(map(is_open, rows))
    if not left:
        return []
    if left == len(rows):
        return [rows]
    return [part for half in halves(rows) for part in open_parts(half, is_open)]
