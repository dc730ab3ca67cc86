"""Market → Orders: the calls that are made one at a time, and the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.engine.rows import check_choice
from altcraft_async.errors import UnreadableResponseError
from altcraft_async.market.resource import Resource, flag_of, name_of, number_of, one_of
from altcraft_async.protocol.methods import COMMIT_PREORDER, DELETE_ORDER, GET_ORDER_STATUS, LIST_ORDERS, PREORDER
from altcraft_async.protocol.plain import as_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Mapping

    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.market.pages import Listing
    from altcraft_async.market.reconcile import By, Expected, Reconciliation
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.values.orders import Order, OrderStatus, Preorder

__all__ = ["OrderCalls"]


class OrderCalls(Resource):
    """Calls about orders, one at a time."""

    __slots__ = ()

    def list(
        self,
        *,
        endpoint: str | None = None,
        limit: int = 1000,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> Listing[Order]:
        """List the orders, of one touchpoint or all: ``async for order in orders.list()``.

        `limit` is the maximum rows of a page, and always sent. `deadline` is in seconds for each page. The values are
        unchanged; amounts may be in minor units, see `altcraft_async.values.Order`. An order that is changed meanwhile
        may be missing or come twice. See `Listing` for pages and errors.

        Guide: "Get orders list".
        """
        from altcraft_async.protocol.values.orders import Order  # noqa: PLC0415 - most programs list nothing

        return self._listing(
            LIST_ORDERS, Order.from_answer, limit=limit, deadline=deadline, outage=outage, endpoint=endpoint
        )

    async def get_status(
        self,
        *,
        external_id: str | None = None,
        id: int | None = None,  # noqa: A002 - the platform's name
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> OrderStatus:
        """Return the status of one order, named by its external id or its number on the platform.

        If there is no status, raises the `DeliveryError` that says why. An order that does not exist is refused with a
        code that the guide does not name.

        Guide: "Get order status".
        """
        named = one_of(external_id=external_id, id=id)
        topic = _order(external_id, id)
        found = await self._status(named, topic, deadline=deadline, outage=outage)
        if found is None:
            error = UnreadableResponseError("the answer has no result with a status", maybe_applied=False)
            error.subject = topic
            raise error
        return found

    async def _status(
        self, named: Mapping[str, JSON], topic: str, *, deadline: float | None, outage: OutagePolicy | None
    ) -> OrderStatus | None:
        """Return the status of an order, None if a success has none."""
        from altcraft_async.protocol.values.orders import OrderStatus  # noqa: PLC0415 - most programs do not ask

        payload = await self._ask(GET_ORDER_STATUS, named, topic=topic, deadline=deadline, outage=outage)
        found = payload.get("result") or payload.get("data")
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        status = OrderStatus.from_answer(found) if isinstance(found, dict) else None
        return status if status is not None and status.status.strip() else None

    async def delete(
        self,
        *,
        external_id: str | None = None,
        id: int | None = None,  # noqa: A002 - the platform's name
        group_id: int | None = None,
        with_fire: bool | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> None:
        """Delete one order, named by its external id or its number on the platform.

        `group_id` and `with_fire` are for older versions, which know only `id`. With an external id the call waits for
        all earlier calls of this client for the order, and later ones wait for it. By a number the client does not
        know the order, so the call waits for nothing. `request_id`, `deadline`, `outage`, errors and cancellation are
        those of `Orders.update_order_line_status`.

        Guide: "Delete order".
        """
        fields = one_of(external_id=external_id, id=id)
        name = fields.get("external_id")
        if group_id is not None:
            fields["group_id"] = number_of("group_id", group_id)
        if with_fire is not None:
            fields["with_fire"] = flag_of("with_fire", with_fire)
        await self._ask(
            DELETE_ORDER,
            fields,
            topic=_order(external_id, id),
            claims=() if name is None else ((str(name), True),),
            request_id=request_id,
            deadline=deadline,
            outage=outage,
        )

    async def preorder(
        self,
        order: Preorder | Mapping[str, object],
        *,
        external_id: str,
        email: str | None = None,
        phone: str | None = None,
        profile_id: int | str | None = None,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> dict[str, JSON]:
        """Calculate an order with promotions and points; nothing is created.

        `order` is a `altcraft_async.values.Preorder` or a mapping with the platform's names. One of `email`, `phone`
        and `profile_id` says whose it is. Returns the envelope, because the guide does not describe its fields:
        ``error`` is a number, every other value is text, because XML has nothing else, and an empty value is None; so
        it is the same in both formats. An array of one entry is that entry, except for ``lines`` and ``tags``.
        Platforms before v75 do not have the method. Raises `InvalidUpdateError` for an order that cannot be sent.

        Guide: "Preorder".
        """
        name, whose = name_of("external_id", external_id), one_of(email=email, phone=phone, profile_id=profile_id)
        fields = {"external_id": name, "matching": next(iter(whose)), **whose, "data": _data(order)}
        found = await self._ask(PREORDER, fields, topic=f"preorder {name}", deadline=deadline, outage=outage)
        return as_text(found)

    async def preorder_commit(
        self,
        order: Preorder | Mapping[str, object],
        *,
        external_id: str,
        email: str | None = None,
        phone: str | None = None,
        profile_id: int | str | None = None,
        skip_triggers: bool = False,
        request_id: str | None = None,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> dict[str, JSON]:
        """Create an order and apply its discounts, points and promo codes; return the envelope, as `preorder` does.

        A call that may have been applied is not repeated, unless the caller gives a `request_id`: keep that where a
        restart finds it. Without one, an error whose ``maybe_applied`` is true means that the order may have been
        created and points spent. Then look for the order with `get_status` before you do anything else, or repeat the
        call with the error's own ``request_id``, which the platform remembers for a day. Other failures are retried as
        usual. The order's lanes are held as with `delete`. Platforms before v75 do not have the method.

        Guide: "Preorder commit".
        """
        name, whose = name_of("external_id", external_id), one_of(email=email, phone=phone, profile_id=profile_id)
        skip = flag_of("skip_triggers", skip_triggers)
        found = await self._ask(
            COMMIT_PREORDER,
            {"external_id": name, **whose, "skip_triggers": skip, "data": _data(order)},
            topic=f"preorder {name}",
            claims=((str(name), True),),
            request_id=request_id,
            deadline=deadline,
            outage=outage,
        )
        return as_text(found)

    async def reconcile(
        self,
        expected: Iterable[Expected] | AsyncIterable[Expected],
        *,
        by: By = "auto",
        bound: int = 1000,
        endpoint: str | None = None,
        limit: int = 1000,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> Reconciliation:
        """Compare the expected statuses with those on the platform.

        `expected` are updates of lines, as `update_order_line_statuses` takes them, or orders, as an import takes
        them; if several rows are about one line or order, the last one counts. Up to `bound` orders are looked up one
        by one (`by` ``"status"``): that shows whether each exists, and its own status. More orders are compared with
        the list of all orders, or of those of `endpoint` (``"list"``), which may show the lines' statuses. The result
        names the orders and lines that could not be checked. `deadline` is in seconds for each call. Memory grows with
        the expected rows.

        Raises an error that concerns every order, like a refused token or an outage, `InvalidUpdateError` for a wrong
        row, and in ``"list"`` the `DeliveryError` of a page that cannot be read. An order that is refused as incorrect
        or not found (400, 404) counts as missing, with the reason; after any other refusal, and if a list may be cut,
        it is unchecked.

        Guide: "Get order status", "Get orders list".
        """
        from altcraft_async.market.reconcile import gathered, reconcile  # noqa: PLC0415 - most programs do not compare

        check_choice(by, ("auto", "status", "list"), "by")
        wanted = await gathered(expected)

        async def look_up(external_id: str) -> OrderStatus | None:
            return await self._status(
                {"external_id": external_id}, _order(external_id, None), deadline=deadline, outage=outage
            )

        return await reconcile(
            wanted,
            by=by if by != "auto" else "status" if len(wanted) <= bound else "list",
            look_up=look_up,
            listing=self.list(endpoint=endpoint, limit=limit, deadline=deadline, outage=outage),
        )


def _order(external_id: str | None, number: int | None) -> str:
    return f"order {external_id}" if external_id is not None else f"order with id {number}"


def _data(order: Preorder | Mapping[str, object]) -> dict[str, JSON]:
    from altcraft_async.protocol.values.orders import Preorder  # noqa: PLC0415 - most programs have none

    return (order if isinstance(order, Preorder) else Preorder.from_dict(order)).to_dict()
