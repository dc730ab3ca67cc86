"""Shards on the processes of this machine, by the standard library alone."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter, deque
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final, Self

from altcraft_async.errors import AltcraftError
from altcraft_async.kinds import WHOLE
from altcraft_async.shards.deliver import deliver_free_shard
from altcraft_async.shards.errors import ShardBusyError, ShardError
from altcraft_async.shards.lease import Holder, Watched, silence_of
from altcraft_async.shards.report import report
from altcraft_async.shards.window import numbers_of
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from altcraft_async.flow.limit import Adaptive, Shared
    from altcraft_async.shards.lease import Sign
    from altcraft_async.shards.report import ShardReport, ShardsReport

__all__ = ["run_shards"]

_DEATHS: Final = 3
"""Deaths of a worker over one shard after which that shard is left."""
_TURN: Final = 1.0
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_log = logging.getLogger("altcraft_async")


def run_shards(  # noqa: PLR0913 - what can be said of a run, by keyword
    directory: str | os.PathLike[str],
    *,
    processes: int | None = None,
    shards: Sequence[int] | None = None,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
    progress: Callable[[Sequence[int]], None] | None = None,
) -> ShardsReport:
    """Deliver the shards of a directory with some processes of this machine, and return the report of all.

    `processes` is one for each core by default, `shards` the numbers of the shards to deliver, all by default.
    `concurrency` and `rate` are for each process; ``Shared(64)`` is a total for this machine. A process that dies is
    replaced and its shard goes on, up to three times. A shard that another process delivers, here or elsewhere, is left
    until no other is free, and waited for then. `progress` is called about once a second with the numbers of the
    shards under way. An error of one shard does not end the others; the first such error is raised when all have ended.

    The processes are spawned: call this under ``if __name__ == "__main__":`` in a script. An interruption ends them.
    """
    count = (os.cpu_count() or 1) if processes is None else processes
    WHOLE.check("processes", count)
    numbers = numbers_of(directory, shards, retry_failed=retry_failed)
    options = {"concurrency": concurrency, "rate": rate, "retry_failed": retry_failed}
    with _Pool(os.fspath(directory), options, min(count, len(numbers))) as pool:
        problems = pool.run(numbers, progress)
    if problems:
        raise problems[0]
    return report(directory)


class _Worker:
    """A process that delivers one shard after the other."""

    def __init__(self, directory: str, options: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, directory, options), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None

    def give(self, number: int, dead: Sign | None) -> None:
        self.number = number
        try:
            self.connection.send((number, dead))
        except OSError:  # it has died, which is seen when its answer is read
            return

    def take(self) -> ShardReport | AltcraftError | None:
        """Return what it answered; None if it has died."""
        try:
            answer: ShardReport | AltcraftError = self.connection.recv()
        except (EOFError, OSError):
            return None
        return answer

    def interrupt(self) -> None:
        """Ask it to write a last snapshot and to end; one that has not even started has none to write."""
        if self.process.pid is None or not self.process.is_alive():
            return
        if sys.platform == "win32" or os.getpgid(self.process.pid) == self.process.pid:
            self.process.terminate()
        else:
            self.process.kill()

    def end(self) -> None:
        self.connection.close()
        self.process.join(_TURN * 10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Held:
    """The shards that others deliver, watched for long enough to know when they end or die."""

    def __init__(self, directory: str) -> None:
        self._place = Place(directory)
        self._watched: dict[int, Watched] = {}
        self._numbers: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int) -> None:
        self._numbers.append(number)
        self._watched.setdefault(number, Watched())

    def take_free(self) -> dict[int, Sign | None]:
        """Return those that nobody delivers any more, no longer held, with the last sign of life of each."""
        found: dict[int, Sign | None] = {}
        for number in self._numbers:
            try:
                holder = Holder.read(self._place, number)
                watched = self._watched[number]
                silence = silence_of(self._place, number, holder) if watched.is_first else 0.0
            except OSError as error:
                _log.warning("who delivers shard %d of %s cannot be read (%s)", number, self._place.address, error)
                continue
            if not watched.lives(holder, time.monotonic(), silence):
                found[number] = None if holder is None else holder.sign
        self._numbers = [number for number in self._numbers if number not in found]
        return found


class _Pool:
    """The workers of one call."""

    def __init__(self, directory: str, options: dict[str, Any], count: int) -> None:
        self._directory = directory
        self._options = options
        self._count = count
        self._workers: list[_Worker] = []
        self._waiting: deque[int] = deque()
        self._held = _Held(directory)
        self._dead: dict[int, Sign | None] = {}
        self._deaths: Counter[int] = Counter()
        self._problems: list[AltcraftError] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for worker in self._workers:
            if kind is not None or worker.number is not None:
                worker.interrupt()
        for worker in self._workers:
            worker.end()

    def run(self, numbers: Sequence[int], progress: Callable[[Sequence[int]], None] | None) -> list[AltcraftError]:
        """Deliver shards; return what some raised."""
        self._waiting.extend(numbers)
        self._employ()
        while (busy := [worker for worker in self._workers if worker.number is not None]) or self._held:
            if progress is not None:
                progress([worker.number for worker in busy if worker.number is not None])
            by_connection = {worker.connection: worker for worker in busy}
            if not busy:
                time.sleep(_TURN)
            for ready in wait(list(by_connection), _TURN) if busy else ():
                self._take_answer(by_connection[ready])  # type: ignore[index]  # it gives what it was given
            self._employ()
        return self._problems

    def _take_answer(self, worker: _Worker) -> None:
        number, answer = worker.number, worker.take()
        worker.number = None
        if answer is None:
            self._workers.remove(worker)
            worker.end()
            if number is not None:
                self._after_death(number, worker.process.exitcode)
        elif isinstance(answer, ShardBusyError) and number is not None:
            self._held.add(number)
        elif isinstance(answer, AltcraftError):
            self._problems.append(answer)

    def _employ(self) -> None:
        """Give a shard to each worker that has none; what others deliver only where nothing else is left."""
        idle = [worker for worker in self._workers if worker.number is None]
        if self._held and not self._waiting and (idle or len(self._workers) < self._count):
            self._dead = self._held.take_free()
            self._waiting.extend(self._dead)
        while self._waiting and (idle or len(self._workers) < self._count):
            worker = idle.pop() if idle else self._begin()
            number = self._waiting.popleft()
            worker.give(number, self._dead.get(number))

    def _after_death(self, number: int, code: int | None) -> None:
        self._deaths[number] += 1
        _log.warning("the process that delivered shard %d of %s has died (exit code %s)", number, self._directory, code)
        if self._deaths[number] < _DEATHS:
            self._waiting.appendleft(number)
            return
        msg = (
            f"shard {number} of {self._directory} was left: {_DEATHS} processes have died over it, the last with {code}"
        )
        self._problems.append(ShardError(msg, directory=self._directory, shard=number))

    def _begin(self) -> _Worker:
        with _signals_held():
            worker = _Worker(self._directory, self._options)
            self._workers.append(worker)
        return worker


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait that would end this process; one that is begun meanwhile has them wait until it is ready."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # or it is begun with the first process, and lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_ended_before_it_begins() -> bool:
    """Let signals in, of which the first interrupts what is under way; true if one came while this process started."""
    if sys.platform == "win32":
        return False
    os.setpgrp()  # a terminal's Ctrl-C is for the one that gives out the work, who passes it on once
    if _ENDING & signal.sigpending():
        return True

    def interrupt(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # a service's manager and the one who gives out the work both say it
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    return False


def _work(connection: Connection, directory: str, options: dict[str, Any]) -> None:
    """Deliver the shards whose numbers come, in a process of its own, until nobody asks any more."""
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):  # nobody asks, or nobody listens any more
        if _is_ended_before_it_begins():
            return
        while True:
            number, dead = connection.recv()
            connection.send(_answer(directory, number, {**options, "dead": dead}))


def _answer(directory: str, number: int, options: dict[str, Any]) -> ShardReport | AltcraftError:
    try:
        return deliver_free_shard(directory, number, **options)
    except AltcraftError as error:
        return error
    except Exception as error:  # noqa: BLE001 - told to the one who asked
        msg = f"shard {number} failed ({type(error).__name__}: {error})"
        return ShardError(msg, directory=directory, shard=number)
