from __future__ import annotations

from altcraft_async.flow.circuit import FIRST_WAIT, LONGEST_WAIT, THRESHOLD, Circuit


def _circuit() -> Circuit:
    return Circuit(patience=60.0, first_patience=5.0)


def _opened(now: float = 0.0) -> Circuit:
    circuit = _circuit()
    for _ in range(THRESHOLD):
        circuit.on_failure(now)
    return circuit


def test_stays_closed_below_the_threshold():
    circuit = _circuit()
    assert [circuit.on_failure(0.0) for _ in range(THRESHOLD - 1)] == [None] * (THRESHOLD - 1)
    assert not circuit.is_open


def test_opens_at_the_threshold_and_doubles_the_wait_up_to_the_longest():
    circuit = _circuit()
    now, waits = 0.0, []
    for _ in range(THRESHOLD + 9):
        wait = circuit.on_failure(now)
        if wait is not None:
            waits.append(wait)
            now += wait
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    assert circuit.is_open


def test_failures_of_calls_that_were_under_way_do_not_put_the_probe_off():
    circuit = _opened()
    assert [circuit.on_failure(0.01) for _ in range(20)] == [None] * 20
    assert circuit.on_failure(FIRST_WAIT) == 2 * FIRST_WAIT


def test_an_answer_between_failures_starts_the_count_again():
    circuit = _circuit()
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            circuit.on_failure(0.0)
        assert circuit.on_answer(1.0) is False
    assert not circuit.is_open


def test_an_answer_closes_it_and_the_next_outage_starts_with_the_first_wait():
    circuit = _opened()
    assert circuit.on_answer(1.0) is True
    assert not circuit.is_open
    waits = [circuit.on_failure(9.0) for _ in range(THRESHOLD)]
    assert waits[-1] == FIRST_WAIT


def test_a_server_that_never_answered_is_given_up_after_the_first_patience():
    circuit = _opened()
    assert not circuit.hopeless(5.0)
    assert circuit.hopeless(5.1)


def test_a_server_that_has_answered_gets_the_whole_patience():
    circuit = _circuit()
    circuit.on_answer(0.0)
    for _ in range(THRESHOLD):
        circuit.on_failure(100.0)
    assert not circuit.hopeless(160.0)
    assert circuit.hopeless(160.1)


def test_repr_shows_the_state():
    assert repr(_opened()) == f"<Circuit open, {THRESHOLD} failures>"


def test_an_answer_to_a_call_begun_before_the_outage_proves_nothing():
    circuit = _opened(now=10.0)
    assert circuit.on_answer(9.9) is False
    assert circuit.is_open
    assert circuit.on_answer(10.3) is True
