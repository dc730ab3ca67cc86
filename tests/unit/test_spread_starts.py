"""A server that counts calls by time and allows hardly a burst, and servers that look like it.

Played by the simulation of `benchmarks/fleet`, which is the law's own, with a server and a clock.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import Adaptive, LearnedLimit, LimitState, Signal

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "fleet"))

from scenarios import play_alone, play_fleet
from world import Behaviour, Client, Server, World

STRICT = Behaviour(rate=100.0, burst=1)
FEW = Behaviour(slots=5, over_slots="reject")


class Watched(AdaptiveLimit):
    """The law, and what it was doing at each answer; `widest` is the most permits while starts were spread."""

    def __init__(self, settings: Adaptive | None = None) -> None:
        super().__init__(settings)
        self.states: list[LimitState] = []
        self.widest = 0

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
        limit = super().on_result(now, latency, signal, in_flight, kind)
        self.states.append(self.state)
        if self.state is LimitState.SPREADING:
            self.widest = max(self.widest, limit)
            assert self.rate is not None
            assert self.learned is not None
            assert self.learned.rate is None, "a try is nothing that was learned"
            assert self.learned.limit < limit
        return limit


@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("burst", [1, 2, 3, 5])
def test_a_rate_without_a_burst_is_found(burst: int, jitter: float) -> None:
    law = Watched()

    played = play_alone(Behaviour(rate=100.0, burst=burst, jitter=jitter), law, lines=6000)

    assert played.goodput > 0.8
    assert played.throttled < 0.03
    assert LimitState.SPREADING in law.states


def test_a_group_finds_it_where_two_may_start_at_once() -> None:
    played = play_fleet(Behaviour(rate=100.0, burst=2), None, 2, seconds=60.0)

    assert played.goodput > 0.8
    assert played.jain > 0.97


@pytest.mark.parametrize("slots", [1, 3, 5, 8])
def test_few_slots_are_not_taken_for_a_rate(slots: int) -> None:
    law = Watched()

    played = play_alone(Behaviour(slots=slots, over_slots="reject"), law, lines=slots * 600)

    assert LimitState.SPREADING in law.states
    assert LimitState.PACED not in law.states
    assert played.goodput > 0.98


@pytest.mark.parametrize("moment", [8.0, 8.7, 9.4, 10.1, 10.8, 11.5])
def test_who_has_one_permit_grows_within_some_seconds_where_there_is_more(moment: float) -> None:
    law, world = AdaptiveLimit(), World()
    server = Server(world, Behaviour(slots=1, over_slots="reject", changes=((moment, 20),)))
    Client(world, server, law)

    world.run(moment)
    assert law.limit <= 2
    world.run(moment + 4.0)

    assert law.limit >= 10


def test_slots_that_become_more_are_found_as_before() -> None:
    more = Behaviour(slots=5, over_slots="reject", changes=((20.0, 40),))

    played = play_alone(more, AdaptiveLimit(), lines=9000)

    assert played.goodput > 0.85


def test_many_permits_are_never_spread() -> None:
    law = Watched()

    play_alone(Behaviour(slots=40, over_slots="reject"), law, lines=8000)

    assert LimitState.SPREADING not in law.states


def test_a_limit_that_may_not_grow_is_not_spread() -> None:
    law = Watched(Adaptive(minimum=2, maximum=2))

    for call in range(10):
        law.on_result(call * 0.1, 0.1, Signal.SUCCESS, 2)
    for _ in range(10):
        law.on_result(1.0, 0.002, Signal.OVERLOAD, 2)
    assert law.state is LimitState.PACED  # there is no permit to take back
    for call in range(60):
        law.on_result(2.0 + call * 0.1, 0.1, Signal.SUCCESS, 2)

    assert law.state is LimitState.FOLLOWING
    assert LimitState.SPREADING not in law.states


def spreading() -> Watched:
    """Give a law that is spreading the starts right now."""

    class FoundError(Exception):
        pass

    class Until(Watched):
        def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:
            limit = super().on_result(now, latency, signal, in_flight, kind)
            if self.state is LimitState.SPREADING:
                raise FoundError
            return limit

    law = Until()
    with pytest.raises(FoundError):
        play_alone(STRICT, law, lines=2000)
    return law


def test_a_throttled_answer_ends_it_with_the_limit_of_before() -> None:
    law = spreading()
    before = law.learned

    AdaptiveLimit.on_result(law, 1000.0, 0.002, Signal.OVERLOAD, 2)
    AdaptiveLimit.on_result(law, 1000.0, 0.002, Signal.OVERLOAD, 2)
    AdaptiveLimit.on_result(law, 1000.0, 0.002, Signal.OVERLOAD, 2)

    assert before is not None
    assert law.state is LimitState.HOLDING
    assert (law.limit, law.rate) == (before.limit, None)


@pytest.mark.parametrize("event", ["an outage", "more in flight"])
def test_what_comes_between_ends_it(event: str) -> None:
    law = spreading()
    before = law.learned

    if event == "an outage":
        law.resume(1000.0, 990.0)
    else:
        law.expect_more(1000.0)

    assert before is not None
    assert law.state is not LimitState.SPREADING
    assert law.rate is None
    assert law.limit >= before.limit


def test_who_goes_on_where_another_was_paced_takes_small_steps() -> None:
    law = AdaptiveLimit.started_at(0.0, LearnedLimit(40, 98.0))

    played = play_alone(Behaviour(rate=100.0, burst=20), law, lines=1000)

    assert played.throttled < 0.03
    assert played.goodput > 0.95


@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_a_rate_of_a_few_calls_a_second_is_kept(rate: float) -> None:
    slow = Behaviour(rate=rate, burst=1, latency=0.2, retry_after=1.0)

    played = play_alone(slow, AdaptiveLimit(), lines=int(1000 * rate))

    assert played.goodput > 0.85
    assert played.throttled < 0.1
