"""Market → Products."""

from __future__ import annotations

from altcraft_async.market.goods import ProductCalls
from altcraft_async.market.imports import ProductImports

__all__ = ["Products"]


class Products(ProductCalls, ProductImports):
    """The products of the Market."""

    __slots__ = ()
