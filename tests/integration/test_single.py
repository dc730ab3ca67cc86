"""One update of one order line, over loopback."""

from __future__ import annotations

import asyncio
from itertools import product
from uuid import UUID

import aiohttp
import pytest

from altcraft_async import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DeadlineError,
    InvalidUpdateError,
    OrderLineStatus,
    OutagePolicy,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UpdatedOrderLine,
)
from altcraft_async.observe import AttemptStarted, RetryPlanned, SendingPaused
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1")


@pytest.mark.parametrize(("request_format", "response_format"), list(product(("json", "xml"), repeat=2)))
async def test_the_server_makes_the_change_and_echoes_it(sandbox, connect, request_format, response_format):
    client = connect(sandbox, request_format=request_format, response_format=response_format)
    line = await client.market.orders.update_order_line_status(*LINE, OrderLineStatus.DELIVERED)
    assert line == UpdatedOrderLine(*LINE, "delivered")
    assert sandbox.line_status(*LINE) == "delivered"


@pytest.mark.parametrize(("asked", "arrives"), [("json", "xml"), ("xml", "json")])
async def test_an_answer_is_read_by_what_arrived_not_by_what_was_asked(start_sandbox, connect, asked, arrives):
    sandbox = await start_sandbox(answer_format=arrives)
    client = connect(sandbox, response_format=asked)
    assert await client.market.orders.update_order_line_status(*LINE, "delivered") == UpdatedOrderLine(
        *LINE, "delivered"
    )
    with pytest.raises(BadRequestError) as caught:
        await client.market.orders.update_order_line_status("order_1", "no_such_line", "delivered")
    assert caught.value.code == 400


@pytest.mark.parametrize("request_format", ["json", "xml"])
async def test_unusual_but_allowed_ids_arrive_as_they_are(start_sandbox, connect, request_format):
    order, line, status = "заказ № 1 & <сын>", "line\"'%;{}[]\U0001f600", "собран]]>"
    sandbox = await start_sandbox(custom_statuses=[status])
    sandbox.add_order(order, [line])
    client = connect(sandbox, request_format=request_format, response_format=request_format)
    assert await client.market.orders.update_order_line_status(order, line, status) == UpdatedOrderLine(
        order, line, status
    )
    assert sandbox.line_status(order, line) == status


async def test_the_token_goes_into_the_body_by_default(start_raw_server, connect):
    server = await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}')
    await connect(server, "tok-1").market.orders.update_order_line_status(*LINE, "new")
    (request,) = server.requests
    assert b'"token":"tok-1"' in request.body
    assert "authorization" not in request.head.lower()


async def test_the_token_can_go_into_the_header_instead(start_raw_server, connect):
    server = await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}')
    await connect(server, "tok-1", token_in="header").market.orders.update_order_line_status(*LINE, "new")
    (request,) = server.requests
    assert b"tok-1" not in request.body
    assert "Authorization: Bearer tok-1\r\n" in request.head


@pytest.mark.parametrize("token_in", ["body", "header"])
async def test_a_token_is_accepted_from_either_place(sandbox, connect, token_in):
    client = connect(sandbox, token_in=token_in)
    assert (await client.market.orders.update_order_line_status(*LINE, "refunded")).status_external_id == "refunded"


async def test_the_token_is_never_part_of_the_url(start_raw_server, connect):
    server = await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}')
    await connect(server, "tok-1").market.orders.update_order_line_status(*LINE, "new")
    assert server.requests[0].head.splitlines()[0] == "POST /api/v1.1/market/orders/update_order_line_status HTTP/1.1"


async def test_retries_carry_the_same_request_id(sandbox, connect):
    sandbox.faults = Faults(script=[Fault("error", status=500), Fault("reset_before")])
    await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered")
    ids = [arrival.request_id for arrival in sandbox.ledger.arrivals(*LINE)]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert str(UUID(ids[0])) == ids[0]


async def test_each_change_has_a_request_id_of_its_own(sandbox, connect):
    orders = connect(sandbox).market.orders
    for status in ("delivering", "processing", "delivering"):
        await orders.update_order_line_status(*LINE, status)
    arrivals = sandbox.ledger.arrivals(*LINE)
    assert len({arrival.request_id for arrival in arrivals}) == 3
    assert sandbox.line_status(*LINE) == "delivering"


async def test_a_lost_answer_is_asked_for_again_and_the_change_made_once(sandbox, connect):
    sandbox.faults = Faults(script=[Fault("reset_after")])
    await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered")
    assert [arrival.fate for arrival in sandbox.ledger.arrivals(*LINE)] == ["applied", "replayed"]
    assert len(sandbox.ledger.changes(*LINE)) == 1


async def test_the_older_names_of_the_headers_work_too(start_sandbox, connect):
    sandbox = await start_sandbox(legacy_headers=True, faults=Faults(script=[Fault("truncated")]))
    client = connect(sandbox, request_id_header="X-Request-ID")
    report = await client.market.orders.update_order_line_statuses([(*LINE, "delivered")])
    assert report.outcomes[0].state == "duplicate"


async def test_a_request_id_can_be_given(sandbox, connect):
    await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered", request_id="my-own-id")
    assert sandbox.ledger.changes(*LINE)[0].request_id == "my-own-id"


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "a\ud800", "идентификатор", " ", "", 5])
@pytest.mark.parametrize("with_session", [False, True])
async def test_a_request_id_cannot_smuggle_headers(sandbox, connect, bad, with_session):
    async with aiohttp.ClientSession() as session:
        client = connect(sandbox, session=session if with_session else None)
        for call in (
            client.market.orders.update_order_line_status(*LINE, "delivered", request_id=bad),
            client.call("market/orders/get_status", request_id=bad),
        ):
            with pytest.raises(ConfigurationError, match=r"^request_id ") as caught:
                await call
            assert caught.value.field == "request_id"
    assert sandbox.ledger.requests == 0


@pytest.mark.parametrize("error_style", ["http200", "http4xx"])
async def test_a_refusal_is_one_error_in_both_styles(start_sandbox, connect, error_style):
    sandbox = await start_sandbox(error_style=error_style)
    with pytest.raises(BadRequestError, match="no order 'order_99'") as caught:
        await connect(sandbox).market.orders.update_order_line_status("order_99", "line_9", "delivered")
    error = caught.value
    assert (error.code, error.attempts, error.maybe_applied) == (400, 1, False)
    assert error.status == (200 if error_style == "http200" else 400)
    assert error.subject == "order line order_99/line_9"
    assert "order line order_99/line_9" in str(error)
    assert sandbox.ledger.requests == 1


@pytest.mark.parametrize("error_style", ["http200", "http4xx"])
async def test_a_wrong_token_is_an_authentication_error_after_one_call(start_sandbox, connect, error_style):
    sandbox = await start_sandbox(error_style=error_style)
    with pytest.raises(AuthenticationError, match="check the token"):
        await connect(sandbox, "wrong-token").market.orders.update_order_line_status(*LINE, "delivered")
    assert sandbox.ledger.requests == 1


async def test_a_role_without_the_market_is_a_permission_error(start_sandbox, connect):
    sandbox = await start_sandbox(market_right=False)
    with pytest.raises(PermissionDeniedError, match="role"):
        await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered")


async def test_a_server_error_that_stays_ends_after_all_attempts(sandbox, connect, quick):
    sandbox.faults = Faults(error_500=1.0)
    with pytest.raises(ServerError) as caught:
        await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered")
    assert caught.value.attempts == quick.attempts == sandbox.ledger.requests
    assert caught.value.maybe_applied
    assert caught.value.request_id == sandbox.ledger.arrivals(*LINE)[0].request_id


async def test_429_that_stays_is_a_rate_limit_error_and_surely_not_applied(sandbox, connect):
    sandbox.faults = Faults(too_many_requests=1.0)
    with pytest.raises(RateLimitError) as caught:
        await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered")
    assert not caught.value.maybe_applied


async def test_a_failure_replayed_for_its_request_id_is_not_retried(start_sandbox, connect):
    sandbox = await start_sandbox(cache_failures=True, faults=Faults(script=[Fault("error", status=500)]))
    with pytest.raises(ServerError, match="replayed") as caught:
        await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered")
    assert caught.value.duplicate
    assert caught.value.attempts == 2


async def test_the_request_id_of_an_error_asks_again_for_the_same_change(sandbox, connect):
    sandbox.faults = Faults(error_after=1.0)
    orders = connect(sandbox).market.orders
    with pytest.raises(ServerError) as caught:
        await orders.update_order_line_status(*LINE, "delivered")
    sandbox.faults = Faults()
    await orders.update_order_line_status(*LINE, "delivered", request_id=caught.value.request_id)
    assert len(sandbox.ledger.changes(*LINE)) == 1


async def test_invalid_ids_are_refused_before_anything_is_sent(sandbox, connect):
    with pytest.raises(InvalidUpdateError, match="order_line_external_id is empty"):
        await connect(sandbox).market.orders.update_order_line_status("order_1", "", "delivered")
    assert sandbox.ledger.requests == 0


async def test_a_retry_after_of_a_part_of_a_second_is_waited_out(sandbox, connect, watcher):
    sandbox.faults = Faults(script=[Fault("error", status=429, retry_after=0.15)])
    client = connect(sandbox, observers=[watcher])
    await client.market.orders.update_order_line_status(*LINE, "delivered")
    assert [pause.seconds for pause in watcher.of(SendingPaused)] == [0.15]
    assert watcher.of(RetryPlanned)[0].delay >= 0.15


@pytest.mark.slow
async def test_all_calls_wait_out_a_retry_after_of_one_second(sandbox, connect, watcher, until):
    sandbox.faults = Faults(script=[Fault("error", status=429, retry_after=1)])
    client = connect(sandbox, observers=[watcher])
    loop = asyncio.get_running_loop()
    first = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE, "delivered"))
    await until(lambda: watcher.of(SendingPaused))
    paused = loop.time()
    await client.market.orders.update_order_line_status("order_2", "line_2_1", "delivered")
    assert 0.9 <= loop.time() - paused < 2.0
    await first
    assert watcher.of(SendingPaused)[0].seconds == 1
    assert watcher.of(RetryPlanned)[0].delay >= 1


async def test_a_deadline_covers_attempts_and_backoff(sandbox, connect, quick):
    sandbox.faults = Faults(latency=5.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(DeadlineError) as caught:
        await connect(sandbox).market.orders.update_order_line_status(*LINE, "delivered", deadline=0.1)
    assert loop.time() - started < 4.0
    assert caught.value.maybe_applied
    assert isinstance(caught.value, TimeoutError)


async def test_a_deadline_covers_the_wait_for_a_permit(sandbox, connect):
    sandbox.faults = Faults(latency=0.3)
    client = connect(sandbox, concurrency=1)
    first = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE, "delivered"))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineError) as caught:
        await client.market.orders.update_order_line_status("order_2", "line_2_1", "delivered", deadline=0.05)
    assert (caught.value.attempts, caught.value.maybe_applied) == (0, False)
    await first
    assert sandbox.ledger.arrivals("order_2", "line_2_1") == ()


async def test_cancelling_a_call_gives_its_permit_back(sandbox, connect, watcher, until):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, concurrency=1, observers=[watcher])
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE, "delivered"))
    await until(lambda: watcher.of(AttemptStarted))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.statistics().in_flight == 0
    sandbox.faults = Faults()
    await client.market.orders.update_order_line_status(*LINE, "delivered")


async def test_concurrent_failing_calls_each_get_their_own_error(sandbox, connect):
    sandbox.faults = Faults(error_500=1.0)
    outage = OutagePolicy(first_patience=0.5)
    orders = connect(sandbox, concurrency=50, outage=outage).market.orders
    calls = [orders.update_order_line_status(f"order_{n}", f"line_{n}_1", "new") for n in range(1, 21)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [error.subject for error in errors] == [f"order line order_{n}/line_{n}_1" for n in range(1, 21)]


async def test_call_returns_the_whole_envelope(sandbox, connect):
    envelope = await connect(sandbox).call("market/orders/get_status", {"external_id": "order_1"})
    assert envelope["error"] == 0
    assert envelope["result"] == {"endpoint": "sandbox", "status": "new"}


async def test_call_reads_xml_answers_with_texts(sandbox, connect):
    client = connect(sandbox, request_format="xml", response_format="xml")
    envelope = await client.call("market/orders/get_status", {"external_id": "order_1"})
    assert envelope["error"] == "0"
    assert envelope["result"] == {"endpoint": "sandbox", "status": "new"}


@pytest.mark.parametrize("method", ["", "/", "../token", "a b", "a?x=1", "a#b", "https://evil.example/x"])
async def test_call_refuses_what_is_no_path_of_a_method(sandbox, connect, method):
    with pytest.raises(ValueError, match="method must be a path"):
        await connect(sandbox).call(method)
    assert sandbox.ledger.requests == 0
