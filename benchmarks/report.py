"""The report of a long run: how long it takes to make, and how large it is.

``python benchmarks/report.py [--rows N] [--check]`` writes journals of N rows, by the journal's own writer, with an
outage and three kinds of failures in them, and makes the page of each. Targets for a million rows: 5 s of
CPU, so that other work on the machine does not count, and 1 MB. The last
of them is the worst that can be: every row failed, a third of them each with a text of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from altcraft_async import LineStatusUpdate, Outcome, OutcomeState
from altcraft_async.errors import AttemptTimeoutError, api_error
from altcraft_async.journal import JournalReader
from altcraft_async.journal.commits import Closing, Commits, Length, Sampled
from altcraft_async.journal.format import KIND, LINE_STATUS, RunRecord
from altcraft_async.report import page
from altcraft_async.storage.sqlite import open_database
from altcraft_async.timeline import Sample

if TYPE_CHECKING:
    from altcraft_async import AltcraftError

RUN_ID = "0a1b2c3d-0a1b-4c3d-8a1b-0a1b2c3d4e5f"
A_SECOND = 500
"""Rows that end in a second of the run."""
AT_ONCE = 20_000
SHARES = {"of a good run": 0.0, "with one row in a hundred failed": 0.01, "with every row failed": 1.0}


def outcome_of(index: int, share: float) -> Outcome[object]:
    """Make the outcome of a row; that `share` of them failed."""
    update = LineStatusUpdate(f"order_{index // 4}", f"line_{index}", "delivered")
    if index % 1000 >= share * 1000:
        return Outcome(index, update, OutcomeState.APPLIED, 1 + (index % 50 == 0), 0.05 + index % 97 / 500, "id")
    error: AltcraftError = api_error(status=400, code=400, text=f"there is no line 'line_{index}' of {index}")
    state = OutcomeState.REJECTED
    if index % 3 == 1:
        error = api_error(status=400, code=400, text="'shipped' is neither a system status nor a custom one")
    elif index % 3 == 2:
        error, state = (
            AttemptTimeoutError("the server did not answer in 30 s", maybe_applied=True),
            OutcomeState.UNKNOWN,
        )
    return Outcome(index, update, state, 4, 2.0, "id", error)


def write(path: Path, rows: int, share: float) -> None:
    """Write the journal of a run of so many rows."""
    now = [1_700_000_000.0]
    run = RunRecord(RUN_ID, LINE_STATUS, "https://altcraft.example", now[0], now[0])
    connection = open_database(KIND, str(path))
    run.write(connection)
    commits = Commits(connection, str(path), run, rounds={}, corrected=(), clock=lambda: now[0])
    for first in range(0, rows, AT_ONCE):
        connection.execute("BEGIN")
        for begin in range(first, min(rows, first + AT_ONCE), A_SECOND):
            outcomes = tuple(outcome_of(index, share) for index in range(begin, min(rows, begin + A_SECOND)))
            second = begin // A_SECOND
            down = 600 <= second < 660
            sample = Sample(begin, begin // 50, begin // 200, 40 + second % 9, 30 + second % 7, outage=down)
            commits.write(connection, [outcomes, Sampled(now[0], sample)])
            now[0] += 1.0
        connection.execute("COMMIT")
    connection.execute("BEGIN")
    commits.write(connection, [Length(rows), Closing()])
    connection.execute("COMMIT")
    connection.close()


def main() -> int:
    """Measure all, and say whether the targets are met."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")
    options.add_argument("--keep", type=Path, help="keep the pages in this directory")
    given = options.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as directory:
        for number, (name, share) in enumerate(SHARES.items()):
            path = Path(directory, f"run{number}.journal")
            write(path, given.rows, share)
            began, worked = time.perf_counter(), time.process_time()
            with JournalReader(path) as journal:
                figures = journal.figures()
            read = time.process_time() - worked
            made = page(figures).encode()
            took, passed = time.process_time() - worked, time.perf_counter() - began
            size = f"{len(made) / 1000:,.0f} kB"
            said = f"{took:.2f} s of CPU ({read:.2f} s reading, {passed:.2f} s by the clock), {size}"
            print(f"{given.rows:,} rows, {name}: {said}", flush=True)
            missed = missed or took > 5.0 or len(made) > 1_000_000
            if given.keep is not None:
                (given.keep / f"run{number}.html").write_bytes(made)
            path.unlink()
    return 1 if missed and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
