"""The law of retrying, each article of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import ConfigurationError, RetryPolicy
from altcraft_async.flow.policy import OutagePolicy
from altcraft_async.flow.retry import Retry, RetryBudget, Stop, StopReason, decide
from altcraft_async.protocol.verdict import TABLE, Evidence

AGAIN = TABLE[Evidence.RETRIABLE]


def state_of(attempt=1, *, elapsed=0.0):
    """What tenacity would hand its strategies after so many attempts and seconds."""
    state = tenacity.RetryCallState(SimpleNamespace(), None, (), {})
    state.attempt_number = attempt
    state.outcome_timestamp = state.start_time + elapsed
    return state


def decision(verdict=AGAIN, **changes):
    facts = {
        "spent": 1,
        "state": state_of(),
        "at_once": False,
        "misdirected": False,
        "now": 100.0,
        "expires_at": None,
        "retry_after": None,
        "policy": RetryPolicy(),
        "budget": RetryBudget(10),
        "random": 0.5,
    }
    return decide(verdict, **{**facts, **changes})


# -- 1: final verdicts


@pytest.mark.parametrize("evidence", [evidence for evidence in Evidence if not TABLE[evidence].retry])
@pytest.mark.parametrize("facts", [{}, {"at_once": True}, {"misdirected": True}])
def test_1_what_no_attempt_can_better_is_final(evidence, facts):
    assert decision(TABLE[evidence], **facts) == Stop(StopReason.FINAL)


@pytest.mark.parametrize("evidence", [evidence for evidence in Evidence if TABLE[evidence].retry])
def test_1_what_another_attempt_can_better_is_retried(evidence):
    assert isinstance(decision(TABLE[evidence]), Retry)


def test_a_token_that_is_refused_for_the_first_time_costs_nothing_and_later_as_any_failure():
    refused = TABLE[Evidence.RENEWED]
    assert decision(refused, at_once=True, retry_after=30.0) == Retry(0.0)
    assert decision(refused, retry_after=30.0) == Retry(30.0)
    assert decision(refused, spent=5, policy=RetryPolicy(attempts=5)) == Stop(StopReason.ATTEMPTS)


# -- 2: a wrong address


@pytest.mark.parametrize("facts", [{}, {"at_once": True}, {"policy": RetryPolicy(attempts=None)}])
def test_2_where_the_address_is_wrong_nothing_is_tried_again(facts):
    assert decision(TABLE[Evidence.FOREIGN], misdirected=True, **facts) == Stop(StopReason.MISDIRECTED)


# -- 3: outages


@pytest.mark.parametrize("facts", [{"spent": 1000}, {"policy": RetryPolicy(attempts=1)}, {"budget": RetryBudget(0.5)}])
def test_3_what_fails_in_an_outage_is_repeated_as_soon_as_that_lets_it(facts):
    assert decision(at_once=True, **facts) == Retry(0.0)


@pytest.mark.parametrize("facts", [{"spent": 1000}, {"policy": RetryPolicy(attempts=1)}, {"budget": RetryBudget(0.5)}])
def test_3_what_fails_for_want_of_room_on_this_machine_costs_nothing_and_waits(facts):
    found = decision(TABLE[Evidence.NO_ROOM], **facts)
    assert isinstance(found, Retry)
    assert found.delay > 0.0


def test_3_a_policys_own_strategies_are_not_asked_in_an_outage():
    def unwanted(state):
        raise AssertionError(state)

    policy = RetryPolicy(wait=unwanted, stop=unwanted)
    assert decision(at_once=True, policy=policy) == Retry(0.0)


def test_3_a_retry_in_an_outage_costs_no_budget():
    budget = RetryBudget(2)
    assert all(decision(at_once=True, budget=budget) == Retry(0.0) for _ in range(100))
    assert budget.tokens == 2


@pytest.mark.parametrize(
    ("expires_at", "retry_after", "goes_on"),
    [(100.1, None, True), (100.0, None, False), (99.0, None, False), (110.0, 9.0, True), (110.0, 10.0, False)],
)
def test_3_a_deadline_holds_in_an_outage_too(expires_at, retry_after, goes_on):
    result = decision(at_once=True, expires_at=expires_at, retry_after=retry_after)
    assert result == (Retry(0.0) if goes_on else Stop(StopReason.DEADLINE))


# -- 4: attempts


@pytest.mark.parametrize(("spent", "stops"), [(0, False), (1, False), (4, False), (5, True), (6, True)])
def test_4_no_more_attempts_are_made_than_the_policy_allows(spent, stops):
    assert (decision(spent=spent) == Stop(StopReason.ATTEMPTS)) is stops


def test_4_one_attempt_means_no_retries():
    assert decision(policy=RetryPolicy(attempts=1)) == Stop(StopReason.ATTEMPTS)


def test_4_without_a_bound_of_attempts_they_have_no_end():
    assert isinstance(decision(policy=RetryPolicy(attempts=None), spent=10_000), Retry)


@pytest.mark.parametrize(("attempt", "stops"), [(1, False), (6, False), (7, True)])
def test_4_tenacitys_stop_stands_in_the_place_of_the_attempts(attempt, stops):
    policy = RetryPolicy(stop=tenacity.stop_after_attempt(7))
    result = decision(policy=policy, spent=attempt, state=state_of(attempt))
    assert (result == Stop(StopReason.ATTEMPTS)) is stops


@pytest.mark.parametrize(("elapsed", "stops"), [(9.9, False), (10.1, True)])
def test_4_tenacitys_stop_knows_how_long_it_took(elapsed, stops):
    policy = RetryPolicy(stop=tenacity.stop_after_attempt(9) | tenacity.stop_after_delay(10))
    result = decision(policy=policy, spent=2, state=state_of(2, elapsed=elapsed))
    assert (result == Stop(StopReason.ATTEMPTS)) is stops


@pytest.mark.parametrize(("elapsed", "stops"), [(6.9, False), (7.1, True)])
def test_4_tenacitys_stop_knows_the_wait_that_would_come(elapsed, stops):
    policy = RetryPolicy(stop=tenacity.stop_before_delay(10), wait=tenacity.wait_fixed(3))
    result = decision(policy=policy, spent=2, state=state_of(2, elapsed=elapsed))
    assert (result == Stop(StopReason.ATTEMPTS)) is stops


# -- 5: the wait


@given(spent=st.integers(0, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_5_the_wait_is_a_random_part_of_an_exponential_with_a_ceiling(spent, random):
    policy = RetryPolicy(attempts=20_000, base=0.5, max_delay=30.0)
    ceiling = min(30.0, 0.5 * 2.0 ** min(max(spent, 1) - 1, 60))
    assert decision(spent=spent, random=random, policy=policy) == Retry(ceiling * random)


@pytest.mark.parametrize(("random", "delay"), [(0.0, 0.5), (0.5, 0.75)])
def test_5_after_back_pressure_at_least_half_of_it_is_waited(random, delay):
    assert decision(TABLE[Evidence.THROTTLED], spent=2, random=random) == Retry(delay)


@pytest.mark.parametrize(
    ("wait", "delay"),
    [
        (tenacity.wait_fixed(7), 7.0),
        (tenacity.wait_exponential(multiplier=1, max=60), 4.0),
        (tenacity.wait_incrementing(start=1, increment=10), 21.0),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), 3.0),
        (tenacity.wait_chain(*map(tenacity.wait_fixed, (1, 2, 5))), 5.0),
        (tenacity.wait_none(), 0.0),
    ],
)
def test_5_tenacitys_wait_stands_in_the_place_of_the_backoff(wait, delay):
    assert decision(policy=RetryPolicy(wait=wait), spent=3, state=state_of(3)) == Retry(delay)


def test_5_a_wait_below_zero_is_none():
    assert decision(policy=RetryPolicy(wait=lambda _: -1.0)) == Retry(0.0)


@pytest.mark.parametrize(
    ("retry_after", "delay"), [(0.1, 0.25), (3.0, 3.0), (60.0, 60.0), (61.0, 60.0), (86_400.0, 60.0)]
)
def test_5_retry_after_is_a_minimum_beside_the_backoff_and_is_cut(retry_after, delay):
    assert decision(retry_after=retry_after) == Retry(delay)


def test_5_retry_after_is_a_minimum_beside_tenacitys_wait():
    policy = RetryPolicy(wait=tenacity.wait_fixed(2))
    assert decision(policy=policy, retry_after=1.0) == Retry(2.0)
    assert decision(policy=policy, retry_after=3.0) == Retry(3.0)


# -- 6: the deadline


@given(now=st.floats(0, 1e6), left=st.floats(0, 100), random=st.floats(0, 1, exclude_max=True))
def test_6_no_wait_is_begun_that_ends_at_or_after_the_deadline(now, left, random):
    result = decision(now=now, expires_at=now + left, random=random)
    if isinstance(result, Retry):
        assert now + result.delay < now + left
    else:
        assert result == Stop(StopReason.DEADLINE)
        assert now + 0.5 * random >= now + left


# -- 7: the budget


def test_7_every_retry_is_paid_and_an_empty_budget_stops():
    budget = RetryBudget(2)
    assert [decision(budget=budget) for _ in range(3)] == [Retry(0.25), Retry(0.25), Stop(StopReason.BUDGET)]
    assert budget.tokens == 0


@pytest.mark.parametrize(
    "facts", [{"verdict": TABLE[Evidence.REFUSED]}, {"spent": 5}, {"expires_at": 100.0}, {"misdirected": True}]
)
def test_7_a_retry_that_is_not_made_costs_nothing(facts):
    budget = RetryBudget(2)
    assert isinstance(decision(budget=budget, **facts), Stop)
    assert budget.tokens == 2


def test_7_where_everything_fails_the_retries_are_constant_however_many_calls_there_are():
    budget = RetryBudget(50)
    assert sum(isinstance(decision(budget=budget), Retry) for _ in range(10_000)) == 50


ENDLESS = RetryPolicy(attempts=None)


@given(random=st.floats(0, 1, exclude_max=True))
def test_7_without_a_bound_of_attempts_an_empty_budget_makes_the_wait_long(random):
    retry = decision(policy=ENDLESS, budget=RetryBudget(0.5), random=random)
    assert isinstance(retry, Retry)
    assert ENDLESS.max_delay / 2 <= retry.delay <= ENDLESS.max_delay


def test_7_a_long_wait_for_an_empty_budget_keeps_the_deadline_too():
    assert decision(policy=ENDLESS, budget=RetryBudget(0.5), expires_at=110.0) == Stop(StopReason.DEADLINE)


def test_7_a_call_with_a_stop_of_its_own_has_an_end_and_so_stops_at_an_empty_budget():
    policy = RetryPolicy(attempts=None, stop=tenacity.stop_after_delay(3600))
    assert decision(policy=policy, budget=RetryBudget(0.5)) == Stop(StopReason.BUDGET)


# -- the budget itself


@given(capacity=st.floats(1, 100), refund=st.floats(0.01, 5), events=st.lists(st.sampled_from(["spend", "success"])))
def test_the_budget_never_leaves_its_bounds(capacity, refund, events):
    budget = RetryBudget(capacity, refund)
    for event in events:
        before = budget.tokens
        if event == "success":
            budget.on_success()
            assert budget.tokens == min(capacity, before + refund)
        else:
            assert budget.spend() is (before >= 1.0)
        assert 0 <= budget.tokens <= capacity


def test_a_budget_of_none_has_no_end():
    budget = RetryBudget(None)
    assert all(budget.spend() for _ in range(1000))
    budget.on_success()
    assert budget.tokens == float("inf")


# -- policies that cannot work


@pytest.mark.parametrize("field", ["attempts", "base", "max_delay", "max_retry_after"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", True])
def test_a_policy_that_cannot_work_names_the_field(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        RetryPolicy(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["wait", "stop"])
def test_what_is_no_strategy_is_refused_and_says_what_is(field):
    with pytest.raises(
        ConfigurationError, match=rf"{field} must be one of tenacity's strategies, or None, not 5"
    ) as caught:
        RetryPolicy(**{field: 5})
    assert caught.value.field == field


def test_only_the_attempts_can_be_without_a_limit():
    assert RetryPolicy(attempts=None).endless
    with pytest.raises(ConfigurationError, match="max_delay must be a number above zero, not None"):
        RetryPolicy(max_delay=None)


@pytest.mark.parametrize("field", ["patience", "call_patience", "first_patience"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", True])
def test_a_patience_that_cannot_work_names_the_field(field, value):
    with pytest.raises(ConfigurationError, match=field) as caught:
        OutagePolicy(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["patience", "call_patience", "first_patience"])
def test_every_patience_can_be_without_end(field):
    assert getattr(OutagePolicy(**{field: None}), field) is None
