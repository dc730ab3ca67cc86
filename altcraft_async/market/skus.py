"""Market → SKU."""

from __future__ import annotations

from altcraft_async.market.goods import SkuCalls
from altcraft_async.market.imports import SkuImports

__all__ = ["Skus"]


class Skus(SkuCalls, SkuImports):
    """The SKU of the Market."""

    __slots__ = ()
