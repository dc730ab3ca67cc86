"""The law of quotes: no row is made of the inside of a quoted cell, whatever stands around it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altcraft_async.errors import InvalidUpdateError
from altcraft_async.ingest import HeldBackError, read_updates
from altcraft_async.ingest.csv import all_quoted, split_record, split_simple
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async.ingest import UpdateReader

HEADER = "order_external_id,order_line_external_id,status_external_id,note\n"
INSIDE = "inside,line,canceled,x"


class Dribble(io.BytesIO):
    """A stream that gives its bytes in small pieces, as a pipe may."""

    size = 7

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self.size if size is None or size < 0 else min(size, self.size))


def read(text: str, *, piece: int = 0) -> tuple[UpdateReader, list[LineStatusUpdate | InvalidUpdateError], str | None]:
    """Return the reader, its rows, and why it held something back."""
    stream: io.BytesIO = io.BytesIO(text.encode())
    if piece:
        stream = Dribble(text.encode())
        stream.size = piece
    reader = read_updates(stream, name="in.csv", input_format="csv", keep_rows=True)
    found: list[LineStatusUpdate | InvalidUpdateError] = []
    try:
        found.extend(reader)
    except HeldBackError as error:
        return reader, found, str(error)
    return reader, found, None


def orders(found: Sequence[LineStatusUpdate | InvalidUpdateError]) -> list[str]:
    return [row.order_external_id for row in found if isinstance(row, LineStatusUpdate)]


NOTE = "\n".join([*(f"text {number}" for number in range(300)), INSIDE, "end"])


@pytest.mark.parametrize(
    "note",
    [NOTE, "x" * 140_000, f"{'x' * 140_000}\n{INSIDE}\n", f"{INSIDE}\n" * 30_000],
    ids=["300 lines", "long", "both", "much"],
)
def test_a_record_that_closes_well_is_one_record_however_long(note: str) -> None:
    _, found, held = read(f'{HEADER}o1,l,new,"{note}"\no2,l,new,y\n')
    assert (orders(found), held) == (["o1", "o2"], None)


BROKEN = {
    "a quote never closed": (f'o1,l,new,"note\n{INSIDE}\n', "a quote is opened and not closed"),
    "a backslash before a quote": (f'o1,l,new,"he said \\"hi\n{INSIDE}\nend"\n', "text follows a closing quote"),
    "an undoubled quote": (f'o1,l,new,"a 5" pipe\n{INSIDE}\nend"\n', "text follows a closing quote"),
    "blanks before the quote": (f'o1,l,new, "a 5" pipe\n{INSIDE}\nend"\n', "text follows a closing quote"),
    "a stray quote closed by a cell": (f'o1,l,new,"5\no2,l,new,", a\n{INSIDE}\n"\n', "may be a stray one"),
    "a stray quote in an id": (f'o1,"l,new,x\no2,l,new,"\n{INSIDE}\n"\n', "may be a stray one"),
    "a carriage return before the quote": (f'o1,l,new,x\r"note\n{INSIDE}\n"\n', "a bare carriage return"),
    "a formula's quote": (f'="o1,l,new,x\n{INSIDE}\nend"\n', 'a quote behind "=" is opened and not closed'),
    "a wide blank before the quote": (f'o1,l,new,\u2003"note\n{INSIDE}\n', "a quote is opened and not closed"),
    "a quote of a megabyte": (f'o1,l,new,"{"x" * 1_000_000}\n{INSIDE}\n', "not closed"),
}


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_from_a_broken_record_on_everything_is_held_back_together_and_told_once(case: str) -> None:
    text, said = BROKEN[case]
    reader, found, held = read(f"{HEADER}o0,l,new,\n{text}o9,l,new,z\n")
    assert orders(found) == ["o0"]
    assert len(found) == 1
    assert held is not None
    assert held.startswith("in.csv, line 3: ")
    assert said in held
    assert not reader.exhausted
    assert b"".join(reader.unread()).decode() == f"{text}o9,l,new,z\n"


def test_a_quote_is_held_up_to_16_mb_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("altcraft_async.ingest.csv.MAX_RECORD_BYTES", 1000)
    _, found, held = read(f'{HEADER}o1,l,new,"{INSIDE}\n{"x" * 500}\n{"x" * 500}\n"\no2,l,new,\n')
    assert found == []
    assert "not closed within" in str(held)


def test_a_line_beyond_measure_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("altcraft_async.ingest.text.MAX_RECORD_BYTES", 200_000)
    reader, found, held = read(f"{HEADER}o1,l,new,\no2,l,new,{'x' * 300_000}\no3,l,new,\n")
    assert orders(found) == ["o1"]
    assert "line 3: the line is longer than" in str(held)
    assert b"".join(reader.unread()).endswith(b"x\no3,l,new,\n")


def test_a_row_that_does_not_fit_is_a_row_of_its_own_where_its_end_is_certain() -> None:
    _, found, held = read(f'{HEADER}o1,l,new,1,50,"note\n{INSIDE}\nend"\no2,l,new,x\n')
    assert held is None
    assert isinstance(found[0], InvalidUpdateError)
    assert orders(found) == ["o2"]


def test_a_formula_that_closes_on_its_line_is_text() -> None:
    _, found, held = read(f'{HEADER}="o1",l,new,"a\nb"\n="o2",l,="new",="x"\n')
    assert (orders(found), held) == (['="o1"', '="o2"'], None)


def test_a_quote_in_the_middle_of_a_cell_is_text() -> None:
    _, found, held = read(f'{HEADER}o1,l,new,5" pipe\no"2",l,new,"a"\no3, "l" ,new, "x" \n')
    assert held is None
    assert found == [
        LineStatusUpdate("o1", "l", "new"),
        LineStatusUpdate('o"2"', "l", "new"),
        LineStatusUpdate("o3", "l", "new"),
    ]


CELLS = st.text(st.sampled_from('ab ,;\n"\u00a0ё'), max_size=6)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=5)


@given(TABLES, st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_records_are_split_as_the_standard_says(table: list[list[str]], quoting: int) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n", quoting=quoting).writerows(table)
    lines = iter(written.getvalue().removesuffix("\n").split("\n"))
    for line, row in zip(lines, table, strict=True):
        simple = split_simple(line, ",") if '"' in line else None
        assert simple is None or simple == row
        assert split_record(line, ",", lines.__next__) == row


LINES_WITH_QUOTES = st.lists(st.text(st.sampled_from('a,"'), max_size=9), min_size=1, max_size=4)


@given(LINES_WITH_QUOTES, st.booleans())
def test_lines_of_quoted_cells_alone_are_told_together(lines: list[str], ends: bool) -> None:
    if all_quoted("\n".join(lines) + "\n" * ends, '","'):
        assert all(line[1:-1].split('","') == split_record(line, ",", iter(()).__next__) for line in lines)


@given(
    st.lists(st.lists(st.text(st.sampled_from("ab ,;"), max_size=6), min_size=1, max_size=3), min_size=1, max_size=4)
)
def test_lines_as_programs_quote_them_are_found(table: list[list[str]]) -> None:
    assert all_quoted("".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in table), '","') or any(
        cell[:1] == "," or cell[-1:] == "," for row in table for cell in row
    )


LINES_OF_A_NOTE = st.lists(st.sampled_from([INSIDE, "text", "", '"', "a,b", "\ufeff" + INSIDE]), min_size=1, max_size=4)


@st.composite
def chunks(draw: st.DrawFn) -> tuple[str, list[str], bool]:
    """Give a piece of a file, the orders that it has by its writer's mind, and whether it is sound."""
    order = f"o{draw(st.integers(0, 99))}"
    note = "\n".join(draw(LINES_OF_A_NOTE))
    quoted = '"' + note.replace('"', '""') + '"'
    kind = draw(st.sampled_from(SOUND + UNSOUND))
    text, has = {
        "plain": (f"{order},l,new,text\n", True),
        "quoted": (f'"{order}","l","new",{quoted}\n', True),
        "note": (f"{order},l,new,{quoted}\n", True),
        "blanks": (f'{order} , "l" ,new, {quoted} \n', True),
        "windows": (f"{order},l,new,{quoted}\r\n", True),
        "mark": (f"\ufeff{order},l,new,text\n", True),
        "inch": (f'{order},l,new,5" pipe\n', True),
        "surplus": (f"{order},l,new,text,surplus\n", False),
        "empty surplus": (f"{order},l,new,text,\n", True),
        "empty": ("\n,,,\n", False),
        "header": (HEADER.upper(), False),
        "long surplus": (f"{order},l,new,1,50,{quoted}\n", False),
        "undoubled": (f'{order},l,new,"a "b" c\n{note.replace(chr(34), "")}\n"\n', False),
        "backslash": (f'{order},l,new,"a \\"b\n{INSIDE}\n\\" c"\n', False),
        "stray": (f'{order},l,new,"5 pipe\n', False),
        "open": (f'"{order},l,new,x\n', False),
    }[kind]
    return text, [order] if has else [], kind in SOUND


SOUND = ["plain", "quoted", "note", "blanks", "windows", "mark", "inch", "surplus", "empty surplus", "empty", "header"]
UNSOUND = ["long surplus", "undoubled", "backslash", "stray", "open"]


PIECES = (st.lists(chunks(), max_size=8), st.sampled_from([0, 1, 5, 64]))


@settings(max_examples=120, deadline=None)
@given(*PIECES)
def test_no_row_is_made_of_the_inside_of_a_quoted_cell(pieces: list[tuple[str, list[str], bool]], piece: int) -> None:
    check_rows(pieces, piece)


@pytest.mark.simulate
@settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(*PIECES)
def test_in_many_inputs_no_row_is_made_of_it(pieces: list[tuple[str, list[str], bool]], piece: int) -> None:
    check_rows(pieces, piece)


def check_rows(pieces: list[tuple[str, list[str], bool]], piece: int) -> None:
    text = HEADER + "".join(one[0] for one in pieces)
    reader, found, held = read(text, piece=piece)
    meant = [order for one in pieces for order in one[1]]
    sound = all(one[2] for one in pieces)
    sent = orders(found)
    if stray_meets_line_break(pieces):
        return
    assert "inside" not in sent
    assert sent == meant if sound else sent == meant[: len(sent)] or held is None
    assert held is None if sound else True
    chosen = range(0, len(found), 2)
    kept = [row for index in chosen if (row := reader.take_row(index)) is not None]
    again = read(reader.header.decode() + b"".join(row.raw for row in kept).decode(), piece=piece)[1]
    assert list(map(describe, again)) == [describe(found[index]) for index in chosen]


def stray_meets_line_break(pieces: Sequence[tuple[str, list[str], bool]]) -> bool:
    """Say whether a stray quote is closed by the opening one of a cell that begins with a line break.

    That is a CSV without a fault, by the standard, of which nobody can tell that it is not meant so.
    """
    stray = [index for index, one in enumerate(pieces) if one[0].count('"') % 2 and "pipe" in one[0] and not one[2]]
    return bool(stray) and any('"\n' in one[0] or '"\r' in one[0] for one in pieces[stray[0] + 1 :])


def describe(row: LineStatusUpdate | InvalidUpdateError) -> object:
    return row if isinstance(row, LineStatusUpdate) else row.message
