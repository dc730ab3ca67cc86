"""A bulk run that imports: rows → batches → calls of the dispatcher; answers → an outcome for each row.

It is a `Run` like any other; what it says of its own is how rows become calls. A batch
claims each of its orders alone, so it never overlaps with another batch, or with a line
update, of one of them. Where a batch is divided, its parts take its places in the lanes,
so an order's imports reach the server in input order all the same.

What is held is counted in bytes: of rows that are read and not settled, and of outcomes
that are not taken yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeVar
from uuid import uuid4

import attrs

from altcraft_async.engine.feed import Feed
from altcraft_async.engine.rows import check_choice
from altcraft_async.engine.run import Run, RunPhase
from altcraft_async.engine.work import BatchItem, BatchRows
from altcraft_async.errors import ConfigurationError, InvalidUpdateError, RunStoppedError, TariffLimitError
from altcraft_async.flow.batch import Cutter, fitting, halves, open_parts
from altcraft_async.kinds import SECONDS, WHOLE
from altcraft_async.outcome import Fingerprint, Outcome, outcomes_like
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.verdict import TABLE, Evidence
from altcraft_async.protocol.wire import BatchCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.engine.import_rows import ReadRow, ReadRows
    from altcraft_async.engine.recorder import BatchRecorder
    from altcraft_async.engine.run import RunOptions
    from altcraft_async.engine.work import RowResult, WorkItem
    from altcraft_async.errors import DeliveryError
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.wire import RowCodec

__all__ = ["OVERHEAD", "BatchLimits", "Entry", "Import", "ImportRun", "OnRefused", "is_open"]

RowT = TypeVar("RowT")
OnRefused: TypeAlias = Literal["report", "split"]

_WEIGHT: Final = 256
"""Bytes that a row is held with beside its own: a small one too has an outcome and its place in a batch."""
_IDLE: Final = 1.0
"""Seconds without a row after which a live source's rows do not wait for the rest of their batch."""
OVERHEAD: Final = 512
"""Bytes that a body is taken to have beside rows and definitions: the token and names; fixed, since tokens change."""
_BETWEEN: Final = 1
_TAKEN: Final = 0.6
"""The share of a batch that was too large that others are taken to be able to have: a half, and what rows differ by."""


@attrs.frozen(kw_only=True)
class BatchLimits:
    """How batches are cut and sent; checked.

    `rows` and `size` (in bytes) are the most of one batch, `window` the most bytes held, `timeout` is
    for one attempt, in seconds. Raises `ConfigurationError`, naming the keyword.
    """

    rows: int = 500
    size: int = 1_000_000
    window: int = 8_000_000
    timeout: float = 120.0
    on_refused: OnRefused = "report"

    def __attrs_post_init__(self) -> None:
        """Check the keywords."""
        for field, value in (("batch_size", self.rows), ("batch_bytes", self.size), ("window_bytes", self.window)):
            WHOLE.check(field, value)
        if self.window < 2 * self.size:
            msg = (
                f"window_bytes must be at least twice batch_bytes ({2 * self.size}), not {self.window}: "
                "a batch is filled while others are under way"
            )
            raise ConfigurationError(msg, field="window_bytes")
        SECONDS.check("timeout", self.timeout)
        check_choice(self.on_refused, ("report", "split"), "on_refused")

    def room(self, overhead: int) -> int:
        """Say how many bytes one row can have, beside so many of every body."""
        return self.size - overhead - _BETWEEN


@attrs.frozen(kw_only=True)
class Import:
    """What is imported, and how: rows go to `method`, with `fields` beside them in each call, written by `codec`.

    `read` makes of what was given a row's fingerprint and its bytes, or says what is wrong
    with it; `read_many` does so with many at once, or gives None where one of them is unusual.
    `claims_of` gives the places in the lanes of what rows describe. `overhead` is how many bytes a body is
    taken to have beside its rows.
    """

    method: str
    fields: Mapping[str, JSON]
    overhead: int
    codec: RowCodec
    read: Callable[[object], ReadRow]
    read_many: Callable[[list[object]], ReadRows | None]
    claims_of: Callable[[Sequence[str]], Sequence[Claim]]
    limits: BatchLimits

    def cutter(self) -> Cutter[Entry]:
        """Return what cuts rows into batches."""
        return Cutter(count=self.limits.rows, size=self.limits.size, overhead=self.overhead, between=_BETWEEN)


class Entry(NamedTuple):
    """A row by itself, on its way into a batch or out of one; `body` is None where it ended in an earlier run."""

    place: int
    given: object
    known: Fingerprint
    body: bytes | None


def is_open(entry: Entry) -> bool:
    """Whether a row is to be sent."""
    return entry.body is not None


def _bytes_of(entries: Sequence[Entry]) -> int:
    return sum(len(entry.body) for entry in entries if entry.body is not None)


def _columns(entries: Sequence[Entry]) -> BatchRows:
    known = [entry.known for entry in entries]
    return BatchRows(
        [entry.place for entry in entries],
        [entry.given for entry in entries],
        [one.external_id for one in known],
        [one.content for one in known],
        [one.size for one in known],
    )


class ImportRun(Run[RowT]):
    """A bulk run of imports over `source`; see the module and `Run`."""

    __slots__ = ("_apart_next", "_batches_of", "_cuts", "_cutter", "_idle", "_import", "_largest", "_length", "_row_at")

    _apart = True
    _counted = "answers"

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        dispatcher: Dispatcher,
        source: Iterable[RowT] | AsyncIterable[RowT],
        options: RunOptions,
        what: Import,
        *,
        recorder: BatchRecorder | None = None,
        gathered: bool = False,
    ) -> None:
        super().__init__(dispatcher, source, options, recorder=recorder, gathered=gathered)
        self._import = what
        self._batches_of = recorder
        self._cutter = what.cutter()
        self._apart_next: list[Entry] = []
        self._cuts: set[int] = set()
        self._largest = float("inf")
        self._idle: asyncio.TimerHandle | None = None
        self._row_at = 0.0
        self._length = what.limits.size

    # -- intake

    async def _read(self) -> None:
        if isinstance(self._source, Feed):
            while fed := await self._source.take(self._rows_ahead()):
                self._admit_many([row for row, _ in fed])
                await self._room()
            return
        if isinstance(self._source, AsyncIterable):
            async for row in self._source:
                self._admit(row)
                await self._room()
            return
        rows = iter(self._source)
        while True:
            given: list[RowT] = []
            try:
                given.extend(islice(rows, self._rows_ahead()))
            finally:  # a source that fails has given these all the same
                self._admit_many(given)
            if not given:
                return
            await asyncio.sleep(0)  # a batch takes milliseconds to make: others get a turn
            await self._room()

    async def _room(self) -> None:
        while self._full_up:
            await self._wait("room")

    @property
    def _full_up(self) -> bool:
        """Whether enough is read: as much as may be held, or as many batches as could soon be sent."""
        if self._held >= self._options.window:
            return True
        return self._crew.ready > max(1, self._dispatcher.delivery.gate.batch_limit) and self._stopped is None

    def _rows_ahead(self) -> int:
        """Say how many rows make a batch, with those that wait, going by how long rows were."""
        limits = self._import.limits
        return max(1, min(limits.rows - len(self._cutter), limits.size // self._length))

    def _admit_many(self, rows: list[RowT]) -> None:
        if self._batches_of is not None or len(rows) != self._import.limits.rows or not self._admit_batch(rows):
            held, taken = self._held, self.taken
            for row in rows:
                self._admit(row)
            if self.taken > taken:
                self._length = max(1, (self._held - held) // (self.taken - taken), self._length // 2)

    def _admit_batch(self, given: list[RowT]) -> bool:
        """Take in a whole batch at once; false where one of its rows is unusual, or they make no batch."""
        what = self._import
        read = what.read_many([*given])
        if read is None or len(self._cutter):
            return False
        ids, written = read
        many = len(given)
        size = what.codec.length_of_rows(written, many)
        if what.overhead + size + many * _BETWEEN > what.limits.size:
            return False
        first, self.taken = self.taken, self.taken + many
        each = -(-size // many)  # of one by itself nobody asks
        self._held += (each + _WEIGHT) * many
        self._sink.expect(many)
        rows = BatchRows(range(first, first + many), given, ids, [0] * many, [each] * many)
        if size <= self._largest:
            self._submit(self._item(rows, written, size))
        else:
            self._send(self._entries(rows, written))
        return True

    def _admit(self, row: RowT) -> bool:
        index = self.taken
        recorder = self._batches_of
        if recorder is not None:
            if not index:
                self._cuts = set(recorder.ends)
            if index in self._cuts:  # where the input ended once, a batch ended
                self._close_batch(self._cutter.take())
        self.taken = index + 1
        read = self._import.read(row)
        if isinstance(read, InvalidUpdateError):
            return self._admit_invalid(index, row, read)
        known, body = read
        state = None if recorder is None else recorder.recall(index, known)
        if state is None:
            self._held += known.size + _WEIGHT
            self._sink.expect()
            entry = Entry(index, row, known, body)
        else:
            self._put_back(index, row, known, state)
            entry = Entry(index, None, known, None)
        if recorder is None or not recorder.apart(index):
            self._cut_in(entry)
        elif self._cutter.holds(known.external_id):
            self._apart_next.append(entry)
        else:
            self._send([entry])
        return state is not None

    def _admit_invalid(self, index: int, row: RowT, problem: InvalidUpdateError) -> bool:
        state = None if self._batches_of is None else self._batches_of.recall(index, problem)
        if state is not None:
            self._put_back(index, row, problem, state)
            return True
        self._held += _WEIGHT
        self._sink.expect()
        self._sink.settle((Outcome(index, None, OutcomeState.INVALID, error=problem, row=row),))
        return False

    def _put_back(self, index: int, row: RowT, known: Fingerprint | InvalidUpdateError, state: OutcomeState) -> None:
        """Deal with a row that ended in an earlier run: a report has all of them, a stream only the failures."""
        recorder = self._batches_of
        assert recorder is not None  # noqa: S101 - it has recalled the row
        notifier = self._dispatcher.delivery.notifier
        if state.ok and notifier is not None:
            notifier.updates_skipped(index, 1)
        if self._sink.gathered is not None or not state.ok:
            outcome = attrs.evolve(recorder.recalled(known), row=row)
            if self._sink.gathered is None:
                self._held += _WEIGHT + outcome._size  # noqa: SLF001 - as it is let go
            self._sink.put_back(outcome)
            self._wake("output")

    def _cut_in(self, entry: Entry) -> None:
        for batch in self._cutter.add(entry, entry.known.external_id, entry.known.size):
            self._close_batch(batch)
        if self._batches_of is None and isinstance(self._source, AsyncIterable):
            self._row_at = self._loop.time()
            if self._idle is None:
                self._idle = self._loop.call_later(_IDLE, self._on_idle)

    def _on_idle(self) -> None:
        """Send what waits for the rest of its batch, where the source has given nothing for a while."""
        self._idle = None
        if not len(self._cutter) or self._phase is not RunPhase.READING:
            return
        now = self._loop.time()
        due = now + _IDLE if "room" in self._waiters else self._row_at + _IDLE
        if now < due:
            self._idle = self._loop.call_at(due, self._on_idle)
        else:
            self._send(self._cutter.take())

    def _rows_ended(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        rows = self._cutter.take()
        if self._error is not None and self._batches_of is not None and self._stopped is None:
            # the next run would cut another batch here, under another id
            error = RunStoppedError("the source ended early, before the batch of this row was whole; run it again")
            for part in open_parts(rows, is_open):
                self._give_up(self._item_of(part), error)
            for entry in filter(is_open, self._apart_next):
                self._give_up(self._item_of([entry]), error)
        else:
            self._close_batch(rows)

    # -- batches

    def _close_batch(self, batch: Sequence[Entry]) -> None:
        """Send a batch, and after it the rows that go by themselves and are about what one of it is about."""
        self._send(batch)
        entries, self._apart_next = self._apart_next, []
        for entry in entries:
            self._send([entry])

    def _send(self, batch: Sequence[Entry]) -> None:
        """Send what is open of a batch, in parts of the size that the server is known to take.

        One that may have been sent by an earlier run goes as it went then, under its id.
        """
        for part in open_parts(batch, is_open) if self._batches_of is not None else [batch]:
            whole = bool(part) and self._batches_of is not None and self._batches_of.asked_before(part[0].place)
            for piece in [part] if whole else fitting(part, _bytes_of, self._largest):
                if piece:
                    self._submit(self._item_of(piece))

    def _submit(self, item: BatchItem) -> None:
        if self._stopped is None:
            self._crew.submit(item)
        else:
            self._settle_unsent(item)

    def _entries(self, rows: BatchRows, written: bytes) -> list[Entry]:
        bodies = self._import.codec.split_rows(written)
        return list(map(Entry, rows.indices, rows.given, rows.fingerprints(), bodies))

    def _item_of(self, entries: Sequence[Entry]) -> BatchItem:
        """Make the call for open entries."""
        written = self._import.codec.join_rows(entry.body for entry in entries if entry.body is not None)
        return self._item(_columns(entries), written, _bytes_of(entries))

    def _item(self, rows: BatchRows, written: bytes, size: int) -> BatchItem:
        what, recorder = self._import, self._batches_of
        item = BatchItem(
            BatchCall(what.method, what.fields, written),
            owner=self._crew,
            claims=what.claims_of(rows.external_ids),
            rows=rows,
            size=size,
            timeout=what.limits.timeout,
            expires_at=None if self._deadline is None else self._deadline[0],
        )
        if recorder is not None:
            self._note_earlier(item, recorder, rows.indices[0], size)
        return item

    def _on_begins(self, item: WorkItem) -> None:
        assert isinstance(item, BatchItem)  # noqa: S101 - of this run
        recorder = self._batches_of
        item.request_id = str(uuid4()) if recorder is None else recorder.batch_request_id(item.batch_rows)
        self._wake("room")

    def _divides(self, item: BatchItem, error: DeliveryError | None) -> bool:
        """Say whether a batch that the server did not take is tried again in halves."""
        if len(item.batch_rows) == 1 or item.last is None:
            return False
        if item.last.verdict is TABLE[Evidence.TOO_LARGE]:
            return True
        if any(result is not None and result[0] is not OutcomeState.REJECTED for result in item.results or ()):
            return False  # a part of it was imported
        split = self._import.limits.on_refused == "split" and item.state is OutcomeState.REJECTED
        return split and not isinstance(error, TariffLimitError)  # which would meet each of the halves too

    def _divides_first(self, item: WorkItem) -> bool:
        small = not isinstance(item, BatchItem) or item.batch.size <= self._largest or len(item.batch_rows) == 1
        if small or item.asked_before:  # what may have been sent goes as it went, under its id
            return False
        assert isinstance(item, BatchItem)  # noqa: S101 - of this run
        parts = fitting(self._entries_of(item), _bytes_of, self._largest)
        self._crew.take_over(list(map(self._item_of, parts)), item)
        return True

    def _entries_of(self, item: BatchItem) -> list[Entry]:
        assert isinstance(item.call, BatchCall)  # noqa: S101 - of a batch
        return self._entries(item.batch_rows, item.call.rows)

    def _divide(self, item: BatchItem) -> None:
        """Send the halves of a batch in its place."""
        parts = halves(self._entries_of(item))
        too_large = item.last is not None and item.last.verdict is TABLE[Evidence.TOO_LARGE]
        if too_large:
            self._largest = min(self._largest, _TAKEN * item.batch.size)
        heirs = list(map(self._item_of, parts))
        for heir in heirs:
            heir.refused = item.refused if too_large else item
        if self._stopped is None:
            self._crew.take_over(heirs, item)
            return
        for heir in heirs:
            self._settle_unsent(heir)
        self._dispatcher.leave(item)

    # -- outcomes

    def _conclude(self, item: WorkItem, error: DeliveryError | None, *, cut: bool) -> None:
        assert isinstance(item, BatchItem)  # noqa: S101 - of this run
        notifier = self._dispatcher.delivery.notifier
        if notifier is not None:
            notifier.call_ended(item, error, self._loop.time())
        if not cut and self._divides(item, error):
            self._divide(item)
        elif item.results is None:
            self._sink.settle(self._outcomes(item, item.state, error), item, cut=cut)
        else:
            self._sink.settle(self._outcomes_by_row(item, item.results, error), item, cut=cut)

    def _outcomes(self, item: BatchItem, state: OutcomeState, error: DeliveryError | None) -> list[Outcome[object]]:
        """Make the outcomes of a batch's rows, each of which ended as the batch did."""
        rows, attempts = item.batch_rows, item.attempts
        elapsed = self._loop.time() - item.started if attempts else 0.0
        request_id = item.request_id if attempts else None
        batch = item.batch if attempts else None
        first: Outcome[object] = Outcome(0, None, state, attempts, elapsed, request_id, error, batch=batch)
        return outcomes_like(first, len(rows), rows.columns())

    def _outcomes_by_row(
        self, item: BatchItem, results: Sequence[RowResult], error: DeliveryError | None
    ) -> list[Outcome[object]]:
        """Make the outcomes of a batch whose answer spoke of each row."""
        item.batch = attrs.evolve(item.batch, answered_by_row=True)
        outcomes = self._outcomes(item, item.state, error)
        for place, result in enumerate(results):
            if result is not None:
                outcome = outcomes[place]
                state, own = result
                if own is not None:
                    own.subject = f"{item.call.method}, row {outcome.index + 1} ({outcome.external_id})"
                    own.request_id, own.attempts = item.request_id, item.attempts
                if own is not None or error is not None:
                    outcomes[place] = attrs.evolve(outcome, state=state, error=own)
        return outcomes

    def _settle_unsent(self, item: WorkItem) -> None:
        stopped = self._stopped or RunStoppedError()
        self._give_up(item, type(stopped)(stopped.message))

    def _give_up(self, item: WorkItem, error: DeliveryError) -> None:
        """Settle a batch that never got its turn; it holds no lane."""
        assert isinstance(item, BatchItem)  # noqa: S101 - of this run
        refused = item.refused
        if refused is None:
            error.subject = item.subject
            self._sink.settle(self._outcomes(item, OutcomeState.NOT_SENT, error), cut=True)
            return
        said = self._outcomes(refused, refused.state, self._dispatcher.delivery.failure(refused))
        own = {*item.batch_rows.indices}
        self._sink.settle([outcome for outcome in said if outcome.index in own], cut=True)

    def _counts(self, outcome: Outcome[object]) -> bool:
        """Count each answer once: that of a batch with its first row, and each row's own."""
        batch = outcome.batch
        if batch is None:
            return outcome.state is OutcomeState.INVALID
        return batch.answered_by_row or outcome.index == batch.first

    def _let_go(self, outcome: Outcome[object]) -> None:
        self._held -= _WEIGHT + outcome._size  # noqa: SLF001 - with what a row is held nobody else asks
        if self._held <= self._low:
            self._wake("room")
