"""``ALTCRAFT_LOG`` switches on the library's log, for a client made in any way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from altcraft_async import AltcraftClient, ConfigurationError

PROGRAM = """
import asyncio
from altcraft_async import AltcraftClient
from altcraft_async.errors import DeliveryError

async def main():
    async with AltcraftClient("http://127.0.0.1:9", "very-secret", max_retries=1) as client:
        try:
            await client.market.orders.update_order_line_status("o", "l", "new", deadline=0.3)
        except DeliveryError:
            pass

asyncio.run(main())
"""


def log_of(level):
    environ = {**os.environ, "ALTCRAFT_LOG": level}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True)
    assert "very-secret" not in done.stderr
    return done.stderr


@pytest.mark.processes
def test_debug_logs_each_attempt_to_standard_error_and_nothing_is_logged_without():
    assert "DEBUG altcraft_async: " in log_of("debug")
    assert log_of("") == ""


def test_what_is_no_level_is_refused(monkeypatch):
    monkeypatch.setenv("ALTCRAFT_LOG", "loud")
    with pytest.raises(ConfigurationError, match="ALTCRAFT_LOG must be debug, info, warning, error, not 'loud'"):
        AltcraftClient("https://ru.altkraft.com", "x")
