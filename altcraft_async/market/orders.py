"""Market → Orders: the statuses of order lines; the other calls are in `order_calls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import attrs

from altcraft_async.engine.rows import CLAIMS
from altcraft_async.engine.run import Run, RunOptions
from altcraft_async.engine.work import WorkItem
from altcraft_async.flow.policy import OutagePolicy
from altcraft_async.flow.retry import RetryBudget
from altcraft_async.market.imports import OrderImports
from altcraft_async.market.order_calls import OrderCalls
from altcraft_async.market.resource import journal_of
from altcraft_async.protocol.methods import UPDATE_LINE_STATUS
from altcraft_async.protocol.values import LineStatusUpdate, UpdatedOrderLine, check_request_id
from altcraft_async.protocol.wire import Call

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable

    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.recorder import Recorder
    from altcraft_async.engine.rows import Coalesce, Lane, Row
    from altcraft_async.flow.failures import FailureLimit
    from altcraft_async.outcome import Outcome, Report

__all__ = ["Orders"]

RowT = TypeVar("RowT", bound="Row")

_UPDATE_LINE_STATUS = UPDATE_LINE_STATUS.path
_WITHOUT_END = OutagePolicy(patience=None, call_patience=None, first_patience=None)
_claims_of_line = CLAIMS["line"]


def _call_of(update: LineStatusUpdate) -> Call:
    return Call(
        _UPDATE_LINE_STATUS,
        {
            "order_external_id": update.order_external_id,
            "order_line_external_id": update.order_line_external_id,
            "status_external_id": update.status_external_id,
        },
    )


class Orders(OrderCalls, OrderImports):
    """The orders of the Market."""

    __slots__ = ()

    async def update_order_line_status(
        self,
        order_external_id: str,
        order_line_external_id: str,
        status_external_id: str,
        *,
        request_id: str | None = None,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> UpdatedOrderLine:
        """Give one order line a new status, and return the server's echo of it.

        `request_id` is the ``Request-ID`` of the change, the same on each of its retries. To repeat a change that may
        have been applied, give the id from the earlier error. By default it is a fresh UUID. `deadline` is in seconds
        and covers the wait for its turn and a permit, all attempts and the backoff between them. `outage` says how
        long an outage is waited out, instead of the client's policy.

        Raises `InvalidUpdateError` for ids that cannot be sent, and otherwise the `DeliveryError` that says what
        happened; its ``maybe_applied`` says whether the server may have made the change. Calls of one order line that
        overlap, and updates of that line in bulk runs of the same client, go one after the other, in the order in
        which they were begun. Cancellation drops the attempt under way, which the server may have taken.

        Guide: "Update order line status".
        """
        update = LineStatusUpdate(order_external_id, order_line_external_id, status_external_id)
        item = WorkItem(
            _call_of(update),
            str(uuid4()) if request_id is None else check_request_id(request_id),
            owner=self._dispatcher.caller(),
            claims=_claims_of_line(update),
            update=update,
            asked_before=request_id is not None,
        )
        await self._dispatcher.call(item, deadline=deadline, outage=outage)
        assert item.echo is not None  # noqa: S101 - a success has one
        return item.echo

    async def update_order_line_statuses(
        self,
        updates: Iterable[RowT] | AsyncIterable[RowT],
        *,
        deadline: float | None = None,
        coalesce: Coalesce = "all",
        lane: Lane = "line",
        rate: float | None = None,
        window: int = 1000,
        stop_after: FailureLimit | None = None,
        outage: OutagePolicy | None = None,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        extend: bool = False,
    ) -> Report[RowT]:
        """Give many order lines their new statuses, and gather the outcome of each.

        `updates` is an iterable or asynchronous iterable of rows, read only as fast as they are sent. A row is a
        `LineStatusUpdate`, a tuple of the three ids, or a mapping or an object (a dataclass, a named tuple, a pydantic
        model) with their names. If it has a `request_id`, that is the update's; its `tag` comes back on the outcome's
        update. Two updates of one order line (with `lane` ``"order"``: of one order) are never in flight together and
        reach the server in input order, also beside other runs and single calls of the client. All others go side by
        side, as many as the client's concurrency allows. With `coalesce` ``"latest"`` a waiting update that is the
        last of its line is dropped, as ``superseded``, when a newer update of the run for its line comes; that skips a
        status, and perhaps an automation, and needs `lane` ``"line"``. `deadline` is in seconds for the whole run;
        updates without a turn by then are ``not_sent``. `rate` is the maximum updates a second that this run starts,
        beside the client's own limits. `window` is the maximum number of updates in memory before their outcome.
        `stop_after` ends a run that fails too often. `outage` says how long an outage is waited out, instead of the
        client's policy: after its patience the run stops, and the rest is ``not_sent``.

        `journal` is a file that records the run; it is made if it does not exist. If you call again with the same file
        and the same input, the run goes on, whether it was killed or not: updates that ended are not sent again, those
        in doubt are sent under their old ``Request-ID``, and the report has the outcomes of all runs. Updates that the
        end of a run cut short have no outcome in the journal; the next run sends them. With `retry_failed`, once every
        row has its outcome, the updates that ended ``rejected``, ``unknown`` or ``not_sent`` are sent again, unless a
        newer update of their line was made meanwhile: then they become ``superseded``. `extend` permits an input that
        has grown at its end. An outcome is handed on when it is on disk, at most 0.1 seconds after the answer. Raises
        `JournalError` if the file cannot be used, also in the middle, and `InputChangedError` at the first row that
        differs from the recorded one. Warns with `altcraft_async.journal.DedupWindowWarning` if the last run is longer
        ago than the platform remembers ids.

        Returns a `Report` with one outcome for each update, in input order. It never raises for a line; a refused
        token (401, 403) stops the run and leaves the rest ``not_sent``. Raises `TypeError` at once for one row instead
        of many, `SourceError` when `updates` itself raises, and `RunFailedError` or the error itself if the run cannot
        go on for another reason, like a closed client; each has the ``report`` of the run so far.

        Cancellation stops reading, gives requests in flight up to 5 seconds, reports their outcomes to observers, and
        is then passed on.

        Guide: "Update order line status".
        """
        options = RunOptions(
            deadline=deadline,
            coalesce=coalesce,
            lane=lane,
            rate=rate,
            window=window,
            stop_after=stop_after,
            outage=outage,
        )
        recorder = journal_of(self._dispatcher.delivery, journal, retry_failed=retry_failed, extend=extend)
        run = Run(self._dispatcher, updates, options, call_of=_call_of, recorder=recorder, gathered=True)
        return await run.gather()

    def stream_order_line_statuses(
        self,
        updates: Iterable[RowT] | AsyncIterable[RowT],
        *,
        deadline: float | None = None,
        coalesce: Coalesce = "all",
        lane: Lane = "line",
        rate: float | None = None,
        window: int = 1000,
        stop_after: FailureLimit | None = None,
        outage: OutagePolicy | None = None,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        extend: bool = False,
    ) -> AsyncGenerator[Outcome[RowT], None]:
        """Give many order lines their new statuses, and yield each outcome as it comes.

        Arguments, order and errors are those of `update_order_line_statuses`; the outcomes come in the order in which
        updates end. Memory is flat: no more than `window` updates and outcomes are held, so a slow consumer slows the
        sending, and slow sending slows the reading of `updates`.

        With a `journal`, updates for which nothing is left to do are skipped without an outcome, and failures of an
        earlier run are yielded again; `altcraft_async.journal.JournalReader` has them all.

        Closing the iterator early (``aclose()``) or cancelling its consumer stops
        reading and gives requests in flight up to 5 seconds. A ``break`` alone
        leaves the closing to the garbage collector; use `contextlib.aclosing`.
        """
        options = RunOptions(
            deadline=deadline,
            coalesce=coalesce,
            lane=lane,
            rate=rate,
            window=window,
            stop_after=stop_after,
            outage=outage,
        )
        recorder = journal_of(self._dispatcher.delivery, journal, retry_failed=retry_failed, extend=extend)
        run = Run(self._dispatcher, updates, options, call_of=_call_of, recorder=recorder)
        return run.stream()

    @property
    def notifier(self) -> Notifier | None:
        """The engine's notifier of observers, for other parts that have events to report."""
        return self._dispatcher.delivery.notifier

    def drain(self, updates: AsyncIterable[LineStatusUpdate], *, recorder: Recorder) -> Run[LineStatusUpdate]:
        """Return the engine's run over `updates` for an outbox, which keeps the outcomes itself.

        Its updates are retried as the client's policy says, whatever else fails: no shared
        budget ends one. An outage is waited out without end.
        """
        delivery = attrs.evolve(self._dispatcher.delivery, budget=RetryBudget(None))
        patient = type(self._dispatcher)(delivery, self._dispatcher.lanes)
        options = RunOptions(outage=_WITHOUT_END, watched=True)
        return Run(patient, updates, options, call_of=_call_of, recorder=recorder)
