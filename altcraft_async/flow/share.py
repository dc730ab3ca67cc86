"""A limit that many members share: they report, one of them runs the law on the sum, and divides it.

========  ===========================================  ====================================================
role      what it does with its own calls              where its limit comes from
========  ===========================================  ====================================================
ALONE     tells its law of them                        all that its law allows
LEADING   tells its law of them, and of the others'    its share of what its law allows
FOLLOWING notes them for the leader                    the share that the leader gave it
========  ===========================================  ====================================================

**One rule for the shares**: max-min fair. Who wants less than an equal share gets what it wants, and the rest is
divided equally among those who want more. A share that shrinks does so at once; one that grows has to wait until
what it grows by is free, so that all together never have more in flight than the law allows. A throttled answer takes
its own permit back at once, whoever gets it: what the law decides comes a tick later. Whose last permit it was waits
until the leader has heard of it, and what is throttled meanwhile is not told: it would be the same permit again.

Where there are more members than permits, each has one, and a pace that makes up for it. Who has just come has one,
and hardly any pace; that it is one more than the law allows is told to the law.

Pure: time is an argument, in seconds of one clock for all members. What carries reports and shares is elsewhere.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import LearnedLimit, LimitStatistics, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "SPARE", "TICK", "TURN", "CallEnded", "GroupLimit", "Load", "Report", "Role", "Share", "divide",
    "hand_out",
]  # fmt: skip

TICK: Final = 0.1
"""Seconds between two reports of a member that is at work."""
_FULL = 0.85
"""The share of its limit that a member must have in use to want more."""
TURN: Final = 2.0
"""Seconds for which a member has a permit that cannot be divided."""
_REACH = 3
"""Ticks until all have got what was handed out, and what came of it is known."""
SPARE: Final = 1.25
"""What a member that is not full may have above what it uses: enough to show that it wants more."""


def divide(total: float, wants: Sequence[float]) -> list[float]:
    """Divide `total` max-min fairly: nobody gets more than it wants, and nobody less while another has more."""
    shares = list(wants)
    left = total
    for rank, number in enumerate(sorted(range(len(wants)), key=lambda number: wants[number])):
        shares[number] = min(wants[number], left / (len(wants) - rank))
        left -= shares[number]
    return shares


def _whole(total: int, wants: Sequence[float], turn: int) -> list[int]:
    """Divide permits: whole ones, at least one for each, and the odd ones by turns."""
    exact = divide(total, [max(1.0, want) for want in wants])
    shares = [max(1, int(share + 1e-9)) for share in exact]
    rest = int(sum(exact) + 1e-9) - sum(shares)
    count = len(wants)
    order = sorted(range(count), key=lambda number: (shares[number] >= exact[number], (number + turn) % count))
    for number in order[: max(0, rest)]:
        shares[number] += 1
    return shares


def hand_out(total: int, held: Sequence[int], wants: Sequence[float], turn: int = 0) -> list[int]:
    """Give each member its permits of `total`, where each has so many in its hands and `wants` so many.

    Who has more than its due loses it at once; what others gain is no more than is free already. With the
    next `turn` others have the permits that cannot be divided.
    """
    due = _whole(total, wants, turn)
    free = total - sum(held)
    shares = list(due)
    growing = [number for number, have in enumerate(held) if due[number] > have]
    gaps = [float(due[number] - held[number]) for number in growing]
    if sum(gaps) > free:
        gains = divide(max(0, free), gaps)
        for number, gain in zip(growing, gains, strict=True):
            shares[number] = max(1, held[number] + int(gain + 1e-9))
    return shares


@attrs.frozen
class CallEnded:
    """One call that has ended at `at`."""

    at: float
    latency: float
    signal: Signal
    kind: str


@attrs.frozen
class Load:
    """What a gate has to do: calls `in_flight`, how many it has `started` in all, whether any is `waiting` to start.

    `full` says that it is the limit that lets no more start.
    """

    in_flight: int
    started: int = 0
    waiting: bool = False
    full: bool = True


@attrs.frozen
class Report:
    """What a member tells: `held` permits are in its hands, `peak` of them were in use, `hungry` if it wants more.

    `calls` are those that ended since its last report, `per_second` as many as ended in the last second. `paused_until`
    is the end of the last pause that it was asked for, `resumed` the beginning of the last outage that it came through.
    `throttled` counts its throttled answers since the beginning. `pace` is the starts a second that it has.
    """

    held: int
    peak: int
    hungry: bool
    per_second: float = 0.0
    calls: Sequence[CallEnded] = ()
    paused_until: float = -math.inf
    resumed: float = -math.inf
    throttled: int = 0
    pace: float = 0.0

    @property
    def wants(self) -> float:
        """How many permits it would use."""
        return math.inf if self.hungry or self.peak >= _FULL * self.held else SPARE * self.peak + 1


@attrs.frozen
class Share:
    """What a member gets: permits, starts a second or None, and until when nobody starts.

    `heard` of its throttled answers the leader knew of; the permits of later ones are still to be taken back.
    """

    limit: int
    rate: float | None = None
    paused_until: float = -math.inf
    heard: int = 0


class Role(enum.Enum):
    """What a member is in its group; the values are for people."""

    ALONE = "alone"
    LEADING = "leads the limit of a group"
    FOLLOWING = "shares the limit of a group"


class GroupLimit:
    """The limit of one member of a group; a `altcraft_async.flow.limit.ConcurrencyLimit` for its gate.

    `law` is what it runs while it is alone or leads. `role`, `limit` and `rate` are to be read; the carrier calls
    `report` each `TICK`, and then `lead`, `follow` or `stay_alone`.
    """

    __slots__ = (
        "_calls", "_ended", "_others", "_peak", "_resumed", "_resumes", "_share", "_throttled", "law",
        "limit", "members", "paused_until", "rate", "role", "total",
    )  # fmt: skip
    learns = True
    strict = False

    def __init__(self, law: AdaptiveLimit) -> None:
        self.law = law
        self.role = Role.ALONE
        self.limit, self.rate = law.limit, law.rate
        self.total: int = law.limit
        self.members = 1
        self._calls: list[CallEnded] = []
        self._ended: list[tuple[float, int]] = []
        self._peak = self._others = self._throttled = 0
        self._share = Share(law.limit)
        self.paused_until = self._resumed = -math.inf
        self._resumes = -math.inf

    def __repr__(self) -> str:
        """Show the role and the share."""
        return f"<GroupLimit {self.limit} of {self.total}, {self.role.value}>"

    # -- what the gate tells

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        """Learn from one ended call, itself still counted in `in_flight`; give the limit."""
        self._peak = max(self._peak, in_flight)
        if self.role is Role.ALONE:
            self.limit = self.law.on_result(now, latency, signal, in_flight, kind)
            self.rate = self.law.rate
            return self.limit
        if signal is Signal.OVERLOAD:
            if self._left < 1:
                return self.limit
            self._throttled += 1
            self._settle()
        if self.role is Role.LEADING:
            self.law.on_result(now, latency, signal, min(in_flight + self._others, self.law.limit), kind)
        if self.role is Role.FOLLOWING or signal is not Signal.NEUTRAL:
            self._calls.append(CallEnded(now, latency, signal, kind))
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:
        """Learn that no call starts for `seconds` from `now`; give the limit."""
        self.paused_until = max(self.paused_until, now + seconds)
        if self.role is not Role.FOLLOWING:
            limit = self.law.on_pause(now, seconds)
            self.limit = limit if self.role is Role.ALONE else self.limit
            self.rate = self.law.rate if self.role is Role.ALONE else self.rate
        return self.limit

    def resume(self, now: float, since: float) -> None:
        """Go on as before an outage that began at `since`."""
        self._resumed = since
        self.paused_until = -math.inf
        if self.role is not Role.FOLLOWING:
            self.law.resume(now, since)
        if self.role is Role.ALONE:
            self.limit, self.rate = self.law.limit, self.law.rate

    def statistics(self) -> LimitStatistics:
        """Take a snapshot: of the own share, and else of the law where it runs here."""
        doing = "" if self.role is Role.ALONE else f"{self.role.value}: {self.limit} of {self.total}; "
        seen = self.law.statistics()
        if self.role is Role.FOLLOWING:
            return LimitStatistics(self.limit, self.rate, doing=doing.rstrip("; "))
        return attrs.evolve(seen, limit=self.limit, rate=self.rate, doing=doing + seen.doing)

    # -- what the carrier does

    def report(self, now: float, load: Load) -> Report:
        """Give what is to be told of the time since the last report."""
        in_flight, waiting = load.in_flight, load.waiting
        calls, self._calls = self._calls, []
        peak, self._peak = max(self._peak, in_flight), in_flight
        self._ended = [(at, count) for at, count in self._ended if at > now - 1.0]
        self._ended.append((now, len(calls)))
        per_second = sum(count for _, count in self._ended)
        held = max(self.limit, in_flight)
        return Report(held, peak, waiting, per_second, calls, self.paused_until, self._resumed, self._throttled)

    def stay_alone(self) -> None:
        """Take note that there is nobody else."""
        if self.role is not Role.ALONE:
            self.role, self.members = Role.ALONE, 1
            self._calls.clear()
            self.law.reach = 0.0
        self.limit, self.rate, self.total = self.law.limit, self.law.rate, self.law.limit

    @property
    def most(self) -> int:
        """What no limit of the group is above."""
        return self.law.settings.maximum

    @property
    def whole(self) -> LearnedLimit:
        """What all share, where the law runs here."""
        return LearnedLimit(self.law.limit, self.law.rate)

    @property
    def learned(self) -> LearnedLimit | None:
        """What another limit may begin with; None while the law is still looking, or runs elsewhere."""
        return None if self.role is Role.FOLLOWING else self.law.learned

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        """Begin at half of what another limit ended with, where there is nobody else to go by."""
        if self.role is Role.ALONE:
            self.law.begin_at(now, learned)
            self.stay_alone()

    def take_over(self, now: float, whole: LearnedLimit) -> None:
        """Become the leader in another's place, with a law that goes on where that one's was."""
        if self.role is Role.FOLLOWING:
            self.law = AdaptiveLimit.started_at(now, whole, self.law.settings)
        self.role = Role.LEADING

    def leave(self, now: float) -> None:
        """Go on alone, from the share of before."""
        if self.role is not Role.ALONE:
            self.law = AdaptiveLimit.started_at(now, LearnedLimit(self.limit, self.rate), self.law.settings)
        self.stay_alone()

    def lead(self, now: float, own: Report, others: Mapping[int, Report]) -> dict[int, Share]:
        """Tell the law what the others saw, and give each its share; the own one is taken at once."""
        self.role = Role.LEADING
        if len(others) >= self.members:
            self.law.expect_more(now)
        self.members = 1 + len(others)
        self._others = sum(report.peak for report in others.values())
        self._hear(now, own, others)
        everybody = [own, *others.values()]
        wants = [report.wants for report in everybody]
        law = self.law
        law.reach = _REACH * TICK
        self.total = law.limit
        permits = hand_out(law.limit, [report.held for report in everybody], wants, int(now / TURN))
        rate = law.rate
        if law.limit < len(everybody) and (latency := law.statistics().latency):
            rate = min(rate or math.inf, law.limit / latency)
        needs = [math.inf if report.hungry else SPARE * report.per_second + 1.0 for report in everybody]
        rates = [None] * len(needs) if rate is None else divide(rate, needs)
        paused = max(report.paused_until for report in everybody)
        shares = [
            Share(limit, pace, paused, report.throttled)
            for limit, pace, report in zip(permits, rates, everybody, strict=True)
        ]
        self._take(shares[0])
        return dict(zip(others, shares[1:], strict=True))

    def _hear(self, now: float, own: Report, others: Mapping[int, Report]) -> None:
        in_flight = own.peak + self._others
        calls = sorted((call for report in others.values() for call in report.calls), key=lambda call: call.at)
        for call in calls:
            self.law.on_result(call.at, call.latency, call.signal, min(in_flight, self.law.limit), call.kind)
        everybody = [own, *others.values()]
        paused = max(report.paused_until for report in everybody)
        if paused > max(now, self.paused_until):
            self.paused_until = paused
            self.law.on_pause(now, paused - now)
        resumed = max(report.resumed for report in everybody)
        if resumed > max(self._resumes, self._resumed):
            self._resumes = resumed
            self.law.resume(now, resumed)

    def follow(self, share: Share, total: int, members: int) -> None:
        """Take the share that the leader gave."""
        self.role, self.total, self.members = Role.FOLLOWING, total, members
        self._take(share)

    def join(self, total: int, members: int) -> None:
        """Be there without a share: with one permit, and hardly any pace, since nobody reckons with it yet."""
        self.follow(Share(1, 1 / TICK, heard=self._throttled), total, members)

    @property
    def _left(self) -> int:
        """What is left of the share after the throttled answers that the leader has not heard of."""
        return self._share.limit - max(0, self._throttled - self._share.heard)

    def _take(self, share: Share) -> None:
        self._share = share
        self._settle()
        self.paused_until = max(self.paused_until, share.paused_until)

    def _settle(self) -> None:
        left, rate = self._left, self._share.rate
        self.limit = max(1, left)
        self.rate = rate if left > 0 else min(rate or math.inf, 1 / (_REACH * TICK))
