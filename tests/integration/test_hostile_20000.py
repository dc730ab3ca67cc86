"""The promises, whole, on a hostile network: every misbehaviour in a hundredth of the answers, and no line suffers.

The default tests send a sample; ``nox -s hostile`` sends 20,000 updates in every combination.
"""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from altcraft_async import AltcraftClient, RetryPolicy, Timeout
from hostile import (
    FAILING_LINES,
    FIREWALL_LINES,
    REFUSED_LINES,
    HostileServer,
    Misdeed,
    broken_promises,
    numbered_updates,
)

STATUSES = 4


def name_of(line: int) -> str:
    """Say what befalls a line, by its number: a few are refused, firewalled, or fail always."""
    if line % 100 == 7:
        return REFUSED_LINES
    if line % 200 == 13:
        return FIREWALL_LINES
    return FAILING_LINES if line % 500 == 29 else "line"


def mixed_updates(count: int) -> list[tuple[str, str, str]]:
    updates = numbered_updates(count // STATUSES, STATUSES, names="")
    return [(order, name_of(int(line[1:])) + line, status) for order, line, status in updates]


async def deliver(server: HostileServer, updates, *, codec: str, way: str, within: float):
    options = {} if way == "direct" else {"trace_configs": [aiohttp.TraceConfig()]}
    client = AltcraftClient(
        server.base_url,
        server.token,
        request_format=codec,
        response_format=codec,
        timeout=Timeout(total=within),
        concurrency=64,  # an adaptive limit would take one throttled answer in a hundred for its own measure
        retry=RetryPolicy(attempts=12, base=0.01, max_delay=0.2),
        retry_budget=None,
        **options,
    )
    async with client:
        return await client.market.orders.update_order_line_statuses(updates)


def check(count: int, share: float, *, codec: str, way: str, loop: str, within: float = 1.0) -> None:
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    updates = mixed_updates(count)
    misdeeds = dict.fromkeys(Misdeed, share)
    with (
        HostileServer(slots=64, seconds=0.004, misdeeds=misdeeds, idle_close=0.25, late=1.2 * within) as server,
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        report = runner.run(deliver(server, updates, codec=codec, way=way, within=within))
    assert broken_promises(server.ledger, updates, report.outcomes) == []


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("codec", "way", "loop"), [("json", "direct", "asyncio"), ("xml", "session", "uvloop")])
def test_a_sample_goes_through_a_hostile_network(codec, way, loop):
    check(400, 0.02, codec=codec, way=way, loop=loop, within=2.0)


@pytest.mark.hostile
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("way", ["direct", "session"])
@pytest.mark.parametrize("codec", ["json", "xml"])
def test_20000_updates_go_through_a_hostile_network(codec, way, loop):
    check(20_000, 0.01, codec=codec, way=way, loop=loop)
