"""Measure an outbox: puts a second from many callers at once, how long a put takes, and the bytes of an update.

The file lies in a temporary directory, on a real disk where ``--directory`` says so: a put returns when the
disk has it, so the numbers are those of the disk as much as ours. For comparison the same disk makes one
bare SQLite commit after the other.

    python benchmarks/outbox.py [--quick] [--directory DIR] [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from altcraft_async.outbox import Outbox

__all__ = ["main"]

CALLERS = 200
LEAST_PUTS_A_SECOND = 2000
MOST_P99_MS = 100.0


async def _puts(path: Path, callers: int, count: int) -> tuple[float, list[float]]:
    """Return the seconds for `count` puts by that many callers, and the sorted seconds of each put."""
    taken: list[float] = []
    async with Outbox(path, capacity=count + callers) as outbox:

        async def call(caller: int) -> None:
            for number in range(count // callers):
                begun = time.perf_counter()
                await outbox.put((f"order_{caller}", f"line_{number}", "delivered"))
                taken.append(time.perf_counter() - begun)

        started = time.perf_counter()
        await asyncio.gather(*(call(caller) for caller in range(callers)))
        return time.perf_counter() - started, sorted(taken)


def _bare_commits(path: Path, count: int) -> float:
    """Return the seconds of one SQLite commit, one row each, with the same settings."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE entry (id INTEGER PRIMARY KEY, said TEXT)"
        )
        started = time.perf_counter()
        for _ in range(count):
            connection.execute("INSERT INTO entry (said) VALUES ('order line delivered')")
        return (time.perf_counter() - started) / count


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure the puts of an outbox.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the puts")
    parser.add_argument("--directory", help="where the files are made (default: the system's temporary directory)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    count = 4_000 if options.quick else 40_000
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory, "outbox.db")
        seconds, taken = asyncio.run(_puts(path, CALLERS, count))
        size = path.stat().st_size / count
        alone, _ = asyncio.run(_puts(Path(directory, "alone.db"), 1, count // 40))
        commit = _bare_commits(Path(directory, "bare.db"), count // 40)
    found = {
        "puts_a_second": round(count / seconds),
        "p50_ms": round(taken[len(taken) // 2] * 1e3, 2),
        "p99_ms": round(taken[len(taken) * 99 // 100] * 1e3, 2),
        "one_caller_ms": round(alone / (count // 40) * 1e3, 3),
        "bare_commit_ms": round(commit * 1e3, 3),
        "bytes_an_update": round(size),
    }
    print(json.dumps(found) if options.json else "\n".join(f"{name:<18}{value}" for name, value in found.items()))
    missed = found["puts_a_second"] < LEAST_PUTS_A_SECOND or found["p99_ms"] > MOST_P99_MS
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
