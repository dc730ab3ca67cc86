"""Let 500 handlers share one client for a while, as a web service would, and look for what grows.

Three parts, against a sandbox in a process of its own:

1. **p99.** Handlers call at a steady rate, by turns through a bare ``aiohttp.ClientSession`` and through ours, without
   faults; what counts is the ratio of the 99th percentiles of the same run.
2. **Leaks.** The same with faults for ``--seconds``: open files, tasks, memory and permits are looked at twice a
   second, and what is told is how fast each grows (a straight line fitted through the second half).
3. **Cancellations.** A hundred calls a second are cancelled; the others must not fail, nor get slower.

    python benchmarks/soak.py [--seconds 30] [--quick] [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import aiohttp
import attrs

from altcraft_async import AltcraftClient, DeliveryError, RetryPolicy
from altcraft_async.sandbox import Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

__all__ = ["main"]

HANDLERS = 500
PAUSE = 0.5
"""Mean seconds of a handler's other work between two calls: a thousand calls a second in all."""
LATENCY = 0.02
FAULTS = Faults.mixed(0.05, latency=LATENCY, jitter=0.5)
CALM = Faults(latency=LATENCY, jitter=0.5)
PATH = "/api/v1.1/market/orders/update_order_line_status"

Call: TypeAlias = "Callable[[str, str], Awaitable[None]]"
LIMITS = {"p99": 1.15, "files": 0.5, "tasks": 0.5, "mb": 0.2, "cancelled p99": 1.15}
"""The highest ratios, and growth a second, that are allowed."""


@attrs.define
class Load:
    """What the handlers have seen: the seconds of each call that succeeded, and the calls that failed."""

    taken: list[float] = attrs.Factory(list)
    failed: int = 0
    cancelled: int = 0

    @property
    def p99(self) -> float:
        """The 99th percentile, in seconds."""
        return statistics.quantiles(self.taken, n=100)[98]


async def _serve(pipe: Connection, faults: Faults) -> None:
    async with Sandbox(faults=faults, seed=1) as sandbox:
        sandbox.seed_orders(HANDLERS)
        pipe.send((sandbox.base_url, sandbox.token))
        await asyncio.to_thread(pipe.recv)


@contextmanager
def _sandbox(faults: Faults) -> Iterator[tuple[str, str]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_server, args=(there, faults), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(5)


def _run_server(pipe: Connection, faults: Faults) -> None:
    asyncio.run(_serve(pipe, faults))


async def _handle(number: int, call: Call, load: Load, until: float, chance: random.Random) -> None:
    """Be one handler: some other work, a call, and so on."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(chance.uniform(0, PAUSE))
    while loop.time() < until:
        started = loop.time()
        try:
            await call(f"order_{number}", f"line_{number}_1")
        except (DeliveryError, aiohttp.ClientError):
            load.failed += 1
        except asyncio.CancelledError:
            load.cancelled += 1
            if getattr(asyncio.current_task(), "cancelling")() > 1:  # noqa: B009 - of 3.11
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        else:
            load.taken.append(loop.time() - started)
        await asyncio.sleep(chance.expovariate(1 / PAUSE))


async def _load(call: Call, seconds: float, *, cancellations: float = 0.0) -> Load:
    """Let the handlers run for some seconds, and cancel so many of their calls a second."""
    load, chance = Load(), random.Random(1)
    until = asyncio.get_running_loop().time() + seconds
    calls: set[asyncio.Task[None]] = set()

    async def in_a_task(order: str, line: str) -> None:
        task = asyncio.ensure_future(call(order, line))
        calls.add(task)
        try:
            await task
        finally:
            calls.discard(task)

    async def cancel() -> None:
        due = asyncio.get_running_loop().time()
        while cancellations:
            due += 1 / cancellations
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            while not calls:  # noqa: ASYNC110 - there is one again in a moment
                await asyncio.sleep(0.001)
            chance.choice(tuple(calls)).cancel()

    canceller = asyncio.ensure_future(cancel())
    await asyncio.gather(*(_handle(n, in_a_task, load, until, chance) for n in range(1, HANDLERS + 1)))
    canceller.cancel()
    with suppress(asyncio.CancelledError):
        await canceller
    return load


def _bare(session: aiohttp.ClientSession, base_url: str, token: str) -> Call:
    async def call(order: str, line: str) -> None:
        fields = {"token": token, "order_external_id": order, "order_line_external_id": line}
        async with session.post(
            base_url + PATH,
            json={**fields, "status_external_id": "delivered"},
            headers={"Request-ID": str(uuid4())},  # else the sandbox would take equal changes for repeats
        ) as answer:
            await answer.json()

    return call


def _ours(client: AltcraftClient) -> Call:
    async def call(order: str, line: str) -> None:
        await client.market.orders.update_order_line_status(order, line, "delivered", deadline=10.0)

    return call


@attrs.frozen
class _Look:
    at: float
    files: int
    tasks: int
    mb: float


async def _watch(looks: list[_Look]) -> None:
    with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: ASYNC230, PTH123 - no disk behind it
        while True:
            statm.seek(0)
            pages = int(statm.read().split()[1])
            mb = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            looks.append(_Look(time.monotonic(), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), mb))  # noqa: PTH208
            await asyncio.sleep(0.5)


def _growth(looks: list[_Look], what: str, seconds: float) -> float:
    """Fit a line through the second half of the time; return how much there is more each second."""
    begun = looks[0].at
    half = [look for look in looks if seconds / 2 < look.at - begun < seconds]
    return statistics.linear_regression([one.at for one in half], [getattr(one, what) for one in half]).slope


async def _p99(seconds: float) -> dict[str, float]:
    ratios, ours, bare = [], [], []
    with _sandbox(CALM) as (base_url, token):
        async with (
            AltcraftClient(base_url, token) as client,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            await _load(_ours(client), seconds / 2)
            await _load(_bare(session, base_url, token), seconds / 2)
            for _ in range(3):
                gc.collect()
                bare.append((await _load(_bare(session, base_url, token), seconds)).p99)
                gc.collect()
                ours.append((await _load(_ours(client), seconds)).p99)
                ratios.append(ours[-1] / bare[-1])
    return {"p99": statistics.median(ratios), "ours ms": min(ours) * 1e3, "bare ms": min(bare) * 1e3}


async def _leaks(seconds: float) -> dict[str, float]:
    looks: list[_Look] = []
    with _sandbox(FAULTS) as (base_url, token):
        async with AltcraftClient(base_url, token, retry=RetryPolicy(base=0.05)) as client:
            watcher = asyncio.ensure_future(_watch(looks))
            load = await _load(_ours(client), seconds)
            watcher.cancel()
            left = client.statistics()
    return {
        "calls": len(load.taken),
        "failed": load.failed,
        "retries": left.retries,
        "permits left": left.in_flight + left.waiting,
        **{what: _growth(looks, what, seconds) for what in ("files", "tasks", "mb")},
    }


async def _cancellations(seconds: float) -> dict[str, float]:
    ratios, failed, cancelled = [], 0, 0
    with _sandbox(CALM) as (base_url, token):
        async with AltcraftClient(base_url, token) as client:
            await _load(_ours(client), seconds / 2)
            for _ in range(3):
                calm = await _load(_ours(client), seconds)
                load = await _load(_ours(client), seconds, cancellations=100.0)
                ratios.append(load.p99 / calm.p99)
                failed += load.failed + calm.failed
                cancelled += load.cancelled
            permits = client.statistics().in_flight
    return {
        "cancelled p99": statistics.median(ratios),
        "cancelled a second": cancelled / (3 * seconds),
        "others failed": failed,
        "permits left after": permits,
    }


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Let 500 handlers share one client, and look for what grows.")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long leaks are looked for (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a sixth of the time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    seconds = options.seconds / 6 if options.quick else options.seconds
    found: dict[str, float] = {}
    for part in (_p99(seconds / 5), _leaks(seconds), _cancellations(seconds / 5)):
        found |= asyncio.run(part)
    missed = [name for name, limit in LIMITS.items() if found[name] > limit]
    missed += [name for name in ("failed", "permits left", "others failed", "permits left after") if found[name]]
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))
    else:
        for name, value in found.items():
            print(f"{name:<20}{value:>12.3f}{'  MISSED' if name in missed else ''}")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
