"""`WorkItem`: one call to make, for whom, and what has happened to it so far.

Made by whoever wants the call made, written by its delivery, read by whoever ends it
or tells of it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypedDict

import attrs

from altcraft_async.flow.retry import StopReason
from altcraft_async.outcome import Batch, Fingerprint
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from altcraft_async.errors import DeliveryError
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.flow.outage import Outage
    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.flow.retry import Stop
    from altcraft_async.protocol.values import JSON, LineKey, LineStatusUpdate, UpdatedOrderLine
    from altcraft_async.protocol.verdict import Verdict
    from altcraft_async.protocol.wire import BatchCall, Call, Wire, WireResponse

__all__ = [
    "Attempt",
    "BatchItem",
    "BatchRows",
    "Facts",
    "Lease",
    "Owner",
    "Patience",
    "Phase",
    "RowResult",
    "SingleItem",
    "Taken",
    "WorkItem",
]

Taken: TypeAlias = "tuple[int, object, LineStatusUpdate]"
"""A row that was taken in: its index in the input, what was given, and the update that it is."""
RowResult: TypeAlias = "tuple[OutcomeState, DeliveryError | None] | None"
"""How one row of a batch ended, where that is not how the batch did."""


@attrs.frozen
class BatchRows:
    """The rows of a batch, in columns, since an object for each would cost more than all the rest of the batch.

    They have places in the input, what was `given`, and what their fingerprints say; what they say is in the call.
    """

    indices: Sequence[int]
    given: Sequence[object]
    external_ids: Sequence[str]
    contents: Sequence[int]
    sizes: Sequence[int]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.indices)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Give the fields that each row's outcome has of its own."""
        return {
            "index": self.indices,
            "row": self.given,
            "external_id": self.external_ids,
            "_content": self.contents,
            "_size": self.sizes,
        }

    def fingerprints(self) -> Iterator[Fingerprint]:
        """Give what each row is known by."""
        return map(Fingerprint, self.external_ids, self.contents, self.sizes)


class Phase(enum.Enum):
    """Where an item is."""

    WAITING = "waiting for its turn"
    IN_FLIGHT = "a request is under way"
    BETWEEN = "between two attempts"
    ENDED = "ended"


@attrs.define
class Attempt:
    """How one attempt ended. Without `error`, `payload` is the envelope of a success, and `response` has it.

    Not frozen, like the values of `protocol.wire`: one is made for each call.
    """

    verdict: Verdict
    payload: Mapping[str, JSON]
    error: DeliveryError | None = None
    retry_after: float | None = None
    response: WireResponse | None = attrs.field(default=None, repr=False)


class Facts(TypedDict):
    """What every event of one call says of it."""

    method: str
    request_id: str
    order_external_id: str | None
    order_line_external_id: str | None
    call_id: int


@attrs.define(eq=False)
class Lease:
    """The right to send what belongs to a part of the work, until `ends_at` on `clock`.

    The clock counts the time for which the process or the machine was stopped, so that one that
    comes back begins nothing that is no longer its own. `in_flight` counts the requests that are
    under way on it.
    """

    clock: Callable[[], float]
    ends_at: float
    in_flight: int = 0

    def left(self) -> float:
        """Give the seconds that are left of it; zero or less once it is over."""
        return self.ends_at - self.clock()


@attrs.frozen
class Patience:
    """How long a caller that began at `since` waits in an outage, by its policy; times are the event loop's."""

    policy: OutagePolicy
    since: float
    bulk: bool = False

    @property
    def fail_fast(self) -> bool:
        """Whether it waits for no outage at all."""
        return self.policy.fail_fast and not self.bulk

    def ends_at(self, outage: Outage, *, since: float | None = None) -> float:
        """Give the time at which the caller has waited long enough in this outage, or for what began at `since`."""
        since = outage.since if since is None else since
        if self.fail_fast:
            return since
        seconds = self.policy.patience if self.bulk else self.policy.call_patience
        if seconds is None:
            return float("inf")
        first = self.policy.first_patience
        if not outage.answered and not outage.local and first is not None:  # of what fails here no address is guilty
            seconds = min(seconds, first)
        return max(since, self.since) + seconds


class Owner(Protocol):
    """Who an item is of: is told when its turn comes, and says whether it may still be repeated."""

    stopped: bool

    def on_ready(self, item: WorkItem) -> None:
        """Take note that nothing stands before the item any more."""


class WorkItem:
    """One call, its place in the lanes, and its history.

    `rows` are what it carries: of a line update one row. `claims` are its keys in the lanes,
    `bulk` says that it gives way to single calls, `expires_at` when nothing more is begun
    for it, in the event loop's time; `doubt_ends_at` is the same for a call that may have been
    applied. `update` is the line update that it makes, if it makes one. `lease` is the right that
    every attempt needs, where it needs one.

    `attempts` counts the requests that were started, `unpaid` those among them that cost no
    attempt of the policy. `asked_before` says that an earlier call may have been made under the
    same id, and may still be at work. `first_failure` is when its first failure came. `another`
    is the line that an answer named last, where it was not this one; `fresh` asks for an
    unused connection. `refusals` counts how often its token was refused, the last time that of `refused_wire`.
    `token_number` says with which of the client's tokens (`Credentials.changes`) a call in doubt went out, None without
    doubt: it is never repeated with another. `traceparent` names the span in which the call was asked for, where that
    is another than where it is made.

    `timeout` is for an attempt of the item, in seconds, None for the client's. An item that is
    `apart` has a limit of its kind's own, apart from the client's others. `once` says that it is
    not repeated once it may have been applied.
    """

    timeout: float | None = None
    apart: bool = False
    once: bool = False

    __slots__ = (
        "another", "arrival", "asked_before", "attempts", "blocked", "bulk", "call", "claims", "doubt_ends_at",
        "echo", "expires_at", "facts", "first_failure", "fresh", "last", "lease", "maybe_applied", "owner", "phase",
        "reasked", "refusals", "refused_wire", "request_id", "rows", "started", "stop", "token_number", "traceparent",
        "unpaid", "update", "withdrawn",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a call is made of
        self,
        call: Call,
        request_id: str,
        *,
        owner: Owner,
        claims: Sequence[Claim] = (),
        update: LineStatusUpdate | None = None,
        rows: tuple[Taken, ...] = (),
        bulk: bool = False,
        expires_at: float | None = None,
        doubt_ends_at: float | None = None,
        asked_before: bool = False,
        lease: Lease | None = None,
    ) -> None:
        self.call = call
        self.request_id = request_id
        self.owner = owner
        self.claims = claims
        self.update = update
        self.rows = rows
        self.bulk = bulk
        self.expires_at = expires_at
        self.doubt_ends_at = doubt_ends_at
        self.asked_before = asked_before
        self.lease = lease
        self.arrival = self.blocked = 0
        self.withdrawn = False
        self.phase = Phase.WAITING
        self.attempts = self.unpaid = self.reasked = 0
        self.started = self.first_failure = 0.0
        self.maybe_applied = self.fresh = False
        self.refusals = 0
        self.refused_wire: Wire | None = None
        self.last: Attempt | None = None
        self.stop: Stop | None = None
        self.another: LineKey | None = None
        self.echo: UpdatedOrderLine | None = None
        self.facts: Facts | None = None
        self.token_number: int | None = None
        self.traceparent: str | None = None

    def __repr__(self) -> str:
        """Show what it is about and where it is."""
        return f"<WorkItem {self.subject}: {self.phase.value}, {self.attempts} attempts>"

    @property
    def subject(self) -> str:
        """What the call concerns, for errors."""
        update = self.update
        if update is None:
            return f"call {self.call.method}"
        return f"order line {update.order_external_id}/{update.order_line_external_id}"

    @property
    def state(self) -> OutcomeState:
        """The state in which the call ends if nothing more is tried."""
        if self.last is None:
            return OutcomeState.UNKNOWN if self.maybe_applied else OutcomeState.NOT_SENT
        verdict = self.last.verdict
        if self.maybe_applied and not (verdict.served and not verdict.fatal):
            return OutcomeState.UNKNOWN
        if verdict.state is OutcomeState.REJECTED and not verdict.served:  # somebody else's no
            if not self._used_up:
                return OutcomeState.NOT_SENT
            if self.asked_before:
                return OutcomeState.UNKNOWN
        return verdict.state

    @property
    def _used_up(self) -> bool:
        return self.stop is not None and self.stop.reason is StopReason.ATTEMPTS

    @property
    def spent(self) -> bool:
        """Whether it is not repeated for its doubt: that could make its change a second time."""
        return self.once and self.maybe_applied

    def doubt(self) -> None:
        """Take note that the change may have been made: from here on the end of the doubt counts."""
        self.maybe_applied = True
        if self.doubt_ends_at is not None:
            self.expires_at = self.doubt_ends_at

    def sign(self, error: DeliveryError) -> DeliveryError:
        """Write onto `error` what it concerns and what was tried."""
        error.subject = self.subject
        error.request_id = self.request_id if self.attempts else None
        error.attempts = self.attempts
        error.maybe_applied = self.state is OutcomeState.UNKNOWN
        return error


class SingleItem(WorkItem):
    """A call about something else than an order line; `topic` names it for errors."""

    __slots__ = ("once", "topic")

    def __init__(  # noqa: PLR0913 - what a call is made of
        self,
        call: Call,
        request_id: str,
        *,
        owner: Owner,
        topic: str,
        claims: tuple[Claim, ...] = (),
        asked_before: bool = False,
        once: bool = False,
    ) -> None:
        super().__init__(call, request_id, owner=owner, claims=claims, asked_before=asked_before)
        self.topic = topic
        self.once = once

    @property
    def subject(self) -> str:
        """What the call concerns, for errors."""
        return self.topic


class BatchItem(WorkItem):
    """One call for a batch of rows, `batch_rows` of `size` bytes; it can be divided, and has a `timeout` of its own.

    `batch` is what its outcomes say of it. `results` is what the answer said of each row, None
    where it spoke of none. `refused` is the batch of which this is a part, where the server said no to that: its rows
    end so where the part is never sent.
    """

    __slots__ = ("batch", "batch_rows", "refused", "results", "timeout")
    apart = True

    def __init__(  # noqa: PLR0913 - what a call is made of
        self,
        call: BatchCall,
        *,
        owner: Owner,
        claims: Sequence[Claim],
        rows: BatchRows,
        size: int,
        timeout: float,
        expires_at: float | None,
    ) -> None:
        super().__init__(call, "", owner=owner, claims=claims, bulk=True, expires_at=expires_at)
        self.batch_rows = rows
        self.timeout = timeout
        self.batch = Batch(rows.indices[0], len(rows), size)
        self.results: Sequence[RowResult] | None = None
        self.refused: BatchItem | None = None

    @property
    def subject(self) -> str:
        """What the call concerns, for errors."""
        rows = self.batch_rows
        first = f"row {rows.indices[0] + 1} ({rows.external_ids[0]})"
        return (
            f"{self.call.method}, {first}" if len(rows) == 1 else f"{self.call.method}, {len(rows)} rows from {first}"
        )
