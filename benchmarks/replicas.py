"""Measure a fleet: replicas that all put and deliver through one outbox on PostgreSQL, and take over from each other.

Each replica is a process with a client and an outbox. The sandbox answers after 20 ms and writes down what arrives. For
each number of replicas: how the deliveries were divided, whether each line kept its order and nothing was lost or
made twice, and how many seconds it took until updates of a hundred orders were applied that were put when all was calm,
when one was killed, and when one got SIGTERM. The lease is 3 seconds: a killed one's buckets are free when it ends.

With ``--total`` all share a known limit of calls in flight, ``Shared(N, among="drainers")``; the sandbox says how many
there were at most, also while one is killed, one joins and one leaves.

    python benchmarks/replicas.py [--replicas 2,4,8] [--updates N] [--total N] [--url URL] [--json] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time

from outbox import database

from altcraft_async import Adaptive, AltcraftClient, Shared
from altcraft_async.outbox import Outbox, PostgresStore
from altcraft_async.sandbox import Faults, ThreadedSandbox

__all__ = ["main"]

LEASE, MOST_AFTER_KILL, MOST_AFTER_TERM = 3.0, 5.0, 2.0
LEAST_JAIN, MOST_OF_TOTAL = 0.95, 1.05
ORDERS, PROBES = 400, 100
COLUMNS = (
    "replicas", "updates a second", "Jain's index", "ledger", "calm", "after SIGKILL", "a new one has its share",
    "after SIGTERM", "most in flight",
)  # fmt: skip
_TOKEN = "replica-token"


def _store(url: str, schema: str) -> PostgresStore:
    return PostgresStore(url, schema=schema, lease=LEASE, capacity=1_000_000)


async def _replica(  # noqa: PLR0913 - what its parent tells it
    url: str, schema: str, base_url: str, *, orders: range, updates: int, total: int
) -> None:
    """Deliver, and do what stdin asks for: ``put`` so many updates, or ``say`` how many were delivered here.

    SIGTERM ends it.
    """
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)

    async def put(outbox: Outbox, order: int) -> None:
        for number in range(updates // len(orders)):
            await outbox.put((f"order_{order}", f"line_{order}_1", f"s{number}"))

    async def answer(outbox: Outbox) -> None:
        while asking := await asked.readline():
            if asking == b"put\n":
                await asyncio.gather(*(put(outbox, order) for order in orders))
            print(outbox.statistics().delivered, flush=True)

    concurrency = Shared(total, among="drainers") if total else Adaptive()
    client = AltcraftClient(base_url, _TOKEN, concurrency=concurrency)
    async with client as altcraft, Outbox(_store(url, schema), altcraft) as outbox:
        answering = asyncio.create_task(answer(outbox))
        loop.add_signal_handler(signal.SIGTERM, end.set)
        await end.wait()
        answering.cancel()


class _Fleet:
    """The replicas of one measurement, as its parent sees them."""

    def __init__(self, url: str, sandbox: ThreadedSandbox, count: int, updates: int, total: int) -> None:
        self._schema = f"replicas_{count}"
        self._url, self._sandbox, self._total = url, sandbox, total
        each = ORDERS // count
        self._updates = updates // count // each * each
        self._replicas = [self._start(range(number * each + 1, (number + 1) * each + 1)) for number in range(count)]
        self._sent: dict[int, list[str]] = {
            order: [f"s{number}" for number in range(self._updates // each)] for order in range(1, each * count + 1)
        }

    def _start(self, orders: range) -> subprocess.Popen[str]:
        arguments = ["--replica", self._url, self._schema, self._sandbox.base_url, f"{orders.start}-{orders.stop}"]
        return subprocess.Popen(
            [sys.executable, __file__, *arguments, "--updates", str(self._updates),
             "--total", str(self._total)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    async def measure(self) -> dict[str, object]:
        """Let all put and deliver, end one and then another."""
        count, replicas = len(self._replicas), self._replicas
        async with Outbox(_store(self._url, self._schema)) as outbox:
            await self._shared()
            began = time.perf_counter()
            for replica in replicas:
                _ask(replica, "put")
            await self._all_applied()
            seconds = time.perf_counter() - began
            for replica in replicas:
                _hear(replica)
                _ask(replica, "say")
            delivered = [_hear(replica) for replica in replicas]
            calm = await self._applied_after(outbox, replicas[0], None)
            after_kill = await self._applied_after(outbox, replicas[0], signal.SIGKILL)
            replicas[0].communicate()
            began = time.perf_counter()
            replicas[0] = self._start(range(1, 1))
            await self._shared()
            joined = time.perf_counter() - began
            after_term = await self._applied_after(outbox, replicas[1], signal.SIGTERM)
        check = self._sandbox.check(
            (f"order_{order}", f"line_{order}_1", status) for order, sent in self._sent.items() for status in sent
        )
        return {
            "replicas": count, "a_second": round(count * self._updates / seconds), "jain": round(_jain(delivered), 3),
            "ledger": "clean" if check.ok else str(check), "calm_s": round(calm, 1),
            "after_kill_s": round(after_kill, 1), "joined_s": round(joined, 1), "after_term_s": round(after_term, 1),
            "most_in_flight": self._sandbox.ledger.peak_in_flight,
        }  # fmt: skip

    async def _shared(self) -> None:
        """Wait until each of the replicas has its share."""
        store, count = _store(self._url, self._schema), len(self._replicas)
        try:
            while True:
                held = sorted(seen.buckets for seen in await store.drainers() if seen.buckets)
                if len(held) == count and sum(held) == store.buckets and held[-1] - held[0] <= store.buckets % count:
                    return
                await asyncio.sleep(0.05)
        finally:
            await store.aclose()

    async def _all_applied(self) -> None:
        ledger = self._sandbox.ledger
        for order, sent in self._sent.items():
            while len(ledger.changes(f"order_{order}", f"line_{order}_1")) < len(sent):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    async def _applied_after(self, outbox: Outbox, replica: subprocess.Popen[str], number: int | None) -> float:
        """Send a signal, put an update for some orders, and return the seconds until all are applied."""
        if number is not None:
            replica.send_signal(number)
        began = time.perf_counter()
        asked = []
        for order in range(1, len(self._sent) + 1, len(self._sent) // PROBES):
            self._sent[order].append(f"after{number}")
            asked.append(outbox.put((f"order_{order}", f"line_{order}_1", f"after{number}")))
        await asyncio.gather(*asked)
        await self._all_applied()
        return time.perf_counter() - began

    def close(self) -> None:
        """Leave nobody behind."""
        for replica in self._replicas:
            replica.kill()
            replica.communicate()


def _ask(replica: subprocess.Popen[str], what: str) -> None:
    assert replica.stdin is not None
    replica.stdin.write(f"{what}\n")
    replica.stdin.flush()


def _hear(replica: subprocess.Popen[str]) -> int:
    assert replica.stdout is not None
    return int(replica.stdout.readline())


def _jain(values: list[int]) -> float:
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def _missed(found: dict[str, object], total: int) -> bool:
    if total and int(str(found["most_in_flight"])) > MOST_OF_TOTAL * total:
        return True
    late = float(str(found["after_kill_s"])) > MOST_AFTER_KILL or float(str(found["after_term_s"])) > MOST_AFTER_TERM
    return late or found["ledger"] != "clean" or float(str(found["jain"])) < LEAST_JAIN


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure replicas that share an outbox.")
    parser.add_argument("--replicas", default="2,4,8", help="how many, one after the other (%(default)s)")
    parser.add_argument("--updates", type=int, default=8000, help="put and delivered in each (%(default)s)")
    parser.add_argument("--total", type=int, default=0, help="calls in flight for all together (default: adaptive)")
    parser.add_argument("--url", help="a PostgreSQL to measure with (default: a fresh cluster)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--replica", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replica:
        url, schema, base_url, orders = options.replica
        own = range(*map(int, orders.split("-")))
        asyncio.run(_replica(url, schema, base_url, orders=own, updates=options.updates, total=options.total))
        return 0
    missed = False
    statuses = [f"after{number}" for number in (None, int(signal.SIGKILL), int(signal.SIGTERM))]
    statuses += [f"s{number}" for number in range(options.updates)]
    with database(options.url) as url:
        if url is None:
            parser.error("PostgreSQL is not installed: give --url")
        if not options.json:
            print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for count in map(int, options.replicas.split(",")):
            with ThreadedSandbox(token=_TOKEN, custom_statuses=statuses, faults=Faults(latency=0.02)) as sandbox:
                sandbox.seed_orders(ORDERS)
                fleet = _Fleet(url, sandbox, count, options.updates, options.total)
                try:
                    found = asyncio.run(fleet.measure())
                finally:
                    fleet.close()
            missed = missed or _missed(found, options.total)
            print(json.dumps(found) if options.json else f"| {' | '.join(map(str, found.values()))} |", flush=True)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
