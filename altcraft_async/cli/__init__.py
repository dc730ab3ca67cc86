"""The command line ``altcraft-async``: `main` is the script."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from altcraft_async.cli.talk import complain, guard_streams

__all__ = ["main"]

_START_TIME = 19
"""Of a process's state on Linux, the field of its start, behind its name: in ticks since the system's."""


def main() -> None:
    """Run the command line and exit with its code (see `altcraft_async.cli.exits`)."""
    guard_streams()
    try:
        try:
            import click as _click  # noqa: F401, PLC0415 - optional, so not at import
            import rich as _rich  # noqa: F401, PLC0415
        except ImportError:
            complain(
                "The command line needs click and rich, which are not installed: pip install 'altcraft-async[cli]'"
            )
            sys.exit(1)
        from altcraft_async.cli.app import run  # noqa: PLC0415 - needs both

        sys.exit(run(_started()))
    except KeyboardInterrupt:  # while it was imported
        complain("Interrupted.")
        sys.exit(130)


def _started() -> float:
    """Return the Unix time at which this process began, or where the system does not tell it, now.

    On a busy machine the imports take seconds, in which a file that is written may come to look like one at rest.
    """
    try:
        ticks = float(Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[_START_TIME])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()
    return time.time() - max(0.0, age)
