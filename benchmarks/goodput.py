"""Measure how near the client comes to the best possible time on servers that it knows nothing about.

The real engine runs over simulated servers on a virtual clock (see
`virtual.py`), so a run of minutes takes a second and the same seeds print the
same tables. Goodput is the time of a client that knows the server in advance,
divided by the time measured, to the last line that was applied.

    python benchmarks/goodput.py [--quick] [--lines N ...] [--seeds N] [--scenario NAME] [--json] [--check]
    python benchmarks/goodput.py --sockets
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import attrs
from aiohttp_retry import ExponentialRetry
from limits import AdaptiveRequestConcurrency

from altcraft_async.errors import TransportError
from altcraft_async.flow.limit import Adaptive
from altcraft_async.flow.retry import RetryPolicy
from altcraft_async.protocol.wire import WireRequest
from altcraft_async.settings import Settings
from virtual import Behaviour, SimulatedServer, VirtualLoop, is_stuck, simulated_client, updates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["CONTENDERS", "SCENARIOS", "Result", "main", "simulate"]

PATIENT = RetryPolicy(attempts=50)
"""Enough retries for every contender to deliver every line: what is compared is the time, not who gives up."""
NAIVE_CONNECTIONS, NAIVE_ATTEMPTS = 100, 10
LARGE = 10_000
"""From this number of lines on, the cold start no longer decides and the targets are the strict ones."""
SETTLED = 0.5
"""The share of the ideal time after which a run counts as settled."""
ROUND_TRIPS_TO_ADAPT, ROUND_TRIPS_MEASURED = 15, 20


@attrs.frozen
class Scenario:
    """A server, which for some depends on the number of lines, in words and as a `Behaviour`."""

    about: str
    behaviour: Callable[[int], Behaviour]


def _always(**settings: object) -> Callable[[int], Behaviour]:
    behaviour = Behaviour(**settings)  # type: ignore[arg-type]
    return lambda lines: behaviour  # noqa: ARG005 - the same for all


def _halving(**settings: object) -> Callable[[int], Behaviour]:
    """Halve the slots at 40 % of the ideal time of an unchanged server, and restore them at 80 %."""

    def behaviour(lines: int) -> Behaviour:
        usual = Behaviour(**settings)  # type: ignore[arg-type]
        whole, slots = usual.ideal(lines), usual.slots or 0
        return attrs.evolve(usual, changes=((0.4 * whole, slots // 2), (0.8 * whole, slots)))

    return behaviour


def _outage(*, refused: bool) -> Callable[[int], Behaviour]:
    """Take the server away for 30 s, after a quarter of the ideal time."""

    def behaviour(lines: int) -> Behaviour:
        begin = 0.25 * Behaviour().ideal(lines)
        return Behaviour(jitter=0.5, outage=(begin, begin + 30.0), refused=refused)

    return behaviour


SCENARIOS = {
    "queue": Scenario("50 slots of 100 ms, one more call waits", _always()),
    "queue-jitter": Scenario("the same, half of the latency exponential", _always(jitter=0.5)),
    "reject": Scenario("50 slots of 100 ms, one more call is answered 429", _always(over_slots="reject")),
    "reject-jitter": Scenario("the same, half of the latency exponential", _always(over_slots="reject", jitter=0.5)),
    "slow": Scenario("50 slots of 400 ms, half exponential, one more call waits", _always(latency=0.4, jitter=0.5)),
    "halves": Scenario("50 slots, 25 from 40 % to 80 % of the time, calls wait", _halving(jitter=0.5)),
    "halves-reject": Scenario("the same, calls are answered 429", _halving(jitter=0.5, over_slots="reject")),
    "rate": Scenario("100 calls a second, the others are answered 429", _always(rate=100.0)),
    "rate-retry-after": Scenario("the same, with Retry-After: 1", _always(rate=100.0, retry_after=1)),
    "knee": Scenario("beyond 10 calls the latency grows with their number", _always(knee=10)),
    "knee-steep": Scenario(
        "beyond 10 calls it grows with the power of 1.5", _always(knee=10, steepness=1.5, jitter=0.5)
    ),
    "errors": Scenario("queue-jitter, and 2 % of the answers are 500", _always(jitter=0.5, errors=0.02)),
    "outage-refused": Scenario("queue-jitter, and for 30 s no connections", _outage(refused=True)),
    "outage-503": Scenario("queue-jitter, and for 30 s nothing but 503", _outage(refused=False)),
    "stuck": Scenario(
        "queue-jitter, and 1 % of the lines fail for 30 s; the time is that of the others",
        _always(jitter=0.5, stuck=0.01),
    ),
}
FOUR_FORMS = ("queue", "queue-jitter", "reject", "reject-jitter")


@attrs.frozen
class Contender:
    """A client of ours with these settings, or without any of them the naive one."""

    concurrency: int | Adaptive | None = None
    law: Callable[[], AdaptiveRequestConcurrency] | None = None
    retry: RetryPolicy = PATIENT
    retry_budget: float | None = None


OURS, OURS_AS_IT_COMES, ARC, NAIVE = (
    "adaptive",
    "adaptive, default retries",
    "ARC re-model",
    "gather + aiohttp-retry",
)
CONTENDERS = {
    OURS: Contender(Adaptive()),
    OURS_AS_IT_COMES: Contender(Adaptive(), retry=RetryPolicy(), retry_budget=Settings().retry_budget),
    **{f"fixed {limit}": Contender(limit) for limit in (10, 50, 100, 200)},
    ARC: Contender(Adaptive(), AdaptiveRequestConcurrency),
    NAIVE: Contender(),
}
FIXED = tuple(name for name in CONTENDERS if name.startswith("fixed"))


@attrs.frozen
class Result:
    """How one contender fared in one run, or on average over runs with several seeds.

    `goodput` and `rejected` (of the sends: answered 429 or 503, or refused a
    connection) are shares; `worst` is the lowest goodput of a run. A run that
    left lines not applied has no goodput (0.0): it did not do the job. `peak` is
    the most calls in flight, `settled_peak` the same in the settled part.
    `after_cut` and `after_return` are the shares of the new ideal rate, from 15
    to 35 round trips after the capacity changed.
    """

    scenario: str
    lines: int
    contender: str
    ideal: float
    seconds: float
    goodput: float
    worst: float
    rejected: float
    sends_per_line: float
    peak: int
    settled_peak: int
    not_applied: int
    after_cut: float | None = None
    after_return: float | None = None


Task: TypeAlias = tuple[str, int, str, int]


# -- one run


async def _send_by_client(server: SimulatedServer, lines: int, contender: Contender, seed: int) -> int:
    law = contender.law() if contender.law is not None else None
    limit = contender.concurrency or Adaptive()
    client = simulated_client(
        server, seed=seed, concurrency=limit, law=law, retry=contender.retry, retry_budget=contender.retry_budget
    )
    async with client:
        report = await client.market.orders.update_order_line_statuses(updates(lines))
    return sum(not outcome.ok for outcome in report.outcomes)


async def _send_naively(server: SimulatedServer, lines: int) -> int:
    """Gather all lines at once over a session's 100 connections, with aiohttp-retry's waits and no limit but that."""
    policy = ExponentialRetry(attempts=NAIVE_ATTEMPTS, statuses={429})
    connections = asyncio.Semaphore(NAIVE_CONNECTIONS)

    async def deliver(number: int) -> bool:
        body = json.dumps({"order_line_external_id": f"line_{number}"}).encode()
        request = WireRequest("market/orders/update_order_line_status", {}, body)
        for attempt in range(1, policy.attempts + 1):
            try:
                async with connections:
                    response = await server.send(request, connect=30.0, total=300.0, max_bytes=2**20)
                if response.status == 200:
                    return True
            except TransportError:
                pass
            await asyncio.sleep(policy.get_timeout(attempt))
        return False

    delivered = await asyncio.gather(*(deliver(number) for number in range(lines)))
    return delivered.count(False)


def simulate(scenario: str, lines: int, contender: str, seed: int) -> Result:
    """Run one contender in one scenario, on a virtual clock; the same arguments give the same result."""
    behaviour = SCENARIOS[scenario].behaviour(lines)
    chosen = CONTENDERS[contender]
    free = sum(not is_stuck(f"line_{number}", behaviour.stuck) for number in range(lines))
    ideal = behaviour.ideal(free)
    server = SimulatedServer(behaviour, seed=seed, settled_from=SETTLED * ideal)
    naive = chosen.concurrency is None
    work = _send_naively(server, lines) if naive else _send_by_client(server, lines, chosen, seed)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        not_applied = runner.run(work)
    counts = server.counts
    goodput = 0.0 if not_applied else ideal / counts.last_free
    cut, back = (_rate_after(behaviour, counts.applied_at, number) for number in (0, 1))
    return Result(
        scenario=scenario,
        lines=lines,
        contender=contender,
        ideal=ideal,
        seconds=counts.last_free,
        goodput=goodput,
        worst=goodput,
        rejected=counts.rejected / counts.sent,
        sends_per_line=counts.sent / lines,
        peak=counts.peak,
        settled_peak=counts.settled_peak,
        not_applied=not_applied,
        after_cut=cut,
        after_return=back,
    )


def _rate_after(behaviour: Behaviour, applied_at: Sequence[float], number: int) -> float | None:
    """Give the goodput in the round trips after a change of capacity, where the run and the capacity lasted so long."""
    if len(behaviour.changes) <= number or not applied_at:
        return None
    changed, slots = behaviour.changes[number]
    trip = behaviour.latency
    begin = changed + ROUND_TRIPS_TO_ADAPT * trip
    end = begin + ROUND_TRIPS_MEASURED * trip
    following = [time for time, _ in behaviour.changes[number + 1 :]]
    if end > min([applied_at[-1], *following]):
        return None
    done = sum(begin <= time < end for time in applied_at)
    return done / (slots / trip * (end - begin))


# -- many runs


def _mean(results: Sequence[Result]) -> Result:
    """Put the runs of several seeds together: means, but the worst goodput, the highest peaks, the most not applied."""

    def mean(field: str) -> float:
        return statistics.fmean(getattr(one, field) for one in results)

    def mean_if_all(field: str) -> float | None:
        return None if any(getattr(one, field) is None for one in results) else mean(field)

    return attrs.evolve(
        results[0],
        seconds=mean("seconds"),
        goodput=mean("goodput"),
        worst=min(one.worst for one in results),
        rejected=mean("rejected"),
        sends_per_line=mean("sends_per_line"),
        peak=max(one.peak for one in results),
        settled_peak=max(one.settled_peak for one in results),
        not_applied=max(one.not_applied for one in results),
        after_cut=mean_if_all("after_cut"),
        after_return=mean_if_all("after_return"),
    )


def _simulate(task: Task) -> Result:
    return simulate(*task)


def measure(scenarios: Sequence[str], sizes: Sequence[int], seeds: int, jobs: int) -> Iterator[list[Result]]:
    """Run everything, on `jobs` processes; yield one table of results after another, in a fixed order."""
    tables = [(name, lines) for lines in sizes for name in scenarios]
    tasks = [(name, lines, who, seed) for name, lines in tables for who in CONTENDERS for seed in range(seeds)]
    with ProcessPoolExecutor(jobs) as pool:
        results = pool.map(_simulate, tasks)
        for _ in tables:
            yield [_mean([next(results) for _ in range(seeds)]) for _ in CONTENDERS]


def _share(goodput: float) -> str:
    return f"{goodput:.1%}" if goodput else "-"


def _table(rows: Sequence[Result]) -> str:
    first = rows[0]
    about = SCENARIOS[first.scenario].about
    lines = [
        f"{first.scenario}, {first.lines:,} lines: {about}; ideal {first.ideal:.1f} s",
        f"  {'contender':<26}{'seconds':>8}{'of ideal':>10}{'worst':>8}{'rejected':>10}{'peak':>6}{'settled':>9}",
    ]
    for row in rows:
        text = (
            f"  {row.contender:<26}{row.seconds:>8.1f}{_share(row.goodput):>10}{_share(row.worst):>8}"
            f"{row.rejected:>10.2%}{row.peak:>6}{row.settled_peak:>9}"
        )
        if row.after_cut is not None:
            text += f"  {row.after_cut:.0%} of the new ideal after the cut"
        if row.after_return is not None:
            text += f", {row.after_return:.0%} after the return"
        if row.not_applied:
            text += f"  {row.not_applied:,} not applied"
        lines.append(text)
    return "\n".join(lines) + "\n"


# -- targets


@attrs.frozen
class Target:
    """One thing promised: `measured` must be at least (or, where `most`, at most) `bound`."""

    text: str
    measured: float
    bound: float
    most: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise was kept."""
        return self.measured <= self.bound if self.most else self.measured >= self.bound

    def __str__(self) -> str:
        """Say it in a line."""
        verdict = "met" if self.met else "MISSED"
        return f"  {verdict:<7}{self.text}: {self.measured:.2%} ({'≤' if self.most else '≥'} {self.bound:.1%})"


def targets(results: Iterable[Result]) -> list[Target]:
    """Compare the results with what is promised; what was not run is left out."""
    runs: dict[tuple[int, str], dict[str, Result]] = {}
    for result in results:
        runs.setdefault((result.lines, result.scenario), {})[result.contender] = result
    found: list[Target] = []
    for (lines, scenario), rows in runs.items():
        ours = rows[OURS]
        found += _own_targets(f"{scenario}, {lines:,}", ours)
        found += _against_others(f"{scenario}, {lines:,}", rows)
        if scenario.startswith("outage"):
            sends = rows[OURS_AS_IT_COMES].sends_per_line
            text = f"{scenario}, {lines:,}: sends with default retries, of 1.1 times the lines plus the retry budget"
            found.append(Target(text, sends * lines / (1.1 * lines + (Settings().retry_budget or 0)), 1.0, most=True))
        twin = runs.get((lines, "queue-jitter"))
        if scenario == "stuck" and twin is not None:
            share = ours.goodput / twin[OURS].goodput
            found.append(Target(f"{scenario}, {lines:,}: the others' goodput, of a run without", share, 0.98))
    return found


def _own_targets(name: str, ours: Result) -> Iterator[Target]:
    large = ours.lines >= LARGE
    if ours.scenario in FOUR_FORMS:
        yield Target(f"{name}: goodput", ours.goodput, 0.95 if large else 0.80)
    if ours.scenario in FOUR_FORMS and large:
        yield Target(f"{name}: rejected sends", ours.rejected, 0.02, most=True)
    if ours.scenario.startswith("rate") and large:
        yield Target(f"{name}: goodput", ours.goodput, 0.90)
    if ours.scenario.startswith("queue"):
        yield Target(f"{name}: in flight once settled, of the slots", ours.settled_peak / 50, 2.0, most=True)
    if ours.scenario == "errors" and large:
        yield Target(f"{name}: goodput beyond the errors' own share", ours.goodput / 0.98, 0.95)
    if ours.after_cut is not None and large:
        yield Target(f"{name}: rate 15 round trips after the cut", ours.after_cut, 0.90)


def _against_others(name: str, rows: dict[str, Result]) -> Iterator[Target]:
    """Compare with ARC, and with every fixed limit that does not come within 1 % of the best one here."""
    ours = rows[OURS]
    if rows[ARC].goodput:
        yield Target(f"{name}: goodput, of ARC's", ours.goodput / rows[ARC].goodput, 1.0)
    if ours.lines < LARGE:  # there the ranks of the fixed limits are those of a few lines' backoff
        return
    fixed = [rows[limit].goodput for limit in FIXED]
    beatable = max((goodput for goodput in fixed if goodput < 0.99 * max(fixed)), default=0.0)
    if beatable:
        yield Target(f"{name}: goodput, of the best of the imperfect fixed limits", ours.goodput / beatable, 1.0)


def _overall(results: Sequence[Result]) -> str:
    """Put every contender's scenarios together: who knows nothing of the server must choose one for all."""
    lines = [
        "all of the above",
        f"  {'contender':<26}{'mean of ideal':>14}{'worst':>8}{'rejected, mean':>16}{'most':>8}",
    ]
    for name in CONTENDERS:
        mine = [row for row in results if row.contender == name]
        goodput, rejected = [row.goodput for row in mine], [row.rejected for row in mine]
        lines.append(
            f"  {name:<26}{statistics.fmean(goodput):>14.1%}{min(goodput):>8.1%}"
            f"{statistics.fmean(rejected):>16.2%}{max(rejected):>8.1%}"
        )
    return "\n".join(lines) + "\n"


# -- the same over sockets

REAL_RUNS = (
    *((name, 2000, who) for name in FOUR_FORMS for who in (OURS, "fixed 50")),
    ("rate", 1000, OURS),
    ("errors", 2000, OURS),
)
"""Runs without rejects by the thousand: the time of those is the longest backoff of one line, which is luck."""
AGREEMENT = 0.15
"""How far the real time may lie from the simulated one, as a share of it."""


def compare_with_sockets(*, as_json: bool, check: bool) -> int:
    """Run a few scenarios over sockets and in the simulation, print both, and give the exit code."""
    import loopback  # noqa: PLC0415 - it starts servers, which nothing else here does

    rows: list[dict[str, object]] = []
    apart = 0
    if not as_json:
        title = "over sockets, against the simulation"
        print(f"{title:<44}{'real':>8}{'simulated':>11}{'ratio':>7}{'rejected':>16}{'peak':>11}")
    for name, lines, who in REAL_RUNS:
        limit = CONTENDERS[who].concurrency or Adaptive()
        real = loopback.measure(SCENARIOS[name].behaviour(lines), lines, limit, PATIENT)
        simulated = simulate(name, lines, who, 0)
        ratio = real.seconds / simulated.seconds
        apart += abs(ratio - 1.0) > AGREEMENT
        rows.append({"scenario": name, "lines": lines, "contender": who, "ratio": ratio, "real": attrs.asdict(real)})
        if not as_json:
            rejected = f"{real.rejected:.1%} / {simulated.rejected:.1%}"
            print(
                f"{f'  {name}, {lines:,}, {who}':<44}{real.seconds:>7.1f}s{simulated.seconds:>10.1f}s{ratio:>7.2f}"
                f"{rejected:>16}{f'{real.peak} / {simulated.peak}':>11}",
                flush=True,
            )
    if as_json:
        print(json.dumps(rows, indent=1))
    return 1 if check and apart else 0


# -- the program


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure goodput on simulated servers, against other clients.")
    parser.add_argument(
        "--lines", type=int, nargs="+", default=[1000, 10_000], help="order lines of a run (default: 1000 and 10000)"
    )
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one; can be repeated")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with seeds from 0 (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="1,000 lines only")
    parser.add_argument("--sockets", action="store_true", help="compare the simulation with the sandbox over sockets")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    if options.quick:
        options.lines = [1000]
    return options


def main() -> int:
    """Measure, print, and give the exit code."""
    options = _arguments()
    if options.sockets:
        return compare_with_sockets(as_json=options.json, check=options.check)
    results: list[Result] = []
    for rows in measure(options.scenario or list(SCENARIOS), options.lines, options.seeds, options.jobs):
        results += rows
        if not options.json:
            print(_table(rows), flush=True)
    found = targets(results)
    missed = [target for target in found if not target.met]
    if options.json:
        about = [{"target": one.text, "measured": one.measured, "bound": one.bound, "met": one.met} for one in found]
        print(json.dumps({"results": [attrs.asdict(one) for one in results], "targets": about}, indent=1))
    else:
        print(_overall(results))
        print("\n".join(["targets", *map(str, found)]))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
