"""Make the files of the first edition anew, with its own code; README.md says how to run this."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver

from altcraft_async import AltcraftClient, RetryPolicy
from altcraft_async.observe import UpdateSettled
from altcraft_async.outbox import Outbox
from altcraft_async.sandbox import Fault, Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HERE = Path(__file__).parent
BASE_URL, TOKEN = "http://altcraft.test:8080", "first-edition"
ONCE_MORE = RetryPolicy(attempts=2, base=0.001, max_delay=0.01)
LOST, SLOW_DOWN = Fault("reset_after"), Fault("error", status=429)
FAULTS = Faults(
    latency=0.02,
    lines={
        ("order_2", "line_2_1"): [LOST, None],
        ("order_3", "line_3_1"): [LOST] * 10,
        ("order_4", "line_4_1"): [SLOW_DOWN] * 10,
    },
)


class OnLoopback(AbstractResolver):
    """Finds every host on one port of this machine, so that a journal's target has the same name everywhere."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[Any]:
        """Name the one place."""
        place = {"hostname": host, "host": "127.0.0.1", "port": self.port}
        return [{**place, "family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}]

    async def close(self) -> None:
        """Keep nothing."""


class KillAfter:
    """Kills the process when so many outcomes were handed on."""

    def __init__(self, settled: int) -> None:
        self.left = settled

    def on_event(self, event: object, /) -> None:
        """Count."""
        if isinstance(event, UpdateSettled):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


async def run(make: Callable[[AltcraftClient, Sandbox], Awaitable[None]], faults: Faults, kill_after: int) -> None:
    """Call `make` with a client of a fresh sandbox."""
    async with Sandbox(token=TOKEN, faults=faults) as sandbox:
        sandbox.seed_orders(20)
        port = int(sandbox.base_url.rpartition(":")[2])
        connector = aiohttp.TCPConnector(resolver=OnLoopback(port))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            AltcraftClient(
                BASE_URL, TOKEN, allow_insecure=True, session=session, concurrency=2, retry=ONCE_MORE,
                observers=[KillAfter(kill_after)],
            ) as altcraft,
        ):  # fmt: skip
            await make(altcraft, sandbox)


def in_a_process(
    make: Callable[[AltcraftClient, Sandbox], Awaitable[None]], faults: Faults = FAULTS, *, kill_after: int = -1
) -> None:
    """Call `make` in a process of its own, which may be killed."""
    pid = os.fork()
    if not pid:
        asyncio.run(run(make, faults, kill_after))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == (0 if kill_after < 0 else -signal.SIGKILL), code


def journal(path: Path, **options: Any) -> Callable[[AltcraftClient, Sandbox], Awaitable[None]]:
    """Return what sends the updates with a journal."""
    updates = [tuple(row) for row in json.loads((HERE / "updates.json").read_text())]

    async def make(altcraft: AltcraftClient, sandbox: Sandbox) -> None:
        del sandbox
        stream = altcraft.market.orders.stream_order_line_statuses(updates, journal=path, **options)
        async with aclosing(stream) as outcomes:
            async for _ in outcomes:
                pass

    return make


def outbox(path: Path) -> Callable[[AltcraftClient, Sandbox], Awaitable[None]]:
    """Return what fills an outbox."""

    async def make(altcraft: AltcraftClient, sandbox: Sandbox) -> None:
        async with Outbox(path, altcraft) as draining:
            await draining.put(("order_5", "line_5_1", "no-such-status"))
            await draining.put(("order_5", "line_5_1", "delivered"))
            await draining.put(("order_77", "line_77_1", "delivered"))
        assert sandbox.line_status("order_5", "line_5_1") == "delivered"
        async with Outbox(path) as accepting:
            await accepting.put(("order_1", "line_1_1", "processing"))
            await accepting.put(("order_1", "line_1_1", "delivered"))
            await accepting.put(("order_2", "line_2_1", "delivered"))

    return make


def main() -> None:
    """Make all files, beside this one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_a_process(journal(folder / "finished.journal", coalesce="latest"))
        shutil.copyfile(folder / "finished.journal", folder / "retried.journal")
        in_a_process(journal(folder / "retried.journal", retry_failed=True), kill_after=1)
        in_a_process(journal(folder / "killed.journal"), kill_after=12)
        in_a_process(outbox(folder / "outbox.db"))
        for file in folder.iterdir():
            if ".lock" not in file.name and not file.name.endswith("-shm"):
                shutil.copyfile(file, HERE / file.name)
                sys.stdout.write(f"{file.name}: {file.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
