"""What a check finds: values, and the words they are told in."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altcraft_async.errors import AltcraftError
    from altcraft_async.protocol.values import JSON

__all__ = ["Check", "Finding", "Level", "count", "duration", "parted", "skipped"]


class Check(enum.StrEnum):
    """The checks, in the order in which they are made."""

    SETTINGS = "settings"
    """All variables are known and can work; the settings that follow are listed, the token by its length."""
    NAME = "name"
    """The name of the host has addresses."""
    CONNECTION = "connection"
    """The addresses take connections, and TLS and the certificate are right."""
    TOKEN = "token"  # noqa: S105 - a name
    """A reading call, for an order that does not exist, is answered by the API and not refused."""
    CLOCK = "clock"
    """This machine's clock and the server's agree."""
    ROUND_TRIPS = "round trips"
    """Calls are answered one after the other over one connection; it tells how many a rate needs in flight."""
    REPEATS = "repeats"
    """A call that is made again under its ``Request-ID`` is marked as a repeat, so a retry changes nothing twice."""
    OUTBOX = "outbox"
    """The outbox's database can be used, is delivered from, and cleans up; made by the command, with ``--outbox``."""


class Level(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    """All right."""
    WARNING = "warning"
    """It works, and something should be looked at."""
    FAILED = "failed"
    """It cannot work like this."""
    SKIPPED = "skipped"
    """Nothing is known, because an earlier check failed or the server gave no sign."""


@attrs.frozen(kw_only=True)
class Finding:
    """What one check found.

    `said` is the finding in one sentence, `remedy` what to do about it, and `notes` are further lines. `facts` has the
    figures by name, times in seconds. `error` is the error that a client would raise, or None. Neither the token nor a
    body is ever part of it.
    """

    check: Check
    level: Level
    said: str
    remedy: str | None = None
    notes: Sequence[str] = ()
    facts: Mapping[str, JSON] = attrs.field(factory=dict)
    error: AltcraftError | None = None


def skipped(check: Check, why: str) -> Finding:
    """Return the finding of a check that could not be made."""
    return Finding(check=check, level=Level.SKIPPED, said=why)


def parted(message: str) -> tuple[str, str | None]:
    """Part an error's message into what happened, and what to do."""
    said, _, remedy = message.partition("; ")
    return said, f"{remedy[:1].upper()}{remedy[1:]}." if remedy else None


def duration(seconds: float) -> str:
    """Write a time span for people."""
    if seconds >= 1.0:
        return f"{seconds:.1f} s"
    ms = seconds * 1000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"  # noqa: PLR2004 - two digits are enough


def count(number: int, noun: str, plural: str = "s") -> str:
    """Write a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{plural}"
