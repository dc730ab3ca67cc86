"""Market → Products and Market → SKU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.market.imports import ProductImports, SkuImports
from altcraft_async.market.resource import Resource, name_of, number_of
from altcraft_async.protocol.methods import DELETE_PRODUCTS, DELETE_SKUS, LIST_PRODUCTS, LIST_SKUS
from altcraft_async.protocol.plain import code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.market.pages import Listing
    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.values.products import Product, Sku

__all__ = ["Products", "Skus"]

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
        numbers, names = _checked("ids", ids, number_of), _checked("external_ids", external_ids, name_of)
        deleted: int | None = 0
        for field, given in (("ids", numbers), ("external_ids", names)):
            for start in range(0, len(given), _AT_ONCE):
                some = given[start : start + _AT_ONCE]
                lanes = dict.fromkeys(some) if given is names else ()
                payload = await self._ask(
                    method,
                    {field: some},
                    topic=f"{method.path} of {len(some)} {field}",
                    claims=tuple(((lane, one, None), True) for one in lanes),
                    deadline=deadline,
                    outage=outage,
                )
                count = code_of(payload.get(method.payload or ""))
                deleted = None if deleted is None or count is None or count < 0 else deleted + count
        return deleted


def _checked(field: str, given: Iterable[object], check: Callable[[str, object], str | int]) -> list[JSON]:
    """Return all ids, checked: with one that cannot be, nothing is sent."""
    if isinstance(given, str | bytes):
        msg = f"{field} must be an iterable of ids, not one {type(given).__name__}"
        raise TypeError(msg)
    checked: list[JSON] = []
    for place, one in enumerate(given):
        try:
            checked.append(check(f"{field}[{place}]", one))
        except InvalidUpdateError as error:
            raise ConfigurationError(error.message, field=field) from None
    return checked


class Products(_Goods, ProductImports):
    """The products of the Market."""

    __slots__ = ()

    def list(
        self, *, limit: int = 1000, deadline: float | None = None, outage: OutagePolicy | None = None
    ) -> Listing[Product]:
        """List the products, with the ids and names of their SKU: ``async for product in products.list()``.

        `limit` is the maximum rows of a page, and always sent; `deadline` is in seconds for each page. See
        `Listing` for pages and errors.

        Guide: "Get products list".
        """
        from altcraft_async.protocol.values.products import Product  # noqa: PLC0415 - most programs list nothing

        return self._listing(LIST_PRODUCTS, Product.from_answer, limit=limit, deadline=deadline, outage=outage)

    async def delete(
        self,
        *,
        ids: Iterable[int] = (),
        external_ids: Iterable[str] = (),
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> int | None:
        """Delete products by their numbers, their external ids, or both; return how many the platform deleted.

        A thousand go into one call, one call after the other; `deadline` is in seconds for each. An impossible id
        raises `ConfigurationError` before anything is sent. Ids that do not exist presumably only lower the count,
        which is None if an answer has none. Raises the `DeliveryError` of the first call that fails: the rows of the
        calls before are deleted, and you can safely call again with all ids.

        Guide: "Delete products".
        """
        return await self._delete(DELETE_PRODUCTS, "product", ids, external_ids, deadline=deadline, outage=outage)


class Skus(_Goods, SkuImports):
    """The SKU of the Market."""

    __slots__ = ()

    def list(
        self, *, limit: int = 1000, deadline: float | None = None, outage: OutagePolicy | None = None
    ) -> Listing[Sku]:
        """List the SKU, by external id and name; as `Products.list`.

        Guide: "Get SKU list".
        """
        from altcraft_async.protocol.values.products import Sku  # noqa: PLC0415 - most programs list nothing

        return self._listing(LIST_SKUS, Sku.from_answer, limit=limit, deadline=deadline, outage=outage)

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
