"""Deduplication by the sandbox, in each of its forms, and its memory over a restart."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from altcraft_async.sandbox import Fault, FaultKind, Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LINE = ("order_1", "line_1_1")


class Answer(NamedTuple):
    status: int
    replayed: bool
    body: bytes
    headers: dict[str, str]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def update(
    http: aiohttp.ClientSession,
    sandbox: Any,
    status: str = "delivered",
    request_id: str | None = None,
    header: str = "Request-ID",
) -> Answer:
    fields = {
        "token": sandbox.token,
        "order_external_id": LINE[0],
        "order_line_external_id": LINE[1],
        "status_external_id": status,
    }
    headers = {} if request_id is None else {header: request_id}
    url = f"{sandbox.base_url}/api/v1.1/market/orders/update_order_line_status"
    async with http.post(url, json=fields, headers=headers) as response:
        replayed = response.headers.get("Duplicate-Request") == "true"
        return Answer(response.status, replayed, await response.read(), dict(response.headers))


def changes(sandbox: Sandbox) -> list[str]:
    return [change.status for change in sandbox.ledger.changes(*LINE)]


@pytest.mark.parametrize("header", ["Request-ID", "X-Request-ID", "request-id"])
async def test_the_same_id_gets_the_first_answer_again(http: aiohttp.ClientSession, header: str) -> None:
    async with Sandbox() as sandbox:
        sandbox.seed_orders(1)
        first, second = [await update(http, sandbox, request_id="a", header=header) for _ in range(2)]
        assert (first.replayed, second.replayed) == (False, True)
        assert second.body == first.body
        assert base64.b64decode(second.headers["Duplicate-Key"], validate=True)
        assert changes(sandbox) == ["delivered"]


async def test_older_header_names_can_be_chosen(http: aiohttp.ClientSession) -> None:
    async with Sandbox(legacy_headers=True) as sandbox:
        sandbox.seed_orders(1)
        answers = [await update(http, sandbox, request_id="a") for _ in range(2)]
        assert answers[1].headers["X-Duplicate-Request"] == "true"
        assert "X-Duplicate-Key" in answers[1].headers
        assert not answers[1].replayed


async def test_a_line_that_returns_under_fresh_ids_is_changed_each_time(http: aiohttp.ClientSession) -> None:
    async with Sandbox() as sandbox:
        sandbox.seed_orders(1)
        for number, status in enumerate(["delivering", "processing", "delivering"]):
            await update(http, sandbox, status, request_id=str(number))
        assert changes(sandbox) == ["delivering", "processing", "delivering"]


async def test_without_ids_the_same_bytes_are_taken_for_a_repeat(http: aiohttp.ClientSession) -> None:
    async with Sandbox() as sandbox:
        sandbox.seed_orders(1)
        answers = [await update(http, sandbox, status) for status in ("delivering", "processing", "delivering")]
        assert [answer.replayed for answer in answers] == [False, False, True]
        assert changes(sandbox) == ["delivering", "processing"]


async def test_without_the_checksum_form_the_same_bytes_are_new(http: aiohttp.ClientSession) -> None:
    async with Sandbox(dedup_checksum=False) as sandbox:
        sandbox.seed_orders(1)
        answers = [await update(http, sandbox) for _ in range(2)]
        assert [answer.replayed for answer in answers] == [False, False]
        assert changes(sandbox) == ["delivered", "delivered"]


async def test_without_the_id_form_the_same_id_is_new(http: aiohttp.ClientSession) -> None:
    async with Sandbox(dedup_request_id=False) as sandbox:
        sandbox.seed_orders(1)
        for _ in range(2):
            await update(http, sandbox, request_id="a")
        assert changes(sandbox) == ["delivered", "delivered"]
        assert len(sandbox.ledger.check([(*LINE, "delivered")]).duplicated) == 1


async def test_after_the_window_an_id_is_new(http: aiohttp.ClientSession) -> None:
    now = [1000.0]
    async with Sandbox(dedup_window=60.0, clock=lambda: now[0]) as sandbox:
        sandbox.seed_orders(1)
        replayed = []
        for second in (0.0, 59.0, 60.0, 61.0):
            now[0] = 1000.0 + second
            replayed.append((await update(http, sandbox, request_id="a")).replayed)
        assert replayed == [False, True, False, True]


async def test_a_repeat_during_the_first_waits_for_its_answer(http: aiohttp.ClientSession) -> None:
    async with Sandbox(faults=Faults(latency=0.03)) as sandbox:
        sandbox.seed_orders(1)
        answers = await asyncio.gather(*(update(http, sandbox, request_id="a") for _ in range(5)))
        assert sorted(answer.replayed for answer in answers) == [False, True, True, True, True]
        assert len({answer.body for answer in answers}) == 1
        assert changes(sandbox) == ["delivered"]
        assert (sandbox.ledger.in_flight_overlaps, sandbox.ledger.repeats) == (0, 4)


async def test_a_lost_answer_can_be_asked_for_again(http: aiohttp.ClientSession) -> None:
    async with Sandbox(faults=Faults(script=[Fault(FaultKind.RESET_AFTER)])) as sandbox:
        sandbox.seed_orders(1)
        with pytest.raises(aiohttp.ClientError):
            await update(http, sandbox, request_id="a")
        answer = await update(http, sandbox, request_id="a")
        assert (answer.replayed, json.loads(answer.body)["error"]) == (True, 0)
        assert changes(sandbox) == ["delivered"]


async def test_an_error_before_the_processing_is_forgotten(http: aiohttp.ClientSession) -> None:
    async with Sandbox(faults=Faults(script=[Fault(FaultKind.ERROR, status=503)])) as sandbox:
        sandbox.seed_orders(1)
        answers = [await update(http, sandbox, request_id="a") for _ in range(2)]
        assert [(answer.status, answer.replayed) for answer in answers] == [(503, False), (200, False)]


@pytest.mark.parametrize("fault", [Fault(FaultKind.ERROR, status=429), Fault(FaultKind.HTML)])
async def test_an_error_is_replayed_where_failures_are_kept(http: aiohttp.ClientSession, fault: Fault) -> None:
    async with Sandbox(cache_failures=True, faults=Faults(script=[fault])) as sandbox:
        sandbox.seed_orders(1)
        answers = [await update(http, sandbox, request_id="a") for _ in range(2)]
        assert [(answer.status, answer.replayed) for answer in answers] == [(fault.status, False), (fault.status, True)]
        assert changes(sandbox) == []


async def test_a_kept_success_is_never_replaced_by_a_failure(http: aiohttp.ClientSession) -> None:
    script = [None, Fault(FaultKind.ERROR, status=503)]
    async with Sandbox(cache_failures=True, faults=Faults(script=script)) as sandbox:
        sandbox.seed_orders(1)
        answers = [await update(http, sandbox, request_id="a") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 503, 200]
        assert answers[2].replayed


async def test_a_refusal_that_was_processed_is_replayed(http: aiohttp.ClientSession) -> None:
    async with Sandbox() as sandbox:
        assert not (await update(http, sandbox, request_id="a")).replayed
        sandbox.seed_orders(1)
        answer = await update(http, sandbox, request_id="a")
        assert (answer.replayed, json.loads(answer.body)["error"]) == (True, 400)


async def test_an_id_used_for_two_changes_is_counted(http: aiohttp.ClientSession) -> None:
    async with Sandbox() as sandbox:
        sandbox.seed_orders(1)
        await update(http, sandbox, "delivering", request_id="a")
        answer = await update(http, sandbox, "delivered", request_id="a")
        assert answer.replayed
        assert sandbox.ledger.id_conflicts == 1
        assert [
            change.status for change in sandbox.ledger.check([(*LINE, s) for s in ("delivering", "delivered")]).lost
        ]


async def test_a_restart_keeps_statuses_answers_and_changes(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    async with Sandbox(state_file=file, custom_statuses=["packed"]) as sandbox:
        sandbox.seed_orders(2)
        await update(http, sandbox, "packed", request_id="a")
    async with Sandbox(state_file=file, custom_statuses=["packed"]) as sandbox:
        sandbox.seed_orders(2)
        assert sandbox.line_status(*LINE) == "packed"
        assert (await update(http, sandbox, "packed", request_id="a")).replayed
        await update(http, sandbox, "delivered", request_id="b")
        assert sandbox.ledger.check([(*LINE, "packed"), (*LINE, "delivered")]).ok


async def test_orders_seeded_before_the_start_are_in_the_file(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    sandbox = Sandbox(state_file=file)
    sandbox.seed_orders(1)
    async with sandbox:
        await update(http, sandbox, request_id="a")
    async with sandbox:
        assert (await update(http, sandbox, request_id="a")).replayed
    async with Sandbox(state_file=file) as again:
        assert again.line_status(*LINE) == "delivered"
        assert len(again.ledger.changes(*LINE)) == 1


async def test_a_restart_keeps_what_was_imported(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    order = {
        "external_id": LINE[0],
        "email": "someone@example.com",
        "endpoint": "shop",
        "status": "paid",
        "total_price": "10",
        "currency": "RUB",
        "lines": [{"external_id": LINE[1]}],
    }
    statuses = [{"external_id": "packed", "name": "Packed", "type": "in_process"}]
    async with Sandbox(state_file=tmp_path / "state") as sandbox:
        request = {"token": sandbox.token, "custom_line_statuses": statuses, "data": [order]}
        async with http.post(f"{sandbox.base_url}/api/v1.1/market/orders/import", json=request) as response:
            assert (await response.json())["error"] == 0
    async with Sandbox(state_file=tmp_path / "state") as sandbox:
        assert sandbox.order_status(LINE[0]) == "paid"
        await update(http, sandbox, "packed", request_id="a")
        assert sandbox.line_status(*LINE) == "packed"


async def test_an_answer_older_than_the_window_is_not_read_back(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    async with Sandbox(state_file=file, clock=lambda: 1000.0) as sandbox:
        sandbox.seed_orders(1)
        await update(http, sandbox, request_id="a")
    async with Sandbox(state_file=file, clock=lambda: 90_000.0) as sandbox:
        assert not (await update(http, sandbox, request_id="a")).replayed


_CHILD = """
import asyncio, sys
from altcraft_async.sandbox import Sandbox
async def main():
    async with Sandbox(state_file=sys.argv[1]) as sandbox:
        sandbox.seed_orders(1)
        print(sandbox.base_url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


class Remote(NamedTuple):
    base_url: str
    token: str = "sandbox-token"


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
async def test_a_kill_loses_nothing_that_was_answered(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    file = tmp_path / "state.jsonl"
    with subprocess.Popen(  # noqa: ASYNC220 - our own interpreter, and nothing else runs here
        [sys.executable, "-c", _CHILD, str(file)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            await update(http, Remote(child.stdout.readline().strip()), request_id="a")
        finally:
            child.kill()
    async with Sandbox(state_file=file) as sandbox:
        assert sandbox.line_status(*LINE) == "delivered"
        assert (await update(http, sandbox, request_id="a")).replayed
        assert sandbox.ledger.check([(*LINE, "delivered")]).ok
