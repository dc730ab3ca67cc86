"""The values that go to Altcraft, and those that come back: frozen, checked, without I/O."""

from __future__ import annotations

from altcraft_async.protocol.values.lines import (
    ID,
    JSON,
    LineKey,
    LineStatusUpdate,
    OrderLineStatus,
    UpdatedOrderLine,
    check_request_id,
)

__all__ = ["ID", "JSON", "LineKey", "LineStatusUpdate", "OrderLineStatus", "UpdatedOrderLine", "check_request_id"]
