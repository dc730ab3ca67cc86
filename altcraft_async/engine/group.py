"""The group of a client: the processes of one user on this host that call one address with one token, and set the same.

While a client has calls under way it ticks, ten times a second: it tells what it saw, and leads, follows or is alone;
see `altcraft_async.flow.share` and, for the file between them, `altcraft_async.storage.slots`. A client without
calls does nothing and is not reckoned with.

A member is gone when its process has died, which the next tick notices, or when it has not told anything for
`SILENT`: it is stopped, or its loop is blocked. Who comes back from that, or from a rest, begins like a newcomer,
since others have its share. A leader that is gone is replaced by the first who sees it; the
new one's law begins at the limit and pace that the old one had given out. What the last member of all ended with is
remembered: who comes within `MEMORY` begins at half of it.

A total that is known, `altcraft_async.flow.total.SharedTotal`, goes the same way, in a file of its own for each total.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from altcraft_async.flow.limit import LearnedLimit
from altcraft_async.flow.share import TICK, Load, Role
from altcraft_async.storage.directories import runtime_directory
from altcraft_async.storage.slots import SlotFile, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.flow.share import Report, Share

__all__ = ["SILENT", "TICK", "Group", "Member", "group_name", "others_there"]

SILENT: Final = 1.5
"""Seconds without a word after which a member is not reckoned with."""
MEMORY: Final = 3600.0
"""Seconds for which the limit that the last member of a group ended with is remembered: a run begins at half of it."""
_LATE: Final = 0.3
"""Seconds without a word after which it is looked whether its process lives."""
VARIABLE: Final = "ALTCRAFT_LIMIT_GROUP"
_log = logging.getLogger("altcraft_async")


class Member(Protocol):
    """What a group carries reports and shares for: a limit that can be shared.

    A `strict` one has nothing to lose by waiting until it is known who else is there, and says so where it cannot
    be known.
    """

    strict: bool
    role: Role
    limit: int
    rate: float | None
    paused_until: float

    def report(self, now: float, load: Load) -> Report:
        """Give what is to be told of the time since the last report."""

    @property
    def most(self) -> int:
        """What no limit of the group is above."""

    @property
    def whole(self) -> LearnedLimit:
        """The permits and the pace that all share."""

    @property
    def learned(self) -> LearnedLimit | None:
        """What another limit may begin with; None where there is nothing yet."""

    def lead(self, now: float, own: Report, others: Mapping[int, Report]) -> dict[int, Share]:
        """Give each its share, and take the own one."""

    def follow(self, share: Share, total: int, members: int) -> None:
        """Take the share that the leader gave."""

    def join(self, total: int, members: int) -> None:
        """Be there without a share."""

    def stay_alone(self) -> None:
        """Take note that there is nobody else."""

    def take_over(self, now: float, whole: LearnedLimit) -> None:
        """Become the leader, where that is what all share."""

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        """Begin at half of what the last member of all ended with."""

    def leave(self, now: float) -> None:
        """Go on without the group."""


def group_name(base_url: str, token: str, shared: str) -> str:
    """Give the name of a group: the same for one address, token and what is `shared`, and telling nothing of them.

    `shared` is as `altcraft_async.engine.sharing` says it.
    """
    key = hashlib.blake2b(token.encode(), person=b"altcraft-limit").digest()
    text = f"{base_url} {shared}"
    return hashlib.blake2b(text.encode(), key=key, digest_size=16, person=b"altcraft-limit").hexdigest()


def others_there(now: float, name: str) -> int | None:
    """Give how many other processes have calls under way in a group; None where there can be no group."""
    directory = None if os.environ.get(VARIABLE, "").lower() == "off" else runtime_directory(os.environ)
    if directory is None:
        return None
    heads = SlotFile.look(directory, name).values()
    return len({pid for at, pid, _, _ in heads if -SILENT < now - at < SILENT} - {os.getpid()})


class Group:
    """Carries reports and shares between a client's limit and the file of its group.

    `name` gives the group's name, or None while the token is not known yet. Nothing here waits, and nothing fails:
    where the file cannot be used, the client is alone.
    """

    __slots__ = ("_file", "_kinds", "_name", "_remembers", "_told_at", "_tried", "limit", "processes")

    def __init__(self, limit: Member, name: Callable[[], str | None], *, remembers: bool = True) -> None:
        self.limit = limit
        self.processes = 1
        self._name = name
        self._file: SlotFile | None = None
        self._tried = False
        self._told_at = -math.inf
        self._remembers = remembers
        self._kinds: dict[int, str] = {}

    def __repr__(self) -> str:
        """Show the limit and how many processes share it."""
        return f"<Group {self.limit!r}, {self.processes} processes>"

    @property
    def paused_until(self) -> float:
        """The end of the last pause that any member was asked for."""
        return self.limit.paused_until

    def enter(self, now: float) -> None:
        """Look who is there, before there is more than one call under way."""
        if self.limit.strict:
            self.tick(now, Load(in_flight=1, started=1))
            return
        file = self._found(now)
        if file is None:
            return
        word = file.word()
        if word is None or self._join(file, now, word):
            return
        if self._remembers and word.learned and file.age() < MEMORY:
            self.limit.begin_at(now, LearnedLimit(word.limit, word.rate))
        self._remembers = False

    def _join(self, file: SlotFile, now: float, word: Word | None) -> bool:
        """Be there like a newcomer, where another leads who does not reckon with this member."""
        self._told_at = now
        file.give_up_share()
        if word is None or word.leader == file.slot or not self._is_new(now, word.at):
            return False
        self._remembers = False
        self.limit.join(word.limit, word.members + 1)
        return True

    def tick(self, now: float, load: Load) -> None:
        """Tell what was seen, and take or hand out shares."""
        file = self._found(now)
        if file is None:
            return
        if now - self._told_at > SILENT:
            self._join(file, now, file.word())
        self._told_at = now
        report = self.limit.report(now, load)
        told = report if self.limit.role is Role.FOLLOWING else attrs.evolve(report, calls=())
        if not file.tell(now, told, self._kinds):
            self._leave(file, now)
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
                self.limit.join(word.limit, word.members)

    def _take_over(self, file: SlotFile, now: float, word: Word | None) -> bool:
        if word is None or self.limit.role is not Role.FOLLOWING:
            word_now = self._word(file, now, 1)
        else:
            word_now = attrs.evolve(word, leader=file.slot, at=now)
        if not file.elect(word, word_now):
            return False
        self.limit.take_over(now, LearnedLimit(word_now.limit, word_now.rate))
        return True

    def _word(self, file: SlotFile, now: float, members: int) -> Word:
        whole = self.limit.whole
        return Word(file.slot, now, whole.limit, whole.rate, members, self.limit.learned is not None)

    def _lead(
        self, file: SlotFile, now: float, report: Report, there: dict[int, tuple[float, int, Report, int]]
    ) -> None:
        shares = {}
        if there:
            others = {
                slot: attrs.evolve(told, calls=file.calls(slot, at, written, self._kinds))
                for slot, (at, _, told, written) in there.items()
            }
            shares = self.limit.lead(now, report, others)
        else:
            self.limit.stay_alone()
        if not file.lead(self._word(file, now, 1 + len(there)), shares):
            self._leave(file, now)

    def rest(self) -> None:
        """Take note that no call is under way; another leads then."""
        self._told_at = -math.inf
        if self._file is not None:
            self._file.rest()

    def close(self) -> None:
        """Leave the group."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _leave(self, file: SlotFile, now: float) -> None:
        self._file = None
        self.processes = 1
        self.limit.leave(now)
        file.close()

    def _found(self, now: float) -> SlotFile | None:
        """Give the file, and move to another one that has come into its place."""
        file = self._file
        if file is None:
            return self._claim()
        if file.is_replaced():
            self._leave(file, now)
            self._tried = False
            self._told_at = -math.inf
            return self._claim()
        return file

    def _claim(self) -> SlotFile | None:
        if self._tried:
            return None
        name = self._name()
        if name is None:
            return None
        self._tried = True
        directory = None if os.environ.get(VARIABLE, "").lower() == "off" else runtime_directory(os.environ)
        if directory is not None:
            self._file = SlotFile.claim(directory, name, most=self.limit.most)
        if self._file is None and self.limit.strict:
            self.limit.stay_alone()
            _log.warning("this process sees no others to share with, so it uses the whole total: %r", self.limit)
        return self._file

    def _is_there(self, file: SlotFile, now: float, slot: int, at: float) -> bool:
        return self._is_new(now, at) and not (now - at > _LATE and file.is_dead(slot))

    def _is_new(self, now: float, at: float) -> bool:
        return -SILENT < now - at < SILENT
