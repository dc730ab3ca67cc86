"""What can go wrong, chosen in advance: fault values and the seeded plan that deals them out.

Pure: time and the seed are arguments, nothing here sleeps or sends. The server
asks a `FaultPlan` about each request and does what it is told. The law:

* the n-th request that a plan is asked about always gets the same fault for
  the same seed, whatever came before it;
* the first rule that has an opinion decides: the faults of the request's order
  line, then the script, then the shares;
* assigning new `Faults` starts a new plan from the same seed.
"""

from __future__ import annotations

import enum
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError

__all__ = ["Fault", "FaultKind", "FaultPlan", "Faults", "LineFaults", "Script"]


class FaultKind(enum.StrEnum):
    """What happens to one request; `applies` tells whether its change is made."""

    DELAY = "delay"
    """Nothing but `Fault.delay`; answered as usual."""
    ERROR = "error"
    """An envelope with `Fault.status`; the change is not made."""
    ERROR_AFTER = "error_after"
    """An envelope with `Fault.status`, although the change was made."""
    HTML = "html"
    """A proxy's HTML page with `Fault.status`; the change is not made."""
    RESET_BEFORE = "reset_before"
    """A TCP reset; the change is not made."""
    RESET_AFTER = "reset_after"
    """A TCP reset after the change was made."""
    TRUNCATED = "truncated"
    """Made, and the connection is closed in the middle of the answer."""
    MALFORMED = "malformed"
    """Made, and the answer is whole for HTTP but cut inside its JSON or XML."""
    OVERSIZED = "oversized"
    """Made, and the answer is valid but `Fault.size` bytes long, sent without a length."""
    SLOW_BODY = "slow_body"
    """Made, and the answer's body drips out over `Fault.drip` seconds."""

    @property
    def applies(self) -> bool:
        """Whether the request is processed (its change made) before the fault shows."""
        return self not in _BEFORE


_BEFORE = frozenset({FaultKind.ERROR, FaultKind.HTML, FaultKind.RESET_BEFORE})


@attrs.frozen
class Fault:
    """One fault of one request.

    `status` is the HTTP status of the kinds that answer an error; 0 means 500, or 502 for HTML. `retry_after`
    (seconds) adds the header ``Retry-After``. `delay` holds the request for that many seconds first, in addition to
    the latency. `size` (bytes) and `drip` (seconds) belong to the kinds that name them. `lasting` ends the fault of a
    line that many seconds after the line's first request.
    """

    kind: FaultKind = attrs.field(converter=FaultKind)
    status: int = attrs.field(default=0, kw_only=True)
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    delay: float = attrs.field(default=0.0, kw_only=True)
    size: int = attrs.field(default=32 * 2**20, kw_only=True)
    drip: float = attrs.field(default=1.0, kw_only=True)
    lasting: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Fill in the usual status of the kind."""
        if not self.status:
            object.__setattr__(self, "status", 502 if self.kind is FaultKind.HTML else 500)


Script: TypeAlias = Sequence[Fault | None] | Callable[[int, str], Fault | None]
"""Faults of the first requests in order, or ``(request_number, path) -> Fault | None``; numbers start at 1."""

LineFaults: TypeAlias = (
    Mapping[tuple[str, str], Fault | Sequence[Fault | None]] | Callable[[str, str, int], Fault | None]
)
"""Faults of chosen order lines: one for all of a line's requests, or one for each of its first requests,
or ``(order, line, nth request of the line) -> Fault | None``."""

_SHARES = (
    "too_many_requests",
    "error_500",
    "error_502",
    "error_503",
    "error_after",
    "html_502",
    "reset_before",
    "reset_after",
    "truncated",
    "malformed",
    "oversized",
    "slow_body",
)
_MIXED = (
    "too_many_requests",
    "error_500",
    "error_502",
    "error_503",
    "html_502",
    "reset_before",
    "reset_after",
    "truncated",
    "malformed",
    "error_after",
)


def _not_negative(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (value >= 0 and math.isfinite(value)):
        msg = f"{attribute.name} must be a number from 0 up, not {value!r}"
        raise ConfigurationError(msg, field=attribute.name)


def _positive(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        msg = f"{attribute.name} must be above 0, not {value!r}"
        raise ConfigurationError(msg, field=attribute.name)


def _names(values: Collection[str]) -> Collection[str]:
    return frozenset(values)


def _share() -> float:
    value: float = attrs.field(default=0.0, validator=_not_negative)
    return value


@attrs.frozen(kw_only=True)
class Faults:
    """How a sandbox misbehaves. By default it does not.

    Time: every processed request takes `latency` seconds. `jitter` is a part of
    the latency: ``"uniform"`` spreads it evenly over ``latency * (1 ± jitter)``,
    ``"exponential"`` adds an exponential time of mean ``latency * jitter``.

    Capacity: at most `slots` requests are processed at once; one more waits its turn (``"queue"``) or is answered 429
    (``"reject"``). At most `rate` requests a second are let in, after `burst` at once (default: one second's worth);
    the others are answered 429. Each 429 that this value causes, and each 503, has `retry_after` (seconds; None: no
    header), as a number or as an HTTP ``"date"``. A date has whole seconds, and a number with a fraction is more than
    HTTP promises.

    Shares, each 0 to 1, together at most 1: the parts of all requests that meet
    each fault (see `FaultKind`; ``error_after`` answers 500). `oversized_bytes` and
    `slow_body_seconds` measure two of them.

    `script` and `lines` name the faults of single requests and order lines, and
    come before the shares; a sequence in `script` gives way to the shares once
    it is used up. `only` names the methods concerned, for example
    ``"market/orders/import"``; by default all are.
    """

    latency: float = attrs.field(default=0.0, validator=_not_negative)
    jitter: float = attrs.field(default=0.0, validator=_not_negative)
    jitter_form: Literal["uniform", "exponential"] = attrs.field(
        default="uniform", validator=attrs.validators.in_(("uniform", "exponential"))
    )
    slots: int | None = attrs.field(default=None, validator=_positive)
    over_slots: Literal["queue", "reject"] = attrs.field(
        default="queue", validator=attrs.validators.in_(("queue", "reject"))
    )
    rate: float | None = attrs.field(default=None, validator=_positive)
    burst: float | None = attrs.field(default=None, validator=_positive)
    retry_after: float | None = attrs.field(default=None, validator=_not_negative)
    retry_after_form: Literal["seconds", "date"] = attrs.field(
        default="seconds", validator=attrs.validators.in_(("seconds", "date"))
    )
    too_many_requests: float = _share()
    error_500: float = _share()
    error_502: float = _share()
    error_503: float = _share()
    error_after: float = _share()
    html_502: float = _share()
    reset_before: float = _share()
    reset_after: float = _share()
    truncated: float = _share()
    malformed: float = _share()
    oversized: float = _share()
    slow_body: float = _share()
    oversized_bytes: int = attrs.field(default=32 * 2**20, validator=_positive)
    slow_body_seconds: float = attrs.field(default=1.0, validator=_not_negative)
    script: Script | None = None
    lines: LineFaults | None = None
    only: Collection[str] = attrs.field(default=(), converter=_names)

    def __attrs_post_init__(self) -> None:
        """Refuse shares that cannot be parts of one whole."""
        if self.share > 1 + 1e-9:
            msg = f"the shares of all faults add up to {self.share:g}; together they can be at most 1"
            raise ConfigurationError(msg, field="faults")
        if self.jitter_form == "uniform" and self.jitter > 1:
            msg = f"uniform jitter is at most 1 (a latency cannot be negative), not {self.jitter:g}"
            raise ConfigurationError(msg, field="jitter")

    @property
    def share(self) -> float:
        """The part of all requests that meets a fault by chance."""
        return math.fsum(getattr(self, name) for name in _SHARES)

    @classmethod
    def mixed(cls, share: float, /, **others: object) -> Faults:
        """Spread `share` evenly over every quick fault: 429, 5xx, HTML, resets, broken answers.

        `others` are the remaining fields, for example ``latency=0.01``.
        """
        each = dict.fromkeys(_MIXED, share / len(_MIXED))
        return cls(**{**each, **others})  # type: ignore[arg-type]

    def chances(self) -> tuple[list[float], list[Fault]]:
        """Return the rising upper bounds, from 0 to `share`, and the fault below each."""
        made = {
            "too_many_requests": Fault(FaultKind.ERROR, status=429, retry_after=self.retry_after),
            "error_500": Fault(FaultKind.ERROR, status=500),
            "error_502": Fault(FaultKind.ERROR, status=502),
            "error_503": Fault(FaultKind.ERROR, status=503, retry_after=self.retry_after),
            "error_after": Fault(FaultKind.ERROR_AFTER, status=500),
            "html_502": Fault(FaultKind.HTML),
            "reset_before": Fault(FaultKind.RESET_BEFORE),
            "reset_after": Fault(FaultKind.RESET_AFTER),
            "truncated": Fault(FaultKind.TRUNCATED),
            "malformed": Fault(FaultKind.MALFORMED),
            "oversized": Fault(FaultKind.OVERSIZED, size=self.oversized_bytes),
            "slow_body": Fault(FaultKind.SLOW_BODY, drip=self.slow_body_seconds),
        }
        names = [name for name in _SHARES if getattr(self, name) > 0]
        return list(accumulate(getattr(self, name) for name in names)), [made[name] for name in names]


class FaultPlan:
    """Deals the faults of `Faults` to requests, in the order in which it is asked."""

    __slots__ = (
        "_bounds",
        "_chance",
        "_dealt",
        "_line_asked",
        "_rate_full_at",
        "_times",
        "faults",
        "number",
    )

    def __init__(self, faults: Faults, seed: int = 0) -> None:
        self.faults = faults
        self.number = 0
        self._chance = random.Random(f"faults {seed}")  # noqa: S311 - chosen to be repeatable
        self._times = random.Random(f"latency {seed}")  # noqa: S311 - a stream of its own: the faults do not shift it
        self._bounds, self._dealt = faults.chances()
        self._line_asked: dict[tuple[str, str], tuple[int, float]] = {}
        self._rate_full_at = -math.inf

    def next(self, path: str, line: tuple[str, str] | None, now: float) -> Fault | None:
        """Return the fault of the next request, of method `path` and about `line`, or None.

        `now` is in seconds of any steady clock, the same one each time.
        """
        faults = self.faults
        if faults.only and path not in faults.only:
            return None
        self.number += 1
        by_chance = self._by_chance()
        if faults.lines is not None and line is not None:
            fault = self._of_line(faults.lines, line, now)
            if fault is not None:
                return fault
        script = faults.script
        if callable(script):
            return script(self.number, path) or by_chance
        if script is not None and self.number <= len(script):
            return script[self.number - 1]
        return by_chance

    def latency(self) -> float:
        """Return the seconds that the processing of the next request takes."""
        faults = self.faults
        if not faults.latency or not faults.jitter:
            return faults.latency
        if faults.jitter_form == "exponential":
            return faults.latency * (1 + faults.jitter * self._times.expovariate(1.0))
        return faults.latency * (1 + faults.jitter * self._times.uniform(-1.0, 1.0))

    def admit(self, now: float) -> bool:
        """Return whether the rate limit lets one more request in at `now`, and count it if so.

        The generic cell rate algorithm: a bucket of `Faults.burst` that drains
        at `Faults.rate`.
        """
        rate = self.faults.rate
        if rate is None:
            return True
        burst = self.faults.burst or max(rate, 1.0)
        level_at = max(self._rate_full_at, now)
        if level_at - now > (burst - 1) / rate + 1e-9:
            return False
        self._rate_full_at = level_at + 1 / rate
        return True

    def throttled(self) -> Fault:
        """Return the 429 for a request above the capacity or the rate."""
        return Fault(FaultKind.ERROR, status=429, retry_after=self.faults.retry_after)

    def _by_chance(self) -> Fault | None:
        # Drawn for each request, also where a rule decides, so that the n-th request's draw never moves.
        if not self._bounds:
            return None
        index = bisect_right(self._bounds, self._chance.random())
        return self._dealt[index] if index < len(self._dealt) else None

    def _of_line(self, lines: LineFaults, line: tuple[str, str], now: float) -> Fault | None:
        entry = None
        if not callable(lines):
            entry = lines.get(line)
            if entry is None:
                return None
        asked, first = self._line_asked.get(line, (0, now))
        self._line_asked[line] = (asked + 1, first)
        if callable(lines):
            fault = lines(line[0], line[1], asked + 1)
        elif isinstance(entry, Fault):
            fault = entry
        else:
            fault = entry[asked] if entry is not None and asked < len(entry) else None
        if fault is not None and fault.lasting is not None and now - first >= fault.lasting:
            return None
        return fault
