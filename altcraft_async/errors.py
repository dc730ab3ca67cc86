"""The errors of the library: one tree, one base.

.. code-block:: text

    AltcraftError
    ├── ConfigurationError           a setting that cannot work; nothing was sent
    ├── ClientClosedError            the client was used after its aclose()
    ├── EventLoopError               the client was used from another event loop
    ├── MissingExtraError            an optional library is not installed
    ├── InvalidUpdateError           one input row is wrong; it was not sent
    ├── SourceError                  the caller's own iterable of updates raised
    ├── RunFailedError               a bulk run failed for a reason that is none of the above
    ├── StorageError                 a file that keeps updates cannot be used
    │   ├── JournalError               the journal of a run
    │   │   └── InputChangedError        the input is not the recorded one
    │   └── OutboxError                the outbox of a service, or it was closed
    │       └── OutboxFullError          it has reached its capacity
    ├── DeliveryError                one call did not end in success
    │   ├── NotSentError               an attempt that was due could not be made
    │   │   ├── DeadlineError            no time was left for an attempt
    │   │   ├── OutageError              nobody is served, for longer than the caller waits
    │   │   ├── RetryBudgetError         the client's retry budget was empty
    │   │   └── RunStoppedError          the run ended before this line's turn
    │   ├── TransportError             no answer at all
    │   │   ├── ConnectError             no connection: nothing was sent
    │   │   ├── ConnectionLostError      cut while sending or waiting
    │   │   └── AttemptTimeoutError      no answer in time
    │   ├── UnreadableResponseError    an answer we cannot read
    │   │   └── ResponseTooLargeError    longer than ``max_response_bytes``
    │   └── APIError                   an answer that is not success
    │       ├── BadRequestError          400: the request is wrong
    │       ├── AuthenticationError      401: the token is missing or wrong
    │       ├── TariffLimitError         402: the tariff's limit is reached
    │       ├── PermissionDeniedError    403: the token's role lacks the right
    │       ├── RateLimitError           429: too many requests
    │       └── ServerError              5xx
    └── BatchError                   a bulk run left lines that were not applied

Every message is one sentence that says what happened and to which order line. The facts are attributes. For each
class, ``effect`` says what the server may have applied, and ``remedy`` what to do next. Neither the token nor a raw
body is ever part of an error. Errors can be pickled; two of one class with the same facts are equal.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "APIError",
    "AltcraftError",
    "AttemptTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BatchError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "DeadlineError",
    "DeliveryError",
    "EventLoopError",
    "InputChangedError",
    "InvalidUpdateError",
    "JournalError",
    "MissingExtraError",
    "NotSentError",
    "OutageError",
    "OutboxError",
    "OutboxFullError",
    "PermissionDeniedError",
    "RateLimitError",
    "ResponseTooLargeError",
    "RetryBudgetError",
    "RunFailedError",
    "RunStoppedError",
    "ServerError",
    "SourceError",
    "StorageError",
    "TariffLimitError",
    "TransportError",
    "UnreadableResponseError",
    "api_error",
]


class AltcraftError(Exception):
    """The base of every error that this library raises.

    ``message`` says what happened. Each class has two texts for people: ``effect`` says what the server may have
    applied when this error occurs, ``remedy`` what to do next. An error that a gathering bulk call raises has the
    ``report`` of the run so far; elsewhere it is None.
    """

    effect: ClassVar[str] = "see the attributes of the error"
    remedy: ClassVar[str] = "Catch its subclasses one by one, or log the error and raise it again."

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.report: Any = None

    def __eq__(self, other: object) -> bool:
        """Compare class and facts, as a copy in another process has them."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        """Go with `__eq__`: equal errors have one message."""
        return hash((type(self), self.message))


class ConfigurationError(AltcraftError, ValueError):
    """A setting cannot work; ``field`` names it. Nothing was sent."""

    effect = "nothing"
    remedy = "Correct the setting that the message names; `altcraft-async doctor` checks them all."

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ClientClosedError(AltcraftError, RuntimeError):
    """The client was used after ``aclose()``, or closed while the call still waited. Nothing was sent."""

    effect = "nothing of this call"
    remedy = "Make a new client, or close the old one only after its last call."

    def __init__(self, message: str = "the client is closed; make a new one") -> None:
        super().__init__(message)


class EventLoopError(AltcraftError, RuntimeError):
    """The client was used from another event loop than the one of its first call. Nothing was sent.

    It is also raised in a process that was forked while a client was in use, and by a blocking client in a thread with
    a running event loop.
    """

    effect = "nothing"
    remedy = (
        "Make one client in each event loop, and after a fork one in each process; "
        "in a thread with a running event loop use the asynchronous client."
    )


class MissingExtraError(AltcraftError, ImportError):
    """An optional library is absent; the message names the extra to install."""

    effect = "nothing"
    remedy = "Install the extra that the message names."


class Unit(enum.StrEnum):
    """What the places in an input are counted in."""

    LINE = "line"
    """Lines of a text file."""
    ROW = "row"
    """Rows of a workbook's sheet, of a file of columns, or of a data frame."""


class InvalidUpdateError(AltcraftError, ValueError):
    """One input row, or a value of the Market, cannot be sent, and was not.

    ``field`` is the name of the wrong field if one is the cause, ``line`` the 1-based place of the row if it came from
    an input. ``unit`` says what ``line`` counts: lines, or for a workbook, columns and a data frame rows. ``ids`` are
    the three ids of an update as the input has them, None for each that is no text or whole number; None altogether if
    they are not known.
    """

    effect = "nothing"
    remedy = "Correct the row and send it again; the other rows are not affected."

    def __init__(  # noqa: PLR0913 - what is known of a row
        self,
        message: str = "",
        *,
        field: str | None = None,
        source: str | None = None,
        line: int | None = None,
        unit: Unit = Unit.LINE,
        ids: tuple[str | None, str | None, str | None] | None = None,
    ) -> None:
        super().__init__(message)
        self.field = field
        self.source = source
        self.line = line
        self.unit = unit
        self.ids = ids

    def __str__(self) -> str:
        """Return the message, after the input and the place in it where they are known."""
        if self.line is None:
            return self.message
        return f"{self.source or 'input'}, {self.unit} {self.line}: {self.message}"


class SourceError(AltcraftError):
    """The iterable of updates raised; its error is the ``__cause__``.

    Updates that had been taken from it by then were delivered as usual. ``taken`` counts
    them.
    """

    effect = "the updates that were taken before: see `report` or the outcomes so far"
    remedy = "Fix the cause (`__cause__`), and go on after the `taken` updates."

    def __init__(self, message: str = "", *, taken: int = 0) -> None:
        super().__init__(message)
        self.taken = taken


class RunFailedError(AltcraftError):
    """A bulk run failed for a reason that is neither a line's, the source's nor a file's; see the ``__cause__``.

    Requests under way got their time to end.
    """

    effect = "the updates that were sent before: see `report`"
    remedy = (
        "Look at the `__cause__`: it names the defect. Then send the updates that `report` does not have as applied."
    )


class StorageError(AltcraftError):
    """A file that keeps updates cannot be used; ``path`` is the file.

    The message says why, and what to do. Nothing that the file held by then is lost.
    """

    effect = "the updates that were sent before; the file has their known outcomes"
    remedy = "Fix what the message names (disk, rights, another process that uses the file), then open it again."

    def __init__(self, message: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class JournalError(StorageError):
    """The journal of a run cannot be used; sending has stopped.

    Committed outcomes survive. Updates without a recorded outcome are in doubt; when the run goes on, they are sent
    again under their old ids.
    """

    effect = "the updates that were sent before, some of them perhaps not yet in the journal"
    remedy = (
        "Fix the cause that the message names, then run again with the same journal: updates in doubt go out under "
        "their old ids."
    )


class InputChangedError(JournalError):
    """The input is not the one that the journal records.

    ``index`` is the 0-based place of the first update that differs. Nothing from
    there on was sent.
    """

    effect = "the updates that the journal records, nothing from the differing update on"
    remedy = "Give the input that the run began with, or begin a new run with another journal."

    def __init__(self, message: str = "", *, path: str | None = None, index: int | None = None) -> None:
        super().__init__(message, path=path)
        self.index = index


class OutboxError(StorageError):
    """The outbox cannot be used, or was closed; the update was not accepted.

    ``maybe_accepted`` is true if the connection to the database was lost at the end of a put, so that nobody knows.
    Then put the update again under ``request_id``: that makes sure, and changes nothing twice.
    """

    effect = "nothing: the update was not accepted, unless `maybe_accepted` is true"
    remedy = (
        "Fix the cause that the message names, or refuse the work that the update came with. If `maybe_accepted` is "
        "true, put the update again with the same `request_id`."
    )

    def __init__(self, message: str = "", *, path: str | None = None, maybe_accepted: bool = False) -> None:
        super().__init__(message, path=path)
        self.maybe_accepted = maybe_accepted
        self.request_id: str | None = None


class OutboxFullError(OutboxError):
    """The outbox has reached its ``capacity``. The update was not accepted."""

    effect = "nothing: the update was not accepted"
    remedy = "Put the update later, or find out why the outbox does not drain: its dead letters, the token, the server."

    def __init__(self, message: str = "", *, path: str | None = None, capacity: int = 0) -> None:
        super().__init__(message, path=path)
        self.capacity = capacity


class DeliveryError(AltcraftError):
    """One call did not end in success.

    ``subject`` names the thing concerned (for an order line ``"order line order_1/line_1"``), ``request_id`` is the
    ``Request-ID`` under which sending again is safe, ``attempts`` counts the requests that were sent, and
    ``maybe_applied`` is true if the server may have made the change.
    """

    effect = "perhaps the change: see `maybe_applied`"
    remedy = "If `maybe_applied` is true, send again with the same `request_id`, else do as its class says."

    def __init__(self, message: str = "", *, maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied
        self.subject: str | None = None
        self.request_id: str | None = None
        self.attempts = 0

    def __str__(self) -> str:
        """Return the message with its subject, attempts and id where known."""
        parts = [f"{self.subject}: {self.message}" if self.subject else self.message]
        if self.attempts:
            times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
            parts.append(f" (after {times}, Request-ID {self.request_id})")
        if self.maybe_applied:
            parts.append("; the change may have been applied")
        return "".join(parts)


class NotSentError(DeliveryError):
    """An attempt that was due could not be made.

    If an earlier attempt may have been applied, ``maybe_applied`` is true; otherwise the server never took the call,
    and sending it again is safe.
    """

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = "Send again, with the same `request_id` if `maybe_applied` is true."


class DeadlineError(NotSentError, TimeoutError):
    """No time was left for an attempt that could finish."""

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = "Send again with more time, with the same `request_id` if `maybe_applied` is true."


class OutageError(NotSentError):
    """The server serves nobody, for longer than the caller waits; the next probe is in ``retry_after`` seconds.

    See `altcraft_async.OutagePolicy` for how long a caller waits.
    """

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = (
        "Check that the platform is up (`altcraft-async doctor`), then send again, with the same `request_id` if "
        "`maybe_applied` is true; or wait longer (`OutagePolicy`)."
    )

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RetryBudgetError(NotSentError):
    """The client's shared retry budget was empty: the service looks down."""

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = (
        "Wait until the service is up again, then send again, with the same `request_id` if `maybe_applied` is true."
    )


class RunStoppedError(NotSentError):
    """The run was stopped before this line's turn came."""

    effect = "nothing, unless `maybe_applied` is true because of an attempt under way"
    remedy = (
        "Fix the cause that the message names, then send again, with the same `request_id` if `maybe_applied` is true."
    )


class TransportError(DeliveryError):
    """No answer at all."""

    effect = "perhaps the change: see `maybe_applied`"
    remedy = "Send again with the same `request_id`; if the error stays, `altcraft-async doctor` looks for the reason."


class ConnectError(TransportError, ConnectionError):
    """No connection could be made, so nothing was sent.

    ``local`` is true if this machine is the reason, not the server: it has no more open files, buffers or ports.
    """

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = "Check the address, the network and that the server is up (`altcraft-async doctor`), then send again."

    def __init__(self, message: str = "", *, maybe_applied: bool = False, local: bool = False) -> None:
        super().__init__(message, maybe_applied=maybe_applied)
        self.local = local


class ConnectionLostError(TransportError, ConnectionError):
    """The connection broke after the request may have gone out."""

    effect = "perhaps the change: see `maybe_applied`"
    remedy = "Send again with the same `request_id`, within the platform's deduplication window (a day)."

    def __init__(self, message: str = "", *, maybe_applied: bool = True) -> None:
        super().__init__(message, maybe_applied=maybe_applied)


class AttemptTimeoutError(TransportError, TimeoutError):
    """No answer came within the attempt's timeout."""

    effect = "perhaps the change"
    remedy = (
        "Send again with the same `request_id`; if the error stays, allow more time (`Timeout.total`) or send less at "
        "once."
    )

    def __init__(self, message: str = "", *, maybe_applied: bool = True) -> None:
        super().__init__(message, maybe_applied=maybe_applied)


class UnreadableResponseError(DeliveryError):
    """An answer came that is not an envelope of the API.

    ``status`` is its HTTP status, 0 if even that is not known. ``retry_after`` is the text of its header if the body
    was cut off, unreadable or too long.
    """

    effect = "perhaps the change"
    remedy = (
        "Check that the address is the platform's and no proxy answers (`altcraft-async doctor`), then send again "
        "with the same `request_id`."
    )

    def __init__(
        self, message: str = "", *, status: int = 0, retry_after: str | None = None, maybe_applied: bool = True
    ) -> None:
        super().__init__(message, maybe_applied=maybe_applied)
        self.status = status
        self.retry_after = retry_after


class ResponseTooLargeError(UnreadableResponseError):
    """An answer was longer than ``max_response_bytes`` and was not read."""

    effect = "perhaps the change"
    remedy = "Raise `max_response_bytes`, or ask for less; you may send an update again with the same `request_id`."


class APIError(DeliveryError):
    """The server answered, and the answer is not success.

    ``status`` is the HTTP status; ``code`` and ``text`` are the envelope's
    ``error`` and ``error_text`` (``code`` is None when the body was no
    envelope); ``duplicate`` is true when the answer was a replay of an earlier
    one to the same ``Request-ID``. ``location`` is where a redirect leads, without
    its query, or empty.
    """

    effect = "nothing, unless `maybe_applied` is true"
    remedy = "Read `code` and `text`, correct the cause that they name, and send again as a new change."

    advice: ClassVar[str] = ""

    def __init__(  # noqa: PLR0913 - the facts of one answer
        self,
        message: str = "",
        *,
        status: int = 0,
        code: int | None = None,
        text: str = "",
        duplicate: bool = False,
        retry_after: float | None = None,
        maybe_applied: bool = False,
        location: str = "",
    ) -> None:
        super().__init__(message, maybe_applied=maybe_applied)
        self.status = status
        self.code = code
        self.text = text
        self.duplicate = duplicate
        self.retry_after = retry_after
        self.location = location


class BadRequestError(APIError):
    """400: the server calls the request itself incorrect."""

    effect = "nothing"
    remedy = (
        "Read what the server says (`text`): mostly the platform does not know an id; correct it, and send the row "
        "again as a new change."
    )


class AuthenticationError(APIError):
    """401: the token is missing or wrong."""

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = "Check the token: `ALTCRAFT_TOKEN`, and whether it is still valid on the platform."

    advice = "; check the token"


class TariffLimitError(APIError):
    """402: the limit of the account's tariff is reached."""

    effect = "nothing"
    remedy = "Have the limit of the account's tariff raised, then send again."

    advice = "; the account's tariff limit is reached"


class PermissionDeniedError(APIError):
    """403: the token's role does not include the Market."""

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = "Give the token's role the right to the Market, then send again."

    advice = "; check that the token's role includes the market"


class RateLimitError(APIError):
    """429: too many requests; ``retry_after`` is in seconds, or None."""

    effect = "nothing, unless `maybe_applied` is true because of an earlier attempt"
    remedy = "Send again later, after `retry_after` if it is given; lower `rate` or `concurrency` if the error stays."


class ServerError(APIError):
    """5xx: the server failed; the change may or may not have been made."""

    effect = "perhaps the change: see `maybe_applied`"
    remedy = (
        "Wait until the service is up again, then send again with the same `request_id`; if `duplicate` is true, as a "
        "new change."
    )


_BY_CODE: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: TariffLimitError,
    403: PermissionDeniedError,
    429: RateLimitError,
}


def api_error(  # noqa: PLR0913 - the facts of one answer
    *,
    status: int,
    code: int | None = None,
    text: str = "",
    duplicate: bool = False,
    retry_after: float | None = None,
    maybe_applied: bool = False,
    location: str = "",
) -> APIError:
    """Make the error of the right class for an answer that is not success.

    ``code``, the envelope's own, decides the class; without it, ``status``. `location` is where
    a redirect leads.
    """
    number = status if code is None else code
    kind = _BY_CODE.get(number) or (ServerError if 500 <= number <= 599 else APIError)  # noqa: PLR2004
    said = f"the server answered error {code}" if code is not None else f"the server answered HTTP {status}"
    if text:
        said += f" ({text})"
    if code is not None and status not in {200, code}:
        said += f" with HTTP {status}"
    if duplicate:
        said += ", replayed for this Request-ID"
    return kind(
        said + (kind.advice if code is not None else _without_envelope(kind, status, location)),
        status=status,
        code=code,
        text=text,
        duplicate=duplicate,
        retry_after=retry_after,
        maybe_applied=maybe_applied,
        location=location,
    )


def _without_envelope(kind: type[APIError], status: int, location: str) -> str:
    """Say what an answer without an envelope of the API may come from."""
    if location:
        return f", a redirect to {location}; give the address that it leads to"
    if kind in {AuthenticationError, PermissionDeniedError}:
        return f" without the API's envelope{kind.advice}, and whether a firewall or proxy stands before the platform"
    if (status >= 500 and status != 501) or status in {408, 425, 429}:  # noqa: PLR2004 - what a proxy says of its own accord
        return ""
    if status == 413:  # noqa: PLR2004 - too large
        return " without the API's envelope: what stands before the platform takes no request of this size"
    return " without the API's envelope; check the address, and whether a firewall or proxy stands before the platform"


class BatchError(AltcraftError):
    """A bulk run left lines that were not applied; ``report`` has every outcome.

    ``failures`` holds the outcomes concerned, in input order.
    """

    effect = "all updates but the `failures`; for these, see each outcome"
    remedy = "Go through `failures`: each state says whether it is safe to send again, each error why it failed."

    def __init__(self, message: str = "", *, report: object | None = None, failures: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.report = report
        self.failures = failures
