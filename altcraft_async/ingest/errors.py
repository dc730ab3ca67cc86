"""What makes an input unreadable, as a whole or from a place on."""

from __future__ import annotations

from altcraft_async.errors import ConfigurationError
from altcraft_async.storage.places import shown, shown_in

__all__ = ["HeldBackError", "InputError", "clip"]

_SHOWN = 60
"""Characters of a value that a message shows."""


class InputError(ConfigurationError):
    """Nothing can be read from an input; ``source`` names it, without what is secret in an address.

    ``field`` is the field of the update whose column is missing, if that is the problem; ``encoding`` is the likely
    encoding of the input, if it is not the one that it was read with.
    """

    effect = "nothing"
    remedy = "Correct the input, or the arguments, as the message says; then read it again."

    def __init__(
        self, message: str = "", *, field: str | None = None, source: str = "input", encoding: str | None = None
    ) -> None:
        super().__init__(shown_in(message, source), field=field)
        self.source = shown(source)
        self.encoding = encoding


class HeldBackError(InputError):
    """It is not certain where rows begin from the 1-based ``line`` on, so none of them was yielded.

    The iteration over an `UpdateReader` raises it after all rows before that line. Nothing from the line on is an
    update: a journal does not record it, and goes on there once the input is corrected. ``last_line`` says that only a
    last line without a line end is concerned, ``broken`` that the record at ``line`` is wrong, and was read as far as
    it goes.
    """

    effect = "the rows before ``line``"
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
