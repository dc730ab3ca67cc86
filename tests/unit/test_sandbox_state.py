"""The sandbox's memory: answers for their window, and a file that survives a kill."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox.state import Answer, Answers, Market, StateFile

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = Answer(200, "application/json", b"{}", "applied")


def test_an_answer_is_kept_for_its_window_and_no_longer() -> None:
    answers = Answers(window=10.0)
    answers.put("a", ANSWER, None, now=100.0)
    assert answers.get("a", now=109.9) == (ANSWER, None)
    assert answers.get("a", now=110.0) is None


def test_expired_answers_are_forgotten() -> None:
    answers = Answers(window=10.0)
    for second in range(100):
        answers.put(str(second), ANSWER, None, now=float(second))
    assert len(answers) == 10


def test_a_line_that_is_not_there_is_refused_with_those_that_are() -> None:
    market = Market()
    market.put("o", endpoint="e", status="new", lines=dict.fromkeys("abcdefg", "new"))
    text = market.refusal("o", "z", "delivered")
    assert text is not None
    assert "has no line 'z'; its 7 lines are 'a', 'b', 'c', 'd', 'e', …" in text


def test_a_status_that_is_not_there_is_refused_with_those_that_are() -> None:
    market = Market(custom_statuses=["packed"])
    market.put("o", endpoint="e", status="new", lines={"l": "new"})
    assert market.refusal("o", "l", "packed") is None
    text = market.refusal("o", "l", "sent")
    assert text is not None
    assert "'sent' is neither a system status (new, processing," in text
    assert "'packed'" in text


def test_an_order_is_found_by_number_and_by_id() -> None:
    market = Market()
    market.put("a", endpoint="e", status="new", lines={})
    market.put("b", endpoint="e", status="paid", lines={})
    found = market.find(number=2)
    assert found is market.find(external_id="b") is not None
    assert market.find(number=3) is None


def test_records_come_back_in_order(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    assert list(file.open()) == []
    file.write({"n": 1}, {"n": "ж\n"})
    file.write({"n": 3})
    file.close()
    with closing(StateFile(tmp_path / "state")) as again:
        assert list(again.open()) == [{"n": 1}, {"n": "ж\n"}, {"n": 3}]


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b'{"n":1}\n{"n":2')
    file = StateFile(path)
    assert list(file.open()) == [{"n": 1}]
    file.write({"n": 3})
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":3}\n'


def test_a_file_of_something_else_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b'{"n":1}\norder;line;status\n')
    with closing(StateFile(path)) as file, pytest.raises(ConfigurationError, match="line 2: not a record") as caught:
        list(file.open())
    assert caught.value.field == "state_file"
    assert path.read_bytes() == b'{"n":1}\norder;line;status\n'
