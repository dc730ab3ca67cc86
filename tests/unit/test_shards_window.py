"""Which shards are handed out, and with which part of a total."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import attrs
import pytest

from altcraft_async import ConfigurationError, OutcomeState, Shared
from altcraft_async.shards.lease import SILENT, Holder, Progress, Watched
from altcraft_async.shards.report import ShardReport, ShardsReport, ShardState
from altcraft_async.shards.window import options_of


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


def test_a_sign_of_life_that_is_too_old_for_any_clock_is_none(elsewhere: Holder) -> None:
    assert attrs.evolve(elsewhere, at=time.time() - 100).is_gone()
    assert not attrs.evolve(elsewhere, at=time.time() - 80).is_gone()


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
