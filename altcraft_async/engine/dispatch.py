"""The dispatcher: whatever a client sends goes through it, single calls, runs and the outbox alike.

It alone owns the client's lanes, and leads from them over the gate to the delivery:

    WorkItem → lanes (its turn for its keys) → gate (a permit) → delivery (attempts) → its owner

A single call does that in its caller's own task (`Dispatcher.call`). Many go through a
`Crew`: workers, never more than the gate's limit, that take ready items and make their
first attempt. An item that needs a retry leaves its worker and waits in a task of its
own, its lanes closed behind it, so nobody else waits with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
from collections import deque
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from altcraft_async.engine.rows import CLAIMS, update_of
from altcraft_async.engine.work import Patience, Phase, WorkItem
from altcraft_async.errors import ClientClosedError, InvalidUpdateError
from altcraft_async.flow.pace import TIMER_SLACK, Pacer
from altcraft_async.flow.policy import OutagePolicy
from altcraft_async.flow.retry import Stop, StopReason
from altcraft_async.kinds import DEADLINE, only
from altcraft_async.protocol.methods import BY_PATH, COMMIT_PREORDER, DELETE_ORDER, UPDATE_LINE_STATUS
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import check_request_id
from altcraft_async.protocol.wire import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from altcraft_async.engine.delivery import Delivery, Totals
    from altcraft_async.flow.lanes import Claim, Lanes
    from altcraft_async.protocol.values import JSON, LineStatusUpdate

__all__ = ["NO_BULK_CALL", "Crew", "Dispatcher", "delivered_calls"]

delivered_calls: contextvars.ContextVar[list[WorkItem] | None] = contextvars.ContextVar("delivered_calls", default=None)
"""Where single calls that were delivered are noted, for whoever wants to see more than their value."""
NO_BULK_CALL: Final = (
    "with_raw_response is for a method that makes single calls; a bulk call's outcomes have what it has"
)

_OF_AN_ORDER = frozenset({DELETE_ORDER.path, COMMIT_PREORDER.path})
"""Methods that change the order that they name by its external id."""
_OUTAGE = only(OutagePolicy)
_BETWEEN, _ENDED = Phase.BETWEEN, Phase.ENDED
"""Named once: a look at a member through its class is slow before Python 3.12."""


class _Caller:
    """The owner of a single call: whoever awaits it."""

    __slots__ = ("stopped", "turn")

    def __init__(self) -> None:
        self.stopped = False
        self.turn: asyncio.Future[bool] | None = None

    def on_ready(self, item: WorkItem) -> None:
        """Wake the caller."""
        del item
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(True)


def _is_bulk(item: WorkItem) -> bool:
    return item.bulk


def _update_of(path: str, fields: Mapping[str, JSON]) -> LineStatusUpdate | None:
    """Give the update of a line's status that a call makes, None where it makes none that can be read."""
    if path != UPDATE_LINE_STATUS.path:
        return None
    with contextlib.suppress(InvalidUpdateError):
        return update_of(fields)
    return None


def _claims_of_order(path: str, fields: Mapping[str, JSON]) -> tuple[Claim, ...]:
    order = fields.get("external_id")
    return ((order, True),) if path in _OF_AN_ORDER and isinstance(order, str) else ()


class Dispatcher:
    """Sends what one client, or a copy of it, is given; see the module. `lanes` are those of all copies."""

    __slots__ = ("delivery", "lanes")

    def __init__(self, delivery: Delivery, lanes: Lanes[WorkItem]) -> None:
        self.delivery = delivery
        self.lanes = lanes

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<Dispatcher {self.delivery.gate!r}>"

    def caller(self) -> _Caller:
        """Return an owner for a single call."""
        return _Caller()

    async def ask(
        self, path: str, fields: Mapping[str, JSON], *, request_id: str | None, deadline: float | None
    ) -> dict[str, JSON]:
        """Call any method by its path, and return its envelope, with arrays where the method is known to have them.

        What concerns one order line, or one order by its external id, takes the place in the lanes that the method's
        own call takes.
        """
        update = _update_of(path, fields)
        item = WorkItem(
            Call(path, fields),
            str(uuid4()) if request_id is None else check_request_id(request_id),
            owner=self.caller(),
            claims=_claims_of_order(path, fields) if update is None else CLAIMS["line"](update),
            update=update,
            asked_before=request_id is not None,
        )
        payload = dict(await self.call(item, deadline=deadline))
        if path in BY_PATH:
            BY_PATH[path].arrange(payload)
        return payload

    async def call(
        self, item: WorkItem, *, deadline: float | None = None, outage: OutagePolicy | None = None
    ) -> Mapping[str, JSON]:
        """Deliver one call, made for `caller()`, ahead of bulk ones, and return its envelope.

        `deadline` is in seconds from now and covers waiting, attempts and
        backoff. Raises the `DeliveryError` that says why it did not succeed.
        Cancellation drops the attempt under way, which the server may have taken.
        """
        delivery = self.delivery
        loop = asyncio.get_running_loop()
        if loop is not delivery.gate.loop:
            delivery.gate.bind(loop)
        now = loop.time()
        if deadline is not None:
            DEADLINE.check("deadline", deadline)
            item.expires_at = now + deadline
        if outage is not None:
            _OUTAGE.check("outage", outage)
        patience = Patience(outage or delivery.outage, now)
        notifier = delivery.notifier
        if notifier is None:
            return await self._deliver(item, patience)
        notifier.call_started(item, now)
        try:
            payload = await self._deliver(item, patience)
        except BaseException as error:
            notifier.call_ended(item, error, loop.time())
            raise
        notifier.call_ended(item, None, loop.time())
        return payload

    async def _deliver(self, item: WorkItem, patience: Patience) -> Mapping[str, JSON]:
        delivery = self.delivery
        if not self.lanes.add(item) and (stop := await self._turn(item, patience)) is not None:
            item.stop = stop
        else:
            try:
                item.stop = await self._attempts(item, patience)
            except ClientClosedError:
                if item.state is not OutcomeState.UNKNOWN:
                    raise
                item.stop = Stop(StopReason.CLOSED)  # its error says nothing of what was sent
            finally:
                item.phase = Phase.ENDED if item.phase is not Phase.IN_FLIGHT else item.phase
                self.leave(item)
        error = delivery.failure(item)
        if error is not None:
            raise error
        noted = delivered_calls.get()
        if noted is not None:
            noted.append(item)
        return item.last.payload if item.last is not None else {}

    async def _attempts(self, item: WorkItem, patience: Patience) -> Stop | None:
        delivery = self.delivery
        permit = delivery.try_acquire(item.call.method, apart=item.apart) or await delivery.acquire(item, patience)
        if isinstance(permit, Stop):
            return permit
        stop = None
        try:
            stop = await delivery.attempt(item)
        finally:
            delivery.gate.release(permit, unused=stop is not None)
        if stop is None and item.last is not None and item.last.verdict.retry:
            return await delivery.retry(item, patience)
        return stop

    async def _turn(self, item: WorkItem, patience: Patience) -> Stop | None:
        """Wait for the item's turn, lending its precedence to whoever stands before it; say what ended the wait."""
        caller = item.owner
        assert isinstance(caller, _Caller)  # noqa: S101 - made by `caller`
        caller.turn = asyncio.get_running_loop().create_future()
        for other in self.lanes.ahead(item, _is_bulk):  # whoever stands before one that is hurried is so already
            other.bulk = False
            if isinstance(other.owner, Crew):
                other.owner.hurry(other)
        try:
            async with asyncio.timeout_at(item.expires_at):
                patient = await self.delivery.gate.bear(caller.turn, patience)
        except TimeoutError:
            self._withdraw(item)
            return Stop(StopReason.DEADLINE)
        except BaseException:
            self._withdraw(item)
            raise
        if not patient:
            self._withdraw(item)
            self.delivery.gate.check_open()
            return Stop(StopReason.OUTAGE)
        return None

    def _withdraw(self, item: WorkItem) -> None:
        """Give up a place in the lanes, which may have come up in this very moment."""
        item.withdrawn = True
        if not item.blocked:
            self.leave(item)

    def leave(self, item: WorkItem) -> None:
        """Open the lanes of an item that has ended."""
        for ready in self.lanes.leave(item):
            ready.owner.on_ready(ready)


class Crew:
    """The workers of one run: an owner of items that are sent side by side.

    `begins` is called with each item right before its first attempt. `ended` is called with
    each whose delivery has ended, by itself or cut short; the owner of the crew then opens its
    lanes with `Dispatcher.leave`. `task_done` is called when a task of the crew is over, with
    what it raised, which no delivery may, or None. A crew that is `apart` sends batches; before one
    is sent, `divides` may let its parts take it over, and says so.
    Everything happens on one event loop, in the context in which the crew was made.
    """

    __slots__ = (
        "_apart", "_arrived", "_begins", "_busy", "_context", "_dispatcher", "_divides", "_ended", "_freed", "_hurried",
        "_pacer", "_patience", "_resting", "_task_done", "_tasks", "_totals", "_waiting", "_workers", "stopped",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a crew is told
        self,
        dispatcher: Dispatcher,
        *,
        patience: Patience,
        totals: Totals,
        rate: float | None,
        begins: Callable[[WorkItem], None],
        ended: Callable[[WorkItem], None],
        task_done: Callable[[BaseException | None], None],
        apart: bool = False,
        divides: Callable[[WorkItem], bool] | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._divides = divides
        self._apart = apart
        self._patience = patience
        self._totals = totals
        self._pacer = None if rate is None else Pacer(rate)
        self._begins = begins
        self._ended = ended
        self._task_done = task_done
        self._context = contextvars.copy_context()
        self._arrived: deque[WorkItem] = deque()
        self._freed: list[tuple[int, WorkItem]] = []
        self._hurried: set[WorkItem] = set()
        self._waiting: dict[WorkItem, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: dict[asyncio.Task[None], WorkItem | None] = {}
        self._workers = self._busy = 0
        self.stopped = False
        dispatcher.delivery.gate.crews.add(self.staff)

    def __repr__(self) -> str:
        """Show how many are at work."""
        return f"<Crew {self._busy} of {self._workers} busy, {self.ready} ready>"

    @property
    def ready(self) -> int:
        """How many items wait for a worker."""
        return len(self._arrived) + len(self._freed)

    @property
    def idle(self) -> bool:
        """Whether no task of the crew is left."""
        return not self._tasks

    # -- what is to be sent

    def submit(self, item: WorkItem) -> None:
        """Give an item its place in the lanes, and send it when its turn comes."""
        self._waiting[item] = None
        if self._dispatcher.lanes.add(item):
            self._arrived.append(item)
            if self._workers < self._limit:
                self.staff()

    def take_over(self, heirs: Sequence[WorkItem], item: WorkItem) -> None:
        """Send the `heirs` of a ready item instead of it, in its places in the lanes and before what came after it."""
        self._waiting.pop(item, None)
        item.phase = Phase.ENDED
        self._dispatcher.lanes.hand_over(item, heirs)
        self._waiting.update(dict.fromkeys(heirs))
        self._arrived.extendleft(reversed(heirs))
        self.staff()

    def on_ready(self, item: WorkItem) -> None:
        """Take note that an item's turn has come; it goes before those that arrived after it."""
        if item.bulk:
            heapq.heappush(self._freed, (item.arrival, item))
        else:
            self._hurry(item)
        self.staff()

    def hurry(self, item: WorkItem) -> None:
        """Send a waiting item before all others, and as a single call: one waits behind it."""
        if item.phase is Phase.WAITING and not item.blocked:
            self._hurry(item)

    def _hurry(self, item: WorkItem) -> None:
        self._hurried.add(item)
        self._spawn(self._express(item))

    @property
    def _limit(self) -> int:
        """How many workers there may be: those that wait for a lost answer stand in nobody's way.

        One waits at the gate also while that has no permit at all, and so sees when it has one again.
        """
        gate = self._dispatcher.delivery.gate
        return max(1, gate.batch_limit if self._apart else gate.limit) + gate.lost

    def staff(self) -> None:
        """Start workers for the items that are ready, as many as the limit allows."""
        if self.stopped:
            return
        limit = self._limit
        while self._workers < limit and self.ready > self._workers - self._busy:
            self._workers += 1
            self._spawn(self._work())

    def _take(self) -> WorkItem | None:
        """Take the ready item that came first."""
        arrived, freed = self._arrived, self._freed
        while arrived or freed:
            if freed and (not arrived or freed[0][0] < arrived[0].arrival):
                item = heapq.heappop(freed)[1]
            else:
                item = arrived.popleft()
            if item in self._waiting and item not in self._hurried:
                if self._divides is not None and self._divides(item):
                    continue
                return item
        return None

    # -- sending

    async def _work(self) -> None:
        """Take ready items and make their first attempts, until none is ready or the limit has fallen."""
        delivery = self._dispatcher.delivery
        gate = delivery.gate
        try:
            # no more workers without an item than there are items: each would wait for a permit for nothing
            while (
                self._workers - self._busy <= len(self._arrived) + len(self._freed)
                and self._workers <= (limit := self._limit)
                and not self.stopped
            ):
                if self._workers < limit:  # it has grown
                    self.staff()
                first = self._arrived[0] if self._arrived else self._freed[0][1]
                kind = first.call.method
                if self._pacer is not None:
                    permit = await self._paced_permit(kind, self._pacer)
                else:
                    permit = delivery.try_acquire(kind, apart=self._apart) or await self._permit(kind)
                if not permit:
                    break
                self._busy += 1
                item, stop = self._take(), None
                try:
                    if item is None:
                        break
                    stop = await self._attempt(item)
                finally:
                    self._busy -= 1
                    gate.release(permit, unused=item is None or stop is not None)
                self._go_on(item, stop)
        finally:
            self._workers -= 1
            self.staff()

    async def _paced_permit(self, kind: str, pacer: Pacer) -> int:
        """Wait for the pace, and then as `_permit`; who had to wait there begins by the pace of that moment."""
        delivery = self._dispatcher.delivery
        clock = asyncio.get_running_loop().time
        delay = pacer.reserve(clock(), late=TIMER_SLACK)
        while await self._rest(delivery.gate.rest(delay)):
            if permit := delivery.try_acquire(kind, apart=self._apart):
                return permit
            permit = await self._permit(kind)
            if not permit or (delay := pacer.reserve(clock())) <= 0.0:
                return permit
            delivery.gate.release(permit, unused=True)
        return 0

    async def _permit(self, kind: str) -> int:
        """Wait for a permit without an item; 0 where the crew was stopped, or has waited long enough in an outage."""
        delivery = self._dispatcher.delivery
        permit = 0

        async def wait() -> None:
            nonlocal permit
            permit = await delivery.permit(kind, self._patience, bulk=True, apart=self._apart)

        if not await self._rest(wait()):
            return 0
        if not permit and not self.stopped:
            delivery.gate.check_open()
            self._give_up()
        return permit

    def _give_up(self) -> None:
        """End the item that would be next for an outage, and with it the run."""
        item = self._take()
        if item is not None:
            del self._waiting[item]
            item.stop = Stop(StopReason.OUTAGE)
            self._end(item)

    async def _express(self, item: WorkItem) -> None:
        """Send one item with the precedence of a single call."""
        if self.stopped:
            return
        delivery = self._dispatcher.delivery
        permit: int | Stop = Stop(StopReason.FINAL)

        async def wait() -> None:
            nonlocal permit
            permit = await delivery.acquire(item, self._patience)

        if not await self._rest(wait()):
            return
        self._hurried.discard(item)
        if isinstance(permit, Stop):
            del self._waiting[item]
            item.stop = permit
            self._end(item)
            return
        stop = None
        try:
            stop = await self._attempt(item)
        finally:
            delivery.gate.release(permit, unused=stop is not None)
        self._go_on(item, stop)

    def _go_on(self, item: WorkItem, stop: Stop | None) -> None:
        """Retry an item, or end it, after its first attempt."""
        last = item.last
        if stop is None and last is not None and last.verdict.retry and not self.stopped:
            self._spawn(self._retry(item))
        else:
            item.stop = stop
            self._end(item)

    async def _attempt(self, item: WorkItem) -> Stop | None:
        del self._waiting[item]
        self._begins(item)
        item.phase = _BETWEEN
        try:
            return await self._dispatcher.delivery.attempt(item, self._totals)
        except BaseException:  # cancelled after the grace, or a defect: the line still gets its one outcome
            self._ended(item)
            raise

    async def _retry(self, item: WorkItem) -> None:
        """Make the further attempts of an item, its lanes closed behind it, and end it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it was spawned
        self._resting[task] = item
        try:
            item.stop = await self._dispatcher.delivery.retry(item, self._patience, self._totals)
        except BaseException:
            self._ended(item)
            raise
        finally:
            del self._resting[task]
        self._end(item)

    def _end(self, item: WorkItem) -> None:
        item.phase = _ENDED
        self._ended(item)

    async def _rest(self, wait: Coroutine[None, None, None], item: WorkItem | None = None) -> bool:
        """Await what a task waits for between attempts; false when the crew was stopped meanwhile."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - workers are tasks
        self._resting[task] = item
        try:
            await wait
        except asyncio.CancelledError:
            if not self.stopped:
                raise
            return False
        finally:
            del self._resting[task]
        return True

    # -- the end

    def stop(self) -> list[WorkItem]:
        """Start nothing more, and return what was still waiting: it is withdrawn from the lanes.

        A wait between two attempts ends; a request that is under way goes on, and is the last.
        """
        self.stopped = True
        waiting = list(self._waiting)
        for gone in (self._arrived, self._freed, self._hurried, self._waiting):
            gone.clear()
        for item in waiting:
            item.withdrawn = True
            if not item.blocked:
                self._dispatcher.leave(item)
        for task, resting in self._resting.items():
            if resting is None or resting.phase is not Phase.IN_FLIGHT:
                task.cancel()
        return waiting

    async def wind_up(self, grace: float) -> None:
        """Give what is under way `grace` seconds, then cancel it; leaves no task behind."""
        self._dispatcher.delivery.gate.crews.discard(self.staff)
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace)
        finally:  # also when cancelled a second time, which ends the grace
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._task_done(None if task.cancelled() else task.exception())
