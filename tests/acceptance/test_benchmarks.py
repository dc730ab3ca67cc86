"""The benchmarks that are quick enough run here in their smallest form, so that none rots unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {"goodput.py": "aiohttp_retry", "report.py": "ziaplot"}
pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]


@pytest.mark.parametrize(
    ("script", "options", "shows"),
    [
        ("resume.py", ["--rows", "2000"], "seconds_until_first_request"),
        ("goodput.py", ["--quick", "--scenario", "reject", "--jobs", "1"], "ARC re-model"),
        ("report.py", ["--rows", "2000"], "with every row failed"),
        ("reading.py", ["--rows", "2000", "--kind", "plain"], "µs a row"),
    ],
)
def test_a_benchmark_runs(script, options, shows):
    if script in NEEDS:
        pytest.importorskip(NEEDS[script])
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *options],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert shows in ended.stdout
