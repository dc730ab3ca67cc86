"""The values that are said to Altcraft: checked at construction, frozen, carried by both codecs."""

from __future__ import annotations

import copy
import enum
import pickle
from itertools import product

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altcraft_async import ConfigurationError, InvalidUpdateError, LineKey, LineStatusUpdate, OrderLineStatus
from altcraft_async.protocol import json, xml
from altcraft_async.protocol.values import check_request_id

FIELDS = ("order_external_id", "order_line_external_id", "status_external_id")


def acceptable(text: str) -> bool:
    try:
        LineStatusUpdate(text, "line", "new")
    except InvalidUpdateError:
        return False
    return True


IDS = st.text(min_size=1, max_size=12).filter(acceptable)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("bad", ["", " ", "\t", "\u00a0", "\u2003"])
def test_an_empty_or_blank_id_is_refused_by_name(field, bad):
    with pytest.raises(InvalidUpdateError, match=f"{field} is empty") as caught:
        LineStatusUpdate(**{**dict.fromkeys(FIELDS, "x"), field: bad})
    assert caught.value.field == field


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("bad", [None, float("nan")])
def test_a_missing_id_is_refused_by_name(field, bad):
    with pytest.raises(InvalidUpdateError, match=f"{field} is missing"):
        LineStatusUpdate(**{**dict.fromkeys(FIELDS, "x"), field: bad})


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("bad", [1.0, b"x", True, ["x"]])
def test_what_is_neither_text_nor_a_whole_number_is_refused_by_name(field, bad):
    said = f"{field} must be a string or a whole number, not {type(bad).__name__}"
    with pytest.raises(InvalidUpdateError, match=said) as caught:
        LineStatusUpdate(**{**dict.fromkeys(FIELDS, "x"), field: bad})
    assert caught.value.field == field


def test_whole_numbers_become_text():
    assert LineStatusUpdate(1001, 7, -3) == LineStatusUpdate("1001", "7", "-3")
    for ids in product((7, "7"), repeat=3):
        assert LineStatusUpdate(*ids) == LineStatusUpdate("7", "7", "7")


def test_a_tag_takes_no_part_in_comparisons_and_an_own_id_does():
    plain = LineStatusUpdate("o", "l", "new")
    assert LineStatusUpdate("o", "l", "new", tag=["anything"]) == plain
    assert hash(LineStatusUpdate("o", "l", "new", tag=["anything"])) == hash(plain)
    assert LineStatusUpdate("o", "l", "new", request_id="mine") != plain


@pytest.mark.parametrize("bad", ["", " ", "\n", "é", 5])
def test_an_own_id_that_can_be_no_header_is_refused_as_a_row(bad):
    with pytest.raises(InvalidUpdateError, match="request_id must be") as caught:
        LineStatusUpdate("o", "l", "new", request_id=bad)
    assert caught.value.field == "request_id"


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF, 0xFFFE, 0xFFFF])
def test_a_character_that_a_format_cannot_carry_is_refused_with_its_place(code):
    with pytest.raises(InvalidUpdateError, match=f"U\\+{code:04X} at position 3"):
        LineStatusUpdate("ab" + chr(code) + "c", "line", "new")


@pytest.mark.parametrize("good", ["a b", "№ 5", "x\u00a0y", "x\u200by", "\U0001f600", "<>&\"'", "]]>", "-1", "\u3042"])
def test_unusual_ids_are_accepted(good):
    assert LineStatusUpdate(good, good, good).status_external_id == good


@given(IDS, IDS, IDS)
@settings(max_examples=50, deadline=None)
def test_accepted_ids_come_through_json_unchanged_and_through_xml_but_for_blanks_at_the_ends(order, line, status):
    fields = dict(zip(FIELDS, (order, line, status), strict=True))
    assert json.decode(json.encode(fields)) == fields
    stripped = {name: value.strip() for name, value in fields.items()}
    read = xml.decode(xml.encode(fields))
    assert {name: value.strip() for name, value in read.items()} == stripped


@given(st.text(max_size=30))
def test_a_text_is_either_an_id_or_refused_with_a_remedy(text):
    if acceptable(text):
        assert LineStatusUpdate(text, "line", "new").order_external_id == text
        return
    with pytest.raises(InvalidUpdateError, match=";") as caught:
        LineStatusUpdate(text, "line", "new")
    assert caught.value.field == "order_external_id"


def test_a_status_becomes_a_plain_string():
    update = LineStatusUpdate("o", "l", OrderLineStatus.DELIVERED)
    assert type(update.status_external_id) is str
    assert update == LineStatusUpdate("o", "l", "delivered")


def test_the_system_statuses_are_those_of_the_guide():
    assert list(OrderLineStatus) == ["new", "processing", "delivering", "delivered", "canceled", "refunded"]


def test_the_key_is_the_order_line():
    key = LineStatusUpdate("o", "l", "new").key
    assert key == LineKey("o", "l") == ("o", "l")
    assert key.order_line_external_id == "l"


def test_an_update_shows_its_three_ids_and_nothing_that_the_caller_added():
    update = LineStatusUpdate("o", "l", "new", request_id="canary-1", tag="canary-2")
    assert repr(update) == (
        "LineStatusUpdate(order_external_id='o', order_line_external_id='l', status_external_id='new')"
    )


def test_an_update_is_a_value():
    update = LineStatusUpdate("o", "l", "new")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        update.status_external_id = "x"
    assert hash(update) == hash(LineStatusUpdate("o", "l", "new"))
    assert pickle.loads(pickle.dumps(update)) == copy.deepcopy(update) == update
    assert not hasattr(update, "__dict__")


def test_a_changed_copy_is_checked_like_any_other():
    update = LineStatusUpdate("o", "l", "new")
    assert attrs.evolve(update, status_external_id="delivered").status_external_id == "delivered"
    with pytest.raises(InvalidUpdateError):
        attrs.evolve(update, status_external_id="")


class Spoken(str, enum.Enum):  # noqa: UP042 - what users have
    ORDER = "order_1"
    DELIVERED = "delivered"


@pytest.mark.parametrize("field", FIELDS)
def test_a_string_with_an_enum_class_counts_as_its_value_in_every_field(field):
    update = LineStatusUpdate(**{**dict.fromkeys(FIELDS, "x"), field: Spoken.DELIVERED})
    assert getattr(update, field) == "delivered"
    assert type(getattr(update, field)) is str
    assert json.encode({field: getattr(update, field)}).decode().count("delivered") == 1


@pytest.mark.parametrize("text", ["a\nb", "ключ", " ", "", "\x7f"])
def test_a_request_id_that_can_be_no_header_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
        check_request_id(text)

    assert caught.value.field == "request_id"


def test_a_request_id_of_printable_text_is_taken_as_it_is() -> None:
    assert check_request_id("nightly 2026-11-26 #7") == "nightly 2026-11-26 #7"


def test_a_request_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not int"):
        check_request_id(7)
