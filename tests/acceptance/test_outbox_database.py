"""``outbox …`` and ``doctor`` on a database: a person looks, and a drainer runs by itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from altcraft_async.outbox import Outbox, PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytest.importorskip("psycopg", reason="needs psycopg: nox -s postgres")

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def put(postgres, schema, *updates):
    async def work():
        async with Outbox(PostgresStore(postgres.url(), schema=schema)) as outbox:
            for update in updates:
                await outbox.put(update)

    asyncio.run(work())


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("address", ["{user}:canary-5ec@", "{user}@"])
def test_a_password_in_an_address_is_not_repeated(here: Here, postgres, schema: str, address: str) -> None:
    put(postgres, schema, ("order_1", "line_1_1", "delivered"))
    url = postgres.url().replace("altcraft@", address.format(user="altcraft"))
    url += "" if "canary" in url else "?password=canary-5ec&connect_timeout=5"
    shown = here("outbox", "show", url, "--schema", schema)
    assert "1 update waits" in shown.stdout
    assert "postgresql://altcraft@" in shown.stdout
    assert "canary" not in shown.stdout + shown.stderr


def test_an_address_for_another_library_is_refused_by_its_name(here: Here) -> None:
    refused = here("outbox", "show", "postgresql+asyncpg://u:canary-5ec@h/db")
    assert refused.returncode == 1
    assert "lies in a file or at postgresql://" in refused.stderr
    assert "canary" not in refused.stdout + refused.stderr


def test_an_outbox_in_a_database_is_shown_and_checked(here: Here, postgres, schema: str) -> None:
    put(postgres, schema, ("order_1", "line_1_1", "delivered"))
    where = (postgres.url(), "--schema", schema)
    shown = here("outbox", "show", *where)
    assert shown.returncode == 0
    assert "1 update waits, the first for" in shown.stdout
    assert "Nobody delivers." in shown.stdout
    told = json.loads(here("outbox", "show", *where, "--json").stdout)
    assert (told["pending"], told["drainers"]) == (1, [])
    checked = json.loads(here("doctor", "--json", "--outbox", *where).stdout)
    (finding,) = [finding for finding in checked["findings"] if finding["check"] == "outbox"]
    assert finding["level"] == "warning"
    assert "start a drainer" in finding["remedy"]


def test_an_outbox_that_is_not_there_is_one_sentence(here: Here, postgres) -> None:
    ended = here("outbox", "show", postgres.url(), "--schema", "nowhere")
    assert ended.returncode == 1
    assert "does not exist; check the address and the schema" in ended.stderr


def test_the_printed_schema_makes_an_outbox(here: Here, postgres, schema: str) -> None:
    import psycopg  # noqa: PLC0415 - an extra

    printed = here("outbox", "schema", "--schema", schema, "--buckets", "16").stdout
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(printed)
    shown = here("outbox", "show", postgres.url(), "--schema", schema, "--buckets", "16")
    assert shown.returncode == 0


def test_a_drainer_runs_by_itself_until_sigterm(sandbox: ThreadedSandbox, postgres, schema: str) -> None:
    put(postgres, schema, ("order_1", "line_1_1", "delivered"))
    arguments = ["outbox", "run", postgres.url(), "--schema", schema, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "altcraft_async", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ALTCRAFT_BASE_URL": sandbox.base_url,
            "ALTCRAFT_TOKEN": sandbox.token,
        },
    )
    try:
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        for _ in range(300):
            if sandbox.line_status("order_1", "line_1_1") == "delivered":
                break
            time.sleep(0.05)
        assert json.loads(get(f"{url}/livez")) == {"status": "pass"}
        assert json.loads(get(f"{url}/readyz"))["outbox"]["leases"] == 64
        assert "altcraft_outbox_leases 64" in get(f"{url}/metrics")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "1 delivered, 0 left." in said
