"""Shards are delivered by real processes: killed, run twice at once, without their snapshots; the ledger is clean."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from altcraft_async import ConfigurationError, OutcomeState, Shared
from altcraft_async.sandbox import Faults, ThreadedSandbox
from altcraft_async.shards import (
    ShardBusyError,
    ShardError,
    ShardState,
    adopt_shards,
    deliver_shard,
    plan_shards,
    read_plan,
    report,
    run_shards,
)
from altcraft_async.shards.lease import Holder
from altcraft_async.storage.places import Place

pq = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")
pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]

CANARY = "canary-5c0ffee5-token"


@pytest.fixture
def sandbox(monkeypatch):
    with ThreadedSandbox(token=CANARY) as running:
        use(running, monkeypatch)
        yield running


def use(running, monkeypatch):
    monkeypatch.setenv("ALTCRAFT_BASE_URL", running.base_url)
    monkeypatch.setenv("ALTCRAFT_TOKEN", CANARY)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)


def updates(sandbox, orders=100, lines=2, statuses=("processing", "delivering", "delivered")):
    keys = sandbox.seed_orders(orders, lines)
    return [(*key, status) for status in statuses for key in keys]


def check(sandbox, rows):
    """Hold the ledger against the rows: each change once, in order, under one id."""
    found = sandbox.check(rows)
    assert found.ok, str(found)
    assert found.applied == len(rows)
    ledger = sandbox.ledger
    ids = {arrival.request_id for key in ledger.lines for arrival in ledger.arrivals(*key)}
    assert len(ids) == len(rows), "a change went out under two ids"


def done(found, rows):
    counts = found.counts
    assert found.ok
    assert counts[OutcomeState.APPLIED] + counts[OutcomeState.DUPLICATE] == found.rows == len(rows)


def test_all_shards_are_delivered_by_processes_and_never_again(sandbox, tmp_path):
    rows = updates(sandbox)
    plan_shards(rows, tmp_path, shards=4, target=sandbox.base_url)
    shown: list[Any] = []
    found = run_shards(tmp_path, processes=2, concurrency=8, progress=shown.append)
    done(found, rows)
    assert found == report(tmp_path)
    assert {len(numbers) for numbers in shown} <= {1, 2}
    requests = sandbox.ledger.requests
    assert run_shards(tmp_path, processes=2) == found
    assert deliver_shard(tmp_path, 0) == found.shards[0]
    assert sandbox.ledger.requests == requests
    check(sandbox, rows)


def test_a_shard_can_be_anywhere_that_fsspec_knows(sandbox):
    rows = updates(sandbox)
    directory = f"memory://shards-{time.monotonic_ns()}"
    plan_shards(rows, directory, shards=2)
    for number in range(2):
        assert deliver_shard(directory, number).ok
    done(report(directory), rows)
    check(sandbox, rows)


def test_wrong_and_rejected_rows_are_reported_and_can_be_sent_again(sandbox, tmp_path):
    rows = updates(sandbox, 4, 1)
    plan_shards([*rows, ("late", "l", "new"), ("wrong", "", "new")], tmp_path, shards=1)
    found = deliver_shard(tmp_path, 0)
    assert found.complete
    assert (found.failed, found.counts[OutcomeState.REJECTED], found.counts[OutcomeState.INVALID]) == (2, 1, 1)
    failed = pq.read_table(tmp_path / "_altcraft" / "00000.failed.parquet").to_pylist()
    assert [(row["index"], row["state"], row["order_external_id"]) for row in failed] == [
        (len(rows), "rejected", "late"), (len(rows) + 1, "invalid", "wrong"),
    ]  # fmt: skip
    assert pickle.loads(pickle.dumps(found)) == found
    sandbox.add_order("late", ["l"])
    again = deliver_shard(tmp_path, 0, retry_failed=True)
    assert (again.failed, again.counts[OutcomeState.INVALID]) == (1, 1)
    assert again.sent == found.sent + 1
    assert report(tmp_path).shards[0] == deliver_shard(tmp_path, 0)


def kill_one(directory, shards, killed):
    """Kill a process that has been at work on a shard for a while, and say which shard."""
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        for number in range(shards):
            holder = Holder.read(Place(directory), number)
            if holder and not holder.ended and holder.pid not in killed and sum(holder.progress.counts.values()) > 20:
                killed.add(holder.pid)
                os.kill(holder.pid, signal.SIGKILL)
                return number
        time.sleep(0.05)
    return None


def test_workers_that_are_killed_are_replaced_and_nothing_is_lost_or_made_twice(sandbox, tmp_path, caplog):
    rows = updates(sandbox)
    sandbox.faults = Faults.mixed(0.05, latency=0.02)
    plan_shards(rows, tmp_path, shards=2)
    killed: set[int] = set()
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING):
        run = pool.submit(run_shards, tmp_path, processes=2, concurrency=2)
        numbers = [kill_one(tmp_path, 2, killed) for _ in range(2)]
        found = run.result(100)
    assert None not in numbers, "nobody was killed"
    assert sum("has died (exit code -9)" in record.message for record in caplog.records) == 2
    done(found, rows)
    check(sandbox, rows)


def test_a_shard_that_always_kills_its_process_is_left_and_the_others_end(sandbox, tmp_path):
    rows = updates(sandbox, 60, 1)
    sandbox.faults = Faults(latency=0.1)
    plan_shards(rows, tmp_path, shards=1)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_shards, tmp_path, processes=1, concurrency=1)
        killed: set[int] = set()
        for _ in range(3):
            ends_at = time.monotonic() + 30
            while time.monotonic() < ends_at:
                holder = Holder.read(Place(tmp_path), 0)
                if holder and holder.pid not in killed:
                    killed.add(holder.pid)
                    os.kill(holder.pid, signal.SIGKILL)
                    break
                time.sleep(0.02)
        with pytest.raises(ShardError, match="was left: 3 processes have died over it"):
            run.result(60)
    assert report(tmp_path).shards[0].state is ShardState.STOPPED


def deliver_in_threads(directory, number, times, **options):
    with ThreadPoolExecutor(times) as pool:
        return [
            run.result() for run in [pool.submit(deliver_shard, directory, number, **options) for _ in range(times)]
        ]


def test_one_shard_by_two_at_once_is_harmless_where_repeats_are_recognised(sandbox, tmp_path):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.01)
    plan_shards(rows, tmp_path, shards=1)
    both = deliver_in_threads(tmp_path, 0, 2, busy="join", concurrency=4)
    assert all(found.ok for found in both)
    assert sandbox.ledger.requests > len(rows) * 1.5, "they did not run beside each other"
    done(report(tmp_path), rows)
    check(sandbox, rows)


def test_one_shard_by_two_at_once_makes_changes_twice_where_repeats_are_not_recognised(monkeypatch, tmp_path):
    with ThreadedSandbox(token=CANARY, dedup_request_id=False, dedup_checksum=False) as sandbox:
        use(sandbox, monkeypatch)
        rows = updates(sandbox, 40)
        sandbox.faults = Faults(latency=0.01)
        plan_shards(rows, tmp_path, shards=1)
        both = deliver_in_threads(tmp_path, 0, 2, busy="join", concurrency=4)
        assert all(found.ok for found in both)
        assert not sandbox.check(rows).ok


def test_a_second_copy_waits_for_the_first_and_returns_its_report(sandbox, tmp_path):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.02)
    plan_shards(rows, tmp_path, shards=1)
    first, second = deliver_in_threads(tmp_path, 0, 2, concurrency=4)
    assert first == second
    assert sandbox.ledger.requests == len(rows)


def test_a_second_copy_can_be_refused(sandbox, tmp_path):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.05)
    plan_shards(rows, tmp_path, shards=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(deliver_shard, tmp_path, 0, concurrency=4)
        while Holder.read(Place(tmp_path), 0) is None:
            time.sleep(0.01)
        with pytest.raises(ShardBusyError, match=f"delivered by process {os.getpid()} of") as raised:
            deliver_shard(tmp_path, 0, busy="fail")
        assert raised.value.pid == os.getpid()
        assert report(tmp_path).shards[0].state is ShardState.RUNNING
        assert first.result(60).ok


def test_without_its_snapshots_a_shard_repeats_and_makes_no_change_twice(sandbox, tmp_path):
    rows = updates(sandbox, 40)
    plan_shards(rows, tmp_path, shards=1)
    sandbox.faults = Faults(latency=0.02)
    cut = deliver_shard(tmp_path, 0, concurrency=4, deadline=0.5)
    assert (cut.state, cut.ok) == (ShardState.STOPPED, False)
    assert "deadline" in str(cut.problem)
    assert 0 < sum(cut.counts.values()) < len(rows)
    (tmp_path / "_altcraft" / "00000.journal").unlink()
    found = deliver_shard(tmp_path, 0)
    assert found.counts[OutcomeState.DUPLICATE] >= sum(cut.counts.values())
    check(sandbox, rows)


def test_with_its_snapshot_a_shard_goes_on_where_it_was(sandbox, tmp_path):
    rows = updates(sandbox, 40)
    plan_shards(rows, tmp_path, shards=1)
    sandbox.faults = Faults(latency=0.02)
    cut = deliver_shard(tmp_path, 0, concurrency=4, deadline=0.5)
    assert report(tmp_path).shards[0].counts == cut.counts
    found = deliver_shard(tmp_path, 0)
    assert found.ok
    assert found.sent - cut.sent <= len(rows) - sum(cut.counts.values()) + 4
    check(sandbox, rows)


@pytest.mark.parametrize("content", [b"", b"something else", b"SQLite format 3\0" + b"\0" * 5000])
def test_a_damaged_snapshot_is_as_good_as_none(sandbox, tmp_path, content):
    rows = updates(sandbox, 10)
    plan_shards(rows, tmp_path, shards=1)
    (tmp_path / "_altcraft" / "00000.journal").write_bytes(content)
    assert deliver_shard(tmp_path, 0).ok
    check(sandbox, rows)


def test_a_shard_that_is_not_the_planned_one_is_not_sent(sandbox, tmp_path):
    plan = plan_shards(updates(sandbox, 10), tmp_path, shards=1)
    path = tmp_path / plan.shards[0].file
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ShardError, match="is not the file that was planned"):
        deliver_shard(tmp_path, 0)
    path.unlink()
    with pytest.raises(ShardError, match="is not there"):
        deliver_shard(tmp_path, 0)
    with pytest.raises(ShardError, match="no shard 1"):
        deliver_shard(tmp_path, 1)
    assert sandbox.ledger.requests == 0


def test_a_token_that_is_refused_stops_a_shard_and_the_next_copy_ends_it(sandbox, tmp_path, monkeypatch):
    rows = updates(sandbox, 10)
    plan_shards(rows, tmp_path, shards=1)
    monkeypatch.setenv("ALTCRAFT_TOKEN", "wrong")
    stopped = deliver_shard(tmp_path, 0)
    assert (stopped.state, sum(stopped.counts.values())) == (ShardState.STOPPED, 0)
    assert "token" in str(stopped.problem)
    monkeypatch.setenv("ALTCRAFT_TOKEN", CANARY)
    assert deliver_shard(tmp_path, 0).ok


def test_settings_of_another_platform_are_refused(sandbox, tmp_path, monkeypatch):
    plan_shards(updates(sandbox, 1), tmp_path, shards=1, target=sandbox.base_url)
    monkeypatch.setenv("ALTCRAFT_BASE_URL", "https://elsewhere.example")
    with pytest.raises(ShardError, match=r"and the settings are for https://elsewhere\.example"):
        deliver_shard(tmp_path, 0)
    monkeypatch.delenv("ALTCRAFT_BASE_URL")
    assert deliver_shard(tmp_path, 0).ok
    monkeypatch.delenv("ALTCRAFT_TOKEN")
    assert deliver_shard(tmp_path, 0).ok, "what is done needs no token"
    with pytest.raises(ConfigurationError, match="busy must be"):
        deliver_shard(tmp_path, 0, busy="sometimes")


def test_adopted_files_are_delivered(sandbox, tmp_path):
    rows = updates(sandbox)
    frozen = plan_shards(rows, tmp_path / "a", shards=3)
    (tmp_path / "b").mkdir()
    for shard in frozen.shards:
        (tmp_path / "a" / shard.file).rename(tmp_path / "b" / shard.file)
    adopt_shards(tmp_path / "b")
    done(run_shards(tmp_path / "b", processes=1), rows)
    check(sandbox, rows)


def test_a_total_holds_over_all_that_deliver_shards(sandbox, tmp_path):
    rows = updates(sandbox, 200)
    sandbox.faults = Faults(latency=0.1, jitter=0.2)
    plan_shards(rows, tmp_path, shards=3)
    total = Shared(20, among="shards")
    with ThreadPoolExecutor(1) as pool:
        # one more process, which comes later: its shard is another one's while it waits for a part
        late = pool.submit(lambda: (time.sleep(1.5), run_shards(tmp_path, processes=1, shards=[2], concurrency=total)))
        found = run_shards(tmp_path, processes=2, shards=[0, 1], concurrency=total)
        late.result(100)
    assert found.shards[0].ok
    done(report(tmp_path), rows)
    peak = sandbox.ledger.peak_in_flight
    assert 14 <= peak <= 21, f"{peak} calls were in flight"
    check(sandbox, rows)


def test_the_token_is_in_no_file_and_no_report(sandbox, tmp_path, caplog):
    rows = [*updates(sandbox, 10), ("unknown", "l", "new")]
    plan_shards(rows, tmp_path, shards=2)
    with caplog.at_level(logging.DEBUG):
        found = run_shards(tmp_path, processes=2)
        deliver_shard(tmp_path, 0, retry_failed=True)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    for said in (pickle.dumps(found), repr(found).encode(), pickle.dumps(read_plan(tmp_path)), caplog.text.encode()):
        assert CANARY.encode() not in said


def test_an_interruption_leaves_a_last_snapshot(sandbox, tmp_path):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.02)
    plan_shards(rows, tmp_path, shards=1)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        deliver_shard(tmp_path, 0, concurrency=2)
    shard = report(tmp_path).shards[0]
    assert (shard.state, sum(shard.counts.values()) > 0) == (ShardState.STOPPED, True)
    assert deliver_shard(tmp_path, 0).ok
    check(sandbox, rows)


def test_a_directory_that_cannot_be_written_for_a_while_ends_no_shard(sandbox, tmp_path, monkeypatch, caplog):
    rows = updates(sandbox, 20)
    sandbox.faults = Faults(latency=0.02)
    plan_shards(rows, tmp_path, shards=1)
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 0.05)
    usual, calls = Place.write, []

    def write(place, name, content):
        calls.append(name)
        if 1 < len(calls) < 5:
            msg = "the store is busy"
            raise RuntimeError(msg)
        usual(place, name, content)

    monkeypatch.setattr(Place, "write", write)
    assert deliver_shard(tmp_path, 0, concurrency=4).ok
    assert caplog.text.count("no sign of life or snapshot could be written (the store is busy)") == 3
    check(sandbox, rows)


def until_it_is_at_work(sandbox):
    while not sandbox.ledger.requests:
        time.sleep(0.01)


def test_a_copy_that_counted_as_dead_stops_for_another_and_returns_its_report(sandbox, tmp_path, monkeypatch):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.05)
    plan_shards(rows, tmp_path, shards=1)
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 0.1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(deliver_shard, tmp_path, 0, concurrency=2)
        until_it_is_at_work(sandbox)
        gone = Holder.read(Place(tmp_path), 0)
        gone.write(Place(tmp_path), 0, gone.progress, ended=True)
        second = pool.submit(deliver_shard, tmp_path, 0, concurrency=2)
        assert first.result(30) == second.result(30)
        assert first.result().ok
    check(sandbox, rows)


def test_a_copy_that_must_not_wait_says_that_another_has_taken_over(sandbox, tmp_path, monkeypatch):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.05)
    plan_shards(rows, tmp_path, shards=1)
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(deliver_shard, tmp_path, 0, concurrency=2, busy="fail")
        until_it_is_at_work(sandbox)
        plan = read_plan(tmp_path)
        other = Holder.own(plan.run_id(0))
        other.write(Place(tmp_path), 0, Holder.read(Place(tmp_path), 0).progress)
        stopped = first.result(30)
    assert stopped.state is ShardState.STOPPED
    assert stopped.problem == "another copy of the shard has taken over"
    other.write(Place(tmp_path), 0, Holder.read(Place(tmp_path), 0).progress, ended=True)
    assert deliver_shard(tmp_path, 0).ok
    check(sandbox, rows)


def test_of_copies_that_begin_in_one_moment_one_delivers(sandbox, tmp_path, monkeypatch):
    rows = updates(sandbox, 20)
    plan_shards(rows, tmp_path, shards=1)
    usual, both = Holder.read.__func__, threading.Barrier(2)
    looks = []

    def read(cls, place, number):
        found = usual(cls, place, number)
        looks.append(found)
        if len(looks) <= 2:
            both.wait(30)  # each has found nobody before either says a word
        return found

    monkeypatch.setattr(Holder, "read", classmethod(read))
    first, second = deliver_in_threads(tmp_path, 0, 2, concurrency=4)
    assert looks[:2] == [None, None]
    assert first == second
    assert sandbox.ledger.requests == len(rows)
    check(sandbox, rows)


def test_a_copy_that_wakes_after_the_other_has_ended_sends_nothing_more(sandbox, tmp_path, monkeypatch):
    rows = updates(sandbox, 40)
    sandbox.faults = Faults(latency=0.05)
    plan_shards(rows, tmp_path, shards=1)
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 3600)  # it sleeps, and looks at nobody
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(deliver_shard, tmp_path, 0, concurrency=1)
        until_it_is_at_work(sandbox)
        gone = Holder.read(Place(tmp_path), 0)
        gone.write(Place(tmp_path), 0, gone.progress, ended=True)
        second = deliver_shard(tmp_path, 0, concurrency=8)
        assert second.ok
        assert first.result(60) == second, "the report of the one that ended stays"
    assert report(tmp_path).shards[0] == second
    check(sandbox, rows)


def test_damage_anywhere_in_a_snapshot_makes_a_shard_begin_anew(sandbox, tmp_path):
    rows = [*updates(sandbox, 40), *((f"nowhere_{n}", "l", "new") for n in range(40))]
    plan_shards(rows, tmp_path, shards=1)
    sandbox.faults = Faults(latency=0.02)
    deliver_shard(tmp_path, 0, concurrency=4, deadline=1.5)
    path = tmp_path / "_altcraft" / "00000.journal"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    found = deliver_shard(tmp_path, 0)
    assert found.counts[OutcomeState.REJECTED] == 40
    assert sandbox.check(rows[:-40]).ok


def test_no_file_of_an_input_is_overwritten_by_a_shard(tmp_path):
    plan_shards([("o", "l", "new")], tmp_path / "a", shards=1)
    (tmp_path / "b").mkdir()
    source = (tmp_path / "a" / "shard-00000.parquet").rename(tmp_path / "b" / "shard-00000.parquet")
    before = source.read_bytes()
    with pytest.raises(ShardError, match=r"has shard-00000\.parquet already: an input, or a plan that was cut off"):
        plan_shards(source, tmp_path / "b", shards=2)
    assert source.read_bytes() == before


def test_files_that_would_be_left_out_are_named_when_a_directory_is_adopted(tmp_path):
    import pyarrow as pa  # noqa: PLC0415

    (tmp_path / "sub").mkdir()
    for number, name in enumerate(["0.parquet", "1.PARQUET", "sub/2.parquet"]):
        row = {"order_external_id": [f"o{number}"], "order_line_external_id": ["l"], "status_external_id": ["new"]}
        pq.write_table(pa.table(row), tmp_path / name)
    with pytest.raises(ShardError, match=r"sub/2\.parquet is not in .* itself, where all shards must be"):
        adopt_shards(tmp_path)
    (tmp_path / "sub" / "2.parquet").unlink()
    assert [shard.file for shard in adopt_shards(tmp_path).shards] == ["0.parquet", "1.PARQUET"]


def test_what_a_killed_copy_left_on_the_disk_is_removed_by_the_next(sandbox, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    rows = updates(sandbox, 20)
    sandbox.faults = Faults(latency=0.05)
    plan_shards(rows, tmp_path / "run", shards=1)
    code = "import sys; from altcraft_async.shards import deliver_shard; deliver_shard(sys.argv[1], 0, concurrency=1)"
    killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")])
    until_it_is_at_work(sandbox)
    killed.kill()
    killed.wait()
    assert [path.name.startswith("altcraft-shard-") for path in (tmp_path / "tmp").iterdir()] == [True]
    sandbox.faults = Faults()
    assert deliver_shard(tmp_path / "run", 0).ok
    assert list((tmp_path / "tmp").iterdir()) == []
    check(sandbox, rows)


def test_a_number_of_numpy_is_a_number(sandbox, tmp_path):
    numpy = pytest.importorskip("numpy")
    rows = updates(sandbox, 4)
    plan_shards(rows, tmp_path, shards=1)
    assert deliver_shard(tmp_path, numpy.int64(0)).ok
    done(run_shards(tmp_path, shards=[numpy.int64(0)]), rows)


def test_a_snapshot_of_another_plan_is_noticed(sandbox, tmp_path):
    rows = updates(sandbox, 10)
    for name in "ab":
        plan_shards(rows, tmp_path / name, shards=1)
    deliver_shard(tmp_path / "a", 0)
    shutil.copy(tmp_path / "a" / "_altcraft" / "00000.journal", tmp_path / "b" / "_altcraft")
    with pytest.raises(ShardError, match=r"00000\.journal is of another plan than _altcraft/plan\.json"):
        deliver_shard(tmp_path / "b", 0)
    assert sandbox.ledger.requests == len(rows)


def test_a_deleted_report_is_written_again_without_sending(sandbox, tmp_path):
    rows = updates(sandbox, 10)
    plan_shards(rows, tmp_path, shards=1)
    deliver_shard(tmp_path, 0)
    path = tmp_path / "_altcraft" / "00000.report.json"
    path.write_text("[]")
    with pytest.raises(ShardError, match="cannot be read; delete"):
        deliver_shard(tmp_path, 0)
    path.unlink()
    done(run_shards(tmp_path, processes=1), rows)
    assert sandbox.ledger.requests == len(rows)


def test_a_wrong_row_of_an_adopted_file_is_reported_with_its_ids(sandbox, tmp_path):
    import pyarrow as pa  # noqa: PLC0415

    columns = {"Order": ["o", "p"], "order_line_external_id": [None, "l"], "status_external_id": ["new", "new"]}
    pq.write_table(pa.table(columns), tmp_path / "part-0.parquet")
    adopt_shards(tmp_path, columns={"order_external_id": "Order"})
    deliver_shard(tmp_path, 0)
    failed = pq.read_table(tmp_path / "_altcraft" / "00000.failed.parquet").to_pylist()
    assert [(row["index"], row["order_external_id"], row["status_external_id"]) for row in failed] == [
        (0, "o", "new"), (1, "p", "new"),
    ]  # fmt: skip
    assert failed[0]["error"].startswith("part-0.parquet, row 1: order_line_external_id is null")
