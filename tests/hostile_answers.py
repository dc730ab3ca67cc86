"""What the hostile server can be told to do, and what it writes: weather, misdeeds, manners, pages and envelopes."""

from __future__ import annotations

import dataclasses
import enum
import gzip
import json
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "hostile-token"
IDS = ("order_external_id", "order_line_external_id", "status_external_id")
REDIRECT_TARGET = "https://login.example/signin"

REFUSED_LINES = "refused"
"""Lines whose id begins so are answered with an envelope of error 400, always."""
FIREWALL_LINES = "firewall"
"""Lines whose id begins so meet a firewall's 403 page, always."""
FAILING_LINES = "failing"
"""Lines whose id begins so are answered with an envelope of error 500, always, and never made."""


class Weather(enum.StrEnum):
    """What everybody meets at the moment."""

    FAIR = "fair"
    REFUSED = "refused"  # nothing listens, and what was at work is lost
    RESET = "reset after the request"
    CLOSED = "closed without an answer"
    SILENT = "never answers"  # its connections are reset when it ends, as by a restart
    BLACK_HOLE = "never answers, even later"  # the same, but they are never heard of again
    ACCEPTS_ONLY = "accepts, then nothing"
    TLS_DROPPED = "dropped after the TLS handshake"
    TLS_FAILS = "TLS handshake fails"
    BAD_GATEWAY = "502 page"
    GATEWAY_TIMEOUT = "504 page"
    UNAVAILABLE = "503"
    UNAVAILABLE_1S = "503, Retry-After: 1"
    THROTTLED = "429"
    MAINTENANCE = "200 maintenance page"
    ERROR_500 = "500 envelope"
    FOREIGN_JSON = "foreign JSON"
    NOT_FOUND = "404 page"
    NOT_ALLOWED = "405 page"
    REDIRECT = "redirect"
    FORBIDDEN = "403 page"


class Misdeed(enum.StrEnum):
    """What one answer can meet; the mixture gives each its share."""

    DOUBLED = "the answer, and again 5 ms later"
    UNASKED_408 = "the answer, and 5 ms later a 408 page"
    UNASKED_REFUSAL = "the answer, and 5 ms later an envelope of error 400"
    GLUED = "two answers in one piece, the second an earlier one"
    ANOTHERS = "the answer of another line"
    LATE = "an answer that comes late"
    SPLIT = "an answer in small pieces"
    GZIP = "an answer compressed with gzip, unasked"
    CUT = "a body that is cut off"
    LOST = "made, and reset without an answer"
    BUSY = "made and lost, then 409 for the repeat"
    REPEAT_404 = "made and lost, then a 404 page for the repeat"
    REPEAT_405 = "made and lost, then a 405 page for the repeat"
    REPEAT_413 = "made and lost, then a 413 page for the repeat"
    REPEAT_400 = "made and lost, then a 400 page for the repeat"
    ERROR_500 = "an envelope of error 500, half of them for a change that was made"
    THROTTLED = "429"
    UNAVAILABLE = "503"
    BAD_GATEWAY = "502 page"
    CLOSES = "the connection is closed after the answer, without notice"
    IDLE_408 = "a 408 page on the idle connection, then closed"


@dataclasses.dataclass(frozen=True)
class Manners:
    """How the server works: `slots` calls at once, of `seconds` each; the others wait.

    `misdeeds` are shares of the answers; a request id meets at most two. With
    `close_each` no connection is kept, with `idle_close` none for longer than that, both
    without notice. A `LATE` answer comes after `late` seconds.
    """

    slots: int = 50
    seconds: float = 0.002
    misdeeds: Mapping[Misdeed, float] = dataclasses.field(default_factory=dict)
    close_each: bool = False
    idle_close: float | None = None
    late: float = 0.5
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Arrival:
    """One request that was read: when (monotonic), what, and on which connection (numbered from 1)."""

    at: float
    order: str
    line: str
    status: str
    request_id: str
    connection: int
    weather: Weather


@dataclasses.dataclass(frozen=True)
class Made:
    """One change that was made."""

    at: float
    order: str
    line: str
    status: str
    request_id: str


# -- what is written


def page(status: int, body: bytes, content_type: str = "text/html", **headers: str) -> bytes:
    """Write a whole answer; `headers` are names with ``_`` for ``-``."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def html(status: int, said: str, **headers: str) -> bytes:
    """Write a page as proxies and firewalls do."""
    body = f"<html><head><title>{status} {said}</title></head><body><h1>{said}</h1></body></html>\r\n"
    return page(status, body.encode(), **headers)


def _encoded(fields: Mapping[str, Any], form: str) -> tuple[bytes, str]:
    if form == "xml":
        return b'<?xml version="1.0" encoding="UTF-8"?>' + _element("xml", fields).encode(), "application/xml"
    return json.dumps(fields, ensure_ascii=False).encode(), "application/json"


def _element(name: str, value: Any) -> str:
    inner = "".join(_element(*field) for field in value.items()) if isinstance(value, dict) else escape(str(value))
    return f"<{name}>{inner}</{name}>"


def envelope(code: int, text: str, form: str, ids: tuple[str, ...] = (), *, status: int = 0, **headers: str) -> bytes:
    """Write the API's answer: with the echo of `ids` where there are some."""
    said: dict[str, Any] = {"error": code, "error_text": text}
    if ids:
        said["data"] = dict(zip(IDS, ids, strict=True))
    body, content_type = _encoded(said, form)
    return page(status or code or 200, body, content_type, **headers)


PAGES = {
    Weather.BAD_GATEWAY: html(502, "Bad Gateway"),
    Weather.GATEWAY_TIMEOUT: html(504, "Gateway Time-out"),
    Weather.UNAVAILABLE: html(503, "Service Temporarily Unavailable"),
    Weather.UNAVAILABLE_1S: html(503, "Service Unavailable", Retry_After="1"),
    Weather.THROTTLED: envelope(429, "too many requests", "json"),
    Weather.MAINTENANCE: html(200, "We will be back soon"),
    Weather.ERROR_500: envelope(500, "internal error", "json"),
    Weather.FOREIGN_JSON: page(200, b'{"status":"ok"}', "application/json"),
    Weather.NOT_FOUND: html(404, "Not Found"),
    Weather.NOT_ALLOWED: html(405, "Not Allowed", Allow="GET"),
    Weather.REDIRECT: html(302, "Found", Location=REDIRECT_TARGET),
    Weather.FORBIDDEN: html(403, "Forbidden"),
}


def zipped(said: bytes) -> bytes:
    """Compress the body of an answer."""
    head, _, body = said.partition(b"\r\n\r\n")
    body = gzip.compress(body)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Encoding: gzip", b"Content-Length: %d" % len(body), b"", b""]) + body
