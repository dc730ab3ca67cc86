"""A headless Chromium of the system, driven by Selenium, for the tests of the sandbox's page and its screenshots."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

__all__ = ["browser", "emulate", "missing"]


def missing() -> str | None:
    """Return what is not installed, or None where all is."""
    try:
        import selenium  # noqa: F401, PLC0415 - optional
    except ImportError:
        return "selenium"
    return next((name for name in ("chromium", "chromedriver") if shutil.which(name) is None), None)


def emulate(
    driver: Chrome, *, width: int, height: int = 900, dark: bool = False, phone: bool = False, medium: str = ""
) -> None:
    """Let the browser have a screen of this size, light or dark, or be on paper with the `medium` ``print``."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": scheme})


@contextmanager
def browser(width: int = 1280, height: int = 900, *, dark: bool = False, phone: bool = False) -> Iterator[Chrome]:
    """Start a browser of this size, with a profile of its own, and end it."""
    from selenium import webdriver  # noqa: PLC0415 - optional
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--lang=en-GB",
            f"--user-data-dir={profile}", f"--window-size={width},{height}",
        ):  # fmt: skip
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
        try:
            emulate(driver, width=width, height=height, dark=dark, phone=phone)
            driver.set_page_load_timeout(60)
            yield driver
        finally:
            driver.quit()
