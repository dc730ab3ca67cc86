"""The library's log on the command line: ``--verbose``, ``--log-file`` and ``ALTCRAFT_LOG``."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from altcraft_async import ConfigurationError
from altcraft_async.cli.talk import tidy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["start_log"]

_VARIABLE = "ALTCRAFT_LOG"
_FORM = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
_log = logging.getLogger("altcraft_async")


class _OnStderr(logging.Handler):
    """Writes records to what is standard error then: a progress bar puts another one in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        sys.stderr.write(f"{tidy(self.format(record))}\n")


class _InFile(logging.FileHandler):
    """Adds records to a file; what cannot be written is dropped, since a log is no reason to end a run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name there
        """Drop a record."""


def start_log(*, verbose: int, path: str | None) -> None:
    """Let the running command write the library's log until it ends.

    On standard error with `verbose`: 1 is INFO, 2 or more DEBUG; else as ``ALTCRAFT_LOG`` says, if it says anything.
    In the file at `path` INFO, or with `verbose` DEBUG. Raises `ConfigurationError` where that cannot be opened.
    """
    asked = os.environ.get(_VARIABLE, "").strip().lower()
    handlers: list[logging.Handler] = []
    if verbose or asked:
        handlers.append(_OnStderr(logging.DEBUG if verbose > 1 else logging.INFO if verbose else logging.NOTSET))
    if path is not None:
        handlers.append(_file(path, logging.DEBUG if verbose else logging.INFO))
    if not handlers:
        return
    for handler in handlers:
        handler.setFormatter(_FORM)
        _log.addHandler(handler)
    if verbose or path is not None:
        named = getattr(logging, asked.upper(), logging.CRITICAL) if asked else logging.CRITICAL
        level = min(named, *(handler.level or logging.CRITICAL for handler in handlers))
        os.environ[_VARIABLE] = logging.getLevelName(level).lower()  # by it clients tell what they do
    click.get_current_context().call_on_close(_ended(handlers, asked))


def _file(path: str, level: int) -> logging.Handler:
    try:
        handler = _InFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        msg = f"--log-file {path} cannot be written: {error.strerror or error}"
        raise ConfigurationError(msg, field="log_file") from None
    handler.setLevel(level)
    return handler


def _ended(handlers: list[logging.Handler], asked: str) -> Callable[[], None]:
    def end() -> None:
        for handler in handlers:
            _log.removeHandler(handler)
            handler.close()
        if asked:
            os.environ[_VARIABLE] = asked
        else:
            os.environ.pop(_VARIABLE, None)

    return end
