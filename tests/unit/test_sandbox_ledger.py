"""The sandbox's ledger: it finds every loss, double and change of order, and nothing else."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.sandbox import Change, Ledger, alignment

LINE = ("order_1", "line_1")


def book(*made: str | tuple[str, str | None]) -> Ledger:
    """Write a ledger of one line: statuses, each under an id of its own unless given."""
    ledger = Ledger()
    for place, entry in enumerate(made):
        status, request_id = entry if isinstance(entry, tuple) else (entry, f"id-{place}")
        ledger.applied(LINE, status, request_id)
    return ledger


def wanted(*statuses: str) -> list[tuple[str, str, str]]:
    return [(*LINE, status) for status in statuses]


def statuses(changes: tuple[Change, ...]) -> list[str]:
    return [change.status for change in changes]


def test_what_was_applied_as_expected_is_ok() -> None:
    check = book("a", "b").check(wanted("a", "b"))
    assert check.ok
    assert (check.lines, check.expected, check.applied) == (1, 2, 2)
    assert str(check) == "2 changes of 1 lines expected, 2 applied: 0 lost, 0 duplicated, 0 reordered"


def test_a_line_may_go_back_and_forth() -> None:
    assert book("a", "b", "a", "b", "a").check(wanted("a", "b", "a", "b", "a")).ok


def test_the_same_status_twice_in_a_row_is_two_changes() -> None:
    assert book("a", "a").check(wanted("a", "a")).ok
    assert statuses(book("a").check(wanted("a", "a")).lost) == ["a"]


def test_a_lost_return_is_found() -> None:
    check = book("a", "b").check(wanted("a", "b", "a"))
    assert (statuses(check.lost), check.duplicated, check.reordered) == (["a"], (), ())


def test_one_change_under_two_ids_is_duplicated() -> None:
    check = book("a", "b", "b").check(wanted("a", "b"))
    assert (statuses(check.duplicated), check.lost, check.reordered) == (["b"], (), ())


def test_one_id_applied_twice_is_duplicated_even_where_the_statuses_fit() -> None:
    check = book(("a", "x"), ("a", "x")).check(wanted("a", "a"))
    assert check.duplicated == (Change(*LINE, "a", "x"),)
    assert statuses(check.lost) == ["a"]


def test_exchanged_changes_are_reordered() -> None:
    check = book("b", "a").check(wanted("a", "b"))
    assert (len(check.reordered), check.lost, check.duplicated) == (1, (), ())


def test_a_status_that_was_never_asked_for_is_unexpected() -> None:
    check = book("a", "z").check(wanted("a"))
    assert statuses(check.unexpected) == ["z"]
    assert not check.ok
    assert "1 unexpected" in str(check)


def test_a_line_that_nobody_asked_about_is_unexpected() -> None:
    assert statuses(book("a").check([]).unexpected) == ["a"]


def test_a_line_that_never_arrived_is_lost() -> None:
    check = Ledger().check(wanted("a", "b"))
    assert statuses(check.lost) == ["a", "b"]


STATUSES = st.lists(st.sampled_from("abc"), max_size=8)


@given(expected=st.dictionaries(st.sampled_from("123"), STATUSES), made=st.data())
def test_ok_exactly_where_every_line_was_applied_as_expected(
    expected: dict[str, list[str]], made: st.DataObject
) -> None:
    """Every loss, double and exchange that can be seen makes a finding, of the right count."""
    applied = {line: made.draw(_mutated(sequence), label=line) for line, sequence in expected.items()}
    ledger = Ledger()
    for line, sequence in applied.items():
        for place, status in enumerate(sequence):
            ledger.applied(("order", line), status, f"{line}-{place}")
    check = ledger.check(("order", line, status) for line, sequence in expected.items() for status in sequence)
    assert check.ok == (applied == expected)
    lost, surplus = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for line, sequence in expected.items():
        missing, extra = Counter(sequence), Counter(applied[line])
        lost.update({(line, status): count for status, count in (missing - extra).items()})
        surplus.update({(line, status): count for status, count in (extra - missing).items()})
    found = Counter((change.order_line_external_id, change.status) for change in check.lost)
    more = Counter((change.order_line_external_id, change.status) for change in (*check.duplicated, *check.unexpected))
    assert (found, more) == (lost, surplus)
    if not lost and not surplus:
        assert bool(check.reordered) == (applied != expected)


@st.composite
def _mutated(draw: st.DrawFn, sequence: list[str]) -> list[str]:
    """Lose, double or exchange some changes of a sequence, or none."""
    result = list(sequence)
    for kind in draw(st.lists(st.sampled_from(["lose", "double", "exchange"]), max_size=3)):
        if not result:
            break
        place = draw(st.integers(0, len(result) - 1))
        other = draw(st.integers(0, len(result) - 1))
        if kind == "lose":
            del result[place]
        elif kind == "double":
            result.insert(other, result[place])
        else:
            result[place], result[other] = result[other], result[place]
    return result


@given(STATUSES, STATUSES)
def test_the_approximate_alignment_of_long_lines_misses_nothing(expected: list[str], made: list[str]) -> None:
    exact, alignment._EXACT_LIMIT = alignment._EXACT_LIMIT, -1
    try:
        assert book(*made).check(wanted(*expected)).ok == (expected == made)
    finally:
        alignment._EXACT_LIMIT = exact


def test_arrivals_are_told_in_order_with_their_ids_and_fates() -> None:
    ledger = Ledger()
    first = ledger.arrived(LINE, "a", "x")
    ledger.settled(LINE, first, "throttled")
    second = ledger.arrived(LINE, "a", "x")
    ledger.settled(LINE, second, "applied")
    told = [(arrival.number, arrival.request_id, arrival.fate) for arrival in ledger.arrivals(*LINE)]
    assert told == [(1, "x", "throttled"), (2, "x", "applied")]
    assert ledger.lines == (LINE,)


def test_two_changes_of_one_line_in_flight_are_an_overlap() -> None:
    ledger = Ledger()
    first = ledger.arrived(LINE, "a", "x")
    ledger.arrived(LINE, "b", "y")
    ledger.arrived(("order_1", "line_2"), "a", "z")
    assert (ledger.in_flight_overlaps, ledger.repeats) == (1, 0)
    ledger.settled(LINE, first, "applied")
    ledger.settled(LINE, first, "applied")
    assert (ledger.in_flight, ledger.peak_in_flight) == (2, 3)


def test_a_repeat_that_meets_its_own_first_is_no_overlap() -> None:
    ledger = Ledger()
    ledger.arrived(LINE, "a", "x")
    ledger.arrived(LINE, "a", "x")
    assert (ledger.in_flight_overlaps, ledger.repeats) == (0, 1)


def test_two_requests_without_ids_overlap() -> None:
    ledger = Ledger()
    ledger.arrived(LINE, "a", None)
    ledger.arrived(LINE, "a", None)
    assert ledger.in_flight_overlaps == 1


def test_clear_forgets_everything_even_with_requests_open() -> None:
    ledger = Ledger()
    arrival = ledger.arrived(LINE, "a", "x")
    ledger.clear()
    ledger.settled(LINE, arrival, "applied")
    assert (ledger.in_flight, ledger.lines, ledger.requests) == (0, (), 0)
