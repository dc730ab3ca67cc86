"""The outage law: when nobody is served, everybody waits, and single calls probe.

======================  =======================================================  ============
state                   what happens                                             next state
======================  =======================================================  ============
``CLEAR``               the third failure without a served answer between them   ``SUSPECTED``
``CLEAR``               three calls are overdue, and nothing came meanwhile      ``OPEN``
``CLEAR``               nothing but back-pressure for three round trips          ``OPEN``
``SUSPECTED``           a served answer                                          ``CLEAR``
``SUSPECTED``           a round trip has passed since the first of the failures  ``OPEN``
``OPEN``                a served answer to a call begun after the first failure  ``CLEAR``
======================  =======================================================  ============

Where a failure spoke of the server, ``SUSPECTED`` too is ended only by an answer to a call
begun after the first failure: a server that shuts down refuses new calls and ends the old
ones, and each of their answers would let all that wait run into it.

Only in ``CLEAR`` may calls start freely. While it is ``SUSPECTED`` nothing starts; what is
under way decides. While it is ``OPEN`` only probes start, one at a time.

**Which failures count.** One that speaks of the server counts from any call. One that may
speak of its own line counts once a line, and only where no call *begun* after the line's
first failure was served: so lines that always fail while others are served never
open an outage, not even when they are alone at the end of a run; and answers that were
on their way when it began hide none. Back-pressure is the limit's to answer; where for
three round trips, and at least half a second, nothing else comes, the server
is not full but away. (A server that counts calls by the second may be shut for the rest of
one.)

Where this machine has no room for a connection while other calls are under way, it counts as
one that may speak of its own line: a served answer shows that there is room. Where nothing
else is under way it counts from any call.

**Overdue** is a call without an answer for three times the usual latency, and at least
a second; before anything was served, `SILENT` seconds. A server that accepts everything
and answers nothing is noticed by it long before a timeout.

**Probes** start `FIRST_WAIT` after the opening, then after twice as long each time, at
most `SHORT_WAIT` in the first minute and `LONG_WAIT` later. A probe that is overdue does
not hold up the next.

**Strangers.** Where nothing was ever served, three answers that are not the API's say
that the address is wrong: `misdirected` then.

Pure: time is an argument, in seconds of one clock.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["FIRST_WAIT", "LONG_WAIT", "SHORT_WAIT", "SILENT", "THRESHOLD", "Outage", "OutageState"]

THRESHOLD: Final = 3
"""Failures that make an outage suspected, overdue calls that prove one, and strange answers that prove a wrong address.
Two may be a coincidence of two bad lines; each one more is sent in vain."""
FIRST_WAIT: Final = 0.25
SHORT_WAIT: Final = 1.0
LONG_WAIT: Final = 5.0
_SHORT_FOR = 60.0
"""Seconds of an outage in which somebody may look for its end: a restart, a reload."""
SILENT: Final = 5.0
"""Seconds without any answer that a server may take for its first; a batch's takes as long as it takes."""
_OVERDUE = 1.0
_OVERDUE_TRIPS = 3.0
_SHUT = 0.5
"""Seconds of nothing but back-pressure that a limiter which counts by the second may well give."""
_REMEMBERED = 1024
"""Lines that fail while others are served, of which it is remembered since when."""
_BAD = 2
"""Failures of a line after which others were begun and served: one may be a coincidence."""
_UNMEASURED = 0.1
"""The round trip assumed before the first served answer, in seconds."""
_SMOOTHING = 0.1
"""The weight of a new latency in the usual one."""


class OutageState(enum.Enum):
    """Whether calls may start."""

    CLEAR = "clear"
    SUSPECTED = "suspected"
    OPEN = "open"


_CLEAR, _SUSPECTED, _OPEN = OutageState.CLEAR, OutageState.SUSPECTED, OutageState.OPEN
"""Named once: a look at a member through its class is slow before Python 3.12."""


class Outage:
    """The outage law of one client; see the module.

    `state` is the present one, `since` the time of the first failure of the present
    outage, `local` whether the last failure was this machine's own, `served` whether a
    call was ever served, `answered` whether one was served or met with back-pressure,
    `misdirected` whether the address is probably not the API's.
    Latency is kept for each `kind` of call apart.
    """

    __slots__ = (
        "_any", "_earlier", "_failing", "_latency", "_lines", "_load", "_opens_at", "_probe_at", "_probe_over",
        "_served_from", "_strange", "_wait", "answered", "local", "since", "state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = _CLEAR
        self.since = math.inf
        self._served_from = -math.inf
        self._latency: dict[str, float] = {}
        self._lines: set[Hashable] = set()
        self._failing: dict[Hashable, tuple[float, int]] = {}
        self._any = self._load = 0
        self._earlier = 0.0
        self._strange = 0
        self._opens_at = self._probe_at = self._probe_over = math.inf
        self._wait = FIRST_WAIT
        self.local = self.answered = False

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Outage {self.state.value}>"

    @property
    def is_open(self) -> bool:
        """Whether an outage is known."""
        return self.state is _OPEN

    @property
    def served(self) -> bool:
        """Whether the server has ever served a call."""
        return self._served_from > -math.inf

    @property
    def misdirected(self) -> bool:
        """Whether all that has ever come were answers that are not the API's."""
        return not self.served and self._strange >= THRESHOLD

    def overdue_after(self, kind: str, *, apart: bool = False) -> float:
        """Give the seconds after which a call of this `kind` is overdue, where `apart` means that it carries a batch.

        Infinite where it cannot be known: nothing of this kind was served, but others were, or it is a batch.
        """
        latency = self._latency.get(kind)
        if latency is None:
            return math.inf if apart or self.served else SILENT
        return max(_OVERDUE, _OVERDUE_TRIPS * latency)

    def lasted(self, now: float) -> float:
        """Give the seconds of all outages so far, the present one included, also while it is only suspected."""
        return self._earlier + (0.0 if self.state is _CLEAR else max(0.0, now - self.since))

    # -- what has come

    def on_served(self, now: float, started: float, kind: str, line: Hashable = None) -> bool:
        """Take note of a served answer to a call of `line` begun at `started`; say whether it ended an outage."""
        self.answered = True
        if self._failing:
            self._failing.pop(line, None)
        latency = now - started
        usual = self._latency.get(kind)
        self._latency[kind] = latency if usual is None else usual + _SMOOTHING * (latency - usual)
        proven = self.state is _OPEN or (self.state is _SUSPECTED and self._any)
        if proven and started <= self.since:
            return False  # a server that shuts down ends its calls
        self._served_from = max(self._served_from, started)
        if self.since == math.inf:
            return False
        was_open = self.state is _OPEN
        self._earlier = self.lasted(now)
        self.state = _CLEAR
        self._forget()
        if was_open:  # what failed in it failed for its sake
            self._failing.clear()
        self.since = math.inf
        return was_open

    def on_failure(self, now: float, kind: str, line: Hashable | None, first_failure: float) -> None:
        """Take note of a failure of `line`, whose call failed at `first_failure` first; None speaks of the server."""
        self.local = False
        if self.state is not _CLEAR:
            return
        if line is None:
            self._any += 1
        elif not self._is_bad(line, now) and first_failure > self._served_from:
            self._lines.add(line)
        count = self._any + len(self._lines)
        if count:
            self.since = min(self.since, now)
        if count >= THRESHOLD:
            self.state = _SUSPECTED
            self._opens_at = self.since + self._latency.get(kind, _UNMEASURED)

    def on_no_room(self, now: float, kind: str, line: Hashable | None, first_failure: float) -> None:
        """Take note of a failure for which this machine had no room; None where nothing else was under way."""
        self.on_failure(now, kind, line, first_failure)
        self.local = True

    def _is_bad(self, line: Hashable, now: float) -> bool:
        """Note a failure of a line, be it of another call than before; say whether it fails while others are served.

        A line is forgotten when it is served.
        """
        failing = self._failing
        failed_at, alone = failing.pop(line, (math.inf, 0))
        alone += failed_at <= self._served_from
        if len(failing) >= _REMEMBERED:
            del failing[next(iter(failing))]
        failing[line] = (now, alone)
        return alone >= _BAD

    def on_back_pressure(self, now: float, kind: str) -> None:
        """Take note that the server said it has too much to do."""
        self.answered = True
        if self.state is not _CLEAR:
            return
        self._load += 1
        self.since = min(self.since, now)
        trips = max(_SHUT, _OVERDUE_TRIPS * self._latency.get(kind, _UNMEASURED))
        if self._load >= THRESHOLD and now - self.since >= trips:
            self._open(now)

    def on_strange_answer(self) -> None:
        """Take note of an answer that is not the API's."""
        self._strange += 1

    def on_overdue(self, now: float, oldest: float, third: float) -> bool:
        """Take note that calls begun at `oldest` and up to `third`, three at least, are overdue; say if that opens it.

        It does not where a call begun since was served.
        """
        if self.state is _OPEN or self._served_from > third:
            return False
        self.since = min(self.since, oldest)
        self._open(now)
        return True

    # -- what may start

    def look(self, now: float) -> float:
        """Let the time pass; give the seconds until a call may start: 0.0 for now, infinite for who knows.

        In ``OPEN`` whoever may start is the probe: say so by `probe_started`.
        """
        if self.state is _CLEAR:
            return 0.0
        if self.state is _SUSPECTED:
            if now < self._opens_at:
                return self._opens_at - now
            self._open(now)
        return max(0.0, max(self._probe_at, self._probe_over) - now)

    def probe_started(self, now: float, kind: str) -> None:
        """Take note that the probe that was due goes out."""
        self._wait = min(2 * self._wait, SHORT_WAIT if now - self.since < _SHORT_FOR else LONG_WAIT)
        self._probe_at = now + self._wait
        self._probe_over = now + max(_OVERDUE, _OVERDUE_TRIPS * self._latency.get(kind, 0.0))

    def probe_ended(self, *, unused: bool = False) -> None:
        """Take note that a probe has ended: the next waits only for its time, and not if it was `unused`."""
        self._probe_over = -math.inf
        if unused:
            self._probe_at = -math.inf

    def _open(self, now: float) -> None:
        self.state = _OPEN
        self._wait = FIRST_WAIT
        self._probe_at = now + FIRST_WAIT
        self._probe_over = -math.inf
        self._forget()

    def _forget(self) -> None:
        self._lines.clear()
        self._any = self._load = 0
