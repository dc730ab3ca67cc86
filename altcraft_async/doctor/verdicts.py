"""What the end of the reading call says about the token and the address.

The guide does not say what a call for an unknown order is answered, nor whether
every refusal of a token is 401 or 403, so this says no more than can be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from altcraft_async.doctor.finding import Level, parted
from altcraft_async.errors import (
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    DeadlineError,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    TariffLimitError,
    TransportError,
    UnreadableResponseError,
)

if TYPE_CHECKING:
    from altcraft_async.errors import AltcraftError

__all__ = ["answered", "judge", "refused"]

_WRONG_ADDRESS = (
    "ALTCRAFT_BASE_URL must be the platform's own address, without a page's path behind it; if it is, a proxy or a "
    "login page in front of the platform answers: have it let /api/v1.1/ through."
)


def answered(error: AltcraftError | None) -> bool:
    """Say whether the API itself answered the call: with success, or with an error about the call."""
    if error is None:
        return True
    trouble = (AuthenticationError, PermissionDeniedError, TariffLimitError, RateLimitError, ServerError)
    return isinstance(error, APIError) and error.code is not None and not isinstance(error, trouble)


def refused(error: AltcraftError | None) -> bool:
    """Say whether the token was refused."""
    return isinstance(error, AuthenticationError | PermissionDeniedError)


_ALWAYS = (
    (ResponseTooLargeError, "", "Raise ALTCRAFT_MAX_RESPONSE_BYTES; or it is not the platform that answers there."),
    (UnreadableResponseError, "it is not the API that answers: ", _WRONG_ADDRESS),
    (
        (AttemptTimeoutError, DeadlineError),
        "no answer in time: ",
        "The platform takes connections and does not answer: it has too much to do, or a firewall keeps answers back.",
    ),
    (
        TransportError,
        "",
        "The platform, or something in front of it, cuts connections off: try again, and tell the operator.",
    ),
)
"""What is said before the message of an error without an answer of the API, and the remedy; the first counts."""
_BUSY = "Wait, and see whether other programs use this account at the same time; then try again."


def judge(error: AltcraftError | None) -> tuple[Level, str, str | None]:  # noqa: PLR0911 - one answer a kind
    """Return the level, what happened, and what to do."""
    if error is None:
        return Level.OK, "accepted: the API answered the reading call", None
    if not isinstance(error, APIError):
        for kind, before, advice in _ALWAYS:
            if isinstance(error, kind):
                return Level.FAILED, before + error.message, advice
        return Level.FAILED, *parted(error.message)
    said = error.message.removesuffix(error.advice)
    if answered(error):
        return Level.OK, f"accepted, as far as can be told: asked for an order that does not exist, {said}", None
    if isinstance(error, RateLimitError):
        return Level.WARNING, f"nothing can be told: {said}", _BUSY
    if refused(error):
        return Level.FAILED, f"refused: {said}", _about_token(error)
    if isinstance(error, ServerError):
        return Level.FAILED, said, _about_server(error)
    if isinstance(error, TariffLimitError):
        return Level.FAILED, said, "Have the limit of the account's tariff raised."
    return Level.FAILED, *_no_api(error)


def _about_token(error: APIError) -> str:
    if error.code is None:
        return (
            "The refusal is not the API's own: a proxy or firewall in front of it may refuse this machine. If not, "
            "check ALTCRAFT_TOKEN."
        )
    if isinstance(error, PermissionDeniedError):
        return "Give the token's role the right to the Market; or it is the token of another account."
    return "Compare ALTCRAFT_TOKEN with the token in the platform's settings, and see whether it is still valid there."


def _about_server(error: ServerError) -> str:
    if error.code is None:
        return "Something in front of the platform answers for it: wait, or ask the operator whether it is up."
    return "The platform fails by itself: wait, or tell the operator."


def _no_api(error: APIError) -> tuple[str, str]:
    """Judge an HTTP status without an envelope that is no known refusal."""
    if not 300 <= error.status <= 399:  # noqa: PLR2004 - the redirects
        return error.message, _WRONG_ADDRESS
    try:
        there = urlsplit(error.location)
    except ValueError:
        there = urlsplit("")
    if there.scheme not in {"http", "https"} or not there.hostname:
        return f"the address redirects (HTTP {error.status})", _WRONG_ADDRESS
    target = f"{there.scheme}://{there.netloc}"
    return f"the address redirects to {target}", f"Set ALTCRAFT_BASE_URL to {target}, if you trust it."
