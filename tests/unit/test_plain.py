"""What both formats write differently: codes, amounts, what is not known; and what of a server's text is shown."""

from __future__ import annotations

import pytest

from altcraft_async.protocol.plain import as_text, code_of, plain_decimal, readable


@pytest.mark.parametrize("code", [0, 409, 999_999_999, -999_999_999])
def test_a_code_is_the_same_as_a_number_and_as_a_text(code):
    assert code_of(code) == code_of(f" {code}\n") == code


@pytest.mark.parametrize("code", [10**9, -(10**9), True, 1.0, None, "", "1000000000", "1.0", "+1", "one", [1]])
def test_what_is_no_number_of_up_to_nine_digits_is_no_code(code):
    assert code_of(code) is None


def test_a_text_of_somebody_else_is_shown_in_one_line_up_to_a_length():
    assert readable("\n the\r\nplatform \u2028is\ud800 busy\t") == "the platform  is  busy"
    assert readable("a" * 300) == "a" * 300
    assert readable("a" * 301) == "a" * 300 + "…"


@pytest.mark.parametrize(("value", "text"), [(1e17, "100000000000000000"), (1e-7, "0.0000001"), (199.9, "199.9")])
def test_a_number_is_written_with_digits_and_a_point(value, text):
    assert plain_decimal(value) == text


@pytest.mark.parametrize(
    ("json", "xml"),
    [
        (1, "1"),
        (1.5, "1.5"),
        (1e17, "100000000000000000"),
        (True, "true"),
        (False, "false"),
        (" text ", "text"),
        ("", None),
        (" ", None),
        (None, None),
        ({}, None),
        ({"a": 1}, {"a": "1"}),
        ([], None),
        ([1], "1"),
        ([1, None], ["1", None]),
        ([[1, 2]], ["1", "2"]),
    ],
)
def test_what_is_not_known_is_as_a_reader_of_xml_has_it(json, xml):
    assert as_text({"field": json}) == {"field": xml}


@pytest.mark.parametrize("name", ["lines", "tags"])
@pytest.mark.parametrize(
    ("json", "xml"), [([], []), (None, []), ([1], ["1"]), (1, ["1"]), ([1, 2], ["1", "2"]), ({}, [])]
)
def test_what_is_an_array_wherever_the_guide_has_it_stays_one(name, json, xml):
    assert as_text({"order": {name: json, "count": 2}}) == {"order": {name: xml, "count": "2"}}


@pytest.mark.parametrize(("code", "read"), [("409", 409), (409, 409), ("busy", None)])
def test_the_code_of_an_envelope_stays_a_number(code, read):
    assert as_text({"error": code}) == {"error": read}


@pytest.mark.parametrize(("text", "read"), [("busy", "busy"), ("", ""), (None, ""), (7, "")])
def test_the_text_of_an_envelope_stays_a_text(text, read):
    assert as_text({"error_text": text}) == {"error_text": read}
