"""Measure what an import costs: CPU per order against a hand-written loop, and peak memory by setting.

The hand-written loop takes the same orders from the same generator, 500 at a time,
posts them with ``json=``, four calls side by side, reads each answer and checks its
``error``. It retries nothing, keeps no order of an order's imports, and has no outcome a
row. The two take turns, and each round of ours is divided by the loop's of the same round.

Memory is the operating system's peak of a fresh interpreter for each length and setting, fed from a generator.

    python benchmarks/imports.py [--quick] [--orders N] [--rounds N] [--plain] [--memory] [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from raw_server import running_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["main"]

TOKEN = "0123456789abcdef0123456789abcdef"
IN_FLIGHT = 4
ROWS = 500
LIMIT = 0.9
LIMIT_PLAIN = 1.3
"""Without orjson both sides spend half of their time in the standard library's JSON, which leaves less to save."""
LIMIT_MB = 10.0
_BATCHES = 10
SETTINGS: tuple[dict[str, int], ...] = (
    {},
    {"batch_size": 100},
    {"batch_size": 2000},
    {"window_bytes": 2_000_000},
    {"window_bytes": 32_000_000},
    {"batch_size": 5000, "batch_bytes": 4_000_000, "window_bytes": 32_000_000},
)


def orders(count: int) -> Iterator[dict[str, object]]:
    """Make orders of three lines, as a program makes them of its own records."""
    for number in range(count):
        yield {
            "external_id": f"order_{number}",
            "matching": "email",
            "email": f"customer_{number}@example.com",
            "endpoint": "shop",
            "status": "new",
            "total_price": "449.70",
            "currency": "RUB",
            "create_time": "2026-01-02T15:04:05.141Z",
            "lines": [
                {
                    "external_id": f"line_{number}_{place}",
                    "product": f"product_{number % 977 + place}",
                    "status": "new",
                    "base_price_per_item": "149.90",
                    "final_price_per_item": "149.90",
                    "count": 1,
                }
                for place in (1, 2, 3)
            ],
        }


async def _by_hand(base_url: str, count: int) -> None:
    import aiohttp  # noqa: PLC0415 - only where it is measured

    url = f"{base_url}/api/v1.1/market/orders/import"
    rows = orders(count)
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            while batch := list(itertools.islice(rows, ROWS)):
                async with session.post(url, json={"token": TOKEN, "skip_triggers": True, "data": batch}) as response:
                    answer = await response.json()
                    if answer["error"] != 0:
                        raise RuntimeError(answer)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def _ours(base_url: str, count: int, **settings: int) -> None:
    from altcraft_async import AltcraftClient  # noqa: PLC0415 - only where it is measured

    done = 0
    async with AltcraftClient(base_url, TOKEN) as altcraft:
        outcomes = altcraft.market.orders.stream_import_orders(orders(count), skip_triggers=True, **settings)  # type: ignore[arg-type]
        async for outcome in outcomes:
            if not outcome.ok:
                raise outcome.error or RuntimeError(outcome)
            done += 1
    if done != count:
        msg = f"{done} outcomes for {count} orders"
        raise RuntimeError(msg)


def _cost(way: Callable[[str, int], Awaitable[None]], base_url: str, count: int) -> float:
    """Give the CPU microseconds of one order."""

    async def run() -> float:
        gc.collect()
        started = time.process_time()
        await way(base_url, count)
        return time.process_time() - started

    return asyncio.run(run()) / count * 1e6


def _cpu(count: int, rounds: int) -> dict[str, float]:
    """Measure both ways in turns, on a core of their own where there are two."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    apart = len(cpus) > 1
    if apart:
        os.sched_setaffinity(0, {cpus[0]})
    with running_server(cpu=cpus[1] if apart else None) as port:
        base_url = f"http://127.0.0.1:{port}"
        for way in (_by_hand, _ours):
            _cost(way, base_url, 2000)
        pairs = []
        for number in range(rounds):
            first, second = (_by_hand, _ours) if number % 2 else (_ours, _by_hand)
            cost = {way: _cost(way, base_url, count) for way in (first, second)}
            pairs.append((cost[_ours], cost[_by_hand]))
    ratios = sorted(ours / by_hand for ours, by_hand in pairs)
    return {
        "ours_us": statistics.median(ours for ours, _ in pairs),
        "by_hand_us": statistics.median(by_hand for _, by_hand in pairs),
        "ratio": statistics.median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[-1 - len(ratios) // 4],
    }


def _has_orjson() -> bool:
    try:
        import orjson  # noqa: F401, PLC0415 - only to see whether it can be
    except ImportError:
        return False
    return True


def _peak_mb() -> float:
    if sys.platform == "linux":  # where ru_maxrss of a child begins with what its parent held
        with Path("/proc/self/status").open() as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _memory(port: int, count: int, settings: dict[str, int]) -> float:
    command = [sys.executable, __file__, "--child", str(port), str(count), json.dumps(settings)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _memories(counts: tuple[int, int]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with running_server(delay=0.02) as port:
        for settings in SETTINGS:
            few = max(counts[0], _BATCHES * settings.get("batch_size", ROWS))  # as many are held at once
            peaks = [_memory(port, count, settings) for count in (few, counts[1])]
            rows.append({"settings": settings, "few": few, "peaks_mb": peaks, "more_mb": peaks[1] - peaks[0]})
    return rows


def _table(found: dict[str, object], counts: tuple[int, int]) -> str:
    cpu, memory = found.get("cpu"), found.get("memory")
    lines = []
    if isinstance(cpu, dict):
        lines.append(
            f"CPU per order of three lines: ours {cpu['ours_us']:.1f} µs, by hand {cpu['by_hand_us']:.1f} µs, "
            f"ratio {cpu['ratio']:.3f} ({cpu['low']:.2f} to {cpu['high']:.2f}), target ≤ {cpu['limit']}"
        )
    if isinstance(memory, list):
        lines.append(f"Peak memory of {counts[0]:,} (or ten batches) and {counts[1]:,} orders from a generator:")
        for row in memory:
            said = ", ".join(f"{name}={value:,}" for name, value in row["settings"].items()) or "defaults"
            first, second = row["peaks_mb"]
            lines.append(f"  {said:<72}{first:>7.1f} MB {second:>7.1f} MB  {row['more_mb']:+.1f}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure CPU per imported order, and peak memory.")
    parser.add_argument("--quick", action="store_true", help="10,000 orders, 5 rounds")
    parser.add_argument("--orders", type=int, help="orders a round (100,000)")
    parser.add_argument("--rounds", type=int, help="rounds (5)")
    parser.add_argument("--plain", action="store_true", help="without orjson, as without the extra speed")
    parser.add_argument("--memory", action="store_true", help="peak memory by setting too (a minute)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--child", nargs=3, metavar="X", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        sys.modules["orjson"] = None  # type: ignore[assignment]
    if options.child:
        port, count, settings = options.child
        asyncio.run(_ours(f"http://127.0.0.1:{port}", int(count), **json.loads(settings)))
        print(_peak_mb())
        return 0
    count, rounds = options.orders or (10_000 if options.quick else 100_000), options.rounds or 5
    counts = (count // 10, count)
    found: dict[str, object] = {"orders": count}
    found["cpu"] = cpu = _cpu(count, rounds)
    cpu["limit"] = LIMIT if _has_orjson() else LIMIT_PLAIN
    missed = cpu["ratio"] > cpu["limit"]
    if options.memory:
        found["memory"] = memory = _memories(counts)
        missed |= any(float(str(row["more_mb"])) > LIMIT_MB for row in memory)
    print(json.dumps(found) if options.json else _table(found, counts))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
