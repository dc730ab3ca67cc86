"""`Readings`: how the sandbox takes what the guide of the Market leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from altcraft_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Readings"]


def _one_of(*allowed: str) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            msg = f"{attribute.name} must be one of {', '.join(allowed)}, not {value!r}"
            raise ConfigurationError(msg, field=attribute.name)

    return check


def _names(given: Iterable[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(given)


@attrs.frozen(kw_only=True)
class Readings:
    """How the sandbox behaves where the guide of the Market leaves something open.

    `row_results`: whether an import answers per row: ``"none"``; ``"result"``, an array in the order of the rows; or
    ``"data"``, an array by `external_id`, in the opposite order. `partial_imports`: an import with wrong rows applies
    the others; then the envelope has 0 if it answers per row, else 400. `status_result`: ``result`` of ``get_status``
    is an ``"object"`` or an ``"array"``. `cursor`: lists have ``next_from_id``. `page_limit`: the maximum rows of a
    page. `line_statuses`: the lines of a list show their status. `unknown_orders`, `unknown_goods`: a deletion of ids
    that do not exist is ``"refused"`` or ``"ignored"``. `currencies`: the configured ones, None for any.
    """

    row_results: Literal["none", "result", "data"] = attrs.field(
        default="none", validator=_one_of("none", "result", "data")
    )
    partial_imports: bool = False
    status_result: Literal["object", "array"] = attrs.field(default="object", validator=_one_of("object", "array"))
    cursor: bool = True
    page_limit: int = 1000
    line_statuses: bool = False
    unknown_orders: Literal["refused", "ignored"] = attrs.field(
        default="refused", validator=_one_of("refused", "ignored")
    )
    unknown_goods: Literal["refused", "ignored"] = attrs.field(
        default="ignored", validator=_one_of("refused", "ignored")
    )
    currencies: Iterable[str] | None = attrs.field(default=None, converter=_names)
