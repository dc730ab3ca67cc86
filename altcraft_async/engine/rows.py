"""What a bulk call is given: rows become updates, and updates claim their lanes."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.protocol.values import ID, LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.flow.lanes import Claim

__all__ = [
    "CLAIMS",
    "Coalesce",
    "HasLineStatus",
    "Lane",
    "Row",
    "Source",
    "check_choice",
    "check_source",
    "named_values",
    "read_row",
    "update_of",
]

Coalesce: TypeAlias = Literal["all", "latest"]
Lane: TypeAlias = Literal["line", "order"]


class HasLineStatus(Protocol):
    """An object with the three ids of an update: attrs, a dataclass, a named tuple, a pydantic model.

    Where it has them, its `request_id` and `tag` are the update's too.
    """

    @property
    def order_external_id(self) -> ID:
        """The order's id."""

    @property
    def order_line_external_id(self) -> ID:
        """The order line's id."""

    @property
    def status_external_id(self) -> ID:
        """The new status's id."""


Row: TypeAlias = "LineStatusUpdate | tuple[ID, ID, ID] | Mapping[str, object] | HasLineStatus | InvalidUpdateError"
Source: TypeAlias = "Iterable[Row] | AsyncIterable[Row]"

_IDS: Final = ("order_external_id", "order_line_external_id", "status_external_id")
_OWN: Final = ("request_id", "tag")
_ABSENT: Final = object()


def check_choice(value: str, allowed: tuple[str, ...], field: str) -> None:
    """Raise `ConfigurationError`, naming `field`, unless `value` is one of those allowed."""
    if value not in allowed:
        msg = f"{field} must be one of {', '.join(allowed)}, not {value!r}"
        raise ConfigurationError(msg, field=field)


def _line(update: LineStatusUpdate) -> tuple[Claim, ...]:
    order = update.order_external_id
    return ((order, False), ((order, update.order_line_external_id), True))


def _order(update: LineStatusUpdate) -> tuple[Claim, ...]:
    return ((update.order_external_id, True),)


CLAIMS: dict[Lane, Callable[[LineStatusUpdate], tuple[Claim, ...]]] = {"line": _line, "order": _order}
"""What an update claims in the lanes: its order shared and its line alone, or its order alone."""


def check_source(source: object) -> None:
    """Raise `TypeError` unless `source` gives rows: for one row, for a text, for what cannot be iterated over."""
    one_row = isinstance(source, Mapping | LineStatusUpdate) or (
        isinstance(source, tuple) and len(source) == len(_IDS) and isinstance(source[0], str | int)
    )
    if one_row:
        msg = f"updates must be an iterable of rows, and one row was given ({_described(source)}); put it in a list"
        raise TypeError(msg)
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "iterrows"):
        msg = (
            f"updates must be an iterable of rows, and a {type(source).__name__} has columns; "
            "give altcraft_async.ingest.read_updates(…) of it"
        )
        raise TypeError(msg)
    if isinstance(source, str | bytes) or not isinstance(source, Iterable | AsyncIterable):
        msg = f"updates must be an iterable of rows, or an asynchronous one, not a {type(source).__name__}"
        raise TypeError(msg)


def update_of(row: object) -> LineStatusUpdate:
    """Make an update of a row of any shape; raise the `InvalidUpdateError` that says what is wrong with it."""
    if type(row) is tuple and len(row) == len(_IDS):  # the usual case
        return LineStatusUpdate(*row)
    if isinstance(row, LineStatusUpdate):
        return row
    if isinstance(row, InvalidUpdateError):
        raise row
    named = named_values(row)
    if named is not None:
        return _of_names(row, named)
    if isinstance(row, tuple | list) and len(row) == len(_IDS):
        return LineStatusUpdate(*row)
    msg = (
        "a row must be a LineStatusUpdate, a tuple (order_external_id, order_line_external_id, status_external_id), "
        f"or a mapping or an object with these names, not a {_described(row)}"
    )
    raise InvalidUpdateError(msg)


def named_values(row: object) -> Mapping[str, object] | None:
    """Return what a row has under each name of an update, a mark where it has nothing; None for one without names."""
    names = (*_IDS, *_OWN)
    if isinstance(row, Mapping):
        return {name: row.get(name, _ABSENT) for name in names}
    named = {name: getattr(row, name, _ABSENT) for name in names}
    if any(named[name] is not _ABSENT for name in _IDS):
        return named
    if (keys := getattr(row, "keys", None)) is not None and hasattr(row, "__getitem__"):  # a row of sqlite3 or asyncpg
        there = set(keys())
        return {name: row[name] if name in there else _ABSENT for name in names}
    return None


def _of_names(row: object, named: Mapping[str, object]) -> LineStatusUpdate:
    missing = [name for name in _IDS if named[name] is _ABSENT]
    if missing:
        msg = f"the row, a {type(row).__name__}, has no {' and no '.join(missing)}; every update needs all three ids"
        raise InvalidUpdateError(msg, field=missing[0])
    given = {name: value for name, value in named.items() if value is not _ABSENT}
    return LineStatusUpdate(**given)  # type: ignore[arg-type]  # it checks them


def _described(row: object) -> str:
    return f"{type(row).__name__} of {len(row)}" if isinstance(row, tuple | list) else type(row).__name__


def read_row(row: object) -> LineStatusUpdate | InvalidUpdateError:
    """Return the update that a row makes, or what is wrong with it."""
    if type(row) is LineStatusUpdate:
        return row
    try:
        return update_of(row)
    except InvalidUpdateError as error:
        return error
