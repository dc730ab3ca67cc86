"""The verdict table: total, and right where it is known what is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import ConfigurationError, OutcomeState
from altcraft_async.protocol.verdict import TABLE, Evidence, Scope, VerdictRules, classify

CODES = st.none() | st.integers(-5, 700) | st.integers()
RETRIED = [408, 425, 429, 500, 502, 503, 504, 507, 520, 599]
FINAL = [-1, 1, 100, 302, 400, 402, 404, 405, 409, 410, 413, 422, 440, 451, 501, 600, 1000]


# -- the table


@given(status=st.integers(), code=CODES, duplicate=st.booleans(), in_doubt=st.booleans())
def test_every_answer_has_exactly_one_verdict(status, code, duplicate, in_doubt):
    assert classify(status=status, code=code, duplicate=duplicate, in_doubt=in_doubt) in TABLE.values()


def test_every_evidence_has_its_place_in_the_table():
    assert set(TABLE) == set(Evidence)


@pytest.mark.parametrize("evidence", Evidence)
def test_no_verdict_contradicts_itself(evidence):
    verdict = TABLE[evidence]
    assert not (verdict.retry and (verdict.fatal or verdict.served or verdict.state.ok))
    assert verdict.retry or verdict.served
    assert verdict.maybe_applied == (verdict.state is OutcomeState.UNKNOWN)
    assert not verdict.throttled or verdict.retry


def test_served_is_every_yes_and_every_final_no_and_nothing_else():
    assert {evidence for evidence in Evidence if TABLE[evidence].served} == {
        Evidence.SUCCESS,
        Evidence.DUPLICATE_SUCCESS,
        Evidence.FATAL,
        Evidence.TOO_LARGE,
        Evidence.REFUSED,
        Evidence.DUPLICATE_FAILURE,
    }


def test_only_a_failed_connection_speaks_of_the_server_whatever_the_line():
    assert [evidence for evidence in Evidence if TABLE[evidence].scope is Scope.SERVER] == [Evidence.NEVER_SENT]


def test_this_machine_an_answer_to_be_confirmed_and_one_under_way_speak_of_nobody():
    assert {evidence for evidence in Evidence if TABLE[evidence].scope is Scope.NEITHER} == {
        Evidence.NO_ROOM,
        Evidence.UNCONFIRMED,
        Evidence.IN_PROGRESS,
        Evidence.RENEWED,
        Evidence.TOO_LARGE,
    }


@pytest.mark.parametrize(("status", "code"), [(200, 413), (413, 413), (413, None)])
def test_only_a_batch_can_be_too_large(status, code):
    rules = VerdictRules()
    assert rules.evidence(status=status, code=code, duplicate=False, batch=True) is Evidence.TOO_LARGE
    assert rules.evidence(status=status, code=code, duplicate=False) in {Evidence.REFUSED, Evidence.FOREIGN}


@pytest.mark.parametrize("evidence", [Evidence.ANOTHERS, Evidence.UNCONFIRMED])
def test_an_answer_of_another_line_leaves_the_own_one_in_doubt_and_is_asked_again(evidence):
    verdict = TABLE[evidence]
    assert (verdict.state, verdict.retry, verdict.maybe_applied) == ("unknown", True, True)


@pytest.mark.parametrize("evidence", [Evidence.NO_ROOM, Evidence.NEVER_SENT])
def test_without_a_connection_nothing_was_applied(evidence):
    verdict = TABLE[evidence]
    assert (verdict.state, verdict.retry, verdict.maybe_applied) == ("not_sent", True, False)


# -- envelopes


@given(status=st.integers(), duplicate=st.booleans(), in_doubt=st.booleans())
def test_code_zero_is_success_whatever_the_status(status, duplicate, in_doubt):
    expected = Evidence.DUPLICATE_SUCCESS if duplicate else Evidence.SUCCESS
    assert classify(status=status, code=0, duplicate=duplicate, in_doubt=in_doubt) is TABLE[expected]


@given(status=st.integers(100, 599), code=st.integers(1, 700))
def test_the_envelopes_code_beats_the_status(status, code):
    assert classify(status=status, code=code) == classify(status=200, code=code)


@pytest.mark.parametrize("number", FINAL)
def test_other_codes_of_an_envelope_are_final_refusals(number):
    assert classify(status=200, code=number) is TABLE[Evidence.REFUSED]


@pytest.mark.parametrize("number", [401, 403])
@pytest.mark.parametrize("duplicate", [False, True])
def test_a_token_that_an_envelope_refuses_is_fatal_for_the_run(number, duplicate):
    assert classify(status=200, code=number, duplicate=duplicate).fatal


@given(code=st.integers(1, 700).filter(lambda code: code not in {401, 403}), in_doubt=st.booleans())
def test_a_replayed_failure_is_final(code, in_doubt):
    assert classify(status=200, code=code, duplicate=True, in_doubt=in_doubt) is TABLE[Evidence.DUPLICATE_FAILURE]


def test_409_is_a_refusal_of_a_first_attempt():
    assert classify(status=409, code=409) is TABLE[Evidence.REFUSED]


def test_409_is_an_earlier_attempt_at_work_where_one_may_be():
    verdict = classify(status=409, code=409, in_doubt=True)
    assert verdict is TABLE[Evidence.IN_PROGRESS]
    assert (verdict.state, verdict.retry) == ("unknown", True)


@pytest.mark.parametrize("code", [400, 402, 404, 422])
def test_other_refusals_settle_a_doubt(code):
    assert classify(status=200, code=code, in_doubt=True) is TABLE[Evidence.REFUSED]


# -- without an envelope


@given(status=st.integers(200, 299))
def test_a_success_status_without_an_envelope_may_have_been_applied(status):
    assert classify(status=status, code=None) is TABLE[Evidence.UNREADABLE]


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 405, 409, 413, 451, 501])
@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_page_without_an_envelope_is_nobodys_final_no(status, in_doubt):
    verdict = classify(status=status, code=None, in_doubt=in_doubt)
    assert verdict is TABLE[Evidence.FOREIGN]
    assert (verdict.retry, verdict.fatal, verdict.served) == (True, False, False)


@given(status=st.integers())
def test_without_an_envelope_nothing_is_ever_served_or_fatal(status):
    verdict = classify(status=status, code=None)
    assert verdict.retry
    assert not verdict.served
    assert not verdict.fatal


# -- both


@pytest.mark.parametrize("number", RETRIED)
def test_retried_codes_are_retried_both_as_code_and_as_status(number):
    assert classify(status=200, code=number).retry
    assert classify(status=number, code=None) is classify(status=200, code=number)


@pytest.mark.parametrize("number", [429, 425])
def test_429_is_back_pressure_and_surely_not_applied(number):
    verdict = classify(status=number, code=None)
    assert (verdict.throttled, verdict.maybe_applied, verdict.state) == (True, False, "not_sent")


def test_503_is_back_pressure_and_may_have_been_applied():
    verdict = classify(status=503, code=None)
    assert (verdict.throttled, verdict.maybe_applied) == (True, True)


@pytest.mark.parametrize("number", [500, 502, 504])
def test_other_server_errors_are_no_back_pressure(number):
    assert not classify(status=number, code=None).throttled


# -- the lists


def test_the_lists_can_be_changed():
    rules = VerdictRules(fatal={402}, throttled=(440,), unavailable=[409], retriable={404}, in_progress={423})
    assert classify(status=200, code=402, rules=rules).fatal
    assert not classify(status=200, code=401, rules=rules).fatal
    assert classify(status=200, code=440, rules=rules) is TABLE[Evidence.THROTTLED]
    assert classify(status=200, code=409, rules=rules) is TABLE[Evidence.UNAVAILABLE]
    assert classify(status=200, code=404, rules=rules) is TABLE[Evidence.RETRIABLE]
    assert classify(status=200, code=423, in_doubt=True, rules=rules) is TABLE[Evidence.IN_PROGRESS]
    assert classify(status=500, code=None, rules=rules) is TABLE[Evidence.FOREIGN]


def test_of_several_lists_the_stricter_one_counts():
    every = VerdictRules(fatal={1}, throttled={1, 2}, unavailable={1, 2, 3}, retriable={1, 2, 3, 4})
    found = [every.evidence(status=200, code=code, duplicate=False) for code in (1, 2, 3, 4)]
    assert found == [Evidence.FATAL, Evidence.THROTTLED, Evidence.UNAVAILABLE, Evidence.RETRIABLE]


@pytest.mark.parametrize("field", ["fatal", "throttled", "unavailable", "retriable", "in_progress"])
@pytest.mark.parametrize("wrong", [429, "429", ["429"], [None], [4.5], [-1], [True]])
def test_rules_that_are_no_sets_of_numbers_are_refused(field, wrong):
    with pytest.raises(ConfigurationError):
        VerdictRules(**{field: wrong})


@pytest.mark.parametrize("number", [0, 1, 999])
def test_any_number_from_zero_on_can_stand_in_a_list(number):
    assert VerdictRules(retriable=[number]).retriable == {number}
