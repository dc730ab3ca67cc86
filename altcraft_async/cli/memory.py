"""What the command line remembers of a platform from one run to the next: how many calls it took at once."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from altcraft_async import LearnedLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async import AltcraftClient, Outcome

__all__ = ["Memory"]

_NAME: Final = "limits.json"
_FORGOTTEN: Final = 8 * 86_400.0
"""Seconds after which a platform is another one: a weekly job may be late by a day."""


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
        state = environ.get("XDG_STATE_HOME") or (environ.get("HOME") and f"{environ['HOME']}/.local/state")
        directory = Path(state) / "altcraft_async" if state and client.settings.remember else None
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
        """Give what is there and can work."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8")) if self._path is not None else {}
        except (OSError, ValueError):
            return {}
        entries = found.items() if isinstance(found, dict) else ()
        return {address: entry for address, entry in entries if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    limit, rate, at = entry.get("limit"), entry.get("rate"), entry.get("at")
    fits = (
        type(limit) is int and limit > 0 and (rate is None or (isinstance(rate, int | float) and 0 < rate < math.inf))
    )
    return fits and isinstance(at, int | float) and abs(time.time() - at) < _FORGOTTEN
