"""The blocking client, for programs without an event loop: scripts, Celery, Django, Airflow, notebooks.

.. code-block:: python

    from altcraft_async.blocking import AltcraftClient

    updates = [("order_1", "line_1", "delivered")]
    with AltcraftClient.from_env() as altcraft:
        report = altcraft.market.orders.update_order_line_statuses(updates)

Each client has an event loop in a thread of its own, which begins at the first call. All else is the same as in
`altcraft_async.AltcraftClient`: methods, keywords, values, errors, order and journal.
"""

from __future__ import annotations

from altcraft_async.blocking.api import AltcraftClient, Market, Orders, Products, Skus
from altcraft_async.blocking.listing import Listing

__all__ = ["AltcraftClient", "Listing", "Market", "Orders", "Products", "Skus"]
