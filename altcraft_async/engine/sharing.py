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

__all__ = ["make_gate", "total_name", "totals_of"]


def make_gate(
    settings: Settings, name: Callable[[str], str | None], *, in_group: bool, notifier: Notifier | None
) -> Gate:
    """Make the gate of a client.

    `name` gives the name of a group for the total that its members know, a text that is empty where they find the
    limit; and None while it cannot be known. An adaptive limit is only shared `in_group`.
    """
    totals = totals_of(settings)
    adaptive = isinstance(settings.concurrency, Adaptive) and in_group and settings.group == "host"
    if adaptive or totals:
        from altcraft_async.engine.group import Group  # noqa: PLC0415 - for an import as quick as can be
    groups = [Group(total, partial(name, total_name(total.whole))) for total in totals if total.among == "host"]
    law: ConcurrencyLimit
    concurrency = settings.concurrency
    if isinstance(concurrency, Shared):
        law = next(total for total in totals if total.among == concurrency.among)
    else:
        law = make_limit(concurrency)
        if adaptive and isinstance(law, AdaptiveLimit):
            law = GroupLimit(law)
            groups.append(Group(law, partial(name, ""), remembers=settings.remember))
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


def total_name(whole: LearnedLimit) -> str:
    """Give the name of a total among those of one address and token."""
    return f"{whole.limit} {whole.rate}"


def _number(concurrency: int | Shared) -> int:
    return int(concurrency.total) if isinstance(concurrency, Shared) else concurrency


def totals_of(settings: Settings) -> list[SharedTotal]:
    """Make what the client has of known totals: one for both, where the same members share both."""
    permits = settings.concurrency if isinstance(settings.concurrency, Shared) else None
    rate = settings.rate if isinstance(settings.rate, Shared) else None
    if permits is not None and rate is not None and permits.among != rate.among:
        return [SharedTotal(permits), SharedTotal(rate=rate)]
    return [] if permits is rate is None else [SharedTotal(permits, rate)]
