"""Measure how soon a run that is nearly done goes on: the real command, over a CSV and its journal.

First 99 % of the rows are sent by ``altcraft-async sync --journal … --sample …``, against a server that
answers at once. Then the command runs again without the bound, and the time until its first request arrives
is taken, with its start-up; what it has done before it must read and skip by then. The peak is the
operating system's ``ru_maxrss`` of all these processes.

    python benchmarks/resume.py [--quick] [--rows N] [--directory DIR] [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import attrs
from raw_server import Connection

__all__ = ["main"]

MOST_SECONDS = 5.0
MOST_MB = 100.0


class _Watched(Connection):
    """A connection that notes when the first request came."""

    __slots__ = ()
    first: float | None = None

    def data_received(self, data: bytes) -> None:
        """Note the time of the first."""
        if _Watched.first is None:
            _Watched.first = time.monotonic()
        super().data_received(data)


@attrs.frozen
class _Run:
    """How one run of the command went, in seconds."""

    until_first_request: float
    elapsed: float


async def _sync(base_url: str, *arguments: str) -> _Run:
    environ = {**os.environ, "ALTCRAFT_BASE_URL": base_url, "ALTCRAFT_TOKEN": "0123456789abcdef"}
    _Watched.first = None
    started = time.monotonic()
    command = [sys.executable, "-m", "altcraft_async", "sync", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode or _Watched.first is None:
        raise RuntimeError(said.decode())
    return _Run(_Watched.first - started, time.monotonic() - started)


async def _measure(directory: Path, rows: int) -> tuple[_Run, int]:
    """Give the run that goes on, and the bytes of its journal."""
    source, journal = directory / "updates.csv", directory / "run.journal"
    with source.open("w") as file:
        file.write("order_external_id,order_line_external_id,status_external_id,customer\n")
        file.writelines(f"order_{n // 4},line_{n},delivered,Customer number {n}\n" for n in range(rows))
    server = await asyncio.get_running_loop().create_server(lambda: _Watched(0.0), "127.0.0.1", 0, backlog=1024)
    async with server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        files = (str(source), "--journal", str(journal))
        await _sync(base_url, *files, "--sample", str(rows * 99 // 100), "--concurrency", "64")
        return await _sync(base_url, *files), journal.stat().st_size


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure how soon a run with a journal goes on.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many the file has (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="100,000 rows")
    parser.add_argument("--directory", help="where the files are made (default: the system's temporary directory)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    rows = 100_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        run, size = asyncio.run(_measure(Path(directory), rows))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found = {
        "rows": rows,
        "seconds_until_first_request": round(run.until_first_request, 2),
        "seconds_in_all": round(run.elapsed, 2),
        "peak_mb": round(peak, 1),
        "journal_bytes_a_row": round(size / rows, 1),
    }
    print(json.dumps(found) if options.json else "\n".join(f"{name:<29}{value}" for name, value in found.items()))
    missed = found["seconds_until_first_request"] > MOST_SECONDS or found["peak_mb"] > MOST_MB
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
