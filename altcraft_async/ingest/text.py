"""Bytes become lines: compression, encodings, byte order marks, and whether an input has come to its end.

A line ends at a line feed, with or without a carriage return before it. A byte
order mark is dropped at the beginning of any line, since files are joined by
``cat``. Bytes that the encoding does not know become lone surrogates: they do
no harm in a column that nobody needs, and no id can have them.

Lines are read and decoded by the block, which costs a tenth of doing so one by
one; of a pipe a block is what has come by now.
"""

from __future__ import annotations

import enum
import gzip
import io
import os
import re
import stat
import time
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder, lookup
from typing import TYPE_CHECKING, BinaryIO

from altcraft_async.errors import ConfigurationError
from altcraft_async.ingest.errors import HeldBackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "MAX_RECORD_BYTES",
    "Feed",
    "LastLine",
    "Lines",
    "Tail",
    "Watch",
    "byte_encoding",
    "check_encoding",
    "is_utf16",
    "not_in_encoding",
    "open_feed",
    "say_foreign",
]

MAX_RECORD_BYTES = 16 << 20
"""A record, and so a line, is held up to this size: what is longer is no record of an export."""

_BLOCK = 1 << 16
_LOOK = 4096
_BOM = "\ufeff"
_GZIP = b"\x1f\x8b"
_UTF8 = "utf-8"
_SETTLED_AFTER = 2.0
"""Seconds without a write after which a file counts as finished."""


# -- the bytes


class Feed:
    """The bytes of an input; `peek` looks ahead of them. `read` gives what there is at once, none at the end."""

    __slots__ = ("_ahead", "_read")

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ahead = b""

    def peek(self) -> bytes:
        """Return the next bytes, as a rule a line at least, and leave them there."""
        while len(self._ahead) < _LOOK and b"\n" not in self._ahead and (more := self._read(_BLOCK)):
            self._ahead += more
        return self._ahead

    def read(self, size: int = _BLOCK) -> bytes:
        """Return the next bytes; `size` is a wish."""
        data, self._ahead = self._ahead, b""
        return data or self._read(size)


class LastLine(enum.StrEnum):
    """What becomes of a last line that has no line end, and so may be half of one."""

    AUTO = "auto"
    """It is sent where the input is a file that was not changed while it was read, nor for 2 s before its end."""
    SEND = "send"
    """It is sent."""
    HOLD = "hold"
    """It is held back."""


class Watch:
    """Whether the file behind a stream may still get more than it had when this was made.

    ``notes`` gets what a person should know. Without a stream, as of a packed
    file, the input tells of its own end.
    """

    __slots__ = ("_clock", "_last_line", "_opened", "_stream", "notes")

    def __init__(
        self,
        stream: BinaryIO | None,
        last_line: LastLine = LastLine.AUTO,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stream = stream
        self._last_line = last_line
        self._clock = clock
        self._opened = _status(stream)
        self.notes: list[str] = []

    def let_pass(self, source: str, line: int) -> None:
        """Let the last line pass, which has no end; raise `HeldBackError` where it may be half of one."""
        why = self._unsettled()
        if why is None:
            self.notes.append(f"{source}, line {line}: the last line has no line end; it counts as whole")
            return
        msg = (
            f"{source}, line {line}: the last line has no line end and may be half of one ({why}); it was not sent: "
            "end it, or say that it is whole"
        )
        raise HeldBackError(msg, source=source, line=line, last_line=True)

    def check_length(self, source: str) -> None:
        """Raise `HeldBackError` where the file has become shorter while it was read."""
        before, now = self._opened, _status(self._stream)
        if before is not None and now is not None and now.st_size < before.st_size:
            msg = f"{source} became shorter while it was read, so rows may be missing; read it again when it is whole"
            raise HeldBackError(msg, source=source, last_line=True)

    def _unsettled(self) -> str | None:
        """Say why the end of the input need not be its end; None where it is."""
        before, now = self._opened, _status(self._stream)
        if self._last_line is LastLine.HOLD:
            return "so it was asked"
        if self._last_line is LastLine.SEND or before is None or now is None:
            return None
        if not stat.S_ISREG(before.st_mode):
            return "a pipe that is cut off ends like this too"
        if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
            return "the file was changed while it was read"
        return "the file was written just now" if self._clock() - now.st_mtime < _SETTLED_AFTER else None


def _status(stream: BinaryIO | None) -> os.stat_result | None:
    if stream is None:
        return None
    try:
        return os.fstat(stream.fileno())
    except (OSError, AttributeError, ValueError):  # in memory
        return None


def open_feed(stream: BinaryIO, source: str, encoding: str) -> tuple[Feed, bool]:
    """Return the bytes of `stream`, unpacked, and with ASCII for ASCII; and whether they were packed.

    What is no text is left as it is; a packed input tells of its own end.
    """
    feed = Feed(stream.read1 if isinstance(stream, io.BufferedIOBase) else stream.read)
    packed = feed.peek().startswith(_GZIP)
    if packed:
        feed = Feed(_unpacked(feed, source))
    if not _keeps_ascii(encoding):
        feed = Feed(_recoded(feed, source, encoding))
    return feed, packed


class Tail(io.RawIOBase):
    """The rest of a feed as a file, for libraries that read files."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._left = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # a buffer is what it gets
        """Fill a buffer with the next bytes."""
        self._left = self._left or self._feed.read(len(buffer))
        given, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _unpacked(feed: Feed, source: str) -> Callable[[int], bytes]:
    file = gzip.GzipFile(fileobj=Tail(feed), mode="rb")

    def read(size: int) -> bytes:
        try:
            return file.read1(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            cut = "end in the middle" if isinstance(error, EOFError) else "are damaged"
            msg = f"{source}: the compressed data {cut}; get the file again, or wait until it is written"
            raise HeldBackError(msg, source=source) from None

    return read


# -- encodings


def check_encoding(name: str) -> str:
    """Return the name under which Python knows an encoding; raise `ConfigurationError` for an unknown one."""
    try:
        "a\n".encode(name)
        known = lookup(name).name
    except (LookupError, ValueError, UnicodeError):
        msg = f"{name!r} is not an encoding; for example utf-8, cp1251, koi8-r or utf-16"
        raise ConfigurationError(msg, field="encoding") from None
    return _UTF8 if known == "utf-8-sig" else known


def byte_encoding(encoding: str) -> str:
    """Return the encoding of the bytes that `open_feed` gives of an input."""
    return encoding if _keeps_ascii(encoding) else _UTF8


def _keeps_ascii(encoding: str) -> bool:
    marks = '\r\n",;\t{}'
    return marks.encode(encoding) == marks.encode()


def _recoded(feed: Feed, source: str, encoding: str) -> Callable[[int], bytes]:
    """Give the bytes in UTF-8, where a line feed is no byte of its own in the encoding."""
    decoder = getincrementaldecoder(encoding)()

    def read(size: int) -> bytes:
        while True:
            data = feed.read(size)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeError:
                msg = f"{source} is not {encoding}; give its encoding, or save it as UTF-8"
                raise HeldBackError(msg, source=source) from None
            if text or not data:
                return text.encode(_UTF8, "surrogatepass")

    return read


_CYRILLIC = ("cp1251", "cp866", "koi8-r")
_COMMON = set("оеаинтсрвлкмдпуязыбьг")


def likely_encoding(data: bytes) -> str | None:
    """Guess the encoding of some lines that are not UTF-8: a Russian one, or cp1252; None for ASCII."""
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    high = bytes(byte for byte in data if byte > 0x7F)  # noqa: PLR2004 - ASCII
    if not high:
        return None
    best = max(_CYRILLIC, key=lambda name: _looks_russian(high.decode(name, "replace")))
    russian = _looks_russian(high.decode(best, "replace")) > len(high) / 2
    return best if russian and re.search(rb"[\x80-\xff]{3}", data) else "cp1252"


def _looks_russian(letters: str) -> int:
    return (
        sum(letter in _COMMON for letter in letters)
        + sum(letter.isalpha() and letter.isupper() for letter in letters) // 2
    )


def not_in_encoding(raw: bytes, encoding: str) -> tuple[str, str | None]:
    """Say which byte of a line is not of its encoding, and the encoding that the line most likely has."""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        likely = likely_encoding(raw)
        advice = f"it looks like {likely}: read it as that" if likely else "give its encoding"
        name = "UTF-8" if encoding == _UTF8 else encoding
        byte = f"byte 0x{error.object[error.start]:02X} at position {error.start + 1}"
        return f"{byte} is not {name}; {advice}, or save the file as UTF-8", likely
    return "a character cannot be told; save the file as UTF-8", None


# -- what is no text at all

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (
        b"PK\x03\x04",
        "an Excel workbook, or another zip archive; read it as a workbook (format xlsx), or save it as CSV",
    ),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file of the old kind (.xls); save it as .xlsx or CSV"),
    (b"PAR1", "a Parquet file; export it as CSV or JSON lines"),
    (b"SQLite format 3\0", "an SQLite database; export the table as CSV"),
    (b"%PDF", "a PDF; export the table as CSV"),
    (b"BZh", "packed by bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "packed by xz; unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd; unpack it first (unzstd)"),
)


def say_foreign(head: bytes) -> str | None:
    """Say what an input is whose first bytes are no CSV and no JSON, and what to do; None where they may be."""
    for magic, said in _FOREIGN:
        if head.startswith(magic):
            return said
    start = head.removeprefix(_BOM.encode()).lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<table", b"<body")):
        return "a web page (HTML), perhaps of a login or an error; export the table as CSV"
    return "XML; export it as CSV or JSON lines" if start.startswith(b"<") else None


def is_utf16(head: bytes) -> bool:
    """Say whether the first bytes of an input look like UTF-16."""
    return head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or head.count(0) > len(head) // 4


# -- the lines


class Lines:
    """The physical lines of a feed, given once, without their ends; all iterators are one.

    Of the line given last, ``number`` is its 1-based number, ``raw`` its bytes
    without the line feed, ``block`` the text that it was read with,
    ``last_block`` whether that has the input's last line, one without an end, and
    ``ended`` whether the line had one.
    """

    __slots__ = (
        "_carry", "_encoding", "_feed", "_first", "_given", "_raws", "_source", "_waiting", "block", "last_block",
        "number", "raw",
    )  # fmt: skip

    def __init__(self, feed: Feed, source: str, encoding: str) -> None:
        self._feed = feed
        self._source = source
        self._encoding = encoding
        self._carry = b""
        self._raws: list[bytes] = []
        self._first = 0
        self.last_block = False
        self._waiting: list[bytes] = []
        self.block = ""
        self.raw = b""
        self.number = 0
        self._given = self._give()

    def __iter__(self) -> Iterator[str]:
        """Give the lines that were not given yet."""
        return self._given

    @property
    def ended(self) -> bool:
        """Whether the line given last had a line end."""
        return not (self.last_block and self.number - self._first == len(self._raws))

    def _give(self) -> Iterator[str]:
        while data := self._next_block():
            self._raws = raws = data.split(b"\n")
            if not raws[-1]:
                raws.pop()
            text = data.decode(self._encoding, "surrogateescape").replace("\r\n", "\n")
            texts = text.split("\n")
            if "\r" in text:
                texts = [line.rstrip("\r") for line in texts]
            if _BOM in text:
                texts = [line.removeprefix(_BOM) for line in texts]
            self._first = self.number
            self.block = text
            for self.raw, line in zip(raws, texts, strict=False):
                self.number += 1
                yield line

    def _next_block(self) -> bytes:
        """Read whole lines, as many as come at once; only the last of the input may lack its end."""
        parts = [self._carry]
        size = len(self._carry)
        while data := self._feed.read():
            cut = data.rfind(b"\n") + 1
            if cut:
                parts.append(data[:cut])
                self._carry = data[cut:]
                return b"".join(parts)
            parts.append(data)
            size += len(data)
            if size > MAX_RECORD_BYTES:
                self._carry = b"".join(parts)
                msg = (
                    f"{self._source}, line {self.number + 1}: the line is longer than {MAX_RECORD_BYTES >> 20} MB; "
                    "check that the file has line ends; nothing from this line on was sent"
                )
                raise HeldBackError(msg, source=self._source, line=self.number + 1)
        self._carry = b""
        rest = b"".join(parts)
        self.last_block = bool(rest)
        return rest

    def peek(self) -> str:
        """Return the next line where it was read already, else an empty one."""
        left = self._raws[self.number - self._first :][:1]
        return left[0].decode(self._encoding, "replace") if left else ""

    def give_back(self, raws: list[bytes]) -> None:
        """Let `unread` begin with these lines, which were given and not used."""
        self._waiting = raws

    def unread(self) -> Iterator[bytes]:
        """Give, in blocks, the bytes of what was not given yet. Ends the reading."""
        left = self._waiting + self._raws[self.number - self._first :]
        self._waiting, self._raws, self._first = [], [], self.number
        if left:
            yield b"\n".join(left) + (b"" if self.last_block else b"\n")
        if self._carry:
            yield self._carry
            self._carry = b""
        while block := self._feed.read():
            yield block
