"""Draw the diagrams of the documents: ``python docs/draw_diagrams.py``; attrs is all that it needs.

Each follows the reader's light or dark, and says in words what it shows.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES = Path(__file__).parent / "images"
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2933; text-anchor: middle; }
  .small { font-size: 12px; fill: #52606d; }
  .box { fill: #f5f7fa; stroke: #7b8794; stroke-width: 1.2; }
  .kept { fill: #e3f8ff; stroke: #0b69a3; stroke-width: 1.2; }
  .ground { fill: #ffffff; } .left { text-anchor: end; } .right { text-anchor: start; }
  .way { stroke: #52606d; stroke-width: 1.4; fill: none; marker-end: url(#tip); }
  .back { stroke: #0b69a3; stroke-width: 1.4; fill: none; stroke-dasharray: 5 4; marker-end: url(#tip); }
  #tip path { fill: #52606d; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb; } .small { fill: #cbd2d9; }
    .box { fill: #2b3440; stroke: #9aa5b1; } .kept { fill: #0b3a53; stroke: #5ed0fa; }
    .ground { fill: #1a1f26; } .way { stroke: #cbd2d9; } .back { stroke: #5ed0fa; } #tip path { fill: #cbd2d9; }
  }
"""
ROOM = 150
HEIGHT = 62
BAR = 300
"""Length of a bar for 1.00."""


@attrs.frozen
class Box:
    """A box at `x`, `y`, with its name and a line of what it does; what is on disk is `kept`."""

    x: float
    y: float
    name: str
    does: str = ""
    kept: bool = False
    width: float = ROOM

    def __str__(self) -> str:
        """Give its elements."""
        middle = self.x + self.width / 2
        look = "kept" if self.kept else "box"
        shape = f'<rect class="{look}" x="{self.x}" y="{self.y}" width="{self.width}" height="{HEIGHT}" rx="8"/>'
        name = f'<text x="{middle}" y="{self.y + (26 if self.does else 36)}">{escape(self.name)}</text>'
        does = f'<text class="small" x="{middle}" y="{self.y + 45}">{escape(self.does)}</text>' if self.does else ""
        return shape + name + does


@attrs.frozen
class Arrow:
    """An arrow along `points`, with a word beside it at `at`; one that goes `back` is dashed."""

    points: tuple[tuple[float, float], ...]
    word: str = ""
    at: tuple[float, float] = (0.0, 0.0)
    back: bool = False

    def __str__(self) -> str:
        """Give its elements."""
        way = " ".join(f"{x},{y}" for x, y in self.points)
        line = f'<polyline class="{"back" if self.back else "way"}" points="{way}"/>'
        word = f'<text class="small" x="{self.at[0]}" y="{self.at[1]}">{escape(self.word)}</text>' if self.word else ""
        return line + word


def picture(width: int, height: int, title: str, parts: Sequence[Box | Arrow | Bar]) -> str:
    """Put the parts together, with the title for those who cannot see them."""
    tip = (
        '<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L10,5 L0,10 z"/></marker>'
    )
    drawn = "\n".join(map(str, parts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<defs>{tip}</defs>\n"
        f'<rect class="ground" width="{width}" height="{height}" rx="10"/>\n{drawn}\n</svg>\n'
    )


@attrs.frozen
class Bar:
    """A bar of a chart at `y`, as long as its `value`; one of our own is filled in the color of what is kept."""

    y: float
    name: str
    value: float
    own: bool = False

    def __str__(self) -> str:
        """Give its elements."""
        width = self.value * BAR
        name = f'<text class="left" x="200" y="{self.y + 17}">{escape(self.name)}</text>'
        look = "kept" if self.own else "box"
        bar = f'<rect class="{look}" x="212" y="{self.y}" width="{width:g}" height="24" rx="3"/>'
        return f'{name}{bar}<text class="right" x="{222 + width:g}" y="{self.y + 17}">{self.value:.2f}</text>'


def bars(page: Path) -> list[Bar]:
    """Read the bars out of the first table of the benchmarks, the shortest first; one above three is left out."""
    rows = re.findall(r"^\| ([^|]+?) \| \**([\d.]+)\** \| \**[\d.]+\** \|$", page.read_text("utf-8"), re.MULTILINE)
    found = sorted((float(value), re.sub(r"[*`]", "", name), name.startswith("**")) for name, value in rows)
    shown = [one for one in found if one[0] < 3]  # noqa: PLR2004 - as it says
    return [Bar(20 + place * 36, name, value, own) for place, (value, name, own) in enumerate(shown)]


def along(y: float, begin: float, end: float, word: str = "") -> Arrow:
    """Give a level arrow."""
    return Arrow(((begin, y), (end, y)), word, ((begin + end) / 2, y - 8))


PICTURES = {
    "cpu-per-update": picture(
        640,
        356,
        "CPU of the client for one update under asyncio, as a ratio to a hand-written aiohttp loop; shorter is better.",
        bars(Path(__file__).parent / "reference" / "benchmarks.md"),
    ),
    "way-of-an-update": picture(
        900,
        250,
        "An update waits in the lane of its order line, gets a permit of the gate, is sent, and its answer is judged. "
        "What may succeed later goes back to the gate; everything else becomes the update's one outcome.",
        [
            Box(20, 40, "Your updates", "any iterable"),
            Box(200, 40, "Lanes", "one a line, in order"),
            Box(380, 40, "Gate", "limit, pace, outage"),
            Box(560, 40, "Attempt", "one Request-ID"),
            Box(740, 40, "Altcraft", "or what is before it", width=140),
            along(71, 170, 198),
            along(71, 350, 378),
            along(71, 530, 558),
            along(71, 710, 738),
            Box(560, 160, "Verdict", "what the answer means"),
            Box(200, 160, "Outcome", "one for each update"),
            Arrow(((810, 102), (810, 191), (712, 191)), "answer, or none", (764, 209)),
            Arrow(((558, 191), (352, 191)), "final", (455, 183)),
            Arrow(((600, 158), (600, 130), (455, 130), (455, 104)), "again, later", (528, 124), back=True),
        ],
    ),
    "outbox": picture(
        900,
        230,
        "A service puts a change into the outbox and answers its caller when the change is on disk. Delivery goes on "
        "in the background, over restarts, until the platform has said yes or a final no.",
        [
            Box(20, 40, "Your handler", "await outbox.put(…)"),
            Box(270, 40, "Outbox", "SQLite or PostgreSQL", kept=True),
            Box(500, 40, "Delivery", "in order for each line"),
            Box(740, 40, "Altcraft", width=140),
            along(60, 170, 268, "commit"),
            Arrow(((268, 84), (172, 84)), "accepted", (220, 99), back=True),
            along(71, 420, 498, "reads"),
            along(71, 650, 738, "one id"),
            Box(500, 150, "Dead letters", "final no: look, retry", kept=True),
            Arrow(((575, 102), (575, 148))),
            Arrow(((498, 181), (345, 181), (345, 104)), "retry", (420, 174), back=True),
        ],
    ),
    "journal": picture(
        900,
        230,
        "The first run is killed. The journal knows which rows are done and which were under way. The same command "
        "skips what is done, sends what was under way under its old id, and goes on.",
        [
            Box(20, 40, "First run", "killed in its middle"),
            Box(300, 90, "Journal", "beside the input", kept=True),
            Box(20, 140, "The same command", "a second time"),
            Arrow(((170, 71), (235, 71), (298, 110)), "writes", (230, 62)),
            Arrow(((298, 135), (235, 171), (172, 171)), "reads", (228, 190), back=True),
            Box(570, 15, "Rows that are done", "are not sent again", width=310),
            Box(570, 85, "Rows that were under way", "go out under their old Request-ID", width=310),
            Box(570, 155, "All other rows", "are sent, in order for each line", width=310),
            Arrow(((450, 110), (510, 46), (568, 46))),
            Arrow(((450, 120), (568, 116))),
            Arrow(((450, 130), (510, 186), (568, 186))),
        ],
    ),
}


def main() -> None:
    """Write the pictures."""
    for name, drawn in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
