"""Draw the picture of `docs/explanation/adaptive-limit.md`: what one client does on a server that changes.

python benchmarks/fleet/draw.py [FILE]

The server has 50 slots of 100 ms and answers 429 above them; from 20 to 35 s it has 25, and from 50 s on nothing is
let in beyond 100 calls a second.
"""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
from world import Behaviour, Client, Server, World

from altcraft_async.flow.adaptive import AdaptiveLimit

__all__ = ["main"]

SECONDS, STEP = 70.0, 0.2
WIDTH, HEIGHT, LEFT, GAP = 760, 92, 64, 26
TARGET = Path(__file__).parents[2] / "docs" / "explanation" / "adaptive-limit.svg"
COLOURS = ("#2563a8", "#7a9fc4", "#b4552d", "#8a2d2d")


def _measure() -> tuple[list[list[float]], list[tuple[float, str]]]:
    """Play, and give limit, in flight, latency in milliseconds and throttled a second over time; and the states."""
    world = World()
    server = Server(world, Behaviour(over_slots="reject", jitter=0.3, changes=((20.0, 25), (35.0, 50))))
    law = AdaptiveLimit()
    client = Client(world, server, law)
    rows: list[list[float]] = [[], [], [], []]
    states: list[tuple[float, str]] = []
    seen = [0.0, 0.0, 0.0]

    def look() -> None:
        done, slow = client.done, sum(client.slow.values())
        throttled = float(sum(client.throttled.values()))
        latency = 1000 * (slow - seen[1]) / max(1.0, done - seen[0])
        for row, value in zip(rows, (law.limit, client.in_flight, latency, (throttled - seen[2]) / STEP), strict=True):
            row.append(value)
        if not states or states[-1][1] != law.state.name.lower():
            states.append((world.now, law.state.name.lower()))
        seen[:] = done, slow, throttled
        if world.now < SECONDS:
            world.at(world.now + STEP, look)

    def limit_rate() -> None:
        server.behaviour = attrs.evolve(server.behaviour, rate=100.0, burst=10)

    world.at(50.0, limit_rate)
    world.at(0.0, look)
    world.run(SECONDS)
    return rows, states


def _line(values: list[float], top: float, most: float, colour: str) -> str:
    width = WIDTH - LEFT - 8
    points = " ".join(
        f"{LEFT + width * number / (len(values) - 1):.1f},{top + HEIGHT - HEIGHT * min(value, most) / most:.1f}"
        for number, value in enumerate(values)
    )
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="{points}"/>'


def main() -> int:
    """Draw."""
    rows, states = _measure()
    names = ("limit, and in flight (light)", "latency, ms", "throttled a second")
    parts = []
    for number, (name, lines) in enumerate(zip(names, ((1, 0), (2,), (3,)), strict=True)):
        top = 18 + number * (HEIGHT + GAP)
        most = max(max(rows[line]) for line in lines) * 1.05 or 1.0
        parts.append(f'<text x="{LEFT}" y="{top - 5}">{name}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + 9}" text-anchor="end">{most:.0f}</text>')
        parts.append(f'<line x1="{LEFT}" y1="{top + HEIGHT}" x2="{WIDTH - 8}" y2="{top + HEIGHT}" stroke="#999"/>')
        parts += [_line(rows[line], top, most, COLOURS[line]) for line in lines]
    bottom = 18 + 3 * (HEIGHT + GAP)
    for second in range(0, int(SECONDS) + 1, 10):
        x = LEFT + (WIDTH - LEFT - 8) * second / SECONDS
        parts.append(f'<text x="{x:.0f}" y="{bottom - 8}" text-anchor="middle">{second} s</text>')
    for at, what in ((20.0, "25 slots"), (35.0, "50 again"), (50.0, "100 a second")):
        x = LEFT + (WIDTH - LEFT - 8) * at / SECONDS
        parts.append(
            f'<line x1="{x:.0f}" y1="18" x2="{x:.0f}" y2="{bottom - 22}" stroke="#bbb" stroke-dasharray="3 3"/>'
        )
        parts.append(f'<text x="{x + 4:.0f}" y="28" fill="#666">{what}</text>')
    size = f'width="{WIDTH}" height="{bottom + 4}" viewBox="0 0 {WIDTH} {bottom + 4}"'
    body = "\n".join(parts)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">\n{body}\n</svg>\n'
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(svg, encoding="utf-8")
    print(f"{target}: {', '.join(f'{name} from {at:.1f} s' for at, name in states[:40])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
