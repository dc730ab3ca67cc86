"""The transport against a server that says anything: each wrong answer is one clear error."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import ssl
import zlib

import aiohttp
import pytest

from altcraft_async import (
    APIError,
    AttemptTimeoutError,
    BadRequestError,
    ConnectError,
    ConnectionLostError,
    DeliveryError,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    Timeout,
    UnreadableResponseError,
)
from altcraft_async.engine.direct import misfit
from altcraft_async.engine.transport import AiohttpTransport
from altcraft_async.protocol.wire import WireRequest
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")
YES = b'{"error":0,"error_text":"Successful operation"}'
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(params=["direct", "session", "given session"])
async def options(request):
    """The two ways through aiohttp, and a session of the user's: all must answer alike."""
    if request.param != "given session":
        traces = [] if request.param == "direct" else [aiohttp.TraceConfig()]
        yield {"retry": ONCE, "trace_configs": traces}
        return
    async with aiohttp.ClientSession() as session:
        yield {"retry": ONCE, "session": session}


async def error_of(client) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await client.market.orders.update_order_line_status(*LINE)
    return caught.value


UNREADABLE = {
    "empty": (b"", "application/json"),
    "blank": (b" \r\n ", "application/json"),
    "html": (b"<html><body>502 Bad Gateway</body></html>", "text/html"),
    "html that calls itself JSON": (b"<!DOCTYPE html><html></html>", "application/json"),
    "plain text": (b"OK", "text/plain"),
    "malformed JSON": (b'{"error": 0,}', "application/json"),
    "cut JSON": (b'{"error": 0, "error_te', "application/json"),
    "a JSON array": (b"[1, 2]", "application/json"),
    "a JSON string": (b'"ok"', "application/json"),
    "a JSON number": (b"0", "application/json"),
    "no error code": (b'{"data": {}}', "application/json"),
    "null as the code": (b'{"error": null}', "application/json"),
    "true as the code": (b'{"error": true}', "application/json"),
    "a fraction as the code": (b'{"error": 0.0}', "application/json"),
    "a list as the code": (b'{"error": [0]}', "application/json"),
    "a word as the code": (b'{"error": "none"}', "application/json"),
    "bad UTF-8": (b'{"error": 0, "error_text": "\xff"}', "application/json"),
    "NaN": (b'{"error": 0, "x": NaN}', "application/json"),
    "too deep JSON": (b'{"error":' + b"[" * 100_000, "application/json"),
    "malformed XML": (b"<xml><error>0</xml>", "application/xml"),
    "cut XML": (b"<xml><error>0</err", "application/xml"),
    "another root": (b"<html2><error>0</error></html2>", "application/xml"),
    "an empty root": (b"<xml/>", "application/xml"),
    "two codes": (b"<xml><error>0</error><error>400</error></xml>", "application/xml"),
    "DOCTYPE": (b'<!DOCTYPE xml SYSTEM "x"><xml><error>0</error></xml>', "application/xml"),
    "too deep XML": (b"<xml>" + b"<a>" * 200 + b"</a>" * 200 + b"<error>0</error></xml>", "application/xml"),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_answer_that_is_no_envelope_is_unreadable(start_raw_server, connect, options, name):
    body, content_type = UNREADABLE[name]
    server = await start_raw_server(None)
    server.answers = [server.answer(body, content_type=content_type)]
    error = await error_of(connect(server, **options))
    assert type(error) is UnreadableResponseError
    assert (error.status, error.attempts, error.maybe_applied) == (200, 1, True)
    assert error.subject == "order line order_1/line_1_1"
    assert "\n" not in str(error)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_unreadable_body_of_an_error_status_is_judged_by_the_status(start_raw_server, connect, options, name):
    body, content_type = UNREADABLE[name]
    server = await start_raw_server(None)
    server.answers = [server.answer(body, status=502, content_type=content_type)]
    error = await error_of(connect(server, **options))
    assert type(error) is ServerError
    assert (error.status, error.code) == (502, None)


async def test_an_unreadable_answer_is_asked_for_again_and_then_understood(start_raw_server, connect, quick):
    server = await start_raw_server(None)
    server.answers = [server.answer(b"<html></html>", content_type="text/html"), server.answer(YES)]
    await connect(server, retry=quick).market.orders.update_order_line_status(*LINE)
    first, second = ([line for line in r.head.splitlines() if "Request-ID" in line] for r in server.requests)
    assert first == second != []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", UnreadableResponseError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", UnreadableResponseError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{", UnreadableResponseError),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", UnreadableResponseError),
        (b"HTTP/1.1 abc OK\r\n\r\n", UnreadableResponseError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ConnectionLostError),
        (b"", ConnectionLostError),
        (None, ConnectionLostError),
    ],
)
async def test_what_is_broken_below_the_envelope_has_the_right_class(start_raw_server, connect, options, answer, kind):
    server = await start_raw_server(answer)
    error = await error_of(connect(server, **options))
    assert type(error) is kind
    assert error.maybe_applied
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_above_the_limit_is_not_read(start_raw_server, connect, options, declared, status):
    body = b'{"error": 0, "x": "' + b"x" * 5000 + b'"}'
    head = b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\n" % status
    rest = b"Content-Length: %d\r\n\r\n" % len(body) if declared else b"\r\n"
    server = await start_raw_server(head + rest + body)
    error = await error_of(connect(server, max_response_bytes=1000, **options))
    assert type(error) is ResponseTooLargeError
    assert "max_response_bytes (1000)" in str(error)
    assert error.status == status
    assert error.maybe_applied


async def test_an_answer_exactly_at_the_limit_is_read(start_raw_server, connect, options):
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]
    client = connect(server, max_response_bytes=len(YES), **options)
    await client.market.orders.update_order_line_status(*LINE)


COMPRESSED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "Deflate": zlib.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("kind", ["json", "xml"])
async def test_a_compressed_answer_is_read(start_raw_server, connect, options, name, kind):
    if "session" in options and not name.islower():
        pytest.skip("some versions of aiohttp decode the name in small letters only")
    body = YES if kind == "json" else b"<xml><error>0</error></xml>"
    server = await start_raw_server(None)
    server.answers = [server.answer(COMPRESSED[name](body), content_type=f"application/{kind}", Content_Encoding=name)]
    await connect(server, **options).market.orders.update_order_line_status(*LINE)


async def test_a_compressed_answer_in_chunks_is_read(start_raw_server, connect, options):
    body = gzip.compress(YES)
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = await start_raw_server(head + chunks + b"0\r\n\r\n")
    await connect(server, **options).market.orders.update_order_line_status(*LINE)


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
async def test_a_compressed_answer_cannot_grow_beyond_the_limit(start_raw_server, connect, options, packed):
    bomb = packed(b'{"error": 0, "x": "' + b"x" * 2_000_000 + b'"}')
    name = "gzip" if packed is gzip.compress else "deflate"
    server = await start_raw_server(None)
    server.answers = [server.answer(bomb, status=503, Content_Encoding=name, Retry_After="9")]
    error = await error_of(connect(server, max_response_bytes=100_000, **options))
    assert type(error) is ResponseTooLargeError
    assert (error.status, error.retry_after) == (503, "9")


@pytest.mark.parametrize(
    "body",
    [gzip.compress(YES, mtime=0)[:-9], b"no gzip", gzip.compress(YES, mtime=0) + b"more"],
    ids=["cut off", "no gzip", "more than that"],
)
async def test_a_broken_compressed_answer_is_unreadable(start_raw_server, connect, options, body):
    if "session" in options:
        pytest.skip("aiohttp reads what it can")
    server = await start_raw_server(None)
    server.answers = [server.answer(body, status=502, Content_Encoding="gzip", Retry_After="9")]
    error = await error_of(connect(server, **options))
    assert type(error) is UnreadableResponseError
    assert (error.status, error.retry_after) == (502, "9")


@pytest.mark.parametrize("name", ["zstd-of-tomorrow", "gzip, gzip"])
async def test_an_encoding_that_is_not_known_is_unreadable(start_raw_server, connect, options, name):
    server = await start_raw_server(None)
    server.answers = [server.answer(YES, Content_Encoding=name)]
    assert "Content-Encoding" in str(await error_of(connect(server, **options)))


CUT_OFF = {
    "a length": b"Content-Length: 100\r\n\r\n{",
    "a chunk": b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "no chunk": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{",
}


@pytest.mark.parametrize("how", CUT_OFF)
async def test_where_the_body_is_cut_off_status_and_retry_after_are_known(start_raw_server, connect, options, how):
    head = b"HTTP/1.1 503 No\r\nRetry-After: 17\r\n"
    server = await start_raw_server(head + CUT_OFF[how])
    error = await error_of(connect(server, **options))
    assert type(error) is UnreadableResponseError
    assert error.maybe_applied
    if how != "no chunk":  # the parser may meet that before it gives the head
        assert (error.status, error.retry_after) == (503, "17")


@pytest.mark.parametrize("declared", [True, False])
async def test_where_the_body_is_too_long_status_and_retry_after_are_known(
    start_raw_server, connect, options, declared
):
    length = b"Content-Length: 5000\r\n" if declared else b""
    server = await start_raw_server(b"HTTP/1.1 503 No\r\nRetry-After: 17\r\n" + length + b"\r\n" + b"x" * 5000)
    error = await error_of(connect(server, max_response_bytes=1000, **options))
    assert type(error) is ResponseTooLargeError
    assert (error.status, error.retry_after) == (503, "17")


async def test_no_compression_is_asked_for(start_raw_server, connect):
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]
    await connect(server).market.orders.update_order_line_status(*LINE)
    assert "accept-encoding" not in server.requests[0].head.lower()


async def test_an_answer_in_small_pieces_is_put_together(start_raw_server, connect, options):
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, YES[i : i + 1]) for i in range(len(YES)))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = await start_raw_server(head + pieces + b"0\r\n\r\n")
    await connect(server, **options).market.orders.update_order_line_status(*LINE)


async def test_informational_answers_come_before_the_real_one(start_raw_server, connect, options):
    server = await start_raw_server(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + b"")
    server.answers = [server.answers[0] + server.answer(YES)]
    await connect(server, **options).market.orders.update_order_line_status(*LINE)


@pytest.mark.parametrize("behind", [b"", b"\x00\x00\x12\x04", b"HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n" + YES])
@pytest.mark.parametrize("named", [b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b""], ids=["upgrade", "bare"])
async def test_a_switch_of_protocols_is_nobodys_answer(start_raw_server, connect, options, named, behind):
    server = await start_raw_server(b"HTTP/1.1 101 Switching\r\n" + named + b"\r\n" + behind, keep_alive=True)
    error = await error_of(connect(server, **options, timeout=5))
    assert (type(error), error.status, error.maybe_applied) == (APIError, 101, False)


@pytest.mark.parametrize("status", [b"000", b"001", b"099", b"99", b"1", b"0", b"1000", b"-1", b"abc", b"", b"20 0"])
async def test_what_is_no_status_of_http_is_no_answer_that_can_be_read(start_raw_server, connect, options, status):
    body = (
        b"HTTP/1.1 " + status + b" Odd\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(YES) + YES
    )
    server = await start_raw_server(body, keep_alive=True)
    error = await error_of(connect(server, **options, timeout=5))
    assert type(error) is UnreadableResponseError
    assert "not valid HTTP" in error.message
    assert error.maybe_applied


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_beyond_those_of_http_is_told(start_raw_server, connect, options, status):
    server = await start_raw_server(None)
    server.answers = [server.answer(b"<html></html>", status=status, content_type="text/html")]
    error = await error_of(connect(server, **options))
    assert (type(error), error.status) == (APIError, status)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(start_raw_server, connect, options, status):
    other = await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}')
    server = await start_raw_server(None)
    server.answers = [server.answer(b"", status=status, Location=other.base_url + "/x")]
    error = await error_of(connect(server, **options))
    assert (type(error), error.status) == (APIError, status)
    assert other.requests == []


@pytest.mark.parametrize("status", [404, 405, 413, 501])
async def test_a_status_without_an_envelope_is_no_final_no(start_raw_server, connect, quick, status):
    server = await start_raw_server(None)
    page = server.answer(b"<html></html>", status=status, content_type="text/html")
    server.answers = [page, server.answer(YES)]
    await connect(server, retry=quick).market.orders.update_order_line_status(*LINE)
    assert len(server.requests) == 2
    server.answers = [page]
    error = await error_of(connect(server, retry=quick))
    assert isinstance(error, APIError)
    assert "without the API's envelope" in str(error)


async def test_the_envelopes_code_beats_the_http_status(start_raw_server, connect, options):
    server = await start_raw_server(None)
    server.answers = [server.answer(b'{"error": 400, "error_text": "no"}', status=500)]
    error = await error_of(connect(server, **options))
    assert type(error) is BadRequestError
    assert (error.code, error.status, error.text) == (400, 500, "no")


async def test_no_answer_in_time_is_an_attempt_timeout(start_raw_server, connect, options):
    server = await start_raw_server(None)
    server.answers = [server.HANG]
    loop = asyncio.get_running_loop()
    started = loop.time()
    error = await error_of(connect(server, timeout=Timeout(total=0.05), **options))
    assert type(error) is AttemptTimeoutError
    assert isinstance(error, TimeoutError)
    assert error.maybe_applied
    assert 0.045 <= loop.time() - started < 4.0


async def test_an_answer_that_stops_halfway_is_an_attempt_timeout(start_raw_server, connect, options):
    server = await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", None, keep_alive=True)
    server.keep_alive = True
    server.answers = [server.answers[0], server.HANG]
    error = await error_of(connect(server, timeout=Timeout(total=0.05), **options))
    assert type(error) is AttemptTimeoutError


async def test_each_request_has_a_timeout_of_its_own(start_sandbox, connect):
    slow = ("order_1", "line_1_1")
    sandbox = await start_sandbox(faults=Faults(lines={slow: Fault("delay", delay=5.0)}, latency=0.02))
    client = connect(sandbox, retry=ONCE, timeout=Timeout(total=0.6))
    updates = [(*slow, "delivered"), *[("order_2", "line_2_1", "delivered")] * 10]
    report = await client.market.orders.update_order_line_statuses(updates)
    assert [outcome.state for outcome in report.outcomes] == ["unknown", *["applied"] * 10]
    assert 0.59 < report.outcomes[0].elapsed < 3.0


async def test_no_connection_is_a_connect_error_that_names_the_reason(closed_port, connect, options):
    error = await error_of(connect(closed_port, **options))
    assert type(error) is ConnectError
    assert not error.maybe_applied
    assert "Connection refused" in str(error)


async def test_an_unknown_host_is_a_connect_error(connect, options):
    error = await error_of(connect("https://no-such-host.invalid", **options))
    assert type(error) is ConnectError


@pytest.mark.parametrize("base", ["https://ru..x.test", "https://пример..рф", f"https://{'a' * 64}.test"])
@pytest.mark.parametrize("traces", [[], [aiohttp.TraceConfig()]], ids=["direct", "session"])
async def test_whatever_fails_before_the_request_is_written_has_sent_nothing(base, traces):
    transport = AiohttpTransport(base, trace_configs=traces)
    for _ in range(2):
        with pytest.raises(ConnectError) as caught:
            await transport.send(WireRequest("m", {}, b"{}"), connect=5, total=5, max_bytes=100)
        assert not caught.value.maybe_applied
    await transport.aclose()


async def test_tls_to_a_server_without_tls_is_a_connect_error(connect, options):
    def refuse(_, writer):
        writer.write(b"HTTP/1.1 400 This port speaks no TLS\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await error_of(connect(f"https://127.0.0.1:{port}", token="x", **options))
    assert type(error) is ConnectError
    assert "SSL" in str(error) or "TLS" in str(error)


async def test_connections_are_kept_and_used_again(start_raw_server, connect):
    server = await start_raw_server(None, keep_alive=True)
    server.answers = [server.answer(YES)]
    client = connect(server)
    for _ in range(5):
        await client.market.orders.update_order_line_status(*LINE)
    assert len(server.requests) == 5
    assert server.connections == 1


async def test_a_connection_is_not_used_again_after_a_broken_answer(start_raw_server, connect):
    # the rest of an over-long answer must not be read as the answer to the next request
    server = await start_raw_server(None, keep_alive=True)
    evil = server.answer(b'{"error": 0, "x": "' + b"x" * 3000 + b'"}')
    server.answers = [evil, server.answer(YES)]
    client = connect(server, retry=ONCE, max_response_bytes=1000)
    assert type(await error_of(client)) is ResponseTooLargeError
    await client.market.orders.update_order_line_status(*LINE)
    assert len(server.requests) == 2


async def test_a_cancelled_request_leaves_no_half_used_connection(start_raw_server, connect, until):
    server = await start_raw_server(None, keep_alive=True)
    server.answers = [server.HANG, server.answer(YES)]
    client = connect(server)
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: server.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.market.orders.update_order_line_status(*LINE)


async def test_a_kept_connection_that_the_server_closed_is_replaced(start_raw_server, connect, quick):
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]  # says keep-alive, and hangs up after each answer
    client = connect(server, retry=quick)
    for _ in range(5):
        await client.market.orders.update_order_line_status(*LINE)


@pytest.mark.parametrize("path", ["", "/", "/platform", "/platform/", "/api/v1.1", "/platform/api/v1.1/"])
async def test_the_base_url_may_have_a_path(start_raw_server, connect, path):
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]
    await connect(server.base_url + path, token="t").market.orders.update_order_line_status(*LINE)
    prefix = "/platform" if "platform" in path else ""
    expected = f"POST {prefix}/api/v1.1/market/orders/update_order_line_status HTTP/1.1"
    assert server.requests[0].head.splitlines()[0] == expected


async def test_the_session_pool_does_not_limit_what_the_gate_allows(start_sandbox, connect):
    sandbox = await start_sandbox(orders=150, faults=Faults(latency=0.05))
    updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 151)]
    report = await connect(sandbox, concurrency=150).market.orders.update_order_line_statuses(updates)
    assert report.ok
    assert sandbox.ledger.peak_in_flight > 120  # above aiohttp's own limit of 100


async def test_a_tls_context_is_used(start_raw_server):
    context = ssl.create_default_context()
    transport = AiohttpTransport("https://127.0.0.1:1", tls=context)
    with pytest.raises(ConnectError):
        await transport.send(WireRequest("m", {}, b"{}"), connect=1.0, total=1.0, max_bytes=100)
    assert transport._session.connector._ssl is context
    await transport.aclose()


async def test_the_transports_repr_shows_its_state():
    transport = AiohttpTransport("https://example.test")
    assert repr(transport) == "<AiohttpTransport https://example.test/api/v1.1/ idle>"
    await transport.aclose()
    assert repr(transport) == "<AiohttpTransport https://example.test/api/v1.1/ closed>"


async def test_a_name_is_looked_up_again_after_a_connection_failed(start_raw_server, closed_port, monkeypatch, options):
    if "session" in options:
        pytest.skip("a given session keeps names as it likes")
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]
    ports = [int(url.rpartition(":")[2]) for url in (closed_port, server.base_url)]
    looked_up = []

    async def getaddrinfo(host, port, **_):
        looked_up.append(host)
        there = ports[min(len(looked_up), len(ports)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", there))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    transport = AiohttpTransport("http://altcraft.test", trace_configs=options["trace_configs"])
    request = WireRequest("m", {}, b"{}")
    with pytest.raises(ConnectError):
        await transport.send(request, connect=1.0, total=1.0, max_bytes=1000)
    for _ in range(2):
        assert (await transport.send(request, connect=1.0, total=1.0, max_bytes=1000)).status == 200
    assert len(looked_up) <= 3  # the server hangs up after each answer
    await transport.aclose()


async def test_an_aiohttp_that_is_not_as_known_is_used_through_its_session(
    start_raw_server, connect, monkeypatch, caplog
):
    monkeypatch.delattr(aiohttp.client_proto.ResponseHandler, "set_response_params")
    assert misfit() == "ResponseHandler.set_response_params"
    monkeypatch.undo()

    monkeypatch.setattr("altcraft_async.engine.transport.misfit", lambda: "ResponseHandler.read")
    server = await start_raw_server(None, keep_alive=True)
    server.answers = [server.answer(YES)]
    client = connect(server)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await client.market.orders.update_order_line_status(*LINE)
    [record] = caplog.records
    assert "ResponseHandler.read" in record.getMessage()
    assert len(server.requests) == 3
    assert server.connections == 1


def test_this_aiohttp_is_as_the_direct_way_knows_it():
    assert misfit() is None


@pytest.mark.parametrize("change", [("set_response_params", lambda self: None), ("read", lambda self: None)])
def test_another_shape_of_aiohttp_is_noticed(monkeypatch, change):
    monkeypatch.setattr(aiohttp.client_proto.ResponseHandler, *change)
    assert misfit() == f"ResponseHandler.{change[0]}"
