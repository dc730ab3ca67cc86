"""What reading an input costs: CPU per row and peak memory, for a million rows of each kind.

    python benchmarks/reading.py [--rows N] [--kind plain] [--check]

The CPU is that of the reader alone, with its rows kept and taken as ``sync`` does it. The memory is the
growth of the process's peak over the reading, each kind in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from altcraft_async.ingest import read_updates

HEADER = "order_external_id,order_line_external_id,status_external_id,note"
ROWS = {
    "plain": "order_{0},line_{0}_1,delivered,some note",
    "quoted": '"order_{0}","line_{0}_1","delivered","some note"',
    "mixed": 'order_{0},line_{0}_1,delivered,"some, note"',
    "several lines": 'order_{0},line_{0}_1,delivered,"some\nnote"',
    "parquet": "",
    "arrow": "",
    "json lines": '{{"order_external_id": "order_{0}", "order_line_external_id": "line_{0}_1", '
    '"status_external_id": "delivered"}}',
}
NAMES = {"json lines": "in.jsonl", "parquet": "in.parquet", "arrow": "in.arrow"}
GROWTH_MB = 8
"""The target: memory does not grow with the input."""


def write(kind: str, rows: int, path: Path) -> None:
    """Write an input of that many rows."""
    if kind in {"parquet", "arrow"}:
        write_columns(rows, path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind != "json lines":
            file.write(f"{HEADER}\n")
        row = ROWS[kind] + "\n"
        file.writelines(row.format(number) for number in range(rows))


def write_columns(rows: int, path: Path) -> None:
    """Write the same rows as columns, to Parquet or Arrow, in groups as large as those that tools write by default."""
    import pyarrow as pa  # noqa: PLC0415 - not in the process that measures
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns = {
        "order_external_id": [f"order_{number}" for number in range(rows)],
        "order_line_external_id": [f"line_{number}_1" for number in range(rows)],
        "status_external_id": ["delivered"] * rows,
        "note": ["some note"] * rows,
    }
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=65_536)


def measure(path: Path) -> dict[str, float]:
    """Read an input once; return microseconds a row, and how many megabytes the peak has grown."""
    with read_updates(path, keep_rows=True) as reader:
        rows = iter(reader)
        for index in range(1000):
            next(rows)
            reader.take_row(index)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        for index, _ in enumerate(rows, 1000):
            reader.take_row(index)
        spent = time.process_time() - started
        count = reader.rows_read - 1000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"us_per_row": round(spent / count * 1e6, 2), "grown_mb": round(grown / 1024, 1)}


def main() -> int:
    """Measure, print, and with ``--check`` say by the exit code whether memory is flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=ROWS)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None:
        print(json.dumps(measure(asked.measure)))
        return 0
    flat = True
    for kind in [asked.kind] if asked.kind else ROWS:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, NAMES.get(kind, "in.csv"))
            write(kind, asked.rows, path)
            command = [sys.executable, __file__, "--measure", str(path)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{kind:<14} {found['us_per_row']:6.2f} µs a row, memory grown by {found['grown_mb']:.1f} MB")
        flat = flat and found["grown_mb"] <= GROWTH_MB
    return 0 if flat or not asked.check else 1


if __name__ == "__main__":
    sys.exit(main())
