"""Measure what ``import altcraft_async`` costs above ``import aiohttp``, which it needs anyway.

Fresh interpreters take turns; each reports the CPU time of its one import. The
bytecode of both lies in a cache of the benchmark's own, because an installed
library has its bytecode beside it, and a checkout perhaps not.

    python benchmarks/import_time.py [--rounds N] [--json] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

__all__ = ["main"]

LIMIT = 1.15
OURS, BASE = "altcraft_async", "aiohttp"
_PROBE = "import time; started = time.process_time(); import {module}; print(time.process_time() - started)"


def _seconds(module: str, cache: str) -> float:
    command = [sys.executable, "-c", _PROBE.format(module=module)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(result.stdout)


def _measured(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {OURS: [], BASE: []}
    with tempfile.TemporaryDirectory() as cache:
        for module in (OURS, BASE):
            _seconds(module, cache)  # writes the bytecode, which is not what we measure
        for number in range(rounds):
            for module in (OURS, BASE) if number % 2 else (BASE, OURS):
                times[module].append(_seconds(module, cache))
    return times


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of our import, as a ratio to aiohttp's.")
    parser.add_argument("--rounds", type=int, default=25, help="pairs of imports (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help=f"exit 1 when the ratio is over {LIMIT}")
    options = parser.parse_args()
    times = _measured(options.rounds)
    ratio = statistics.median(ours / base for ours, base in zip(times[OURS], times[BASE], strict=True))
    medians = {module: statistics.median(values) * 1000 for module, values in times.items()}
    if options.json:
        print(json.dumps({"milliseconds": medians, "ratio": ratio, "limit": LIMIT}))
    else:
        for module, value in medians.items():
            print(f"import {module:<15} {value:7.1f} ms CPU")
        print(f"ratio {ratio:.3f} (target: at most {LIMIT})")
    return 1 if options.check and ratio > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
