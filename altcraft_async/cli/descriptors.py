"""Few file descriptors, the default of some systems, must not break a run in the middle."""

from __future__ import annotations

import codecs
import contextlib
import importlib

__all__ = ["prepare_for_few_descriptors"]

_DESCRIPTORS = 4096
_LATE_MODULES = ("tenacity", "xmltodict", "csv", "sqlite3", "stringprep", "unicodedata", "concurrent.futures.thread")
_LATE_CODECS = ("utf-8-sig", "idna", "latin-1", "ascii", "cp1252")
"""What is imported when it is first needed: with all descriptors in connections it could not be opened any more."""


def prepare_for_few_descriptors() -> None:
    """Raise the soft limit of open files, which is 256 on some systems, and import what could not be opened later."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    for module in _LATE_MODULES:
        importlib.import_module(module)
    for codec in _LATE_CODECS:
        codecs.lookup(codec)
