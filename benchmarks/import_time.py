"""Measure what ``import altcraft_async`` costs beside ``import aiohttp``, and what it costs until a client is there.

The engine, and aiohttp with it, is loaded with the first client. So there are two numbers: the import alone, which
every program pays that only names the package, and the import with a client made, which has all of it.

Fresh interpreters take turns; each reports the CPU time of its one statement. The
bytecode of all lies in a cache of the benchmark's own, because an installed
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

LIMITS = {"import altcraft_async": 1.0, "with a client made": 1.5}
BASE = "import aiohttp"
STATEMENTS = {
    BASE: "import aiohttp",
    "import altcraft_async": "import altcraft_async",
    "with a client made": "import altcraft_async; altcraft_async.AltcraftClient('https://ru.altkraft.com', 'a-token')",
}
_PROBE = "import time; started = time.process_time(); {statement}; print(time.process_time() - started)"


def _seconds(statement: str, cache: str) -> float:
    command = [sys.executable, "-c", _PROBE.format(statement=statement)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(result.stdout)


def _measured(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as cache:
        for statement in STATEMENTS.values():
            _seconds(statement, cache)  # writes the bytecode, which is not what we measure
        for number in range(rounds):
            names = list(STATEMENTS)
            for name in names if number % 2 else reversed(names):
                times[name].append(_seconds(STATEMENTS[name], cache))
    return times


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure the CPU time of our import, as a ratio to aiohttp's.")
    parser.add_argument("--rounds", type=int, default=25, help="imports of each (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit 1 when a ratio is over its limit")
    options = parser.parse_args()
    times = _measured(options.rounds)
    ratios = {
        name: statistics.median(ours / base for ours, base in zip(times[name], times[BASE], strict=True))
        for name in LIMITS
    }
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    if options.json:
        print(json.dumps({"milliseconds": medians, "ratios": ratios, "limits": LIMITS}))
    else:
        print(f"{BASE:<22} {medians[BASE]:7.1f} ms CPU")
        for name, ratio in ratios.items():
            print(f"{name:<22} {medians[name]:7.1f} ms CPU, ratio {ratio:.2f} (target: at most {LIMITS[name]})")
    return int(options.check and any(ratios[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
