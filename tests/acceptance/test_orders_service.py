"""The examples of a web service on PostgreSQL, under uvicorn with two workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
for needed in ("psycopg", "psycopg_pool", "sqlalchemy", "greenlet", "fastapi", "uvicorn"):
    pytest.importorskip(needed, reason=f"needs {needed}: nox -s postgres")


def call(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture(params=["orders_service", "psycopg_service"])
def service(request, postgres, sandbox_thread):
    """The service with two workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with contextlib.suppress(Exception):
        import psycopg  # noqa: PLC0415

        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {request.param}")
    environ = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'docs' / 'examples'}",
        "DATABASE_URL": f"postgresql://altcraft@/{request.param}?host={postgres.directory}",
        "ALTCRAFT_BASE_URL": sandbox_thread.base_url,
        "ALTCRAFT_TOKEN": sandbox_thread.token,
    }
    command = [sys.executable, "-m", "uvicorn", f"{request.param}:app", "--port", str(port), "--workers", "2"]
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if call(f"{url}/readyz")[0] == 200:
                    break
            time.sleep(0.1)
        yield url
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def sandbox_thread():
    from altcraft_async.sandbox import ThreadedSandbox  # noqa: PLC0415

    with ThreadedSandbox() as sandbox:
        sandbox.seed_orders(20)
        yield sandbox


def test_what_is_committed_is_delivered_in_order_and_what_is_rolled_back_is_not(service, sandbox_thread):
    def serve(order):
        return [
            call(f"{service}/lines/order_{order}/line_{order}_1/{status}", "PUT")[0]
            for status in ("processing", "delivering", "delivered")
        ]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(serve, range(1, 21))) == [[202] * 3] * 20
    assert call(f"{service}/lines/other_1/line_1_1/refunded", "PUT")[0] == 409
    for _ in range(300):
        health = call(f"{service}/readyz")[1]
        if health["outbox"]["pending"] == 0 and sandbox_thread.ledger.requests >= 60:
            break
        time.sleep(0.1)
    for order in range(1, 21):
        changes = sandbox_thread.ledger.changes(f"order_{order}", f"line_{order}_1")
        assert [change.status for change in changes] == ["processing", "delivering", "delivered"]
    assert not sandbox_thread.ledger.arrivals("other_1", "line_1_1")
