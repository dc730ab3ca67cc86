"""Check the simulation against reality: the same servers and clients, over real sockets.

The sandbox, in a process of its own on loopback, plays the server; a run takes
as long as it takes. `goodput.py --sockets` is the program.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from altcraft_async import AltcraftClient
from altcraft_async.observe import AttemptEnded, AttemptStarted
from altcraft_async.sandbox import Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from altcraft_async.flow.limit import Adaptive
    from altcraft_async.flow.retry import RetryPolicy
    from altcraft_async.observe import Event
    from virtual import Behaviour

__all__ = ["Measured", "measure"]

_LINES_PER_ORDER = 4


@attrs.frozen
class Measured:
    """One real run: its `seconds`, the share of `rejected` sends, the `peak` of calls in flight, and what failed."""

    seconds: float
    rejected: float
    peak: int
    not_applied: int


class _InFlight:
    """An observer that counts the attempts under way."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def on_event(self, event: Event, /) -> None:
        """Count."""
        if type(event) is AttemptStarted:
            self.now += 1
            self.peak = max(self.peak, self.now)
        elif type(event) is AttemptEnded:
            self.now -= 1


def _faults(behaviour: Behaviour) -> Faults:
    """Say to the sandbox what `behaviour` says to the simulation; changes, knees and outages have no equal there."""
    fixed = 1.0 - behaviour.jitter
    return Faults(
        latency=behaviour.latency * fixed,
        jitter=behaviour.jitter / fixed,
        jitter_form="exponential",
        slots=None if behaviour.rate is not None else behaviour.slots,
        over_slots=behaviour.over_slots,
        rate=behaviour.rate,
        burst=behaviour.burst if behaviour.rate is not None else None,
        retry_after=behaviour.retry_after,
        error_500=behaviour.errors,
    )


async def _until_hung_up(faults: Faults, lines: int, pipe: Connection) -> None:
    async with Sandbox(faults=faults, seed=1) as sandbox:
        keys = sandbox.seed_orders(-(-lines // _LINES_PER_ORDER), _LINES_PER_ORDER)[:lines]
        pipe.send((sandbox.base_url, sandbox.token, keys))
        await asyncio.get_running_loop().run_in_executor(None, pipe.poll, None)


def _serve(faults: Faults, lines: int, pipe: Connection) -> None:
    asyncio.run(_until_hung_up(faults, lines, pipe))


@contextmanager
def _sandbox(faults: Faults, lines: int) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Run a sandbox in a process; give its base URL, its token and the keys of its `lines`."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(faults, lines, its), daemon=True)
    process.start()
    its.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(10)


async def _send(
    base_url: str, token: str, keys: list[tuple[str, str]], concurrency: int | Adaptive, retry: RetryPolicy
) -> Measured:
    watch = _InFlight()
    client = AltcraftClient(base_url, token, concurrency=concurrency, retry=retry, retry_budget=None, observers=[watch])
    async with client:
        report = await client.market.orders.update_order_line_statuses((*key, "delivered") for key in keys)
    rejected = report.throttled / report.sent
    return Measured(report.elapsed, rejected, watch.peak, sum(not outcome.ok for outcome in report.outcomes))


def measure(behaviour: Behaviour, lines: int, concurrency: int | Adaptive, retry: RetryPolicy) -> Measured:
    """Deliver `lines` over sockets to a sandbox that behaves like the simulated server."""
    with _sandbox(_faults(behaviour), lines) as (base_url, token, keys):
        return asyncio.run(_send(base_url, token, keys, concurrency, retry))
