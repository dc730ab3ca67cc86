"""A run with a journal is killed, again and again, and simply run again: nothing is lost, made twice or reordered."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from journal_runs import updates_of

from altcraft_async import OutcomeState
from altcraft_async.journal import JournalReader
from altcraft_async.sandbox import Faults, ThreadedSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]

ROOT = Path(__file__).parents[2]
KILLED = -9
FAULTS = Faults.mixed(0.1, latency=0.004, jitter=0.5)
SLOWER = Faults.mixed(0.1, latency=0.03, jitter=0.5)


@attrs.define
class Runs:
    """The runs of one input over one journal, until it is done."""

    process: subprocess.Popen[str]
    sandbox: ThreadedSandbox
    folder: Path
    count: int
    lines: int
    begun: int = 0
    kills: int = 0
    resent: int = 0
    in_doubt: set[str] = attrs.Factory(set)
    handed_over: set[str] = attrs.Factory(set)
    most_in_doubt: int = 0

    def once(self, **how: Any) -> int:
        """Run once, to the end or to a kill, and hold what it began against what was in doubt before."""
        self.begun += 1
        log = self.folder / f"{self.begun}.log"
        spec = {
            "journal": str(self.folder / "run.journal"), "log": str(log), "base_url": self.sandbox.base_url,
            "token": self.sandbox.token, "count": self.count, "lines": self.lines, "seed": 3, **how,
        }  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(spec) + "\n")
        self.process.stdin.flush()
        code: int = json.loads(self.process.stdout.readline())["code"]
        self.kills += code == KILLED
        self._compare(log.read_text().splitlines() if log.exists() else [])
        return code

    def _compare(self, lines: list[str]) -> None:
        started = {line[2:] for line in lines if line.startswith("S ") and len(line) == 38}
        done = {line[2:] for line in lines if line.startswith("D ") and len(line) == 38}
        again = started & self.handed_over
        assert not again, f"sent again although the outcome had been handed over: {sorted(again)[:3]}"
        self.resent += len(started & self.in_doubt)
        self.in_doubt = (self.in_doubt | started) - done
        self.most_in_doubt = max(self.most_in_doubt, len(started - done))
        self.handed_over |= done

    def check(self) -> None:
        """Hold the ledger and the journal against the input."""
        updates = updates_of(self.count, self.lines, 3)
        check = self.sandbox.check(updates)
        assert check.ok, str(check)
        assert check.applied == self.count
        ledger = self.sandbox.ledger
        ids = {a.request_id for key in ledger.lines for a in ledger.arrivals(*key)}
        assert len(ids) == self.count, "a change went out under two ids"
        assert ledger.in_flight_overlaps == 0
        with JournalReader(self.folder / "run.journal") as reader:
            summary = reader.summary()
            assert summary.finished
            assert summary.counts[OutcomeState.APPLIED] + summary.counts[OutcomeState.DUPLICATE] == self.count
            recorded = [outcome for outcome in reader.joined(_as_updates(updates)) if outcome is not None]
        assert {outcome.request_id for outcome in recorded} == ids


def _as_updates(rows: list[tuple[str, str, str]]) -> Iterator[Any]:
    from altcraft_async import LineStatusUpdate  # noqa: PLC0415

    return (LineStatusUpdate(*row) for row in rows)


@contextlib.contextmanager
def runs(folder: Path, count: int, lines: int, faults: Faults = FAULTS) -> Iterator[Runs]:
    script = str(Path(__file__).with_name("journal_runs.py"))
    process = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process, ThreadedSandbox(faults=faults, seed=5) as sandbox:
        sandbox.seed_orders(lines)
        yield Runs(process, sandbox, folder, count, lines)
        assert process.stdin is not None
        process.stdin.close()


COMMITS = [(f"{when} commit", number) for when in ("before", "inside", "after") for number in (1, 2, 5)]
ATTEMPTS = [(what, number) for what in ("started", "answered") for number in (1, 17, 60)]


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.chaos)])
def test_a_kill_at_any_write_boundary_loses_and_doubles_nothing(tmp_path: Path, every: int) -> None:
    points = [("empty file", 0), ("run recorded", 0), *COMMITS[::every], *ATTEMPTS[::every]]
    with runs(tmp_path, count=1200, lines=150) as killed:
        for point, number in points:
            assert killed.once(point=point, number=number) == KILLED, (point, number)
        assert killed.once() == 0
        killed.check()
        assert killed.kills == len(points)
        assert killed.resent > 0, "no kill met a request in doubt"
        assert killed.most_in_doubt < 200, "more than what was under way and what was answered within one commit"


def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    with runs(tmp_path, count=1500, lines=300) as killed:
        codes = [killed.once(after=chance.uniform(0.02, 0.12)) for _ in range(7)]
        assert killed.once() == 0
        killed.check()
        assert codes.count(KILLED) > 2


@pytest.mark.chaos
def test_two_hundred_kills_of_one_run_of_20000_updates(tmp_path: Path) -> None:
    chance = random.Random(2)
    with runs(tmp_path, count=20_000, lines=2_000, faults=SLOWER) as killed:
        while killed.kills < 200:
            assert killed.once(after=chance.uniform(0.02, 0.15), concurrency=32) == KILLED, "it ended too soon"
        assert killed.once(concurrency=32) == 0
        killed.check()
    said = f"{killed.kills} kills, {killed.resent} sent again, at most {killed.most_in_doubt} in doubt at a kill"
    sys.stdout.write(f"\n{said}\n")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(10))
def test_kills_at_random_write_boundaries(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    points = ["before commit", "inside commit", "after commit", "started", "answered"]
    with runs(tmp_path, count=4_000, lines=100) as killed:
        for _ in range(40):
            if killed.once(point=chance.choice(points), number=chance.randint(1, 40)) == 0:
                break
        assert killed.once() == 0
        killed.check()
