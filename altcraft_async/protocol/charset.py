"""The charset of an answer: whatever it came in, the codecs read UTF-8.

What counts, first to last:

1. A byte order mark, and the zero bytes by which UTF-16 and UTF-32 show
   themselves without one.
2. For JSON: UTF-8, as RFC 8259 has it, wherever the bytes are valid UTF-8.
3. The ``charset`` of the ``Content-Type`` header.
4. The encoding in the XML declaration.
5. UTF-8.

For XML that is the order of RFC 7303: a header beats the declaration, because a
proxy that changes the charset changes the header only.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from altcraft_async.errors import UnreadableResponseError

__all__ = ["as_utf8", "charset_of"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZEROS = (
    (re.compile(rb"[^\0]\0\0\0"), "utf-32-le"),
    (re.compile(rb"\0\0\0[^\0]"), "utf-32-be"),
    (re.compile(rb"[^\0]\0"), "utf-16-le"),
    (re.compile(rb"\0[^\0]"), "utf-16-be"),
)
"""The first character of an answer is ASCII, so its zero bytes tell the encoding."""

_IN_HEADER = re.compile(r""";\s*charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
_IN_DECLARATION = re.compile(rb"""<\?xml\s[^>]{0,80}?\bencoding\s*=\s*["']([^"'>]{1,40})["']""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,39}", re.ASCII)
_NO_CHARSETS = frozenset({"utf-7", "unicode-escape", "raw-unicode-escape", "punycode", "idna", "undefined"})
"""Python's codecs of text that no server means: some are slow, and some warn."""


@lru_cache(maxsize=32)
def charset_of(content_type: str) -> str | None:
    """Return the charset that a ``Content-Type`` names, in small letters, or None; UTF-8 is always ``utf-8``."""
    found = _IN_HEADER.search(content_type)
    name = found[1].lower() if found else None
    return "utf-8" if name == "utf8" else name


def as_utf8(body: bytes, content_type: str) -> bytes:
    """Return `body` in UTF-8, without a byte order mark and the blanks before its first character.

    What is UTF-8 already is not checked. Raises `UnreadableResponseError` for a
    charset that is unknown, and for bytes that are none of it.
    """
    if b"\0" in body[:4] or not body[:2].isascii():
        for mark, marked in _MARKS:
            if body.startswith(mark):
                return _recoded(body[len(mark) :], marked).lstrip()
        for zeros, shown in _ZEROS:
            if zeros.match(body):
                return _recoded(body, shown).lstrip()
    body = body.lstrip()
    name = charset_of(content_type)
    if body.startswith((b"{", b"[")):
        return body if name is None or _is_utf_8(body) else _recoded(body, name)
    declared = _IN_DECLARATION.match(body) if name is None else None
    if declared is not None:
        name = declared[1].decode("latin-1").lower()
    return body if name is None else _recoded(body, name)


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _recoded(body: bytes, name: str) -> bytes:
    if name == "utf-8":
        return body
    problem = f"the answer of {len(body)} bytes names a charset that is unknown"
    try:
        if _NAME.fullmatch(name) and codecs.lookup(name).name not in _NO_CHARSETS:
            return body.decode(name).encode()
    except UnicodeError:
        problem = f"the answer of {len(body)} bytes does not fit the charset that it names"
    except LookupError:
        pass
    raise UnreadableResponseError(problem)  # outside the handlers: the decoder's own error holds the body
