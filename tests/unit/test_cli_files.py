"""The files that the command line writes."""

from __future__ import annotations

import csv
import resource
from typing import TYPE_CHECKING

import pytest

from altcraft_async import LineStatusUpdate, Outcome, OutcomeState
from altcraft_async.cli.results import COLUMNS, RecordFile, ResultsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLIED = Outcome(0, LineStatusUpdate("o", "l", "new"), OutcomeState.APPLIED, 1, 0.5, "id")


@pytest.fixture
def room_for_25_bytes() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (25, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("room_for_25_bytes")
def test_a_full_disk_leaves_whole_records_only(tmp_path: Path) -> None:
    path = tmp_path / "failed.csv"
    with RecordFile(str(path)) as file:
        file.start()
        for number in range(4):
            file.write(b"record %d\n" % number)
    assert file.problem is not None
    assert "failed.csv cannot be written: " in file.problem
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
