"""The JSON codec: exact, strict, and silent about what it refuses."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import UnreadableResponseError
from altcraft_async.protocol import json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda text: text.isprintable()), VALUES, max_size=4))
def test_what_is_written_is_read_back(fields):
    try:
        body = json.encode(fields)
    except ValueError:
        return  # lone surrogates
    assert json.decode(body) == fields


def test_the_body_is_compact_utf_8():
    assert json.encode({"a": "№", "b": [1, None, True]}) == '{"a":"№","b":[1,null,true]}'.encode()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object(), {1, 2}, b"x"])
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


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_unreadable(body):
    with suppress(UnreadableResponseError):
        assert type(json.decode(body)) is dict
