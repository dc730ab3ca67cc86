"""A total that all copies at work on the shards of one directory share, each an equal part.

What each has is a small file in the directory, written once a second; see `altcraft_async.flow.parts` for why all parts
together never make more than the whole. A process keeps its part for a moment after a shard, for the next one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from altcraft_async.flow.parts import Part, Parts
from altcraft_async.shards.plan import MARK, PRIVATE
from altcraft_async.shards.records import DamagedError, read_record

if TYPE_CHECKING:
    from altcraft_async import AltcraftClient
    from altcraft_async.storage.places import Place

__all__ = ["Members"]

_TICK: Final = 1.0
_SILENT: Final = 10.0
"""Seconds without a sign of life after which a member's part is free."""
_FENCED: Final = 4.0
"""Seconds without a look at the others after which a member uses no part: it may count as gone soon."""
_DIVIDED: Final = _SILENT - _TICK
"""Seconds between two signs of life after which a member claims its part anew: it may have counted as gone."""
_OLD: Final = 90.0
"""Seconds without a sign of life after which the file of a member is removed."""
_PATIENCE: Final = 20.0
"""Seconds that a member without a part begins nothing, before it uses one permit: the others may never leave it one."""
_DIRECTORY: Final = f"{PRIVATE}/members"
_MEMBER: Final = {"beat": int, "at": float, "holds": float, "claims": float}
_log = logging.getLogger("altcraft_async")
_left: dict[str, tuple[float, Parts]] = {}
"""The parts that this process had of directories, and when each was written last."""
_registered: set[str] = set()


def _file_of(member: str) -> str:
    return f"{_DIRECTORY}/{member}.json"


def _forget(place: Place) -> None:
    """Free the part of a process that ends at once, and not when it counts as gone."""
    _, parts = _left.pop(place.to_open, (0.0, None))
    if parts is not None:
        with contextlib.suppress(Exception):
            place.remove(_file_of(parts.name))


class Members:
    """One process among those that deliver shards of a directory."""

    __slots__ = ("_beat", "_client", "_fence", "_lacks_since", "_parts", "_place", "_seen", "_used", "_written_at")

    def __init__(self, place: Place, client: AltcraftClient) -> None:
        self._place = place
        self._client = client
        self._written_at, self._parts = _left.pop(place.to_open, (time.monotonic(), Parts(uuid4().hex)))
        self._used = 0.0
        self._lacks_since: float | None = None
        self._seen: dict[str, tuple[int, float]] = {}
        self._beat = int(time.time() * 1000)
        self._fence: asyncio.TimerHandle | None = None

    async def join(self, at_most: float | None = None) -> None:
        """Wait for a part, so that nothing is begun beyond the total; `at_most` is in seconds."""
        begun = time.monotonic()
        patience = _PATIENCE if at_most is None else min(_PATIENCE, at_most)
        await self._tick()
        while self._parts.part == 0.0 and time.monotonic() - begun < patience:
            await asyncio.sleep(_TICK)
            await self._tick()

    async def stay(self) -> None:
        """Keep the part in step with those of the others, until this is cancelled."""
        while True:
            await asyncio.sleep(_TICK)
            await self._tick()

    def leave(self) -> None:
        """Keep the part for the next shard of this process, which has a moment to come."""
        if self._fence is not None:
            self._fence.cancel()
        if self._place.to_open not in _registered:
            _registered.add(self._place.to_open)
            atexit.register(_forget, self._place)
        _left[self._place.to_open] = (self._written_at, self._parts)

    async def _tick(self) -> None:
        parts = self._parts
        try:
            others = await asyncio.to_thread(self._others)
            parts.step(others, settled=self._use(self._used))
            begun = time.monotonic()
            await asyncio.to_thread(self._write)
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own, and the run goes on
            _log.warning("the members of %s cannot be read or written (%s)", self._place.address, error)
            self._use(self._used)
            return
        if time.monotonic() - self._written_at > _DIVIDED:
            parts.claim_again()
        self._written_at = begun
        self._use(parts.part)
        if self._fence is not None:
            self._fence.cancel()
        self._fence = asyncio.get_running_loop().call_later(_FENCED, self._shut_out)

    def _shut_out(self) -> None:
        """Use no part, since the others may take this for gone; one permit later on, though a look still lasts."""
        self._use(0.0)
        self._fence = asyncio.get_running_loop().call_later(_PATIENCE + _TICK, self._use, 0.0)

    def _use(self, part: float) -> bool:
        """Use this part, or nothing for a while where there is none; see `altcraft_async.AltcraftClient.take_part`."""
        self._used, now = part, time.monotonic()
        if part > 0.0:
            self._lacks_since = None
        elif self._lacks_since is None:
            self._lacks_since = now
        waits = self._lacks_since is not None and now - self._lacks_since < _PATIENCE
        return self._client.take_part(None if waits else part)

    def _write(self) -> None:
        self._beat += 1
        part = self._parts.published
        said = {"beat": self._beat, "at": time.time(), "holds": part.holds, "claims": part.claims}
        self._place.write(_file_of(self._parts.name), json.dumps(said).encode())

    def _others(self) -> dict[str, Part]:
        said: dict[str, dict[str, Any]] = {}
        for name in self._place.sizes(_DIRECTORY):
            member = name.removesuffix(".json")
            if member == self._parts.name:
                continue
            with contextlib.suppress(FileNotFoundError, DamagedError):
                said[member] = read_record(self._place, _file_of(member), _MEMBER)
        ages = self._place.ages((_file_of(member) for member in said.keys() - self._seen.keys()), MARK)
        now = time.monotonic()
        return {
            member: Part(one["holds"], one["claims"])
            for member, one in said.items()
            if self._lives(member, one["beat"], now, ages.get(_file_of(member), 0.0))
        }

    def _lives(self, member: str, beat: int, now: float, age: float) -> bool:
        """Say whether a member's file changes, by a clock of one's own; `age` is how old it was when it was seen first.

        The times in files are of other clocks, which may differ by any amount.
        """
        before = self._seen.get(member)
        if before is None or before[0] != beat:
            self._seen[member] = before = (beat, now - (age if before is None else 0.0))
        if now - before[1] > _OLD:
            self._place.remove(_file_of(member))
        return now - before[1] < _SILENT
