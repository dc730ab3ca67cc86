"""A source that raises is not at its end, and the journal keeps to what it gave."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from altcraft_async import SourceError
from altcraft_async.journal import JournalReader
from altcraft_async.observe import UpdatesSkipped

ROWS = [(f"order_{number}", f"line_{number}_1", "delivered") for number in range(1, 21)]


def failing_after(count):
    yield from ROWS[:count]
    raise OSError


async def run(client, rows, journal):
    """Give the outcomes, and how many rows were taken where the source failed."""
    outcomes = client.market.orders.stream_order_line_statuses(rows, journal=journal)
    got = []
    try:
        async with aclosing(outcomes):
            async for outcome in outcomes:
                got.append(outcome)  # noqa: PERF401 - what came before an error counts
    except SourceError as error:
        return got, error.taken
    return got, None


async def test_a_source_that_raises_is_not_taken_for_one_that_ended(sandbox, connect, tmp_path):
    journal = tmp_path / "run.journal"
    outcomes, taken = await run(connect(sandbox), failing_after(5), journal)
    assert (len(outcomes), taken) == (5, 5)
    with JournalReader(journal) as reader:
        assert (reader.summary().recorded, reader.summary().length) == (5, None)
    outcomes, taken = await run(connect(sandbox), ROWS, journal)
    assert (len(outcomes), taken) == (15, None)
    assert sandbox.ledger.check(ROWS).ok


@pytest.mark.parametrize("count", [1, 7, 20])
async def test_rows_that_are_skipped_before_a_source_fails_are_counted(sandbox, connect, tmp_path, watcher, count):
    journal = tmp_path / "run.journal"
    await run(connect(sandbox), ROWS, journal)
    outcomes, taken = await run(connect(sandbox, observers=[watcher]), failing_after(count), journal)
    assert (outcomes, taken) == ([], count)
    assert sum(event.count for event in watcher.of(UpdatesSkipped)) == count
