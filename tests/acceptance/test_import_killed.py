"""An import with a journal is killed, again and again, and run again: nothing is lost, made twice or reordered."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from journal_runs import orders_of
from test_journal_killed import ATTEMPTS, COMMITS, KILLED, Runs, runs

from altcraft_async import OutcomeState
from altcraft_async.journal import JournalReader
from altcraft_async.sandbox import Faults

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]

FAULTS = Faults.mixed(0.1, latency=0.01, jitter=0.5)


def check(killed: Runs) -> None:
    """Hold the ledger and the journal against the input."""
    rows: list[dict[str, Any]] = orders_of(killed.count, killed.lines, 3)
    ledger = killed.sandbox.ledger
    found = ledger.check_imports("orders", rows)
    assert found.ok, str(found)
    assert ledger.in_flight_overlaps == 0
    batches: dict[tuple[tuple[str, str], ...], set[str | None]] = {}
    for arrival in ledger.import_arrivals:
        batches.setdefault(arrival.rows, set()).add(arrival.request_id)
    of_rows = [ids for ids in batches.values() if len(ids) > 1]
    assert sum(len(arrivals) for arrivals in batches) == killed.count, "a batch was cut in two ways"
    assert not of_rows, "a batch went out under two ids"
    with JournalReader(killed.folder / "run.journal") as reader:
        summary = reader.summary()
        assert summary.finished
        assert summary.counts[OutcomeState.APPLIED] + summary.counts[OutcomeState.DUPLICATE] == killed.count


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.chaos)])
def test_a_kill_at_any_write_boundary_loses_and_doubles_nothing(tmp_path: Path, every: int) -> None:
    with runs(tmp_path, count=2400, lines=1500, faults=FAULTS) as killed:
        points = [
            ("empty file", 0),
            ("run recorded", 0),
            *COMMITS[::every],
            *((what, min(number, 12)) for what, number in ATTEMPTS[::every]),
        ]
        for point, number in points:
            assert killed.once(point=point, number=number, batch_size=8) == KILLED, (point, number)
        assert killed.once(batch_size=8) == 0
        check(killed)
        assert killed.resent > 0, "no kill met a batch in doubt"


def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    with runs(tmp_path, count=3000, lines=2000, faults=FAULTS) as killed:
        codes = [killed.once(after=chance.uniform(0.03, 0.2), batch_size=20) for _ in range(12)]
        assert killed.once(batch_size=20) == 0
        check(killed)
        assert codes.count(KILLED) > 5


@pytest.mark.chaos
def test_two_hundred_kills_of_one_import_of_2000_batches(tmp_path: Path) -> None:
    chance = random.Random(2)
    with runs(tmp_path, count=6000, lines=5000, faults=Faults.mixed(0.1, latency=0.1, jitter=0.5)) as killed:
        while killed.kills < 200:
            ended = killed.once(after=chance.uniform(0.2, 0.6), batch_size=3)
            assert ended == KILLED, "it ended too soon"
        assert killed.once(batch_size=3) == 0
        check(killed)
    said = (
        f"{killed.kills} kills, {killed.resent} batches sent again, {killed.most_in_doubt} in doubt at most at a kill"
    )
    sys.stdout.write(f"\n{said}\n")
