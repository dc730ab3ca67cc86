"""Whether an answer is the answer to its question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import LineKey, LineStatusUpdate, UpdatedOrderLine
from altcraft_async.protocol.answer import another_line, canonical, confirms, echo_of

ASKED = LineStatusUpdate("Order-7", "12", "delivered")


def envelope(**data):
    return {"error": 0, "error_text": "Successful operation", "data": data}


def named(order="Order-7", line="12", **more):
    return envelope(order_external_id=order, order_line_external_id=line, **more)


@pytest.mark.parametrize(
    "payload",
    [
        named(),
        named(order="ORDER-7"),
        named(order=" order-7\n", line=" 12 "),
        named(line=12),
        named(line=12.0),
        {"data": [named()["data"]]},
    ],
)
def test_the_own_line_is_known_however_its_ids_are_written(payload):
    assert another_line(payload, ASKED) is None


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"data": None},
        {"data": "Order-8"},
        {"data": []},
        {"data": [named(order="x")["data"]] * 2},
        {"data": ["Order-8"]},
        envelope(),
        envelope(order_external_id="Order-7"),
        envelope(order_line_external_id="12"),
        named(order="", line=None),
        named(order=True, line={"id": 5}),
    ],
)
def test_what_an_answer_leaves_out_is_no_sign_of_another_line(payload):
    assert another_line(payload, ASKED) is None


@pytest.mark.parametrize("status", ["new", "", 5, None])
def test_another_status_is_no_sign_of_another_line(status):
    assert another_line(named(status_external_id=status), ASKED) is None


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (named(order="Order-8"), ("Order-8", "12")),
        (named(line="13"), ("Order-7", "13")),
        (named(order="12"), ("12", "12")),
        (named(line=13), ("Order-7", "13")),
        (named(line=1.5), ("Order-7", "1.5")),
        (named(line="012"), ("Order-7", "012")),
        (envelope(order_line_external_id=" 13 "), ("Order-7", "13")),
        ({"data": [named(order="Order-8")["data"]]}, ("Order-8", "12")),
    ],
)
def test_another_line_is_named(payload, line):
    assert another_line(payload, ASKED) == LineKey(*line)


@given(order=st.text(min_size=1), line=st.text(min_size=1))
def test_a_line_is_always_itself(order, line):
    update = LineStatusUpdate.__new__(LineStatusUpdate)
    for field, value in (
        ("order_external_id", order),
        ("order_line_external_id", line),
        ("status_external_id", "s"),
    ):
        object.__setattr__(update, field, value)
    assert another_line(named(order=order, line=line), update) is None


@given(st.text(), st.text())
def test_what_is_canonical_stays_so_and_ignores_outer_blanks(order, line):
    key = canonical((order, line))
    assert canonical((f" {order} ", f"\t{line}")) == key
    assert canonical((order.strip(), line.strip())) == key


def test_the_echo_is_what_the_answer_says():
    payload = named(order="ORDER-7", line=12, status_external_id=" shipped ")
    assert echo_of(payload, ASKED, str) == UpdatedOrderLine("ORDER-7", "12", "shipped")


@pytest.mark.parametrize("payload", [{}, envelope(), envelope(status_external_id=None), {"data": [1, 2]}])
def test_what_the_answer_leaves_out_is_echoed_as_it_was_asked(payload):
    assert echo_of(payload, ASKED, str) == UpdatedOrderLine("Order-7", "12", "delivered")


def test_the_echo_of_an_array_of_one_is_that_one():
    payload = {"data": [named(status_external_id="shipped")["data"]]}
    assert echo_of(payload, ASKED, str) == UpdatedOrderLine("Order-7", "12", "shipped")


def test_what_was_asked_for_is_echoed_as_it_is_and_only_other_texts_are_cleaned():
    def echo(payload):
        return echo_of(payload, ASKED, lambda text: text and "***")

    assert echo(named(status_external_id="delivered")) == UpdatedOrderLine("Order-7", "12", "delivered")
    assert echo(named(status_external_id="shipped")) == UpdatedOrderLine("Order-7", "12", "***")


@pytest.mark.parametrize(
    ("payload", "confirmed"),
    [
        (named(status_external_id="delivered"), True),
        (named(order=" ORDER-7", line=12, status_external_id=" Delivered "), True),
        (named(status_external_id="shipped"), False),
        (named(line="13", status_external_id="delivered"), False),
        (named(order="Order-8", status_external_id="delivered"), False),
        (named(), False),
        (envelope(status_external_id="delivered"), False),
        ({}, False),
    ],
)
def test_an_answer_confirms_its_call_by_naming_the_line_and_the_status(payload, confirmed):
    assert confirms(payload, ASKED) is confirmed
