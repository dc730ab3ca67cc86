"""Problem documents in the OpenAPI of a FastAPI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from altcraft_async.integrations.web import PROBLEM_MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fastapi import FastAPI
    from fastapi.dependencies.models import Dependant

__all__ = ["show_problems"]

_NAME = "Problem"
_SCHEMA = {
    "title": _NAME,
    "description": "A problem document (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "description": "What kind of problem it is."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string", "description": "Ask again under this id, and nothing is made twice."},
        "maybe_applied": {"type": "boolean", "description": "Whether the change may have been made."},
        "maybe_accepted": {"type": "boolean", "description": "Whether the update may have been accepted."},
        "retry_after": {"type": "integer", "description": "In how many seconds asking again makes sense."},
        "field": {"type": "string", "description": "The field that is wrong."},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}
_SAID = {
    422: "The update is wrong.",
    502: "Altcraft did not take the call.",
    503: "Not now; Retry-After says when.",
    504: "The time was over.",
}


def show_problems(app: FastAPI, statuses: Mapping[Callable[..., object], tuple[int, ...]]) -> None:
    """Add to the OpenAPI of `app` what its operations answer when a call fails, by the dependencies that they use."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = make()
        for route in app.routes:
            dependant: Dependant | None = getattr(route, "dependant", None)
            if dependant is None or not getattr(route, "include_in_schema", False):
                continue
            used = {status for call in _calls(dependant) for status in statuses.get(call, ())}
            operations = document.get("paths", {}).get(getattr(route, "path_format", ""), {})
            for method in getattr(route, "methods", ()) if used else ():
                _add(operations.get(method.lower(), {}).setdefault("responses", {}), used)
                document.setdefault("components", {}).setdefault("schemas", {})[_NAME] = _SCHEMA
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _calls(dependant: Dependant) -> Iterator[Callable[..., object]]:
    if dependant.call is not None:
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _add(responses: dict[str, Any], statuses: set[int]) -> None:
    for status in sorted(statuses):
        response = responses.setdefault(str(status), {"description": _SAID[status]})
        response.setdefault("content", {})[PROBLEM_MEDIA_TYPE] = {"schema": {"$ref": f"#/components/schemas/{_NAME}"}}
