"""What a client remembers of its questions, and when it trusts its connections."""

from __future__ import annotations

import logging

from altcraft_async import LineKey, LineStatusUpdate
from altcraft_async.engine.questions import Questions


def ask(questions, number):
    questions.ask(LineStatusUpdate(f"o{number}", f"l{number}", "new"))


def key(number):
    return LineKey(f"o{number}", f"l{number}")


def test_a_line_that_was_asked_about_is_known_and_no_other():
    questions = Questions()
    ask(questions, 1)
    assert questions.knows(key(1))
    assert not questions.knows(key(2))
    assert not questions.knows(LineKey("o1", "l2"))


def test_the_last_four_thousand_lines_are_known_at_least():
    questions = Questions()
    for number in range(10_000):
        ask(questions, number)
    assert all(questions.knows(key(number)) for number in range(10_000 - 4096, 10_000))


def test_what_was_asked_long_ago_is_forgotten():
    questions = Questions()
    for number in range(10_000):
        ask(questions, number)
    assert not questions.knows(key(0))
    assert repr(questions) == "<Questions 5904 lines>"


def test_one_line_asked_about_again_and_again_drives_out_no_other():
    questions = Questions()
    ask(questions, 1)
    for _ in range(20_000):
        ask(questions, 2)
    assert questions.knows(key(1))


def test_after_an_answer_of_another_line_connections_are_suspicious_for_a_minute():
    questions = Questions()
    assert not questions.suspicious(0.0)
    questions.distrust(100.0)
    assert questions.suspicious(159.9)
    assert not questions.suspicious(160.0)


def test_another_such_answer_prolongs_it():
    questions = Questions()
    questions.distrust(100.0)
    questions.distrust(150.0)
    assert questions.suspicious(209.0)


def test_other_names_for_lines_are_warned_of_once(caplog):
    questions = Questions()
    with caplog.at_level(logging.WARNING, "altcraft_async"):
        for number in range(5):
            questions.accept(name(number), key(number), str)
    (record,) = caplog.records
    assert "shop-o0/l0" in record.getMessage()


def name(number):
    return LineKey(f"shop-o{number}", f"l{number}")


def test_ten_other_names_are_a_habit_of_the_platform():
    questions, expected = Questions(), []
    for number in range(10):
        questions.accept(name(number), key(number), str)
        expected.append(questions.expects(name(100), key(100)))
    assert expected == [False] * 9 + [True]


def test_one_question_has_one_name():
    questions = Questions()
    for number in range(10):
        questions.accept(name(number), key(number), str)
    assert questions.expects(LineKey(" Shop-O5", "L5"), key(5))
    assert not questions.expects(name(6), key(5))


def test_a_name_that_was_given_for_another_line_is_nobodys_and_ends_the_habit():
    questions = Questions()
    for number in range(10):
        assert questions.gave(name(number), key(number), before=None)
        questions.accept(name(number), key(number), str)
    assert not questions.gave(name(3), key(50), before=None)
    assert not questions.gave(name(3), key(3), before=name(3))
    assert not questions.expects(name(60), key(60))


def test_lines_whose_answers_were_exchanged_get_their_own_names_in_the_end():
    questions = Questions()
    assert questions.gave(name(2), key(1), before=None)
    assert questions.gave(name(1), key(2), before=None)
    assert not questions.gave(name(1), key(1), before=name(2))
    assert questions.gave(name(2), key(2), before=name(1))
    assert questions.gave(name(1), key(1), before=name(1))


def test_the_names_that_are_remembered_have_an_end():
    questions = Questions()
    for number in range(10_000):
        questions.gave(name(number), key(number), before=None)
    assert questions.gave(name(0), key(1), before=None)
    assert not questions.gave(name(9_999), key(1), before=None)
