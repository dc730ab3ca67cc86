"""A web service that changes its own order lines and tells Altcraft of it, in one transaction.

Any number of workers and replicas run it. The update waits in the database in which the service keeps its orders: a
change that is rolled back is never sent, and one that is committed is delivered by whichever worker holds its bucket.

    pip install 'altcraft-async[fastapi,postgres]' 'sqlalchemy[asyncio]' uvicorn
    export ALTCRAFT_BASE_URL=https://example.altcraft.com ALTCRAFT_TOKEN=… DATABASE_URL=postgresql://shop@db/shop
    uvicorn orders_service:app --workers 2
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.requests import HTTPConnection
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

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
    INSERT INTO shop_line VALUES (:order, :line, :status)
    ON CONFLICT (order_id, line_id) DO UPDATE SET status = excluded.status
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
    """Open the service's own engine."""
    del app
    engine = create_async_engine(make_url(DATABASE).set(drivername="postgresql+psycopg"))
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(7)"))  # several workers start at once
        await connection.execute(text(TABLE))
    yield {"engine": engine}
    await engine.dispose()


app = FastAPI(lifespan=altcraft_lifespan(outbox=DATABASE, lifespan=lifespan))
install_problem_handlers(app)
app.include_router(health_router())


async def transaction(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """Give a handler a session whose transaction is committed before the answer goes out, or rolled back."""
    async with AsyncSession(connection.state.engine) as session, session.begin():
        yield session


SessionDep = Annotated[AsyncSession, Depends(transaction, scope="function")]


@app.put("/lines/{order}/{line}/{status}", status_code=202)
async def change(order: str, line: str, status: str, session: SessionDep, outbox: OutboxDep) -> dict[str, str]:
    """Change a line. The row is locked from here on, so the updates of a line are put one after the other."""
    await session.execute(text(CHANGE), {"order": order, "line": line, "status": status})
    request_id = await outbox.put((order, line, status), connection=session)
    if status == "refunded" and not order.startswith("order_"):
        raise HTTPException(409, "only orders of the shop are refunded")  # rolled back: never sent
    return {"request_id": request_id}
