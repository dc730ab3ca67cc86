"""A thread that reads ahead, so that a pipe or a terminal never blocks the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async.ingest.table import AnyRow

__all__ = ["Pump"]


class Pump:
    """A thread that reads rows, and the event loop's end of its bounded queue."""

    __slots__ = ("_ahead", "_ended", "_failure", "_loop", "_queue", "_room", "_rows", "_stopped", "_waiter")

    def __init__(self, rows: Iterator[AnyRow], ahead: int) -> None:
        self._rows = rows
        self._ahead = ahead
        self._loop = asyncio.get_running_loop()
        self._queue: deque[AnyRow] = deque()
        self._room = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._stopped = False
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to read."""
        # A daemon: a read from a terminal may block for ever, and an executor's thread would be waited for.
        threading.Thread(target=self._read, name="altcraft-ingest", daemon=True).start()

    def stop(self) -> None:
        """Read no further row."""
        with self._room:
            self._stopped = True
            self._room.notify_all()

    async def next_row(self) -> AnyRow | None:
        """Return the next row, None at the end; raise what the reading raised."""
        while True:
            with self._room:
                if self._queue:
                    row = self._queue.popleft()
                    if len(self._queue) == self._ahead // 2:
                        self._room.notify_all()
                    return row
                if self._ended:
                    if self._failure is not None:
                        raise self._failure
                    return None
                self._room.notify_all()
                waiter = self._waiter = self._loop.create_future()
            await waiter

    def _read(self) -> None:
        try:
            for row in self._rows:
                with self._room:
                    while len(self._queue) >= self._ahead and not self._stopped:
                        self._room.wait()
                    if self._stopped:
                        return
                    self._queue.append(row)
                    self._wake()
        except BaseException as error:  # noqa: BLE001 - handed to the reading task
            self._failure = error
        finally:
            with self._room:
                self._ended = True
                self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(_resolve, waiter)
            except RuntimeError:  # the loop was closed in between: nobody waits
                return


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
