"""The ways in which the sandbox can be told to misbehave, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.sandbox import Faults

__all__ = ["PRESETS", "faults_of"]

PRESETS = {
    "none": "answers at once and always",
    "mixed": "24 slots of 40 ms; 10 % of requests meet a 429, 5xx, HTML page, reset or broken answer",
    "harsh": "24 slots of 40 ms; 30 % of requests meet one of these",
    "throttled": "at most 400 calls a second; above that 429 with Retry-After",
    "slow": "24 slots of 150 ms with long tails",
}
"""Each preset, and what it does."""


def faults_of(preset: str) -> Faults:
    """Return the faults of a preset."""
    from altcraft_async.sandbox import Faults  # noqa: PLC0415 - slow to import, and most commands need only the names

    if preset == "mixed":
        return Faults.mixed(0.10, latency=0.04, jitter=0.3, slots=24, retry_after=0.05)
    if preset == "harsh":
        return Faults.mixed(0.30, latency=0.04, jitter=0.3, slots=24, retry_after=0.05)
    if preset == "throttled":
        return Faults(latency=0.02, jitter=0.3, rate=400, burst=40, retry_after=0.1)
    if preset == "slow":
        return Faults(latency=0.1, jitter=0.5, jitter_form="exponential", slots=24)
    return Faults()
