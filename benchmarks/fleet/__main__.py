"""Many clients on one server: as a group, as strangers, and with other laws, in a simulation.

python benchmarks/fleet [alone|remembered|group|strangers|trade|background|others|beside|all] [--seeds N] [--seconds S]
                        [--server NAME ...]

Times are virtual: all of it takes some minutes of one core. Tables are Markdown. Each cell is the median over the
seeds, and after the stroke the worst.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from laws import OTHERS
from scenarios import FOUR_FORMS, SERVERS, Alone, Fleet, play_alone, play_fleet

from altcraft_async.flow import adaptive, pace
from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import FixedLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from world import Behaviour

__all__ = ["main"]

OURS = "ours"
LAWS = {OURS: AdaptiveLimit, **OTHERS}
MANY = ("queue", "queue-jitter", "reject", "reject-jitter", "rate", "rate-quick", "rate-burst", "queue-timeout")
FOUR = ("queue-jitter", "reject-jitter", "rate", "flaky")
NEIGHBOURS = {"fixed 100": lambda: FixedLimit(100), "ARC (Vector)": OTHERS["ARC (Vector)"], OURS: AdaptiveLimit}
"""Who is there before one of ours."""
YIELDS = ((1.0, 1.5), (0.8, 1.5), (0.67, 0.75), (0.67, 1.5), (0.67, 3.0), (0.5, 1.5), (0.33, 1.5), (0.33, 3.0))
"""What is kept in a yield, and its seconds; the first is none at all."""
BREAKS = (2.0, 3.0, 4.0, 6.0, math.inf)
"""What a stretch without throttled answers may have had room for, while their share is still background."""
MOST = 3000.0
"""Calls that one machine makes in a second, where laws are compared that do not listen to refusals."""
_USUAL = (adaptive._LEFT, adaptive._YIELD, pace._BREAK, pace._END)
_BACKGROUNDS = [(most, max(most, pace._END)) for most in BREAKS]
_Task: TypeAlias = "tuple[str, str, str, int, int, float]"


def _remembering(behaviour: Behaviour, seed: int) -> AdaptiveLimit:
    """Begin with what another run of 3,000 calls had learned."""
    before, law = AdaptiveLimit(), AdaptiveLimit()
    play_alone(behaviour, before, lines=3000, seed=seed + 1000)
    if before.learned is not None:
        law.begin_at(0.0, before.learned)
    return law


_BEGINNINGS: Mapping[str, Callable[[Behaviour, int], AdaptiveLimit | FixedLimit]] = {
    "cold": lambda behaviour, seed: AdaptiveLimit(),  # noqa: ARG005
    "remembered": _remembering,
    "known": lambda behaviour, seed: FixedLimit(behaviour.slots),  # noqa: ARG005
}


def _play(task: _Task) -> Alone | Fleet:
    what, law, server, clients, seed, seconds = task
    kind, _, number = what.partition(" ")
    adaptive._LEFT, adaptive._YIELD = YIELDS[int(number)] if kind == "trade" else _USUAL[:2]
    pace._BREAK, pace._END = _BACKGROUNDS[int(number)] if kind == "background" else _USUAL[2:]
    if clients == 1:
        return _play_alone(what, law, server, seed)
    behaviour, make = SERVERS[server], LAWS.get(law, AdaptiveLimit)
    if what == "others":
        return play_fleet(behaviour, make, clients, seed=seed, seconds=20.0, most=MOST)
    if what == "beside":
        first = NEIGHBOURS[law]()
        return play_fleet(behaviour, AdaptiveLimit, 2, seed=seed, seconds=seconds, most=MOST, first_law=first)
    return play_fleet(behaviour, None if what == "group" else make, clients, seed=seed, seconds=seconds)


def _play_alone(what: str, law: str, server: str, seed: int) -> Alone:
    behaviour = SERVERS[server]
    if what in _BEGINNINGS:
        return play_alone(behaviour, _BEGINNINGS[what](behaviour, seed), lines=1000, seed=seed)
    if what == "others":
        return play_alone(behaviour, LAWS[law](), seed=seed, most=MOST)
    rated = 3000 if behaviour.rate else 10_000
    lines = {"flaky-fast": 40_000, "flaky-open": 200_000, "rate-sliding": 6000}.get(server, rated)
    return play_alone(behaviour, LAWS[law](), lines=lines, seed=seed)


def _cell(results: Sequence[Alone | Fleet], field: str, form: str, *, most: bool = False) -> str:
    values = [getattr(result, field) for result in results]
    median, worst = statistics.median(values), max(values) if most else min(values)
    return f"{median:{form}} / {worst:{form}}" if len(values) > 1 else f"{median:{form}}"


class _Tables:
    """Plays and prints."""

    def __init__(self, pool: ProcessPoolExecutor, seeds: int, seconds: float, servers: Sequence[str] | None) -> None:
        self._pool, self._seeds, self._seconds, self._servers = pool, seeds, seconds, servers
        self.missed: list[str] = []

    def _results(self, what: str, law: str, server: str, clients: int, seeds: int) -> list[Alone | Fleet]:
        tasks = [(what, law, server, clients, seed, self._seconds) for seed in range(seeds)]
        return list(self._pool.map(_play, tasks))

    def alone(self) -> None:
        """One client on every server."""
        print("\n| server | of ideal | throttled | peak | latency | back after an outage |\n|---|---|---|---|---|---|")
        for server in self._servers or SERVERS:
            found = self._results("alone", OURS, server, 1, self._seeds)
            back = _cell(found, "back", ".1f", most=True) if SERVERS[server].outage else ""
            cells = [_cell(found, "goodput", ".1%"), _cell(found, "throttled", ".1%", most=True)]
            cells += [_cell(found, "peak", ".0f", most=True), _cell(found, "late", ".2f", most=True), back]
            print(f"| {server} | {' | '.join(cells)} |", flush=True)

    def remembered(self) -> None:
        """Run a thousand calls: from cold, remembering the last run, and knowing the slots."""
        print("\n| 1,000 calls on | cold | remembered | throttled | knowing the slots |\n|---|---|---|---|---|")
        for server in self._servers or FOUR_FORMS:
            cold, ours, known = (self._results(what, OURS, server, 1, self._seeds) for what in _BEGINNINGS)
            cells = [_cell(cold, "goodput", ".1%"), _cell(ours, "goodput", ".1%")]
            cells += [_cell(ours, "throttled", ".1%", most=True), _cell(known, "goodput", ".1%")]
            print(f"| {server} | {' | '.join(cells)} |", flush=True)

    def fleet(self, what: str) -> None:
        """Several clients on the servers."""
        head = (
            "clients | together | Jain | smallest share | throttled | latency | share after | taken after | after 30 s"
        )
        print(f"\n| {what}: server | {head} |\n|{'---|' * 10}")
        for server in self._servers or MANY:
            for clients in (2, 4, 10) if what == "group" else (2, 4):
                found = self._results(what, OURS, server, clients, self._seeds)
                if what == "group" and statistics.median(one.jain for one in found) < 0.97:  # type: ignore[union-attr]
                    self.missed.append(f"{server}, {clients}: Jain")
                cells = [_cell(found, "goodput", ".1%"), _cell(found, "jain", ".3f"), _cell(found, "smallest", ".2f")]
                cells += [_cell(found, field, form, most=True) for field, form in (
                    ("throttled", ".1%"), ("late", ".2f"), ("fair_after", ".1f"), ("taken_after", ".1f"))]  # fmt: skip
                cells.append(_cell(found, "after_30", ".2f"))
                print(f"| {server} | {clients} | {' | '.join(cells)} |", flush=True)

    def trade(self) -> None:
        """Draw speed alone against fairness among strangers, by how deep and long a yield is."""
        head = "kept | seconds | alone: of ideal | two: smallest share | Jain | together | throttled"
        print(f"\n| {head} | four: smallest share | Jain | together | throttled |\n|{'---|' * 11}")
        for number, (left, seconds) in enumerate(YIELDS):
            alone = self._results(f"trade {number}", OURS, "reject-jitter", 1, self._seeds)
            cells = ["all" if left == 1.0 else f"{left:.0%}", f"{seconds:g}", _cell(alone, "goodput", ".1%")]
            for clients in (2, 4):
                found = self._results(f"trade {number}", OURS, "reject-jitter", clients, self._seeds)
                cells += [_cell(found, "smallest", ".2f"), _cell(found, "jain", ".2f"), _cell(found, "goodput", ".1%")]
                cells.append(_cell(found, "throttled", ".1%", most=True))
            print(f"| {' | '.join(cells)} |", flush=True)

    def background(self) -> None:
        """Draw a flaky server's one client against strangers on a server that counts calls."""
        flaky = ("flaky", "flaky-fast", "flaky-tenth", "flaky-fifth")
        head = " | ".join((*flaky, *(f"{number}: after 30 s | together | throttled" for number in ("two", "four"))))
        print(f"\n| a stretch may have had | {head} |\n|{'---|' * 11}")
        for number, most in enumerate(BREAKS):
            cells = ["any" if most == math.inf else f"{most:.0f}"]
            for server in flaky:
                alone = self._results(f"background {number}", OURS, server, 1, self._seeds)
                cells.append(_cell(alone, "goodput", ".0%"))
            for clients in (2, 4):
                found = self._results(f"background {number}", OURS, "rate", clients, self._seeds)
                cells += [_cell(found, "after_30", ".2f"), _cell(found, "goodput", ".0%")]
                cells.append(_cell(found, "throttled", ".1%", most=True))
            print(f"| {' | '.join(cells)} |", flush=True)

    def beside(self) -> None:
        """One of ours that comes after another that it cannot see."""
        head = "together | its share | throttled | ours: share | throttled | latency"
        print(f"\n| server | neighbour | {head} |\n|{'---|' * 8}")
        for server in self._servers or FOUR:
            for law in NEIGHBOURS:
                found = self._results("beside", law, server, 2, self._seeds)
                cells = [_cell(found, "goodput", ".0%")]
                for number in range(2):
                    shares = [one.shares[number] for one in found]  # type: ignore[union-attr]
                    refused = [one.refusals[number] for one in found]  # type: ignore[union-attr]
                    cells.append(f"{statistics.median(shares):.2f} / {min(shares):.2f}")
                    cells.append(f"{statistics.median(refused):.1%} / {max(refused):.1%}")
                cells.append(_cell(found, "late", ".1f", most=True))
                print(f"| {server} | {law} | {' | '.join(cells)} |", flush=True)

    def others(self) -> None:
        """Other laws beside ours, with three seeds."""
        print("\n| server | law | one: of ideal | throttled | latency | four: together | Jain | throttled | latency |")
        print("|---|---|---|---|---|---|---|---|---|")
        for server in self._servers or FOUR:
            for law in LAWS:
                one = self._results("others", law, server, 1, 3)
                cells = [_cell(one, "goodput", ".0%"), _cell(one, "throttled", ".1%", most=True)]
                cells.append(_cell(one, "late", ".1f", most=True))
                four = self._results("others", law, server, 4, 3)
                cells += [_cell(four, "goodput", ".0%"), _cell(four, "jain", ".2f")]
                cells += [_cell(four, "throttled", ".1%", most=True), _cell(four, "late", ".1f", most=True)]
                print(f"| {server} | {law} | {' | '.join(cells)} |", flush=True)


def main() -> int:
    """Play, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Many clients on one server, in a simulation.")
    parser.add_argument(
        "what",
        nargs="?",
        default="all",
        choices=["alone", "remembered", "group", "strangers", "trade", "background", "others", "beside", "all"],
    )
    parser.add_argument("--seeds", type=int, default=10, help="plays of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long all are there (%(default)s)")
    parser.add_argument("--server", action="append", choices=list(SERVERS), help="only this one; can be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 when a group is not fair")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        tables = _Tables(pool, options.seeds, options.seconds, options.server)
        if options.what in {"alone", "all"}:
            tables.alone()
        if options.what in {"remembered", "all"}:
            tables.remembered()
        for what in ("group", "strangers"):
            if options.what in {what, "all"}:
                tables.fleet(what)
        for what in ("trade", "background", "others", "beside"):
            if options.what in {what, "all"}:
                getattr(tables, what)()
    for missed in tables.missed:
        print("MISSED", missed)
    return 1 if options.check and tables.missed else 0


if __name__ == "__main__":
    sys.exit(main())
