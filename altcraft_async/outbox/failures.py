"""What keeps failing is logged, and the log stays readable."""

from __future__ import annotations

import enum
import logging
import time
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FailureLog", "Topic"]

_log = logging.getLogger("altcraft_async")

_EVERY = 60.0
"""Seconds between two records of one topic."""


class Topic(enum.Enum):
    """What can fail again and again; each has its own minute."""

    STORE = enum.auto()
    DELIVERY = enum.auto()
    HOOK = enum.auto()
    EXPIRED = enum.auto()
    DROPPED = enum.auto()


@attrs.define
class _Seen:
    logged_at: float
    since: int = 0


class FailureLog:
    """Logs as WARNING what fails: at once the first time, then at most once a minute, with how often it was since.

    `clock` gives seconds that only go forward.
    """

    __slots__ = ("_clock", "_seen")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Topic, _Seen] = {}

    def __repr__(self) -> str:
        """Show what has failed."""
        return f"<FailureLog {', '.join(topic.name.lower() for topic in self._seen) or 'nothing'}>"

    def record(self, topic: Topic, text: str, *, error: BaseException | None = None, times: int = 1) -> None:
        """Log `text`, with the traceback of an `error` that is a defect; `times` is how often it has just been."""
        now, seen = self._clock(), self._seen.get(topic)
        if seen is not None and now - seen.logged_at < _EVERY:
            seen.since += times
            return
        more = 0 if seen is None else seen.since
        self._seen[topic] = _Seen(now)
        said = f"{text} ({more:,} times more since the last record of this)" if more else text
        _log.warning("%s", said, exc_info=error)
