"""Faults as JSON: every field, there and back, and a clear word where one is wrong."""

from __future__ import annotations

import json

import attrs
import pytest

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import PRESETS, Fault, Faults
from altcraft_async.sandbox.forms import FAULT_FIELDS, faults_from, faults_to_dict, preset_of


def test_the_table_has_every_field_of_faults() -> None:
    assert FAULT_FIELDS.keys() == {field.name for field in attrs.fields(Faults)}


@pytest.mark.parametrize("faults", [one.faults for one in PRESETS.values()], ids=list(PRESETS))
def test_a_preset_comes_back(faults: Faults) -> None:
    assert faults_from(json.loads(json.dumps(faults_to_dict(faults)))) == faults


def test_scripts_and_lines_come_back() -> None:
    faults = Faults(
        script=[Fault("error", status=503, retry_after=2), None],
        lines={("o", "l"): Fault("reset_after", lasting=3.0), ("o", "m"): [None, Fault("html")]},
        only=["market/orders/import"],
    )
    assert faults_from(json.loads(json.dumps(faults_to_dict(faults)))) == faults


def test_functions_are_shown_as_such_and_not_read() -> None:
    told = faults_to_dict(Faults(script=lambda *_: None))
    assert told["script"] == "a function"
    with pytest.raises(ConfigurationError, match="script must be an array of faults"):
        faults_from(told)


def test_a_preset_is_a_name_or_a_beginning() -> None:
    assert faults_from("mixed") == PRESETS["mixed"].faults
    assert faults_from({"preset": "mixed", "latency": 0}) == attrs.evolve(PRESETS["mixed"].faults, latency=0)
    assert faults_from({"latency": 1}, PRESETS["slow"].faults) == attrs.evolve(PRESETS["slow"].faults, latency=1)


def test_a_preset_is_known_by_its_faults() -> None:
    assert {name: preset_of(one.faults) for name, one in PRESETS.items()} == {name: name for name in PRESETS}
    assert preset_of(Faults(latency=0.1234)) is None


def test_a_fault_is_also_its_kind_alone() -> None:
    faults = faults_from({"script": ["reset_after", "none", None]})
    assert faults.script == [Fault("reset_after"), None, None]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (7, "faults"),
        ("mixd", "preset"),
        ({"preset": ["mixed"]}, "preset"),
        ({"latencyy": 1}, "latencyy"),
        ({"latency": "1"}, "latency"),
        ({"latency": True}, "latency"),
        ({"latency": -1}, "latency"),
        ({"latency": None}, "latency"),
        ({"latency": float("inf")}, "latency"),
        ({"slots": 1.5}, "slots"),
        ({"slots": 0}, "slots"),
        ({"over_slots": "drop"}, "over_slots"),
        ({"only": "market/orders/import"}, "only"),
        ({"error_500": 0.6, "error_502": 0.6}, "faults"),
        ({"script": "reset_after"}, "script"),
        ({"script": ["nothing"]}, "script[0].kind"),
        ({"script": [{"status": 503}]}, "script[0]"),
        ({"script": [{"kind": "error", "status": "503"}]}, "script[0].status"),
        ({"script": [{"kind": "error", "status": None}]}, "script[0]"),
        ({"lines": [{"order": "o", "line": "l"}]}, "lines[0]"),
        ({"lines": [{"order": 1, "line": "l", "faults": "html"}]}, "lines[0]"),
    ],
)
def test_what_is_wrong_is_named(given: object, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        faults_from(given)
    assert caught.value.field == field
