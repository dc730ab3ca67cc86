"""The command ``sandbox``: an option for every setting, scenarios, and the whole of it from a shell."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from altcraft_async.cli.sandbox_command import _READINGS, _SETTINGS
from altcraft_async.cli.sandbox_command import sandbox as command_of_it
from altcraft_async.sandbox import PRESETS, Readings, Sandbox, ThreadedSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("sandbox_by_curl.sh")
ROOT = Path(__file__).parents[2]


@contextmanager
def running(command, *arguments: str) -> Iterator[str]:
    """Run the command and give its address."""
    process = command.start("sandbox", "--port", "0", *arguments)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        _, stderr = process.communicate(timeout=60)
        command.said += stderr.decode()


def asked(base_url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{base_url}/_sandbox{path}", timeout=30) as response:
        return json.load(response)


def test_every_setting_of_the_class_is_an_option_with_the_same_default():
    parameters = inspect.signature(Sandbox).parameters
    assert _SETTINGS.keys() == parameters.keys() - {"token", "readings", "clock"}
    assert _READINGS.keys() == {field.name for field in attrs.fields(Readings)}
    defaults = command_of_it.make_context("sandbox", []).params
    own = {"port", "faults", "seed", "wrong_token_code", "state_file", "tokens", "custom_statuses", "admin_hosts"}
    for name in _SETTINGS.keys() - own:
        assert defaults[name] == parameters[name].default, name


@pytest.mark.processes
def test_a_scenario_makes_the_sandbox(command, tmp_path):
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        'faults = "slow"\n[settings]\nnodes = 3\n[[order]]\nexternal_id = "A"\nlines = ["x"]\n'
        '[[at]]\nseconds = 0.2\nfaults = "down"\n'
    )
    with running(command, "--scenario", str(scenario)) as base_url:
        state = asked(base_url, "/state")
        assert (state["orders"], state["lines"], state["nodes"]) == (1, 1, 3)
        for _ in range(200):
            if asked(base_url, "/faults")["preset"] == "down":
                break
        else:
            pytest.fail("the faults did not change")
    assert "Its faults change 1 times" in command.said


@pytest.mark.processes
def test_options_that_are_given_go_before_the_scenario(command, tmp_path):
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('faults = "slow"\n[settings]\nnodes = 3\nkeep_requests = 7\n[[seed]]\norders = 1\n')
    with running(
        command, "--scenario", str(scenario), "--nodes", "2", "--faults", "mixed", "--orders", "5"
    ) as base_url:
        state = asked(base_url, "/state")
        assert (state["nodes"], state["faults"], state["orders"]) == (2, "mixed", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [("[settings]\nportt = 1", "settings.portt is not known"), (None, "cannot be read: No such file")],
)
def test_a_scenario_that_cannot_work_is_refused(here, tmp_path, text, said):
    path = tmp_path / "scenario.toml"
    if text is not None:
        path.write_text(text)
    ended = here("sandbox", "--scenario", str(path))
    assert ended.returncode == 1
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_unknown_preset_is_refused_with_those_that_there_are(here):
    ended = here("sandbox", "--faults", "worse")
    assert ended.returncode == 1
    for name in PRESETS:
        assert repr(name) in ended.stderr


def test_the_help_names_the_presets(here):
    assert f"[{'|'.join(PRESETS)}]" in here("demo", "--help").stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_shell_seeds_breaks_and_checks_it(tmp_path):
    with ThreadedSandbox() as sandbox:
        ended = subprocess.run(
            ["sh", str(SCRIPT), sandbox.base_url, sandbox.token],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("all is well\n")


def test_the_container_file_installs_the_package_and_runs_the_command():
    text = (ROOT / "docs" / "examples" / "sandbox.Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    words = [line.split(maxsplit=1)[0] for line in lines]
    assert words[0] == "FROM"
    assert set(words) <= {"FROM", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "WORKDIR", "ENV"}
    for line in lines:
        if line.startswith(("ENTRYPOINT", "CMD")):
            json.loads(line.split(maxsplit=1)[1])
    entry = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).split(maxsplit=1)[1])
    known = {option for one in command_of_it.params for option in getattr(one, "opts", ())}
    assert entry[:2] == ["altcraft-async", "sandbox"]
    assert {word for word in entry if word.startswith("--")} <= known
