"""The command ``demo``: the main job on a fresh machine, and a report that is understood at a glance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from typing import TYPE_CHECKING

import attrs
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from altcraft_async import AltcraftClient, LineStatusUpdate, OrderLineStatus, RetryPolicy
from altcraft_async.cli.display import Talk, stderr_console
from altcraft_async.cli.exits import ExitCode, Tally
from altcraft_async.cli.progress import following
from altcraft_async.cli.signals import interruptible
from altcraft_async.sandbox import PRESETS, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from altcraft_async.sandbox import LedgerCheck

__all__ = ["demo"]

_LINES_PER_ORDER = 4
_REFUNDED = 0.1
_ATTEMPTS = 12
"""Enough that chance faults never leave a line without an answer."""


@attrs.frozen(kw_only=True)
class _Result:
    """All that the report tells."""

    lines: int
    updates: int
    faults: str
    seed: int
    elapsed: float
    outcomes: int
    states: Mapping[str, int]
    final_statuses_right: int
    requests: int
    retries: int
    throttled: int
    peak_in_flight: int
    limit: int
    answers: Mapping[str, int]
    overlaps: int
    ledger: LedgerCheck

    @property
    def checks(self) -> dict[str, tuple[bool, str]]:
        """Each promise, whether it was kept, and the figures."""
        ledger = self.ledger
        applied = sum(self.states.get(state, 0) for state in ("applied", "duplicate"))
        return {
            "every update has one outcome": (
                self.outcomes == self.updates, f"{self.outcomes:,} of {self.updates:,}"
            ),
            "every update was applied": (applied == self.updates, f"{applied:,} of {self.updates:,}"),
            "no change was lost": (not ledger.lost, f"{len(ledger.lost):,} lost"),
            "no change was made twice": (not ledger.duplicated, f"{len(ledger.duplicated):,} duplicated"),
            "every line's order was kept": (
                not ledger.reordered and not ledger.unexpected and not self.overlaps,
                f"{len(ledger.reordered):,} reordered, {self.overlaps:,} overlapping",
            ),
            "final statuses are right": (
                self.final_statuses_right == self.lines, f"{self.final_statuses_right:,} of {self.lines:,} lines"
            ),
        }  # fmt: skip

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return all(kept for kept, _ in self.checks.values())


def demo(*, lines: int, faults: str, seed: int, as_json: bool) -> int:
    """Run the demo, report on stdout, and return the exit code."""
    result = asyncio.run(_demo(lines, faults, seed))
    if isinstance(result, int):
        return result
    if as_json:
        sys.stdout.write(json.dumps(_as_json(result)) + "\n")
        sys.stdout.flush()
    else:
        _report(Console(highlight=False), result)
    return ExitCode.OK if result.ok else ExitCode.NOT_ALL_APPLIED


async def _demo(lines: int, faults: str, seed: int) -> _Result | int:
    console = stderr_console()
    with interruptible() as interruption:
        try:
            async with Sandbox(seed=seed, faults=PRESETS[faults].faults) as sandbox:
                keys = sandbox.seed_orders(-(-lines // _LINES_PER_ORDER), _LINES_PER_ORDER)[:lines]
                updates = _updates(keys, random.Random(seed))  # noqa: S311 - chosen to be repeatable
                console.print(f"A sandbox of the platform listens on {sandbox.base_url}: {PRESETS[faults].text}.")
                console.print(f"Sending {len(updates):,} status updates of {len(keys):,} order lines.")
                return await _push(sandbox, keys, updates, (faults, seed))
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            console.print("Interrupted.")
            return interruption.exit_code


async def _push(
    sandbox: Sandbox,
    keys: Sequence[tuple[str, str]],
    updates: Sequence[LineStatusUpdate],
    chosen: tuple[str, int],
) -> _Result:
    tally = Tally()
    indices: set[int] = set()
    applied: list[int] = []
    retry = RetryPolicy(attempts=_ATTEMPTS, base=0.1, max_delay=2.0)  # a demo has no time for patience
    started = time.monotonic()
    async with AltcraftClient(sandbox.base_url, token=sandbox.token, retry=retry) as client:
        async with following(Talk(), tally, lambda: len(updates), client):
            outcomes = client.market.orders.stream_order_line_statuses(updates)
            async with contextlib.aclosing(outcomes):
                async for outcome in outcomes:
                    tally.add(outcome)
                    indices.add(outcome.index)
                    if outcome.ok:
                        applied.append(outcome.index)
        elapsed = time.monotonic() - started
        statistics = client.statistics()
    expected = [updates[index] for index in sorted(applied)]
    final = {update.key: update.status_external_id for update in updates}
    book = sandbox.ledger.statistics()
    return _Result(
        lines=len(keys),
        updates=len(updates),
        faults=chosen[0],
        seed=chosen[1],
        elapsed=elapsed,
        outcomes=len(indices) if tally.total == len(indices) else tally.total,
        states=dict(tally.states),
        final_statuses_right=sum(sandbox.line_status(*key) == final[key] for key in final),
        requests=book.requests,
        retries=statistics.retries,
        throttled=statistics.throttled,
        peak_in_flight=book.peak_in_flight,
        limit=statistics.limit,
        answers=book.answers,
        overlaps=book.overlaps,
        ledger=sandbox.ledger.check(
            (update.order_external_id, update.order_line_external_id, update.status_external_id) for update in expected
        ),
    )


def _updates(keys: Sequence[tuple[str, str]], chance: random.Random) -> list[LineStatusUpdate]:
    """Give every line a life of four or five statuses, all lives mixed as they are in a shop."""
    lives = []
    for _ in keys:
        life = list(OrderLineStatus)[:4]
        lives.append([*life, OrderLineStatus.REFUNDED] if chance.random() < _REFUNDED else life)
    turns = [place for place, life in enumerate(lives) for _ in life]
    chance.shuffle(turns)
    steps = [iter(life) for life in lives]
    return [LineStatusUpdate(*keys[place], next(steps[place])) for place in turns]


def _as_json(result: _Result) -> dict[str, object]:
    ledger = result.ledger
    return {
        "ok": result.ok,
        "lines": result.lines,
        "updates": result.updates,
        "faults": result.faults,
        "seed": result.seed,
        "elapsed": round(result.elapsed, 3),
        "outcomes": result.outcomes,
        "states": dict(result.states),
        "requests": result.requests,
        "retries": result.retries,
        "throttled": result.throttled,
        "peak_in_flight": result.peak_in_flight,
        "limit": result.limit,
        "answers": dict(result.answers),
        "ledger": {
            "expected": ledger.expected,
            "applied": ledger.applied,
            "lost": len(ledger.lost),
            "duplicated": len(ledger.duplicated),
            "reordered": len(ledger.reordered),
            "unexpected": len(ledger.unexpected),
            "overlaps": result.overlaps,
        },
        "final_statuses_right": result.final_statuses_right,
    }


def _report(console: Console, result: _Result) -> None:
    checks = Table.grid(padding=(0, 2))
    for said, (kept, figures) in result.checks.items():
        mark = Text("ok", style="bold green") if kept else Text("NO", style="bold red")
        checks.add_row(mark, said, Text(figures, style="dim"))
    passed = result.ok
    title = "Everything arrived, once and in order" if passed else "A promise was broken"
    console.print(Panel(checks, title=title, border_style="green" if passed else "red", expand=False, padding=(1, 2)))
    bad = sum(count for kind, count in result.answers.items() if kind not in {"applied", "replayed"})
    console.print(
        f"{result.updates:,} updates of {result.lines:,} order lines in {result.elapsed:.1f} s "
        f"({result.updates / result.elapsed:,.0f}/s); the concurrency limit found itself: {result.limit} at the end."
    )
    console.print(
        f"{result.requests:,} requests for {result.updates:,} updates: the server failed {bad:,} times, "
        f"and answered {result.answers.get('replayed', 0):,} repeats without a second change."
    )
    if bad:
        kinds = sorted(result.answers.items(), key=lambda item: -item[1])
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds if kind not in {"applied", "replayed"})
        console.print(Text(f"Faults met: {told}.", style="dim"))
    console.print(Text(f"The same again: altcraft-async demo --faults {result.faults} --seed {result.seed}"
                       f" --lines {result.lines}", style="dim"))  # fmt: skip
