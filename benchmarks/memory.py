"""Measure the peak memory of streaming a short and a ten times longer input.

Each length runs in a fresh interpreter, fed from a generator, against the raw
server; the peak is the operating system's ``ru_maxrss`` of that interpreter.
Flat memory means that the two peaks differ by little, whatever the length.

    python benchmarks/memory.py [--quick] [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from raw_server import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

LIMIT_MB = 10.0


def _updates(count: int) -> Iterator[tuple[str, str, str]]:
    for number in range(count):
        yield f"order_{number // 4}", f"line_{number}", "delivered"


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


async def _stream(port: int, count: int) -> None:
    from altcraft_async import AltcraftClient  # noqa: PLC0415 - only the measured child needs it

    done = 0
    async with AltcraftClient(f"http://127.0.0.1:{port}", "0123456789abcdef") as altcraft:
        async for outcome in altcraft.market.orders.stream_order_line_statuses(_updates(count)):
            if not outcome.ok:
                raise outcome.error or RuntimeError(outcome)
            done += 1
    if done != count:
        msg = f"{done} outcomes for {count} updates"
        raise RuntimeError(msg)


def _child(port: int, count: int, *, use_uvloop: bool) -> None:
    if use_uvloop:
        import uvloop  # noqa: PLC0415 - optional

        uvloop.run(_stream(port, count))
    else:
        asyncio.run(_stream(port, count))
    print(_peak_mb())


def _measure(port: int, count: int, *, use_uvloop: bool) -> float:
    """Give the peak memory in MB of a fresh interpreter that streams `count` updates."""
    command = [sys.executable, __file__, "--child", str(port), str(count), *(["--uvloop"] if use_uvloop else [])]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure peak memory against the length of the input.")
    parser.add_argument("--quick", action="store_true", help="10,000 and 100,000 updates, not 100,000 and 1,000,000")
    parser.add_argument("--uvloop", action="store_true", help="stream on uvloop")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help=f"exit 1 when the difference is over {LIMIT_MB:.0f} MB")
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(*options.child, use_uvloop=options.uvloop)
        return 0
    counts = (10_000, 100_000) if options.quick else (100_000, 1_000_000)
    peaks: dict[int, float] = {}
    with running_server() as port:
        for count in counts:
            started = time.monotonic()
            peaks[count] = _measure(port, count, use_uvloop=options.uvloop)
            if not options.json:
                print(
                    f"{count:>9,} updates: peak {peaks[count]:.1f} MB ({time.monotonic() - started:.0f} s)", flush=True
                )
    more = peaks[counts[1]] - peaks[counts[0]]
    if options.json:
        print(json.dumps({"peak_mb": peaks, "difference_mb": more, "limit_mb": LIMIT_MB}))
    else:
        print(f"difference: {more:+.1f} MB (target: at most {LIMIT_MB:.0f} MB)")
    return 1 if options.check and more > LIMIT_MB else 0


if __name__ == "__main__":
    sys.exit(main())
