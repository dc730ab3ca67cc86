"""The settings: defaults that work, and a named field for each that cannot."""

from __future__ import annotations

import attrs
import pytest

from altcraft_async import Adaptive, ConfigurationError, RetryPolicy, Settings, Timeout
from altcraft_async.settings import check_base_url


def test_the_defaults_are_those_of_the_contract():
    settings = Settings()
    assert (settings.request_format, settings.response_format, settings.token_in) == ("json", "json", "body")
    assert (settings.request_id_header, settings.rate) == ("Request-ID", None)
    assert (settings.timeout, settings.retry, settings.concurrency) == (Timeout(), RetryPolicy(), Adaptive())
    assert (settings.trust_env, settings.allow_insecure) == (False, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_format", "yaml"),
        ("response_format", None),
        ("token_in", "url"),
        ("request_id_header", "Host"),
        ("timeout", 5),
        ("retry", 5),
        ("concurrency", 0),
        ("concurrency", -1),
        ("concurrency", 1.5),
        ("concurrency", True),
        ("concurrency", "many"),
        ("rate", 0),
        ("rate", -1.0),
        ("rate", True),
        ("max_response_bytes", 0),
    ],
)
def test_a_setting_that_cannot_work_is_refused(field, value):
    with pytest.raises((ConfigurationError, TypeError), match=field):
        Settings(**{field: value})


@pytest.mark.parametrize("field", ["connect", "total"])
@pytest.mark.parametrize("value", [0, -1, "5", None, True, float("nan")])
def test_a_timeout_is_a_number_above_zero(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        Timeout(**{field: value})
    assert caught.value.field == field


def test_settings_are_values():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Settings().rate = 5
    assert Settings(rate=5.0) == Settings(rate=5.0)


def test_texts_are_read_as_what_the_field_needs():
    settings = Settings.parse(
        {
            "timeout": "3.5",
            "connect_timeout": "1",
            "attempts": "2",
            "rate": "10",
            "trust_env": "yes",
            "concurrency": "4",
        }
    )
    assert settings.timeout == Timeout(connect=1.0, total=3.5)
    assert (settings.retry.attempts, settings.rate, settings.trust_env, settings.concurrency) == (2, 10.0, True, 4)


def test_concurrency_can_be_adaptive_by_name():
    assert Settings.parse({"concurrency": "adaptive"}).concurrency == Adaptive()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("timeout", "soon", "a number"),
        ("attempts", "2.5", "a whole number"),
        ("attempts", True, "a whole number"),
        ("concurrency", "lots", "a whole number or 'adaptive'"),
        ("trust_env", "maybe", "true or false"),
        ("request_format", 5, "a text"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(field, value, expected):
    with pytest.raises(ConfigurationError, match=f"{field.upper()} must be {expected}") as caught:
        Settings.parse({field: value}, name=str.upper)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("timeout", "-1", "a number above zero, not -1.0"),
        ("connect_timeout", 0, "a number above zero, not 0.0"),
        ("attempts", "0", "a number above zero, not 0"),
        ("rate", "-2", "a number above zero, not -2.0"),
        ("concurrency", "0", "an int of at least 1, or Adaptive(...), not 0"),
        ("token_in", "url", "'body' or 'header', not 'url'"),
    ],
)
def test_what_cannot_work_is_called_by_the_name_that_was_given(field, value, expected):
    with pytest.raises(ConfigurationError) as caught:
        Settings.parse({"timeout": "5", field: value}, name=lambda name: f"X_{name.upper()}")
    assert (str(caught.value), caught.value.field) == (f"X_{field.upper()} must be {expected}", field)


@pytest.mark.parametrize("field", ["token_in", "rate", "concurrency", "request_format", "trust_env", "attempts"])
def test_a_long_value_is_not_repeated_for_it_could_be_the_token(field):
    with pytest.raises(ConfigurationError, match="not a str of 34 characters") as caught:
        Settings.parse({field: "0123456789abcdef" * 2})
    assert "abcdef" not in str(caught.value)


def test_an_unknown_setting_is_named_beside_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"timeuot is no setting; known are .*timeout"):
        Settings.parse({"timeuot": 1})


def test_toml_is_read():
    assert Settings.from_toml("[altcraft]\nrate = 5\nrequest_format = 'xml'\n[other]\nx = 1") == Settings(
        rate=5.0, request_format="xml"
    )
    assert Settings.from_toml("") == Settings()


@pytest.mark.parametrize("text", ["[altcraft", "altcraft = 5", "[altcraft]\nrate = 'x'", "[altcraft]\nx = 1"])
def test_toml_that_cannot_work_is_refused(text):
    with pytest.raises(ConfigurationError):
        Settings.from_toml(text)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://ru.altkraft.com", "https://ru.altkraft.com"),
        ("https://ru.altkraft.com/", "https://ru.altkraft.com"),
        (" https://x.test:8443/p/ ", "https://x.test:8443/p"),
        ("https://x.test/api/v1.1/", "https://x.test"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:5", "http://[::1]:5"),
    ],
)
def test_a_base_url_is_brought_into_one_form(given, kept):
    assert check_base_url(given, allow_insecure=False) == kept


@pytest.mark.parametrize(
    "url",
    [
        "", "  ", None, 5, "ru.altkraft.com", "ftp://x.test", "https://", "https:///x", "https://x.test?a=1",
        "https://x.test#a", "https://user:secret@x.test", "https://x.test:port", "http://[::1", "http://x.test",
        "http://10.0.0.1", "http://localhost.evil.test", "http://127.0.0.1.evil.test", "http://127.evil.test",
        "http://::1.evil.test",
    ],
)  # fmt: skip
def test_a_base_url_that_cannot_work_or_would_leak_the_token_is_refused(url):
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(url, allow_insecure=False)
    assert caught.value.field == "base_url"
    assert "secret" not in str(caught.value)


def test_plain_http_can_be_allowed():
    assert check_base_url("http://x.test", allow_insecure=True) == "http://x.test"
