"""The command ``sync`` with Parquet: a file, a directory, an address, and results as columns."""

from __future__ import annotations

import errno
import json

import pytest

from altcraft_async.ingest import FIELDS

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def orders(sandbox):
    for number in range(20):
        sandbox.add_order(f"o{number}", [f"l{number}"])


def write(path, first=0, rows=6, status="delivered"):
    path.parent.mkdir(exist_ok=True)
    values = [[f"o{first + n}", f"l{first + n}", status] for n in range(rows)]
    columns = dict(zip(FIELDS, map(list, zip(*values, strict=True)), strict=True))
    columns["order_line_external_id"][-1] = None
    pq.write_table(pa.table(columns), path)


def test_parquet_is_sent_and_its_wrong_rows_are_named(here, tmp_path):
    write(tmp_path / "in.parquet")
    ended = here("sync", "in.parquet", "--failed", "failed.jsonl", "--results", "out.parquet", "--json")
    assert ended.returncode == 2, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["format"], said["states"]) == ("parquet", {"applied": 5, "invalid": 1})
    assert "1 invalid: order_line_external_id is null" in ended.stderr
    assert "row 6" in ended.stderr
    assert "line 6" not in ended.stderr
    failed = (tmp_path / "failed.jsonl").read_text()
    assert json.loads(failed) == dict(zip(FIELDS, ("o5", None, "delivered"), strict=True))
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {(row["index"], row["line"]) for row in found} == {(n, n + 1) for n in range(6)}
    assert {row["state"] for row in found} == {"applied", "invalid"}


@pytest.mark.parametrize("source", ["day", "day/*.parquet", "file://{}/day"])
def test_a_directory_goes_on_by_its_journal(here, tmp_path, source):
    for part in range(3):
        write(tmp_path / "day" / f"{part}.parquet", first=part * 6)
    source = source.format(tmp_path)
    first = here("sync", source, "--journal", "run.journal", "--sample", "4", "--json")
    assert json.loads(first.stdout)["states"] == {"applied": 4}, first.stderr
    second = here("sync", source, "--journal", "run.journal", "--json")
    said = json.loads(second.stdout)
    assert (said["states"], said["done_before"]) == ({"applied": 11, "invalid": 3}, 4), second.stderr
    export = here("journal", "export", "run.journal", "--input", source, "-o", "all.parquet")
    assert export.returncode == 0, export.stderr
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 18


def test_failed_rows_are_not_written_as_columns(here, tmp_path):
    write(tmp_path / "in.parquet")
    ended = here("sync", "in.parquet", "--failed", "failed.parquet")
    assert ended.returncode == 1
    assert "writes CSV or JSON lines (.csv, .jsonl), and no Parquet file; call the file failed.jsonl" in ended.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("o.arrow", "no Arrow file; call the file o.parquet"),
        ("o.feather", "no Arrow file; call the file o.parquet"),
        ("o.xlsx", "no workbook; call the file o.csv"),
        ("o.xls", "no workbook; call the file o.csv"),
        ("o.ODS", "no workbook; call the file o.csv"),
        ("o.tsv", "no table with tabs; call the file o.csv"),
        ("o.csv.gz", "no compressed file; call the file o.csv"),
        ("o.parquet.gz", "no compressed file; call the file o.parquet"),
        ("o.jsonl.ZST", "no compressed file; call the file o.jsonl"),
        ("o.feather.zip", "no compressed file; call the file o.parquet"),
    ],
)
def test_results_are_not_written_under_the_name_of_what_they_are_not(here, tmp_path, sandbox, name, said):
    write(tmp_path / "in.parquet")
    ended = here("sync", "in.parquet", "--journal", "j", "--results", name)
    assert ended.returncode == 1
    assert f"--results writes CSV, JSON lines or Parquet (.csv, .jsonl, .parquet), and {said}" in ended.stderr
    assert not sandbox.ledger.requests
    assert here("sync", "in.parquet", "--journal", "j").returncode == 2
    ended = here("journal", "export", "j", "-o", name)
    assert ended.returncode == 1
    assert f"-o writes CSV, JSON lines or Parquet (.csv, .jsonl, .parquet), and {said}" in ended.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["o.jsonl", "o.json", "o.txt", "o", "o.2026", ".gz", "o.gz.csv"])
def test_results_of_any_other_name_are_csv_or_json_lines(here, tmp_path, sandbox, name):
    write(tmp_path / "in.parquet")
    assert here("sync", "in.parquet", "--results", name).returncode == 2
    assert (tmp_path / name).read_bytes().startswith(b"index," if name.endswith(".csv") else b'{"index":')


@pytest.mark.parametrize("name", ["failed.csv.gz", "failed.xls", "failed.parquet.zst"])
def test_failed_rows_are_neither_packed_nor_in_another_form(here, tmp_path, sandbox, name):
    write(tmp_path / "in.parquet")
    ended = here("sync", "in.parquet", "--failed", name)
    assert ended.returncode == 1
    assert "--failed writes CSV or JSON lines (.csv, .jsonl), and no " in ended.stderr
    assert not sandbox.ledger.requests
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("what", ["plan", "adopt"])
def test_an_input_that_breaks_off_is_a_mistake_in_it_as_a_whole_for_shards(here, tmp_path, what):
    write(tmp_path / "day" / "a.parquet", rows=300)
    content = bytearray((tmp_path / "day" / "a.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    (tmp_path / "day" / "a.parquet").write_bytes(content)
    ended = here("shards", what, "day", *(["run", "--shards", "2"] if what == "plan" else []))
    assert ended.returncode == 1
    assert "the file breaks off or is damaged" in ended.stderr


def test_failed_rows_are_csv_where_their_file_is_called_so(here, tmp_path, sandbox):
    write(tmp_path / "in.parquet")
    ended = here("sync", "in.parquet", "--failed", "failed.csv")
    assert ended.returncode == 2, ended.stderr
    assert "altcraft-async sync failed.csv\n" in ended.stderr
    assert (tmp_path / "failed.csv").read_text().splitlines()[0] == ",".join(FIELDS)
    again = here("sync", "failed.csv", "--dry-run", "--json")
    assert json.loads(again.stdout)["states"] == {"invalid": 1}, again.stderr


def test_a_dry_run_of_a_damaged_file_is_not_ready(here, tmp_path):
    write(tmp_path / "in.parquet")
    path = tmp_path / "in.parquet"
    content = bytearray(path.read_bytes())
    content[20:60] = b"\xff" * 40
    path.write_bytes(content)
    ended = here("sync", "in.parquet", "--dry-run")
    assert ended.returncode == 2, ended.stderr
    assert "A run would stop: in.parquet, after row 0" in ended.stderr
    assert "nothing was sent; not ready: before that place there are updates 0" in ended.stderr
    assert "ready to go" not in ended.stderr


def test_results_as_columns_on_a_full_disk_are_missed_aloud(here, tmp_path):
    write(tmp_path / "in.parquet")
    (tmp_path / "out.parquet").symlink_to("/dev/full")
    ended = here("sync", "in.parquet", "--results", "out.parquet")
    assert ended.returncode == 2
    assert "Stopped: out.parquet cannot be written: No space left on device" in ended.stderr


def test_results_of_before_stay_where_new_ones_find_no_room(here, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path / "in.parquet")
    (tmp_path / "out.parquet").write_bytes(b"before")
    monkeypatch.setattr("altcraft_async.cli.results.os.posix_fallocate", full)
    ended = here("sync", "in.parquet", "--results", "out.parquet")
    assert ended.returncode == 2
    assert "Stopped: out.parquet cannot be written: No space left on device" in ended.stderr
    assert (tmp_path / "out.parquet").read_bytes() == b"before"


def test_a_stream_that_breaks_off_is_held_back_from_there_on(here, tmp_path):
    write(tmp_path / "in.parquet")
    table = pq.read_table(tmp_path / "in.parquet")
    with pa.OSFile(str(tmp_path / "in.arrows"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
        end = file.tell()
    content = (tmp_path / "in.arrows").read_bytes()
    (tmp_path / "in.arrows").write_bytes(content[:end])
    ended = here("sync", "in.arrows")
    assert ended.returncode == 2
    assert "in.arrows, after row 6: the file breaks off" in ended.stderr
