"""Other client-side limits, modelled again from their sources, to compare ours with.

| name | source |
|---|---|
| `Arc` | Vector, `src/sinks/util/adaptive_concurrency/controller.rs` (see `limits.py` beside this directory) |
| `Gradient2` | Netflix, `concurrency-limits`, `limit/Gradient2Limit.java` with `WindowedLimit.java` |
| `Aimd` | Netflix, `concurrency-limits`, `limit/AIMDLimit.java` |
| `EnvoyGradient` | Envoy, `filters/http/adaptive_concurrency/controller/gradient_controller.cc` |
| `Cubic` | RFC 9438, a permit in the place of a segment |

They are what the sources say with default settings, without the code around them; Envoy's and Netflix's were made for
the other end of the line, where a refusal is the limiter's own.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from altcraft_async.flow.limit import LimitStatistics, Signal

sys.path.append(str(Path(__file__).parents[1]))
from limits import AdaptiveRequestConcurrency as Arc

__all__ = ["OTHERS", "Aimd", "Arc", "Cubic", "EnvoyGradient", "Gradient2"]


class _Law:
    """What all have: a limit that is a whole number, no pace, and nothing to do with pauses and outages."""

    def __init__(self, initial: float, low: float, high: float) -> None:
        self._exact, self._low, self._high = initial, low, high
        self.limit = int(initial)
        self.rate: float | None = None

    def _set(self, limit: float) -> None:
        self._exact = max(self._low, min(self._high, limit))
        self.limit = int(self._exact)

    def on_pause(self, now: float, seconds: float) -> int:  # noqa: ARG002
        """Change nothing."""
        return self.limit

    def resume(self, now: float, since: float) -> None:
        """Change nothing."""

    def statistics(self) -> LimitStatistics:
        """Take a snapshot."""
        return LimitStatistics(self.limit)


class Gradient2(_Law):
    """Netflix's: the long average of the round trip against that of the last second; drops are not looked at."""

    def __init__(self) -> None:
        super().__init__(20, 20, 200)
        self._long, self._count = 0.0, 0
        self._sum, self._samples, self._peak, self._ends = 0.0, 0, 0, 1.0

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Learn from one ended call."""
        if signal is Signal.SUCCESS:
            self._sum, self._samples, self._peak = self._sum + latency, self._samples + 1, max(self._peak, in_flight)
        if now < self._ends or self._samples < 10:
            return self.limit
        short = self._sum / self._samples
        self._count += 1
        factor = 2.0 / (600 + 1)
        grown = (self._long * (self._count - 1) + short) / self._count
        self._long = grown if self._count <= 10 else self._long * (1 - factor) + short * factor
        if self._long / short > 2:
            self._long *= 0.95
        if self._peak >= self._exact / 2:
            gradient = max(0.5, min(1.0, 1.5 * self._long / short))
            self._set(self._exact * 0.8 + (self._exact * gradient + 4) * 0.2)
        self._sum, self._samples, self._peak, self._ends = 0.0, 0, 0, now + 1.0
        return self.limit


class Aimd(_Law):
    """Netflix's: one more for each call while half is in use, a tenth less for each drop."""

    def __init__(self) -> None:
        super().__init__(20, 20, 200)

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Learn from one ended call."""
        if signal is Signal.OVERLOAD or latency > 5.0:
            self._set(self._exact * 0.9)
        elif in_flight * 2 >= self.limit:
            self._set(self._exact + 1)
        return self.limit


class EnvoyGradient(_Law):
    """Envoy's: the best round trip, measured again each minute with three calls at once, against each 100 ms' 90th."""

    def __init__(self) -> None:
        super().__init__(3, 3, 1000)
        self._best, self._trial, self._ends, self._again = math.inf, 0, 0.0, 60.0
        self._samples: list[float] = []
        self._kept = 3.0

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Learn from one ended call."""
        if signal is not Signal.SUCCESS:
            return self.limit
        if self._trial >= 0:
            self._samples.append(latency)
            self._trial += 1
            if self._trial >= 50:
                self._best = sorted(self._samples)[len(self._samples) * 9 // 10]
                self._samples, self._trial, self._ends, self._again = [], -1, now + 0.1, now + 60.0
                self._set(self._kept)
            return self.limit
        self._samples.append(latency)
        if now < self._ends or len(self._samples) < 5:
            return self.limit
        seen = sorted(self._samples)[len(self._samples) * 9 // 10]
        gradient = max(0.5, min(2.0, self._best * 1.25 / seen))
        self._set(self._exact * gradient + math.sqrt(self._exact * gradient))
        self._samples, self._ends = [], now + 0.1
        if now >= self._again:
            self._kept, self._trial = self._exact, 0
            self._set(3)
        return self.limit


class Cubic(_Law):
    """CUBIC: a cut of three tenths once a round trip, and back on a curve that is flat at the old limit."""

    def __init__(self) -> None:
        super().__init__(10, 1, 1000)
        self._most, self._cut_at, self._trip, self._slow_start = 10.0, -math.inf, 0.1, True

    def on_result(self, now: float, latency: float, signal: Signal, in_flight: int, kind: str = "") -> int:  # noqa: ARG002
        """Learn from one ended call."""
        if signal is Signal.OVERLOAD:
            if now > self._cut_at + self._trip:
                self._most, self._cut_at, self._slow_start = self._exact, now, False
                self._set(self._exact * 0.7)
        elif signal is Signal.SUCCESS:
            self._trip += 0.1 * (latency - self._trip)
            if in_flight < 0.5 * self.limit:
                return self.limit
            if self._slow_start:
                self._set(self._exact + 1)
            else:
                k = (self._most * 0.3 / 0.4) ** (1 / 3)
                target = 0.4 * (now - self._cut_at - k) ** 3 + self._most
                self._set(self._exact + max(0.0, min(target, 1.5 * self._exact) - self._exact) / self._exact)
        return self.limit


OTHERS = {
    "ARC (Vector)": Arc,
    "Gradient2 (Netflix)": Gradient2,
    "AIMD (Netflix)": Aimd,
    "gradient (Envoy)": EnvoyGradient,
    "CUBIC on permits": Cubic,
}
