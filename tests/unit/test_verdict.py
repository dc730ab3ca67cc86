"""The verdict table: total, and right where it is known what is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import ConfigurationError, OutcomeState
from altcraft_async.protocol.verdict import TABLE, Evidence, Verdict, VerdictRules, classify

CODES = st.none() | st.integers(-5, 700) | st.integers()
RETRIED = [408, 425, 429, 500, 502, 503, 504, 507, 520, 599]
FINAL = [-1, 1, 100, 302, 400, 402, 404, 405, 409, 410, 413, 422, 440, 451, 501, 600, 1000]


@given(status=st.integers(), code=CODES, duplicate=st.booleans())
def test_every_answer_has_exactly_one_verdict(status, code, duplicate):
    verdict = classify(status=status, code=code, duplicate=duplicate)
    assert verdict in TABLE.values()
    assert not (verdict.retry and (verdict.fatal or verdict.state.ok))
    assert verdict.maybe_applied == (verdict.state is OutcomeState.UNKNOWN)


def test_every_evidence_has_its_place_in_the_table():
    assert set(TABLE) == set(Evidence)


@given(status=st.integers(), duplicate=st.booleans())
def test_code_zero_is_success_whatever_the_status(status, duplicate):
    expected = OutcomeState.DUPLICATE if duplicate else OutcomeState.APPLIED
    assert classify(status=status, code=0, duplicate=duplicate) == Verdict(expected)


@given(status=st.integers(100, 599), code=st.integers(1, 700))
def test_the_envelopes_code_beats_the_status(status, code):
    assert classify(status=status, code=code) == classify(status=200, code=code)


@pytest.mark.parametrize("number", RETRIED)
def test_retried_codes_are_retried_both_as_code_and_as_status(number):
    assert classify(status=200, code=number).retry
    assert classify(status=number, code=None).retry


@pytest.mark.parametrize("number", FINAL)
def test_other_codes_are_final_refusals_both_as_code_and_as_status(number):
    assert classify(status=200, code=number) == Verdict(OutcomeState.REJECTED)
    assert classify(status=number, code=None) == Verdict(OutcomeState.REJECTED)


@pytest.mark.parametrize("number", [401, 403])
@pytest.mark.parametrize("duplicate", [False, True])
def test_a_refused_token_is_fatal_for_the_run(number, duplicate):
    assert classify(status=200, code=number, duplicate=duplicate).fatal
    assert classify(status=number, code=None, duplicate=duplicate).fatal


@given(status=st.integers(200, 299))
def test_a_success_status_without_an_envelope_may_have_been_applied(status):
    assert classify(status=status, code=None) == TABLE[Evidence.UNREADABLE]


@pytest.mark.parametrize("number", [429, 425])
def test_being_turned_away_is_pressure_and_surely_not_applied(number):
    verdict = classify(status=number, code=None)
    assert (verdict.throttled, verdict.maybe_applied, verdict.state) == (True, False, "not_sent")


def test_503_is_throttled_and_may_have_been_applied():
    verdict = classify(status=503, code=None)
    assert (verdict.throttled, verdict.maybe_applied) == (True, True)


@pytest.mark.parametrize("number", [500, 502, 504])
def test_other_server_errors_are_not_throttled(number):
    assert not classify(status=number, code=None).throttled


@given(code=st.integers(1, 700).filter(lambda code: code not in {401, 403}))
def test_a_replayed_failure_is_never_retried(code):
    assert classify(status=200, code=code, duplicate=True) == Verdict(OutcomeState.REJECTED)


def test_the_lists_can_be_changed():
    rules = VerdictRules(fatal={402}, throttled=(440,), unavailable=[409], retriable={404})
    assert classify(status=200, code=402, rules=rules).fatal
    assert not classify(status=200, code=401, rules=rules).fatal
    assert classify(status=200, code=440, rules=rules) == TABLE[Evidence.THROTTLED]
    assert classify(status=200, code=409, rules=rules) == TABLE[Evidence.UNAVAILABLE]
    assert classify(status=200, code=404, rules=rules) == TABLE[Evidence.RETRIABLE]
    assert not classify(status=500, code=None, rules=rules).retry


@pytest.mark.parametrize("wrong", [429, "429", ["429"], [None], [4.5]])
def test_rules_that_are_no_sets_of_numbers_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        VerdictRules(fatal=wrong)
