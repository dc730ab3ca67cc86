"""The JSON codec: exact, strict, silent about what it refuses, and the same with orjson and without."""

from __future__ import annotations

import enum
import uuid
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altcraft_async import UnreadableResponseError
from altcraft_async.protocol import json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


BOTH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Mood(enum.Enum):
    GOOD = "good"


@pytest.fixture(params=["orjson", "standard library"], autouse=True)
def implementation(request, monkeypatch):
    """Both implementations, whichever the process has chosen."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
    parts = (json._write_fast, json._read_fast) if request.param == "orjson" else (json._write_plain, json._read_plain)
    monkeypatch.setattr(json, "_write", parts[0])
    monkeypatch.setattr(json, "_read", parts[1])


@BOTH
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_is_read_back(fields):
    try:
        body = json.encode(fields)
    except ValueError:
        return  # lone surrogates
    assert json.decode(body) == fields


def test_the_body_is_compact_utf_8():
    assert json.encode({"a": "№", "b": [1, None, True]}) == '{"a":"№","b":[1,null,true]}'.encode()


@pytest.mark.parametrize(
    "bad",
    [float("nan"), float("inf"), object(), {1, 2}, b"x", "\ud800", uuid.UUID(int=1), Mood.GOOD, datetime.now(UTC)],
)
def test_what_json_cannot_carry_is_refused(bad):
    with pytest.raises((ValueError, TypeError)):
        json.encode({"x": bad})


def test_a_byte_order_mark_is_passed_over():
    assert json.decode(b'\xef\xbb\xbf{"error": 0}') == {"error": 0}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'{"a": 1,}', b"{'a': 1}", b"[]", b"1", b'"x"', b"null", b'{"a": NaN}', b'{"a": Infinity}',
        b'{"a": "\xff"}', b'{"a": 1} {"b": 2}', b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"\x00",
    ],
)  # fmt: skip
def test_anything_but_one_object_is_unreadable(body):
    with pytest.raises(UnreadableResponseError):
        json.decode(body)


@pytest.mark.parametrize("body", [b'{"canary"', b'["canary"]', b'"canary"', b'{"canary": "\xff"}'])
def test_the_body_is_no_part_of_the_error_or_of_its_context(body):
    with pytest.raises(UnreadableResponseError) as caught:
        json.decode(body)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@BOTH
@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_unreadable(body):
    with suppress(UnreadableResponseError):
        assert type(json.decode(body)) is dict


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**40])
def test_an_integer_of_any_length_stays_one(number):
    assert json.decode(b'{"id": %d}' % number) == {"id": number}


def test_half_a_pair_of_surrogates_is_read():
    assert json.decode(b'{"a": "\\ud800"}') == {"a": "\ud800"}


def test_a_number_that_is_none_is_refused_in_one_of_many_rows_too() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.encode_rows([{"price": 1.5}, {"price": float("nan")}, {"price": 2}])
