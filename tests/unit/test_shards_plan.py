"""Freezing an input into shards, adopting those of another tool, and the plan between them."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from altcraft_async import AltcraftError, ConfigurationError, InvalidUpdateError, LineStatusUpdate, Shared
from altcraft_async.flow.partition import bucket_of
from altcraft_async.ingest import FIELDS, InputError, read_updates
from altcraft_async.shards import (
    ShardError,
    ShardReport,
    ShardState,
    adopt_shards,
    deliver_shard,
    plan_shards,
    read_plan,
    report,
    run_shards,
)
from altcraft_async.shards.lease import Holder, Progress
from altcraft_async.shards.plan import fresh_place, shard_of
from altcraft_async.shards.rows import rows_of

if TYPE_CHECKING:
    from altcraft_async.shards import Plan

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")

ROWS = [(f"o{number % 17}", f"l{number}", status) for status in ("new", "delivered") for number in range(50)]


def rows(plan: Plan, directory: Path, number: int) -> list[Any]:
    with ExitStack() as opened:
        return list(rows_of(plan, number, directory / plan.shards[number].file, opened))


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


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_name_that_is_not_utf_8_goes_along_with_a_wrong_row(tmp_path: Path, suffix: str) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in\xff." + suffix.encode()))
    try:
        if suffix == "csv":
            source.write_text(",".join(FIELDS) + "\no,l,\n")
        else:
            write(tmp_path / "in", [("", "", "")])
            (tmp_path / "in").rename(source)
    except OSError:
        pytest.skip("no such names here")
    plan = plan_shards(source, tmp_path / "run", shards=1)
    (wrong,) = rows(plan, tmp_path / "run", 0)
    assert wrong.source == f"{tmp_path}/in\\udcff.{suffix}"
    adopted = tmp_path / "adopted"
    write(adopted / "a.parquet", [("", "", "")])
    (adopted / "a.parquet").rename(adopted / os.fsdecode(b"a\xff.parquet"))
    (wrong,) = rows(adopt_shards(adopted), adopted, 0)
    assert wrong.source == "a\\udcff.parquet"


def test_a_wrong_row_of_a_database_keeps_its_ids(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(f"select 'o' {FIELDS[0]}, 'l' {FIELDS[1]}, '' {FIELDS[2]}")
        plan = plan_shards(found, tmp_path, shards=1)
    assert [row.ids for row in rows(plan, tmp_path, 0)] == [("o", "l", "")]


@pytest.mark.parametrize("source", [ROWS[0], dict(zip(FIELDS, ROWS[0], strict=True)), LineStatusUpdate(*ROWS[0]), b"o"])
def test_one_row_in_place_of_rows_is_refused_as_by_a_bulk_call(tmp_path: Path, source: Any) -> None:
    with pytest.raises((TypeError, InputError), match=r"updates must be an iterable of rows|an input is a path"):
        plan_shards(source, tmp_path, shards=1)
    assert not list(tmp_path.iterdir())


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
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == read_plan(tmp_path / "a").fingerprint


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


def edit(directory: Path, **changes: Any) -> None:
    path = directory / "_altcraft" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "12345678-1234-4234-8234-123456789abc"},
        {"id": "no id"},
        {"target": "https://elsewhere.example"},
        {"target": 5},
        {"shards": []},
        {"shards": 5},
        {"rows": 1e308},
        {"created": None},
        {"frozen": False},
        {"statuses": {"new": "delivered"}},
        {"more": 1},
    ],
)
def test_a_plan_that_was_changed_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    plan_shards(ROWS, tmp_path, shards=2, target="https://here.example")
    edit(tmp_path, **change)
    with pytest.raises(ShardError, match=r"was changed since it was made; restore _altcraft/plan\.json"):
        report(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "null", "[]", "5", "{}", "[" * 100_000, '{"format": 1, "shards": 1}', "\xff"]
)
def test_a_plan_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    plan_shards(ROWS, tmp_path, shards=2)
    (tmp_path / "_altcraft" / "plan.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ShardError, match=r"cannot be read; restore _altcraft/plan\.json as it was written"):
        read_plan(tmp_path)


def test_a_plan_of_another_release_is_named(tmp_path: Path) -> None:
    plan_shards(ROWS, tmp_path, shards=2)
    edit(tmp_path, format=9)
    with pytest.raises(ShardError, match="is of format 9"):
        read_plan(tmp_path)


def test_files_of_an_earlier_plan_keep_a_new_one_away(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ROWS)
    private = tmp_path / "_altcraft"
    private.mkdir()
    (private / "00000.journal").touch()
    with pytest.raises(ShardError, match=r"has 00000\.journal of an earlier plan, whose rows may have been sent"):
        adopt_shards(tmp_path)
    with pytest.raises(ShardError, match="of an earlier plan"):
        plan_shards(ROWS, tmp_path, shards=1)


@pytest.mark.parametrize("what", ["report.json", "lease.json"])
def test_files_of_another_plan_are_noticed(tmp_path: Path, what: str) -> None:
    for name in "ab":
        plan_shards(ROWS, tmp_path / name, shards=1)
    theirs = read_plan(tmp_path / "b")
    if what == "report.json":
        said: dict[str, Any] = ShardReport(0, ShardState.DONE, theirs.run_id(0), 100, {"applied": 100}).to_dict()
    else:
        said = attrs.asdict(Holder.own(theirs.run_id(0)))
    (tmp_path / "a" / "_altcraft" / f"00000.{what}").write_text(json.dumps(said))
    with pytest.raises(ShardError, match=rf"00000\.{what} is of another plan than _altcraft/plan\.json") as raised:
        report(tmp_path / "a")
    assert raised.value.shard == 0


DONE = ShardReport(0, ShardState.DONE, "", 100, {"applied": 100}).to_dict()


@pytest.mark.parametrize(
    "said",
    [
        "", "{", "null", "[]", "[" * 100_000, {"state": "done"}, DONE | {"state": "xx"}, DONE | {"state": "running"},
        DONE | {"counts": []}, DONE | {"counts": {"applied": "x"}}, DONE | {"rows": 99}, DONE | {"number": 1},
        DONE | {"number": "0"}, DONE | {"sent": 1e400}, DONE | {"elapsed": True}, DONE | {"problem": 5},
    ],
)  # fmt: skip
def test_a_damaged_report_is_named_with_what_helps(tmp_path: Path, said: Any) -> None:
    plan = plan_shards(ROWS, tmp_path, shards=1)
    path = tmp_path / "_altcraft" / "00000.report.json"
    path.write_text(said if isinstance(said, str) else json.dumps(said | {"run_id": plan.run_id(0)}))
    with pytest.raises(ShardError) as raised:
        report(tmp_path)
    assert str(raised.value).startswith(f"the report of shard 0 cannot be read; delete {path}, and deliver")


@pytest.mark.parametrize(
    "change",
    [
        "", "{", "null", "[]", "[" * 100_000, {"pid": "x"}, {"pid": -5}, {"pid": 2**70}, {"at": "x"},
        {"at": None}, {"at": float("nan")}, {"ended": 0}, {"host": None}, {"progress": []},
        {"progress": {"counts": 5}}, {"run_id": 7},
        *({"progress": attrs.asdict(Progress({"applied": count}))} for count in (None, "x", -5, 1e300, True, 2**60)),
    ],
)  # fmt: skip
def test_a_damaged_lease_is_none(tmp_path: Path, change: Any) -> None:
    plan = plan_shards(ROWS, tmp_path, shards=1)
    said = attrs.asdict(Holder.own(plan.run_id(0)))
    content = change if isinstance(change, str) else json.dumps(said | change)
    (tmp_path / "_altcraft" / "00000.lease.json").write_text(content)
    assert report(tmp_path).shards[0].state is ShardState.WAITING


def test_a_process_whose_number_cannot_be_one_is_gone(tmp_path: Path) -> None:
    assert attrs.evolve(Holder.own("run"), pid=2**40).is_gone()


@pytest.mark.parametrize("number", ["0", None, 1.0, True])
def test_a_shard_is_asked_for_by_a_whole_number(tmp_path: Path, number: Any) -> None:
    plan_shards(ROWS, tmp_path, shards=2)
    with pytest.raises(ConfigurationError, match="the number of a shard must be a whole number, not") as raised:
        deliver_shard(tmp_path, number)
    assert raised.value.field == "number"
    with pytest.raises(ConfigurationError, match="must be a whole number"):
        run_shards(tmp_path, shards=[number])


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    plan_shards(ROWS, tmp_path, shards=4)
    with pytest.raises(ShardError, match="has the shards 0 to 3, and no shard 7"):
        run_shards(tmp_path, shards=[0, 7])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_file_behind_a_wrapper_is_an_input(tmp_path: Path, kind: str) -> None:
    with tempfile.NamedTemporaryFile(dir=tmp_path, suffix=f".{kind}") as file:
        if kind == "parquet":
            write(Path(file.name), ROWS)
        else:
            file.write("\n".join(map(",".join, [FIELDS, *ROWS])).encode() + b"\n")
            file.seek(0)
        plan = plan_shards(file, tmp_path / "run", shards=1)  # type: ignore[arg-type]  # it only stands for a stream
    assert rows(plan, tmp_path / "run", 0) == [LineStatusUpdate(*row) for row in ROWS]


def test_what_is_neither_an_input_nor_rows_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"an input is a path, a binary stream, or .*, and a int is none of them"
    ):
        plan_shards(5, tmp_path / "run", shards=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"is open as text; open it as bytes"):
        plan_shards(io.StringIO("a,b,c"), tmp_path / "run", shards=1)  # type: ignore[arg-type]


def test_a_file_beside_the_shards_that_is_none_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({name: ["1"] for name in FIELDS}), tmp_path / "000000_0")  # as Hive names them
    assert [shard.rows for shard in adopt_shards(tmp_path).shards] == [1]
    shutil.rmtree(tmp_path / "_altcraft")
    (tmp_path / "notes.txt").write_text("none of the data")
    with pytest.raises(ConfigurationError, match=r"notes\.txt"):
        adopt_shards(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "column", "kind"])
def test_an_adopted_file_that_cannot_be_read_is_named_as_its_user_knows_it(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "part-0.parquet"
    if damage == "column":
        write(path, [row[:2] for row in ROWS], FIELDS[:2])
    elif damage == "kind":
        write(path, [(1.5, "l", "new")])
    else:
        write(path, ROWS)
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"")
    with pytest.raises(ConfigurationError) as raised:
        adopt_shards(tmp_path)
    assert str(raised.value).startswith(f"{path}")
    assert "altcraft-plan-" not in str(raised.value)


def test_a_wrong_row_of_an_adopted_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path / "part-0.parquet", [("o", None, "new")])
    plan = adopt_shards(tmp_path)
    assert str(rows(plan, tmp_path, 0)[0]).startswith("part-0.parquet, row 1: order_line_external_id is null")


class Shape:
    order_external_id = 7
    order_line_external_id = None


def ids(plan: Plan, directory: Path) -> list[Any]:
    return [row.ids for row in rows(plan, directory, 0)]


def test_a_wrong_row_keeps_the_ids_that_it_has(tmp_path: Path) -> None:
    given: list[Any] = [
        ("", "l", "new"),
        {"order_external_id": "o", "status_external_id": 1.5},
        Shape(),
        ("o", "l"),
        None,
    ]
    plan = plan_shards(given, tmp_path, shards=1)
    nothing = (None, None, None)
    assert ids(plan, tmp_path) == [("", "l", "new"), ("o", None, None), ("7", None, None), nothing, nothing]


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_a_wrong_row_of_a_file_keeps_the_ids_that_it_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "in.parquet":
        write(path, [("o", "", "new")])
    elif name == "in.csv":
        path.write_text(",".join(FIELDS) + "\no,,new\n")
    else:
        path.write_text(json.dumps(dict(zip(FIELDS, ("o", "", "new"), strict=True))) + "\n")
    plan = plan_shards(path, tmp_path / "run", shards=1)
    assert ids(plan, tmp_path / "run") == [("o", "", "new")]


def test_a_link_to_a_file_of_another_tool_is_adopted(tmp_path: Path) -> None:
    write(tmp_path / "store" / "a.parquet", ROWS)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.parquet").symlink_to(tmp_path / "store" / "a.parquet")
    assert adopt_shards(tmp_path / "run").rows == len(ROWS)


def test_too_few_open_files_and_a_full_disk_are_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for what, error in (("__init__", OSError(24, "Too many open files")), ("close", OSError(28, "No space left"))):
        with monkeypatch.context() as patch:

            def fail(*_: object, error: OSError = error, **__: object) -> None:
                raise error

            patch.setattr(f"altcraft_async.storage.columns.ParquetRows.{what}", fail)
            with pytest.raises(ShardError, match=f"what is gathered in .* cannot be written there .*{error.strerror}"):
                plan_shards([("o", "l", "new")], tmp_path / "run", shards=2)
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_rows_themselves_is_passed_on(tmp_path: Path) -> None:
    def rows() -> Any:
        yield ("o", "l", "new")
        raise OSError(104, "Connection reset by peer")

    with pytest.raises(OSError, match="Connection reset by peer"):
        plan_shards(rows(), tmp_path / "run", shards=2)


def test_a_full_disk_while_files_are_adopted_names_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(place: object, name: str, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    write(tmp_path / "a.parquet", [("o", "l", "new")])
    monkeypatch.setattr("altcraft_async.storage.places.Place.fetch", fetch)
    with pytest.raises(ShardError, match=f"what is gathered in {tempfile.gettempdir()} cannot be written there"):
        adopt_shards(tmp_path)


def test_a_file_in_the_place_of_a_directory_is_said_in_words(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [("o", "l", "new")])
    for use in (lambda where: plan_shards([], where, shards=1), adopt_shards):
        with pytest.raises(ShardError, match=r"a\.parquet cannot be read or written .*Not a directory"):
            use(tmp_path / "a.parquet")
    (tmp_path / "_altcraft").write_text("x")
    with pytest.raises(ShardError, match="_altcraft"):
        adopt_shards(tmp_path)
    (tmp_path / "_altcraft").unlink()
    adopt_shards(tmp_path)


def test_what_a_killed_plan_left_of_its_plan_is_removed(tmp_path: Path) -> None:
    (tmp_path / "_altcraft").mkdir()
    (tmp_path / "_altcraft" / "plan.json.0a1b2c3d.new").write_text("half")
    plan_shards([("o", "l", "new")], tmp_path, shards=1)
    assert [path.name for path in (tmp_path / "_altcraft").iterdir()] == ["plan.json"]


@pytest.mark.parametrize("strange", ["x.new", "z.parquet"])
def test_the_right_file_is_named_of_those_that_cannot_be_adopted(tmp_path: Path, strange: str) -> None:
    write(tmp_path / "a.parquet", [("o", "l", "new")])
    if strange == "x.new":
        (tmp_path / strange).write_text("text")
    else:
        (tmp_path / strange).symlink_to(tmp_path / "nowhere")
    with pytest.raises(AltcraftError, match=f"{strange} is "):
        adopt_shards(tmp_path)


def test_a_parquet_file_that_is_called_new_is_a_shard(tmp_path: Path) -> None:
    for number, name in enumerate(("a.parquet", "b.parquet.new", "c.new")):
        write(tmp_path / name, [(f"o{number}", "l", "new")])
    assert adopt_shards(tmp_path).rows == 3


@pytest.mark.parametrize("container", ["there", "typo"])
def test_no_bucket_is_created_for_a_plan(monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.makedirs("/there", exist_ok=True)
    monkeypatch.setattr("altcraft_async.storage.places.opener_of", lambda _: (memory, f"{container}/run"))
    try:
        if container == "there":
            assert fresh_place("s3://there/run").has_container()
        else:
            with pytest.raises(ShardError, match="the bucket of s3://typo/run is not there; correct the address"):
                fresh_place("s3://typo/run")
            assert not memory.exists("/typo")
    finally:
        memory.rm("/there", recursive=True)


def test_the_shard_of_a_journal_is_known_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "_altcraft").mkdir()
    journal = tmp_path / "_altcraft" / "00012.journal"
    assert shard_of(journal) is None
    (tmp_path / "_altcraft" / "plan.json").touch()
    assert shard_of(journal) == (str(tmp_path), 12)
    assert shard_of(tmp_path / "00012.journal") is None
    assert shard_of(tmp_path / "_altcraft" / "run.journal") is None


@pytest.mark.parametrize(
    ("source", "directory"),
    [
        ("data", "data/run"),
        ("data", "data"),
        ("data", "link/run"),
        ("data/**/*.parquet", "data/run"),
        ("data/*/*.parquet", "data/run"),
        (Path("data"), Path("data/sub/../run")),
        ("data/*/*/*.parquet", "data/run"),  # which has the failed rows
        ("data/*/*1.parquet", "data/run"),
        ("data[1]", "data[1]/run"),
        ("data[1]/", "data[1]"),
        ("file://{}/data", "data/run"),
        ("data", "file://{}/data/run"),
        ("local://{}/data/**", "file://{}/link/run"),
        ("file://{}/data[1]", "data[1]/run"),
    ],
)
def test_a_directory_within_its_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, directory: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    for name in ("data/sub", "data[1]"):
        write(tmp_path / name / "a.parquet", ROWS)
    source, directory = (one.format(tmp_path) if isinstance(one, str) else one for one in (source, directory))
    with pytest.raises(ShardError, match=r"is within the input .*data.*give a directory beside the input"):
        plan_shards(source, directory, shards=2)


@pytest.mark.parametrize(
    ("source", "directory"),
    [("in", "in/run"), ("in/**/*.parquet", "in/run"), ("*[n]/*/*.parquet", "in/run"), ("in", "in")],
)
@pytest.mark.parametrize("opened", ["memory://", "simplecache::memory://"])
def test_a_directory_elsewhere_that_is_within_its_input_is_refused(opened: str, source: str, directory: str) -> None:
    files = fsspec.filesystem("memory")
    sink = io.BytesIO()
    pq.write_table(pa.table({name: ["a"] for name in FIELDS}), sink)
    files.pipe("/in/sub/a.parquet", sink.getvalue())
    try:
        with pytest.raises(ShardError, match="is within the input"):
            plan_shards(f"{opened}{source}", f"memory://{directory}", shards=2)
        assert plan_shards(f"{opened}{source}", "memory://in-2/run", shards=2).rows == 1
    finally:
        files.rm("/in", recursive=True)
        if files.exists("/in-2"):
            files.rm("/in-2", recursive=True)


@pytest.mark.parametrize(
    ("source", "directory"),
    [
        ("data", "data-2"),
        ("data/*.parquet", "data/run"),
        ("data/a.parquet", "data"),
        ("data", "data/_run"),
        ("data/**/a.parquet", "data/run"),
        ("dat[a]/*.parquet", "dat[a]/run"),
    ],
)
def test_a_directory_beside_its_input_is_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, directory: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.parquet", ROWS)
    assert plan_shards(source, directory, shards=2).rows == len(ROWS)
    assert plan_shards(source, "again", shards=2).rows == len(ROWS)


def test_all_that_a_plan_that_was_cut_off_left_is_named(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"shard-{number:05}.parquet").touch()
    left = "has 3 files, shard-00000.parquet to shard-00002.parquet, already: .* or delete these files"
    with pytest.raises(ShardError, match=left):
        plan_shards(ROWS, tmp_path, shards=3)


@pytest.mark.parametrize("use", [report, read_plan, lambda directory: plan_shards(ROWS, directory, shards=1)])
def test_a_directory_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="the directory has no name; give a path"):
        use("")


@pytest.mark.parametrize(
    "use", [report, adopt_shards, read_updates, lambda address: plan_shards(address, "run", shards=1)]
)
@pytest.mark.parametrize("address", ["file://", "memory://", "simplecache::file://"])
def test_an_address_without_a_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Any, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(ConfigurationError, match=":// has no path; give the whole address"):
        use(address)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    "use",
    [
        read_updates,
        lambda source: read_updates(source, input_format="csv"),
        lambda source: plan_shards(source, "run", shards=1),
    ],
)
def test_an_input_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(InputError, match=r"the input has no name; give a path, or \. for the current directory"):
        use("")


@pytest.mark.parametrize("use", [adopt_shards, lambda directory: plan_shards(ROWS, directory, shards=1)])
def test_a_server_that_is_down_is_no_bucket_that_is_missing(use: Any) -> None:
    with pytest.raises(ShardError, match=r"http://127\.0\.0\.1:1/x cannot be read or written .*Connect call failed"):
        use("http://127.0.0.1:1/x")


@pytest.mark.parametrize("name", ["concurrency", "rate"])
def test_a_total_among_drainers_is_none_for_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plan_shards(ROWS, tmp_path, shards=1)
    said = f"{name} is a total among the drainers of an outbox, and shards have none"
    for deliver in (deliver_shard, lambda *_, **limits: run_shards(tmp_path, processes=1, **limits)):
        with pytest.raises(ConfigurationError, match=said) as raised:
            deliver(tmp_path, 0, **{name: Shared(20, among="drainers")})  # type: ignore[arg-type]
        assert raised.value.field == name
    for variable, value in (("BASE_URL", "http://127.0.0.1:1"), ("TOKEN", "0" * 32), (name.upper(), "drainers:20")):
        monkeypatch.setenv(f"ALTCRAFT_{variable}", value)
    with pytest.raises(ConfigurationError, match=said):
        deliver_shard(tmp_path, 0)


def test_a_mistake_of_the_settings_is_told_once_before_any_process_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_shards(ROWS, tmp_path, shards=2, target="http://127.0.0.1:1")
    monkeypatch.setenv("ALTCRAFT_BASE_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("ALTCRAFT_TOKEN", "0" * 32)
    monkeypatch.setattr("altcraft_async.shards.pool._Pool", None)
    with pytest.raises(ShardError, match=r"is for http://127\.0\.0\.1:1, and the settings are for") as raised:
        run_shards(tmp_path)
    assert not hasattr(raised.value, "__notes__")
    with pytest.raises(ConfigurationError, match="concurrency must be") as wrong:
        run_shards(tmp_path, concurrency=0)
    assert not hasattr(wrong.value, "__notes__")


def test_a_daemonic_process_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_shards(ROWS, tmp_path, shards=1)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", 1)  # type: ignore[attr-defined]
    with pytest.raises(ShardError, match=r"lets a daemonic process, .*, begin none; call it in another"):
        run_shards(tmp_path)
