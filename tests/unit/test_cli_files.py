"""The files that the command line writes."""

from __future__ import annotations

import csv
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from altcraft_async import LineStatusUpdate, Outcome, OutcomeState
from altcraft_async.cli.results import COLUMNS, RecordFile, ResultsFile, results_file

if TYPE_CHECKING:
    from pathlib import Path

APPLIED = Outcome(0, LineStatusUpdate("o", "l", "new"), OutcomeState.APPLIED, 1, 0.5, "id")


FULL_DISK = """
import resource, sys
from altcraft_async.cli.results import RecordFile

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
with RecordFile(sys.argv[1]) as file:
    file.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (25, hard))
    for number in range(4):
        file.write(b"record %d\\n" % number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # what measures the coverage writes a file at its end
print(file.problem)
"""
"""A program whose files hold 25 bytes at most. The limit would be the tests' own, whose output may be a file."""


def test_a_full_disk_leaves_whole_records_only(tmp_path: Path) -> None:
    path = tmp_path / "failed.csv"
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert "failed.csv cannot be written: " in run.stdout
    assert path.read_bytes() == b"record 0\nrecord 1\n"


def test_a_file_keeps_what_it_holds_until_it_is_started(tmp_path: Path) -> None:
    path = tmp_path / "failed.csv"
    path.write_text("before\n")
    with RecordFile(str(path)) as file:
        assert path.read_text() == "before\n"
        file.start()
        file.write(b"after\n")
    assert path.read_text() == "after\n"


@pytest.mark.parametrize("name", ["results.csv", "results.jsonl"])
def test_results_that_are_continued_have_one_header_at_most(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for keep in (False, True, True):
        with ResultsFile(str(path)) as file:
            file.start(keep=keep)
            file.add(APPLIED, 2)
    lines = path.read_text().splitlines()
    if name.endswith("csv"):
        assert next(csv.reader(lines[:1])) == list(COLUMNS)
        del lines[0]
    assert len(lines) == 3
    assert len(set(lines)) == 1


def test_results_as_parquet_are_whole_at_the_end_and_can_be_continued(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "results.parquet"
    for keep, rows in ((False, 1), (True, 2), (False, 1)):
        with results_file(str(path)) as file:
            file.start(keep=keep)
            file.add(APPLIED, 2)
            before = path.stat().st_size
        found = parquet.read_table(path).to_pylist()
        assert [set(row) for row in found] == [set(COLUMNS)] * rows
        assert found[-1] == {**{name: APPLIED.to_dict().get(name) for name in COLUMNS}, "line": 2}
        assert path.stat().st_size != before or keep is False


def test_results_as_parquet_that_were_not_begun_are_what_they_were(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with results_file(str(tmp_path / "results.parquet")):
        pass
    assert not (tmp_path / "results.parquet").exists()


def test_results_that_are_no_parquet_are_not_continued(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "results.parquet"
    path.write_text("something else")
    with results_file(str(path)) as file:
        file.start(keep=True)
        assert "is no results file that can be continued" in str(file.problem)
        assert "; move it away, and get the outcomes of before from the journal" in str(file.problem)
    assert path.read_text() == "something else"
