"""Imports of the Market: orders, products and SKU, in batches.

What the three have in common stands here: their keywords, how a row is read, and
what stands beside the rows in each call.

Guide: "Import orders", "Import products", "Import SKU".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar
from zlib import crc32

import attrs

from altcraft_async.engine.imports import BatchLimits, Import, ImportRun
from altcraft_async.engine.run import RunOptions
from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.outcome import Batch, Fingerprint
from altcraft_async.protocol.methods import IMPORT_ORDERS, IMPORT_PRODUCTS, IMPORT_SKUS
from altcraft_async.protocol.values.custom import Category, CustomField, CustomLineStatus
from altcraft_async.protocol.values.orders import Order
from altcraft_async.protocol.values.products import Product, Sku
from altcraft_async.protocol.values.schema import Value
from altcraft_async.protocol.wire import row_encoder, rows_encoder

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Sequence
    from typing import Unpack

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.engine.imports import OnRefused, ReadRow, ReadRows
    from altcraft_async.engine.recorder import BatchRecorder
    from altcraft_async.flow.failures import FailureLimit
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.outcome import Outcome, Report
    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON

__all__ = ["ImportOptions", "OrderImports", "ProductImports", "SkuImports"]

OrderT = TypeVar("OrderT", bound="Order | Mapping[str, object] | InvalidUpdateError")
ProductT = TypeVar("ProductT", bound="Product | Mapping[str, object] | InvalidUpdateError")
SkuT = TypeVar("SkuT", bound="Sku | Mapping[str, object] | InvalidUpdateError")
RowT = TypeVar("RowT")


class ImportOptions(TypedDict, total=False):
    """The keywords that all imports have, each with a default.

    - `custom_fields`: definitions of custom fields, `CustomField` or mappings; they go with every batch
    - `batch_size` (500), `batch_bytes` (1,000,000): the most rows and bytes of one call; the platform
      takes bodies of 10 MB by default
    - `on_refused`: ``"report"``, a batch that is refused is each row's refusal; or ``"split"``: it is
      tried again in halves, and those in theirs, until the wrong rows are found. Where a platform
      refuses a batch of which it has imported a part, that part is then imported twice
    - `window_bytes` (8,000,000): the most bytes of rows held in memory before their outcome, at least
      two batches
    - `timeout` (120): seconds for one attempt
    - `deadline`, `rate` (batches a second), `stop_after` (of answers), `outage`, `journal`,
      `retry_failed`, `extend`: as for `Orders.update_order_line_statuses`
    """

    custom_fields: Iterable[CustomField | Mapping[str, object]]
    batch_size: int
    batch_bytes: int
    on_refused: OnRefused
    window_bytes: int
    timeout: float
    deadline: float | None
    rate: float | None
    stop_after: FailureLimit | None
    outage: OutagePolicy | None
    journal: str | os.PathLike[str] | None
    retry_failed: bool
    extend: bool


_LIMITS: Final = {
    "batch_size": "rows",
    "batch_bytes": "size",
    "window_bytes": "window",
    "timeout": "timeout",
    "on_refused": "on_refused",
}
_OF_RUNS: Final = ("deadline", "rate", "stop_after", "outage")


_ALONE: Final = repeat(object=True)


@attrs.frozen
class _Kind:
    """One kind of thing that is imported: rows of class `row` go to `method`; `lane` names its keys in the lanes."""

    method: Method
    row: type[Order | Product | Sku]
    lane: str | None

    def claims_of(self, external_ids: Iterable[str]) -> tuple[Claim, ...]:
        """Claim each thing alone; of an order that is what its line updates share."""
        if self.lane is None:
            return tuple(zip(external_ids, _ALONE, strict=False))
        return tuple(((self.lane, external_id, None), True) for external_id in external_ids)

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
    kind: type, encode: Callable[[Sequence[Mapping[str, JSON]]], list[bytes]]
) -> Callable[[Sequence[object]], ReadRows | None]:
    """Return what reads many mappings at once, in a third of the time, where there is nothing unusual about any."""
    required = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    needed, place = itemgetter(*required), required.index("external_id")

    def read(rows: Sequence[object]) -> ReadRows | None:
        if set(map(type, rows)) != {dict}:
            return None
        try:
            found: list[tuple[object, ...]] = list(map(needed, rows))  # type: ignore[arg-type]  # they are dictionaries
            if not all(map(all, found)):
                return None
            ids: list[str] = [values[place] for values in found]  # type: ignore[misc]  # looked at below
            if set(map(type, ids)) != {str} or len(set(ids)) < len(ids):
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
    remedy = (
        "remove characters that are half of a pair" if isinstance(error, UnicodeError) else "use JSON's plain types"
    )
    name = row.get("external_id") if isinstance(row, Mapping) else None
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


class _Imports:
    """Makes the runs of one kind of import on a dispatcher."""

    __slots__ = ("_dispatcher", "_facts", "_import", "_options", "_run_options")

    def __init__(
        self,
        dispatcher: Dispatcher,
        kind: _Kind,
        options: ImportOptions,
        fields: Mapping[str, JSON],
    ) -> None:
        unknown = sorted(options.keys() - ImportOptions.__annotations__.keys())
        if unknown:
            msg = f"{unknown[0]} is no keyword of an import; known are {', '.join(ImportOptions.__annotations__)}"
            raise TypeError(msg)
        custom_fields = _definitions("custom_fields", CustomField, options.get("custom_fields", ()))
        all_fields = {**({"custom_fields": custom_fields} if custom_fields else {}), **fields}
        encode = row_encoder(dispatcher.delivery.request_format)
        fixed = encode(all_fields)
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
            read=kind.reader(encode),
            read_many=_reader_of_many(kind.row, rows_encoder(dispatcher.delivery.request_format)),
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

    def preview(self, rows: Iterable[object]) -> Iterator[Batch | InvalidUpdateError]:
        """Give what a run would send, batch by batch, and what is wrong with the rows that it would not."""
        what = self._import
        cutter = what.cutter()
        for index, row in enumerate(rows):
            read = what.read(row)
            problem = read if isinstance(read, InvalidUpdateError) else what.too_large(read[0])
            if isinstance(read, InvalidUpdateError) or problem is not None:
                yield problem if problem is not None else read  # type: ignore[misc]
                continue
            known = read[0]
            for batch in cutter.add((index, known.size), known.external_id, known.size):  # type: ignore[arg-type]
                yield _planned(batch)  # type: ignore[arg-type]
        if len(cutter):
            yield _planned(cutter.take())  # type: ignore[arg-type]

    def _journal(self) -> BatchRecorder | None:
        path = self._options.get("journal")
        retry_failed, extend = self._options.get("retry_failed", False), self._options.get("extend", False)
        if path is None:
            if retry_failed or extend:
                field = "retry_failed" if retry_failed else "extend"
                msg = f"{field} goes with a journal: give journal=PATH, the file that an earlier run wrote"
                raise ConfigurationError(msg, field=field)
            return None
        from altcraft_async.journal.recorder import Journal  # noqa: PLC0415 - most runs keep none

        delivery = self._dispatcher.delivery
        return Journal(
            path,
            target=delivery.base_url,
            method=self._import.method,
            facts=self._facts,
            retry_failed=retry_failed,
            extend=extend,
            dedup_window=delivery.dedup_window,
            notifier=delivery.notifier,
        )


def _planned(rows: Sequence[tuple[int, int]]) -> Batch:
    return Batch(rows[0][0], len(rows), sum(size for _, size in rows))


class OrderImports:
    """Imports of orders."""

    __slots__ = ()

    _dispatcher: Dispatcher

    async def import_orders(
        self,
        orders: Iterable[OrderT] | AsyncIterable[OrderT],
        *,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]] = (),
        skip_triggers: bool = False,
        **options: Unpack[ImportOptions],
    ) -> Report[OrderT]:
        """Import many orders, in batches, and gather what became of each.

        `orders` is an iterable or asynchronous iterable of `Order`, or of mappings with the platform's
        names; it is read only as fast as batches are sent. An `Order` was checked when it was made;
        of a mapping only the id and that the required fields are there is checked
        (`Order.from_dict` checks all of it). A row that cannot be sent, or is too long for a
        batch, is ``invalid``, and the others go on. `custom_line_statuses` defines statuses that
        lines of this import may have. With `skip_triggers` the import starts no automations.
        The other keywords are those of `ImportOptions`.

        An order stands in a batch once. Two batches with an order in common, or a batch and a line
        update of one of its orders, are never under way together, whoever made them in this client, and an order's
        imports reach the server in input order; all else goes side by side. Batches have a
        concurrency of their own, from two on. Without a journal, a live source that gives nothing for a
        second has its rows sent.

        Returns a `Report` with one outcome for each order, in input order: `Outcome.row` is what
        was given, `Outcome.batch` says with which others it went. Where the platform answers per row, that is
        the row's outcome, else the answer to its batch is. A batch that is too large for the
        server (413) is sent in halves, and so are the ones after it. Errors, journal and
        cancellation are those of `update_order_line_statuses`; with a journal the batches of a
        continued run are the same, and have the same ``Request-ID``, so `batch_size`, `batch_bytes`, the
        definitions and `skip_triggers` must be as they were.

        Guide: "Import orders".
        """
        return (
            await self._order_import(custom_line_statuses, options, skip=skip_triggers)
            .run(orders, gathered=True)
            .gather()
        )

    def stream_import_orders(
        self,
        orders: Iterable[OrderT] | AsyncIterable[OrderT],
        *,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]] = (),
        skip_triggers: bool = False,
        **options: Unpack[ImportOptions],
    ) -> AsyncGenerator[Outcome[OrderT], None]:
        """Import many orders, in batches, and yield the outcome of each as it comes.

        Arguments and order are those of `import_orders`; the rest is as for
        `stream_order_line_statuses`. Memory is flat: at most `window_bytes` of rows and outcomes are
        held.
        """
        return (
            self._order_import(custom_line_statuses, options, skip=skip_triggers).run(orders, gathered=False).stream()
        )

    def preview_import_orders(
        self,
        orders: Iterable[OrderT],
        *,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]] = (),
        skip_triggers: bool = False,
        **options: Unpack[ImportOptions],
    ) -> Iterator[Batch | InvalidUpdateError]:
        """Give the batches that `import_orders` would send, and what is wrong with the rows that it would not.

        Sends nothing. A journal is not looked into.
        """
        return self._order_import(custom_line_statuses, options, skip=skip_triggers).preview(orders)

    def _order_import(
        self,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]],
        options: ImportOptions,
        *,
        skip: bool,
    ) -> _Imports:
        statuses = _definitions("custom_line_statuses", CustomLineStatus, custom_line_statuses)
        fields: dict[str, JSON] = {"custom_line_statuses": statuses} if statuses else {}
        if skip:
            fields["skip_triggers"] = True
        return _Imports(self._dispatcher, _ORDERS, options, fields)


def _categories(given: Iterable[Category | Mapping[str, object]]) -> dict[str, JSON]:
    categories = _definitions("categories", Category, given)
    return {"categories": categories} if categories else {}


class ProductImports:
    """Imports of products."""

    __slots__ = ()

    _dispatcher: Dispatcher

    async def import_products(
        self,
        products: Iterable[ProductT] | AsyncIterable[ProductT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Report[ProductT]:
        """Import many products, in batches, and gather what became of each.

        As `Orders.import_orders`, for `Product` or mappings. `categories` defines categories; they
        go with every batch.

        Guide: "Import products".
        """
        run = _Imports(self._dispatcher, _PRODUCTS, options, _categories(categories)).run(products, gathered=True)
        return await run.gather()

    def stream_import_products(
        self,
        products: Iterable[ProductT] | AsyncIterable[ProductT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> AsyncGenerator[Outcome[ProductT], None]:
        """Import many products, in batches, and yield the outcome of each as it comes."""
        run = _Imports(self._dispatcher, _PRODUCTS, options, _categories(categories)).run(products, gathered=False)
        return run.stream()

    def preview_import_products(
        self,
        products: Iterable[ProductT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Iterator[Batch | InvalidUpdateError]:
        """Give the batches that `import_products` would send, and what is wrong with other rows; sends nothing."""
        return _Imports(self._dispatcher, _PRODUCTS, options, _categories(categories)).preview(products)


class SkuImports:
    """Imports of SKU."""

    __slots__ = ()

    _dispatcher: Dispatcher

    async def import_skus(
        self,
        skus: Iterable[SkuT] | AsyncIterable[SkuT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Report[SkuT]:
        """Import many SKU, in batches, and gather what became of each.

        As `Orders.import_orders`, for `Sku` or mappings. `categories` defines categories; they go
        with every batch.

        Guide: "Import SKU".
        """
        run = _Imports(self._dispatcher, _SKUS, options, _categories(categories)).run(skus, gathered=True)
        return await run.gather()

    def stream_import_skus(
        self,
        skus: Iterable[SkuT] | AsyncIterable[SkuT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> AsyncGenerator[Outcome[SkuT], None]:
        """Import many SKU, in batches, and yield the outcome of each as it comes."""
        run = _Imports(self._dispatcher, _SKUS, options, _categories(categories)).run(skus, gathered=False)
        return run.stream()

    def preview_import_skus(
        self,
        skus: Iterable[SkuT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Iterator[Batch | InvalidUpdateError]:
        """Give the batches that `import_skus` would send, and what is wrong with other rows; sends nothing."""
        return _Imports(self._dispatcher, _SKUS, options, _categories(categories)).preview(skus)
