"""Make the screenshots of the sandbox's page: ``nox -s browser -- screenshots``.

A client pushes statuses through faults, some of them wrong, as people would on a bad day.
"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import time
from pathlib import Path

from altcraft_async import AltcraftClient, LineStatusUpdate, RetryPolicy
from altcraft_async.sandbox import PRESETS, ThreadedSandbox

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from PIL import Image

from chromium import browser

IMAGES = Path(__file__).parent / "images"
SIZES = {"desktop": (1200, 900, False, False), "phone": (390, 844, True, False), "dark": (1200, 900, False, True)}


async def push(base_url: str, token: str) -> None:
    """Send what a shop sends on a bad day."""
    updates = [
        LineStatusUpdate(f"order_{order}", f"line_{order}_{line}", status)
        for status in ("processing", "delivering", "delivered")
        for order in range(1, 31)
        for line in (1, 2, 3)
    ]
    wrong = [
        LineStatusUpdate("order_7", "line_7_9", "delivered"),
        LineStatusUpdate("order_12", "line_12_1", "packed"),
        LineStatusUpdate("A-4711", "1", "delivered"),
        LineStatusUpdate("order_3", "line_3_2", "shipped"),
    ]
    updates[60:60] = wrong[:2]
    updates[200:200] = wrong[2:]
    retry = RetryPolicy(attempts=20, base=0.01, max_delay=0.1)
    async with AltcraftClient(base_url, token=token, retry=retry, concurrency=12, group=None) as client:
        await client.market.orders.update_order_line_statuses(updates)


def main() -> None:
    """Make all of them."""
    IMAGES.mkdir(exist_ok=True)
    with ThreadedSandbox(seed=3, faults=PRESETS["mixed"].faults) as sandbox:
        sandbox.seed_orders(30, 3)
        asyncio.run(push(sandbox.base_url, sandbox.token))
        for name, (width, height, phone, dark) in SIZES.items():
            with browser(width, height, phone=phone, dark=dark) as driver:
                driver.get(f"{sandbox.base_url}/")
                time.sleep(2.5)  # until the first pictures are drawn and have faded
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
                picture.quantize(64).save(IMAGES / f"sandbox-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
