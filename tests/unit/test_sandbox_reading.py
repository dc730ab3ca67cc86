"""The sandbox's reader: it takes the guide's requests and refuses the rest with a helpful sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
import xmltodict
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.sandbox.reading import Refusal, read_body, write_answer
from altcraft_async.sandbox.shapes import read_fields

UPDATE = "market/orders/update_order_line_status"
IMPORT = "market/orders/import"
GET_STATUS = "market/orders/get_status"

FIELDS = {
    "token": "t",
    "format": "json",
    "order_external_id": "order_1",
    "order_line_external_id": "line_DBSrmlVYD",
    "status_external_id": "delivered",
}
ORDER: dict[str, Any] = {
    "external_id": "order_1",
    "matching": "email",
    "email": "someone@example.com",
    "endpoint": "shop",
    "tags": ["a", "b"],
    "status": "new",
    "delivery_cost": "0",
    "total_price": "199.90",
    "currency": "RUB",
    "create_time": "2022-01-02T15:04:05.141Z",
    "region": "77",
    "custom_fields": {"gift": True},
    "lines": [{"external_id": "line_1", "status": "new", "product": "p", "count": 2, "final_price_per_item": "99.95"}],
}


def read(method: str, body: object, kind: str = "application/json") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields, xml = read_body(kind, raw)
    return read_fields(method, fields, xml=xml)


def refusal(method: str, body: object, kind: str = "application/json") -> str:
    with pytest.raises(Refusal) as caught:
        read(method, body, kind)
    assert caught.value.code == 400
    return caught.value.text


def test_the_update_is_read_from_json() -> None:
    assert read(UPDATE, FIELDS) == FIELDS


def test_the_update_is_read_from_xml() -> None:
    body = xmltodict.unparse({"xml": FIELDS}, pretty=True)
    assert read(UPDATE, body, "application/xml; charset=UTF-8") == FIELDS


def test_an_import_is_read_from_json() -> None:
    request = {
        "token": "t",
        "skip_triggers": True,
        "custom_line_statuses": [{"external_id": "packed", "name": "Packed", "type": "in_process"}],
        "custom_fields": [
            {
                "external_id": "gift",
                "name": "Gift",
                "entity_type": "order",
                "required": False,
                "value_type": "bool",
                "default_value": False,
            }
        ],
        "data": [ORDER],
    }
    assert read(IMPORT, request) == request


def test_an_import_is_read_from_xml_where_one_element_looks_like_a_scalar() -> None:
    order = {**ORDER, "custom_fields": {"gift": "true"}}
    body = xmltodict.unparse({"xml": {"token": "t", "skip_triggers": "false", "data": order}})
    assert read(IMPORT, body, "application/xml") == {"token": "t", "skip_triggers": False, "data": [order]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order_external_id": None}, "order_external_id: must be a string, not null"),
        ({"order_external_id": 17}, "order_external_id: must be a string, not a number"),
        ({"order_external_id": ["a"]}, "order_external_id: must be a string, not an array"),
        ({"order_external_id": ""}, "order_external_id: must not be empty"),
        ({"order_line_external_id": "a\tb"}, "order_line_external_id: must not hold control characters"),
        ({"format": "yaml"}, "format: must be one of json, xml, not 'yaml'"),
        ({"status": "new"}, "status: unknown field; known are order_external_id,"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], said: str) -> None:
    assert refusal(UPDATE, {**FIELDS, **change}).startswith(said)


@pytest.mark.parametrize("name", ["order_external_id", "order_line_external_id", "status_external_id"])
def test_a_missing_field_is_named(name: str) -> None:
    fields = {key: value for key, value in FIELDS.items() if key != name}
    assert refusal(UPDATE, fields) == f"{name}: required, and not there"
    assert refusal(UPDATE, xmltodict.unparse({"xml": fields}), "text/xml") == f"{name}: required, and not there"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lines": []}, "data[0].lines: must have at least 1 entry"),
        ({"lines": [{"external_id": "l"}, {"external_id": "l"}]}, "data[0].lines: two lines have the same external_id"),
        (
            {"lines": [{"external_id": "l", "count": "2"}]},
            "data[0].lines[0].count: must be a whole number, not a strin",
        ),
        ({"lines": [{"external_id": "l", "price": "2"}]}, "data[0].lines[0].price: unknown field"),
        ({"total_price": 199.9}, "data[0].total_price: must be a string, not a number"),
        ({"total_price": "cheap"}, "data[0].total_price: must be an amount"),
        ({"status": "delivering"}, "data[0].status: must be one of new, delivered, paid"),
        ({"tags": "a"}, "data[0].tags: must be an array, not a string"),
        ({"phone": "1"}, "data[0].phone: unknown field of an order matched by email"),
        ({"matching": "profile_id", "email": 1}, "data[0].email: must be a string"),
    ],
)
def test_a_wrong_field_of_an_order_is_named_with_its_place(change: dict[str, object], said: str) -> None:
    assert refusal(IMPORT, {"data": [{**ORDER, **change}]}).startswith(said)


def test_an_order_needs_the_field_of_its_matching() -> None:
    bare = {name: value for name, value in ORDER.items() if name not in {"email", "matching"}}
    assert refusal(IMPORT, {"data": [bare]}).startswith("data[0].email: required where matching is 'email'")
    assert "needs its own field" in refusal(IMPORT, {"data": [{**bare, "matching": "phone"}]})
    assert read(IMPORT, {"data": [{**bare, "matching": "phone", "phone": "7"}]})


@pytest.mark.parametrize("fields", [{}, {"id": 1, "external_id": "a"}])
def test_get_status_wants_exactly_one_id(fields: dict[str, object]) -> None:
    assert refusal(GET_STATUS, fields) == "id, external_id: give exactly one of them"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[]", "the body must be a JSON object, not an array"),
        (b'{"a": "\xff"}', "the body is not UTF-8"),
        (b'{"token": "a", "token": "b"}', "the JSON has the field 'token' twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "the JSON is nested too deeply"),
    ],
)
def test_json_that_is_none_is_refused(body: bytes, said: str) -> None:
    assert refusal(UPDATE, body).startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not XML"),
        (b"<xml><token>a</xml>", "the body is not XML: mismatched tag"),
        (b"<root/>", "the XML's root element must be <xml>, not <root>"),
        (b"<xml>text</xml>", "the element <xml> must hold elements"),
        (b'<!DOCTYPE xml SYSTEM "x"><xml/>', "the XML has a DOCTYPE"),
        (b'<!DOCTYPE xml [<!ENTITY a "b">]><xml><token>&a;</token></xml>', "the XML has a DOCTYPE"),
        (b"<xml><token>&a;</token></xml>", "the body is not XML: undefined entity"),
        (b"<xml><token>a</token><token>b</token></xml>", "the element <token> stands 2 times"),
        (b'<xml><token a="1">x</token></xml>', "the XML has the attribute 'a'"),
        (b'<xml><token>"x"</token></xml>', "the element <token> has literal double quotes"),
        (b"<xml/>", "order_external_id: required"),
    ],
)
def test_xml_that_is_wrong_is_refused(body: bytes, said: str) -> None:
    assert refusal(UPDATE, body, "application/xml").startswith(said)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_refused(kind: str) -> None:
    assert refusal(UPDATE, FIELDS, kind).startswith("Content-Type must be application/json or application/xml")


def test_another_charset_is_refused() -> None:
    assert refusal(UPDATE, FIELDS, "application/json; charset=cp1251") == "the charset must be UTF-8, not cp1251"


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/xml"]))
def test_any_bytes_are_read_or_refused(body: bytes, kind: str) -> None:
    try:
        read(UPDATE, body, kind)
    except Refusal as caught:
        assert caught.text  # noqa: PT017 - either way is right


VALUES = st.text(st.characters(min_codepoint=33, exclude_categories=("C", "Z")), min_size=1)


@given(VALUES)
def test_an_answer_reads_the_same_from_both_formats(value: str) -> None:
    fields = {"data": {"status_external_id": value}, "error": 0, "error_text": ""}
    assert json.loads(write_answer(fields, xml=False)) == fields
    assert xmltodict.parse(write_answer(fields, xml=True)) == {
        "xml": {"data": {"status_external_id": value}, "error": "0", "error_text": None}
    }


def test_an_xml_answer_never_carries_what_xml_cannot() -> None:
    text = "one\r\ntwo\tthree\rfour\x85five"
    assert xmltodict.parse(write_answer({"error_text": text}, xml=True)) == {"xml": {"error_text": text}}
    assert xmltodict.parse(write_answer({"error_text": "a\x00b\x0bc"}, xml=True)) == {"xml": {"error_text": "a�b�c"}}
