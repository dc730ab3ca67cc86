"""The group of a client: the processes of one user on this host that call one address with one token.

While a client has calls under way it ticks, ten times a second: it tells what it saw, and leads, follows or is alone;
see `altcraft_async.flow.share` and, for the file between them, `altcraft_async.storage.slots`. A client without
calls does nothing and is not reckoned with.

A member is gone when its process has died, which the next tick notices, or when it has not told anything for
`SILENT`: it is stopped, or its loop is blocked. A leader that is gone is replaced by the first who sees it; the
new one's law begins at the limit and pace that the old one had given out. What the last member of all ended with is
remembered: who comes within `MEMORY` begins at half of it.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.share import TICK, Role, Share
from altcraft_async.storage.slots import SlotFile, Word, runtime_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.flow.limit import Adaptive
    from altcraft_async.flow.share import GroupLimit, Report

__all__ = ["SILENT", "TICK", "Group", "group_name"]

SILENT: Final = 1.5
"""Seconds without a word after which a member is not reckoned with."""
MEMORY: Final = 3600.0
"""Seconds for which the limit that the last member of a group ended with is remembered: a run begins at half of it."""
_LATE: Final = 0.3
"""Seconds without a word after which it is looked whether its process lives."""
VARIABLE: Final = "ALTCRAFT_LIMIT_GROUP"


def group_name(base_url: str, token: str) -> str:
    """Give the name of a group: the same for one address and token, and telling nothing of either."""
    key = hashlib.blake2b(token.encode(), person=b"altcraft-limit").digest()
    return hashlib.blake2b(base_url.encode(), key=key, digest_size=16, person=b"altcraft-limit").hexdigest()


class Group:
    """Carries reports and shares between a client's limit and the file of its group.

    `name` gives the group's name, or None while the token is not known yet. Nothing here waits, and nothing fails:
    where the file cannot be used, the client is alone.
    """

    __slots__ = ("_file", "_kinds", "_name", "_remembers", "_settings", "_tried", "limit", "processes")

    def __init__(self, limit: GroupLimit, name: Callable[[], str | None], settings: Adaptive) -> None:
        self.limit = limit
        self.processes = 1
        self._name = name
        self._settings = settings
        self._file: SlotFile | None = None
        self._tried = False
        self._remembers = True
        self._kinds: dict[int, str] = {}

    def __repr__(self) -> str:
        """Show the limit and how many processes share it."""
        return f"<Group {self.limit!r}, {self.processes} processes>"

    def enter(self, now: float) -> None:
        """Look who is there, before there is more than one call under way."""
        file = self._file or self._claim()
        if file is None:
            return
        word = file.word()
        if word is None:
            return
        if self._is_new(now, word.at):
            if word.leader == file.slot and not self._remembers:
                return
            self.limit.follow(Share(1), word.limit, word.members + 1)
        elif self._remembers and file.age() < MEMORY:
            limit, rate = max(1, word.limit // 2), None if word.rate is None else word.rate / 2
            self.limit.law = AdaptiveLimit.started_at(limit, rate, self._settings)
            self.limit.stay_alone()
        self._remembers = False

    def tick(self, now: float, in_flight: int, *, waiting: bool) -> None:
        """Tell what was seen, and take or hand out shares."""
        file = self._file or self._claim()
        if file is None:
            return
        report = self.limit.report(now, in_flight, waiting=waiting)
        told = report if self.limit.role is Role.FOLLOWING else attrs.evolve(report, calls=())
        if not file.tell(now, told, self._kinds):
            self._leave(file)
            return
        heads = file.heads()
        there = {slot: head for slot, head in heads.items() if self._is_there(file, now, slot, head[0])}
        self.processes = len({os.getpid(), *(head[1] for head in there.values())})
        word = file.word()
        leads = word is not None and word.leader == file.slot
        if not leads and (word is None or word.leader not in there or not self._is_new(now, word.at)):
            leads = self._take_over(file, now, word)
        if leads:
            self._lead(file, now, report, there)
        elif word is not None:
            share = file.share(word)
            if share is not None:
                self.limit.follow(share, word.limit, word.members)
            elif self.limit.role is not Role.FOLLOWING:
                self.limit.follow(Share(1), word.limit, word.members)

    def _take_over(self, file: SlotFile, now: float, word: Word | None) -> bool:
        limit = self.limit
        if word is None or limit.role is not Role.FOLLOWING:
            word_now = Word(file.slot, now, limit.law.limit, limit.law.rate, 1)
        else:
            word_now = Word(file.slot, now, word.limit, word.rate, word.members)
        if not file.elect(word, word_now):
            return False
        if limit.role is Role.FOLLOWING:
            limit.take_over(AdaptiveLimit.started_at(word_now.limit, word_now.rate, self._settings))
        return True

    def _lead(
        self, file: SlotFile, now: float, report: Report, there: dict[int, tuple[float, int, Report, int]]
    ) -> None:
        limit, shares = self.limit, {}
        if there:
            others = {
                slot: attrs.evolve(told, calls=file.calls(slot, written, self._kinds))
                for slot, (_, _, told, written) in there.items()
            }
            shares = limit.lead(now, report, others)
        else:
            limit.stay_alone()
        law = limit.law
        file.lead(Word(file.slot, now, law.limit, law.rate, 1 + len(there)), shares)

    def rest(self) -> None:
        """Take note that no call is under way; another leads then."""
        if self._file is not None:
            self._file.rest()

    def close(self) -> None:
        """Leave the group."""
        if self._file is not None:
            self._leave(self._file)

    def _leave(self, file: SlotFile) -> None:
        self._file = None
        self.processes = 1
        if self.limit.role is Role.FOLLOWING:
            self.limit.law = AdaptiveLimit.started_at(self.limit.limit, self.limit.rate, self._settings)
        self.limit.stay_alone()
        file.close()

    def _claim(self) -> SlotFile | None:
        if self._tried:
            return None
        name = self._name()
        if name is None:
            return None
        self._tried = True
        directory = None if os.environ.get(VARIABLE, "").lower() == "off" else runtime_directory(os.environ)
        if directory is not None:
            self._file = SlotFile.claim(directory, name)
        return self._file

    def _is_there(self, file: SlotFile, now: float, slot: int, at: float) -> bool:
        return self._is_new(now, at) and not (now - at > _LATE and file.is_dead(slot))

    def _is_new(self, now: float, at: float) -> bool:
        return -SILENT < now - at < SILENT
