"""What a fault beside the sending leaves of a shard: a file system that fails, files of others, a full disk."""

from __future__ import annotations

import asyncio
import shutil
import threading

import pytest

from altcraft_async.sandbox import ThreadedSandbox
from altcraft_async.shards import ShardError, ShardState, deliver_shard, deliver_shard_here, plan_shards, report
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
