"""The sandbox's page in a headless Chromium, as a person uses it: by eye, keyboard, screen reader and phone."""

from __future__ import annotations

import json
import time
import urllib.request
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from altcraft_async.sandbox import PRESETS, Fault, Faults, ThreadedSandbox
from chromium import browser, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}, which is not installed: nox -s browser"),
]
EVIL = "<img src=x onerror=\"window.pwned='yes'\"><script>window.pwned='yes'</script>"


class Page:
    """The page of one sandbox in a browser."""

    def __init__(self, driver: Any, sandbox: ThreadedSandbox) -> None:
        self.driver = driver
        self.sandbox = sandbox
        self.ids = count(1)
        driver.get_log("browser")
        driver.get(f"{sandbox.base_url}/")
        self.until(lambda: self.text("#link") == "live")

    def update(self, order: str, line: str, status: str, request_id: str = "", agent: str = "test") -> None:
        fields = {"order_external_id": order, "order_line_external_id": line, "status_external_id": status}
        request = urllib.request.Request(
            f"{self.sandbox.base_url}/api/v1.1/market/orders/update_order_line_status",
            json.dumps({"token": self.sandbox.token, **fields}).encode(),
            {
                "Content-Type": "application/json",
                "Request-ID": request_id or f"id-{next(self.ids)}",
                "User-Agent": agent,
            },
        )
        with urllib.request.urlopen(request, timeout=20):
            pass

    def script(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments)

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0]).innerText", selector))

    def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, self.text("body")
            time.sleep(0.05)

    def says(self, selector: str, *words: str) -> None:
        self.until(lambda: all(word in self.text(selector) for word in words))

    def click(self, selector: str) -> None:
        element = self.driver.find_element("css selector", selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def write(self, selector: str, text: str) -> None:
        field = self.driver.find_element("css selector", selector)
        field.clear()
        field.send_keys(text)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox(seed=7) as found:
        found.seed_orders(30, 3)
        yield found


@pytest.fixture
def page(driver: Any, sandbox: ThreadedSandbox) -> Iterator[Page]:
    found = Page(driver, sandbox)
    yield found
    complaints = [entry["message"] for entry in driver.get_log("browser")]
    driver.get("about:blank")  # so that the stream ends before the sandbox does
    assert complaints == []


def test_someone_new_sees_at_once_which_lines_were_refused_and_why(page):
    page.update("order_1", "line_1_1", "shipped")
    page.update("order_99", "line_1", "delivered")
    page.says(
        "#refused", "order_99 / line_1", "there is no order 'order_99'", "order_1 / line_1_1", "'shipped' is neither"
    )
    assert page.text("#nav-refused") == "2"
    bottom = page.script("return document.querySelector('#refused-rows').getBoundingClientRect().bottom")
    assert bottom < 900  # without scrolling


def test_many_lines_with_one_cause_are_one_reason(page):
    for number in range(1, 6):
        page.update(f"order_{number}", "nothing", "delivered")
    page.says("#reasons", "5 ×", "has no line")


def test_requests_show_as_they_come(page):
    page.says("#requests", "None yet.")
    page.update("order_1", "line_1_1", "delivered")
    page.says("#requests-rows", "order_1 / line_1_1", "delivered", "applied")
    page.says("#orders-rows", "line_1_1 delivered")
    page.says("#verdict", "All is well.")


def test_the_list_of_requests_is_filtered_and_paused(page):
    page.update("order_1", "line_1_1", "delivered")
    page.update("order_2", "line_2_1", "shipped")
    page.says("#requests-rows", "order_2")
    page.script(
        "const s = document.querySelector('#filter-result'); s.value='refused'; s.dispatchEvent(new Event('change'))"
    )
    page.until(lambda: "order_1" not in page.text("#requests-rows") and "order_2" in page.text("#requests-rows"))
    page.write("#filter-search", "line_9")
    page.says("#requests", "None fits.")
    page.click("#pause")
    page.update("order_9", "line_9_1", "shipped")
    page.says("#refused", "order_9")
    assert "line_9_1" not in page.text("#requests")
    page.click("#pause")
    page.says("#requests-rows", "line_9_1")


def test_a_line_tells_its_history(page):
    page.sandbox.faults = Faults(script=[None, None, Fault("error", status=503)])
    page.update("order_1", "line_1_1", "delivering", "id-1")
    page.update("order_1", "line_1_1", "delivering", "id-1")
    page.says("#orders-rows", "line_1_1 delivering")
    page.click("#orders-rows button")
    page.says("#details", "order_1 / line_1_1", "Status now", "delivering", "id-1", "replayed")
    page.click("#details-close")
    assert not page.script("return document.querySelector('#details').open")


def test_a_request_shows_body_and_answer_without_the_token(page):
    page.update("order_1", "line_1_1", "delivered", "id-7")
    page.says("#requests-rows", "applied")
    page.click("#requests-rows button")
    page.says("#details", "order_line_external_id", "[token]", "Successful operation", "id-7")
    assert page.sandbox.token not in page.script("return document.documentElement.outerHTML")
    page.driver.switch_to.active_element.send_keys("\ue00c")  # Escape
    page.until(lambda: not page.script("return document.querySelector('#details').open"))


def test_faults_are_switched_on_by_a_preset_and_one_by_one(page):
    page.says("#presets", "mixed")
    page.click("[data-preset=mixed]")
    page.says("#faults-now", "mixed")
    assert page.sandbox.faults == PRESETS["mixed"].faults
    page.click("[data-preset=none]")
    page.says("#faults-now", "none")
    page.click("#own-faults summary")
    page.write("input[name=error_503]", "25")
    page.write("input[name=slots]", "3")
    page.click("#fault-form button")
    page.says("#faults-now", "one by one")
    assert (page.sandbox.faults.error_503, page.sandbox.faults.slots) == (0.25, 3)
    page.write("input[name=error_502]", "90")
    page.click("#fault-form button")
    page.says("#fault-error", "the shares of all faults add up to 1.15")
    page.driver.get_log("browser")  # the browser complains of the 400, as it should


def test_faults_that_a_program_switches_show_too(page):
    page.sandbox.faults = PRESETS["down"].faults
    page.says("#faults-now", "down")
    assert page.script("return document.querySelector('[data-preset=down]').getAttribute('aria-pressed')") == "true"


def test_the_ledger_finds_what_was_lost(page):
    page.update("order_1", "line_1_1", "delivered")
    page.click("#check summary")
    page.write("#expected", "order_external_id,order_line_external_id,status\norder_1,line_1_1,delivered\n")
    page.click("#check-form button")
    page.says("#check-result", "As it should be")
    page.write("#expected", "order_1,line_1_1,delivered\norder_2,line_2_1,delivered")
    page.click("#check-form button")
    page.says("#check-result", "Not as it should be", "1 lost", "order_2 / line_2_1 → delivered")


def test_orders_are_made_searched_and_reset(page):
    page.says("#orders-found", "30 found")
    page.click("#orders-more")
    page.says("#orders-rows", "order_30")
    page.write("#orders-search", "line_7_")
    page.says("#orders-found", "1 found")
    page.write("#seed-orders", "35")
    page.click("#seed button")
    page.until(lambda: page.sandbox.has("orders", "order_35"))
    page.click("#reset")
    page.driver.switch_to.alert.accept()
    page.says("#all-said", "Everything is forgotten.")
    page.says("#orders-found", "There is no such order.")


def test_what_came_with_requests_is_text_and_nothing_else(page):
    page.sandbox.add_order(EVIL, {EVIL: "new"})
    page.update(EVIL, EVIL, EVIL, request_id="a<b>c", agent=EVIL)
    page.update("order_1", EVIL, "delivered")
    page.says("#refused-rows", "onerror")
    page.says("#requests-rows", "onerror")
    page.write("#orders-search", "onerror")
    page.says("#orders-rows", "onerror")
    page.click("#requests-rows tr:last-child button")
    page.says("#details", "onerror", "User-Agent")
    page.click("#details-close")
    page.click("#orders-rows button")
    page.says("#details", "Status now")
    page.click("#details-close")
    page.click("#refused-rows button")
    page.says("#details", "onerror")
    assert page.script("return window.pwned") is None
    assert page.script("return document.querySelectorAll('img, script:not([src])').length") == 0


def test_the_policy_leaves_no_way_to_write_html(page):
    code = "try { document.body.innerHTML = '<p>x</p>'; return 'written' } catch (error) { return error.name }"
    assert page.script(code) == "TypeError"
    page.driver.get_log("browser")  # the browser complains of it, as it should


def test_everything_is_reached_by_keyboard(page):
    page.update("order_1", "line_1_1", "shipped")
    page.says("#refused-rows", "shipped")
    seen = []
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys("\ue004")  # Tab
        what = page.script("const a = document.activeElement; return a.id || a.dataset.preset || a.href || a.innerText")
        seen.append(what)
    assert any("#refused" in what for what in seen)
    for wanted in ("order_1 / line_1_1", "filter-result", "filter-search", "pause", "orders-search"):
        assert wanted in seen


@pytest.mark.parametrize("dark", [False, True])
def test_a_checker_for_screen_readers_and_contrast_finds_nothing(page, dark):
    axe = pytest.importorskip("axe_core_python.selenium").Axe()
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    page.update("order_1", "line_1_1", "shipped")
    page.update("order_2", "line_2_1", "shipped", "b")
    page.update("order_2", "line_2_1", "delivered", "c")
    page.says("#refused-rows", "applied later")
    page.click("#own-faults summary")
    page.click("#check summary")
    time.sleep(1.3)  # until what is new has faded
    found = axe.run(page.driver)["violations"]
    page.click("#requests-rows button")
    page.says("#details", "Answer")
    found += axe.run(page.driver)["violations"]
    told = [f"{one['id']}: {node['html']} {node.get('failureSummary', '')}" for one in found for node in one["nodes"]]
    page.driver.get_log("browser")
    assert told == []


def test_a_phone_shows_it_without_scrolling_sideways(sandbox):
    with browser(390, 844, phone=True) as driver:
        page = Page(driver, sandbox)
        page.update("order_1", "line_1_1", "shipped")
        page.update("order_with_a_very_long_name_" + "x" * 60, "line", "delivered")
        page.says("#refused-rows", "shipped", "order_with")
        page.says("#requests-rows", "line_1_1")
        assert page.script("return document.documentElement.scrollWidth") <= 390
        top = page.script("return document.querySelector('#refused-rows').getBoundingClientRect().top")
        assert top < 844
        driver.get("about:blank")


def test_the_description_of_the_admin_api_is_readable(page):
    page.driver.get(f"{page.sandbox.base_url}/_sandbox/")
    assert "POST /_sandbox/seed" in page.text("body")
    assert page.script("return getComputedStyle(document.querySelector('section')).borderRadius") == "10px"
