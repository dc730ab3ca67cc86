"""The manual page and the completions in the wheel agree with the command's own parser, and so do the examples."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version

import click
import pytest

from altcraft_async.cli.app import cli
from altcraft_async.cli.examples import EXAMPLES, commands_of
from generate_command_files import MADE_WITH, PAGE, ROOT, SHARE, generated, roff

LEAVES = {" ".join(path): command for path, command in commands_of(cli) if not isinstance(command, click.Group)}


def test_the_files_are_what_the_parser_says():
    if f"{MADE_WITH}{version('click')}" != (SHARE / PAGE).read_text("utf-8").splitlines()[0]:
        pytest.skip("made with another release of click")
    for path, text in generated().items():
        assert (SHARE / path).read_text("utf-8") == text, "run python tests/generate_command_files.py"


def test_the_page_has_every_command_and_option_and_no_other():
    page = (SHARE / PAGE).read_text("utf-8")
    told = {word.replace("\\-", "-") for word in re.findall(r"\\-\\-[a-z]+(?:\\-[a-z]+)*", page)}
    options = {
        name for command in LEAVES.values() for param in command.params for name in (*param.opts, *param.secondary_opts)
    }
    assert {name for name in options if name.startswith("--")} <= told
    named_elsewhere = {"--help", "--version"}
    assert told - options - named_elsewhere == set()
    for name in LEAVES:
        assert f'.SS "{roff(name)}"\n' in page


def test_the_wheel_brings_all_of_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {f"share/{path}": f"share/{path}" for path in generated()}


@pytest.mark.slow
def test_the_completion_of_bash_completes(tmp_path):
    program = tmp_path / "altcraft-async"
    program.write_text(f"#!{sys.executable}\nfrom altcraft_async.cli import main\nmain()\n")
    program.chmod(0o755)
    script = f"""
        source {shlex.quote(str(SHARE / "bash-completion/completions/altcraft-async"))}
        COMP_WORDS=(altcraft-async journal fo) COMP_CWORD=2
        _altcraft_async_completion {shlex.quote(str(program))}
        echo "${{COMPREPLY[@]}}"
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "forget", ended.stderr


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_has_examples_that_its_parser_takes(name):
    assert EXAMPLES.get(name), f"add examples of {name} to altcraft_async/cli/examples.py"
    for _, words in EXAMPLES[name]:
        given = shlex.split(re.split(" [<>] ", words)[0])
        path = name.split()
        assert given[: len(path)] == path
        with LEAVES[name].make_context(path[-1], given[len(path) :]):
            pass
        assert len(words) < 90


def test_no_example_is_of_a_command_that_is_gone():
    groups = {" ".join(path) for path, command in commands_of(cli) if isinstance(command, click.Group)}
    assert EXAMPLES.keys() == LEAVES.keys() | groups


def test_the_help_of_a_command_ends_with_its_examples():
    said = LEAVES["sync"].get_help(click.Context(LEAVES["sync"]))
    assert said.rstrip().endswith("altcraft-async sync orders.csv -q --failed failed.csv --results results.jsonl")


def test_the_application_stays_small():
    assert len((ROOT / "altcraft_async/cli/app.py").read_text("utf-8").splitlines()) < 150
