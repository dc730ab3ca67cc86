"""The law decides as it is written down: what it does on each server, half second by half second.

A play is deterministic to the last bit, so `law_stories.txt` holds whole plays: of each the state (its first letter, a
dip in small), the limit and the pace every half second, and what came of it. Whatever changes what the law does changes
a story, so that nobody changes it by accident. ``python tests/unit/test_law_stories.py`` writes the new stories down;
whether they are better, the tables of `benchmarks/fleet` say.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import attrs
import pytest

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import Adaptive, FixedLimit, LearnedLimit, LimitState

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "fleet"))

from world import Behaviour, Client, Server, World

if TYPE_CHECKING:
    from altcraft_async.flow.limit import Signal

STORIES = Path(__file__).with_name("law_stories.txt")
EVERY = 0.5
LETTERS = {state: state.name[0] for state in LimitState} | {LimitState.DIPPING: "d"}
_GRAIN = 2.0**20
"""Times are whole parts of a second: their sums are exact, in whatever order and precision they are added."""


def grain(seconds: float) -> float:
    return round(seconds * _GRAIN) / _GRAIN


class Told(AdaptiveLimit):
    """A law whose story is told."""

    __slots__ = ("_next", "story")

    def __init__(self, settings: Adaptive | None = None) -> None:
        super().__init__(settings)
        self.story: list[str] = []
        self._next = 0.0

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        super().on_result(grain(now), grain(latency), signal, in_flight, kind)
        if now >= self._next:
            self._next = now - now % EVERY + EVERY
            pace = "" if self.rate is None else f"@{self.rate:.3g}"
            self.story.append(f"{LETTERS[self.state]}{self.limit}{pace}")
        return self.limit

    def on_pause(self, now: float, seconds: float) -> int:
        return super().on_pause(grain(now), seconds)

    def resume(self, now: float, since: float) -> None:
        super().resume(grain(now), grain(since))


@attrs.frozen
class Play:
    """A server, and the seconds for which it is played; all else is how the law begins, and who is there.

    `beside` are the times at which another client comes and goes, which keeps fifteen calls in flight.
    """

    server: Behaviour
    seconds: float
    settings: Adaptive | None = attrs.field(default=None, kw_only=True)
    goes_on: LearnedLimit | None = attrs.field(default=None, kw_only=True)
    remembers: LearnedLimit | None = attrs.field(default=None, kw_only=True)
    reach: float = attrs.field(default=0.0, kw_only=True)
    beside: tuple[float, float] | None = attrs.field(default=None, kw_only=True)

    def story(self) -> str:
        """Play it."""
        law = Told(self.settings) if self.goes_on is None else Told.started_at(0.0, self.goes_on)
        assert isinstance(law, Told)
        if self.remembers is not None:
            law.begin_at(0.0, self.remembers)
        law.reach = self.reach
        world = World()
        server = Server(world, self.server, 7)
        client = Client(world, server, law, seed=7)
        if self.beside is not None:
            Client(world, server, FixedLimit(15), seed=8, joins=self.beside[0], leaves=self.beside[1])
        world.run(self.seconds)
        seen = law.statistics()
        ended = f"{seen.accepted} accepted, {seen.throttled} throttled, {client.sent} sent"
        return f"{fill(' '.join(law.story), 118)}\n{ended}"


QUEUE = Behaviour(slots=20, latency=0.2, jitter=0.5)
SLOTS = Behaviour(slots=20, latency=0.2, jitter=0.5, over_slots="reject")
RATE = Behaviour(rate=60.0)
LITTLE = Behaviour(rate=60.0, burst=2, jitter=0.5)
SECONDS = Behaviour(rate=60.0, counts="windows")
of = attrs.evolve

PLAYS = {
    "a queue": Play(QUEUE, 30.0),
    "a queue without jitter": Play(of(QUEUE, jitter=0.0), 15.0),
    "a queue that times out": Play(of(QUEUE, patience=0.2), 20.0),
    "a queue of which half is lost": Play(of(QUEUE, slots=40, changes=((6.0, 20), (16.0, 40))), 25.0),
    "a queue with another for a while": Play(QUEUE, 25.0, beside=(6.0, 16.0)),
    "a queue with room for more": Play(QUEUE, 8.0, settings=Adaptive(initial=2, maximum=16)),
    "a queue, going on": Play(QUEUE, 15.0, goes_on=LearnedLimit(14)),
    "a queue, remembered": Play(QUEUE, 15.0, remembers=LearnedLimit(24)),
    "a queue, remembered as a rate": Play(QUEUE, 15.0, remembers=LearnedLimit(24, 72.0)),
    "a queue, for a group": Play(QUEUE, 15.0, reach=0.25),
    "a server that slows down under load": Play(Behaviour(knee=10, latency=0.2, steepness=1.5, jitter=0.5), 20.0),
    "slots": Play(SLOTS, 60.0),
    "slots without jitter": Play(of(SLOTS, jitter=0.0), 15.0),
    "slots, quick": Play(of(SLOTS, latency=0.1), 20.0),
    "slots that become fewer, and more": Play(of(SLOTS, changes=((13.0, 15), (35.0, 30))), 60.0),
    "slots with another for a while": Play(SLOTS, 50.0, beside=(6.0, 30.0)),
    "ten slots": Play(of(SLOTS, slots=10), 25.0),
    "few slots": Play(of(SLOTS, slots=5, latency=0.1), 60.0),
    "slots, going on": Play(SLOTS, 15.0, goes_on=LearnedLimit(14)),
    "slots, remembered": Play(SLOTS, 15.0, remembers=LearnedLimit(24)),
    "slots, for a group": Play(SLOTS, 40.0, reach=0.25),
    "a rate": Play(RATE, 40.0),
    "a rate, quick": Play(of(RATE, latency=0.01), 30.0),
    "a rate, slow": Play(of(RATE, latency=0.8, jitter=0.5), 30.0),
    "a rate, low and for long": Play(of(RATE, rate=20.0), 150.0),
    "a rate of less than one a second": Play(Behaviour(rate=0.7, burst=2), 120.0),
    "a rate that asks for pauses": Play(of(RATE, retry_after=0.5), 40.0),
    "a rate without a burst": Play(of(RATE, burst=1), 40.0),
    "a rate of little burst": Play(LITTLE, 40.0),
    "a rate by whole seconds": Play(SECONDS, 30.0),
    "a rate that counts what it refuses": Play(of(RATE, counts="sliding"), 40.0),
    "a rate, and strays": Play(of(RATE, flaky=0.04), 40.0),
    "a rate, going on": Play(RATE, 15.0, goes_on=LearnedLimit(14, 30.0)),
    "a rate, remembered": Play(RATE, 15.0, remembers=LearnedLimit(24, 72.0)),
    "a rate, for a group": Play(RATE, 40.0, reach=0.25),
    "a rate that asks for pauses, for a group": Play(of(RATE, retry_after=0.5), 30.0, reach=0.25),
    "a rate by whole seconds, for a group": Play(SECONDS, 30.0, reach=0.25),
    "a rate of little burst, for a group": Play(LITTLE, 40.0, reach=0.25),
    "strays": Play(Behaviour(slots=60, latency=0.05, jitter=0.5, flaky=0.05), 8.0),
    "strays while the limit doubles": Play(Behaviour(slots=250, latency=0.5, jitter=0.5, flaky=0.1), 8.0),
    "strays and slots": Play(of(SLOTS, flaky=0.05), 40.0),
    "an outage at the start": Play(of(QUEUE, outage=(0.05, 3.05)), 15.0),
    "an outage while the limit doubles": Play(of(QUEUE, outage=(0.6, 4.6)), 15.0),
    "an outage later": Play(of(SLOTS, outage=(8.0, 14.0)), 25.0),
    "an outage of a moment": Play(of(SLOTS, outage=(8.0, 9.2)), 20.0),
    "an outage of a rate": Play(of(RATE, outage=(8.0, 12.0)), 25.0),
    "an outage of a moment, of a rate": Play(of(RATE, outage=(8.0, 9.2)), 25.0),
    "an outage of a moment, of a rate, at the start": Play(of(SECONDS, outage=(0.4, 1.6)), 15.0),
    "an outage of some seconds, of a rate, at the start": Play(of(SECONDS, outage=(0.4, 2.9)), 15.0),
}


def told() -> dict[str, str]:
    """Give the stories that are written down, by the names of the plays."""
    parts = STORIES.read_text(encoding="utf-8").strip().split("\n\n")
    return {name: story for name, _, story in (part.partition("\n") for part in parts)}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", PLAYS)
def test_the_law_decides_as_it_is_written_down(name: str) -> None:
    assert PLAYS[name].story() == told()[name]


if __name__ == "__main__":
    stories = (f"{name}\n{play.story()}\n" for name, play in PLAYS.items())
    STORIES.write_text("\n".join(stories), encoding="utf-8")
