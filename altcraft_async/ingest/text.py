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
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, getincrementaldecoder, lookup
from typing import TYPE_CHECKING, BinaryIO

from altcraft_async.errors import ConfigurationError
from altcraft_async.ingest.errors import HeldBackError, InputError

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
    "not_in_encoding",
    "open_feed",
    "say_foreign",
    "say_utf16",
]

MAX_RECORD_BYTES = 16 << 20
"""A record, and so a line, is held up to this size: what is longer is no record of an export."""

_BLOCK = 1 << 16
_LOOK = 4096
_BOM = "\ufeff"
_MARKED = re.compile(rf'\A(?=[ \xa0"]*{_BOM})[ \xa0{_BOM}]*("?)[ \xa0{_BOM}]*')
"""The beginning of a line whose first cell begins with a byte order mark."""
_GZIP = b"\x1f\x8b"
_UTF8 = "utf-8"
_SETTLED_AFTER = 2.0
"""Seconds without a write after which a file counts as finished."""


# -- the bytes


class Feed:
    """The bytes of an input; `peek` looks ahead of them. `read` gives what there is at once, none at the end.

    Where the bytes break off, `read` raises `HeldBackError`, and again whenever it is asked.
    """

    __slots__ = ("_ahead", "_broken", "_read")

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ahead = b""
        self._broken: HeldBackError | None = None

    def peek(self) -> bytes:
        """Return the next bytes, as a rule a line at least, and leave them there."""
        while len(self._ahead) < _LOOK and b"\n" not in self._ahead and self._broken is None:
            try:
                more = self._read(_BLOCK)
            except HeldBackError as error:
                self._broken = error
                break
            if not more:
                break
            self._ahead += more
        return self._ahead

    def read(self, size: int = _BLOCK) -> bytes:
        """Return the next bytes; `size` is a wish."""
        data, self._ahead = self._ahead, b""
        if data:
            return data
        if self._broken is None:
            try:
                return self._read(size)
            except HeldBackError as error:
                self._broken = error
        raise self._broken


class LastLine(enum.StrEnum):
    """What to do with a last line that has no line end, and so may be half a line."""

    AUTO = "auto"
    """It is sent if the input is a file that was not changed while it was read, nor for 2 s before that."""
    SEND = "send"
    """It is sent."""
    HOLD = "hold"
    """It is held back."""


class Watch:
    """Whether the file behind a stream may still get more than it had when this was made.

    `opened_at` is the Unix time at which the file was opened, as far as its rest is
    concerned. ``notes`` gets what a person should know. A stream in memory is whole.
    """

    __slots__ = ("_last_line", "_opened", "_opened_at", "_stream", "notes")

    def __init__(self, stream: BinaryIO, last_line: LastLine = LastLine.AUTO, *, opened_at: float) -> None:
        self._stream = stream
        self._last_line = last_line
        self._opened_at = opened_at
        self._opened = _status(stream)
        self.notes: list[str] = []

    def let_pass(self, source: str, line: int) -> None:
        """Let the last line pass, which has no end, with a note; raises as `check_last` does."""
        self.check_last(source, line)
        self.notes.append(f"{source}, line {line}: the last line has no line end; it counts as whole")

    def check_last(self, source: str, line: int) -> None:
        """Raise `HeldBackError` if the last line, which has no end, may be half of one."""
        why = self.unsettled
        if why is None:
            return
        msg = (
            f"{source}, line {line}: the last line has no line end and may be half of one ({why}); it was not sent: "
            "end it, or say that it is whole"
        )
        raise HeldBackError(msg, source=source, line=line, last_line=True)

    def check_length(self, source: str) -> None:
        """Raise `HeldBackError` if the file has become shorter while it was read."""
        before, now = self._opened, _status(self._stream)
        if before is not None and now is not None and now.st_size < before.st_size:
            msg = f"{source} became shorter while it was read, so rows may be missing; read it again when it is whole"
            raise HeldBackError(msg, source=source, last_line=True)

    @property
    def unsettled(self) -> str | None:
        """Why the end of the input need not be its end; None if it is."""
        before, now = self._opened, _status(self._stream)
        if self._last_line is LastLine.HOLD:
            return "so it was asked"
        if self._last_line is LastLine.SEND or before is None or now is None:
            return None
        if not stat.S_ISREG(before.st_mode):
            return "a pipe that is cut off ends like this too"
        if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
            return "the file was changed while it was read"
        return "the file was written just now" if self._opened_at - now.st_mtime < _SETTLED_AFTER else None


def _status(stream: BinaryIO) -> os.stat_result | None:
    try:
        return os.fstat(stream.fileno())
    except (OSError, AttributeError, ValueError):  # in memory
        return None


def open_feed(stream: BinaryIO, source: str, encoding: str) -> Feed:
    """Return the bytes of `stream`, unpacked, and with ASCII for ASCII; what is no text is left as it is."""
    feed = Feed(stream.read1 if isinstance(stream, io.BufferedIOBase) else stream.read)
    if feed.peek().startswith(_GZIP):
        feed = Feed(_unpacked(feed, source))
    foreign = say_foreign(feed.peek())
    if foreign is None and feed.peek().startswith(_BOM.encode()) and encoding != _UTF8:
        msg = f"{source} begins with the mark of UTF-8, so it is not {encoding}; read it as UTF-8"
        raise InputError(msg, source=source, encoding=_UTF8)
    if foreign is None and not _keeps_ascii(encoding):
        feed = Feed(_recoded(feed, source, encoding))
    return feed


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
    """Return the bytes in UTF-8, where a line feed is no byte of its own in the encoding."""
    decoder = getincrementaldecoder(encoding)()

    def read(size: int) -> bytes:
        while True:
            data = feed.read(size)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeError:
                msg = f"{source} is not {encoding}; give its encoding, or save it as UTF-8"
                if not data:
                    msg = f"{source} ends in the middle of a character; get the file again, or wait until it is written"
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
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel file of the old kind (.xls), or one with a password; save it as .xlsx without one, or as CSV",
    ),
    (b"PAR1", "a Parquet file, which is read from its end and not from a pipe; give it by its path"),
    (b"SQLite format 3\0", "an SQLite database; export the table as CSV"),
    (b"%PDF", "a PDF; export the table as CSV"),
    (b"\x89PNG\r\n", "a picture (PNG); export the table as CSV"),
    (b"\xff\xd8\xff", "a picture (JPEG); export the table as CSV"),
    (b"\x7fELF", "a program; give the file of updates"),
    (b"MZ\x90\0", "a program; give the file of updates"),
    (_GZIP, "packed twice by gzip; unpack it once (gunzip)"),
    (b"BZh", "packed by bzip2; unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "packed by xz; unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd; unpack it first (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it first"),
    (BOM_UTF32_LE, "UTF-32; save it as UTF-8"),
    (BOM_UTF32_BE, "UTF-32; save it as UTF-8"),
)
_TAR = slice(257, 262)


def say_foreign(head: bytes) -> str | None:
    """Say what an input is whose first bytes are no CSV and no JSON, and what to do; None if they may be."""
    for magic, said in _FOREIGN:
        if head.startswith(magic):
            return said
    if head[_TAR] == b"ustar":
        return "a tar archive; unpack it first"
    start = head.removeprefix(_BOM.encode()).lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<table", b"<body")):
        return "a web page (HTML), perhaps of a login or an error; export the table as CSV"
    return "XML; export it as CSV or JSON lines" if start.startswith(b"<") else None


def say_utf16(head: bytes) -> str | None:
    """Return the name of the UTF-16 that the first bytes of an input look like, None for any other text."""
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    if head.count(0) <= len(head) // 4:
        return None
    return "utf-16-be" if head[::2].count(0) > head[1::2].count(0) else "utf-16-le"


# -- the lines


class Lines:
    """The physical lines of a feed, given once, without their ends; all iterators are one.

    Of the line given last, ``number`` is its 1-based number, ``raw`` its bytes
    without the line feed, ``block`` the text that it was read with,
    ``last_block`` whether that has the input's last line, one without an end, and
    ``ended`` whether the line had one. Byte order marks at a line's beginning, and
    blanks around them, are no part of it.
    """

    __slots__ = (
        "_carry", "_encoding", "_feed", "_first", "_given", "_raws", "_source", "_waiting", "_watch", "block",
        "last_block", "number", "raw",
    )  # fmt: skip

    def __init__(self, feed: Feed, source: str, encoding: str, watch: Watch) -> None:
        self._feed = feed
        self._watch = watch
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
        """Return the lines that were not given yet."""
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
                texts = [_MARKED.sub(r"\1", line) if _BOM in line else line for line in texts]
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
        """Let `unread` begin with these lines, which were given and not used; the first to say so is believed."""
        self._waiting = self._waiting or raws

    def unread(self) -> Iterator[bytes]:
        """Give, in blocks, the bytes of what was not given yet, each line with its end. Ends the reading.

        Raises `HeldBackError` in the place of a last line that may be half of one, and where the input breaks.
        """
        left = self._waiting + self._raws[self.number - self._first :]
        self.number = self._first + len(self._raws)
        self._waiting, self._raws, self._first = [], [], self.number
        last = left.pop() if self.last_block and left else None
        yield from (raw + b"\n" for raw in left)
        while last is None and (block := self._next_block()):
            self.number += block.count(b"\n")
            if self.last_block:
                last = block
                self.number += 1
            else:
                yield block
        if last is not None:
            self._watch.check_last(self._source, self.number)
            yield last + b"\n"
