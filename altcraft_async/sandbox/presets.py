"""The ways to misbehave that have a name: for the command line, the admin API, the page and scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "Preset", "preset"]


@attrs.frozen
class Preset:
    """Faults with a name, and what a server with them does."""

    text: str
    faults: Faults


def _broken(share: float) -> Faults:
    each = share / 8
    return Faults(
        latency=0.04, jitter=0.3, slots=24, over_slots="reject", retry_after=0.05,
        error_500=each, error_502=each, html_502=each, error_after=each,
        reset_before=each, reset_after=each, truncated=each, malformed=each,
    )  # fmt: skip


PRESETS: Final[Mapping[str, Preset]] = {
    "none": Preset("answers at once and always", Faults()),
    "mixed": Preset(
        "24 calls at once, 429 above; 10 % of requests meet a 5xx, HTML page, reset or broken answer", _broken(0.10)
    ),
    "harsh": Preset("24 calls at once, 429 above; 30 % of requests meet one of these", _broken(0.30)),
    "throttled": Preset(
        "at most 400 calls a second; above that 429 with Retry-After",
        Faults(latency=0.02, jitter=0.3, rate=400, burst=40, retry_after=0.1),
    ),
    "slow": Preset(
        "24 slots of 150 ms with long tails", Faults(latency=0.1, jitter=0.5, jitter_form="exponential", slots=24)
    ),
    "down": Preset("answers every call with a gateway's page 502", Faults(html_502=1.0)),
}
"""Each preset, by name."""


def preset(name: object) -> Faults:
    """Return the faults of a preset; raises `ConfigurationError` where there is none of this name."""
    found = PRESETS.get(name) if isinstance(name, str) else None
    if found is None:
        msg = f"preset must be one of {', '.join(PRESETS)}, not {str(name)[:80]!r}"
        raise ConfigurationError(msg, field="preset")
    return found.faults
