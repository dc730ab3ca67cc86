"""``sync`` with inputs as people have them, by the command line."""

from __future__ import annotations

import json
import os
import shlex
import time
from typing import TYPE_CHECKING

import openpyxl
import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

HEADER = "order_external_id,order_line_external_id,status_external_id\n"


def aged(path: Path, seconds: float = 60) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_a_broken_quote_stops_the_run_and_the_rest_is_kept_for_later(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    head = HEADER.replace("\n", ",note\n")
    rest = 'order_2,line_2_1,new,"he said \\"hi\norder_9,line_9_1,canceled,x\n"\norder_3,line_3_1,delivered,y\n'
    command.write("in.csv", f"{head}order_1,line_1_1,delivered,x\n{rest}")
    ended = here("sync", "in.csv", "--failed", "failed.csv", "--json")
    assert ended.returncode == 2
    assert "Stopped: in.csv, line 3: text follows a closing quote" in ended.stderr
    assert "The rows that were not read are in failed.csv too." in ended.stderr
    assert command.read("failed.csv") == head + rest
    assert json.loads(ended.stdout)["complete"] is False
    assert sandbox.line_status("order_9", "line_9_1") == "new"
    assert here("sync", "in.csv", "--dry-run").returncode == 2


def test_a_journal_goes_on_when_the_half_last_line_has_got_longer(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    whole = HEADER + "order_1,line_1_1,delivered\norder_2,line_2_1,delivered"
    aged(command.write("in.csv", whole[:-5]), -60)  # however slowly the test runs
    first = here("sync", "in.csv", "--journal", "run.journal")
    assert first.returncode == 2
    assert "may be half of one (the file was written just now)" in first.stderr
    assert "(--last-line send)" in first.stderr
    assert sandbox.ledger.requests == 1
    command.write("in.csv", f"{whole}\norder_3,line_3_1,delivered\n")
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 0
    assert sandbox.line_status("order_2", "line_2_1") == "delivered"


def test_a_broken_quote_that_is_corrected_goes_on_under_the_same_journal(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", f'{HEADER}order_1,line_1_1,delivered\norder_2,line_2_1,"delivered\n')
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 2
    command.write("in.csv", f"{HEADER}order_1,line_1_1,delivered\norder_2,line_2_1,delivered\n")
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 0
    assert sandbox.ledger.requests == 2


def test_an_invalid_row_can_be_corrected_under_the_same_journal(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", f"{HEADER}order_1,line_1_1,delivered\norder_2,,delivered\n")
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 2
    command.write("in.csv", f"{HEADER}order_1,line_1_1,delivered\norder_2,line_2_1,delivered\n")
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 0
    assert sandbox.line_status("order_2", "line_2_1") == "delivered"
    assert sandbox.ledger.requests == 2


def test_a_constant_and_a_translated_status_are_what_the_journal_knows(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,Отгружен\norder_2,line_2_1,delivered\n")
    command.write("statuses.txt", "# ours\nОтгружен=delivered\nx=new\n")
    options = ("--status-file", "statuses.txt", "--status", "x=canceled")
    assert here("sync", "in.csv", "--journal", "run.journal", *options).returncode == 0
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 1
    assert here("journal", "export", "run.journal", "--input", "in.csv", *options).returncode == 0
    command.write("all.csv", "order_external_id,order_line_external_id\norder_1,line_1_1\norder_2,line_2_1\n")
    same = here("sync", "all.csv", "--journal", "run.journal", "--set", "status_external_id=delivered")
    assert (same.returncode, sandbox.ledger.requests) == (0, 2)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--set", "status=new"), "'status' is not a field of an update"),
        (("--set", "status_external_id"), "--set 'status_external_id' is not FIELD=VALUE"),
        (("--status", "=x"), "--status '=x' is not FROM=TO"),
        (("--status-file", "nowhere"), "nowhere cannot be read"),
        (("--encoding", "nowhere"), "'nowhere' is not an encoding"),
    ],
)
def test_an_impossible_option_is_refused(command: CommandLine, here: Here, option: tuple[str, str], said: str) -> None:
    command.write("in.csv", HEADER)
    ended = here("sync", "in.csv", *option)
    assert ended.returncode == 1
    assert said in ended.stderr


def run_hint(here: Here, stderr: str) -> subprocess.CompletedProcess[str]:
    """Run the command that a message gives."""
    hint = stderr.split("again: ")[1].splitlines()[0]
    return here(*shlex.split(hint)[1:])


@pytest.mark.parametrize(
    ("name", "options", "failed"),
    [
        ("in.jsonl", (), "failed.csv"),
        ("in.json", (), "failed.jsonl"),
        ("in.txt", ("--format", "csv"), "failed.jsonl"),
        ("in.xlsx", (), "failed.csv"),
        ("in.utf16", ("--encoding", "utf-16"), "failed.csv"),
        ("in.cp1251", ("--encoding", "cp1251", "--skip-lines", "1", "--set", "status_external_id=new"), "failed.csv"),
    ],
)
def test_the_command_that_a_run_prints_sends_what_failed(  # noqa: PLR0917 - fixtures and cases
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, name: str, options: tuple[str, ...], failed: str
) -> None:
    rows = [("order_1", "line_1_1", "new"), ("заказ", "строка", "new")]
    if name.endswith("xlsx"):
        book = openpyxl.Workbook()
        for row in (HEADER.strip().split(","), *rows):
            book.active.append(row)
        book.save(command.directory / name)
    elif "json" in name:
        objects = [dict(zip(HEADER.strip().split(","), row, strict=True)) for row in rows]
        text = json.dumps(objects) if name == "in.json" else "".join(json.dumps(one) + "\n" for one in objects)
        command.write(name, text)
    elif name == "in.cp1251":
        text = "Отчёт\n" + HEADER.replace(",status_external_id", "") + "".join(f"{a},{b}\n" for a, b, _ in rows)
        command.write(name, text.encode("cp1251"))
    else:
        text = HEADER + "".join(",".join(row) + "\n" for row in rows)
        command.write(name, text.encode("utf-16" if name == "in.utf16" else "utf-8"))
    ended = here("sync", name, *options, "--failed", failed)
    assert ended.returncode == 2
    sandbox.add_order("заказ", ["строка"])
    assert run_hint(here, ended.stderr).returncode == 0
    assert sandbox.ledger.requests == 3


def test_suspicion_is_told_with_its_count_and_stops_nothing(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,Delivered\n" * 2)
    for option in ("--dry-run", "--json"):
        ended = here("sync", "in.csv", option)
        said = "Suspicious: the status 'Delivered' is sent as it stands, and is not 'delivered': 2 rows, the first"
        assert said in ended.stderr
    (suspicion,) = json.loads(ended.stdout)["suspicions"]
    assert (suspicion["count"], suspicion["line"], suspicion["example"]) == (2, 2, "Delivered")


def test_no_control_character_reaches_a_terminal(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "\x1b[31morder_1,line_1_1,new\n" + "x" * 100_000 + ",\x9b2J,new\n")
    ended = here("sync", "in.csv", "--failed", "f.csv")
    assert "\x1b" not in ended.stderr
    assert "\x9b" not in ended.stderr
    assert len(ended.stderr) < 4000
