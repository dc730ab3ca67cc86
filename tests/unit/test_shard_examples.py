"""The documents' manifests for shards can be read by what they are for, as far as that can be told without it."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "shards"


def test_the_script_of_slurm_is_one_of_the_shell():
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is missing")
    ended = subprocess.run([shell, "-n", str(EXAMPLES / "slurm.sh")], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_program_is_python(path):
    ast.parse(path.read_text())


def test_the_job_of_kubernetes_is_an_indexed_one_and_has_its_token_in_a_file():
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())
    spec = job["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert container["command"][:3] == ["altcraft-async", "shards", "run"]
    assert {variable["name"] for variable in container["env"]} == {"ALTCRAFT_BASE_URL", "ALTCRAFT_TOKEN_FILE"}


def test_the_commands_options_in_the_manifests_are_those_that_there_are():
    from altcraft_async.cli.shards_commands import shards  # noqa: PLC0415

    known = {option for parameter in shards.commands["run"].params for option in parameter.opts}
    for name in ("kubernetes.yaml", "slurm.sh"):
        words = (EXAMPLES / name).read_text().replace(",", " ").replace("]", " ").split()
        used = {word for word in words if word in {"--shard", "--concurrency-total", "--rate-total", "--processes"}}
        assert used
        assert used <= known
