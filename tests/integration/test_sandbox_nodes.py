"""Repeats at a sandbox of one node or several, and what becomes of a repeat while the first is in process."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from altcraft_async import OutcomeState, RetryPolicy
from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINE = ("order_1", "line_1_1")
URL = "/api/v1.1/market/orders/update_order_line_status"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def update(http, sandbox, request_id="a"):
    """Return the envelope's code, and whether the answer was a repeat of an earlier one."""
    fields = dict(zip(("order_external_id", "order_line_external_id"), LINE, strict=True))
    body = {"token": sandbox.token, **fields, "status_external_id": "delivered"}
    async with http.post(sandbox.base_url + URL, json=body, headers={"Request-ID": request_id}) as response:
        return json.loads(await response.read())["error"], "Duplicate-Request" in response.headers


def made(sandbox):
    return len(sandbox.ledger.changes(*LINE))


async def test_a_repeat_that_reaches_another_node_is_not_recognised(start_sandbox, http):
    sandbox = await start_sandbox(nodes=2)
    assert await update(http, sandbox) == (0, False)
    assert await update(http, sandbox) == (0, False)
    assert made(sandbox) == 2
    assert len(sandbox.ledger.made_twice()) == 1


async def test_a_repeat_that_comes_back_to_its_node_is_recognised(start_sandbox, http):
    sandbox = await start_sandbox(nodes=2)
    for _ in range(2):
        await update(http, sandbox)
    assert await update(http, sandbox) == (0, True)
    assert await update(http, sandbox) == (0, True)
    assert made(sandbox) == 2


async def test_nodes_share_the_orders(start_sandbox, http):
    sandbox = await start_sandbox(nodes=3)
    for number in range(6):
        assert await update(http, sandbox, f"id-{number}") == (0, False)
    assert [one.node for one in reversed(sandbox.traffic.newest())] == [0, 1, 2, 0, 1, 2]


async def test_the_answers_of_each_node_outlive_a_restart(tmp_path, start_sandbox, http):
    path = tmp_path / "state"
    sandbox = await start_sandbox(nodes=2, state_file=path)
    await update(http, sandbox, "a")  # at the first node
    await update(http, sandbox, "b")  # at the second
    await sandbox.stop()
    again = await start_sandbox(nodes=2, state_file=path)
    assert await update(http, again, "a") == (0, True)
    assert await update(http, again, "b") == (0, True)


async def test_with_fewer_nodes_after_a_restart_the_others_answers_are_gone(tmp_path, start_sandbox, http):
    path = tmp_path / "state"
    sandbox = await start_sandbox(nodes=2, state_file=path)
    await update(http, sandbox, "a")
    await update(http, sandbox, "b")
    await sandbox.stop()
    again = await start_sandbox(state_file=path)
    assert await update(http, again, "a") == (0, True)
    assert await update(http, again, "b") == (0, False)


async def at_once(http, sandbox, until):
    first = asyncio.create_task(update(http, sandbox))
    await until(lambda: sandbox.ledger.in_flight == 1)
    second = asyncio.create_task(update(http, sandbox))
    return await first, await second


async def test_a_repeat_at_once_is_held_back(start_sandbox, http, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.2))
    assert await at_once(http, sandbox, until) == ((0, False), (0, True))
    assert made(sandbox) == 1


async def test_a_repeat_at_once_is_refused(start_sandbox, http, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.2), repeats="refuse")
    assert await at_once(http, sandbox, until) == ((0, False), (409, False))
    assert made(sandbox) == 1
    assert await update(http, sandbox) == (0, True)


async def test_a_repeat_at_once_is_made_twice(start_sandbox, http, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.2), repeats="make")
    assert await at_once(http, sandbox, until) == ((0, False), (0, False))
    assert made(sandbox) == 2
    assert await update(http, sandbox) == (0, True)


async def test_at_once_on_two_nodes_both_are_made(start_sandbox, http, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.2), nodes=2)
    assert await at_once(http, sandbox, until) == ((0, False), (0, False))
    assert made(sandbox) == 2


@pytest.mark.slow
async def test_the_client_asks_again_where_a_repeat_at_once_is_refused(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.6), repeats="refuse")
    retry = RetryPolicy(attempts=10, base=0.1, max_delay=0.3)
    client = connect(sandbox, retry=retry, timeout=0.4)
    report = await client.market.orders.update_order_line_statuses([(*LINE, "delivered")])
    assert report.outcomes[0].state in {OutcomeState.APPLIED, OutcomeState.DUPLICATE}
    assert made(sandbox) == 1
    assert sandbox.ledger.answers["refused 409"] >= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nodes": 0}, "nodes must be a whole number from 1 up"),
        ({"nodes": 1.5}, "nodes must be"),
        ({"repeats": "twice"}, "repeats must be one of"),
        ({"keep_requests": -1}, "keep_requests must be"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        Sandbox(**settings)
