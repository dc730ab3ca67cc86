"""The figures of a run as one page of HTML, which loads nothing and runs no script.

Jinja2 and ziaplot come with the extra ``report``, and are imported when a page is made.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from altcraft_async.errors import MissingExtraError
from altcraft_async.report.words import Mood, answers, counted, latency, share, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.report.figures import Figures
    from altcraft_async.timeline import Bucket

__all__ = ["check_extra", "page"]

_REASONS: Final = 20
_ROWS_OF_THE_TABLE: Final = 24
_LONGEST_ID: Final = 200
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MISSING: Final = "a report as a page needs Jinja2 and ziaplot; install them with: pip install 'altcraft-async[report]'"


def check_extra() -> None:
    """Raise `MissingExtraError` if a page cannot be made here."""
    try:
        import jinja2  # noqa: F401, PLC0415 - an extra
        import ziaplot  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(_MISSING) from error


def page(figures: Figures) -> str:
    """Return the figures as a page of HTML, complete in itself: style and pictures are in it.

    It loads nothing and runs no script; what came from outside is text in it and nothing else. The same figures give
    the same page. Raises `MissingExtraError` without the extra ``report``.
    """
    check_extra()
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - an extra
    from markupsafe import Markup  # noqa: PLC0415 - comes with Jinja2

    from altcraft_async.report.pictures import pictures  # noqa: PLC0415 - needs the extra

    def shown(value: object) -> object:
        return _visible(value) if type(value) is str else value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=shown
    )
    environment.filters |= {"span": span, "latency": latency, "moment": _moment, "svg": Markup, "id": _brief}
    environment.globals |= {"counted": counted, "share": share}
    template = environment.from_string(_text("page.html"))
    replies = answers(figures)
    return template.render(
        figures=figures,
        style=Markup(_text("page.css")),  # noqa: S704 - our own file
        answers=replies,
        mood=_mood(figures),
        title=f"{figures.source or 'Run'}: {replies[0].short}",
        pictures=pictures(figures),
        reasons=figures.reasons[:_REASONS],
        more_reasons=figures.reasons[_REASONS:],
        steps=_steps(figures.timeline),
        lacking=_lacking(figures),
    )


def _text(name: str) -> str:
    return files("altcraft_async.report").joinpath(name).read_text("utf-8")


def _mood(figures: Figures) -> Mood:
    if figures.in_use:
        return Mood.NOTE
    return Mood.GOOD if figures.ok else Mood.BAD


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _brief(text: str) -> str:
    """Cut an id that is longer than anybody reads; the same report as JSON has it whole."""
    return text if len(text) <= _LONGEST_ID else f"{text[:_LONGEST_ID]}…"


def _visible(text: str) -> str:
    """Write what nobody can see, or what would turn the text around it, as its number."""
    if text.isprintable():
        return text
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _HIDDEN else c for c in text)


def _lacking(figures: Figures) -> list[str]:
    """Say which sections are left out, and why."""
    said = []
    if not figures.timeline:
        said.append("Nobody looked at the run while it went on, so there are no pictures over time.")
    elif len(figures.timeline) == 1:
        said.append("The run was too short for pictures over time.")
    if not figures.slowest and figures.total:
        said.append("Nothing was sent, so there are no slowest rows.")
    return said


def _steps(timeline: Sequence[Bucket]) -> list[Bucket]:
    """Return the timeline in a few steps, for a table."""
    from altcraft_async.timeline import Timeline  # noqa: PLC0415 - beside its own imports

    return Timeline(timeline, most=_ROWS_OF_THE_TABLE).buckets
