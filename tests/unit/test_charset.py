"""Answers in other charsets: what names them, what beats what, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.protocol.wire import Wire, WireResponse

TEXT = "Отгружен"
JSON = f'{{"error": 400, "error_text": "{TEXT}"}}'
PRETTY = JSON.replace("{", "{\r\n  ")
XML = f"<xml><error>400</error><error_text>{TEXT}</error_text></xml>"
MARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16", "utf-32": "utf-32"}
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


def declared(name: str, text: str = XML) -> str:
    return f'<?xml version="1.0" encoding="{name}" standalone="yes"?>\n{text}'


def read(body: bytes, content_type: str = "application/xml"):
    return Wire("t").decode(WireResponse(200, {"Content-Type": content_type}, body))


def text_of(body: bytes, content_type: str = "application/xml") -> str:
    reply = read(body, content_type)
    assert (reply.code, reply.problem) == (400, None)
    return reply.text


@pytest.mark.parametrize("kind", ["application/xml", "text/xml", "application/json"])
@pytest.mark.parametrize("name", ["windows-1251", "cp1251", "WINDOWS-1251", '"koi8-r"', "iso-8859-5", "gb18030"])
@pytest.mark.parametrize("text", [XML, JSON, PRETTY, "\r\n" + XML])
def test_a_charset_that_stands_only_in_the_header_is_honoured(kind, name, text):
    body = text.encode(name.strip('"'))
    assert text_of(body, f"{kind}; charset={name}") == text_of(body, f"{kind};x=y ; Charset = {name};z=1") == TEXT


@pytest.mark.parametrize("name", ["windows-1251", "KOI8-R", "utf-8", "UTF-8", "gb18030"])
def test_a_declared_encoding_is_honoured_where_the_header_names_none(name):
    assert text_of(declared(name).encode(name)) == TEXT


@pytest.mark.parametrize("text", [XML, JSON, PRETTY, declared("utf-16"), declared("windows-1251")])
@pytest.mark.parametrize("encoding", [*MARKED, *WIDE])
@pytest.mark.parametrize("header", ["", "; charset=utf-8", "; charset=utf-16"])
def test_utf_16_and_utf_32_show_themselves_with_or_without_a_mark(text, encoding, header):
    if encoding == "utf-8-sig" and not header:
        header = "; charset=windows-1251"  # a mark beats it
    assert text_of(text.encode(encoding), f"application/xml{header}") == TEXT


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("text", [declared("utf-8"), XML, JSON])
def test_a_mark_and_blank_lines_before_the_first_character_do_no_harm(encoding, text):
    assert text_of(("\r\n\n " + text).encode(encoding)) == TEXT


def test_the_header_beats_the_declaration():
    assert text_of(declared("windows-1251").encode(), "application/xml; charset=utf-8") == TEXT
    assert text_of(declared("windows-1251").encode(), "application/xml; charset=UTF8") == TEXT
    assert text_of(declared("utf-8").encode("cp1251"), "application/xml; charset=windows-1251") == TEXT


def test_a_mark_beats_header_and_declaration():
    assert text_of(declared("koi8-r").encode("utf-8-sig"), "application/xml; charset=windows-1251") == TEXT


def test_json_that_is_utf_8_is_utf_8_whatever_the_header_says():
    assert text_of(JSON.encode(), "application/json; charset=iso-8859-1") == TEXT


@pytest.mark.parametrize(
    "name",
    ["no-such", "hex", "rot13", "utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined",
     "mbcs", "../x", "é", "a" * 1000, "aliases", "__init__", "\x00"],
)  # fmt: skip
@pytest.mark.parametrize("body", [XML, JSON])
def test_an_unknown_charset_is_a_problem_and_no_traceback(name, body):
    assert "charset that is unknown" in str(read(body.encode("cp1251"), f"application/xml; charset={name}").problem)


@pytest.mark.parametrize("name", ["no-such", "hex", "unicode_escape", "é"])
def test_an_unknown_declared_charset_is_a_problem_too(name):
    assert "charset that is unknown" in str(read(declared(name).encode()).problem)


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (XML.encode(), "charset=us-ascii"),
        (XML.encode("cp1251"), "charset=utf-8"),
        (XML.encode("cp1251"), ""),
        (JSON.encode("cp1251"), ""),
        (b"\xff\xfe<\x00x", "charset=utf-16"),
        (b"\xff\xfe<", ""),
        (b"\xff\xfe", ""),
        (b"\xef\xbb\xbf", ""),
        ("<xml>\ud800</xml>".encode("utf-16", "surrogatepass"), ""),
    ],
)
def test_bytes_that_are_none_of_their_charset_are_a_problem(body, header):
    assert read(body, f"application/xml; {header}").problem is not None


def test_a_page_in_another_charset_is_still_known_as_a_page():
    assert "HTML" in str(read("<html>".encode("utf-16"), "text/plain").problem)
    assert "HTML" in str(read("<!DOCTYPE html><p>Ё".encode("cp1251"), "text/html; charset=windows-1251").problem)


@pytest.mark.parametrize("body", [JSON.encode("cp1251"), XML.encode("cp1251"), declared("canary").encode()])
@pytest.mark.parametrize("name", ["canary", "us-ascii", "utf-16"])
def test_neither_the_body_nor_the_decoders_error_clings_to_the_problem(body, name):
    problem = read(body, f"application/xml; charset={name}").problem
    assert problem is not None
    assert "canary" not in str(problem)
    assert problem.__cause__ is problem.__context__ is None


@given(st.binary(max_size=60), st.text(max_size=30))
def test_no_bytes_and_no_header_break_the_reading(body, name):
    reply = read(body, f"application/xml; charset={name}")
    assert (reply.code is None) == (reply.problem is not None)


@given(
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=20),
    st.sampled_from(["utf-8", *MARKED, *WIDE]),
)
def test_the_same_answer_is_read_from_every_encoding_of_it(text, encoding):
    body = f'{{"error": 0, "x": "{text}"}}'.replace("\\", "")
    assert read(body.encode(encoding)).payload == read(body.encode()).payload
