"""Many pieces of one kind of work, done together: what comes while one group is done shares the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from altcraft_async.storage.postgres import Failure, Fate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Grouped"]

_T = TypeVar("_T")

_AT_ONCE = 1000
"""The most that one group has."""

_LINGER = 0.008
"""Seconds between the beginnings of two groups at least, where the first had several pieces: more come meanwhile."""


class Grouped(Generic[_T]):
    """Does pieces of work in groups, in the order in which they came, one group after the other.

    `work` does one group, all of it or nothing, and raises `Failure`. A group that is refused is done again one by
    one, so that a piece which cannot be done fails alone.
    """

    __slots__ = ("_task", "_waiting", "_work")

    def __init__(self, work: Callable[[Sequence[_T]], Awaitable[None]]) -> None:
        self._work = work
        self._waiting: list[tuple[_T, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Show how much waits."""
        return f"<Grouped {len(self._waiting)} waiting>"

    async def do(self, piece: _T) -> None:
        """Do a piece with its group; raises the group's `Failure`. Cancelled, it may be done all the same."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((piece, done))
        if self._task is None:
            self._task = loop.create_task(self._run())
        await done

    async def aclose(self) -> None:
        """Wait until all that was begun is done."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                began = loop.time()
                group, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                await self._do(group)
                if len(group) > 1:
                    await asyncio.sleep(max(0.0, began + _LINGER - loop.time()))
        finally:
            self._task = None
            for _, done in self._waiting:  # only where this task was cancelled with its loop
                done.cancel()

    async def _do(self, group: list[tuple[_T, asyncio.Future[None]]]) -> None:
        failure: BaseException | None = None
        try:
            await self._work([piece for piece, _ in group])
        except Failure as error:
            if error.fate in {Fate.REFUSED, Fate.INVALID} and len(group) > 1:
                for one in group:
                    await self._do([one])
                return
            failure = error
        except BaseException as error:  # nobody may wait for ever for work that is given up
            failure = Failure(f"it failed unexpectedly ({type(error).__name__})", Fate.LOST)
            if not isinstance(error, Exception):
                raise
        finally:
            for _, done in group:
                if done.done():
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)
