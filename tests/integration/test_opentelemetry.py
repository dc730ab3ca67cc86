"""Spans and metrics, with the real SDK: what the documents promise, and nothing beside it."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import re
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from altcraft_async import Adaptive, BadRequestError
from altcraft_async.integrations.opentelemetry import OpenTelemetryObserver, current_traceparent, propagation
from altcraft_async.observe import AttemptStarted, LimitChanged, OutboxChanged
from altcraft_async.outbox import Outbox
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")
METHOD = "market/orders/update_order_line_status"
DOCUMENT = (Path(__file__).parents[2] / "docs/howto/observe.md").read_text(encoding="utf-8")
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"error":0}'


class Telemetry:
    """An observer over real providers, and what they were given."""

    def __init__(self, **options):
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(**options)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.observer = OpenTelemetryObserver(self.tracers, self.meters)
        self.tracer = self.tracers.get_tracer("test")

    @property
    def spans(self):
        """The spans that have ended, in the order of their beginning."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)

    def tree(self, parent=None):
        """The names of the spans, each with those beneath it."""
        below = [span for span in self.spans if (span.parent and span.parent.span_id) == parent]
        return [(span.name, self.tree(span.context.span_id)) for span in below]

    def metrics(self):
        """Every metric's unit and points: a point's value, or the count of a histogram, by its attributes."""
        found = {}
        data = self.reader.get_metrics_data()
        for scope in (
            scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics
        ):
            for metric in scope.metrics:
                points = {
                    frozenset(point.attributes.items()): getattr(point, "value", getattr(point, "count", None))
                    for point in metric.data.data_points
                }
                found[metric.name] = (metric.unit, points)
        return found

    def points(self, name):
        return self.metrics()[name][1]


@pytest.fixture
def telemetry():
    return Telemetry()


def server_of(sandbox):
    host, port = sandbox.base_url.removeprefix("http://").split(":")
    return {"http.request.method": "POST", "server.address": host, "server.port": int(port)}


def point(**attributes):
    return frozenset((name.replace("__", "."), value) for name, value in attributes.items())


def documented(heading):
    """The names in the first column of the table below a heading of the document."""
    section = DOCUMENT.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_spans_of_a_retried_call_are_exactly_these(sandbox, connect, telemetry):
    sandbox.faults = Faults(
        script=[Fault("error", status=503), *[Fault("reset_before")] * 2]
    )  # the first one is replaced
    client = connect(sandbox, observers=[telemetry.observer])
    with telemetry.tracer.start_as_current_span("handler"):
        await client.market.orders.update_order_line_status(*LINE, request_id="id-1")
    handler, call, *attempts = telemetry.spans
    assert telemetry.tree() == [("handler", [(METHOD, [("POST", []), ("POST", []), ("POST", [])])])]
    assert (call.kind, call.status.status_code, call.events, call.links) == (
        SpanKind.INTERNAL,
        StatusCode.UNSET,
        (),
        (),
    )
    assert call.attributes == {
        "altcraft.method": METHOD,
        "altcraft.request_id": "id-1",
        "altcraft.order_external_id": "order_1",
        "altcraft.order_line_external_id": "line_1_1",
        "altcraft.state": "applied",
        "altcraft.attempts": 3,
    }
    common = server_of(sandbox) | {"url.full": f"{sandbox.base_url}/api/v1.1/{METHOD}"}
    assert [dict(attempt.attributes) for attempt in attempts] == [
        common | {"http.response.status_code": 503, "error.type": "ServerError"},
        common | {"http.request.resend_count": 1, "error.type": "ConnectionLostError"},
        common | {"http.request.resend_count": 2, "http.response.status_code": 200},
    ]
    refused, lost, accepted = (attempt.status for attempt in attempts)
    assert (refused.status_code, refused.description) == (
        StatusCode.ERROR, "the server answered error 503 (Service unavailable)",
    )  # fmt: skip
    assert lost.status_code is StatusCode.ERROR
    assert lost.description.startswith("the connection broke (")
    assert (accepted.status_code, accepted.description) == (StatusCode.UNSET, None)
    assert {(attempt.kind, attempt.events, attempt.links) for attempt in attempts} == {(SpanKind.CLIENT, (), ())}
    assert call.start_time <= attempts[0].start_time
    assert all(one.end_time <= two.start_time for one, two in itertools.pairwise(attempts))
    assert attempts[-1].end_time <= call.end_time <= handler.end_time


async def test_the_metrics_of_a_retried_call_are_exactly_these(sandbox, connect, telemetry):
    sandbox.faults = Faults(
        script=[Fault("error", status=503), *[Fault("reset_before")] * 2]
    )  # the first one is replaced
    client = connect(sandbox, observers=[telemetry.observer], concurrency=5)
    await client.market.orders.update_order_line_status(*LINE)
    server = server_of(sandbox).items()
    of_method = point(altcraft__method=METHOD)
    assert telemetry.metrics() == {
        "http.client.request.duration": (
            "s",
            {
                frozenset(server) | point(http__response__status_code=503, error__type="ServerError"): 1,
                frozenset(server) | point(error__type="ConnectionLostError"): 1,
                frozenset(server) | point(http__response__status_code=200): 1,
            },
        ),
        "http.client.active_requests": ("{request}", {frozenset(server): 0}),
        "altcraft.call.duration": ("s", {of_method | point(altcraft__state="applied"): 1}),
        "altcraft.retries": ("{request}", {of_method: 2}),
        "altcraft.throttled": ("{request}", {of_method: 1}),
        "altcraft.limit": ("{request}", {frozenset(): 5}),
    }


async def test_durations_have_the_buckets_that_the_conventions_advise(sandbox, connect, telemetry):
    await connect(sandbox, observers=[telemetry.observer]).market.orders.update_order_line_status(*LINE)
    data = telemetry.reader.get_metrics_data()
    (metrics,) = (scope.metrics for scope in data.resource_metrics[0].scope_metrics)
    bounds = {metric.name: metric.data.data_points[0] for metric in metrics}
    advised = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert tuple(bounds["http.client.request.duration"].explicit_bounds) == advised
    assert tuple(bounds["altcraft.call.duration"].explicit_bounds) == (*advised, 30, 60, 300)


async def test_a_duration_leads_to_the_span_that_took_it(sandbox, connect, telemetry):
    await connect(sandbox, observers=[telemetry.observer]).market.orders.update_order_line_status(*LINE)
    call, attempt = telemetry.spans
    (metrics,) = (scope.metrics for scope in telemetry.reader.get_metrics_data().resource_metrics[0].scope_metrics)
    exemplars = {metric.name: getattr(metric.data.data_points[0], "exemplars", ()) for metric in metrics}
    assert [one.span_id for one in exemplars["http.client.request.duration"]] == [attempt.context.span_id]
    assert [one.span_id for one in exemplars["altcraft.call.duration"]] == [call.context.span_id]


async def test_a_call_that_fails_has_the_error_on_its_span_and_in_its_metric(start_sandbox, connect, telemetry):
    sandbox = await start_sandbox(error_style="http200")
    client = connect(sandbox, observers=[telemetry.observer])
    with pytest.raises(BadRequestError) as caught:
        await client.market.orders.update_order_line_status("order_99", "line_9", "delivered")
    call, attempt = telemetry.spans
    for span in (call, attempt):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, caught.value.message)
        assert span.attributes["error.type"] == "BadRequestError"
    assert attempt.attributes["http.response.status_code"] == 200
    assert (call.attributes["altcraft.state"], call.attributes["altcraft.attempts"]) == ("rejected", 1)
    assert telemetry.points("altcraft.call.duration") == {
        point(altcraft__method=METHOD, altcraft__state="rejected", error__type="BadRequestError"): 1
    }


async def test_a_cancelled_call_has_ended_spans_and_is_in_flight_no_more(sandbox, connect, telemetry, watcher, until):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, observers=[telemetry.observer, watcher])
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(AttemptStarted))
    assert telemetry.points("http.client.active_requests") == {frozenset(server_of(sandbox).items()): 1}
    await cancelled(task)
    call, attempt = telemetry.spans
    for span in (call, attempt):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "cancelled")
        assert span.attributes["error.type"] == "CancelledError"
    assert (call.attributes["altcraft.state"], call.attributes["altcraft.attempts"]) == ("unknown", 1)
    assert telemetry.points("http.client.active_requests") == {frozenset(server_of(sandbox).items()): 0}
    assert telemetry.observer._calls == {}


async def test_a_call_that_never_got_a_permit_has_a_span_without_attempts(sandbox, connect, telemetry, until, watcher):
    sandbox.faults = Faults(latency=0.1)
    client = connect(sandbox, observers=[telemetry.observer, watcher], concurrency=1)
    first = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(AttemptStarted))
    with pytest.raises(TimeoutError):
        await client.market.orders.update_order_line_status("order_2", "line_2_1", "new", deadline=0.01)
    await first
    late = telemetry.spans[-1]
    assert late.attributes["altcraft.attempts"] == 0
    assert late.attributes["error.type"] == "DeadlineError"
    assert telemetry.tree() == [(METHOD, [("POST", [])]), (METHOD, [])]


async def test_the_calls_of_a_run_are_children_of_the_span_that_started_it(sandbox, connect, telemetry):
    sandbox.faults = Faults(script=[Fault("error", status=500)] * 3, latency=0.001)
    client = connect(sandbox, observers=[telemetry.observer])
    rows = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 21)]
    with telemetry.tracer.start_as_current_span("job") as job:
        await client.market.orders.update_order_line_statuses([*rows, ("order_1", "", "wrong")])
        assert trace.get_current_span() is job
    ((name, calls),) = telemetry.tree()
    assert (name, len(calls), {call for call, _ in calls}) == ("job", 20, {METHOD})
    assert sorted(len(attempts) for _, attempts in calls) == [1] * 17 + [2] * 3
    assert telemetry.points("altcraft.updates") == {
        point(altcraft__state="applied"): 20, point(altcraft__state="invalid"): 1,
    }  # fmt: skip
    assert telemetry.points("altcraft.retries") == {point(altcraft__method=METHOD): 3}
    lines = {(s.attributes["altcraft.order_external_id"], s.attributes["altcraft.order_line_external_id"])
             for s in telemetry.spans if s.name == METHOD}  # fmt: skip
    assert lines == {row[:2] for row in rows}


async def test_a_stream_belongs_to_the_span_that_reads_it(sandbox, connect, telemetry):
    client = connect(sandbox, observers=[telemetry.observer])
    with telemetry.tracer.start_as_current_span("job") as job:
        async for _ in client.market.orders.stream_order_line_statuses([LINE, ("order_2", "line_2_1", "new")]):
            assert trace.get_current_span() is job
    assert telemetry.tree() == [("job", [(METHOD, [("POST", [])])] * 2)]


@pytest.mark.parametrize("grace", ["within", "over"])
async def test_nothing_is_left_of_a_run_that_was_cancelled(start_sandbox, connect, telemetry, until, grace):
    sandbox = await start_sandbox(seed=3, faults=Faults(latency=0.002, error_500=0.3, reset_before=0.1))
    client = connect(sandbox, observers=[telemetry.observer])

    async def consume():
        rows = ((f"order_{n % 20 + 1}", f"line_{n % 20 + 1}_1", "new") for n in range(10**6))
        async with aclosing(client.market.orders.stream_order_line_statuses(rows)) as stream:
            async for _ in stream:
                pass

    task = asyncio.ensure_future(consume())
    await until(lambda: sandbox.ledger.requests > 30)
    task.cancel()
    if grace == "over":
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    calls = [span for span in telemetry.spans if span.name == METHOD]
    assert len(calls) > 10
    assert sum(span.attributes["altcraft.attempts"] for span in calls) == len(telemetry.spans) - len(calls)
    assert set(telemetry.points("http.client.active_requests").values()) == {0}
    assert telemetry.observer._calls == {}


async def test_calls_that_overlap_under_one_request_id_have_their_own_spans(sandbox, connect, telemetry):
    sandbox.faults = Faults(latency=0.01)
    update = connect(sandbox, observers=[telemetry.observer]).market.orders.update_order_line_status
    await asyncio.gather(*(update(*LINE, request_id="same") for _ in range(3)))
    assert telemetry.tree() == [(METHOD, [("POST", [])])] * 3


async def test_the_callers_span_is_current_again_after_a_call(sandbox, connect, telemetry):
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    client = connect(sandbox, observers=[telemetry.observer])
    with telemetry.tracer.start_as_current_span("handler") as handler:
        await client.market.orders.update_order_line_status(*LINE)
        assert trace.get_current_span() is handler
        with pytest.raises(BadRequestError):
            await client.market.orders.update_order_line_status("order_99", "line_9", "new")
        assert trace.get_current_span() is handler
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_the_span_of_an_attempt_is_current_below_it(sandbox, connect, telemetry):
    seen = []
    config = aiohttp.TraceConfig()

    async def look(*_):
        seen.append(trace.get_current_span().get_span_context().span_id)

    config.on_request_start.append(look)
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    client = connect(sandbox, observers=[telemetry.observer], trace_configs=[config])
    await client.market.orders.update_order_line_status(*LINE)
    assert seen == [span.context.span_id for span in telemetry.spans if span.name == "POST"]


async def test_a_call_that_is_dropped_and_collected_leaves_nothing(sandbox, connect, telemetry, caplog):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, observers=[telemetry.observer])
    call = client.market.orders.update_order_line_status(*LINE)
    call.send(None)  # as a task does it; the loop that would go on with it is lost
    contextvars.Context().run(call.close)
    assert {span.name for span in telemetry.spans} == {METHOD, "POST"}
    assert telemetry.observer._calls == {}
    assert "Failed to detach" not in caplog.text


async def test_spans_that_are_not_sampled_cost_no_metric(sandbox, connect):
    telemetry = Telemetry(sampler=ALWAYS_OFF)
    await connect(sandbox, observers=[telemetry.observer]).market.orders.update_order_line_status(*LINE)
    assert telemetry.spans == []
    assert sum(telemetry.points("altcraft.call.duration").values()) == 1


async def test_without_an_sdk_nothing_happens(sandbox, connect, caplog):
    await connect(sandbox, observers=[OpenTelemetryObserver()]).market.orders.update_order_line_status(*LINE)
    assert caplog.records == []


def test_the_backlog_of_the_outbox_is_measured(telemetry):
    telemetry.observer.on_event(OutboxChanged(5, 1))
    telemetry.observer.on_event(OutboxChanged(3, 2))
    for _ in range(2):  # once told, in every export
        assert telemetry.points("altcraft.outbox.pending") == {frozenset(): 3}
    assert telemetry.points("altcraft.outbox.dead") == {frozenset(): 2}


def test_of_several_observers_the_one_that_was_told_last_counts(telemetry, caplog):
    telemetry.observer.on_event(LimitChanged(5, 0))
    OpenTelemetryObserver(telemetry.tracers, telemetry.meters).on_event(LimitChanged(7, 0))
    assert telemetry.points("altcraft.limit") == {frozenset(): 7}
    telemetry.observer.on_event(LimitChanged(6, 5))
    assert telemetry.points("altcraft.limit") == {frozenset(): 6}
    assert Telemetry().metrics() == {}
    assert caplog.records == []


async def test_the_limit_is_measured_as_it_moves(start_sandbox, connect, telemetry):
    sandbox = await start_sandbox(orders=100)
    client = connect(sandbox, observers=[telemetry.observer], concurrency=Adaptive(maximum=40))
    rows = [(f"order_{n}", f"line_{n}_1", "new") for n in range(1, 101)]
    await client.market.orders.update_order_line_statuses(rows)
    assert telemetry.points("altcraft.limit") == {frozenset(): client.statistics().limit}


# -- trace context


async def test_no_trace_context_goes_out_unasked(start_raw_server, connect, telemetry):
    server = await start_raw_server(YES)
    with telemetry.tracer.start_as_current_span("handler"):
        await connect(server, observers=[telemetry.observer]).market.orders.update_order_line_status(*LINE)
    assert "traceparent" not in server.requests[0].head.lower()


async def test_the_context_of_each_attempt_goes_out_where_asked_and_no_baggage(start_raw_server, connect, telemetry):
    server = await start_raw_server(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", YES)
    client = connect(server, observers=[telemetry.observer], trace_configs=[propagation()])
    token = context.attach(baggage.set_baggage("customer", "secret"))
    await client.market.orders.update_order_line_status(*LINE)
    context.detach(token)
    attempts = [span.context for span in telemetry.spans if span.name == "POST"]
    sent = [re.search(r"traceparent: (\S+)", request.head)[1] for request in server.requests]
    assert sent == [f"00-{one.trace_id:032x}-{one.span_id:016x}-{one.trace_flags:02x}" for one in attempts]
    assert "baggage" not in server.requests[0].head.lower()


async def test_another_propagator_can_be_given(start_raw_server, connect, telemetry):
    class Mine:
        def inject(self, carrier):
            carrier["X-Trace"] = f"{trace.get_current_span().get_span_context().span_id:x}"

    server = await start_raw_server(YES)
    client = connect(server, observers=[telemetry.observer], trace_configs=[propagation(Mine())])
    await client.market.orders.update_order_line_status(*LINE)
    assert f"X-Trace: {telemetry.spans[-1].context.span_id:x}\r\n" in server.requests[0].head


async def test_the_official_instrumentation_of_aiohttp_fits_beneath(sandbox, connect, telemetry):
    sandbox.faults = Faults(script=[Fault("error", status=500)])
    official = create_trace_config(tracer_provider=telemetry.tracers)
    client = connect(sandbox, observers=[telemetry.observer], trace_configs=[official])
    with telemetry.tracer.start_as_current_span("handler") as handler:
        await client.market.orders.update_order_line_status(*LINE)
        assert trace.get_current_span() is handler
    assert telemetry.tree() == [("handler", [(METHOD, [("POST", [("POST", [])])] * 2)])]


async def test_the_official_instrumentation_survives_cancelled_calls(sandbox, connect, telemetry, watcher, until):
    sandbox.faults = Faults(latency=5.0)
    official = create_trace_config(tracer_provider=telemetry.tracers)
    client = connect(sandbox, observers=[telemetry.observer, watcher], trace_configs=[official, propagation()])
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: sandbox.ledger.in_flight)
    await cancelled(task)
    assert telemetry.tree() == [(METHOD, [("POST", [("POST", [])])])]


# -- documents


async def test_the_documents_name_every_span_attribute_and_metric(start_sandbox, connect, telemetry):
    sandbox = await start_sandbox(faults=Faults(script=[Fault("error", status=503)]))
    client = connect(sandbox, observers=[telemetry.observer])
    await client.market.orders.update_order_line_statuses([LINE, ("order_99", "line_9", "new")])
    telemetry.observer.on_event(OutboxChanged(1, 0))
    attributes = {name for span in telemetry.spans for name in span.attributes}
    assert sorted(documented("Attributes of spans")) == sorted(attributes)
    assert sorted(documented("Metrics of OpenTelemetry")) == sorted(telemetry.metrics())


@pytest.mark.processes
def test_a_missing_library_is_named_with_its_extra():
    code = "import sys; sys.modules['opentelemetry'] = None; import altcraft_async.integrations.opentelemetry"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: opentelemetry-api is not installed" in run.stderr
    assert "pip install 'altcraft-async[opentelemetry]'" in run.stderr


async def linked_spans(telemetry):
    """The spans that deliveries out of an outbox are linked to, by the line of the delivery."""
    calls = [span for span in telemetry.spans if span.name == METHOD]
    return {
        span.attributes["altcraft.order_line_external_id"]: [link.context.span_id for link in span.links]
        for span in calls
    }


async def test_a_delivery_out_of_the_outbox_is_linked_to_the_span_that_put_it(sandbox, connect, telemetry, tmp_path):
    client = connect(sandbox, observers=[telemetry.observer])
    async with Outbox(tmp_path / "outbox.db", client) as outbox:
        with telemetry.tracer.start_as_current_span("POST /webhook") as span:
            await outbox.put(LINE)
        await outbox.put(("order_2", "line_2_1", "new"))
    assert await linked_spans(telemetry) == {"line_1_1": [span.get_span_context().span_id], "line_2_1": []}
    (delivery, *_) = [span for span in telemetry.spans if span.links]
    assert delivery.links[0].context.trace_id == span.get_span_context().trace_id
    assert delivery.context.trace_id != span.get_span_context().trace_id  # a link, not a parent: it may come days later


async def test_the_link_outlives_the_process_and_a_dead_letter(sandbox, connect, telemetry, tmp_path):
    path, late = tmp_path / "outbox.db", ("order_99", "line_99_1", "new")
    async with Outbox(path, traceparent=current_traceparent) as outbox:  # it only accepts
        with telemetry.tracer.start_as_current_span("POST /webhook") as span:
            await outbox.put(late)
    async with Outbox(path, connect(sandbox)) as outbox:
        pass
    sandbox.add_order("order_99", ["line_99_1"])
    async with Outbox(path) as outbox:
        (letter,) = [letter async for letter in outbox.dead_letters()]
        assert letter.traceparent.split("-")[2] == f"{span.get_span_context().span_id:016x}"
        assert await outbox.retry() == 1
    async with Outbox(path, connect(sandbox, observers=[telemetry.observer])):
        pass
    assert await linked_spans(telemetry) == {"line_99_1": [span.get_span_context().span_id]}


async def test_a_trace_that_nobody_keeps_or_can_read_is_no_link(sandbox, connect, telemetry, tmp_path):
    unsampled = Telemetry(sampler=ALWAYS_OFF)
    async with Outbox(tmp_path / "outbox.db", traceparent=current_traceparent) as outbox:
        with unsampled.tracer.start_as_current_span("POST /webhook"):
            await outbox.put(LINE)
    async with Outbox(tmp_path / "outbox.db", traceparent=lambda: "nonsense") as outbox:
        await outbox.put(("order_2", "line_2_1", "new"))
    async with Outbox(tmp_path / "outbox.db", connect(sandbox, observers=[telemetry.observer])):
        pass
    assert await linked_spans(telemetry) == {"line_1_1": [], "line_2_1": []}
