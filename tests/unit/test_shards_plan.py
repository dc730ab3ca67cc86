"""Freezing an input into shards, adopting those of another tool, and the plan between them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from altcraft_async import ConfigurationError, InvalidUpdateError, LineStatusUpdate
from altcraft_async.flow.partition import bucket_of
from altcraft_async.ingest import FIELDS
from altcraft_async.shards import ShardError, adopt_shards, plan_shards, read_plan, report
from altcraft_async.shards.report import ShardState
from altcraft_async.shards.rows import rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from altcraft_async.shards import Plan

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")

ROWS = [(f"o{number % 17}", f"l{number}", status) for status in ("new", "delivered") for number in range(50)]


def rows(plan: Plan, directory: Path, number: int) -> list[Any]:
    with ExitStack() as opened:
        return list(rows_of(plan, directory / plan.shards[number].file, opened))


def write(path: Path, given: list[Any], names: tuple[str, ...] = FIELDS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*given, strict=True)), strict=True))), path)


def test_each_row_goes_to_the_shard_of_its_order_and_keeps_its_place(tmp_path: Path) -> None:
    plan = plan_shards(ROWS, tmp_path / "run", shards=4)
    assert (plan.rows, len(plan.shards), plan.target) == (100, 4, None)
    for number in range(4):
        expected = [LineStatusUpdate(*row) for row in ROWS if bucket_of(row[0], 4) == number]
        assert rows(plan, tmp_path / "run", number) == expected
        found = pq.read_table(tmp_path / "run" / plan.shards[number].file)["index"].to_pylist()
        assert [LineStatusUpdate(*ROWS[index]) for index in found] == expected
    assert read_plan(tmp_path / "run") == plan


def test_a_wrong_row_goes_along_with_what_is_wrong(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text(",".join(FIELDS) + "\no,l,new\no,,new\n")
    plan = plan_shards(source, tmp_path / "run", shards=2)
    found = [row for number in range(2) for row in rows(plan, tmp_path / "run", number)]
    wrong = next(row for row in found if isinstance(row, InvalidUpdateError))
    assert (len(found), wrong.field, wrong.line) == (2, "order_line_external_id", 3)
    assert str(wrong).startswith(f"{source}, line 3: order_line_external_id is empty")


def test_an_own_request_id_goes_along(tmp_path: Path) -> None:
    plan = plan_shards([LineStatusUpdate("o", "l", "new", request_id="mine")], tmp_path, shards=1)
    assert rows(plan, tmp_path, 0)[0].request_id == "mine"


def test_keywords_say_how_an_input_is_read(tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", [("o", "l", "gone")], ("Order", "Line", "State"))
    columns = dict(zip(FIELDS, ("order", "line", "state"), strict=True))
    plan = plan_shards(tmp_path / "in.parquet", tmp_path / "run", shards=1, columns=columns, statuses={"gone": "new"})
    assert rows(plan, tmp_path / "run", 0) == [LineStatusUpdate("o", "l", "new")]
    with pytest.raises(ConfigurationError, match="columns says how an input is read, and rows were given"):
        plan_shards(ROWS, tmp_path / "other", shards=1, columns=columns)


def test_a_directory_gets_one_plan(tmp_path: Path) -> None:
    plan_shards(ROWS, tmp_path, shards=2)
    with pytest.raises(ShardError, match="has a plan already"):
        plan_shards(ROWS, tmp_path, shards=2)
    with pytest.raises(ShardError, match="has a plan already"):
        adopt_shards(tmp_path)


def test_a_plan_in_memory_is_as_good(tmp_path: Path) -> None:
    fsspec.filesystem("memory").rm("/shards-here", recursive=True) if fsspec.filesystem("memory").exists(
        "/shards-here"
    ) else None
    plan = plan_shards(ROWS, "memory://shards-here", shards=3, target="https://ru.altkraft.com/")
    assert plan.target == "https://ru.altkraft.com"
    assert read_plan("memory://shards-here") == plan
    assert [shard.state for shard in report("memory://shards-here").shards] == [ShardState.WAITING] * 3


@pytest.mark.parametrize("shards", [0, 501, True, "4"])
def test_a_number_of_shards_that_cannot_work_is_refused(tmp_path: Path, shards: Any) -> None:
    with pytest.raises(ConfigurationError, match="shards must be a whole number from 1 to 500"):
        plan_shards(ROWS, tmp_path, shards=shards)


def test_ids_follow_from_the_plan_and_differ_between_plans(tmp_path: Path) -> None:
    first, second = (plan_shards(ROWS, tmp_path / name, shards=2) for name in "ab")
    assert first.run_id(0) == read_plan(tmp_path / "a").run_id(0)
    assert len({plan.run_id(number) for plan in (first, second) for number in range(2)}) == 4
    assert first.fingerprint == second.fingerprint


def test_files_of_another_tool_are_adopted(tmp_path: Path) -> None:
    for number in range(3):
        given = [row for row in ROWS if bucket_of(row[0], 3) == number]
        write(tmp_path / f"part-{number}.snappy.parquet", given, ("Order", "Line", "status_external_id"))
    (tmp_path / "_SUCCESS").touch()
    columns = {"order_external_id": "Order", "order_line_external_id": "Line"}
    plan = adopt_shards(tmp_path, columns=columns)
    assert ([shard.file for shard in plan.shards], plan.rows) == ([f"part-{n}.snappy.parquet" for n in range(3)], 100)
    assert rows(read_plan(tmp_path), tmp_path, 1) == [
        LineStatusUpdate(*row) for row in ROWS if bucket_of(row[0], 3) == 1
    ]


def test_an_order_in_two_files_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ROWS[:10])
    write(tmp_path / "b.parquet", [("p", "l", "new"), ("o3", "l3", "delivered")])
    with pytest.raises(ShardError, match=r"order 'o3' stands in a\.parquet and in b\.parquet") as raised:
        adopt_shards(tmp_path)
    assert raised.value.shard == 1


def test_a_directory_without_a_plan_or_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="has no plan"):
        read_plan(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="has no Parquet files"):
        adopt_shards(tmp_path)


def test_a_plan_that_was_changed_is_refused(tmp_path: Path) -> None:
    plan_shards(ROWS, tmp_path, shards=2)
    path = tmp_path / "_altcraft" / "plan.json"
    said = json.loads(path.read_text())
    said["shards"].pop()
    path.write_text(json.dumps(said))
    with pytest.raises(ShardError, match="was changed since it was made"):
        read_plan(tmp_path)
    path.write_text("{}")
    with pytest.raises(ShardError, match="cannot be read"):
        read_plan(tmp_path)
    path.write_text(json.dumps(said | {"format": 9}))
    with pytest.raises(ShardError, match="is of format 9"):
        read_plan(tmp_path)
