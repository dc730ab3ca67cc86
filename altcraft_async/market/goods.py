"""Market → Products and Market → SKU: the lists, and deletions of many."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from altcraft_async.errors import ConfigurationError
from altcraft_async.market.pages import Listing
from altcraft_async.market.resource import Resource
from altcraft_async.protocol.methods import DELETE_PRODUCTS, DELETE_SKUS, LIST_PRODUCTS, LIST_SKUS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.values.products import Product, Sku

__all__ = ["ProductCalls", "SkuCalls"]

_AT_ONCE = 1000
"""How many ids go into one call: tens of kilobytes, far below every limit, and work of a moment."""


class _Goods(Resource):
    """Products, or SKU."""

    __slots__ = ()

    async def _delete(
        self,
        method: Method,
        lane: str,
        ids: Iterable[int],
        external_ids: Iterable[str],
        *,
        deadline: float | None,
        outage: OutagePolicy | None,
    ) -> int | None:
        deleted: int | None = 0
        for field, given, kind in (("ids", ids, int), ("external_ids", external_ids, str)):
            for some in _cut(field, given, kind):
                topic = f"{method.path} of {len(some)} {field}"
                lanes = dict.fromkeys(some) if kind is str else ()
                payload = await self._ask(
                    method,
                    {field: some},
                    topic=topic,
                    claims=tuple(((lane, one, None), True) for one in lanes),
                    deadline=deadline,
                    outage=outage,
                )
                count = _count(payload.get(method.payload or ""))
                deleted = None if deleted is None or count is None else deleted + count
        return deleted


class ProductCalls(_Goods):
    """What is asked of the platform about products, one call at a time, and the list."""

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
        return await self._delete(DELETE_PRODUCTS, "product", ids, external_ids, deadline=deadline, outage=outage)


class SkuCalls(_Goods):
    """What is asked of the platform about SKU, one call at a time, and the list."""

    __slots__ = ()

    def list(
        self, *, limit: int = 1000, deadline: float | None = None, outage: OutagePolicy | None = None
    ) -> Listing[Sku]:
        """List the SKU, by external id and name; as `Products.list`.

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
        """Delete SKU; as `Products.delete`.

        Guide: "Delete SKU".
        """
        return await self._delete(DELETE_SKUS, "sku", ids, external_ids, deadline=deadline, outage=outage)


def _cut(field: str, given: Iterable[int | str], kind: type[int | str]) -> Iterator[list[JSON]]:
    if isinstance(given, str | bytes):
        msg = f"{field} must be an iterable of ids, not one {type(given).__name__}"
        raise TypeError(msg)
    left = iter(given)
    while some := list(islice(left, _AT_ONCE)):
        for one in some:
            if type(one) is not kind or (kind is str and not str(one).strip()):
                msg = f"{field} has {one!r}, which is no {'number' if kind is int else 'id'}"
                raise ConfigurationError(msg, field=field)
        yield [*some]


def _count(value: JSON) -> int | None:
    """Return how many were deleted; XML gives it as text."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if type(value) is int else None
