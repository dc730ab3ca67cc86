"""What the imports of the Market have in common: how a row is read, and what stands beside the rows in each call.

Guide: "Import orders", "Import products", "Import SKU".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeVar
from zlib import crc32

import attrs

from altcraft_async.engine.imports import BatchLimits, Import, ImportRun
from altcraft_async.engine.run import RunOptions
from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.flow.batch import Cutter
from altcraft_async.flow.lanes import Alone
from altcraft_async.market.options import ImportOptions
from altcraft_async.market.resource import journal_of
from altcraft_async.outcome import Batch, Fingerprint, Outcome
from altcraft_async.protocol.methods import IMPORT_ORDERS, IMPORT_PRODUCTS, IMPORT_SKUS
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values.custom import Category, CustomField, CustomLineStatus
from altcraft_async.protocol.values.orders import Order
from altcraft_async.protocol.values.products import Product, Sku
from altcraft_async.protocol.values.schema import Value
from altcraft_async.protocol.wire import row_codec

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterator, Sequence

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.engine.imports import ReadRow, ReadRows
    from altcraft_async.engine.recorder import BatchRecorder
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON

__all__ = ["Imports", "of_orders", "of_products", "of_skus"]

RowT = TypeVar("RowT")


_LIMITS: Final = {
    "batch_size": "rows",
    "batch_bytes": "size",
    "window_bytes": "window",
    "timeout": "timeout",
    "on_refused": "on_refused",
}
_KEYWORDS: Final = tuple(ImportOptions.__annotations__)
_OF_RUNS: Final = ("deadline", "rate", "stop_after", "outage")


@attrs.frozen
class _Kind:
    """One kind of thing that is imported: rows of class `row` go to `method`; `lane` names its keys in the lanes."""

    method: Method
    row: type[Order | Product | Sku]
    lane: str | None

    def claims_of(self, external_ids: Sequence[str]) -> Sequence[Claim]:
        """Claim each thing alone; of an order that is what its line updates share."""
        if self.lane is None:
            return Alone(external_ids)
        return Alone([(self.lane, external_id, None) for external_id in external_ids])

    def reader(self, encode: Callable[[Mapping[str, JSON]], bytes]) -> Callable[[object], ReadRow]:
        """Return what reads one row and writes it as it is sent."""
        kind = self.row
        required = tuple(field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING)

        def read(row: object) -> ReadRow:
            try:
                fields = row.to_dict() if isinstance(row, kind) else _fields_of(row, kind, required)
                body = encode(fields)
            except InvalidUpdateError as error:
                return error
            except (TypeError, ValueError, RecursionError) as error:
                return _unwritable(row, kind, error)
            external_id = fields["external_id"]
            if type(external_id) is not str:
                external_id = str(external_id)
            return Fingerprint(external_id, crc32(body), len(body)), body

        return read


def _reader_of_many(
    kind: type, encode: Callable[[list[dict[str, JSON]]], bytes]
) -> Callable[[list[object]], ReadRows | None]:
    """Return what reads many mappings at once, in a third of the time, where there is nothing unusual about any."""
    required = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    columns = [itemgetter(name) for name in required if name != "external_id"]
    id_of = itemgetter("external_id")

    def read(rows: list[object]) -> ReadRows | None:
        if set(map(type, rows)) != {dict}:
            return None
        try:
            ids: list[str] = list(map(id_of, rows))  # type: ignore[arg-type]  # they are dictionaries, and ids are looked at below
            if set(map(type, ids)) != {str} or len(set(ids)) < len(ids):
                return None
            if not all(ids) or not all(all(map(column, rows)) for column in columns):  # type: ignore[arg-type]
                return None
            return ids, encode(rows)  # type: ignore[arg-type]  # they are dictionaries
        except (LookupError, TypeError, ValueError, RecursionError):
            return None

    return read


def _fields_of(row: object, kind: type, required: Sequence[str]) -> Mapping[str, JSON]:
    """Return the fields of a mapping whose required ones are there; raises `InvalidUpdateError`."""
    if isinstance(row, InvalidUpdateError):
        raise row
    if not isinstance(row, Mapping):
        noun = _article(kind.__name__)
        msg = f"a row must be {noun} or a mapping with the platform's names, not {_kind_of(row)}"
        raise InvalidUpdateError(msg)
    if not all(map(row.get, required)):
        _check_required(row, required)
    external_id = row["external_id"]
    if type(external_id) is not str and (isinstance(external_id, bool) or not isinstance(external_id, str | int)):
        msg = f"external_id must be a string, not {_kind_of(external_id)}; convert it before"
        raise InvalidUpdateError(msg, field="external_id")
    return row


def _unwritable(row: object, kind: type, error: Exception) -> InvalidUpdateError:
    name = row.get("external_id") if isinstance(row, Mapping) else getattr(row, "external_id", None)
    if isinstance(error, ConfigurationError):
        return InvalidUpdateError(f"{kind.__name__} {name!r}: {error.message}")
    remedy = (
        "remove characters that are half of a pair" if isinstance(error, UnicodeError) else "use JSON's plain types"
    )
    return InvalidUpdateError(f"{kind.__name__} {name!r} holds a value that cannot be written; {remedy}")


def _check_required(row: Mapping[str, object], required: Sequence[str]) -> None:
    for name in required:
        value = row.get(name)
        if value is None or (isinstance(value, str | list | tuple) and not value):
            what = "is required and not there" if value is None else "is empty; give it"
            msg = f"{name} {what}"
            raise InvalidUpdateError(msg, field=name)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOU" else f"a {noun}"


def _kind_of(value: object) -> str:
    return _article(type(value).__name__)


_ORDERS: Final = _Kind(IMPORT_ORDERS, Order, None)
_PRODUCTS: Final = _Kind(IMPORT_PRODUCTS, Product, "product")
_SKUS: Final = _Kind(IMPORT_SKUS, Sku, "sku")


def _definitions(name: str, kind: type[Value], given: object) -> list[JSON]:
    """Return checked definitions as they are sent; an error names the keyword and the place."""
    if isinstance(given, str | Mapping | Value) or not isinstance(given, Iterable):
        msg = f"{name} must be a list of {kind.__name__} or mappings, not {_kind_of(given)}"
        raise ConfigurationError(msg, field=name)
    written: list[JSON] = []
    for place, one in enumerate(given):
        try:
            value = one if isinstance(one, kind) else kind.from_dict(one)
        except InvalidUpdateError as error:
            msg = f"{name}[{place}]: {error.message}"
            raise ConfigurationError(msg, field=name) from None
        written.append(value.to_dict())
    return written


class Imports:
    """Makes the runs of one kind of import on a dispatcher."""

    __slots__ = ("_dispatcher", "_facts", "_import", "_options", "_run_options")

    def __init__(
        self,
        dispatcher: Dispatcher,
        kind: _Kind,
        options: ImportOptions,
        fields: Mapping[str, JSON],
    ) -> None:
        unknown = sorted(options.keys() - set(_KEYWORDS))
        if unknown:
            msg = f"{unknown[0]} is no keyword of an import; known are {', '.join(_KEYWORDS)}"
            raise TypeError(msg)
        custom_fields = _definitions("custom_fields", CustomField, options.get("custom_fields", ()))
        all_fields = {**({"custom_fields": custom_fields} if custom_fields else {}), **fields}
        codec = row_codec(dispatcher.delivery.request_format)
        fixed = codec.encode_row(all_fields)
        limits = BatchLimits(**{_LIMITS[name]: value for name, value in options.items() if name in _LIMITS})  # type: ignore[arg-type]
        self._dispatcher = dispatcher
        self._options = options
        self._run_options = RunOptions(
            window=limits.window,
            **{name: value for name, value in options.items() if name in _OF_RUNS},  # type: ignore[arg-type]
        )
        self._import = Import(
            method=kind.method.path,
            fields=all_fields,
            fixed=len(fixed),
            codec=codec,
            read=kind.reader(codec.encode_row),
            read_many=_reader_of_many(kind.row, codec.encode_rows),
            claims_of=kind.claims_of,
            limits=limits,
        )
        self._facts = {
            "batch_size": limits.rows,
            "batch_bytes": limits.size,
            "format": dispatcher.delivery.request_format,
            "skip_triggers": int(bool(fields.get("skip_triggers"))),
            "definitions": crc32(fixed),
        }

    def run(self, source: Iterable[RowT] | AsyncIterable[RowT], *, gathered: bool) -> ImportRun[RowT]:
        """Return the run over a source."""
        return ImportRun(
            self._dispatcher, source, self._run_options, self._import, recorder=self._journal(), gathered=gathered
        )

    def preview(self, rows: Iterable[RowT]) -> Iterator[Batch | Outcome[RowT]]:
        """Give what a run would send, batch by batch, and the outcomes of the rows that it would not."""
        what = self._import
        cutter: Cutter[tuple[int, int]] = Cutter(count=what.limits.rows, size=what.limits.size, overhead=what.overhead)
        for index, row in enumerate(rows):
            read = what.read(row)
            problem = read if isinstance(read, InvalidUpdateError) else what.too_large(read[0])
            if problem is not None:
                yield Outcome(index, None, OutcomeState.INVALID, error=problem, row=row)
            elif not isinstance(read, InvalidUpdateError):
                known = read[0]
                yield from map(_planned, cutter.add((index, known.size), known.external_id, known.size))
        if len(cutter):
            yield _planned(cutter.take())

    def _journal(self) -> BatchRecorder | None:
        return journal_of(
            self._dispatcher.delivery,
            self._options.get("journal"),
            retry_failed=self._options.get("retry_failed", False),
            extend=self._options.get("extend", False),
            method=self._import.method,
            facts=self._facts,
        )


def _planned(rows: Sequence[tuple[int, int]]) -> Batch:
    return Batch(rows[0][0], len(rows), sum(size for _, size in rows))


def of_orders(
    dispatcher: Dispatcher,
    custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]],
    options: ImportOptions,
    *,
    skip_triggers: bool,
) -> Imports:
    """Return what imports orders."""
    statuses = _definitions("custom_line_statuses", CustomLineStatus, custom_line_statuses)
    fields: dict[str, JSON] = {"custom_line_statuses": statuses} if statuses else {}
    if skip_triggers:
        fields["skip_triggers"] = True
    return Imports(dispatcher, _ORDERS, options, fields)


def of_products(
    dispatcher: Dispatcher, categories: Iterable[Category | Mapping[str, object]], options: ImportOptions
) -> Imports:
    """Return what imports products."""
    return Imports(dispatcher, _PRODUCTS, options, _categories(categories))


def of_skus(
    dispatcher: Dispatcher, categories: Iterable[Category | Mapping[str, object]], options: ImportOptions
) -> Imports:
    """Return what imports SKU."""
    return Imports(dispatcher, _SKUS, options, _categories(categories))


def _categories(given: Iterable[Category | Mapping[str, object]]) -> dict[str, JSON]:
    categories = _definitions("categories", Category, given)
    return {"categories": categories} if categories else {}
