"""The API's resources, one module each."""

from __future__ import annotations

from altcraft_async.market.orders import Orders

__all__ = ["Market", "Orders"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.engine.delivery import Delivery


class Market:
    """The Market section of the API: `orders`."""

    __slots__ = ("orders",)

    def __init__(self, delivery: Delivery) -> None:
        self.orders = Orders(delivery)

    def __repr__(self) -> str:
        """Name the section."""
        return "<Market: orders>"
