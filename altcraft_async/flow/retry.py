"""Retrying: whether another attempt may be made, and when.

The law, in order:

1. A verdict that no attempt can better ends it.
2. At most `RetryPolicy.attempts` attempts are made, and no more when the server
   has been out of reach for longer than the patience (`altcraft_async.flow.circuit`).
   Where `attempts` is None neither bound holds, and an empty budget (5) does not end
   the retries but makes each wait long.
3. The wait is exponential with full jitter: a random part of
   ``base * 2 ** (attempts so far - 1)``, at most `RetryPolicy.max_delay`. What the
   server asked for with ``Retry-After`` is a minimum beside it.
4. No wait that ends at or after the deadline is begun.
5. Every retry is paid from a `RetryBudget` that all calls of a client share and
   that successes refill. In an outage nothing refills it, so the service meets
   its first attempts and a constant number of retries, not a storm.

Pure: time and randomness are arguments.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import attrs

from altcraft_async.kinds import SECONDS, WHOLE, only
from altcraft_async.protocol.verdict import DEFAULT_RULES, VerdictRules

if TYPE_CHECKING:
    from altcraft_async.protocol.verdict import Verdict

__all__ = ["Retry", "RetryBudget", "RetryPolicy", "Stop", "StopReason", "decide", "parse_retry_after"]


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How the failed attempts of one call are repeated.

    `attempts` is the most attempts of one call, the first included; 1 turns
    retries off, with None they go on until a deadline. `base` and `max_delay` shape the backoff, in seconds.
    `max_retry_after` is the longest ``Retry-After`` that is obeyed; a longer one
    is cut to it. `rules` says which answers are retried.
    """

    attempts: int | None = attrs.field(default=5, validator=WHOLE.or_none())
    base: float = attrs.field(default=0.5, validator=SECONDS)
    max_delay: float = attrs.field(default=30.0, validator=SECONDS)
    max_retry_after: float = attrs.field(default=60.0, validator=SECONDS)
    rules: VerdictRules = attrs.field(default=DEFAULT_RULES, validator=only(VerdictRules))


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
        if self.tokens < self._capacity:
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
    UNREACHABLE = "the server has been out of reach for too long"
    BUDGET = "the client's retry budget is empty, because too many calls fail"


@attrs.frozen
class Retry:
    """Make another attempt after `delay` seconds."""

    delay: float


@attrs.frozen
class Stop:
    """Make no further attempt, for `reason`."""

    reason: StopReason


def decide(  # noqa: PLR0913 - every input of the law is an argument
    verdict: Verdict,
    *,
    attempts: int,
    hopeless: bool,
    now: float,
    deadline: float | None,
    retry_after: float | None,
    policy: RetryPolicy,
    budget: RetryBudget,
    random: float,
) -> Retry | Stop:
    """Apply the law after `attempts` attempts; pays the budget when the answer is `Retry`.

    `now` and `deadline` are in seconds of one clock, `random` is in [0, 1),
    `retry_after` is in seconds; `hopeless` says that the server is given up.
    """
    if not verdict.retry:
        return Stop(StopReason.FINAL)
    endless = policy.attempts is None
    if hopeless and not endless:
        return Stop(StopReason.UNREACHABLE)
    if policy.attempts is not None and attempts >= policy.attempts:
        return Stop(StopReason.ATTEMPTS)
    ceiling = min(policy.max_delay, policy.base * 2.0 ** min(attempts - 1, 60))
    delay = ceiling * random
    if retry_after is not None:
        delay = max(delay, min(retry_after, policy.max_retry_after))
    fits = deadline is None or now + delay < deadline
    if fits and not budget.spend():
        if not endless:
            return Stop(StopReason.BUDGET)
        delay = max(delay, policy.max_delay * (1.0 + random) / 2)
    if deadline is not None and now + delay >= deadline:
        return Stop(StopReason.DEADLINE)
    return Retry(delay)


def parse_retry_after(text: str | None, *, now: float) -> float | None:
    """Read a ``Retry-After`` header as seconds from `now` (Unix time), or None.

    Both forms of RFC 9110 are read: seconds, and an HTTP date. A negative wait,
    one of more than a day, and what is neither form are ignored.
    """
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (aware - datetime.fromtimestamp(now, UTC)).total_seconds()
    return seconds if 0 < seconds <= 86_400 else None  # noqa: PLR2004
