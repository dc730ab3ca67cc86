"""Places where nobody can write, not even root: mounts, made and taken away by a test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def read_only_folder(folder: Path) -> Iterator[Callable[[], None]]:
    """Mount an empty folder; from the call of what is given on, it is read only."""
    if os.geteuid() != 0 or not _mount("-t", "tmpfs", "none", str(folder)):
        pytest.skip("a read-only mount takes root and the right to mount")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def read_only_file(path: Path) -> Iterator[None]:
    """Make one file read only, in a folder that is not."""
    if os.geteuid() != 0 or not _mount("--bind", str(path), str(path)):
        pytest.skip("a read-only mount takes root and the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)
