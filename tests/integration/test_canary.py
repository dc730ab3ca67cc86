"""The token appears nowhere: not in logs, spans, metrics, reprs, errors or their chains, whatever the server does."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback

import aiohttp
import pytest
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from altcraft_async import AltcraftClient, AltcraftError, DeliveryError, OutagePolicy, RetryPolicy, Timeout
from altcraft_async.integrations.opentelemetry import OpenTelemetryObserver, propagation
from altcraft_async.integrations.prometheus import PrometheusObserver
from altcraft_async.observe import LoggingObserver
from altcraft_async.sandbox import Fault, Faults

CANARY = "canary-5d1f0c77e3"
LINE = ("order_1", "line_1_1", "delivered")
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}'


class Everything(logging.Handler):
    """Keeps all that reaches the root logger, with arguments, extras and tracebacks, and all spans and metrics."""

    def __init__(self):
        super().__init__(level=logging.DEBUG)
        self.records = []
        self.spans = InMemorySpanExporter()
        self.meters = InMemoryMetricReader()
        self.registry = CollectorRegistry()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        telemetry = OpenTelemetryObserver(tracers, MeterProvider([self.meters]))
        self.observers = [LoggingObserver(), telemetry, PrometheusObserver(self.registry)]

    def emit(self, record):
        self.records.append(self.format(record) + repr(record.__dict__))

    def text(self):
        """All of it, as one text."""
        metrics = self.meters.get_metrics_data()
        spans = [span.to_json() for span in self.spans.get_finished_spans()]
        scraped = generate_latest(self.registry).decode()
        return "\n".join([*self.records, *spans, metrics.to_json() if metrics else "", scraped])


@pytest.fixture
def told():
    handler = Everything()
    names = ["", "asyncio", "aiohttp.client", "aiohttp.internal", "altcraft_async", "tenacity"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(params=["body", "header"])
def token_in(request):
    return request.param


def shown(error: BaseException) -> str:
    """All that a person or a tool could see of an error."""
    texts = ["".join(traceback.format_exception(error)), repr(error), str(error), repr(vars(error))]
    texts.append("".join(traceback.TracebackException.from_exception(error, capture_locals=False).format()))
    if isinstance(error, DeliveryError):
        texts.append(pickle.dumps(error).decode("latin-1"))
    linked = {error.__cause__, error.__context__} - {None}  # mostly one and the same
    texts += map(shown, linked)
    return "\n".join(texts)


def reachable_values(client) -> str:
    """What the repr of the client's parts shows."""
    parts = [
        client,
        client.market,
        client.market.orders,
        client._engine.transport,
        client._engine.gate,
        client._settings,
    ]
    parts += [
        client._dispatcher.delivery,
        client._dispatcher.delivery.credentials.wire,
        client._dispatcher.delivery.credentials,
        client._engine,
        client._token,
        client.statistics(),
        client._engine.budget,
        client._engine.totals,
    ]
    return "\n".join(f"{part!r} {part}" for part in parts)


async def use(client) -> str:
    """Make every kind of call and return all that it shows."""
    texts = []
    orders = client.market.orders
    calls = [
        lambda: orders.update_order_line_status(*LINE),
        lambda: client.call("market/orders/get_status", {"external_id": "order_1"}),
        lambda: orders.update_order_line_status(*LINE, deadline=0.05),
    ]
    for call in calls:
        try:
            texts.append(repr(await call()))
        except AltcraftError as error:
            texts.append(shown(error))
    report = await orders.update_order_line_statuses([LINE] * 3)
    texts.append(repr(report) + repr(report.outcomes))
    texts += [shown(outcome.error) for outcome in report.outcomes if outcome.error is not None]
    try:
        report.raise_for_failures()
    except AltcraftError as error:
        texts.append(shown(error))
    return "\n".join([*texts, reachable_values(client)])


def options(told, codec, token_in, **others):
    return {
        "request_format": codec,
        "response_format": codec,
        "token_in": token_in,
        "observers": told.observers,
        "retry": RetryPolicy(attempts=2, base=0.001),
        "timeout": Timeout(connect=0.5, total=0.2),
        **others,
    }


pytestmark = pytest.mark.usefixtures("untraced")

KINDS = ["error", "error_after", "html", "reset_before", "reset_after", "truncated", "malformed"]
"""Both codecs meet several of them with the token in each of its places."""


@pytest.mark.parametrize(("kind", "codec"), list(zip(KINDS, ["json", "xml"] * 4, strict=False)))
async def test_not_through_faults(  # noqa: PLR0917 - fixtures
    start_sandbox, connect, told, token_in, kind, codec
):
    asyncio.get_running_loop().set_debug(True)
    sandbox = await start_sandbox(token=CANARY, faults=Faults(script=lambda *_: Fault(kind)))
    seen = await use(connect(sandbox, **options(told, codec, token_in)))
    assert sandbox.ledger.requests > 3
    assert CANARY not in seen
    text = told.text()
    assert CANARY not in text
    for shown in ("AttemptStarted", '"altcraft.state"', '"http.client.request.duration"', "altcraft_call_duration"):
        assert shown in text


@pytest.mark.parametrize("settings", [{}, {"market_right": False}, {"wrong_token_code": 403}])
@pytest.mark.parametrize(("error_style", "codec"), [("http200", "json"), ("http4xx", "xml")])
async def test_not_through_refusals(  # noqa: PLR0917 - fixtures
    start_sandbox, connect, told, token_in, settings, error_style, codec
):
    asyncio.get_running_loop().set_debug(True)
    token = CANARY if "market_right" in settings else "right-token"
    sandbox = await start_sandbox(token=token, error_style=error_style, **settings)
    seen = await use(connect(sandbox, CANARY, **options(told, codec, token_in)))
    assert "error 40" in seen
    assert CANARY not in seen
    assert CANARY not in told.text()


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error": 400, "error_text": "the token %b is not known, %b!"}',
        b"<xml><error>401</error><error_text>wrong: %b</error_text></xml>",
        b"<html>%b</html>",
        b'{"error": "%b"}',
        b'{"%b": 1}',
        b'["%b"',
        b"<xml><%b></xml>",
        b"",
    ],
)
@pytest.mark.parametrize(("token_in", "statuses"), [("body", (200, 400)), ("header", (500,))])
async def test_not_through_a_server_that_echoes_it(  # noqa: PLR0917 - fixtures
    start_raw_server, connect, told, token_in, answer, statuses
):
    asyncio.get_running_loop().set_debug(True)
    server = await start_raw_server(None)
    body = answer.replace(b"%b", CANARY.encode())
    for status in statuses:
        server.answers = [server.answer(body, status=status, Set_Cookie=f"token={CANARY}", X_Token=CANARY)]
        seen = await use(connect(server, CANARY, **options(told, "json", token_in)))
        assert CANARY not in seen, status
    assert CANARY not in told.text()


async def test_not_through_a_broken_status_line_that_echoes_it(start_raw_server, connect, told, token_in):
    for answer in (f"HTTP/1.1 {CANARY}\r\n\r\n", f"{CANARY}\r\n\r\n", f"HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n"):
        server = await start_raw_server(answer.encode())
        seen = await use(connect(server, CANARY, **options(told, "json", token_in)))
        assert "Unreadable" in seen or "ConnectionLost" in seen
        assert CANARY not in seen
    assert CANARY not in told.text()


async def test_not_through_a_given_session_and_its_errors(start_raw_server, connect, told, token_in):
    asyncio.get_running_loop().set_debug(True)
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", None, f"HTTP/1.1 {CANARY}\r\n\r\n".encode()]
    for answer in answers:
        server = await start_raw_server(answer)
        async with aiohttp.ClientSession() as session:
            seen = await use(connect(server, CANARY, **options(told, "json", token_in, session=session)))
        assert CANARY not in seen
    assert CANARY not in told.text()


async def test_not_through_a_server_that_is_down_or_never_answers(
    start_raw_server, closed_port, connect, told, token_in
):
    asyncio.get_running_loop().set_debug(True)
    server = await start_raw_server(None)
    server.answers = [server.HANG]
    outage = OutagePolicy(first_patience=0.01)
    for target in (closed_port, server):
        timeout = Timeout(connect=0.5, total=0.05)
        seen = await use(connect(target, CANARY, **options(told, "json", token_in, outage=outage, timeout=timeout)))
        assert CANARY not in seen
    assert CANARY not in told.text()


async def test_not_through_traces_of_the_http_below(start_raw_server, connect, told, token_in):
    answers = [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", None, f"HTTP/1.1 {CANARY}\r\n\r\n".encode()]
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(told.spans))
    traces = [propagation(), create_trace_config(tracer_provider=tracers)]
    for answer in answers:
        server = await start_raw_server(answer)
        seen = await use(connect(server, CANARY, **options(told, "json", token_in, trace_configs=traces)))
        assert "traceparent" in server.requests[0].head.lower()
        assert CANARY not in seen
    ours = [span for span in told.spans.get_finished_spans() if span.instrumentation_scope.name == "altcraft_async"]
    assert CANARY not in "".join(span.to_json() for span in ours)


async def test_not_through_a_cancelled_call(start_sandbox, connect, told, token_in):
    asyncio.get_running_loop().set_debug(True)
    sandbox = await start_sandbox(token=CANARY, faults=Faults(latency=1.0))
    client = connect(sandbox, token_in=token_in, observers=told.observers)
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert CANARY not in shown(caught.value)
    assert CANARY not in told.text()


async def test_not_through_wrong_settings_or_parameters(connect, token_in):
    for call in (
        lambda: AltcraftClient("http://example.test", CANARY),
        lambda: AltcraftClient("https://example.test", CANARY + " "),
        lambda: AltcraftClient("https://example.test", CANARY + "\n"),
        lambda: AltcraftClient("https://example.test", CANARY, rate=-1),
        lambda: AltcraftClient("https://example.test", CANARY, token_in="url"),
        lambda: AltcraftClient.from_env({"ALTCRAFT_TOKEN": CANARY}),
        lambda: AltcraftClient(CANARY, CANARY),
        lambda: AltcraftClient.from_env({"ALTCRAFT_TOKN": CANARY, "ALTCRAFT_BASE_URL": "https://x.test"}),
        lambda: AltcraftClient.from_env({"ALTCRAFT_TOKEN": CANARY, "ALTCRAFT_BASE_URL": CANARY}),
    ):
        with pytest.raises(AltcraftError) as caught:
            call()
        assert CANARY not in shown(caught.value)
    client = connect("https://example.test", CANARY, token_in=token_in)
    with pytest.raises(AltcraftError) as caught:
        await client.call("market/orders/get_status", {"x": object()})
    assert CANARY not in shown(caught.value)


async def test_not_through_a_warning_of_an_unclosed_client(sandbox):
    client = AltcraftClient(sandbox.base_url, CANARY)
    with pytest.raises(AltcraftError):
        await client.market.orders.update_order_line_status(*LINE)
    with pytest.warns(ResourceWarning) as caught:
        client.__del__()
    assert CANARY not in str(caught[0].message)
    await client.aclose()


async def test_the_token_did_go_out(start_raw_server, connect, token_in):
    server = await start_raw_server(YES)
    await connect(server, CANARY, token_in=token_in).market.orders.update_order_line_status(*LINE)
    (request,) = server.requests
    assert CANARY in request.head + request.body.decode()
