"""Rows of any shape, ids and tags of the caller's own, and what a report gives back."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sqlite3
from types import SimpleNamespace
from typing import NamedTuple

import attrs
import pytest

from altcraft_async import (
    BadRequestError,
    ConfigurationError,
    InvalidUpdateError,
    JournalError,
    LineStatusUpdate,
    OutcomeState,
    Report,
    SourceError,
)
from altcraft_async.outbox import Outbox


class AsNamedTuple(NamedTuple):
    status_external_id: str
    order_external_id: str
    order_line_external_id: str


class AsLongerTuple(NamedTuple):
    Index: int
    order_external_id: str
    order_line_external_id: str
    status_external_id: str


@attrs.frozen
class AsAttrs:
    order_external_id: str
    order_line_external_id: str
    status_external_id: str
    tag: object = None


@dataclasses.dataclass
class AsDataclass:
    order_external_id: str
    order_line_external_id: str
    status_external_id: str
    request_id: str | None = None


IDS = {"order_external_id": "order_1", "order_line_external_id": "line_1_1", "status_external_id": "delivered"}
SHAPES = [
    tuple(IDS.values()),
    list(IDS.values()),
    IDS,
    {**IDS, "warehouse": "north"},
    AsNamedTuple("delivered", "order_1", "line_1_1"),
    AsLongerTuple(0, *IDS.values()),
    AsAttrs(**IDS),
    AsDataclass(**IDS),
    SimpleNamespace(**IDS),
    LineStatusUpdate(**IDS),
]


@pytest.mark.parametrize("row", SHAPES, ids=lambda row: type(row).__name__)
async def test_a_row_of_any_shape_is_sent_and_comes_back_as_it_was_given(sandbox, connect, row):
    report = await connect(sandbox).market.orders.update_order_line_statuses([row])
    (outcome,) = report
    assert outcome.state is OutcomeState.APPLIED
    assert outcome.row is row
    assert outcome.update == LineStatusUpdate(**IDS)


async def test_a_row_of_sqlite3_is_taken_by_its_names(sandbox, connect):
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    rows = database.execute(
        "SELECT 7 AS tag, 'delivered' AS status_external_id, 'order_1' AS order_external_id, "
        "'line_1_1' AS order_line_external_id"
    )
    (outcome,) = await connect(sandbox).market.orders.update_order_line_statuses(rows)
    assert (outcome.state, outcome.update.tag) == (OutcomeState.APPLIED, 7)
    database.close()


async def test_a_data_frame_is_no_iterable_of_rows_and_the_error_says_what_reads_it(sandbox, connect):
    table = pytest.importorskip("pyarrow").table({name: [value] for name, value in IDS.items()})
    with pytest.raises(TypeError, match=r"a Table has columns; give altcraft_async.ingest.read_updates"):
        await connect(sandbox).market.orders.update_order_line_statuses(table)


async def test_an_error_of_the_source_has_the_words_of_its_cause(sandbox, connect):
    def broken():
        yield tuple(IDS.values())
        msg = "disk on fire"
        raise ValueError(msg)

    with pytest.raises(SourceError, match=r"failed after 1 row \(ValueError: disk on fire\)"):
        await connect(sandbox).market.orders.update_order_line_statuses(broken())


async def test_the_ids_of_a_named_tuple_are_its_names_not_its_places(sandbox, connect):
    await connect(sandbox).market.orders.update_order_line_statuses([AsNamedTuple("delivered", "order_1", "line_1_1")])
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"


async def test_all_names_that_a_row_lacks_are_told_at_once(sandbox, connect):
    report = await connect(sandbox).market.orders.update_order_line_statuses([{"order_external_id": 1}, object()])
    first, second = (outcome.error for outcome in report)
    assert str(first).startswith("the row, a dict, has no order_line_external_id and no status_external_id")
    assert first.field == "order_line_external_id"
    assert "a mapping or an object with these names, not a object" in str(second)


async def test_an_own_id_and_a_tag_go_through_a_bulk_call(sandbox, connect):
    rows = [{**IDS, "request_id": "mine-1", "tag": {"message": 17}}, LineStatusUpdate("order_2", "line_2_1", "new")]
    report = await connect(sandbox).market.orders.update_order_line_statuses(rows)
    assert report.outcomes[0].request_id == "mine-1"
    assert report.outcomes[0].update.tag == {"message": 17}
    assert report.outcomes[1].request_id not in {None, "mine-1"}
    again = await connect(sandbox).market.orders.update_order_line_statuses(rows[:1])
    assert again.outcomes[0].state is OutcomeState.DUPLICATE


async def test_under_a_journal_an_own_id_is_part_of_the_row_and_numbered_after_a_rejection(sandbox, connect, tmp_path):
    orders = connect(sandbox).market.orders
    refused = LineStatusUpdate("order_1", "line_1_1", "no_such_status", request_id="mine")
    first = await orders.update_order_line_statuses([refused], journal=tmp_path / "j")
    again = await orders.update_order_line_statuses([refused], journal=tmp_path / "j", retry_failed=True)
    third = await orders.update_order_line_statuses([refused], journal=tmp_path / "j", retry_failed=True)
    assert [report.outcomes[0].request_id for report in (first, again, third)] == ["mine", "mine-r1", "mine-r2"]
    kept = await orders.update_order_line_statuses([refused], journal=tmp_path / "j")
    assert kept.outcomes[0].request_id == "mine-r2"
    other = attrs.evolve(refused, request_id="other")
    with pytest.raises(JournalError, match="is not the one that the journal"):
        await orders.update_order_line_statuses([other], journal=tmp_path / "j")


async def test_an_outbox_takes_the_shapes_and_the_own_id(sandbox, connect, tmp_path, until):
    async with Outbox(tmp_path / "outbox", connect(sandbox)) as outbox:
        assert await outbox.put({**IDS, "request_id": "mine-2"}) == "mine-2"
        assert await outbox.put(AsAttrs(**IDS), request_id="said") == "said"
        with pytest.raises(ConfigurationError, match="request_id"):
            await outbox.put(IDS, request_id="")
        with pytest.raises(InvalidUpdateError):
            await outbox.put({"order_external_id": "o"})
        await until(lambda: not outbox.statistics().pending)
    assert [change.request_id for change in sandbox.ledger.changes("order_1", "line_1_1")] == ["mine-2", "said"]


async def report_with_failures(sandbox, connect) -> Report[object]:
    rows = [tuple(IDS.values()), ("order_2", "line_2_1", "no_such_status"), ("order_2", "", "new")]
    return await connect(sandbox).market.orders.update_order_line_statuses(rows)


async def test_a_report_is_iterable_has_a_length_and_goes_into_json(sandbox, connect):
    report = await report_with_failures(sandbox, connect)
    assert list(report) == list(report.outcomes)
    assert len(report) == 3
    said = json.loads(json.dumps(report.to_dict()))
    assert said["counts"]["rejected"] == said["counts"]["invalid"] == said["counts"]["applied"] == 1
    assert said["ok"] is False
    assert said["outcomes"][1]["order_external_id"] == "order_2"
    assert said["outcomes"][1]["error_type"] == "BadRequestError"
    assert said["outcomes"][2]["error_type"] == "InvalidUpdateError"
    assert said["outcomes"][0]["error"] is None


def test_an_empty_report_is_no_failure_by_its_length():
    assert Report([], elapsed=0.0, sent=0, retries=0, throttled=0)


async def test_a_report_is_equal_after_pickling_with_its_errors(sandbox, connect):
    report = await report_with_failures(sandbox, connect)
    assert pickle.loads(pickle.dumps(report)) == report
    error = report.outcomes[1].error
    assert isinstance(error, BadRequestError)
    copy = pickle.loads(pickle.dumps(error))
    assert copy == error
    assert hash(copy) == hash(error)
    copy.attempts += 1
    assert copy != error


async def test_a_report_becomes_a_table_with_a_column_for_each_key(sandbox, connect):
    report = await report_with_failures(sandbox, connect)
    table = report.to_arrow()
    assert table.num_rows == 3
    assert table.to_pylist() == [outcome.to_dict() for outcome in report]
    assert table["ok"].to_pylist() == [outcome.ok for outcome in report]
    assert Report([], elapsed=0.0, sent=0, retries=0, throttled=0).to_arrow().schema == table.schema


async def test_a_report_is_written_to_parquet_at_a_path_and_an_address(sandbox, connect, tmp_path):
    pq, _ = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("fsspec")
    report = await report_with_failures(sandbox, connect)
    report.to_parquet(tmp_path / "report.parquet")
    report.to_parquet(f"file://{tmp_path}/again.parquet")
    for name in ("report.parquet", "again.parquet"):
        assert pq.read_table(tmp_path / name) == report.to_arrow()
