"""What a person sees on stderr while updates go out, and at the end. Never on stdout."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from altcraft_async.cli.talk import shell, tidy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.cli.exits import Tally
    from altcraft_async.ingest import Suspicion

__all__ = ["Talk", "following", "stderr_console", "summary", "utc"]

_STYLES = {
    "applied": "green",
    "duplicate": "green",
    "superseded": "cyan",
    "rejected": "red",
    "unknown": "yellow",
    "not_sent": "yellow",
    "invalid": "magenta",
}
_REFRESH = 0.2
_PLAIN_EVERY = 10.0


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


def utc(seconds: float) -> str:
    """Write a Unix time for programs, in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def stderr_console() -> Console:
    """Return a console for talk; rich obeys ``NO_COLOR`` and ``TERM`` by itself."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Talk:
    """What a person is told on stderr. With `quiet` it is kept until `end`, and said only where not all went well."""

    __slots__ = ("_held", "console")

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = stderr_console()
        self._held: list[Text] | None = [] if quiet else None

    @property
    def quiet(self) -> bool:
        """Whether nothing is said yet."""
        return self._held is not None

    def say(self, text: str, style: str = "") -> None:
        """Say one message."""
        self.print(Text(tidy(text), style=style))

    def command(self, text: str, words: Sequence[str]) -> None:
        """Say what a command is good for, and all of it."""
        self.print(Text(f"{tidy(text)}: {shell(words)}"))

    def note(self, text: str) -> None:
        """Say what should be known, and stops nothing."""
        self.say(f"Note: {text}", "yellow")

    def print(self, text: Text) -> None:
        """Say a message that is fit for a terminal."""
        if self._held is None:
            self.console.print(text)
        else:
            self._held.append(text)

    def suspicions(self, found: Sequence[Suspicion]) -> None:
        """Say what is suspicious of an input."""
        for suspicion in found:
            self.say(f"Suspicious: {suspicion}", "yellow")

    def end(self, code: int) -> int:
        """Say what was kept, unless all went well; return the exit code."""
        if self._held and code:
            for text in self._held:
                self.console.print(text)
        return code


@contextlib.asynccontextmanager
async def following(talk: Talk, tally: Tally, total: int | None, client: AltcraftClient) -> AsyncIterator[None]:
    """Show progress while the body runs: live on a terminal, else one plain line every ten seconds."""
    if talk.quiet:
        yield
        return
    console = talk.console
    live = sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
    shown = _live(console, tally, total, client) if live else _plain(tally, total, client)
    task = asyncio.create_task(shown)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _live(console: Console, tally: Tally, total: int | None, client: AltcraftClient) -> None:
    progress = Progress(
        BarColumn(bar_width=None), TextColumn("{task.fields[done]}"), TextColumn("{task.fields[rate]}"), expand=True
    )
    job = progress.add_task("", total=total, done="", rate="")
    pace = _Pace()

    def frame() -> Group:
        of_total = "" if total is None else f" of {total:,}"
        rate = f"{pace.of(tally.total):,.0f}/s"
        done = tally.done_before + tally.total
        progress.update(job, completed=done, done=f"{done:,}{of_total}", rate=rate)
        return Group(progress, _figures(tally, client))

    with Live(frame(), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_REFRESH)
            live.update(frame(), refresh=True)


def _figures(tally: Tally, client: AltcraftClient) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for state, count in tally.states.most_common():
        text.append(f"{count:,} {state}  ", style=_STYLES.get(state, ""))
    if tally.done_before:
        text.append(f"{tally.done_before:,} done before  ", style="dim")
    if retries := client.statistics().retries:
        text.append(f"{retries:,} retries  ", style="yellow")
    return text.append(_meter(client), style="dim")


async def _plain(tally: Tally, total: int | None, client: AltcraftClient) -> None:
    pace = _Pace()
    while True:
        await asyncio.sleep(_PLAIN_EVERY)
        of_total = "" if total is None else f" of {total:,}"
        done = tally.done_before + tally.total
        said = f"{done:,}{of_total} done, {pace.of(tally.total):,.0f}/s, {tally.failed:,} failed"
        sys.stderr.write(f"{said}, {_meter(client)}\n")
        sys.stderr.flush()


class _Pace:
    """The rate of the last few seconds."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks = [(time.monotonic(), 0)]

    def of(self, done: int) -> float:
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] < 3 * _PLAIN_EVERY][-20:]
        then, before = self._marks[0] if self._marks else (now, done)
        self._marks.append((now, done))
        return (done - before) / (now - then) if now > then else 0.0


def summary(talk: Talk, tally: Tally, elapsed: float, *, results: bool, noun: str = "update") -> None:
    """Say what became of all updates, or of what else `noun` says, and name the first that need attention."""
    if not tally.total and tally.done_before:
        done = f"all {tally.done_before:,} {noun}s were" if tally.done_before > 1 else f"the one {noun} was"
        talk.say(f"Nothing is left to do: {done} done in an earlier run.")
        return
    if not tally.total:
        talk.say(f"There was no {noun} to send.")
        return
    text = Text(f"{tally.total:,} {noun if tally.total == 1 else noun + 's'} in {elapsed:.1f} s")
    if tally.sent and elapsed > 0:
        text.append(f" ({(tally.total - tally.recalled) / elapsed:,.0f}/s)")
    for state, count in tally.states.most_common():
        text.append(", " if ":" in text.plain else ": ")
        text.append(f"{count:,} {state}", style=_STYLES.get(state, ""))
    if tally.recalled:
        text.append(f" ({tally.recalled:,} of them in an earlier run)")
    if tally.done_before:
        text.append(f"; {tally.done_before:,} more were done in an earlier run")
    if tally.sent:
        text.append(f"; {tally.sent:,} requests, {tally.retries:,} of them retries, {tally.throttled:,} throttled")
    talk.print(text)
    for line, outcome in tally.failures:
        place = "" if line is None or str(outcome.state) == "invalid" else f"line {line}: "
        talk.say(f"  {outcome.state}: {place}{outcome.error}", _STYLES.get(str(outcome.state), ""))
    more = tally.failed - len(tally.failures)
    if more > 0:
        talk.say(f"  and {more:,} more" + ("" if results else "; --results FILE has what became of every line"))
