"""Journals that could not be written to their directory in the end, because it is full or away: they wait here.

Each is a file in the system's directory for temporary files, for this user alone, named by the run of its shard. The
next copy of the shard on this machine goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

__all__ = ["forget_kept", "keep", "take_kept"]


def _path(run_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"altcraft-journal-{run_id}"


def keep(journal: Path, run_id: str) -> Path:
    """Move a journal, in one file, to where the next copy finds it; return that place."""
    kept = _path(run_id)
    journal.chmod(0o600)
    journal.replace(kept)
    return kept


def take_kept(run_id: str, target: Path) -> None:
    """Copy a kept journal to `target`; raises `FileNotFoundError` if this user has kept none."""
    kept = _path(run_id)
    found = kept.lstat()
    if not stat.S_ISREG(found.st_mode) or (sys.platform != "win32" and found.st_uid != os.getuid()):
        raise FileNotFoundError(kept)  # what another user has put there
    shutil.copyfile(kept, target, follow_symlinks=False)


def forget_kept(run_id: str) -> None:
    """Remove a kept journal, whose content the directory has now; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        _path(run_id).unlink(missing_ok=True)
