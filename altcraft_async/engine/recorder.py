"""The seam between a bulk run and the place that keeps its outcomes: the journal of a run, or an outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async.engine.work import BatchRows, Lease
    from altcraft_async.errors import InvalidUpdateError, StorageError
    from altcraft_async.outcome import Fingerprint, Outcome
    from altcraft_async.protocol.states import OutcomeState
    from altcraft_async.protocol.values import LineStatusUpdate
    from altcraft_async.timeline import Sample

    Known: TypeAlias = LineStatusUpdate | Fingerprint | InvalidUpdateError

__all__ = ["BatchRecorder", "Recorder"]


class Recorder(Protocol):
    """What a run needs of the place where its outcomes are kept. All calls come from the event loop."""

    async def open(
        self,
        recorded: Callable[[Sequence[Outcome[object]]], None],
        failed: Callable[[StorageError], None],
        sample: Callable[[], Sample] | None = None,
    ) -> None:
        """Get ready; raises `StorageError`.

        From then on call `recorded` with outcomes once they are safe, and
        `failed`, once, when no more can be. `sample`, where it is given, tells the state of
        the run at any moment until `aclose` has returned.
        """

    def recall(self, index: int, row: LineStatusUpdate | InvalidUpdateError) -> OutcomeState | None:
        """Return the state in which a row ended in an earlier run, or None for one that is to be sent.

        Called for each row in order. Raises `StorageError` to refuse the row and all after it.
        """

    def ahead(self, index: int) -> int:
        """Return how many rows from `index` on ended well in an earlier run, one after the other; 0 is never wrong."""

    def skip(self, rows: Sequence[LineStatusUpdate | InvalidUpdateError]) -> None:
        """Recall that many rows at once, from the index that `ahead` was asked about; raises as `recall` does."""

    def recalled(self, row: LineStatusUpdate | InvalidUpdateError) -> Outcome[object]:
        """Return the whole outcome of the row that was recalled last."""

    def request_id(self, index: int, update: LineStatusUpdate) -> str:
        """Return the ``Request-ID`` of an update, the same in every run."""

    def asked_before(self, index: int) -> bool:
        """Say whether an earlier run may have sent an update under its id, and the platform may be at work on it."""

    def left_in_doubt(self, index: int) -> bool:
        """Say whether what was asked before may have been made with a token that is replaced by now."""

    @property
    def doubt_ends_at(self) -> Callable[[int], float | None] | None:
        """What says, by its index, until when an update in doubt is repeated, in the event loop's time.

        None where nothing does.
        """

    @property
    def lease_of(self) -> Callable[[int], Lease] | None:
        """What gives, by its index, the lease that an update's attempts need; None where nothing is leased.

        An update whose lease is over ends as not sent, and its outcome is not recorded.
        """

    @property
    def traceparent_of(self) -> Callable[[int], str | None] | None:
        """What gives, by its index, the span in which an update was accepted; None where nothing does."""

    def record(self, outcomes: Sequence[Outcome[object]]) -> None:
        """Queue final outcomes that belong together: they are recorded all at once or not at all."""

    def exhausted(self, rows: int) -> None:
        """Take note that the source ended after `rows` rows; raises `StorageError` where it cannot have."""

    async def aclose(self) -> None:
        """Make safe what was queued, and free everything; harmless when called again."""


class BatchRecorder(Recorder, Protocol):
    """A recorder that can keep a run of batches."""

    def recall(self, index: int, row: Known) -> OutcomeState | None:
        """Return the state in which a row ended in an earlier run, or None for one that is to be sent."""

    def recalled(self, row: Known) -> Outcome[object]:
        """Return the whole outcome of the row that was recalled last."""

    @property
    def ends(self) -> Sequence[int]:
        """The counts of rows after which the input had ended in an earlier run: there a batch ends."""

    def apart(self, index: int) -> bool:
        """Say of the row recalled last whether it goes by itself, since it was none when batches were cut before."""

    def batch_request_id(self, rows: BatchRows) -> str:
        """Return the ``Request-ID`` of a batch, the same in every run."""
