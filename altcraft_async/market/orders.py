"""Market → Orders: the statuses of order lines."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import attrs

from altcraft_async.engine.run import Run
from altcraft_async.errors import ConfigurationError
from altcraft_async.protocol.values import LineStatusUpdate, UpdatedOrderLine, check_request_id
from altcraft_async.protocol.wire import Call

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator

    from altcraft_async.engine.delivery import Delivery
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.recorder import Recorder
    from altcraft_async.engine.rows import Coalesce, Lane, Source
    from altcraft_async.outcome import Outcome, Report

__all__ = ["Orders"]

_UPDATE_LINE_STATUS = "market/orders/update_order_line_status"


def _call_of(update: LineStatusUpdate) -> Call:
    return Call(
        _UPDATE_LINE_STATUS,
        {
            "order_external_id": update.order_external_id,
            "order_line_external_id": update.order_line_external_id,
            "status_external_id": update.status_external_id,
        },
    )


class Orders:
    """The orders of the Market."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<Orders {self._delivery.gate!r}>"

    async def update_order_line_status(
        self,
        order_external_id: str,
        order_line_external_id: str,
        status_external_id: str,
        *,
        request_id: str | None = None,
        deadline: float | None = None,
    ) -> UpdatedOrderLine:
        """Give one order line a new status, and return the server's echo of it.

        `request_id` is the ``Request-ID`` of the change, the same on each of its
        retries; give the one from an earlier error to ask again for a change
        that may have been applied. By default it is a fresh UUID. `deadline` is
        in seconds and covers waiting for a permit, all attempts and the backoff
        between them.

        Raises `InvalidUpdateError` for ids that cannot be sent, and otherwise the
        `DeliveryError` that says what happened; its ``maybe_applied`` tells
        whether the server may have made the change. Calls of one order line that
        overlap are not put in order: await one before the next. Cancellation
        drops the attempt under way, which the server may have taken.

        Guide: "Update order line status".
        """
        update = LineStatusUpdate(order_external_id, order_line_external_id, status_external_id)
        subject = f"order line {order_external_id}/{order_line_external_id}"
        change = str(uuid4()) if request_id is None else check_request_id(request_id)
        envelope = await self._delivery.call(_call_of(update), request_id=change, subject=subject, deadline=deadline)
        return _echo(envelope.get("data"), update)

    async def update_order_line_statuses(
        self,
        updates: Source,
        *,
        deadline: float | None = None,
        coalesce: Coalesce = "all",
        lane: Lane = "line",
        rate: float | None = None,
        window: int = 1000,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        extend: bool = False,
    ) -> Report:
        """Give many order lines their new statuses, and gather what became of each.

        `updates` is an iterable or asynchronous iterable of `LineStatusUpdate` or
        of tuples of the three ids; it is read only as fast as updates are sent.
        Two updates of one order line (with `lane` ``"order"``: of one order) are
        never in flight together and reach the server in input order; all others
        go side by side, as many as the client's concurrency allows. With
        `coalesce` ``"latest"`` a waiting update is dropped, as ``superseded``,
        when a newer one for its line comes; that skips a status, and with it
        perhaps an automation, and needs `lane` ``"line"``. `deadline` is in seconds
        for the whole run; what did not get its turn by then is ``not_sent``. `rate` is the most updates a
        second that this run starts, beside the client's own limits. `window` is the
        most updates held in memory before their outcome.

        `journal` is a file that records the run, made if it is not there. Called
        again with the same file and the same input, killed or not, the run goes on:
        updates that ended are not sent again, those in doubt are sent under their
        old ``Request-ID``, and the report has the outcomes of all runs. What was cut
        short by the end of a run has no outcome in the journal and is sent by the
        next. With `retry_failed`, once every row has its outcome, those that ended
        ``rejected``, ``unknown`` or ``not_sent`` are sent again, unless a newer update
        of their line was made meanwhile, which leaves them ``superseded``. `extend` permits an input that
        has grown at its end. An outcome is handed on when it is on disk, at most
        0.1 seconds after the answer. Raises `JournalError` where the file cannot be
        used, also in the middle, and `InputChangedError` at the first row that is not
        the one recorded; warns with `altcraft_async.journal.DedupWindowWarning` where
        the last run is longer ago than the platform remembers ids.

        Returns a `Report` with one outcome for each update, in input order. It
        never raises for a line; a token that is refused (401, 403) stops the run
        and leaves the rest ``not_sent``. Raises `SourceError`, with the report of
        what was taken, when `updates` itself raises.

        Cancellation stops reading, gives requests in flight up to 5 seconds,
        tells observers their outcomes, and is then passed on.

        Guide: "Update order line status".
        """
        run = Run(
            self._delivery,
            updates,
            call_of=_call_of,
            deadline=deadline,
            coalesce=coalesce,
            lane=lane,
            rate=rate,
            window=window,
            recorder=self._journal(journal, retry_failed=retry_failed, extend=extend),
        )
        return await run.gather()

    def stream_order_line_statuses(
        self,
        updates: Source,
        *,
        deadline: float | None = None,
        coalesce: Coalesce = "all",
        lane: Lane = "line",
        rate: float | None = None,
        window: int = 1000,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        extend: bool = False,
    ) -> AsyncGenerator[Outcome, None]:
        """Give many order lines their new statuses, and yield each outcome as it comes.

        Arguments, order and errors are those of `update_order_line_statuses`;
        the outcomes come in the order in which updates end. Memory is flat: no
        more than `window` updates and outcomes are held, so a slow consumer slows
        the sending, and that the reading of `updates`.

        With a `journal`, updates for which nothing is left to do are passed over
        without an outcome, and those that failed in an earlier run are yielded again;
        `altcraft_async.journal.JournalReader` has them all.

        Closing the iterator early (``aclose()``) or cancelling its consumer stops
        reading and gives requests in flight up to 5 seconds. A ``break`` alone
        leaves the closing to the garbage collector; use `contextlib.aclosing`.
        """
        run = Run(
            self._delivery,
            updates,
            call_of=_call_of,
            deadline=deadline,
            coalesce=coalesce,
            lane=lane,
            rate=rate,
            window=window,
            recorder=self._journal(journal, retry_failed=retry_failed, extend=extend),
        )
        return run.stream()

    @property
    def notifier(self) -> Notifier | None:
        """Whom the engine tells what it does, for others that have something to tell."""
        return self._delivery.notifier

    def run(self, updates: Source, *, recorder: Recorder) -> Run:
        """Return the engine's run over `updates` for a caller that keeps the outcomes itself, like an outbox.

        Its updates are retried until they succeed, are refused, or meet their own
        deadline. Yields, orders and cancels as `stream_order_line_statuses` does.
        """
        delivery = self._delivery
        patient = attrs.evolve(delivery, policy=attrs.evolve(delivery.policy, attempts=None))
        return Run(patient, updates, call_of=_call_of, recorder=recorder)

    def _journal(self, path: str | os.PathLike[str] | None, *, retry_failed: bool, extend: bool) -> Recorder | None:
        if path is None:
            if retry_failed or extend:
                field = "retry_failed" if retry_failed else "extend"
                msg = f"{field} goes with a journal: give journal=PATH, the file that an earlier run wrote"
                raise ConfigurationError(msg, field=field)
            return None
        from altcraft_async.journal.recorder import Journal  # noqa: PLC0415 - most runs keep none

        delivery = self._delivery
        return Journal(
            path,
            target=delivery.base_url,
            retry_failed=retry_failed,
            extend=extend,
            dedup_window=delivery.dedup_window,
            notifier=delivery.notifier,
        )


def _echo(data: object, asked: LineStatusUpdate) -> UpdatedOrderLine:
    """Read the answer's ``data``; the server has said yes, so what it left out is what was asked."""
    echoed = data if isinstance(data, dict) else {}

    def field(name: str) -> str:
        value = echoed.get(name)
        return value if isinstance(value, str) and value else getattr(asked, name)

    return UpdatedOrderLine(field("order_external_id"), field("order_line_external_id"), field("status_external_id"))
