"""Market → Products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.market.goods import Goods
from altcraft_async.market.pages import Listing
from altcraft_async.protocol.methods import DELETE_PRODUCTS, LIST_PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.protocol.values.products import Product

__all__ = ["Products"]


class Products(Goods):
    """The products of the Market."""

    __slots__ = ()

    def list(
        self, *, limit: int = 1000, deadline: float | None = None, outage: OutagePolicy | None = None
    ) -> Listing[Product]:
        """List the products, with the ids and names of their SKU: ``async for product in products.list()``.

        `limit` is the most rows of a page, and always sent; `deadline` is in seconds for each page.
        See `Listing` for pages and errors.

        Guide: "Get products list".
        """
        from altcraft_async.protocol.values.products import Product  # noqa: PLC0415 - most programs list nothing

        return Listing(
            LIST_PRODUCTS,
            lambda fields: self._ask(LIST_PRODUCTS, fields, deadline=deadline, outage=outage),
            Product.from_answer,
            fields={},
            limit=limit,
        )

    async def delete(
        self,
        *,
        ids: Iterable[int] = (),
        external_ids: Iterable[str] = (),
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> int | None:
        """Delete products by their numbers, their external ids, or both; return how many the platform deleted.

        A thousand go into one call, one call after the other; `deadline` is in seconds for each.
        Ids that there are not presumably only lower the count, which is None where an answer
        has none. Raises the `DeliveryError` of the first call that fails: what went before is
        deleted, and to call again with all ids is harmless.

        Guide: "Delete products".
        """
        return await self._delete(DELETE_PRODUCTS, ids, external_ids, deadline=deadline, outage=outage)
