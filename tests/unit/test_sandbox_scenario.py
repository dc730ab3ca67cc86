"""Scenarios: a file makes the same sandbox as the keywords, and changes its faults when it says so."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import PRESETS, Faults, Readings, Sandbox, Scenario
from altcraft_async.sandbox.scenario import _SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
faults = "mixed"

[settings]
token = "t-oken"
port = 0
nodes = 2
repeats = "refuse"
custom_statuses = ["packed"]
state_file = "state.jsonl"
tokens = { reader = "read" }

[settings.readings]
page_limit = 7
currencies = ["RUB"]

[[seed]]
orders = 2
lines_per_order = 3

[[order]]
external_id = "A-17"
lines = { first = "packed" }
status = "paid"

[[at]]
seconds = 0.5
faults = { preset = "slow", slots = 3 }

[[at]]
seconds = 2
faults = "none"
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        return path

    return write


def test_every_setting_of_the_sandbox_can_stand_in_a_file():
    assert _SETTINGS.keys() == inspect.signature(Sandbox).parameters.keys() - {"faults", "clock"}


def test_a_file_is_read(written):
    scenario = Scenario.read(written(WHOLE))
    readings = scenario.settings["readings"]
    assert isinstance(readings, Readings)
    assert (readings.page_limit, readings.currencies) == (7, frozenset({"RUB"}))
    assert scenario.settings["faults"] == PRESETS["mixed"].faults
    assert scenario.settings["state_file"] == written(WHOLE).parent / "state.jsonl"
    assert scenario.seeds == [(2, 3)]
    assert [seconds for seconds, _ in scenario.steps] == [0.5, 2]
    assert scenario.steps[0][1].slots == 3


def test_the_sandbox_of_a_file_has_its_settings_and_orders(written):
    sandbox = Scenario.read(written(WHOLE)).sandbox(token="another")
    assert sandbox.token == "another"
    assert sandbox.order_count == 3
    assert sandbox.line_status("A-17", "first") == "packed"
    assert sandbox.order_status("A-17") == "paid"
    assert sandbox.faults == PRESETS["mixed"].faults


async def test_faults_change_at_their_time(written):
    scenario = Scenario.read(written(WHOLE))
    sandbox = Sandbox()
    seen: list[tuple[float, Faults]] = []

    async def sleep(seconds: float) -> None:
        seen.append((seconds, sandbox.faults))

    await scenario.play(sandbox, sleep=sleep)
    assert seen == [(0.5, Faults()), (1.5, scenario.steps[0][1])]
    assert sandbox.faults == Faults()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = [", "is not TOML"),
        ("speed = 1", "speed is not known here; known are faults, settings, seed, order, at"),
        ("[settings]\nportt = 1", "settings.portt is not known"),
        ("[settings]\nport = '1'", "settings.port must be a whole number"),
        ("[settings]\nport = true", "settings.port must be a whole number"),
        ("[settings]\ndedup_window = 'x'", "settings.dedup_window must be a whole number or a number"),
        ("[settings.readings]\npage = 1", "settings.readings.page is not known"),
        ("[settings.readings]\nrow_results = 'all'", "row_results must be one of"),
        ("[[seed]]\nlines_per_order = 1", "seed[0].orders must be there"),
        ("[[seed]]\norders = -1", "seed[0] must be of numbers from 0 up"),
        ("[[order]]\nexternal_id = 'a'", "order[0].lines must be there"),
        ("[[order]]\nexternal_id = 'a'\nlines = [1]", "order[0].lines must be of texts"),
        ("[[at]]\nseconds = 1", "at[0].faults must be there"),
        ("[[at]]\nseconds = -1\nfaults = 'none'", "at[0].seconds must be from 0 up"),
        ("[[at]]\nseconds = 2\nfaults = 'none'\n[[at]]\nseconds = 1\nfaults = 'none'", "at must be in the order"),
        ("[[at]]\nseconds = 1\nfaults = 'bad'", "preset must be one of none, mixed"),
        ("faults = { error_500 = 2.0 }", "the shares of all faults add up to 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(written, text, said):
    path = written(text)
    with pytest.raises(ConfigurationError) as caught:
        Scenario.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
