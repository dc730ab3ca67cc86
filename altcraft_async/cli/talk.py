"""Talk on stderr and data on stdout that never break a run: what cannot be written is dropped.

A terminal that has gone, a full disk or a closed descriptor change no exit code:
that speaks of the updates.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import textwrap
from typing import TYPE_CHECKING

from altcraft_async.storage.places import shown, shown_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

__all__ = ["SafeText", "complain", "emit", "guard_streams", "shell", "tidy"]

_LONGEST = 1200
"""Characters of one message: a screen of 80 columns has 1,920."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNTYPED = re.compile(r"[^ -&(-\[\]-~]")
"""Of a byte, what cannot stand for itself within ``$'…'``."""


def tidy(message: str) -> str:
    """Return a message fit for a terminal: without control characters, and no longer than a screen."""
    short = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], short)


def shell(words: Sequence[str]) -> str:
    """Return a command as it can be typed, and shown on a terminal, whatever its words are.

    What is secret in an address stands as ``***``.
    """
    return " ".join(_quoted(shown(word)) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{_UNTYPED.sub(lambda found: f'{chr(92)}x{ord(found[0]):02x}', os.fsencode(word).decode('latin-1'))}'"


def complain(message: str) -> None:
    """Write one message to stderr, wrapped at words where that is a terminal."""
    said = tidy(shown_in(message))
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        lines = said.splitlines()
        said = "\n".join(
            textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            for line in lines
        )
    sys.stderr.write(f"{said}\n")


def emit(text: str) -> None:
    """Write data to stdout at once, past its buffer, which would fail again at the interpreter's end."""
    try:
        left = text.encode(errors="backslashreplace")  # a path may have bytes that are no text
        descriptor = sys.stdout.fileno()
        while left:
            left = left[os.write(descriptor, left) :]
    except (OSError, ValueError, AttributeError):  # full, gone or closed
        return


class SafeText(io.TextIOBase):
    """A text stream over another one, or over none, that drops what cannot be written."""

    def __init__(self, stream: TextIO | None) -> None:
        self._descriptor = None if stream is None else stream.fileno()
        self._encoding = "utf-8" if stream is None else stream.encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there
        """The encoding of the stream below."""
        return self._encoding

    def writable(self) -> bool:
        """Say yes, whatever becomes of it."""
        return True

    def isatty(self) -> bool:
        """Say whether a person looks at it."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor; raises `OSError` where there is none."""
        if self._descriptor is None:
            msg = "there is no stream"
            raise OSError(msg)
        return self._descriptor

    def write(self, text: str, /) -> int:
        """Write a text, or as much of it as can be written."""
        if self._descriptor is not None:
            left = text.encode(self._encoding, "backslashreplace")
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:
                pass
        return len(text)


def guard_streams() -> None:
    """Make stderr one that never fails, and keep files from getting the number of a closed standard stream."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stderr = SafeText(sys.stderr)
