"""Pictures of a run as SVG, drawn by ziaplot, each once for a wide page and once for a phone.

Colours are the page's own (``var(--…)``), so that one picture serves light, dark and print. ziaplot was chosen since
it is pure Python without dependencies (a wheel of 0.1 MB), writes texts as texts, and draws the same twice;
matplotlib brings a hundred megabytes and writes a cache of fonts, and pygal cannot shade an outage.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import TYPE_CHECKING, Final

import attrs
import ziaplot
from ziaplot.text import text_size

from altcraft_async.report.words import counted, latency, paced, span
from altcraft_async.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from altcraft_async.report.figures import Figures
    from altcraft_async.timeline import Bucket

__all__ = ["Mark", "Picture", "pictures"]

_WIDE, _NARROW = (920, 220), (360, 200)
_MOST_BARS: Final = 10
_LABEL: Final = 34
"""Half the width of a long label, like ``59 min 45 s``, in a picture's units."""
_FOOT: Final = 66
"""What stands left of the upright axis, in a picture's units: one for all, so that moments stand below each other."""
_GAP: Final = 4
"""What stands at least between a number and the upright axis."""
_SAID: Final = 5
"""Outages that are named; more are seen."""
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_STYLE: Final = """
    Canvas { color: none; }
    Graph { color: none; edge_color: var(--axis); edge_width: 1; }
    Graph.GridX { color: none; }
    Graph.GridY { color: var(--grid); stroke: solid; stroke_width: 1; }
    Graph.TickX { color: var(--quiet); font: inherit; font_size: 12; height: 4; stroke_width: 1; margin: 4; pad: 0; }
    Graph.TickY { color: var(--quiet); font: inherit; font_size: 15; height: 0; stroke_width: 1; margin: %d; pad: 0; }
"""


@attrs.frozen
class Mark:
    """What a colour stands for in a picture: the variable of the page's, and words."""

    color: str
    label: str
    dashed: bool = False
    area: bool = False


@attrs.frozen
class Picture:
    """A picture: its title, in words what it shows, what its colours mean, and itself in two sizes."""

    key: str
    title: str
    description: str
    marks: Sequence[Mark]
    wide: str
    narrow: str


@attrs.frozen
class _Curve:
    mark: Mark
    points: Sequence[Sequence[tuple[float, float]]]
    """One sequence for each stretch without a gap."""


@attrs.frozen
class _Scale:
    """What stands along the upright axis, from its foot to its top, in the values of the curves."""

    ticks: Sequence[float]
    names: Sequence[str]


_OUTAGE: Final = Mark("outage", "outage: nobody is served", area=True)


def pictures(figures: Figures) -> list[Picture]:
    """Draw a run: those over time where its timeline has more than one moment, and its attempts."""
    found = []
    with _ziaplot_as_needed():
        if len(figures.timeline) > 1:
            over_time = _OverTime(figures)
            found = [over_time.rate(), over_time.flight(), over_time.latency(), over_time.pressure()]
        return [picture for picture in [*found, _attempts(figures)] if picture is not None]


@contextlib.contextmanager
def _ziaplot_as_needed() -> Iterator[None]:
    """Have ziaplot write texts, which it draws as paths where a library of fonts happens to be installed.

    From Python 3.12 on it causes a warning about its own code, which is an error for programs that want it so.
    """
    before, ziaplot.config.text = ziaplot.config.text, "text"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ziaplot\.")
            yield
    finally:
        ziaplot.config.text = before


class _OverTime:
    """Draws a run along the seconds in which it was at work."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._course = course = figures.course
        spans = [
            (bucket, course.worked(bucket.start), course.worked(bucket.start + bucket.width))
            for session in course.sessions
            for bucket in session.buckets
        ]
        self._spans = [(bucket, begin, end) for bucket, begin, end in spans if end > begin]
        self._outages = course.outages

    def rate(self) -> Picture | None:
        """Draw how many rows ended in a second, and how many of them failed."""
        noun = self._figures.noun
        ended = self._rates(lambda bucket: sum(bucket.ended.values()))
        failed = self._rates(lambda bucket: bucket.failed)
        curves = [_Curve(Mark("rate", f"{noun}s that ended", area=True), [ended])]
        if any(value for _, value in failed):
            curves.append(_Curve(Mark("failed", "of them failed"), [failed]))
        when, most = max(ended, key=lambda point: point[1])
        said = f"At most {paced(most, noun)} ended in a second, after {span(when)}."
        if self._outages:
            spans = [f"from {span(begin)} to {span(end)}" for begin, end in self._outages[:_SAID]]
            more = len(self._outages) - len(spans)
            said += f" Nobody was served {', '.join(spans)}{f', and {more} more times' if more else ''}."
        return self._picture("rate", f"{noun.capitalize()}s per second", said, curves, _linear(most))

    def flight(self) -> Picture | None:
        """Draw how many requests were in flight, and how many could be."""
        known = [entry for entry in self._spans if entry[0].limit is not None]
        if not known:
            return None
        limit = self._steps(lambda bucket: None if bucket.limit is None else bucket.limit.last)
        flight = self._steps(lambda bucket: None if bucket.in_flight is None else bucket.in_flight.most)
        curves = [
            _Curve(Mark("flight", "in flight, looked at each second", area=True), [flight]),
            _Curve(Mark("limit", "limit", dashed=True), [limit]),
        ]
        most = max(value for _, value in [*limit, *flight])
        low, high = min(value for _, value in limit), max(value for _, value in limit)
        said = f"The limit was between {low:,.0f} and {high:,.0f} requests, {limit[-1][1]:,.0f} at the end."
        if low == high:
            said = f"The limit was {counted(round(low), 'request')} all the time."
        return self._picture("flight", "Requests in flight, and the limit", said, curves, _linear(most))

    def latency(self) -> Picture | None:
        """Draw how long rows took from their first attempt to their end."""
        median, p99 = self._latencies(0.5), self._latencies(0.99)
        values = [value for curve in (median, p99) for stretch in curve for _, value in stretch]
        if not values:
            return None
        scale = _logarithmic(min(values), max(values))
        curves = [
            _Curve(Mark("p99", "99 % were faster"), [_logs(stretch) for stretch in p99]),
            _Curve(Mark("median", "half were faster (median)"), [_logs(stretch) for stretch in median]),
        ]
        whole = Timeline(self._figures.timeline, most=1).buckets[0]
        said = f"Over the whole run half of the {self._figures.noun}s took at most {latency(whole.latency(0.5) or 0.0)}"
        said += f", 99 of 100 at most {latency(whole.latency(0.99) or 0.0)}."
        title = f"Time from the first attempt of {_one(self._figures.noun)} to its end"
        return self._picture("latency", title, said, curves, scale)

    def pressure(self) -> Picture | None:
        """Draw how many requests were throttled, and how many were retries."""
        throttled = self._rates(lambda bucket: bucket.throttled)
        retries = self._rates(lambda bucket: bucket.retries)
        most = max(value for _, value in [*throttled, *retries])
        if not most:
            return None
        curves = [
            _Curve(Mark("throttled", "throttled", area=True), [throttled]),
            _Curve(Mark("retries", "retries"), [retries]),
        ]
        figures = self._figures
        said = f"{counted(figures.throttled or 0, 'answer')} throttled, {figures.retries or 0:,} retries in all."
        return self._picture("pressure", "Throttled requests and retries per second", said, curves, _linear(most))

    def _rates(self, count: Callable[[Bucket], int]) -> list[tuple[float, float]]:
        """Return the corners of a line of how many in a second; the last bucket may have been cut short."""
        last, begin, end = self._spans[-1]
        cut = end - begin if end - begin > last.width / 2 else last.width
        return self._steps(lambda bucket: count(bucket) / (cut if bucket is last else bucket.width))

    def _steps(self, value: Callable[[Bucket], float | None]) -> list[tuple[float, float]]:
        """Return the corners of a line that is level in each bucket."""
        points: list[tuple[float, float]] = []
        for bucket, begin, end in self._spans:
            level = value(bucket)
            if level is not None:
                points += [(begin, level), (end, level)]
        return [point for at, point in enumerate(points) if not _between(points, at)]

    def _latencies(self, part: float) -> list[list[tuple[float, float]]]:
        """Return the latency in each bucket, in stretches where rows ended without a gap."""
        stretches: list[list[tuple[float, float]]] = [[]]
        for bucket, begin, end in self._spans:
            value = bucket.latency(part)
            if value is None:
                stretches.append([])
            else:
                stretches[-1] += [(begin, value), (end, value)]
        return [stretch for stretch in stretches if stretch]

    def _picture(self, key: str, title: str, said: str, curves: Sequence[_Curve], scale: _Scale) -> Picture:
        length = self._spans[-1][2]
        outages = self._outages
        pauses = [at for at, _ in self._course.pauses]

        def draw(size: tuple[int, int], labels: int) -> str:
            graph = _graph(size, (0.0, length), scale)
            foot, top = scale.ticks[0], scale.ticks[-1]
            for begin, end in outages:
                width = max(end - begin, length / 300)
                graph.add(ziaplot.Rectangle(begin, foot, width, top - foot).style(_filled("outage")))
            for curve in curves:
                for points in curve.points:
                    _draw_curve(graph, curve.mark, points, foot)
            for at in pauses:
                graph.add(ziaplot.PolyLine([at, at], [foot, top]).color("var(--quiet)").stroke("--").strokewidth(1))
            step = next(
                (step for step in _STEPS if length / step <= labels), _STEPS[-1] * math.ceil(length / 86_400 / 6)
            )
            last = length - length * _LABEL / size[0]  # one further right would be cut
            ticks = [step * number for number in range(int(last / step) + 1)]
            graph.xticks(ticks, [span(at) if at else "0" for at in ticks])
            return _svg(graph, key, size)

        marks = [curve.mark for curve in curves] + ([_OUTAGE] if outages else [])
        if pauses:
            marks.append(Mark("quiet", "pause between two runs, cut out", dashed=True))
        return Picture(key, title, said, marks, draw(_WIDE, 9), draw(_NARROW, 5))


def _attempts(figures: Figures) -> Picture | None:
    """Draw how many rows needed how many attempts."""
    known = {attempts: count for attempts, count in sorted(figures.attempts.items()) if count}
    if not known:
        return None
    bars = {attempts: count for attempts, count in known.items() if attempts < _MOST_BARS}
    if more := sum(count for attempts, count in known.items() if attempts >= _MOST_BARS):
        bars[_MOST_BARS] = more
    most = max(bars.values())
    numbers = list(range(min(bars), max(bars) + 1))
    scale = _linear(most)

    def draw(size: tuple[int, int], _: int) -> str:
        graph = _graph(size, (numbers[0] - 0.6, numbers[-1] + 0.6), scale)
        top = scale.ticks[-1]
        for number, count in bars.items():
            height = max(count, top / 150)
            graph.add(ziaplot.Rectangle(number - 0.35, 0, 0.7, height).style(_filled("rate")))
            label = ziaplot.Text(number, height + top * 0.02, f"{count:,}", halign="center", valign="bottom")
            graph.add(label.style("color: var(--ink); font: inherit; font_size: 12"))
        graph.xticks(numbers, [f"{n}+" if n == _MOST_BARS else f"{n}" for n in numbers])
        return _svg(graph, "attempts", size)

    noun = figures.noun
    said = "; ".join(f"{counted(count, noun)} with {'no attempt' if not n else _tried(n)}" for n, count in bars.items())
    title = f"Attempts that {_one(noun)} needed"
    return Picture("attempts", title, f"{said}.", (), draw(_WIDE, 0), draw(_NARROW, 0))


def _tried(attempts: int) -> str:
    return f"{attempts} or more attempts" if attempts == _MOST_BARS else counted(attempts, "attempt")


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _between(points: Sequence[tuple[float, float]], at: int) -> bool:
    """Say whether a point lies on a level line between its neighbours, and so need not be drawn."""
    if not 0 < at < len(points) - 1:
        return False
    return points[at - 1][1] == points[at][1] == points[at + 1][1]


def _linear(most: float) -> _Scale:
    """Return a scale from zero to a round number, with three to five steps."""
    step = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    for part in (0.2, 0.25, 0.5, 1.0, 2.0):
        if most / (step * part) <= 5:  # noqa: PLR2004 - five steps
            step *= part
            break
    ticks = [step * number for number in range(math.ceil(most / step * 1.02 or 1) + 1)]
    return _Scale(ticks, [f"{tick:,.10g}" for tick in ticks])


def _logarithmic(low: float, high: float) -> _Scale:
    """Return a scale of decades, or of parts of them where the values are near each other."""
    parts = (1,) if high / low > 200 else (1, 2, 5)  # noqa: PLR2004 - more than two decades
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [part * 10.0**power for power in powers for part in parts]
    foot = max((tick for tick in every if tick <= low), default=every[0])
    top = min((tick for tick in every if tick >= high and tick > foot), default=every[-1])
    ticks = [tick for tick in every if foot <= tick <= top]
    return _Scale([math.log10(tick) for tick in ticks], [latency(tick) for tick in ticks])


def _logs(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(at, math.log10(value)) for at, value in points]


def _graph(size: tuple[int, int], across: tuple[float, float], scale: _Scale) -> ziaplot.Graph:
    names = [name.rjust(7, "\u2007") for name in scale.names]
    widest = max(text_size(name, 15, "inherit").width for name in names)
    graph = ziaplot.Graph()
    graph.css(_STYLE % max(_GAP, round(_FOOT - widest)))
    graph.size(*size)
    graph.legend("none")
    graph.xrange(*across)
    graph.yrange(scale.ticks[0], scale.ticks[-1])
    graph.yticks(scale.ticks, names)
    return graph


def _draw_curve(graph: ziaplot.Graph, mark: Mark, points: Sequence[tuple[float, float]], foot: float) -> None:
    across, upright = [at for at, _ in points], [value for _, value in points]
    if mark.area:
        outline = [(across[0], foot), *points, (across[-1], foot)]
        graph.add(ziaplot.Polygon(outline).style(_filled(f"{mark.color}-area")))
    line = ziaplot.PolyLine(across, upright).color(f"var(--{mark.color})").strokewidth(1.6)
    graph.add(line.stroke("--") if mark.dashed else line)


def _filled(name: str) -> str:
    return f"color: none; edge_color: none; fill_color: var(--{name}); stroke: solid; stroke_width: 0"


def _svg(graph: ziaplot.Graph, key: str, size: tuple[int, int]) -> str:
    """Return the picture with names of its own, for they must be unique in a page."""
    drawn: str = graph.tosvg()
    return drawn.replace("zclip", f"{key}-{size[0]}-")
