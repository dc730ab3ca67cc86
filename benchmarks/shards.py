"""Shards on 1, 2 and 4 processes of this machine, and what larger jobs would take.

    python benchmarks/shards.py [--rows N] [--latency S] [--limit N] [--check]
    python benchmarks/shards.py --simulate

The first runs real processes against a sandbox, one shard of N rows for each: a server of
50 ms, 20 calls in flight a process. Their start counts. It says how near the rates are to linear, how many calls were
in flight at most, and what the journals take. The second plays large jobs on many workers that die now and then, with
what was measured: it is arithmetic with chance, and no run.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import attrs

from altcraft_async.sandbox import Faults, ThreadedSandbox
from altcraft_async.shards import plan_shards, run_shards

LINEAR = 0.9
"""The target: the part of linear that 2 and 4 processes must reach, while the CPU is not full."""
OVERSHOOT = 1.05
PROCESSES = (1, 2, 4)


@attrs.frozen
class Measured:
    """One run: rows a second with the processes' start, and once they have started."""

    processes: int
    rate: float
    started: float
    peak: int
    journal_bytes_a_row: float
    cpu: float


def measure(processes: int, asked: argparse.Namespace) -> Measured:
    """Deliver one shard for each process."""
    with tempfile.TemporaryDirectory() as folder, ThreadedSandbox(token="bench") as sandbox:
        os.environ.update(ALTCRAFT_BASE_URL=sandbox.base_url, ALTCRAFT_TOKEN="bench", ALTCRAFT_LIMIT_GROUP="off")
        keys = sandbox.seed_orders(max(1, asked.rows * processes // 4), 4)
        rows = [(*key, "delivered") for key in keys]
        sandbox.faults = Faults(latency=asked.latency)
        plan_shards(rows, folder, shards=processes)
        begun, cpu = time.perf_counter(), os.times()
        found = run_shards(folder, processes=processes, concurrency=asked.limit)
        elapsed, after = time.perf_counter() - begun, os.times()
        assert found.ok, found
        check = sandbox.check(rows)
        assert check.ok, str(check)
        spent = sum(after[:4]) - sum(cpu[:4])
        journals = sum(path.stat().st_size for path in Path(folder, "_altcraft").glob("*.journal"))
        # The shards are not of one size; what counts is the time of the largest.
        largest = max(shard.rows for shard in found.shards)
        return Measured(
            processes,
            processes * largest / elapsed,
            processes * largest / max(shard.elapsed for shard in found.shards),
            sandbox.ledger.peak_in_flight,
            journals / len(rows),
            spent / elapsed,
        )


def compare(asked: argparse.Namespace) -> int:
    """Run, print, and say by the exit code whether the targets are met."""
    one = measure(1, asked)
    good = True
    for found in (one, *(measure(count, asked) for count in PROCESSES[1:])):
        linear = found.rate / (found.processes * one.rate)
        total = asked.limit * found.processes
        print(
            f"{found.processes} processes: {found.rate:7,.0f} rows/s, {linear:.2f} of linear; "
            f"at most {found.peak} calls in flight of {total}; "
            f"{found.journal_bytes_a_row:.0f} bytes of journal a row; {found.cpu:.2f} cores",
            flush=True,
        )
        own = found.started / (found.processes * one.started)
        print(f"   once started: {found.started:7,.0f} rows/s, {own:.2f} of linear", flush=True)
        good = good and linear >= LINEAR and found.peak <= total * OVERSHOOT
    return 0 if good or not asked.check else 1


@attrs.frozen
class Job:
    """A job to be played: its rows, shards and workers, and what the server takes in all, in rows a second."""

    rows: int
    shards: int
    workers: int
    server: float


START, SNAPSHOT, LIVES = 2.0, 10.0, 3600.0
"""Seconds until a shard is under way; between two snapshots; that a worker lives on average, as on spot machines."""
WORKER = 4_000.0
"""Rows a second that one process on one core gets out of a fast server."""
JOURNAL = 35
BEAT = 2.0
JOBS = (
    Job(10**7, 200, 8, 1_000), Job(10**7, 200, 32, 10_000), Job(10**8, 500, 32, 10_000),
    Job(10**9, 5_000, 64, 10_000), Job(10**9, 5_000, 256, 100_000),
)  # fmt: skip


def play(job: Job, seed: int) -> dict[str, float]:
    """Play a job; return its hours, the rows that are sent again after deaths, and the deaths."""
    chance = random.Random(seed)
    pace = min(WORKER, job.server / job.workers)
    left = [job.rows / job.shards] * job.shards
    workers = [(0.0, number) for number in range(job.workers)]
    heapq.heapify(workers)
    repeats = deaths = end = 0.0
    while left:
        now, worker = heapq.heappop(workers)
        rows = left.pop()
        needs, lives = START + rows / pace, chance.expovariate(1 / LIVES)
        if lives < needs:
            # What no snapshot has is sent again, and the shard goes on elsewhere when its lease is over.
            done = max(0.0, lives - START) * pace
            kept = max(0.0, lives - START) // SNAPSHOT * SNAPSHOT * pace
            repeats += done - kept
            deaths += 1
            left.insert(0, rows - kept)
            heapq.heappush(workers, (now + lives + 30.0, worker))
        else:
            end = max(end, now + needs)
            heapq.heappush(workers, (now + needs, worker))
    return {"hours": end / 3600, "repeats": repeats, "deaths": deaths}


def simulate() -> int:
    """Play the jobs, and print what they take."""
    for job in JOBS:
        played = [play(job, seed) for seed in range(5)]
        hours, repeats, deaths = (sum(one[name] for one in played) / 5 for name in ("hours", "repeats", "deaths"))
        ideal = job.rows / min(job.server, WORKER * job.workers) / 3600
        print(
            f"{job.rows:>13,} rows, {job.shards:>5,} shards, {job.workers:>3} workers, server {job.server:>7,.0f}/s: "
            f"{hours:6.1f} h (the server alone {ideal:.1f} h), {deaths:4.0f} deaths, {repeats:9,.0f} rows again, "
            f"journals {job.rows * JOURNAL / 1e9:5.1f} GB, {job.workers * (1 / BEAT + 1 / SNAPSHOT):5.1f} writes/s"
        )
    return 0


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--simulate", action="store_true")
    asked = parser.parse_args()
    return simulate() if asked.simulate else compare(asked)


if __name__ == "__main__":
    sys.exit(main())
