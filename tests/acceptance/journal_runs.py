"""Runs with a journal, each in a process of its own that may be killed; what the tests talk to is the parent of them.

One JSON object a line comes in for each run, and one goes out when it has ended. The runs are forked, so that a kill
costs milliseconds. A run updates lines, or imports orders where it has a ``batch_size``. It writes to its log, at once
and unbuffered, the ``Request-ID`` of every first attempt it begins (``S``) and of every outcome that it was handed
(``D``).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from altcraft_async import AltcraftClient, RetryPolicy
from altcraft_async.engine import notifier  # noqa: F401 - loaded before the fork
from altcraft_async.journal import recorder
from altcraft_async.observe import AttemptEnded, AttemptStarted
from altcraft_async.storage import sqlite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from altcraft_async import Outcome
    from altcraft_async.observe import Event

STATUSES = ("new", "processing", "delivering", "delivered", "canceled", "refunded")


def updates_of(count: int, lines: int, seed: int) -> list[tuple[str, str, str]]:
    """Make the same updates again and again."""
    chance = random.Random(seed)
    keys = [(f"order_{number}", f"line_{number}_1") for number in range(1, lines + 1)]
    return [(*chance.choice(keys), chance.choice(STATUSES)) for _ in range(count)]


def orders_of(count: int, orders: int, seed: int) -> list[dict[str, Any]]:
    """Make the same orders again and again, some of them more than once, each time saying something else."""
    chance = random.Random(seed)
    return [
        {
            "external_id": f"order_{chance.randrange(orders)}",
            "email": "somebody@example.com",
            "endpoint": "shop",
            "status": "new",
            "total_price": "300.00",
            "currency": "RUB",
            "tags": [f"version {number}"],
            "lines": [{"external_id": f"line_{place}", "product": "p", "count": 1} for place in range(3)],
        }
        for number in range(count)
    ]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Watch:
    """Writes the log, and ends the process at the chosen attempt."""

    def __init__(self, log: int, point: str, number: int) -> None:
        self.log, self.point, self.number = log, point, number
        self.seen = dict.fromkeys(("started", "answered"), 0)

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, AttemptStarted):
            if event.attempt == 1:
                os.write(self.log, f"S {event.request_id}\n".encode())
            self._count("started")
        elif isinstance(event, AttemptEnded):
            self._count("answered")

    def _count(self, point: str) -> None:
        self.seen[point] += 1
        if self.point == point and self.seen[point] == self.number:
            die()


def die_at_a_commit(point: str, number: int) -> None:
    """End the process around the n-th commit: before it, with everything written, or before anybody is told."""
    commit, count = sqlite.GroupWriter._commit, 0

    def committing(writer: Any, group: Any) -> None:
        nonlocal count
        count += 1
        if count == number and point == "before commit":
            die()
        if count == number and point == "inside commit":
            write = writer._write
            writer._write = lambda *given: (write(*given), die())
        commit(writer, group)
        if count == number and point == "after commit":
            die()

    sqlite.GroupWriter._commit = committing  # type: ignore[method-assign]


def die_at_the_start(point: str) -> None:
    begin = recorder.Journal._begin

    def beginning(self: Any, connection: Any) -> Any:
        if point == "empty file":
            die()
        result = begin(self, connection)
        if point == "run recorded":
            die()
        return result

    recorder.Journal._begin = beginning  # type: ignore[method-assign]


async def run(spec: dict[str, Any], log: int) -> None:
    point, number = spec.get("point", ""), spec.get("number", 0)
    if point.endswith("commit"):
        die_at_a_commit(point, number)
    if point in {"empty file", "run recorded"}:
        die_at_the_start(point)
    given = spec["count"], spec["lines"], spec["seed"]
    client = AltcraftClient(
        spec["base_url"],
        spec["token"],
        concurrency=spec.get("concurrency", 16),
        retry=RetryPolicy(attempts=20, base=0.01, max_delay=0.2),
        retry_budget=None,
        observers=[Watch(log, point, number)],
    )
    async with client:
        orders, kept = client.market.orders, spec["journal"]
        outcomes: AsyncIterator[Outcome[object]] = (
            orders.stream_import_orders(orders_of(*given), batch_size=spec["batch_size"], journal=kept)
            if "batch_size" in spec
            else orders.stream_order_line_statuses(updates_of(*given), journal=kept)
        )
        async for outcome in outcomes:
            os.write(log, f"D {outcome.request_id}\n".encode())
            if not outcome.ok:
                raise outcome.error or RuntimeError(outcome)


def kill_after(pid: int, seconds: float) -> None:
    time.sleep(seconds)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    for line in sys.stdin:
        spec = json.loads(line)
        pid = os.fork()
        if not pid:
            log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            asyncio.run(run(spec, log))
            os._exit(0)
        if "after" in spec:
            threading.Thread(target=kill_after, args=(pid, spec["after"]), daemon=True).start()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
