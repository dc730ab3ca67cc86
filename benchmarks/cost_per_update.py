"""Measure the CPU that one update costs us, as a ratio to the loop that a user would write by hand.

What counts is the CPU time of this process (not the wall clock, not the
server's) per update. Each contender takes turns with its baseline, round after
round, and is divided by it *of the same round*, so a slow minute of the machine
cancels out. No other client is open meanwhile, as in a program that has one: with all
of them in one process ours was dearer. The baseline beside itself shows the
noise. The server runs in a second process, on a core of its own where the
machine has two.

    python benchmarks/cost_per_update.py [--quick] [--loop asyncio|uvloop|both] [--only TEXT]
                                         [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import attrs
from contenders import CONTENDERS, Contender, Ids
from raw_server import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Measured", "main"]

WARM_UP = 300
_BY_NAME = {one.name: one for one in CONTENDERS}


@attrs.frozen
class Measured:
    """One contender on one loop: CPU microseconds an update, and its ratio to the baseline (median, quartiles)."""

    name: str
    baseline: str
    microseconds: float
    ratio: float
    low: float
    high: float
    limit: float | None

    @property
    def missed(self) -> bool:
        """Whether the ratio is over its target."""
        return self.limit is not None and self.ratio > self.limit


def _updates(count: int) -> list[Ids]:
    return [(f"order_{number // 4}", f"line_{number}", "delivered") for number in range(count)]


async def _rounds(
    base_url: str, baseline: Contender, contender: Contender, count: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Give the CPU seconds per update of the baseline and of the contender, one number a round."""
    updates = _updates(count)
    async with AsyncExitStack() as stack:
        pair = [
            (one, await stack.enter_async_context(one.opened(base_url)), list[float]()) for one in (baseline, contender)
        ]
        for one, send, _ in pair:
            await send(updates[: max(1, int(WARM_UP * one.share))])
        for number in range(rounds):
            for one, send, cost in pair if number % 2 else reversed(pair):
                part = updates[: max(1, int(count * one.share))]
                gc.collect()
                started = time.process_time()
                await send(part)
                cost.append((time.process_time() - started) / len(part))
        return pair[0][2], pair[1][2]


def _summary(contender: Contender, base: Sequence[float], mine: Sequence[float]) -> Measured:
    ratios = sorted(one / other for one, other in zip(mine, base, strict=True))
    quarter = len(ratios) // 4
    return Measured(
        name=contender.name,
        baseline=contender.baseline,
        microseconds=statistics.median(mine) * 1e6,
        ratio=statistics.median(ratios),
        low=ratios[quarter],
        high=ratios[-1 - quarter],
        limit=contender.limit,
    )


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    import uvloop  # noqa: PLC0415 - only where it was asked for

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def measure(loop: str, contenders: Sequence[Contender], count: int, rounds: int) -> list[Measured]:
    """Run every contender beside its baseline, on one kind of event loop, against a server of the pair's own."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    apart = len(cpus) > 1
    if apart:
        os.sched_setaffinity(0, {cpus[0]})
    rows = []
    try:
        for contender in contenders:
            with (
                running_server(cpu=cpus[1] if apart else None) as port,
                asyncio.Runner(loop_factory=_loop_factory(loop)) as runner,
            ):
                base, mine = runner.run(
                    _rounds(f"http://127.0.0.1:{port}", _BY_NAME[contender.baseline], contender, count, rounds)
                )
            rows.append(_summary(contender, base, mine))
    finally:
        if apart:
            os.sched_setaffinity(0, cpus)
    return rows


def _table(loop: str, rows: Sequence[Measured]) -> str:
    lines = [
        f"{loop}: CPU of the client per update",
        f"  {'contender':<38}{'µs':>8}  {'ratio':>6}  {'quartiles':<14}  target",
    ]
    for row in rows:
        target = "" if row.limit is None else f"≤ {row.limit:.2f} {'MISSED' if row.missed else 'met'}"
        spread = f"{row.low:.2f} to {row.high:.2f}"
        lines.append(f"  {row.name:<38}{row.microseconds:>8.1f}  {row.ratio:>6.3f}  {spread:<14}  {target}".rstrip())
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the CPU per update, as a ratio to a naive aiohttp loop.")
    parser.add_argument("--updates", type=int, default=2000, help="updates a contender sends in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="700 updates, 5 rounds")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], default="both", help="(%(default)s)")
    parser.add_argument("--only", metavar="TEXT", help="only contenders with TEXT in their name")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    if options.quick:
        options.updates, options.rounds = 700, 5
    return options


def main() -> int:
    """Measure, print, and give the exit code."""
    options = _arguments()
    loops = ["asyncio", "uvloop"] if options.loop == "both" else [options.loop]
    chosen = [one for one in CONTENDERS if options.only is None or options.only in one.name]
    results: dict[str, list[Measured]] = {}
    for loop in loops:
        results[loop] = measure(loop, chosen, options.updates, options.rounds)
        if not options.json:
            print(_table(loop, results[loop]), flush=True)
    if options.json:
        about = {"python": platform.python_version(), "aiohttp": aiohttp.__version__}
        print(
            json.dumps(about | {loop: [attrs.asdict(row) for row in rows] for loop, rows in results.items()}, indent=1)
        )
    missed = [
        f"{loop}: {row.name} {row.ratio:.3f} > {row.limit}"
        for loop, rows in results.items()
        for row in rows
        if row.missed
    ]
    if options.check and missed:
        print("targets missed: " + "; ".join(missed), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
