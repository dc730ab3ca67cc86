"""Directories of this machine for as long as a process works in them, also if it is killed.

A process holds a lock on a file in its directory, which the system frees when the process dies. So whoever comes next
knows a dead directory from a living one, and removes it. Names have the host's mark: where a file system of several
hosts keeps locks on each host for itself, no host judges the directories of another. Where there are no such locks
(Windows, some file systems) nothing is removed but what a process made itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

__all__ = ["remove_dead", "scratch"]

_LOCK: Final = "lock"
_own: set[Path] = set()
"""The directories of this process: to close their locks once more would free them on some file systems."""


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Give a new directory in the system's directory for temporary files, and remove it at the end."""
    # It gets its name when it is locked, so that nobody finds it before.
    made = Path(tempfile.mkdtemp(prefix=f".{prefix}"))
    lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    _take(lock)
    folder = made.with_name(f"{_start_of(prefix)}{uuid4().hex[:12]}")
    _own.add(folder)
    try:
        made.rename(folder)
        yield folder
    finally:
        if sys.platform == "win32":
            os.close(lock)  # an open file cannot be removed there
        shutil.rmtree(folder, ignore_errors=True)
        if sys.platform != "win32":
            os.close(lock)
        _own.discard(folder)


def remove_dead(prefix: str) -> None:
    """Remove this user's directories whose process has died; what cannot be removed stays."""
    if sys.platform == "win32":
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_start_of(prefix)}*"):
        if folder in _own:
            continue
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _take(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _start_of(prefix: str) -> str:
    return f"{prefix}{blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()}-"


def _take(lock: int) -> bool:
    """Lock an open file for as long as it is open; false where another has it, or where that cannot be."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
