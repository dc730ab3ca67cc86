"""What stands in a journal: seals that bind an outcome to its row, and ids that name one change and no other."""

from __future__ import annotations

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from altcraft_async import InvalidUpdateError, LineStatusUpdate
from altcraft_async.journal.seals import content_of, id_prefix, key_of, request_id_of, sealed

IDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
UPDATES = st.builds(LineStatusUpdate, IDS, IDS, IDS)
LINES = st.integers(0, 2**27)
STATES = st.integers(0, 15)
ROUNDS = st.integers(0, 100)
CONTENTS = st.integers(0, 2**32 - 1)
RUN = "0f9a3c44-5b1e-4c8d-9a0b-1c2d3e4f5a6b"
UUID8 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}")


@given(LINES, CONTENTS, STATES, ROUNDS)
def test_sealing_a_seal_gives_the_content_back(line, content, state, round_):
    assert sealed(line, sealed(line, content, state, round_), state, round_) == content


@given(LINES, CONTENTS, STATES, ROUNDS, LINES, CONTENTS, STATES, ROUNDS)
def test_no_single_change_of_a_line_goes_unnoticed(  # noqa: PLR0917 - two lines
    line, content, state, round_, other_line, other_content, other_state, other_round
):
    seal = sealed(line, content, state, round_)
    assert other_line == line or sealed(other_line, content, state, round_) != seal
    assert other_content == content or sealed(line, other_content, state, round_) != seal
    assert other_state == state or sealed(line, content, other_state, round_) != seal
    assert other_round == round_ or sealed(line, content, state, other_round) != seal


@given(UPDATES, UPDATES)
def test_an_update_is_recognised_by_all_that_it_says(one, other):
    assume(one != other)
    assert content_of(one) != content_of(other)
    assert (key_of(one) == key_of(other)) == (one.key == other.key)


def test_ids_that_read_alike_when_joined_are_told_apart():
    one, other = LineStatusUpdate("ab", "c", "new"), LineStatusUpdate("a", "bc", "new")
    assert key_of(one) != key_of(other)
    assert content_of(one) != content_of(other)


def test_a_wrong_row_is_recognised_by_what_is_wrong_with_it():
    one, other = InvalidUpdateError("empty", line=3), InvalidUpdateError("too long", line=3)
    assert content_of(one) != content_of(other)
    assert content_of(one) == content_of(InvalidUpdateError("empty", line=4))
    assert content_of(InvalidUpdateError("odd \udcff")) >= 0


@given(UPDATES, st.integers(0, 2**36 - 1), ROUNDS, st.integers(0, 2**36 - 1), ROUNDS)
def test_an_id_is_the_same_for_the_same_change_and_no_other(update, index, round_, other_index, other_round):
    prefix = id_prefix(RUN)
    request_id = request_id_of(prefix, index, content_of(update), round_)
    assert request_id == request_id_of(prefix, index, content_of(update), round_)
    assert UUID8.fullmatch(request_id)
    if (other_index, other_round) != (index, round_):
        assert request_id != request_id_of(prefix, other_index, content_of(update), other_round)


def test_ids_of_two_runs_differ():
    other = RUN.replace("3c44", "3c45")
    assert request_id_of(id_prefix(RUN), 0, 5, 0) != request_id_of(id_prefix(other), 0, 5, 0)


def test_an_edited_row_gets_another_id():
    before, after = LineStatusUpdate("o", "l", "new"), LineStatusUpdate("o", "l", "delivered")
    prefix = id_prefix(RUN)
    assert request_id_of(prefix, 7, content_of(before), 0) != request_id_of(prefix, 7, content_of(after), 0)
