"""What batches need of lanes, codecs and answers: places that are handed over, rows that are written once, results."""

from __future__ import annotations

import json as stdlib_json
import math
import uuid
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altcraft_async.engine.import_rows import row_reader, rows_reader
from altcraft_async.errors import BadRequestError, ConfigurationError, InvalidUpdateError
from altcraft_async.flow.lanes import Alone, Lanes
from altcraft_async.outcome import Batch, Fingerprint, Outcome, OutcomeState, outcomes_like
from altcraft_async.protocol import json, xml
from altcraft_async.protocol.answer import line_named, row_results
from altcraft_async.protocol.wire import BatchCall, Call, Wire, row_codec


class Claimant:
    def __init__(self, *keys, alone=True):
        self.claims = tuple((key, alone) for key in keys)
        self.arrival = self.blocked = 0
        self.withdrawn = False


# -- lanes


def test_heirs_keep_the_place_of_the_batch_that_they_are_parts_of():
    lanes = Lanes()
    batch, later, update = Claimant("a", "b"), Claimant("a", "c"), Claimant("b", alone=False)
    assert lanes.add(batch)
    assert not lanes.add(later)
    assert not lanes.add(update)
    first, second = Claimant("a"), Claimant("b")
    lanes.hand_over(batch, [first, second])
    assert first.arrival == second.arrival == batch.arrival
    assert lanes.leave(second) == [update]
    assert lanes.leave(first) == [later]
    lanes.leave(later)
    lanes.leave(update)
    assert not len(lanes)


def test_who_waits_behind_a_part_sees_the_part_before_it():
    lanes = Lanes()
    batch, later = Claimant("a", "b"), Claimant("b")
    lanes.add(batch)
    lanes.add(later)
    heirs = [Claimant("a"), Claimant("b")]
    lanes.hand_over(batch, heirs)
    assert list(lanes.ahead(later)) == [heirs[1]]


# -- rows on the wire

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ROW = st.dictionaries(TEXT, VALUE, max_size=5)


@settings(deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_rows_of_json_say_what_the_standard_library_reads(rows):
    assert [stdlib_json.loads(body) for body in map(json.encode_row, rows)] == rows
    body = Wire("token").encode(BatchCall("m", {"x": True}, json.encode_rows(rows)), "id").body
    assert stdlib_json.loads(body) == {"token": "token", "format": "json", "x": True, "data": rows}


def test_rows_of_xml_are_what_a_call_with_a_list_would_be():
    rows = [{"external_id": "a", "lines": [{"n": 1}, {"n": 2}], "none": None}, {"external_id": "b <&>"}]
    wire = Wire("token", request_format="xml")
    batch = wire.encode(BatchCall("m", {}, xml.encode_rows(rows)), "id")
    assert batch.body == wire.encode(Call("m", {"data": rows}), "id").body


class Colour(Enum):
    RED = "red"


def test_enums_and_uuids_are_written_as_their_values_with_orjson_and_without():
    row = {"colour": Colour.RED, "id": uuid.UUID(int=7)}
    assert json.encode_row(row) == json._write_row_plain(row)
    assert stdlib_json.loads(json.encode_row(row)) == {"colour": "red", "id": str(uuid.UUID(int=7))}


@pytest.mark.parametrize("bad", [math.nan, math.inf, object(), {1, 2}, "\ud800", b"bytes"])
def test_what_cannot_be_written_is_an_error(bad):
    for write in (json.encode_row, lambda row: json.encode_rows([row])):
        with pytest.raises((TypeError, ValueError)):
            write({"x": {"y": bad}})


def test_a_row_that_holds_itself_is_an_error():
    row: dict = {}
    row["row"] = row
    with pytest.raises((RecursionError, TypeError, ValueError)):
        json.encode_row(row)
    with pytest.raises((RecursionError, TypeError, ValueError)):
        json.encode_rows([row])


NAMED = st.dictionaries(st.sampled_from(["data", "lines", "a"]), st.recursive(
    st.none() | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("data"), inner), max_leaves=8,
))  # fmt: skip


@settings(deadline=None)
@given(st.lists(NAMED, min_size=1, max_size=4), st.sampled_from(["json", "xml"]))
def test_rows_written_at_once_are_those_written_one_by_one_and_come_apart_again(rows, style):
    codec = row_codec(style)
    written = codec.encode_rows(rows)
    one_by_one = list(map(codec.encode_row, rows))
    assert codec.join_rows(one_by_one) == written
    assert codec.split_rows(written) == one_by_one
    assert codec.length_of_rows(written, len(rows)) == sum(map(len, one_by_one))


@pytest.mark.parametrize("name", ["@id", "#text", "two words", "", "2nd", "a:b"])
def test_a_name_that_no_element_can_have_is_an_error(name):
    for row in ({name: "x"}, {"custom_fields": {name: 1}}, {"lines": [{name: None}]}):
        with pytest.raises(ConfigurationError, match="request_format"):
            xml.encode_row(row)


@pytest.mark.parametrize("letter", ["\x00", "\x0b", "\x1f", "\ufffe", "\uffff"])
def test_what_no_xml_can_hold_is_an_error(letter):
    with pytest.raises(ValueError, match="control character"):
        xml.encode_row({"text": f"a{letter}b"})


# -- results per row


UNREADABLE, LOST = object(), object()


def told(said):
    """What a row's result says: its code and text, or which of the ways in which it says nothing that can be used."""
    if said is None or said.code is not None:
        return said
    return LOST if "does not name" in said.text else UNREADABLE


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({"error": 0}, None),
        ({"data": {"order_external_id": "x"}}, None),
        ({"data": [{"external_id": "a"}, {"external_id": "b"}]}, None),
        ({"result": [{"error": 0}, {"error": 400, "error_text": "no"}]}, [(0, ""), (400, "no")]),
        ({"result": [{"error": "0"}, {"error": " 400 ", "error_text": None}]}, [(0, ""), (400, "")]),
        ({"result": [{}, {"error": -1}]}, [None, (-1, "")]),
        ({"data": [{"external_id": "b", "error": 1}, {"external_id": "a", "error": 0}]}, [(0, ""), (1, "")]),
        ({"data": [{"external_id": "b", "error": 1}]}, [None, (1, "")]),
        ({"data": {"external_id": " B ", "error": 1}}, [None, (1, "")]),
        ({"data": [{"external_id": "b", "error": 1}, {"error": 0}]}, [None, (1, "")]),
        ({"data": [{"external_id": "b", "error": 1}, {"external_id": "b", "error": 1}]}, [None, (1, "")]),
        ({"data": [], "result": None}, None),
        # what stands around the rows, and other ways to write the names
        ({"result": [[{"error": 0}, {"error": 400}]]}, [(0, ""), (400, "")]),
        ({"result": {"orders": [{"error": 0}, {"error": 400}]}}, [(0, ""), (400, "")]),
        ({"data": {"result": [{"error": 0}, {"error": 400}]}}, [(0, ""), (400, "")]),
        ({"result": [{"xml": [{"error": 0}, {"error": 400}]}]}, [(0, ""), (400, "")]),
        ({"result": [{"xml": {"error": 0}}, {"xml": {"error": 400}}]}, [(0, ""), (400, "")]),
        ({"data": {"order": {"external_id": "b", "error": 400}}}, [None, (400, "")]),
        ({"result": {"a": {"error": 0}, "b": {"error": 400}}}, [(0, ""), (400, "")]),
        ({"result": [{"Error": 400, "ExternalID": "b", "ErrorText": "no"}]}, [None, (400, "no")]),
        ({"result": {"imported": 2}}, None),
        ({"result": ["a", "b"]}, None),
        ({"result": 7}, None),
        # what cannot be read
        ({"data": [{"external_id": "b", "error_text": "bad currency"}]}, [None, UNREADABLE]),
        ({"data": [{"external_id": "b", "success": False}]}, [None, UNREADABLE]),
        ({"data": [{"external_id": "b", "errors": ["bad"]}]}, [None, UNREADABLE]),
        ({"data": {"errors": [{"external_id": "b", "error": 1}]}}, [LOST, LOST]),
        ({"data": {}}, None),
        ({"data": [{"error": 1}, "x"]}, [(1, ""), UNREADABLE]),
        ({"data": [{"error": None}, {"error": True}]}, [None, UNREADABLE]),
        ({"data": [{"error": "E_BAD"}, {"error": None, "error_text": "bad"}]}, [UNREADABLE, UNREADABLE]),
        ({"data": [{"external_id": "b", "error": 1}, {"external_id": "b", "error": 0}]}, [None, UNREADABLE]),
        # what is said of a row that cannot be found
        ({"data": [{"external_id": 77, "error": 1}, {"external_id": 78, "error": 0}]}, [LOST, LOST]),
        ({"data": [{"external_id": "b", "error": 0}, {"external_id": "c", "error": 400}]}, [LOST, (0, "")]),
        ({"data": [{"external_id": "b", "error": 5}, {"external_id": "c", "error": 0}]}, [None, (5, "")]),
        ({"data": [{"error": 1}]}, [LOST, LOST]),
        ({"data": [{"error": 0}]}, [None, None]),
        ({"data": [{"error": 1}, {"error": 1}, {"error": 1}]}, [LOST, LOST]),
        ({"data": [{"error": "x"}, {"error": 0}, {"error": 0}]}, [LOST, LOST]),
    ],
)
def test_results_come_by_id_or_in_order_and_what_cannot_be_used_is_not_passed_over(payload, found):
    said = row_results(payload, ["a", "b"])
    assert (None if said is None else [*map(told, said)]) == found


@pytest.mark.parametrize("wrap", [lambda inside: {"rows": inside}, lambda inside: [inside]], ids=["objects", "arrays"])
@pytest.mark.parametrize(("depth", "found"), [(0, True), (1, True), (2, True), (3, True), (4, False)])
def test_of_what_stands_around_all_rows_three_layers_are_taken_away(wrap, depth, found):
    rows = [{"error": 0}, {"error": 400}]
    for _ in range(depth):
        rows = wrap(rows)
    assert row_results({"result": rows}, ["a", "b"]) == ([(0, ""), (400, "")] if found else None)


def test_in_a_refused_batch_a_row_that_was_made_and_cannot_be_found_may_be_any():
    payload = {"data": [{"external_id": "c", "error": 0}, {"external_id": "b", "error": 7}]}
    assert [*map(told, row_results(payload, ["a", "b"], refused=True))] == [LOST, (7, "")]
    payload["data"][0]["error"] = 8
    assert row_results(payload, ["a", "b"], refused=True) == [None, (7, "")]


def test_in_a_refused_batch_nothing_is_believed_of_a_row_that_was_taken():
    payload = {"data": [{"external_id": "b", "error": 0}, {"external_id": "a", "error": 1}]}
    assert [*map(told, row_results(payload, ["a", "b"], refused=True))] == [(1, ""), UNREADABLE]


def test_ids_that_are_alike_are_told_apart():
    payload = {"data": [{"external_id": "A", "error": 1}, {"external_id": "a", "error": 0}]}
    assert row_results(payload, ["a", "A"]) == [(0, ""), (1, "")]


def test_an_answer_that_names_one_line_is_that_of_a_line_update():
    assert line_named({"data": {"order_external_id": "o", "order_line_external_id": 7}}) == ("o", "7")
    assert line_named({"data": {"order_external_id": "o"}}) is None
    assert line_named({"data": [{"external_id": "o", "error": 0}]}) is None


# -- what stands in columns


def test_many_claims_are_like_those_that_are_written_out():
    claims = Alone(["a", "b", "c"])
    assert [*claims] == [("a", True), ("b", True), ("c", True)]
    assert (claims[-1], len(claims), [*claims[1:]]) == (("c", True), 3, [("b", True), ("c", True)])
    lanes = Lanes()
    batch, other, update = Claimant(), Claimant(), Claimant("b", alone=False)
    batch.claims, other.claims = claims, Alone(["c", "d"])
    assert lanes.add(batch)
    assert not lanes.add(other)
    assert not lanes.add(update)
    assert lanes.leave(batch) == [other, update]
    lanes.leave(other)
    lanes.leave(update)
    assert not len(lanes)


def test_outcomes_made_at_once_are_those_made_one_by_one():
    error = BadRequestError("no", status=400)
    batch = Batch(3, 2, 20)
    first = Outcome(0, None, OutcomeState.REJECTED, 2, 0.5, "id", error, batch=batch)
    made = outcomes_like(
        first,
        2,
        {"index": range(3, 5), "row": ["x", "y"], "external_id": ["a", "b"], "_content": [1, 2], "_size": [9, 11]},
    )
    assert made == [
        Outcome(3, None, OutcomeState.REJECTED, 2, 0.5, "id", error, None, "x", batch, "a", 1, 9),
        Outcome(4, None, OutcomeState.REJECTED, 2, 0.5, "id", error, None, "y", batch, "b", 2, 11),
    ]
    assert made[1].fingerprint == Fingerprint("b", 2, 11)


ANY_ID = st.sampled_from(["a", "b", "c", "", 7, True, None, 1.5, "\ud800"])
ORDERS = st.fixed_dictionaries(
    {"external_id": ANY_ID, "endpoint": st.sampled_from(["shop", ""]), "lines": st.sampled_from([[{"n": 1}], []])},
    optional={"rate": st.floats(), "note": TEXT, "set": st.just({1})},
).map(lambda row: {"status": "new", "total_price": "1", "currency": "RUB", **row})


@pytest.mark.parametrize("style", ["json", "xml"])
@settings(deadline=None)
@given(rows=st.lists(ORDERS, min_size=1, max_size=4))
def test_rows_read_at_once_are_those_read_one_by_one(style, rows):
    """What is unusual, as an id that comes twice, is left to the reading one by one."""
    codec = row_codec(style)
    many = rows_reader("market/orders/import", codec)(rows)
    one_by_one = [row_reader("market/orders/import", codec, 10_000)(row) for row in rows]
    if many is not None:
        assert not any(isinstance(read, InvalidUpdateError) for read in one_by_one)
        assert many[0] == [read[0].external_id for read in one_by_one]
        assert many[1] == codec.join_rows(read[1] for read in one_by_one)
    else:
        ids = [row["external_id"] for row in rows]
        unusual = any(isinstance(read, InvalidUpdateError) for read in one_by_one) or len(set(ids)) < len(ids)
        assert unusual or any(type(one) is not str for one in ids)
