"""The blocks of the documents: what is read for them, and what somebody who copies one has at hand."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet
import pytest

from altcraft_async.ingest import FIELDS
from altcraft_async.outbox import Outbox
from altcraft_async.sandbox import ThreadedSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

YOURS = Path(__file__).parent / "yours"
"""Modules that stand for the reader's own."""
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ROWS = [("order_1", "line_1", "delivered"), ("order_1", "line_2", "canceled"), ("order_1", "line_1_1", "delivered")]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Read the built pages only in the session of the documents."""
    return None if config.option.markexpr == "documents" else True


@pytest.fixture(scope="session")
def server() -> Iterator[ThreadedSandbox]:
    """An Altcraft with the order that the documents change."""
    with ThreadedSandbox() as sandbox:
        sandbox.add_order("order_1", [line for _, line, _ in ROWS])
        yield sandbox


async def put_into(path: Path) -> None:
    """Make the outbox of a service that has ended with an update in it."""
    async with Outbox(path) as outbox:
        await outbox.put(ROWS[0])


def write_inputs(folder: Path) -> None:
    """Write the files that somebody has who sends updates and imports orders."""
    table = "".join(",".join(row) + "\n" for row in [FIELDS, *ROWS])
    (folder / "updates.csv").write_text(table)
    (folder / "failed.csv").write_text(table)
    (folder / "export.csv").write_text("Order,Line,Status\n" + table.partition("\n")[2])
    (folder / "altcraft.toml").write_text("[altcraft.profiles.staging]\nrate = 50\n")
    columns = dict(zip(FIELDS, map(list, zip(*ROWS, strict=True)), strict=True))
    for name in ("updates.parquet", "orders.parquet"):
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / name)
    order = {"external_id": "order_2", "endpoint": "sandbox", "status": "new", "order_lines": []}
    (folder / "orders.jsonl").write_text(json.dumps(order) + "\n")
    asyncio.run(put_into(folder / "outbox.db"))
    with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE changes (id INTEGER PRIMARY KEY, order_id, line_id, status, sent)")
        shop.executemany("INSERT INTO changes (order_id, line_id, status) VALUES (?, ?, ?)", ROWS)


@pytest.fixture
def desk(tmp_path: Path, server: ThreadedSandbox, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with the files that somebody has, who has set address and token."""
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in {"ALTCRAFT_BASE_URL": server.base_url, "ALTCRAFT_TOKEN": server.token}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", "postgresql://shop@db/shop")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    for path in (YOURS, EXAMPLES):
        monkeypatch.syspath_prepend(path)
    return tmp_path
