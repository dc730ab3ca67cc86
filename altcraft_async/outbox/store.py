"""What an outbox asks of a database, and the values that pass between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.protocol.states import OutcomeState
    from altcraft_async.protocol.values import LineStatusUpdate

__all__ = ["Counts", "DeadLetter", "Entry", "OutboxStore"]


@attrs.frozen
class Entry:
    """One accepted update. `id` rises in the order of acceptance; `put_at` is the Unix time of it, in seconds."""

    id: int
    update: LineStatusUpdate
    request_id: str
    put_at: float


@attrs.frozen
class DeadLetter:
    """An update that was given up.

    `id` is the one of its `Entry`. `state` is ``rejected`` where the server said
    no, ``unknown`` or ``not_sent`` where the time for it ran out; `reason` says why in
    words, `attempts` how many requests were made since the last start. `put_at` and
    `died_at` are Unix times. `overtaken` is true once a newer update of the line has
    been delivered: sending this one would put the line back.
    """

    id: int
    update: LineStatusUpdate
    request_id: str
    state: OutcomeState
    reason: str
    attempts: int
    put_at: float
    died_at: float
    overtaken: bool = False


@attrs.frozen
class Counts:
    """How many updates wait, how many are dead, and the Unix time at which the oldest that waits was put, or None."""

    pending: int
    dead: int
    oldest: float | None


class OutboxStore(Protocol):
    """Keeps the updates of an outbox. Every method raises `OutboxError` where it cannot do its work.

    What a method has done is durable when it returns. Calls come from one event
    loop and overlap freely; several processes may share the data.
    """

    @property
    def path(self) -> str:
        """Where the data is, for messages."""

    @property
    def capacity(self) -> int:
        """How many updates may wait."""

    async def open(self) -> None:
        """Get ready."""

    async def claim(self) -> bool:
        """Become the one process that delivers; false while another is."""

    async def put(self, update: LineStatusUpdate, request_id: str, put_at: float) -> Counts:
        """Accept an update behind all accepted before it; raises `OutboxFullError` at the capacity."""

    async def pending(self, *, after: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` waiting entries whose id is above `after`, by id."""

    async def settle(self, delivered: Sequence[Entry], dead: Sequence[DeadLetter]) -> Counts:
        """Forget what was delivered, and bury the dead."""

    async def counts(self) -> Counts:
        """Count."""

    async def dead_letters(self, *, after: int, limit: int) -> Sequence[DeadLetter]:
        """Return the first `limit` dead letters whose id is above `after`, by id."""

    async def retry(self, ids: Sequence[int] | None, put_at: float) -> int:
        """Let these dead letters wait again, behind all others.

        With None, all those of whose line no newer update was delivered or waits. A
        rejected one gets a new ``Request-ID``, the others keep theirs. Returns how many
        they were.
        """

    async def purge(self, ids: Sequence[int] | None) -> int:
        """Delete these dead letters, or all; return how many they were."""

    async def aclose(self) -> None:
        """Make durable what was begun, give up the claim, free everything; harmless when called again."""
