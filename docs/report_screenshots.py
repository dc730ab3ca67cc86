"""Make the pictures of a run's report: ``nox -s browser -- screenshots``.

A real run, of the command itself: twenty-four thousand updates go to a sandbox that throttles, is away for a while, and
comes back; a few rows are wrong. The page is what ``--report`` wrote.
"""

from __future__ import annotations

import base64
import csv
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image

from altcraft_async.sandbox import PRESETS, Faults, ThreadedSandbox

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chromium import browser

IMAGES = Path(__file__).parent / "images"
SIZES = {
    "desktop": (1100, 900, False, False),
    "dark": (1100, 900, False, True),
    "phone": (390, 844, True, False),
    "phone-dark": (390, 844, True, True),
}
ORDERS, LINES = 2000, 4
BUSY = Faults(latency=0.02, jitter=0.3, slots=24, over_slots="reject", retry_after=0.05)
SERVED, AWAY = 3000, 8.0
"""Requests after which the server goes away, and for how many seconds."""


def write_input(path: Path) -> None:
    """Write what a shop sends in a night, with some rows that are wrong."""
    rows = [
        (f"order_{order}", f"line_{order}_{line}", status)
        for status in ("processing", "delivering", "delivered")
        for order in range(1, ORDERS + 1)
        for line in range(1, LINES + 1)
    ]
    rows[2000:2000] = [(f"A-{number}", "1", "delivered") for number in range(4711, 4720)]
    rows[5000:5000] = [("order_7", "line_7_1", "shipped"), ("order_9", "", "delivered")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["order_external_id", "order_line_external_id", "status_external_id"])
        writer.writerows(rows)


def play(sandbox: ThreadedSandbox, ended: threading.Event) -> None:
    """Let the server go away amid the run, and come back."""
    while sandbox.ledger.requests < SERVED and not ended.wait(0.05):
        pass
    sandbox.faults = PRESETS["down"].faults
    ended.wait(AWAY)
    sandbox.faults = BUSY


def run(folder: Path) -> Path:
    """Send the input with the command, and return its report."""
    write_input(folder / "statuses.csv")
    with ThreadedSandbox(seed=3, faults=BUSY) as sandbox:
        sandbox.seed_orders(ORDERS, LINES)
        ended = threading.Event()
        server = threading.Thread(target=play, args=(sandbox, ended))
        server.start()
        command = [sys.executable, "-m", "altcraft_async", "sync", "statuses.csv", "--report", "run.html", "--quiet"]
        own = {"ALTCRAFT_BASE_URL": sandbox.base_url, "ALTCRAFT_TOKEN": sandbox.token, "ALTCRAFT_LIMIT_GROUP": "off"}
        subprocess.run(command, cwd=folder, env={**os.environ, **own}, check=False, timeout=600)  # noqa: S603 - our own
        ended.set()
        server.join()
    return folder / "run.html"


def main() -> None:
    """Make all of them."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = run(Path(folder))
        for name, (width, height, phone, dark) in SIZES.items():
            with browser(width, height, phone=phone, dark=dark) as driver:
                driver.get(page.as_uri())
                time.sleep(0.5)
                whole = min(2700, driver.execute_script("return document.documentElement.scrollHeight"))
                clip = {"x": 0, "y": 0, "width": width, "height": whole, "scale": 1}
                options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", options)
                picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
                picture.quantize(200).save(IMAGES / f"report-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
