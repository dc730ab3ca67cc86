"""The figures of a run in words: the answers to what a person asks first; pure."""

from __future__ import annotations

import enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from altcraft_async.report.figures import Figures

__all__ = ["Answer", "Mood", "answers", "counted", "latency", "paced", "share", "span"]

_MUCH: Final = 0.05
"""The share of throttled requests from which on the server was in the way; a limit that feels its way meets some."""
_LONG: Final = 1.0
"""Seconds of an outage that somebody notices."""


class Mood(enum.StrEnum):
    """How an answer is meant."""

    GOOD = "good"
    BAD = "bad"
    NOTE = "note"


@attrs.frozen
class Answer:
    """The answer to one question: a few words, and a sentence with the figures."""

    question: str
    short: str
    more: str
    mood: Mood


def counted(count: int, noun: str) -> str:
    """Write a count and what is counted."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def span(seconds: float) -> str:
    """Write a time span with the two units that matter."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.2g} s" if seconds < 9.5 else f"{seconds:.0f} s"  # noqa: PLR2004 - one digit
    whole = round(seconds)
    for (unit, length), (smaller, part) in pairwise(_UNITS):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit} {rest} {smaller}" if rest else f"{whole // length} {unit}"
    return f"{whole} s"


_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def latency(seconds: float) -> str:
    """Write a latency."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def paced(rate: float, noun: str) -> str:
    """Write how many of something there are in a second, so that a slow run has a number too."""
    said = f"{rate:,.0f}" if rate >= 9.5 else f"{rate:.2g}"  # noqa: PLR2004 - one digit
    return f"{said} {noun}" if said == "1" else f"{said} {noun}s"


def share(part: float, whole: float) -> str:
    """Write a share, so that little is not nothing."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %" if percent >= 0.1 else "under 0.1 %"  # noqa: PLR2004


def answers(figures: Figures) -> list[Answer]:
    """Answer the questions, in the order in which they are asked."""
    return [_arrived(figures), _why(figures), _how_long(figures), _server(figures)]


def _arrived(figures: Figures) -> Answer:
    total, failed, noun = figures.total, figures.failed, figures.noun
    by_count = sorted(figures.states.items(), key=lambda entry: -entry[1])
    more = ", ".join(f"{count:,} {str(state).replace('_', ' ')}" for state, count in by_count if count)
    if figures.done_before:
        more += f"{'; ' if more else ''}{counted(figures.done_before, noun)} done in an earlier run"
    question = "Did everything arrive?"
    if figures.in_use:
        return Answer(question, f"Not yet: {counted(total, noun)} so far", more, Mood.NOTE)
    if not figures.finished:
        left = (
            f"{counted(figures.waiting, noun)} without an outcome" if figures.waiting else "the input was not read on"
        )
        return Answer(question, "No: the run is not finished", f"{more}; {left}" if more else left, Mood.BAD)
    if failed:
        if failed == figures.unknown:
            return Answer(question, f"Perhaps not: {failed:,} of {total:,} are unknown", more, Mood.BAD)
        return Answer(question, f"No: {failed:,} of {total:,} did not", more, Mood.BAD)
    if not total:
        short = "Nothing was left to do" if figures.done_before else f"There was no {noun} to send"
        return Answer(question, short, more, Mood.GOOD)
    short = f"Yes, all {counted(total, noun)}" if total > 1 else f"Yes, the one {noun}"
    return Answer(question, short, more, Mood.GOOD)


def _why(figures: Figures) -> Answer:
    question = "What did not, and why?"
    if figures.failed:
        reasons = len(figures.reasons)
        for_what = "for one reason" if reasons == 1 else f"for {reasons:,} reasons"
        most = figures.reasons[0] if figures.reasons else None
        more = "" if most is None else f"{most.count:,} × {most.error}: {most.text}"  # noqa: RUF001 - as in print
        return Answer(question, f"{counted(figures.failed, figures.noun)}, {for_what}", more, Mood.BAD)
    if figures.stopped:
        return Answer(question, "What was not sent any more", figures.stopped, Mood.BAD)
    if figures.waiting:
        more = (
            "Run the same command again with the same journal: it sends what is left. What was under way when the run "
            "ended may have been made; it goes out under its old id."
        )
        return Answer(question, f"{counted(figures.waiting, figures.noun)} without an outcome", more, Mood.NOTE)
    if not figures.finished and not figures.in_use:
        more = "" if figures.run_id is None else "Run the same command again with the same journal: it goes on."
        return Answer(question, "What was not read yet", more, Mood.NOTE)
    return Answer(question, "Nothing failed", "", Mood.GOOD)


def _how_long(figures: Figures) -> Answer:
    parts = [] if figures.rate is None else [f"{paced(figures.rate, figures.noun)} a second on average"]
    pauses = figures.course.pauses
    if pauses:
        between = span(sum(seconds for _, seconds in pauses))
        parts.append(f"in {len(pauses) + 1} runs; {between} between them not counted")
    return Answer("How long did it take?", span(figures.elapsed), "; ".join(parts), Mood.NOTE)


def _server(figures: Figures) -> Answer:
    question = "Was the server in the way?"
    sent, throttled, retries = figures.sent, figures.throttled or 0, figures.retries or 0
    if sent is None:
        return Answer(question, "Not recorded", "Nobody looked at the run while it went on.", Mood.NOTE)
    parts = [f"{counted(throttled, 'answer')} of {sent:,} throttled ({share(throttled, sent)})"]
    parts.append("1 retry" if retries == 1 else f"{retries:,} retries")
    if figures.outage:
        # a run that was killed in an outage ended when its last row did, as far as anybody knows
        part = min(figures.outage, figures.elapsed)
        parts.insert(0, f"{share(part, figures.elapsed)} of the time without a server")
    if figures.outage >= _LONG:
        return Answer(question, f"Yes: down for {span(figures.outage)}", "; ".join(parts), Mood.BAD)
    if sent and throttled / sent > _MUCH:
        short = f"Yes: it throttled {share(throttled, sent)}"
        return Answer(question, short, "; ".join(parts), Mood.BAD)
    short = "Hardly" if throttled or retries or figures.outage else "No"
    return Answer(question, short, "; ".join(parts), Mood.GOOD)
