"""The sans-IO protocol: a `Call` becomes a `WireRequest`, a `WireResponse` becomes a `Reply`.

The one place that knows the token. A request is written in the format that was
chosen; an answer is read by what arrived, whatever was asked: by its
``Content-Type`` where that is plain, else by its first byte. Its charset is
settled by `altcraft_async.protocol.charset`.

The values here are made anew for each call and are not frozen, for that would treble what
making them costs; nobody changes one.

Guide: "Working with User API", "Deduplication of requests".
"""

from __future__ import annotations

import re
from html import escape
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias
from urllib.parse import quote

import attrs

from altcraft_async.errors import ConfigurationError, UnreadableResponseError
from altcraft_async.kinds import check_token
from altcraft_async.protocol import json
from altcraft_async.protocol.charset import as_utf8, charset_of
from altcraft_async.protocol.plain import code_of, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from altcraft_async.protocol.values import JSON

__all__ = [
    "BatchCall",
    "Call",
    "Format",
    "Reply",
    "RowCodec",
    "TokenPlace",
    "Wire",
    "WireRequest",
    "WireResponse",
    "row_codec",
]

Format: TypeAlias = Literal["json", "xml"]
TokenPlace: TypeAlias = Literal["body", "header"]

_USUAL_CHARSETS = (None, "utf-8")
_SECRETS_OF_URL = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)
"""The user and password, query and fragment of a redirect's target."""


@attrs.define
class Call:
    """One method call: `method` is its path below ``/api/v1.1/``, `fields` its parameters."""

    method: str
    fields: Mapping[str, JSON] = attrs.field(repr=lambda fields: f"<{', '.join(fields)}>")


@attrs.frozen
class BatchCall(Call):
    """A call for many rows: `rows` are written already, by the `RowCodec` of the wire's request format."""

    rows: bytes = attrs.field(default=b"", repr=lambda rows: f"<{len(rows)} bytes>")


@attrs.define
class WireRequest:
    """What a transport sends: a POST to `path`, below the base URL."""

    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")


def _nothing() -> None:
    pass


@attrs.define
class WireResponse:
    """What a transport received; `headers` look names up without regard to case.

    `discard` closes the connection that the answer came on, so that nothing else
    is ever sent on it. It is for the moment in which ``send`` returns: later the
    connection may be at work for another call. `resent` is true where the same
    request had gone out before, on a kept connection that died without an answer:
    the server may have taken it then already. `unasked` is true where, since the answer
    before, a kept connection brought bytes that nobody had asked for.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    discard: Callable[[], None] = attrs.field(default=_nothing, repr=False, eq=False)
    resent: bool = False
    unasked: bool = False


@attrs.define
class Reply:
    """An answer, read.

    `code` and `text` are the envelope's ``error`` and ``error_text``; `code` is
    None when the body was no envelope, and `problem` then says why. `payload`
    is the whole envelope. `duplicate` is true for a replayed answer.
    `retry_after` is the header's text where the call did not succeed and there
    was one; a header that came twice is a list with commas. `location` is where a
    redirect leads, without its query and whatever else of it could hold a secret.
    """

    status: int
    code: int | None
    text: str = ""
    payload: Mapping[str, JSON] = attrs.field(factory=dict, repr=False)
    duplicate: bool = False
    retry_after: str | None = None
    problem: UnreadableResponseError | None = None
    location: str = ""


class Wire:
    """Writes requests and reads answers for one token and one choice of formats.

    `response_format` is what requests ask for with ``format``. With `token_in`
    ``"header"`` the token goes into ``Authorization: Bearer`` instead of the
    body. `request_id_header` is ``Request-ID``, or ``X-Request-ID`` for older
    platforms.
    """

    __slots__ = ("_choices", "_fixed_headers", "_request_id_header", "_secret", "_with_rows", "_write")

    def __init__(
        self,
        token: str,
        *,
        request_format: Format = "json",
        response_format: Format = "json",
        token_in: TokenPlace = "body",  # noqa: S107 - a place, not a password
        request_id_header: str = "Request-ID",
    ) -> None:
        check_token(token)
        self._secret = _pattern_of(token)
        self._choices = (request_format, response_format, token_in, request_id_header)
        self._request_id_header = request_id_header
        codec = _codec(request_format)
        fixed_fields: dict[str, JSON] = {"format": response_format}
        self._fixed_headers = {"Content-Type": codec.CONTENT_TYPE}
        if token_in == "body":  # noqa: S105
            fixed_fields = {"token": token, **fixed_fields}
        else:
            self._fixed_headers["Authorization"] = f"Bearer {token}"
        self._write = codec.writer(fixed_fields)
        self._with_rows = codec.with_rows

    def __repr__(self) -> str:
        """Show the headers' names only: never the token."""
        return f"<Wire {self._fixed_headers['Content-Type']}>"

    def with_token(self, token: str) -> Wire:
        """Return a wire with the same choices and another token, checked like the first.

        An answer is to be read by the wire that wrote its request: it hides the
        token that the server may repeat.
        """
        request_format, response_format, token_in, request_id_header = self._choices
        return Wire(
            token,
            request_format=request_format,
            response_format=response_format,
            token_in=token_in,
            request_id_header=request_id_header,
        )

    def encode(self, call: Call, request_id: str) -> WireRequest:
        """Write `call` under `request_id`.

        Raises `ConfigurationError` for parameters that the format cannot carry.
        """
        try:
            body = self._write(call.fields)
            if type(call) is BatchCall:
                body = self._with_rows(body, call.rows)
        except ConfigurationError:
            raise
        except (TypeError, ValueError, RecursionError):
            msg = f"the parameters of {call.method} hold a value that cannot be written; use JSON's plain types"
            raise ConfigurationError(msg, field="fields") from None
        return WireRequest(call.method, {**self._fixed_headers, self._request_id_header: request_id}, body)

    def decode(self, response: WireResponse) -> Reply:
        """Read `response`; what cannot be read becomes a `Reply` with a `problem`, never an exception."""
        headers = response.headers
        duplicate = (headers.get("Duplicate-Request") or headers.get("X-Duplicate-Request") or "").lower() == "true"
        try:
            payload = _decode_body(headers.get("Content-Type", ""), response.body)
            code = _code(payload.get("error"))
        except UnreadableResponseError as problem:
            problem.status, problem.retry_after = response.status, self.clean(headers.get("Retry-After")) or None
            return Reply(
                response.status,
                None,
                duplicate=duplicate,
                retry_after=_retry_after(headers),
                problem=problem,
                location=self.clean(_SECRETS_OF_URL.sub("", headers.get("Location") or "")),
            )
        if code == 0:  # the usual case pays for nothing more
            return Reply(response.status, 0, "", payload, duplicate)
        return Reply(
            response.status,
            code,
            self.clean(payload.get("error_text")),
            payload,
            duplicate,
            _retry_after(headers),
        )

    def clean(self, text: JSON) -> str:
        """Make the server's text fit for a log: no token, no control characters or lone surrogates, not too long."""
        if not isinstance(text, str):
            return ""
        return readable(self._secret.sub("***", text))


def _pattern_of(token: str) -> re.Pattern[str]:
    """Find a token in a text, also where it is written as JSON, XML, a URL or Python writes a text."""
    forms = {
        token,
        encode_basestring(token)[1:-1],
        escape(token),
        escape(token, quote=False),
        quote(token, safe=""),
        repr(token)[1:-1],
    }
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)


class RowCodec(Protocol):
    """What writes the rows of batches in a format.

    It raises `ValueError`, `TypeError`, `RecursionError` or `ConfigurationError` for what the format cannot carry.
    """

    def encode_row(self, row: Mapping[str, JSON], /) -> bytes:
        """Write one row."""

    def encode_rows(self, rows: list[dict[str, JSON]], /) -> bytes:
        """Write the rows of a batch, as `join_rows` puts them together."""

    def join_rows(self, rows: Iterable[bytes], /) -> bytes:
        """Put the rows of a batch together."""

    def length_of_rows(self, rows: bytes, count: int, /) -> int:
        """Say how many bytes the `count` rows of a batch are, one by one."""

    def split_rows(self, rows: bytes, /) -> list[bytes]:
        """Return each of the rows of a batch."""


class _Codec(RowCodec, Protocol):
    """What a wire asks of a format."""

    CONTENT_TYPE: str

    def writer(self, fixed: Mapping[str, JSON], /) -> Callable[[Mapping[str, JSON]], bytes]:
        """Return what writes a call's fields behind the fixed ones."""

    def with_rows(self, body: bytes, rows: bytes, /) -> bytes:
        """Return a written body with rows behind its fields."""

    def decode(self, body: bytes, /) -> dict[str, JSON]:
        """Read a body in UTF-8, or raise `UnreadableResponseError`."""


def _codec(name: Format) -> _Codec:
    """Return the codec of a format; the XML one is imported when it is first needed."""
    if name == "json":
        return json
    from altcraft_async.protocol import xml  # noqa: PLC0415 - most programs never need it

    return xml


def row_codec(request_format: Format) -> RowCodec:
    """Return what writes the rows of batches in a format."""
    return _codec(request_format)


def _retry_after(headers: Mapping[str, str]) -> str | None:
    # a header that came twice is two items of the mapping, and get() would give one of them
    values = [value for name, value in headers.items() if name.lower() == "retry-after"]
    return ", ".join(values) if values else None


def _decode_body(content_type: str, body: bytes) -> dict[str, JSON]:
    """Read a body by what it is: the first byte tells JSON from XML, the header tells HTML from both."""
    if body[:1] == b"{" and body[1:2] != b"\0" and charset_of(content_type) in _USUAL_CHARSETS:
        return json.decode(body)  # the usual case
    body = as_utf8(body, content_type)
    if not body:
        msg = "the answer is empty"
        raise UnreadableResponseError(msg)
    content_type = content_type.lower()
    if "html" in content_type or body[:14].lower().startswith((b"<!doctype html", b"<html")):
        msg = f"the answer of {len(body)} bytes is an HTML page, perhaps a proxy's"
        raise UnreadableResponseError(msg)
    if body.startswith((b"{", b"[")):
        return json.decode(body)
    if body.startswith(b"<") or "xml" in content_type:
        return _codec("xml").decode(body)
    if "json" in content_type:
        return json.decode(body)
    msg = f"the answer of {len(body)} bytes is neither JSON nor XML"
    raise UnreadableResponseError(msg)


def _code(value: JSON) -> int:
    """Return the envelope's ``error`` as a number."""
    code = code_of(value)
    if code is not None:
        return code
    what = "no" if value is None else "a wrong"
    msg = f"the answer has {what} error code, so it is not an envelope of the API"
    raise UnreadableResponseError(msg)
