"""A few plays whose figures say whether a change to the law makes anything worse: JSON of names and numbers.

In all of them a lower number is better: what was lost of the ideal, the share of throttled sends, the peak in flight
above the slots, the time after an outage, what a member lacks of its fair share, and the latency.
"""

from __future__ import annotations

import json
import sys

from scenarios import SERVERS, play_alone, play_fleet

from altcraft_async.flow.adaptive import AdaptiveLimit

__all__ = ["figures"]

ALONE = (
    "queue-jitter", "reject", "reject-jitter", "halves", "halves-reject", "rate", "rate-jitter", "rate-quick",
    "rate-strict", "rate-strict-jitter", "rate-retry-after", "rate-seconds", "rate-sliding", "knee-steep", "flaky",
    "flaky-open", "flaky-reject", "outage-early", "outage-rejects",
)  # fmt: skip
STRANGERS = ("reject", "queue-jitter", "rate")
GROUPS = ("reject-jitter", "rate")
PLAYS = 4
"""Plays of several clients, of which the mean counts: one says little of strangers."""


def figures() -> dict[str, float]:
    """Play, the same each time."""
    found: dict[str, float] = {}
    for server in ALONE:
        lines = 3000 if SERVERS[server].rate else 10_000
        played = [play_alone(SERVERS[server], AdaptiveLimit(), lines=lines, seed=seed) for seed in range(2)]
        found[f"{server}: lost"] = sum(1 - one.goodput for one in played) / 2
        found[f"{server}: throttled"] = sum(one.throttled for one in played) / 2
        found[f"{server}: peak"] = max(one.peak for one in played) / 500
        found[f"{server}: back"] = max(one.back or 0.0 for one in played) / 10
    for name, make, servers in (("strangers", AdaptiveLimit, STRANGERS), ("group", None, GROUPS)):
        for server in servers:
            plays = [play_fleet(SERVERS[server], make, 4, seed=seed, seconds=60.0) for seed in range(PLAYS)]
            found[f"{name}, {server}: lost"] = sum(1 - one.goodput for one in plays) / PLAYS
            found[f"{name}, {server}: unfair"] = sum(1 - one.smallest for one in plays) / PLAYS
            found[f"{name}, {server}: throttled"] = sum(one.throttled for one in plays) / PLAYS
            found[f"{name}, {server}: latency"] = sum(one.late for one in plays) / 10 / PLAYS
            found[f"{name}, {server}: after a leaver"] = sum(min(30.0, one.taken_after) for one in plays) / 30 / PLAYS
    return found


if __name__ == "__main__":
    json.dump(figures(), sys.stdout)
