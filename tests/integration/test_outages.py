"""An outage of any kind is waited out: every line is applied in order, and hardly anything is sent meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from altcraft_async import AltcraftClient
from altcraft_async.outbox import Outbox
from hostile import (
    Attempts,
    HostileServer,
    Weather,
    broken_promises,
    lost_names,
    numbered_updates,
    outage_options,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

OUTAGE = 2.0
MOST_SENDS = 250
"""What was in flight when it began, three failures, and a probe now and then."""
BACK_WITHIN = 4.0
OVER_TLS = {Weather.ACCEPTS_ONLY, Weather.TLS_DROPPED, Weather.TLS_FAILS}
LEFT_TO_THE_BENCHMARK = {Weather.BLACK_HOLE, Weather.GATEWAY_TIMEOUT, Weather.NOT_ALLOWED}
"""A black hole holds what was in flight until its timeout; the others have a sibling here."""
SAMPLE = [
    Weather.RESET,
    Weather.SILENT,
    Weather.BAD_GATEWAY,
    Weather.UNAVAILABLE,
    Weather.NOT_FOUND,
    Weather.TLS_DROPPED,
]
"""One of each way to fail; the session `hostile` plays the others."""
OTHERS = [weather for weather in Weather if weather not in {Weather.FAIR, *SAMPLE, *LEFT_TO_THE_BENCHMARK}]
BY_NAME = "name not found"
UPDATES = numbered_updates(100, 3)


@contextlib.contextmanager
def hostile(kind):
    """Start a server for outages of `kind`; give it, its weather for that, and a client's arguments."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(HostileServer(slots=20, seconds=0.01, tls=kind in OVER_TLS))
        options = {"base_url": server.base_url, "token": server.token, "tls": server.client_tls}
        if kind == BY_NAME:
            options |= {"base_url": stack.enter_context(lost_names(server)), "allow_insecure": True}
        yield server, Weather.REFUSED if kind == BY_NAME else kind, options


def soon_back(ledger, *, sends=30):
    """Say whether that many requests came soon after the outage."""
    _, end = ledger.outage
    after = [arrival.at for arrival in ledger.arrivals if arrival.at >= end]
    return len(after) >= sends and after[sends - 1] - end <= BACK_WITHIN


async def run_through(kind, *, after, **policy):
    """Run through an outage of that kind; return in words what does not hold."""
    attempts = Attempts()
    with hostile(kind) as (server, weather, options):
        server.plan(weather, after=after, seconds=OUTAGE)
        async with asyncio.timeout(25), AltcraftClient(**options, **policy, observers=[attempts]) as client:
            report = await client.market.orders.update_order_line_statuses(UPDATES)
    broken = broken_promises(server.ledger, UPDATES, report.outcomes)
    sends = attempts.between(*server.ledger.outage)
    if sends > MOST_SENDS:
        broken.append(f"{sends} sends in the outage")
    return broken if soon_back(server.ledger) else [*broken, "not back soon"]


async def run_side_by_side(kinds, **how):
    """Run through an outage of each kind at the same time, for nearly all of it is waiting."""
    found = await asyncio.gather(*(run_through(kind, **how) for kind in kinds))
    return {str(kind): broken for kind, broken in zip(kinds, found, strict=True) if broken}


@pytest.mark.parametrize(
    "kinds",
    [SAMPLE[:3], [*SAMPLE[3:], BY_NAME], *(pytest.param(OTHERS[n::3], marks=pytest.mark.hostile) for n in range(3))],
    ids=" and ".join,
)
async def test_a_run_waits_out_an_outage_of_any_kind(kinds):
    assert await run_side_by_side(kinds, after=100) == {}


@pytest.mark.parametrize(
    "kinds",
    [
        [Weather.REFUSED, Weather.BAD_GATEWAY],
        pytest.param([Weather.RESET, Weather.UNAVAILABLE, BY_NAME], marks=pytest.mark.hostile),
    ],
    ids=" and ".join,
)
async def test_a_server_that_comes_up_after_the_client_is_waited_for(kinds):
    assert await run_side_by_side(kinds, after=0, **outage_options(first_patience=60.0)) == {}


@pytest.mark.hostile
@pytest.mark.parametrize("weather", [Weather.SILENT, Weather.BLACK_HOLE])
async def test_a_server_that_is_silent_from_the_first_call_on_is_noticed_long_before_a_timeout(weather):
    with hostile(weather) as (server, _, options):
        server.plan(weather, after=0, seconds=8.0)
        patient = outage_options(first_patience=60.0)
        async with asyncio.timeout(60), AltcraftClient(**options, **patient, timeout=30.0) as client:
            report = await client.market.orders.update_order_line_statuses(UPDATES)
    assert broken_promises(server.ledger, UPDATES, report.outcomes) == []
    assert soon_back(server.ledger)


@pytest.mark.parametrize("weather", [Weather.RESET, pytest.param(Weather.BAD_GATEWAY, marks=pytest.mark.hostile)])
async def test_an_outbox_buries_nothing_in_an_outage_and_says_so_while_it_lasts(tmp_path, weather):
    attempts = Attempts()
    with hostile(weather) as (server, _, options):
        server.plan(weather, after=100, seconds=OUTAGE)
        async with (
            asyncio.timeout(25),
            AltcraftClient(**options, observers=[attempts]) as client,
            Outbox(tmp_path / "outbox.db", client, drain_timeout=0.1) as outbox,
        ):
            await asyncio.gather(*(outbox.put(update) for update in UPDATES))
            said = []
            while outbox.statistics().pending:
                if outbox.statistics().problem is not None:
                    said.append(time.monotonic())
                await asyncio.sleep(0.02)
            statistics = outbox.statistics()
    begin, end = server.ledger.outage
    assert (statistics.dead, statistics.delivered, statistics.problem) == (0, len(UPDATES), None)
    assert said
    assert begin < said[0] < begin + 1.5
    assert said[-1] < end + BACK_WITHIN
    assert attempts.between(begin, end) <= MOST_SENDS
    assert soon_back(server.ledger)
    assert all(made == ["status_1", "status_2", "status_3"] for made in server.ledger.statuses().values())


async def test_single_calls_wait_out_a_short_outage():
    with hostile(Weather.BAD_GATEWAY) as (server, weather, options):
        server.plan(weather, after=0, seconds=OUTAGE)
        updates = numbered_updates(30)
        async with asyncio.timeout(25), AltcraftClient(**options, **outage_options(first_patience=60.0)) as client:
            echoes = await asyncio.gather(
                *(client.market.orders.update_order_line_status(*update) for update in updates)
            )
    assert [
        (echo.order_external_id, echo.order_line_external_id, echo.status_external_id) for echo in echoes
    ] == updates
    assert all(made == ["status_1"] for made in server.ledger.statuses().values())
    assert len(server.ledger.arrivals) <= MOST_SENDS
