"""What a fault beside the sending leaves of a shard: a file system that fails, files of others, a full disk."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time

import pytest

from altcraft_async import JournalError, OutcomeState, Shared
from altcraft_async.sandbox import ThreadedSandbox
from altcraft_async.shards import ShardError, ShardState, deliver_shard, deliver_shard_here, plan_shards, report
from altcraft_async.shards.lease import Holder, Progress
from altcraft_async.storage.places import Place

pytest.importorskip("pyarrow.parquet")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

CANARY = "canary-5c0ffee5-token"


@pytest.fixture
def sandbox(monkeypatch):
    with ThreadedSandbox(token=CANARY) as running:
        monkeypatch.setenv("ALTCRAFT_BASE_URL", running.base_url)
        monkeypatch.setenv("ALTCRAFT_TOKEN", CANARY)
        yield running


@pytest.fixture
def rows(sandbox):
    return [(*key, "delivered") for key in sandbox.seed_orders(40, 1)]


def test_a_finished_journal_of_another_plan_is_refused_again_and_again(sandbox, rows, tmp_path):
    for name in "ab":
        plan_shards(rows, tmp_path / name, shards=1)
    deliver_shard(tmp_path / "a", 0)
    journal = tmp_path / "b" / "_altcraft" / "00000.journal"
    shutil.copy(tmp_path / "a" / "_altcraft" / "00000.journal", journal)
    content = journal.read_bytes()
    for _ in range(2):
        with pytest.raises(ShardError, match=r"00000\.journal is of another plan"):
            deliver_shard(tmp_path / "b", 0)
    assert report(tmp_path / "b").shards[0].state is ShardState.STOPPED
    assert journal.read_bytes() == content


@pytest.fixture
def begun(sandbox, rows, tmp_path):
    """A directory with a shard of which a snapshot has half, and the bytes of that snapshot."""
    plan_shards(rows, tmp_path, shards=1)
    deliver_shard(tmp_path, 0)
    (tmp_path / "_altcraft" / "00000.report.json").unlink()
    return tmp_path, (tmp_path / "_altcraft" / "00000.journal").read_bytes()


def failing(monkeypatch, error):
    usual = Place.fetch

    def fetch(place, name, target):
        if name.endswith(".journal"):
            target.write_bytes(b"")
            raise error
        usual(place, name, target)

    monkeypatch.setattr(Place, "fetch", fetch)


def test_a_snapshot_that_cannot_be_read_now_stays_as_it_is(begun, sandbox, monkeypatch):
    directory, content = begun
    requests = sandbox.ledger.requests
    with monkeypatch.context() as patch:
        failing(patch, OSError(104, "Connection reset by peer"))
        with pytest.raises(ShardError, match=r"shard 0 of .*cannot be read or written.*Connection reset by peer"):
            deliver_shard(directory, 0)
    assert (directory / "_altcraft" / "00000.journal").read_bytes() == content
    assert deliver_shard(directory, 0).ok
    assert sandbox.ledger.requests == requests


def test_a_cancellation_while_the_snapshot_is_fetched_leaves_it_and_is_passed_on(begun, monkeypatch):
    directory, content = begun
    usual = Place.fetch

    async def cancelled():
        loop, fetching, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def fetch(place, name, target):
            if name.endswith(".journal"):
                target.write_bytes(b"")
                loop.call_soon_threadsafe(fetching.set)
                go_on.wait(10)
            usual(place, name, target)

        monkeypatch.setattr(Place, "fetch", fetch)
        task = asyncio.create_task(deliver_shard_here(directory, 0))
        await fetching.wait()
        task.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            go_on.set()

    asyncio.run(cancelled())
    assert (directory / "_altcraft" / "00000.journal").read_bytes() == content
    assert report(directory).shards[0].state is ShardState.STOPPED


def test_what_a_killed_copy_left_half_written_in_the_directory_is_removed(sandbox, rows, tmp_path):
    plan_shards(rows, tmp_path, shards=1)
    left = tmp_path / "_altcraft" / "00000.journal.0a1b2c3d.new"
    left.write_bytes(b"half")
    assert deliver_shard(tmp_path, 0).ok
    assert not left.exists()


def full(monkeypatch, *ends, after=0):
    """Let writes of files with these endings fail `after` so many, as on a full disk."""
    write, put = Place.write, Place.put
    left = iter(range(after))

    def fails(name):
        if name.endswith(ends) and next(left, None) is None:
            raise OSError(28, "No space left on device")

    def write_too(place, name, content):
        fails(name)
        write(place, name, content)

    def put_too(place, source, name):
        fails(name)
        put(place, source, name)

    monkeypatch.setattr(Place, "write", write_too)
    monkeypatch.setattr(Place, "put", put_too)


@pytest.mark.parametrize("what", ["rows", "journal"])
def test_a_full_temporary_directory_is_named_with_the_shard(sandbox, rows, tmp_path, monkeypatch, what):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    plan_shards(rows, tmp_path / "run", shards=1)

    def fetch(place, name, target):
        raise OSError(28, "No space left on device", str(target))

    def begin(path, **_):
        msg = f"the disk with the journal {path} is full"
        raise JournalError(msg, path=str(path))

    with monkeypatch.context() as patch:
        if what == "rows":
            patch.setattr(Place, "fetch", fetch)
        else:
            patch.setattr("altcraft_async.shards.local.begin_journal", begin)
        with pytest.raises(ShardError, match=r"shard 0 of .*/run has stopped: .* set TMPDIR to another") as caught:
            deliver_shard(tmp_path / "run", 0)
    assert f" in {tmp_path / 'tmp'}, which has " in str(caught.value)
    assert "altcraft-shard-" not in str(caught.value)
    assert deliver_shard(tmp_path / "run", 0).ok


def test_a_full_disk_in_the_end_keeps_the_journal_here_and_the_next_copy_goes_on(sandbox, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan_shards(rows, tmp_path / "run", shards=1)
    with monkeypatch.context() as patch:
        full(patch, ".journal", "report.json")
        with pytest.raises(
            ShardError, match=r"could not be written there in the end \(.*No space left.*is kept at"
        ) as e:
            deliver_shard(tmp_path / "run", 0)
    kept = next(tmp_path.glob("altcraft-journal-*"))
    assert str(kept) in str(e.value)
    assert kept.stat().st_mode & 0o77 == 0
    assert deliver_shard(tmp_path / "run", 0).ok
    assert sandbox.ledger.requests == len(rows)
    assert not kept.exists()


def test_a_full_disk_in_the_beginning_is_said_in_words(sandbox, rows, tmp_path, monkeypatch):
    plan_shards(rows, tmp_path, shards=1)
    full(monkeypatch, "lease.json")
    with pytest.raises(ShardError, match=r"shard 0 of .* cannot be read or written .*No space left"):
        deliver_shard(tmp_path, 0)
    assert not sandbox.ledger.requests


@pytest.mark.parametrize("use", [report, lambda path: deliver_shard(path, 0)])
def test_a_directory_that_is_a_file_is_said_in_words(sandbox, tmp_path, use):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ShardError, match="file cannot be read or written"):
        use(tmp_path / "file")


def test_a_deadline_ends_the_waiting_for_another_copy(sandbox, rows, tmp_path):
    plan = plan_shards(rows, tmp_path, shards=1)
    Holder.own(plan.run_id(0)).write(Place(tmp_path), 0, Progress({"applied": 3}))
    found = deliver_shard(tmp_path, 0, deadline=0)
    assert (found.state, found.counts[OutcomeState.APPLIED]) == (ShardState.RUNNING, 3)
    assert "had not ended at the deadline" in found.problem
    assert not sandbox.ledger.requests


def test_a_deadline_ends_the_waiting_for_a_part_of_a_total(sandbox, rows, tmp_path):
    plan_shards(rows, tmp_path, shards=1)
    other = json.dumps({"beat": 1, "at": 0.0, "holds": 4.0, "claims": 4.0})
    Place(tmp_path).write("_altcraft/members/other.json", other.encode())
    begun = time.monotonic()
    deliver_shard(tmp_path, 0, deadline=0.1, concurrency=Shared(4, among="shards"))
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("by_command", [False, pytest.param(True, marks=pytest.mark.processes)])
def test_the_plans_target_is_the_address_where_none_is_set(sandbox, rows, tmp_path, monkeypatch, by_command):
    plan_shards(rows, tmp_path / "run", shards=1, target=sandbox.base_url)
    (tmp_path / "token").write_text(CANARY)
    settings = tmp_path / "settings.toml"
    settings.write_text('[altcraft]\ntoken_file = "token"\n')
    for name in ("ALTCRAFT_BASE_URL", "ALTCRAFT_TOKEN"):
        monkeypatch.delenv(name)
    if by_command:
        command = [sys.executable, "-m", "altcraft_async", "shards", "run", str(tmp_path / "run"), "--config", settings]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
    else:
        monkeypatch.setenv("ALTCRAFT_CONFIG", str(settings))
        deliver_shard(tmp_path / "run", 0)
    assert report(tmp_path / "run").ok


async def test_within_a_running_loop_the_other_function_is_named(sandbox, rows, tmp_path):
    plan_shards(rows, tmp_path, shards=1)
    with pytest.raises(RuntimeError, match="await deliver_shard_here instead"):
        deliver_shard(tmp_path, 0)
    assert (await deliver_shard_here(tmp_path, 0)).ok


def test_the_problem_of_a_stopped_shard_is_not_that_of_one_line(sandbox, rows, tmp_path):
    plan_shards(rows, tmp_path, shards=1)
    problem = deliver_shard(tmp_path, 0, deadline=0).problem
    assert problem.startswith("the run's deadline")
    assert "order_" not in problem
