"""OpenTelemetry: a span for each call, with its attempts as children, and metrics (extra ``opentelemetry``).

.. code-block:: python

    from altcraft_async import AltcraftClient
    from altcraft_async.integrations.opentelemetry import OpenTelemetryObserver

    altcraft = AltcraftClient.from_env(observers=[OpenTelemetryObserver()])

Names follow the semantic conventions for HTTP clients where these have one, else
they begin with ``altcraft.``. Neither the token nor a body is part of a span or
a metric, and no id is part of a metric.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
import attrs

from altcraft_async.errors import AltcraftError, MissingExtraError
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    LimitChanged,
    OutboxChanged,
    TracingObserver,
    UpdateSettled,
)

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    _message = "opentelemetry-api is not installed: pip install 'altcraft-async[opentelemetry]'"
    raise MissingExtraError(_message) from None

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token
    from types import SimpleNamespace

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

    from altcraft_async.observe import Event

__all__ = ["OpenTelemetryObserver", "current_traceparent", "propagation"]

_Attributes: TypeAlias = "dict[str, str | int]"

_NAME = "altcraft_async"
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""What the conventions advise for HTTP requests."""

_CALL_SECONDS = (*_REQUEST_SECONDS, 30, 60, 300)
"""A call also waits: for a permit, and between its attempts."""

_GAUGES = (
    ("altcraft.limit", "{request}", "How many requests may be in flight."),
    ("altcraft.outbox.pending", "{update}", "Updates that wait in the outbox."),
    ("altcraft.outbox.dead", "{update}", "Updates that the outbox has given up."),
)

_levels_of: WeakKeyDictionary[MeterProvider, dict[str, int]] = WeakKeyDictionary()
"""What the gauges of a provider show; of a gauge that is made twice, it would only ask the first."""

_TRACE_CONTEXT = TraceContextTextMapPropagator()

_CURRENT = otel_context.create_key("altcraft-attempt")


@attrs.define(eq=False)
class _OpenAttempt:
    span: Span
    server: _Attributes
    token: Token[Context] | None = None


@attrs.define(eq=False)
class _OpenCall:
    span: Span
    context: Context
    attempt: _OpenAttempt | None = None


def current_traceparent() -> str | None:
    """Return the current span in the form of the header ``traceparent``; None without one, or if it is not sampled.

    For an outbox without a client: ``Outbox(path, traceparent=current_traceparent)``.
    """
    carrier: dict[str, str] = {}
    if trace.get_current_span().get_span_context().trace_flags.sampled:
        _TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent")


class OpenTelemetryObserver(TracingObserver):
    """Turns events into spans and metrics, by the given providers or the global ones.

    The span of a call is a child of the span that is current where the call was made (for a bulk run: where the run was
    started). The span of an attempt is current while the request is under way, so spans and logs from below belong to
    it. Spans end with their call or attempt, also when that is cancelled; nothing is kept of a call that has ended. The
    span of a delivery from an outbox has a link to the span in which the update was put, whichever process that was in.

    Clients may share one observer, or have several; limit and backlog are the last reported ones.
    """

    __slots__ = (
        "_active", "_calls", "_durations", "_levels", "_rejected", "_requests", "_retries", "_tracer", "_updates",
    )  # fmt: skip

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider, schema_url=_SCHEMA)
        self._calls: dict[int, _OpenCall] = {}
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider, schema_url=_SCHEMA)
        self._requests = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_REQUEST_SECONDS,
        )
        self._active = meter.create_up_down_counter(
            "http.client.active_requests", unit="{request}", description="Number of active HTTP requests."
        )
        self._durations = meter.create_histogram(
            "altcraft.call.duration",
            unit="s",
            description="Duration of calls, with all their attempts and waiting.",
            explicit_bucket_boundaries_advisory=_CALL_SECONDS,
        )
        self._retries = meter.create_counter(
            "altcraft.retries", unit="{request}", description="Requests that were not their call's first."
        )
        self._rejected = meter.create_counter(
            "altcraft.throttled", unit="{request}", description="Requests that met with back-pressure."
        )
        self._updates = meter.create_counter(
            "altcraft.updates", unit="{update}", description="Updates of bulk runs that got their outcome."
        )
        self._levels = _levels_of.setdefault(meter_provider or metrics.get_meter_provider(), {})
        for name, unit, said in _GAUGES:
            meter.create_observable_gauge(name, [partial(_observe, self._levels, name)], unit, said)

    def traceparent(self) -> str | None:
        """Return the current span; see `current_traceparent`."""
        return current_traceparent()

    def on_event(self, event: Event, /) -> None:
        """Begin or end a span, and count."""
        match event:
            case AttemptStarted():
                self._start_attempt(event)
            case AttemptEnded():
                self._end_attempt(event)
            case CallStarted():
                self._start_call(event)
            case CallEnded():
                self._end_call(event)
            case UpdateSettled(outcome=outcome):
                self._updates.add(1, {"altcraft.state": str(outcome.state)})
            case LimitChanged(limit=limit):
                self._levels["altcraft.limit"] = limit
            case OutboxChanged(pending=pending, dead=dead):
                self._levels |= {"altcraft.outbox.pending": pending, "altcraft.outbox.dead": dead}

    def _start_call(self, event: CallStarted) -> None:
        attributes: _Attributes = {"altcraft.method": event.method, "altcraft.request_id": event.request_id}
        if event.order_external_id is not None:
            attributes["altcraft.order_external_id"] = event.order_external_id
        if event.order_line_external_id is not None:
            attributes["altcraft.order_line_external_id"] = event.order_line_external_id
        links = None if event.traceparent is None else _links(event.traceparent)
        span = self._tracer.start_span(event.method, attributes=attributes, links=links)
        self._calls[event.call_id] = _OpenCall(span, trace.set_span_in_context(span))

    def _end_call(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call_id, None)
        attributes: _Attributes = {"altcraft.state": str(event.state)}
        if event.error is not None:
            attributes["error.type"] = type(event.error).__name__
        self._durations.record(
            event.elapsed, {"altcraft.method": event.method, **attributes}, None if call is None else call.context
        )
        if call is not None:
            call.span.set_attributes({**attributes, "altcraft.attempts": event.attempts})
            _end(call.span, event.error)

    def _start_attempt(self, event: AttemptStarted) -> None:
        call = self._calls.get(event.call_id)
        if call is None:
            return
        server = dict(_server(event.url))
        attributes: _Attributes = {**server, "url.full": event.url}
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
            self._retries.add(1, {"altcraft.method": event.method})
        span = self._tracer.start_span("POST", call.context, trace.SpanKind.CLIENT, attributes)
        self._active.add(1, server)
        call.attempt = attempt = _OpenAttempt(span, server)
        current = otel_context.set_value(_CURRENT, attempt, trace.set_span_in_context(span))
        attempt.token = otel_context.attach(current)

    def _end_attempt(self, event: AttemptEnded) -> None:
        call = self._calls.get(event.call_id)
        if call is None or call.attempt is None:
            return
        attempt, call.attempt = call.attempt, None
        attributes: _Attributes = {}
        if event.status:
            attributes["http.response.status_code"] = event.status
        if event.error is not None:
            attributes["error.type"] = type(event.error).__name__
        self._requests.record(event.elapsed, {**attempt.server, **attributes})
        self._active.add(-1, attempt.server)
        if event.throttled:
            self._rejected.add(1, {"altcraft.method": event.method})
        attempt.span.set_attributes(attributes)
        _end(attempt.span, event.error)
        if attempt.token is not None and otel_context.get_value(_CURRENT) is attempt:
            otel_context.detach(attempt.token)  # a task that nobody awaits may be collected in another context


def _links(traceparent: str) -> list[trace.Link]:
    context = trace.get_current_span(_TRACE_CONTEXT.extract({"traceparent": traceparent})).get_span_context()
    return [trace.Link(context)] if context.is_valid else []


def _observe(levels: Mapping[str, int], name: str, _: metrics.CallbackOptions) -> list[metrics.Observation]:
    level = levels.get(name)
    return [] if level is None else [metrics.Observation(level)]


@lru_cache(maxsize=64)
def _server(url: str) -> Mapping[str, str | int]:
    """Name the server of `url` as the conventions do."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"http.request.method": "POST", "server.address": parts.hostname or "", "server.port": port}


def _end(span: Span, error: BaseException | None) -> None:
    if error is not None:
        said = error.message if isinstance(error, AltcraftError) else "cancelled"
        span.set_status(trace.StatusCode.ERROR, said)
    span.end()


def propagation(propagator: TextMapPropagator | None = None) -> aiohttp.TraceConfig:
    """Return a trace configuration that sends the trace context of each attempt along with its request.

    For ``AltcraftClient(trace_configs=[propagation()])``; without it no trace context leaves the process. By default
    the W3C headers ``traceparent`` and ``tracestate`` go out, and no baggage; `propagator` overrides that. Trace
    configurations make the client send through aiohttp's session, which costs more CPU for each call than its own
    shorter way.
    """
    chosen = propagator or TraceContextTextMapPropagator()

    async def inject(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        chosen.inject(params.headers)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(inject)
    return config
