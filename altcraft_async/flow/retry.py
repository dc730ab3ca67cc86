"""Retrying: whether another attempt may be made, and when.

The law, in order:

1. A verdict that no attempt can better ends it.
2. An answer that is not the API's ends it where nothing else has ever come: the address is wrong.
3. What fails while nobody is served (`altcraft_async.flow.outage`) is repeated when the
   outage lets it, and costs neither an attempt nor the budget.
   What fails because this machine has no room for a connection costs neither, too, but
   waits as below.
4. At most `RetryPolicy.attempts` attempts are made, or as many as `RetryPolicy.stop` allows.
5. The wait is exponential with full jitter: a random part of
   ``base * 2 ** (attempts so far - 1)``, at most `RetryPolicy.max_delay`; or what
   `RetryPolicy.wait` gives. What the server asked for with ``Retry-After`` is a minimum
   beside it.
6. No wait that ends at or after the deadline is begun.
7. Every retry is paid from a `RetryBudget` that all calls of a client share and
   that successes refill. Without it a call with an end to its attempts ends; one without
   waits for long instead.

Pure: time and randomness are arguments.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from altcraft_async.kinds import SECONDS, WHOLE, Kind, only
from altcraft_async.protocol.verdict import DEFAULT_RULES, TABLE, Evidence, Scope, VerdictRules

if TYPE_CHECKING:
    import tenacity

    from altcraft_async.protocol.verdict import Verdict

__all__ = [
    "Retry",
    "RetryBudget",
    "RetryPolicy",
    "Stop",
    "StopReason",
    "StopStrategy",
    "WaitStrategy",
    "decide",
]


class WaitStrategy(Protocol):
    """What gives the seconds before the next attempt: each of tenacity's ``wait_…`` does."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        """Return the seconds."""


class StopStrategy(Protocol):
    """What says whether no further attempt may be made: each of tenacity's ``stop_…`` does."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        """Say whether to stop."""


_NO_ROOM: Final = TABLE[Evidence.NO_ROOM]
_STRATEGY: Final = Kind("one of tenacity's strategies, or None", fits=lambda value: value is None or callable(value))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How failed attempts of one call are repeated.

    `attempts` is the most attempts, the first included; 1 turns retries off, with None
    they go on until a deadline. `base` and `max_delay` shape the backoff, in seconds: the
    wait is a random part of it, after back-pressure at least the half. `max_retry_after` is the longest ``Retry-After``
    that is obeyed; a longer one is cut to it. `rules` says which answers are retried. `wait` and `stop` take tenacity's
    own strategies; `wait` replaces `base` and `max_delay`, `stop` replaces `attempts`. Their state counts the attempts
    that cost one, the first included, and the seconds since the call began without those of outages.

    The settings that all calls of a client share are elsewhere: `altcraft_async.Settings.retry_budget` and
    `altcraft_async.OutagePolicy`.
    """

    attempts: int | None = attrs.field(default=5, validator=WHOLE.or_none())
    base: float = attrs.field(default=0.5, validator=SECONDS)
    max_delay: float = attrs.field(default=30.0, validator=SECONDS)
    max_retry_after: float = attrs.field(default=60.0, validator=SECONDS)
    rules: VerdictRules = attrs.field(default=DEFAULT_RULES, validator=only(VerdictRules))
    wait: WaitStrategy | None = attrs.field(default=None, validator=_STRATEGY)
    stop: StopStrategy | None = attrs.field(default=None, validator=_STRATEGY)

    def may_go_on(self, spent: int, state: tenacity.RetryCallState) -> bool:
        """Say whether the policy allows another attempt after so many that counted."""
        if self.stop is not None:
            return not self.stop(state)
        return self.attempts is None or spent < self.attempts

    def backoff(self, spent: int, state: tenacity.RetryCallState, random: float) -> float:
        """Return the seconds before the next attempt; `random` lies in [0, 1)."""
        if self.wait is not None:
            return max(0.0, float(self.wait(state)))
        return random * min(self.max_delay, self.base * 2.0 ** min(max(spent, 1) - 1, 60))

    @property
    def endless(self) -> bool:
        """Whether nothing but a deadline ends the retries."""
        return self.attempts is None and self.stop is None


class RetryBudget:
    """Tokens for retries: one a retry, some back for each success, never above the capacity."""

    __slots__ = ("_capacity", "_refund", "tokens")

    def __init__(self, capacity: float | None, refund: float = 0.5) -> None:
        self._capacity = float("inf") if capacity is None else capacity
        self._refund = refund
        self.tokens = self._capacity

    def __repr__(self) -> str:
        """Show what is left."""
        return f"<RetryBudget {self.tokens:g} of {self._capacity:g}>"

    def on_success(self) -> None:
        """Give back what one success is worth."""
        self.tokens = min(self._capacity, self.tokens + self._refund)

    def spend(self) -> bool:
        """Pay for one retry; false, and nothing paid, when not enough is left."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class StopReason(enum.Enum):
    """Why no further attempt is made."""

    FINAL = "the answer is final"
    ATTEMPTS = "all attempts were used"
    DEADLINE = "the deadline leaves no time for another attempt"
    LEASE = "another process has this line now"
    OUTAGE = "the server has served nobody for too long"
    MISDIRECTED = "the address does not lead to the API"
    RENEWED = "the token was changed, and with the new one the platform would not recognise this call as a repeat"
    NO_TOKEN = "the token was refused, and its source gives no other"  # noqa: S105 - a reason
    CLOSED = "the client was closed before another attempt"
    BUDGET = "the client's retry budget is empty, because too many calls fail"


@attrs.frozen
class Retry:
    """Make another attempt after `delay` seconds."""

    delay: float


@attrs.frozen
class Stop:
    """Make no further attempt, for `reason`."""

    reason: StopReason


def decide(  # noqa: PLR0911, PLR0913 - one return a rule, and every input of the law is an argument
    verdict: Verdict,
    *,
    spent: int,
    state: tenacity.RetryCallState,
    at_once: bool,
    misdirected: bool,
    now: float,
    expires_at: float | None,
    retry_after: float | None,
    policy: RetryPolicy,
    budget: RetryBudget,
    random: float,
) -> Retry | Stop:
    """Apply the law after an attempt; pays the budget where a retry costs.

    `at_once` says that another attempt costs nothing and waits for nothing, as in an outage, where the gate waits.
    `spent` counts the attempts that were not made in an outage. `now` and `expires_at`
    are in seconds of one clock, `random` is in [0, 1), `retry_after` is in seconds.
    `state` is what tenacity's strategies look at; it gets the wait that would come, which some of them judge.
    """
    if not verdict.retry:
        return Stop(StopReason.FINAL)
    if misdirected:
        return Stop(StopReason.MISDIRECTED)
    asked = 0.0 if retry_after is None else min(retry_after, policy.max_retry_after)
    if at_once:
        return Retry(0.0) if expires_at is None or now + asked < expires_at else Stop(StopReason.DEADLINE)
    free = verdict is _NO_ROOM
    # after back-pressure at least half of the backoff: a server that has too much to do gets time, and nobody who drew
    # short waits only has used up all attempts before it shows that this is an outage
    drawn = (1.0 + random) / 2.0 if verdict.scope is Scope.LOAD else random
    state.upcoming_sleep = delay = max(policy.backoff(spent, state, drawn), asked)
    if not free and not policy.may_go_on(spent, state):
        return Stop(StopReason.ATTEMPTS)
    if expires_at is not None and now + delay >= expires_at:
        return Stop(StopReason.DEADLINE)
    if not free and not budget.spend():
        if not policy.endless:
            return Stop(StopReason.BUDGET)
        delay = max(delay, policy.max_delay * (1.0 + random) / 2)
        if expires_at is not None and now + delay >= expires_at:
            return Stop(StopReason.DEADLINE)
    return Retry(delay)
