"""Market → SKU: the variants of products that are sold."""

from __future__ import annotations

from altcraft_async.market.goods import SkuCalls

__all__ = ["Skus"]


class Skus(SkuCalls):
    """The SKU of the Market."""

    __slots__ = ()
