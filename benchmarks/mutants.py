"""Change one token of the pure rooms at a time, and see whether anything notices.

    python benchmarks/mutants.py [--sample N] [--seed N] [--only MODULE ...] [--jobs N] [--check]

Of all one-token changes to `protocol` and `flow` (an operator, a comparison, a number, a name like ``min``) a sample is
drawn, the same for the same seed. Each is made in a copy of the project, and the unit tests of its module run until the
first that fails; without a change they must pass, or the script ends. What never ends counts as noticed, and is shown,
since on a machine that is too busy everything looks like it. What the tests do not notice in the law of the limit, a
simulation judges (`fleet/panel.py`): it notices a change that makes any of its figures worse by a point. Survivors that
are explained in `mutants.txt` are none: each by its own line, or many of one kind by a pattern.

A script of its own, since the tools that there are change the bodies of functions only, and half of the law is the
constants of its modules; nor can they ask a simulation.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
PACKAGE = "altcraft_async"
EXPLAINED = Path(__file__).with_name("mutants.txt")
TIMEOUT = 240.0
"""The fewest seconds after which something counts as never ending; it has also `PATIENCE` times as many as usual."""
PATIENCE = 20.0
CHOSEN = "not simulate and not processes"
DRAWN = ("--hypothesis-profile=whole", "--hypothesis-seed=0")

TESTS = {
    "flow/adaptive.py": "law_stories remembered share spread_starts limit clock_origin",
    "flow/limit.py": "limit defaults remembered share total",
    "flow/pace.py": "pace law_stories spread_starts limit clock_origin",
    "flow/share.py": "share",
    "flow/total.py": "total",
    "flow/batch.py": "batch batch_parts",
    "flow/failures.py": "failures defaults",
    "flow/lanes.py": "lanes batch_parts",
    "flow/outage.py": "outage_law defaults",
    "flow/partition.py": "partition",
    "flow/parts.py": "parts",
    "flow/policy.py": "settings defaults",
    "flow/retry.py": "retry defaults",
    "protocol/answer.py": "answer verdict batch_parts",
    "protocol/charset.py": "charset",
    "protocol/encoding.py": "encoding",
    "protocol/json.py": "json json_orjson wire batch_parts market_formats",
    "protocol/methods.py": "methods",
    "protocol/plain.py": "plain market_formats",
    "protocol/retry_after.py": "retry_after",
    "protocol/states.py": "values defaults",
    "protocol/verdict.py": "verdict",
    "protocol/wire.py": "wire answer",
    "protocol/xml.py": "xml wire batch_parts market_formats",
    "protocol/values/custom.py": "market_values market_formats values",
    "protocol/values/lines.py": "values market_values",
    "protocol/values/orders.py": "market_values market_formats",
    "protocol/values/products.py": "market_values market_formats",
    "protocol/values/schema.py": "market_values market_formats",
}
"""The unit tests of each module."""
LAW = {"flow/adaptive.py", "flow/pace.py", "flow/share.py"}
"""What the simulation judges."""

SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "/", "/": "*",
    "//": "*", "+=": "-=", "-=": "+=", "and": "or", "or": "and", "not": "", "True": "False", "False": "True",
    "min": "max", "max": "min", "any": "all", "all": "any", "is": "is not", "break": "continue",
}  # fmt: skip


@attrs.frozen
class Mutant:
    """One change: in `module`, whose text is `text` then; `place` and `change` are for people.

    `marked` is the place with «the token» marked, and what it becomes: for patterns.
    """

    module: str
    place: str
    change: str
    marked: str = attrs.field(repr=False)
    text: str = attrs.field(repr=False)

    def __str__(self) -> str:
        """Say it in a line, the same wherever the line stands."""
        return f"{self.module}: {self.place}  [{self.change}]"


# -- what can be changed


def mutants_of(module: str) -> Iterator[Mutant]:
    """Make every one-token change of a module that is still Python."""
    text = (ROOT / PACKAGE / module).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    typed = _annotations(ast.parse(text))
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if any(begin <= token.start < end for begin, end in typed):
            continue
        for new in _others(before.string, token, after.string):
            row, column = token.start
            line = lines[row - 1]
            changed = line[:column] + new + line[token.end[1] :]
            mutated = "".join([*lines[: row - 1], changed, *lines[row:]])
            try:
                ast.parse(mutated)
            except SyntaxError:
                continue
            name, rest = new or "nothing", line[token.end[1] :].rstrip()
            marked = f"{module}: {line[:column].lstrip()}«{token.string}»{rest} -> {name}"
            yield Mutant(module, line.strip(), f"{token.string} at {column} -> {name}", marked, mutated)


def _others(before: str, token: tokenize.TokenInfo, after: str) -> list[str]:
    string = token.string
    if token.type == tokenize.NUMBER:
        value = ast.literal_eval(string)
        if isinstance(value, float):
            return [repr(value * 1.5), repr(value / 1.5)] if value else ["1.0"]
        return [str(value * 3 // 2), str(value * 2 // 3)] if value > 3 else [str(value + 1)]
    if token.type not in {tokenize.OP, tokenize.NAME} or string not in SWAPS:
        return []
    if (string == "*" and (before in {"(", ",", "["} or after == ",")) or (string == "/" and after in {",", ")"}):
        return []  # of a signature or call
    if (string == "is" and after == "not") or (string in {"min", "max"} and after != "("):
        return []
    return [SWAPS[string]]


def _annotations(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Give where the annotations stand, which nothing runs."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            found.append(node.returns)
    return [((at.lineno, at.col_offset), (at.end_lineno or 0, at.end_col_offset or 0)) for at in found]


# -- who notices


def copy_project(directory: Path) -> Path:
    """Copy what the tests need."""
    for name in (PACKAGE, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, directory)
    return directory


def _run(
    directory: Path, *arguments: str, timeout: float = TIMEOUT, keep: bool = False
) -> subprocess.CompletedProcess[str] | None:
    """Run Python in a project; None where it never ended. With `keep` compiled modules stay for the next time."""
    environ = os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "" if keep else "1"}
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(
            command, cwd=directory, env=environ, timeout=timeout, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def run_tests(
    directory: Path, tests: str, *, timeout: float = TIMEOUT, keep: bool = False
) -> subprocess.CompletedProcess[str] | None:
    """Run unit tests, with the same chance each time; None where they never ended."""
    files = [f"tests/unit/test_{name}.py" for name in tests.split()]
    options = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", CHOSEN, *DRAWN)
    return _run(directory, "-m", "pytest", *options, *files, timeout=timeout, keep=keep)


def figures(directory: Path) -> dict[str, float] | None:
    """Ask the simulation of a project; None where it failed or never ended."""
    ended = _run(directory, "benchmarks/fleet/panel.py")
    return json.loads(ended.stdout) if ended is not None and ended.returncode == 0 else None


def is_worse(found: dict[str, float] | None, usual: dict[str, float]) -> bool:
    """Say whether any figure, of which higher is worse, is higher by a point."""
    return found is None or any(found[name] > usual[name] + 0.01 for name in usual)


class Judge:
    """Makes mutants of `modules` in copies of the project in `place`, one a worker, and says who noticed."""

    def __init__(self, place: Path, modules: set[str], workers: int) -> None:
        first = copy_project(place / "0")
        self._seconds = {tests: _seconds_of(first, tests) for tests in {TESTS[module] for module in modules}}
        usual = figures(first) if LAW & modules else {}
        if usual is None:
            sys.exit("the simulation fails without any change")
        self._usual = usual
        self._free: SimpleQueue[Path] = SimpleQueue()
        self._free.put(first)
        for number in range(1, workers):
            self._free.put(shutil.copytree(first, place / str(number)))

    def judge(self, mutant: Mutant) -> str:
        """Give who noticed: ``tests``, ``simulation``, ``no end`` or ``nobody``."""
        directory = self._free.get()
        path = directory / PACKAGE / mutant.module
        original, times = path.read_text(encoding="utf-8"), path.stat()
        try:
            path.write_text(mutant.text, encoding="utf-8")
            tests = TESTS[mutant.module]
            ended = run_tests(directory, tests, timeout=max(TIMEOUT, PATIENCE * self._seconds[tests]))
            if ended is None:
                return "no end"
            if ended.returncode:
                return "tests"
            return "simulation" if mutant.module in LAW and is_worse(figures(directory), self._usual) else "nobody"
        finally:
            path.write_text(original, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # what was compiled of it is good again
            self._free.put(directory)


def _seconds_of(directory: Path, tests: str) -> float:
    """Run unit tests without a change, which must pass; give the seconds that they take."""
    began = time.monotonic()
    ended = run_tests(directory, tests, timeout=4 * TIMEOUT, keep=True)
    if ended is None or ended.returncode:
        sys.exit(f"the unit tests {tests} fail without any change\n{ended.stdout if ended else ''}")
    return time.monotonic() - began


def unlisted() -> list[str]:
    """Give the modules of the two rooms that can be changed, and that `TESTS` does not name."""
    package = ROOT / PACKAGE
    modules = (
        path.relative_to(package).as_posix() for room in ("protocol", "flow") for path in (package / room).rglob("*.py")
    )
    return [module for module in modules if module not in TESTS and next(mutants_of(module), None) is not None]


def explained(text: str) -> Callable[[Mutant], bool]:
    """Give the test for what `text` explains: a line that is not indented is a change, and after ``~`` a pattern."""
    lines = [line.rstrip() for line in text.splitlines() if line[:1].strip() and not line.startswith("#")]
    known = {line for line in lines if not line.startswith("~ ")}
    patterns = [re.compile(line.removeprefix("~ ")) for line in lines if line.startswith("~ ")]
    return lambda mutant: str(mutant) in known or any(pattern.fullmatch(mutant.marked) for pattern in patterns)


def main() -> int:
    """Draw, judge, tell, and give the exit code."""
    parser = argparse.ArgumentParser(description="Change one token at a time, and see whether anything notices.")
    parser.add_argument("--sample", type=int, default=60, help="how many changes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (%(default)s)")
    parser.add_argument("--only", action="append", choices=list(TESTS), help="only this module; can be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 where less than 95 %% is noticed")
    options = parser.parse_args()
    if left_out := unlisted():
        parser.error(f"no tests are named for {', '.join(left_out)}")
    is_explained = explained(EXPLAINED.read_text(encoding="utf-8"))
    everything = [mutant for module in options.only or TESTS for mutant in mutants_of(module)]
    unexplained = [mutant for mutant in everything if not is_explained(mutant)]
    count = min(options.sample, len(unexplained))
    sample = random.Random(options.seed).sample(unexplained, count)
    print(f"{len(everything)} changes, {len(everything) - len(unexplained)} explained; a sample of {count}", flush=True)
    noticed = 0
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(options.jobs) as pool:
        judge = Judge(Path(place), {mutant.module for mutant in sample}, options.jobs)
        for mutant, who in zip(sample, pool.map(judge.judge, sample), strict=True):
            noticed += who != "nobody"
            if who != "tests":
                print(f"{'SURVIVED' if who == 'nobody' else who:<10} {mutant}", flush=True)
    print(f"{noticed} of {count} noticed: {noticed / max(1, count):.1%}")
    return 1 if options.check and noticed < 0.95 * count else 0


if __name__ == "__main__":
    sys.exit(main())
