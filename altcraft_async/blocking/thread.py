"""An event loop in a thread of its own, and jobs that other threads have it do.

This is the standard library's `asyncio.run` in a daemon thread. A portal of anyio was tried and left: it ends
a job by cancelling each wait of its clean-up too, so requests under way get no time to end; a process that
does not close it, or is forked from one that has it, never ends; and each call changes threads four times, not twice.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import concurrent.futures
import enum
import os
import sys
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from altcraft_async.errors import ClientClosedError, EventLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Job", "LoopThread"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_PATIENCE: Final = 10.0
"""Seconds that a thread waits for what it has given up, at most: twice the grace of a run."""
_ENDS_BY_ITSELF: Final = 0.5
"""Seconds in which a job ends by itself once its client is closed; one that waits for rows does not."""
_TURN: Final = 0.005


class _Phase(enum.Enum):
    """Where a `LoopThread` is; it goes from one to the next, and never back."""

    NEW = enum.auto()
    RUNNING = enum.auto()
    CLOSED = enum.auto()


class Job(Generic[T_co]):
    """A coroutine at work in a loop, for a thread that waits for it."""

    __slots__ = ("_end", "_function", "_task", "_thread")

    def __init__(self, function: Callable[[], Coroutine[object, object, T_co]], thread: LoopThread) -> None:
        self._function = function
        self._thread = thread
        self._end: concurrent.futures.Future[T_co] = concurrent.futures.Future()
        self._task: asyncio.Task[T_co] | None = None

    @property
    def ended(self) -> bool:
        """Whether there is a result."""
        return self._end.done()

    def when_ended(self, wake: Callable[[], None]) -> None:
        """Call `wake` at the end, in the loop's thread."""
        self._end.add_done_callback(lambda _: wake())

    def result(self) -> T_co:
        """Wait for the end; return or raise what came of it."""
        try:
            return self._end.result()
        except concurrent.futures.CancelledError:
            msg = "the client was closed while this call was under way"
            raise ClientClosedError(msg) from None

    def leave(self) -> None:
        """Cancel the job where it has not ended, because its thread was interrupted, and wait for its grace."""
        if not self.ended:
            self._thread.soon(self.cancel)
            if not self._thread.is_here():
                concurrent.futures.wait((self._end,), timeout=_PATIENCE)

    # -- in the loop

    def begin(self) -> None:
        """Start the coroutine, unless the job was cancelled already."""
        if not self.ended:
            self._task = asyncio.get_running_loop().create_task(self._function())
            self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        """Cancel the coroutine once, so that its clean-up may take its time."""
        if self._task is None:
            self._end_cancelled()
        else:
            self._task.cancel()

    def _settle(self, task: asyncio.Task[T_co]) -> None:
        if task.cancelled():
            self._end_cancelled()
            return
        error = task.exception()
        if error is None:
            self._end.set_result(task.result())
        else:
            self._end.set_exception(error)

    def _end_cancelled(self) -> None:
        self._end.cancel()
        self._end.set_running_or_notify_cancel()  # only now is it an end for those that wait


class _Loop:
    """What runs in the thread; it does not know its `LoopThread`, so that one can be missed when nobody has it."""

    __slots__ = ("_aclose", "_stop", "ended", "ident", "jobs", "loop")

    def __init__(self, aclose: Callable[[], Coroutine[object, object, None]]) -> None:
        self._aclose = aclose
        self._stop = asyncio.Event()
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.jobs: set[Job[object]] = set()
        self.ident = 0
        started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        # A daemon: a process does not wait for a client that was not closed.
        threading.Thread(target=self._live, args=(started,), name="altcraft-blocking", daemon=True).start()
        self.loop = started.result()

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, where that still runs."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: nothing is there that could wait for it
            return

    def stop(self) -> None:
        """Close the client and end the thread."""
        self.soon(self._stop.set)

    def _live(self, started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
        self.ident = threading.get_ident()
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            if started.done():
                self.ended.set_exception(error)
            else:
                started.set_exception(error)
        else:
            self.ended.set_result(None)

    async def _serve(self, started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
        started.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        try:
            await self._aclose()
        finally:
            await self._leave_none()

    async def _leave_none(self) -> None:
        """Wait until each job has its end, because a thread waits for that."""
        loop = asyncio.get_running_loop()
        cancel_at = loop.time() + _ENDS_BY_ITSELF
        cancelled: set[Job[object]] = set()
        while left := {job for job in self.jobs.copy() if not job.ended}:
            await asyncio.sleep(_TURN)
            if loop.time() >= cancel_at:
                for job in left - cancelled:
                    job.cancel()
                cancelled |= left


class LoopThread:
    """The thread of one client and its copies, begun by the first job; `aclose` closes the client, in the loop."""

    __slots__ = ("__weakref__", "_aclose", "_lock", "_loop", "_phase", "_pid")

    def __init__(self, aclose: Callable[[], Coroutine[object, object, None]]) -> None:
        self._aclose = aclose
        self._lock = threading.Lock()
        self._phase = _Phase.NEW
        self._pid = os.getpid()
        self._loop: _Loop | None = None
        _threads.add(self)

    def __repr__(self) -> str:
        """Show the phase."""
        return f"<LoopThread {self._phase.name.lower()}>"

    def __del__(self) -> None:
        """Warn of a client that was used and never closed, and have it closed."""
        self.abandon()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._phase is _Phase.CLOSED

    def is_here(self) -> bool:
        """Whether this is the loop's own thread."""
        return self._loop is not None and self._loop.ident == threading.get_ident()

    def check(self) -> None:
        """Raise what forbids a job: the client is closed or another process's, or a loop runs in this thread."""
        if self._phase is _Phase.CLOSED:
            raise ClientClosedError
        if self._phase is _Phase.RUNNING and self._pid != os.getpid():
            msg = (
                "this process was forked from one that used the client, and has no thread for it; "
                "make a client in each process"
            )
            raise EventLoopError(msg)
        if asyncio._get_running_loop() is not None and not _in_notebook():  # noqa: SLF001 - listed by asyncio.events
            msg = (
                "an event loop runs in this thread, and a blocking call would hold it up; "
                "use altcraft_async.AltcraftClient and await its methods"
            )
            raise EventLoopError(msg)

    def run(self, function: Callable[[], Coroutine[object, object, T]]) -> T:
        """Have a job done and wait for it; what interrupts this thread, like Ctrl-C, cancels it."""
        job = self.start(function)
        try:
            return job.result()
        finally:
            job.leave()
            self.forget(job)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the loop and wait for what it returns."""

        async def once() -> T:
            return function()

        return self.run(once)

    def start(self, function: Callable[[], Coroutine[object, object, T]]) -> Job[T]:
        """Begin a job; whoever begins one takes its result or leaves it, and then has it forgotten."""
        self.check()
        job = Job(function, self)
        with self._lock:
            loop = self._begun()
            self.check()
            loop.jobs.add(job)
            try:
                loop.loop.call_soon_threadsafe(job.begin)
            except BaseException:
                loop.jobs.discard(job)
                raise
        return job

    def forget(self, job: Job[T]) -> None:
        """Let go of a job: the end of the thread does not wait for it."""
        if self._loop is not None:
            self._loop.jobs.discard(job)

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, where that runs."""
        if self._loop is not None and self._pid == os.getpid():
            self._loop.soon(function)

    def close(self) -> None:
        """Close the client and end the thread; harmless when called again, and in a process that was forked."""
        with self._lock:
            if self._phase is _Phase.CLOSED:
                return
            loop = self._begun()
            self._phase = _Phase.CLOSED
        if self._pid == os.getpid():
            loop.stop()
            if not self.is_here():
                loop.ended.result()

    def abandon(self, patience: float = 0.0) -> None:
        """End a thread whose client nobody closed, and warn of it; wait no longer than `patience` for its end."""
        if self._phase is not _Phase.RUNNING or self._loop is None or self._pid != os.getpid():
            return
        self._phase = _Phase.CLOSED
        self._loop.stop()
        if patience:
            concurrent.futures.wait((self._loop.ended,), timeout=patience)
        warnings.warn("unclosed blocking AltcraftClient; use 'with' or close()", ResourceWarning, stacklevel=3)

    def unlock(self) -> None:
        """Have a lock that is free: in a new process the old one may be held by a thread that is not here."""
        self._lock = threading.Lock()

    def _begun(self) -> _Loop:
        if self._loop is None:
            self._loop = _Loop(self._aclose)
            self._pid = os.getpid()
            self._phase = _Phase.RUNNING
        return self._loop


_threads: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _in_notebook() -> bool:
    """Whether this is IPython, which runs a loop around its cells; a cell holds that up, whatever it does."""
    return "__IPYTHON__" in vars(builtins)


def _at_exit() -> None:
    for thread in list(_threads):
        thread.abandon(_PATIENCE)


def _after_fork() -> None:
    for thread in list(_threads):
        thread.unlock()


atexit.register(_at_exit)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
