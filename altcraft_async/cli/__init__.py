"""The command line ``altcraft-async``: `main` is the script."""

from __future__ import annotations

import sys

from altcraft_async.cli.talk import guard_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code (see `altcraft_async.cli.exits`)."""
    guard_streams()
    try:
        import click as _click  # noqa: F401, PLC0415 - optional, so not at import
        import rich as _rich  # noqa: F401, PLC0415
    except ImportError:
        sys.stderr.write(
            "The command line needs click and rich, which are not installed: pip install 'altcraft-async[cli]'\n"
        )
        sys.exit(1)
    from altcraft_async.cli.app import run  # noqa: PLC0415 - needs both

    sys.exit(run())
