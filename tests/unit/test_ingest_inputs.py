"""Inputs as people have them: half-written, of other encodings, packed, out of Excel, and what is no CSV."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import time
import zipfile
from typing import TYPE_CHECKING

import openpyxl
import pytest

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.ingest import FIELDS, HeldBackError, InputError, InputFormat, UpdateReader, read_updates
from altcraft_async.ingest.suspicion import Suspicions, meant_status
from altcraft_async.ingest.text import LastLine, Watch
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from pathlib import Path

HEADER = b"order_external_id,order_line_external_id,status_external_id\n"
HALF = HEADER + b"o1,l1,delivered\no2,l2,de"
O1 = LineStatusUpdate("o1", "l1", "delivered")


def reader(data: bytes, **options: object) -> UpdateReader:
    return read_updates(io.BytesIO(data), name="in.csv", keep_rows=True, **options)  # type: ignore[arg-type]


def taken(source: UpdateReader) -> tuple[list[object], HeldBackError | None]:
    found: list[object] = []
    try:
        found.extend(source)
    except HeldBackError as error:
        return found, error
    return found, None


def aged(path: Path, seconds: float = 60) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


# A last line without its end


def test_half_a_last_line_of_a_file_that_was_just_written_is_held_back(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(HALF)
    with read_updates(aged(path, -60), keep_rows=True) as source:  # however slowly the test runs
        found, held = taken(source)
    assert found == [O1]
    assert held is not None
    assert (held.line, held.last_line, source.exhausted) == (3, True, False)
    assert "the file was written just now" in str(held)


def test_a_last_line_of_a_file_at_rest_counts_as_whole_and_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(HALF)
    with read_updates(aged(path)) as source:
        found, held = taken(source)
    assert held is None
    assert found == [O1, LineStatusUpdate("o2", "l2", "de")]
    assert source.notes == (f"{path}, line 3: the last line has no line end; it counts as whole",)


def test_a_last_line_of_a_file_that_changes_while_it_is_read_is_held_back(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(HALF)
    with read_updates(aged(path)) as source:
        with path.open("ab") as file:
            file.write(b"livered")
        aged(path)
        found, held = taken(source)
    assert found[0] == O1
    assert "the file was changed while it was read" in str(held)


def test_a_file_that_becomes_shorter_is_not_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(HEADER + b"o1,l1,delivered\n" * 10_000)
    with read_updates(aged(path)) as source:
        os.truncate(path, len(HEADER) + 16 * 5_000)
        _, held = taken(source)
    assert "became shorter while it was read" in str(held)
    assert not source.exhausted


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_half_a_last_line_of_a_pipe_is_held_back(name: str) -> None:
    data = HALF if name == "in.csv" else b'{"order_external_id": "o1", "order_line_ext'
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        _, held = taken(read_updates(stream, name=name))
    assert "a pipe that is cut off ends like this too" in str(held)


def test_a_whole_object_in_the_last_line_of_a_pipe_needs_no_line_end() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, json.dumps(dict(zip(FIELDS, ("o1", "l1", "delivered"), strict=True))).encode())
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        assert taken(read_updates(stream, name="stdin")) == ([O1], None)


@pytest.mark.parametrize(("choice", "rows"), [(LastLine.SEND, 2), (LastLine.HOLD, 1), (LastLine.AUTO, 2)])
def test_what_becomes_of_a_last_line_can_be_chosen(choice: LastLine, rows: int) -> None:
    found, held = taken(reader(HALF, last_line=choice))
    assert len(found) == rows
    assert (held is None) == (rows == 2)


def test_a_last_line_that_is_held_back_is_not_among_the_unread_rows() -> None:
    for read_first in (True, False):
        source = reader(HALF, last_line="hold")
        if read_first:
            taken(source)
        given: list[bytes] = []
        with pytest.raises(HeldBackError, match="may be half of one"):
            given.extend(source.unread())
        assert b"".join(given) == (b"" if read_first else b"o1,l1,delivered\n")


def test_half_a_last_object_is_not_among_the_unread_rows_either() -> None:
    source = read_updates(io.BytesIO(b'{"order_external_id": "o1", "or'), name="in.jsonl", last_line="hold")
    assert taken(source)[1] is not None
    with pytest.raises(HeldBackError, match="may be half of one"):
        list(source.unread())


def test_two_seconds_without_a_write_settle_a_file(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"x")
    now = path.stat().st_mtime
    with path.open("rb") as file:
        watch = Watch(file, opened_at=now + 1.9)
        with pytest.raises(HeldBackError):
            watch.let_pass("in.csv", 1)
        Watch(file, opened_at=now + 2.1).let_pass("in.csv", 1)


def test_the_rest_of_a_file_is_told_at_its_opening_however_long_the_reading_takes(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(HALF)
    then = path.stat().st_mtime
    for opened_at, rows in ((then + 1, 1), (then + 3, 2)):
        with read_updates(path, opened_at=opened_at) as source:
            assert len(taken(source)[0]) == rows


@pytest.mark.parametrize("piped", [True, False])
def test_packed_data_obey_the_law_of_the_last_line(tmp_path: Path, piped: bool) -> None:
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(HALF))
    if not piped:
        with read_updates(aged(path)) as source:
            assert len(taken(source)[0]) == 2
        with read_updates(path, last_line="hold") as source:
            assert taken(source)[0] == [O1]
        return
    read_end, write_end = os.pipe()
    os.write(write_end, path.read_bytes())
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        assert taken(read_updates(stream, name="in.csv"))[0] == [O1]


def test_packed_data_that_are_cut_off_never_give_half_a_line() -> None:
    source = reader(gzip.compress(HALF)[:-4])
    found, held = taken(source)
    assert found == [O1]
    assert "end in the middle" in str(held)
    with pytest.raises(HeldBackError, match="end in the middle"):
        list(source.unread())


def test_a_pipe_that_ends_inside_the_header_is_held_back() -> None:
    for data in (HEADER[:-1], HEADER[:30]):
        read_end, write_end = os.pipe()
        os.write(write_end, data)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as stream, pytest.raises(HeldBackError, match="a pipe that is cut off"):
            read_updates(stream, name="in.csv")


# Marks, headers, blank lines, surplus


def test_joined_files_are_read_and_their_headers_passed_over() -> None:
    part = b"\xef\xbb\xbf" + HEADER.upper() + b"o1,l1,delivered\n"
    source = reader(part * 3)
    assert taken(source) == ([O1] * 3, None)
    assert source.notes == ("in.csv, line 3: the header stands here again; it was passed over, and 1 more",)


@pytest.mark.parametrize(
    "header",
    [
        b"status_external_id,order_external_id,order_line_external_id\n",
        b"ORDER_LINE_external_id, status_external_id ,order_external_id\n",
        b"x,order_external_id,order_line_external_id,status_external_id\n",
        b'"status_external_id","order_external_id","order_line_external_id"\n',
    ],
)
def test_behind_a_header_of_another_order_everything_is_held_back(header: bytes) -> None:
    rest = header + b"delivered,o2,l2\n"
    source = reader(HEADER + b"o1,l1,delivered\n" + rest)
    found, held = taken(source)
    assert found == [O1]
    assert str(held).startswith("in.csv, line 3: the header stands here again, with other columns or in another order")
    assert b"".join(source.unread()) == rest


def test_what_a_database_writes_for_people_beside_its_rows_is_passed_over_with_a_note() -> None:
    source = reader(HEADER + b"------,---,---- \no1,l1,delivered\n\n(1 row)\n(2 rows affected)\n")
    assert taken(source) == ([O1], None)
    assert [note.split(": ")[1] for note in source.notes] == [
        "a line of dashes, as databases write it for people; it was passed over",
        "a count of rows; it was passed over, and 1 more",
    ]


SIMPLY_READ = {
    "a separator line with a tab": b"sep=\t\n" + HEADER.replace(b",", b"\t") + b"o1\tl1\tdelivered\n",
    "doubled marks": b"\xef\xbb\xbf" * 2 + HEADER + b" \xef\xbb\xbf\xef\xbb\xbf o1,l1,delivered\n",
    "a mark inside quotes": HEADER + b'\xef\xbb\xbf"\xef\xbb\xbfo1","l1","delivered"\n',
    "a separator line": b"sep=|\norder_external_id|order_line_external_id|status_external_id\no1|l1|delivered\n",
    "a blank first line": b"\n,,\n" + HEADER + b"o1,l1,delivered\n",
    "rows of separators": HEADER + b",,\n ,\t,\no1,l1,delivered\n,,,,\n",
    "an empty surplus cell": HEADER + b"o1,l1,delivered,\n",
    "a header of another case": HEADER.title().replace(b",", b" , ") + b"o1,l1,delivered\n",
    "doubled carriage returns": (HEADER + b"o1,l1,delivered\n").replace(b"\n", b"\r\r\n"),
    "a large cell": HEADER.replace(b"\n", b",x\n") + b'o1,l1,delivered,"' + b"x" * 5_000_000 + b'"\n',
    "another charset": HEADER.replace(b"\n", b",x\n") + b"o1,l1,delivered," + "текст".encode("cp1251") + b"\n",
    "a quoted header over lines": b'"a\nb",' + HEADER + b"x,o1,l1,delivered\n",
    "gzip": gzip.compress(HEADER + b"o1,l1,delivered\n"),
}


@pytest.mark.parametrize("case", SIMPLY_READ, ids=str)
def test_what_should_simply_work_does(case: str) -> None:
    source = reader(SIMPLY_READ[case])
    assert taken(source) == ([O1], None)
    row = source.take_row(0)
    assert row is not None
    assert taken(reader(source.header + row.raw)) == ([O1], None)


def test_lines_before_the_header_can_be_left_out_and_belong_to_it() -> None:
    data = b"Report of today\n\n" + HEADER + b"o1,l1,delivered\n"
    source = reader(data, skip_lines=1)
    assert taken(source) == ([O1], None)
    assert source.header == b"Report of today\n\n" + HEADER


def test_two_columns_that_differ_by_case_are_told_apart_by_the_exact_name() -> None:
    data = HEADER.replace(b"\n", b",ORDER_EXTERNAL_ID\n") + b"o1,l1,delivered,x\n"
    source = reader(data)
    assert taken(source)[0] == [O1]
    assert "'order_external_id' more than once; the one that is written exactly so is read" in source.notes[0]
    with pytest.raises(InputError, match="2 times"):
        reader(data.replace(b"order_external_id", b"Order_external_id"))


# Encodings


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "cp866", "utf-16", "utf-16-le", "utf-8-sig"])
def test_an_encoding_can_be_given(encoding: str) -> None:
    text = "Заказ;Строка;Статус\nзаказ;строка;новый\n"
    columns = dict(zip(FIELDS, ("ЗАКАЗ", "Строка", "Статус"), strict=True))
    source = reader(text.encode(encoding), columns=columns, encoding=encoding)
    assert taken(source)[0] == [LineStatusUpdate("заказ", "строка", "новый")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Заказ;Строка заказа;Статус", "cp1251"),
        ("Заказ;Строка заказа;Статус", "koi8-r"),
        ("Заказ;Строка заказа;Статус", "cp866"),
        ("Zustände;größe", "cp1252"),
    ],
)
def test_the_likely_encoding_is_named(text: str, encoding: str) -> None:
    with pytest.raises(InputError) as caught:
        reader(f"{text}\n".encode(encoding))
    assert caught.value.encoding == encoding


def test_bytes_of_another_charset_in_an_id_are_told_with_the_likely_one() -> None:
    found, _ = taken(reader(HEADER + "заказ,l1,new\n".encode("cp1251")))
    (error,) = found
    assert isinstance(error, InvalidUpdateError)
    assert error.message.startswith("byte 0xE7 at position 1 is not UTF-8; it looks like cp1251")


def test_gzip_that_is_cut_off_gives_its_whole_lines_and_holds_back_the_rest() -> None:
    data = gzip.compress(HEADER + b"o1,l1,delivered\n" * 50_000, 0)
    found, held = taken(reader(data[: len(data) // 2]))
    assert set(found) == {O1}
    assert "the compressed data end in the middle" in str(held)


# JSON arrays


def test_an_array_of_objects_is_streamed_whatever_its_form() -> None:
    objects = [{**dict(zip(FIELDS, (number, "l", "new"), strict=True)), "note": "a\nb"} for number in range(3000)]
    for indent in (None, 2):
        data = b"\xef\xbb\xbf" + json.dumps(objects, indent=indent).encode()
        source = reader(data)
        assert source.format is InputFormat.JSON
        found = list(source)
        assert [row.order_external_id for row in found if isinstance(row, LineStatusUpdate)] == list(
            map(str, range(3000))
        )
        row = source.take_row(7)
        assert row is not None
        assert json.loads(row.raw) == objects[7]
        assert row.raw.count(b"\n") == 1


def test_a_wrong_element_is_a_row_and_a_broken_array_is_held_back() -> None:
    good = json.dumps(dict(zip(FIELDS, ("o1", "l1", "delivered"), strict=True)))
    found, held = taken(reader(f"[{good},\n17,{good},\n{{oops}}, {good}]".encode()))
    assert found[0] == found[2] == O1
    assert isinstance(found[1], InvalidUpdateError)
    assert found[1].line == 2
    assert str(held).startswith("in.csv, line 3: the JSON array breaks off or is wrong here")
    found, held = taken(reader(f"[{good}, {good[:20]}".encode()))
    assert found == [O1]
    assert held is not None


def test_what_was_not_read_of_an_array_is_given_as_json_lines() -> None:
    good = json.dumps(dict(zip(FIELDS, ("o1", "l1", "delivered"), strict=True)))
    source = reader(f"[{good},\n{good},{good}]".encode())
    next(iter(source))
    assert b"".join(source.unread()).decode() == f"{good}\n{good}\n"


def test_an_array_may_follow_another_and_nothing_else() -> None:
    good = json.dumps(dict(zip(FIELDS, ("o1", "l1", "delivered"), strict=True)))
    assert taken(reader(f"[{good}]\n \n[{good},{good}]\n".encode())) == ([O1] * 3, None)
    for junk in (good, "x", "]"):
        source = reader(f"[{good}]\n{junk}\n".encode())
        found, held = taken(source)
        assert found == [O1]
        assert "line 2: the JSON array breaks off or is wrong here (something else follows the array)" in str(held)
        with pytest.raises(HeldBackError):
            list(source.unread())


def test_keys_are_compared_without_case() -> None:
    data = json.dumps(dict(zip(map(str.upper, FIELDS), ("o1", "l1", "delivered"), strict=True))).encode() + b"\n"
    twice = data.replace(b"{", b'{"Order_external_id": "x", ')
    found = taken(reader(data + twice))[0]
    assert found[0] == O1
    assert "'order_external_id' is there 2 times" in str(found[1])


# Excel


def workbook(*rows: tuple[object, ...]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def excel(data: bytes, **options: object) -> UpdateReader:
    return read_updates(io.BytesIO(data), name="in.xlsx", keep_rows=True, **options)  # type: ignore[arg-type]


def test_a_workbook_is_read_with_its_numbers_as_digits() -> None:
    source = excel(
        workbook(
            ("", ""), ("Order", *FIELDS, None), ("x", 123, 45.0, "new", "surplus"[:0]), (), ("a,b\n", "o", "l", "new")
        )
    )
    assert source.format is InputFormat.XLSX
    assert taken(source)[0] == [LineStatusUpdate("123", "45", "new"), LineStatusUpdate("o", "l", "new")]
    row = source.take_row(1)
    assert row is not None
    assert row.line == 5
    assert taken(reader(source.header + row.raw))[0] == [LineStatusUpdate("o", "l", "new")]


@pytest.mark.parametrize(
    ("value", "said"),
    [(dt.datetime(2026, 1, 2), "a date or a time"), (True, "true or false"), (None, "empty")],  # noqa: DTZ001 - Excel knows no zones
)
def test_a_cell_that_is_no_id_is_refused(value: object, said: str) -> None:
    (error,) = taken(excel(workbook(FIELDS, (value, "l", "new"))))[0]
    assert isinstance(error, InvalidUpdateError)
    assert said in error.message
    assert error.line == 2


def test_a_refused_cell_is_refused_again_where_its_row_was_written() -> None:
    source = excel(workbook(FIELDS, (dt.datetime(2026, 1, 2), "l", "new"), ("o", True, "new")))  # noqa: DTZ001
    assert len(taken(source)[0]) == 2
    rows = [row.raw for index in range(2) if (row := source.take_row(index)) is not None]
    again = taken(reader(source.header + b"".join(rows)))[0]
    assert [type(row) for row in again] == [InvalidUpdateError] * 2
    assert b"order_external_id is a date or a time" in rows[0]


def test_a_place_in_a_workbook_is_a_row() -> None:
    (error,) = taken(excel(workbook(FIELDS, ("o", "", "new"))))[0]
    assert str(error).startswith("in.xlsx, row 2: ")


def test_what_a_workbook_hides_is_suspicious() -> None:
    book = openpyxl.Workbook()
    for row in (FIELDS, (123, "l", "new"), ("o", "l", "new")):
        book.active.append(row)
    book.active["A2"].number_format = "00000"
    book.active.row_dimensions[3].hidden = True
    book.create_sheet("Archive")
    file = io.BytesIO()
    book.save(file)
    source = excel(file.getvalue())
    assert len(taken(source)[0]) == 2
    assert [(found.what, found.count, found.example) for found in source.suspicions] == [
        ("other sheets, which are not read", 1, "Archive"),
        ("hidden rows, which are sent as all others", 1, "Sheet"),
        ("numbers with the format '00000', which are sent as bare digits", 1, "123"),
    ]


def test_a_sheet_that_breaks_off_gives_its_rows_and_holds_back_the_rest() -> None:
    whole = zipfile.ZipFile(io.BytesIO(workbook(FIELDS, *[("o1", "l1", "delivered")] * 50)))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as cut:
        for name in whole.namelist():
            data = whole.read(name)
            cut.writestr(name, data[: data.index(b'<row r="40"') + 30] if "sheet1" in name else data)
    source = excel(file.getvalue())
    found, held = taken(source)
    assert set(found) == {O1}
    assert "the sheet breaks off; open it in Excel and save it anew" in str(held)
    with pytest.raises(HeldBackError):
        list(source.unread())


def test_a_row_of_a_workbook_that_is_too_wide_is_told_in_its_own_words() -> None:
    (error,) = taken(excel(workbook(FIELDS, ("o", "l", "new", "x"))))[0]
    assert "where the header has 3; give every value a column with a name" in str(error)


def test_a_number_beyond_fifteen_digits_is_suspicious() -> None:
    source = excel(workbook(FIELDS, (12345678901234567890, "l", "new")))
    taken(source)
    assert [suspicion.what for suspicion in source.suspicions] == [
        "ids of more than 15 digits in number cells, of which Excel keeps only 15"
    ]


def test_a_file_that_only_looks_like_a_workbook_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read as an Excel workbook"):
        excel(b"PK\x03\x04" + b"x" * 100)
    for name, said in (
        ("content.xml", "is an OpenDocument file"),
        ("in.csv", "is a zip archive and no Excel workbook"),
    ):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, HEADER)
        with pytest.raises(InputError, match=said):
            excel(file.getvalue())
    with pytest.raises(InputError, match="is no Excel workbook"):
        excel(HEADER)


# What is no CSV

FOREIGN = {
    "workbook": (workbook(FIELDS), "is an Excel workbook, or another zip archive; read it as a workbook"),
    "xls": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
        "an Excel file of the old kind (.xls), or one with a password; save it as .xlsx without one",
    ),
    "page": (b"\n<!DOCTYPE html><html>", "is a web page (HTML)"),
    "xml": (b'<?xml version="1.0"?>', "is XML; export it as CSV"),
    "utf-16": (HEADER.decode().encode("utf-16"), "is UTF-16"),
    "utf-16 without a mark": (HEADER.decode().encode("utf-16-le"), "is UTF-16"),
    "psql": (b" order_external_id | x\n----+----\n o | x\n", "is the output of a database for people"),
    "mysql": (b"+-----+\n| order_external_id |\n", "is the output of a database for people"),
    "parquet": (b"PAR1\x15\x04", "cannot be read, it is damaged or cut off"),
    "pdf": (b"%PDF-1.7", "is a PDF"),
    "utf-16 big end first": (HEADER.decode().encode("utf-16-be"), "is UTF-16"),
    "utf-32": (HEADER.decode().encode("utf-32"), "is UTF-32"),
    "tar": (b"in.csv".ljust(257, b"\0") + b"ustar\x00", "is a tar archive"),
    "elf": (b"\x7fELF\x02\x01", "is a program"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
    "rar": (b"Rar!\x1a\x07\x01", "is a RAR archive"),
    "png": (b"\x89PNG\r\n\x1a\n", "is a picture"),
    "double gzip": (gzip.compress(gzip.compress(HEADER)), "is packed twice by gzip"),
}


@pytest.mark.parametrize("case", FOREIGN, ids=str)
def test_what_is_no_csv_is_named_in_one_sentence(case: str) -> None:
    data, said = FOREIGN[case]
    with pytest.raises(InputError) as caught:
        reader(data)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_the_encoding_that_a_message_names_is_one_that_reads_the_input() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        data = (HEADER + b"o1,l1,delivered\n").decode().encode(encoding)
        with pytest.raises(InputError) as caught:
            reader(data)
        assert taken(reader(data, encoding=caught.value.encoding)) == ([O1], None)
    _, held = taken(reader(data[:-1], encoding="utf-16-be"))
    assert "ends in the middle of a character" in str(held)
    with pytest.raises(InputError, match="begins with the mark of UTF-8, so it is not cp1251") as caught:
        reader(b"\xef\xbb\xbf" + HEADER, encoding="cp1251")
    assert caught.value.encoding == "utf-8"


def test_csv_that_is_called_json_is_named() -> None:
    with pytest.raises(InputError, match="is called JSON and is none"):
        read_updates(io.BytesIO(HEADER), name="in.json")


def test_something_must_be_left_to_read() -> None:
    with pytest.raises(ConfigurationError, match="nothing is left to read"):
        reader(HEADER, constants=dict.fromkeys(FIELDS, "x"))


def test_no_message_is_longer_than_a_screen() -> None:
    with pytest.raises(InputError) as caught:
        reader(b",".join(b"\x1b[31mcolumn %d%s" % (number, b"x" * 500) for number in range(1000)) + b"\n")
    assert len(str(caught.value)) < 1920
    assert str(caught.value).isprintable()


# Constants and statuses


def test_a_field_can_be_the_same_in_all_rows() -> None:
    data = b"order_external_id,order_line_external_id\no1,l1\nORDER_external_id,order_line_external_id\n,\n"
    assert taken(reader(data, constants={"status_external_id": "delivered"})) == ([O1], None)
    with pytest.raises(InputError, match="leave one of them out"):
        reader(HEADER, constants={"status_external_id": "delivered"})


def test_statuses_are_translated_and_others_sent_as_they_stand() -> None:
    data = HEADER + "o1,l1, Отгружен \no1,l1,Отгружен\no1,l1,other\n".encode()
    found = taken(reader(data, statuses={"Отгружен": "delivered"}))[0]
    assert found == [O1, O1, LineStatusUpdate("o1", "l1", "other")]


def test_constants_and_statuses_work_for_json_too() -> None:
    with_the_key = b'{"order_external_id": "o1", "order_line_external_id": "x"}\n'
    data = b'{"order_external_id": "o1", "status_external_id": "sent"}\n' + with_the_key
    first, error = taken(
        reader(data, constants={"order_line_external_id": "l1"}, statuses={"sent": "delivered"}, input_format="jsonl")
    )[0]
    assert first == O1
    assert isinstance(error, InvalidUpdateError)
    assert "leave one out" in error.message


# Suspicion


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("1.23E+15,l,new", "scientific notation"),
        ("5.0,l,new", "end in .0"),
        ('"=""00123""",l,new', "formula"),
        ("o,NULL,new", "no value"),
        ("o,\\N,new", "no value"),
        ("o,l\u200b1,new", "nobody sees"),
        ("o,l,Delivered", "is not 'delivered'"),
        ("o,l,cancelled", "is not 'canceled'"),
    ],
)
def test_what_is_suspicious_is_counted_with_its_first_place_and_stops_nothing(row: str, kind: str) -> None:
    source = reader(HEADER + b"o1,l1,delivered\n" + f"{row}\n".encode() * 2)
    assert len(taken(source)[0]) == 3
    (suspicion,) = source.suspicions
    assert kind in suspicion.what
    assert (suspicion.count, suspicion.line) == (2, 3)
    assert "2 rows, the first in line 3" in str(suspicion)


@pytest.mark.parametrize("status", ["delivered", "packed", "new", "news", "returned", "process"])
def test_other_statuses_are_not_suspicious(status: str) -> None:
    assert meant_status(status) is None


@pytest.mark.parametrize(
    "update", [("order_10", "a.b", "new"), ("1E", "10", "new"), ("2026.10.1", "N-1", "x"), ("Nullam", "ё", "x")]
)
def test_ordinary_ids_are_not_suspicious(update: tuple[str, str, str]) -> None:
    suspicions = Suspicions()
    suspicions.look(LineStatusUpdate(*update), 1)
    assert len(suspicions) == 0
