"""Who delivers a shard: a small file that a living copy writes anew every two seconds, with how far it has come.

Whether a copy lives shows by one's own clock: its file changes between two looks. What time the file says is never
compared with a clock of this machine, as the clocks of two machines may differ by any amount. So that a copy which died
long ago need not be watched, the first look takes the file's age by the clock of the file system, where that tells it.

A lease is advice. Where the file system is slow or two copies begin in one moment, both may go on: they send the
same under the same ids. What it is for is that this stays rare, and that a dead copy is told from a living one.
"""

from __future__ import annotations

import json
import os
import socket
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from uuid import uuid4

import attrs

from altcraft_async.shards.plan import MARK, name_of
from altcraft_async.shards.records import DamagedError, checked, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import UnionType

    from altcraft_async.storage.places import Place

__all__ = ["BEAT", "PROGRESS", "SILENT", "Holder", "Progress", "Sign", "Watched", "silence_of"]

Sign: TypeAlias = tuple[str, float]
"""A sign of life: the copy that gave it, and when."""

BEAT: Final = 2.0
"""Seconds between two signs of life."""
SILENT: Final = 30.0
"""Seconds without a sign of life, by one's own clock, after which a copy counts as dead."""

PROGRESS: Final[Mapping[str, type | UnionType]] = {
    "counts": dict[str, int], "sent": int, "retries": int, "throttled": int, "elapsed": float, "problem": str | None,
}  # fmt: skip
"""What files say of how far a copy has come."""
_HOLDER: Final[Mapping[str, type]] = {
    "copy": str, "run_id": str, "host": str, "space": str, "pid": int, "at": float, "progress": dict, "ended": bool,
}  # fmt: skip


@attrs.frozen
class Progress:
    """How far a copy has come; see `altcraft_async.shards.ShardReport`."""

    counts: Mapping[str, int] = attrs.field(factory=dict)
    sent: int = 0
    retries: int = 0
    throttled: int = 0
    elapsed: float = 0.0
    problem: str | None = None

    def told(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return attrs.asdict(self)


@cache
def _space() -> str:
    """Return what process numbers are told apart by beside the host's name: its boot, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


@attrs.frozen
class Holder:
    """A copy that delivers a shard: where, when it said so last, how far it has come, whether it has `ended`."""

    copy: str
    run_id: str
    host: str
    space: str
    pid: int
    at: float
    progress: Progress = attrs.field(factory=Progress)
    ended: bool = False

    @classmethod
    def own(cls, run_id: str) -> Self:
        """Return this process as one that begins now."""
        return cls(str(uuid4()), run_id, socket.gethostname(), _space(), os.getpid(), time.time())

    @classmethod
    def read(cls, place: Place, number: int) -> Self | None:
        """Return who holds a shard, or held it last; None if nobody did.

        A damaged lease is none: a copy that lives writes it anew within two seconds.
        """
        try:
            said = read_record(place, name_of(number, "lease.json"), _HOLDER)
            return cls(**said | {"progress": Progress(**checked(said["progress"], PROGRESS))})
        except (FileNotFoundError, DamagedError):
            return None

    def write(self, place: Place, number: int, progress: Progress, *, ended: bool = False) -> None:
        """Write it, with a sign of life."""
        told = attrs.evolve(self, at=time.time(), progress=progress, ended=ended)
        place.write(name_of(number, "lease.json"), json.dumps(attrs.asdict(told)).encode())

    @property
    def sign(self) -> Sign:
        """Its last sign of life."""
        return (self.copy, self.at)

    @property
    def is_here(self) -> bool:
        """Whether its process number means something to this process."""
        return (self.host, self.space) == (socket.gethostname(), _space())

    def is_gone(self) -> bool:
        """Whether it is known to be dead: its process was of this machine, and is no more."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):  # no process has such a number
            return True
        except OSError:
            return False
        return False


def silence_of(place: Place, number: int, holder: Holder | None, *, here_too: bool = False) -> float:
    """Return for how many seconds a holder at work elsewhere has been silent, by the file system's clock; else zero.

    Of one of this machine only if it is asked for: after a sleep of the machine all of its copies have been silent.
    """
    if holder is None or holder.ended or (holder.is_here and not here_too):
        return 0.0
    name = name_of(number, "lease.json")
    return place.ages([name], MARK).get(name, 0.0)


class Watched:
    """Looks at the holder of a shard again and again, and says whether it lives.

    `dead` is a sign of life after which none came, as another process knows.
    """

    __slots__ = ("_at", "_dead", "_seen")

    def __init__(self, dead: Sign | None = None) -> None:
        self._dead = dead
        self._seen: Sign | None = None
        self._at = 0.0

    @property
    def is_first(self) -> bool:
        """Whether nobody has been seen yet."""
        return self._seen is None

    def lives(self, holder: Holder | None, now: float, silence: float = 0.0) -> bool:
        """Say whether a holder that is seen at `now`, by a clock of one's own, is at work.

        `silence` is for how many seconds it had been silent when it was seen first.
        """
        if holder is None or holder.ended or holder.is_gone() or holder.sign == self._dead:
            return False
        if holder.sign != self._seen:
            self._at = now - (silence if self._seen is None else 0.0)
            self._seen = holder.sign
        return now - self._at < SILENT
