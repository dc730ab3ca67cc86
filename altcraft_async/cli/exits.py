"""The exit codes, and the tally of outcomes that they follow from."""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING

from altcraft_async.cli.reasons import Reasons
from altcraft_async.errors import (
    APIError,
    AuthenticationError,
    BatchError,
    ConnectError,
    DeadlineError,
    DeliveryError,
    InvalidUpdateError,
    PermissionDeniedError,
    RetryBudgetError,
    RunStoppedError,
    SourceError,
)
from altcraft_async.report.reasons import place_of

if TYPE_CHECKING:
    from altcraft_async import ClientStatistics, Outcome
    from altcraft_async.ingest import KeptRow
    from altcraft_async.report.reasons import Place

__all__ = ["ExitCode", "Tally", "exit_code_of"]

_ENOUGH = 100
"""Rejections for one reason that say something of the whole input."""

_SHOWN = 10
"""Failures told one by one, to programs."""

_MANY = 5

_SHOWN_OF_KIND = {"RunStoppedError": 1, "DeadlineError": 1, "RetryBudgetError": 1, "ConnectError": 2}
"""Of these, one line is as good as a thousand."""


class ExitCode(enum.IntEnum):
    """How a command ended, for the shell. A signal ends with 128 + its number."""

    OK = 0
    """Every update was applied."""
    USAGE = 1
    """A mistake in the command, a setting or the whole input; nothing was sent."""
    NOT_ALL_APPLIED = 2
    """Some updates were not applied."""
    STOPPED = 3
    """The deadline or the retry budget ended the run before its end."""
    AUTHENTICATION = 4
    """The token was refused (401, 403)."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an update that ended with `error`, or a command that could not begin for it."""
    if isinstance(error, AuthenticationError | PermissionDeniedError) and error.code is not None:
        return ExitCode.AUTHENTICATION
    if isinstance(error, DeadlineError | RetryBudgetError):
        return ExitCode.STOPPED
    of_updates = isinstance(error, DeliveryError | InvalidUpdateError | SourceError | BatchError)
    return ExitCode.NOT_ALL_APPLIED if of_updates else ExitCode.USAGE


class Tally:
    """Counts outcomes as they come.

    ``states`` counts them by state; ``recalled`` of them are failures of an earlier
    run, and ``done_before`` is how many more rows were done in one, by the journal.
    ``sent`` counts the requests, ``retries`` those that were not an update's first,
    ``throttled`` those answered with back-pressure, as `take_traffic` had them from
    the client. ``reasons`` has why the failed ones failed, ``failures`` the first few of them,
    ``refused`` the first answer 401 or 403, ``unreachable`` the first failed connection, ``stopped`` the first
    update that had no turn because the run was stopped.
    """

    __slots__ = (
        "_codes", "_rejections", "_shown", "done_before", "failures", "reasons", "recalled", "refused", "retries",
        "sent", "states", "stopped", "throttled", "unreachable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.done_before = 0
        self.recalled = 0
        self.sent = 0
        self.retries = 0
        self.throttled = 0
        self.reasons = Reasons()
        self.failures: list[tuple[Place, Outcome[object]]] = []
        self.refused: BaseException | None = None
        self.unreachable: BaseException | None = None
        self.stopped: BaseException | None = None
        self._codes: set[ExitCode] = set()
        self._shown: Counter[str] = Counter()
        self._rejections: dict[tuple[str, int | None], str] = {}

    @property
    def total(self) -> int:
        """How many outcomes were counted."""
        return self.states.total()

    @property
    def handled(self) -> int:
        """How many updates had their turn in this run."""
        return self.total - self.recalled - self.states["not_sent"]

    @property
    def failed(self) -> int:
        """How many updates were not applied."""
        return self.total - sum(self.states[state] for state in ("applied", "duplicate", "superseded", "valid"))

    @property
    def all_rejected(self) -> bool:
        """Whether several updates were answered, and each with no."""
        rejected = self.states["rejected"]
        return rejected >= _MANY and rejected == self.total - self.states["invalid"] and not self.done_before

    @property
    def only_reason(self) -> str | None:
        """Why every update so far was rejected, where they are enough to say so and all for one reason; else None."""
        if len(self._rejections) != 1 or not _ENOUGH <= self.total == self.states["rejected"]:
            return None
        return next(iter(self._rejections.values()))

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of all of them: the token first, then a stop, then single failures."""
        return max(self._codes, default=ExitCode.OK)

    def take_traffic(self, statistics: ClientStatistics) -> None:
        """Take over what the client counted."""
        self.sent, self.retries = statistics.sent, statistics.retries
        self.throttled = statistics.throttled

    def add(self, outcome: Outcome[object], row: KeptRow | None = None, *, recalled: bool = False) -> None:
        """Count one outcome; `row` is its row in the input, `recalled` says that an earlier run had it."""
        self.states[str(outcome.state)] += 1
        self.recalled += recalled
        if outcome.ok:
            return
        place = place_of(outcome) if row is None else place_of(outcome, row.line, row.unit)
        self.reasons.add(outcome, place)
        error = outcome.error
        code = ExitCode.NOT_ALL_APPLIED if error is None or recalled else exit_code_of(error)
        self._codes.add(code)
        if code is ExitCode.AUTHENTICATION and self.refused is None:
            self.refused = error
        if isinstance(error, ConnectError) and self.unreachable is None and not recalled:
            self.unreachable = error
        if type(error) is RunStoppedError and self.stopped is None and not recalled:
            self.stopped = error
        kind = type(error).__name__
        if isinstance(error, APIError) and len(self._rejections) <= 1 and not recalled:
            self._rejections.setdefault((kind, error.code), error.message)
        if len(self.failures) < _SHOWN and self._shown[kind] < _SHOWN_OF_KIND.get(kind, _SHOWN):
            self._shown[kind] += 1
            self.failures.append((place, outcome))
