"""When a run has failed so often that it stops."""

from __future__ import annotations

import pytest

from altcraft_async import ConfigurationError, FailureLimit, OutcomeState
from altcraft_async.flow.failures import FailureCount

COUNTED = {"rejected", "unknown", "invalid"}


def verdicts(limit, states):
    """What the count says after each of the states."""
    count = FailureCount(limit)
    return [count.add(OutcomeState(state)) for state in states]


def test_the_failure_that_reaches_the_count_ends_the_run():
    assert verdicts(FailureLimit(count=3), ["rejected"] * 4) == [False, False, True, True]


@pytest.mark.parametrize("state", OutcomeState)
def test_only_rejected_unknown_and_invalid_are_counted(state):
    assert verdicts(FailureLimit(count=1), [state]) == [state in COUNTED]


def test_what_went_well_between_the_failures_does_not_reset_the_count():
    assert verdicts(FailureLimit(count=2), ["invalid", "applied", "applied", "unknown"])[-1]


def test_a_share_says_nothing_before_a_hundred_outcomes():
    assert verdicts(FailureLimit(share=0.1), ["rejected"] * 100) == [False] * 99 + [True]


def test_a_share_counts_of_all_outcomes():
    limit = FailureLimit(share=0.5)
    assert not any(verdicts(limit, ["rejected", "applied", "applied"] * 100))
    assert verdicts(limit, ["applied"] * 100 + ["rejected"] * 100) == [False] * 199 + [True]


def test_a_success_never_ends_the_run_not_even_the_hundredth():
    assert not any(verdicts(FailureLimit(share=0.5), ["rejected"] * 99 + ["applied"]))


def test_of_count_and_share_the_first_that_is_reached_ends_the_run():
    limit = FailureLimit(count=60, share=0.9)
    assert verdicts(limit, ["rejected"] * 60)[-1]
    assert verdicts(FailureLimit(count=1000, share=0.9), ["rejected"] * 100)[-1]


def test_a_limit_without_a_bound_is_refused():
    with pytest.raises(ConfigurationError, match="needs a count or a share") as caught:
        FailureLimit()
    assert caught.value.field == "stop_after"


@pytest.mark.parametrize("count", [0, -1, 1.5, "3", True])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(ConfigurationError, match="count of a FailureLimit"):
        FailureLimit(count=count)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, "0.5", True, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigurationError, match="share of a FailureLimit"):
        FailureLimit(share=share)


def test_a_share_of_one_ends_the_run_when_everything_fails():
    limit = FailureLimit(share=1)
    assert verdicts(limit, ["rejected"] * 100)[-1]
    assert not any(verdicts(limit, ["applied"] + ["rejected"] * 200))


def test_the_repr_tells_the_counts():
    count = FailureCount(FailureLimit(count=3))
    count.add(OutcomeState.APPLIED)
    count.add(OutcomeState.UNKNOWN)
    assert repr(count) == "<FailureCount 1 of 2>"
