"""How a call of the admin API is read and answered: JSON in and out, checked by its row in the table of routes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import attrs
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.sandbox.routes import Argument, Route

__all__ = [
    "ADMIN_BODY", "EVENTS", "PAGE_FILES", "PREFIX", "SAFE_HEADERS", "Given", "Problem", "dumps", "file_answer",
    "json_answer", "last_seen", "read_given", "text_answer",
]  # fmt: skip

EVENTS: Final = "text/event-stream"
PREFIX: Final = "/_sandbox/"
ADMIN_BODY: Final = 256 * 2**20
"""Bytes of a call's body: a snapshot of a hundred thousand orders fits."""
SAFE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PAGE_FILES: Final = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Problem(Exception):  # noqa: N818 - an answer of the admin API, not an error of the library
    """The call is refused with this status and text."""

    def __init__(self, status: int, text: str, field: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.field = field


@attrs.frozen
class Given:
    """What came with a call: the request itself, its arguments by name, each checked, and the body as a whole."""

    http: web.BaseRequest
    fields: Mapping[str, Any]
    body: Any

    def text(self, name: str) -> str:
        """Return an argument that is a text, empty where it was left out."""
        return str(self.fields.get(name, ""))

    def number(self, name: str, default: int) -> int:
        """Return an argument that is a number, `default` where it was left out."""
        return int(self.fields.get(name, default))


async def read_given(request: web.BaseRequest, route: Route, parts: Mapping[str, str]) -> Given:
    """Read what came with a call, `parts` of its path among it; raises `Problem` for what its row does not allow."""
    raw = {**parts, **request.rel_url.query}
    fields: dict[str, Any] = {}
    for one in route.arguments:
        if one.place != "body" and one.name in raw:
            fields[one.name] = _from_text(one, raw[one.name])
    body = await _body(request) if route.takes_body else None
    if route.takes_body and route.body is None:
        fields |= _body_fields(route, body)
    return Given(request, fields, body)


def _from_text(argument: Argument, text: str) -> object:
    if argument.kind == "text":
        return text
    if not text.isascii() or not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - what a JSON reader takes whole
        raise Problem(400, f"{argument.name} must be a whole number", argument.name)
    return int(text)


async def _body(request: web.BaseRequest) -> Any:
    # A form of another site can send any other type without asking first.
    if request.content_type != "application/json":
        raise Problem(415, "the body must be JSON, with Content-Type: application/json")
    try:
        return json.loads(await request.read(), parse_constant=_no_number)
    except web.HTTPRequestEntityTooLarge:
        raise Problem(413, f"the body is longer than {ADMIN_BODY} bytes") from None
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {str(error)[:200]}") from None


def _no_number(name: str) -> object:
    msg = f"{name} is no number"
    raise ValueError(msg)


def _body_fields(route: Route, body: object) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise Problem(400, "the body must be an object")
    wanted = {one.name: one for one in route.arguments if one.place == "body"}
    for name in body.keys() - wanted.keys():
        raise Problem(400, f"{name[:80]} is not known here; known are {', '.join(wanted)}", name)
    for name, one in wanted.items():
        if name not in body:
            if one.required:
                raise Problem(400, f"{name} is missing: {one.help}", name)
        elif not _FITS[one.kind](body[name]):
            raise Problem(400, f"{name} must be {_WORDS[one.kind]}: {one.help}", name)
    return body


_FITS: Final[Mapping[str, Callable[[object], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "whole": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict | list),
}
_WORDS = {"text": "a text", "whole": "a whole number", "array": "an array", "object": "an object"}


def last_seen(request: web.BaseRequest, default: int) -> int:
    """Return the number of the last event that a browser has got before it came back, else `default`."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else default  # noqa: PLR2004


def dumps(told: object) -> str:
    """Write JSON."""
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def json_answer(text: str, status: int = 200) -> web.Response:
    """Answer with JSON that is written."""
    return web.Response(
        body=text.encode("utf-8", "replace"),
        status=status,
        headers={**SAFE_HEADERS, "Content-Type": "application/json"},
    )


def text_answer(text: str, kind: str) -> web.Response:
    """Answer with a text of this type."""
    return web.Response(body=text.encode(), headers={**SAFE_HEADERS, "Content-Type": f"{kind}; charset=utf-8"})


def file_answer(name: str) -> web.Response:
    """Answer with a file of the page."""
    text = files("altcraft_async.sandbox").joinpath("page", name).read_text("utf-8")
    return text_answer(text, PAGE_FILES[name])
