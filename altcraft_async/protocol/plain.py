"""What is the same in both formats, where they write it differently: codes, amounts, and what is not known.

And what of a server's text may be shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.protocol.values import JSON

__all__ = ["as_text", "code_of", "escaped", "plain_decimal", "readable"]

_INTEGER = re.compile(r"-?[0-9]{1,9}")
_LARGEST_CODE: Final = 999_999_999
_MAX_TEXT: Final = 300
"""Longest part of a server's text that is kept: enough to act on, too short to be a body."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
"""What no log, file, terminal or database takes: control characters, the ends of lines and the marks of direction of
Unicode, and halves of pairs of surrogates."""
_ARRAYS: Final = frozenset({"lines", "tags"})
"""Names that are arrays wherever the guide has them; others are taken for one where XML has one element."""


def code_of(value: JSON) -> int | None:
    """Return an ``error`` as a number, which XML gives as text; None where it is none."""
    if type(value) is int:
        return value if -_LARGEST_CODE <= value <= _LARGEST_CODE else None
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) else None


def readable(text: str) -> str:
    """Make a text of somebody else's fit to be shown: without control characters or lone surrogates, not too long."""
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def escaped(text: str) -> str:
    """Write out what is no character, like a byte of a file's name that is not UTF-8: no file takes it as it is."""
    return text.encode(errors="backslashreplace").decode()


def plain_decimal(value: float) -> str:
    """Write a finite number with digits and a point: ``1e+17`` is no amount."""
    from decimal import Decimal  # noqa: PLC0415 - such numbers are rare, and every program imports this module

    return format(Decimal(repr(value)), "f")


def as_text(payload: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return an envelope of which nothing is known as it is in both formats: texts, but for ``error``.

    Numbers and flags become texts, as XML has nothing else; what is empty is None.
    """
    said = payload.get("error_text")
    own: dict[str, JSON] = {"error": code_of(payload.get("error")), "error_text": said if isinstance(said, str) else ""}
    return {name: own.get(name, _plain(name, value)) for name, value in payload.items()}


def _plain(name: str, value: JSON) -> JSON:
    if isinstance(value, list):
        found: list[JSON] = [_plain("", one) for one in value]
        return found if len(found) > 1 or name in _ARRAYS else found[0] if found else None
    if isinstance(value, dict):
        found_in: JSON = {inner: _plain(inner, one) for inner, one in value.items()} or None
    elif isinstance(value, bool):
        found_in = "true" if value else "false"
    elif isinstance(value, float):
        found_in = plain_decimal(value)
    else:
        found_in = None if value is None else str(value).strip() or None
    return found_in if name not in _ARRAYS else [] if found_in is None else [found_in]
