"""Lists of the Market for a caller without an event loop."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

    from altcraft_async.blocking.thread import LoopThread
    from altcraft_async.market.pages import IncompleteListWarning, Page
    from altcraft_async.market.pages import Listing as AsyncListing

__all__ = ["Listing"]

_V = TypeVar("_V")


class Listing(Generic[_V]):
    """A list on the platform: iterate over it with ``for``, or over its `pages`; as `altcraft_async.market.Listing`."""

    __slots__ = ("_listing", "_thread")

    def __init__(self, listing: AsyncListing[_V], thread: LoopThread) -> None:
        self._listing = listing
        self._thread = thread

    def __repr__(self) -> str:
        """Show what is listed."""
        return repr(self._listing)

    def __iter__(self) -> Generator[_V, None, None]:
        """Yield the rows one by one."""
        for page in self.walk():
            if page.cut:
                warnings.warn(self.warning(page), stacklevel=2)
            yield from page.items

    def pages(self, from_id: str = "") -> Generator[Page[_V], None, None]:
        """Yield the pages, from the first one on, or from an earlier `Page.next_from_id` on."""
        for page in self.walk(from_id):
            if page.cut:
                warnings.warn(self.warning(page), stacklevel=2)
            yield page

    def warning(self, page: Page[_V]) -> IncompleteListWarning:
        """Return what is to be said of a page that is `Page.cut`."""
        return self._listing.warning(page)

    def walk(self, from_id: str = "") -> Generator[Page[_V], None, None]:
        """Yield the pages as `pages` does, without a warning: `Page.cut` says whether the list is cut."""
        pages = self._listing.walk(from_id)  # its loop closes it when nobody has it any more

        async def next_page() -> Page[_V] | None:
            return await anext(pages, None)

        while (page := self._thread.run(next_page)) is not None:
            yield page
