"""The values of the Market: orders, products, SKU, and what goes with them.

Each is frozen and has the platform's own names. ``from_dict`` makes it of a mapping,
``to_dict`` writes one; see `Value`.
"""

from __future__ import annotations

from altcraft_async.protocol.values.custom import Category, CustomField, CustomLineStatus
from altcraft_async.protocol.values.orders import Order, OrderLine, OrderStatus, Preorder, Profile
from altcraft_async.protocol.values.products import Product, RegionalData, Sku
from altcraft_async.protocol.values.schema import Value

__all__ = [
    "Category",
    "CustomField",
    "CustomLineStatus",
    "Order",
    "OrderLine",
    "OrderStatus",
    "Preorder",
    "Product",
    "Profile",
    "RegionalData",
    "Sku",
    "Value",
]
