"""Lists of the Market, page by page: one page ahead, to the end, and never in a circle."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from altcraft_async.errors import ConfigurationError, UnreadableResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON

__all__ = ["IncompleteListWarning", "Listing", "Page"]

_V = TypeVar("_V")

_ASKED_AGAIN = 2
"""How often a page is asked for again whose cursor leads back; each time under an id of its own."""


class IncompleteListWarning(UserWarning):
    """A list is as long as its page may be, and the answer does not say how to go on: there may be more."""


@attrs.frozen
class Page(Generic[_V]):
    """One page of a list; `next_from_id` is the cursor of the page behind it, None where there is none."""

    items: Sequence[_V]
    next_from_id: str | None


class Listing(Generic[_V]):
    """A list on the platform: iterate over it with ``async for``, or over its `pages`.

    Each iteration asks anew, from the beginning. While a page is worked on, the next one is
    fetched already. Memory is that of two pages. It ends at the first page without rows, or
    without a cursor; where the very first has none and is full, an `IncompleteListWarning` says so.
    """

    __slots__ = ("_ask", "_fields", "_limit", "_method", "_read")

    def __init__(
        self,
        method: Method,
        ask: Callable[[Mapping[str, JSON]], Awaitable[Mapping[str, JSON]]],
        read: Callable[[Mapping[str, JSON]], _V],
        *,
        fields: Mapping[str, JSON],
        limit: int,
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            msg = f"limit must be a whole number above 0, not {limit!r}"
            raise ConfigurationError(msg, field="limit")
        self._method = method
        self._ask = ask
        self._read = read
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._limit = limit

    def __repr__(self) -> str:
        """Show what is listed."""
        return f"<Listing of {self._method.path}, {self._limit} a page>"

    async def __aiter__(self) -> AsyncGenerator[_V, None]:
        """Give the rows one by one."""
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for item in page.items:
                    yield item

    async def pages(self, from_id: str = "") -> AsyncGenerator[Page[_V], None]:
        """Give the pages, from the first one on, or from the one at a `Page.next_from_id` of before.

        Raises the `DeliveryError` of a page that cannot be had; what came before it was given. Where a
        cursor leads back to a page that was there, the page is asked for again, and if that
        does not help, `UnreadableResponseError` ends the list.
        """
        seen = {from_id}
        ahead = asyncio.ensure_future(self._page(from_id, seen))
        try:
            while True:
                page = await ahead
                if not page.items:
                    return
                if page.next_from_id is None:
                    yield page
                    return
                seen.add(page.next_from_id)
                ahead = asyncio.ensure_future(self._page(page.next_from_id, seen))
                yield page
        finally:
            await _drop(ahead)

    async def _page(self, from_id: str, seen: set[str]) -> Page[_V]:
        """Fetch one page whose cursor leads on."""
        for times in range(1 + _ASKED_AGAIN):
            payload = await self._ask({**self._fields, "from_id": from_id, "limit": self._limit})
            if self._method.payload not in payload and not times:
                continue  # in XML that is an empty array; it might as well be another call's answer
            page = self._of(payload)
            if page.next_from_id is None and len(page.items) >= self._limit and not from_id:
                message = (
                    f"{self._method.path} gave {len(page.items)} rows, as many as were asked for, and no next_from_id: "
                    "there may be more; ask with a larger limit"
                )
                warnings.warn(message, IncompleteListWarning, stacklevel=2)
            if page.next_from_id not in seen or not page.items:
                return page
        msg = f"{self._method.path} gave a next_from_id that it had given before, so the list would never end"
        raise UnreadableResponseError(msg, maybe_applied=False)

    def _of(self, payload: Mapping[str, JSON]) -> Page[_V]:
        rows = payload.get(self._method.payload or "")
        items = []
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict):
                msg = f"{self._method.path} gave a row that is no object"
                raise UnreadableResponseError(msg, maybe_applied=False)
            items.append(self._read(row))
        cursor = payload.get("next_from_id")
        return Page(tuple(items), None if cursor is None or cursor == "" else str(cursor))


async def _drop(task: asyncio.Future[Page[_V]]) -> None:
    """End a page that nobody waits for any more, and hear out how it ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
