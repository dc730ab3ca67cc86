"""The circuit: what is done when no connection can be made at all.

After `THRESHOLD` connection failures in a row, with no answer between them, the
circuit opens: calls no longer start side by side, but one at a time as a probe,
first after `FIRST_WAIT` seconds and then after twice as long each time, up to
`LONGEST_WAIT`. Any answer, even a refusal, closes it. When the server has been
out of reach for longer than the patience, the circuit is `hopeless`, and callers
give up instead of waiting on.

Pure: time is an argument, in seconds of one clock.
"""

from __future__ import annotations

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "THRESHOLD", "Circuit"]

THRESHOLD = 5
FIRST_WAIT = 0.25
LONGEST_WAIT = 5.0


class Circuit:
    """Counts connection failures; see the module.

    `patience` is how long an outage of a server that has answered before is
    waited out, `first_patience` the same for one that never has: that is rather
    a wrong address.
    """

    __slots__ = ("_answered", "_failures", "_first_patience", "_patience", "_probe_at", "_since", "_wait", "is_open")

    def __init__(self, *, patience: float, first_patience: float) -> None:
        self._patience = patience
        self._first_patience = first_patience
        self._answered = False
        self._failures = 0
        self._since = 0.0
        self._wait = FIRST_WAIT
        self._probe_at = 0.0
        self.is_open = False

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Circuit {'open' if self.is_open else 'closed'}, {self._failures} failures>"

    def on_answer(self, started: float) -> bool:
        """Note that the server was reached by a call begun at `started`; say whether that closed the circuit.

        A call begun before the first failure proves nothing: a server that shuts down ends its calls.
        """
        self._answered = True
        if self._failures and started <= self._since:
            return False
        self._failures = 0
        was_open, self.is_open = self.is_open, False
        return was_open

    def on_failure(self, now: float) -> float | None:
        """Note a failed connection; return the seconds until the next probe where this one sets it.

        None while the circuit is closed, and for calls that were under way when it
        opened: they say nothing new.
        """
        if not self._failures:
            self._since = now
            self._wait = FIRST_WAIT
        self._failures += 1
        if self._failures < THRESHOLD or (self.is_open and now < self._probe_at):
            return None
        self.is_open = True
        wait = self._wait
        self._wait = min(LONGEST_WAIT, 2 * wait)
        self._probe_at = now + wait
        return wait

    def hopeless(self, now: float) -> bool:
        """Say whether the outage has outlasted the patience."""
        return self.is_open and now - self._since > (self._patience if self._answered else self._first_patience)
