"""What can be watched: frozen event values, the observer protocol, a logging observer.

An observer is an object with ``on_event(event)``, called synchronously on the
event loop, so it must be quick. One that raises is logged and otherwise
ignored: it never harms a delivery. No event holds the token or a body.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.errors import DeliveryError
    from altcraft_async.outcome import Outcome

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "Event",
    "JournalOpened",
    "LimitChanged",
    "LoggingObserver",
    "Observer",
    "OutboxChanged",
    "RetryPlanned",
    "SendingPaused",
    "UpdateSettled",
    "UpdatesSkipped",
    "notify",
]


@attrs.frozen
class AttemptStarted:
    """A request goes out: the `attempt`-th (from 1) of the call under `request_id`."""

    method: str
    request_id: str
    attempt: int


@attrs.frozen
class AttemptEnded:
    """An attempt ended after `elapsed` seconds, in `error` unless it succeeded; `status` is 0 without an answer."""

    method: str
    request_id: str
    attempt: int
    elapsed: float
    status: int
    error: DeliveryError | None


@attrs.frozen
class RetryPlanned:
    """Another attempt will be made after `delay` seconds, because of `error`."""

    method: str
    request_id: str
    attempt: int
    delay: float
    error: DeliveryError | None


@attrs.frozen
class UpdateSettled:
    """An update of a bulk run reached its one outcome."""

    outcome: Outcome


@attrs.frozen
class UpdatesSkipped:
    """The `count` updates from index `first` on are not sent: by the journal, nothing is left to do for them."""

    first: int
    count: int


@attrs.frozen
class JournalOpened:
    """A run keeps the journal at `path`, under `run_id`.

    `recorded` lines have an outcome in it, from earlier runs, and `retried` of
    those that failed are sent again.
    """

    path: str
    run_id: str
    recorded: int
    retried: int


@attrs.frozen
class OutboxChanged:
    """An outbox now has `pending` updates that wait and `dead` ones that were given up."""

    pending: int
    dead: int


@attrs.frozen
class LimitChanged:
    """The concurrency limit of the client moved."""

    limit: int
    previous: int


@attrs.frozen
class SendingPaused:
    """The server asked for a pause: no call of the client starts for `seconds`."""

    seconds: float


Event: TypeAlias = (
    AttemptStarted
    | AttemptEnded
    | RetryPlanned
    | UpdateSettled
    | JournalOpened
    | UpdatesSkipped
    | OutboxChanged
    | LimitChanged
    | SendingPaused
)


class Observer(Protocol):
    """What is told of every event."""

    def on_event(self, event: Event, /) -> None:
        """Take note of `event`; called on the event loop, must not block."""


_log = logging.getLogger("altcraft_async")


def notify(observers: Sequence[Observer], event: Event) -> None:
    """Tell every observer of `event`; one that raises is logged and passed over."""
    for observer in observers:
        try:
            observer.on_event(event)
        except Exception:  # noqa: BLE001 - somebody else's code, and never worth a delivery
            _log.exception("an observer failed on %s", type(event).__name__)


class LoggingObserver:
    """Writes events to the standard log: attempts at DEBUG, retries and pauses at INFO, failed updates at WARNING."""

    __slots__ = ("_log",)

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger or _log

    def on_event(self, event: Event, /) -> None:
        """Log `event`."""
        match event:
            case UpdateSettled(outcome=outcome) if not outcome.ok:
                extra = {"request_id": outcome.request_id, "index": outcome.index, "state": str(outcome.state)}
                self._log.warning("update %d: %s: %s", outcome.index, outcome.state, outcome.error, extra=extra)
            case RetryPlanned(attempt=attempt, delay=delay, error=error):
                extra = {"request_id": event.request_id}
                self._log.info("retry %d in %.2f s: %s", attempt, delay, error, extra=extra)
            case SendingPaused(seconds=seconds):
                self._log.info("the server asked for a pause of %.1f s", seconds)
            case _:
                self._log.debug("%s", event)
