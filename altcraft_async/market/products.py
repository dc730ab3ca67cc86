"""Market → Products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.market.imports import ProductImports

if TYPE_CHECKING:
    from altcraft_async.engine.dispatch import Dispatcher

__all__ = ["Products"]


class Products(ProductImports):
    """The products of the Market."""

    __slots__ = ("_dispatcher",)

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<Products {self._dispatcher.delivery.gate!r}>"
