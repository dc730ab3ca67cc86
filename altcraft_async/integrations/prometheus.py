"""Prometheus: counters, histograms and gauges of a client (extra ``prometheus``).

.. code-block:: python

    from altcraft_async import AltcraftClient
    from altcraft_async.integrations.prometheus import PrometheusObserver

    altcraft = AltcraftClient.from_env(observers=[PrometheusObserver()])

Times are in seconds. No label holds an id: their values are the API's methods,
HTTP statuses, names of error classes and states of outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from altcraft_async.errors import MissingExtraError
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    LimitChanged,
    OutboxChanged,
    UpdateSettled,
)

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ImportError:
    _message = "prometheus-client is not installed: pip install 'altcraft-async[prometheus]'"
    raise MissingExtraError(_message) from None

if TYPE_CHECKING:
    from altcraft_async.observe import Event

__all__ = ["PrometheusObserver"]

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_CALL_SECONDS = (*_REQUEST_SECONDS, 30.0, 60.0, 300.0)
"""A call also waits: for a permit, and between its attempts."""


class PrometheusObserver:
    """Turns events into metrics in `registry`, whose names begin with `namespace`.

    Clients may share one observer; limit and backlog are the last reported ones. A registry takes each name once, so a
    second observer needs another `namespace`. If several processes report as one (``PROMETHEUS_MULTIPROC_DIR``), their
    limits and their requests in flight are added up. The outbox is the same for all, so its latest value counts.
    """

    __slots__ = (
        "_calls", "_dead", "_in_flight", "_limit", "_pending", "_rejected", "_requests", "_retries", "_updates",
    )  # fmt: skip

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, namespace: str = "altcraft") -> None:
        def histogram(name: str, said: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, said, labels, namespace=namespace, registry=registry, buckets=buckets)

        def counter(name: str, said: str, label: str) -> Counter:
            return Counter(name, said, (label,), namespace=namespace, registry=registry)

        def gauge(name: str, said: str, mode: Literal["livesum", "livemostrecent"] = "livesum") -> Gauge:
            return Gauge(name, said, namespace=namespace, registry=registry, multiprocess_mode=mode)

        self._requests = histogram(
            "request_duration_seconds", "Duration of requests.", ("method", "status", "error"), _REQUEST_SECONDS
        )
        self._in_flight = gauge("requests_in_flight", "Requests under way.")
        self._calls = histogram(
            "call_duration_seconds",
            "Duration of calls, with all their attempts and waiting.",
            ("method", "state"),
            _CALL_SECONDS,
        )
        self._retries = counter("retries_total", "Requests that were not their call's first.", "method")
        self._rejected = counter("rejected_sends_total", "Requests that met with back-pressure.", "method")
        self._updates = counter("updates_total", "Updates of bulk runs that got their outcome.", "state")
        self._limit = gauge("limit", "How many requests may be in flight.")
        self._pending = gauge("outbox_pending", "Updates that wait in the outbox.", "livemostrecent")
        self._dead = gauge("outbox_dead", "Updates that the outbox has given up.", "livemostrecent")

    def on_event(self, event: Event, /) -> None:
        """Count `event`."""
        match event:
            case AttemptStarted(method=method, attempt=attempt):
                self._in_flight.inc()
                if attempt > 1:
                    self._retries.labels(method).inc()
            case AttemptEnded():
                self._end_attempt(event)
            case CallEnded(method=method, state=state, elapsed=elapsed):
                self._calls.labels(method, str(state)).observe(elapsed)
            case UpdateSettled(outcome=outcome):
                self._updates.labels(str(outcome.state)).inc()
            case LimitChanged(limit=limit):
                self._limit.set(limit)
            case OutboxChanged(pending=pending, dead=dead):
                self._pending.set(pending)
                self._dead.set(dead)

    def _end_attempt(self, event: AttemptEnded) -> None:
        status = str(event.status) if event.status else ""
        error = "" if event.error is None else type(event.error).__name__
        self._in_flight.dec()
        self._requests.labels(event.method, status, error).observe(event.elapsed)
        if event.throttled:
            self._rejected.labels(event.method).inc()
