"""The defaults that are promised, and the numbers that files have."""

from __future__ import annotations

import attrs
import pytest

from altcraft_async import Adaptive, FailureLimit, OutagePolicy, OutcomeState, RetryPolicy, Shared
from altcraft_async.flow.outage import FIRST_WAIT, LONG_WAIT, SHORT_WAIT, SILENT, THRESHOLD
from altcraft_async.flow.retry import RetryBudget


def test_of_a_call() -> None:
    policy = RetryPolicy()

    assert (policy.attempts, policy.base, policy.max_delay, policy.max_retry_after) == (5, 0.5, 30.0, 60.0)


def test_of_an_outage() -> None:
    assert attrs.astuple(OutagePolicy()) == (1800.0, 60.0, 5.0, False)


def test_of_the_probes_of_an_outage() -> None:
    assert (FIRST_WAIT, SHORT_WAIT, LONG_WAIT, SILENT, THRESHOLD) == (0.25, 1.0, 5.0, 5.0, 3)


def test_of_the_limit() -> None:
    assert attrs.astuple(Adaptive()) == (1, 10, 256, 1.25)


@pytest.mark.parametrize("kind", [Adaptive, FailureLimit, OutagePolicy, RetryPolicy])
def test_settings_are_given_by_name(kind: type) -> None:
    with pytest.raises(TypeError, match="positional"):
        kind(1)


def test_who_shares_a_total_is_given_by_name() -> None:
    assert Shared(64).among == "host"
    with pytest.raises(TypeError, match="positional"):
        Shared(64, "drainers")  # type: ignore[misc]


def test_a_success_pays_half_a_retry() -> None:
    budget = RetryBudget(10.0)
    for _ in range(4):
        budget.spend()
    budget.on_success()

    assert budget.tokens == 6.5


def test_the_numbers_that_stand_for_states_in_files() -> None:
    numbers = {state: state.number for state in OutcomeState}

    assert numbers == {
        OutcomeState.APPLIED: 0,
        OutcomeState.DUPLICATE: 1,
        OutcomeState.REJECTED: 2,
        OutcomeState.UNKNOWN: 3,
        OutcomeState.NOT_SENT: 4,
        OutcomeState.SUPERSEDED: 5,
        OutcomeState.INVALID: 6,
    }
