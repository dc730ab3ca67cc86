"""The errors of aiohttp's client, of timeouts and of the operating system, as ours.

None of the originals is kept as a cause or context, because they can hold
request headers, and so the token.
"""

from __future__ import annotations

import errno
import os
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http import HttpProcessingError

from altcraft_async.engine.connections import UnaskedBytesError
from altcraft_async.errors import (
    AttemptTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    UnreadableResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.errors import AltcraftError

__all__ = ["map_cut_off", "map_error", "map_unsent", "no_status"]

_WRONG_ADDRESS = (
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.RedirectClientError,
    aiohttp.TooManyRedirects,
)
_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""What the operating system says where this machine has no more files, buffers or ports."""


def map_error(error: Exception) -> AltcraftError:  # noqa: PLR0911 - one answer a kind
    """Return our error for one of aiohttp's client, of a timeout, or of the operating system."""
    name = type(error).__name__
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return _no_connection(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(f"the proxy refused the connection (HTTP {error.status})")
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return ConnectError("the server's TLS certificate has another fingerprint")
    if isinstance(error, UnaskedBytesError):
        return ConnectionLostError(f"the connection broke ({error})", maybe_applied=False)
    if isinstance(error, _WRONG_ADDRESS):
        said = f"base_url does not lead to the API ({name}); give the platform's own address"
        return ConfigurationError(said, field="base_url")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UnreadableResponseError("the answer was cut off")
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):  # its status is aiohttp's own, no answer's
        return UnreadableResponseError(f"the answer is not valid HTTP ({name})")
    if isinstance(error, TimeoutError):
        return AttemptTimeoutError("no answer in time")
    return ConnectionLostError(f"the connection broke ({_reason(error)})")


def map_unsent(error: Exception, *, in_doubt: bool) -> AltcraftError:
    """Return our error for one that came up before the request could be written.

    With `in_doubt` the same request went out before, on a connection that died
    without an answer: then nobody may say that nothing was sent.
    """
    mapped = map_error(error)
    if in_doubt:
        return ConnectionLostError(f"the connection broke, and there is no other ({_reason(error)})")
    if isinstance(mapped, ConnectError) or (isinstance(mapped, ConnectionLostError) and not mapped.maybe_applied):
        return mapped
    return _no_connection(error)


def no_status(code: int) -> UnreadableResponseError:
    """Return our error for an answer whose status is none of HTTP's, though aiohttp reads it."""
    return UnreadableResponseError(f"the answer is not valid HTTP (status {code:03})", status=code)


def map_cut_off(error: AltcraftError, status: int, headers: Mapping[str, str]) -> AltcraftError:
    """Return `error`, which ended the reading of a body, with what the answer's head said."""
    if isinstance(error, UnreadableResponseError):
        error.status, error.retry_after = status, headers.get("Retry-After")
    elif isinstance(error, ConnectionLostError):
        return UnreadableResponseError("the answer was cut off", status=status, retry_after=headers.get("Retry-After"))
    return error


def _no_connection(error: Exception) -> ConnectError:
    local = getattr(_inner(error), "errno", None) in _LOCAL
    return ConnectError(f"no connection to the server ({_reason(error)})", local=local)


def _inner(error: BaseException) -> BaseException:
    return getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error


def _reason(error: BaseException) -> str:
    inner = _inner(error)
    if isinstance(inner, ssl.SSLError):
        why = getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or type(inner).__name__
        return f"TLS: {why.lower().replace('_', ' ')}"
    if isinstance(inner, TimeoutError):
        return "not in time"
    number = getattr(inner, "errno", None)
    if isinstance(inner, OSError) and isinstance(number, int) and number > 0:
        return os.strerror(number)
    return getattr(inner, "strerror", None) or type(inner).__name__
