"""A bulk run: bounded intake → the client's dispatcher → a sink of outcomes.

One `Run` a bulk call. An intake task reads the source while fewer than `window`
rows are held; each becomes a `WorkItem` and goes to the run's `Crew`. Every row
read ends in exactly one `Outcome`. A run goes through these phases, and never back:

=============  =====================================================================
``READING``    rows are taken in and sent
``DRAINING``   the source is at its end; what was taken in is sent
``STOPPED``    nothing more starts; requests under way may end, the rest is not sent
``ENDED``      every row has its outcome, and no task is left
=============  =====================================================================

A `Recorder` makes a run durable. It tells which rows ended in an earlier run, it
gives the ids, and outcomes are handed on, and their lanes opened, only when it says
that they are safe.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterable
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar, cast
from uuid import uuid4

import attrs

from altcraft_async.engine.delivery import Totals
from altcraft_async.engine.dispatch import NO_BULK_CALL, Crew, delivered_calls
from altcraft_async.engine.feed import Feed
from altcraft_async.engine.history import History
from altcraft_async.engine.rows import CLAIMS, check_choice, check_source, read_row
from altcraft_async.engine.sink import Sink
from altcraft_async.engine.work import Patience, Phase, WorkItem
from altcraft_async.errors import (
    AltcraftError,
    ConfigurationError,
    DeadlineError,
    InvalidUpdateError,
    RunFailedError,
    RunStoppedError,
    SourceError,
    StorageError,
)
from altcraft_async.flow.failures import FailureCount, FailureLimit
from altcraft_async.flow.policy import OutagePolicy
from altcraft_async.flow.retry import Stop, StopReason
from altcraft_async.kinds import DEADLINE, NUMBER, WHOLE, only
from altcraft_async.outcome import Outcome, Report
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.timeline import Sample

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.engine.recorder import Recorder
    from altcraft_async.engine.rows import Coalesce, Lane
    from altcraft_async.engine.work import Taken
    from altcraft_async.errors import DeliveryError
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.protocol.values import LineStatusUpdate
    from altcraft_async.protocol.wire import Call

__all__ = ["Run", "RunOptions", "RunPhase", "request_ids"]

RowT = TypeVar("RowT")
_log = logging.getLogger("altcraft_async")

_YIELD_EVERY = 1000
"""Rows of a stopped run that are read in one go before other tasks get a turn."""
_ENDS_RUN = frozenset({StopReason.OUTAGE, StopReason.MISDIRECTED})


class RunPhase(enum.IntEnum):
    """Where a run is; see the module."""

    READING = 1
    DRAINING = 2
    STOPPED = 3
    ENDED = 4


def request_ids() -> Callable[[int, LineStatusUpdate], str]:
    """Return a function that gives an update at an index its ``Request-ID``, fresh for each run.

    The ids have the form of random UUIDs, whose last part is the index. An update that has an id of its own keeps it.
    """
    prefix = str(uuid4())[:24]
    return lambda index, update: update.request_id or f"{prefix}{index:012x}"


@attrs.frozen(kw_only=True)
class RunOptions:
    """The keywords of a bulk call, checked.

    `deadline` is in seconds from the start, `grace` how many seconds requests in flight
    get when the run is cancelled. A run that is `watched` leaves it to
    its owner to log what stopped it. Raises `ConfigurationError`, naming the keyword.
    """

    deadline: float | None = attrs.field(default=None, validator=DEADLINE.or_none())
    coalesce: Coalesce = "all"
    lane: Lane = "line"
    rate: float | None = attrs.field(default=None, validator=NUMBER.or_none())
    window: int = attrs.field(default=1000, validator=WHOLE)
    stop_after: FailureLimit | None = None
    outage: OutagePolicy | None = attrs.field(default=None, validator=only(OutagePolicy).or_none())
    grace: float = 5.0
    watched: bool = False

    def __attrs_post_init__(self) -> None:
        """Check the keywords."""
        check_choice(self.coalesce, ("all", "latest"), "coalesce")
        check_choice(self.lane, ("line", "order"), "lane")
        if self.coalesce == "latest" and self.lane == "order":
            msg = "coalesce='latest' needs lane='line': an update replaces only one of its own line"
            raise ConfigurationError(msg, field="coalesce")
        if self.stop_after is not None and not isinstance(self.stop_after, FailureLimit):
            msg = f"stop_after must be a FailureLimit, not {self.stop_after!r}; write FailureLimit(count=…)"
            raise ConfigurationError(msg, field="stop_after")


class Run(Generic[RowT]):
    """One bulk run over `source`; use `gather` or `stream`, once. The `recorder` is opened and closed by the run.

    `call_of` gives the call that makes an update. A run of anything else says in a class of its own how rows
    become calls, and calls outcomes.
    """

    _apart = False
    _counted = "updates"

    __slots__ = (
        "_call_of",
        "_claims_of",
        "_crew",
        "_deadline",
        "_dispatcher",
        "_doubtful",
        "_error",
        "_failures",
        "_held",
        "_history",
        "_id_of",
        "_intake",
        "_loop",
        "_low",
        "_options",
        "_phase",
        "_recorder",
        "_sink",
        "_source",
        "_stopped",
        "_waiters",
        "complete",
        "taken",
        "totals",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        dispatcher: Dispatcher,
        source: Iterable[RowT] | AsyncIterable[RowT],
        options: RunOptions,
        *,
        call_of: Callable[[LineStatusUpdate], Call] | None = None,
        recorder: Recorder | None = None,
        gathered: bool = False,
    ) -> None:
        check_source(source)
        if delivered_calls.get() is not None:
            raise ConfigurationError(NO_BULK_CALL, field="method")
        self._dispatcher = dispatcher
        self._source = source
        self._options = options
        if call_of is not None:
            self._call_of = call_of
        self._recorder = recorder
        self._id_of = request_ids() if recorder is None else recorder.request_id
        self._claims_of = CLAIMS[options.lane]
        self._failures = None if options.stop_after is None else FailureCount(options.stop_after)
        self._low = options.window - max(1, options.window // 8)
        self._sink = Sink(
            recorder, dispatcher.delivery.notifier, gathered=gathered, handed=self._on_handed, leave=dispatcher.leave
        )
        self._phase = RunPhase.READING
        self._deadline: tuple[float, asyncio.TimerHandle] | None = None
        self._waiters: dict[str, asyncio.Future[None]] = {}
        self._intake: asyncio.Task[None] | None = None
        self._stopped: DeliveryError | None = None
        self._error: BaseException | None = None
        self._history: History | None = None
        self._doubtful = options.window
        self._held = self.taken = 0
        self.complete = True
        self.totals = Totals()

    def __repr__(self) -> str:
        """Show the phase."""
        return f"<Run {self._phase.name.lower()}, {self.taken} rows taken, {self._sink!r}>"

    @property
    def full(self) -> bool:
        """Whether at most one more row is read before others have their outcomes."""
        return self._held >= self._options.window - 1 or "room" in self._waiters

    async def gather(self) -> Report[RowT]:
        """Run to the end and return the outcomes in input order; see `Orders.update_order_line_statuses`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self._start()
        history = self._history = History(loop, self._sample)
        try:
            while self._phase is not RunPhase.ENDED:
                await self._wait("output")
        finally:
            await self._close()
            remembered = history.close()
        report = Report(
            outcomes=[cast("Outcome[RowT]", outcome) for outcome in self._sink.gathered or () if outcome is not None],
            elapsed=self._loop.time() - started,
            sent=self.totals.sent,
            retries=self.totals.retries,
            throttled=self.totals.throttled,
            complete=self.complete,
            course=remembered,
        )
        if self._error is not None:
            raise _with_report(self._error, report)
        return report

    async def stream(self) -> AsyncGenerator[Outcome[RowT], None]:
        """Yield outcomes as they come; see `Orders.stream_order_line_statuses`."""
        await self._start()
        output = self._sink.output
        try:
            while True:
                while output:
                    outcome = output.popleft()
                    self._let_go(outcome)
                    yield cast("Outcome[RowT]", outcome)
                if self._phase is RunPhase.ENDED:
                    break
                await self._wait("output")
        finally:
            await self._close()
        if self._error is not None:
            raise self._error

    # -- life

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        delivery = self._dispatcher.delivery
        delivery.gate.bind(self._loop)
        if self._recorder is not None:
            await self._recorder.open(self._on_recorded, self._on_recorder_failed, self._sample)
        now = self._loop.time()
        options = self._options
        if options.deadline is not None:
            expires_at = now + options.deadline
            self._deadline = expires_at, self._loop.call_at(expires_at, self._on_deadline)
        self._crew = Crew(
            self._dispatcher,
            patience=Patience(options.outage or delivery.outage, now, bulk=True),
            totals=self.totals,
            rate=options.rate,
            begins=self._on_begins,
            ended=self._on_ended,
            task_done=self._on_task_done,
            apart=self._apart,
            divides=self._divides_first if self._apart else None,
        )
        self._intake = self._loop.create_task(self._take_in())
        self._intake.add_done_callback(self._on_intake_done)

    def _on_intake_done(self, task: asyncio.Task[None]) -> None:
        if self._phase is RunPhase.READING:
            self._phase = RunPhase.DRAINING
        self._rows_ended()
        self._on_task_done(None if task.cancelled() else task.exception())

    def _on_task_done(self, error: BaseException | None) -> None:
        if error is not None:
            # not the server's doing and not the source's, like a client that was closed: the run cannot go on
            self._error = self._error or error
            self._stop(RunStoppedError(f"the run failed before this line's turn ({type(error).__name__})"))
        self._check_end()

    def _rows_ended(self) -> None:
        """Take note that no more rows come, for whatever reason."""

    def _check_end(self) -> None:
        reading = self._intake is None or not self._intake.done()
        if not reading and not self._sink.open and self._crew.idle and self._phase is not RunPhase.ENDED:
            self._phase = RunPhase.ENDED
            self._wake("output")

    async def _wait(self, what: str) -> None:
        self._waiters[what] = self._loop.create_future()
        try:
            await self._waiters[what]
        finally:
            self._waiters.pop(what, None)

    def _wake(self, what: str) -> None:
        waiter = self._waiters.get(what)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _close(self) -> None:
        """Stop whatever still runs, and make safe what ended."""
        try:
            if self._deadline is not None:
                self._deadline[1].cancel()
            if self._phase is not RunPhase.ENDED:
                self._stop(RunStoppedError("the run was cancelled before this line's turn"), read_on=False)
            await self._wind_up()
        finally:
            if self._recorder is not None:
                await self._recorder.aclose()

    async def _wind_up(self) -> None:
        """Leave no task behind: no intake, a bounded grace for what is in flight, then cancellation."""
        intake = self._intake
        try:
            await self._crew.wind_up(self._options.grace)
        finally:
            while intake is not None and not intake.done():
                intake.cancel()
                await asyncio.wait((intake,))

    def _on_deadline(self) -> None:
        live = isinstance(self._source, AsyncIterable) and not isinstance(self._source, Feed)
        self._stop(DeadlineError("the run's deadline came before this line's turn"), read_on=not live)

    def stop(self, why: str) -> None:
        """Read and start nothing more: requests under way end, and all else that was taken in is not sent."""
        self._stop(RunStoppedError(f"the run was stopped before this line's turn, because {why}"), read_on=False)

    def _stop(self, error: DeliveryError, *, read_on: bool = True) -> None:
        """Start nothing more: what waits ends as not sent, and so does, where `read_on`, the rest of the source."""
        if self._stopped is None:
            self._stopped = error
            self._phase = max(self._phase, RunPhase.STOPPED)
            if (
                read_on and not self._options.watched and isinstance(error, RunStoppedError)
            ):  # nobody may look at the report
                _log.warning("a bulk run was stopped: %s", error.message)
            for item in self._crew.stop():
                self._settle_unsent(item)
        if not read_on and self._intake is not None and not self._intake.done():
            self.complete = False
            self._intake.cancel()
        self._check_end()  # where all rows waited for others' lanes, no task is left to end it

    # -- intake

    async def _take_in(self) -> None:
        try:
            await self._read()
            if self._recorder is not None:
                self._recorder.exhausted(self.taken)
        except StorageError as error:
            self._fail(error)
        except asyncio.CancelledError as error:
            if self._intake is None or not self._intake.cancelling():  # what the source awaits was cancelled elsewhere
                self._source_failed(error)
            elif self._stopped is None:
                raise
        except Exception as error:  # noqa: BLE001 - the caller's own code; handed on when the run has ended
            self._source_failed(error)

    def _source_failed(self, error: BaseException) -> None:
        rows = "1 row" if self.taken == 1 else f"{self.taken:,} rows"
        message = f"the source of updates failed after {rows} ({_words_of(error)})"
        self._error = SourceError(message, taken=self.taken)
        self._error.__cause__ = error

    async def _read(self) -> None:
        window = self._options.window
        if isinstance(self._source, Feed):
            await self._read_feed(self._source)
            return
        if isinstance(self._source, AsyncIterable):
            async for row in self._source:
                self._admit_update(row, read_row(row))
                if self._held >= window:
                    await self._wait("room")
            return
        rows = iter(self._source)
        for row in rows:
            passed_over = self._admit_update(row, read_row(row))
            if self._held >= window:
                await self._wait("room")
            elif self._stopped is not None and not self.taken % _YIELD_EVERY:
                await asyncio.sleep(0)
            while passed_over and self._skip(rows):  # noqa: ASYNC110 - other tasks get a turn between two blocks
                await asyncio.sleep(0)

    async def _read_feed(self, feed: Feed[RowT]) -> None:
        window = self._options.window
        while given := await feed.take(window - self._held):
            for row, update in given:
                self._admit_update(row, read_row(row) if update is None else update)
            if self._held >= window:
                await self._wait("room")

    def _skip(self, rows: Iterator[RowT]) -> bool:
        """Pass over the next rows together, where a journal says that nothing is left to do for them."""
        if self._recorder is None or self._sink.gathered is not None:
            return False
        first = self.taken
        updates: list[LineStatusUpdate | InvalidUpdateError] = []
        try:
            for row in islice(rows, self._recorder.ahead(first)):
                updates.append(read_row(row))  # noqa: PERF401 - keeps what came
        finally:  # a source that fails has given these all the same
            if updates:
                self._recorder.skip(updates)
                self.taken += len(updates)
                notifier = self._dispatcher.delivery.notifier
                if notifier is not None:
                    notifier.updates_skipped(first, len(updates))
        return bool(updates)

    def _admit_update(self, row: RowT, update: LineStatusUpdate | InvalidUpdateError) -> bool:
        """Take a row and what it says in; say whether it was passed over, as one that ended in an earlier run."""
        index = self.taken
        self.taken = index + 1
        recorder = self._recorder
        if recorder is not None:
            state = recorder.recall(index, update)
            if state is not None:
                self._pass_over(index, update, state, recorder)
                return True
        self._held += 1
        self._sink.expect()
        if isinstance(update, InvalidUpdateError):
            self._sink.settle((Outcome(index, None, OutcomeState.INVALID, error=update, row=row),))
            return False
        taken = (index, row, update)
        claims = self._claims_of(update)
        if self._options.coalesce == "latest" and self._replace(claims, taken):
            return False
        item = WorkItem(
            self._call_of(update),
            "",
            owner=self._crew,
            claims=claims,
            update=update,
            rows=(taken,),
            bulk=True,
            expires_at=None if self._deadline is None else self._deadline[0],
            doubt_ends_at=None if recorder is None else self._doubt_ends_at(index),
            lease=None if recorder is None or recorder.lease_of is None else recorder.lease_of(index),
        )
        self._note_own(item, index, update)
        if self._stopped is None:
            self._crew.submit(item)
        else:
            self._settle_unsent(item)
        return False

    def _note_own(self, item: WorkItem, index: int, update: LineStatusUpdate) -> None:
        """Note in an item whether the caller, or an earlier run, may have made the update under its id."""
        item.asked_before, item.token_number = update.request_id is not None, None
        if self._recorder is not None:
            self._note_earlier(item, self._recorder, index, size=1)

    def _note_earlier(self, item: WorkItem, recorder: Recorder, index: int, size: int) -> None:
        """Note in an item, which takes `size` of the window, whether an earlier run may have sent it.

        No run has more under way than its window. So of all that an earlier one left open, only as much can be in
        doubt, and it comes first: it is never sent with another token than the one that is in force now.
        """
        if not recorder.asked_before(index):
            return
        item.asked_before = True
        if self._doubtful > 0 and recorder.left_in_doubt(index):
            self._doubtful -= size
            item.token_number = self._dispatcher.delivery.credentials.changes

    def _doubt_ends_at(self, index: int) -> float | None:
        of_index = None if self._recorder is None else self._recorder.doubt_ends_at
        return None if of_index is None else of_index(index)

    def _replace(self, claims: tuple[Claim, ...], taken: Taken) -> bool:
        """Let an update take the place of the one before it in its lanes, where that waits and is this run's own."""
        last = self._dispatcher.lanes.last(claims)
        if last is None or last.owner is not self._crew or last.phase is not Phase.WAITING or self._stopped is not None:
            return False
        index, row, update = last.rows[0]
        last.rows, last.update = (taken,), taken[2]
        last.call = self._call_of(taken[2])
        self._note_own(last, taken[0], taken[2])
        self._sink.settle((Outcome(index, update, OutcomeState.SUPERSEDED, row=row),))
        return True

    def _pass_over(
        self, index: int, row: LineStatusUpdate | InvalidUpdateError, state: OutcomeState, recorder: Recorder
    ) -> None:
        """Deal with a row that ended in an earlier run: a report has all of them, a stream only the failures."""
        notifier = self._dispatcher.delivery.notifier
        if state.ok and notifier is not None:
            notifier.updates_skipped(index, 1)
        if self._sink.gathered is not None or not state.ok:
            self._held += self._sink.gathered is None
            self._sink.put_back(recorder.recalled(row))
            self._wake("output")

    def _on_begins(self, item: WorkItem) -> None:
        """Give an item its id right before its first attempt: whatever has one may have been sent."""
        index, _, update = item.rows[0]
        item.request_id = self._id_of(index, update)
        if self._recorder is not None and self._recorder.traceparent_of is not None:
            item.traceparent = self._recorder.traceparent_of(index)

    def _divides_first(self, item: WorkItem) -> bool:
        """Let the parts of a batch take it over before it is sent, where it is known to be too large."""
        del item
        return False

    def _sample(self) -> Sample:
        """Take a snapshot for whoever looks back at the run."""
        gate, totals = self._dispatcher.delivery.gate, self.totals
        return Sample(
            totals.sent,
            totals.retries,
            totals.throttled,
            gate.batch_limit if self._apart else gate.limit,
            gate.in_flight,
            outage=gate.outage.is_open,
            learned=gate.learned,
        )

    # -- outcomes

    def _on_ended(self, item: WorkItem) -> None:
        """Settle an item whose delivery has ended, by itself or cut short."""
        delivery = self._dispatcher.delivery
        if item.phase is not Phase.ENDED:
            self._conclude(item, item.sign(self._cut_short(item)), cut=True)
            return
        last, stop = item.last, item.stop
        due = last is not None and last.verdict.retry  # another attempt was due
        if due and isinstance(self._stopped, DeadlineError):
            stop = item.stop = Stop(StopReason.DEADLINE)
        error = delivery.failure(item)
        reason = None if stop is None else stop.reason
        ends_run = (last is not None and last.verdict.fatal) or reason in _ENDS_RUN
        if ends_run and error is not None and self._stopped is None:
            self._stop(RunStoppedError(f"the run was stopped before this line's turn, because {error.message}"))
        out_of_time = reason is StopReason.DEADLINE and self._deadline is not None
        handed_on = reason is StopReason.LEASE  # who has it now sends it
        self._conclude(item, error, cut=ends_run or out_of_time or handed_on or (due and self._stopped is not None))

    def _cut_short(self, item: WorkItem) -> DeliveryError:
        kind = DeadlineError if isinstance(self._stopped, DeadlineError) else RunStoppedError
        when = "while a request was under way" if item.phase is Phase.IN_FLIGHT else "before another attempt"
        said = f"the run {'met its deadline' if kind is DeadlineError else 'was stopped'} {when}"
        if item.last is not None and item.last.error is not None:
            said += f"; the last attempt: {item.last.error.message}"
        return kind(said)

    def _conclude(self, item: WorkItem, error: DeliveryError | None, *, cut: bool) -> None:
        notifier = self._dispatcher.delivery.notifier
        if notifier is not None:
            notifier.call_ended(item, error, self._loop.time())
        attempts = item.attempts
        elapsed = self._loop.time() - item.started if attempts else 0.0
        request_id = item.request_id if attempts else None
        state = item.state
        outcomes = [
            Outcome(index, update, state, attempts, elapsed, request_id, error, item.echo, row)
            for index, row, update in item.rows
        ]
        self._sink.settle(outcomes, item, cut=cut)

    def _settle_unsent(self, item: WorkItem) -> None:
        """Settle an item that never got its turn; it holds no lane."""
        stopped = self._stopped or RunStoppedError()
        error = type(stopped)(stopped.message)
        error.subject = item.subject
        self._sink.settle(
            [Outcome(index, update, OutcomeState.NOT_SENT, error=error, row=row) for index, row, update in item.rows],
            cut=True,
        )

    def _on_handed(self, outcomes: Sequence[Outcome[object]]) -> None:
        if self._sink.gathered is None:
            self._wake("output")
        else:
            history = self._history
            for outcome in outcomes:
                self._let_go(outcome)
                if history is not None:
                    history.ended(outcome.index)
        failures = self._failures
        if failures is None:
            return
        for outcome in outcomes:
            if self._counts(outcome) and failures.add(outcome.state) and self._stopped is None:
                said = f"{failures.failures} of {failures.outcomes} {self._counted} have failed"
                said += ", as many as the failure limit allows"
                self._stop(RunStoppedError(f"the run was stopped before this line's turn, because {said}"))

    def _counts(self, outcome: Outcome[object]) -> bool:
        """Say whether an outcome counts for `stop_after`."""
        del outcome
        return True

    def _let_go(self, outcome: Outcome[object]) -> None:
        """Take note that one row less is held."""
        del outcome
        self._held -= 1
        if self._held <= self._low:
            self._wake("room")

    def _on_recorded(self, outcomes: Sequence[Outcome[object]]) -> None:
        self._sink.recorded(outcomes)
        self._check_end()

    def _on_recorder_failed(self, error: StorageError) -> None:
        self._fail(error)
        self._sink.break_off()
        self._check_end()

    def _fail(self, error: StorageError) -> None:
        self._error = self._error or error
        self._stop(RunStoppedError(f"the run was stopped before this line's turn, because {error}"), read_on=False)


def _words_of(error: BaseException) -> str:
    """Say what an error of the caller's own is, in one line that is not too long."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__


def _with_report(error: BaseException, report: Report[RowT]) -> BaseException:
    """Give the error of a run the report of what was done; one that is not ours is the cause of one that is."""
    if not isinstance(error, AltcraftError):
        failed = RunFailedError(f"the run failed ({type(error).__name__}); the report has what was done by then")
        failed.__cause__ = error
        error = failed
    error.report = report
    return error
