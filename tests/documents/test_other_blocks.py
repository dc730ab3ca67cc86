"""Each other block of the documents: files can be read by what they are for, and outputs are what a test has seen."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_python_blocks import PYTHON
from test_shell_blocks import SHELL, problem_of

from altcraft_async import Settings
from altcraft_async.sandbox import Scenario
from altcraft_async.settings.file import SettingsFile
from blocks import ROOT, blocks, copied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks import Block

pytestmark = [pytest.mark.documents, pytest.mark.slow]

DOCUMENTS = ROOT / "docs"
FILES = ("diff", "docker", "ini", "toml", "yaml")
OUTPUTS = ("none", "text")
HELD = {
    ("explanation/architecture", "altcraft_async/"): "test_the_map_names_modules_that_there_are",
    ("explanation/architecture", "a run:"): "a drawing",
    ("howto/cron-jobs", "Note: the journal"): "tests/acceptance/test_journal_command.py",
    ("howto/cron-jobs", "*/10"): "test_the_line_of_cron_calls_the_job_with_its_two_directories",
    ("howto/doctor", "ok"): "test_the_doctor_says_each_word_of_its_block",
    ("howto/doctor", "failed"): "test_the_doctor_says_each_word_of_its_block",
    ("howto/several-replicas", "postgresql://"): "test_an_address_of_postgresql_can_be_read",
}
"""What holds each block of text, by its page and beginning, that doctest does not compare and no code generates."""


def ids(language: str) -> list[Block]:
    found = blocks(language)
    assert found
    return found


def text(page: str, beginning: str) -> str:
    """Return the only block of a page that begins so."""
    (found,) = (one.text for one in blocks() if one.page == page and one.text.startswith(beginning))
    return found


def test_of_a_block_with_prompts_only_what_follows_them_is_copied():
    prompt = r">>> |\.\.\. |\$ "
    assert copied("$ altcraft-async demo\n5,000 lines\n", prompt) == "altcraft-async demo\n"
    assert copied(">>> for one in x:\n...     print(one)\n1\n", prompt) == "for one in x:\n    print(one)\n"
    assert copied("altcraft-async demo\n", prompt) == "altcraft-async demo\n"


def test_each_block_is_of_a_kind_that_is_checked():
    checked = [*PYTHON, *SHELL, *blocks(*FILES), *blocks(*OUTPUTS)]
    assert [str(block) for block in blocks() if block not in checked] == []


def test_each_shown_output_is_compared_by_doctest_or_held_by_a_test_that_is_named():
    shown = 0
    for page in DOCUMENTS.rglob("*.md"):
        if "_build" not in page.parts:
            shown += len(re.findall(r"^```\{testoutput\}\n(?!:hide:)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(blocks("none")) == shown
    others = [block for block in blocks("text") if block.page != "reference/cli"]  # made of the commands
    assert len(others) == len(HELD)
    assert all(text(*place) for place in HELD)


# -- files


@pytest.mark.parametrize("block", ids("toml"), ids=str)
def test_toml_is_settings_or_a_scenario(block, tmp_path):
    document = tomllib.loads(block.text)
    if "altcraft" not in document:
        assert Scenario.of(document).steps
        return
    path = tmp_path / "altcraft.toml"
    path.write_text(block.text)
    for profile in (None, *document["altcraft"].get("profiles", {})):
        assert SettingsFile.read(str(path), profile).values
    assert Settings.from_toml(re.sub(r"(?m)^(base_url|token_file).*|^\[altcraft\.(.|\n)*", "", block.text))


def words_in(value: object) -> Iterator[list[str]]:
    """Give the commands in a document of YAML: texts, and lists of texts."""
    match value:
        case str():
            yield shlex.split(value)
        case list() if value and all(isinstance(item, str) for item in value):
            yield value
        case list():
            for item in value:
                yield from words_in(item)
        case dict():
            for item in value.values():
                yield from words_in(item)


def wrong_calls(calls: Iterator[list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ours = [words for words in calls if words and words[0].endswith("altcraft-async")]
    assert ours
    return [wrong for words in ours if (wrong := problem_of(tuple(words[1:]), monkeypatch))]


@pytest.mark.parametrize("block", ids("yaml"), ids=str)
def test_yaml_calls_commands_that_there_are(block, monkeypatch):
    yaml = pytest.importorskip("yaml")
    assert wrong_calls(words_in(list(yaml.safe_load_all(block.text))), monkeypatch) == []


@pytest.mark.parametrize("block", ids("ini"), ids=str)
def test_a_unit_of_systemd_starts_what_there_is(block, monkeypatch):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(block.text)
    assert set(unit.sections()) <= {"Service", "Timer", "Install"}
    start = unit.get("Service", "ExecStart", fallback=None)
    if start is not None and "sync_inbox.sh" in start:
        assert len(shlex.split(start)) == 3
    elif start is not None:
        assert wrong_calls(iter([shlex.split(start)]), monkeypatch) == []


def test_the_line_of_cron_calls_the_job_with_its_two_directories():
    *when, user, command = text("howto/cron-jobs", "*/10").split(maxsplit=6)
    assert len([field for field in when if re.fullmatch(r"[\d*/,-]+", field)]) == 5
    assert user == "shop"
    assert len(shlex.split(command.partition("&& ")[2])) == 3
    assert (DOCUMENTS / "examples" / "sync_inbox.sh").is_file()


def test_the_container_copies_what_there_is_and_starts_the_sandbox(monkeypatch):
    (block,) = blocks("docker")
    said = [line.split(maxsplit=1) for line in block.text.replace("\\\n", "").splitlines() if line[:1].isupper()]
    for instruction, words in said:
        match instruction:
            case "COPY":
                assert all((ROOT / name).exists() for name in words.split()[:-1])
            case "ENTRYPOINT":
                assert wrong_calls(iter([json.loads(words)]), monkeypatch) == []
            case "HEALTHCHECK":
                *_, program = json.loads(words.partition("CMD ")[2])
                compile(program, "HEALTHCHECK", "exec")
    assert {"FROM", "COPY", "ENTRYPOINT", "HEALTHCHECK"} <= {instruction for instruction, _ in said}


def test_an_address_of_postgresql_can_be_read():
    conninfo = pytest.importorskip("psycopg.conninfo")
    address = text("howto/several-replicas", "postgresql://").strip()
    assert conninfo.conninfo_to_dict(address)["host"] == "db1,db2"


def test_the_patch_of_contributing_is_what_was_done():
    source = ""
    for line in text("CONTRIBUTING.md", "--- a/").splitlines():
        if line.startswith("--- a/"):
            source = (ROOT / line[6:]).read_text(encoding="utf-8")
        else:
            assert line[:1] == "+", line
            assert f"{line[1:]}\n" in source, line


# -- outputs


def test_the_map_names_modules_that_there_are():
    names = re.findall(r"[\w/]+\.py\b|\b\w+/", text("explanation/architecture", "altcraft_async/"))
    there = {path.name for path in ROOT.rglob("altcraft_async/**/*.py")} | {"generate_blocking.py"}
    folders = {path.name for path in ROOT.rglob("altcraft_async/**") if path.is_dir()} | {"altcraft_async"}
    unknown = [name for name in names if Path(name).name not in there and name.rstrip("/") not in folders]
    assert [name for name in unknown if name not in ("tests/", "tests/generate_blocking.py", "_sandbox/")] == []


@pytest.mark.parametrize("beginning", ["ok", "failed"])
def test_the_doctor_says_each_word_of_its_block(beginning):
    """Names and figures depend on the place and the day, so it looks for the words between them."""
    paths = (ROOT / "altcraft_async").rglob("*.py")
    source = re.sub(r'"\s*f?"', "", "".join(path.read_text(encoding="utf-8") for path in paths))
    said = re.findall(r"\b[A-Za-z][a-z']*(?: [a-z']+){2,}", text("howto/doctor", beginning))
    assert said
    assert [words for words in said if words not in source] == []
