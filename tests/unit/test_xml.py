"""The XML codec: the guide's shapes, and a reader that trusts nobody."""

from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import UnreadableResponseError
from altcraft_async.protocol import xml


def test_fields_stand_under_the_root_xml():
    root = ET.fromstring(xml.encode({"token": "t", "format": "json"}))
    assert (root.tag, {child.tag: child.text for child in root}) == ("xml", {"token": "t", "format": "json"})


def test_a_body_begins_with_its_declaration_and_a_row_does_not_and_what_is_empty_is_short():
    declaration = b'<?xml version="1.0" encoding="utf-8"?>\n'
    assert xml.encode({"a": None, "b": "x"}) == declaration + b"<xml><a/><b>x</b></xml>"
    assert xml.encode_row({"a": None, "b": "x"}) == b"<data><a/><b>x</b></data>"


def test_lists_are_repeated_elements_without_a_wrapper():
    root = ET.fromstring(xml.encode({"external_ids": ["a", "b"], "data": [{"x": "1"}]}))
    assert [(child.tag, child.text) for child in root][:2] == [("external_ids", "a"), ("external_ids", "b")]


def test_values_are_written_the_way_xml_says_them():
    root = ET.fromstring(xml.encode({"yes": True, "no": False, "none": None, "count": 5}))
    assert {child.tag: child.text for child in root} == {"yes": "true", "no": "false", "none": None, "count": "5"}


@pytest.mark.parametrize("write", [xml.encode, xml.encode_row])
def test_ends_of_lines_come_back_as_they_were_and_numbers_have_no_exponent(write):
    root = ET.fromstring(write({"a": "one\r\ntwo\tthree\rfour", "b": 1e17, "c": {"d": [1e-7, 0.5]}}))
    found = root if root.tag == "data" else ET.ElementTree(root).getroot()
    assert found.findtext("a") == "one\r\ntwo\tthree\rfour"
    assert found.findtext("b") == "100000000000000000"
    assert [one.text for one in found.iter("d")] == ["0.0000001", "0.5"]


@given(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cs"]), min_size=1)
)
def test_texts_need_no_care_of_the_caller(text):
    assert ET.fromstring(xml.encode({"a": text}))[0].text == text


def test_what_stands_several_times_is_a_list_and_what_stands_once_is_not():
    assert xml.decode(b"<xml><ids>1</ids><ids>2</ids><tags>1</tags></xml>") == {"ids": ["1", "2"], "tags": "1"}


def test_everything_is_text_and_an_empty_element_is_none():
    body = b"<?xml version='1.0'?>\n<xml>\n <error>0</error>\n <error_text/>\n <data><a>1</a><b></b></data>\n</xml>\n"
    assert xml.decode(body) == {"error": "0", "error_text": None, "data": {"a": "1", "b": None}}


def test_attributes_are_passed_over():
    assert xml.decode(b"<xml a='1'><error array='true'>0</error></xml>") == {"error": "0"}


@pytest.mark.parametrize("declared", ["windows-1251", "UTF-16", "no-such"])
def test_the_body_is_utf_8_whatever_its_declaration_says(declared):
    body = f"<?xml version='1.0' encoding='{declared}'?><xml><a>Отгружен</a></xml>".encode()
    assert xml.decode(body) == {"a": "Отгружен"}


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE xml><xml><a>1</a></xml>",
        b'<!DOCTYPE xml SYSTEM "http://127.0.0.1/x.dtd"><xml><a>&b;</a></xml>',
        b'<!DOCTYPE xml [<!ENTITY b "boom">]><xml><a>&b;</a></xml>',
        b'<!DOCTYPE xml [<!ENTITY b SYSTEM "file:///etc/passwd">]><xml><a>&b;</a></xml>',
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><xml><a>&b;</a></xml>',
        b"<xml><a>&undeclared;</a></xml>",
        b"<xml>" + b"<a>" * 40 + b"</a>" * 40 + b"</xml>",
        b"<xml>" + b"<a>" * 100_000,
        b"<xml><a></xml>",
        b"<xml><a>1</a>",
        b"<xml><a>\xff\xfe</a></xml>",
        b"<xml><a>\x01</a></xml>",
        b"<xml></xml><xml></xml>",
        b"",
        b"text",
        b"<other><a>1</a></other>",
        b"<xml>text</xml>",
        b"<xml/>",
        b"<a><xml><b>1</b></xml></a>",
    ],
)
def test_anything_else_is_unreadable(body):
    with pytest.raises(UnreadableResponseError):
        xml.decode(body)


def test_deep_nesting_is_refused_at_its_first_element_too_deep_not_at_its_end():
    with pytest.raises(UnreadableResponseError, match="not allowed here"):
        xml.decode(b"<xml>" + b"<a>" * 100_000)


def test_the_depth_is_that_of_the_nesting_not_the_number_of_elements():
    assert xml.decode(b"<xml>" + b"<a><b>1</b></a>" * 500 + b"</xml>")["a"][499] == {"b": "1"}


def test_elements_that_are_closed_make_no_room_for_deeper_ones():
    with pytest.raises(UnreadableResponseError, match="not allowed here"):
        xml.decode(b"<xml>" + b"<a/>" * 200 + b"<a>" * 100 + b"</a>" * 100 + b"</xml>")


def test_the_reasonable_depth_of_an_answer_is_read():
    body = b"<xml>" + b"<a>" * 20 + b"1" + b"</a>" * 20 + b"</xml>"
    assert xml.decode(body)


@pytest.mark.parametrize("body", [b"<canary>", b"<xml><canary></xml>", b"<!DOCTYPE canary><xml/>", b"<canary/>"])
def test_the_body_is_no_part_of_the_error_or_of_its_context(body):
    with pytest.raises(UnreadableResponseError) as caught:
        xml.decode(body)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@given(st.binary(max_size=60) | st.text(alphabet="<>/xml!a&;[]\"' -", max_size=40).map(str.encode))
def test_any_bytes_are_an_envelope_or_unreadable(body):
    with suppress(UnreadableResponseError):
        assert type(xml.decode(body)) is dict


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: {"inner": [value]}])
def test_what_json_cannot_carry_is_not_written_as_xml_either(value, wrap):
    with pytest.raises((TypeError, ValueError)):
        xml.encode_row({"external_id": "o", "field": wrap(value)})
