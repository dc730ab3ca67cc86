"""Shards on the processes of this machine, by the standard library alone."""

from __future__ import annotations

import _thread
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from logging.handlers import QueueHandler
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final, Self

from altcraft_async.kinds import WHOLE
from altcraft_async.shards.deliver import limits_of, make_client
from altcraft_async.shards.errors import ShardError
from altcraft_async.shards.plan import read_plan
from altcraft_async.shards.report import report
from altcraft_async.shards.window import Fate, Queue, hand_out, numbers_of, raise_first, try_shard
from altcraft_async.storage.places import Place, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from altcraft_async.flow.limit import Adaptive, Shared
    from altcraft_async.shards.report import Known, ShardsReport
    from altcraft_async.shards.window import Answer

__all__ = ["run_shards"]

_DEATHS: Final = 3
"""Deaths of a worker over one shard after which that shard is left."""
_PATIENCE: Final = 10.0
"""Seconds that a worker without a shard has to end by itself, and between two notes of one that has a shard."""
_STILL_ALIVE: Final = (
    "process %d, which delivers shard %s of %s, has not ended yet; to end it at once, kill it (SIGKILL): what its last "
    "snapshot misses then goes out again, under the same ids"
)
_ENDING: Final = frozenset(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)
_READY: Final = "ready"
"""What a worker says first."""
_log = logging.getLogger("altcraft_async")
_notes = logging.getLogger("altcraft_async.shards")
"""What a person must know."""


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
    shards under way; it must return at once, since no shard is handed out meanwhile. An error of one shard does not end
    the others; the first such error is raised when all have ended.

    The processes are spawned: call this under ``if __name__ == "__main__":`` in a program that is a file. An
    interruption ends them, and so does the end of this process, however that comes: they write their last snapshots,
    which are waited for however long they take. A second interruption leaves them to it. What they log comes to the
    loggers of this process, as far as the level of ``altcraft_async`` lets it.
    """
    if multiprocessing.current_process().daemon:
        msg = (
            "run_shards begins processes, and Python lets a daemonic process, like one of a pool, begin none; call it "
            "in another, or deliver_shard in this one"
        )
        raise ShardError(msg, directory=os.fspath(directory))
    count = (os.cpu_count() or 1) if processes is None else processes
    WHOLE.check("processes", count)
    numbers = numbers_of(directory, shards, retry_failed=retry_failed)
    limits = limits_of(concurrency, rate)
    if numbers:  # what each process would say is said once
        place = Place(directory)
        make_client(place, read_plan(place), **limits)
    with _Pool(os.fspath(directory), {**limits, "retry_failed": retry_failed}) as pool:
        problems = hand_out(Queue(directory, numbers), pool, count, progress)
    raise_first(problems)
    return report(directory)


class _Worker:
    """A process that delivers one shard after the other, and whose log is this process's.

    Each has a pipe of its own for its log: one that is killed while it writes blocks no other.
    """

    def __init__(self, directory: str, options: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        records, log = context.Pipe(duplex=False)
        arguments = (theirs, log, _log.getEffectiveLevel(), directory, options)
        self.process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        log.close()
        self._relay = threading.Thread(target=_relay, args=(records,), daemon=True)
        self._relay.start()
        self._directory = directory
        self.number: int | None = None
        self.is_ready = False

    def has_answered(self) -> bool:
        """Look whether what has come is an answer, or the end of the process."""
        if not self.is_ready:
            try:
                self.is_ready = self.connection.recv() == _READY
            except (EOFError, OSError):
                return True
            return self.connection.poll()
        return True

    def not_begun(self) -> ShardError:
        """Return the error of a process that has ended before it took a shard, as the next would too."""
        self.process.join(_PATIENCE)
        code = self.process.exitcode or 0
        if code > 0:
            msg = (
                f"the processes for {self._directory} cannot begin (exit code {code}; standard error has the cause): a "
                "program that calls run_shards must be a file that Python can import, with the call below if __name__ "
                '== "__main__":'
            )
        else:
            how = f"signal {-code}" if code else "a signal"
            msg = f"a process for {self._directory} was ended by {how} before it took a shard; run it again"
        return ShardError(msg, directory=self._directory)

    def give(self, number: int, known: Known) -> None:
        self.number = number
        try:
            self.connection.send((number, known))
        except OSError:  # it has died, which is seen when its answer is read
            return

    def take(self) -> Answer:
        try:
            answer: Answer = self.connection.recv()
        except (EOFError, OSError):
            return Fate.DIED
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
        """Wait for its end; one that has a shard writes a last snapshot, which nothing here may cut off."""
        self.connection.close()
        self.process.join(_PATIENCE)
        if self.process.is_alive() and self.number is None:
            self.process.kill()
        while self.process.is_alive():
            _notes.warning(_STILL_ALIVE, self.process.pid, self.number, shown(self._directory))
            self.process.join(_PATIENCE)
        self._relay.join(_PATIENCE)


def _relay(records: Connection) -> None:
    """Give what a worker logs to the loggers of this process, until it has ended."""
    with records, contextlib.suppress(EOFError, OSError):
        while True:
            record: logging.LogRecord = records.recv()
            logging.getLogger(record.name).handle(record)


class _Pool:
    """The workers of one call; a worker that delivers a shard is a task."""

    def __init__(self, directory: str, options: dict[str, Any]) -> None:
        self._directory = directory
        self._options = options
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._deaths: Counter[int] = Counter()
        self._has_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for worker in self._workers:
            if kind is not None or worker.number is not None:
                worker.interrupt()
        for worker in self._workers:
            worker.end()

    def begin(self, number: int, known: Known) -> _Worker:
        worker = self._idle.pop() if self._idle else self._employ()
        worker.give(number, known)
        return worker

    def wait(self, tasks: Sequence[_Worker], seconds: float) -> list[_Worker]:
        by_connection = {worker.connection: worker for worker in tasks}
        ready = [by_connection[one] for one in wait(list(by_connection), seconds)]  # type: ignore[index]  # as given
        answered = [worker for worker in ready if worker.has_answered()]
        self._has_begun = self._has_begun or any(worker.is_ready for worker in ready)
        return answered

    def answer(self, number: int, task: _Worker) -> Answer:
        answer = task.take()
        task.number = None
        if answer is not Fate.DIED:
            self._idle.append(task)
            return answer
        self._workers.remove(task)
        task.end()
        if not self._has_begun:  # and so nothing was sent
            raise task.not_begun()
        return self._after_death(number, task.process.exitcode)

    def _after_death(self, number: int, code: int | None) -> Answer:
        self._deaths[number] += 1
        _log.warning(
            "the process that delivered shard %d of %s has died (exit code %s)", number, shown(self._directory), code
        )
        if self._deaths[number] < _DEATHS:
            return Fate.DIED
        msg = (
            f"shard {number} of {self._directory} was left: {_DEATHS} processes have died over it, the last with {code}"
        )
        return ShardError(msg, directory=self._directory, shard=number)

    def _employ(self) -> _Worker:
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

    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it was ignored, as in the background of a script
    handled = [number for number in _ENDING - {signal.SIGINT} if signal.getsignal(number) is not signal.SIG_IGN]

    def interrupt(number: int, frame: object) -> None:
        del number, frame
        for one in handled:  # at the first: a service's manager and the one who gives out the work both say it
            signal.signal(one, signal.SIG_IGN)
        signal.raise_signal(signal.SIGINT)

    for number in handled:
        signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    return False


class _Sends(QueueHandler):
    """Sends records to the process that has begun this one; what it cannot send is dropped."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)  # type: ignore[arg-type]  # which `enqueue` alone uses
        self._connection = connection

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record."""
        self._connection.send(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name there
        """Drop a record: nobody listens any more."""


def _end_with_parent(main: int) -> None:
    """Interrupt what the thread `main` has under way when the process that hands out the shards has gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(main, signal.SIGTERM)


def _work(connection: Connection, log: Connection, level: int, directory: str, options: dict[str, Any]) -> None:
    """Deliver the shards whose numbers come, in a process of its own, until nobody asks any more."""
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):  # nobody asks, or nobody listens any more
        if _is_ended_before_it_begins():
            return
        _log.setLevel(level)
        _log.addHandler(_Sends(log))
        _log.propagate = False
        threading.Thread(target=_end_with_parent, args=(threading.get_ident(),), daemon=True).start()
        connection.send(_READY)
        while True:
            number, known = connection.recv()
            connection.send(try_shard(directory, number, known, options))
