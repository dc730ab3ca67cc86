"""The API's resources, one module each."""

from __future__ import annotations

from altcraft_async.market.goods import Products, Skus
from altcraft_async.market.orders import Orders
from altcraft_async.market.pages import Behind, IncompleteListWarning, Listing, Page

__all__ = ["Behind", "IncompleteListWarning", "Listing", "Market", "Orders", "Page", "Products", "Skus"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.engine.dispatch import Dispatcher


class Market:
    """The Market section of the API: `orders`, `products` and `skus`."""

    __slots__ = ("orders", "products", "skus")

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.orders = Orders(dispatcher)
        self.products = Products(dispatcher)
        self.skus = Skus(dispatcher)

    def __repr__(self) -> str:
        """Name the resources."""
        return "<Market: orders, products, skus>"
