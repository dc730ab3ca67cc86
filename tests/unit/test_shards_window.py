"""Which shards are handed out, and with which part of a total."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from altcraft_async import AltcraftClient, ConfigurationError, OutcomeState, Shared
from altcraft_async.flow.parts import Part
from altcraft_async.shards.lease import SILENT, Holder, Progress, Watched, silence_of
from altcraft_async.shards.members import Members
from altcraft_async.shards.report import ShardReport, ShardsReport, ShardState
from altcraft_async.shards.window import options_of
from altcraft_async.storage.places import Place


@pytest.fixture
def here() -> Holder:
    return Holder.own("run")


@pytest.fixture
def elsewhere(here: Holder) -> Holder:
    return attrs.evolve(here, host="elsewhere")


def test_a_total_among_shards_is_divided_by_the_window() -> None:
    everybody = {"concurrency": Shared(64, among="shards"), "rate": Shared(100, among="shards")}
    assert options_of(10, **everybody, retry_failed=False) == {"concurrency": 6, "rate": 10.0, "retry_failed": False}


@pytest.mark.parametrize("concurrency", [None, 8, Shared(64)])
def test_other_limits_are_each_shards_own(concurrency: Any) -> None:
    assert options_of(10, concurrency, None, retry_failed=True)["concurrency"] is concurrency


def test_a_window_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="window must be a whole number above zero, not 0"):
        options_of(0, None, None, retry_failed=False)
    with pytest.raises(ConfigurationError, match="5 for all, and 10 shards at once need one each; lower window"):
        options_of(10, Shared(5, among="shards"), None, retry_failed=False)


def test_a_copy_lives_while_its_sign_of_life_changes(elsewhere: Holder) -> None:
    watched = Watched()
    assert watched.lives(elsewhere, 0.0)
    assert watched.lives(elsewhere, SILENT - 1)
    assert not watched.lives(elsewhere, SILENT + 1)
    later = attrs.evolve(elsewhere, at=elsewhere.at + 1)
    assert watched.lives(later, SILENT + 2)
    assert not watched.lives(attrs.evolve(later, ended=True), SILENT + 3)
    assert not watched.lives(None, 0.0)


def test_a_copy_of_this_host_is_gone_with_its_process(here: Holder, elsewhere: Holder) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = ended.pid
    assert attrs.evolve(here, pid=dead).is_gone()
    assert not attrs.evolve(elsewhere, pid=dead).is_gone(), "a number means nothing on another host"
    assert not here.is_gone()
    assert not attrs.evolve(here, pid=1).is_gone()


@pytest.mark.parametrize("ahead", [-86400, 120])
def test_a_copy_lives_whatever_the_clock_of_its_machine_says(elsewhere: Holder, ahead: float) -> None:
    holder = attrs.evolve(elsewhere, at=time.time() + ahead)
    assert not holder.is_gone()
    assert Watched().lives(holder, 0.0)


def test_the_machines_of_one_name_are_told_apart_by_their_boot(here: Holder) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("no Linux")
    assert boot.read_text().strip() in here.space


def test_a_copy_that_was_silent_for_long_when_it_was_seen_first_is_dead_at_once(elsewhere: Holder) -> None:
    assert Watched().lives(elsewhere, 0.0, SILENT - 1)
    watched = Watched()
    assert not watched.lives(elsewhere, 0.0, SILENT + 1)
    assert watched.lives(attrs.evolve(elsewhere, at=elsewhere.at + 1), 1.0, SILENT + 1), "it says something now"


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    pytest.importorskip("fsspec")
    return Place(tmp_path if request.param == "file" else f"memory://window-{time.monotonic_ns()}")


def test_the_silence_of_a_copy_elsewhere_is_by_the_clock_of_the_file_system(
    elsewhere: Holder, here: Holder, place: Place, tmp_path: Path
) -> None:
    elsewhere.write(place, 0, Progress())
    assert 0 <= silence_of(place, 0, elsewhere) < SILENT
    assert silence_of(place, 0, here) == silence_of(place, 1, elsewhere) == 0.0
    lease = tmp_path / "_altcraft" / "00000.lease.json"
    if lease.exists():
        then = lease.stat().st_mtime - 100
        os.utime(lease, (then, then))
        assert 99 < silence_of(place, 0, elsewhere) < 100 + SILENT


def test_the_members_of_a_total_see_each_other_whatever_their_clocks_say(place: Place) -> None:
    member = "_altcraft/members/other.json"
    said = {"beat": 1, "at": time.time() + 86400, "holds": 3.0, "claims": 3.0}
    place.write(member, json.dumps(said).encode())
    members = Members(place, AltcraftClient("http://127.0.0.1", "token", allow_insecure=True))
    assert members._others() == {"other": Part(3.0, 3.0)}
    assert place.sizes("_altcraft/members") == {"other.json": len(json.dumps(said))}


def test_the_file_of_a_member_that_died_long_ago_is_removed(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    place, member = Place(tmp_path), "_altcraft/members/other.json"
    place.write(member, json.dumps({"beat": 1, "at": time.time(), "holds": 3.0, "claims": 3.0}).encode())
    then = time.time() - 1000
    os.utime(tmp_path / member, (then, then))
    members = Members(place, AltcraftClient("http://127.0.0.1", "token", allow_insecure=True))
    assert members._others() == {}
    assert not place.sizes("_altcraft/members")


def test_a_report_of_all_shards_sums_theirs() -> None:
    well = ShardReport(0, ShardState.DONE, "a", 3, {"applied": 3})
    failed = ShardReport(1, ShardState.DONE, "b", 2, {"applied": 1, "rejected": 1})
    waiting = ShardReport(2, ShardState.WAITING, "c", 4, {})
    found = ShardsReport("d", "plan", [well, failed, waiting])
    assert (found.rows, found.counts[OutcomeState.APPLIED], found.unfinished) == (9, 4, [2])
    assert (found.ok, found.complete) == (False, False)
    assert (well.ok, failed.ok, failed.complete) == (True, False, True)
    assert found.numbers(ShardState.DONE) == [0, 1]
    assert found.to_dict()["counts"]["rejected"] == 1
    assert Progress().told() == {
        "counts": {}, "sent": 0, "retries": 0, "throttled": 0, "elapsed": 0.0, "problem": None,
    }  # fmt: skip
