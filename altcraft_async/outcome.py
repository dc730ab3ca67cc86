"""The outcomes of updates: one `Outcome` each, a `Report` for a whole run."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar, cast
from uuid import uuid4

import attrs

from altcraft_async.errors import BatchError, MissingExtraError
from altcraft_async.protocol.plain import escaped
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO, Protocol

    import pyarrow as pa

    from altcraft_async.errors import AltcraftError
    from altcraft_async.protocol.values import JSON, LineStatusUpdate, UpdatedOrderLine
    from altcraft_async.report.figures import Figures
    from altcraft_async.timeline import Bucket

    class Remembered(Protocol):
        """What the engine remembers of the course of a run."""

        @property
        def began(self) -> float: ...
        def timeline(self, outcomes: Mapping[int, Outcome[object]]) -> list[Bucket]: ...


__all__ = ["Batch", "Fingerprint", "Outcome", "OutcomeState", "RawResponse", "Report", "outcomes_like"]


Row_co = TypeVar("Row_co", covariant=True)
"""What a bulk call was given for one update."""


Value_co = TypeVar("Value_co", covariant=True)
"""What a method returns."""


@attrs.frozen
class RawResponse(Generic[Value_co]):
    """The `value` that a method returned, and the answer that it was made of.

    `status` and `headers` are HTTP's; `headers` finds names without regard to case. `request_id` is the ``Request-ID``
    of all `attempts`, `duplicate` says that the platform recognised the id and replayed its answer, and `elapsed` is
    the seconds from the first attempt to the end. If the method made several calls, all of these are of the last one.
    """

    value: Value_co
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    request_id: str
    attempts: int
    duplicate: bool
    elapsed: float


class Fingerprint(NamedTuple):
    """What a row of an import is known by: the id of what it describes, a checksum of it, its size in bytes."""

    external_id: str
    content: int
    size: int


@attrs.frozen
class Batch:
    """The batch of a row: `rows` rows from index `first` on, of `size` bytes beside the fields that every call has.

    A row of an earlier run may have gone in another batch. `answered_by_row` says that the answer had a result for
    each row; otherwise the answer to the batch is the answer for each row.
    """

    first: int
    rows: int
    size: int
    answered_by_row: bool = False


@attrs.frozen
class Outcome(Generic[Row_co]):
    """The outcome of one update, or of one row of an import.

    `index` is its 0-based place in the input. `update` is None only if the input row could not become an update (state
    ``invalid``). `attempts` counts the requests that were started for it, `elapsed` is the seconds from its first
    attempt to its end (0.0 without an attempt). `request_id` is the ``Request-ID`` of all its attempts, None without
    an attempt. `error` says why it was not applied, and is None for a state that is `OutcomeState.ok`. `echo` is the
    server's echo of the line, if it differs from the request. `row` is the row that was given: the update, the tuple,
    or the object that the update was made of.

    In an import `update` is None. `external_id` is the id of the order, product or SKU that the row describes, None if
    the row is ``invalid``. `batch` is the batch of the row, None if the row was never sent in this run. `elapsed` and
    `attempts` are the batch's.
    """

    index: int
    update: LineStatusUpdate | None
    state: OutcomeState
    attempts: int = 0
    elapsed: float = 0.0
    request_id: str | None = None
    error: AltcraftError | None = None
    echo: UpdatedOrderLine | None = None
    row: Row_co | None = None
    batch: Batch | None = None
    external_id: str | None = None
    _content: int = attrs.field(default=0, repr=False, eq=False)
    _size: int = attrs.field(default=0, repr=False, eq=False)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """What the row of an import is known by, None if it describes nothing, and for an update."""
        return None if self.external_id is None else Fingerprint(self.external_id, self._content, self._size)

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do for this update."""
        return self.state.ok

    def to_dict(self) -> dict[str, JSON]:
        """Return it flat and ready for JSON: index, ids, state, effort, and the error's class and text.

        ``ok`` says whether nothing is left to do. ``batch`` is the index of the first row that went in the same call.
        `row`, `echo` and the update's tag are left out: the index leads back to the row.
        """
        update, error = self.update, self.error
        return {
            "index": self.index,
            "order_external_id": None if update is None else update.order_external_id,
            "order_line_external_id": None if update is None else update.order_line_external_id,
            "status_external_id": None if update is None else update.status_external_id,
            "external_id": self.external_id,
            "batch": None if self.batch is None else self.batch.first,
            "state": str(self.state),
            "ok": self.ok,
            "attempts": self.attempts,
            "elapsed": round(self.elapsed, 6),
            "request_id": self.request_id,
            "error_type": None if error is None else type(error).__name__,
            "error": None if error is None else escaped(str(error)),
        }


_COLUMNS = tuple(Outcome(0, None, OutcomeState.INVALID).to_dict())


_PUT: Final = [(field.name, getattr(Outcome, field.name).__set__) for field in attrs.fields(Outcome)]


def outcomes_like(first: Outcome[object], count: int, own: Mapping[str, Iterable[object]]) -> list[Outcome[object]]:
    """Make `count` outcomes that are as `first` is but for their `own` fields, whose values are given in turn.

    They are filled field by field past attrs' own way, which takes twice the time.
    """
    made: list[Outcome[object]] = list(map(object.__new__, repeat(Outcome, count)))
    for name, put in _PUT:
        deque(map(put, made, own[name] if name in own else repeat(getattr(first, name))), maxlen=0)
    return made


def _counts(report: Report[object]) -> Mapping[OutcomeState, int]:
    counted = Counter(outcome.state for outcome in report.outcomes)
    return {state: counted[state] for state in OutcomeState}


@attrs.frozen
class Report(Generic[Row_co]):
    """The result of one gathered bulk run.

    Iterating yields its `outcomes`, which are in input order, one for every update that was read; its length is their
    number. `elapsed` is in seconds. `sent` counts the requests started, `retries` those among them that were not a
    line's first, and `throttled` the answers that were back-pressure (429, 503). `complete` is false if the deadline
    ended the run before an asynchronous source had been read to its end.
    """

    outcomes: Sequence[Outcome[Row_co]] = attrs.field(repr=lambda outcomes: f"<{len(outcomes)} outcomes>")
    elapsed: float
    sent: int
    retries: int
    throttled: int
    complete: bool = True
    _course: Remembered | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)
    counts: Mapping[OutcomeState, int] = attrs.field(
        init=False,
        default=attrs.Factory(_counts, takes_self=True),
        repr=lambda counts: "{" + ", ".join(f"{s}: {n}" for s, n in counts.items() if n) + "}",
    )

    def __iter__(self) -> Iterator[Outcome[Row_co]]:
        """Iterate over the outcomes."""
        return iter(self.outcomes)

    def __len__(self) -> int:
        """Count the outcomes."""
        return len(self.outcomes)

    def __bool__(self) -> bool:
        """Be true, whatever the length: ask `ok` for success."""
        return True

    def to_dict(self) -> dict[str, JSON]:
        """Return the report ready for JSON: the totals, and ``outcomes`` as by `Outcome.to_dict`."""
        return {
            "ok": self.ok,
            "complete": self.complete,
            "elapsed": round(self.elapsed, 6),
            "sent": self.sent,
            "retries": self.retries,
            "throttled": self.throttled,
            "counts": {str(state): count for state, count in self.counts.items()},
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    def to_arrow(self) -> pa.Table:
        """Return the outcomes as an Arrow table, a column for each key of `Outcome.to_dict`: pandas and polars take it.

        Needs the extra ``arrow``; raises `MissingExtraError` without.
        """
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
        except ImportError as error:
            msg = "to_arrow() needs pyarrow; install it with: pip install 'altcraft-async[arrow]'"
            raise MissingExtraError(msg) from error
        numbers = {"index": pa.int64(), "batch": pa.int64(), "attempts": pa.int32(), "elapsed": pa.float64()}
        types = {**numbers, "ok": pa.bool_()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS])
        rows = [outcome.to_dict() for outcome in self.outcomes]
        return pa.table({name: [row[name] for row in rows] for name in _COLUMNS}, schema=schema)

    def figures(self, *, source: str | None = None) -> Figures:
        """Return the figures of the run, as its page shows them; `source` names the input in words.

        Their `altcraft_async.report.Figures.to_dict` is ready for JSON.
        """
        from altcraft_async.report.recording import Collection  # noqa: PLC0415 - most reports are never drawn

        collection = Collection()
        for outcome in self.outcomes:
            collection.take(outcome)
        course = self._course
        return collection.figures(
            source=source,
            noun="update" if all(outcome.external_id is None for outcome in self.outcomes) else "row",
            began=None if course is None else course.began,
            elapsed=self.elapsed,
            complete=self.complete,
            sent=self.sent,
            retries=self.retries,
            throttled=self.throttled,
            timeline=[] if course is None else course.timeline({one.index: one for one in self.outcomes}),
        )

    def to_html(self, *, source: str | None = None) -> str:
        """Return the report as one page of HTML that opens without a network; `source` is its heading.

        It answers the first questions of a person (did everything arrive, what did not and why, how long did it take,
        was the server the cause), and shows the run over time. Write it as UTF-8. Needs the extra ``report``; raises
        `MissingExtraError` without.
        """
        from altcraft_async.report.page import page  # noqa: PLC0415 - most reports are never drawn

        return page(self.figures(source=source))

    def to_parquet(self, where: str | os.PathLike[str] | BinaryIO) -> None:
        """Write the table of `to_arrow` to a Parquet file, at a path or an address of fsspec, or to an open one.

        A file at a path is replaced once the new one is whole, and stays as it is if that fails. Needs the extra
        ``arrow``; raises `MissingExtraError` without.
        """
        table = self.to_arrow()
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

        if isinstance(where, str) and "://" in where:
            with _elsewhere(where) as file:
                pq.write_table(table, file)
        elif callable(getattr(where, "write", None)):
            pq.write_table(table, where)
        else:
            # Files are given open: one that pyarrow opens itself is deleted by it after an error, be it a device.
            with _replacing(Path(cast("str", where))) as file:
                pq.write_table(table, file)

    @property
    def ok(self) -> bool:
        """Whether the whole input was read and nothing is left to do for any line."""
        return self.complete and all(not count or state.ok for state, count in self.counts.items())

    @property
    def failures(self) -> list[Outcome[Row_co]]:
        """The outcomes that are not `Outcome.ok`, in input order."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    def raise_for_failures(self) -> None:
        """Raise `BatchError` unless the report is `ok`."""
        if self.ok:
            return
        failures = self.failures
        said = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count and not state.ok)
        message = f"{len(failures)} of {len(self.outcomes)} updates were not applied ({said})"
        if failures:
            message += f"; the first, at index {failures[0].index}: {failures[0].error}"
        if not self.complete:
            message += "; the input was not read to its end"
        raise BatchError(message, report=self, failures=failures)


def _elsewhere(address: str) -> AbstractContextManager[BinaryIO]:
    """Open a file at an address of fsspec; raises `MissingExtraError` without that, or without what it needs."""
    try:
        import fsspec  # noqa: PLC0415 - an extra

        opened: AbstractContextManager[BinaryIO] = fsspec.open(address, "wb")
    except ImportError as error:
        msg = f"{address} cannot be written without a library ({error}): pip install 'altcraft-async[arrow]' has fsspec"
        raise MissingExtraError(msg) from error
    return opened


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the place of the one at `path` when it is whole; a device or a pipe is written itself."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()
    new = target.with_name(f"{target.name}.{uuid4().hex[:8]}.new")
    try:
        with new.open("xb") as file:
            yield file
        if target.exists():
            new.chmod(target.stat().st_mode & 0o7777)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
