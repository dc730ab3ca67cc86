"""Market → SKU: the variants of products that are sold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.market.goods import Goods
from altcraft_async.market.pages import Listing
from altcraft_async.protocol.methods import DELETE_SKUS, LIST_SKUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.protocol.values.products import Sku

__all__ = ["Skus"]


class Skus(Goods):
    """The SKU of the Market."""

    __slots__ = ()

    def list(
        self, *, limit: int = 1000, deadline: float | None = None, outage: OutagePolicy | None = None
    ) -> Listing[Sku]:
        """List the SKU, by external id and name: ``async for sku in skus.list()``.

        `limit` is the most rows of a page, and always sent; `deadline` is in seconds for each page.
        See `Listing` for pages and errors.

        Guide: "Get SKU list".
        """
        from altcraft_async.protocol.values.products import Sku  # noqa: PLC0415 - most programs list nothing

        return Listing(
            LIST_SKUS,
            lambda fields: self._ask(LIST_SKUS, fields, deadline=deadline, outage=outage),
            Sku.from_answer,
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
        """Delete SKU by their numbers, their external ids, or both; return how many the platform deleted.

        A thousand go into one call, one call after the other; `deadline` is in seconds for each.
        Ids that there are not presumably only lower the count, which is None where an answer
        has none. Raises the `DeliveryError` of the first call that fails: what went before is
        deleted, and to call again with all ids is harmless.

        Guide: "Delete SKU".
        """
        return await self._delete(DELETE_SKUS, ids, external_ids, deadline=deadline, outage=outage)
