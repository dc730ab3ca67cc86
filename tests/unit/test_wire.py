"""The sans-IO protocol: the guide's examples, and answers read by what arrived."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from altcraft_async import ConfigurationError
from altcraft_async.protocol import xml
from altcraft_async.protocol.wire import Call, Reply, Wire, WireResponse

METHOD = "market/orders/update_order_line_status"
CALL = Call(
    METHOD,
    {
        "order_external_id": "order_1",
        "order_line_external_id": "line_DBSrmlVYD",
        "status_external_id": "delivered",
    },
)
GUIDE_REQUEST = {
    "token": "canary-1",
    "format": "json",
    "order_external_id": "order_1",
    "order_line_external_id": "line_DBSrmlVYD",
    "status_external_id": "delivered",
}
GUIDE_JSON_ANSWER = b"""{
    "data": {
        "order_external_id": "order_1",
        "order_line_external_id": "line_DBSrmlVYD",
        "status_external_id": "delivered"
    },
    "error": 0,
    "error_text": "Successful operation"
}"""
GUIDE_XML_ANSWER = b"""<?xml version="1.0" encoding="UTF-8"?>
<xml>
    <data>
        <order_external_id>order_1</order_external_id>
        <order_line_external_id>line_DBSrmlVYD</order_line_external_id>
        <status_external_id>delivered</status_external_id>
    </data>
    <error>0</error>
    <error_text>Successful operation</error_text>
</xml>"""
READERS = {"json": json.loads, "xml": xml.decode}
ECHO = {key: value for key, value in GUIDE_REQUEST.items() if key.endswith("_id")}


def read(body: bytes, *, status: int = 200, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Wire("canary-1").decode(WireResponse(status, named, body))


def test_a_json_request_means_exactly_what_the_guide_shows():
    request = Wire("canary-1").encode(CALL, "id-1")
    assert request.path == METHOD
    assert json.loads(request.body) == GUIDE_REQUEST
    assert request.headers == {"Content-Type": "application/json", "Request-ID": "id-1"}


def test_an_xml_request_means_exactly_what_the_guide_shows():
    request = Wire("canary-1", request_format="xml").encode(CALL, "id-1")
    root = ET.fromstring(request.body)
    assert root.tag == "xml"
    assert {child.tag: child.text for child in root} == GUIDE_REQUEST
    assert request.headers["Content-Type"] == "application/xml"


@pytest.mark.parametrize("request_format", ["json", "xml"])
def test_the_token_leaves_the_body_for_the_header(request_format):
    request = Wire("canary-1", request_format=request_format, token_in="header").encode(CALL, "id-1")
    assert b"canary" not in request.body
    assert request.headers["Authorization"] == "Bearer canary-1"


def test_the_format_asks_for_the_answer_not_of_the_request():
    request = Wire("t", request_format="json", response_format="xml").encode(CALL, "id-1")
    assert json.loads(request.body)["format"] == "xml"


def test_the_older_header_can_carry_the_id():
    request = Wire("t", request_id_header="X-Request-ID").encode(CALL, "id-1")
    assert request.headers["X-Request-ID"] == "id-1"
    assert "Request-ID" not in request.headers


@pytest.mark.parametrize("request_format", ["json", "xml"])
def test_parameters_that_cannot_be_written_are_refused_without_being_shown(request_format):
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="market/x hold a value") as caught:
        Wire("canary-1", request_format=request_format).encode(Call("market/x", {"a": deep}), "id-1")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("content_type", ["application/json", "application/xml", "text/plain", ""])
@pytest.mark.parametrize("body", [GUIDE_JSON_ANSWER, GUIDE_XML_ANSWER])
def test_the_guides_answers_are_read_whatever_they_call_themselves(body, content_type):
    reply = read(body, Content_Type=content_type)
    assert (reply.code, reply.problem, reply.duplicate) == (0, None, False)
    assert reply.payload["data"] == ECHO


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"\r\n ", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("body", [b'{"error": 0}', b"<xml><error>0</error></xml>"])
def test_blanks_and_byte_order_marks_before_an_answer_do_no_harm(prefix, body):
    assert read(prefix + body).code == 0


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_an_answer_shows_its_encoding_by_its_zeros(encoding):
    assert read('{"error": 0}'.encode(encoding)).code == 0


def test_success_is_the_code_never_the_text():
    assert read(b'{"error": 0, "error_text": "Catastrophe"}').code == 0
    assert read(b'{"error": 400, "error_text": "Successful operation"}').code == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": 400}', 400),
        (b'{"error": "400"}', 400),
        (b'{"error": -1}', -1),
        (b"<xml><error>401</error></xml>", 401),
        (b"<xml><error> 401\n</error></xml>", 401),
    ],
)
def test_the_code_is_a_number_in_both_formats(body, code):
    assert read(body).code == code


@pytest.mark.parametrize("name", ["Duplicate_Request", "X_Duplicate_Request"])
@pytest.mark.parametrize(("value", "duplicate"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_a_replayed_answer_is_known_by_either_header(name, value, duplicate):
    assert read(GUIDE_JSON_ANSWER, **{name: value}).duplicate is duplicate
    assert read(b"<html>", **{name: value}).duplicate is duplicate


def test_the_pause_is_handed_on_from_failures_of_every_kind():
    assert read(b'{"error": 429}', Retry_After="7").retry_after == "7"
    assert read(b"<html>", status=503, Retry_After="7").retry_after == "7"
    assert read(b"<html>", status=503, Retry_After="7").problem.retry_after == "7"
    assert read(b"<html>", status=503).problem.retry_after is None


@pytest.mark.parametrize(("body", "status"), [(b'{"error": 429}', 200), (b"<html>", 503)])
def test_a_pause_that_is_given_twice_is_a_list(body, status):
    headers = CIMultiDictProxy(CIMultiDict([("retry-after", "soon"), ("X", "1"), ("Retry-After", "7")]))
    assert Wire("canary-1").decode(WireResponse(status, headers, body)).retry_after == "soon, 7"


@pytest.mark.parametrize(
    "written",
    [
        "a\"b'c&d<e/f",
        "a\\\"b'c&d<e/f",
        "a\"b\\'c&d<e/f",
        "a\"b'c&amp;d&lt;e/f",
        "a&quot;b&#x27;c&amp;d&lt;e/f",
        "a%22b%27c%26d%3Ce%2Ff",
    ],
)
def test_a_token_is_hidden_however_it_is_written(written):
    wire = Wire("a\"b'c&d<e/f")
    assert wire.clean(f"bad token {written}!") == "bad token ***!"


def test_of_a_token_that_is_hidden_no_end_is_left():
    assert Wire("a&").clean("bad token a&amp;!") == "bad token ***!"


def test_the_servers_text_is_fit_for_a_log():
    text = "bad token canary-1\r\n\x1b[31mred " + "x" * 1000
    reply = read(json.dumps({"error": 400, "error_text": text}).encode())
    assert reply.text.startswith("bad token *** [31mred xxx")
    assert len(reply.text) == 301
    assert reply.text.isprintable()


@pytest.mark.parametrize("text", [None, 5, ["x"], {"a": 1}])
def test_a_text_that_is_none_is_empty(text):
    assert read(json.dumps({"error": 400, "error_text": text}).encode()).text == ""


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", "application/json", "empty"),
        (b"<html></html>", "text/html", "HTML page"),
        (b"<!doctype HTML><p>", "application/json", "HTML page"),
        (b"OK", "text/plain", "neither JSON nor XML"),
        (b"[]", "application/json", "JSON list"),
        (b"null", "application/json", "JSON NoneType"),
        (b"{", "application/json", "not JSON"),
        (b"<xml>", "application/xml", "not acceptable XML"),
        (b"oops", "application/xml", "not acceptable XML"),
        (b"{}", "application/json", "no error code"),
        (b'{"error": "x"}', "application/json", "a wrong error code"),
    ],
)
def test_what_cannot_be_read_is_a_reply_with_a_problem_that_says_why(body, content_type, said):
    reply = read(body, status=502, Content_Type=content_type)
    assert reply.code is None
    assert said in str(reply.problem)
    assert reply.problem.status == reply.status == 502


TYPES = ["application/json", "application/xml", "text/html", "", "x" * 50, "text/xml; charset=cp037", "a;charset=idna"]


@given(st.binary(max_size=80), st.sampled_from(TYPES))
def test_decoding_never_raises(body, content_type):
    reply = read(body, Content_Type=content_type)
    assert (reply.code is None) == (reply.problem is not None)


@pytest.mark.parametrize("token", ["", "  ", None, 5, "a b", "a\nb", "№"])
def test_a_token_that_no_request_can_carry_is_refused(token):
    with pytest.raises(ConfigurationError, match="token"):
        Wire(token)


def test_an_answer_came_when_asked_for_and_to_one_request_where_the_transport_says_nothing_else():
    response = WireResponse(200, {}, b"")
    assert (response.resent, response.unasked) == (False, False)
    assert not Reply(200, 0).duplicate


def test_how_its_connection_is_closed_is_no_part_of_what_an_answer_says():
    response = WireResponse(200, {}, b"", discard=print)
    assert response == WireResponse(200, {}, b"")
    assert "discard" not in repr(response)


@pytest.mark.parametrize("token_in", ["body", "header"])
def test_no_repr_shows_the_token_or_a_body(token_in):
    wire = Wire("canary-1", token_in=token_in)
    request = wire.encode(Call(METHOD, {"secret_field": "canary-2"}), "id-1")
    response = WireResponse(200, {"Set-Cookie": "canary-3"}, b'{"error": 0, "x": "canary-4"}')
    shown = " ".join(map(repr, [wire, request, response, wire.decode(response), Call(METHOD, {"a": "canary-5"})]))
    assert "canary" not in shown


@pytest.mark.parametrize("choices", [{}, {"token_in": "header"}, {"request_format": "xml", "response_format": "xml"}])
def test_a_wire_gives_itself_another_token_and_keeps_the_rest(choices):
    choices = {**choices, "request_id_header": "X-Request-ID"}
    renewed = Wire("canary-1", **choices).with_token("canary-2")
    assert renewed.encode(CALL, "id-1") == Wire("canary-2", **choices).encode(CALL, "id-1")
    assert "canary-1" not in repr(renewed.encode(CALL, "id-1").headers) + renewed.encode(CALL, "id-1").body.decode()
    assert renewed.decode(WireResponse(200, {}, b'{"error": 1, "error_text": "canary-2"}')).text == "***"


def test_another_token_is_checked_like_the_first():
    with pytest.raises(ConfigurationError, match="token is empty"):
        Wire("canary-1").with_token(" ")


@pytest.mark.parametrize("request_format", ["json", "xml"])
@pytest.mark.parametrize("fields", [{}, {"format": "xml"}, {"a": "1", "token": "other"}, {"a": {"b": ["1", "2"]}}])
def test_a_call_may_bring_any_fields_and_its_own_go_first(request_format, fields):
    body = Wire("canary-1", request_format=request_format).encode(Call("m", fields), "id-1").body
    expected = {"token": "canary-1", "format": "json", **fields}
    assert READERS[request_format](body) == expected
    assert list(READERS[request_format](body)) == list(expected)


def test_where_a_redirect_leads_is_told_without_what_could_be_a_secret():
    reply = read(b"", status=302, Location="https://user:pass@new.test/x?token=a#b")
    assert reply.location == "https://new.test/x"


def test_a_code_that_no_number_of_the_api_can_be_is_none():
    reply = read(b'{"error": 12345678901, "error_text": ""}')
    assert reply.code is None
    assert reply.problem is not None
