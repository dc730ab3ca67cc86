"""The sandbox's ledger: the requests for every line and import, in order, with their ids, and the applied changes.

Pure: the server writes it, tests and the demo read it. The sandbox cannot know what a client meant to send, so
`Ledger.check` takes the expected changes and compares them, line by line, with those that were applied.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from altcraft_async.sandbox.alignment import unaligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Arrival", "Change", "Import", "ImportArrival", "Ledger", "LedgerCheck", "LedgerStatistics", "mark_of"]


class Arrival:
    """One request about one order line.

    `number` counts all such requests from 1, in order of arrival. `fate` is
    ``"open"`` until it is known, then ``"applied"``, ``"replayed"`` (an earlier
    answer was given again), ``"refused"``, ``"throttled"`` (an error, HTML or
    reset before the processing) or ``"dropped"`` (the sandbox was closed).
    """

    __slots__ = ("fate", "number", "request_id", "status")

    def __init__(self, number: int, request_id: str | None, status: str, fate: str = "open") -> None:
        self.number = number
        self.request_id = request_id
        self.status = status
        self.fate = fate

    def __repr__(self) -> str:
        """Show all four facts."""
        return f"Arrival({self.number}, request_id={self.request_id!r}, status={self.status!r}, fate={self.fate!r})"


class Change(NamedTuple):
    """One change of one order line; `request_id` is None if it is not known."""

    order_external_id: str
    order_line_external_id: str
    status: str
    request_id: str | None = None


class Import(NamedTuple):
    """One row that was imported.

    `kind` is ``"orders"``, ``"products"`` or ``"sku"``; `mark` stands for the row's content, see `mark_of`.
    """

    kind: str
    external_id: str
    mark: str
    request_id: str | None = None


class ImportArrival:
    """One request that imports `rows`: their kind and external id each; `fate` is that of an `Arrival`."""

    __slots__ = ("fate", "request_id", "rows")

    def __init__(self, rows: tuple[tuple[str, str], ...], request_id: str | None) -> None:
        self.rows = rows
        self.request_id = request_id
        self.fate = "open"

    def __repr__(self) -> str:
        """Show the facts, of the rows their number."""
        return f"ImportArrival({len(self.rows)} rows, request_id={self.request_id!r}, fate={self.fate!r})"


def mark_of(row: Mapping[str, object]) -> str:
    """Return a short text that is the same for the same row, with the platform's names, and no other."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


class _Line:
    __slots__ = ("applied", "arrivals", "open")

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.applied: list[tuple[str, str | None]] = []
        self.open: list[Arrival] = []


@attrs.frozen
class LedgerStatistics:
    """The ledger's counts at one moment.

    `requests` counts every HTTP request; `answers` splits it by kind of answer;
    `in_flight` and `peak_in_flight` count line updates between arrival and
    answer; `overlaps` counts the arrivals that met another update of the same
    line, an import of their order or row, or a row with updates, under another id, still in
    process, and `repeats` those that met their own; `id_conflicts` counts the requests that used an
    id of another change.
    """

    requests: int
    answers: Mapping[str, int]
    in_flight: int
    peak_in_flight: int
    overlaps: int
    repeats: int
    id_conflicts: int


@attrs.frozen
class LedgerCheck:
    """The comparison of the ledger with the expected changes.

    `expected` and `applied` count changes, `lines` the order lines looked at.
    `lost` were expected and never applied. `duplicated` were applied once more
    than expected, under one id or two. `reordered` were applied, but not in
    their place in the line's sequence. `unexpected` were never expected of
    their line. A line is in order exactly when its applied changes are its
    expected ones, one for one, and no id was applied twice.
    """

    lines: int
    expected: int
    applied: int
    lost: tuple[Change | Import, ...] = ()
    duplicated: tuple[Change | Import, ...] = ()
    reordered: tuple[Change | Import, ...] = ()
    unexpected: tuple[Change | Import, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, duplicated, reordered or unexpected."""
        return not (self.lost or self.duplicated or self.reordered or self.unexpected)

    def __str__(self) -> str:
        """Say it in one sentence."""
        found = (
            f"{self.expected} changes of {self.lines} lines expected, {self.applied} applied: {len(self.lost)} lost, "
            f"{len(self.duplicated)} duplicated, {len(self.reordered)} reordered"
        )
        return found + (f", {len(self.unexpected)} unexpected" if self.unexpected else "")


class Ledger:
    """The ledger itself. Only the loop that serves may write; read it only when nothing is in process.

    `import_arrivals` are the requests that import something, in order of arrival.
    """

    __slots__ = (
        "_answers",
        "_in_flight",
        "_lines",
        "_number",
        "_open_imports",
        "_open_lines",
        "_peak",
        "_rows",
        "id_conflicts",
        "import_arrivals",
        "in_flight_overlaps",
        "repeats",
    )

    def __init__(self) -> None:
        self.clear()

    def __repr__(self) -> str:
        """Show the counts."""
        return f"<Ledger: {self.requests} requests, {len(self._lines)} lines, {self._in_flight} in flight>"

    def clear(self) -> None:
        """Forget everything; what is in flight is no longer counted."""
        self._lines: defaultdict[tuple[str, str], _Line] = defaultdict(_Line)
        self._rows: defaultdict[tuple[str, str], list[tuple[str, str | None]]] = defaultdict(list)
        self._open_imports: dict[tuple[str, str], list[ImportArrival]] = {}
        self._open_lines: Counter[str] = Counter()
        self.import_arrivals: list[ImportArrival] = []
        self._answers: Counter[str] = Counter()
        self._number = self._in_flight = self._peak = 0
        self.in_flight_overlaps = 0
        self.repeats = 0
        self.id_conflicts = 0

    def dump(self) -> dict[str, object]:
        """Return the whole ledger as a JSON object that `load` takes."""
        return {
            "lines": [
                [
                    *key,
                    [[a.number, a.request_id, a.status, a.fate] for a in line.arrivals],
                    list(map(list, line.applied)),
                ]
                for key, line in self._lines.items()
            ],
            "rows": [[*key, list(map(list, made))] for key, made in self._rows.items()],
            "import_arrivals": [[list(map(list, a.rows)), a.request_id, a.fate] for a in self.import_arrivals],
            "answers": dict(self._answers),
            "arrivals": self._number,
            "peak_in_flight": self._peak,
            "overlaps": self.in_flight_overlaps,
            "repeats": self.repeats,
            "id_conflicts": self.id_conflicts,
        }

    def load(self, document: Mapping[str, object]) -> None:
        """Replace the whole ledger by the result of `dump`; requests that were in flight then count as dropped."""
        self.clear()
        book: dict[str, Any] = dict(document)
        for order, name, arrivals, applied in book["lines"]:
            line = self._lines[order, name]
            line.arrivals = [
                Arrival(number, request_id, status, _settled_fate(fate))
                for number, request_id, status, fate in arrivals
            ]
            line.applied = [(status, request_id) for status, request_id in applied]
        for kind, external_id, made in book["rows"]:
            self._rows[kind, external_id] = [(mark, request_id) for mark, request_id in made]
        for rows, request_id, fate in book["import_arrivals"]:
            arrival = ImportArrival(tuple((kind, name) for kind, name in rows), request_id)
            arrival.fate = _settled_fate(fate)
            self.import_arrivals.append(arrival)
        self._answers.update(book["answers"])
        self._number = book["arrivals"]
        self._peak = book["peak_in_flight"]
        self.in_flight_overlaps = book["overlaps"]
        self.repeats = book["repeats"]
        self.id_conflicts = book["id_conflicts"]

    # -- written by the server ------------------------------------------------------------------

    def arrived(self, line: tuple[str, str], status: str, request_id: str | None) -> Arrival:
        """Write down one request about `line`; pass what is returned to `settled`."""
        self._number += 1
        arrival = Arrival(self._number, request_id, status)
        record = self._lines[line]
        if record.open:
            if request_id is not None and any(other.request_id == request_id for other in record.open):
                self.repeats += 1
            else:
                self.in_flight_overlaps += 1
        if ("orders", line[0]) in self._open_imports:
            self.in_flight_overlaps += 1
        self._open_lines[line[0]] += 1
        record.arrivals.append(arrival)
        record.open.append(arrival)
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        return arrival

    def applied(self, line: tuple[str, str], status: str, request_id: str | None) -> None:
        """Write down that a change was made."""
        self._lines[line].applied.append((status, request_id))

    def settled(self, line: tuple[str, str], arrival: Arrival, fate: str) -> None:
        """Write down how a request ended; a second call for it changes nothing."""
        record = self._lines.get(line)
        if record is None or arrival not in record.open:
            return
        arrival.fate = fate
        record.open.remove(arrival)
        self._in_flight -= 1
        self._open_lines[line[0]] -= 1
        if not self._open_lines[line[0]]:
            del self._open_lines[line[0]]

    def import_arrived(self, rows: tuple[tuple[str, str], ...], request_id: str | None) -> ImportArrival:
        """Write down one request that imports `rows`, of kind and external id; pass the result to `import_settled`."""
        arrival = ImportArrival(rows, request_id)
        self.import_arrivals.append(arrival)
        met = {other for row in rows for other in self._open_imports.get(row, ())}
        own = {other for other in met if request_id is not None and other.request_id == request_id}
        self.repeats += bool(own)
        lines_are_open = any(kind == "orders" and self._open_lines[external_id] for kind, external_id in rows)
        self.in_flight_overlaps += bool(met - own) or lines_are_open
        for row in rows:
            self._open_imports.setdefault(row, []).append(arrival)
        return arrival

    def import_settled(self, arrival: ImportArrival, fate: str) -> None:
        """Write down how an import ended; a second call for it changes nothing."""
        if arrival.fate != "open":
            return
        arrival.fate = fate
        for row in arrival.rows:
            others = self._open_imports.get(row)
            if others is not None and arrival in others:
                others.remove(arrival)
                if not others:
                    del self._open_imports[row]

    def imported(self, kind: str, external_id: str, mark: str, request_id: str | None) -> None:
        """Write down that a row was imported; `mark` is `mark_of` it."""
        self._rows[kind, external_id].append((mark, request_id))

    def answered(self, kind: str) -> None:
        """Count one request by the `kind` of its answer."""
        self._answers[kind] += 1

    # -- read by tests and reports --------------------------------------------------------------

    @property
    def requests(self) -> int:
        """How many HTTP requests were answered, or cut off, whatever they were about."""
        return self._answers.total()

    @property
    def answers(self) -> Mapping[str, int]:
        """How many requests ended in each way: ``"applied"``, ``"replayed"``, ``"error 429"``, and so on."""
        return dict(self._answers)

    @property
    def in_flight(self) -> int:
        """How many line updates are between arrival and answer now."""
        return self._in_flight

    @property
    def peak_in_flight(self) -> int:
        """The most line updates that were in flight at once."""
        return self._peak

    @property
    def lines(self) -> Sequence[tuple[str, str]]:
        """The order lines that something arrived for, in order of first arrival."""
        return tuple(self._lines)

    def arrivals(self, order_external_id: str, order_line_external_id: str) -> Sequence[Arrival]:
        """Return the requests about one line, in order of arrival."""
        record = self._lines.get((order_external_id, order_line_external_id))
        return () if record is None else tuple(record.arrivals)

    def made_twice(self) -> Sequence[Change]:
        """Return the changes made under an id that had changed the same line before; normally there are none."""
        found = []
        for key, line in self._lines.items():
            ids: set[str] = set()
            for status, request_id in line.applied if len(line.applied) > 1 else ():
                if request_id in ids:
                    found.append(Change(*key, status, request_id))
                elif request_id is not None:
                    ids.add(request_id)
        return tuple(found)

    def changes(self, order_external_id: str, order_line_external_id: str) -> Sequence[Change]:
        """Return the changes made to one line, in the order in which they were made."""
        line = (order_external_id, order_line_external_id)
        record = self._lines.get(line)
        return () if record is None else tuple(Change(*line, status, rid) for status, rid in record.applied)

    def imports(self, kind: str, external_id: str) -> Sequence[Import]:
        """Return the imports of one order, product or SKU, in the order in which they were made."""
        made = self._rows.get((kind, external_id), ())
        return tuple(Import(kind, external_id, mark, request_id) for mark, request_id in made)

    def check_imports(self, kind: str, expected: Iterable[Mapping[str, object]]) -> LedgerCheck:
        """Compare the imports of one kind with the rows `expected`, in input order, with the platform's names.

        Give only the rows that should have been imported. A row that came in XML has texts where
        JSON has other types, inside of ``custom_fields``.
        """
        wanted: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for row in expected:
            wanted[kind, str(row["external_id"])].append(mark_of(row))
        made = {key: marks for key, marks in self._rows.items() if key[0] == kind}
        return _check(wanted, made, Import)

    def statistics(self) -> LedgerStatistics:
        """Return the counts of this moment as a frozen value."""
        return LedgerStatistics(
            requests=self.requests,
            answers=self.answers,
            in_flight=self._in_flight,
            peak_in_flight=self._peak,
            overlaps=self.in_flight_overlaps,
            repeats=self.repeats,
            id_conflicts=self.id_conflicts,
        )

    def check(self, expected: Iterable[tuple[str, str, str]]) -> LedgerCheck:
        """Compare the applied changes with `expected`: ``(order, line, status)`` in input order.

        Give only the changes that should have been made: leave out those that
        the client reported as not applied.
        """
        wanted: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for order, line, status in expected:
            wanted[(order, line)].append(str(status))
        return _check(wanted, {key: line.applied for key, line in self._lines.items()}, Change)


def _settled_fate(fate: str) -> str:
    return "dropped" if fate == "open" else fate


def _check(
    wanted: Mapping[tuple[str, str], list[str]],
    made: Mapping[tuple[str, str], list[tuple[str, str | None]]],
    kind: type[Change | Import],
) -> LedgerCheck:
    findings = _Findings(kind)
    for key in {**wanted, **made}:
        findings.compare(key, wanted.get(key, []), made.get(key, []))
    return LedgerCheck(
        lines=len(wanted),
        expected=sum(map(len, wanted.values())),
        applied=sum(map(len, made.values())),
        lost=tuple(findings.lost),
        duplicated=tuple(findings.duplicated),
        reordered=tuple(findings.reordered),
        unexpected=tuple(findings.unexpected),
    )


class _Findings:
    """What a check of the ledger has found so far; each finding is a `kind`."""

    __slots__ = ("_kind", "duplicated", "lost", "reordered", "unexpected")

    def __init__(self, kind: type[Change | Import]) -> None:
        self._kind = kind
        self.lost: list[Change | Import] = []
        self.duplicated: list[Change | Import] = []
        self.reordered: list[Change | Import] = []
        self.unexpected: list[Change | Import] = []

    def compare(self, line: tuple[str, str], wanted: list[str], made: list[tuple[str, str | None]]) -> None:
        """Find the differences of one line.

        An id that was applied twice is a duplicate by itself, whatever the
        statuses look like. The rest is aligned with what was wanted: a status
        missing from the one and left over in the other has moved.
        """
        once: list[tuple[str, str | None]] = []
        seen: set[str] = set()
        for status, request_id in made:
            if request_id is not None and request_id in seen:
                self.duplicated.append(self._kind(*line, status, request_id))
                continue
            if request_id is not None:
                seen.add(request_id)
            once.append((status, request_id))
        if [status for status, _ in once] == wanted:
            return
        missing, extra = unaligned(wanted, [status for status, _ in once])
        absent = Counter(wanted[place] for place in missing)
        known = set(wanted)
        for place in extra:
            status, request_id = once[place]
            change = self._kind(*line, status, request_id)
            if absent[status]:
                absent[status] -= 1
                self.reordered.append(change)
            elif status in known:
                self.duplicated.append(change)
            else:
                self.unexpected.append(change)
        self.lost.extend(self._kind(*line, status) for status in absent.elements())
