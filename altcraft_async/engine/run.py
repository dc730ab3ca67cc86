"""Many updates: bounded intake → lanes → gate → delivery → outcomes.

One `Run` a bulk call. An intake task reads the source while fewer than `window`
updates are held; workers, never more than the gate's limit, take ready updates
from the lanes and make their first attempt. An update that needs a retry leaves
its worker and waits in a task of its own, its lane closed behind it, so nobody
else waits with it. Every update read ends in exactly one `Outcome`.

A `Recorder` makes a run durable. It tells which updates ended in an earlier run,
it gives the ids, and outcomes are handed on, and their lanes opened, only when it
says that they are safe: so of each lane at most one update is ever in doubt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from altcraft_async.engine.delivery import Totals
from altcraft_async.engine.history import History
from altcraft_async.engine.rows import LANE_KEYS, check_choice, read_row, subject_of
from altcraft_async.errors import (
    ConfigurationError,
    DeadlineError,
    DeliveryError,
    InvalidUpdateError,
    JournalError,
    RunStoppedError,
    SourceError,
    StorageError,
)
from altcraft_async.flow.lanes import Lanes
from altcraft_async.flow.pace import TIMER_SLACK, Pacer
from altcraft_async.flow.retry import Stop, StopReason
from altcraft_async.outcome import Outcome, Report
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable, Iterator, Sequence

    from altcraft_async.engine.delivery import Delivery
    from altcraft_async.engine.recorder import Recorder
    from altcraft_async.engine.rows import Coalesce, Lane, Row, Source
    from altcraft_async.protocol.wire import Call

__all__ = ["Run", "request_ids"]

_GRACE = 5.0
"""Seconds that requests in flight get to end when a run is cancelled."""

_UNREACHABLE = StopReason.UNREACHABLE
_DEADLINE = StopReason.DEADLINE

_YIELD_EVERY = 1000
"""Rows of a stopped run that are read in one go before other tasks get a turn."""

_Item: TypeAlias = tuple[int, LineStatusUpdate, "Hashable"]


def request_ids() -> Callable[[int, LineStatusUpdate], str]:
    """Return a function that gives an update at an index its ``Request-ID``, fresh for each run.

    The ids have the form of random UUIDs; the index is their last part.
    """
    prefix = str(uuid4())[:24]
    return lambda index, _: f"{prefix}{index:012x}"


class Run:
    """One bulk run over `source`; use `gather` or `stream`, once.

    `deadline` is in seconds from the start. The `recorder` is opened and closed by the run.
    """

    __slots__ = (
        "_broken", "_busy", "_call_of", "_deadline", "_deadline_timer", "_delivery", "_ended", "_error", "_gathered",
        "_give_up_at", "_grace", "_held", "_id_of", "_intake_task", "_key_of", "_lanes", "_loop", "_low", "_open",
        "_output", "_pacer", "_ready", "_recorder", "_recording", "_room", "_source", "_stopped", "_tasks", "_until",
        "_waiting", "_window", "_workers", "complete", "taken", "totals",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the keywords of the public call
        self,
        delivery: Delivery,
        source: Source,
        *,
        call_of: Callable[[LineStatusUpdate], Call],
        deadline: float | None = None,
        coalesce: Coalesce = "all",
        lane: Lane = "line",
        rate: float | None = None,
        window: int = 1000,
        grace: float = _GRACE,
        recorder: Recorder | None = None,
    ) -> None:
        check_choice(coalesce, ("all", "latest"), "coalesce")
        check_choice(lane, ("line", "order"), "lane")
        if coalesce == "latest" and lane == "order":
            msg = "coalesce='latest' needs lane='line': an update replaces only one of its own line"
            raise ConfigurationError(msg, field="coalesce")
        if window < 1:
            msg = f"window must be at least 1, not {window}"
            raise ConfigurationError(msg, field="window")
        if deadline is not None and not deadline > 0:
            msg = f"deadline must be above zero seconds, not {deadline}"
            raise ConfigurationError(msg, field="deadline")
        self._delivery = delivery
        self._source = source
        self._call_of = call_of
        self._recorder = recorder
        self._give_up_at = None if recorder is None else recorder.deadline
        self._id_of = request_ids() if recorder is None else recorder.request_id
        self._key_of = LANE_KEYS[lane]
        self._lanes: Lanes[_Item] = Lanes(latest_only=coalesce == "latest")
        self._pacer = None if rate is None else Pacer(rate)
        self._window = window
        self._low = window - max(1, window // 8)
        self._grace = grace
        self._deadline = deadline
        self._until: float | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._gathered: list[Outcome | None] | None = None
        self._output: deque[Outcome] = deque()
        self._ready: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None], History | None] = {}
        self._intake_task: asyncio.Task[None] | None = None
        self._stopped: DeliveryError | None = None
        self._error: BaseException | None = None
        self._recording: dict[int, Hashable | None] = {}
        self._workers = self._busy = self._held = self._open = self.taken = 0
        self._ended = self._broken = False
        self.complete = True
        self.totals = Totals()

    async def gather(self) -> Report:
        """Run to the end and return the outcomes in input order; see `Orders.update_order_line_statuses`."""
        self._gathered = []
        started = asyncio.get_running_loop().time()
        await self._start()
        try:
            while not self._ended:
                await self._wait_for_output()
        finally:
            await self._close()
        report = Report(
            outcomes=[outcome for outcome in self._gathered if outcome is not None],
            elapsed=self._loop.time() - started,
            sent=self.totals.sent,
            retries=self.totals.retries,
            throttled=self.totals.throttled,
            complete=self.complete,
        )
        if isinstance(self._error, SourceError | JournalError):
            self._error.report = report
        if self._error is not None:
            raise self._error
        return report

    async def stream(self) -> AsyncGenerator[Outcome, None]:
        """Yield outcomes as they come; see `Orders.stream_order_line_statuses`."""
        await self._start()
        output = self._output
        try:
            while True:
                while output:
                    self._held -= 1
                    if self._room is not None and self._held <= self._low:
                        self._wake(self._room)
                        self._room = None
                    yield output.popleft()
                if self._ended:
                    break
                await self._wait_for_output()
        finally:
            await self._close()
        if self._error is not None:
            raise self._error

    # -- life

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._delivery.gate.bind(self._loop)
        if self._recorder is not None:
            await self._recorder.open(self._on_recorded, self._on_recorder_failed)
        if self._deadline is not None:
            self._until = self._loop.time() + self._deadline
            self._deadline_timer = self._loop.call_at(self._until, self._on_deadline)
        self._intake_task = self._spawn(self._intake())

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # not the server's doing and not the source's, like a client that was closed: the run cannot go on
            self._error = self._error or error
            self._stop(RunStoppedError(f"the run failed before this line's turn ({type(error).__name__})"))
        self._check_end()

    def _check_end(self) -> None:
        if not self._open and not self._tasks and not self._ended:
            self._ended = True
            self._wake(self._ready)

    async def _wait_for_output(self) -> None:
        self._ready = self._loop.create_future()
        try:
            await self._ready
        finally:
            self._ready = None

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _close(self) -> None:
        """Stop whatever still runs, and make safe what ended."""
        try:
            await self._wind_up()
        finally:
            if self._recorder is not None:
                await self._recorder.aclose()

    async def _wind_up(self) -> None:
        """Leave no task behind: no intake, a bounded grace for what is in flight, then cancellation."""
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        if self._ended:
            return
        self._stop(RunStoppedError("the run was cancelled before this line's turn"), read_on=False)
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._grace)
        finally:  # also when cancelled a second time, which ends the grace
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks)

    def _on_deadline(self) -> None:
        read_on = not isinstance(self._source, AsyncIterable)
        self._stop(DeadlineError("the run's deadline came before this line's turn"), read_on=read_on)

    def _stop(self, error: DeliveryError, *, read_on: bool = True) -> None:
        """Start nothing more: what waits ends as not sent, and so does, where `read_on`, the rest of the source."""
        if self._stopped is None:
            self._stopped = error
            for item in self._lanes.clear():
                self._settle_unsent(item)
        if not read_on and self._intake_task is not None and not self._intake_task.done():
            self.complete = False
            self._intake_task.cancel()
        for task, history in self._waiting.items():
            if history is None or not history.in_flight:
                task.cancel()
            else:  # its attempt gets the grace of all others, and is its last
                history.halted = True

    # -- intake

    async def _intake(self) -> None:
        try:
            await self._read()
            if self._recorder is not None:
                self._recorder.exhausted(self.taken)
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
        except StorageError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the caller's own code; handed on when the run has ended
            message = f"the source of updates failed after {self.taken} rows ({type(error).__name__})"
            self._error = SourceError(message, taken=self.taken)
            self._error.__cause__ = error

    async def _read(self) -> None:
        if isinstance(self._source, AsyncIterable):
            async for row in self._source:
                self._admit(row)
                if self._held >= self._window:
                    await self._wait_for_room()
            return
        rows = iter(self._source)
        for row in rows:
            passed_over = self._admit(row)
            if self._held >= self._window:
                await self._wait_for_room()
            elif self._stopped is not None and not self.taken % _YIELD_EVERY:
                await asyncio.sleep(0)
            while passed_over and self._skip(rows):  # noqa: ASYNC110 - other tasks get a turn between two blocks
                await asyncio.sleep(0)

    def _skip(self, rows: Iterator[Row]) -> bool:
        """Pass over the next rows together, where a journal says that nothing is left to do for them."""
        if self._recorder is None or self._gathered is not None:
            return False
        first = self.taken
        updates: list[LineStatusUpdate | InvalidUpdateError] = []
        try:
            for row in islice(rows, self._recorder.ahead(first)):
                updates.append(row if type(row) is LineStatusUpdate else read_row(row))  # noqa: PERF401 - keeps what came
        finally:  # a source that fails has given these all the same
            if updates:
                self._recorder.skip(updates)
                self.taken += len(updates)
                if self._delivery.notifier is not None:
                    self._delivery.notifier.updates_skipped(first, len(updates))
        return bool(updates)

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        await self._room

    def _admit(self, row: Row) -> bool:
        """Take a row in; say whether it was passed over, as one that ended in an earlier run."""
        index = self.taken
        self.taken = index + 1
        update = row if type(row) is LineStatusUpdate else read_row(row)
        if self._recorder is not None:
            state = self._recorder.recall(index, update)
            if state is not None:
                self._pass_over(index, update, state, self._recorder)
                return True
        self._held += 1
        self._open += 1
        if self._gathered is not None:
            self._gathered.append(None)
        if isinstance(update, InvalidUpdateError):
            self._settle(Outcome(index, None, OutcomeState.INVALID, error=update))
            return False
        key = self._key_of(update)
        item = (index, update, key)
        if self._stopped is not None:
            self._settle_unsent(item)
            return False
        replaced = self._lanes.add(key, item)
        if replaced is not None:
            self._settle(Outcome(replaced[0], replaced[1], OutcomeState.SUPERSEDED))
        else:
            self._staff()
        return False

    def _pass_over(
        self, index: int, row: LineStatusUpdate | InvalidUpdateError, state: OutcomeState, recorder: Recorder
    ) -> None:
        """Deal with a row that ended in an earlier run: a report has all of them, a stream only the failures."""
        if state.ok and self._delivery.notifier is not None:
            self._delivery.notifier.updates_skipped(index, 1)
        if self._gathered is not None:
            self._gathered.append(recorder.recalled(row))
        elif not state.ok:
            self._held += 1
            self._output.append(recorder.recalled(row))
            self._wake(self._ready)

    # -- sending

    def _staff(self) -> None:
        """Start workers for the updates that are ready, as many as the limit allows."""
        limit, lanes = self._delivery.gate.limit, self._lanes
        while self._workers < limit and lanes.ready > self._workers - self._busy:
            self._workers += 1
            self._spawn(self._work())

    async def _work(self) -> None:
        """Take ready updates and make their first attempts, until none is ready or the limit has fallen."""
        lanes, gate = self._lanes, self._delivery.gate
        try:
            while lanes.ready and self._workers <= gate.limit:
                if self._pacer is not None and not await self._pause(self._keep_pace(self._pacer)):
                    break
                if not gate.try_acquire() and not await self._pause(gate.acquire(bulk=True)):
                    break
                try:
                    item = lanes.take()
                    if item is None:
                        break
                    history = History(self._id_of(item[0], item[1]), "")
                    stop = await self._attempt(item, history)
                finally:
                    gate.release()
                last = history.last
                if stop is None and last is not None and last.verdict.retry and self._stopped is None:
                    self._spawn(self._retry(item, history))
                else:
                    self._finish(item, history, stop)
        finally:
            self._workers -= 1
            self._staff()

    async def _keep_pace(self, pacer: Pacer) -> None:
        await asyncio.sleep(pacer.reserve(self._loop.time(), late=TIMER_SLACK))

    async def _pause(self, wait: Coroutine[None, None, None]) -> bool:
        """Await what a worker without an update waits for; false when the run was stopped meanwhile."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - workers are tasks
        self._waiting[task] = None
        try:
            await wait
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            return False
        finally:
            del self._waiting[task]
        return True

    async def _attempt(self, item: _Item, history: History) -> Stop | None:
        until = self._until if self._give_up_at is None else self._give_up_at(item[0])
        self._busy += 1
        try:
            return await self._delivery.attempt(self._call_of(item[1]), history, deadline=until, totals=self.totals)
        except BaseException:  # cancelled after the grace, or a defect: the line still gets its one outcome
            self._abandon(item, history)
            raise
        finally:
            self._busy -= 1

    async def _retry(self, item: _Item, history: History) -> None:
        """Make the further attempts of an update, its lane closed behind it, and settle it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it was spawned
        self._waiting[task] = history
        try:
            until = self._until if self._give_up_at is None else self._give_up_at(item[0])
            stop = await self._delivery.retry(
                self._call_of(item[1]), history, deadline=until, bulk=True, totals=self.totals
            )
        except BaseException:
            self._abandon(item, history)
            raise
        finally:
            del self._waiting[task]
        self._finish(item, history, stop)

    # -- outcomes

    def _finish(self, item: _Item, history: History, stop: Stop | None) -> None:
        """Settle an update whose delivery has ended."""
        last = history.last
        if last is None or last.error is not None:
            history.subject = subject_of(item[1])
        if last is not None and last.verdict.retry and isinstance(self._stopped, DeadlineError):
            stop = Stop(StopReason.DEADLINE)  # another attempt was due, and only the deadline forbade it
        error = self._delivery.failure(history, stop)
        ends_run = (last is not None and last.verdict.fatal) or (stop is not None and stop.reason is _UNREACHABLE)
        if ends_run and error is not None and self._stopped is None:
            self._stop(RunStoppedError(f"the run was stopped before this line's turn, because {error.message}"))
        out_of_time = stop is not None and stop.reason is _DEADLINE and self._until is not None
        out_of_retries = self._stopped is not None and last is not None and last.verdict.retry
        self._conclude(item, history, error, cut=ends_run or out_of_time or out_of_retries)

    def _abandon(self, item: _Item, history: History) -> None:
        """Settle an update whose delivery was cut short."""
        history.subject = subject_of(item[1])
        kind = DeadlineError if isinstance(self._stopped, DeadlineError) else RunStoppedError
        when = "while a request was under way" if history.in_flight else "before another attempt"
        said = f"the run {'met its deadline' if kind is DeadlineError else 'was stopped'} {when}"
        if history.last is not None and history.last.error is not None:
            said += f"; the last attempt: {history.last.error.message}"
        self._conclude(item, history, history.sign(kind(said)), cut=True)

    def _conclude(self, item: _Item, history: History, error: DeliveryError | None, *, cut: bool) -> None:
        index, update, key = item
        if self._delivery.notifier is not None:
            self._delivery.notifier.call_ended(history, error, self._loop.time())
        attempts = history.attempts
        elapsed = self._loop.time() - history.started if attempts else 0.0
        request_id = history.request_id if attempts else None
        if error is not None:
            error.request_id = request_id
        outcome = Outcome(index, update, history.state(), attempts, elapsed, request_id, error)
        self._settle(outcome, cut=cut, key=key)

    def _settle_unsent(self, item: _Item) -> None:
        stopped = self._stopped
        error = type(stopped)(stopped.message) if stopped is not None else RunStoppedError()
        error.subject = subject_of(item[1])
        self._settle(Outcome(item[0], item[1], OutcomeState.NOT_SENT, error=error), cut=True)

    def _settle(self, outcome: Outcome, *, cut: bool = False, key: Hashable | None = None) -> None:
        """Hand over an outcome and open the lane of `key`, at once or when it is recorded.

        An outcome that was `cut` by the end of the run is none of the line's own:
        it is not recorded, so that the next run sends the update.
        """
        if self._recorder is None or cut:
            self._hand_over(outcome)
            if key is not None:
                self._lanes.done(key)
                self._staff()
        elif self._broken:
            self._open -= 1
        else:
            self._recording[outcome.index] = key
            self._recorder.record((outcome,))

    def _on_recorded(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            key = self._recording.pop(outcome.index)
            self._hand_over(outcome)
            if key is not None:
                self._lanes.done(key)
        self._staff()
        self._check_end()

    def _on_recorder_failed(self, error: StorageError) -> None:
        """Drop the outcomes that could not be made safe: their updates are in doubt, and the next run sends them."""
        self._broken = True
        self._fail(error)
        self._open -= len(self._recording)
        self._recording.clear()
        self._check_end()

    def _fail(self, error: StorageError) -> None:
        self._error = self._error or error
        self._stop(RunStoppedError(f"the run was stopped before this line's turn, because {error}"), read_on=False)

    def _hand_over(self, outcome: Outcome) -> None:
        self._open -= 1
        if self._delivery.notifier is not None:
            self._delivery.notifier.update_settled(outcome)
        if self._gathered is not None:
            self._gathered[outcome.index] = outcome
            self._held -= 1
            if self._room is not None and self._held <= self._low:
                self._wake(self._room)
                self._room = None
        else:
            self._output.append(outcome)
            if self._ready is not None:
                self._wake(self._ready)
