"""The last snapshot of a copy that is interrupted: it is written to its end, however slow its directory is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from test_shards_pool import until

from altcraft_async import OutcomeState
from altcraft_async.sandbox import Faults
from altcraft_async.shards import ShardState, deliver_shard, deliver_shard_here, plan_shards, pool, report, run_shards
from altcraft_async.storage.places import Place

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]


@pytest.fixture
def settings(sandbox, monkeypatch):
    monkeypatch.setenv("ALTCRAFT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("ALTCRAFT_TOKEN", sandbox.token)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)


@pytest.fixture
def rows(sandbox, settings, tmp_path):
    found = [(*key, "delivered") for key in sandbox.seed_orders(60, 1)]
    plan_shards(found, tmp_path / "run", shards=1)
    return found


class SlowSnapshots:
    """Has each snapshot wait until somebody lets it `go_on`; `begun` says that one waits."""

    def __init__(self, monkeypatch):
        self.begun, self.go_on = threading.Event(), threading.Event()
        usual = Place.put

        def put(place, source, name):
            if name.endswith(".journal"):
                self.begun.set()
                self.go_on.wait(30)
            usual(place, source, name)

        monkeypatch.setattr(Place, "put", put)


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr("altcraft_async.shards.copies._PATIENCE", 0.05)
    monkeypatch.setattr("altcraft_async.shards.copies.BEAT", 0.02)
    return SlowSnapshots(monkeypatch)


def test_a_cancellation_waits_for_a_last_snapshot_that_is_being_written(sandbox, rows, tmp_path, slow, caplog):
    async def cancelled():
        delivery = asyncio.create_task(deliver_shard_here(tmp_path / "run", 0))
        await asyncio.to_thread(slow.begun.wait)
        assert not caplog.text
        for _ in range(3):
            delivery.cancel()
            await asyncio.sleep(0.1)
        assert not delivery.done()
        slow.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await delivery

    asyncio.run(cancelled())
    assert f"to end at once, kill process {os.getpid()} (SIGKILL)" in caplog.text
    assert report(tmp_path / "run").ok
    (tmp_path / "run" / "_altcraft" / "00000.report.json").unlink()
    assert deliver_shard(tmp_path / "run", 0).ok
    assert sandbox.ledger.requests == len(rows)


def test_a_program_that_ends_its_loop_waits_for_a_last_snapshot_that_is_being_written(sandbox, rows, tmp_path, slow):
    async def given_up():
        delivery = asyncio.create_task(deliver_shard_here(tmp_path / "run", 0))
        await asyncio.to_thread(slow.begun.wait)
        delivery.cancel()
        threading.Timer(0.5, slow.go_on.set).start()

    asyncio.run(given_up())
    (tmp_path / "run" / "_altcraft" / "00000.report.json").unlink()
    assert deliver_shard(tmp_path / "run", 0).ok
    assert sandbox.ledger.requests == len(rows)


def test_a_second_cancellation_does_not_cut_off_what_the_first_has_begun(sandbox, rows, tmp_path, slow):
    sandbox.faults = Faults(latency=0.1)

    async def cancelled():
        delivery = asyncio.create_task(deliver_shard_here(tmp_path / "run", 0, concurrency=2))
        await asyncio.to_thread(until, lambda: sandbox.ledger.requests >= 6, "nothing was sent")
        for _ in range(2):
            delivery.cancel()
            await asyncio.to_thread(slow.begun.wait)
        await asyncio.sleep(0.1)
        assert not delivery.done()
        slow.go_on.set()
        with contextlib.suppress(asyncio.CancelledError):
            await delivery

    asyncio.run(cancelled())
    found = report(tmp_path / "run").shards[0]
    assert (found.state, found.counts[OutcomeState.APPLIED]) == (ShardState.STOPPED, sandbox.ledger.requests)


def test_what_an_interruption_has_cut_off_is_counted_by_no_sign_of_life(sandbox, rows, tmp_path, slow):
    sandbox.faults = Faults(latency=0.2)

    async def cancelled():
        delivery = asyncio.create_task(deliver_shard_here(tmp_path / "run", 0, concurrency=2))
        await asyncio.to_thread(until, lambda: sandbox.ledger.requests >= 6, "nothing was sent")
        delivery.cancel()
        seen = []
        while not slow.begun.is_set() or len(seen) < 20:
            seen.append((await asyncio.to_thread(report, tmp_path / "run")).shards[0])
            await asyncio.sleep(0.01)
        slow.go_on.set()
        with contextlib.suppress(asyncio.CancelledError):
            await delivery
        return seen

    seen = asyncio.run(cancelled())
    assert {one.failed for one in seen} == {0}
    assert seen[-1].counts == report(tmp_path / "run").shards[0].counts
    assert seen[-1].state is ShardState.RUNNING


SLOW = """
import pathlib, time
from altcraft_async.storage.places import Place
usual = Place.put
def put(place, source, name):
    if name.endswith(".journal"):
        pathlib.Path("begun").touch()
        time.sleep(3)
    usual(place, source, name)
Place.put = put
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("how", [("--shard", "0"), ("--processes", "1")])
def test_signals_while_the_last_snapshot_is_written_lose_nothing_of_it(command, rows, sandbox, how):
    command.write("sitecustomize.py", SLOW)
    command.environ["PYTHONPATH"] += f"{os.pathsep}{command.directory}"
    running = command.start("shards", "run", "run", *how)
    until((command.directory / "begun").exists, "no last snapshot was begun")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        running.send_signal(number)
        time.sleep(0.2)
    stderr = running.communicate(timeout=30)[1].decode()
    assert running.returncode == 128 + signal.SIGTERM
    assert "interrupted; run it again, and it goes on" in stderr
    assert "Traceback" not in stderr
    requests = sandbox.ledger.requests
    command.write("sitecustomize.py", "")
    assert command("shards", "run", "run").returncode == 0
    assert sandbox.ledger.requests == requests == len(rows)


def work_slowly(*arguments):
    usual = Place.put

    def put(place, source, name):
        if name.endswith(".journal"):
            time.sleep(2)
        usual(place, source, name)

    Place.put = put
    work(*arguments)


work = pool._work


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_process_that_writes_its_last_snapshot_is_not_killed(sandbox, rows, tmp_path, monkeypatch, caplog):
    sandbox.faults = Faults(latency=0.2)
    monkeypatch.setattr(pool, "_work", work_slowly)
    monkeypatch.setattr(pool, "_PATIENCE", 0.2)
    main = threading.get_ident()

    def interrupt():
        until(lambda: sandbox.ledger.requests >= 6, "nothing was sent")
        signal.pthread_kill(main, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        run_shards(tmp_path / "run", processes=1, concurrency=2)
    interrupting.join()
    assert "which delivers shard 0" in caplog.text, "who waits hears which process it is"
    found = report(tmp_path / "run").shards[0]
    assert (found.state, found.counts[OutcomeState.APPLIED]) == (ShardState.STOPPED, sandbox.ledger.requests)
    assert (tmp_path / "run" / "_altcraft" / "00000.journal").exists()
