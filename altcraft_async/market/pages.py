"""Lists of the Market, page by page: one page ahead, to the end, and never in a circle."""

from __future__ import annotations

import asyncio
import enum
import warnings
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from altcraft_async.errors import UnreadableResponseError
from altcraft_async.kinds import WHOLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON

__all__ = ["Behind", "IncompleteListWarning", "Listing", "Page"]

_V = TypeVar("_V")

_ASKED_AGAIN: Final = 2
"""How often a page is asked for again that leads back, or was there; each time under an id of its own."""
_CURSOR: Final = "next_from_id"


class IncompleteListWarning(UserWarning):
    """A list fills its page, and the answer has no cursor: there may be more rows."""


class Behind(enum.Enum):
    """What comes after a page of a list, as far as its answer says."""

    PAGE = "another page"
    NOTHING = "nothing: the platform says that the list ends here"
    UNSAID = "unknown: the page is not full and has no cursor; a platform with shorter pages would answer the same"
    CUT = "probably more: the page is full and has no cursor"


@attrs.frozen
class Page(Generic[_V]):
    """One page of a list; `next_from_id` is the cursor of the next page, None if there is none.

    `behind` says why there is none.
    """

    items: Sequence[_V]
    next_from_id: str | None
    behind: Behind = Behind.NOTHING

    @property
    def cut(self) -> bool:
        """Whether the platform probably has more rows than it shows."""
        return self.behind is Behind.CUT

    @property
    def unsure(self) -> bool:
        """Whether the answer does not say that the list ends here, though it may."""
        return self.behind is Behind.UNSAID


class Listing(Generic[_V]):
    """A list on the platform: iterate over it with ``async for``, or over its `pages`.

    Each iteration asks anew, from the beginning. While you work on a page, the next one is fetched; two pages are in
    memory. The list ends at the first page without rows, or without a cursor. If the very first page has no cursor and
    is full, an `IncompleteListWarning` says so.
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
        WHOLE.check("limit", limit)
        self._method = method
        self._ask = ask
        self._read = read
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._limit = limit

    def __repr__(self) -> str:
        """Show what is listed."""
        return f"<Listing of {self._method.path}, {self._limit} a page>"

    async def __aiter__(self) -> AsyncGenerator[_V, None]:
        """Yield the rows one by one."""
        async with aclosing(self.walk("")) as pages:
            async for page in pages:
                if page.cut:
                    warnings.warn(self.warning(page), stacklevel=2)
                for item in page.items:
                    yield item

    async def pages(self, from_id: str = "") -> AsyncGenerator[Page[_V], None]:
        """Yield the pages, from the first one on, or from an earlier `Page.next_from_id` on.

        Raises the `DeliveryError` of a page that cannot be read, after the pages before it. If a cursor leads back to
        an earlier page, or a page repeats the rows of an earlier one, the client asks again; if that does not help,
        `UnreadableResponseError` ends the list.
        """
        async with aclosing(self.walk(from_id)) as pages:
            async for page in pages:
                if page.cut:
                    warnings.warn(self.warning(page), stacklevel=2)
                yield page

    async def walk(self, from_id: str = "") -> AsyncGenerator[Page[_V], None]:
        """Yield the pages as `pages` does, without a warning: `Page.cut` says whether the list is cut."""
        trail = _Trail({from_id}, set())
        ahead = asyncio.ensure_future(self._page(from_id, trail))
        empty = False
        try:
            while True:
                page = await ahead
                if not page.items:
                    if page.next_from_id is None or empty:
                        return
                    empty = True  # whether it goes on behind an empty page, the page behind it says
                    ahead = asyncio.ensure_future(self._page(page.next_from_id, trail))
                    continue
                empty = False
                if page.next_from_id is None:
                    yield page
                    return
                ahead = asyncio.ensure_future(self._page(page.next_from_id, trail))
                yield page
        finally:
            await _drop(ahead)

    def warning(self, page: Page[_V]) -> IncompleteListWarning:
        """Return what is to be said of a page that is `Page.cut`."""
        message = (
            f"{self._method.path} gave {len(page.items)} rows, as many as were asked for, and no next_from_id: "
            "there may be more; ask with a larger limit"
        )
        return IncompleteListWarning(message)

    async def _page(self, from_id: str, trail: _Trail) -> Page[_V]:
        """Fetch one page that leads on."""
        circle = ""
        for times in range(1 + _ASKED_AGAIN):
            payload = await self._ask({**self._fields, "from_id": from_id, "limit": self._limit})
            rows = _rows(payload)
            if rows is None and not times:
                continue  # in XML that is an empty array; it might as well be another call's answer
            page, mark = self._of(payload, rows, from_id), hash(repr(rows))
            circle = trail.circle(page.next_from_id, mark)
            if not page.items or not circle:
                trail.add(page.next_from_id, mark)
                return page
        msg = f"{self._method.path} gave {circle} that it had given before, so the list would never end"
        raise UnreadableResponseError(msg, maybe_applied=False)

    def _of(self, payload: Mapping[str, JSON], rows: Sequence[JSON] | None, from_id: str) -> Page[_V]:
        given = payload.get(_CURSOR)
        cursor = None if given is None or given == "" else str(given)
        if rows is None and (cursor not in {None, from_id} or payload.get("data")):
            what = "data that are no rows" if payload.get("data") else "a next_from_id and no rows"
            msg = f"{self._method.path} gave {what}, so whether the list ends here cannot be known"
            raise UnreadableResponseError(msg, maybe_applied=False)
        items = []
        for row in rows or ():
            if not isinstance(row, dict):
                msg = f"{self._method.path} gave a row that is no object"
                raise UnreadableResponseError(msg, maybe_applied=False)
            items.append(self._read(row))
        return Page(tuple(items), cursor, self._behind(payload, len(items), cursor, from_id))

    def _behind(self, payload: Mapping[str, JSON], many: int, cursor: str | None, from_id: str) -> Behind:
        if cursor is not None:
            return Behind.PAGE
        if _CURSOR in payload or from_id or not many:  # who gave a cursor before leaves out an empty one
            return Behind.NOTHING
        return Behind.CUT if many >= self._limit else Behind.UNSAID


@attrs.frozen
class _Trail:
    """The way through a list so far: the cursors, and a hash of each page's rows."""

    cursors: set[str]
    pages: set[int]

    def circle(self, cursor: str | None, mark: int) -> str:
        """Say what of a page was there before; empty where nothing was."""
        if cursor is not None and cursor in self.cursors:
            return "a next_from_id"
        return "the rows of a page" if mark in self.pages else ""

    def add(self, cursor: str | None, mark: int) -> None:
        """Note a page that leads on."""
        if cursor is not None:
            self.cursors.add(cursor)
        self.pages.add(mark)


def _rows(payload: Mapping[str, JSON]) -> Sequence[JSON] | None:
    """Return the rows of an answer, where it is that of a list; other calls answer with ``data`` too."""
    listed = payload.get("result")
    if isinstance(listed, list) and (found := _unwrapped(listed)):
        return found
    data = payload.get("data")
    if isinstance(data, list) and (found := _unwrapped(data)):
        if all(isinstance(row, dict) and "external_id" in row for row in found):
            return found
    elif "data" in payload:
        return ()
    return () if "result" in payload else None


def _unwrapped(rows: Sequence[JSON]) -> Sequence[JSON]:
    """Take away one element that stands around the rows, as some sections of the API have it in XML."""
    alone = rows[0] if len(rows) == 1 else None
    if alone in ({}, ""):
        return ()
    if isinstance(alone, dict) and len(alone) == 1 and "external_id" not in alone:
        (inner,) = alone.values()
        inside = [] if inner is None else inner if isinstance(inner, list) else [inner]
        if all(isinstance(row, dict) for row in inside):
            return inside
    return rows


async def _drop(task: asyncio.Future[Page[_V]]) -> None:
    """End a page that nobody waits for any more, and hear out how it ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
