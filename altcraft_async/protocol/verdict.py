"""The verdict on an attempt, by table: what it means for the line, for the flow, for the run.

What is known of an attempt is a `Evidence`: how the transport failed, or which
answer came. `TABLE` maps every kind of evidence to its `Verdict`; the documents'
table is made from it. The envelope's own code beats the HTTP status where both
speak.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_RULES", "TABLE", "Evidence", "Verdict", "VerdictRules", "classify"]


class Evidence(enum.StrEnum):
    """The kinds of end that an attempt can have; together they cover every end."""

    SUCCESS = "error code 0"
    DUPLICATE_SUCCESS = "error code 0, Duplicate-Request"
    NEVER_SENT = "no connection: nothing was sent"
    TIMEOUT = "no answer in time"
    LOST = "connection cut while sending or waiting"
    UNREADABLE = "HTTP 2xx whose body is no envelope"
    FATAL = "401, 403"
    THROTTLED = "425, 429"
    UNAVAILABLE = "503"
    RETRIABLE = "408, 5xx except 501 and 503"
    REFUSED = "any other code or status"
    DUPLICATE_FAILURE = "any failure, Duplicate-Request"


@attrs.frozen
class Verdict:
    """What an attempt's end means.

    `state` is the line's final state if this was its last attempt. `retry` says
    whether another attempt can help, `throttled` whether the server signalled
    overload, `fatal` whether the whole run must stop, and `maybe_applied`
    whether the change may have been made without our knowing.
    """

    state: OutcomeState
    retry: bool = False
    throttled: bool = False
    fatal: bool = False
    maybe_applied: bool = False


TABLE: Final[Mapping[Evidence, Verdict]] = {
    Evidence.SUCCESS: Verdict(OutcomeState.APPLIED),
    Evidence.DUPLICATE_SUCCESS: Verdict(OutcomeState.DUPLICATE),
    Evidence.NEVER_SENT: Verdict(OutcomeState.NOT_SENT, retry=True),
    Evidence.TIMEOUT: Verdict(OutcomeState.UNKNOWN, retry=True, throttled=True, maybe_applied=True),
    Evidence.LOST: Verdict(OutcomeState.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.UNREADABLE: Verdict(OutcomeState.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.FATAL: Verdict(OutcomeState.REJECTED, fatal=True),
    Evidence.THROTTLED: Verdict(OutcomeState.NOT_SENT, retry=True, throttled=True),
    Evidence.UNAVAILABLE: Verdict(OutcomeState.UNKNOWN, retry=True, throttled=True, maybe_applied=True),
    Evidence.RETRIABLE: Verdict(OutcomeState.UNKNOWN, retry=True, maybe_applied=True),
    Evidence.REFUSED: Verdict(OutcomeState.REJECTED),
    Evidence.DUPLICATE_FAILURE: Verdict(OutcomeState.REJECTED),
}
"""Every end of an attempt and what it means."""

_SERVER_ERRORS = frozenset(range(500, 600)) - {501}


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

    The numbers are compared with the envelope's ``error`` where there was an
    envelope, else with the HTTP status. What stands in no list is refused
    finally; `fatal` goes before `throttled`, that before `unavailable`, that
    before `retriable`.
    """

    fatal: frozenset[int] = attrs.field(default=frozenset({401, 403}), converter=_codes)
    throttled: frozenset[int] = attrs.field(default=frozenset({425, 429}), converter=_codes)
    unavailable: frozenset[int] = attrs.field(default=frozenset({503}), converter=_codes)
    retriable: frozenset[int] = attrs.field(default=frozenset({408}) | _SERVER_ERRORS, converter=_codes)

    def evidence(self, *, status: int, code: int | None, duplicate: bool) -> Evidence:
        """Name the kind of an answer with HTTP `status` and envelope `code` (None: no envelope)."""
        if code == 0:
            return Evidence.DUPLICATE_SUCCESS if duplicate else Evidence.SUCCESS
        if code is None and 200 <= status <= 299:  # noqa: PLR2004
            return Evidence.UNREADABLE
        number = status if code is None else code
        if number in self.fatal:
            return Evidence.FATAL
        return Evidence.DUPLICATE_FAILURE if duplicate else self._failure(number)

    def _failure(self, number: int) -> Evidence:
        if number in self.throttled:
            return Evidence.THROTTLED
        if number in self.unavailable:
            return Evidence.UNAVAILABLE
        return Evidence.RETRIABLE if number in self.retriable else Evidence.REFUSED


DEFAULT_RULES: Final = VerdictRules()


def classify(*, status: int, code: int | None, duplicate: bool = False, rules: VerdictRules = DEFAULT_RULES) -> Verdict:
    """Return the verdict on an answer. Total: every combination has exactly one."""
    return TABLE[rules.evidence(status=status, code=code, duplicate=duplicate)]
