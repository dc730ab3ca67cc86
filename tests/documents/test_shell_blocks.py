"""Each line of shell in the documents: its commands and their options are there, and what can run here runs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from click import ClickException, Command
from shell import Command as Call
from shell import commands

from altcraft_async.cli.app import cli, run
from altcraft_async.cli.exits import ExitCode
from altcraft_async.sandbox import ThreadedSandbox
from blocks import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.documents, pytest.mark.slow]

SHELL = blocks("sh", "bash", "console", "shell")
WITH_COMMANDS = [one for one in SHELL if "altcraft-async " in one.text]
FOREIGN = {
    "basename", "break", "command", "continue", "curl", "exit", "export", "find", "git", "jq", "kill", "mkdir", "mv",
    "psql", "set", "trap", "wait", "[", "$EDITOR", "$",
}  # fmt: skip
"""Programs of others, and words of the shell."""
ONLY_READ = ("s3://", "postgresql://", " sandbox", "reconcile", "psql", "venv", "$1", "$SLURM", "$input")
"""What a block has that needs more than is here, or that runs until somebody ends it; or its script has a test."""


def problem_of(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Let the command line read arguments, without running the command, and return what it says against them."""
    with monkeypatch.context() as changed:
        changed.setattr(Command, "invoke", lambda *_: None)
        try:
            cli.main(list(arguments), prog_name="altcraft-async", standalone_mode=False)
        except ClickException as error:
            return error.format_message()
    return None


def sessions() -> set[str]:
    """Return the names of the sessions of nox."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    found = set()
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        said = [ast.unparse(one) for one in function.decorator_list]
        if any(one.startswith("nox.session") for one in said):
            named = re.search(r"name='(\w+)'", " ".join(said))
            found.add(named[1] if named else function.name)
    return found


def options_of(script: Path) -> set[str]:
    """Return the options that a script's parser knows."""
    calls = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    added = [one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "add_argument"]
    return {word.value for one in added for word in one.args if isinstance(word, ast.Constant)}


def wrong_with_pip(arguments: tuple[str, ...]) -> str | None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = '"nox"' + (ROOT / "pyproject.toml").read_text() + (ROOT / "noxfile.py").read_text()
    for word in arguments[1:]:
        name, _, asked = word.removesuffix("]").partition("[")
        if unknown := set(filter(None, asked.split(","))) - set(extras):
            return f"there is no extra {unknown}"
        if not word.startswith("-") and name != "." and not re.search(rf'"{name}\b', known):
            return f"nothing in the project needs {name}"
    return None


def wrong_with_python(arguments: tuple[str, ...]) -> str | None:
    if arguments[:1] == ("-m",):
        return None if arguments[1] == "venv" else f"unknown module {arguments[1]}"
    script = ROOT / arguments[0]
    script = script / "__main__.py" if script.is_dir() else script
    if not script.is_file():
        return f"there is no {arguments[0]}"
    unknown = {word for word in arguments[1:] if word.startswith("-")} - options_of(script)
    return f"{arguments[0]} has no {unknown}" if unknown else None


def wrong_with(call: Call, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Say what is wrong with a command, if anything."""
    match call.program:
        case "altcraft-async":
            return problem_of(call.arguments, monkeypatch)
        case "pip":
            return wrong_with_pip(call.arguments)
        case "python" | "python3":
            return wrong_with_python(call.arguments)
        case "nox":
            named = call.arguments[1 : call.arguments.index("--") if "--" in call.arguments else None]
            return None if set(named) <= sessions() else f"nox has no {named}"
    return None if call.program in FOREIGN else f"unknown program {call.program}"


def test_there_are_blocks():
    assert len(SHELL) > 40
    assert sum(call.program == "altcraft-async" for one in SHELL for call in commands(one.text)) > 50


def test_a_wrong_option_and_a_wrong_value_are_found(monkeypatch):
    assert "--jurnal" in (problem_of(("sync", "updates.csv", "--jurnal", "x"), monkeypatch) or "")
    assert "ten" in (problem_of(("sync", "updates.csv", "--sample", "ten"), monkeypatch) or "")


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_it_is_shell(block):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing")
    ended = subprocess.run([bash, "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_its_commands_have_these_options(block, monkeypatch):
    found = [(call, wrong_with(call, monkeypatch)) for call in commands(block.text)]
    assert [(call, wrong) for call, wrong in found if wrong] == []


@pytest.mark.parametrize("block", [one for one in SHELL if "curl" in one.text], ids=str)
def test_the_sandbox_takes_the_calls_of_curl(block):
    bash = shutil.which("bash")
    if bash is None or shutil.which("curl") is None:
        pytest.skip("bash or curl is missing")
    with ThreadedSandbox() as sandbox:
        text = block.text.replace("http://127.0.0.1:8080", sandbox.base_url).replace("curl -s", "curl -sS --fail")
        ended = subprocess.run([bash, "-e"], input=text, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert sandbox.line_status("order_10", "line_10_2") == "new"


def end_of(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line in this process, and return its exit code."""
    with monkeypatch.context() as changed:
        changed.setattr(sys, "argv", ["altcraft-async", *arguments])
        return run()


@pytest.mark.parametrize(
    "block", [one for one in WITH_COMMANDS if not any(word in one.text for word in ONLY_READ)], ids=str
)
def test_it_runs(block, desk, monkeypatch, capfd):
    """No command says that it was used wrongly, or that a file is missing; in this process, for that is quicker."""
    end_of(("sync", "updates.csv", "--journal", "updates.journal"), monkeypatch)
    shutil.copy("updates.journal", "monday.csv.journal")
    for call in commands(block.text):
        if call.program == "altcraft-async":
            capfd.readouterr()
            code = end_of(call.arguments, monkeypatch)
            assert code != ExitCode.USAGE, (call, capfd.readouterr())
