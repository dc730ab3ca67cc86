"""The rows of a shard, out of its file on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.errors import InvalidUpdateError, Unit
from altcraft_async.ingest import read_updates
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.shards.plan import FROZEN
from altcraft_async.storage.columns import PARQUET, open_columns, read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from altcraft_async.ingest import ReadItem
    from altcraft_async.shards.plan import Plan

__all__ = ["places_of", "rows_of"]


def rows_of(plan: Plan, path: Path, opened: ExitStack) -> Iterable[ReadItem]:
    """Return the rows of a shard; what has to be closed then is put on `opened`."""
    if plan.frozen:
        return _frozen(path, opened)
    reader = read_updates(
        path,
        input_format="parquet",
        name=path.name,
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
                yield InvalidUpdateError(str(error), field=field, source=source, line=number, unit=Unit(unit))


def places_of(plan: Plan, path: Path, rows: Sequence[int], opened: ExitStack) -> dict[int, int]:
    """Return the places in the whole input of some rows of a shard; in the shard, where the plan does not know them."""
    if not plan.frozen:
        return dict(zip(rows, rows, strict=True))
    columns = opened.enter_context(open_columns(opened.enter_context(path.open("rb")), PARQUET))
    wanted, first = set(rows), 0
    found: dict[int, int] = {}
    for (batch,) in columns.batches([columns.names.index("index")]):
        found |= {first + at: int(place or 0) for at, place in enumerate(batch) if first + at in wanted}
        first += len(batch)
    return found
