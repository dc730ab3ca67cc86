"""The values of order-line updates, and the server's echo: frozen, checked, without I/O."""

from __future__ import annotations

import enum
import re
from numbers import Integral
from typing import NamedTuple, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError, InvalidUpdateError

__all__ = [
    "ID",
    "JSON",
    "LineKey",
    "LineStatusUpdate",
    "OrderLineStatus",
    "UpdatedOrderLine",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""Any value that JSON can carry."""


ID: TypeAlias = "str | int"
"""An id: a text, or a whole number, which becomes one."""


class OrderLineStatus(enum.StrEnum):
    """The system statuses of an order line (guide: "Update order line status").

    A custom status, defined on the platform, is given as its id: any other
    string.
    """

    NEW = "new"
    PROCESSING = "processing"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    CANCELED = "canceled"
    REFUNDED = "refunded"


class LineKey(NamedTuple):
    """What identifies one order line on the platform."""

    order_external_id: str
    order_line_external_id: str


_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters, and what UTF-8 or XML 1.0 cannot carry."""


def check_id(field: str, value: object) -> str:
    """Return `value` as text where it can be an id; raise `InvalidUpdateError` naming `field`."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - only NaN is not itself
            msg = f"{field} is missing; every update needs all three ids"
        else:
            msg = f"{field} must be a string or a whole number, not {type(value).__name__}; convert it before"
        raise InvalidUpdateError(msg, field=field)
    if not value or value.isspace():
        msg = f"{field} is empty; every update needs all three ids"
        raise InvalidUpdateError(msg, field=field)
    if not value.isprintable():  # the quick test: nearly every id passes here
        bad = _FORBIDDEN.search(value)
        if bad is not None:
            msg = (
                f"{field} has the forbidden character U+{ord(bad[0]):04X} at position {bad.start() + 1}; "
                "remove control characters from the id"
            )
            raise InvalidUpdateError(msg, field=field)
    return str.__str__(value)


def _all_good(order: str, line: str, status: str) -> bool:
    """Say of most good ids, quickly, that they are good: three checks in one."""
    return (order + line + status).isprintable() and bool(order.strip() and line.strip() and status.strip())


def check_request_id(value: object) -> str:
    """Return `value` where it can be a ``Request-ID``; raise `ConfigurationError` otherwise."""
    if not isinstance(value, str):
        msg = f"request_id must be a string, not {type(value).__name__}; convert it, always to the same text"
        raise ConfigurationError(msg, field="request_id")
    if not (value.isascii() and value.isprintable() and value.strip()):
        msg = "request_id must be printable ASCII text and not blank: it becomes a header"
        raise ConfigurationError(msg, field="request_id")
    return value


def _checked_request_id(value: object) -> str:
    try:
        return check_request_id(value)
    except ConfigurationError as error:
        raise InvalidUpdateError(error.message, field=error.field) from None


@attrs.frozen(slots=True, init=False)
class LineStatusUpdate:
    """One change to make: this line of this order gets this status.

    The three ids are non-empty texts without control characters, or whole numbers, which
    become texts; anything else raises `InvalidUpdateError`, which names the field.
    `status_external_id` is an `OrderLineStatus` or the id of a custom status. A `str` with an
    enum class counts as its value, in all three.

    `request_id` is the ``Request-ID`` of the change, if the caller gives one: to repeat a change that may have been
    applied, give the id from the earlier run. `tag` is any object of the caller's; it is never sent, comes back on the
    outcome, and takes no part in comparisons.

    Guide: "Update order line status".
    """

    order_external_id: str
    order_line_external_id: str
    status_external_id: str
    request_id: str | None = attrs.field(default=None, repr=False)
    tag: object = attrs.field(default=None, repr=False, eq=False)

    def __init__(
        self,
        order_external_id: ID,
        order_line_external_id: ID,
        status_external_id: ID,
        *,
        request_id: str | None = None,
        tag: object = None,
    ) -> None:
        same = type(order_external_id) is type(order_line_external_id) is type(status_external_id) is str
        if not same or not _all_good(order_external_id, order_line_external_id, status_external_id):  # type: ignore[arg-type]
            order_external_id = check_id("order_external_id", order_external_id)
            order_line_external_id = check_id("order_line_external_id", order_line_external_id)
            status_external_id = check_id("status_external_id", status_external_id)
        _set_order(self, order_external_id)
        _set_line(self, order_line_external_id)
        _set_status(self, status_external_id)
        _set_request_id(self, request_id if request_id is None else _checked_request_id(request_id))
        _set_tag(self, tag)

    @property
    def key(self) -> LineKey:
        """The order line that the update is about."""
        return LineKey(self.order_external_id, self.order_line_external_id)


# The slots themselves: twice as quick as attrs' own way past a frozen class, and there is an update for every row.
_set_order, _set_line, _set_status, _set_request_id, _set_tag = (
    getattr(LineStatusUpdate, field.name).__set__ for field in attrs.fields(LineStatusUpdate)
)


@attrs.frozen
class UpdatedOrderLine:
    """The server's echo of one applied update (the answer's ``data``).

    A field that the answer left out has the requested value.

    Guide: "Update order line status".
    """

    order_external_id: str
    order_line_external_id: str
    status_external_id: str
