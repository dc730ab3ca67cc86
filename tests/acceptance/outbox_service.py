"""A small service for the tests to kill: it puts numbered statuses into an outbox that it delivers itself.

Arguments: the outbox file, the URL and token of the platform, and the number to begin with. Each line has a
putter of its own; a number is printed once its put has returned, and a line of the input ends the service.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from altcraft_async import AltcraftClient
from altcraft_async.outbox import Outbox

LINES = 8


async def main(path: str, base_url: str, token: str, first: int) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def watch() -> None:
        sys.stdin.readline()
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=watch, daemon=True).start()
    numbers = iter(range(first, 1_000_000))

    async def put_one_after_the_other(outbox: Outbox, line: int) -> None:
        for number in numbers:
            await outbox.put((f"order_{line}", f"line_{line}_1", f"s{number}"))
            os.write(1, f"{line} {number}\n".encode())
            if done.is_set():
                return
            await asyncio.sleep(0.01)

    async with (
        AltcraftClient(base_url, token) as altcraft,
        Outbox(path, altcraft, drain_timeout=20.0) as outbox,
        asyncio.TaskGroup() as group,
    ):
        for line in range(1, LINES + 1):
            group.create_task(put_one_after_the_other(outbox, line))
    left = outbox.statistics()
    os.write(1, f"left {left.pending} {left.dead}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
