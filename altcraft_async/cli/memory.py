"""What the command line remembers of a platform from one run to the next: how many calls it took at once."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final, Self

from altcraft_async import LearnedLimit
from altcraft_async.storage.directories import state_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from altcraft_async import AltcraftClient, Outcome

__all__ = ["Memory"]

_NAME: Final = "limits.json"
_FORGOTTEN: Final = 8 * 86_400.0
"""Seconds after which a platform is another one: a weekly job may be late by a day."""
_MOST: Final = 2**20
"""Characters that are read of the file: more than ten thousand platforms."""


class Memory:
    """A small file in the user's state directory; what cannot be read or written there is no error.

    It has for each address the limit and pace that the last run ended with.
    """

    __slots__ = ("_address", "_path", "_recalled")

    def __init__(self, path: Path | None, address: str) -> None:
        self._path = path
        self._address = address
        self._recalled = path is None

    @classmethod
    def of(cls, environ: Mapping[str, str], client: AltcraftClient) -> Self:
        """Give what is remembered of the client's platform; nothing where the client is not to remember."""
        directory = state_directory(environ) if client.settings.remember else None
        return cls(None if directory is None else directory / _NAME, client.base_url)

    def recall(self, client: AltcraftClient, outcome: Outcome[Any]) -> None:
        """Let the client begin by it, once: when a first row went well, since a bad input must end with its first."""
        if self._recalled or not outcome.ok:
            return
        self._recalled = True
        known = self._read().get(self._address)
        if known is not None:
            client.begin_at(LearnedLimit(known["limit"], known["rate"]))

    def keep(self, client: AltcraftClient) -> None:
        """Remember what the client has learned, if anything."""
        learned = client.learned
        if self._path is None or learned is None:
            return
        entry = {"limit": learned.limit, "rate": learned.rate, "at": time.time()}
        text = json.dumps(self._read() | {self._address: entry}, indent=1)
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_text(text + "\n", encoding="utf-8")
            new.replace(self._path)

    def _read(self) -> dict[str, dict[str, Any]]:
        """Give what is there and can be."""
        try:
            found = json.loads(self._text())
        except (OSError, ValueError, RecursionError):
            return {}
        entries = found.items() if isinstance(found, dict) else ()
        return {address: entry for address, said in entries if (entry := _entry(said)) is not None}

    def _text(self) -> str:
        if self._path is None or not self._path.is_file():  # to open a pipe would wait for its other end
            return "{}"
        with self._path.open(encoding="utf-8") as file:
            return file.read(_MOST)


def _entry(said: Any) -> dict[str, Any] | None:
    """Give what is to be kept of an entry; None if it is old, or no entry at all."""
    if not isinstance(said, dict):
        return None
    learned, at, now = LearnedLimit.read(said.get("limit"), said.get("rate")), said.get("at"), time.time()
    if learned is None or not isinstance(at, int | float) or not now - _FORGOTTEN < at < now + _FORGOTTEN:
        return None
    return {"limit": learned.limit, "rate": learned.rate, "at": at}
