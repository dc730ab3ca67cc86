"""Real balancers in front of the server: every line is applied in order, whatever the balancer does meanwhile.

One short outage behind nginx is among the default tests; ``nox -s balancers`` plays all of them. They
are skipped where the programs are missing.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from altcraft_async import AltcraftClient, RetryPolicy
from balancers import BALANCERS, Haproxy, Nginx
from hostile import Attempts, HostileServer, Weather, broken_promises, numbered_updates

UPDATES = numbered_updates(1000, 3)
ALL = [pytest.param(balancer, id=balancer.program) for balancer in BALANCERS]
LIMITED = [
    pytest.param(balancer, limits, id=f"{balancer.program}: {limits}")
    for balancer in (Nginx, Haproxy)
    for limits in balancer.LIMITS
    if limits
]


def needed(balancer):
    if balancer.path() is None:
        pytest.skip(f"{balancer.program} is not installed; on Debian: apt-get install nginx-light haproxy")


async def deliver(balancer, server, updates, *, meanwhile=None, limit=60.0):
    """Deliver `updates` through `balancer`, print how it went, and return the report and the attempts."""
    attempts = Attempts()
    started = time.monotonic()
    async with asyncio.timeout(limit), AltcraftClient(balancer.base_url, server.token, observers=[attempts]) as client:
        run = asyncio.create_task(client.market.orders.update_order_line_statuses(updates))
        while meanwhile is not None and not run.done():
            await asyncio.sleep(0.5)
            meanwhile()
        report = await run
    ledger = server.ledger
    states = {str(state): count for state, count in report.counts.items() if count}
    print(  # noqa: T201 - the session shows its numbers
        f"\n{balancer.program}: {states} in {time.monotonic() - started:.1f} s, {report.sent} sends, "
        f"{report.throttled} throttled, {len(ledger.arrivals)} reached the server"
    )
    return report, attempts


async def comes_through(balancer, server, updates, *, seconds, back_within=3.0):
    """Let the backend be away for so many seconds, and check that the run comes through that."""
    server.plan(Weather.REFUSED, after=len(updates) // 4, seconds=seconds)
    report, attempts = await deliver(balancer, server, updates)
    ledger = server.ledger
    begin, end = ledger.outage
    after = [arrival.at - end for arrival in ledger.arrivals if arrival.at >= end]
    print(f"   {attempts.between(begin, end)} sends meanwhile, the 200th after it within {after[199:200]} s")  # noqa: T201
    assert broken_promises(ledger, updates, report.outcomes) == []
    assert attempts.between(begin, end) <= 350
    assert after[199] <= back_within


@pytest.mark.slow
async def test_a_backend_that_is_away_for_three_seconds_behind_nginx(tmp_path):
    needed(Nginx)
    with HostileServer(slots=20, seconds=0.01) as server, Nginx(tmp_path, backend=server.port) as nginx:
        await comes_through(nginx, server, numbered_updates(200, 3), seconds=3.0)


@pytest.mark.balancers
@pytest.mark.parametrize("balancer", ALL)
async def test_a_backend_that_is_away_for_eight_seconds(tmp_path, balancer):
    needed(balancer)
    with HostileServer(slots=50, seconds=0.05) as server, balancer(tmp_path, backend=server.port) as running:
        await comes_through(running, server, UPDATES, seconds=8.0)


@pytest.mark.balancers
@pytest.mark.parametrize("balancer", ALL)
async def test_reloads_during_a_run(tmp_path, balancer):
    needed(balancer)
    with HostileServer(slots=50, seconds=0.05) as server, balancer(tmp_path, backend=server.port) as running:
        report, _ = await deliver(running, server, UPDATES, meanwhile=running.reload)
    assert broken_promises(server.ledger, UPDATES, report.outcomes) == []


@pytest.mark.balancers
@pytest.mark.parametrize("balancer", ALL)
async def test_connections_that_are_kept_for_a_second_only(tmp_path, balancer):
    """Single calls of one attempt, so far apart that the balancer closes a connection just when a call takes it."""
    needed(balancer)
    once = RetryPolicy(attempts=1)
    with (
        HostileServer(slots=100, seconds=0.005) as server,
        balancer(tmp_path, backend=server.port, keep_alive=1.0) as running,
    ):
        async with AltcraftClient(running.base_url, server.token, retry=once, concurrency=60) as client:

            async def call(number):
                for status in range(6):
                    await client.market.orders.update_order_line_status("order", f"line_{number}", f"status_{status}")
                    await asyncio.sleep(0.99 + number / 4000)

            async with asyncio.timeout(40):
                await asyncio.gather(*(call(number) for number in range(60)))
    ledger = server.ledger
    print(f"\n{running.program}: {len(ledger.arrivals)} requests for 360 calls")  # noqa: T201 - see above
    assert all(made == [f"status_{number}" for number in range(6)] for made in ledger.statuses().values())
    assert len(ledger.made) == 360


@pytest.mark.balancers
@pytest.mark.parametrize(("balancer", "limits"), LIMITED)
async def test_limits_of_the_balancer_itself(tmp_path, balancer, limits):
    needed(balancer)
    with (
        HostileServer(slots=50, seconds=0.02) as server,
        balancer(tmp_path, backend=server.port, limits=limits) as running,
    ):
        report, _ = await deliver(running, server, UPDATES)
    assert broken_promises(server.ledger, UPDATES, report.outcomes) == []
