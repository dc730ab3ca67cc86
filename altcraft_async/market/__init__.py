"""The API's resources, one module each."""

from __future__ import annotations

from altcraft_async.market.orders import Orders

__all__ = ["Market", "Orders"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.engine.dispatch import Dispatcher


class Market:
    """The Market section of the API: `orders`."""

    __slots__ = ("orders",)

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.orders = Orders(dispatcher)

    def __repr__(self) -> str:
        """Name the section."""
        return "<Market: orders>"
