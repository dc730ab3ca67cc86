"""The rows of a shard, out of its file on this machine."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from altcraft_async.errors import InvalidUpdateError, Unit
from altcraft_async.ingest import FIELDS, read_updates
from altcraft_async.ingest.table import ids_of
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.shards.plan import FROZEN
from altcraft_async.storage.columns import PARQUET, ParquetRows, open_columns, read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from altcraft_async.ingest import ReadItem
    from altcraft_async.ingest.table import Ids
    from altcraft_async.journal import JournalReader
    from altcraft_async.shards.plan import Plan

__all__ = ["places_of", "rows_of", "write_failed"]

_FAILED: Final[Mapping[str, type]] = {
    "index": int, "row": int, "order_external_id": str, "order_line_external_id": str, "status_external_id": str,
    "state": str, "attempts": int, "request_id": str, "error_type": str, "error": str,
}  # fmt: skip


def rows_of(plan: Plan, number: int, path: Path, opened: ExitStack) -> Iterable[ReadItem]:
    """Return the rows of a shard whose file is at `path` now; what has to be closed then is put on `opened`."""
    if plan.frozen:
        return _frozen(path, opened)
    reader = read_updates(
        path,
        input_format="parquet",
        name=plan.shards[number].file,
        columns=plan.columns,
        constants=plan.constants,
        statuses=plan.statuses,
    )
    return opened.enter_context(reader)


def _frozen(path: Path, opened: ExitStack) -> Iterator[ReadItem]:
    columns = opened.enter_context(open_columns(opened.enter_context(path.open("rb")), PARQUET))
    wanted = [columns.names.index(name) for name in FROZEN][1:]
    for batch in read_ahead(columns.batches(wanted)):
        for order, line, status, request_id, error, field, source, number, unit in zip(*batch, strict=True):
            if error is None:
                yield LineStatusUpdate(order, line, status, request_id=request_id)
            else:
                yield InvalidUpdateError(
                    str(error), field=field, source=source, line=number, unit=Unit(unit), ids=(order, line, status)
                )


def places_of(
    plan: Plan, number: int, path: Path, rows: Sequence[int], opened: ExitStack
) -> dict[int, tuple[int, Ids]]:
    """Return the places in the whole input, and the ids, of some rows of a shard.

    The place is that in the shard if the plan does not know the input's.
    """
    wanted = set(rows)
    if not plan.frozen:
        read = enumerate(itertools.islice(rows_of(plan, number, path, opened), max(wanted) + 1))
        return {row: (row, _ids_of(item)) for row, item in read if row in wanted}
    columns = opened.enter_context(open_columns(opened.enter_context(path.open("rb")), PARQUET))
    found: dict[int, tuple[int, Ids]] = {}
    first = 0
    for batch in columns.batches([columns.names.index(name) for name in ("index", *FIELDS)]):
        for row, (place, *ids) in enumerate(zip(*batch, strict=True), first):
            if row in wanted:
                found[row] = (int(place or 0), ids_of(ids))
        first += len(batch[0])
    return found


def _ids_of(item: ReadItem) -> Ids:
    if isinstance(item, LineStatusUpdate):
        return (item.order_external_id, item.order_line_external_id, item.status_external_id)
    return item.ids or (None, None, None)


def write_failed(  # noqa: PLR0913, PLR0917 - what it is made of
    target: Path, journal: JournalReader, plan: Plan, number: int, path: Path, opened: ExitStack
) -> None:
    """Write the rows of the shard at `path` that failed, and why, to a Parquet file."""
    outcomes = list(journal.outcomes(*(state for state in OutcomeState if not state.ok)))
    places = places_of(plan, number, path, [outcome.index for outcome in outcomes], opened)
    rows = ParquetRows(target, _FAILED)
    for outcome in outcomes:
        place, ids = places[outcome.index]
        said = outcome.to_dict() | dict(zip(FIELDS, ids, strict=True)) | {"row": outcome.index, "index": place}
        rows.add([said[column] for column in _FAILED])
    rows.close()
