"""Updates out of columns: Parquet, Arrow, data frames; files, directories, patterns and addresses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest

from altcraft_async import ConfigurationError, InvalidUpdateError, LineStatusUpdate
from altcraft_async.ingest import FIELDS, HeldBackError, InputError, InputFormat, Unit, read_updates
from altcraft_async.storage import columns as columns_module
from altcraft_async.storage.columns import Columns, read_ahead

if TYPE_CHECKING:
    from pathlib import Path

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("fsspec")

ROWS = [(f"o{number // 2}", f"l{number}", "delivered") for number in range(10)]
UPDATES = [LineStatusUpdate(*row) for row in ROWS]


def table(rows: list[Any] = ROWS, **more: Any) -> Any:
    columns = {field: [row[place] for row in rows] for place, field in enumerate(FIELDS)}
    return pa.table(columns | more)


def parquet(path: Path, content: Any = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table() if content is None else content, path, **options)
    return path


def arrow_file(path: Path) -> Path:
    with pa.ipc.new_file(path, table().schema) as writer:
        writer.write_table(table())
    return path


def arrow_stream(path: Path) -> Path:
    with pa.ipc.new_stream(path, table().schema) as writer:
        writer.write_table(table())
    return path


@pytest.mark.parametrize(
    ("make", "name", "kind"),
    [
        (parquet, "in.parquet", InputFormat.PARQUET),
        (parquet, "an export", InputFormat.PARQUET),
        (arrow_file, "in.feather", InputFormat.ARROW),
        (arrow_stream, "in.arrows", InputFormat.ARROW),
    ],
)
def test_a_file_of_columns_is_known_by_its_content(tmp_path: Path, make: Any, name: str, kind: InputFormat) -> None:
    with read_updates(make(tmp_path / name)) as reader:
        assert list(reader) == UPDATES
        assert (reader.format, reader.rows_read, reader.exhausted) == (kind, 10, True)
    with (tmp_path / name).open("rb") as stream:
        assert list(read_updates(stream)) == UPDATES
    assert list(read_updates(io.BytesIO((tmp_path / name).read_bytes()))) == UPDATES


def test_what_hands_over_its_columns_is_read_as_it_is() -> None:
    reader = read_updates(table())
    assert list(reader) == UPDATES
    assert (reader.source, reader.format) == ("Table", InputFormat.ARROW)


def test_frames_of_polars_and_pandas_are_read() -> None:
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    columns = table().to_pydict()
    assert list(read_updates(polars.DataFrame(columns))) == UPDATES
    assert list(read_updates(pandas.DataFrame(columns))) == UPDATES
    categories = pandas.DataFrame(columns).astype({"status_external_id": "category"})
    assert list(read_updates(categories)) == UPDATES


def test_a_directory_and_a_pattern_are_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    for number in (1, 0):
        parquet(tmp_path / "day" / f"part-{number}.parquet", table().slice(number * 5, 5))
    parquet(tmp_path / "day" / "_temporary" / "part-9.parquet")
    (tmp_path / "day" / "_SUCCESS").touch()
    for source in (tmp_path / "day", str(tmp_path / "day" / "*.parquet"), f"file://{tmp_path}/day"):
        assert list(read_updates(source)) == UPDATES


def test_an_address_of_fsspec_is_read() -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://columns/a.parquet", "wb") as file:
        pq.write_table(table(), file)
    assert list(read_updates("memory://columns/a.parquet")) == UPDATES
    assert list(read_updates("memory://columns/*.parquet")) == UPDATES
    with pytest.raises(InputError, match="does not exist"):
        read_updates("memory://columns/b.parquet")


def test_whole_numbers_and_dictionaries_are_texts_and_other_columns_stay_away(tmp_path: Path) -> None:
    content = pa.table(
        {
            "Order": pa.array([1, 2], pa.int32()),
            "LINE": [7, 8],
            "state": pa.array(["gone", "gone"]).dictionary_encode(),
            "blob": [b"\0", b"\1"],
        }
    )
    columns = {"order_external_id": "order", "order_line_external_id": "line", "status_external_id": "state"}
    reader = read_updates(parquet(tmp_path / "a.parquet", content), columns=columns, statuses={"gone": "delivered"})
    assert list(reader) == [LineStatusUpdate("1", "7", "delivered"), LineStatusUpdate("2", "8", "delivered")]
    assert reader.suspicions == ()


def test_a_constant_stands_for_a_column(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", table().drop_columns(["status_external_id"]))
    assert list(read_updates(path, constants={"status_external_id": "delivered"})) == UPDATES
    with pytest.raises(InputError, match=r"a\.parquet: the header lacks the column 'status_external_id'") as raised:
        read_updates(path)
    assert raised.value.field == "status_external_id"


def test_a_wrong_row_is_invalid_with_its_file_and_number(tmp_path: Path) -> None:
    parquet(tmp_path / "d" / "a.parquet")
    wrong = table(
        [("o", "l", "delivered"), (None, "l", "new"), ("o", "", "new"), ("o", "l\n", "new"), ("p", "l", None)]
    )
    second = parquet(tmp_path / "d" / "b.parquet", wrong)
    found = list(read_updates(tmp_path / "d"))[10:]
    assert found[0] == LineStatusUpdate("o", "l", "delivered")
    errors = [one for one in found if isinstance(one, InvalidUpdateError)]
    assert [(error.source, error.line, error.field) for error in errors] == [
        (str(second), 2, "order_external_id"),
        (str(second), 3, "order_line_external_id"),
        (str(second), 4, "order_line_external_id"),
        (str(second), 5, "status_external_id"),
    ]
    assert "order_external_id is null" in errors[0].message


@pytest.mark.parametrize("values", [pa.array([1.0, 2.0]), pa.array([True, False]), pa.array([b"a", b"b"])])
def test_a_column_that_gives_no_ids_is_refused_at_once(tmp_path: Path, values: Any) -> None:
    path = parquet(tmp_path / "a.parquet", table(ROWS[:2]).set_column(0, FIELDS[0], values))
    with pytest.raises(InputError, match=f"of type {values.type}; write it as text or as whole numbers"):
        read_updates(path)


def test_a_kept_row_is_a_json_line_that_can_be_read_again(tmp_path: Path) -> None:
    reader = read_updates(parquet(tmp_path / "a.parquet", table([(1, "ф", "new"), (2, "l", None)])), keep_rows=True)
    rows = list(reader)
    assert isinstance(rows[1], InvalidUpdateError)
    kept = reader.take_row(0)
    assert kept is not None
    assert (kept.line, json.loads(kept.raw)) == (1, dict(zip(FIELDS, (1, "ф", "new"), strict=True)))
    assert list(read_updates(io.BytesIO(kept.raw))) == [rows[0]]
    assert reader.format.of_rows is InputFormat.JSONL


def test_unread_rows_are_json_lines(tmp_path: Path) -> None:
    reader = read_updates(parquet(tmp_path / "a.parquet"))
    rows = iter(reader)
    next(rows)
    assert list(read_updates(io.BytesIO(b"".join(reader.unread())))) == UPDATES[1:]


async def test_columns_are_read_in_a_thread(tmp_path: Path) -> None:
    with read_updates(parquet(tmp_path / "a.parquet"), keep_rows=True) as reader:
        assert [row async for row in reader.in_thread()] == UPDATES
        assert reader.take_row(3) is not None


def test_a_file_that_is_cut_off_is_no_input(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.parquet cannot be read, it is damaged or cut off"):
        read_updates(path)


def test_a_file_that_is_damaged_inside_is_held_back_after_the_last_good_row(tmp_path: Path) -> None:
    path = arrow_stream(tmp_path / "a.arrows")
    with path.open("ab") as file:
        file.truncate(path.stat().st_size - 8)  # its end
        file.write(b"\xff\xff\xff\xff\x10\0\0\0garbage")
    found = []
    with pytest.raises(HeldBackError, match="after row 10: the file breaks off") as raised:  # noqa: PT012 - what came before
        for row in read_updates(path):
            found.append(row)  # noqa: PERF402 - as it comes
    assert (found, raised.value.line) == (UPDATES, 11)


@pytest.mark.parametrize("make", [arrow_file, arrow_stream])
@pytest.mark.parametrize("place", [b"\x40", b"\x80"])
def test_an_arrow_file_with_a_damaged_offset_gives_no_row(tmp_path: Path, make: Any, place: bytes) -> None:
    path = make(tmp_path / "a.arrow")
    content = bytearray(path.read_bytes())
    offsets = content.index(b"".join(number.to_bytes(4, "little") for number in (0, 2, 4, 6)))
    content[offsets + 15 : offsets + 16] = place
    path.write_bytes(content)
    with pytest.raises(HeldBackError, match=r"after row 0: the file breaks off or is damaged \(Offset"):
        list(read_updates(path))


def test_a_dictionary_whose_places_are_damaged_gives_no_row() -> None:
    places = pa.DictionaryArray.from_arrays(pa.array([0, 9], pa.int8()), pa.array(["new"]), safe=False)
    with pytest.raises(HeldBackError, match="after row 0"):
        list(read_updates(table(ROWS[:2]).set_column(2, FIELDS[2], places)))


def not_utf8(kind: str) -> Any:
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\5\0\0\0"), pa.py_buffer(b"okb\xff\xfe"))
    return texts.dictionary_encode() if kind == "dictionary" else texts.cast(kind)


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
def test_a_text_that_is_not_utf8_is_a_wrong_row(tmp_path: Path, kind: str, name: str) -> None:
    content, path = table(ROWS[:2]).set_column(0, FIELDS[0], not_utf8(kind)), tmp_path / name
    if name == "a.parquet":
        parquet(path, content)
    else:
        new = pa.ipc.new_file if name == "a.arrow" else pa.ipc.new_stream
        with new(path, content.schema) as writer:
            writer.write_table(content)
    reader = read_updates(path, keep_rows=True)
    first, wrong = reader
    assert first == LineStatusUpdate("ok", "l0", "delivered")
    assert isinstance(wrong, InvalidUpdateError)
    assert (wrong.field, wrong.line, wrong.ids) == (FIELDS[0], 2, ("b\\udcff\\udcfe", "l1", "delivered"))
    assert "is not UTF-8: it has the byte 0xFF at position 2" in wrong.message
    kept = reader.take_row(1)
    assert kept is not None
    assert b'"b\xff\xfe"' in kept.raw


def test_what_is_one_column_or_has_columns_of_mixed_types_is_refused_as_what_it_is() -> None:
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    mixed = pandas.DataFrame({FIELDS[0]: [1, "a"], FIELDS[1]: ["l", "l"], FIELDS[2]: ["s", "s"]})
    for source in (polars.Series(["a"]), pa.chunked_array([["a"]]), mixed):
        words = f"{type(source).__name__} hands over no table .*; give a table or a data frame, each column of one type"
        with pytest.raises(InputError, match=words):
            read_updates(source)


def test_an_error_of_a_generator_of_batches_is_said_as_one() -> None:
    def batches() -> Any:
        yield table().to_batches()[0]
        msg = "the query was stopped"
        raise RuntimeError(msg)

    reader = read_updates(pa.RecordBatchReader.from_batches(table().schema, batches()), name="query")
    words = r"^query, after row 10: its batches break off, or are wrong \([^()]*the query was stopped\); look at what"
    with pytest.raises(HeldBackError, match=words):
        list(reader)


def test_what_is_called_parquet_and_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("order_external_id,order_line_external_id,status_external_id\n")
    with pytest.raises(InputError, match="is neither Parquet nor Arrow"):
        read_updates(path)
    with pytest.raises(InputError, match="is neither Parquet nor Arrow"):
        read_updates(path.rename(tmp_path / "b"), input_format="parquet")
    with read_updates(tmp_path / "b", input_format="csv") as reader:
        assert list(reader) == []


def test_a_directory_without_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory without files"):
        read_updates(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt too, which is neither Parquet nor Arrow"):
        read_updates(str(tmp_path / "*"))


@pytest.mark.parametrize("source", ["{}", "file://{}", "memory://named"])
def test_the_files_of_a_directory_are_known_by_their_content_and_none_is_left_out(tmp_path: Path, source: str) -> None:
    import fsspec  # noqa: PLC0415

    for number, name in enumerate(("000001_0", "a.parquet", "b.parq", "c.parquet.snappy")):
        parquet(tmp_path / name, table(ROWS[number : number + 1]))
    arrow_file(tmp_path / "d")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".d.crc").write_bytes(b"x")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.put(f"{tmp_path}/", "/named", recursive=True)
    assert list(read_updates(source.format(tmp_path))) == UPDATES[:4] + UPDATES
    (tmp_path / "more.csv").write_text("order_external_id,order_line_external_id,status_external_id\n")
    memory.put(f"{tmp_path}/more.csv", "/named/more.csv")
    with pytest.raises(InputError, match=r"more\.csv too, which is neither Parquet nor Arrow; move it away"):
        read_updates(source.format(tmp_path))


def test_an_unknown_kind_of_address_is_a_mistake_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="is no address that fsspec knows"):
        read_updates("nowhere://a.parquet")


@pytest.mark.parametrize("source", ["memory://a/**.parquet", "file:///a/**.parquet", "/a/**.parquet"])
def test_a_pattern_that_is_none_is_refused_in_words(source: str) -> None:
    with pytest.raises(
        InputError, match=r"is no pattern that can be used: .*; write \*\* only as a whole part"
    ) as raised:
        read_updates(source)
    assert raised.value.source == source


def test_suspicious_values_are_counted(tmp_path: Path) -> None:
    reader = read_updates(parquet(tmp_path / "a.parquet", table([("1.0", "l", "Delivered"), ("o", "l", "new")])))
    list(reader)
    assert [suspicion.line for suspicion in reader.suspicions] == [1, 1]


def test_reading_ahead_is_bounded_and_ends_with_its_reader() -> None:
    made: list[int] = []

    def numbers() -> Any:
        for number in range(100):
            made.append(number)
            yield number

    ahead = read_ahead(numbers())
    assert next(ahead) == 0
    ahead.close()
    for thread in threading.enumerate():
        if thread.name == "altcraft-columns":
            thread.join()
    assert len(made) <= 4


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "altcraft-columns"]


class Feed:
    """Gives a batch at once, and the second when it is let; notes when it is closed."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.let = threading.Event()
        self.is_read = False
        self.closed_in: list[tuple[str, bool]] = []

    def batches(self, _: Any = None) -> Any:
        yield table().to_batches()[0]
        self.is_read = True
        self.inside.set()
        self.let.wait(10)
        self.is_read = False
        yield table().to_batches()[0]

    def close(self) -> None:
        self.closed_in.append((threading.current_thread().name, self.is_read))


def test_closing_waits_for_the_read_that_goes_on() -> None:
    feed = Feed()
    columns = Columns(table().schema, feed.batches, close=feed.close)
    rows = read_ahead(columns.batches([0, 1, 2]))
    next(rows)
    feed.inside.wait(10)
    threading.Timer(0.05, feed.let.set).start()
    columns.close()
    columns.close()
    assert [is_read for _, is_read in feed.closed_in] == [False]
    assert list(rows) == []


def test_a_read_that_hangs_does_not_hang_the_closing_and_closes_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "_CLOSING_SECONDS", 0.01)
    feed = Feed()
    columns = Columns(table().schema, feed.batches, close=feed.close)
    rows = read_ahead(columns.batches([0, 1, 2]))
    next(rows)
    feed.inside.wait(10)
    threads = reading_threads()
    columns.close()
    assert feed.closed_in == []
    feed.let.set()
    for thread in threads:
        thread.join(10)
    assert feed.closed_in == [("altcraft-columns", False)]


async def test_a_stream_of_a_slow_generator_is_left_early() -> None:
    feed = Feed()
    stream = pa.RecordBatchReader.from_batches(table().schema, feed.batches())
    with read_updates(stream) as reader:
        rows = reader.in_thread()
        assert await anext(rows) == UPDATES[0]
        feed.inside.wait(10)
        threading.Timer(0.05, feed.let.set).start()
        await rows.aclose()
    for thread in reading_threads():
        thread.join(10)
    assert not feed.is_read


LEAVES_EARLY = """
import time, pyarrow
from altcraft_async.ingest import FIELDS, read_updates
from altcraft_async.storage import columns

columns._CLOSING_SECONDS = 0
schema = pyarrow.schema([(field, pyarrow.string()) for field in FIELDS])
def batches():
    while True:
        yield pyarrow.record_batch([["a"]] * 3, schema=schema)
        time.sleep(0.5)
        print("the read is over", flush=True)
with read_updates(pyarrow.RecordBatchReader.from_batches(schema, batches())) as reader:
    next(iter(reader))
"""


@pytest.mark.processes
def test_a_process_ends_in_order_while_a_stream_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES_EARLY], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the read is over\n", "")


@pytest.mark.parametrize("source", ["{}/in", "{}/in/*/*.parquet", "file://{}/in", "file://{}/in/*/*.parquet"])
def test_files_come_in_one_order_however_they_are_named(tmp_path: Path, source: str) -> None:
    for name in ("day-2/1", "day/2", "day/10", "day.b/1", "Day/1"):
        parquet(tmp_path / "in" / f"{name}.parquet", table([(name, "l", "new")]))
    (tmp_path / "in" / "day" / "directory.parquet").mkdir()
    found = [
        row.order_external_id for row in read_updates(source.format(tmp_path)) if isinstance(row, LineStatusUpdate)
    ]
    assert found == ["Day/1", "day/10", "day/2", "day-2/1", "day.b/1"]


@pytest.mark.parametrize("name", ["a[1].parquet", "what?.parquet", "st*r.parquet"])
def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path, name: str) -> None:
    import fsspec  # noqa: PLC0415

    here = parquet(tmp_path / name)
    fsspec.filesystem("memory").pipe(f"/patterns/{name}", here.read_bytes())
    for source in (str(here), f"file://{here}", f"memory://patterns/{name}"):
        assert list(read_updates(source)) == UPDATES


def test_a_stream_behind_a_wrapper_is_known_by_its_content(tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=tmp_path) as file:
        file.write(parquet(tmp_path / "a").read_bytes())
        file.seek(0)
        reader = read_updates(file)  # type: ignore[arg-type]  # it only stands for a stream
        assert (reader.format, reader.source, list(reader)) == (InputFormat.PARQUET, file.name, UPDATES)


def test_a_stream_without_a_name_is_called_input(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(b"order_external_id,order_line_external_id,status_external_id\no,,new\n")
        file.seek(0)
        assert str(next(iter(read_updates(file)))).startswith("input, line 2: ")


@pytest.mark.parametrize("source", [None, 5, [("o", "l", "new")]])
def test_what_is_no_input_is_refused_in_words(source: Any) -> None:
    with pytest.raises(InputError, match="an input is a path, a binary stream, or an object with __arrow_c_stream__"):
        read_updates(source)


def test_an_input_that_is_open_as_text_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("x")
    with path.open() as file, pytest.raises(InputError, match=r"in\.csv is open as text; open it as bytes"):
        read_updates(file)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "kind"), [("f.csv", InputFormat.CSV), ("f.jsonl", InputFormat.JSONL)])
def test_kept_rows_of_columns_fit_the_name_of_their_file(tmp_path: Path, name: str, kind: InputFormat) -> None:
    content = pa.table({"Order": ["o,1", "o2"], "Line": [1, None]})
    how: dict[str, Any] = {
        "columns": {"order_external_id": "Order", "order_line_external_id": "Line"},
        "constants": {"status_external_id": "new"},
    }
    reader = read_updates(parquet(tmp_path / "in.parquet", content), keep_rows=True, **how)
    reader.keep_for(name)
    rows = list(reader)
    kept = [reader.take_row(index) for index in range(2)]
    (tmp_path / name).write_bytes(reader.header + b"".join(row.raw for row in kept if row is not None))
    with read_updates(tmp_path / name, **how) as again:
        assert (reader.kept_as, again.format) == (kind, kind)
        found = list(again)
    assert found[0] == rows[0] == LineStatusUpdate("o,1", "1", "new")
    assert isinstance(found[1], InvalidUpdateError)


def test_a_place_in_columns_is_a_row() -> None:
    wrong = ("o0", None, "delivered"), ("1E5", "l1", "delivered")
    with read_updates(table([ROWS[0], *wrong]), name="frame", keep_rows=True) as reader:
        error = list(reader)[1]
        assert isinstance(error, InvalidUpdateError)
        assert (error.line, error.unit) == (2, Unit.ROW)
        assert str(error).startswith("frame, row 2: ")
        assert [str(suspicion).rpartition(", ")[2] for suspicion in reader.suspicions] == ["the first in row 3 ('1E5')"]
        kept = reader.take_row(1)
    assert kept is not None
    assert (kept.line, kept.unit) == (2, Unit.ROW)
