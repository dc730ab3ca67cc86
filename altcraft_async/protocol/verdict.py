"""The verdict on an attempt, by table: what it means for the line, for the flow, for the run.

What is known of an attempt is an `Evidence`: how the transport failed, or which
answer came. `TABLE` maps every kind of evidence to its `Verdict`; the documents'
table is made from it. The envelope's own code beats the HTTP status where both
speak. An answer without an envelope is never a line's final "no": it may be
anybody's who stands before the platform.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_RULES", "TABLE", "Evidence", "Scope", "Verdict", "VerdictRules", "classify"]


class Evidence(enum.StrEnum):
    """The kinds of end that an attempt can have; together they cover every end."""

    SUCCESS = "error code 0"
    DUPLICATE_SUCCESS = "error code 0, Duplicate-Request"
    NO_ROOM = "no connection: this machine has no room for one"
    NEVER_SENT = "no connection: nothing was sent"
    TIMEOUT = "no answer in time"
    LOST = "connection cut while sending or waiting"
    UNREADABLE = "HTTP 2xx whose body is no envelope"
    ANOTHERS = "an answer that names another line"
    UNCONFIRMED = "an answer that must be confirmed on another connection"
    FATAL = "error code 401, 403"
    RENEWED = "error code 401, 403, for the first time, and the token's source may give another"
    THROTTLED = "425, 429"
    UNAVAILABLE = "503"
    RETRIABLE = "408, 5xx except 501 and 503"
    IN_PROGRESS = "error code 409 while an earlier attempt may be at work"
    TOO_LARGE = "413 for a batch"
    REFUSED = "any other error code"
    FOREIGN = "any other HTTP status without an envelope"
    DUPLICATE_FAILURE = "any error code, Duplicate-Request"


class Scope(enum.Enum):
    """Whom a failure speaks of, as far as one attempt can show."""

    LINE = "the line"
    """Perhaps only this line: another line must fail too before it says something about the server."""
    SERVER = "the server"
    """The server, or the way to it, for every line."""
    LOAD = "the server's load"
    """The server has too much to do: the limit reacts, and only if that does not help it is an outage."""
    NEITHER = "neither"
    """This machine, one connection, or an answer that is on its way."""


@attrs.frozen
class Verdict:
    """What an attempt's end means.

    `state` is the line's final state if this was its last attempt. `retry` says whether another attempt can help,
    `throttled` whether the server signalled back-pressure, `fatal` whether the whole run must stop, and
    `maybe_applied` whether the change may have been made without our knowing. `served` says that the platform did its
    work for the call, with a yes or a no; `scope` says whom a failure speaks of.
    """

    state: OutcomeState
    retry: bool = False
    throttled: bool = False
    fatal: bool = False
    maybe_applied: bool = False
    served: bool = False
    scope: Scope = Scope.LINE


_STATE = OutcomeState
TABLE: Final[Mapping[Evidence, Verdict]] = {
    Evidence.SUCCESS: Verdict(_STATE.APPLIED, served=True),
    Evidence.DUPLICATE_SUCCESS: Verdict(_STATE.DUPLICATE, served=True),
    Evidence.NO_ROOM: Verdict(_STATE.NOT_SENT, retry=True, scope=Scope.NEITHER),
    Evidence.NEVER_SENT: Verdict(_STATE.NOT_SENT, retry=True, scope=Scope.SERVER),
    Evidence.TIMEOUT: Verdict(_STATE.UNKNOWN, retry=True, throttled=True, maybe_applied=True),
    Evidence.LOST: Verdict(_STATE.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.UNREADABLE: Verdict(_STATE.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.ANOTHERS: Verdict(_STATE.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.UNCONFIRMED: Verdict(_STATE.UNKNOWN, retry=True, maybe_applied=True, scope=Scope.NEITHER),
    Evidence.FATAL: Verdict(_STATE.REJECTED, fatal=True, served=True),
    Evidence.RENEWED: Verdict(_STATE.NOT_SENT, retry=True, scope=Scope.NEITHER),
    Evidence.THROTTLED: Verdict(_STATE.NOT_SENT, retry=True, throttled=True, scope=Scope.LOAD),
    Evidence.UNAVAILABLE: Verdict(_STATE.UNKNOWN, retry=True, throttled=True, maybe_applied=True, scope=Scope.LOAD),
    Evidence.RETRIABLE: Verdict(_STATE.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.IN_PROGRESS: Verdict(_STATE.UNKNOWN, retry=True, maybe_applied=True, scope=Scope.NEITHER),
    Evidence.TOO_LARGE: Verdict(_STATE.REJECTED, served=True, scope=Scope.NEITHER),
    Evidence.REFUSED: Verdict(_STATE.REJECTED, served=True),
    Evidence.FOREIGN: Verdict(_STATE.REJECTED, retry=True),
    Evidence.DUPLICATE_FAILURE: Verdict(_STATE.REJECTED, served=True),
}
"""Every end of an attempt and what it means."""

_SERVER_ERRORS = frozenset(range(500, 600)) - {501}
_CONTENT_TOO_LARGE = 413


def _codes(value: object) -> frozenset[int]:
    try:
        codes: frozenset[int] = frozenset(value)  # type: ignore[call-overload]
    except TypeError:
        codes = frozenset({-1})
    if not all(type(code) is int and code >= 0 for code in codes):
        msg = "verdict rules take sets of integers: HTTP statuses or error codes"
        raise ConfigurationError(msg, field="rules")
    return codes


@attrs.frozen
class VerdictRules:
    """Which codes and statuses belong to which kind of evidence; all can be changed.

    The numbers are compared with the envelope's ``error`` if there was an envelope, else with the HTTP status; `fatal`
    and `in_progress` only with the envelope's. A number in no list is a final refusal with an envelope, and a foreign
    answer without. The order of precedence is `fatal`, `throttled`, `unavailable`, `retriable`. `in_progress` counts
    only if an earlier attempt of the call may still be at work.
    """

    fatal: frozenset[int] = attrs.field(default=frozenset({401, 403}), converter=_codes)
    throttled: frozenset[int] = attrs.field(default=frozenset({425, 429}), converter=_codes)
    unavailable: frozenset[int] = attrs.field(default=frozenset({503}), converter=_codes)
    retriable: frozenset[int] = attrs.field(default=frozenset({408}) | _SERVER_ERRORS, converter=_codes)
    in_progress: frozenset[int] = attrs.field(default=frozenset({409}), converter=_codes)

    def evidence(
        self, *, status: int, code: int | None, duplicate: bool, in_doubt: bool = False, batch: bool = False
    ) -> Evidence:
        """Name the kind of an answer with HTTP `status` and envelope `code` (None: no envelope).

        `in_doubt` says that an earlier attempt of the call may have been applied, `batch` that
        the call carries rows: of one that is too large, whoever says so, smaller ones are made.
        """
        if code == 0:
            return Evidence.DUPLICATE_SUCCESS if duplicate else Evidence.SUCCESS
        if batch and _CONTENT_TOO_LARGE in (status, code):
            return Evidence.TOO_LARGE
        if code is not None:
            return self._of_code(code, duplicate=duplicate, in_doubt=in_doubt)
        if 200 <= status <= 299:  # noqa: PLR2004
            return Evidence.UNREADABLE
        return self._passing(status) or Evidence.FOREIGN

    def _of_code(self, code: int, *, duplicate: bool, in_doubt: bool) -> Evidence:
        if code in self.fatal:
            return Evidence.FATAL
        if duplicate:
            return Evidence.DUPLICATE_FAILURE
        if in_doubt and code in self.in_progress:
            return Evidence.IN_PROGRESS
        return self._passing(code) or Evidence.REFUSED

    def _passing(self, number: int) -> Evidence | None:
        if number in self.throttled:
            return Evidence.THROTTLED
        if number in self.unavailable:
            return Evidence.UNAVAILABLE
        return Evidence.RETRIABLE if number in self.retriable else None


DEFAULT_RULES: Final = VerdictRules()


def classify(
    *,
    status: int,
    code: int | None,
    duplicate: bool = False,
    in_doubt: bool = False,
    rules: VerdictRules = DEFAULT_RULES,
) -> Verdict:
    """Return the verdict on an answer. Total: every combination has exactly one."""
    return TABLE[rules.evidence(status=status, code=code, duplicate=duplicate, in_doubt=in_doubt)]
