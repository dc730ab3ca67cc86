"""One worker of a group, in a process of its own: it sends lines and prints how many were served when.

python tests/limit_group.py BASE_URL TOKEN SECONDS [SETTING=VALUE …]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

from altcraft_async import AltcraftClient, RetryPolicy, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = 20_000
WINDOW = 64
"""Rows that are sent beyond the end, at most: more than are ever in flight, and no more than a moment's work."""


async def work(base_url: str, token: str, seconds: float, settings: Settings) -> dict[str, object]:
    """Send for so many seconds."""
    served: dict[int, int] = {}
    begin, processes = time.monotonic(), 1
    retry = RetryPolicy(attempts=50)
    limits = {"concurrency": settings.concurrency, "rate": settings.rate}
    async with AltcraftClient(base_url, token, retry=retry, retry_budget=None, allow_insecure=True, **limits) as client:

        def lines() -> Iterator[tuple[str, str, str]]:
            for number in range(10**9):
                if time.monotonic() > begin + seconds:
                    return
                yield f"order_{number % NUMBERS}", "1", "delivered"

        async for outcome in client.market.orders.stream_order_line_statuses(lines(), window=WINDOW):
            if outcome.ok:
                bucket = int(time.monotonic() * 10)
                served[bucket] = served.get(bucket, 0) + 1
                if served[bucket] == 1:
                    processes = max(processes, client.statistics().processes)
        seen = client.statistics()
    return {
        "served": served,
        "sent": seen.sent,
        "throttled": seen.throttled,
        "processes": processes,
        "doing": seen.doing,
    }


if __name__ == "__main__":
    settings = Settings.parse(dict(given.split("=") for given in sys.argv[4:]))
    sys.stdout.write(json.dumps(asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3]), settings))))
