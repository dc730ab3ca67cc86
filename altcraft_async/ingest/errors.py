"""What makes an input unreadable, as a whole or from a place on."""

from __future__ import annotations

from altcraft_async.errors import ConfigurationError

__all__ = ["HeldBackError", "InputError", "clip"]

_SHOWN = 60
"""Characters of a value that a message shows."""


class InputError(ConfigurationError):
    """Nothing can be read from an input; ``source`` names it.

    ``field`` is the field of the update whose column is missing, where that is
    the problem; ``encoding`` the one that the input most likely has, where it is
    not the one that it was read with.
    """

    effect = "nothing"
    remedy = "Correct the input, or how it is called, as the message says; then read it again."

    def __init__(
        self, message: str = "", *, field: str | None = None, source: str = "input", encoding: str | None = None
    ) -> None:
        super().__init__(message, field=field)
        self.source = source
        self.encoding = encoding


class HeldBackError(InputError):
    """The rows from the 1-based ``line`` on cannot be told for certain, so none of them was given.

    Raised by the iteration over an `UpdateReader`, behind all rows that stand
    before that line. Nothing from the line on is an update: a journal does not
    record it, and goes on there once the input is corrected. ``last_line`` says
    that only a last line without its end is concerned, ``broken`` that the record at ``line``
    is wrong, and was read as far as it goes.
    """

    effect = "what stands before ``line``"
    remedy = "Correct the input at ``line``, or wait until it is written; then read it again."

    def __init__(
        self,
        message: str = "",
        *,
        source: str = "input",
        line: int | None = None,
        last_line: bool = False,
        broken: bool = False,
    ) -> None:
        super().__init__(message, source=source)
        self.line = line
        self.last_line = last_line
        self.broken = broken


def clip(value: str) -> str:
    """Quote a value for a message, cut where it is long; control characters become escapes."""
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"
