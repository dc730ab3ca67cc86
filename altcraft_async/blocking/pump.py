"""Rows from a caller's thread to a run in the loop, and outcomes back.

An iterable is read in the thread that has it: querysets and cursors work nowhere else. So that thread, while it
waits for outcomes, hands rows over, as many as the run has room for; rows and outcomes on their way are bounded.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from altcraft_async.engine.feed import Feed
from altcraft_async.engine.rows import check_source, read_row

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence

    from altcraft_async.blocking.thread import Job, LoopThread
    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.outcome import Outcome, Report
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["Pump", "rows_of", "updates_of"]

RowT = TypeVar("RowT")

_AHEAD: Final = 256
"""Rows, and outcomes, that are on their way between the threads at most: what a loop does in two turns of a thread."""
_SLICE: Final = 0.005
"""Seconds for which rows are read while outcomes wait for the caller."""


def updates_of(thread: LoopThread, updates: Iterable[RowT], window: int) -> Pump[RowT]:
    """Return what pumps updates; what they say is read in the caller's thread too, as an object's attribute may ask."""
    return Pump(thread, updates, read_row, window)


def rows_of(thread: LoopThread, rows: Iterable[RowT]) -> Pump[RowT]:
    """Return what pumps the rows of an import."""
    return Pump(thread, rows, _unread, _AHEAD)


def _unread(row: object) -> None:
    """Leave a row to the run."""
    del row


class Pump(Feed[RowT]):
    """The rows of one bulk call; use `gather` or `stream`, once.

    Raises `TypeError` for what gives no rows, and what forbids a call now.
    """

    __slots__ = (
        "_ahead",
        "_arrived",
        "_ended",
        "_failure",
        "_full",
        "_outcomes",
        "_read",
        "_room",
        "_rows",
        "_source",
        "_starved",
        "_thread",
        "_woken",
    )

    def __init__(
        self,
        thread: LoopThread,
        source: Iterable[RowT],
        read: Callable[[object], LineStatusUpdate | InvalidUpdateError | None],
        window: int,
    ) -> None:
        if isinstance(source, AsyncIterable) and not isinstance(source, Iterable):  # a queryset is both
            msg = "an asynchronous iterable is for altcraft_async.AltcraftClient; give this one a plain iterable"
            raise TypeError(msg)
        check_source(source)
        thread.check()
        self._thread = thread
        self._source: Iterable[RowT] | Iterator[RowT] = source
        self._read = read
        self._ahead = min(window, _AHEAD) if type(window) is int else _AHEAD
        self._rows: deque[tuple[RowT, LineStatusUpdate | InvalidUpdateError | None]] = deque()
        self._ended = self._starved = self._full = False
        self._failure: Exception | None = None
        self._outcomes: deque[Outcome[RowT]] = deque()
        self._woken = threading.Event()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    def __repr__(self) -> str:
        """Show what is on its way."""
        return f"<Pump with {len(self._rows)} rows{', the last' if self._ended else ''}>"

    # -- in the caller's thread

    def gather(self, call: Callable[[], Coroutine[object, object, Report[RowT]]]) -> Report[RowT]:
        """Hand rows over until `call` has its report, or raises."""
        job = self._thread.start(call)
        try:
            job.when_ended(self._woken.set)
            while not job.ended:
                self._woken.clear()
                if self._wanted:
                    self._fill(job)
                elif not job.ended:
                    self._woken.wait()
            return job.result()
        finally:
            job.leave()
            self._thread.forget(job)

    def stream(self, outcomes: AsyncGenerator[Outcome[RowT], None]) -> Generator[Outcome[RowT], None, None]:
        """Hand rows over and yield `outcomes` as they come; at an early end, stop the run and wait for its grace."""
        job = self._thread.start(lambda: self._carry(outcomes))
        try:
            job.when_ended(self._woken.set)
            while True:
                self._woken.clear()
                if self._wanted:
                    self._fill(job)
                if self._outcomes:
                    yield from self._taken()
                elif job.ended:
                    break
                elif not self._wanted:
                    self._woken.wait()
            job.result()
        finally:
            job.leave()
            self._thread.forget(job)

    @property
    def _wanted(self) -> bool:
        """Whether rows are to be read."""
        return not self._ended and len(self._rows) <= self._ahead // 2

    def _fill(self, job: Job[object]) -> None:
        """Read rows until as many are there as may be, or something is there for the caller."""
        until = time.monotonic() + _SLICE
        rows, read, ahead = self._rows, self._read, self._ahead
        try:
            source = self._source = iter(self._source)
            for row in source:
                rows.append((row, read(row)))
                if self._starved:
                    self._feed()
                if len(rows) >= ahead or job.ended or (self._outcomes and time.monotonic() > until):
                    return
        except Exception as error:  # noqa: BLE001 - the caller's own code; the run hands it on
            self._failure = error
        self._ended = True
        self._feed()

    def _feed(self) -> None:
        self._starved = False
        self._thread.soon(self._arrived.set)

    def _taken(self) -> Generator[Outcome[RowT], None, None]:
        """Yield the outcomes that are there, and make room for more."""
        outcomes = self._outcomes
        there = [outcomes.popleft() for _ in range(len(outcomes))]
        if self._full:
            self._full = False
            self._thread.soon(self._room.set)
        yield from there

    # -- in the loop

    async def take(self, most: int) -> Sequence[tuple[RowT, LineStatusUpdate | InvalidUpdateError | None]]:
        """Give the next rows; see `Feed`."""
        while True:
            ended = self._ended  # looked at before the rows: the last one comes before the end
            if self._rows:
                break
            if ended and self._failure is not None:
                raise self._failure
            if ended:
                return ()
            self._arrived.clear()
            self._starved = True
            self._woken.set()
            if not self._rows and not self._ended:  # they may have come before the flag was there
                await self._arrived.wait()
        given = [self._rows.popleft() for _ in range(min(most, len(self._rows)))]
        if self._wanted:
            self._woken.set()
        return given

    async def _carry(self, outcomes: AsyncGenerator[Outcome[RowT], None]) -> None:
        """Lay outcomes down for the caller, as many as there is room for."""
        there, woken = self._outcomes, self._woken
        async with aclosing(outcomes):
            async for outcome in outcomes:
                there.append(outcome)
                if not woken.is_set():
                    woken.set()
                if len(there) < _AHEAD:
                    continue
                self._room.clear()
                self._full = True
                if len(there) >= _AHEAD:  # some may have been taken before the flag was there
                    await self._room.wait()
