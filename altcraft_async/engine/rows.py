"""What a bulk call is given: rows become updates, and updates claim their lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from altcraft_async.flow.lanes import Claim

__all__ = ["CLAIMS", "Coalesce", "Lane", "Row", "Source", "check_choice", "read_row", "update_of"]

Coalesce: TypeAlias = Literal["all", "latest"]
Lane: TypeAlias = Literal["line", "order"]
Row: TypeAlias = "LineStatusUpdate | tuple[str, str, str] | InvalidUpdateError"
Source: TypeAlias = "Iterable[Row] | AsyncIterable[Row]"


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


def update_of(row: object) -> LineStatusUpdate:
    """Make an update of a 3-tuple; raise the `InvalidUpdateError` that says what is wrong with any other row."""
    if type(row) is tuple and len(row) == 3:  # noqa: PLR2004 - the three ids, and the usual case
        return LineStatusUpdate(*row)
    if isinstance(row, LineStatusUpdate):
        return row
    if isinstance(row, InvalidUpdateError):
        raise row
    if isinstance(row, tuple | list) and len(row) == 3:  # noqa: PLR2004 - the three ids
        return LineStatusUpdate(*row)
    what = f"{type(row).__name__} of {len(row)}" if isinstance(row, tuple | list) else type(row).__name__
    msg = (
        "a row must be a LineStatusUpdate or a tuple (order_external_id, order_line_external_id, "
        f"status_external_id), not a {what}"
    )
    raise InvalidUpdateError(msg)


def read_row(row: object) -> LineStatusUpdate | InvalidUpdateError:
    """Return the update that a row makes, or what is wrong with it."""
    if type(row) is LineStatusUpdate:
        return row
    try:
        return update_of(row)
    except InvalidUpdateError as error:
        return error
