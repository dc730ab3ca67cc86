"""One row a call of the admin API, and what is made of the rows: an OpenAPI document and a page that describes them.

Pure. The rows themselves stand in `admin`, beside what each call does; the docs' table is made of them too.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from altcraft_async.sandbox.forms import FAULT_FIELDS, FaultField, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Argument", "Body", "Route", "described", "openapi", "within"]

Place = Literal["path", "query", "body"]
_TYPES: Final = {"text": "string", "whole": "integer", "array": "array", "object": "object"}


@attrs.frozen
class Argument:
    """One argument of a call: where it stands and what it is, ``"text"``, ``"whole"``, ``"array"`` or ``"object"``."""

    name: str
    place: Place
    kind: str
    help: str
    required: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen
class Body:
    """A body that is one whole, not a few arguments: what it is, and its JSON schema."""

    help: str
    schema: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Route:
    """One call: its method and path below the prefix, with ``{names}``; what it does; what it takes and answers.

    `example` is a body to try.
    """

    method: Literal["GET", "PUT", "PATCH", "POST"]
    path: str
    summary: str
    answer: str
    call: Callable[..., Any]
    arguments: Sequence[Argument] = ()
    body: Body | None = None
    answers: str = "application/json"
    example: object = None

    @property
    def pattern(self) -> re.Pattern[str]:
        """The path as a pattern over a raw URL path, below the prefix."""
        parts = re.split(r"\{(\w+)\}", self.path)
        return re.compile(
            "".join(f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts))
        )

    @property
    def takes_body(self) -> bool:
        """Whether a body is expected."""
        return self.body is not None or any(one.place == "body" for one in self.arguments)


def within(prefix: str, route: Route) -> str:
    """Return a route's whole path."""
    return prefix.rstrip("/") + route.path


# -- OpenAPI ----------------------------------------------------------------------------------------


def fault_schema() -> dict[str, Any]:
    """Return the JSON schema of faults, from the table of their fields."""
    fields: dict[str, Any] = {name: _fault_field(field) for name, field in FAULT_FIELDS.items()}
    preset = {"type": "string", "description": "the name of a preset that the other fields change"}
    return {"type": "object", "properties": {"preset": preset, **fields}, "additionalProperties": False}


def _fault_field(field: FaultField) -> dict[str, Any]:
    kinds: dict[Kind, dict[str, Any]] = {
        Kind.SHARE: {"type": "number", "minimum": 0, "maximum": 1},
        Kind.NUMBER: {"type": "number", "minimum": 0},
        Kind.WHOLE: {"type": "integer", "minimum": 1},
        Kind.CHOICE: {"type": "string", "enum": list(field.choices)},
        Kind.TEXTS: {"type": "array", "items": {"type": "string"}},
        Kind.SCRIPT: {"type": "array", "items": {}},
        Kind.LINES: {"type": "array", "items": {"type": "object"}},
    }
    schema: dict[str, Any] = {**kinds[field.kind], "description": field.help}
    return {**schema, "type": [schema["type"], "null"]} if field.empty else schema


def openapi(routes: Sequence[Route], prefix: str, description: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these calls."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(within(prefix, route), {})[route.method.lower()] = _operation(route)
    problem = {
        "type": "object",
        "properties": {"error": {"type": "string"}, "field": {"type": ["string", "null"]}},
        "required": ["error"],
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Admin API of the Altcraft sandbox", "version": "1", "description": description},
        "paths": paths,
        "components": {"schemas": {"Faults": fault_schema(), "Problem": problem}},
    }


def _operation(route: Route) -> dict[str, Any]:
    outside = [one for one in route.arguments if one.place != "body"]
    schema = {"$ref": "#/components/schemas/Problem"}
    refused = {"description": "it was refused", "content": {"application/json": {"schema": schema}}}
    made: dict[str, Any] = {
        "operationId": route.call.__name__.strip("_"),
        "summary": route.summary,
        "parameters": [
            {
                "name": one.name,
                "in": one.place,
                "required": one.required or one.place == "path",
                "description": one.help,
                "schema": {"type": _TYPES[one.kind]},
            }
            for one in outside
        ],
        "responses": {"200": {"description": route.answer, "content": {route.answers: {}}}, "4XX": refused},
    }
    if route.takes_body:
        content: dict[str, Any] = {"schema": _body_schema(route)}
        if route.example is not None:
            content["example"] = route.example
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made


def _body_schema(route: Route) -> Mapping[str, Any]:
    if route.body is not None:
        return {"description": route.body.help, **route.body.schema}
    fields = [one for one in route.arguments if one.place == "body"]
    return {
        "type": "object",
        "properties": {one.name: {"type": _TYPES[one.kind], "description": one.help} for one in fields},
        "required": [one.name for one in fields if one.required],
        "additionalProperties": False,
    }


# -- the page that describes ------------------------------------------------------------------------


def described(routes: Sequence[Route], prefix: str, base_url: str) -> str:
    """Return the page that describes these calls, in HTML, with an example of each for curl."""
    rows = "".join(_section(route, prefix, base_url) for route in routes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Admin API of the sandbox</title>'
        f'<link rel="icon" href="{prefix}page/icon.svg">'
        f'<link rel="stylesheet" href="{prefix}page/page.css"></head><body class="described"><main>'
        '<p><a href="/">Back to the sandbox</a></p><h1>Admin API of the sandbox</h1>'
        "<p>Seed the sandbox, break it, look into it and check it, from any language. Bodies and answers are JSON; "
        "a refused call answers with its <code>error</code> and, where it is about one, the <code>field</code>. Only "
        f'programs of this machine may call it. The same for programs: <a href="{prefix}openapi.json">OpenAPI</a>.</p>'
        f"{rows}</main></body></html>"
    )


def _section(route: Route, prefix: str, base_url: str) -> str:
    path = within(prefix, route)
    summary, answer = html.escape(route.summary), html.escape(route.answer)
    parts = [f"<section><h2><code>{route.method} {html.escape(path)}</code></h2><p>{summary}. Answers {answer}.</p>"]
    items = [f"<li><code>{one.name}</code> ({_where(one)}): {html.escape(one.help)}</li>" for one in route.arguments]
    if route.body is not None:
        items.append(f"<li>the body: {html.escape(route.body.help)}</li>")
    if items:
        parts.append(f"<ul>{''.join(items)}</ul>")
    parts.append(f"<pre>{html.escape(example_of(route, prefix, base_url))}</pre></section>")
    return "".join(parts)


def _where(argument: Argument) -> str:
    place = {"path": "in the path", "query": "in the query", "body": "in the body"}[argument.place]
    kind = {"whole": "a whole number", "text": "a text", "array": "an array", "object": "an object"}[argument.kind]
    return f"{kind} {place}" + ("" if argument.required or argument.place == "path" else ", can be left out")


def example_of(route: Route, prefix: str, base_url: str) -> str:
    """Return a command of curl that makes the call."""
    path = within(prefix, route).replace("{order}", "order_1").replace("{line}", "line_1_1").replace("{number}", "1")
    url = base_url + path.replace("{name}", "page.css")
    verb = "" if route.method == "GET" else f"-X {route.method} "
    if not route.takes_body:
        return f"curl -s {verb}{url}"
    body = "@snapshot.json" if route.example is None else f"'{json.dumps(route.example)}'"
    return f"curl -s {verb}{url} -H 'Content-Type: application/json' -d {body}"
