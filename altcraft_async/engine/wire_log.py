"""The wire log: one JSON object a request, for support, without token and bodies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from altcraft_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.engine.carrier import Transport
    from altcraft_async.protocol.wire import WireRequest, WireResponse

__all__ = ["LoggedTransport"]

_SHOWN = (
    "content-type", "content-length", "content-encoding", "retry-after", "duplicate-request", "x-duplicate-request",
    "server", "via", "date", "connection",
)  # fmt: skip
"""Headers of an answer that are of use to support; all others, cookies among them, stay out."""

_MAX_TEXT = 200
_WORD = re.compile(r"[^\s,;=/?&:\"']{6,}")
_log = logging.getLogger("altcraft_async")


class LoggedTransport:
    """Sends with `inner`, and hands one line of JSON about each request to `write`.

    A line has the keys ``time`` (Unix), ``path``, ``request_id``, ``sent`` and
    ``received`` (bytes of the bodies), ``status``, ``headers`` (of the answer, by
    an allow-list, without words that were in the request), ``body`` (what it looks
    like: ``json``, ``xml``, ``html``, ``empty`` or ``other``), ``seconds``,
    ``fresh`` (a connection of its own), ``resent`` (after a kept connection died)
    and ``error`` (a class). What is not known is null. `closing`, where given, is
    called after the inner transport was closed.
    """

    __slots__ = ("_clock", "_closing", "_inner", "_write")

    def __init__(
        self,
        inner: Transport,
        write: Callable[[str], object],
        *,
        closing: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._write = write
        self._closing = closing
        self._clock = clock

    @classmethod
    def to_file(cls, inner: Transport, path: str | os.PathLike[str]) -> LoggedTransport:
        """Log to the end of the file at `path`, which only its owner may read where it is new.

        Raises `ConfigurationError` where it cannot be opened.
        """
        file = _LogFile(path)
        return cls(inner, file.write, closing=file.close)

    def __repr__(self) -> str:
        """Show what is logged."""
        return f"<LoggedTransport of {self._inner!r}>"

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request` with the inner transport, and log how it ended, also where it was cancelled."""
        at, now = self._clock(), asyncio.get_running_loop().time
        started = now()
        response: WireResponse | None = None
        failure: BaseException | None = None
        try:
            response = await self._inner.send(request, connect=connect, total=total, max_bytes=max_bytes, fresh=fresh)
        except BaseException as error:
            failure = error
            raise
        finally:
            line = {"time": round(at, 3), **_asked(request), "fresh": fresh, **_heard(request, response, failure)}
            self._write(json.dumps({**line, "seconds": round(now() - started, 6)}) + "\n")
        return response

    async def aclose(self) -> None:
        """Close the inner transport, then the log."""
        try:
            await self._inner.aclose()
        finally:
            if self._closing is not None:
                self._closing()


def _asked(request: WireRequest) -> dict[str, object]:
    own = {name.lower(): value for name, value in request.headers.items()}
    request_id = own.get("request-id") or own.get("x-request-id")
    return {"path": request.path, "request_id": request_id, "sent": len(request.body)}


def _heard(request: WireRequest, response: WireResponse | None, failure: BaseException | None) -> dict[str, object]:
    error = None if failure is None else type(failure).__name__
    if response is None:
        status = getattr(failure, "status", None) or None
        return {"status": status, "headers": {}, "received": None, "body": None, "resent": None, "error": error}
    return {
        "status": response.status,
        "headers": _allowed(response.headers, request),
        "received": len(response.body),
        "body": _kind(response.body),
        "resent": response.resent,
        "error": error,
    }


def _allowed(headers: Mapping[str, str], request: WireRequest) -> dict[str, str]:
    shown = {name: headers[name] for name in _SHOWN if name in headers}
    location = headers.get("location")
    if location is not None:  # where to, but not with what: a query can hold anything
        try:
            parts = urlsplit(location)
            host = f"//{parts.hostname}" if parts.hostname else ""
            shown["location"] = f"{parts.scheme}:" * bool(parts.scheme) + host + parts.path
        except ValueError:
            shown["location"] = "(unreadable)"
    # a server that repeats what it was sent must not bring the token into the file
    asked = request.body.decode("utf-8", "replace") + request.headers.get("Authorization", "")
    return {
        name: _WORD.sub(
            lambda word: "***" if word[0] in asked or unquote(word[0]) in asked else word[0], value[:_MAX_TEXT]
        )
        for name, value in shown.items()
    }


def _kind(body: bytes) -> str:
    """Tell by its beginning what a body is."""
    start = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower()
    if not start:
        return "empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if start[:1] in {b"{", b"["}:
        return "json"
    return "xml" if start[:1] == b"<" else "other"


class _LogFile:
    """The file of a wire log; where it cannot be written the calls go on without it, with one warning."""

    __slots__ = ("_file", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            msg = f"the wire log {self._path} cannot be opened ({error.strerror})"
            raise ConfigurationError(msg, field="wire_log") from None

    def write(self, line: str) -> None:
        if self._file < 0:
            return
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            _log.warning("the wire log %s cannot be written (%s); it ends here", self._path, error.strerror)
            self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
