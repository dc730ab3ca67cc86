"""A file of settings: profiles, what goes before what, and how its mistakes are told."""

from __future__ import annotations

import pytest

from altcraft_async import AltcraftClient, ConfigurationError

TEXT = """
[altcraft]
base_url = "https://ru.altkraft.com"
token_file = "altcraft.token"
timeout = 20
attempts = 8
retriable_codes = [408, "500-501"]

[altcraft.profiles.staging]
base_url = "https://staging.example.com"
rate = 5

[altcraft.profiles.dev]

[tool.other]
x = 1
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "altcraft.token").write_text("secret-of-the-file\n")
    path = tmp_path / "settings.toml"
    path.write_text(TEXT)
    return path


def made(path, environ=(), **keywords):
    return AltcraftClient.from_settings(path, environ=dict(environ), **keywords)


def test_a_file_gives_address_token_and_settings(path):
    client = made(path)
    assert str(client.base_url) == "https://ru.altkraft.com"
    assert (client.settings.timeout.total, client.settings.retry.attempts) == (20, 8)
    assert client.settings.retry.rules.retriable == {408, 500, 501}
    assert client.settings.rate is None


def test_a_profile_goes_before_the_common_table(path):
    client = made(path, profile="staging")
    assert str(client.base_url) == "https://staging.example.com"
    assert (client.settings.timeout.total, client.settings.rate) == (20, 5)


def test_variables_go_before_the_file_and_keywords_before_all(path):
    environ = {"ALTCRAFT_TIMEOUT": "7", "ALTCRAFT_MAX_RETRIES": "2", "ALTCRAFT_BASE_URL": "https://env.example.com"}
    client = made(path, environ, rate=3)
    assert str(client.base_url) == "https://env.example.com"
    assert (client.settings.timeout.total, client.settings.retry.attempts, client.settings.rate) == (7, 3, 3)
    assert made(path, environ, timeout=1).settings.timeout.total == 1


def test_the_environment_can_name_the_file_and_the_profile(path):
    environ = {"ALTCRAFT_CONFIG": str(path), "ALTCRAFT_PROFILE": "staging"}
    assert AltcraftClient.from_env(environ).settings.rate == 5


def test_a_token_of_the_environment_goes_before_a_token_file_of_the_file(path, tmp_path):
    (tmp_path / "altcraft.token").unlink()
    assert made(path, {"ALTCRAFT_TOKEN": "of-the-environment"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[altcraft", "the settings {path} are not TOML"),
        ("[altcraft]\ntimeot = 3", "timeot in {path} is no setting; did you mean timeout in {path}?"),
        ("[altcraft]\ntimeout = -3", "timeout in {path} must be a number above zero"),
        ("[altcraft]\nbase_url = 5", "base_url in {path} must be an address"),
        ("[altcraft]\nbase_url = 'ru.altkraft.com'", "base_url in {path} has no scheme; write https://ru.altkraft.com"),
        ("altcraft = 3", "[altcraft] must be a table of the settings {path}"),
        ("[altcraft]\nprofiles = 3", "the settings {path} have a profile that is no table"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_name(path, text, said):
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        made(path, {"ALTCRAFT_TOKEN": "x"})
    assert said.format(path=path) in caught.value.message


def test_all_that_is_wrong_is_told_at_once(path):
    path.write_text("[altcraft]\ntimeout = 0\nrate = 'x'")
    with pytest.raises(ConfigurationError, match="4 settings cannot work") as caught:
        made(path)
    for part in ("timeout in", "rate in", "ALTCRAFT_BASE_URL is not set", "ALTCRAFT_TOKEN is not set"):
        assert part in caught.value.message


def test_a_missing_file_and_an_unknown_profile_are_told(path, tmp_path):
    with pytest.raises(ConfigurationError, match=r"gone\.toml cannot be read: No such file"):
        made(tmp_path / "gone.toml")
    with pytest.raises(ConfigurationError, match="have no profile 'prod'; it has dev, staging"):
        made(path, profile="prod")
    with pytest.raises(ConfigurationError, match="set ALTCRAFT_CONFIG"):
        AltcraftClient.from_env({"ALTCRAFT_PROFILE": "prod"})


def test_the_token_of_a_file_is_in_no_error(path):
    path.write_text("[altcraft]\ntoken = 'very secret'\ntimeout = 0")
    with pytest.raises(ConfigurationError) as caught:
        made(path)
    assert "very secret" not in str(caught.value)
