"""What stands in a journal: seals that bind an outcome to its row, and ids that name one change and no other."""

from __future__ import annotations

import contextlib
import re

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from altcraft_async import InvalidUpdateError, JournalError, LineStatusUpdate, OutcomeState
from altcraft_async.journal.format import KIND, OPEN, Replay, RunRecord, bucket_columns, bucket_of
from altcraft_async.journal.seals import content_of, id_prefix, key_of, request_id_of, sealed
from altcraft_async.storage.sqlite import open_database
from altcraft_async.timeline import Bucket, Level

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


# -- the file


@pytest.fixture
def connection(tmp_path):
    with contextlib.closing(open_database(KIND, str(tmp_path / "run.journal"))) as connection:
        yield connection


def test_no_state_has_the_number_of_an_open_row_and_all_have_room_in_the_seal():
    numbers = {state.number for state in OutcomeState}
    assert OPEN not in numbers
    assert max(numbers | {OPEN}) < 16


def test_facts_that_a_later_release_keeps_of_a_run_stay_and_are_sealed(connection):
    record = RunRecord(RUN, "method", "https://platform.test", 1.5, 2.5, 7, {"shard": 3, "note": None})
    record.write(connection)
    attrs.evolve(record, written=3.5, length=8).write_progress(connection)
    assert RunRecord.read(connection, "x") == attrs.evolve(record, written=3.5, length=8)
    connection.execute("UPDATE meta SET value = 4 WHERE name = 'shard'")
    with pytest.raises(JournalError, match="is damaged"):
        RunRecord.read(connection, "x")


@pytest.mark.parametrize(
    "statement", ["DELETE FROM meta WHERE name = 'target'", "DELETE FROM meta WHERE name = 'seal'"]
)
def test_a_fact_that_is_missing_is_damage(connection, statement):
    RunRecord(RUN, "method", "https://platform.test", 1.5, 2.5).write(connection)
    connection.execute(statement)
    with pytest.raises(JournalError, match="is damaged"):
        RunRecord.read(connection, "x")


def test_a_bucket_is_read_back_as_it_was_and_may_know_more_than_we_do():
    bucket = Bucket(
        start=8, width=4, ended={OutcomeState.APPLIED: 3}, sent=5, retries=1, throttled=1, latencies={12: 2, 40: 1},
        limit=Level(3, 9), in_flight=None, outage=1.25,
    )  # fmt: skip
    start, width, facts = bucket_columns(bucket)
    assert bucket_of((start, width, facts), "x") == bucket
    assert bucket_of((start, width, facts.replace('"sent"', '"later":[1],"sent"')), "x") == bucket
    with pytest.raises(JournalError, match="is damaged"):
        bucket_of((start, width, facts[:-5]), "x")


@pytest.mark.parametrize(
    ("state", "failed", "overtakes"),
    [
        (OutcomeState.APPLIED.number, None, True),
        (OutcomeState.UNKNOWN.number, OutcomeState.UNKNOWN, True),
        (OPEN, OutcomeState.UNKNOWN, True),
        (OPEN, OutcomeState.REJECTED, False),
        (OutcomeState.REJECTED.number, OutcomeState.REJECTED, False),
    ],
)
def test_a_row_is_overtaken_by_a_newer_one_that_was_or_may_have_been_applied(tmp_path, state, failed, overtakes):
    update = LineStatusUpdate("o", "l", "new")
    path = str(tmp_path / "run.journal")
    with contextlib.closing(open_database(KIND, path)) as connection:
        connection.execute("INSERT INTO outcome VALUES (5, ?, 0, ?, 0, 1, 0, 0)", (key_of(update), state))
        if failed is not None:
            connection.execute("INSERT INTO failure VALUES (5, ?, NULL, 'x', '{}')", (failed.number,))
        replay = Replay(connection, path, 6)
        assert replay.is_overtaken(2, update) is overtakes
        assert not replay.is_overtaken(5, update)
        assert not replay.is_overtaken(2, LineStatusUpdate("o", "other", "new"))
