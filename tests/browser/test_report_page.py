"""The page of a run's report in a headless Chromium: by eye, in the dark, on a phone, in print, by a screen reader."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from altcraft_async import LineStatusUpdate, Outcome, OutcomeState
from altcraft_async.errors import api_error
from altcraft_async.report import Bucket, Figures, Level, page
from altcraft_async.report.recording import Collection
from chromium import browser, emulate, missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}, which is not installed: nox -s browser"),
]
EVIL = "<img src=x onerror=\"window.pwned='yes'\"><script>window.pwned='yes'</script>"


def figures() -> Figures:
    """Make the figures of a run of two parts, with an outage in it and hostile ids."""
    collection = Collection()
    for index in range(2000):
        update = LineStatusUpdate(f"order_{index}", f"line_{index}", "delivered")
        collection.take(Outcome(index, update, OutcomeState.APPLIED, 1 + index % 3, index / 1000, "id"))
    for index in range(30):
        order = EVIL if index % 2 else f"a_very_long_order_id_{'x' * 150}_{index}"
        error = api_error(status=400, code=400, text=f"there is no order '{order}' {EVIL}")
        update = LineStatusUpdate(order, EVIL, "delivered")
        collection.take(Outcome(2000 + index, update, OutcomeState.REJECTED, 1, 3.0 + index, "id", error))
    timeline = [
        Bucket(
            start=second if second < 90 else second + 86_400,
            ended={}
            if 30 <= second < 40
            else {OutcomeState.APPLIED: 90 + second % 17, OutcomeState.REJECTED: second % 2},
            sent=100,
            retries=second % 5,
            throttled=second % 7,
            latencies={} if 30 <= second < 40 else {32: 80, 37: 9, 50: 2},
            limit=Level(40 + second % 9, 50),
            in_flight=Level(30, 38),
            outage=1.0 if 30 <= second < 40 else 0.0,
        )
        for second in range(150)
    ]
    return collection.figures(
        source="statuses-2026-11-26.csv", target="https://altcraft.example", run_id="0a1b2c3d", began=1_764_100_000.0,
        elapsed=150.0, sent=15_000, retries=300, throttled=440, timeline=timeline,
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "run.html"
    path.write_text(page(figures()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


def show(driver: Any, *, width: int = 1280, dark: bool = False, medium: str = "screen") -> None:
    emulate(driver, width=width, dark=dark, phone=width < 600, medium=medium)


@pytest.fixture
def shown(driver: Any, address: str) -> Iterator[Any]:
    show(driver)
    driver.get_log("browser")
    driver.get(address)
    yield driver
    assert [entry["message"] for entry in driver.get_log("browser")] == []


def test_nothing_is_loaded_and_nothing_is_run(shown):
    assert shown.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert shown.execute_script("return document.querySelectorAll('script, img, iframe, object').length") == 0
    assert shown.execute_script("return window.pwned") is None
    assert "onerror" in shown.execute_script("return document.body.innerText")


def test_the_answers_stand_above_the_fold(shown):
    said = shown.execute_script("return document.querySelector('.answers').innerText")
    for words in ("No: 30 of 2,030 did not", "30 updates, for one reason", "2 min 30 s", "Yes: down for 10 s"):
        assert words in said
    assert shown.execute_script("return document.querySelector('.answers').getBoundingClientRect().bottom") < 600


@pytest.mark.parametrize("width", [320, 390, 720, 721, 1280, 1920])
def test_no_width_scrolls_sideways(shown, width):
    show(shown, width=width)
    shown.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    pictures = shown.execute_script(
        "return [...document.querySelectorAll('figure [role=img]')].filter(p => p.offsetParent).map(p => p.className)"
    )
    assert set(pictures) == {"narrow" if width <= 720 else "wide"}
    assert len(pictures) == 5


def test_texts_of_pictures_can_be_read_on_a_phone(shown):
    show(shown, width=390)
    heights = shown.execute_script(
        "return [...document.querySelectorAll('.narrow text')].filter(t => t.textContent.trim())"
        ".map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) >= 10


def test_no_text_of_a_picture_is_cut_or_stands_on_another(shown):
    for width in (390, 1280):
        show(shown, width=width)
        found = shown.execute_script(
            """
            const wrong = [];
            for (const svg of document.querySelectorAll('figure svg')) {
              if (!svg.parentElement.offsetParent) continue;
              const frame = svg.getBoundingClientRect();
              const seen = [];
              for (const text of svg.querySelectorAll('text')) {
                const box = text.getBoundingClientRect();
                const said = text.textContent.trim();
                const left = box.right - box.width * said.length / Math.max(1, text.textContent.length);
                if (box.right > frame.right + 1 || left < frame.left - 1) wrong.push('cut: ' + said);
                for (const other of seen)
                  if (left < other.right && other.left < box.right
                      && box.top + 3 < other.bottom && other.top + 3 < box.bottom)
                    wrong.push(said + ' on ' + other.said);
                seen.push({left, right: box.right, top: box.top, bottom: box.bottom, said});
              }
            }
            return wrong;
            """
        )
        assert found == []


def test_every_picture_has_its_words(shown):
    names = shown.execute_script(
        "return [...document.querySelectorAll('[role=img]')].filter(p => p.offsetParent).map(p => p.ariaLabel)"
    )
    assert len(names) == 5
    assert all(len(name) > 40 for name in names)
    assert "Nobody was served from 30 s to 40 s" in names[0]


def test_the_dark_has_dark_ground_and_light_ink(shown):
    def luminance(selector: str, what: str) -> int:
        code = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]].match(/\\d+/g).slice(0, 3)"
        return sum(map(int, shown.execute_script(code, selector, what)))

    show(shown, dark=True)
    assert luminance("body", "backgroundColor") < 120
    assert luminance("body", "color") > 600
    assert luminance(".wide text", "fill") > 450


@pytest.mark.parametrize("dark", [False, True])
def test_a_checker_for_screen_readers_and_contrast_finds_nothing(shown, dark):
    axe = pytest.importorskip("axe_core_python.selenium").Axe()
    show(shown, dark=dark)
    shown.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.run(shown)["violations"]
    said = [f"{one['id']}: {node['html']} {node.get('failureSummary', '')}" for one in found for node in one["nodes"]]
    assert said == []


def test_print_has_wide_pictures_on_a_few_pages_of_white_paper(shown):
    for dark in (True, False):
        show(shown, dark=dark, medium="print")
        style = "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        assert shown.execute_script(style) == ["rgb(255, 255, 255)", "rgb(27, 36, 48)"]
    made = base64.b64decode(shown.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert made.startswith(b"%PDF")
    assert made.count(b"/Type /Page\n") + made.count(b"/Type /Page ") <= 6
