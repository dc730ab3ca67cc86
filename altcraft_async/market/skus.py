"""Market → Skus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.market.imports import SkuImports

if TYPE_CHECKING:
    from altcraft_async.engine.dispatch import Dispatcher

__all__ = ["Skus"]


class Skus(SkuImports):
    """The SKU of the Market."""

    __slots__ = ("_dispatcher",)

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<Skus {self._dispatcher.delivery.gate!r}>"
