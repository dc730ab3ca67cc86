"""The ways in which the sandbox can be told to misbehave, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.sandbox import Faults

__all__ = ["PRESETS", "faults_of"]

PRESETS = {
    "none": "answers at once and always",
    "mixed": "24 calls at once, 429 above; 10 % of requests meet a 5xx, HTML page, reset or broken answer",
    "harsh": "24 calls at once, 429 above; 30 % of requests meet one of these",
    "throttled": "at most 400 calls a second; above that 429 with Retry-After",
    "slow": "24 slots of 150 ms with long tails",
}
"""Each preset, and what it does."""

_SHARES = {"mixed": 0.10, "harsh": 0.30}


def faults_of(preset: str) -> Faults:
    """Return the faults of a preset."""
    from altcraft_async.sandbox import Faults  # noqa: PLC0415 - slow to import, and most commands need only the names

    if preset in _SHARES:
        each = _SHARES[preset] / 8
        return Faults(
            latency=0.04, jitter=0.3, slots=24, over_slots="reject", retry_after=0.05,
            error_500=each, error_502=each, html_502=each, error_after=each,
            reset_before=each, reset_after=each, truncated=each, malformed=each,
        )  # fmt: skip
    if preset == "throttled":
        return Faults(latency=0.02, jitter=0.3, rate=400, burst=40, retry_after=0.1)
    if preset == "slow":
        return Faults(latency=0.1, jitter=0.5, jitter_form="exponential", slots=24)
    return Faults()
