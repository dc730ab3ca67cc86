"""The errors of the library: one tree, one base.

.. code-block:: text

    AltcraftError
    ├── ConfigurationError           a setting that cannot work; nothing was sent
    ├── ClientClosedError            the client was used after its aclose()
    ├── MissingExtraError            an optional library is not installed
    ├── InvalidUpdateError           one input row is wrong; it was not sent
    ├── SourceError                  the caller's own iterable of updates raised
    ├── StorageError                 a file that keeps updates cannot be used
    │   ├── JournalError               the journal of a run
    │   │   └── InputChangedError        the input is not the one that it records
    │   └── OutboxError                the outbox of a service, or it was closed
    │       └── OutboxFullError          it holds as many updates as it may
    ├── DeliveryError                one call did not end in success
    │   ├── NotSentError               an attempt that was due could not be made
    │   │   ├── DeadlineError            no time was left for an attempt
    │   │   ├── RetryBudgetError         the client's retry budget was empty
    │   │   └── RunStoppedError          the run ended before this line's turn
    │   ├── TransportError             no answer at all
    │   │   ├── ConnectError             no connection: nothing was sent
    │   │   ├── ConnectionLostError      cut while sending or waiting
    │   │   └── AttemptTimeoutError      no answer in time
    │   ├── UnreadableResponseError    an answer we cannot read
    │   │   └── ResponseTooLargeError    longer than ``max_response_bytes``
    │   └── APIError                   an answer we dislike
    │       ├── BadRequestError          400: the request is wrong
    │       ├── AuthenticationError      401: the token is missing or wrong
    │       ├── TariffLimitError         402: the tariff's limit is reached
    │       ├── PermissionDeniedError    403: the token's role lacks the right
    │       ├── RateLimitError           429: too many requests
    │       └── ServerError              5xx
    └── BatchError                   a bulk run left lines that were not applied

Every message is one sentence that says what happened and to which order line.
The facts stand beside it as attributes. Neither the token nor a raw body is
ever part of an error. Errors can be pickled.
"""

from __future__ import annotations

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
    "InputChangedError",
    "InvalidUpdateError",
    "JournalError",
    "MissingExtraError",
    "NotSentError",
    "OutboxError",
    "OutboxFullError",
    "PermissionDeniedError",
    "RateLimitError",
    "ResponseTooLargeError",
    "RetryBudgetError",
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
    """The base of every error that this library raises."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(AltcraftError, ValueError):
    """A setting cannot work; ``field`` names it. Nothing was sent."""

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ClientClosedError(AltcraftError, RuntimeError):
    """The client was used after ``aclose()``. Nothing was sent."""


class MissingExtraError(AltcraftError, ImportError):
    """An optional library is absent; the message names the extra to install."""


class InvalidUpdateError(AltcraftError, ValueError):
    """One input row cannot become an update; it was not sent.

    ``field`` is the name of the wrong field where one is to blame, ``line`` the
    1-based line of the input file where the row came from one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        field: str | None = None,
        source: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.field = field
        self.source = source
        self.line = line

    def __str__(self) -> str:
        """Give the message, after the file and line where they are known."""
        if self.line is None:
            return self.message
        return f"{self.source or 'input'}, line {self.line}: {self.message}"


class SourceError(AltcraftError):
    """The iterable of updates raised; its error is the ``__cause__``.

    What had been taken from it by then was delivered as usual. ``taken`` counts
    those updates; a gathering call also gives their ``report``.
    """

    def __init__(self, message: str = "", *, taken: int = 0, report: object | None = None) -> None:
        super().__init__(message)
        self.taken = taken
        self.report: Any = report


class StorageError(AltcraftError):
    """A file that keeps updates cannot be used; ``path`` is the file.

    The message says why, and what to do. Nothing that the file held by then is lost.
    """

    def __init__(self, message: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class JournalError(StorageError):
    """The journal of a run cannot be used; sending has stopped.

    What was committed survives. Updates without a recorded outcome are in doubt
    and are sent again, under their old ids, when the run is continued.
    ``report``, where a gathering call raised the error in the middle, has the
    outcomes that were committed.
    """

    def __init__(self, message: str = "", *, path: str | None = None, report: object | None = None) -> None:
        super().__init__(message, path=path)
        self.report: Any = report


class InputChangedError(JournalError):
    """The input is not the one that the journal records.

    ``index`` is the 0-based place of the first update that differs. Nothing from
    there on was sent.
    """

    def __init__(
        self, message: str = "", *, path: str | None = None, report: object | None = None, index: int | None = None
    ) -> None:
        super().__init__(message, path=path, report=report)
        self.index = index


class OutboxError(StorageError):
    """The outbox cannot be used, or was closed; the update was not accepted."""


class OutboxFullError(OutboxError):
    """The outbox holds as many updates as it may; ``capacity`` says how many. The update was not accepted."""

    def __init__(self, message: str = "", *, path: str | None = None, capacity: int = 0) -> None:
        super().__init__(message, path=path)
        self.capacity = capacity


class DeliveryError(AltcraftError):
    """One call did not end in success.

    ``subject`` names the thing concerned (for an order line
    ``"order line order_1/line_1"``), ``request_id`` is the ``Request-ID`` under
    which sending again is safe, ``attempts`` counts what was sent, and
    ``maybe_applied`` is true where the server may have made the change.
    """

    def __init__(self, message: str = "", *, maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied
        self.subject: str | None = None
        self.request_id: str | None = None
        self.attempts = 0

    def __str__(self) -> str:
        """Give the message with its subject, attempts and id where known."""
        parts = [f"{self.subject}: {self.message}" if self.subject else self.message]
        if self.attempts:
            times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
            parts.append(f" (after {times}, Request-ID {self.request_id})")
        if self.maybe_applied:
            parts.append("; the change may have been applied")
        return "".join(parts)


class NotSentError(DeliveryError):
    """An attempt that was due could not be made.

    Where an earlier attempt may have been applied, ``maybe_applied`` is true;
    otherwise the server never took the call, and sending it again is safe.
    """


class DeadlineError(NotSentError, TimeoutError):
    """No time was left for an attempt that could finish."""


class RetryBudgetError(NotSentError):
    """The client's shared retry budget was empty: the service looks down."""


class RunStoppedError(NotSentError):
    """The run was stopped before this line's turn came."""


class TransportError(DeliveryError):
    """No answer at all."""


class ConnectError(TransportError, ConnectionError):
    """No connection could be made, so nothing was sent."""


class ConnectionLostError(TransportError, ConnectionError):
    """The connection broke after the request may have gone out."""

    def __init__(self, message: str = "", *, maybe_applied: bool = True) -> None:
        super().__init__(message, maybe_applied=maybe_applied)


class AttemptTimeoutError(TransportError, TimeoutError):
    """No answer came within the attempt's timeout."""

    def __init__(self, message: str = "", *, maybe_applied: bool = True) -> None:
        super().__init__(message, maybe_applied=maybe_applied)


class UnreadableResponseError(DeliveryError):
    """An answer came that is not an envelope of the API."""

    def __init__(self, message: str = "", *, status: int = 0, maybe_applied: bool = True) -> None:
        super().__init__(message, maybe_applied=maybe_applied)
        self.status = status


class ResponseTooLargeError(UnreadableResponseError):
    """An answer was longer than ``max_response_bytes`` and was not read."""


class APIError(DeliveryError):
    """The server answered, and the answer is not success.

    ``status`` is the HTTP status; ``code`` and ``text`` are the envelope's
    ``error`` and ``error_text`` (``code`` is None when the body was no
    envelope); ``duplicate`` is true when the answer was a replay of an earlier
    one to the same ``Request-ID``.
    """

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
    ) -> None:
        super().__init__(message, maybe_applied=maybe_applied)
        self.status = status
        self.code = code
        self.text = text
        self.duplicate = duplicate
        self.retry_after = retry_after


class BadRequestError(APIError):
    """400: the server calls the request itself incorrect."""


class AuthenticationError(APIError):
    """401: the token is missing or wrong."""

    advice = "; check the token"


class TariffLimitError(APIError):
    """402: the limit of the account's tariff is reached."""

    advice = "; the account's tariff limit is reached"


class PermissionDeniedError(APIError):
    """403: the token's role does not include the Market."""

    advice = "; check that the token's role includes the market"


class RateLimitError(APIError):
    """429: too many requests; ``retry_after`` is in seconds where it was given."""


class ServerError(APIError):
    """5xx: the server failed; the change may or may not have been made."""


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
) -> APIError:
    """Make the error of the right class for an answer that is not success.

    ``code``, the envelope's own, decides the class; without it, ``status``.
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
        said + kind.advice,
        status=status,
        code=code,
        text=text,
        duplicate=duplicate,
        retry_after=retry_after,
        maybe_applied=maybe_applied,
    )


class BatchError(AltcraftError):
    """A bulk run left lines that were not applied; ``report`` has every outcome.

    ``failures`` holds the outcomes concerned, in input order.
    """

    def __init__(self, message: str = "", *, report: object | None = None, failures: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.report: Any = report
        self.failures = failures
