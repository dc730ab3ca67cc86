"""What stands in a journal's file: the schema, how a row is recognised, how an outcome is written and read.

A line takes about 30 bytes, a failure some hundreds more, for its ids and its error.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

import attrs

from altcraft_async import errors
from altcraft_async.errors import AltcraftError, InputChangedError, JournalError
from altcraft_async.outcome import Outcome
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.storage.sqlite import FileKind, damaged, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from altcraft_async.errors import InvalidUpdateError

    Row = LineStatusUpdate | InvalidUpdateError

__all__ = [
    "KIND",
    "NUMBERS",
    "OPEN",
    "SELECT_LINE",
    "SELECT_LINE_AND_KEY",
    "STATES",
    "Line",
    "Replay",
    "RunRecord",
    "content_of",
    "failure_of",
    "id_prefix",
    "key_of",
    "line_of",
    "outcome_of",
    "request_id_of",
    "sealed",
]

KIND: Final = FileKind(
    name="the journal",
    application_id=0x414C544A,
    version=1,
    schema="""
        CREATE TABLE run (
            run_id TEXT NOT NULL, target TEXT NOT NULL, created REAL NOT NULL, written REAL NOT NULL, length INTEGER,
            seal INTEGER NOT NULL
        );
        CREATE TABLE line (
            line INTEGER PRIMARY KEY, key BLOB NOT NULL, seal INTEGER NOT NULL, state INTEGER NOT NULL,
            round INTEGER NOT NULL, attempts INTEGER NOT NULL, elapsed INTEGER NOT NULL, at INTEGER NOT NULL
        );
        CREATE TABLE failure (
            line INTEGER PRIMARY KEY, order_external_id TEXT, order_line_external_id TEXT, status_external_id TEXT,
            kind TEXT NOT NULL, facts TEXT NOT NULL
        )
    """,
    error=JournalError,
)

STATES: Final = tuple(OutcomeState)
NUMBERS: Final = {state: number for number, state in enumerate(STATES)}
OPEN: Final = len(STATES)
"""The number of a line that failed and is to be sent again."""

# Cast, because only the number of a line is sure to be one in a damaged file.
_LINE: Final = "line, CAST(seal AS INTEGER), CAST(state AS INTEGER), CAST(round AS INTEGER)"
SELECT_LINE: Final = f"SELECT {_LINE} FROM line"  # noqa: S608 - of our own parts
SELECT_LINE_AND_KEY: Final = f"SELECT {_LINE}, key FROM line"  # noqa: S608
_SELECT_EFFORT: Final = "SELECT CAST(attempts AS INTEGER), CAST(elapsed AS INTEGER) FROM line"

_ENDED_WELL = {number for state, number in NUMBERS.items() if state.ok}
_READ_AT_ONCE = 1024


@attrs.frozen
class RunRecord:
    """What is recorded of the run as a whole; see `altcraft_async.journal.JournalSummary`.

    All ids hang on `run_id`, so the row has a `seal` of its own.
    """

    run_id: str
    target: str
    created: float
    written: float
    length: int | None = None

    @property
    def seal(self) -> int:
        """A checksum of everything else."""
        return crc32("\x1f".join(map(repr, attrs.astuple(self))).encode())

    @classmethod
    def read(cls, connection: sqlite3.Connection, path: str) -> RunRecord | None:
        """Read it, None where there is none yet; raises `JournalError` where it is not what was written."""
        rows = connection.execute("SELECT run_id, target, created, written, length, seal FROM run").fetchall()
        if not rows and connection.execute("SELECT count(*) FROM line").fetchone()[0] == 0:
            return None
        if len(rows) != 1 or (record := cls(*rows[0][:5])).seal != rows[0][5]:
            raise damaged(KIND, path)
        return record

    def write(self, connection: sqlite3.Connection, *, first: bool = False) -> None:
        """Write it, for the `first` time or over what is there."""
        sql = (
            "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?)"
            if first
            else "UPDATE run SET run_id = ?, target = ?, created = ?, written = ?, length = ?, seal = ?"
        )
        connection.execute(sql, (*attrs.astuple(self), self.seal))


class Line(NamedTuple):
    """What is needed of a recorded line to recognise it; `round` counts how often it was refused and sent again."""

    line: int
    seal: int
    state: int
    round: int


def key_of(update: LineStatusUpdate | None) -> bytes:
    """Return a digest of the order line that an update is about: 64 bits, so that no two lines of a run share one."""
    if update is None:
        return b""
    about = f"{update.order_external_id}\x1f{update.order_line_external_id}"
    return blake2b(about.encode(), digest_size=8).digest()


def content_of(row: Row) -> int:
    """Return a checksum of all that a row says, by which a changed one is recognised."""
    if isinstance(row, LineStatusUpdate):
        said = f"{row.order_external_id}\x1f{row.order_line_external_id}\x1f{row.status_external_id}"
        return crc32(said.encode())
    return crc32(row.message.encode(errors="surrogatepass"))


def sealed(line: int, content: int, state: int, round_: int) -> int:
    """Bind what is recorded of a line to the `content` of its row, so that neither can change unnoticed.

    Sealing a seal with the same values gives the content back.
    """
    return content ^ ((state << 28 ^ line) * 0x9E3779B1 ^ round_ * 0x85EBCA6B) & 0xFFFFFFFF


def id_prefix(run_id: str) -> str:
    """Return the part of a ``Request-ID`` that all updates of a run share."""
    return f"{run_id[:13]}-8{run_id[15:18]}-a"


def request_id_of(prefix: str, index: int, content: int, round_: int) -> str:
    """Return the ``Request-ID`` of a row: of its run, its index, its content, and how often it was refused before.

    It has the form of a UUID of version 8.
    """
    said = (content + round_ * 0x9E3779) & 0xFFFFFF
    return f"{prefix}{said >> 12:03x}-{said & 0xFFF:03x}{index:09x}"


def line_of(outcome: Outcome[object], round_: int, at: int) -> tuple[object, ...]:
    """Return the columns of an outcome, recorded `at` seconds after the run's creation."""
    content = content_of(outcome.update or outcome.error)  # type: ignore[arg-type]  # without update: invalid
    number = NUMBERS[outcome.state]
    seal = sealed(outcome.index, content, number, round_)
    milliseconds = round(outcome.elapsed * 1000)
    return (outcome.index, key_of(outcome.update), seal, number, round_, outcome.attempts, milliseconds, at)


def failure_of(outcome: Outcome[object]) -> tuple[object, ...]:
    """Return what is recorded of a failure beside its line: the ids and the error."""
    update, error = outcome.update, outcome.error
    ids = (None,) * 3 if update is None else attrs.astuple(update)
    facts = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | None)}
    return (outcome.index, *ids, type(error).__name__, json.dumps(facts))


def outcome_of(
    connection: sqlite3.Connection, path: str, line: Line, row: Row | None = None, prefix: str = ""
) -> Outcome[object]:
    """Read an outcome back. Without its `row`, a line that did not fail has no update and no ``Request-ID``.

    Raises `JournalError` where what is recorded of a failure does not fit its line.
    """
    state = STATES[line.state]
    update = row if isinstance(row, LineStatusUpdate) else None
    error = None
    with translated(KIND, path):
        attempts, milliseconds = connection.execute(f"{_SELECT_EFFORT} WHERE line = ?", (line.line,)).fetchone()
        if not state.ok:
            found = connection.execute("SELECT * FROM failure WHERE line = ?", (line.line,)).fetchone()
            recorded, error = _failure_from(found, path)
            content = content_of(recorded or error)  # type: ignore[arg-type]  # without update: invalid
            if row is None and sealed(line.line, content, line.state, line.round) != line.seal:
                raise damaged(KIND, path)
            update = update or recorded
    known = prefix and update and attempts
    request_id = request_id_of(prefix, line.line, content_of(update), line.round) if known and update else None
    return Outcome(line.line, update, state, attempts, milliseconds / 1000, request_id, error)


def _failure_from(found: tuple[Any, ...], path: str) -> tuple[LineStatusUpdate | None, AltcraftError]:
    """Return the update and the error of a row of `failure`."""
    try:
        _, order, line, status, kind, facts = found
        return None if order is None else LineStatusUpdate(order, line, status), _restored(kind, json.loads(facts))
    except (TypeError, ValueError, AttributeError):
        raise damaged(KIND, path) from None


def _restored(kind: str, facts: Mapping[str, Any]) -> AltcraftError:
    """Make an error again of its class's name and its attributes."""
    made = getattr(errors, kind, None)
    known = made if isinstance(made, type) and issubclass(made, AltcraftError) else AltcraftError
    error: AltcraftError = known(facts.get("message", ""))
    for name, value in facts.items():
        setattr(error, name, value)
    return error


class Replay:
    """Holds the rows of an input against the recorded lines, both in order.

    `expected` is the index of the next recorded line, None after the last.
    """

    __slots__ = ("_at", "_connection", "_lines", "_path", "expected")

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._lines: list[tuple[int, int, int, int]] = []
        self._at = -1
        self.expected: int | None = -1
        self._read_on()

    def match(self, index: int, row: Row) -> Line:
        """Return the line at `index`, which is `expected`.

        Raises `InputChangedError` for a row that is not the one recorded.
        """
        line = self._lines[self._at]
        if sealed(index, content_of(row), line[2], line[3]) != line[1]:
            raise self._changed(index)
        self._move(1)
        return Line(*line)

    def ahead(self) -> int:
        """Return how many of the next lines, at most those read already, follow each other and ended well."""
        lines, at = self._lines, self._at
        count, first = 0, lines[at][0]
        for line in islice(lines, at, None):
            if line[0] != first + count or line[2] not in _ENDED_WELL:
                break
            count += 1
        return count

    def skip(self, rows: Sequence[Row]) -> None:
        """Hold as many rows, from the `expected` index on, against their lines; `InputChangedError` as in `match`."""
        at = self._at
        for (line, seal, state, round_), row in zip(self._lines[at : at + len(rows)], rows, strict=True):
            if sealed(line, content_of(row), state, round_) != seal:
                raise self._changed(line)
        self._move(len(rows))

    def _move(self, count: int) -> None:
        self._at += count
        if self._at < len(self._lines):
            self.expected = self._lines[self._at][0]
        else:
            self._read_on()

    def _changed(self, index: int) -> InputChangedError:
        msg = (
            f"row {index + 1} of the input is not the one that the journal {self._path} records; give the input as it "
            "was, or another journal (if nothing was changed in the input, the journal is damaged)"
        )
        return InputChangedError(msg, path=self._path, index=index)

    def end(self, rows: int) -> None:
        """Take note of the input's end; `InputChangedError` where more is recorded."""
        if self.expected is not None:
            msg = (
                f"the input ends after {rows} rows, and the journal {self._path} records row {self.expected + 1}; "
                "give the input as it was, or another journal"
            )
            raise InputChangedError(msg, path=self._path, index=rows)

    def _read_on(self) -> None:
        """Read some more lines; all in one long read would keep the file's log from being cut."""
        after = self._lines[-1][0] if self._lines else -1
        with translated(KIND, self._path):
            self._lines = self._connection.execute(
                f"{SELECT_LINE} WHERE line > ? ORDER BY line LIMIT ?", (after, _READ_AT_ONCE)
            ).fetchall()
        self._at = 0
        self.expected = self._lines[0][0] if self._lines else None
