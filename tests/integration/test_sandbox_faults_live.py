"""Every fault of the sandbox as a bare HTTP client meets it, and what became of the change behind it."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from altcraft_async.sandbox import Fault, FaultKind, Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINE = ("order_1", "line_1_1")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        sandbox.seed_orders(2, 20)
        yield sandbox


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def update(
    http: aiohttp.ClientSession,
    sandbox: Sandbox,
    line: tuple[str, str] = LINE,
    *,
    status: str = "delivered",
    request_id: str | None = None,
    xml: bool = False,
) -> tuple[int, dict[str, str], bytes]:
    """Send one update; return status, headers and the whole body."""
    fields = {
        "token": sandbox.token,
        "format": "xml" if xml else "json",
        "order_external_id": line[0],
        "order_line_external_id": line[1],
        "status_external_id": status,
    }
    headers = {} if request_id is None else {"Request-ID": request_id}
    url = f"{sandbox.base_url}/api/v1.1/market/orders/update_order_line_status"
    async with http.post(url, json=fields, headers=headers) as response:
        return response.status, dict(response.headers), await response.read()


def applied(sandbox: Sandbox) -> bool:
    return sandbox.line_status(*LINE) == "delivered"


@pytest.mark.parametrize(
    ("fault", "made"),
    [
        (Fault(FaultKind.ERROR, status=429), False),
        (Fault(FaultKind.ERROR), False),
        (Fault(FaultKind.ERROR, status=503), False),
        (Fault(FaultKind.ERROR_AFTER, status=500), True),
    ],
)
@pytest.mark.parametrize("xml", [False, True])
async def test_an_error_is_an_envelope_under_its_status(
    http: aiohttp.ClientSession, sandbox: Sandbox, fault: Fault, *, made: bool, xml: bool
) -> None:
    sandbox.faults = Faults(script=[fault])
    status, _, body = await update(http, sandbox, xml=xml)
    assert status == fault.status
    assert (f"<error>{status}</error>" if xml else f'"error":{status}').encode() in body
    assert applied(sandbox) is made


async def test_html_comes_from_a_proxy_that_never_asked_the_platform(
    http: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    sandbox.faults = Faults(html_502=1.0)
    status, headers, body = await update(http, sandbox)
    assert (status, headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert body.startswith(b"<html>")
    assert not applied(sandbox)


@pytest.mark.parametrize(("kind", "made"), [(FaultKind.RESET_BEFORE, False), (FaultKind.RESET_AFTER, True)])
async def test_a_reset_is_a_real_one(
    http: aiohttp.ClientSession, sandbox: Sandbox, kind: FaultKind, *, made: bool
) -> None:
    sandbox.faults = Faults(script=[Fault(kind)])
    with pytest.raises(OSError, match="reset by peer") as caught:
        await update(http, sandbox)
    assert caught.value.errno == errno.ECONNRESET
    assert applied(sandbox) is made
    assert sandbox.ledger.answers == {str(kind): 1}


def test_a_reset_is_a_real_one_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def reset() -> None:
        async with Sandbox(faults=Faults(reset_before=1.0)) as sandbox, aiohttp.ClientSession() as http:
            sandbox.seed_orders(1)
            with pytest.raises(OSError, match="reset by peer"):
                await update(http, sandbox)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(reset())


async def test_a_truncated_answer_ends_before_its_length(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(truncated=1.0)
    with pytest.raises(aiohttp.ClientPayloadError):
        await update(http, sandbox)
    assert applied(sandbox)


async def test_a_malformed_answer_is_whole_for_http_only(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(malformed=1.0)
    status, _, body = await update(http, sandbox)
    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert applied(sandbox)


@pytest.mark.parametrize("xml", [False, True])
async def test_an_oversized_answer_is_valid_and_has_no_length(
    http: aiohttp.ClientSession, sandbox: Sandbox, *, xml: bool
) -> None:
    sandbox.faults = Faults(oversized=1.0, oversized_bytes=300_000)
    status, headers, body = await update(http, sandbox, xml=xml)
    assert (status, len(body) >= 300_000) == (200, True)
    assert "Content-Length" not in headers
    assert body.endswith(b"</padding></xml>") if xml else json.loads(body)["error"] == 0
    assert applied(sandbox)


async def test_a_client_may_hang_up_on_an_oversized_answer(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(script=[Fault(FaultKind.OVERSIZED, size=50_000_000)])
    url = f"{sandbox.base_url}/api/v1.1/market/orders/update_order_line_status"
    fields = {"token": sandbox.token, "order_external_id": LINE[0], "order_line_external_id": LINE[1]}
    async with http.post(url, json={**fields, "status_external_id": "delivered"}) as response:
        await response.content.readexactly(1000)
        response.close()
    assert (await update(http, sandbox))[0] == 200


async def test_a_slow_body_drips(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(slow_body=1.0, slow_body_seconds=0.05)
    started = time.perf_counter()
    _, _, body = await update(http, sandbox)
    assert time.perf_counter() - started >= 0.05
    assert json.loads(body)["error"] == 0


@pytest.mark.parametrize(("after", "sent"), [(2.0, "2"), (0.05, "0.05"), (0.0, "0")])
async def test_retry_after_in_seconds(http: aiohttp.ClientSession, sandbox: Sandbox, after: float, sent: str) -> None:
    sandbox.faults = Faults(too_many_requests=1.0, retry_after=after)
    status, headers, _ = await update(http, sandbox)
    assert (status, headers["Retry-After"]) == (429, sent)


async def test_retry_after_as_a_date(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(error_503=1.0, retry_after=30.0, retry_after_form="date")
    _, headers, _ = await update(http, sandbox)
    ahead = parsedate_to_datetime(headers["Retry-After"]).timestamp() - time.time()
    assert 29 < ahead <= 31


async def test_no_retry_after_unless_asked_for(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(too_many_requests=1.0)
    _, headers, _ = await update(http, sandbox)
    assert "Retry-After" not in headers


async def test_the_rate_limit_answers_429(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(rate=0.1, burst=2, retry_after=10)
    statuses = [(await update(http, sandbox))[0] for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert sandbox.ledger.answers["error 429"] == 2


def every_line(sandbox: Sandbox, http: aiohttp.ClientSession) -> list[Any]:
    return [update(http, sandbox, ("order_1", f"line_1_{number}")) for number in range(1, 9)]


async def test_above_the_slots_requests_wait_their_turn(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(slots=4, latency=0.02)
    started = time.perf_counter()
    answers = await asyncio.gather(*every_line(sandbox, http))
    assert [status for status, _, _ in answers] == [200] * 8
    assert time.perf_counter() - started >= 0.04
    assert sandbox.ledger.peak_in_flight == 8


async def test_above_the_slots_requests_are_turned_away(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(slots=4, latency=0.05, over_slots="reject")
    answers = await asyncio.gather(*every_line(sandbox, http))
    assert sorted(status for status, _, _ in answers) == [200] * 4 + [429] * 4
    assert sum(len(sandbox.ledger.changes("order_1", f"line_1_{number}")) for number in range(1, 9)) == 4


async def test_latency_is_kept(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(latency=0.03)
    started = time.perf_counter()
    await update(http, sandbox)
    assert time.perf_counter() - started >= 0.03


async def test_a_delay_holds_one_request_only(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(lines={LINE: [Fault(FaultKind.DELAY, delay=0.05)]})
    order: list[str] = []

    async def sent(line: str) -> None:
        await update(http, sandbox, ("order_1", line))
        order.append(line)

    async with asyncio.TaskGroup() as group:
        for line in ("line_1_1", "line_1_2"):
            group.create_task(sent(line))
    assert order == ["line_1_2", "line_1_1"]


async def test_one_line_fails_while_the_others_go_on(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(lines={LINE: [Fault(FaultKind.ERROR, status=503)] * 2})
    statuses = [(await update(http, sandbox, line))[0] for line in (LINE, ("order_2", "line_2_1"), LINE, LINE)]
    assert statuses == [503, 200, 503, 200]


async def test_faults_can_be_lifted_while_it_runs(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(error_500=1.0)
    assert (await update(http, sandbox))[0] == 500
    sandbox.faults = Faults()
    assert (await update(http, sandbox))[0] == 200


async def test_a_seed_gives_the_same_answers_again(http: aiohttp.ClientSession) -> None:
    runs = []
    for _ in range(2):
        async with Sandbox(seed=5, faults=Faults(error_500=0.3, error_503=0.3)) as sandbox:
            sandbox.seed_orders(1)
            runs.append([(await update(http, sandbox))[0] for _ in range(30)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500, 503}


async def test_a_change_is_made_although_its_client_went_away(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(latency=0.03)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await update(http, sandbox)
    assert not applied(sandbox)
    await asyncio.sleep(0.05)
    assert applied(sandbox)
    assert sandbox.ledger.in_flight == 0


async def test_two_updates_of_a_line_at_once_are_an_overlap(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(latency=0.02)
    await asyncio.gather(*(update(http, sandbox, request_id=str(number)) for number in range(3)))
    assert sandbox.ledger.in_flight_overlaps == 2


async def test_one_after_the_other_is_no_overlap(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    for kind in FaultKind:
        sandbox.faults = Faults(script=[Fault(kind, drip=0.001, size=1000)])
        try:
            await update(http, sandbox, request_id=str(kind))
        except aiohttp.ClientError:
            continue
    assert (sandbox.ledger.in_flight_overlaps, sandbox.ledger.in_flight) == (0, 0)
    assert sandbox.ledger.peak_in_flight == 1


async def test_it_stops_at_once_with_requests_in_process(http: aiohttp.ClientSession, sandbox: Sandbox) -> None:
    sandbox.faults = Faults(latency=60.0)
    waiting = asyncio.create_task(update(http, sandbox))
    while not sandbox.ledger.in_flight:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0)
    started = time.perf_counter()
    await sandbox.stop()
    assert time.perf_counter() - started < 10.0
    with pytest.raises(aiohttp.ClientConnectionError):
        await waiting
    assert (sandbox.ledger.in_flight, sandbox.ledger.arrivals(*LINE)[0].fate) == (0, "dropped")
    assert not applied(sandbox)


async def test_the_ledger_judges_a_client_that_retries_under_one_id(
    http: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A hand-written client with ids gets every line right through 30 % faults of all quick kinds."""
    sandbox.faults = Faults.mixed(0.3)
    expected = [
        (f"order_{o}", f"line_{o}_{n}", status)
        for status in ("processing", "delivered", "processing")
        for o in (1, 2)
        for n in range(1, 21)
    ]
    for number, (order, line, status) in enumerate(expected):
        for _ in range(50):
            try:
                code, _, body = await update(http, sandbox, (order, line), status=status, request_id=str(number))
                if code == 200 and json.loads(body)["error"] == 0:
                    break
            except (aiohttp.ClientError, ValueError):
                continue
    check = sandbox.ledger.check(expected)
    assert check.ok, str(check)
    assert sandbox.ledger.requests > len(expected)


async def test_the_ledger_convicts_a_client_that_retries_under_new_ids(
    http: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    sandbox.faults = Faults(script=[Fault(FaultKind.ERROR_AFTER)])
    for request_id in ("a", "b"):
        await update(http, sandbox, request_id=request_id)
    assert [change.request_id for change in sandbox.ledger.check([(*LINE, "delivered")]).duplicated] == ["b"]
