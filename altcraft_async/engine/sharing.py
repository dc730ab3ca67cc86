"""The gate that a client's settings ask for, with what it shares with others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from altcraft_async.engine.gate import Gate
from altcraft_async.flow.adaptive import AdaptiveLimit, make_limit, make_limit_of_batches
from altcraft_async.flow.limit import Adaptive, Shared
from altcraft_async.flow.share import GroupLimit
from altcraft_async.flow.total import SharedTotal

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.flow.limit import ConcurrencyLimit, LearnedLimit
    from altcraft_async.settings import Settings

__all__ = ["make_gate", "names_of"]


def make_gate(
    settings: Settings, name: Callable[[str], str | None], *, in_group: bool, notifier: Notifier | None
) -> Gate:
    """Make the gate of a client.

    `name` gives the name of a group for what its members share, as `names_of` says it; and None while it cannot be
    known. An adaptive limit is only shared `in_group`.
    """
    totals = _totals_of(settings)
    adaptive = _adaptive_of(settings) if in_group else None
    if adaptive is not None or totals:
        from altcraft_async.engine.group import Group  # noqa: PLC0415 - for an import as quick as can be
    groups = [Group(total, partial(name, _total_name(total.whole))) for total in totals if total.among == "host"]
    law: ConcurrencyLimit
    concurrency = settings.concurrency
    if isinstance(concurrency, Shared):
        law = next(total for total in totals if total.among == concurrency.among)
    else:
        law = make_limit(concurrency)
        if adaptive is not None and isinstance(law, AdaptiveLimit):
            law = GroupLimit(law)
            groups.append(Group(law, partial(name, _adaptive_name(adaptive)), remembers=settings.remember))
    rate = None if isinstance(settings.rate, Shared) else settings.rate
    most = concurrency if isinstance(concurrency, Adaptive) else _number(concurrency)
    return Gate(
        law,
        make_limit_of_batches(most),
        rate=rate,
        notifier=notifier,
        groups=groups,
        totals=totals,
        remembers=settings.remember,
    )


def names_of(settings: Settings) -> list[str]:
    """Say what a client shares on this host: processes that say the same, of one address and token, are one group."""
    names = [_total_name(total.whole) for total in _totals_of(settings) if total.among == "host"]
    adaptive = _adaptive_of(settings)
    return names if adaptive is None else [*names, _adaptive_name(adaptive)]


def _total_name(whole: LearnedLimit) -> str:
    return f"{whole.limit} {whole.rate}"


def _adaptive_name(adaptive: Adaptive) -> str:
    """Name an adaptive limit by all its settings, since the member that leads runs the law for all by its own."""
    return f"{adaptive.minimum} {adaptive.initial} {adaptive.maximum} {float(adaptive.headroom)}"


def _adaptive_of(settings: Settings) -> Adaptive | None:
    concurrency = settings.concurrency
    return concurrency if isinstance(concurrency, Adaptive) and settings.group == "host" else None


def _number(concurrency: int | Shared) -> int:
    return int(concurrency.total) if isinstance(concurrency, Shared) else concurrency


def _totals_of(settings: Settings) -> list[SharedTotal]:
    """Make what the client has of known totals: one for both, where the same members share both."""
    permits = settings.concurrency if isinstance(settings.concurrency, Shared) else None
    rate = settings.rate if isinstance(settings.rate, Shared) else None
    if permits is not None and rate is not None and permits.among != rate.among:
        return [SharedTotal(permits), SharedTotal(rate=rate)]
    return [] if permits is rate is None else [SharedTotal(permits, rate)]
