"""What can be watched: frozen event values, the observer protocol, a logging observer.

An observer is an object with ``on_event(event)``, called synchronously on the
event loop, so it must be quick. One that raises is logged and otherwise
ignored: it never harms a delivery. No event holds the token or a body.

Every `CallStarted` is followed by one `CallEnded`, and every `AttemptStarted` by one `AttemptEnded`, in the same task
and before its call ends; also if the call fails, is cancelled or is cut off.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import CancelledError
    from collections.abc import Mapping, Sequence

    from altcraft_async.errors import AltcraftError, DeliveryError
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.states import OutcomeState

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "CallEnded",
    "CallEvent",
    "CallStarted",
    "Event",
    "JournalOpened",
    "LeasesChanged",
    "LimitChanged",
    "LimitShared",
    "LoggingObserver",
    "Observer",
    "OutageBegan",
    "OutageEnded",
    "OutboxChanged",
    "RetryPlanned",
    "SendingPaused",
    "TracingObserver",
    "UpdateSettled",
    "UpdatesSkipped",
    "notify",
]


@attrs.frozen
class CallEvent:
    """What the events of one call have in common.

    `method` is the API's, `request_id` the ``Request-ID`` of all attempts. The two ids name the order line that the
    call concerns, if it concerns one. `call_id` is the same in all events of the call, and no other call has it; calls
    that overlap can have the same `request_id`, if a caller gives them one.
    """

    method: str
    request_id: str
    order_external_id: str | None = attrs.field(default=None, kw_only=True)
    order_line_external_id: str | None = attrs.field(default=None, kw_only=True)
    call_id: int = attrs.field(default=0, kw_only=True)


@attrs.frozen
class CallStarted(CallEvent):
    """A call begins: a single one when it is made, an update of a bulk run with its first attempt.

    If the update comes from an outbox, `traceparent` names the span that put it there, in the form of the W3C header
    of that name; None if it was not traced, or does not come from an outbox.
    """

    traceparent: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class AttemptStarted(CallEvent):
    """A request goes out to `url`: the `attempt`-th (from 1) of its call."""

    attempt: int
    url: str = ""


@attrs.frozen
class AttemptEnded(CallEvent):
    """An attempt ended after `elapsed` seconds, in `error` unless it succeeded.

    `status` is the HTTP status, 0 without an answer. `throttled` says that it was
    back-pressure. An attempt that was cancelled has the `asyncio.CancelledError`.
    """

    attempt: int
    elapsed: float
    status: int
    error: AltcraftError | CancelledError | None
    throttled: bool = False


@attrs.frozen
class RetryPlanned(CallEvent):
    """Another attempt will be made after `delay` seconds, because of `error`."""

    attempt: int
    delay: float
    error: DeliveryError | None


@attrs.frozen
class CallEnded(CallEvent):
    """A call ended in `state`, after `elapsed` seconds and `attempts`, in `error` unless it succeeded.

    `state` is the state of the outcome: a call that was cancelled ends ``unknown`` if the server may have taken it,
    else ``not_sent``.
    """

    state: OutcomeState
    attempts: int
    elapsed: float
    error: AltcraftError | CancelledError | None


@attrs.frozen
class UpdateSettled:
    """An update of a bulk run reached its one outcome."""

    outcome: Outcome[object]


@attrs.frozen
class UpdatesSkipped:
    """The `count` updates from index `first` on are not sent: by the journal, they are done."""

    first: int
    count: int


@attrs.frozen
class JournalOpened:
    """A run keeps the journal at `path`, under `run_id`.

    `recorded` lines have an outcome in it, from earlier runs, and `retried` of the failed ones are sent again.
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
class LeasesChanged:
    """The client's process now delivers `held` buckets of an outbox: it has `won` some, or `lost` some to others."""

    held: int
    won: int
    lost: int


@attrs.frozen
class LimitChanged:
    """The concurrency limit of the client moved.

    `previous` is 0 when the client is made, which may be before there is an event loop.
    """

    limit: int
    previous: int


@attrs.frozen
class LimitShared:
    """From now on this number of `processes` of this host share one limit, including this one; 1 is alone again."""

    processes: int


@attrs.frozen
class SendingPaused:
    """The server asked for a pause: no call of the client starts for `seconds`."""

    seconds: float


@attrs.frozen
class OutageBegan:
    """Nobody has been served for `seconds`: from now on single calls probe, and all others wait."""

    seconds: float


@attrs.frozen
class OutageEnded:
    """The server serves again, `seconds` after the outage began."""

    seconds: float


Event: TypeAlias = (
    CallStarted
    | AttemptStarted
    | AttemptEnded
    | RetryPlanned
    | CallEnded
    | UpdateSettled
    | UpdatesSkipped
    | JournalOpened
    | OutboxChanged
    | LeasesChanged
    | LimitChanged
    | LimitShared
    | SendingPaused
    | OutageBegan
    | OutageEnded
)


class Observer(Protocol):
    """An object that gets every event."""

    def on_event(self, event: Event, /) -> None:
        """Handle `event`; called on the event loop, must not block."""


class TracingObserver(ABC):
    """An observer that also knows the current span."""

    __slots__ = ()

    @abstractmethod
    def on_event(self, event: Event, /) -> None:
        """Handle `event`, as any `Observer` does."""

    @abstractmethod
    def traceparent(self) -> str | None:
        """Return the current span in the form of the W3C header ``traceparent``; None without one."""


_log = logging.getLogger("altcraft_async")


def notify(observers: Sequence[Observer], event: Event) -> None:
    """Report `event` to every observer; one that raises is logged and skipped."""
    for observer in observers:
        try:
            observer.on_event(event)
        except Exception:  # noqa: BLE001 - somebody else's code, and never worth a delivery
            _log.exception("an observer failed on %s", type(event).__name__)


class LoggingObserver:
    """Writes events to the standard log.

    WARNING: an update of a bulk run that was not applied, an outage that begins. INFO: its end,
    a planned retry, a pause that the server asked for, a journal that was opened. DEBUG:
    everything else; a single call that fails is its caller's to log.

    Every record has the attributes ``method``, ``request_id``, ``order_external_id``, ``order_line_external_id``,
    ``index`` (in the input), ``attempt``, ``state``, ``elapsed`` (seconds) and ``error_type``: None if the event does
    not have it, so that a format may name any of them.
    """

    __slots__ = ("_log",)

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger or _log

    def on_event(self, event: Event, /) -> None:
        """Log `event`."""
        level = _level(event)
        if not self._log.isEnabledFor(level):
            return
        extra = _extra(event)
        match event:
            case UpdateSettled(outcome=outcome) if not outcome.ok:
                self._log.log(level, "update %d: %s: %s", outcome.index, outcome.state, outcome.error, extra=extra)
            case RetryPlanned(attempt=attempt, delay=delay, error=error):
                self._log.log(level, "retry %d in %.2f s: %s", attempt, delay, error, extra=extra)
            case OutageBegan(seconds=seconds):
                self._log.log(level, "nobody has been served for %.1f s; waiting", seconds, extra=extra)
            case OutageEnded(seconds=seconds):
                self._log.log(level, "the server serves again after %.1f s", seconds, extra=extra)
            case LimitShared(processes=processes):
                self._log.log(level, "%d processes of this host share the limit", processes, extra=extra)
            case SendingPaused(seconds=seconds):
                self._log.log(level, "the server asked for a pause of %.1f s", seconds, extra=extra)
            case JournalOpened(path=path, recorded=recorded, retried=retried):
                said = "journal %s: %d updates are recorded, %d that failed are sent again"
                self._log.log(level, said, path, recorded, retried, extra=extra)
            case _:
                self._log.log(level, "%s", event, extra=extra)


def switch_on_log(environ: Mapping[str, str]) -> LoggingObserver | None:
    """Return the observer that ``ALTCRAFT_LOG`` asks for, None without; it sets the level of the library's logger.

    If no handler takes the records, they go to standard error. Raises `ConfigurationError` for an unknown level.
    """
    name = environ.get("ALTCRAFT_LOG", "").strip()
    if not name:
        return None
    levels = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    if name.lower() not in levels:
        msg = f"ALTCRAFT_LOG must be {', '.join(levels)}, not {name!r}"
        raise ConfigurationError(msg, field="log")
    _log.setLevel(levels[name.lower()])
    if not _log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        _log.addHandler(handler)
    return LoggingObserver()


def _level(event: Event) -> int:
    if isinstance(event, OutageBegan) or (isinstance(event, UpdateSettled) and not event.outcome.ok):
        return logging.WARNING
    told = RetryPlanned | SendingPaused | LimitShared | JournalOpened | OutageEnded
    return logging.INFO if isinstance(event, told) else logging.DEBUG


def _extra(event: Event) -> dict[str, object]:
    """Gather what `event` knows of the call or update that it is about."""
    outcome = event.outcome if isinstance(event, UpdateSettled) else None
    about = outcome or event
    line = outcome.update if outcome else event
    state = getattr(about, "state", None)
    error = getattr(about, "error", None)
    return {
        "method": getattr(about, "method", None),
        "request_id": getattr(about, "request_id", None),
        "order_external_id": getattr(line, "order_external_id", None),
        "order_line_external_id": getattr(line, "order_line_external_id", None),
        "index": getattr(about, "index", None),
        "attempt": getattr(about, "attempt", getattr(about, "attempts", None)),
        "state": None if state is None else str(state),
        "elapsed": getattr(about, "elapsed", None),
        "error_type": None if error is None else type(error).__name__,
    }
