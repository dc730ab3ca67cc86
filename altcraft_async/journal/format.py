"""What stands in a journal's file: the schema, how an outcome is written and read, how an input is held against it.

A row of the input takes about 30 bytes, a failure some hundreds more, for what the row said and its error.

The next release that knows more than this one need not change the format: facts of
the run are rows of ``meta``, all under its seal, those of a bucket or a failure are keys of
an object, and a table that is not there yet can be made.
"""

from __future__ import annotations

import contextlib
import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from altcraft_async import errors
from altcraft_async.errors import AltcraftError, InputChangedError, InvalidUpdateError, JournalError
from altcraft_async.flow.limit import LearnedLimit
from altcraft_async.journal.seals import content_of, key_of, request_id_of_update, seal_of_facts, sealed
from altcraft_async.journal.version1 import bring_to_version_2, read_as_version_2
from altcraft_async.outcome import Fingerprint, Outcome
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.storage.sqlite import FileKind, Upgrade, damaged, insert_many, translated
from altcraft_async.timeline import Bucket, Level

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from altcraft_async.journal.seals import Fact, Row

__all__ = [
    "APART",
    "CORRECTED",
    "ENDS",
    "FORGOTTEN",
    "KIND",
    "LINE_STATUS",
    "LONGER",
    "OPEN",
    "OVERTAKING",
    "SELECT_ENDED",
    "Ended",
    "Replay",
    "RunRecord",
    "bucket_columns",
    "bucket_of",
    "columns_of",
    "failure_of",
    "outcome_of",
    "recorded_rows",
]

_TABLES: Final = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE failure (
        row INTEGER PRIMARY KEY, state INTEGER NOT NULL, content TEXT, error TEXT NOT NULL, facts TEXT NOT NULL
    );
    CREATE TABLE timeline (start INTEGER PRIMARY KEY, width INTEGER NOT NULL, facts TEXT NOT NULL);
    CREATE TABLE slowest (row INTEGER PRIMARY KEY, elapsed INTEGER NOT NULL, attempts INTEGER NOT NULL)
"""
"""All but the outcomes. `content` is what a row said, as an object, None where it said nothing that could be sent;
`elapsed` is in milliseconds, `start` and `width` are in seconds."""

KIND: Final = FileKind(
    name="the journal",
    application_id=0x414C544A,
    version=2,
    schema=f"""
        CREATE TABLE outcome (
            row INTEGER PRIMARY KEY, key BLOB NOT NULL, seal INTEGER NOT NULL, state INTEGER NOT NULL,
            round INTEGER NOT NULL, attempts INTEGER NOT NULL, elapsed INTEGER NOT NULL, at INTEGER NOT NULL
        );
        {_TABLES}
    """,
    error=JournalError,
    upgrades={
        1: Upgrade(
            write=lambda connection: bring_to_version_2(connection, _TABLES),
            read=read_as_version_2,
        )
    },
)

LINE_STATUS: Final = "market/orders/update_order_line_status"
"""The method of a run over status updates of order lines."""

ENDS: Final = "ends"
"""The fact of a run of batches that says after which counts of rows its input had ended: there its batches end too."""

APART: Final = "apart"
"""The fact of a run of batches that names the rows that were invalid once: they go out by themselves, so that all
other batches are what they were."""

FORGOTTEN: Final = "{}"
"""The content of a failed row whose content was deleted: nothing is left to hold its seal against."""

OPEN: Final = 15
"""The number of a row that failed and is to be sent again: the highest that the seal has room for, and no state's."""

CORRECTED: Final = 16
"""Of a row that was invalid and says something else now. This and the next are never written."""

LONGER: Final = 17
"""Of a last row that says more now, since its line was not there as a whole."""

OVERTAKING: Final = ",".join(
    str(state.number) for state in (OutcomeState.APPLIED, OutcomeState.DUPLICATE, OutcomeState.UNKNOWN)
)
"""The numbers of the states in which an update was applied, or may have been."""

# Cast, because only the number of a row is sure to be one in a damaged file.
SELECT_ENDED: Final = "SELECT row, CAST(seal AS INTEGER), CAST(state AS INTEGER), CAST(round AS INTEGER) FROM outcome"
_SELECT_EFFORT: Final = "SELECT CAST(attempts AS INTEGER), CAST(elapsed AS INTEGER) FROM outcome"

_ENDED_WELL = {state.number for state in OutcomeState if state.ok}
_READ_AT_ONCE = 1024


@attrs.frozen
class RunRecord:
    """What is recorded of the run as a whole; see `altcraft_async.journal.JournalSummary`.

    `method` is what the run did for each row. All ids hang on `run_id`, so the record
    has a seal. What a later release keeps here beside, `others`, stays as it is.
    """

    run_id: str
    method: str
    target: str
    created: float
    written: float
    length: int | None = None
    others: Mapping[str, Fact] = attrs.field(factory=dict)

    @classmethod
    def read(cls, connection: sqlite3.Connection, path: str) -> RunRecord | None:
        """Read it, None if there is none yet; raises `JournalError` if it is not what was written."""
        facts = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        if not facts and connection.execute("SELECT count(*) FROM outcome").fetchone()[0] == 0:
            return None
        try:
            seal = facts.pop("seal")
            known = {name: facts.pop(name) for name in _FACTS}
            record = cls(**known, others=facts)
            if seal != record._seal():
                raise damaged(KIND, path)
        except (KeyError, TypeError, ValueError):
            raise damaged(KIND, path) from None
        return record

    def write(self, connection: sqlite3.Connection) -> None:
        """Write it, over what is there."""
        self._write(connection, [*self._facts(), ("seal", self._seal())])

    def write_progress(self, connection: sqlite3.Connection) -> None:
        """Write, over what is there, what changes in a run."""
        changed = [("written", self.written), ("length", self.length), *self.others.items(), ("seal", self._seal())]
        self._write(connection, changed)

    @property
    def facts(self) -> Mapping[str, Fact]:
        """What a run that goes on must have as it was."""
        return {name: value for name, value in self.others.items() if name not in {ENDS, APART}}

    @property
    def ends(self) -> Sequence[int]:
        """The counts of rows after which the input of a run of batches had ended."""
        return self._numbers(ENDS)

    @property
    def apart(self) -> Sequence[int]:
        """The indices of the rows that stand in no batch with others."""
        return self._numbers(APART)

    def _numbers(self, fact: str) -> Sequence[int]:
        return [int(number) for number in str(self.others.get(fact) or "").split(",") if number]

    def check(self, path: str, method: str, facts: Mapping[str, Fact] | None) -> None:
        """Raise `JournalError` if the run did something else, or what ids hang on is not as it was."""
        if self.method != method:
            msg = f"the journal {path} records a run of {self.method}, not of {method}; give another journal"
            raise JournalError(msg, path=path)
        for name, value in (facts or {}).items():
            if self.others.get(name) != value:
                msg = (
                    f"the journal {path} records a run with {name} {self.others.get(name)}, not {value}; "
                    "give the same, or another journal"
                )
                raise JournalError(msg, path=path)

    def ended_at(self, length: int | None) -> RunRecord:
        """Return the record of a run whose input has that many rows."""
        if length is None or length == self.length:
            return self
        others = self.others
        if ENDS in others:
            others = {**others, ENDS: f"{others[ENDS]},{length}".lstrip(",")}
        return attrs.evolve(self, length=length, others=others)

    def with_apart(self, indices: AbstractSet[int]) -> RunRecord:
        """Return the record of a run of batches in which these rows stand apart too."""
        if APART not in self.others or indices <= {*self.apart}:
            return self
        named = ",".join(map(str, sorted({*self.apart, *indices})))
        return attrs.evolve(self, others={**self.others, APART: named})

    @property
    def learned(self) -> LearnedLimit | None:
        """What the limit had learned of the server; None if that is not known."""
        return LearnedLimit.read(self.others.get(_LIMIT), self.others.get(_RATE))

    def with_learned(self, learned: LearnedLimit | None) -> RunRecord:
        """Return the record with what the limit has learned."""
        facts: dict[str, Fact] = {} if learned is None else {_LIMIT: learned.limit, _RATE: learned.rate}
        return attrs.evolve(self, others={**self.others, **facts})

    def _write(self, connection: sqlite3.Connection, facts: Sequence[tuple[str, Fact]]) -> None:
        insert_many(connection, "INSERT OR REPLACE INTO meta", facts)

    def _facts(self) -> list[tuple[str, Fact]]:
        return [*((name, getattr(self, name)) for name in _FACTS), *self.others.items()]

    def _seal(self) -> int:
        return seal_of_facts(self._facts())


_LIMIT, _RATE = "learned_limit", "learned_rate"
_FACTS = ("run_id", "method", "target", "created", "written", "length")


def recorded_rows(connection: sqlite3.Connection) -> int:
    """Count the rows that have an outcome."""
    count: int = connection.execute("SELECT count(*) FROM outcome WHERE state <> ?", (OPEN,)).fetchone()[0]
    return count


class Ended(NamedTuple):
    """What is needed of a recorded row to recognise it; `round` counts how often it was rejected and sent again."""

    row: int
    seal: int
    state: int
    round: int


def columns_of(outcome: Outcome[object], number: int, round_: int, at: int) -> tuple[object, ...]:
    """Return the columns of an outcome, its state as a `number`, recorded `at` seconds after the run's creation."""
    row = outcome.update or outcome.fingerprint
    content = content_of(row or outcome.error)  # type: ignore[arg-type]  # neither: invalid
    seal = sealed(outcome.index, content, number, round_)
    milliseconds = round(outcome.elapsed * 1000)
    return (outcome.index, key_of(row), seal, number, round_, outcome.attempts, milliseconds, at)


def failure_of(outcome: Outcome[object]) -> tuple[object, ...]:
    """Return what is recorded of a failure beside its outcome: what the row said, and the error."""
    update, known, error = outcome.update, outcome.fingerprint, outcome.error
    content = None
    if update is not None:
        names = _IDS if update.request_id is None else (*_IDS, "request_id")
        content = json.dumps({name: getattr(update, name) for name in names})
    if known is not None:
        content = json.dumps(known._asdict())
    facts = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | None)}
    return (outcome.index, outcome.state.number, content, type(error).__name__, json.dumps(facts))


_IDS = ("order_external_id", "order_line_external_id", "status_external_id")


def outcome_of(
    connection: sqlite3.Connection, path: str, ended: Ended, row: Row | None = None, prefix: str = ""
) -> Outcome[object]:
    """Read an outcome back. Without its `row`, one that did not fail has no update and no ``Request-ID``.

    Raises `JournalError` if what is recorded of a failure does not fit its row.
    """
    said = None if row is None or isinstance(row, Exception) else row
    error = None
    with translated(KIND, path, write=False):
        try:
            state = OutcomeState.of_number(ended.state)
        except LookupError:
            raise damaged(KIND, path) from None
        attempts, milliseconds = connection.execute(f"{_SELECT_EFFORT} WHERE row = ?", (ended.row,)).fetchone()
        if not state.ok:
            query = "SELECT content, error, facts FROM failure WHERE row = ?"
            recorded, error = _failure_from(connection.execute(query, (ended.row,)).fetchone(), path)
            if recorded is not _GONE:
                content = content_of(recorded or error)  # type: ignore[arg-type]  # without update: invalid
                if row is None and sealed(ended.row, content, ended.state, ended.round) != ended.seal:
                    raise damaged(KIND, path)
                said = said or recorded
    if isinstance(said, Fingerprint):
        return Outcome(ended.row, None, state, attempts, milliseconds / 1000, None, error, **said._asdict())
    request_id = None
    if prefix and said is not None and attempts:
        request_id = request_id_of_update(prefix, ended.row, said, ended.round)
    return Outcome(ended.row, said, state, attempts, milliseconds / 1000, request_id, error)


def _failure_from(found: tuple[Any, ...], path: str) -> tuple[LineStatusUpdate | Fingerprint | None, AltcraftError]:
    """Return what a row of `failure` said, and its error."""
    try:
        content, kind, facts = found
        return None if content is None else _said(json.loads(content)), _restored(kind, json.loads(facts))
    except (TypeError, ValueError, LookupError, AttributeError):
        raise damaged(KIND, path) from None


_GONE: Final = Fingerprint("", 0, 0)


def _said(content: Mapping[str, Any]) -> LineStatusUpdate | Fingerprint:
    if not content:
        return _GONE
    if "external_id" in content:
        return Fingerprint(content["external_id"], int(content["content"]), int(content["size"]))
    return LineStatusUpdate(*(content[name] for name in _IDS), request_id=content.get("request_id"))


def _restored(kind: str, facts: Mapping[str, Any]) -> AltcraftError:
    """Make an error again of its class's name and its attributes."""
    made = getattr(errors, kind, None)
    known = made if isinstance(made, type) and issubclass(made, AltcraftError) else AltcraftError
    error: AltcraftError = known(facts.get("message", ""))
    for name, value in facts.items():
        setattr(error, name, value)
    return error


def bucket_columns(bucket: Bucket) -> tuple[object, ...]:
    """Return the columns of a bucket of the timeline."""
    facts = {
        "ended": {state.number: count for state, count in bucket.ended.items()},
        "sent": bucket.sent,
        "retries": bucket.retries,
        "throttled": bucket.throttled,
        "latencies": dict(bucket.latencies),
        "limit": _pair(bucket.limit),
        "in_flight": _pair(bucket.in_flight),
        "outage": round(bucket.outage, 3),
    }
    return (bucket.start, bucket.width, json.dumps(facts, separators=(",", ":")))


def bucket_of(columns: Sequence[Any], path: str) -> Bucket:
    """Read a bucket back; raises `JournalError` if it is none."""
    start, width, facts = columns
    try:
        known = json.loads(facts)
        return Bucket(
            start=int(start),
            width=int(width),
            ended={OutcomeState.of_number(int(number)): int(count) for number, count in known["ended"].items()},
            sent=int(known["sent"]),
            retries=int(known["retries"]),
            throttled=int(known["throttled"]),
            latencies={int(number): int(count) for number, count in known["latencies"].items()},
            limit=_level(known["limit"]),
            in_flight=_level(known["in_flight"]),
            outage=float(known["outage"]),
        )
    except (TypeError, ValueError, LookupError, AttributeError):
        raise damaged(KIND, path) from None


def _pair(level: Level | None) -> list[int] | None:
    return None if level is None else [level.last, level.most]


def _level(pair: Sequence[int] | None) -> Level | None:
    return None if pair is None else Level(*map(int, pair))


def _shorter(row: LineStatusUpdate) -> Iterator[LineStatusUpdate]:
    """Yield what a row may have said when the end of its line, and so of one of its fields, was not there yet."""
    for name in _IDS:
        value: str = getattr(row, name)
        for length in range(1, len(value)):
            with contextlib.suppress(InvalidUpdateError):
                yield attrs.evolve(row, **{name: value[:length]})


class Replay:
    """Holds the rows of an input against the recorded ones, both in order.

    `expected` is the index of the next recorded row, None after the last; `length` is
    how many rows the input had, None if that is not known.
    """

    __slots__ = ("_at", "_connection", "_known", "_knows_newest", "_path", "expected", "length")

    def __init__(self, connection: sqlite3.Connection, path: str, length: int | None) -> None:
        self._connection = connection
        self._path = path
        self.length = length
        self._knows_newest = False
        self._known: list[tuple[int, int, int, int]] = []
        self._at = -1
        self.expected: int | None = -1
        self._read_on()

    def match(self, index: int, row: Row) -> Ended:
        """Return what is recorded at `index`, which is `expected`.

        A row that was invalid, and so never sent, may have been corrected: it is `CORRECTED`. The
        last row may have been read when only half of its line was there: it is `LONGER`.
        Raises `InputChangedError` for any other row that is not the one recorded.
        """
        ended = self._known[self._at]
        if sealed(index, content_of(row), ended[2], ended[3]) != ended[1]:
            if ended[2] == OutcomeState.INVALID.number:
                ended = (index, ended[1], CORRECTED, 0)
            elif self._is_longer(Ended(*ended), row):
                ended = (index, ended[1], LONGER, 0)
            else:
                raise self._changed(index)
        self._move(1)
        return Ended(*ended)

    def _is_longer(self, ended: Ended, row: Row) -> bool:
        """Say whether the last recorded row is one of whose line only a part was there."""
        at_the_end = self.length is None or ended.row == self.length - 1
        if not at_the_end or not isinstance(row, LineStatusUpdate) or self._at + 1 < len(self._known):
            return False
        content = sealed(ended.row, ended.seal, ended.state, ended.round)
        if content not in map(content_of, _shorter(row)):
            return False
        query = "SELECT count(*) FROM outcome WHERE row > ?"
        with translated(KIND, self._path, write=False):
            return bool(self._connection.execute(query, (ended.row,)).fetchone()[0] == 0)

    def is_overtaken(self, index: int, row: Row) -> bool:
        """Say whether a newer row about the same was applied, or may have been, by the time of the first such question.

        The first question reads the whole file: about a second for a million rows.
        """
        if isinstance(row, Exception):
            return False
        with translated(KIND, self._path, write=False):
            if not self._knows_newest:
                self._knows_newest = True
                self._connection.execute("CREATE TEMP TABLE done_last (key BLOB PRIMARY KEY, row INTEGER NOT NULL)")
                self._connection.execute(
                    "INSERT INTO done_last SELECT key, max(row) FROM outcome WHERE row > ? AND "  # noqa: S608 - our own
                    f"(state IN ({OVERTAKING}) OR state = {OPEN} AND row IN (SELECT row FROM failure WHERE state = "
                    f"{OutcomeState.UNKNOWN.number})) GROUP BY key",
                    (index,),
                )
            found = self._connection.execute("SELECT row FROM done_last WHERE key = ?", (key_of(row),)).fetchone()
        return found is not None and found[0] > index

    def ahead(self) -> int:
        """Return how many of the next rows, at most those read already, follow each other and ended well.

        The last one read is never among them: it may be `LONGER`, which `match` tells.
        """
        known, at = self._known, self._at
        count, first = 0, known[at][0]
        for ended in islice(known, at, len(known) - 1):
            if ended[0] != first + count or ended[2] not in _ENDED_WELL:
                break
            count += 1
        return count

    def skip(self, rows: Sequence[Row]) -> None:
        """Hold as many rows against what is recorded from the `expected` index on; raises as `match` does."""
        at = self._at
        for (index, seal, state, round_), row in zip(self._known[at : at + len(rows)], rows, strict=True):
            if sealed(index, content_of(row), state, round_) != seal:
                raise self._changed(index)
        self._move(len(rows))

    def _move(self, count: int) -> None:
        self._at += count
        if self._at < len(self._known):
            self.expected = self._known[self._at][0]
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
        """Read some more; all in one long read would keep the file's log from being cut."""
        after = self._known[-1][0] if self._known else -1
        with translated(KIND, self._path, write=False):
            self._known = self._connection.execute(
                f"{SELECT_ENDED} WHERE row > ? ORDER BY row LIMIT ?", (after, _READ_AT_ONCE)
            ).fetchall()
        self._at = 0
        self.expected = self._known[0][0] if self._known else None
