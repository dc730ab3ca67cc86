"""Many lives of a client, each drawn from a seed: outages, faults and callers of every kind, and laws that must hold.

The engine is the real one, on a virtual clock; only its transport is simulated
(`simulated_network`). One client, and copies of it, is shared by single calls, bulk runs
and an outbox. Afterwards the ledger of the platform is held against what the callers
were told. The laws:

- **Ends.** Every call ends. Every row that was read has exactly one outcome. Nobody
  waits, no permit is out, no lane is claimed, no task is left.
- **Truth.** What was reported applied was made before the report. What was reported
  rejected, not sent or superseded was not made by a request of that call; what was
  rejected was not made at all. No change was sent under two ids, and none made twice.
- **Order.** Two calls conflict where they are of one line, or of one order and at least
  one of them claims the whole order. Of two that conflict, no request of the one placed
  later begins before the one placed earlier has ended, and none begins after its own call
  has ended. A call is placed when it is begun, a row when it is read; a put is placed when
  it returns, where the outbox is delivering, and behind everything that was begun before
  the put was. (Where something stops the outbox's delivery as a whole, its updates lose
  their places and get new ones when it is begun anew.) So changes are made in the order of
  their calls, whoever made these. Only a call that ended in doubt, cancelled ones among
  them, may have its change made later than that: when the platform, which still has the
  request, gets to it.

A seed repeats exactly: ``python tests/simulation.py 17`` shows it, ``--shrink`` looks for
the smallest part of it that still breaks a law, ``--seeds 10000`` tries many on all cores.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from altcraft_async import Adaptive, AltcraftClient, FailureLimit, OutagePolicy, OutcomeState, RetryPolicy, Timeout
from altcraft_async.errors import AltcraftError, DeliveryError, OutboxError, OutboxFullError, SourceError
from altcraft_async.observe import CallEnded, UpdateSettled
from altcraft_async.outbox import Burial, Counts, Entry, EntryPage, Leases, Outbox, Settled
from simulated_network import Fault, Ledger, Network, Outage, Weather
from virtual import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

    from altcraft_async import LineStatusUpdate

__all__ = ["BrokenLawError", "Life", "MemoryStore", "live", "new_loop", "shrunk", "try_seed"]

HORIZON = 3000.0
"""Virtual seconds after which whoever still waits will wait for ever."""
CALM = 300.0
"""Virtual seconds in which the platform gets to what it still has."""


# -- what the callers know


@attrs.define(eq=False)
class Told:
    """One call as its caller saw it, in moments of the ledger. `placed` is when its place was sure."""

    key: str
    order: str
    line: str
    whole_order: bool
    begun: int
    placed: int
    ended: int | None = None
    state: OutcomeState | None = None

    def conflicts(self, other: Told) -> bool:
        """Whether the two must go one after the other."""
        same_order = self.order == other.order
        return same_order and (self.line == other.line or self.whole_order or other.whole_order)


class Book:
    """What all callers were told; an observer of the client, too, for bulk outcomes of which nobody hears."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.calls: list[Told] = []
        self.open: dict[str, Told] = {}
        self.states: dict[str, OutcomeState] = {}
        self.lost: set[str] = set()
        self.broken: list[str] = []

    def begin(self, row: Sequence[str], *, whole_order: bool = False) -> Told:
        """Note that a call is begun."""
        order, line, key = row
        moment = self.ledger.now()
        told = Told(key, order, line, whole_order, moment, moment)
        self.calls.append(told)
        self.open[key] = told
        return told

    def end(self, key: str, state: OutcomeState) -> None:
        """Note what became of a call."""
        told = self.open.pop(key, None)
        if told is None:
            if key not in self.lost:
                self.broken.append(f"{key} has a second outcome, {state}")
        else:
            told.ended, told.state = self.ledger.now(), state

    def lose(self, keys: set[str]) -> None:
        """Note that what became of these cannot be recorded: each is in doubt, and is begun anew."""
        for key in keys & self.open.keys():
            self.end(key, OutcomeState.UNKNOWN)
        self.lost |= keys

    def forget(self, key: str) -> None:
        """Take back a call that was not accepted."""
        self.calls.remove(self.open.pop(key))

    def on_event(self, event: object, /) -> None:
        """Note the outcomes of bulk runs, and the states in which calls ended, which errors do not tell."""
        if isinstance(event, UpdateSettled):
            self.end(_key(event.outcome.row), event.outcome.state)
        elif isinstance(event, CallEnded):
            self.states[event.request_id] = event.state


def _key(row: Any) -> str:
    return row[2] if isinstance(row, tuple) else row.status_external_id


class MemoryStore:
    """An `OutboxStore` that keeps everything in memory, and needs `commit` seconds for each write.

    It tells the `book` of updates that are read again, after an end that was not theirs.
    """

    path = "memory"

    def __init__(self, book: Book, *, capacity: int, commit: float) -> None:
        self.capacity = capacity
        self._book = book
        self.entries: dict[int, Entry] = {}
        self.dead: dict[int, Burial] = {}
        self._commit = commit
        self.luck: Random | None = None
        self._lock = asyncio.Lock()
        self._ids = itertools.count(1)

    async def open(self, *, target: str | None) -> None:
        """Be ready."""

    async def aclose(self) -> None:
        """Have nothing to close."""

    async def lease(self) -> Leases:
        """Become the one that delivers."""
        return Leases({0: 0})

    async def release(self, buckets: Collection[int]) -> None:
        """Stop delivering."""

    def bucket_of(self, update: LineStatusUpdate) -> int:
        """Name the only one."""
        return 0

    async def try_writing(self) -> None:
        """Be ready."""

    async def trim(self, *, most: int | None, age: float | None, now: float) -> int:
        """Keep all dead letters."""
        return 0

    async def put(
        self, update: LineStatusUpdate, request_id: str, put_at: float, traceparent: str | None = None
    ) -> Counts:
        """Accept an update."""
        if len(self.entries) >= self.capacity:
            msg = "the outbox is full"
            raise OutboxFullError(msg, path=self.path, capacity=self.capacity)
        async with self._lock:  # first come, first served
            await asyncio.sleep(self._commit)
            entry = Entry(next(self._ids), update, request_id, put_at)
            self.entries[entry.id] = entry
            return self._counted()

    async def pending(self, after: Mapping[int, int], *, last: EntryPage | None, limit: int) -> EntryPage:
        """Read what waits."""
        found = [entry for entry in self.entries.values() if entry.id > after[0]][:limit]
        anew = False
        for entry in found:
            told = self._book.open.get(entry.update.status_external_id)
            anew = anew or told is None
            if told is None:
                told = self._book.begin((*entry.update.key, entry.update.status_external_id))
            if anew:  # in the store's order from here on
                told.begun, told.placed = self._book.ledger.now(), sys.maxsize
        return EntryPage(found, frozenset({0}) if len(found) == limit else frozenset())

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[Burial]) -> Settled:
        """Forget the delivered, and bury the dead."""
        await asyncio.sleep(self._commit)
        if self.luck is not None and self.luck.random() < 0.05:
            self._book.lose({entry.update.status_external_id for entry in self.entries.values()})
            msg = "the disk is full"
            raise OutboxError(msg, path=self.path)
        for entry in (*delivered, *(burial.entry for burial in dead)):
            del self.entries[entry.id]
        self.dead |= {burial.entry.id: burial for burial in dead}
        return Settled(self._counted(), frozenset(burial.entry.id for burial in dead))

    async def counts(self) -> Counts:
        """Count."""
        return self._counted()

    def _counted(self) -> Counts:
        oldest = next(iter(self.entries.values())).put_at if self.entries else None
        return Counts(len(self.entries), len(self.dead), oldest)


# -- the callers


class Life:
    """Everything that one seed decides, and its course; `without` names parts to leave out.

    Parts are ``"caller 3"``, ``"outage 0"``, the name of a `Fault`, or ``"copies"``.
    """

    def __init__(self, seed: int, *, without: frozenset[str] = frozenset()) -> None:
        self.seed = seed
        self.without = without
        draw = Random(f"life {seed}")
        self.span = draw.choice((2.0, 10.0, 60.0))
        self.orders = draw.randint(1, 6)
        self.lines = draw.randint(1, 3)
        kinds = ("single", "single", "run", "run", "puts", "both")
        self.callers = [draw.choice(kinds) for _ in range(draw.randint(2, 7))]
        self.outages = self._outages(draw)
        shares = {fault: draw.choice((0.0, 0.0, 0.02, 0.1, 0.25)) for fault in Fault}
        scale = min(1.0, 0.7 / (sum(shares.values()) or 1.0))
        self.faults = {fault: share * scale for fault, share in shares.items() if fault.name not in without}
        self.renames = draw.random() < 0.1
        if self.renames:  # an answer of another line cannot be told from a name, by its first sight
            self.faults.pop(Fault.ANOTHERS, None)
        self.refused = draw.choice((0.0, 0.05, 0.3))
        self.latency = draw.choice((0.005, 0.05, 0.3))
        self.options = self._options(draw)
        self.copies = [] if "copies" in without else [self._copy(draw) for _ in range(draw.randint(0, 2))]
        self.give_up_after = draw.choice((None, 30.0, 86_400.0))
        self.commit = draw.choice((0.0, 0.001, 0.02))
        self.capacity = draw.choice((5, 1000))
        self.store_fails = draw.random() < 0.2
        self.network = Network(
            seed, latency=self.latency, outages=self.outages, faults=self.faults, refused=self.refused,
            renames=self.renames,
        )  # fmt: skip
        self.book = Book(self.network.ledger)
        self.reports: list[str] = []

    @property
    def parts(self) -> list[str]:
        """What can be left out."""
        found = [f"caller {number}" for number in range(len(self.callers))]
        found += [f"outage {number}" for number in range(3)]
        found += [fault.name for fault in Fault]
        return [part for part in (*found, "copies") if part not in self.without]

    def _outages(self, draw: Random) -> tuple[Outage, ...]:
        found, begin = [], 0.0
        for number in range(draw.randint(0, 3)):
            begin += draw.choice((0.0, draw.uniform(0.0, self.span)))
            end = begin + draw.choice((0.3, 3.0, 20.0, 200.0)) * draw.uniform(0.5, 1.5)
            outage = Outage(begin, end, draw.choice(list(Weather)))
            begin = end
            if f"outage {number}" not in self.without:
                found.append(outage)
        return tuple(found)

    def _options(self, draw: Random) -> dict[str, Any]:
        limit = draw.choice((1, 2, 5, draw.randint(1, 64), Adaptive(), Adaptive()))
        return {
            "concurrency": limit,
            "timeout": Timeout(connect=1.0, total=draw.choice((1.0, 5.0, 30.0))),
            "retry": RetryPolicy(attempts=draw.randint(1, 8), base=draw.choice((0.01, 0.3)), max_delay=5.0),
            "retry_budget": draw.choice((None, 5.0, 500.0)),
            "rate": draw.choice((None, None, None, 20.0)),
            "outage": OutagePolicy(
                patience=draw.choice((5.0, 1800.0)),
                call_patience=draw.choice((3.0, 60.0)),
                first_patience=draw.choice((2.0, None)),
                fail_fast=draw.random() < 0.15,
            ),
        }

    def _copy(self, draw: Random) -> dict[str, Any]:
        return draw.choice(
            (
                {"request_format": "xml"},
                {"timeout": 2.0, "retry": RetryPolicy(attempts=2, base=0.01)},
                {"outage": OutagePolicy(fail_fast=True)},
            )
        )

    async def run(self) -> None:
        """Live through it."""
        async with AsyncExitStack() as stack:
            client = AltcraftClient(
                "http://127.0.0.1", "0123456789", transport=self.network, observers=[self.book], **self.options
            )
            await stack.enter_async_context(client)
            client._dispatcher.delivery.random = Random(f"backoff {self.seed}")
            self.clients = [client, *(client.with_options(**options) for options in self.copies)]
            for copy in self.clients[1:]:
                copy._dispatcher.delivery.random = Random(f"backoff {self.seed}")
            await self._callers()
            await asyncio.sleep(CALM)
            await self._empty_outbox()
            await asyncio.sleep(CALM)
            self._look_at(client)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self.reports.append(f"tasks are left: {len(left)}")
        self.reports += self.book.broken + list(broken_laws(self.book, self.network.ledger))

    async def _callers(self) -> None:
        loop = asyncio.get_running_loop()
        chosen = [(n, kind) for n, kind in enumerate(self.callers) if f"caller {n}" not in self.without]
        self.store = MemoryStore(self.book, capacity=self.capacity, commit=self.commit)
        self.store.luck = Random(f"store {self.seed}") if self.store_fails else None
        async with AsyncExitStack() as stack:
            if any(kind in {"puts", "both"} for _, kind in chosen):
                self.outbox = await stack.enter_async_context(self._outbox())
            live = {"single": self._singles, "run": self._runs, "puts": self._puts, "both": self._both}
            callers = [loop.create_task(live[kind](n, Random(f"{self.seed} caller {n}"))) for n, kind in chosen]
            if not callers:
                return
            done, waiting = await asyncio.wait(callers, timeout=HORIZON)
            for task in waiting:
                self.reports.append(f"a caller waits for ever: {task.get_coro().__name__}")
                task.cancel()
            for task in done:
                if task.exception() is not None:
                    raise task.exception()

    async def _empty_outbox(self) -> None:
        """Deliver what an outbox left behind that was stopped by something as it was closed."""
        if self.store.entries:
            async with self._outbox():
                for _ in range(1000):
                    if self.store.entries:
                        await asyncio.sleep(3.0)

    def _outbox(self) -> Outbox:
        return Outbox(
            self.store, self.clients[0], drain_timeout=HORIZON, give_up_after=self.give_up_after,
            clock=asyncio.get_running_loop().time,
        )  # fmt: skip

    def _look_at(self, client: AltcraftClient) -> None:
        gate, now = client._engine.gate, client.statistics()
        found = {
            "permits are out": now.in_flight,
            "calls wait for a permit": now.waiting,
            "lanes are claimed": len(client._engine.lanes),
            "requests are under way": self.network.under_way,
            "updates wait in the outbox": len(self.store.entries),
            "calls have no end": len(self.book.open),
            "the gate has a probe out": gate._probe if now.in_flight else 0,
        }
        self.reports += [f"{said}: {count}" for said, count in found.items() if count]

    # one caller each

    def _row(self, caller: int, number: int, draw: Random) -> tuple[str, str, str]:
        order, line = draw.randrange(self.orders), draw.randrange(self.lines)
        return f"o{order}", f"o{order}l{line}", f"c{caller}n{number}"

    async def _singles(self, caller: int, draw: Random) -> None:
        await asyncio.sleep(draw.uniform(0.0, self.span / 2))
        async with asyncio.TaskGroup() as group:
            for number in range(draw.randint(1, 25)):
                await asyncio.sleep(draw.choice((0.0, draw.expovariate(20.0 / self.span))))
                group.create_task(self._single(self._row(caller, number, draw), Random(draw.random())))

    async def _single(self, row: tuple[str, str, str], draw: Random) -> None:
        options: dict[str, Any] = {}
        if draw.random() < 0.3:
            options["deadline"] = draw.choice((0.01, 0.5, 5.0, 100.0))
        if draw.random() < 0.2:
            options["outage"] = draw.choice((OutagePolicy(fail_fast=True), OutagePolicy(call_patience=None)))
        own = draw.random() < 0.4
        request_id = options["request_id"] = f"{'own' if own else 'id'} {row[2]}"
        cancelled_after = draw.choice((None, None, None, 0.0, draw.expovariate(5.0 / self.span)))
        for _ in range(3 if own else 1):
            orders = draw.choice(self.clients).market.orders
            self.book.begin(row)
            try:
                async with asyncio.timeout(cancelled_after):
                    await orders.update_order_line_status(*row, **options)
            except DeliveryError as error:
                state = self.book.states[request_id]
                self.book.end(row[2], state)
                if error.maybe_applied != (state is OutcomeState.UNKNOWN):
                    self.reports.append(f"the error of {row[2]} does not tell that it is {state}")
                if not error.maybe_applied:
                    return
            except TimeoutError:
                self.book.end(row[2], OutcomeState.UNKNOWN)
            else:
                self.book.end(row[2], OutcomeState.APPLIED)
                return
            cancelled_after = None
            await asyncio.sleep(draw.expovariate(1.0))

    async def _runs(self, caller: int, draw: Random) -> None:
        await asyncio.sleep(draw.choice((0.0, draw.uniform(0.0, self.span))))
        lane = draw.choice(("line", "line", "order"))
        options: dict[str, Any] = {"lane": lane, "window": draw.choice((1, 4, 50, 1000))}
        if lane == "line" and draw.random() < 0.4:
            options["coalesce"] = "latest"
        if draw.random() < 0.3:
            options["deadline"] = draw.choice((0.1, 5.0, 60.0))
        if draw.random() < 0.2:
            options["rate"] = draw.choice((5.0, 50.0))
        if draw.random() < 0.2:
            options["stop_after"] = FailureLimit(count=draw.randint(1, 5))
        rows = [self._row(caller, number, draw) for number in range(draw.randint(1, 50))]
        fails_at = draw.choice((None, None, None, None, draw.randrange(len(rows))))
        pace = draw.choice((None, 0.0, 0.05, 1.0))
        source: Any = self._read(rows, lane, fails_at)
        if pace is not None:
            source = self._read_slowly(source, draw, pace)
        orders = draw.choice(self.clients).market.orders
        cancelled_after = draw.choice((None, None, None, draw.expovariate(2.0 / self.span)))
        gather = draw.random() < 0.5
        try:
            async with asyncio.timeout(cancelled_after):
                if gather:
                    await self._gather(orders, source, rows, options)
                else:
                    await self._stream(orders, source, rows, options, draw)
        except TimeoutError:
            if cancelled_after is None:
                raise

    def _read(
        self, rows: list[tuple[str, str, str]], lane: str, fails_at: int | None
    ) -> Iterator[tuple[str, str, str]]:
        for number, row in enumerate(rows):
            if number == fails_at:
                raise LookupError
            self.book.begin(row, whole_order=lane == "order")
            yield row

    async def _read_slowly(
        self, rows: Iterator[tuple[str, str, str]], draw: Random, pace: float
    ) -> AsyncIterator[tuple[str, str, str]]:
        for row in rows:
            yield row
            if draw.random() < 0.5:
                await asyncio.sleep(draw.uniform(0.0, pace))

    async def _gather(self, orders: Any, source: Any, rows: list[Any], options: dict[str, Any]) -> None:
        try:
            report = await orders.update_order_line_statuses(source, **options)
        except SourceError as error:
            report = error.report
        told = [outcome.row for outcome in report.outcomes]
        if told != rows[: len(told)] or [outcome.index for outcome in report.outcomes] != list(range(len(told))):
            self.reports.append("a report does not have its rows in order")
        open_still = [row[2] for row in rows if row[2] in self.book.open]
        if open_still:
            self.reports.append(f"a report came before the outcomes of {open_still}")

    async def _stream(self, orders: Any, source: Any, rows: list[Any], options: dict[str, Any], draw: Random) -> None:
        stop_at = draw.choice((None, None, draw.randint(1, len(rows))))
        lazy = draw.choice((0.0, 0.0, 0.2))
        told: Counter[str] = Counter()
        try:
            async with aclosing(orders.stream_order_line_statuses(source, **options)) as outcomes:
                async for outcome in outcomes:
                    told[_key(outcome.row)] += 1
                    await asyncio.sleep(lazy)
                    if told.total() == stop_at:
                        break
        except SourceError:
            pass
        if told and max(told.values()) > 1:
            self.reports.append("a stream gave an outcome twice")

    async def _puts(self, caller: int, draw: Random) -> None:
        await asyncio.sleep(draw.uniform(0.0, self.span / 2))
        async with asyncio.TaskGroup() as group:
            for number in range(draw.randint(1, 25)):
                await asyncio.sleep(draw.choice((0.0, draw.expovariate(20.0 / self.span))))
                group.create_task(self._put(self._row(caller, number, draw)))

    async def _both(self, caller: int, draw: Random) -> None:
        """Put updates and call for others, each as soon as the one before is done."""
        await asyncio.sleep(draw.uniform(0.0, self.span / 2))
        for number in range(draw.randint(1, 15)):
            row = self._row(caller, number, draw)
            if draw.random() < 0.6:
                await self._put(row)
            else:
                await self._single(row, Random(draw.random()))

    async def _put(self, row: tuple[str, str, str]) -> None:
        told = self.book.begin(row)
        told.placed = sys.maxsize
        try:
            await self.outbox.put(row)
        except OutboxFullError:
            self.book.forget(row[2])
        else:
            if self.outbox._drainer._run is not None:
                told.placed = self.network.ledger.now()


# -- the laws


def broken_laws(book: Book, ledger: Ledger) -> Iterator[str]:
    """Say which laws of the module the calls and the ledger break."""
    of_key: defaultdict[str, list[Told]] = defaultdict(list)
    for told in book.calls:
        of_key[told.key].append(told)
    for key in ledger.made_again:
        yield f"{key} was made twice"
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for sending in ledger.sendings:
        ids[sending.key].add(sending.request_id)
    for key, used in ids.items():
        if len(used) > 1:
            yield f"{key} was sent under {len(used)} ids"
    for told in book.calls:
        yield from _broken_truth(told, ledger)
    for sending in ledger.sendings:
        yield from _broken_order(sending.key, sending.moment, of_key, book)


def _broken_truth(told: Told, ledger: Ledger) -> Iterator[str]:
    made, ended, state = ledger.made.get(told.key), told.ended, told.state
    if ended is None or state is None:
        yield f"{told.key} has no end"
    elif state.ok and state is not OutcomeState.SUPERSEDED:
        if made is None or made.moment > ended:
            yield f"{told.key} was reported {state} and not made"
    elif state is not OutcomeState.UNKNOWN and made is not None:
        own = told.begun < made.asked < ended
        if own or state is OutcomeState.REJECTED:
            yield f"{told.key} was reported {state} and made"


def _broken_order(key: str, moment: int, of_key: dict[str, list[Told]], book: Book) -> Iterator[str]:
    own = next((it for it in of_key[key] if it.begun < moment < (it.ended or sys.maxsize)), None)
    if own is None:
        if key not in book.lost:  # of these nobody sees the end
            yield f"a request for {key} was begun without a call that was open"
        return
    for other in book.calls:
        if other.placed < own.begun and (other.ended or sys.maxsize) > moment and other.conflicts(own):
            yield f"a request for {key} was begun before the end of {other.key}, which was placed before it"


# -- seeds


class BrokenLawError(AssertionError):
    """A seed breaks a law; says which, and how to repeat it."""


class _NumberedTask(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set hangs on when it was made, not on where it lies in memory."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **options: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


def new_loop() -> VirtualLoop:
    """Make a virtual loop on which tasks have an order that no address decides."""
    loop = VirtualLoop()
    _NumberedTask._numbers = itertools.count()
    loop.set_task_factory(lambda loop, coro, **options: _NumberedTask(coro, loop=loop, **options))
    return loop


def live(seed: int, *, without: frozenset[str] = frozenset()) -> Life:
    """Live through a seed; raises `BrokenLawError` where it breaks a law."""
    life = Life(seed, without=without)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(life.run())
    except (AltcraftError, RuntimeError, ExceptionGroup) as error:
        life.reports.append(f"{type(error).__name__}: {error}")
        if not isinstance(error, RuntimeError):
            raise
    if life.reports:
        rest = f" --without {','.join(sorted(without))!r}" if without else ""
        said = "\n  ".join(dict.fromkeys(life.reports))
        msg = f"seed {seed} breaks laws:\n  {said}\nrepeat it: python tests/simulation.py {seed}{rest}"
        raise BrokenLawError(msg)
    return life


def shrunk(seed: int) -> tuple[frozenset[str], str]:
    """Leave out of a broken seed what can be left out; return that, and what is broken still."""
    without: frozenset[str] = frozenset()
    said = try_seed(seed, without) or ""
    smaller = bool(said)
    while smaller:
        smaller = False
        for part in Life(seed, without=without).parts:
            tried = try_seed(seed, without | {part})
            if tried is not None:
                without, said, smaller = without | {part}, tried, True
    return without, said


def try_seed(seed: int, without: frozenset[str] = frozenset()) -> str | None:
    """Live through a seed; say what is broken, or None."""
    try:
        live(seed, without=without)
    except BrokenLawError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a seed brings up is told with the seed
        return f"seed {seed}: {error!r}"
    return None


def main() -> int:
    """Run seeds as the command line says."""
    parser = argparse.ArgumentParser(description="Live through seeds, and say which laws they break.")
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--without", default="", help="parts to leave out, with commas between them")
    parser.add_argument("--shrink", action="store_true", help="leave out what a broken seed does not need")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds, without = range(given.seed, given.seed + given.seeds), frozenset(filter(None, given.without.split(",")))
    began, broken = time.monotonic(), 0
    with multiprocessing.Pool(min(len(seeds), os.cpu_count() or 1)) as pool:
        for seed, said in zip(seeds, pool.imap(partial(try_seed, without=without), seeds, chunksize=20), strict=True):
            if said is not None:
                broken += 1
                print(said if not given.shrink else shrunk(seed)[1], flush=True)  # noqa: T201 - a script prints
    took = time.monotonic() - began
    print(f"{len(seeds)} seeds in {took:.0f} s, {broken} broken")  # noqa: T201 - a script prints
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
