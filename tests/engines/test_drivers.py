"""Two drivers on one directory of shards: each adds what its workers can do, and one goes on when the other dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from altcraft_async.sandbox import Faults
from altcraft_async.shards import report
from altcraft_async.shards.lease import Holder
from altcraft_async.storage.places import Place

pytest.importorskip("fsspec")
psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

DRIVER = Path(__file__).with_name("driver.py")
NEEDS = {"pool": "altcraft_async", "dask": "distributed", "ray": "ray", "spark": "pyspark"}
SHARDS = 8
LIMIT = 4
"""Requests at once of one worker."""
LATENCY = 0.2


class Driver:
    """A driver with one worker, in a process of its own with all that it begins."""

    def __init__(self, engine, directory):
        self.said = directory.parent / f"driver-{time.monotonic_ns()}.txt"
        command = [sys.executable, str(DRIVER), engine, str(directory), str(LIMIT)]
        with self.said.open("w") as said:  # a file: what an engine leaves behind would keep a pipe open
            self.process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)

    def pids(self):
        try:
            driver = psutil.Process(self.process.pid)
            return {driver.pid, *(child.pid for child in driver.children(recursive=True))}
        except psutil.NoSuchProcess:
            return set()

    def kill(self):
        """Kill it with all that it has begun, as a machine that dies does."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def report(self):
        code = self.process.wait(240)
        said = self.said.read_text()
        assert code == 0, said
        return json.loads(next(line for line in said.splitlines() if line.startswith('{"directory"')))


@pytest.fixture
def begin(job):
    drivers = []

    def begin(engine):
        drivers.append(Driver(engine, job.directory))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.kill()


class Seen:
    """Who has delivered which shard, as the leases say."""

    def __init__(self, job):
        self._place = Place(job.directory)
        self.pids: dict[int, set[int]] = {number: set() for number in range(SHARDS)}
        self.at_once = 0

    def look(self):
        """Look at all leases; return the processes at work now, by the shard of each."""
        holders = {number: Holder.read(self._place, number) for number in range(SHARDS)}
        working = {number: holder.pid for number, holder in holders.items() if holder and not holder.ended}
        for number, pid in working.items():
            self.pids[number].add(pid)
        self.at_once = max(self.at_once, len(working))
        return working

    def until(self, true, seconds=300):
        give_up = time.monotonic() + seconds
        while not true(self.look()):
            assert time.monotonic() < give_up, f"it never came: {self.pids}"
            time.sleep(0.05)


@pytest.fixture(params=list(NEEDS))
def engine(request):
    pytest.importorskip(NEEDS[request.param])
    return request.param


def test_a_second_driver_adds_the_speed_of_its_worker(job, begin, engine):
    job.sandbox.faults = Faults(latency=LATENCY)
    job.plan(SHARDS)
    seen, first, second = Seen(job), begin(engine), begin(engine)
    seen.until(lambda working: len(working) == 2)
    before, begun = job.sandbox.ledger.requests, time.monotonic()
    seen.until(lambda working: all(seen.pids.values()) and len(working) < 2)  # then there is no shard for both
    speed = (job.sandbox.ledger.requests - before) / (time.monotonic() - begun)
    assert first.report() == second.report() == report(job.directory).to_dict()
    job.check()
    assert seen.at_once == 2, seen.pids
    assert all(len(pids) == 1 for pids in seen.pids.values()), f"a shard was delivered twice: {seen.pids}"
    assert job.sandbox.ledger.peak_in_flight == 2 * LIMIT
    assert speed > 1.2 * LIMIT / LATENCY, f"{speed} requests a second: no more than one worker makes"


def test_a_driver_goes_on_with_the_shards_of_one_that_is_killed(job, begin, engine):
    job.sandbox.faults = Faults.mixed(0.03, latency=LATENCY)
    job.plan(SHARDS)
    seen, first, second = Seen(job), begin(engine), begin(engine)
    seen.until(lambda working: len(working) == 2)
    theirs = first.pids()
    assert theirs & set(seen.look().values()), "it is killed while it delivers nothing"
    first.kill()
    assert second.report() == report(job.directory).to_dict()
    job.check()
