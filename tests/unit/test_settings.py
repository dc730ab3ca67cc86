"""The settings: defaults that work, and a named field for each that cannot."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import (
    Adaptive,
    AltcraftClient,
    ConfigurationError,
    OutagePolicy,
    RetryPolicy,
    Settings,
    Shared,
    Timeout,
)
from altcraft_async.client import ClientOptions
from altcraft_async.kinds import CODES, ranges
from altcraft_async.settings import TABLE, Environment, check_base_url, with_keywords
from altcraft_async.settings.table import BY_NAME, KEYWORDS, near_misses


def test_the_defaults_are_those_of_the_contract():
    settings = Settings()
    assert (settings.request_format, settings.response_format, settings.token_in) == ("json", "json", "body")
    assert (settings.request_id_header, settings.rate) == ("Request-ID", None)
    assert (settings.timeout, settings.retry, settings.concurrency) == (Timeout(), RetryPolicy(), Adaptive())
    assert (settings.retry_budget, settings.retry_refund) == (500.0, 0.5)
    assert settings.outage == OutagePolicy(patience=1800.0, call_patience=60.0, first_patience=5.0, fail_fast=False)
    assert (settings.trust_env, settings.allow_insecure, settings.ca_file) == (False, False, None)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("request_format", "yaml", "'json' or 'xml', not 'yaml'"),
        ("response_format", None, "'json' or 'xml', not None"),
        ("token_in", "url", "'body' or 'header', not 'url'"),
        ("request_id_header", ["x"], "'Request-ID' or 'X-Request-ID', not ['x']"),
        ("timeout", "5", "a number above zero, or a Timeout, not '5'"),
        ("timeout", 0, "a number above zero, or a Timeout, not 0"),
        ("timeout", None, "a number above zero, or a Timeout, not None"),
        ("retry", 5, "a RetryPolicy, not 5"),
        ("outage", 5, "an OutagePolicy, not 5"),
        ("concurrency", 0, "a whole number above zero, Adaptive(...), or Shared(...) of a whole number, not 0"),
        ("concurrency", 1.5, "a whole number above zero, Adaptive(...), or Shared(...) of a whole number, not 1.5"),
        ("concurrency", True, "a whole number above zero, Adaptive(...), or Shared(...) of a whole number, not True"),
        (
            "concurrency",
            "many",
            "a whole number above zero, Adaptive(...), or Shared(...) of a whole number, not 'many'",
        ),
        ("rate", 0, "a number above zero, Shared(...), or None, not 0"),
        ("rate", True, "a number above zero, Shared(...), or None, not True"),
        ("rate", float("nan"), "a number above zero, Shared(...), or None, not nan"),
        ("rate", float("inf"), "a number above zero, Shared(...), or None, not inf"),
        ("retry_budget", 0, "a number above zero, or None, not 0"),
        ("retry_refund", None, "a number above zero, not None"),
        ("max_response_bytes", 0.5, "a whole number above zero, not 0.5"),
        ("trust_env", "no", "True or False, not 'no'"),
        ("ca_file", 5, "the path of a file, or None, not 5"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_in_one_line(field, value, said):
    with pytest.raises(ConfigurationError) as caught:
        Settings(**{field: value})
    assert (str(caught.value), caught.value.field) == (f"{field} must be {said}", field)


@pytest.mark.parametrize("field", ["connect", "total"])
@pytest.mark.parametrize("value", [0, -1, "5", None, True, float("nan"), float("inf")])
def test_a_timeout_is_a_number_above_zero(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        Timeout(**{field: value})
    assert caught.value.field == field


def test_a_timeout_of_one_number_is_the_total():
    assert Timeout(5) == Settings(timeout=5).timeout == Timeout(total=5, connect=10.0)
    with pytest.raises(ConfigurationError, match="total must be a number above zero, not 'x'"):
        Timeout("x")


# -- keywords


def test_a_number_of_seconds_leaves_the_time_for_a_connection():
    settings = with_keywords(Settings(timeout=Timeout(20, connect=1.0)), {"timeout": 7})
    assert settings.timeout == Timeout(7, connect=1.0)


def test_max_retries_is_short_for_one_attempt_more():
    given = Settings(retry=RetryPolicy(attempts=9, base=0.1))
    assert with_keywords(given, {"max_retries": 3}).retry == RetryPolicy(attempts=4, base=0.1)
    assert with_keywords(given, {"max_retries": 0, "retry": RetryPolicy(base=2.0)}).retry.attempts == 1
    assert Settings.parse({"max_retries": "3"}).retry.attempts == 4


def test_max_retries_beside_other_attempts_is_refused():
    with pytest.raises(ConfigurationError, match="max_retries=2 contradicts retry, whose attempts are 7"):
        with_keywords(Settings(), {"max_retries": 2, "retry": RetryPolicy(attempts=7)})
    with pytest.raises(ConfigurationError, match="attempts and max_retries both set the attempts; give one"):
        Settings.parse({"attempts": 3, "max_retries": 3})


@pytest.mark.parametrize("value", [-1, "3", 1.0, True, None])
def test_max_retries_is_a_whole_number(value):
    with pytest.raises(ConfigurationError, match="max_retries must be a whole number, zero or more"):
        with_keywords(Settings(), {"max_retries": value})


# -- the table


def test_every_field_has_a_row_and_every_row_a_field():
    fields = {field.name for field in attrs.fields(Settings)}
    assert {row.keyword for row in TABLE if row.kind is not None} == fields
    assert set(KEYWORDS) == set(ClientOptions.__annotations__)
    assert fields <= KEYWORDS.keys()


@pytest.mark.parametrize("row", BY_NAME.values(), ids=lambda row: row.name)
def test_a_row_and_its_field_judge_alike(row):
    if row.name in {"max_retries", "timeout"}:
        return
    owner = Settings()
    for field in row.path[:-1]:
        owner = getattr(owner, field)
    judge = attrs.fields_dict(type(owner))[row.path[-1]].validator
    assert row.kind.fits(getattr(owner, row.path[-1]))
    assert judge is None or judge.words == row.kind.words


def test_the_docstring_of_the_client_names_every_keyword():
    named = set(re.findall(r"`(\w+)`", AltcraftClient.__doc__))
    assert set(KEYWORDS) - named == set()


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
        ("attempts", "2.5", "a whole number above zero, or 'none'"),
        ("attempts", True, "a whole number above zero, or 'none'"),
        ("retriable_codes", "408,x", "codes and ranges, like 408,500-599"),
        ("fatal_codes", "599-500", "codes and ranges, like 408,500-599"),
        ("fatal_codes", "1-99999999999", "codes and ranges, like 408,500-599"),
        ("fatal_codes", ["x"], "codes and ranges, like 408,500-599"),
        ("concurrency", "lots", "a whole number above zero, 'host:N', or 'adaptive'"),
        ("trust_env", "maybe", "true or false"),
        ("request_format", 5, "'json' or 'xml'"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(field, value, expected):
    with pytest.raises(ConfigurationError, match=f"{field.upper()} must be {expected}") as caught:
        Settings.parse({field: value}, name=str.upper)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("timeout", "-1", "a number above zero, not '-1'"),
        ("connect_timeout", 0, "a number above zero, not 0"),
        ("attempts", "0", "a whole number above zero, or 'none', not '0'"),
        ("max_retries", "-1", "a whole number, zero or more, not '-1'"),
        ("rate", "-2", "a number above zero, 'host:N', or 'none', not '-2'"),
        ("patience", "nan", "a number above zero, or 'none', not 'nan'"),
        ("concurrency", "0", "a whole number above zero, 'host:N', or 'adaptive', not '0'"),
        ("token_in", "url", "'body' or 'header', not 'url'"),
    ],
)
def test_what_cannot_work_is_called_by_the_name_that_was_given(field, value, expected):
    with pytest.raises(ConfigurationError) as caught:
        Settings.parse({"request_format": "xml", field: value}, name=lambda name: f"X_{name.upper()}")
    assert (str(caught.value), caught.value.field) == (f"X_{field.upper()} must be {expected}", field)


@pytest.mark.parametrize("field", ["token_in", "rate", "concurrency", "request_format", "trust_env", "attempts"])
def test_a_long_value_is_not_repeated_for_it_could_be_the_token(field):
    with pytest.raises(ConfigurationError, match="not a str of 32 characters") as caught:
        Settings.parse({field: "0123456789abcdef" * 2})
    assert "abcdef" not in str(caught.value)


def test_an_unknown_setting_is_named_beside_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"timeuot is no setting; did you mean timeout\?"):
        Settings.parse({"timeuot": 1})
    with pytest.raises(ConfigurationError, match=r"zzz is no setting; known are .*timeout"):
        Settings.parse({"zzz": 1})


@pytest.mark.parametrize(
    ("text", "shared"),
    [("host:64", Shared(64)), ("drainers:8", Shared(8, among="drainers"))],
)
def test_a_shared_total_is_read_from_a_text(text, shared):
    settings = Settings.parse({"concurrency": text, "rate": text})
    assert (settings.concurrency, settings.rate) == (shared, shared)


@pytest.mark.parametrize("text", ["cluster:8", "host:", "host:0", "host:-1", "host:2.5", ":8"])
def test_a_shared_total_that_cannot_work_is_refused(text):
    with pytest.raises(ConfigurationError, match="concurrency must be"):
        Settings.parse({"concurrency": text})


def test_all_that_is_wrong_is_told_in_one_line():
    with pytest.raises(ConfigurationError) as caught:
        Settings.parse({"rate": "fast", "patience": "long"})
    told = (
        "rate must be a number above zero, 'host:N', or 'none', not 'fast'; "
        "patience must be a number above zero, or 'none'"
    )
    assert str(caught.value) == f"2 settings cannot work: {told}, not 'long'"
    assert caught.value.field == "rate"


def test_codes_are_numbers_and_ranges():
    rules = Settings.parse({"retriable_codes": "408, 500-502", "fatal_codes": "none"}).retry.rules
    assert (rules.retriable, rules.fatal, rules.throttled) == ({408, 500, 501, 502}, set(), {425, 429})
    assert Settings.from_toml("[altcraft]\nretriable_codes = [408, '500-501']").retry.rules.retriable == {408, 500, 501}


@given(st.frozensets(st.integers(0, 600)))
def test_codes_that_are_written_are_read_as_the_same(codes):
    assert CODES.read(ranges(codes), "codes") == codes


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("none", None)])
def test_a_time_can_have_a_unit(text, seconds):
    assert Settings.parse({"patience": text}).outage.patience == seconds


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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ru.altkraft.com", "base_url has no scheme; write https://ru.altkraft.com"),
        ("ru.altkraft.com:8443/x", "base_url has no scheme; write https://ru.altkraft.com:8443/x"),
        ("localhost:8080", "base_url has no scheme; write https://localhost:8080"),
        (
            "https://x.test/api/v1.1/market/orders/get_status/",
            "base_url has a method's path behind the address; leave /api/v1.1/market/orders/get_status out",
        ),
    ],
)
def test_a_base_url_is_refused_with_what_to_write_instead(url, said):
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(url, allow_insecure=False)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "host",
    [
        "ru..altkraft.com", ".altkraft.com", "ru.altkraft.com..", f"{'a' * 64}.example",
        "пример..рф", "*.altkraft.com", "1.2.3", "256.256.256.256",
    ],
)  # fmt: skip
def test_a_slip_in_the_host_is_refused_before_anything_is_sent(host):
    with pytest.raises(
        ConfigurationError, match=r"base_url has a host that cannot exist.*https://ru\.altkraft\.com"
    ) as e:
        check_base_url(f"https://{host}:443/p", allow_insecure=False)
    assert e.value.field == "base_url"


@pytest.mark.parametrize(
    "host", ["exa mple.com", "\u200bru.altkraft.com", "ru\n.altkraft.com", "ru\t.test", "a\x1b.test"]
)
def test_a_blank_or_a_control_character_within_an_address_is_named(host):
    with pytest.raises(ConfigurationError, match="base_url has a blank or a control character in it; give") as e:
        check_base_url(f"https://{host}:443/p", allow_insecure=False)
    assert e.value.field == "base_url"


@pytest.mark.parametrize(
    "host",
    [
        "ru.altkraft.com.",
        "пример.рф",
        "xn--e1afmkfd.xn--p1ai",
        "x_y.test",
        "app",
        "a1.2b",
        "[fe80::1%eth0]",
        "10.0.0.1",
    ],
)
def test_a_host_that_may_exist_is_taken(host):
    assert check_base_url(f"https://{host}", allow_insecure=False) == f"https://{host}"


@pytest.mark.parametrize("url", ["0123456789abcdef0123456789abcdef", "user:secret.word@x.test", "tok.en+secret="])
def test_what_may_be_a_token_in_the_addresss_place_is_not_shown(url):
    with pytest.raises(ConfigurationError) as caught:
        check_base_url(url, allow_insecure=False)
    assert url not in str(caught.value)


# -- the environment


def test_foreign_variables_are_left_alone():
    environ = {"ALTCRAFT_CLIENT_ID": "5", "ALTCRAFT_PROJECT": "x", "ALTCRAFT_TOKEN_URL": "y", "PATH": "/bin"}
    assert near_misses(environ) == {}
    found = Environment.read(environ)
    assert (found.settings, found.problems) == (Settings(), [])


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("ALTCRAFT_TOKN", "ALTCRAFT_TOKEN"),
        ("ALTCRAFT_TIMEUOT", "ALTCRAFT_TIMEOUT"),
        ("ALTCRAFT_BASEURL", "ALTCRAFT_BASE_URL"),
        ("ALTKRAFT_TOKEN", "ALTCRAFT_TOKEN"),
        ("altcraft_token", "ALTCRAFT_TOKEN"),
        ("ALTCRAFTTOKEN", "ALTCRAFT_TOKEN"),
    ],
)
def test_a_slip_is_known_by_the_variable_that_was_meant(slip, meant):
    assert near_misses({slip: "x"}) == {slip: meant}


def test_an_environment_shows_no_token():
    assert "secret" not in repr(Environment.read({"ALTCRAFT_TOKEN": "secret"}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("concurrency", 10**13),
        ("rate", 10**400),
        ("rate", 1e300),
        ("timeout", 10**400),
        ("retry_budget", 10**400),
        ("max_response_bytes", 10**30),
        ("dedup_window", 1e13),
    ],
)
def test_a_number_beyond_all_use_is_refused_with_the_bound(field, value):
    with pytest.raises(ConfigurationError, match=f"^{field} must be .*, at most 1,000,000,000,000, not ") as caught:
        AltcraftClient("https://h.test", "0123456789", **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("concurrency", "99999999999999999999999"),
        ("attempts", "99999999999999999999999"),
        ("max_retries", "99999999999999999999999"),
        ("max_response_bytes", "99999999999999999999999"),
        ("timeout", "9999999999999h"),
        ("rate", "1e308"),
    ],
)
def test_a_text_that_is_a_number_beyond_all_use_is_refused_with_the_bound(field, text):
    with pytest.raises(ConfigurationError, match=f"^{field} must be .*, at most 1,000,000,000,000, not "):
        Settings.parse({field: text})
