"""What a snapshot of a sandbox looks like, and the check of one that comes from outside. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from altcraft_async.errors import ConfigurationError

__all__ = ["SNAPSHOT", "check_snapshot"]

SNAPSHOT: Final = "altcraft-sandbox-snapshot/1"
"""Stands in the field ``format``; another number is another shape."""

_TEXT = (str,)
_NUMBER = (int,)
_TIME = (int, float)
_MAYBE_TEXT = (str, type(None))
_CHANGE = (_TEXT, _MAYBE_TEXT)
"""A kind of value is a tuple of types; a row a tuple of kinds; an array a list of one kind; an object a dict, with
``...`` for the kind of every field that is not named."""

_ORDER_ROW = {"lines": [{"external_id": _TEXT}], "currency": _TEXT}
_SHAPE: Final[dict[Any, Any]] = {
    "format": _TEXT,
    "market": {
        "orders": [(_NUMBER, _TEXT, _TEXT, _TEXT, {...: _TEXT}, (_ORDER_ROW, type(None)))],
        "numbers_given": _NUMBER,
        "custom_statuses": [_TEXT],
        "goods": {
            "products": {"numbers_given": _NUMBER, "rows": [(_NUMBER, {"external_id": _TEXT, "name": _TEXT})]},
            "sku": {
                "numbers_given": _NUMBER,
                "rows": [(_NUMBER, {"external_id": _TEXT, "name": _TEXT, "product_external_id": _TEXT})],
            },
        },
    },
    "answers": [
        [(_TEXT, _TIME, ([_TEXT], type(None)), _NUMBER, _TEXT, _TEXT, _TEXT, _MAYBE_TEXT, _NUMBER, _TEXT)],
    ],
    "ledger": {
        "lines": [(_TEXT, _TEXT, [(_NUMBER, _MAYBE_TEXT, _TEXT, _TEXT)], [_CHANGE])],
        "rows": [(_TEXT, _TEXT, [_CHANGE])],
        "import_arrivals": [([(_TEXT, _TEXT)], _MAYBE_TEXT, _TEXT)],
        "answers": {...: _NUMBER},
        "arrivals": _NUMBER,
        "peak_in_flight": _NUMBER,
        "overlaps": _NUMBER,
        "repeats": _NUMBER,
        "id_conflicts": _NUMBER,
    },
}


def check_snapshot(document: object) -> None:
    """Raise `ConfigurationError` where `document` is no snapshot of this form; it names the place."""
    if not isinstance(document, Mapping) or document.get("format") != SNAPSHOT:
        msg = f"this is no snapshot of a sandbox: its field format must be {SNAPSHOT!r}"
        raise ConfigurationError(msg, field="format")
    _check("", document, _SHAPE)


def _check(place: str, value: object, shape: Any) -> None:
    if isinstance(shape, dict):
        _check_object(place, value, shape)
    elif isinstance(shape, list):
        _check_array(place, value, shape[0])
    elif all(isinstance(kind, type) for kind in shape):
        if isinstance(value, bool) or not isinstance(value, shape):
            _misfit(place, " or ".join(_WORDS[kind] for kind in shape))
    elif shape[-1] is type(None):
        if value is not None:
            _check(place, value, shape[0])
    else:
        _check_row(place, value, shape)


def _check_array(place: str, value: object, kind: Any) -> None:
    if not isinstance(value, list):
        _misfit(place, "an array")
    for number, item in enumerate(value):
        _check(f"{place}[{number}]", item, kind)


def _check_row(place: str, value: object, kinds: tuple[Any, ...]) -> None:
    if not isinstance(value, list) or len(value) != len(kinds):
        _misfit(place, f"an array of {len(kinds)}")
    for number, (item, kind) in enumerate(zip(value, kinds, strict=True)):
        _check(f"{place}[{number}]", item, kind)


def _check_object(place: str, value: object, shape: Mapping[Any, Any]) -> None:
    if not isinstance(value, Mapping):
        _misfit(place, "an object")
    dot = f"{place}." if place else ""
    for name, kind in shape.items():
        if name is ...:
            for each, item in value.items():
                _check(f"{dot}{each}", item, kind)
        elif name not in value:
            _misfit(f"{dot}{name}", "there")
        else:
            _check(f"{dot}{name}", value[name], kind)


_WORDS = {str: "a text", int: "a whole number", float: "a number", type(None): "null"}


def _misfit(place: str, wanted: str) -> NoReturn:
    msg = f"this is no snapshot of a sandbox: {place[:200]} must be {wanted}"
    raise ConfigurationError(msg, field=place)
