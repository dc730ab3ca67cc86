"""Shards on engines: a sandbox, an input, and the killing of workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from altcraft_async import OutcomeState
from altcraft_async.ingest import FIELDS
from altcraft_async.sandbox import Faults, ThreadedSandbox
from altcraft_async.shards import deliver_shard, plan_shards, report
from altcraft_async.shards.lease import Holder
from altcraft_async.storage.places import Place

ROOT = Path(__file__).parents[2]
CANARY = "canary-5c0ffee5-token"


class Job:
    """An input in a directory of shards, a server that takes its time, and what must have come of it."""

    token = CANARY

    def __init__(self, sandbox, folder):
        self.sandbox = sandbox
        self.directory = folder / "run"
        self.keys = sandbox.seed_orders(120, 2)
        self.rows = [(*key, status) for status in ("processing", "delivering", "delivered") for key in self.keys]
        self.killed: set[int] = set()
        sandbox.faults = Faults.mixed(0.03, latency=0.12)

    def plan(self, shards=4):
        plan_shards(self.rows, self.directory, shards=shards, target=self.sandbox.base_url)

    def write(self, path):
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        columns = dict(zip(FIELDS, map(list, zip(*self.rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns | {"changed_at": list(range(len(self.rows)))}), path)
        return path

    def kill(self, times=2):
        """Kill workers that have been at work for a while."""
        ends_at = time.monotonic() + 180
        while len(self.killed) < times and time.monotonic() < ends_at:
            for number in range(4):
                holder = Holder.read(Place(self.directory), number)
                busy = holder and not holder.ended and sum(holder.progress.counts.values()) > 10
                if busy and holder.pid not in self.killed and len(self.killed) < times:
                    self.killed.add(holder.pid)
                    os.kill(holder.pid, signal.SIGKILL)
            time.sleep(0.05)
        return len(self.killed)

    def join(self):
        """Deliver a shard beside whoever does it."""
        while not any(Holder.read(Place(self.directory), number) for number in range(4)):
            time.sleep(0.05)
        number = next(number for number in range(4) if Holder.read(Place(self.directory), number))
        return deliver_shard(self.directory, number, busy="join", concurrency=4)

    def check(self):
        """Hold report and ledger against the rows."""
        found = report(self.directory)
        assert found.ok, found
        assert found.counts[OutcomeState.APPLIED] + found.counts[OutcomeState.DUPLICATE] == len(self.rows)
        checked = self.sandbox.check(self.rows)
        assert checked.ok, str(checked)
        assert checked.applied == len(self.rows)
        for path in self.directory.rglob("*"):
            assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
        return found


@pytest.fixture
def sandbox(monkeypatch):
    with ThreadedSandbox(token=CANARY) as running:
        monkeypatch.setenv("ALTCRAFT_BASE_URL", running.base_url)
        monkeypatch.setenv("ALTCRAFT_TOKEN", CANARY)
        monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        yield running


@pytest.fixture
def job(sandbox, tmp_path):
    return Job(sandbox, tmp_path)
