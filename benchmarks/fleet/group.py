"""A group in the simulation: reports and shares go through memory, a tick apart, as they go through a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import LearnedLimit
from altcraft_async.flow.share import TICK, GroupLimit, Load, Report, Role, Share

if TYPE_CHECKING:
    from world import Client, World

__all__ = ["SimulatedGroup"]

_DEAD_AFTER = 0.3
"""Seconds until a member that died is noticed."""


class SimulatedGroup:
    """The members of one group, each with ticks of its own; the first that is there leads."""

    def __init__(self, world: World, members: int) -> None:
        self.world = world
        self.limits = [GroupLimit(AdaptiveLimit()) for _ in range(members)]
        self._clients: list[Client] = []
        self._reports: dict[int, Report] = {}
        self._shares: dict[int, Share] = {}
        self._seen: dict[int, float] = {}
        self._leader = 0
        self._total = 1

    def attach(self, clients: list[Client]) -> None:
        """Let the members tick from the moment they join."""
        self._clients = clients
        for number, client in enumerate(clients):
            client.limit = 0  # it looks who is there before its first call
            self.world.at(client.joins, self._tick, number)

    def _tick(self, number: int) -> None:
        world, client, limit = self.world, self._clients[number], self.limits[number]
        now = world.now
        if now >= client.leaves:
            return
        report = limit.report(now, Load(client.in_flight, waiting=client.waits))
        self._seen[number] = now
        there = [other for other, at in self._seen.items() if now - at < _DEAD_AFTER + TICK]
        if self._leader not in there:
            self._leader = number
            limit.take_over(now, LearnedLimit(self._total))
        if len(there) == 1:
            limit.stay_alone()
        elif self._leader == number:
            there.remove(number)
            others = {other: self._reports[other] for other in there if other in self._reports}
            self._shares.update(limit.lead(now, report, others))
            self._reports = {other: attrs.evolve(one, calls=()) for other, one in self._reports.items()}
        else:
            before = self._reports.get(number)
            untold = () if before is None else before.calls
            self._reports[number] = attrs.evolve(report, calls=[*untold, *report.calls])
            share = self._shares.get(number)
            if share is not None:
                limit.follow(share, self._total, len(there))
            elif limit.role is not Role.FOLLOWING:
                limit.join(self._total, len(there))
        if self._leader == number:
            self._total = limit.law.limit
        client.resize()
        world.at(now + TICK, self._tick, number)
