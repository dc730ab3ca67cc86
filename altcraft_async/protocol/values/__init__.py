"""The values that are said to Altcraft, and what comes back of them: frozen, checked, without I/O."""

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
