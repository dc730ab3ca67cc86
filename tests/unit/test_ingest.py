"""Reading updates out of CSV and JSON lines: what works, what is refused and how it says so."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.ingest import FIELDS, HeldBackError, InputError, InputFormat, KeptRow, UpdateReader, read_updates
from altcraft_async.ingest.table import fold
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from pathlib import Path

HEADER = b"order_external_id,order_line_external_id,status_external_id\n"


def reader(data: bytes, **options: object) -> UpdateReader:
    return read_updates(io.BytesIO(data), name="in.csv", **options)  # type: ignore[arg-type]


def rows(data: bytes, **options: object) -> list[LineStatusUpdate | InvalidUpdateError]:
    return list(reader(data, **options))


def updates(data: bytes, **options: object) -> list[tuple[str, str, str]]:
    return [
        (row.order_external_id, row.order_line_external_id, row.status_external_id)
        for row in rows(data, **options)
        if isinstance(row, LineStatusUpdate)
    ]


def errors(data: bytes, **options: object) -> list[InvalidUpdateError]:
    return [row for row in rows(data, **options) if isinstance(row, InvalidUpdateError)]


# What just works


@pytest.mark.parametrize("separator", [b",", b";", b"\t"], ids=["comma", "semicolon", "tab"])
def test_each_separator_is_found_from_the_header(separator: bytes) -> None:
    data = (HEADER + b"o1,l1,new\no2,l2,delivered\n").replace(b",", separator)
    assert updates(data) == [("o1", "l1", "new"), ("o2", "l2", "delivered")]


def test_the_separator_is_the_one_that_gives_the_needed_columns() -> None:
    data = b"order_external_id;order_line_external_id;status_external_id;a,b,c,d,e,f,g\no;l;new;1,2\n"
    assert updates(data) == [("o", "l", "new")]


@pytest.mark.parametrize("data", [HEADER + b"o,l,new\n", HEADER.replace(b"\n", b"\r\n") + b"o,l,new\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_just_work(data: bytes) -> None:
    assert updates(b"\xef\xbb\xbf" + data) == [("o", "l", "new")]


def test_quoted_fields_may_hold_separators_quotes_and_line_breaks() -> None:
    data = b"comment," + HEADER + b'"a, ""b""\nc",o1,l1,new\nplain,"o,2",l2,new\n'
    assert updates(data) == [("o1", "l1", "new"), ("o,2", "l2", "new")]


def test_columns_may_stand_in_any_order_among_others_and_be_mapped() -> None:
    data = b"Status;Note;Line;Order\nnew;x;l1;o1\n"
    columns = dict(zip(FIELDS, ("Order", "Line", "Status"), strict=True))
    assert updates(data, columns=columns) == [("o1", "l1", "new")]


def test_blanks_around_csv_values_and_blank_lines_are_dropped() -> None:
    assert updates(HEADER + b"\n o1, l1 , new\n\n\no2,l2,new\n\n") == [("o1", "l1", "new"), ("o2", "l2", "new")]


def test_the_last_line_needs_no_line_end() -> None:
    assert updates(HEADER + b"o,l,new") == [("o", "l", "new")]


def test_a_header_without_rows_is_an_input_of_no_updates() -> None:
    source = reader(HEADER)
    assert list(source) == []
    assert source.exhausted


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("in.csv", HEADER, InputFormat.CSV),
        ("in.ndjson", b'{"a":1}\n', InputFormat.JSONL),
        ("stdin", HEADER, InputFormat.CSV),
        ("stdin", b'\xef\xbb\xbf {"a":1}\n', InputFormat.JSONL),
    ],
)
def test_the_format_follows_from_the_suffix_or_else_from_the_first_line(
    name: str, first: bytes, expected: InputFormat
) -> None:
    assert read_updates(io.BytesIO(first), name=name).format is expected


def test_json_lines_give_updates_of_mapped_keys_and_whole_numbers_count_as_digits() -> None:
    data = b'{"o": 17, "order_line_external_id": "l", "status_external_id": "new"}\n'
    assert updates(data, input_format="jsonl", columns={"order_external_id": "o"}) == [("17", "l", "new")]


def test_empty_json_lines_are_an_input_of_no_updates() -> None:
    assert rows(b"", input_format="jsonl") == []


def test_a_path_is_opened_and_closed_by_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"order_external_id":"o","order_line_external_id":"l","status_external_id":"new"}\n')
    with read_updates(path) as source:
        assert list(source) == [LineStatusUpdate("o", "l", "new")]
    assert source.format is InputFormat.JSONL
    assert source._close.__self__.closed


def test_a_stream_stays_the_callers() -> None:
    stream = io.BytesIO(HEADER)
    read_updates(stream).close()
    assert not stream.closed


# Nothing can be read at all


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"order_external_id,status_external_id\no,new\n", "line 1: the header lacks the column 'order_line_ext"),
        (
            b"o1,l1,new\n",
            "line 1: the header lacks the columns 'order_external_id', 'order_line_external_id', 'status_",
        ),
        (b"order_external_id," + HEADER, "line 1: the header has the column 'order_external_id' 2 times; rename"),
        (
            b"caf\xe9,x\n",
            "line 1: byte 0xE9 at position 4 is not UTF-8; it looks like cp1252: read it as that, or save",
        ),
        ("\ufefforder".encode("utf-16-le"), "is UTF-16; read it as that, or save it as UTF-8"),
        (HEADER.replace(b"\n", b"\r") + b"o,l,new\r", "line 1: a bare carriage return"),
    ],
)
def test_a_csv_that_cannot_be_read_at_all_is_refused_with_file_line_and_remedy(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        reader(data)
    assert str(caught.value).startswith("in.csv")
    assert said in str(caught.value)


def test_a_missing_column_names_the_field_and_the_columns_there_are() -> None:
    with pytest.raises(InputError) as caught:
        reader(b"Order;Line\n", columns={"order_external_id": "Order", "order_line_external_id": "Line"})
    assert caught.value.field == "status_external_id"
    assert "'Order', 'Line'" in str(caught.value)


def test_an_object_over_several_lines_is_refused_once() -> None:
    with pytest.raises(InputError, match="is not JSON lines"):
        reader(b'{\n"a": 1}\n', input_format="jsonl")


def test_a_file_that_is_not_there_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_updates(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="is a directory"):
        read_updates(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": {"order": "Order"}}, "'order' is not a field"),
        ({"columns": {"order_external_id": " "}}, "the column for order_external_id is empty"),
        ({"input_format": "ods"}, "'ods' is not an input format; choose csv, jsonl, json, xlsx"),
        ({"constants": {"order": "1"}}, "'order' is not a field"),
        ({"encoding": "utf-99"}, "'utf-99' is not an encoding"),
        ({"last_line": "drop"}, "'drop' is not a choice for a last line; choose auto, send, hold"),
    ],
)
def test_an_impossible_setting_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        reader(HEADER, **options)


def test_a_needless_column_that_stands_twice_is_noted_and_does_no_harm() -> None:
    source = reader(b"note,note,,," + HEADER + b"a,b,,,o,l,new\n")
    assert list(source) == [LineStatusUpdate("o", "l", "new")]
    assert len(source.notes) == 1
    assert "'note' more than once" in source.notes[0]


# One row is wrong

BAD_CSV_ROWS = {
    "empty id": (b"o,,new\n", "order_line_external_id is empty"),
    "blank id": (b"o,  ,new\n", "order_line_external_id is empty"),
    "control character": (b"o,l\x07x,new\n", "U+0007 at position 2"),
    "bad utf-8": (b"o,l\xff,new\n", "byte 0xFF at position 4 is not UTF-8"),
    "too few columns": (b"o,l\n", "the row has 2 columns where the header has 3"),
    "too many columns": (b"o,l,new,x\n", "the row has 4 columns where the header has 3"),
    "carriage return": (b"o\rp,l,new\n", "carriage return"),
}


@pytest.mark.parametrize("bad", BAD_CSV_ROWS, ids=str)
def test_a_bad_csv_row_is_an_error_in_its_place_and_the_others_go_on(bad: str) -> None:
    raw, said = BAD_CSV_ROWS[bad]
    source = reader(HEADER + b"a,1,new\n" + raw + b"b,2,new\nc,3,new\n", keep_rows=True)
    first, error, second, third = source
    assert [first, second, third] == [LineStatusUpdate(*row, "new") for row in (("a", "1"), ("b", "2"), ("c", "3"))]
    assert isinstance(error, InvalidUpdateError)
    assert (error.source, error.line) == ("in.csv", 3)
    assert said in str(error)
    assert ";" in error.message  # what is wrong; what to do about it
    assert source.take_row(1) == KeptRow(3, raw)


def test_a_bad_id_names_its_field_and_its_mapped_column() -> None:
    (error,) = errors(b"Order,order_line_external_id,status_external_id\n,l,new\n", columns={FIELDS[0]: "Order"})
    assert error.field == "order_external_id"
    assert str(error).endswith("(column 'Order')")


def test_lines_are_numbered_as_an_editor_does_across_rows_of_several_lines() -> None:
    data = b"note," + HEADER + b'"a\nb\nc",o1,l1,new\n\nx,o2,,new\n'
    (error,) = errors(data)
    assert error.line == 6


BAD_JSON_LINES = {
    "not json": (b'{"order_external_id": \n', "is not JSON"),
    "array": (b"[1]\n", "is no JSON object"),
    "missing key": (b'{"order_external_id": "o"}\n', "the key 'order_line_external_id' is missing"),
    "wrong type": (b'{"order_external_id":true,"order_line_external_id":"l","status_external_id":"s"}\n', "not bool"),
    "null": (
        b'{"order_external_id":null,"order_line_external_id":"l","status_external_id":"s"}\n',
        "order_external_id is missing",
    ),
    "lone surrogate": (
        b'{"order_external_id":"\\ud800","order_line_external_id":"l","status_external_id":"s"}\n',
        "U+D800",
    ),
    "bad utf-8": (b'{"order_external_id":"\xe9"}\n', "byte 0xE9 at position 23 is not UTF-8"),
    "bottomless": (b"[" * 100_000 + b"\n", "cannot be read"),
    "endless number": (b'{"order_external_id":' + b"1" * 10_000 + b"}\n", "cannot be read"),
}


@pytest.mark.parametrize("bad", BAD_JSON_LINES, ids=str)
def test_a_bad_json_line_is_an_error_in_its_place_and_the_others_go_on(bad: str) -> None:
    raw, said = BAD_JSON_LINES[bad]
    good = b'{"order_external_id":"o","order_line_external_id":"l","status_external_id":"new"}\n'
    source = reader(good + raw + good, input_format="jsonl", keep_rows=True)
    first, error, last = source
    assert first == last == LineStatusUpdate("o", "l", "new")
    assert isinstance(error, InvalidUpdateError)
    assert str(error).startswith("in.csv, line 2: ")
    assert said in str(error)
    assert source.take_row(1) == KeptRow(2, raw)


def test_a_row_error_holds_no_frames() -> None:
    assert all(error.__traceback__ is None and error.__context__ is None for error in errors(HEADER + b"o,,new\n"))


# The original rows


def test_rows_are_kept_as_they_stood_and_can_be_read_again() -> None:
    body = b'"x, ""y""";o1;l1;new\n"several\nlines";o2;l2;new\nz;o3;l3;new'
    source = reader(b"\xef\xbb\xbfnote;" + HEADER.replace(b",", b";") + body, keep_rows=True)
    assert len(list(source)) == 3
    again = source.header + b"".join(row.raw for index in (1, 2) if (row := source.take_row(index)))
    assert again.endswith(b'\n"several\nlines";o2;l2;new\nz;o3;l3;new\n')
    assert updates(again) == [("o2", "l2", "new"), ("o3", "l3", "new")]


def test_a_row_is_given_once_and_only_where_rows_are_kept() -> None:
    kept, unkept = reader(HEADER + b"o,l,new\n", keep_rows=True), reader(HEADER + b"o,l,new\n")
    assert len(list(kept)) == len(list(unkept)) == 1
    assert kept.take_row(0) == KeptRow(2, b"o,l,new\n")
    assert kept.take_row(0) is None
    assert unkept.take_row(0) is None


def test_rows_that_nobody_will_ask_for_can_be_dropped() -> None:
    source = reader(HEADER + b"".join(b"o%d,l,new\n" % number for number in range(5)), keep_rows=True)
    assert len(list(source)) == 5
    source.drop_rows(0, 3)
    assert source.first_kept == 3
    assert [source.take_row(index) is None for index in range(5)] == [True, True, True, False, False]


def test_an_input_left_in_the_middle_gives_its_kept_and_its_unread_rows() -> None:
    lines = [b"o%d,l,new\n" % number for number in range(9)]
    source = reader(HEADER + b"".join(lines), keep_rows=True)
    handed = iter(source)
    for _ in range(4):
        next(handed)
    source.take_row(1)
    kept = []
    while (index := source.first_kept) < source.rows_read:
        kept.append((index, source.take_row(index)))
    assert kept == [(index, KeptRow(index + 2, lines[index])) for index in (0, 2, 3)]
    assert b"".join(source.unread()) == b"".join(lines[4:])


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs"]), min_size=1, max_size=8).filter(
    lambda text: text.isprintable() and text.strip() == text
)


NO_LINE = TEXTS.filter(lambda text: fold(text).strip("-") != "")
"""Texts of which none begins a line of dashes, which is passed over."""


@given(st.lists(st.tuples(NO_LINE, TEXTS, TEXTS, st.text(st.characters(codec="utf-8", exclude_characters="\r")))))
def test_whatever_the_csv_writer_writes_is_read_and_kept_exactly(table: list[tuple[str, str, str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows([(*FIELDS, "note"), *table])
    data = written.getvalue().encode()
    source = reader(data, keep_rows=True)
    expected = [LineStatusUpdate(*row[:3]) for row in table if row[:3] != FIELDS]
    assert [row for row in source if isinstance(row, LineStatusUpdate)] == expected
    kept = [source.take_row(index) for index in range(len(table))]
    assert source.header + b"".join(row.raw for row in kept if row) == data


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_the_reader_fail_otherwise(junk: bytes) -> None:
    for data, input_format in ((HEADER + junk, "csv"), (b"\n" + junk, "jsonl"), (b"[" + junk, "json")):
        with contextlib.suppress(HeldBackError, InputError):
            found = rows(data, input_format=input_format)
            assert all(isinstance(row, LineStatusUpdate | InvalidUpdateError) for row in found)


# In a thread


async def test_rows_of_a_pipe_arrive_at_once_and_the_loop_stays_free() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as stream, open(write_end, "wb", buffering=0) as pipe:  # noqa: ASYNC230, PTH123
        pipe.write(HEADER)
        source = read_updates(stream, name="stdin").in_thread()
        for number in range(3):
            waiting = asyncio.ensure_future(anext(source))
            await asyncio.sleep(0)
            assert not waiting.done()
            pipe.write(b"o%d,l,new\n" % number)
            async with asyncio.timeout(30):
                assert await waiting == LineStatusUpdate(f"o{number}", "l", "new")
        pipe.close()
        assert [row async for row in source] == []


async def test_cancelling_a_wait_for_a_row_ends_at_once_though_the_read_blocks() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as stream, open(write_end, "wb", buffering=0) as pipe:  # noqa: ASYNC230, PTH123
        pipe.write(HEADER)
        source = read_updates(stream, name="stdin").in_thread()
        waiting = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 5)


async def test_the_thread_reads_no_further_ahead_than_told() -> None:
    source = reader(HEADER + b"o,l,new\n" * 1000)
    handed = source.in_thread(ahead=10)
    await anext(handed)
    await asyncio.sleep(0.01)
    assert source._rows._lines.number < 20
    assert len([row async for row in handed]) == 999
    assert source.exhausted
    assert source.rows_read == 1000


async def test_closing_the_threaded_rows_ends_the_thread() -> None:
    handed = reader(HEADER + b"o,l,new\n" * 1000).in_thread(ahead=10)
    await anext(handed)
    (thread,) = [one for one in threading.enumerate() if one.name == "altcraft-ingest"]
    await handed.aclose()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_a_failing_read_is_raised_to_the_reading_task() -> None:
    class Failing(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= len(HEADER):
                raise OSError(5, "Input/output error")
            return super().read1(size)

    source = read_updates(Failing(HEADER), name="stdin").in_thread()
    with pytest.raises(OSError, match="Input/output error"):
        await anext(source)
