"""Looking at the reports of shards again and again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from altcraft_async.shards.lease import Holder, Progress
from altcraft_async.shards.plan import ShardFile, read_plan, write_plan
from altcraft_async.shards.report import Reports, ShardReport, ShardState
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytest.importorskip("fsspec")

REPORT = "_altcraft/{:05}.report.json"


@pytest.fixture(params=["path", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    found = Place(tmp_path if request.param == "path" else f"memory://reports-{time.monotonic_ns()}")
    write_plan(found, [ShardFile(f"{number}", 3, 9, "") for number in range(3)], target=None, frozen=True)
    return found


def end(place: Place, number: int, counts: Mapping[str, int]) -> None:
    done = ShardReport(number, ShardState.DONE, read_plan(place).run_id(number), 3, counts)  # type: ignore[arg-type]
    place.write(REPORT.format(number), json.dumps(done.to_dict()).encode())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    usual = Place.read

    def read(place: Place, name: str) -> bytes:
        found.append(name)
        return usual(place, name)

    monkeypatch.setattr(Place, "read", read)
    return found


def test_the_report_of_a_done_shard_is_read_once(place: Place, reads: list[str]) -> None:
    for number in range(2):
        end(place, number, {"applied": 3})
    reports = Reports(place.address)
    before = reports.look()
    assert before.numbers(ShardState.DONE) == [0, 1]
    reads.clear()
    assert reports.look() == before
    assert reads == []


def test_a_report_that_is_written_anew_is_read_again(place: Place, reads: list[str]) -> None:
    for number in range(2):
        end(place, number, {"rejected": 3})
    reports = Reports(place.address)
    reports.look()
    end(place, 0, {"applied": 3})
    reads.clear()
    assert [shard.failed for shard in reports.look().shards[:2]] == [0, 3]
    assert reads == [REPORT.format(0)]


def test_a_report_that_was_withdrawn_is_forgotten(place: Place) -> None:
    end(place, 0, {"rejected": 3})
    reports = Reports(place.address)
    reports.look()
    Holder.own(read_plan(place).run_id(0)).write(place, 0, Progress({"applied": 1}))
    place.remove(REPORT.format(0))
    assert reports.look().shards[0].state is ShardState.RUNNING


def test_one_shard_is_looked_at_by_its_own_files(place: Place, reads: list[str]) -> None:
    for number in range(2):
        end(place, number, {"applied": 3})
    reports = Reports(place.address)
    reads.clear()
    assert reports.look_at(1).complete
    assert reads == [REPORT.format(1)]
    assert reports.look_at(2).state is ShardState.WAITING
