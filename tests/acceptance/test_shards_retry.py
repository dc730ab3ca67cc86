"""Failed rows of done shards that are sent again: at no moment does the directory say what is no longer true."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time

import pytest

from altcraft_async import OutcomeState
from altcraft_async.sandbox import Faults, ThreadedSandbox
from altcraft_async.shards import ShardError, ShardState, deliver_shard, deliver_shard_here, plan_shards, report
from altcraft_async.shards.window import Fate, Queue, numbers_of, try_shard
from altcraft_async.storage.places import Place

pytest.importorskip("pyarrow.parquet")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

REPORT, FAILED = "_altcraft/00000.report.json", "_altcraft/00000.failed.parquet"


@pytest.fixture
def sandbox(monkeypatch):
    with ThreadedSandbox() as running:
        monkeypatch.setenv("ALTCRAFT_BASE_URL", running.base_url)
        monkeypatch.setenv("ALTCRAFT_TOKEN", running.token)
        yield running


@pytest.fixture(params=["path", "memory"])
def directory(request, tmp_path):
    return str(tmp_path) if request.param == "path" else f"memory://retry-{time.monotonic_ns()}"


def rejected(sandbox, directory, count=60):
    """Deliver a shard whose orders are all unknown, and make them known then; return its rows."""
    rows = [(f"late_{number}", "l", "delivered") for number in range(count)]
    plan_shards(rows, directory, shards=1)
    assert deliver_shard(directory, 0).counts[OutcomeState.REJECTED] == count
    for order, line, _ in rows:
        sandbox.add_order(order, [line])
    return rows


def names(directory):
    return {f"_altcraft/{name}" for name in Place(directory).sizes("_altcraft")}


def until_applied(sandbox, count):
    ends_at = time.monotonic() + 30
    while sandbox.ledger.statistics().answers.get("applied", 0) < count:
        assert time.monotonic() < ends_at, "nothing was applied"
        time.sleep(0.01)


def test_a_retry_that_is_cancelled_leaves_a_stopped_shard_which_a_plain_run_finishes(sandbox, directory):
    rows = rejected(sandbox, directory)
    sandbox.faults = Faults(latency=0.1)

    async def interrupted():
        retry = asyncio.create_task(deliver_shard_here(directory, 0, retry_failed=True, concurrency=2))
        await asyncio.to_thread(until_applied, sandbox, 5)
        at_work = await asyncio.to_thread(report, directory)
        retry.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await retry
        return at_work

    at_work = asyncio.run(interrupted()).shards[0]
    assert (at_work.state, sum(at_work.counts.values()) < len(rows)) == (ShardState.RUNNING, True)
    assert not {REPORT, FAILED} & names(directory)
    found = report(directory).shards[0]
    assert (found.state, found.counts[OutcomeState.REJECTED]) == (ShardState.STOPPED, 0)
    assert found.counts[OutcomeState.APPLIED] >= 5
    sandbox.faults = Faults()
    assert deliver_shard(directory, 0).ok
    assert sandbox.check(rows).ok


RETRY = (
    "import sys; from altcraft_async.shards import *; deliver_shard(sys.argv[1], 0, retry_failed=True, concurrency=2)"
)


@pytest.mark.processes
def test_a_retry_that_is_killed_before_its_first_snapshot_is_finished_by_a_plain_run(sandbox, tmp_path):
    rows = rejected(sandbox, tmp_path)
    sandbox.faults = Faults(latency=0.1)
    retry = subprocess.Popen([sys.executable, "-c", RETRY, str(tmp_path)])
    try:
        until_applied(sandbox, 5)
    finally:
        retry.kill()
        retry.wait()
    assert not {REPORT, FAILED} & names(tmp_path)
    assert report(tmp_path).shards[0].state is ShardState.STOPPED
    sandbox.faults = Faults()
    assert deliver_shard(tmp_path, 0).ok
    assert sandbox.check(rows).ok


def test_the_directory_knows_of_a_retry_before_its_first_request(sandbox, directory, monkeypatch):
    rejected(sandbox, directory, 3)
    requests, order = sandbox.ledger.requests, []
    for method in ("put", "remove"):
        usual = getattr(Place, method)

        def seen(place, *args, usual=usual, method=method):
            order.append((method, args[-1], sandbox.ledger.requests - requests))
            usual(place, *args)

        monkeypatch.setattr(Place, method, seen)
    assert deliver_shard(directory, 0, retry_failed=True).ok
    assert order[:3] == [("put", "_altcraft/00000.journal", 0), ("remove", REPORT, 0), ("remove", FAILED, 0)]


def test_a_retry_that_cannot_say_so_sends_nothing_and_leaves_the_report(sandbox, directory, monkeypatch):
    rows = rejected(sandbox, directory, 3)
    requests, before = sandbox.ledger.requests, report(directory)

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "somewhere")

    with monkeypatch.context() as away:
        away.setattr(Place, "remove", refuse)
        with pytest.raises(ShardError, match="Permission denied"):
            deliver_shard(directory, 0, retry_failed=True)
    assert sandbox.ledger.requests == requests
    assert report(directory) == before
    assert deliver_shard(directory, 0, retry_failed=True).ok
    assert sandbox.check(rows).ok


def test_who_hands_out_failed_rows_sends_none_that_another_has_sent_again_meanwhile(sandbox, tmp_path):
    plan_shards([(f"never_{number}", "l", "delivered") for number in range(40)], tmp_path, shards=2)
    failed = [deliver_shard(tmp_path, number).failed for number in range(2)]
    requests = sandbox.ledger.requests
    drivers = [Queue(tmp_path, numbers_of(tmp_path, None, retry_failed=True)) for _ in range(2)]
    for _ in range(2):
        for driver in drivers:
            number, known = driver.take()
            assert try_shard(str(tmp_path), number, known, {"retry_failed": True}) is Fate.ENDED
    assert sandbox.ledger.requests == requests + 40
    assert deliver_shard(tmp_path, 0, retry_failed=True).complete
    assert sandbox.ledger.requests == requests + 40 + failed[0], "who is asked later sends them again"


def test_who_waited_for_another_that_sent_the_failed_rows_again_does_not(sandbox, directory):
    rows = [(f"never_{number}", "l", "delivered") for number in range(20)]
    plan_shards(rows, directory, shards=1)
    deliver_shard(directory, 0)
    sandbox.faults = Faults(latency=0.1)

    async def both():
        return await asyncio.gather(
            *(deliver_shard_here(directory, 0, retry_failed=True, concurrency=4) for _ in range(2))
        )

    first, second = asyncio.run(both())
    assert first == second
    assert sandbox.ledger.requests == 2 * len(rows)


def test_who_waited_for_the_first_delivery_sends_its_failed_rows_again(sandbox, directory):
    rows = [(f"never_{number}", "l", "delivered") for number in range(20)]
    plan_shards(rows, directory, shards=1)
    sandbox.faults = Faults(latency=0.1)

    async def both():
        first = asyncio.create_task(deliver_shard_here(directory, 0, concurrency=4))
        while not sandbox.ledger.requests:  # noqa: ASYNC110 - the server is in a thread
            await asyncio.sleep(0.01)
        await asyncio.gather(first, deliver_shard_here(directory, 0, retry_failed=True, concurrency=4))

    asyncio.run(both())
    assert sandbox.ledger.requests == 2 * len(rows)
