"""A FastAPI service: couriers' webhooks come in, and status updates go out through the outbox.

ALTCRAFT_BASE_URL=… ALTCRAFT_TOKEN=… OUTBOX=/var/lib/shop/outbox.db uvicorn courier_webhooks:app
"""

from __future__ import annotations

import os
from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel

from altcraft_async import LineStatusUpdate, OrderLineStatus
from altcraft_async.integrations.fastapi import OutboxDep, altcraft_lifespan, health_router, install_problem_handlers

STATUSES = {
    "picked_up": OrderLineStatus.DELIVERING,
    "handed_over": OrderLineStatus.DELIVERED,
    "returned": OrderLineStatus.REFUNDED,
}
"""What the courier says, and what it means for an order line."""


class Event(BaseModel):
    """What the courier posts."""

    event_id: str
    order: str
    line: str
    what: Literal["picked_up", "handed_over", "returned"]


app = FastAPI(lifespan=altcraft_lifespan(outbox=os.environ.get("OUTBOX", "outbox.db")))
install_problem_handlers(app)  # a full outbox is a 503 with Retry-After, a wrong id a 422
app.include_router(health_router())


@app.post("/webhooks/courier", status_code=202)
async def courier(event: Event, outbox: OutboxDep) -> dict[str, str]:
    """Accept an event: it is on disk when the courier gets its answer.

    The event's own id becomes the ``Request-ID``, so an event that the courier posts
    twice makes one change.
    """
    update = LineStatusUpdate(event.order, event.line, STATUSES[event.what])
    return {"request_id": await outbox.put(update, request_id=event.event_id)}
