"""Reading a ``Retry-After`` header: how long a server asks to be left alone.

RFC 9110 knows whole seconds and HTTP dates in three forms. Servers and proxies
also send decimal seconds, and a list of values where two of them had a say.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["parse_retry_after"]

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*", re.IGNORECASE | re.ASCII)


def parse_retry_after(text: str | None, *, now: float, maximum: float) -> float | None:
    """Read a ``Retry-After`` header as seconds from `now` (Unix time), at most `maximum`, or None.

    The first readable value of a list counts. A longer wait than `maximum` is cut
    to it. None means "now": there was no header, no value can be read, or the
    first readable one is zero or a date in the past.
    """
    for value in _values(text or ""):
        seconds = _seconds(value, now)
        if seconds is not None:
            return min(seconds, maximum) if seconds > 0 else None
    return None


def _values(text: str) -> Iterator[str]:
    """Split a list at its commas, except those behind the weekday of a date."""
    weekday = ""
    for part in map(str.strip, text.split(",")):
        if weekday:
            yield f"{weekday}, {part}"
        weekday = part if _WEEKDAY.fullmatch(part) else ""
        if not weekday:
            yield part


def _seconds(value: str, now: float) -> float | None:
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        return (aware - datetime.fromtimestamp(now, UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
