"""What the sandbox remembers: orders with their lines, the answers given to each id, and a file of both.

`Market` and `Answers` are pure: time is an argument. `StateFile` is the one
piece of I/O: a log of JSON lines, written before the answer goes out and read
back at the next start, so that a restart (also after a kill) keeps state.
"""

from __future__ import annotations

import contextlib
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.protocol.values import OrderLineStatus

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from io import FileIO

__all__ = ["Answer", "Answers", "Goods", "Market", "Order", "StateFile", "order_records"]

Record: TypeAlias = "dict[str, object]"

SYSTEM_STATUSES = frozenset(str(status) for status in OrderLineStatus)
_READ_AT_ONCE = 1000
"""Orders in one line of the file: keeps a line, and the memory to read it, small."""


@attrs.define(slots=True)
class Order:
    """One order: its number on the platform, its statuses, and its lines' statuses by external id.

    `row` is the rest of it as it was imported, in JSON, which takes a fifth of the memory.
    """

    number: int
    endpoint: str
    status: str
    lines: dict[str, str]
    row: str | None = None


class Goods:
    """The products, or the SKU, of one account: rows by external id, and their numbers."""

    __slots__ = ("_last", "_numbers", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, int] = {}
        self._last = 0

    def put(self, row: dict[str, Any]) -> None:
        """Make a row, or replace the fields of the one that is there."""
        external_id = row["external_id"]
        if external_id not in self.rows:
            self._last += 1
            self._numbers[external_id] = self._last
        self.rows[external_id] = {**self.rows.get(external_id, {}), **row}

    def remove(self, external_id: str) -> None:
        """Forget a row, if it is there."""
        self.rows.pop(external_id, None)
        self._numbers.pop(external_id, None)

    def name_of(self, number: int) -> str | None:
        """Return the external id of a number, or None."""
        return next((name for name, given in self._numbers.items() if given == number), None)

    def dump(self) -> Record:
        """Return everything as a JSON object that `load` takes."""
        return {"numbers_given": self._last, "rows": [[number, dict(row)] for number, row in self.numbered()]}

    def load(self, document: Mapping[str, Any]) -> None:
        """Replace everything by what `dump` returned."""
        self._last = document["numbers_given"]
        self.rows = {row["external_id"]: dict(row) for _, row in document["rows"]}
        self._numbers = {row["external_id"]: number for number, row in document["rows"]}

    def numbered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give all rows with their numbers, which rise."""
        return ((number, self.rows[name]) for name, number in self._numbers.items())


class Market:
    """The orders, products and SKU of one account."""

    __slots__ = ("_numbers", "custom_statuses", "goods", "orders")

    def __init__(self, custom_statuses: Iterable[str] = ()) -> None:
        self.orders: dict[str, Order] = {}
        self.custom_statuses = set(custom_statuses)
        self._numbers: dict[int, str] = {}
        self.goods = {"products": Goods(), "sku": Goods()}

    def __len__(self) -> int:
        """Count the orders."""
        return len(self.orders)

    def put(
        self,
        external_id: str,
        *,
        endpoint: str,
        status: str,
        lines: Mapping[str, str],
        row: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an order, or replace the fields and add to the lines of the one that is there."""
        order = self.orders.get(external_id)
        if order is None:
            number = len(self._numbers) + 1
            self._numbers[number] = external_id
            order = self.orders[external_id] = Order(number, endpoint, status, {})
        order.endpoint = endpoint
        order.status = status
        order.lines.update(lines)
        if row is not None:
            order.row = _merged(order.row, row)

    def remove(self, external_id: str) -> None:
        """Forget an order, if it is there; its number is not given again."""
        self.orders.pop(external_id, None)

    def forget(self, kind: str, external_id: str) -> None:
        """Forget an order, a product or a SKU."""
        if kind == "orders":
            self.remove(external_id)
        else:
            self.goods[kind].remove(external_id)

    def dump(self) -> Record:
        """Return everything as a JSON object that `load` takes."""
        return {
            "orders": [
                [
                    order.number,
                    name,
                    order.endpoint,
                    order.status,
                    dict(order.lines),
                    order.row and json.loads(order.row),
                ]
                for name, order in self.orders.items()
            ],
            "numbers_given": len(self._numbers),
            "custom_statuses": sorted(self.custom_statuses),
            "goods": {kind: goods.dump() for kind, goods in self.goods.items()},
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Replace everything by what `dump` returned; the number of an order that was removed stays given."""
        self.custom_statuses = set(document["custom_statuses"])
        self._numbers = dict.fromkeys(range(1, document["numbers_given"] + 1), "")
        self.orders = {}
        for number, name, endpoint, status, lines, row in document["orders"]:
            self._numbers[number] = name
            text = None if row is None else json.dumps(row, separators=(",", ":"))
            self.orders[name] = Order(number, endpoint, status, dict(lines), text)
        for kind, goods in self.goods.items():
            goods.load(document["goods"][kind])

    def variants(self) -> dict[str, list[dict[str, Any]]]:
        """Return the SKU of each product."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.goods["sku"].rows.values():
            found.setdefault(row["product_external_id"], []).append(row)
        return found

    def knows_status(self, status: str) -> bool:
        """Return whether an order line can have this status."""
        return status in SYSTEM_STATUSES or status in self.custom_statuses

    def refusal(self, order_external_id: str, line_external_id: str, status: str) -> str | None:
        """Return why this line cannot get this status, or None where it can."""
        order = self.orders.get(order_external_id)
        if order is None:
            return f"order_external_id: there is no order {_shown(order_external_id)}; import it first"
        if line_external_id not in order.lines:
            return (
                f"order_line_external_id: order {_shown(order_external_id)} has no line {_shown(line_external_id)}; "
                f"its {len(order.lines)} lines are {_some(order.lines)}"
            )
        if not self.knows_status(status):
            return self.status_refusal("status_external_id", status)
        return None

    def status_refusal(self, field: str, status: str) -> str:
        """Say that `status` is none, and which there are."""
        return (
            f"{field}: {_shown(status)} is neither a system status ({', '.join(OrderLineStatus)}) nor a custom one "
            f"({_some(sorted(self.custom_statuses)) or 'none is defined'})"
        )

    def set_line(self, order_external_id: str, line_external_id: str, status: str) -> None:
        """Give a line a status; `refusal` has been asked before."""
        self.orders[order_external_id].lines[line_external_id] = status

    def name_of(self, *, number: int | None = None, external_id: str | None = None) -> str | None:
        """Return the external id of the order of this number, or else this one, where there is such an order."""
        if number is not None:
            external_id = self._numbers.get(number)
        return external_id if external_id in self.orders else None

    def find(self, *, number: int | None = None, external_id: str | None = None) -> Order | None:
        """Return the order of this number, or else of this external id, or None."""
        name = self.name_of(number=number, external_id=external_id)
        return None if name is None else self.orders[name]


def _merged(known: str | None, row: Mapping[str, Any]) -> str:
    """Replace the fields of an order's row and add to its lines."""
    if known is not None:
        before = json.loads(known)
        lines = {line["external_id"]: line for line in (*before["lines"], *row["lines"])}
        row = {**before, **row, "lines": list(lines.values())}
    return json.dumps(row, separators=(",", ":"))


def _shown(value: str, limit: int = 80) -> str:
    return repr(value if len(value) <= limit else value[:limit] + "…")


def _some(values: Iterable[str], limit: int = 5) -> str:
    shown = [_shown(value, 40) for value in islice(values, limit + 1)]
    return ", ".join(shown[:limit]) + (", …" if len(shown) > limit else "")


@attrs.frozen(slots=True)
class Answer:
    """One answer as it goes out.

    `kind` is its name in the ledger's counts; `code` and `reason` are those of its envelope, 0 and empty for a yes.
    """

    status: int
    content_type: str
    body: bytes
    kind: str
    retry_after: str | None = None
    code: int = 0
    reason: str = ""


@attrs.frozen(slots=True)
class _Kept:
    answer: Answer
    at: float
    about: tuple[str, ...] | None


class Answers:
    """The answers given, by deduplication key, for `window` seconds from the first request.

    Keys come in order of time, so what has expired is always at the front.
    """

    __slots__ = ("_kept", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        """Count the answers kept."""
        return len(self._kept)

    def get(self, key: str, now: float) -> tuple[Answer, tuple[str, ...] | None] | None:
        """Return the answer kept under `key` and what it was about, or None where there is none any more."""
        kept = self._kept.get(key)
        if kept is None or now - kept.at >= self.window:
            return None
        return kept.answer, kept.about

    def put(self, key: str, answer: Answer, about: tuple[str, ...] | None, now: float) -> None:
        """Keep an answer, and forget those that have expired."""
        self._kept.pop(key, None)
        self._kept[key] = _Kept(answer, now, about)
        while True:
            oldest = next(iter(self._kept))
            if oldest == key or now - self._kept[oldest].at < self.window:
                return
            del self._kept[oldest]

    def dump(self) -> list[list[object]]:
        """Return everything as a JSON array that `load` takes."""
        return [
            [key, kept.at, None if kept.about is None else list(kept.about), *_answer_row(kept.answer)]
            for key, kept in self._kept.items()
        ]

    def load(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replace everything by what `dump` returned."""
        self._kept = {
            key: _Kept(
                Answer(status, kind, body.encode(), name, retry_after, code, reason),
                at,
                None if about is None else tuple(about),
            )
            for key, at, about, status, kind, body, name, retry_after, code, reason in rows
        }


class StateFile:
    """An append-only log of what changed, one JSON object a line.

    A record is on its way to the disk, in the kernel's hands, when `write`
    returns: it survives the death of the process, not of the machine. A torn
    last line, left by a kill, is cut off at the next start.
    """

    __slots__ = ("_file", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._file: FileIO | None = None

    def open(self) -> Iterator[Record]:
        """Open the file, made if it is not there, and give its records; read them all before writing."""
        file: FileIO = Path(self.path).open("a+b", buffering=0)  # noqa: SIM115 - closed by close()
        self._file = file
        file.seek(0)
        whole = 0
        with open(file.fileno(), "rb", closefd=False) as reader:
            for number, line in enumerate(reader, 1):
                if not line.endswith(b"\n"):
                    break
                yield self._read(line, number)
                whole += len(line)
        file.truncate(whole)

    def write(self, *records: Record) -> None:
        """Append records, all of them or (in a kill) a first part."""
        if self._file is None:
            msg = "the state file is not open"
            raise RuntimeError(msg)
        text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        view = memoryview(text.encode())
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> None:
        """Close the file; harmless twice."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _read(self, line: bytes, number: int) -> Record:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            msg = f"{self.path}, line {number}: not a record of a sandbox; give another state_file or remove this one"
            raise ConfigurationError(msg, field="state_file")
        return record


def _answer_row(answer: Answer) -> tuple[object, ...]:
    return (
        answer.status, answer.content_type, answer.body.decode(), answer.kind, answer.retry_after, answer.code,
        answer.reason,
    )  # fmt: skip


def order_records(market: Market, external_ids: Iterable[str]) -> Iterator[Record]:
    """Give the records that make these orders again."""
    waiting = iter(external_ids)
    while batch := list(islice(waiting, _READ_AT_ONCE)):
        orders = [(external_id, market.orders[external_id]) for external_id in batch]
        yield {"kind": "orders", "orders": [_record(key, order) for key, order in orders]}


def _record(external_id: str, order: Order) -> list[object]:
    row = () if order.row is None else (json.loads(order.row),)
    return [external_id, order.endpoint, order.status, order.lines, *row]
