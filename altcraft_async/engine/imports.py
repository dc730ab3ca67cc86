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
from itertools import count, islice, repeat
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeVar
from uuid import uuid4

import attrs

from altcraft_async.engine.feed import Feed
from altcraft_async.engine.rows import check_choice
from altcraft_async.engine.run import Run, RunPhase
from altcraft_async.engine.work import BatchItem
from altcraft_async.errors import ConfigurationError, InvalidUpdateError, RunStoppedError, TariffLimitError
from altcraft_async.flow.batch import Cutter, fitting, halves, open_parts
from altcraft_async.outcome import Fingerprint, Outcome
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.verdict import TABLE, Evidence
from altcraft_async.protocol.wire import BatchCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.engine.recorder import BatchRecorder
    from altcraft_async.engine.run import RunOptions
    from altcraft_async.engine.work import BatchRow, WorkItem
    from altcraft_async.errors import DeliveryError
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.protocol.values import JSON

__all__ = ["BatchLimits", "Import", "ImportRun", "OnRefused", "ReadRow", "ReadRows"]

RowT = TypeVar("RowT")
OnRefused: TypeAlias = Literal["report", "split"]
ReadRow: TypeAlias = "tuple[Fingerprint, bytes] | InvalidUpdateError"
ReadRows: TypeAlias = "tuple[Sequence[str], Sequence[bytes]]"
"""The ids and bytes of many rows, no id of which comes twice."""

_WEIGHT: Final = 256
"""Bytes that a row is held with beside its own: a small one too has an outcome and its place in a batch."""
_IDLE: Final = 1.0
"""Seconds without a row after which a live source's rows do not wait for the rest of their batch."""
_OVERHEAD: Final = 512
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
            if type(value) is not int or value < 1:
                msg = f"{field} must be a whole number of at least 1, not {value!r}"
                raise ConfigurationError(msg, field=field)
        if self.window < 2 * self.size:
            msg = (
                f"window_bytes must be at least twice batch_bytes ({2 * self.size}), not {self.window}: "
                "a batch is filled while others are under way"
            )
            raise ConfigurationError(msg, field="window_bytes")
        if isinstance(self.timeout, bool) or not (isinstance(self.timeout, int | float) and self.timeout > 0):
            msg = f"timeout must be a number of seconds above zero, not {self.timeout!r}"
            raise ConfigurationError(msg, field="timeout")
        check_choice(self.on_refused, ("report", "split"), "on_refused")


@attrs.frozen(kw_only=True)
class Import:
    """What is imported, and how: rows go to `method`, with `fields` beside them in each call.

    `read` makes of what was given a row's fingerprint and its bytes, or says what is wrong
    with it; `read_many` does so with many at once, or gives None where one of them is unusual.
    `claims_of` gives the places in the lanes of what rows describe. `fixed` is how many bytes `fields` take.
    """

    method: str
    fields: Mapping[str, JSON]
    fixed: int
    read: Callable[[object], ReadRow]
    read_many: Callable[[Sequence[object]], ReadRows | None]
    claims_of: Callable[[Iterable[str]], tuple[Claim, ...]]
    limits: BatchLimits

    @property
    def overhead(self) -> int:
        """How many bytes a body is taken to have beside its rows."""
        return _OVERHEAD + self.fixed

    def cutter(self) -> Cutter[Entry]:
        """Return what cuts rows into batches."""
        return Cutter(count=self.limits.rows, size=self.limits.size, overhead=self.overhead, between=_BETWEEN)

    def too_large(self, known: Fingerprint) -> InvalidUpdateError | None:
        """Return what is wrong with a row that fits into no body, else None."""
        most = self.limits.size - self.overhead - _BETWEEN
        if known.size <= most:
            return None
        msg = (
            f"{known.external_id} takes {known.size} bytes, and a batch has room for {most}; "
            "make it smaller, or raise batch_bytes as far as the platform allows (10 MB by default)"
        )
        return InvalidUpdateError(msg)


class Entry(NamedTuple):
    """A row in its batch; `body` is None for one that ended in an earlier run."""

    row: BatchRow
    body: bytes | None


def _is_open(entry: Entry) -> bool:
    return entry.body is not None


def _entries_of(item: BatchItem) -> list[Entry]:
    assert isinstance(item.call, BatchCall)  # noqa: S101 - of a batch
    return [Entry(row, body) for row, body in zip(item.batch_rows, item.call.rows, strict=True)]


def _columns(entries: Sequence[Entry]) -> tuple[tuple[BatchRow, ...], tuple[bytes, ...]]:
    """Return the rows and the bodies of open entries."""
    return tuple(entry.row for entry in entries), tuple(entry.body for entry in entries if entry.body is not None)


def _bytes_of(entries: Sequence[Entry]) -> int:
    return sum(len(entry.body) for entry in entries if entry.body is not None)


class ImportRun(Run[RowT]):
    """A bulk run of imports over `source`; see the module and `Run`."""

    __slots__ = ("_batches_of", "_cuts", "_cutter", "_idle", "_import", "_largest", "_length", "_row_at")

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

    def _admit_many(self, rows: Sequence[RowT]) -> None:
        if self._batches_of is not None or len(rows) != self._import.limits.rows or not self._admit_batch(rows):
            held, taken = self._held, self.taken
            for row in rows:
                self._admit(row)
            if self.taken > taken:
                self._length = max(1, (self._held - held) // (self.taken - taken), self._length // 2)

    def _admit_batch(self, given: Sequence[RowT]) -> bool:
        """Take in a whole batch at once; false where one of its rows is unusual, or they make no batch."""
        what = self._import
        read = what.read_many(given)
        if read is None or len(self._cutter):
            return False
        ids, bodies = read
        sizes = list(map(len, bodies))
        size = sum(sizes)
        if what.overhead + size + len(given) * _BETWEEN > what.limits.size:
            return False
        first, self.taken = self.taken, self.taken + len(given)
        self._held += size + _WEIGHT * len(given)
        self._sink.expect(len(given))
        known = map(tuple.__new__, repeat(Fingerprint), zip(ids, repeat(0), sizes, strict=False))
        rows = tuple(zip(count(first), given, known, strict=False))
        if size <= self._largest:
            self._submit(rows, tuple(bodies))
        else:
            self._send(list(map(Entry, rows, bodies)))
        return True

    def _admit(self, row: RowT) -> bool:
        index = self.taken
        recorder = self._batches_of
        if recorder is not None:
            if not index:
                self._cuts = set(recorder.ends)
            if index in self._cuts:  # where the input ended once, a batch ended
                self._send(self._cutter.take())
        self.taken = index + 1
        read = self._import.read(row)
        if isinstance(read, InvalidUpdateError):
            return self._admit_invalid(index, row, read)
        known, body = read
        problem = self._import.too_large(known)
        if problem is not None:
            return self._admit_invalid(index, row, problem)
        state = None if recorder is None else recorder.recall(index, known)
        if state is None:
            self._held += known.size + _WEIGHT
            self._sink.expect()
            self._cut_in(Entry((index, row, known), body))
            return False
        self._put_back(index, row, known, state)
        self._cut_in(Entry((index, None, known), None))
        return True

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
                self._held += _weight(outcome)
            self._sink.put_back(outcome)
            self._wake("output")

    def _cut_in(self, entry: Entry) -> None:
        known = entry.row[2]
        for batch in self._cutter.add(entry, known.external_id, known.size):
            self._send(batch)
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
            error = RunStoppedError("the source failed before the batch of this row was whole")
            for part in open_parts(rows, _is_open):
                self._give_up(self._item(*_columns(part)), error)
        else:
            self._send(rows)

    # -- batches

    def _send(self, batch: Sequence[Entry]) -> None:
        """Send what is open of a batch, in parts of the size that the server is known to take."""
        for part in open_parts(batch, _is_open) if self._batches_of is not None else [batch]:
            for piece in fitting(part, _bytes_of, self._largest):
                if piece:
                    self._submit(*_columns(piece))

    def _submit(self, rows: tuple[BatchRow, ...], bodies: tuple[bytes, ...]) -> None:
        item = self._item(rows, bodies)
        if self._stopped is None:
            self._crew.submit(item)
        else:
            self._settle_unsent(item)

    def _item(self, rows: tuple[BatchRow, ...], bodies: tuple[bytes, ...]) -> BatchItem:
        what, recorder = self._import, self._batches_of
        return BatchItem(
            BatchCall(what.method, what.fields, bodies),
            owner=self._crew,
            claims=what.claims_of(known[0] for _, _, known in rows),
            rows=rows,
            timeout=what.limits.timeout,
            expires_at=None if self._deadline is None else self._deadline[0],
            asked_before=recorder is not None and recorder.asked_before(rows[0][0]),
        )

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
        split = self._import.limits.on_refused == "split" and item.state is OutcomeState.REJECTED
        return split and not isinstance(error, TariffLimitError)  # which would meet each of the halves too

    def _divides_first(self, item: WorkItem) -> bool:
        if not isinstance(item, BatchItem) or item.batch.size <= self._largest or len(item.batch_rows) == 1:
            return False
        parts = fitting(_entries_of(item), _bytes_of, self._largest)
        self._crew.take_over([self._item(*_columns(part)) for part in parts], item)
        return True

    def _divide(self, item: BatchItem) -> None:
        """Send the halves of a batch in its place."""
        parts = halves(_entries_of(item))
        if item.last is not None and item.last.verdict is TABLE[Evidence.TOO_LARGE]:
            self._largest = min(self._largest, _TAKEN * item.batch.size)
        heirs = [self._item(*_columns(part)) for part in parts]
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
        elif item.results is None or error is not None:
            self._sink.settle(self._outcomes(item, item.state, error), item, cut=cut)
        else:
            self._sink.settle(self._outcomes_by_row(item, item.results), item, cut=cut)

    def _outcomes(self, item: BatchItem, state: OutcomeState, error: DeliveryError | None) -> list[Outcome[object]]:
        """Make the outcomes of a batch's rows, each of which ended as the batch did."""
        attempts = item.attempts
        elapsed = self._loop.time() - item.started if attempts else 0.0
        request_id = item.request_id if attempts else None
        batch = item.batch if attempts else None
        return [
            Outcome(index, None, state, attempts, elapsed, request_id, error, None, row, batch, known)
            for index, row, known in item.batch_rows
        ]

    def _outcomes_by_row(
        self, item: BatchItem, results: Sequence[tuple[OutcomeState, DeliveryError] | None]
    ) -> list[Outcome[object]]:
        """Make the outcomes of a batch whose answer spoke of each row."""
        item.batch = attrs.evolve(item.batch, answered_by_row=True)
        outcomes = self._outcomes(item, item.state, None)
        for place, result in enumerate(results):
            if result is not None:
                state, error = result
                outcome = outcomes[place]
                error.subject = f"{item.call.method}, row {outcome.index + 1} ({outcome.external_id})"
                error.request_id, error.attempts = item.request_id, item.attempts
                outcomes[place] = attrs.evolve(outcome, state=state, error=error)
        return outcomes

    def _settle_unsent(self, item: WorkItem) -> None:
        stopped = self._stopped or RunStoppedError()
        self._give_up(item, type(stopped)(stopped.message))

    def _give_up(self, item: WorkItem, error: DeliveryError) -> None:
        """Settle a batch that never got its turn; it holds no lane."""
        assert isinstance(item, BatchItem)  # noqa: S101 - of this run
        error.subject = item.subject
        self._sink.settle(self._outcomes(item, OutcomeState.NOT_SENT, error), cut=True)

    def _counts(self, outcome: Outcome[object]) -> bool:
        """Count each answer once: that of a batch with its first row, and each row's own."""
        batch = outcome.batch
        if batch is None:
            return outcome.state is OutcomeState.INVALID
        return batch.answered_by_row or outcome.index == batch.first

    def _let_go(self, outcome: Outcome[object]) -> None:
        self._held -= _weight(outcome)
        if self._held <= self._low:
            self._wake("room")


def _weight(outcome: Outcome[object]) -> int:
    known = outcome.fingerprint
    return _WEIGHT if known is None else known[2] + _WEIGHT
