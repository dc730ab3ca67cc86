"""The built documents in a headless Chromium: contrast and alt texts, and no line of code cut at any width."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chromium import browser, emulate, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILT = Path(os.environ.get("BUILT_DOCUMENTS", Path(__file__).parents[2] / "docs" / "_build" / "html"))
PAGES = [
    "index",
    "howto/outbox",
    "howto/sync-a-file",
    "reference/settings",
    "reference/errors",
    "reference/messages",
    "reference/benchmarks",
    "explanation/guarantees",
]
FOREIGN = {"definition-list", "landmark-unique", "region", "scrollable-region-focusable"}
"""What the frame of the theme and the signatures of Sphinx have, and no page can change."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}, which is not installed: nox -s browser"),
    pytest.mark.skipif(not BUILT.exists(), reason="needs the built documents: nox -s docs"),
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


def open_page(driver: Any, name: str, *, width: int = 1280, dark: bool = False) -> None:
    emulate(driver, width=width, dark=dark, phone=width < 600)
    driver.get((BUILT / f"{name}.html").as_uri())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_checker_for_contrast_and_screen_readers_finds_nothing_in_a_page(driver, name, dark):
    axe = pytest.importorskip("axe_core_python.selenium").Axe()
    open_page(driver, name, dark=dark)
    found = [one for one in axe.run(driver, "article")["violations"] if one["id"] not in FOREIGN]
    said = [f"{one['id']}: {node['html']} {node.get('failureSummary', '')}" for one in found for node in one["nodes"]]
    assert said == []


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_no_line_of_code_is_cut_and_no_page_scrolls_sideways(driver, name, width):
    open_page(driver, name, width=width)
    cut = driver.execute_script(
        "return [...document.querySelectorAll('article pre')]"
        ".filter(one => one.offsetParent && one.scrollWidth > one.clientWidth + 1)"
        ".map(one => one.textContent.slice(0, 80))"
    )
    assert cut == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_no_table_is_wider_than_its_place(driver, name):
    open_page(driver, name, width=390)
    wide = driver.execute_script(
        "return [...document.querySelectorAll('article table.docutils')]"
        ".filter(one => one.offsetParent && one.offsetWidth > one.parentElement.clientWidth + 1)"
        ".map(one => one.textContent.slice(0, 80))"
    )
    assert wide == []


def test_a_row_of_a_table_becomes_an_entry_with_its_labels_on_a_phone(driver):
    open_page(driver, "reference/settings", width=390)
    cell = "document.querySelector('table.stacks tbody tr td:nth-child(3)')"
    assert driver.execute_script(f"return getComputedStyle({cell}, '::before').content") == '"meaning"'
    assert driver.execute_script(f"return {cell}.offsetWidth") > 300
    emulate(driver, width=1280)
    assert driver.execute_script(f"return getComputedStyle({cell}, '::before').content") == "none"
