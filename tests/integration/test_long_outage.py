"""Half an hour of outage in the middle of a large run: nothing is in doubt, and memory does not grow with the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "long_outage.py"
KINDS = ["refused", "503"]


def lived_through(lines, kind):
    """Run it in a process of its own, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(lines), kind], check=True, capture_output=True, timeout=900,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    return json.loads(done.stdout)


def check(kind, *, lines, fewer):
    small, large = lived_through(fewer, kind), lived_through(lines, kind)
    assert large["states"] == {"applied": lines}
    assert large["left"] == 0
    assert large["elapsed"] > 1805.0
    assert 340 <= large["probes"] <= 420  # one each second for a minute, then each 5 seconds
    assert large["peak_kb"] <= 1.03 * small["peak_kb"] + 1500


@pytest.mark.slow
def test_an_outage_of_half_an_hour_costs_no_line_and_no_memory():
    check("503", lines=9_000, fewer=3_000)


@pytest.mark.simulate
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_lines_go_through_an_outage_in_the_memory_of_a_tenth(kind):
    check(kind, lines=1_000_000, fewer=100_000)
