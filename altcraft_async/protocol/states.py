"""The states in which an update can end, with what each means for sending it again."""

from __future__ import annotations

import enum

__all__ = ["OutcomeState"]


class OutcomeState(enum.StrEnum):
    """How one update ended; `safe_to_resend` says what to do about it."""

    APPLIED = "applied"
    """The server said yes."""
    DUPLICATE = "duplicate"
    """The server said that it had already made this very change."""
    REJECTED = "rejected"
    """The server said no, finally."""
    UNKNOWN = "unknown"
    """Sent, but no readable answer after all retries: it may have been applied."""
    NOT_SENT = "not_sent"
    """The server never took it: no connection, throttled with 429, an outage, deadline, budget, stopped run."""
    SUPERSEDED = "superseded"
    """A newer update of the line took its place (``coalesce="latest"``)."""
    INVALID = "invalid"
    """The input row itself is wrong."""

    @property
    def number(self) -> int:
        """What stands for the state in a file; never given to another state."""
        return _NUMBERS[self]

    @classmethod
    def of_number(cls, number: int) -> OutcomeState:
        """Return the state that a file's number stands for; raises `LookupError` for one that stands for none."""
        return _BY_NUMBER[number]

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do: applied, duplicate or superseded."""
        return self in _OK

    @property
    def safe_to_resend(self) -> str:
        """The advice in words: whether and how the update can be sent again."""
        return _RESEND[self]


_OK = frozenset({OutcomeState.APPLIED, OutcomeState.DUPLICATE, OutcomeState.SUPERSEDED})
_RESEND = {
    OutcomeState.APPLIED: "no need",
    OutcomeState.DUPLICATE: "no need",
    OutcomeState.REJECTED: "after correcting it",
    OutcomeState.UNKNOWN: "yes, with the same request_id",
    OutcomeState.NOT_SENT: "yes",
    OutcomeState.SUPERSEDED: "no need",
    OutcomeState.INVALID: "after correcting it",
}
_NUMBERS = {
    OutcomeState.APPLIED: 0,
    OutcomeState.DUPLICATE: 1,
    OutcomeState.REJECTED: 2,
    OutcomeState.UNKNOWN: 3,
    OutcomeState.NOT_SENT: 4,
    OutcomeState.SUPERSEDED: 5,
    OutcomeState.INVALID: 6,
}
_BY_NUMBER = {number: state for state, number in _NUMBERS.items()}
