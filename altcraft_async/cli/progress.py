"""How far a run is, while it runs: a bar on a terminal, a plain line now and then elsewhere; on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from typing import TYPE_CHECKING

import attrs
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from altcraft_async.cli.display import STYLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rich.console import Console

    from altcraft_async import AltcraftClient
    from altcraft_async.cli.display import Talk
    from altcraft_async.cli.exits import Tally

__all__ = ["Position", "following", "span_of"]

_REFRESH = 0.2
_PLAIN_EVERY = 10.0
_PACE_SECONDS = 30.0
"""Seconds whose rate foretells the rest."""


@attrs.frozen
class Position:
    """Where a run stands: `done` rows of `total`, or of nobody knows how many, after `elapsed` seconds at `rate`."""

    done: int
    total: int | None
    elapsed: float
    rate: float

    @property
    def part(self) -> float | None:
        """The part that is done, from 0 to 1; None where that is not known."""
        return None if not self.total else min(1.0, self.done / self.total)

    @property
    def left(self) -> float | None:
        """The seconds that the rest takes at this rate; None where that is not known."""
        return None if self.total is None or self.rate <= 0 else max(0, self.total - self.done) / self.rate

    def __str__(self) -> str:
        """Say all of it in a line."""
        said = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"
        if self.part is not None:
            said += f" ({math.floor(100 * self.part)}%)"  # 100 only where all is done
        said += f", {span_of(self.elapsed)} elapsed, {self.rate:,.0f}/s"
        return said if self.left is None else f"{said}, {span_of(self.left)} left"


def span_of(seconds: float) -> str:
    """Write a time span as a clock does: ``0:07``, ``12:30``, ``1:02:30``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Course:
    """The course of one run: what is done by now, and how fast it was lately."""

    __slots__ = ("_began", "_marks", "_tally", "total")

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._began = time.monotonic()
        self._marks = [(self._began, 0)]
        self.total: int | None = None

    def now(self) -> Position:
        now, sent = time.monotonic(), self._tally.total
        self._marks = [mark for mark in self._marks if now - mark[0] < _PACE_SECONDS] or [self._marks[-1]]
        then, before = self._marks[0]
        self._marks.append((now, sent))
        rate = (sent - before) / (now - then) if now > then else 0.0
        return Position(self._tally.done_before + sent, self.total, now - self._began, rate)


@contextlib.asynccontextmanager
async def following(
    talk: Talk, tally: Tally, count: Callable[[], int | None], client: AltcraftClient
) -> AsyncIterator[None]:
    """Show progress while the body runs: live on a terminal, else one plain line every ten seconds.

    `count` gives how many rows there are in all, or None where nobody knows; it runs in a thread.
    """
    if talk.quiet:
        yield
        return
    console, course = talk.console, _Course(tally)
    live = sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
    shown = _live(console, course, tally, client) if live else _plain(course, tally, client)
    tasks = [asyncio.create_task(shown), asyncio.create_task(_count(course, count))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


async def _count(course: _Course, count: Callable[[], int | None]) -> None:
    with contextlib.suppress(OSError):  # it is only for the eye
        course.total = await asyncio.to_thread(count)


async def _live(console: Console, course: _Course, tally: Tally, client: AltcraftClient) -> None:
    def frame() -> Group:
        now = course.now()
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        bar = ProgressBar(total=now.total or 1, completed=now.done if now.total else 0, complete_style="green")
        line.add_row(bar if now.total else Text(), Text(str(now)))
        return Group(line, _figures(tally, client))

    with Live(frame(), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_REFRESH)
            live.update(frame(), refresh=True)


def _figures(tally: Tally, client: AltcraftClient) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for state, count in tally.states.most_common():
        text.append(f"{count:,} {state}  ", style=STYLES.get(state, ""))
    if tally.done_before:
        text.append(f"{tally.done_before:,} done before  ", style="dim")
    if retries := client.statistics().retries:
        text.append(f"{retries:,} retries  ", style="dim")
    return text.append(_meter(client), style="dim")


async def _plain(course: _Course, tally: Tally, client: AltcraftClient) -> None:
    while True:
        await asyncio.sleep(_PLAIN_EVERY)
        sys.stderr.write(f"{course.now()}, {tally.failed:,} failed, {_meter(client)}\n")
        sys.stderr.flush()


def _meter(client: AltcraftClient) -> str:
    """Say in a few words how the sending goes: the limit, what was throttled, and any wait."""
    now = client.statistics()
    said = f"{now.in_flight} of {now.limit} in flight"
    if others := now.processes - 1:
        said += f", shares the limit with {others} other process{'es' if others > 1 else ''}"
    if now.throttled:
        said += f", {now.throttled / now.sent:.1%} throttled"
    if now.outage is not None:
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - now.outage))
        return f"{said}, no server since {since}, next try in {math.ceil(now.paused)} s"
    return f"{said}, paused for {now.paused:.0f} s" if now.paused else said
