"""Several copies, on several machines: none waits while a shard is free, lives in silence, or overwrites more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from test_shards_faults import CANARY, full

from altcraft_async import OutcomeState
from altcraft_async.sandbox import Faults, ThreadedSandbox
from altcraft_async.shards import (
    ShardError,
    ShardState,
    adopt_shards,
    deliver_shard,
    plan_shards,
    read_plan,
    report,
    run_shards,
)
from altcraft_async.shards.lease import Holder, Progress
from altcraft_async.shards.local import Local
from altcraft_async.storage.places import Place

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]


@pytest.fixture
def sandbox(monkeypatch):
    with ThreadedSandbox(token=CANARY) as running:
        monkeypatch.setenv("ALTCRAFT_BASE_URL", running.base_url)
        monkeypatch.setenv("ALTCRAFT_TOKEN", CANARY)
        yield running


@pytest.fixture
def rows(sandbox):
    return [(*key, "delivered") for key in sandbox.seed_orders(60, 1)]


def elsewhere(directory, number):
    """Return a copy of another machine that delivers a shard."""
    return attrs.evolve(Holder.own(read_plan(directory).run_id(number)), host="elsewhere", space="another")


class Signs:
    """Gives signs of life of a copy until it ends."""

    def __init__(self, place, number, holder):
        self._told = (place, number, Progress())
        self._holder = holder
        self._ended = threading.Event()
        holder.write(*self._told)
        self._thread = threading.Thread(target=self._give)
        self._thread.start()

    def _give(self):
        while not self._ended.wait(0.5):
            self._holder.write(*self._told)

    def end(self):
        self._ended.set()
        self._thread.join()
        self._holder.write(*self._told, ended=True)


def until(true, seconds=60):
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "it never came"
        time.sleep(0.05)


@pytest.mark.processes
def test_a_process_takes_the_free_shards_first_and_then_waits_for_one_that_is_delivered_elsewhere(
    sandbox, rows, tmp_path
):
    plan_shards(rows, tmp_path, shards=4)
    other = Signs(Place(tmp_path), 0, elsewhere(tmp_path, 0))
    with ThreadPoolExecutor(1) as threads:
        try:
            running = threads.submit(run_shards, tmp_path, processes=1)
            until(lambda: report(tmp_path).numbers(ShardState.DONE) == [1, 2, 3])
            assert not running.done()
        finally:
            other.end()
        assert running.result(60).ok
    assert sandbox.ledger.requests == len(rows)


@pytest.fixture
def slow_snapshots(monkeypatch):
    """Writes a snapshot for a second each, and notes the signs of life that its directory had before and after."""
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 0.05)
    monkeypatch.setattr("altcraft_async.shards.copies.SNAPSHOT_EVERY", 0.3)
    usual, signs = Place.put, []

    def put(place, source, name):
        if name.endswith(".journal"):
            before = Holder.read(place, 0)
            time.sleep(1)
            signs.append((before.sign, Holder.read(place, 0).sign))
        usual(place, source, name)

    monkeypatch.setattr(Place, "put", put)
    return signs


def test_signs_of_life_go_on_while_a_snapshot_is_written_and_the_last_one_too(sandbox, rows, tmp_path, slow_snapshots):
    sandbox.faults = Faults(latency=0.1)
    plan_shards(rows, tmp_path, shards=1)
    assert deliver_shard(tmp_path, 0, concurrency=4).ok
    assert len(slow_snapshots) >= 2
    assert all(before != after for before, after in slow_snapshots)


def test_signs_of_life_go_on_while_the_shard_is_fetched(sandbox, rows, tmp_path, monkeypatch):
    plan_shards(rows, tmp_path, shards=1)
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 0.05)
    usual, signs = Place.fetch, []

    def fetch(place, name, target):
        if name.endswith(".parquet"):
            before = Holder.read(place, 0)
            time.sleep(1)
            signs.append((before.sign, Holder.read(place, 0).sign))
        usual(place, name, target)

    monkeypatch.setattr(Place, "fetch", fetch)
    assert deliver_shard(tmp_path, 0).ok
    assert [before != after for before, after in signs] == [True]


def test_a_snapshot_that_knows_more_is_not_replaced_by_one_of_before(sandbox, rows, tmp_path):
    plan, place = plan_shards(rows, tmp_path, shards=1), Place(tmp_path)
    old = Local(place, plan, 0, (tmp_path / "folder"))
    (tmp_path / "folder").mkdir()
    old.fetch(sandbox.base_url)
    assert not old.is_behind()
    assert old.snapshot()
    assert deliver_shard(tmp_path, 0).ok
    content = place.read("_altcraft/00000.journal")
    assert old.is_behind()
    assert not old.snapshot()
    assert place.read("_altcraft/00000.journal") == content


AWAKE = """
import sys
from altcraft_async.shards import copies, deliver_shard
copies.BEAT = copies.SNAPSHOT_EVERY = 0.05
print(deliver_shard(sys.argv[1], 0, concurrency=1).ok)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_copy_that_wakes_goes_on_from_the_snapshot_of_one_that_has_come_further(sandbox, tmp_path):
    rows = [(*key, "delivered") for key in sandbox.seed_orders(400, 1)]
    sandbox.faults = Faults(latency=0.1)
    plan_shards(rows, tmp_path, shards=1)
    first = subprocess.Popen([sys.executable, "-c", AWAKE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: sandbox.ledger.requests)
        first.send_signal(signal.SIGSTOP)
        asleep = Holder.read(Place(tmp_path), 0)
        asleep.write(Place(tmp_path), 0, asleep.progress, ended=True)
        found = deliver_shard(tmp_path, 0, concurrency=20, deadline=1.9)
        assert found.state is ShardState.STOPPED
        known, requests = sum(found.counts.values()), sandbox.ledger.requests
        sandbox.faults = Faults(latency=0.02)  # what it sends until it has read the snapshot is sent again
        first.send_signal(signal.SIGCONT)
        assert first.communicate(timeout=60)[0] == "True\n"
    finally:
        first.kill()
        first.wait()
    assert sandbox.check(rows).ok
    again = sandbox.ledger.requests - requests - (len(rows) - known)
    assert again <= known // 4, "more was sent again than what was in flight at the stop"


@pytest.mark.parametrize("name", ["rows", "journal", "journal-wal", "copy", "found", "other", "failed", "lock"])
def test_an_adopted_file_may_have_any_name(sandbox, rows, tmp_path, name):
    columns = ("order_external_id", "order_line_external_id", "status_external_id")
    given = [*rows, ("late", "l", "new")]
    pq.write_table(pa.table(dict(zip(columns, map(list, zip(*given, strict=True)), strict=True))), tmp_path / name)
    adopt_shards(tmp_path)
    found = deliver_shard(tmp_path, 0)
    assert (found.counts[OutcomeState.APPLIED], found.counts[OutcomeState.REJECTED]) == (len(rows), 1)
    (failed,) = pq.read_table(tmp_path / "_altcraft" / "00000.failed.parquet").to_pylist()
    assert failed["order_external_id"] == "late"


def test_a_journal_that_was_kept_knows_what_was_sent_again(sandbox, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan_shards([*rows, ("late", "l", "new")], tmp_path / "run", shards=1)
    assert deliver_shard(tmp_path / "run", 0).failed == 1
    sandbox.add_order("late", ["l"])
    with monkeypatch.context() as patch:
        full(patch, ".journal", "report.json", after=1)  # before it sends anything it writes one
        with pytest.raises(ShardError, match="is kept at"):
            deliver_shard(tmp_path / "run", 0, retry_failed=True)
    requests = sandbox.ledger.requests
    found = deliver_shard(tmp_path / "run", 0, retry_failed=True)
    assert (found.ok, sandbox.ledger.requests) == (True, requests)
    assert not list(tmp_path.glob("altcraft-journal-*"))


def test_a_shard_that_was_begun_elsewhere_names_both_platforms(sandbox, rows, tmp_path, monkeypatch):
    plan_shards(rows, tmp_path, shards=1)
    deliver_shard(tmp_path, 0)
    (tmp_path / "_altcraft" / "00000.report.json").unlink()
    with ThreadedSandbox(token=CANARY) as other:
        monkeypatch.setenv("ALTCRAFT_BASE_URL", other.base_url)
        with pytest.raises(ShardError, match=f"begun against {sandbox.base_url}, and the settings are for"):
            deliver_shard(tmp_path, 0)


def test_a_lease_that_is_silent_for_a_day_is_of_no_copy_though_its_number_lives(sandbox, rows, tmp_path):
    plan = plan_shards(rows, tmp_path, shards=1)
    Holder.own(plan.run_id(0)).write(Place(tmp_path), 0, Progress())
    assert report(tmp_path).shards[0].state is ShardState.RUNNING
    old = time.time() - 86_400
    os.utime(tmp_path / "_altcraft" / "00000.lease.json", (old, old))
    assert report(tmp_path).shards[0].state is ShardState.STOPPED
