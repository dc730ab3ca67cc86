"""The defaults that are promised."""

from __future__ import annotations

import attrs

from altcraft_async import Adaptive, OutagePolicy, RetryPolicy
from altcraft_async.flow.retry import RetryBudget


def test_of_a_call() -> None:
    policy = RetryPolicy()

    assert (policy.attempts, policy.base, policy.max_delay, policy.max_retry_after) == (5, 0.5, 30.0, 60.0)


def test_of_an_outage() -> None:
    assert attrs.astuple(OutagePolicy()) == (1800.0, 60.0, 5.0, False)


def test_of_the_limit() -> None:
    assert attrs.astuple(Adaptive()) == (1, 10, 256, 1.25)


def test_a_success_pays_half_a_retry() -> None:
    budget = RetryBudget(10.0)
    for _ in range(4):
        budget.spend()
    budget.on_success()

    assert budget.tokens == 6.5
