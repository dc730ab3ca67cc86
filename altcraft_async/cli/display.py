"""What a person is told on stderr: words, calm colours, and why rows failed. Never on stdout."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from altcraft_async.cli.talk import shell, tidy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async.cli.exits import Tally
    from altcraft_async.cli.reasons import Reasons
    from altcraft_async.ingest import Suspicion

__all__ = ["STYLES", "Talk", "stderr_console", "summary", "told_reasons", "utc", "wrapped"]

STYLES = {
    "applied": "green",
    "duplicate": "green",
    "superseded": "cyan",
    "rejected": "red",
    "unknown": "yellow",
    "not_sent": "yellow",
    "invalid": "magenta",
}
"""The colour of a state's count; all else that is said has none, but for the word that it begins with."""

_HANG = 2
"""Columns by which the further lines of a message stand further in."""

_FIRST_WORDS = re.compile("[^:;,.]*")

_FEW = 10
"""Failures of which nobody needs a file."""


def utc(seconds: float) -> str:
    """Write a Unix time for programs, in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def stderr_console() -> Console:
    """Return a console for talk, which wraps at words on a terminal and nowhere else.

    rich obeys ``NO_COLOR`` and ``TERM`` by itself, and puts no colours into pipes.
    """
    console = Console(stderr=True, highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


def wrapped(console: Console, text: Text) -> Text:
    """Wrap a message at words, further lines a little further in."""
    if not console.is_terminal:
        return text
    indent = len(text.plain) - len(text.plain.lstrip()) + _HANG
    if console.width <= 2 * indent:
        return text
    lines = text.wrap(console, console.width - indent)
    for line in lines:
        line.rstrip()
    return Text("\n").join([lines[0], *(Text(" " * indent).append_text(line) for line in lines[1:])])


class Talk:
    """What a person is told on stderr. With `quiet` it is kept until `end`, and said only where not all went well."""

    __slots__ = ("_held", "console")

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = stderr_console()
        self._held: list[tuple[Text, bool]] | None = [] if quiet else None

    @property
    def quiet(self) -> bool:
        """Whether nothing is said yet."""
        return self._held is not None

    def say(self, text: str, style: str = "") -> None:
        """Say one message; the `style` is that of the words before its first mark."""
        said = Text(tidy(text))
        said.stylize(style, 0, len(_FIRST_WORDS.match(said.plain)[0]))  # type: ignore[index]  # it matches anything
        self.print(said)

    def command(self, text: str, words: Sequence[str]) -> None:
        """Say what a command is good for, and all of it: it can be copied, so nothing wraps it but the terminal."""
        self.print(Text(f"{tidy(text)}: {shell(words)}"), whole=True)

    def note(self, text: str) -> None:
        """Say what should be known, and stops nothing."""
        self.say(f"Note: {text}", "yellow")

    def print(self, text: Text, *, whole: bool = False) -> None:
        """Say a message that is fit for a terminal; a `whole` one is not wrapped."""
        if self._held is not None:
            self._held.append((text, whole))
        elif whole:
            self.console.print(text, soft_wrap=True)
        else:
            self.console.print(wrapped(self.console, text))

    def suspicions(self, found: Sequence[Suspicion]) -> None:
        """Say what is suspicious of an input."""
        for suspicion in found:
            self.say(f"Suspicious: {suspicion}", "yellow")

    def end(self, code: int) -> int:
        """Say what was kept, unless all went well; return the exit code."""
        held, self._held = self._held, None
        if held and code:
            for text, whole in held:
                self.print(text, whole=whole)
        return code


def told_reasons(reasons: Reasons) -> Iterator[Text]:
    """Say why rows failed: a reason with its count, and below it the first rows."""
    for count, why, where in reasons.told():
        text = Text("  ")
        text.append(count, style=STYLES.get(count.rpartition(" ")[2], ""))
        yield text.append(f": {tidy(why)}")
        if where:
            yield Text(f"    {where}", style="dim")


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
        text.append(f" ({tally.handled / elapsed:,.0f}/s)")
    for state, count in tally.states.most_common():
        text.append(", " if ":" in text.plain else ": ")
        text.append(f"{count:,} {state}", style=STYLES.get(state, ""))
    if tally.recalled:
        text.append(f" ({tally.recalled:,} of them in an earlier run)")
    if tally.done_before:
        text.append(f"; {tally.done_before:,} more were done in an earlier run")
    if tally.sent:
        text.append(f"; {tally.sent:,} requests, {tally.retries:,} of them retries, {tally.throttled:,} throttled")
    talk.print(text)
    for text in told_reasons(tally.reasons):
        talk.print(text)
    if tally.failed > _FEW and not results:
        talk.say("--results FILE has what became of every line.")
