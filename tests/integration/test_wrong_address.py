"""An address that never was the API stops a run at its third answer, and says what is there instead."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web

from altcraft_async import AltcraftClient, OutcomeState
from altcraft_async.outbox import Outbox
from hostile import REDIRECT_TARGET, HostileServer, Weather, broken_promises, numbered_updates

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

IN_FLIGHT = 8
UPDATES = numbered_updates(300, 2)
PAGES = [
    (Weather.NOT_FOUND, ["404"]),
    (Weather.NOT_ALLOWED, ["405"]),
    (Weather.REDIRECT, ["302", REDIRECT_TARGET]),
    (Weather.FORBIDDEN, ["403", "token", "firewall"]),
    (Weather.MAINTENANCE, ["HTML"]),
]


@pytest.fixture
def server():
    with HostileServer(slots=20, seconds=0.005) as running:
        yield running


def connect(server):
    return AltcraftClient(server.base_url, server.token, concurrency=IN_FLIGHT)


@pytest.mark.parametrize(("weather", "named"), PAGES)
async def test_a_run_stops_and_names_what_came(server, weather, named):
    server.switch(weather)
    async with asyncio.timeout(60), connect(server) as client:
        report = await client.market.orders.update_order_line_statuses(UPDATES)
    assert report.sent <= 3 + IN_FLIGHT
    assert len(report.outcomes) == len(UPDATES)
    assert report.counts[OutcomeState.REJECTED] == 0
    assert report.counts[OutcomeState.NOT_SENT] >= len(UPDATES) - 3 - IN_FLIGHT
    for word in named:
        assert word in str(report.outcomes[-1].error)


async def test_strange_answers_that_come_first_wait_for_slower_ones_that_prove_the_address():
    async def answer(request):
        asked = await request.json()
        if asked["order_external_id"] == "refused":
            return web.Response(status=403, text="<html>no</html>", content_type="text/html")
        await asyncio.sleep(0.3)
        return web.json_response({"error": 0, "error_text": "", "data": {**asked, "token": ""}})

    updates = [*(("refused", f"line_{n}", "done") for n in range(3)), *UPDATES[:20]]
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with (
        served_by(app) as base_url,
        AltcraftClient(base_url, "t", concurrency=IN_FLIGHT, max_retries=1) as client,
    ):
        report = await client.market.orders.update_order_line_statuses(updates)
    assert [outcome.state for outcome in report.outcomes] == 3 * [OutcomeState.REJECTED] + 20 * [OutcomeState.APPLIED]


@contextlib.asynccontextmanager
async def served_by(app):
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("weather", [weather for weather, _ in PAGES])
async def test_a_journal_of_such_a_run_goes_on_at_the_right_address(server, tmp_path, weather):
    updates = UPDATES[:400]
    journal = tmp_path / "run.journal"
    server.switch(weather)
    async with asyncio.timeout(60), connect(server) as client:
        await client.market.orders.update_order_line_statuses(updates, journal=journal)
        server.switch(Weather.FAIR)
        report = await client.market.orders.update_order_line_statuses(updates, journal=journal)
    assert broken_promises(server.ledger, updates, report.outcomes) == []


@pytest.mark.parametrize(("weather", "named"), PAGES)
async def test_an_outbox_keeps_everything_and_names_what_came(server, tmp_path, weather, named):
    server.switch(weather)
    async with connect(server) as client, Outbox(tmp_path / "outbox.db", client, drain_timeout=0.1) as outbox:
        await asyncio.gather(*(outbox.put(update) for update in UPDATES[:300]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                while outbox.statistics().problem is None:  # noqa: ASYNC110 - a statistic is polled
                    await asyncio.sleep(0.02)
        statistics = outbox.statistics()
        arrivals = len(server.ledger.arrivals)
        assert (statistics.dead, statistics.pending) == (0, 300)
        for word in named:
            assert word in str(statistics.problem)
        assert arrivals <= 3 + 2 * IN_FLIGHT


@pytest.mark.parametrize(("weather", "named"), PAGES)
async def test_a_single_call_names_what_came(server, weather, named):
    server.switch(weather)
    async with asyncio.timeout(60), connect(server) as client:
        with pytest.raises(Exception, match=named[0]) as caught:
            await client.market.orders.update_order_line_status(*UPDATES[0])
    for word in named:
        assert word in str(caught.value)
