"""Bodies that are shown: whole where that is safe, and never with a token."""

from __future__ import annotations

import json

import pytest

from altcraft_async.sandbox.redaction import LIMIT, REDACTED, redacted_body

TOKEN = "canary-7f3a91"
OWN = [TOKEN]


@pytest.mark.parametrize(
    "body",
    [
        b'{"token": "canary-7f3a91", "order_external_id": "o"}',
        b'{"order_external_id":"canary-7f3a91"}',
        b'{"token":"canary-7f3a91',
        b"<xml><token>canary-7f3a91</token></xml>",
        b"<xml><token><![CDATA[canary-7f3a91]]></token></xml>",
        b"token=canary-7f3a91&order=o",
        rb'{"token":"canary\u002d7f3a91"}',
        rb'{"order_external_id":"canary\u002d7f3a91"}',
        rb'{"\u0074oken":"canary-7f3a91"}',
        b"<xml><status>canary&#45;7f3a91</status></xml>",
        b"<xml><status>canary&#x2d;7f3a91</status></xml>",
        '<?xml version="1.0" encoding="UTF-16"?><xml><token>canary-7f3a91</token></xml>'.encode("utf-16"),
    ],
)
def test_the_accounts_token_is_never_shown(body: bytes) -> None:
    shown = redacted_body(body, OWN)
    assert "canary" not in shown
    assert "7f3a91" not in shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"token":"somebody else\'s","a":1}',
        b'{"TOKEN" : "somebody else\'s"}',
        b'{"access_token":["somebody else\'s"]}',
        b'{"token":"somebody',
        rb'{"token":"somebody \" else"}',
        rb'{"\u0074oken":"somebody"}',
        b"<xml><token>somebody</token></xml>",
        b"<xml><token a='b'>somebody<![CDATA[ else ]]>body</token></xml>",
    ],
)
def test_a_field_for_a_token_is_never_shown_whatever_stands_there(body: bytes) -> None:
    shown = redacted_body(body, OWN)
    assert "body" not in shown.replace("(", "")


def test_the_rest_of_a_body_is_shown_as_it_came() -> None:
    body = json.dumps({"a": 'Кружка & "Co" \\', "token": TOKEN, "b": [1, None]}, ensure_ascii=False).encode()
    assert redacted_body(body, OWN) == body.decode().replace(TOKEN, REDACTED)


def test_escapes_without_a_token_are_shown() -> None:
    body = rb'{"token":"canary-7f3a91","name":"Caf\u00e9 &amp; Co"}'
    assert redacted_body(body, OWN) == body.decode().replace(TOKEN, REDACTED)


def test_a_long_body_is_cut_and_says_its_length() -> None:
    shown = redacted_body(b"x" * (LIMIT + 1), OWN)
    assert shown == "x" * LIMIT + f"… ({LIMIT + 1} bytes)"


@pytest.mark.parametrize("before", range(len(TOKEN) + 2))
def test_a_token_on_the_edge_of_the_cut_is_not_shown_in_part(before: int) -> None:
    body = b"x" * (LIMIT - before) + TOKEN.encode() + b"y" * 5000
    shown = redacted_body(body, OWN)
    assert "c" not in shown


def test_a_cut_inside_a_character_is_no_binary_body() -> None:
    assert redacted_body(("я" * LIMIT * 2).encode(), OWN).startswith("яяя")


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"a\x00b", b"\x1f\x8b\x08\x00"])
def test_what_is_no_text_is_only_counted(body: bytes) -> None:
    assert redacted_body(body, OWN) == f"({len(body)} bytes that are not plain UTF-8 text)"
