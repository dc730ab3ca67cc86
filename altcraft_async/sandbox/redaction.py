"""Bodies as they may be shown: text, cut to a length, and without any token.

Pure. A token stands in a field of its name, in the header ``Authorization``, or by a slip in some other field; and JSON
and XML have more than one way to write a character. What cannot be shown for certain without it is not shown.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LIMIT", "REDACTED", "redacted_body", "redacted_text"]

LIMIT: Final = 8192
"""Bytes of a body that are shown: an import of megabytes, a thousand times, must not fill the memory."""
REDACTED: Final = "[token]"
_IN_JSON = re.compile(
    r'("[^"]*token[^"]*"\s*:\s*)("(?:[^"\\]|\\.)*"?|\[[^\]]*\]?|\{[^}]*\}?|[^\s,}\]"]+)', re.IGNORECASE
)
_IN_XML = re.compile(r"(<[^<>/]*token[^<>]*>)[^<]*(?:<!\[CDATA\[.*?(?:\]\]>|$)[^<]*)*", re.IGNORECASE | re.DOTALL)
_IN_FORM = re.compile(r"(\b[\w-]*token=)[^&\s\"'<>]+", re.IGNORECASE)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def redacted_body(body: bytes, tokens: Iterable[str]) -> str:
    """Return a body as text of at most `LIMIT` characters, or a note in round brackets in place of it.

    `tokens` are those that may stand anywhere in it: the account's own, and what the caller gave.
    """
    known = _known(tokens)
    # The window reaches past the limit, so that a token on its edge is seen whole and goes as a whole.
    window = body[: LIMIT + 4 * max(map(len, known), default=0) + 1024]
    text = window.decode("utf-8", "ignore" if len(window) < len(body) else "replace")
    if "\N{REPLACEMENT CHARACTER}" in text or "\0" in text:
        return f"({len(body)} bytes that are not plain UTF-8 text)"
    text = redacted_text(text, known)
    if ("\\" in text or "&" in text) and _hides(text, known):
        return f"({len(body)} bytes, not shown: a token stands in them in a way that is not plain)"
    if len(body) <= LIMIT:
        return text
    return f"{text[:LIMIT]}… ({len(body)} bytes)"


def redacted_text(text: str, tokens: Iterable[str]) -> str:
    """Return a text in which every token is `REDACTED`, in fields of that name whatever stands there."""
    if "token" in text.lower():
        text = _IN_JSON.sub(rf'\1"{REDACTED}"', text)
        text = _IN_XML.sub(rf"\1{REDACTED}", text)
        text = _IN_FORM.sub(rf"\1{REDACTED}", text)
    for token in _known(tokens):
        text = text.replace(token, REDACTED)
    return text


def _known(tokens: Iterable[str]) -> list[str]:
    # The longest first: one may be a part of another.
    return sorted({token for token in tokens if token}, key=len, reverse=True)


def _hides(text: str, tokens: Iterable[str]) -> bool:
    """Return whether a token, or a field for one, shows once what is escaped is read."""
    plain = html.unescape(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)).replace("\\/", "/")
    return plain != text and redacted_text(plain, tokens) != plain
