"""All that is wrong with a new client is told at once."""

from __future__ import annotations

import pytest

from altcraft_async import AltcraftClient, ConfigurationError


@pytest.mark.parametrize(
    ("base_url", "token", "options", "said"),
    [
        ("", "", {}, ["2 settings", "base_url is empty", "token is empty"]),
        ("ru.altkraft.com", "a b", {}, ["base_url has no scheme; write https://ru.altkraft.com", "token has a blank"]),
        ("https://a.example", "x", {"rate": -1, "max_retries": -1}, ["2 settings", "rate must be", "max_retries must"]),
        (8080, "x", {}, ["base_url must be text, not int; give the platform's address"]),
        ("", "x", {"timeout": 0}, ["2 settings", "timeout must be", "base_url is empty"]),
    ],
)
def test_all_that_is_wrong_is_told_at_once(base_url, token, options, said):
    with pytest.raises(ConfigurationError) as caught:
        AltcraftClient(base_url, token, **options)
    assert [part for part in said if part not in caught.value.message] == []


def test_one_mistake_is_told_alone():
    with pytest.raises(ConfigurationError, match=r"^token is empty; give it, or set ALTCRAFT_TOKEN$"):
        AltcraftClient("https://a.example", "")
