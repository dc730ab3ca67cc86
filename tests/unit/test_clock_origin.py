"""Only differences of time matter: a law that reads a clock of any origin decides the same.

Reports are taken down in a simulation that begins at zero, and given to a second law on a clock that was begun a day
before: monotonic clocks count from the start of the machine.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import LearnedLimit, LimitState
from altcraft_async.flow.outage import Outage, OutageState
from samples import sampled

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "fleet"))

import group
from scenarios import SERVERS, play_alone, play_fleet
from world import Behaviour

if TYPE_CHECKING:
    from altcraft_async.flow.limit import Signal

ORIGIN = 1e5
_GRAIN = 2.0**20
"""Times are whole parts of a second, so that a clock that has counted for long keeps them to the last bit."""


def grain(seconds: float) -> float:
    return round(seconds * _GRAIN) / _GRAIN


class Both(AdaptiveLimit):
    """A law, and beside it one that gets the same reports by a clock of another origin."""

    __slots__ = ("left_room_at", "twin")

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.twin = AdaptiveLimit()
        self.left_room_at = math.inf

    def _same(self) -> int:
        twin = self.twin
        assert (self.limit, self.state) == (twin.limit, twin.state)
        assert (self.rate is None) is (twin.rate is None)
        assert self.rate is None or self.rate == pytest.approx(twin.rate, rel=1e-6)
        return self.limit

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        now, latency = grain(now), grain(latency)
        self.twin.reach = self.reach
        super().on_result(now, latency, signal, in_flight, kind)
        self.twin.on_result(now + ORIGIN, latency, signal, in_flight, kind)
        if self.state is LimitState.YIELDING:
            self.left_room_at = min(self.left_room_at, now)
        return self._same()

    def on_pause(self, now: float, seconds: float) -> int:
        super().on_pause(grain(now), seconds)
        self.twin.on_pause(grain(now) + ORIGIN, seconds)
        return self._same()

    def expect_more(self, now: float) -> None:
        super().expect_more(grain(now))
        self.twin.expect_more(grain(now) + ORIGIN)

    def resume(self, now: float, since: float) -> None:
        super().resume(grain(now), grain(since))
        self.twin.resume(grain(now) + ORIGIN, grain(since) + ORIGIN)
        self._same()

    def begin_at(self, now: float, learned: LearnedLimit) -> None:
        super().begin_at(now, learned)
        self.twin.begin_at(now + ORIGIN, learned)
        self._same()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("server", sampled(SERVERS, *list(SERVERS)[::4]))
def test_one_client_decides_the_same_by_any_clock(server: str) -> None:
    law = Both()
    play_alone(SERVERS[server], law, lines=3000 if SERVERS[server].rate else 8000)

    assert law.statistics().accepted == law.twin.statistics().accepted > 0


@pytest.mark.usefixtures("untraced")
def test_a_pace_that_pauses_began_is_the_same_by_any_clock() -> None:
    law = Both()
    play_alone(Behaviour(rate=200.0, burst=50, retry_after=1.0, jitter=0.5), law, lines=3000)

    assert law.rate is not None


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("learned", [LearnedLimit(50), LearnedLimit(20, 100.0)])
@pytest.mark.parametrize("server", ["reject", "rate"])
def test_who_remembers_decides_the_same_by_any_clock(server: str, learned: LearnedLimit) -> None:
    law = Both()
    law.begin_at(0.0, learned)
    play_alone(SERVERS[server], law, lines=1000)

    assert law.statistics().accepted == law.twin.statistics().accepted > 0


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("server", ["queue-jitter", "reject-jitter", "rate"])
def test_the_leader_of_a_group_decides_the_same_by_any_clock(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    laws: list[Both] = []

    def make() -> Both:
        laws.append(Both())
        return laws[-1]

    monkeypatch.setattr(group, "AdaptiveLimit", make)
    play_fleet(SERVERS[server], None, 4, seconds=12.0)

    assert laws[0].statistics().accepted > 1000


def test_a_law_leaves_no_room_in_its_first_ten_seconds() -> None:
    law = Both()
    play_alone(SERVERS["reject"], law, lines=8000)

    assert 10.0 <= law.left_room_at < 13.0


def test_a_law_that_goes_on_where_another_was_leaves_no_room_in_its_first_ten_seconds() -> None:
    law = Both.started_at(0.0, LearnedLimit(50))
    assert isinstance(law, Both)
    law.twin = AdaptiveLimit.started_at(ORIGIN, LearnedLimit(50))
    play_alone(SERVERS["reject"], law, lines=8000)

    assert 10.0 <= law.left_room_at < 13.0


def outage(origin: float) -> list[tuple[OutageState, float]]:
    """Give what the law of outages says in one that begins after a served call."""
    law, seen = Outage(), []
    law.on_served(origin + 1.0, origin + 0.75, "update")
    for failure in range(3):
        law.on_failure(origin + 2.0 + failure / 64, "update", failure, origin + 2.0 + failure / 64)
    for look in range(40):
        now = origin + 2.0 + look / 4
        if law.look(now) == 0.0 and law.state is OutageState.OPEN:
            law.probe_started(now, "update")
            law.probe_ended()
        seen.append((law.state, law.look(now)))
    law.on_served(origin + 20.0, origin + 19.0, "update")
    return [*seen, (law.state, law.lasted(origin + 21.0))]


def test_an_outage_is_judged_the_same_by_any_clock() -> None:
    assert outage(ORIGIN) == outage(0.0)
