"""The client's life: settings, copies, sessions, closing."""

from __future__ import annotations

import asyncio
import gc
import warnings

import aiohttp
import attrs
import pytest

from altcraft_async import (
    AltcraftClient,
    AttemptTimeoutError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    NotSentError,
    OutagePolicy,
    RetryPolicy,
    Timeout,
    UnknownVariableWarning,
)
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallEvent,
    CallStarted,
    LimitChanged,
    RetryPlanned,
)
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")
CLOSED = "the client is closed; make a new one"


async def test_the_context_manager_closes_the_client(sandbox):
    async with AltcraftClient(sandbox.base_url, token=sandbox.token) as client:
        await client.market.orders.update_order_line_status(*LINE)
        assert not client.closed
    assert client.closed


async def test_closing_twice_is_harmless(sandbox, connect):
    client = connect(sandbox)
    await client.market.orders.update_order_line_status(*LINE)
    await client.aclose()
    await client.aclose()


async def test_use_after_close_is_one_clear_error(sandbox, connect):
    client = connect(sandbox)
    orders = client.market.orders
    await orders.update_order_line_status(*LINE)
    await client.aclose()
    with pytest.raises(ClientClosedError, match=CLOSED):
        _ = client.market
    with pytest.raises(ClientClosedError, match=CLOSED):
        await client.call("market/orders/get_status")
    with pytest.raises(ClientClosedError, match=CLOSED):
        await orders.update_order_line_status(*LINE)
    with pytest.raises(ClientClosedError, match=CLOSED):
        await orders.update_order_line_statuses([LINE])
    with pytest.raises(ClientClosedError, match=CLOSED):
        async with client:
            pass
    assert sandbox.ledger.requests == 1


async def test_a_client_that_was_never_used_can_be_closed_and_then_not_be_used(sandbox):
    client = AltcraftClient(sandbox.base_url, token=sandbox.token)
    orders = client.market.orders
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await orders.update_order_line_status(*LINE)


async def test_closing_ends_a_run_that_is_under_way(start_sandbox, connect, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    client = connect(sandbox)
    run = asyncio.ensure_future(client.market.orders.update_order_line_statuses([LINE] * 500))
    await until(lambda: sandbox.ledger.requests >= 3)
    await client.aclose()
    async with asyncio.timeout(30):
        with pytest.raises(ClientClosedError):
            await run
    assert client.statistics().in_flight == 0


@pytest.mark.parametrize(
    ("failure", "options"),
    [
        pytest.param(None, {}, id="outage"),
        pytest.param({"status": 429, "Retry_After": "600"}, {}, id="pause"),
        pytest.param({"status": 500}, {"retry": RetryPolicy(base=600.0, max_delay=600.0)}, id="backoff"),
        pytest.param({}, {"rate": 0.01}, id="rate"),
    ],
)
async def test_closing_ends_all_who_wait_at_once(  # noqa: PLR0917 - fixtures
    start_raw_server, connect, until, watcher, failure, options
):
    server = await start_raw_server()
    failed = None if failure is None else server.answer(b'{"error": %d}' % failure.get("status", 0), **failure)
    server.answers = [server.answer(b'{"error": 0}'), failed]
    client = connect(server, concurrency=4, observers=[watcher], **options)
    update = client.market.orders.update_order_line_status
    await update(*LINE)
    calls = [asyncio.ensure_future(update(f"order_{n % 8}", "line", "delivered")) for n in range(12)]  # some for a turn
    rows = [(f"order_{n}", "line", "new") for n in range(5, 50)]
    run = asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows))
    await until(lambda: client.statistics().waiting >= 2 or len(watcher.of(RetryPlanned)) >= 8)
    await client.aclose()
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(ClientClosedError, match=CLOSED) as caught:
            await run
    assert sum(isinstance(error, ClientClosedError) for error in errors) >= 4
    assert all(isinstance(error, ClientClosedError) or error.maybe_applied for error in errors)
    assert len(caught.value.report) == len(rows)


async def test_a_call_that_may_have_been_applied_when_the_client_is_closed_says_so(start_raw_server, connect, until):
    server = await start_raw_server()
    server.answers = [server.HANG]
    client = connect(server)
    call = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: server.requests)
    await client.aclose()
    with pytest.raises(
        NotSentError, match="the client was closed before another attempt; the last attempt: "
    ) as caught:
        await call
    assert caught.value.maybe_applied
    assert caught.value.request_id in server.requests[0].head


async def test_a_client_that_was_used_and_never_closed_warns(sandbox):
    client = AltcraftClient(sandbox.base_url, token=sandbox.token)
    await client.market.orders.update_order_line_status(*LINE)
    session = client._engine.transport._session
    with pytest.warns(ResourceWarning, match=r"unclosed <AltcraftClient http://127.0.0.1"):
        client.__del__()
    await session.close()
    client._closed = True


async def test_a_client_that_was_never_used_goes_quietly(sandbox):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = AltcraftClient(sandbox.base_url, token=sandbox.token)
        del client
        gc.collect()


@pytest.mark.parametrize("request_format", ["json", "xml"])
async def test_a_session_that_is_given_is_used_and_never_closed(sandbox, connect, request_format):
    async with aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        client = connect(sandbox, session=session, request_format=request_format, response_format=request_format)
        updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 21)]
        assert (await client.market.orders.update_order_line_statuses(updates)).ok
        await client.aclose()
        assert not session.closed
        async with session.get(sandbox.base_url) as response:
            assert response.status == 200


async def test_a_given_session_goes_through_faults_like_our_own(start_sandbox, connect):
    sandbox = await start_sandbox(seed=3, faults=Faults.mixed(0.3, latency=0.001))
    async with aiohttp.ClientSession() as session:
        client = connect(sandbox, session=session, retry=RetryPolicy(attempts=20, base=0.002, max_delay=0.02))
        updates = [(f"order_{n}", f"line_{n}_1", s) for s in ("processing", "delivered") for n in range(1, 21)]
        assert (await client.market.orders.update_order_line_statuses(updates)).ok
        assert sandbox.ledger.check(updates).ok


async def test_a_given_session_that_was_closed_is_a_clear_error(sandbox, connect):
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(ClientClosedError, match="the session was closed"):
        await connect(sandbox, session=session).market.orders.update_order_line_status(*LINE)


async def test_a_session_that_raises_for_statuses_changes_no_verdict(sandbox, connect):
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        with pytest.raises(AuthenticationError) as caught:
            await connect(sandbox, token="wrong", session=session).market.orders.update_order_line_status(*LINE)
    assert caught.value.attempts == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_session_with_auth_leaves_no_room_for_a_token_in_the_header(sandbox, connect):
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "password")) as session:
        with pytest.raises(ConfigurationError, match="the session has auth=") as caught:
            await connect(sandbox, session=session, token_in="header").market.orders.get_status(external_id="x")
    assert caught.value.field == "session"


async def test_trace_configs_see_every_request(sandbox, connect):
    seen = []
    trace = aiohttp.TraceConfig()

    async def on_start(_session, _context, params):
        seen.append(params.url.path)

    trace.on_request_start.append(on_start)
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    await connect(sandbox, trace_configs=[trace]).market.orders.update_order_line_status(*LINE)
    assert seen == ["/api/v1.1/market/orders/update_order_line_status"] * 2


async def test_proxies_of_the_environment_are_used_only_if_asked_for(start_raw_server, sandbox, connect, monkeypatch):
    proxy = await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}')
    monkeypatch.setenv("HTTP_PROXY", proxy.base_url)
    monkeypatch.setenv("http_proxy", proxy.base_url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    await connect(sandbox).market.orders.update_order_line_status(*LINE)
    assert (proxy.requests, sandbox.ledger.requests) == ([], 1)
    await connect(sandbox, trust_env=True).market.orders.update_order_line_status(*LINE)
    assert (len(proxy.requests), sandbox.ledger.requests) == (1, 1)


async def test_another_transport_can_carry_the_calls(sandbox):
    from altcraft_async.protocol.wire import WireResponse  # noqa: PLC0415

    class Pigeon:
        closed = False

        async def send(self, request, *, connect, total, max_bytes, fresh=False):
            assert request.path == "market/orders/update_order_line_status"
            return WireResponse(200, {"Duplicate-Request": "true"}, b'{"error": 0}')

        async def aclose(self):
            self.closed = True

    pigeon = Pigeon()
    async with AltcraftClient("https://example.test", token="t", transport=pigeon) as client:
        report = await client.market.orders.update_order_line_statuses([LINE])
    assert report.outcomes[0].state == "duplicate"
    assert pigeon.closed


async def test_from_env_reads_address_token_and_settings(sandbox):
    environ = {
        "ALTCRAFT_BASE_URL": sandbox.base_url,
        "ALTCRAFT_TOKEN": sandbox.token,
        "ALTCRAFT_REQUEST_FORMAT": "xml",
        "ALTCRAFT_TOKEN_IN": "header",
        "ALTCRAFT_TIMEOUT": "3.5",
        "ALTCRAFT_CONNECT_TIMEOUT": "1",
        "ALTCRAFT_ATTEMPTS": "2",
        "ALTCRAFT_CONCURRENCY": "3",
        "ALTCRAFT_RATE": "1000",
        "ALTCRAFT_MAX_RESPONSE_BYTES": "",
        "PATH": "/bin",
    }
    async with AltcraftClient.from_env(environ) as client:
        await client.market.orders.update_order_line_status(*LINE)
        assert (client.statistics().limit, client.statistics().rate) == (3, 1000.0)
        settings = client._settings
    assert (settings.request_format, settings.token_in) == ("xml", "header")
    assert settings.timeout == Timeout(connect=1.0, total=3.5)
    assert settings.retry.attempts == 2


def test_from_env_reads_the_environment_of_the_process(monkeypatch):
    monkeypatch.setenv("ALTCRAFT_BASE_URL", "https://ru.altkraft.com/")
    monkeypatch.setenv("ALTCRAFT_TOKEN", "t")
    assert repr(AltcraftClient.from_env()).startswith("<AltcraftClient https://ru.altkraft.com <Gate")


def test_keywords_go_before_variables():
    environ = {"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN": "t", "ALTCRAFT_CONCURRENCY": "3"}
    client = AltcraftClient.from_env(environ, concurrency=7, timeout=Timeout(total=1.0))
    assert (client._engine.gate.limit, client._settings.timeout.total) == (7, 1.0)


def test_the_token_can_come_from_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("from-the-file\n")
    client = AltcraftClient.from_env({"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN_FILE": str(file)})
    assert client._token.value == "from-the-file"


def test_a_token_file_that_holds_nothing_is_named(tmp_path):
    file = tmp_path / "token"
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="token is empty; put the token into it"):
        AltcraftClient.from_env({"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN_FILE": str(file)})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "ALTCRAFT_TOKEN is not set"),
        ({"ALTCRAFT_BASE_URL": "https://x.test"}, "ALTCRAFT_TOKEN is not set"),
        ({"ALTCRAFT_TOKEN": "t"}, "ALTCRAFT_BASE_URL is not set; set it to the platform's address"),
        (
            {"ALTCRAFT_TOKN": "t"},
            "2 settings .*BASE_URL is not set.*TOKEN is not set .ALTCRAFT_TOKN is set; is ALTCR",
        ),
        ({"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN_FILE": "/no/such/file"}, "/no/such/file"),
        ({"ALTCRAFT_BASE_URL": "x.test", "ALTCRAFT_TOKEN": "t"}, "BASE_URL has no scheme; write https://x.test"),
        ({"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN": "a b"}, "token has a blank"),
        ({"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN": "t", "ALTCRAFT_RATE": "fast"}, "ALTCRAFT_RATE"),
        ({"ALTCRAFT_BASE_URL": "http://x.test", "ALTCRAFT_TOKEN": "t"}, "in the clear"),
    ],
)
def test_a_variable_that_cannot_work_is_named(environ, said):
    with pytest.raises(ConfigurationError, match=said):
        AltcraftClient.from_env(environ)


@pytest.mark.parametrize("observers", [5, "x", object(), [print], [None]])
def test_observers_are_a_list_of_objects_with_on_event(observers):
    with pytest.raises(ConfigurationError, match="observers must be a list of objects with a method on_event, not"):
        AltcraftClient("https://x.test", "t", observers=observers)


def test_a_slip_of_the_pen_is_a_warning_and_a_foreign_variable_is_nothing():
    environ = {"ALTCRAFT_BASE_URL": "https://x.test", "ALTCRAFT_TOKEN": "t", "ALTCRAFT_PROJECT": "shop"}
    AltcraftClient.from_env(environ)
    with pytest.warns(UnknownVariableWarning, match=r"ALTCRAFT_RATES is no setting .*; did you mean ALTCRAFT_RATE\?"):
        AltcraftClient.from_env({**environ, "ALTCRAFT_RATES": "5"})


def test_all_settings_can_come_from_the_environment():
    environ = {
        "ALTCRAFT_BASE_URL": "https://x.test",
        "ALTCRAFT_TOKEN": "t",
        "ALTCRAFT_MAX_RETRIES": "2",
        "ALTCRAFT_RETRY_BASE": "0.1",
        "ALTCRAFT_RETRIABLE_CODES": "408,500-599",
        "ALTCRAFT_RETRY_BUDGET": "none",
        "ALTCRAFT_PATIENCE": "2h",
        "ALTCRAFT_CALL_PATIENCE": "3s",
        "ALTCRAFT_FAIL_FAST": "yes",
    }
    settings = AltcraftClient.from_env(environ).settings
    assert (settings.retry.attempts, settings.retry.base) == (3, 0.1)
    assert settings.retry.rules.retriable == {408, *range(500, 600)}
    assert settings.retry_budget is None
    assert settings.outage == OutagePolicy(patience=7200.0, call_patience=3.0, fail_fast=True)
    assert AltcraftClient.from_env(environ, max_retries=8).settings.retry == attrs.evolve(settings.retry, attempts=9)


async def test_a_token_can_come_from_a_callable_that_is_asked_once(sandbox, connect):
    asked = []

    async def source():
        asked.append(1)
        await asyncio.sleep(0)
        return sandbox.token

    client = connect(sandbox, source)
    copy = client.with_options(request_format="xml", response_format="xml")
    report = await client.market.orders.update_order_line_statuses(
        [(f"order_{n}", f"line_{n}_1", "new") for n in range(1, 9)]
    )
    await copy.market.orders.update_order_line_status(*LINE)
    assert report.ok
    assert len(asked) == 1


async def test_a_copy_and_an_environment_can_have_a_token_source(sandbox, connect):
    copy = connect(sandbox, "wrong-token").with_options(token=lambda: sandbox.token)
    await copy.market.orders.update_order_line_status(*LINE)
    async with AltcraftClient.from_env({"ALTCRAFT_BASE_URL": sandbox.base_url}, token=lambda: sandbox.token) as client:
        await client.market.orders.update_order_line_status(*LINE)


async def test_a_source_that_fails_is_a_configuration_error_of_the_call(sandbox, connect):
    client = connect(sandbox, lambda: 1 / 0)
    with pytest.raises(ConfigurationError, match=r"the source of the token failed \(ZeroDivisionError\)"):
        await client.market.orders.update_order_line_status(*LINE)
    assert client.statistics().in_flight == 0
    assert sandbox.ledger.requests == 0


@pytest.mark.parametrize("token", ["", " ", "se cret", "secret\n", "secret\x00", "секрет"])
def test_a_token_that_cannot_work_is_refused_without_being_shown(token):
    with pytest.raises(ConfigurationError, match="token") as caught:
        AltcraftClient("https://x.test", token)
    assert caught.value.field == "token"
    assert "cret" not in str(caught.value)
    assert "секрет" not in str(caught.value)


def test_an_unknown_keyword_is_named():
    with pytest.raises(ConfigurationError, match=r"concurency is no setting .*; did you mean concurrency\?"):
        AltcraftClient("https://x.test", "t", concurency=4)
    with pytest.raises(ConfigurationError, match=r"zzz is no setting .*; known are .*concurrency"):
        AltcraftClient("https://x.test", "t", zzz=4)


async def test_a_copy_has_its_own_settings_and_shares_the_rest(sandbox, connect, watcher):
    sandbox.faults = Faults(error_500=1.0)
    client = connect(sandbox, observers=[watcher], retry=RetryPolicy(attempts=3, base=0.001))
    copy = client.with_options(retry=RetryPolicy(attempts=1), request_format="xml")
    with pytest.raises(Exception, match="after 1 attempt,"):
        await copy.market.orders.update_order_line_status(*LINE)
    with pytest.raises(Exception, match="after 3 attempts"):
        await client.market.orders.update_order_line_status(*LINE)
    assert len(watcher.of(AttemptStarted)) == 4
    assert copy.statistics() == client.statistics()
    assert client.statistics().sent == 4


async def test_copies_share_the_limit(start_sandbox, connect):
    sandbox = await start_sandbox(faults=Faults(latency=0.002))
    client = connect(sandbox, concurrency=2)
    copy = client.with_options(timeout=Timeout(total=4.0))
    updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 21)]
    await asyncio.gather(
        client.market.orders.update_order_line_statuses(updates[:10]),
        copy.market.orders.update_order_line_statuses(updates[10:]),
    )
    assert sandbox.ledger.peak_in_flight == 2


async def test_a_copy_can_have_another_token(sandbox, connect):
    client = connect(sandbox, "wrong-token")
    with pytest.raises(AuthenticationError):
        await client.market.orders.update_order_line_status(*LINE)
    await client.with_options(token=sandbox.token).market.orders.update_order_line_status(*LINE)


async def test_closing_a_copy_does_nothing_and_closing_the_first_closes_all(sandbox, connect):
    client = connect(sandbox)
    copy = client.with_options(timeout=Timeout(total=4.0))
    copy_of_copy = copy.with_options(response_format="xml")
    await copy.aclose()
    await copy_of_copy.market.orders.update_order_line_status(*LINE)
    await client.aclose()
    assert copy.closed
    with pytest.raises(ClientClosedError):
        _ = copy_of_copy.market


@pytest.mark.parametrize(
    "change",
    [
        {"concurrency": 4},
        {"rate": 1.0},
        {"tls": False},
        {"ca_file": "x"},
        {"retry_budget": 5},
        {"retry_refund": 1.0},
        {"transport": None},
        {"nonsense": 1},
    ],
)
async def test_what_belongs_to_the_pool_cannot_differ_in_a_copy(sandbox, connect, change):
    with pytest.raises(ConfigurationError) as caught:
        connect(sandbox).with_options(**change)
    assert caught.value.field == next(iter(change))


async def test_a_copys_timeout_counts(sandbox, connect):
    sandbox.faults = Faults(latency=1.0)
    copy = connect(sandbox).with_options(timeout=Timeout(total=0.05), retry=RetryPolicy(attempts=1))
    with pytest.raises(AttemptTimeoutError):
        await copy.market.orders.update_order_line_status(*LINE)


async def test_statistics_are_a_snapshot_of_the_traffic(sandbox, connect):
    sandbox.faults = Faults(script=[Fault("error", status=429), Fault("error", status=500)])
    client = connect(sandbox, concurrency=5, retry=RetryPolicy(base=0.001), retry_budget=10)
    await client.market.orders.update_order_line_status(*LINE)
    now = client.statistics()
    assert (now.limit, now.in_flight, now.waiting, now.sent, now.retries, now.throttled) == (5, 0, 0, 3, 2, 1)
    assert now.retry_budget == 8.5


async def test_observers_see_each_attempt_and_each_planned_retry(sandbox, connect, watcher):
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    await connect(sandbox, observers=[watcher]).market.orders.update_order_line_status(*LINE, request_id="id-1")
    assert [type(event) for event in watcher.events] == [
        LimitChanged, CallStarted, AttemptStarted, AttemptEnded, RetryPlanned, AttemptStarted, AttemptEnded, CallEnded,
    ]  # fmt: skip
    assert {event.request_id for event in watcher.of(CallEvent)} == {"id-1"}
    first, second = watcher.of(AttemptEnded)
    assert (first.attempt, first.status, first.error.code) == (1, 500, 500)
    assert (second.attempt, second.status, second.error) == (2, 200, None)


async def test_an_observer_that_raises_harms_no_delivery(sandbox, connect, caplog):
    class Broken:
        def on_event(self, event):
            raise ZeroDivisionError

    report = await connect(sandbox, observers=[Broken()]).market.orders.update_order_line_statuses([LINE])
    assert report.ok
    assert "an observer failed on AttemptStarted" in caplog.text


async def test_a_client_tells_where_it_goes_and_what_it_was_told(sandbox, connect):
    client = connect(sandbox.base_url + "/api/v1.1/", rate=5.0)
    assert client.base_url == sandbox.base_url
    assert client.settings.rate == 5.0
    assert client.with_options(response_format="xml").settings.response_format == "xml"


async def test_reprs_tell_the_state(sandbox, connect):
    client = connect(sandbox, concurrency=5)
    assert repr(client) == f"<AltcraftClient {sandbox.base_url} <Gate 0/5 in flight, 0 waiting>>"
    assert repr(client.market) == "<Market: orders, products, skus>"
    assert "0/5" in repr(client.market.orders)
    await client.aclose()
    assert repr(client) == f"<AltcraftClient {sandbox.base_url} closed>"


@pytest.mark.parametrize("name", ["session", "transport", "trace_configs"])
def test_a_part_that_is_none_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be") as caught:
        AltcraftClient("https://ru.altkraft.com", token="t", **{name: 5 if name == "trace_configs" else object()})
    assert caught.value.field == name


def test_max_retries_replaces_a_stop_of_the_clients_and_contradicts_one_beside_it() -> None:
    policy = RetryPolicy(stop=lambda state: state.attempt_number >= 4)
    client = AltcraftClient("https://ru.altkraft.com", token="t", retry=policy)
    retry = client.with_options(max_retries=1).settings.retry
    assert (retry.attempts, retry.stop) == (2, None)
    with pytest.raises(ConfigurationError, match="a stop of its own; give one of the two"):
        client.with_options(max_retries=1, retry=policy)
