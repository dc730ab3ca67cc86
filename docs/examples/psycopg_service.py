"""The web service of ``orders_service.py`` with psycopg alone: a change and its update are one transaction.

pip install 'altcraft-async[fastapi,postgres]' psycopg-pool uvicorn
export ALTCRAFT_BASE_URL=https://example.altcraft.com ALTCRAFT_TOKEN=… DATABASE_URL=postgresql://shop@db/shop
uvicorn psycopg_service:app --workers 2
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from altcraft_async.integrations.fastapi import (
    OutboxDep,
    altcraft_lifespan,
    health_router,
    install_problem_handlers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

DATABASE = os.environ["DATABASE_URL"]

TABLE = """
    CREATE TABLE IF NOT EXISTS shop_line (
        order_id text, line_id text, status text NOT NULL, PRIMARY KEY (order_id, line_id)
    )
"""
CHANGE = """
    INSERT INTO shop_line VALUES (%s, %s, %s)
    ON CONFLICT (order_id, line_id) DO UPDATE SET status = excluded.status
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
    """Open the service's own connections."""
    del app
    async with AsyncConnectionPool(DATABASE, open=False) as pool:
        async with pool.connection() as connection:  # a transaction, committed at the end of the block
            await connection.execute("SELECT pg_advisory_xact_lock(7)")  # several workers start at once
            await connection.execute(TABLE)
        yield {"pool": pool}


app = FastAPI(lifespan=altcraft_lifespan(outbox=DATABASE, lifespan=lifespan))
install_problem_handlers(app)
app.include_router(health_router())


async def transaction(connection: HTTPConnection) -> AsyncIterator[AsyncConnection]:
    """Give a handler a connection whose transaction is committed before the answer goes out, or rolled back."""
    async with connection.state.pool.connection() as database:
        yield database


TransactionDep = Annotated[AsyncConnection, Depends(transaction, scope="function")]


@app.put("/lines/{order}/{line}/{status}", status_code=202)
async def change(order: str, line: str, status: str, database: TransactionDep, outbox: OutboxDep) -> dict[str, str]:
    """Change a line. The row is locked from here on, so the updates of a line are put one after the other."""
    await database.execute(CHANGE, (order, line, status))
    request_id = await outbox.put((order, line, status), connection=database)
    if status == "refunded" and not order.startswith("order_"):
        raise HTTPException(409, "only orders of the shop are refunded")  # rolled back: never sent
    return {"request_id": request_id}
