"""Each block of Python in the documents is a module that stands alone: its types are right, and it runs."""

from __future__ import annotations

import ast
import gc
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from blocks import ROOT, blocks

pytestmark = [pytest.mark.documents, pytest.mark.slow]

EXAMPLES = ROOT / "docs" / "examples"
YOURS = Path(__file__).parent / "yours"
PYTHON = blocks("python", "pycon", "default")
ELSEWHERE = ("airflow", "celery", "distributed", "django", "pandas", "pendulum", "polars", "pyspark", "ray")
"""Libraries of the sessions ``programs`` and ``engines``, which run what needs them."""

SETTINGS = f"""
[mypy]
strict = true
python_version = 3.11
# tests are seldom annotated, and a library that is not here has neither decorators nor classes of a type
disallow_untyped_defs = false
disallow_incomplete_defs = false
disallow_untyped_decorators = false
disallow_subclassing_any = false

[mypy-altcraft_async.*]
follow_imports = silent

[mypy-asyncpg.*,{",".join(f"{name}.*" for name in ELSEWHERE)}]
ignore_missing_imports = true
"""


def test_there_are_blocks():
    assert len(PYTHON) > 100


def test_each_is_right_for_mypy_when_it_stands_alone(tmp_path):
    folder = tmp_path / "blocks"
    folder.mkdir()
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS)
    for block in PYTHON:
        (folder / f"{block.name}.py").write_text(block.text, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(settings), "--no-error-summary", "."],
        cwd=folder,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES, YOURS)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout + ended.stderr == ""


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_it_uses_what_it_imports(block):
    nodes = list(ast.walk(ast.parse(block.text)))
    names = {node.asname or node.name.partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    assert names - {"annotations"} <= {node.id for node in nodes if isinstance(node, ast.Name)}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_it_runs(block, desk, server, request):
    """As a module; what stands below ``if __name__ == "__main__"`` needs arguments, and has tests of its own."""
    for name in ELSEWHERE:
        if re.search(rf"^(from|import) {name}\b", block.text, re.MULTILINE):
            pytest.importorskip(name, reason=f"{name} is in the sessions programs and engines", exc_type=ImportError)
    text = block.text.replace("https://ru.altkraft.com", server.base_url)
    text = re.sub(r'token="(…|<token>)"', f'token="{server.token}"', text)
    if "asyncio.run(" in text and "postgresql://" in text:
        text = text.replace("postgresql://shop@db/shop", request.getfixturevalue("postgres").url())
    path = desk / f"test_{block.name}.py"
    path.write_text(text, encoding="utf-8")
    if "def test_" in text:
        with_modules = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, YOURS, EXAMPLES)))}
        words = ["-m", "pytest", "-q", "-o", "asyncio_mode=auto", "--rootdir", str(desk), str(path)]
        ended = subprocess.run([sys.executable, *words], env=with_modules, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    else:
        with warnings.catch_warnings():
            if "EventLoopError" in text:  # shows a mistake, which leaves a connection in a loop that is closed
                warnings.simplefilter("ignore", ResourceWarning)
            runpy.run_path(str(path), run_name="block")
            gc.collect()
