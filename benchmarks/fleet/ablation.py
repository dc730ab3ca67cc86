"""What each part of the law is worth: the plays of `panel.py` without it, against those with all of it.

python benchmarks/fleet/ablation.py [--jobs N] [--part NAME ...]

A part is taken away by a constant that makes it do nothing. The table is Markdown; in points: what is lost more of the
ideal, or throttled more, or how much less the smallest member has; a point of the peak is five calls in flight, and ten
of the latency are one unloaded latency. What falls by less than a point and a half is left out, and only the three that
fall most are named.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from panel import figures

from altcraft_async.flow import adaptive, pace

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PARTS", "main"]

NEVER = 10**9
LEAST = 0.015
"""What is left out, since plays differ by as much."""

PARTS: Mapping[str, Mapping[str, float]] = {
    "doubling at half the speed above 36 permits": {"adaptive._EAGER": NEVER},
    "the millisecond that is this process's own": {"adaptive._OWN": 0.0},
    "rounds of 20 answers": {"adaptive._ROUND": 5},
    "rounds of four trips at few permits": {"adaptive._QUICK": 20},
    "a dip that proves a higher baseline": {"adaptive._SOON": NEVER},
    "falls that are judged": {"adaptive._FALLEN": 0.0},
    "throttled answers forgiven while doubling": {"adaptive._BENEFIT": 0.0, "adaptive._CHANCE": 0},
    "a longer hold after each failed try": {"adaptive._LONGEST_HOLD": adaptive._HOLD},
    "a hold of thirty pauses": {"adaptive._PAUSES": 0},
    "a pace for answers that go on": {"adaptive._LASTING": NEVER},
    "a pace for answers that a fall does not end": {"adaptive._FAR": 0.0},
    "the pace of before a short outage": {"adaptive._SECONDS": 0.0},
    "starts that come evenly": {"adaptive._FEW": 0},
    "trying them seldom": {"adaptive._ASKS": 1},
    "trying them at few permits only": {"adaptive._FEW": NEVER},
    "room left for strangers": {"adaptive._MANY": NEVER},
    "no room left by who has few permits": {"adaptive._MANY": 2},
    "forgiving before a test": {"pace._UNTESTED": 0.0, "pace._UNTESTED_CREDIT": 0.0},
    "a background only where it was always there": {"pace._BREAK": NEVER},
    "an end of a background that is gone": {"pace._END": NEVER},
    "the test at a lower pace": {"adaptive.DOUBTFUL": -1.0, "pace.DOUBTFUL": -1.0},
    "asking seldom while the server is shut": {"pace._SHUT": 1.0},
    "a server that refuses all is shut": {"pace._IN_A_ROW": NEVER},
    "one cut for one time of being shut": {"pace._ONCE": -NEVER},
    "a storm is answered at once": {"pace._STORM": NEVER},
    "longer holds after steps that failed": {"pace._LONGEST_HOLD": 1.0},
    "small steps first under a ceiling": {"pace._PROBE": pace._CLIMB},
}


def play(name: str) -> dict[str, float]:
    """Give the figures without a part; of all of the law for the empty name."""
    for path, value in PARTS.get(name, {}).items():
        module, constant = path.split(".")
        setattr({"adaptive": adaptive, "pace": pace}[module], constant, value)
    return figures()


def _row(name: str, whole: Mapping[str, float], without: Mapping[str, float]) -> str:
    falls = sorted(((without[figure] - whole[figure], figure) for figure in whole), reverse=True)
    said = [f"{figure} {100 * worse:+.0f}" for worse, figure in falls[:3] if worse > LEAST]
    return f"| {name} | {'; '.join(said) or 'nothing here'} |"


def main() -> int:
    """Play, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="What each part of the law is worth.")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one; can be repeated")
    options = parser.parse_args()
    names = options.part or list(PARTS)
    print("| without | what is worse, in points |\n|---|---|")
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        plays = pool.map(play, ["", *names])
        whole = next(plays)
        for name, without in zip(names, plays, strict=True):
            print(_row(name, whole, without), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
