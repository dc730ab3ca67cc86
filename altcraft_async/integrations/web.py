"""Problem documents, readiness and deadlines for a web service in any framework.

Pure HTTP vocabulary without a framework: `problem_of` turns an error into a problem document (RFC 9457) without
secrets, `DeadlineHeader` reads how long a caller will wait, and `readiness_of` says whether the service can do its
work. `altcraft_async.integrations.fastapi` connects them to FastAPI.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Final, Literal

import attrs

from altcraft_async.errors import (
    AltcraftError,
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    BadRequestError,
    BatchError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    EventLoopError,
    InputChangedError,
    InvalidUpdateError,
    JournalError,
    MissingExtraError,
    NotSentError,
    OutageError,
    OutboxError,
    OutboxFullError,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    RetryBudgetError,
    RunFailedError,
    RunStoppedError,
    ServerError,
    SourceError,
    StorageError,
    TariffLimitError,
    TransportError,
    UnreadableResponseError,
)
from altcraft_async.protocol.values import check_request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.client import AltcraftClient, ClientStatistics
    from altcraft_async.outbox import Outbox, OutboxStatistics
    from altcraft_async.protocol.values import JSON

__all__ = [
    "PROBLEMS",
    "PROBLEM_MEDIA_TYPE",
    "PROBLEM_TYPES",
    "Deadline",
    "DeadlineHeader",
    "Health",
    "Problem",
    "ProblemKind",
    "failing_fast",
    "idempotency_key_of",
    "problem_of",
    "readiness_of",
]

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
PROBLEM_TYPES: Final = "urn:problem-type:altcraft:"
"""What the ``type`` of a problem begins with, unless another prefix is given."""

_MAYBE_ACCEPTED = "Nobody knows whether it was accepted: ask again under the same request_id, and it is accepted once."
_MAYBE_APPLIED = "The change may have been made: ask again under the same request_id, and it is not made twice."


@attrs.frozen
class ProblemKind:
    """The answer to callers for one kind of error: the HTTP `status`, the `title`, the `detail`.

    `retry_after` is the number of seconds after which a retry makes sense, if the error itself does not know it, or
    None.
    """

    status: int
    title: str
    detail: str
    retry_after: float | None = None


_NOT_BY_RETRY = "Asking again cannot help until the service is fixed."
_NOTHING_CHANGED = "Nothing was changed; ask again."
PROBLEMS: Final[Mapping[type[AltcraftError], ProblemKind]] = {
    AltcraftError: ProblemKind(500, "The service failed", _NOT_BY_RETRY),
    ConfigurationError: ProblemKind(500, "The service is set up wrongly", _NOT_BY_RETRY),
    EventLoopError: ProblemKind(500, "The service is set up wrongly", _NOT_BY_RETRY),
    ClientClosedError: ProblemKind(503, "The service is shutting down", _NOTHING_CHANGED, 1.0),
    MissingExtraError: ProblemKind(500, "The service is set up wrongly", _NOT_BY_RETRY),
    InvalidUpdateError: ProblemKind(422, "The update is invalid", "It was not sent; correct it."),
    SourceError: ProblemKind(500, "Reading the updates failed", "Those read before that were delivered as usual."),
    RunFailedError: ProblemKind(500, "The run failed", _NOT_BY_RETRY),
    StorageError: ProblemKind(503, "The service cannot keep updates now", _NOTHING_CHANGED, 5.0),
    JournalError: ProblemKind(503, "The service cannot record its run", "The run stopped; it can be continued.", 5.0),
    InputChangedError: ProblemKind(
        409, "The updates are not those of the run", "From the first that differs on, nothing was sent."
    ),
    OutboxError: ProblemKind(503, "The update was not accepted", "It will not be sent; ask again.", 5.0),
    OutboxFullError: ProblemKind(503, "Too many updates are waiting", "This one will not be sent; ask again.", 5.0),
    DeliveryError: ProblemKind(502, "Altcraft did not take the call", _NOTHING_CHANGED),
    NotSentError: ProblemKind(503, "The call was not sent", _NOTHING_CHANGED),
    DeadlineError: ProblemKind(504, "The time was over before the call was through", _NOTHING_CHANGED),
    OutageError: ProblemKind(503, "Altcraft serves nobody now", _NOTHING_CHANGED, 1.0),
    RetryBudgetError: ProblemKind(503, "Too many calls to Altcraft fail now", _NOTHING_CHANGED, 5.0),
    RunStoppedError: ProblemKind(503, "The run ended before this call's turn", _NOTHING_CHANGED),
    TransportError: ProblemKind(502, "Altcraft gave no answer", _NOTHING_CHANGED),
    ConnectError: ProblemKind(503, "Altcraft cannot be reached", _NOTHING_CHANGED, 5.0),
    ConnectionLostError: ProblemKind(502, "The connection to Altcraft broke", _NOTHING_CHANGED),
    AttemptTimeoutError: ProblemKind(504, "Altcraft did not answer in time", _NOTHING_CHANGED),
    UnreadableResponseError: ProblemKind(502, "Altcraft's answer cannot be read", _NOTHING_CHANGED),
    ResponseTooLargeError: ProblemKind(502, "Altcraft's answer is too long", _NOTHING_CHANGED),
    APIError: ProblemKind(502, "Altcraft refused the call", "Asking again for the same will hardly help."),
    BadRequestError: ProblemKind(
        422, "Altcraft does not accept the update", "The order, the line or the status may not exist; correct it."
    ),
    AuthenticationError: ProblemKind(502, "Altcraft does not let the service in", _NOT_BY_RETRY),
    TariffLimitError: ProblemKind(503, "The service has used up its share of Altcraft", _NOT_BY_RETRY),
    PermissionDeniedError: ProblemKind(502, "Altcraft does not let the service in", _NOT_BY_RETRY),
    RateLimitError: ProblemKind(503, "Altcraft is asked too much now", _NOTHING_CHANGED, 1.0),
    ServerError: ProblemKind(502, "Altcraft failed", _NOTHING_CHANGED),
    BatchError: ProblemKind(502, "Some updates were not applied", "The counts tell how many ended how."),
}
"""The answer for each error; one that is not listed counts as its nearest listed ancestor.

No row blames the caller for problems between this service and Altcraft: a token that Altcraft refuses is a 502, not a
401, and a rate limit of Altcraft's is a 503, not a 429.
"""


def idempotency_key_of(text: str) -> str:
    """Return the key of an ``Idempotency-Key`` header, with or without quotes, in the form of a ``Request-ID``.

    An impossible key raises `InvalidUpdateError`, which names the header.
    """
    key = text.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    try:
        return check_request_id(key)
    except ConfigurationError:
        msg = "Idempotency-Key must be printable ASCII text and not blank"
        raise InvalidUpdateError(msg, field="Idempotency-Key") from None


@attrs.frozen
class Problem:
    """A problem document (RFC 9457) for one error; safe to give to anybody.

    `members` are our extensions of it, if they are known: ``request_id``, ``maybe_applied``, ``maybe_accepted``,
    ``retry_after`` (whole seconds), ``field`` (the wrong field of the update), ``counts`` (of a bulk run, by state).
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    members: Mapping[str, JSON] = attrs.field(factory=dict)

    @property
    def body(self) -> dict[str, JSON]:
        """The document, to be sent as ``application/problem+json``."""
        document: dict[str, JSON] = {"type": self.type, "title": self.title, "status": self.status}
        document |= {name: value for name in ("detail", "instance") if (value := getattr(self, name))}
        return document | dict(self.members)

    @property
    def headers(self) -> dict[str, str]:
        """The headers beside the media type: ``Retry-After`` if it makes sense."""
        after = self.members.get("retry_after")
        return {} if after is None else {"Retry-After": str(after)}


def problem_of(error: AltcraftError, *, instance: str | None = None, types: str = PROBLEM_TYPES) -> Problem:
    """Return the problem document that reports `error` to a caller.

    It has only texts of `PROBLEMS`, numbers, and values that the caller gave itself. The only text of the error itself
    is the message of an `InvalidUpdateError`, which names the wrong field. `instance` names the occurrence, usually the
    request's path. `types` is the prefix of ``type``, to which the kind is added: ``rate-limit`` for `RateLimitError`.
    """
    known = next(ancestor for ancestor in type(error).__mro__ if ancestor in PROBLEMS)
    kind = PROBLEMS[known]
    members = _members(error, kind)
    detail = error.message if isinstance(error, InvalidUpdateError) else kind.detail
    if members.get("maybe_applied"):
        detail = _MAYBE_APPLIED
    if members.get("maybe_accepted"):
        detail = _MAYBE_ACCEPTED
    return Problem(types + _slug(known), kind.title, kind.status, detail, instance, members)


def _slug(kind: type[AltcraftError]) -> str:
    """Write a class's name as the end of a URI: ``rate-limit`` for ``RateLimitError``."""
    name = kind.__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _members(error: AltcraftError, kind: ProblemKind) -> dict[str, JSON]:
    members: dict[str, JSON] = {}
    if isinstance(error, DeliveryError):
        if error.request_id is not None:
            members["request_id"] = error.request_id
        members["maybe_applied"] = error.maybe_applied
    if isinstance(error, OutboxError) and error.maybe_accepted:
        members |= {"request_id": error.request_id, "maybe_accepted": True}
    if isinstance(error, InvalidUpdateError) and error.field is not None:
        members["field"] = error.field
    if isinstance(error, BatchError) and error.report is not None:
        members["counts"] = {str(state): count for state, count in error.report.counts.items() if count}
    after = _retry_after(error)
    if after is None:
        after = kind.retry_after
    if after is not None:
        members["retry_after"] = max(1, math.ceil(after))
    return members


def _retry_after(error: BaseException | None) -> float | None:
    """Find the wait that the server asked for, in the error or in the attempt that led to it."""
    while error is not None:
        after = getattr(error, "retry_after", None)
        if after is not None and math.isfinite(after):
            return float(after)
        error = error.__cause__
    return None


_UNITS = {"": 1.0, "H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([HMSmun]?)")
_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,12})"?\s*(?:[,;]|$)', re.IGNORECASE)


@attrs.frozen
class Deadline:
    """The moment by which the caller needs an answer, `seconds` after it was set."""

    seconds: float
    _clock: Callable[[], float] = attrs.field(default=time.monotonic, repr=False)
    _until: float = attrs.field(init=False, repr=False)

    @_until.default
    def _end(self) -> float:
        return self._clock() + self.seconds

    def left(self) -> float:
        """Return the seconds that are left, never less than zero; made for the `deadline` of a call."""
        return max(0.0, self._until - self._clock())


@attrs.frozen
class DeadlineHeader:
    """Reads from a request's header how long its caller will wait.

    There is no standard for such a header; `name` is the one that your callers send:

    - ``Request-Timeout`` and others: seconds
    - a name that ends in ``-Ms``, like ``X-Envoy-Expected-Rq-Timeout-Ms``: milliseconds
    - ``Prefer``: the preference ``wait`` of RFC 7240, in seconds
    - ``grpc-timeout``: a number and its unit, ``1500m``

    A caller without a readable header gets `default`; nobody gets more than `maximum`. Both are in seconds.
    """

    name: str = "Request-Timeout"
    default: float = attrs.field(default=10.0, kw_only=True)
    maximum: float = attrs.field(default=30.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Check the two times."""
        for field in ("default", "maximum"):
            if not 0 < getattr(self, field) < math.inf:
                msg = f"{field} must be a number of seconds above zero, not {getattr(self, field)!r}"
                raise ConfigurationError(msg, field=field)

    def read(self, headers: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """Set the deadline of the request that has these headers, from now on."""
        given = self._seconds(headers.get(self.name) or "")
        return Deadline(min(self.default if given is None else given, self.maximum), clock)

    def _seconds(self, value: str) -> float | None:
        name = self.name.lower()
        if name == "prefer":
            found = _WAIT.search(value)
            return float(found[1]) if found else None
        found = _NUMBER.fullmatch(value.strip())
        if found is None or (found[2] and name != "grpc-timeout"):
            return None
        return float(found[1]) * (1e-3 if name.endswith("-ms") else _UNITS[found[2]])


@attrs.frozen
class Health:
    """Whether the service can do its work, and the facts of that judgement.

    `status` is ``"fail"`` if it cannot, ``"warn"`` if somebody should look, ``"pass"`` otherwise; `notes` say why, in
    fixed words. `altcraft` and `outbox` are the snapshots that they were read from.
    """

    status: Literal["pass", "warn", "fail"]
    notes: tuple[str, ...] = ()
    altcraft: ClientStatistics | None = None
    outbox: OutboxStatistics | None = None

    @property
    def http_status(self) -> int:
        """503 for ``"fail"``, 200 otherwise."""
        return 503 if self.status == "fail" else 200

    @property
    def body(self) -> dict[str, JSON]:
        """The answer: numbers and fixed words, no path, address or text of an error."""
        body: dict[str, JSON] = {"status": self.status, "notes": list(self.notes)}
        for name, snapshot in (("altcraft", self.altcraft), ("outbox", self.outbox)):
            if snapshot is not None:
                body[name] = {key: _plain(value) for key, value in attrs.asdict(snapshot).items() if key != "problem"}
        return body


def _plain(value: object) -> JSON:
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value if isinstance(value, int | str) else None


def failing_fast(altcraft: AltcraftClient) -> AltcraftClient:
    """Return a copy of a client for handlers: its single calls do not wait for an outage to end.

    They raise `OutageError` at once; its problem document says when to ask again. Bulk runs and an outbox of the copy
    wait as those of the client do.
    """
    return altcraft.with_options(outage=attrs.evolve(altcraft.settings.outage, fail_fast=True))


def readiness_of(altcraft: AltcraftClient | None, outbox: Outbox | None = None, *, overdue: float = 300.0) -> Health:
    """Judge whether a service with this client and outbox can do its work now.

    It fails if the client is missing or closed, and if the outbox takes no more: it is full, or its file cannot be
    used. It warns if Altcraft serves nobody, has asked for a pause, or fails so often that no retries are left; if the
    outbox cannot deliver or is paused, if it has dead letters, and if its oldest update has waited longer than
    `overdue` seconds.

    An outage of Altcraft is never a failure: a service that gets no requests because of it would never find out that
    Altcraft is back.
    """
    if altcraft is None or altcraft.closed:
        return Health("fail", ("the client is not open",))
    client = altcraft.statistics()
    kept = None if outbox is None else outbox.statistics()
    failures: list[str] = []
    warnings = [
        note
        for note, holds in (
            ("Altcraft serves nobody", client.outage is not None),
            ("Altcraft asked for a pause", client.paused > 0.0),
            ("no retries are left", client.retry_budget < 1.0),
        )
        if holds
    ]
    if kept is not None:
        if not kept.accepting:
            failures.append("the outbox cannot be used")
        if kept.pending >= kept.capacity:
            failures.append("the outbox is full")
        if kept.accepting and kept.problem is not None:
            warnings.append("the outbox does not deliver")
        if kept.paused:
            warnings.append("the outbox is paused")
        if kept.dead:
            warnings.append("the outbox has dead letters")
        if kept.oldest > overdue:
            warnings.append("the outbox is behind")
    status: Literal["pass", "warn", "fail"] = "fail" if failures else "warn" if warnings else "pass"
    return Health(status, (*failures, *warnings), client, kept)
