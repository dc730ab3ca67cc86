"""What is left of an incident once it is over: nothing that the law has learned of it stays.

Played by the simulation of `benchmarks/fleet`, which is the law's own, with a server and a clock.
"""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import Adaptive, LimitState, Signal
from altcraft_async.flow.pace import LearnedRate
from samples import sampled

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "fleet"))

from scenarios import between, play_fleet
from world import Behaviour, Client, Server, World

if TYPE_CHECKING:
    from collections.abc import Callable

SLOTS = Behaviour(over_slots="reject", jitter=0.5)
INCIDENTS = {
    "a tenth of a second of 503": attrs.evolve(SLOTS, outage=(20.0, 20.1)),
    "a second of 503": attrs.evolve(SLOTS, outage=(20.0, 21.0)),
    "fewer slots for five seconds": attrs.evolve(SLOTS, changes=((20.0, 5), (25.0, 50))),
}


def served(behaviour: Behaviour, begin: float, end: float, law: AdaptiveLimit | None = None, *, seed: int = 0) -> float:
    """Give the calls a second that one client is served between two times."""
    world = World()
    client = Client(world, Server(world, behaviour, seed), law or AdaptiveLimit(), seed=seed, lines=10**9)
    world.run(end)
    return between(client.accepted, begin, end) / (end - begin)


@pytest.mark.parametrize("incident", sampled(INCIDENTS, "fewer slots for five seconds"))
def test_slots_are_not_taken_for_a_rate_for_good(incident: str) -> None:
    law = AdaptiveLimit()

    rate = served(INCIDENTS[incident], 160.0, 200.0, law)

    assert rate > 0.93 * 500
    assert law.state is not LimitState.PACED


@pytest.mark.parametrize("seconds", [5.0, 30.0])
def test_one_outage_at_the_start_costs_no_more_than_the_pause_that_it_asks_for(seconds: float) -> None:
    server = Behaviour(jitter=0.5, outage=(0.0, 0.1), retry_after=seconds)

    assert served(server, seconds + 2.0, seconds + 30.0) > 0.9 * 500


@pytest.mark.parametrize(("seconds", "least"), [(1.0, 88), (5.0, 80)])
def test_tries_are_as_seldom_as_the_pauses_are_long_that_they_cost(seconds: float, least: int) -> None:
    server = Behaviour(rate=100.0, retry_after=seconds)

    assert served(server, 0.0, 600.0) > least


def test_pauses_that_a_rate_costs_are_no_background() -> None:
    server = Behaviour(rate=200.0, burst=50, retry_after=1.0, jitter=0.5)

    assert served(server, 20.0, 120.0) > 0.8 * 200


@pytest.mark.parametrize("counts", ["bucket", "windows"])
def test_a_rate_stays_one_though_it_is_doubted_now_and_then(counts: str) -> None:
    server = Behaviour(rate=100.0, counts=counts, jitter=0.3)  # type: ignore[arg-type] - one of its literals

    assert served(server, 20.0, 140.0) > 94


def test_a_pace_that_was_not_in_use_climbs_at_once() -> None:
    pace = LearnedRate(0.0, 20.0, 0.1, ceiling=500.0)
    now = 1.0
    while now < 600.0:  # one call in ten seconds
        pace.on_accepted(now, now - 0.1, full=False)
        now += 10.0

    begun, before = now, pace.rate
    while now < begun + 10.0:
        pace.on_accepted(now, now - 0.1, full=False)
        now += 1 / pace.rate

    assert pace.rate > 4 * before


def test_a_test_of_the_pace_ends_where_hardly_a_call_comes() -> None:
    pace = LearnedRate(0.0, 100.0, 0.1, share=0.0001)
    assert pace.testing

    for second in range(1, 13):
        pace.on_accepted(float(second), second - 0.1, full=False)
        if pace.result(float(second)) is not None:
            break

    assert not pace.testing
    assert second <= 11
    assert pace.rate == pytest.approx(100.0)


@pytest.mark.parametrize("latency", [1.0, 5.0])
def test_room_for_others_costs_a_slow_server_no_more(latency: float) -> None:
    slow = Behaviour(over_slots="reject", latency=latency)

    assert served(slow, 50 * latency, 400 * latency) > 0.95 * 50 / latency


def test_a_limit_that_has_reached_its_maximum_is_learned() -> None:
    law = AdaptiveLimit(Adaptive(maximum=20))

    for call in range(100):
        law.on_result(call * 0.01, 0.1, Signal.SUCCESS, law.limit)

    assert law.limit == 20
    assert law.state is LimitState.FOLLOWING
    assert law.learned is not None
    assert law.learned.limit == 20


def test_room_is_never_left_for_want_of_a_throttled_answer() -> None:
    law = AdaptiveLimit(Adaptive(maximum=20))
    served(Behaviour(slots=1000), 0.0, 60.0, law)

    assert law.state is LimitState.FOLLOWING
    assert law._yields_at == math.inf


@pytest.mark.parametrize("over_slots", ["reject", "queue"])
def test_a_few_slow_answers_are_no_queue(over_slots: str) -> None:
    class Rare(Server):
        """Of its calls one in ten takes a second, and the others 20 ms."""

        def _serve(self, answer: Callable[..., None]) -> None:
            self.serving += 1
            seconds = 1.0 if self._random.random() < 0.1 else 0.02
            self.world.at(self.world.now + seconds, self._served, answer)

    world = World()
    server = Rare(world, Behaviour(slots=30, over_slots=over_slots), 0)  # type: ignore[arg-type] - one of its literals
    client = Client(world, server, AdaptiveLimit(), lines=10**9)
    world.run(100.0)

    assert between(client.accepted, 10.0, 100.0) / 90.0 > 0.8 * 30 / 0.118


def test_a_stall_does_not_make_the_room_that_is_left_last_for_minutes() -> None:
    class Stalled(Server):
        """Ends nothing from second 20 to 35."""

        def _served(self, answer: Callable[..., None]) -> None:
            left = 35.0 - self.world.now if self.world.now > 20.0 else 0.0
            if left > 0.0:
                self.world.at(35.0, self._served, answer)
            else:
                super()._served(answer)

    world = World()
    client = Client(world, Stalled(world, SLOTS, 2), AdaptiveLimit(), seed=2, lines=10**9)
    world.run(100.0)

    assert between(client.accepted, 45.0, 100.0) / 55.0 > 0.9 * 500


def test_what_no_load_explains_is_known_for_longer_than_a_moment() -> None:
    server = Behaviour(jitter=0.5, flaky=0.15)

    assert served(server, 60.0, 160.0) > 0.85 * 500


def test_what_no_load_explains_is_found_on_a_slow_server_of_few_slots() -> None:
    server = Behaviour(latency=2.0, slots=20, jitter=0.5, flaky=0.05)

    assert statistics.median(served(server, 200.0, 600.0, seed=seed) for seed in range(4)) > 0.8 * 10


def test_a_limit_of_few_calls_a_second_is_not_asked_at_once_after_each_refusal() -> None:
    world = World()
    server = Server(world, Behaviour(rate=2.0, burst=1, latency=0.4, jitter=0.5), 0)
    client = Client(world, server, AdaptiveLimit(), lines=10**9)
    world.run(120.0)

    assert sum(client.accepted.values()) > 0.7 * 2 * 120
    assert server.throttled < 0.6 * server.sent


@pytest.mark.parametrize("window", [10.0, 60.0])
@pytest.mark.parametrize("latency", [0.02, 0.4])
def test_a_quota_of_a_longer_window_is_used_whole(window: float, latency: float) -> None:
    server = Behaviour(rate=20.0, counts="windows", window=window, latency=latency)

    assert served(server, 2 * window, 7 * window) > 0.97 * 20


@pytest.mark.slow
@pytest.mark.parametrize("burst", [10, 20])
def test_strangers_on_a_rate_do_not_take_each_other_for_a_flaky_server(burst: int) -> None:
    plays = [play_fleet(Behaviour(rate=100.0, burst=burst), AdaptiveLimit, 4, seed=seed) for seed in range(9)]

    assert statistics.median(one.after_30 for one in plays) > 0.3
    assert statistics.median(one.throttled for one in plays) < 0.09
