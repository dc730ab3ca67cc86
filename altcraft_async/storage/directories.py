"""Where small files of the user are: what the XDG base directory specification says, as far as it is used here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["runtime_directory", "state_directory"]

_NAME: Final = "altcraft_async"


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """Give the directory for what lives no longer than the host: in the user's runtime directory, if that is there.

    Else it is that of the state; None where there is neither. Only the system makes a runtime directory.
    """
    given = _absolute(environ.get("XDG_RUNTIME_DIR"))
    return given / _NAME if given is not None and given.is_dir() else state_directory(environ)


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Give the directory for what is remembered from run to run; None where the user has no home."""
    state = _absolute(environ.get("XDG_STATE_HOME"))
    home = _absolute(environ.get("HOME"))
    if state is None and home is not None:
        state = home / ".local" / "state"
    return None if state is None else state / _NAME


def _absolute(given: str | None) -> Path | None:
    """Give the path; a relative one would be another directory for each working directory, and counts as not set."""
    path = Path(given) if given else None
    return path if path is not None and path.is_absolute() else None
