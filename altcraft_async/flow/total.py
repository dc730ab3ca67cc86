"""A total that is known, shared by those who see each other: so many calls in flight, so many starts a second.

The roles, reports and shares are those of `altcraft_async.flow.share`; only there is no law to find the total. Who
does not know yet who else is there has one permit and hardly any pace, so that all together keep to the total.

Pure: time is an argument.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from altcraft_async.flow.limit import LearnedLimit, LimitStatistics
from altcraft_async.flow.share import SPARE, TURN, Report, Role, Share, divide, hand_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altcraft_async.flow.limit import Shared, Signal
    from altcraft_async.flow.share import Load

__all__ = ["SharedTotal", "hand_out_pace"]

_SECOND: Final = 1.0


def hand_out_pace(total: float, held: Sequence[float], wants: Sequence[float], least: float) -> list[float]:
    """Give each member its starts a second of `total`, where each has so many now and `wants` so many.

    Who has more than its due loses it at once; what others gain is no more than is free already. Nobody has less
    than `least`.
    """
    due = [max(least, share) for share in divide(total, wants)]
    gains = divide(max(0.0, total - sum(held)), [max(0.0, may - have) for may, have in zip(due, held, strict=True)])
    return [max(least, min(may, have + gain)) for may, have, gain in zip(due, held, gains, strict=True)]


class SharedTotal:
    """What one member has of a total of `permits`, of a total `rate`, or of both; a limit for its gate.

    At least one of the two is given, and both are shared `among` the same members. `limit` and `rate` are to be read.
    Its carrier is a group, which calls `report` each tick and then `lead`, `follow` or `stay_alone`; or whoever knows
    which part of all it has, and calls `take_part`.
    """

    __slots__ = ("_permits", "_rate", "_starts", "among", "limit", "members", "rate", "role")
    learns = False
    learned = None
    strict = True
    paused_until = -math.inf

    def __init__(self, permits: Shared | None = None, rate: Shared | None = None) -> None:
        self._permits, self._rate = permits, rate
        self.among = next(shared.among for shared in (permits, rate) if shared is not None)
        self._starts: list[tuple[float, int]] = []
        self.role = Role.FOLLOWING
        self.members = 1
        self.limit = 1
        self.rate = None if rate is None else rate.pace(0.0)

    def __repr__(self) -> str:
        """Show what there is of what."""
        return f"<SharedTotal {self._told()}>"

    def _told(self) -> str:
        parts = []
        if self._permits is not None:
            parts.append(f"{self.limit} of {self._permits.total:g}")
        if self._rate is not None:
            parts.append(f"{self.rate:.4g} of {self._rate.total:g} a second")
        return f"{self.role.value}: {', '.join(parts)}"

    # -- what the gate tells and asks

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Change nothing: the total is known."""
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:  # noqa: ARG002
        """Change nothing."""
        return self.limit

    def resume(self, now: float, since: float) -> None:
        """Change nothing."""

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        """Change nothing."""

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        return LimitStatistics(self.limit, self.rate, doing=self._told())

    # -- what the carrier does

    def take_part(self, part: float | None) -> None:
        """Have this part of all; with None, as long as no part is known, no permit."""
        self._take(
            Share(
                1 if self._permits is None else self._permits.permits(part or 0.0),
                None if self._rate is None else self._rate.pace(part or 0.0),
            )
        )
        if part is None and self._permits is not None:
            self.limit = 0

    def report(self, now: float, load: Load) -> Report:
        """Give what is to be told; what waits while there are permits waits for the pace."""
        self._starts = [(at, started) for at, started in self._starts if at >= now - _SECOND]
        self._starts.append((now, load.started))
        first, before = self._starts[0]
        per_second = (load.started - before) / max(now - first, _SECOND)
        if load.waiting and not load.full:
            per_second = math.inf
        hungry = load.waiting and load.full
        return Report(max(self.limit, load.in_flight), load.in_flight, hungry, per_second, pace=self.rate or 0.0)

    @property
    def most(self) -> int:
        """The permits of all."""
        return self.whole.limit

    @property
    def whole(self) -> LearnedLimit:
        """What all share."""
        permits = 1 if self._permits is None else int(self._permits.total)
        return LearnedLimit(permits, None if self._rate is None else float(self._rate.total))

    def lead(self, now: float, own: Report, others: Mapping[int, Report]) -> dict[int, Share]:
        """Give each its share; the own one is taken at once."""
        self.role = Role.LEADING
        self.members = 1 + len(others)
        everybody = [own, *others.values()]
        held, wants = [report.held for report in everybody], [report.wants for report in everybody]
        permits = hand_out(self.whole.limit, held, wants, int(now / TURN))
        rate = self._rate
        paces: Sequence[float | None] = [None] * len(everybody)
        if rate is not None:
            needs = [SPARE * report.per_second + 1.0 for report in everybody]
            paces = hand_out_pace(rate.total, [report.pace for report in everybody], needs, rate.pace(0.0))
        shares = [Share(limit, pace) for limit, pace in zip(permits, paces, strict=True)]
        self._take(shares[0])
        return dict(zip(others, shares[1:], strict=True))

    def follow(self, share: Share, total: int, members: int) -> None:  # noqa: ARG002 - it is known
        """Take the share that the leader gave."""
        self.role, self.members = Role.FOLLOWING, members
        self._take(share)

    def join(self, total: int, members: int) -> None:
        """Be there without a share."""
        self.follow(Share(1, None if self._rate is None else self._rate.pace(0.0)), total, members)

    def stay_alone(self) -> None:
        """Take note that there is nobody else."""
        self.role, self.members = Role.ALONE, 1
        self._take(Share(self.whole.limit, self.whole.rate))

    def take_over(self, now: float, whole: LearnedLimit) -> None:  # noqa: ARG002 - it is known
        """Become the leader in another's place."""
        self.role = Role.LEADING

    def leave(self, now: float) -> None:
        """Go on with the share of before: the others reckon with it."""

    def _take(self, share: Share) -> None:
        self.limit, self.rate = max(1, share.limit), share.rate
        if self._rate is not None:  # a file may say anything
            self.rate = min(self.rate or math.inf, self._rate.total)
