"""Market → Products."""

from __future__ import annotations

from altcraft_async.market.goods import ProductCalls

__all__ = ["Products"]


class Products(ProductCalls):
    """The products of the Market."""

    __slots__ = ()
