"""The table of methods: complete, and its arrays are arrays in both formats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from altcraft_async.protocol.methods import BY_PATH, GET_ORDER_STATUS, LIST_ORDERS, LIST_PRODUCTS, METHODS, Repeat


def test_there_are_the_thirteen_methods_of_the_market_each_once():
    assert len(METHODS) == len(BY_PATH) == 13
    assert all(path.startswith("market/") for path in BY_PATH)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_a_method_names_its_page_and_each_field_once(method):
    fields = (*method.required, *method.either, *method.optional)
    assert method.page
    assert len(set(fields)) == len(fields)


def test_what_may_be_applied_twice_is_the_commit_of_a_preorder():
    assert [method.path for method in METHODS if method.repeat is Repeat.TWICE] == ["market/orders/preorder_commit"]


def test_a_single_element_of_an_array_becomes_a_list_also_inside_of_another():
    payload = {"result": {"external_id": "o", "tags": "t", "lines": [{"external_id": "l", "sku": "s"}]}}
    LIST_ORDERS.arrange(payload)
    assert payload == {"result": [{"external_id": "o", "tags": ["t"], "lines": [{"external_id": "l", "sku": "s"}]}]}


def test_an_empty_array_is_an_empty_list_and_an_absent_one_stays_away():
    payload = {"result": [{"name": "n", "sku": None}, {"name": "m"}]}
    LIST_PRODUCTS.arrange(payload)
    assert payload == {"result": [{"name": "n", "sku": []}, {"name": "m"}]}


def test_what_is_no_array_of_the_method_is_left_alone():
    payload = {"result": {"status": "new", "tags": "x"}, "data": None}
    GET_ORDER_STATUS.arrange(payload)
    assert payload == {"result": {"status": "new", "tags": "x"}, "data": None}


def test_the_method_that_contributors_are_shown_is_the_one_that_there_is():
    root = Path(__file__).parents[2]
    shown = re.search(r"```diff\n(.*?)```", (root / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert shown is not None
    added = [line for line in shown[1].splitlines() if line.startswith("+")]
    assert len(added) < 30
    for name, block in re.findall(r"--- a/(\S+)\n((?:\+.*\n)+)", shown[1]):
        text = (root / name).read_text()
        assert [line for line in block.splitlines() if f"{line[1:]}\n" not in text] == [], name
