"""SIGINT, SIGTERM and SIGHUP as a polite end: the first cancels the work, a second ends the process at once.

What must be written to its end is not ended by a second one.

A SIGHUP that was ignored when the process began, as under ``nohup``, stays so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SIGNALS", "Interruption", "interruptible"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)


class Interruption:
    """Whether a signal came; ``exit_code`` is 128 + its number, or None."""

    __slots__ = ("_once", "_task", "exit_code")

    def __init__(self, task: asyncio.Task[object], *, once: bool) -> None:
        self._task = task
        self._once = once
        self.exit_code: int | None = None

    def come(self, number: int) -> None:
        """Cancel the task at the first signal; end the process at the second, unless one is all that counts."""
        if self.exit_code is not None:
            if self._once:
                return
            os._exit(128 + number)  # the files have no buffers: what was written is whole
        self.exit_code = 128 + number
        self._task.cancel()

    def settle(self) -> None:
        """Say that the cancellation has done its work, so that the task may go on awaiting."""
        self._task.uncancel()


@contextlib.contextmanager
def interruptible(*, once: bool = False) -> Iterator[Interruption]:
    """Let a signal cancel the current task while the body runs; where that counts `once`, others change nothing.

    Where the event loop has no signal handlers (Windows), asyncio's own way of
    ending at Ctrl-C stays in place.
    """
    task = asyncio.current_task()
    if task is None:
        msg = "interruptible() needs a running task"
        raise RuntimeError(msg)
    loop = asyncio.get_running_loop()
    interruption = Interruption(task, once=once)
    installed = []
    try:
        for number in SIGNALS:
            if number not in {signal.SIGINT, signal.SIGTERM} and signal.getsignal(number) is signal.SIG_IGN:
                continue
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, interruption.come, number)
                installed.append(number)
        yield interruption
    finally:
        for number in installed:
            loop.remove_signal_handler(number)
