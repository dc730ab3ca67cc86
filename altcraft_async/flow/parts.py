"""A total that is divided equally among members who only see what the others have written, seconds late.

Each member publishes a `Part`: what it `holds`, and what it `claims`, which is as much or more. It takes in turn:

==========  ==========================================================  =========================================
state       what it does at a step                                      until
==========  ==========================================================  =========================================
STEADY      nothing                                                     its due, one part in n, is another one
SHRINKING   uses less at once, and claims what it had                   no more is under way than it still holds
CLAIMING    claims more than it holds, out of what nobody claims        all claims it then reads go into the whole
==========  ==========================================================  =========================================

Who claims reads the others' claims only after its own is written. Of two that claim the same at once the later one
to write therefore sees the other, so never both take it: the one with the lower name waits, the other withdraws.
So all that is held never makes more than the whole, whoever joins, leaves or is slow. Who was silent for so long that
the others may have divided its part claims that anew, by the same rules.

Pure: what the others have written is an argument.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Part", "PartState", "Parts"]

_EXACT: Final = 1e-9
_LEAST: Final = 1e-3
"""A difference that nobody moves for."""


@attrs.frozen
class Part:
    """What a member has published: the part of the whole that it `holds`, and the part that it `claims`."""

    holds: float = 0.0
    claims: float = 0.0


class PartState(enum.Enum):
    """What a member does about its part."""

    STEADY = "steady"
    SHRINKING = "shrinking"
    CLAIMING = "claiming"


class Parts:
    """One member's part of the whole; ``part`` is what it may use, ``published`` what the others are to read."""

    __slots__ = ("name", "part", "published", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = PartState.STEADY
        self.part = 0.0
        self.published = Part()

    def __repr__(self) -> str:
        """Show what it has."""
        return f"<Parts {self.name} {self.state.value}: {self.part:.3f}>"

    def step(self, others: Mapping[str, Part], *, settled: bool) -> None:
        """Take the next step, by what was read of the `others` after ``published`` was written.

        `settled` says that no more is under way than ``part`` allows.
        """
        due = 1.0 / (1 + len(others))
        taken = sum(other.claims for other in others.values())
        if self.state is PartState.CLAIMING:
            self._confirm(others, due, taken)
        if self.state is PartState.STEADY and self.part > due + _LEAST:
            self.part = due
            self.state = PartState.SHRINKING
        elif self.state is PartState.SHRINKING and settled:
            self.published = Part(self.part, self.part)
            self.state = PartState.STEADY
        elif self.state is PartState.STEADY:
            more = min(due - self.part, 1.0 - self.part - taken)
            if more > _LEAST:
                self.published = Part(self.part, self.part + more)
                self.state = PartState.CLAIMING

    def claim_again(self) -> None:
        """Give up the part, as the others may have it by now, and claim as much once ``published`` is written."""
        self.published, self.part = Part(0.0, self.part), 0.0
        self.state = PartState.CLAIMING

    def _confirm(self, others: Mapping[str, Part], due: float, taken: float) -> None:
        claims = self.published.claims
        if claims + taken <= 1.0 + _EXACT:
            self.part = claims
        elif claims <= due + _LEAST and not self._yields(others):
            return
        self.published = Part(self.part, self.part)
        self.state = PartState.STEADY

    def _yields(self, others: Mapping[str, Part]) -> bool:
        return any(other.claims > other.holds and name < self.name for name, other in others.items())
