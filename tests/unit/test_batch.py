"""Cutting and dividing batches: the same way every time, nothing lost, nothing twice."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.flow.batch import Cutter, fitting, halves, open_parts

ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 60)), max_size=60)
"""Keys and sizes."""


def cut(rows: list[tuple[int, int]], count: int = 5, size: int = 100, overhead: int = 10) -> list[list[int]]:
    """Cut rows, each given by its place, of which those that fit nowhere are left out."""
    cutter: Cutter[int] = Cutter(count=count, size=size, overhead=overhead, between=1)
    batches = []
    for place, (key, length) in enumerate(rows):
        if cutter.fits(length):
            batches += cutter.add(place, str(key), length)
    return batches + ([cutter.take()] if len(cutter) else [])


@given(ROWS)
def test_every_row_stands_in_one_batch_and_in_its_order(rows):
    assert [place for batch in cut(rows) for place in batch] == [place for place, (_, n) in enumerate(rows) if n <= 89]


@given(ROWS, st.integers(1, 7), st.integers(72, 300))
def test_no_batch_has_too_many_rows_too_many_bytes_or_an_order_twice(rows, count, size):
    for batch in cut(rows, count, size):
        assert 0 < len(batch) <= count
        assert 10 + sum(rows[place][1] + 1 for place in batch) <= size
        assert len({rows[place][0] for place in batch}) == len(batch)


@given(ROWS)
def test_a_batch_is_closed_only_where_the_next_row_does_not_fit(rows):
    batches = cut(rows)
    for batch, following in itertools.pairwise(batches):
        first = following[0]
        full = 10 + sum(rows[place][1] + 1 for place in (*batch, first)) > 100
        assert len(batch) == 5 or full or rows[first][0] in {rows[place][0] for place in batch}


@given(ROWS, ROWS)
def test_what_follows_changes_no_batch_that_is_closed(rows, more):
    assert cut(rows + more)[: max(0, len(cut(rows)) - 1)] == cut(rows)[:-1]


@given(st.lists(st.integers(), min_size=2))
def test_halves_are_the_whole_and_differ_by_one_at_most(rows):
    first, second = halves(rows)
    assert [*first, *second] == rows
    assert 0 <= len(first) - len(second) <= 1


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 200))
def test_what_fits_is_not_divided_and_what_does_not_is_until_it_does(rows, most):
    parts = fitting(rows, sum, most)
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == 1 or sum(part) <= most for part in parts)
    assert len(parts) == 1 or sum(rows) > most


@given(st.lists(st.booleans(), max_size=70))
def test_the_open_parts_are_the_open_rows_in_their_order(flags):
    rows = list(enumerate(flags))
    parts = open_parts(rows, lambda row: row[1])
    assert [row for part in parts for row in part] == [row for row in rows if row[1]]


@given(st.integers(1, 70), st.integers())
def test_parts_that_ended_leave_the_very_parts_that_did_not(count, seed):
    """Divide a batch at random and let some parts end: what is left are parts that may have been sent, or wholes."""
    chance = random.Random(seed)
    parts = [list(range(count))]
    for _ in range(chance.randrange(8)):
        place = chance.randrange(len(parts))
        if len(parts[place]) > 1:
            parts[place : place + 1] = map(list, halves(parts[place]))
    ended = [part for part in parts if chance.random() < 0.5]
    done = {row for part in ended for row in part}
    left = open_parts(range(count), lambda row: row not in done)
    sent = [part for part in parts if part not in ended]
    for part in left:
        inside = [one for one in sent if set(one) <= set(part)]
        # either a part that was sent, or the whole of which all parts are open: it is asked for first as it was then
        assert sorted(row for one in inside for row in one) == list(part)


def test_an_order_that_comes_again_opens_the_next_batch():
    assert cut([(1, 5), (2, 5), (1, 5), (3, 5)]) == [[0, 1], [2, 3]]


def test_a_batch_that_is_full_does_not_wait_for_the_next_row():
    cutter: Cutter[str] = Cutter(count=2, size=1000, overhead=0, between=1)
    assert cutter.add("a", "1", 5) == []
    assert cutter.add("b", "2", 5) == [["a", "b"]]


def test_one_row_can_close_two_batches():
    cutter: Cutter[str] = Cutter(count=1, size=1000, overhead=0, between=1)
    assert cutter.add("a", "1", 5) == [["a"]]
    wide: Cutter[str] = Cutter(count=2, size=20, overhead=0, between=1)
    assert wide.add("a", "1", 15) == []
    assert wide.add("b", "2", 15) == [["a"]]


def test_a_row_that_is_too_long_for_any_batch_does_not_fit():
    cutter: Cutter[str] = Cutter(count=5, size=100, overhead=10, between=1)
    assert cutter.fits(89)
    assert not cutter.fits(90)


def test_a_batch_of_just_as_many_bytes_as_are_allowed_is_not_divided():
    assert fitting([1, 2, 3], sum, 6) == [[1, 2, 3]]
    assert fitting([1, 2, 3], sum, 5) == [[1, 2], [3]]
