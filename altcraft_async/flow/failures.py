"""When a bulk run has failed so often that going on makes no sense.

Pure: outcomes are counted as they are handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.kinds import WHOLE, shown
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from typing import Final

__all__ = ["FailureCount", "FailureLimit"]

_FEWEST: Final = 100
"""Outcomes before a share of them says anything."""

_COUNTED = frozenset({OutcomeState.REJECTED, OutcomeState.UNKNOWN, OutcomeState.INVALID})


@attrs.frozen(kw_only=True)
class FailureLimit:
    """How much of a run may fail: the run stops at `count` failures, or at a `share` of all outcomes.

    It counts ``rejected``, ``unknown`` and ``invalid`` outcomes; for batches, their answers. The `share` is in (0, 1]
    and counts only after 100 outcomes. With None there is no such bound. Raises `ConfigurationError` for an impossible
    bound, and if neither is given.
    """

    count: int | None = None
    share: float | None = None

    def __attrs_post_init__(self) -> None:
        """Check the two bounds."""
        if self.count is None and self.share is None:
            msg = "stop_after needs a count or a share of failures: FailureLimit(count=1000) or FailureLimit(share=0.5)"
            raise ConfigurationError(msg, field="stop_after")
        if self.count is not None and not WHOLE.fits(self.count):
            msg = f"count of a FailureLimit must be {WHOLE.words}, not {shown(self.count)}"
            raise ConfigurationError(msg, field="stop_after")
        share = self.share
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1):
            msg = f"share of a FailureLimit must be a number above 0 and at most 1, not {shown(share)}"
            raise ConfigurationError(msg, field="stop_after")


class FailureCount:
    """Counts the outcomes of one run against a `FailureLimit`."""

    __slots__ = ("_limit", "failures", "outcomes")

    def __init__(self, limit: FailureLimit) -> None:
        self._limit = limit
        self.failures = 0
        self.outcomes = 0

    def __repr__(self) -> str:
        """Show the counts."""
        return f"<FailureCount {self.failures} of {self.outcomes}>"

    def add(self, state: OutcomeState) -> bool:
        """Count one outcome; say whether the run has now failed too often."""
        self.outcomes += 1
        if state not in _COUNTED:
            return False
        self.failures += 1
        limit = self._limit
        if limit.count is not None and self.failures >= limit.count:
            return True
        return limit.share is not None and self.outcomes >= _FEWEST and self.failures >= limit.share * self.outcomes
