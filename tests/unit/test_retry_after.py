"""Reading ``Retry-After``: every form that servers send, and nothing that makes no sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.protocol.retry_after import parse_retry_after

NOW = datetime(1994, 11, 6, 8, 48, 7, tzinfo=UTC).timestamp()
FORMS = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994")
"""The three forms of RFC 9110, in its own example: 90 seconds from `NOW`."""


def read(text: str | None, maximum: float = 86_400.0) -> float | None:
    return parse_retry_after(text, now=NOW, maximum=maximum)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1.0), (" 120 ", 120.0), ("86400", 86_400.0), ("2.0", 2.0), ("0.503", 0.503), ("1.", 1.0), (".5", 0.5)],
)
def test_whole_and_decimal_seconds_are_read(text, seconds):
    assert read(text) == seconds


@pytest.mark.parametrize("text", [*FORMS, "Sun, 06 Nov 1994 08:49:37 -0000", "Sun, 06 Nov 1994 09:49:37 +0100"])
def test_dates_are_read_as_seconds_from_now(text):
    assert read(text) == 90.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2814, 2", 2814.0),
        ("2,2814", 2.0),
        ("soon, 7", 7.0),
        (", ,7", 7.0),
        ("-1, 7", 7.0),
        ("Thu, 7", 7.0),
        *[(f"{form}, 7", 90.0) for form in FORMS],
        *[(f"7, {form}", 7.0) for form in FORMS],
        *[(f"soon, {form}", 90.0) for form in FORMS],
    ],
)
def test_the_first_readable_value_of_a_list_counts(text, seconds):
    assert read(text) == seconds


@pytest.mark.parametrize("text", ["3601", "86401", "9" * 30, "9" * 5000, "3600.5", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_longer_wait_than_the_maximum_is_cut_to_it(text):
    assert read(text, maximum=3600.0) == 3600.0


@pytest.mark.parametrize("text", ["0", "0.0", "0, 5", "Sun, 06 Nov 1994 08:48:06 GMT", "Sat, 05 Nov 1994 00:00:00 GMT"])
def test_a_wait_of_nothing_means_now(text):
    assert read(text) is None


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", ",", "-5", "1e3", "+5", "1.2.3", "5 s", "soon", "٣", "²", "nan", "inf", "-inf", "Infinity",
        "Thu, 99 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 99999 00:00:00 GMT", "Thu, 01 Jan 2026 00:01:30 +99999999999",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_ignored(text):
    assert read(text) is None


@given(st.integers(1, 86_400))
def test_every_second_of_a_day_is_read_from_a_date(seconds):
    then = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)
    assert read(format_datetime(then, usegmt=True)) == seconds


@given(st.text(max_size=40) | st.text(alphabet="0123456789.,-+: GMTSunNov", max_size=40), st.floats(0.001, 1e9))
def test_no_text_can_break_the_reading(text, maximum):
    seconds = read(text, maximum)
    assert seconds is None or 0 < seconds <= maximum
