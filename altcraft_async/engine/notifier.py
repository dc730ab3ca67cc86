"""Tells observers what the engine does: made, and with it the events' classes loaded, only where there are any."""

from __future__ import annotations

import itertools
from asyncio import CancelledError
from typing import TYPE_CHECKING

from altcraft_async.errors import AltcraftError, DeliveryError
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    JournalOpened,
    LimitChanged,
    OutboxChanged,
    RetryPlanned,
    SendingPaused,
    UpdateSettled,
    UpdatesSkipped,
    notify,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.engine.history import History
    from altcraft_async.observe import Observer
    from altcraft_async.outcome import Outcome
    from altcraft_async.protocol.wire import Call

__all__ = ["Notifier"]

_call_ids = itertools.count(1)


class Notifier:
    """Makes the events and tells `observers`, who are never empty; `base_url` is the platform's address.

    A call is told of through its `History`, whose `facts` are what all its events say.
    """

    __slots__ = ("_base_url", "_observers")

    def __init__(self, observers: Sequence[Observer], base_url: str = "") -> None:
        self._observers = observers
        self._base_url = base_url

    def call_started(self, call: Call, history: History, now: float) -> None:
        """Tell that a call begins."""
        order, line = call.fields.get("order_external_id"), call.fields.get("order_line_external_id")
        history.started = now
        history.facts = {
            "method": call.method,
            "request_id": history.request_id,
            "order_external_id": order if isinstance(order, str) else None,
            "order_line_external_id": line if isinstance(line, str) else None,
            "call_id": next(_call_ids),
        }
        notify(self._observers, CallStarted(**history.facts))

    def attempt_started(self, call: Call, history: History, now: float) -> None:
        """Tell that a request goes out; an update of a bulk run begins with its first."""
        if history.facts is None:
            self.call_started(call, history, now)
        if history.facts is not None:
            url = f"{self._base_url}/api/v1.1/{call.method}"
            notify(self._observers, AttemptStarted(attempt=history.attempts, url=url, **history.facts))

    def attempt_ended(
        self, history: History, elapsed: float, status: int, error: BaseException | None, *, throttled: bool = False
    ) -> None:
        """Tell how an attempt ended."""
        if history.facts is not None:
            event = AttemptEnded(
                attempt=history.attempts,
                elapsed=elapsed,
                status=status or getattr(error, "status", 0),
                error=_presentable(error),
                throttled=throttled,
                **history.facts,
            )
            notify(self._observers, event)

    def retry_planned(self, history: History, delay: float, error: DeliveryError | None) -> None:
        """Tell that another attempt will come."""
        if history.facts is not None:
            event = RetryPlanned(attempt=history.attempts, delay=delay, error=error, **history.facts)
            notify(self._observers, event)

    def call_ended(self, history: History, error: BaseException | None, now: float) -> None:
        """Tell that a call, if it has begun, has ended in `error`."""
        if history.facts is not None:
            event = CallEnded(
                state=history.state(),
                attempts=history.attempts,
                elapsed=now - history.started,
                error=_presentable(error),
                **history.facts,
            )
            notify(self._observers, event)

    def update_settled(self, outcome: Outcome) -> None:
        """Tell of an outcome."""
        notify(self._observers, UpdateSettled(outcome))

    def updates_skipped(self, first: int, count: int) -> None:
        """Tell that a journal has nothing left to do for these updates."""
        notify(self._observers, UpdatesSkipped(first, count))

    def journal_opened(self, path: str, run_id: str, recorded: int, retried: int) -> None:
        """Tell which journal a run keeps."""
        notify(self._observers, JournalOpened(path, run_id, recorded, retried))

    def outbox_changed(self, pending: int, dead: int) -> None:
        """Tell how much is in an outbox."""
        notify(self._observers, OutboxChanged(pending, dead))

    def limit_changed(self, limit: int, previous: int) -> None:
        """Tell that the limit moved."""
        notify(self._observers, LimitChanged(limit, previous))

    def sending_paused(self, seconds: float) -> None:
        """Tell of a pause."""
        notify(self._observers, SendingPaused(seconds))


def _presentable(error: BaseException | None) -> AltcraftError | CancelledError | None:
    """Give an error as events may hold it: of a foreign one, which can say anything, only the name."""
    if error is None or isinstance(error, AltcraftError | CancelledError):
        return error
    return DeliveryError(f"an unexpected error ({type(error).__name__})")
