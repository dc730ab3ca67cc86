"""The reports of the shards of a directory."""

from __future__ import annotations

import enum
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import attrs

from altcraft_async.protocol.states import OutcomeState
from altcraft_async.shards.errors import ShardError, in_words
from altcraft_async.shards.lease import PROGRESS, SILENT, Holder, silence_of
from altcraft_async.shards.plan import PRIVATE, foreign, name_of, place_of, read_plan
from altcraft_async.shards.records import checked, read_record

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Mapping, Sequence

    from altcraft_async.protocol.values import JSON
    from altcraft_async.shards.lease import Sign
    from altcraft_async.shards.plan import Plan
    from altcraft_async.storage.places import Place

__all__ = ["Known", "Reports", "ShardReport", "ShardState", "ShardsReport", "read_report", "report"]

_AT_ONCE: Final = 32
"""Files that are read at once: an object store takes some ten milliseconds for each, and there may be thousands."""
_REPORT: Final = {"number": int, "state": str, "run_id": str, "rows": int, **PROGRESS}


class ShardState(enum.StrEnum):
    """How far a shard has come."""

    WAITING = "waiting"
    """Nobody has begun it."""
    RUNNING = "running"
    """A copy is at work, or was a moment ago."""
    STOPPED = "stopped"
    """Its last copy ended, or has died, before its end; it goes on when it is delivered again."""
    DONE = "done"
    """Each of its rows has its outcome."""


def _counts(given: Mapping[Any, int]) -> dict[OutcomeState, int]:
    return {state: given.get(state, given.get(str(state), 0)) for state in OutcomeState}


@attrs.frozen
class ShardReport:
    """The report of one shard.

    `rows` is the number of all its rows, `counts` has the rows with an outcome, by state. `sent`, `retries` and
    `throttled` count the requests of all copies, as far as they could report them. `elapsed` is the seconds that the
    last copy took. `problem` says why a ``stopped`` shard has not come to its end, if that is known.
    """

    number: int
    state: ShardState
    run_id: str
    rows: int
    counts: Mapping[OutcomeState, int] = attrs.field(
        converter=_counts, repr=lambda counts: "{" + ", ".join(f"{s}: {n}" for s, n in counts.items() if n) + "}"
    )
    sent: int = 0
    retries: int = 0
    throttled: int = 0
    elapsed: float = 0.0
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether each row has its outcome."""
        return self.state is ShardState.DONE

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do for any row."""
        return self.complete and not self.failed

    @property
    def failed(self) -> int:
        """How many rows ended in a state that is not `OutcomeState.ok`."""
        return sum(count for state, count in self.counts.items() if not state.ok)

    def to_dict(self) -> dict[str, JSON]:
        """Return it ready for JSON."""
        said: dict[str, JSON] = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return said | {
            "state": str(self.state),
            "counts": {str(state): count for state, count in self.counts.items()},
            "elapsed": round(self.elapsed, 3),
        }


@attrs.frozen
class Known:
    """What one who hands out a shard knows of it.

    `dead` is a sign of life after which none came, `done` the report that the shard had when the work began: its failed
    rows are the ones to send again, and not those that somebody else has sent again since.
    """

    dead: Sign | None = None
    done: ShardReport | None = None


@attrs.frozen
class ShardsReport:
    """The report of all shards of a directory: `plan_id`, and a `ShardReport` for each shard, by its number."""

    directory: str
    plan_id: str
    shards: Sequence[ShardReport] = attrs.field(repr=lambda shards: f"<{len(shards)} shards>")

    @property
    def rows(self) -> int:
        """How many rows all shards have."""
        return sum(shard.rows for shard in self.shards)

    @property
    def counts(self) -> Mapping[OutcomeState, int]:
        """How many rows ended in each state."""
        return {state: sum(shard.counts[state] for shard in self.shards) for state in OutcomeState}

    @property
    def complete(self) -> bool:
        """Whether each row of each shard has its outcome."""
        return all(shard.complete for shard in self.shards)

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do for any row."""
        return all(shard.ok for shard in self.shards)

    def numbers(self, *states: ShardState) -> list[int]:
        """Return the numbers of the shards that are in one of these states."""
        return [shard.number for shard in self.shards if shard.state in states]

    @property
    def unfinished(self) -> list[int]:
        """The numbers of the shards that are not yet delivered to their end."""
        return [shard.number for shard in self.shards if not shard.complete]

    def to_dict(self) -> dict[str, JSON]:
        """Return it ready for JSON."""
        return {
            "directory": self.directory,
            "plan_id": self.plan_id,
            "ok": self.ok,
            "complete": self.complete,
            "rows": self.rows,
            "counts": {str(state): count for state, count in self.counts.items()},
            "shards": [shard.to_dict() for shard in self.shards],
        }


def read_report(place: Place, plan: Plan, number: int) -> ShardReport | None:
    """Return the report of a done shard; None if it is not done. Raises `ShardError` if it cannot be one."""
    name = name_of(number, "report.json")
    try:
        said = read_record(place, name, _REPORT)
        said["counts"] = checked(said["counts"], dict.fromkeys(map(str, OutcomeState), int))
        found = ShardReport(**said | {"state": ShardState(said["state"])})
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if found is not None and found.run_id != plan.run_id(number):
        raise foreign(place, number, "report.json")
    if found is None or (found.number, found.rows, found.complete) != (number, plan.shards[number].rows, True):
        msg = (
            f"the report of shard {number} cannot be read; delete {place.path(name)}, and deliver the shard again: "
            "what its journal has is not sent again"
        )
        raise ShardError(msg, directory=place.address, shard=number)
    return found


def _report_of(place: Place, plan: Plan, number: int, names: Container[str]) -> ShardReport:
    """Return the report of one shard, where the directory has files of these `names`."""
    rows, run_id = plan.shards[number].rows, plan.run_id(number)
    if _base(number, "report.json") in names:
        done = read_report(place, plan, number)
        if done is not None:
            return done
    holder = None
    if _base(number, "lease.json") in names:
        holder = Holder.read(place, number)
    if holder is None:
        return ShardReport(number, ShardState.WAITING, run_id, rows, {})
    if holder.run_id != run_id:
        raise foreign(place, number, "lease.json")
    dead = holder.ended or holder.is_gone() or silence_of(place, number, holder, here_too=True) > SILENT
    state = ShardState.STOPPED if dead else ShardState.RUNNING
    return ShardReport(number, state, run_id, rows, **holder.progress.told())


def report(directory: str | os.PathLike[str]) -> ShardsReport:
    """Return the report of the shards of a directory so far; also while they are delivered, from any machine.

    For a shard that is not done the counts are those of its last sign of life. A copy that died on another machine, or
    whose process number another process has now, is ``running`` for 30 seconds more; for good, where the directory
    cannot be written or its files have no time. Raises `ShardError` without a plan.
    """
    return Reports(directory).look()


class Reports:
    """The reports of the shards of a directory, for one who looks at them again and again: its methods block.

    The report of a done shard is read once, and again only when it was written anew. Raises `ShardError` without a
    plan.
    """

    __slots__ = ("_done", "_place", "_plan")

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._place = place_of(directory)
        self._plan = read_plan(self._place)
        self._done: dict[int, tuple[str, ShardReport]] = {}

    def __repr__(self) -> str:
        """Show the directory."""
        return f"<Reports of {self._place.address}: {len(self._done)} of {len(self._plan.shards)} done>"

    def look(self) -> ShardsReport:
        """Return the report of all shards as it is now; see `report`."""
        with in_words(self._place.address), ThreadPoolExecutor(_AT_ONCE) as threads:
            stamps = self._place.stamps(PRIVATE)
            shards = list(threads.map(lambda number: self._known(number, stamps), range(len(self._plan.shards))))
        return ShardsReport(self._place.address, self._plan.id, shards)

    def look_at(self, number: int) -> ShardReport:
        """Return the report of one shard as it is now, out of its own files alone."""
        with in_words(self._place.address, number):
            names = [_base(number, what) for what in ("report.json", "lease.json")]
            return _report_of(self._place, self._plan, number, names)

    def _known(self, number: int, stamps: Mapping[str, str]) -> ShardReport:
        stamp = stamps.get(_base(number, "report.json"))
        before, found = self._done.get(number, (None, None))
        if found is None or stamp is None or stamp != before:
            found = _report_of(self._place, self._plan, number, stamps)
            if found.complete and stamp is not None:
                self._done[number] = (stamp, found)
        return found


def _base(number: int, what: str) -> str:
    """Return the name of a shard's file within its directory."""
    return name_of(number, what).rpartition("/")[2]
