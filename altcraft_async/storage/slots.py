"""A small file through which the processes of one user on one host share a limit.

======  ======================  ======================================================================
offset  what                    who writes it
======  ======================  ======================================================================
0       the group's word        the leader: who leads, when it last did, the whole limit and its pace
4096    a head for each slot    the member: its report, and when it made it
12288   a share for each slot   the leader
16384   a ring for each slot    the member: the calls that ended, the oldest overwritten
======  ======================  ======================================================================

Whoever uses a slot holds a lock on one byte of the file, which the system frees when the process dies; one more
byte is locked for the moment of an election. Nothing ever waits for a lock. What is read while it is written is
noticed by a number on both ends, and read again a tick later. Times are of the monotonic clock, which all
processes of a host share; after a restart of the host everything in the file looks old, or to come, and counts as gone.

The directory is the user's own, of mode 0700, and through no link; so is the file. Whatever is not as it should be,
or cannot be written, is no error: there is no group then. A word, head, share or call with a number that cannot be
is as if it were not there. Only systems with ``fcntl`` have groups.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.flow.limit import LearnedLimit, Signal
from altcraft_async.flow.share import CallEnded, Report, Share
from altcraft_async.kinds import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["SLOTS", "SlotFile", "Word"]

SLOTS: Final = 64
"""Members of a group, at most; those that come later are strangers to it."""
SUFFIX: Final = ".limit"
_MAGIC: Final = b"altlim02"
_WORD = struct.Struct("<8sIIddIdI")
_HEAD = struct.Struct("<IIdIIBddddIQI")
_SHARE = struct.Struct("<IIddII")
_CALL = struct.Struct("<dfHH")
_HEADS, _SHARES, _RINGS = 4096, 12288, 16384
_HEAD_SIZE, _SHARE_SIZE, _RING = 128, 64, 1000
_RING_SIZE = _RING * _CALL.size
_ELECTION = 0
_STALE = 1000
"""Milliseconds by which a share may be older than the leader's last word."""
_FORGOTTEN = 7 * 86_400.0
"""Seconds without any use after which a file is removed."""
_SIGNALS = tuple(Signal)
_DAY = 86_400.0
"""Seconds that no call lasts, and no pause in the file: the rest of a longer one is told later."""


@attrs.frozen
class Word:
    """What the leader says to all: its slot, when it said so, the whole limit and pace, and how many share them.

    `learned` says that it is what the server was found to take.
    """

    leader: int
    at: float
    limit: int
    rate: float | None
    members: int
    learned: bool = False


class _Open:
    """A file that this process has open, once for all its clients: to close it anywhere would free all its locks."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self.taken: set[int] = set()
        self.users = 0


_files: dict[Path, _Open] = {}
_guard = threading.Lock()


def _forget() -> None:
    """Let a child of a fork begin without what is its parent's: locks are not inherited."""
    global _guard  # noqa: PLW0603 - it may have been held in the moment of the fork
    _guard = threading.Lock()
    for opened in _files.values():
        opened.descriptor = -1
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class SlotFile:
    """One member's place in a file of slots. Every method that meets an error of the system says so by its value.

    `most` is what no limit in it can be above.
    """

    __slots__ = ("_age", "_file", "_most", "_read", "_told", "_written", "slot")

    def __init__(self, file: _Open, slot: int, age: float = math.inf, *, most: int = LARGEST) -> None:
        self._file = file
        self._told = self._written = 0
        self._age = age
        self._most = most
        self._read: dict[int, int] = {}
        self.slot = slot

    def __repr__(self) -> str:
        """Show the slot."""
        return f"<SlotFile {self.slot}>"

    @classmethod
    def claim(cls, directory: Path, name: str, *, most: int = LARGEST) -> SlotFile | None:
        """Take a slot of the file `name`; None where that does not work, or all are taken."""
        if sys.platform == "win32":
            return None
        with _guard, contextlib.suppress(OSError):
            file = _opened(directory, name)
            if file is None:
                return None
            with contextlib.suppress(OSError):
                for slot in range(SLOTS):
                    if slot not in file.taken and _lock(file.descriptor, 1 + slot):
                        file.taken.add(slot)
                        place = cls(file, slot, time.time() - os.fstat(file.descriptor).st_mtime, most=most)
                        place.rest()
                        return place
            _drop(file)
        return None

    @classmethod
    def look(cls, directory: Path, name: str) -> dict[int, tuple[float, int, Report, int]]:
        """Give the heads of a file without taking a slot: nothing where there is none."""
        if sys.platform == "win32":
            return {}
        with _guard, contextlib.suppress(OSError):
            path = directory / (name + SUFFIX)
            file = _files.get(path)
            if file is not None:
                return cls(file, -1).heads()
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return cls(_Open(path, descriptor), -1).heads()
            finally:
                os.close(descriptor)
        return {}

    def close(self) -> None:
        """Give the slot back."""
        with _guard, contextlib.suppress(OSError):
            if self._file.descriptor < 0:
                return
            self.rest()
            fcntl.lockf(self._file.descriptor, fcntl.LOCK_UN, 1, 1 + self.slot)
            self._file.taken.discard(self.slot)
            _drop(self._file)

    def age(self) -> float:
        """Give the seconds since anybody wrote before this member did; infinite where that cannot be known."""
        return self._age

    def is_replaced(self) -> bool:
        """Say whether another file stands where newcomers look for this one: it was removed, and made again."""
        return _is_replaced(self._file)

    # -- the own report

    def tell(self, now: float, report: Report, kinds: dict[int, str]) -> bool:
        """Write the own report."""
        data = b"".join(
            _CALL.pack(call.at, call.latency, _SIGNALS.index(call.signal), _number(call.kind, kinds))
            for call in report.calls[-_RING:]
        )
        while data:
            place = self._written % _RING * _CALL.size
            part, data = data[: _RING_SIZE - place], data[_RING_SIZE - place :]
            if not self._write(_RINGS + self.slot * _RING_SIZE + place, part):
                return False
            self._written += len(part) // _CALL.size
        self._told = (self._told + 1) % 255 + 1  # its first byte is never 0, which says that nobody is there
        head = _HEAD.pack(
            self._told, os.getpid(), now, _whole(report.held), _whole(report.peak), report.hungry, report.per_second,
            min(report.paused_until, now + _DAY), report.resumed, report.pace, report.throttled, self._written,
            self._told,
        )  # fmt: skip
        return self._write(_HEADS + self.slot * _HEAD_SIZE, head)

    def rest(self) -> None:
        """Take note that there is nothing to do: nobody needs to reckon with this member."""
        self._write(_HEADS + self.slot * _HEAD_SIZE, bytes(_HEAD_SIZE))

    def give_up_share(self) -> None:
        """Take the own share for none, until the leader gives one again."""
        self._write(_SHARES + self.slot * _SHARE_SIZE, bytes(_SHARE_SIZE))

    # -- the others

    def heads(self) -> dict[int, tuple[float, int, Report, int]]:
        """Give the others' reports, without calls: when each was made, by which process, and how many calls it told."""
        data = self._bytes(_HEADS, SLOTS * _HEAD_SIZE)
        found = {}
        for slot in range(len(data) // _HEAD_SIZE):
            if slot == self.slot or not data[slot * _HEAD_SIZE]:
                continue
            fields = _HEAD.unpack_from(data, slot * _HEAD_SIZE)
            count, pid, at, held, peak, hungry, per_second, paused, resumed, pace, throttled, written, again = fields
            fits = _is_time(at) and per_second >= 0 and 0 <= pace <= LARGEST and paused <= at + _DAY and resumed <= at
            if fits and count and count == again:
                report = Report(held, peak, bool(hungry), per_second, (), paused, resumed, throttled, pace)
                found[slot] = (at, pid, report, written)
        return found

    def is_dead(self, slot: int) -> bool:
        """Say whether the process that had a slot is gone."""
        file = self._file
        with _guard, contextlib.suppress(OSError):  # another thread may be about to take the slot
            if slot not in file.taken and file.descriptor >= 0 and _lock(file.descriptor, 1 + slot):
                fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, 1 + slot)
                return True
        return False

    def calls(self, slot: int, at: float, written: int, kinds: Mapping[int, str]) -> Sequence[CallEnded]:
        """Give the calls that a member has told of `at` a time, since the last time, of which `written` are all."""
        since = self._read.get(slot)
        self._read[slot] = written
        if since is None or not since < written:
            return ()
        data = self._bytes(_RINGS + slot * _RING_SIZE, _RING_SIZE)
        found = []
        for number in range(max(since, written - _RING), written):
            offset = number % _RING * _CALL.size
            if offset + _CALL.size > len(data):
                break
            ended, latency, signal, kind = _CALL.unpack_from(data, offset)
            if signal < len(_SIGNALS) and max(0.0, at - _DAY) < ended <= at and 0 <= latency < _DAY:
                found.append(CallEnded(ended, latency, _SIGNALS[signal], kinds.get(kind, str(kind))))
        return found

    def word(self) -> Word | None:
        """Give what the leader said last; None where nobody ever did, or it cannot be."""
        data = self._bytes(0, _WORD.size)
        if len(data) < _WORD.size:
            return None
        magic, count, leader, at, rate, limit, learned, again = _WORD.unpack(data)
        whole = LearnedLimit.read(limit, rate or None, most=self._most)
        if magic != _MAGIC or count != again or whole is None or not _is_time(at) or leader >> 8 >= SLOTS:
            return None
        return Word(leader >> 8, at, whole.limit, whole.rate, leader & 0xFF, bool(learned))

    def lead(self, word: Word, shares: Mapping[int, Share]) -> bool:
        """Say the leader's word, and give the shares; say whether all of it could be written."""
        given = [self._write(_SHARES + slot * _SHARE_SIZE, _packed(word.at, share)) for slot, share in shares.items()]
        return all(given) and self._say(word)

    def share(self, word: Word) -> Share | None:
        """Give the own share; None where it was just being written, cannot be, or is older than the leader's word."""
        data = self._bytes(_SHARES + self.slot * _SHARE_SIZE, _SHARE.size)
        if len(data) < _SHARE.size:
            return None
        count, limit, rate, paused, heard, again = _SHARE.unpack(data)
        given = LearnedLimit.read(limit, rate or None, most=self._most)
        if count != again or abs(count - _stamp(word.at)) > _STALE or given is None or not paused <= word.at + _DAY:
            return None
        return Share(given.limit, given.rate, paused, heard)

    def elect(self, seen: Word | None, word: Word) -> bool:
        """Take the leadership with a `word`, where the last one is still the one that was `seen`."""
        descriptor = self._file.descriptor
        with _guard, contextlib.suppress(OSError):
            if descriptor < 0 or not _lock(descriptor, _ELECTION):
                return False
            try:
                if self.word() != seen:
                    return False
                return self._say(word)
            finally:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _ELECTION)
        return False

    def _say(self, word: Word) -> bool:
        leader = word.leader << 8 | min(word.members, 255)
        count, limit = _stamp(word.at), _whole(word.limit)
        return self._write(0, _WORD.pack(_MAGIC, count, leader, word.at, word.rate or 0.0, limit, word.learned, count))

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._file.descriptor, size, offset)
        except OSError:
            return b""

    def _write(self, offset: int, data: bytes) -> bool:
        try:
            return os.pwrite(self._file.descriptor, data, offset) == len(data)
        except OSError:
            return False


def _is_time(at: float) -> bool:
    return 0 <= at <= LARGEST


def _stamp(at: float) -> int:
    """Give a time in milliseconds, as a number that stands on both ends of what is written."""
    return int(at * 1000) & 0xFFFFFFFF


def _packed(at: float, share: Share) -> bytes:
    paused = min(share.paused_until, at + _DAY)
    return _SHARE.pack(_stamp(at), _whole(share.limit), share.rate or 0.0, paused, share.heard, _stamp(at))


def _whole(count: int) -> int:
    """Give the count, as far as four bytes can hold it: for people it is without end beyond."""
    return min(count, 0xFFFFFFFF)


def _number(kind: str, kinds: dict[int, str]) -> int:
    """Give the number of a kind of call, the same in every process."""
    number = 0
    for byte in kind.encode():
        number = (number * 31 + byte) & 0xFFFF
    kinds[number] = kind
    return number


def _lock(descriptor: int, byte: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _opened(directory: Path, name: str) -> _Open | None:
    """Open the file, or use the one that is open already; only the user's own is used."""
    name += SUFFIX
    path = directory / name
    file = _files.get(path)
    if file is None or _is_replaced(file):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not _is_own(os.fstat(place), stat.S_ISDIR):
                return None
            _tidy(place)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(name, flags, 0o600, dir_fd=place)
        finally:
            os.close(place)
        if not _is_own(os.fstat(descriptor), stat.S_ISREG):
            os.close(descriptor)
            return None
        file = _files[path] = _Open(path, descriptor)
    file.users += 1
    return file


def _is_replaced(file: _Open) -> bool:
    try:
        there, own = os.lstat(file.path), os.fstat(file.descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino)


def _tidy(directory: int) -> None:
    """Remove the files of groups that nobody has used for long."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if name.endswith(SUFFIX) and time.time() - found.st_mtime > _FORGOTTEN:
                os.unlink(name, dir_fd=directory)


def _is_own(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _drop(file: _Open) -> None:
    file.users -= 1
    if not file.users:
        if _files.get(file.path) is file:
            del _files[file.path]
        os.close(file.descriptor)
        file.descriptor = -1
