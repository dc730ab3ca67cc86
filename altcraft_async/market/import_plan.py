"""What the imports of the Market have in common: what stands beside the rows in each call, and how a run is made.

Guide: "Import orders", "Import products", "Import SKU".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from itertools import repeat, tee
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast
from zlib import crc32

import attrs

from altcraft_async.engine.import_rows import row_reader, rows_reader
from altcraft_async.engine.imports import OVERHEAD, BatchLimits, Entry, Import, ImportRun, is_open
from altcraft_async.engine.run import RunOptions
from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.flow.batch import open_parts
from altcraft_async.flow.lanes import Alone
from altcraft_async.market.options import ImportOptions
from altcraft_async.market.resource import flag_of, journal_of
from altcraft_async.outcome import Batch, Outcome
from altcraft_async.protocol.methods import IMPORT_ORDERS, IMPORT_PRODUCTS, IMPORT_SKUS
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values.custom import Category, CustomField, CustomLineStatus
from altcraft_async.protocol.values.schema import Value
from altcraft_async.protocol.wire import row_codec

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterator, Sequence

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.engine.recorder import BatchRecorder
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.journal.joining import KeptRun
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
    """One kind of thing that is imported: it goes to `method`; `lane` names its keys in the lanes."""

    method: Method
    lane: str | None

    def claims_of(self, external_ids: Sequence[str]) -> Sequence[Claim]:
        """Claim each thing alone; of an order that is what its line updates share."""
        if self.lane is None:
            return Alone(external_ids)
        return Alone([(self.lane, external_id, None) for external_id in external_ids])


_ORDERS: Final = _Kind(IMPORT_ORDERS, None)
_PRODUCTS: Final = _Kind(IMPORT_PRODUCTS, "product")
_SKUS: Final = _Kind(IMPORT_SKUS, "sku")


def _definitions(name: str, kind: type[Value], given: object) -> list[JSON]:
    """Return checked definitions as they are sent; an error names the keyword and the place."""
    if isinstance(given, str | Mapping | Value) or not isinstance(given, Iterable):
        msg = f"{name} must be a list of {kind.__name__} or mappings, not {type(given).__name__}"
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
        path, overhead = kind.method.path, OVERHEAD + len(fixed)
        limits = BatchLimits(**{_LIMITS[name]: value for name, value in options.items() if name in _LIMITS})  # type: ignore[arg-type]
        if limits.room(overhead) < 1:
            msg = (
                f"batch_bytes must be above {overhead + 1}, not {limits.size}: "
                "so much of every batch is for the token, names and definitions"
            )
            raise ConfigurationError(msg, field="batch_bytes")
        self._dispatcher = dispatcher
        self._options = options
        self._run_options = RunOptions(
            window=limits.window,
            **{name: value for name, value in options.items() if name in _OF_RUNS},  # type: ignore[arg-type]
        )
        self._import = Import(
            method=path,
            fields=all_fields,
            overhead=overhead,
            codec=codec,
            read=row_reader(path, codec, limits.room(overhead)),
            read_many=rows_reader(path, codec),
            claims_of=kind.claims_of,
            limits=limits,
        )
        self._facts = {
            "batch_size": limits.rows,
            "batch_bytes": limits.size,
            "format": dispatcher.delivery.request_format,
            "skip_triggers": int(bool(fields.get("skip_triggers"))),
            "definitions": crc32(fixed),
            "row_bytes": limits.room(overhead),
        }

    def run(self, source: Iterable[RowT] | AsyncIterable[RowT], *, gathered: bool) -> ImportRun[RowT]:
        """Return the run over a source."""
        return ImportRun(
            self._dispatcher, source, self._run_options, self._import, recorder=self._journal(), gathered=gathered
        )

    def preview(self, rows: Iterable[RowT]) -> Iterator[Batch | Outcome[RowT]]:
        """Yield what a run would send, batch by batch, and the outcomes of the rows that it would not."""
        path = self._options.get("journal")
        with contextlib.ExitStack() as opened:
            journal, ends = None, set[int]()
            if path is not None and Path(path).exists():
                from altcraft_async.journal.joining import KeptRun  # noqa: PLC0415 - most runs keep none

                journal = opened.enter_context(KeptRun(path, self._import.method, self._facts))
                ends = {*journal.ends}
            cutter = self._import.cutter()
            for index, (row, ended) in enumerate(self._recalled(journal, rows)):
                if index in ends:
                    yield from _planned(cutter.take())
                read = self._import.read(row)
                if isinstance(read, InvalidUpdateError):
                    yield Outcome(index, None, OutcomeState.INVALID, error=read, row=row)
                    continue
                known, body = read
                if ended is not None:
                    yield attrs.evolve(ended, row=row)
                entry = Entry(index, row, known, body if ended is None else None)
                for batch in cutter.add(entry, known.external_id, known.size):
                    yield from _planned(batch)
            yield from _planned(cutter.take())

    def _recalled(self, journal: KeptRun | None, rows: Iterable[RowT]) -> Iterator[tuple[RowT, Outcome[RowT] | None]]:
        """Give each row with the outcome that it keeps; None if it would be sent, also where it would be again."""
        if journal is None:
            yield from zip(rows, repeat(None), strict=False)
            return
        again = _RETRIED if self._options.get("retry_failed") and journal.finished else frozenset()
        first, second = tee(rows)
        for row, outcome in zip(first, journal.joined(second), strict=True):
            kept = outcome if outcome is not None and outcome.state not in again else None
            yield row, cast("Outcome[RowT] | None", kept)

    def _journal(self) -> BatchRecorder | None:
        return journal_of(
            self._dispatcher.delivery,
            self._options.get("journal"),
            retry_failed=self._options.get("retry_failed", False),
            extend=self._options.get("extend", False),
            method=self._import.method,
            facts=self._facts,
        )


def _planned(rows: Sequence[Entry]) -> Iterator[Batch]:
    """Yield the calls that are made for a batch: one, or where some of it has ended, for what is left of it."""
    for part in open_parts(rows, is_open):
        yield Batch(part[0].place, len(part), sum(entry.known.size for entry in part))


_RETRIED: Final = frozenset({OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.NOT_SENT})


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
    if flag_of("skip_triggers", skip_triggers):
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
