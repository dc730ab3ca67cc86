"""What has happened to one call: written by its delivery, read by whoever ends it or tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import attrs

from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.errors import DeliveryError
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.verdict import Verdict

__all__ = ["Attempt", "Facts", "History"]


@attrs.frozen
class Attempt:
    """How one attempt ended. Without `error`, `payload` is the envelope of a success."""

    verdict: Verdict
    payload: Mapping[str, JSON]
    error: DeliveryError | None = None
    retry_after: float | None = None


class Facts(TypedDict):
    """What every event of one call says of it."""

    method: str
    request_id: str
    order_external_id: str | None
    order_line_external_id: str | None
    call_id: int


@attrs.define
class History:
    """What has happened to one call so far; it outlives a cancelled delivery.

    `in_flight` says whether an attempt is under way. Setting `halted` makes that
    attempt the last. `hopeless` says that the server has been out of reach for too
    long. `facts` is what observers were told of the call, None where none was.
    """

    request_id: str
    subject: str
    started: float = 0.0
    attempts: int = 0
    maybe_applied: bool = False
    last: Attempt | None = None
    in_flight: bool = False
    halted: bool = False
    hopeless: bool = False
    facts: Facts | None = None

    def state(self) -> OutcomeState:
        """Give the state in which the call ends if nothing more is tried."""
        if self.last is None:
            return OutcomeState.UNKNOWN if self.maybe_applied else OutcomeState.NOT_SENT
        verdict = self.last.verdict
        final = verdict.state.ok or (verdict.state is OutcomeState.REJECTED and not verdict.fatal)
        if self.maybe_applied and not final:
            return OutcomeState.UNKNOWN
        return verdict.state

    def sign(self, error: DeliveryError) -> DeliveryError:
        """Write onto `error` what it concerns and what was tried."""
        error.subject = self.subject
        error.request_id = self.request_id
        error.attempts = self.attempts
        error.maybe_applied = self.state() is OutcomeState.UNKNOWN
        return error
