"""A program of the reader's, from which the documents import."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from altcraft_async.blocking import AltcraftClient
from altcraft_async.integrations.fastapi import altcraft_lifespan, health_router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = FastAPI(lifespan=altcraft_lifespan())
app.include_router(health_router())


def push_statuses(base_url: str, token: str) -> None:
    with AltcraftClient(base_url, token) as altcraft:
        altcraft.market.orders.update_order_line_status("order_1", "line_1_1", "delivered")


@asynccontextmanager
async def warehouse(altcraft: object) -> AsyncIterator[object]:
    yield altcraft
