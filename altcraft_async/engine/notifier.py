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
    LeasesChanged,
    LimitChanged,
    LimitShared,
    OutageBegan,
    OutageEnded,
    OutboxChanged,
    RetryPlanned,
    SendingPaused,
    TracingObserver,
    UpdateSettled,
    UpdatesSkipped,
    notify,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.engine.work import WorkItem
    from altcraft_async.observe import Observer
    from altcraft_async.outcome import Outcome

__all__ = ["Notifier"]

_call_ids = itertools.count(1)


class Notifier:
    """Makes the events and tells `observers`, who are never empty; `base_url` is the platform's address.

    A call is told of through its `WorkItem`, whose `facts` are what all its events say.
    """

    __slots__ = ("_base_url", "_observers")

    def __init__(self, observers: Sequence[Observer], base_url: str = "") -> None:
        self._observers = observers
        self._base_url = base_url

    def call_started(self, item: WorkItem, now: float) -> None:
        """Tell that a call begins."""
        fields = item.call.fields
        order, line = fields.get("order_external_id"), fields.get("order_line_external_id")
        item.started = now
        item.facts = {
            "method": item.call.method,
            "request_id": item.request_id,
            "order_external_id": order if isinstance(order, str) else None,
            "order_line_external_id": line if isinstance(line, str) else None,
            "call_id": next(_call_ids),
        }
        notify(self._observers, CallStarted(**item.facts, traceparent=item.traceparent))

    def attempt_started(self, item: WorkItem, now: float) -> None:
        """Tell that a request goes out; an update of a bulk run begins with its first."""
        if item.facts is None:
            self.call_started(item, now)
        if item.facts is not None:
            url = f"{self._base_url}/api/v1.1/{item.call.method}"
            notify(self._observers, AttemptStarted(attempt=item.attempts, url=url, **item.facts))

    def attempt_ended(
        self, item: WorkItem, elapsed: float, status: int, error: BaseException | None, *, throttled: bool = False
    ) -> None:
        """Tell how an attempt ended."""
        if item.facts is not None:
            event = AttemptEnded(
                attempt=item.attempts,
                elapsed=elapsed,
                status=status or getattr(error, "status", 0),
                error=_presentable(error),
                throttled=throttled,
                **item.facts,
            )
            notify(self._observers, event)

    def retry_planned(self, item: WorkItem, delay: float, error: DeliveryError | None) -> None:
        """Tell that another attempt will come."""
        if item.facts is not None:
            event = RetryPlanned(attempt=item.attempts, delay=delay, error=error, **item.facts)
            notify(self._observers, event)

    def call_ended(self, item: WorkItem, error: BaseException | None, now: float) -> None:
        """Tell that a call, if it has begun, has ended in `error`."""
        if item.facts is not None:
            event = CallEnded(
                state=item.state,
                attempts=item.attempts,
                elapsed=now - item.started,
                error=_presentable(error),
                **item.facts,
            )
            notify(self._observers, event)

    def update_settled(self, outcome: Outcome[object]) -> None:
        """Tell of an outcome."""
        notify(self._observers, UpdateSettled(outcome))

    def updates_skipped(self, first: int, count: int) -> None:
        """Tell that a journal has nothing left to do for these updates."""
        notify(self._observers, UpdatesSkipped(first, count))

    def journal_opened(self, path: str, run_id: str, recorded: int, retried: int) -> None:
        """Tell which journal a run keeps."""
        notify(self._observers, JournalOpened(path, run_id, recorded, retried))

    def traceparent(self) -> str | None:
        """Name the span that is current, where an observer knows of one."""
        for observer in self._observers:
            if isinstance(observer, TracingObserver) and (found := observer.traceparent()) is not None:
                return found
        return None

    def outbox_changed(self, pending: int, dead: int) -> None:
        """Tell how much is in an outbox."""
        notify(self._observers, OutboxChanged(pending, dead))

    def leases_changed(self, held: int, won: int, lost: int) -> None:
        """Tell of buckets of an outbox that were won and lost, and how many are held now."""
        notify(self._observers, LeasesChanged(held, won, lost))

    def limit_changed(self, limit: int, previous: int) -> None:
        """Tell that the limit moved."""
        notify(self._observers, LimitChanged(limit, previous))

    def limit_shared(self, processes: int) -> None:
        """Tell how many processes share the limit."""
        notify(self._observers, LimitShared(processes))

    def outage_began(self, seconds: float) -> None:
        """Tell that nobody has been served for so many seconds."""
        notify(self._observers, OutageBegan(seconds))

    def outage_ended(self, seconds: float) -> None:
        """Tell that the server serves again, so many seconds after the outage began."""
        notify(self._observers, OutageEnded(seconds))

    def sending_paused(self, seconds: float) -> None:
        """Tell of a pause."""
        notify(self._observers, SendingPaused(seconds))


def _presentable(error: BaseException | None) -> AltcraftError | CancelledError | None:
    """Give an error as events may hold it: of a foreign one, which can say anything, only the name."""
    if error is None or isinstance(error, AltcraftError | CancelledError):
        return error
    return DeliveryError(f"an unexpected error ({type(error).__name__})")
