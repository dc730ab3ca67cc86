"""What all that hand out shards have in common: which ones, with which options, which is next, and when to ask again.

The processes of a pool and the tasks of an engine are `Tasks` to `hand_out`. A task never waits for a shard that
somebody else delivers: it ends at once as `Fate.BUSY`, and takes another. So any number of drivers, on any machines,
work on one directory, and each adds what its workers can do.
"""

from __future__ import annotations

import enum
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from altcraft_async.errors import AltcraftError, ConfigurationError
from altcraft_async.flow.limit import Shared
from altcraft_async.kinds import WHOLE
from altcraft_async.shards.deliver import deliver_free_shard, limits_of
from altcraft_async.shards.errors import ShardBusyError, ShardError
from altcraft_async.shards.lease import Holder, Watched, silence_of
from altcraft_async.shards.plan import place_of, read_plan
from altcraft_async.shards.report import Known, report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from altcraft_async.flow.limit import Adaptive
    from altcraft_async.shards.lease import Sign
    from altcraft_async.shards.report import ShardReport

__all__ = [
    "Answer",
    "Fate",
    "Queue",
    "Tasks",
    "failed",
    "hand_out",
    "numbers_of",
    "options_of",
    "raise_first",
    "try_shard",
]

TURN: Final = 1.0
"""Seconds after which those that others deliver are looked at again."""
_log = logging.getLogger("altcraft_async")


class Fate(enum.Enum):
    """What became of a shard that was handed out."""

    ENDED = enum.auto()
    """It is done, or its report says why it has stopped."""
    BUSY = enum.auto()
    """Somebody else delivers it."""
    DIED = enum.auto()
    """Its worker has died over it; it may be handed out again."""


Answer: TypeAlias = Fate | AltcraftError
"""What a task says in the end; what goes wrong is an answer too, so that nothing depends on how an engine raises it."""

_Task = TypeVar("_Task")


class Tasks(Protocol[_Task]):
    """What delivers shards: the processes of a pool, or the tasks of an engine."""

    def begin(self, number: int, known: Known) -> _Task:
        """Begin `try_shard` with this number and what is known of it, and return the task, which can be hashed."""
        ...

    def wait(self, tasks: Sequence[_Task], seconds: float) -> Iterable[_Task]:
        """Return some of these that have ended, at once when there is one; none after so many seconds."""
        ...

    def answer(self, number: int, task: _Task) -> Answer:
        """Return what the ended task of a shard says, or what the engine says in its place."""
        ...


class Queue:
    """The shards of one call that wait for a worker. Those that somebody else delivers are kept apart and watched.

    `numbers` has the report that each had when this began, if it was done. `now` is a clock, in seconds.
    """

    __slots__ = ("_free", "_held", "_look_at", "_now", "_numbers", "_place", "_watched")

    def __init__(
        self,
        directory: str | os.PathLike[str],
        numbers: Mapping[int, ShardReport | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place_of(directory)
        self._numbers = numbers
        self._free: deque[tuple[int, Sign | None]] = deque((number, None) for number in numbers)
        self._held: list[int] = []
        self._watched: dict[int, Watched] = {}
        self._now = now
        self._look_at = now()

    def __repr__(self) -> str:
        return f"<Queue of {self._place.address}: {len(self._free)} free, held by others {self._held}>"

    def __len__(self) -> int:
        return len(self._free) + len(self._held)

    def take(self) -> tuple[int, Known] | None:
        """Return the next shard, with what is known of it; None if none is free.

        What others deliver is looked at only where nothing else is left, and once in a `TURN`: that reads a file each.
        """
        if not self._free and self._held and self._now() >= self._look_at:
            self._look()
            self._look_at = self._now() + TURN
        if not self._free:
            return None
        number, dead = self._free.popleft()
        return number, Known(dead, self._numbers[number])

    def put_back(self, number: int, fate: Fate) -> None:
        """Take back a shard by what became of it: one whose worker has died is the next, a busy one is watched."""
        if fate is Fate.DIED:
            self._free.appendleft((number, None))
        elif fate is Fate.BUSY:
            self._held.append(number)
            self._watched.setdefault(number, Watched())

    def _look(self) -> None:
        """Free those that nobody delivers any more."""
        held, self._held = self._held, []
        for number in held:
            try:
                holder = Holder.read(self._place, number)
                watched = self._watched[number]
                silence = silence_of(self._place, number, holder) if watched.is_first else 0.0
            except OSError as error:
                _log.warning("who delivers shard %d of %s cannot be read (%s)", number, self._place.address, error)
                self._held.append(number)
                continue
            if watched.lives(holder, self._now(), silence):
                self._held.append(number)
            else:
                self._free.append((number, None if holder is None else holder.sign))


def hand_out(
    queue: Queue,
    tasks: Tasks[_Task],
    window: int,
    progress: Callable[[Sequence[int]], None] | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[AltcraftError]:
    """Have all shards of a queue delivered, at most `window` at once, and return the errors of some.

    It ends when all have ended, also those that others deliver. `progress` is called about once in a `TURN` with the
    numbers of the shards under way.
    """
    under_way: dict[_Task, int] = {}
    problems: list[AltcraftError] = []
    while True:
        while len(under_way) < window and (taken := queue.take()) is not None:
            number, known = taken
            under_way[tasks.begin(number, known)] = number
        if not under_way and not queue:
            return problems
        if progress is not None:
            progress(list(under_way.values()))
        if not under_way:
            sleep(TURN)
            continue
        for task in tasks.wait(list(under_way), TURN):
            number = under_way.pop(task)
            answer = tasks.answer(number, task)
            if isinstance(answer, Fate):
                queue.put_back(number, answer)
            else:
                problems.append(answer)


def raise_first(problems: Sequence[AltcraftError]) -> None:
    """Raise the first of some errors, if there are any; its notes say the others, what several say once."""
    if not problems:
        return
    first = problems[0]
    for other in list(dict.fromkeys(map(str, problems)))[1:]:
        first.add_note(other)
    raise first


def try_shard(directory: str, number: int, known: Known, options: Mapping[str, Any]) -> Answer:
    """Deliver a shard unless somebody else does; in a worker. `known` and `options` are of `deliver_free_shard`."""
    try:
        deliver_free_shard(directory, number, known, **options)
    except ShardBusyError:
        return Fate.BUSY
    except AltcraftError as error:
        return error
    except Exception as error:  # noqa: BLE001 - raised where the shards are handed out, when all have ended
        return failed(directory, number, error)
    return Fate.ENDED


def failed(directory: str, number: int, error: Exception) -> ShardError:
    """Return the error of a shard that failed as nobody expects, or of which an engine says so."""
    msg = f"shard {number} of {directory} failed ({type(error).__name__}: {error}); run it again, and it goes on"
    return ShardError(msg, directory=directory, shard=number)


def numbers_of(
    directory: str | os.PathLike[str], shards: Sequence[int] | None, *, retry_failed: bool
) -> dict[int, ShardReport | None]:
    """Return the numbers of the shards to deliver: of `shards`, or of all, those that are not done.

    With `retry_failed` also those that are done with failed rows, and their reports.

    Raises `ShardError` for a number that no shard has.
    """
    plan, found = read_plan(directory), report(directory)
    asked = None if shards is None else {plan.check_number(number, found.directory) for number in shards}
    return {
        shard.number: shard if shard.complete else None
        for shard in found.shards
        if (not shard.complete or (retry_failed and shard.failed)) and (asked is None or shard.number in asked)
    }


def options_of(
    window: int,
    concurrency: int | Adaptive | Shared | None,
    rate: float | Shared | None,
    *,
    retry_failed: bool,
) -> dict[str, Any]:
    """Return the keywords of `deliver_free_shard` for each of at most `window` shards at once.

    A total that is `Shared` among ``"shards"`` is divided by the window, which nobody needs to agree about then.
    """
    WHOLE.check("window", window)
    limits_of(concurrency, rate)
    if isinstance(concurrency, Shared) and concurrency.among == "shards":
        if concurrency.total < window:
            msg = (
                f"concurrency is {concurrency.total:g} for all, and {window} shards at once need one each; lower window"
            )
            raise ConfigurationError(msg, field="concurrency")
        concurrency = int(concurrency.total // window)
    if isinstance(rate, Shared) and rate.among == "shards":
        rate = rate.total / window
    return {"concurrency": concurrency, "rate": rate, "retry_failed": retry_failed}
