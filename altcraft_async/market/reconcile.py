"""Compare the platform with the expected state: orders, their statuses, and those of their lines.

A few orders are looked up one by one, which shows whether an order exists and its status; many are compared with the
list of all orders, which may show the lines' statuses too. Orders and lines that cannot be checked are counted and
named, never taken for equal.

Guide: "Get order status", "Get orders list".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from altcraft_async.engine.import_rows import fields_reader
from altcraft_async.engine.rows import update_of
from altcraft_async.errors import (
    APIError,
    AuthenticationError,
    DeliveryError,
    OutageError,
    PermissionDeniedError,
)
from altcraft_async.market.pages import Behind
from altcraft_async.protocol.methods import IMPORT_ORDERS
from altcraft_async.protocol.values.orders import Order, OrderLine, OrderStatus
from altcraft_async.protocol.values.schema import check_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from altcraft_async.market.pages import Listing
    from altcraft_async.protocol.values import JSON, LineStatusUpdate

__all__ = ["Difference", "Expected", "Reconciliation"]

Expected: TypeAlias = "LineStatusUpdate | tuple[str, str, str] | Order | Mapping[str, object]"
"""What should be there: the status of a line, or an order as it was imported."""

By: TypeAlias = Literal["auto", "status", "list"]

_AT_ONCE = 200
_FOR_ALL = (AuthenticationError, PermissionDeniedError, OutageError)
"""What ends the comparison: it would befall every order."""
_NOT_THERE = frozenset({400, 404})
"""The codes with which an order can be refused that there is not; every other one says nothing of the order."""
_CUT = {
    Behind.CUT: "the platform gave one full page of its list, and no way to go on",
    Behind.UNSAID: "the platform gave one page of its list and no cursor, so its page may be shorter than the list",
}
"""Why an order that a list does not show may be there all the same."""

_fields_of = fields_reader(IMPORT_ORDERS.path)


@attrs.frozen
class Difference:
    """An order, or one line of it, whose status is not the expected one.

    `found` is None if the platform has no such order or line. `expected` is None for an order that only had to exist.
    `reason` is the platform's text about an order that it does not show.
    """

    order_external_id: str
    order_line_external_id: str | None
    expected: str | None
    found: str | None
    reason: str = ""


@attrs.frozen
class Reconciliation:
    """The result of a comparison.

    `by` says how it was made. `orders` and `lines` were expected. `differences` are in the order of the expected rows.
    `unchecked_orders` could not be looked up, each with its reason; `unchecked_lines` counts the lines whose status
    the platform did not show.
    """

    by: Literal["status", "list"]
    orders: int
    lines: int
    differences: Sequence[Difference]
    unchecked_orders: Mapping[str, str]
    unchecked_lines: int

    @property
    def ok(self) -> bool:
        """Whether everything could be checked, and nothing differs."""
        return not (self.differences or self.unchecked_orders or self.unchecked_lines)

    def __str__(self) -> str:
        """Say it in one sentence, with what could not be checked."""
        said = f"{self.orders} orders and {self.lines} of their lines compared: {len(self.differences)} differences"
        if self.unchecked_orders:
            said += f", {len(self.unchecked_orders)} orders could not be looked up"
        if self.unchecked_lines:
            said += f", the platform did not show the status of {self.unchecked_lines} lines"
        return said


@attrs.define
class _Wanted:
    """What is expected of one order; the last row that says something counts."""

    status: str | None = None
    lines: dict[str, str] = attrs.field(factory=dict)


async def gathered(expected: Iterable[Expected] | AsyncIterable[Expected]) -> dict[str, _Wanted]:
    """Read what is expected, by order; raises `InvalidUpdateError` for a row that is none."""
    wanted: dict[str, _Wanted] = {}
    if isinstance(expected, AsyncIterable):
        async for row in expected:
            _add(wanted, row)
    else:
        for row in expected:
            _add(wanted, row)
    return wanted


def _add(wanted: dict[str, _Wanted], row: Expected) -> None:
    if isinstance(row, Order):
        _want(wanted, row.external_id, row.status, [(line.external_id, line.status) for line in row.lines])
    elif isinstance(row, Mapping) and "order_external_id" not in row:
        _add_mapping(wanted, _fields_of(row))
    else:
        update = update_of(row)
        _want(wanted, update.order_external_id, None, [(update.order_line_external_id, update.status_external_id)])


def _add_mapping(wanted: dict[str, _Wanted], row: Mapping[str, JSON]) -> None:
    """Take an order as an import takes it: what is not compared need not be right."""
    lines = row["lines"]
    known = [
        OrderLine.from_dict({name: line.get(name) for name in ("external_id", "status")})
        for line in (lines if isinstance(lines, list | tuple) else ())
        if isinstance(line, Mapping)
    ]
    external_id, status = (check_name(name, row[name]) for name in ("external_id", "status"))
    _want(wanted, external_id, status, [(line.external_id, line.status) for line in known])


def _want(
    wanted: dict[str, _Wanted], external_id: str, status: str | None, lines: Iterable[tuple[str, str | None]]
) -> None:
    one = wanted.setdefault(external_id, _Wanted())
    one.status = status or one.status
    one.lines.update({name: expected for name, expected in lines if expected is not None})


async def reconcile(
    wanted: Mapping[str, _Wanted],
    *,
    by: Literal["status", "list"],
    look_up: Callable[[str], Awaitable[OrderStatus | None]],
    listing: Listing[Order],
) -> Reconciliation:
    """Compare what is `wanted` with the platform; see `OrderCalls.reconcile`."""
    findings = _Findings(wanted)
    if by == "status":
        await findings.by_status(look_up)
    else:
        await findings.by_list(listing)
    places = {name: place for place, name in enumerate(wanted)}
    return Reconciliation(
        by=by,
        orders=len(wanted),
        lines=sum(len(one.lines) for one in wanted.values()),
        differences=tuple(sorted(findings.differences, key=lambda one: places[one.order_external_id])),
        unchecked_orders=findings.unchecked_orders,
        unchecked_lines=findings.unchecked_lines,
    )


class _Findings:
    """What a comparison has found so far."""

    __slots__ = ("_wanted", "differences", "unchecked_lines", "unchecked_orders")

    def __init__(self, wanted: Mapping[str, _Wanted]) -> None:
        self._wanted = wanted
        self.differences: list[Difference] = []
        self.unchecked_orders: dict[str, str] = {}
        self.unchecked_lines = 0

    async def by_status(self, look_up: Callable[[str], Awaitable[OrderStatus | None]]) -> None:
        left = iter(self._wanted)

        async def work() -> None:
            for external_id in left:
                await self._look_up(external_id, look_up)

        tasks = [asyncio.ensure_future(work()) for _ in range(min(_AT_ONCE, len(self._wanted)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, external_id: str, look_up: Callable[[str], Awaitable[OrderStatus | None]]) -> None:
        try:
            status = await look_up(external_id)
        except _FOR_ALL:
            raise
        except APIError as error:
            if error.code in _NOT_THERE and error.retry_after is None:
                self._missing(external_id, error.message)
            else:
                self.unchecked_orders[external_id] = error.message
        except DeliveryError as error:
            self.unchecked_orders[external_id] = error.message
        else:
            if status is None:
                self.unchecked_orders[external_id] = "the answer has no status"
            else:
                self._compare_status(external_id, status.status)
                self.unchecked_lines += len(self._wanted[external_id].lines)

    async def by_list(self, listing: Listing[Order]) -> None:
        unseen = dict.fromkeys(self._wanted)
        behind = Behind.NOTHING
        async for page in listing.walk():
            behind = page.behind
            for order in page.items:
                if order.external_id in unseen:
                    del unseen[order.external_id]
                    self._compare(order)
        for external_id in unseen:
            if behind in _CUT:
                self.unchecked_orders[external_id] = _CUT[behind]
            else:
                self._missing(external_id)

    def _missing(self, external_id: str, reason: str = "") -> None:
        self.differences.append(Difference(external_id, None, self._wanted[external_id].status, None, reason))

    def _compare_status(self, external_id: str, found: str) -> None:
        expected = self._wanted[external_id].status
        if expected is not None and expected != found:
            self.differences.append(Difference(external_id, None, expected, found))

    def _compare(self, order: Order) -> None:
        self._compare_status(order.external_id, order.status)
        shown = {line.external_id: line.status for line in order.lines}
        for line, expected in self._wanted[order.external_id].lines.items():
            found = shown.get(line)
            if found is None and (line in shown or not shown):
                self.unchecked_lines += 1
            elif found != expected:
                self.differences.append(Difference(order.external_id, line, expected, found))
