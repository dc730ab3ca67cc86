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

__all__ = ["as_utf8", "foreign_charset"]

_UTF_8 = frozenset({"utf-8", "utf8"})
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
def foreign_charset(content_type: str) -> str | None:
    """Return the charset that a ``Content-Type`` names, in small letters; None for UTF-8 and for none."""
    found = _IN_HEADER.search(content_type)
    name = found[1].lower() if found else "utf-8"
    return None if name in _UTF_8 else name


def as_utf8(body: bytes, content_type: str) -> bytes:
    """Return `body` in UTF-8, without a byte order mark and the blanks before its first character.

    What is UTF-8 already is not checked. Raises `UnreadableResponseError` for a
    charset that is unknown, and for bytes that are none of it.
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return _recoded(body[len(mark) :], name).lstrip()
    for zeros, name in _ZEROS:
        if zeros.match(body):
            return _recoded(body, name).lstrip()
    body = body.lstrip()
    named = foreign_charset(content_type)
    if body.startswith((b"{", b"[")):
        return body if named is None or _is_utf_8(body) else _recoded(body, named)
    if named is None and "charset" not in content_type.lower():
        declared = _IN_DECLARATION.match(body)
        named = declared[1].decode("latin-1").lower() if declared else None
    return body if named is None else _recoded(body, named)


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _recoded(body: bytes, name: str) -> bytes:
    if name in _UTF_8:
        return body
    problem = f"the answer of {len(body)} bytes names a charset that is unknown"
    try:
        known = codecs.lookup(name).name if _NAME.fullmatch(name) else ""
        if known and known not in _NO_CHARSETS:
            problem = f"the answer of {len(body)} bytes is not the {known} that it says it is"
            return body.decode(name).encode()
    except (LookupError, ValueError):
        pass  # raised below, outside the handler: the decoder's own error holds the body
    raise UnreadableResponseError(problem)
