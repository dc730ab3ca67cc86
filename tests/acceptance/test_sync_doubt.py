"""``sync`` where it is not certain what a row is, or what became of one."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import openpyxl
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

HEADER = "order_external_id,order_line_external_id,status_external_id\n"
MOVED = "status_external_id,order_external_id,order_line_external_id\n"
JOURNAL = ("--journal", "run.journal")


def aged(path: Path, seconds: float = 60) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def hint(stderr: str) -> list[str]:
    """Return the words of the command that a message gives, behind the program."""
    return shlex.split(stderr.split("again: ")[1].splitlines()[0])[1:]


# A journal


def test_a_corrected_row_never_puts_its_line_back(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    rest = "order_5,line_5_1,delivered\norder_6,line_6_1,delivered\n"
    command.write("in.csv", f"{HEADER}order_5,,processing\n{rest}order_6,,canceled\n")
    assert here("sync", "in.csv", *JOURNAL).returncode == 2
    command.write("in.csv", f"{HEADER}order_5,line_5_1,processing\n{rest}order_6,line_6_1,canceled\n")
    assert here("sync", "in.csv", *JOURNAL).returncode == 0
    assert sandbox.line_status("order_5", "line_5_1") == "delivered"
    assert sandbox.line_status("order_6", "line_6_1") == "canceled"
    assert '"superseded": 1' in here("journal", "show", "run.journal", "--json").stdout
    assert here("journal", "export", "run.journal", "--input", "in.csv").stdout.count("superseded") == 1
    assert here("sync", "in.csv", *JOURNAL).returncode == 0
    assert sandbox.ledger.requests == 3


def test_a_corrected_row_of_a_run_that_is_not_finished_waits_for_its_end(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    broken = 'order_7,line_7_1,"delivered\n'
    command.write("in.csv", f"{HEADER}order_5,,new\n{broken}")
    assert here("sync", "in.csv", *JOURNAL).returncode == 2
    command.write("in.csv", f"{HEADER}order_5,line_5_1,delivered\n{broken.replace(chr(34), '')}")
    first = here("sync", "in.csv", *JOURNAL, "--failed", "failed.csv")
    assert first.returncode == 2
    assert "the row was corrected, and is sent once the run is finished: run it again" in first.stderr
    assert command.read("failed.csv") == HEADER
    assert here("sync", "in.csv", *JOURNAL).returncode == 0
    assert sandbox.line_status("order_5", "line_5_1") == "delivered"


@pytest.mark.parametrize("half", ["de", "delivered"])
def test_a_journal_goes_on_with_a_last_line_that_was_sent_as_half(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, half: str
) -> None:
    start = HEADER + "order_1,line_1_1,delivered\n"
    aged(command.write("in.csv", f"{start}order_5,line_5_1,{half}"))
    first = here("sync", "in.csv", *JOURNAL)
    assert "line 3: the last line has no line end; it counts as whole" in first.stderr
    if half == "de":
        longer = f"{start}order_5,line_5_1,delivered\n"
    else:
        sandbox.add_order("order_5", ["line_5_10"])
        command.write("in.csv", f"{start.replace('order_1,line_1_1', 'order_2,line_2_1')}order_5,line_5_1,delivered\n")
        assert here("sync", "in.csv", *JOURNAL).returncode == 1  # another row than the last was changed
        return
    command.write("in.csv", longer + "order_6,line_6_1,delivered\n")
    said = "row 2 says more than when the journal run.journal recorded it as the last"
    extended = here("sync", "in.csv", *JOURNAL, "--extend")
    assert extended.returncode == 0
    assert extended.stderr.count(said) == 1
    assert sandbox.line_status("order_5", "line_5_1") == sandbox.line_status("order_6", "line_6_1") == "delivered"
    again = here("sync", "in.csv", *JOURNAL)
    assert again.returncode == 0
    assert said not in again.stderr


def test_a_last_line_that_got_longer_goes_on_without_extend(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    aged(command.write("in.csv", f"{HEADER}order_5,line_5_1,processing\norder_5,line_5_1,deliver"))
    assert here("sync", "in.csv", *JOURNAL).returncode == 2
    command.write("in.csv", f"{HEADER}order_5,line_5_1,processing\norder_5,line_5_1,delivered\n")
    assert here("sync", "in.csv", *JOURNAL).returncode == 0
    assert sandbox.line_status("order_5", "line_5_1") == "delivered"


def test_a_refused_run_leaves_the_record_of_failures_alone(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    rows = ["order_77,line_77_1,new\n", "order_1,line_1_1,new\n", "order_78,line_78_1,new\n"]
    command.write("in.csv", HEADER + "".join(rows))
    run = ("sync", "in.csv", *JOURNAL, "--failed", "failed.csv")
    assert here(*run).returncode == 2
    failures = HEADER + rows[0] + rows[2]
    assert command.read("failed.csv") == failures
    command.write("in.csv", HEADER + "".join(rows[:2]) + "order_79,line_79_1,new\n")
    for again in (run, (*run, "--retry-failed")):
        assert here(*again).returncode in {1, 2}
        assert command.read("failed.csv") == failures
    command.write("out.csv", "precious")
    for kind in ("failed", "export"):
        for output in ("out.csv", "new.csv"):
            assert here("journal", kind, "run.journal", "--input", "in.csv", "-o", output).returncode == 1
    assert command.read("out.csv") == "precious"
    assert not (command.directory / "new.csv").exists()


def test_a_header_that_is_deleted_again_changes_no_row(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    row = "order_{0},line_{0}_1,delivered\n".format
    command.write("in.csv", HEADER + row(1) + HEADER + row(2))
    first = here("sync", "in.csv", *JOURNAL)
    assert first.returncode == 0
    assert "Note: in.csv, line 3: the header stands here again; it was passed over" in first.stderr
    command.write("in.csv", HEADER + row(1) + row(2))
    assert here("sync", "in.csv", *JOURNAL).returncode == 0
    assert sandbox.ledger.requests == 2


def test_a_journal_of_two_names_is_refused(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,delivered\n")
    assert here("sync", "in.csv", *JOURNAL).returncode == 0
    (command.directory / "other.journal").hardlink_to(command.directory / "run.journal")
    refused = here("sync", "in.csv", "--journal", "other.journal")
    assert refused.returncode == 1
    assert "has another name (a hard link)" in refused.stderr
    assert here("journal", "show", "other.journal").returncode == 0


# What was not sent, and the hints


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("packed", [True, False])
def test_half_a_last_line_never_reaches_the_failed_file(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, packed: bool
) -> None:
    rejected = "".join(f"order_9{n},line_1,new\n" for n in range(0 if packed else 500))
    data = f"{HEADER}order_91,line_1,new\n{rejected}order_5,line_5_1,de".encode()
    command.write("in.csv", gzip.compress(data)[:-4] if packed else data)
    aged(command.directory / "in.csv")
    ended = here("sync", "in.csv", "--failed", "failed.csv", *(() if packed else ("--last-line", "hold")))
    assert ended.returncode == 2
    assert "order_5" not in command.read("failed.csv")
    assert ("in failed.csv too, but not all of them" in ended.stderr) is not packed
    assert ("What was held back is not in failed.csv." in ended.stderr) is packed
    words = hint(ended.stderr)
    assert ("--last-line" in words) is not packed
    sandbox.add_order("order_91", ["line_1"])
    here(*words)
    assert sandbox.line_status("order_91", "line_1") == "new"
    assert sandbox.line_status("order_5", "line_5_1") == "new"


def test_behind_a_header_of_another_order_nothing_is_sent(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", f"{HEADER}order_1,line_1_1,delivered\n{MOVED}delivered,order_2,line_2_1\n")
    ended = here("sync", "in.csv", "--failed", "failed.csv")
    assert ended.returncode == 2
    assert "line 3: the header stands here again, with other columns or in another order" in ended.stderr
    assert command.read("failed.csv") == f"{HEADER}{MOVED}delivered,order_2,line_2_1\n"
    assert sandbox.ledger.requests == 1
    assert "Correct failed.csv where that stands, then send it again: " in ended.stderr


def test_nothing_behind_an_array_is_dropped_in_silence(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    one, two = (
        json.dumps(dict(zip(HEADER.strip().split(","), (f"order_{n}", f"line_{n}_1", "delivered"), strict=True)))
        for n in (1, 2)
    )
    command.write("in.json", f"[{one}]\n{two}\n")
    ended = here("sync", "in.json", "--failed", "failed.jsonl")
    assert ended.returncode == 2
    assert "something else follows the array" in ended.stderr
    assert "are in failed.jsonl too" not in ended.stderr
    command.write("in.json", f"[{one}]\n[{two}]\n")
    assert here("sync", "in.json").returncode == 0
    assert sandbox.line_status("order_2", "line_2_1") == "delivered"


def test_a_hint_says_what_must_be_corrected_first(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,,new\n")
    ended = here("sync", "in.csv", "--failed", "failed.csv")
    assert "Correct the rows in failed.csv, then send them again: " in ended.stderr
    command.write("in.csv", HEADER + 'order_1,"line_1_1,new\n')
    ended = here("sync", "in.csv", "--failed", "failed.csv")
    assert "Correct failed.csv where that stands, then send it again: " in ended.stderr
    command.write("in.csv", HEADER + "order_99,x,new\n" * 6)
    ended = here("sync", "in.csv", "--failed", "failed.csv")
    assert "When that is settled, send them again: " in ended.stderr


def test_a_refused_cell_of_a_workbook_is_never_sent_by_the_hint(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    book = openpyxl.Workbook()
    for row in (HEADER.strip().split(","), ("order_1", True, "new"), ("order_99", "x", "new")):
        book.active.append(row)
    book.save(command.directory / "in.xlsx")
    ended = here("sync", "in.xlsx", "--failed", "failed.csv")
    sent = sandbox.ledger.requests
    assert here(*hint(ended.stderr)).returncode == 2
    assert sandbox.ledger.requests == sent + 1
    assert here("sync", "in.xlsx", *JOURNAL).returncode == 2
    extracted = here("journal", "failed", "run.journal", "--input", "in.xlsx")
    assert 'order_1,True,new,"order_line_external_id is true or false' in extracted.stdout


def test_the_failed_file_is_no_workbook(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    refused = here("sync", "in.csv", "--failed", "failed.xlsx")
    assert refused.returncode == 1
    assert (
        "--failed writes CSV or JSON lines (.csv, .jsonl), and no workbook; call the file failed.csv" in refused.stderr
    )
    assert sandbox.ledger.requests == 0


@pytest.mark.parametrize("name", ["-f.csv", "a b.csv", f"{'x' * 200}.csv", "фай\udcffл.csv", "new\nline.csv"])
def test_a_hint_can_be_run_whatever_the_file_is_called(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, name: str
) -> None:
    rows = "order_1,line_1_1,new\norder_99,x,new\n"
    command.write("in.csv", HEADER + rows)
    statuses = [word for n in range(60) for word in ("--status", f"a_status_of_our_own_{n}=delivered")]
    ended = here("sync", "in.csv", f"--failed={name}", *statuses)
    printed = re.split("again: altcraft-async ", ended.stderr)[1].splitlines()[0]
    assert len(printed) > 1200
    shown = subprocess.run(["bash", "-c", f"printf '%s\\0' {printed}"], capture_output=True, check=True)
    assert here(*map(os.fsdecode, shown.stdout.split(b"\0")[:-1])).returncode == 2
    assert sandbox.ledger.requests == 3


# What is said


def test_blanks_around_a_translated_status_do_not_count(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,Shipped\norder_2,line_2_1,Gone\n")
    command.write("statuses.txt", "Gone = delivered \n")
    assert here("sync", "in.csv", "--status", "Shipped = delivered", "--status-file", "statuses.txt").returncode == 0
    assert sandbox.line_status("order_1", "line_1_1") == sandbox.line_status("order_2", "line_2_1") == "delivered"


def test_a_pipe_that_ends_inside_the_header_is_not_all_well(here: Here) -> None:
    for cut in (HEADER[:-1], HEADER[:40]):
        ended = here("sync", "-", stdin=cut.encode())
        assert ended.returncode == 2
        assert "stdin, line 1: the last line has no line end and may be half of one" in ended.stderr


def test_a_run_says_only_what_is_so(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER)
    assert here("sync", "in.csv").stderr == "There was no update to send.\n"
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    here("sync", "in.csv", *JOURNAL)
    assert (
        "Nothing is left to do: the one update was done in an earlier run." in here("sync", "in.csv", *JOURNAL).stderr
    )


@pytest.mark.processes
def test_a_closed_standard_output_is_one_sentence(command: CommandLine) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    closed = subprocess.run(
        ["bash", "-c", "python -m altcraft_async sync in.csv --results - >&-"],
        cwd=command.directory,
        env=command.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
    )
    assert (closed.returncode, closed.stderr) == (1, b"Error: - cannot be written: standard output is closed\n")
