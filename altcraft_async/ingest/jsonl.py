"""JSON: one object a line, or one array of objects, streamed.

A line that is a whole object needs no line end. Of an array every whole object
is a row; where it breaks or is cut off, what comes from there on is held back. Another array
may follow, and nothing else. Keys are compared as the columns of a table are.
"""

from __future__ import annotations

import json
import operator
import re
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Final

from altcraft_async.errors import InvalidUpdateError, Unit
from altcraft_async.ingest.errors import HeldBackError, clip
from altcraft_async.ingest.suspicion import Suspicions, concerns
from altcraft_async.ingest.table import fold, ids_of, with_column
from altcraft_async.ingest.text import MAX_RECORD_BYTES, not_in_encoding
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async.ingest.table import Ids, Reading, ReadItem, ReadRow
    from altcraft_async.ingest.text import Feed, Lines, Watch

__all__ = ["ArrayRows", "JsonLines", "Objects"]

_GAP = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_TOO_MUCH = "the line has a value that cannot be read; remove numbers or nesting beyond all measure"


class Objects:
    """Makes updates of JSON objects, by the keys that are needed; ``suspicions`` counts what is suspicious."""

    __slots__ = ("_known", "_pick", "_plain", "_reading", "notes", "source", "suspicions")
    unit: Final = Unit.LINE

    def __init__(self, reading: Reading, source: str) -> None:
        self._reading = reading
        self.source = source
        self.suspicions = Suspicions()
        self._known: set[str] = set()  # statuses that need no further look
        self._pick = operator.itemgetter(*reading.columns.values())
        self._plain = not (reading.constants or reading.statuses)
        self.notes: tuple[str, ...] = ()

    def item(self, value: object, line: int, *, suspect: bool) -> ReadItem:
        """Return what a value becomes."""
        try:
            update = LineStatusUpdate(*self._pick(value)) if self._plain else self._update(value)  # type: ignore[arg-type]
        except (LookupError, TypeError, InvalidUpdateError):
            return self._unusual(value, line, suspect=suspect)
        return self._looked_at(update, line, suspect=suspect)

    def _unusual(self, value: object, line: int, *, suspect: bool) -> ReadItem:
        """Return what a value becomes that is not three strings; see `item`."""
        try:
            return self._looked_at(self._update(value), line, suspect=suspect)
        except InvalidUpdateError as error:
            message = with_column(error, self._reading.columns)
            return InvalidUpdateError(message, field=error.field, source=self.source, line=line, ids=self._ids(value))

    def _ids(self, value: object) -> Ids | None:
        if not isinstance(value, dict):
            return None
        constants = self._reading.constants
        return ids_of([constants.get(field, value.get(key)) for field, key in self._reading.columns.items()])

    def _looked_at(self, update: LineStatusUpdate, line: int, *, suspect: bool) -> LineStatusUpdate:
        status = update.status_external_id
        if status not in self._known and not self.suspicions.look_at_status(status, line):
            self._known.add(status)
        if suspect:
            self.suspicions.look(update, line)
        return update

    def _update(self, value: object) -> LineStatusUpdate:
        if not isinstance(value, dict):
            msg = "this is no JSON object; write one object a row, with a key for each field"
            raise InvalidUpdateError(msg)
        reading = self._reading
        found: list[str] = []
        for field, column in reading.columns.items():
            keys = [column] if column in value else [key for key in value if fold(key) == fold(column)]
            if field in reading.constants:
                if keys:
                    msg = (
                        f"{field} is given for all rows, and the object has the key {clip(keys[0])} too; leave one out"
                    )
                    raise InvalidUpdateError(msg, field=field)
                found.append(reading.constants[field])
                continue
            if len(keys) != 1:
                what = f"is there {len(keys)} times" if keys else "is missing"
                msg = f"the key {clip(column)} {what}; every update needs all three ids, each once"
                raise InvalidUpdateError(msg, field=field)
            given = value[keys[0]]
            found.append(str(given) if type(given) is int else given)
        if reading.statuses and isinstance(found[2], str):
            found[2] = reading.statuses.get(found[2].strip(), found[2])
        return LineStatusUpdate(found[0], found[1], found[2])

    def invalid(self, message: str, line: int) -> InvalidUpdateError:
        """Return what is wrong with the row in a line."""
        return InvalidUpdateError(message, source=self.source, line=line)


class Values(Objects):
    """Makes values of whole objects, by what `Reading.make` says."""

    __slots__ = ()

    def item(self, value: object, line: int, *, suspect: bool) -> ReadItem:
        """Return what a value becomes."""
        del suspect
        make = self._reading.make
        assert make is not None  # noqa: S101 - it is what makes a table of values
        if not isinstance(value, dict):
            return self.invalid("this is no JSON object; write one object a row", line)
        try:
            return make(value)  # type: ignore[return-value]  # the caller knows what it asked for
        except InvalidUpdateError as error:
            return InvalidUpdateError(error.message, field=error.field, source=self.source, line=line)


def _table_of(reading: Reading, source: str) -> Objects:
    return Objects(reading, source) if reading.make is None else Values(reading, source)


class JsonLines:
    """The rows of JSON lines; iterating gives them. ``header`` is empty."""

    __slots__ = ("_encoding", "_lines", "_watch", "header", "table")

    def __init__(self, lines: Lines, source: str, reading: Reading, watch: Watch) -> None:
        self._lines = lines
        self._encoding = reading.encoding
        self._watch = watch
        self.header = b""
        self.table = _table_of(reading, source)
        for _ in range(reading.skip_lines):
            if next(iter(lines), None) is not None:
                self.header += lines.raw + b"\n"

    def __iter__(self) -> Iterator[ReadRow]:
        """Yield the rows; raises `HeldBackError` for a last line that may be half of one."""
        lines = self._lines
        block, suspect = "", False
        for text in lines:
            if lines.block is not block:
                block = lines.block
                suspect = concerns(block)
            if not text or text.isspace():
                continue
            line, raw = lines.number, lines.raw
            made = self._item(text, line, raw, suspect=suspect)
            if lines.last_block and not lines.ended and isinstance(made, InvalidUpdateError):
                self._let_pass(line, raw)
            yield made, line, raw

    def _let_pass(self, line: int, raw: bytes) -> None:
        try:
            self._watch.let_pass(self.table.source, line)
        except HeldBackError:
            self._lines.give_back([raw])
            raise

    def _item(self, text: str, line: int, raw: bytes, *, suspect: bool) -> ReadItem:
        try:
            made = self.table.item(json.loads(text), line, suspect=suspect)
        except json.JSONDecodeError as error:
            made = self.table.invalid(
                f"the line is not JSON ({error.msg} at position {error.pos + 1}); write one object a line", line
            )
        except (ValueError, RecursionError):
            made = self.table.invalid(_TOO_MUCH, line)
        if isinstance(made, InvalidUpdateError) and any("\udc80" <= letter <= "\udcff" for letter in text):
            return self.table.invalid(not_in_encoding(raw, self._encoding)[0], line)
        return made

    def unread(self) -> Iterator[bytes]:
        """Give, in blocks, the bytes of the rows that were not given. Ends the reading."""
        return self._lines.unread()


class ArrayRows:
    """The objects of one JSON array; iterating gives them, each as one JSON line. ``header`` is empty."""

    __slots__ = ("_encoding", "_given", "_held", "_read", "header", "table")

    def __init__(self, feed: Feed, source: str, reading: Reading) -> None:
        decoder = getincrementaldecoder(reading.encoding)("surrogateescape")
        self._encoding = reading.encoding
        self.header = b""
        self.table = _table_of(reading, source)

        def read() -> str:
            while data := feed.read():
                if text := decoder.decode(data):
                    return text
            return decoder.decode(b"", final=True)

        self._read = read
        self._held: HeldBackError | None = None
        self._given = self._give()

    def __iter__(self) -> Iterator[ReadRow]:
        """Return the rows; raises `HeldBackError` if the array breaks."""
        return self._given

    def _give(self) -> Iterator[ReadRow]:
        try:
            yield from self._objects()
        except HeldBackError as error:
            self._held = error
            raise

    def _objects(self) -> Iterator[ReadRow]:
        decode = json.JSONDecoder().raw_decode
        text = self._read().lstrip("\ufeff \t\r\n")[1:]
        at, line = 0, 1
        while True:
            start = _GAP.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too
            line += text.count("\n", at, start)
            at = start
            if text.startswith("]", at):
                text, at, line = self._next_array(text, at + 1, line)
                if not text:
                    return
                continue
            try:
                value, end = decode(text, at)
            except json.JSONDecodeError as error:
                more = self._more(len(text) - at)
                if not more:
                    raise self._broken(line, error.msg) from None
                text, at = text[at:] + more, 0
                continue
            except (ValueError, RecursionError):
                raise self._broken(line, "a number or nesting beyond all measure") from None
            if end == len(text) and not isinstance(value, dict) and (more := self._more(0)):
                text, at = text[at:] + more, 0  # a number may go on
                continue
            whole = text[at:end]
            yield self.table.item(value, line, suspect=concerns(whole)), line, self._one_line(whole)
            line += whole.count("\n")
            at = end

    def _next_array(self, text: str, at: int, line: int) -> tuple[str, int, int]:
        """Find the array behind an end; no text where the input ends there. Anything else is held back."""
        while True:
            rest = text[at:]
            behind = rest.lstrip("\ufeff \t\r\n")
            line += rest.count("\n", 0, len(rest) - len(behind))
            if behind:
                break
            text, at = self._read(), 0
            if not text:
                return "", 0, line
        if not behind.startswith("["):
            raise self._broken(line, "something else follows the array")
        return behind, 1, line

    def _more(self, pending: int) -> str:
        """Read on, by as much as is pending, so that a long object is not tried again for each block."""
        parts: list[str] = []
        size = 0
        while pending < MAX_RECORD_BYTES and (more := self._read()):
            parts.append(more)
            size += len(more)
            if size >= pending or pending < 1 << 16:
                break
        return "".join(parts)

    def _one_line(self, text: str) -> bytes:
        return text.replace("\r", " ").replace("\n", " ").encode(self._encoding, "surrogateescape")

    def _broken(self, line: int, why: str) -> HeldBackError:
        msg = (
            f"{self.table.source}, line {line}: the JSON array breaks off or is wrong here ({why}); "
            "nothing from this line on was sent"
        )
        return HeldBackError(msg, source=self.table.source, line=line)

    def unread(self) -> Iterator[bytes]:
        """Yield the rows that were not given, as JSON lines; raises where the array breaks. Ends the reading."""
        for _, _, raw in self._given:
            yield raw + b"\n"
        if self._held is not None:
            raise self._held
