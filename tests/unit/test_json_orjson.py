"""The JSON codec with orjson and without: nobody can tell the two apart."""

from __future__ import annotations

import enum
import subprocess
import sys
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from altcraft_async.protocol import json

pytest.importorskip("orjson")

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Mood(enum.Enum):
    GOOD = "good"


class Name(enum.StrEnum):
    NEW = "new"


def outcome(function, value):
    """What a function makes of a value, told with its types: a refusal is one of the kinds that callers know."""
    try:
        return repr(function(value))
    except (ValueError, TypeError, RecursionError):
        return "refused"


ODD = VALUES | st.sampled_from(
    [float("nan"), float("-inf"), 1e16, 1e-7, -0.0, 2**64, -(2**63) - 1, "\ud800", "\x7f\x1b/\u2028", Mood.GOOD,
     Name.NEW, uuid.UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), (1, 2), b"x", {1: 2}, {None: 1}, {"\udfff": 1},
     {Name.NEW: 1}],
)  # fmt: skip


@given(st.dictionaries(st.text() | st.integers(), ODD, max_size=4) | st.dictionaries(st.text(), st.text(), max_size=4))
def test_both_implementations_write_the_same_bytes_or_both_refuse(fields):
    assert outcome(json._write_fast, fields) == outcome(json._write_plain, fields)


NUMBERS = st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
TEXTS = st.from_regex(r'"([^"\\]|\\["\\/bfnrtu]|\\u[0-9a-fD]{4}){0,6}"', fullmatch=True)
WORDS = st.sampled_from(
    ["null", "true", "NaN", "Infinity", "-Infinity", "{", "}", "[", "]", ":", ",", " ", "\ufeff", "-0"]
)
LIKE_JSON = st.lists(NUMBERS | TEXTS | WORDS, max_size=8).map(" ".join)
MEMBERS = st.lists(st.tuples(TEXTS, NUMBERS | TEXTS | WORDS), max_size=4).map(
    lambda pairs: "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"
)
BODIES = st.binary(max_size=60) | (LIKE_JSON | MEMBERS).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(BODIES)
@example(b'{"a": 18446744073709551615, "b": -9223372036854775808}')
@example(b'{"a": 18446744073709551616}')
@example(b'{"a": -9223372036854775809}')
@example(b'{"a": 1e400, "b": 1e-400, "c": -0, "d": -0.0}')
@example(b'{"a": "\\ud800", "b": "\\ud83d\\ude00"}')
@example(b'{"a": 1, "b": 2, "a": 3}')
@example(b'\xef\xbb\xbf {"a": 1}')
@example(b"\xef\xbb\xbf\xef\xbb\xbf{}")
@example(b'{"a": "\xed\xa0\x80"}')
@example(b'{"a": "\t"}')
@example(b"\x0b{}\x0c")
@example(b"[" * 300 + b"]" * 300)
@example(b"[" * 100_000)
@example(b'{"a":' * 5_000 + b"1" + b"}" * 5_000)
def test_both_implementations_read_the_same_values_or_both_refuse(body):
    assert outcome(json._read_fast, body) == outcome(json._read_plain, body)


@pytest.mark.parametrize(("missing", "chosen"), [(False, "_read_fast"), (True, "_read_plain")])
def test_orjson_is_used_where_it_is_installed_and_not_missed_where_it_is_not(missing, chosen):
    code = "from altcraft_async.protocol import json; print(json._read.__name__, json.decode(json.encode({'a': 'b'})))"
    code = f"import sys; sys.modules['orjson'] = None; {code}" if missing else code
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"{chosen} {{'a': 'b'}}\n"
