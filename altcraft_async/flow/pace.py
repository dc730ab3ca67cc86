"""Pacing: starts spread evenly over time, at a rate that can move while running.

`Pacer` is GCRA, the leaky bucket without a bucket: one number, the moment at which the next start is due when
starts come at exactly `Pacer.rate`. A start may come early by at most the allowance of the burst. No state grows, no
timer is needed, and a change of the rate counts at once, for the next start too.

`LearnedRate` finds the rate of a server that nobody published, from its throttled answers; `Background` forgives the
share of them that no load explains.

Pure: the clock is an argument, in seconds, and only its differences matter.
"""

from __future__ import annotations

import enum
import math

from altcraft_async.errors import ConfigurationError

__all__ = ["DOUBTFUL", "TIMER_SLACK", "Background", "LearnedRate", "PaceState", "Pacer"]

TIMER_SLACK = 0.01
"""How late a timer, and what it wakes, may come in a busy event loop without slowing the pace, in seconds."""
_SLOWEST = 0.5
"""Starts a second that a learned rate never goes below: slower, it could not learn."""
_CLIMB, _PROBE = 0.5, 0.02
"""The largest step up, and the first one just under a known ceiling, as shares of the rate."""
_SEARCH = 0.1
"""A step of so much is the search for the rate; a smaller one only asks whether there is more."""
_LONGEST_HOLD = 30.0
"""Seconds between steps above a known ceiling, at most."""
DOUBTFUL = 0.3
"""The largest share of throttled answers that may be background: a load too high by more refuses more."""
_SLOWER = 0.67
"""The share of the pace during a test: below what a server accepts that throttles a doubtful share."""
_IDLE = 10
"""Round trips in which a pace that is in use shows it."""
_LONGEST_TEST, _TEST_TRIPS = 10.0, 30
"""Seconds of a test, at most, but so many round trips: a slow server answers few calls in the seconds."""
_PROOF, _EXPECTED, _STAYS = 5, 6, 3
"""A test ends with this many throttled answers, or when this many would have been expected; and with how many the share
is what it was."""
_IN_A_ROW = 5
"""Throttled answers without an accepted one after which the server is shut for the moment."""
_SHUT = 0.25
"""The share of the pace at which a server that is shut is asked whether it is open again."""
_CUT = 0.9
"""What a server that is shut leaves of the pace."""
_ONCE = 3
"""Round trips in which a server that is shut says one thing only: it may be counting what was sent too fast before."""
_STORM = 50
"""Throttled answers that are answered without waiting for a whole second."""
_CREDIT, _UNTESTED_CREDIT = 6.0, 2.0
"""The most throttled answers that can be forgiven in a row, with and without a tested background."""
_UNTESTED = 0.0035
"""The share that is forgiven, twice over, before any test."""
_FORGET = 0.99996
"""What an accepted call leaves of the share: half of it after some 17,000, and it is tested again."""
_BREAK, _END = 4.0, 15.0
"""The throttled answers that a share lets expect in a stretch of accepted calls without any: with more than that, what
a test shows came and went with the load; and what was taken for background is over."""


class Pacer:
    """Say how long each start has to wait, so that starts keep to a rate.

    `rate` is in starts per second, None for no limit; it may be assigned at any
    time. `burst` is the most starts that may go out at one instant after a
    quiet time: over any stretch of ``t`` seconds at a steady rate at most
    ``burst + rate * t`` starts are let through. Time that went unused is never
    worth more than the burst.

    Raises `ConfigurationError`, naming the field, for a rate that is not above
    zero and a burst below one.
    """

    __slots__ = ("_burst", "_interval", "_last", "_rate")

    def __init__(self, rate: float | None = None, burst: int = 1) -> None:
        if burst < 1:
            msg = f"burst must be at least 1, not {burst}"
            raise ConfigurationError(msg, field="burst")
        self._burst = burst
        self._last = -math.inf
        self.rate = rate

    def __repr__(self) -> str:
        """Show the settings."""
        return f"<Pacer rate={self._rate} burst={self._burst}>"

    @property
    def rate(self) -> float | None:
        """Starts per second, or None for no limit."""
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        if rate is not None and not 0 < rate < math.inf:
            msg = f"rate must be a number of starts per second above 0, or None, not {rate}"
            raise ConfigurationError(msg, field="rate")
        self._rate = rate
        self._interval = 1.0 / (rate or math.inf)

    @property
    def burst(self) -> int:
        """The most starts at one instant after a quiet time."""
        return self._burst

    def peek(self, now: float) -> float:
        """Give the seconds until a start is allowed (0.0: now), without taking it."""
        if self._rate is None:
            return 0.0
        return max(0.0, self._last - (self._burst - 2) * self._interval - now)

    def reserve(self, now: float, *, late: float = 0.0) -> float:
        """Take the next start and give the seconds to wait for it (0.0: go now).

        Every call is one start, to be made after the wait; reservations are
        served in the order they were made. A start that comes at most `late`
        seconds after it was due counts as made when it was due, so that what held
        it back costs the following ones nothing.
        """
        if self._rate is None:
            self._last = now  # the first rate begins here
            return 0.0
        self._last = due = max(now - late, self._last + self._interval)
        return max(0.0, due - (self._burst - 1) * self._interval - now)


class PaceState(enum.Enum):
    """What a learned pace is doing."""

    CLIMBING = "climbing"
    HOLDING = "holding at the rate that was accepted"
    SHUT = "waiting for a server that refuses everything for a moment"
    TESTING = "slower for a moment, to see whether throttled answers depend on the load"


class LearnedRate:
    """The rate that a server accepts, found from its throttled answers.

    ============  ===========================================================  ============
    state         what happens                                                 next
    ============  ===========================================================  ============
    ``CLIMBING``  a while without throttled answers, the pace being in use     the rate rises
    ``CLIMBING``  throttled answers beyond strays                              ``HOLDING``: it falls
    ``HOLDING``   the hold is over                                             ``CLIMBING``
    ``HOLDING``   throttled answers for the second time, by a doubtful share   ``TESTING``
    any           `_IN_A_ROW` throttled answers and none accepted              ``SHUT``
    ``SHUT``      an accepted answer                                           ``HOLDING``
    any           an outage is over                                            ``HOLDING`` at a rate of before it
    ``TESTING``   few throttled answers at two thirds of the rate              ``HOLDING``: it was the load
    ``TESTING``   the share is what it was                                     as `result` tells the caller
    ============  ===========================================================  ============

    The rate falls to what was accepted, or, after a step up, to where it stood. Below the rate of the last fall it
    climbs halfway at a time; just under it, it holds, longer after each step that failed and the longer the pauses are
    that the server asks for, then steps by 2 %, 4 %, ….
    `rate` is in starts per second, to be read after each report; `trip` is the server's round trip,
    `reach` the time until a new rate has come to all that send, in seconds; `ceiling` a rate that may be too high.
    """

    __slots__ = (
        "_accepted", "_ceiling", "_cut_until", "_doubts", "_hold", "_level", "_pause", "_reach", "_row", "_share",
        "_since", "_step", "_tests", "_throttled", "_trip", "_until", "_up", "rate", "state",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what is known before
        self, now: float, rate: float, trip: float, share: float = 1.0, *, reach: float = 0.0, ceiling: float = math.inf
    ) -> None:
        self._level = max(_SLOWEST, rate)
        self._trip = trip
        self._reach = reach
        self._ceiling = ceiling
        self._step = _CLIMB if ceiling == math.inf else _PROBE
        self._hold, self._pause = 1.0, 0.0
        self._cut_until = -math.inf
        self._doubts = self._tests = 0
        self._share = share
        self._restart(now, max(0.25, 2 * trip))
        if share <= DOUBTFUL:
            self._test(now)

    def __repr__(self) -> str:
        """Show the state."""
        return f"<LearnedRate {self.rate:.1f}/s, {self.state.value}>"

    @property
    def testing(self) -> bool:
        """Whether every throttled answer is evidence."""
        return self.state is PaceState.TESTING

    def on_accepted(self, now: float, started: float, *, full: bool) -> bool:
        """Count an accepted call that was sent at `started`; False says that the rate no longer binds.

        `full` says that the concurrency limit was in use to the last permit.
        """
        self._row = 0
        if self.state is PaceState.SHUT:
            self._restart(now, self._hold)
        if started < self._since:
            return True
        self._accepted += 1
        if self.testing or now < self._until:
            return True
        if self._excess():
            self._fall(now)
            return True
        observed = self._accepted / (now - self._since)
        if full and self.rate > 1.5 * observed:
            return False
        if full or observed > 0.7 * self.rate:
            self._climb(now)
        elif now > self._since + max(1.0, _IDLE * self._trip):  # not in use: what comes from now on says whether it is
            self._restart(now, max(0.25, 2 * self._trip), up=self._up)
        return True

    def on_throttled(self, now: float, started: float) -> None:
        """Count a throttled call that was sent at `started`; what an older rate sent says nothing."""
        if started < self._since or self.state is PaceState.SHUT:
            return
        if self.testing:  # refusals are quick: they count once calls of the same time are served
            self._throttled += self._accepted > 0
            return
        self._throttled += 1
        self._row += 1
        if self._row >= _IN_A_ROW:
            self._shut(now, 0.0)
        elif self._excess() and (self._up or self._throttled >= _STORM or now > self._since + max(1.0, 2 * self._trip)):
            self._fall(now)

    def on_pause(self, now: float, seconds: float) -> None:
        """Learn that the throttled answer just reported asked for `seconds` without starts."""
        self._pause = seconds
        if not self.testing and self._since <= now:
            self._shut(now, seconds)

    def resume(self, now: float, rate: float) -> None:
        """Go on at a `rate` that held before an outage; what was too high before it will be so again."""
        self._level = max(_SLOWEST, rate)
        self._doubts = 0
        self._restart(now, max(0.25, 2 * self._trip))

    def is_doubted(self) -> bool:
        """Say after a test whether it was one of many: calls in flight may be what counts; ever more seldom."""
        return self._tests > 1 and self._tests & (self._tests - 1) == 0

    def result(self, now: float) -> float | None:
        """Give the share of throttled answers that ignore the pace, once the test has shown it; then it is over."""
        calls = self._accepted + self._throttled
        enough = self._throttled >= _PROOF or calls * self._share >= _EXPECTED
        if not enough and now < self._since + max(_LONGEST_TEST, _TEST_TRIPS * self._trip):
            return None
        share = self._throttled / max(1, calls)
        stayed = self._throttled >= _STAYS and share <= 2 * DOUBTFUL
        self._doubts = 0
        self._tests += 1
        self._level /= _SLOWER
        self._restart(now, self._hold)
        return share if stayed else 0.0

    def _excess(self) -> bool:
        return self._throttled > 1  # one may be a stray

    def _near_ceiling(self) -> bool:
        return self._level * 1.08 > self._ceiling

    def _climb(self, now: float) -> None:
        self._doubts = 0
        if self._near_ceiling() or self._ceiling == math.inf:
            up, self._step = self._step, min(_CLIMB, 2 * self._step)
            wait = 1.0
        else:
            up = min(_CLIMB, math.sqrt(self._ceiling / self._level) - 1)
            wait = max(1.0, self._hold * self._pause)
        self._level *= 1 + up
        near = self._near_ceiling()
        self._ceiling = max(self._ceiling, self._level)
        self._restart(now, max(wait if near else 0.25, 2 * self._trip), up=up)

    def _fall(self, now: float, *, shut: bool = False) -> None:
        """Take the last step up back, or fall to the share that was accepted; of one that is `shut` it is not known."""
        share = self._throttled / max(1, self._accepted + self._throttled)
        self._ceiling = self._level
        if self._up:
            self._hold = min(_LONGEST_HOLD, 2 * self._hold) if self._up < _SEARCH else 1.0
            self._level /= 1 + self._up
        elif shut:
            self._level *= _CUT
            self._doubts = 0
        else:
            self._level *= max(1 - _CUT, 0.99 * (1 - share))
            self._doubts = self._doubts + 1 if share <= DOUBTFUL else 0
        self._level = max(_SLOWEST, self._level)
        self._step = _PROBE
        self._share = share
        if self._doubts > 1:
            self._test(now)
        else:
            hold = self._hold * max(1.0, self._pause)  # the next step can cost a pause
            self._restart(now, hold if self._near_ceiling() else max(1.0, 2 * self._trip))

    def _shut(self, now: float, pause: float) -> None:
        """Fall, once in a while, and ask seldom until something is accepted again."""
        if now < self._cut_until and not pause:
            self._restart(now, self._hold)
        else:
            self._fall(now, shut=True)
            self._cut_until = now + self._reach + _ONCE * self._trip
        if not pause and not self.testing:
            self.state = PaceState.SHUT
            self.rate = max(_SLOWEST, self._level * _SHUT)
        self._since = now + pause + self._reach
        self._until += pause

    def _test(self, now: float) -> None:
        self._level *= _SLOWER
        self._restart(now, 0.0)
        self.state = PaceState.TESTING

    def _restart(self, now: float, wait: float, *, up: float = 0.0) -> None:
        self._since = now + self._reach
        self._until = self._since + wait
        self._up = up
        self._accepted = self._throttled = self._row = 0
        self.rate = self._level
        self.state = PaceState.CLIMBING if up else PaceState.HOLDING


class Background:
    """Forgives the throttled answers that no load explains, by a credit that accepted calls earn.

    Each accepted call earns twice `share`, each forgiven answer costs one; what exceeds the credit is the load's.
    Accepted calls wear the share away, so that it is tested again. While no background is known (`share` is 0.0),
    the calls earn a little all the same, though not while `paced`, where a step up costs more.

    A background is there all the time: a long stretch of accepted calls without a throttled answer says that there is
    none. Who shares a server that counts calls with others unseen would take what they cause for background, forgive
    it, and push them out.
    """

    __slots__ = ("_credit", "_credited", "_longest", "_seen", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self._credit = _UNTESTED_CREDIT
        self._credited = self._seen = self._longest = 0

    def __repr__(self) -> str:
        """Show the share."""
        return f"<Background {self.share:.2%}>"

    def on_throttled(self, accepted: int, *, paced: bool) -> None:
        """Note a throttled answer, after so many `accepted` calls since the beginning.

        A test is compared with the stretches of its own pace: before that, calls were sent otherwise.
        """
        stretch, self._seen = accepted - self._seen, accepted
        self._longest = max(self._longest, stretch) if paced else 0
        if stretch * self.share > _END:
            self.share = 0.0

    def judge(self, share: float) -> float:
        """Give what of the `share` that a test has shown is background: all or, where it was not always there, none."""
        steady = self._longest * share <= _BREAK
        self._longest = 0
        return share if steady else 0.0

    def learn(self, share: float, accepted: int) -> None:
        """Take `share` for the background, after so many `accepted` calls."""
        self.share, self._credit, self._credited = share, _CREDIT, accepted

    def forgives(self, accepted: int, *, paced: bool) -> bool:
        """Say whether a throttled answer is forgiven, after so many `accepted` calls since the beginning."""
        known = self.share > _UNTESTED
        self.share = self.share * _FORGET ** (accepted - self._credited) if known else 0.0
        earning = self.share if known else _UNTESTED
        most = _CREDIT if known else 0.0 if paced else _UNTESTED_CREDIT
        self._credit = min(most, self._credit + 2 * earning * (accepted - self._credited))
        self._credited = accepted
        if self._credit < 1:
            return False
        self._credit -= 1
        return True
