"""``sync``: good lines go out, bad ones are told, and the exit code says which."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from altcraft_async.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

HEADER = "order_external_id,order_line_external_id,status_external_id\n"


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)


def lines_in(command: CommandLine, name: str) -> int:
    path = command.directory / name
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_good_file_is_applied_and_summed_up(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,processing\norder_1,line_1_1,delivered\norder_2,line_2_1,new\n")
    ended = here("sync", "in.csv", "--json")
    assert ended.returncode == 0
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"
    summary = json.loads(ended.stdout)
    assert (summary["updates"], summary["states"], summary["exit_code"]) == (3, {"applied": 3}, 0)
    assert "3 updates in" in ended.stderr
    assert "\x1b" not in ended.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"order_external_id,status_external_id\no,new\n", "in.csv, line 1: the header lacks the column 'order_line_"),
        (
            b"order_external_id," + HEADER.encode(),
            "in.csv, line 1: the header has the column 'order_external_id' 2 times; rename all but one",
        ),
        (b"", "in.csv is empty; a CSV starts with a header line"),
        (
            b"caf\xe9,x\n",
            "it looks like cp1252: read it as that, or save the file as UTF-8 (--encoding cp1252)",
        ),
    ],
    ids=["missing column", "duplicate header", "empty file", "header not utf-8"],
)
def test_an_input_that_cannot_be_read_exits_1_and_sends_nothing(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, content: bytes, said: str
) -> None:
    command.write("in.csv", content)
    ended = here("sync", "in.csv", "--results", "out.jsonl", "--failed", "failed.csv")
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert sandbox.ledger.requests == 0
    assert not (command.directory / "failed.csv").exists()


def test_a_missing_column_is_told_with_the_option_that_mends_it(command: CommandLine, here: Here) -> None:
    command.write("in.csv", "Order,order_line_external_id,status_external_id\norder_1,line_1_1,new\n")
    assert "(--map order_external_id=COLUMN)" in here("sync", "in.csv").stderr
    assert here("sync", "in.csv", "--map", "order_external_id=Order").returncode == 0


def test_bad_rows_are_told_with_their_lines_and_the_others_go_out(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    bad = {
        b"order_1,,new\n": r"1 invalid: order_line_external_id is empty.*\n    line 3\n",
        b"order_1,line\x07,new\n": r": order_line_external_id has the forbidden character U\+0007.*\n    line 4\n",
        b"order_1,line_\xff,new\n": r": byte 0xFF at position 14 is not UTF-8; it looks like cp1252.*\n    line 5\n",
        b"order_1,line_1_1\n": r": the row has 2 columns where the header has 3.*\n    line 6\n",
        HEADER.encode(): "in.csv, line 7: the header stands here again; it was passed over",
    }
    good = b'order_1,line_1_1,delivered\n%border_2,"line_2_1",delivered\n'
    command.write("in.csv", HEADER.encode() + good % b"".join(bad))
    ended = here("sync", "in.csv", "--failed", "failed.csv")
    assert ended.returncode == 2
    assert [said for said in bad.values() if not re.search(said, ended.stderr)] == []
    assert {sandbox.line_status("order_1", "line_1_1"), sandbox.line_status("order_2", "line_2_1")} == {"delivered"}
    assert (command.directory / "failed.csv").read_bytes() == HEADER.encode() + b"".join(list(bad)[:-1])


@pytest.mark.parametrize("separator", [";", "\t"], ids=["semicolon", "tab"])
def test_a_byte_order_mark_and_every_separator_just_work(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, separator: str
) -> None:
    command.write("in.csv", ("\ufeff" + HEADER + "order_1,line_1_1,delivered\n").replace(",", separator))
    assert here("sync", "in.csv").returncode == 0
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"


def test_the_failed_file_has_the_inputs_format_and_can_be_fed_again(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    head = "note;Order;Line;Status\n"
    bad = 'a;order_77;line_77_1;new\n"b;\n""c""";order_77;line_77_1;delivered\n'
    command.write("in.csv", head + "x;order_1;line_1_1;new\n" + bad)
    columns = zip(HEADER.strip().split(","), ("Order", "Line", "Status"), strict=True)
    mapping = [f"--map={field}={column}" for field, column in columns]
    first = here("sync", "in.csv", *mapping, "--failed", "failed.csv")
    assert first.returncode == 2
    assert command.read("failed.csv") == head + bad
    sandbox.add_order("order_77", ["line_77_1"])
    again = here("sync", "failed.csv", *mapping, "--failed", "none.csv")
    assert again.returncode == 0
    assert sandbox.line_status("order_77", "line_77_1") == "delivered"
    assert command.read("none.csv") == head
    assert "altcraft-async sync failed.csv --map order_external_id=Order" in first.stderr


def test_failed_json_lines_keep_their_whole_objects(command: CommandLine, here: Here) -> None:
    bad = '{"id":[1, 2],"order_external_id":"nope","order_line_external_id":"l","status_external_id":"new"}\n'
    good = '{"order_external_id":"order_1","order_line_external_id":"line_1_1","status_external_id":"new"}\n'
    command.write("in.jsonl", good + bad + "{oops\n")
    ended = here("sync", "in.jsonl", "--failed", "failed.jsonl")
    assert ended.returncode == 2
    assert re.search(r"1 invalid: the line is not JSON.*\n    line 3\n", ended.stderr)
    assert command.read("failed.jsonl") == bad + "{oops\n"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_results_hold_one_whole_record_an_update(command: CommandLine, here: Here, name: str) -> None:
    command.write("in.csv", HEADER + 'order_1,line_1_1,new\nnope,"l,1",new\n,l,new\n')
    here("sync", "in.csv", "--results", name)
    text = command.read(name)
    if name.endswith("csv"):
        records = list(csv.DictReader(io.StringIO(text)))
    else:
        records = [{key: "" if value is None else str(value) for key, value in json.loads(line).items()}
                   for line in text.splitlines()]  # fmt: skip
    by_line = {record["line"]: record for record in records}
    assert [by_line[line]["state"] for line in "234"] == ["applied", "rejected", "invalid"]
    assert [by_line[line]["index"] for line in "234"] == ["0", "1", "2"]
    assert by_line["3"]["order_line_external_id"] == "l,1"
    assert "there is no order 'nope'" in by_line["3"]["error"]
    assert by_line["2"]["request_id"]
    assert by_line["4"]["order_external_id"] == ""


def test_results_go_to_stdout_on_request_and_nothing_else_does(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    silent = here("sync", "in.csv")
    assert silent.stdout == ""
    ended = here("sync", "in.csv", "--results", "-")
    assert [json.loads(line)["state"] for line in ended.stdout.splitlines()] == ["applied"]


@pytest.mark.processes
def test_standard_input_is_read_as_it_comes(command: CommandLine, sandbox: ThreadedSandbox) -> None:
    process = command.start("sync", "-", "--results", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(HEADER.encode())
    for status in ("processing", "delivered"):
        process.stdin.write(f"order_1,line_1_1,{status}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["status_external_id"] == status
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"


@pytest.mark.processes
def test_a_signal_ends_a_wait_for_standard_input(command: CommandLine) -> None:
    process = command.start("sync", "-", "--results", "out.jsonl", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write((HEADER + "order_1,line_1_1,new\n").encode())
    process.stdin.flush()
    wait_until(lambda: lines_in(command, "out.jsonl") == 1, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_a_wrong_token_costs_one_refused_call_and_exits_4(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    rows = "".join(f"order_{n},line_{n}_1,new\n" for n in range(1, 21))
    command.write("in.csv", HEADER + rows)
    ended = here("sync", "in.csv", "--failed", "failed.csv", "--json", ALTCRAFT_TOKEN="wrong")
    assert ended.returncode == 4
    assert json.loads(ended.stdout)["states"] == {"not_sent": 19, "rejected": 1}
    assert "check the token" in ended.stderr
    assert sandbox.ledger.requests == 1
    assert command.read("failed.csv") == HEADER + rows


def test_a_server_that_is_down_leaves_every_line_not_sent(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\norder_2,line_2_1,new\n")
    down = {"ALTCRAFT_BASE_URL": "http://127.0.0.1:9", "ALTCRAFT_ATTEMPTS": "2", "ALTCRAFT_FIRST_PATIENCE": "1"}
    ended = here("sync", "in.csv", "--results", "out.jsonl", **down)
    assert ended.returncode == 2
    assert "The server could not be reached; check the address" in ended.stderr
    records = [json.loads(line) for line in command.read("out.jsonl").splitlines()]
    assert [record["state"] for record in records] == ["not_sent"] * 2
    assert sum(record["attempts"] for record in records) < 20  # the two at first, then probes


def test_a_deadline_stops_the_run_with_exit_3_and_every_row_has_its_outcome(
    command: CommandLine, here: Here, slow: Callable[[float], None]
) -> None:
    slow(0.05)
    rows = "".join(f"order_{n % 20 + 1},line_{n % 20 + 1}_1,new\n" for n in range(500))
    command.write("in.csv", HEADER + rows)
    ended = here("sync", "in.csv", "--deadline", "0.3s", "--concurrency", "2", "--results", "out.jsonl")
    assert ended.returncode == 3
    assert "deadline" in ended.stderr
    assert sorted(json.loads(line)["index"] for line in command.read("out.jsonl").splitlines()) == list(range(500))


@pytest.mark.processes
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_leaves_whole_results_and_a_failed_file_to_go_on_with(  # noqa: PLR0917 - fixtures
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, slow: Callable[[float], None], number: int, code: int
) -> None:
    slow(0.02)
    life = ("new", "processing", "delivering", "delivered")
    table = [(f"order_{n}", f"line_{n}_{k}", status) for status in life * 8 for n in range(1, 21) for k in (1, 2)]
    command.write("in.csv", HEADER + "".join(",".join(row) + "\n" for row in table))
    files = ("--results", "out.jsonl", "--failed", "failed.csv")
    process = command.start("sync", "in.csv", *files, "--json", "--rate", "200")  # so that the signal is in time
    wait_until(lambda: lines_in(command, "out.jsonl") > 60, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    records = [json.loads(line) for line in command.read("out.jsonl").splitlines()]
    indices = [record["index"] for record in records]
    assert len(indices) == len(set(indices)) < len(table)
    assert json.loads(stdout)["complete"] is False
    applied = {record["index"] for record in records if record["state"] == "applied"}
    left = [",".join(row) for index, row in enumerate(table) if index not in applied]
    assert command.read("failed.csv").splitlines()[1:] == left
    sandbox.faults = type(sandbox.faults)()
    assert here("sync", "failed.csv").returncode == 0
    assert sandbox.check(table).ok


def test_a_dry_run_checks_everything_and_touches_nothing(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n,l,new\n")
    command.write("failed.csv", "precious")
    ended = here("sync", "in.csv", "--dry-run", "--failed", "failed.csv", "--json", ALTCRAFT_TOKEN="")
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["states"] == {"valid": 1, "invalid": 1}
    assert "1 invalid: order_external_id is empty; every update needs all three ids\n    line 3\n" in ended.stderr
    assert command.read("failed.csv") == "precious"
    assert sandbox.ledger.requests == 0


def test_a_limit_takes_only_the_first_rows(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,delivered\norder_2,line_2_1,delivered\n")
    assert here("sync", "in.csv", "--sample", "1").returncode == 0
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"
    assert sandbox.line_status("order_2", "line_2_1") == "new"


@pytest.mark.parametrize("failed", ["./in.csv", "link.csv"])
def test_the_input_is_never_overwritten(command: CommandLine, here: Here, failed: str) -> None:
    path = command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    (command.directory / "link.csv").symlink_to(path)
    ended = here("sync", "in.csv", "--failed", failed)
    assert ended.returncode == 1
    assert "are the same file" in ended.stderr
    assert command.read("in.csv") == HEADER + "order_1,line_1_1,new\n"


def test_a_results_file_that_cannot_be_written_is_refused_before_anything_is_sent(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    ended = here("sync", "in.csv", "--results", "no/such/place.csv")
    assert ended.returncode == 1
    assert "no/such/place.csv cannot be written" in ended.stderr
    assert sandbox.ledger.requests == 0


@pytest.mark.processes
def test_a_reader_of_the_results_that_goes_away_stops_the_run_in_peace(
    command: CommandLine, slow: Callable[[float], None]
) -> None:
    slow(0.01)
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n" * 300)
    process = command.start("sync", "in.csv", "--results", "-", "--failed", "failed.csv")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 2
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert "standard output cannot be written: Broken pipe" in said
    assert "Traceback" not in said
    assert 200 < lines_in(command, "failed.csv") < 301


def test_the_wire_log_has_a_line_a_request_and_no_token(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,processing\norder_1,line_1_1,delivered\n")
    assert here("sync", "in.csv", "--log-wire", "wire.jsonl").returncode == 0
    assert here("update", "order_1", "line_1_1", "new", "--log-wire", "wire.jsonl").returncode == 0
    text = (command.directory / "wire.jsonl").read_text()
    assert [json.loads(line)["status"] for line in text.splitlines()] == [200, 200, 200]
    assert sandbox.token not in text
    assert "line_1_1" not in text


def test_a_wire_log_that_cannot_be_opened_is_one_sentence(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER)
    ended = here("sync", "in.csv", "--log-wire", "nowhere/wire.jsonl")
    assert ended.returncode == 1
    assert "the wire log nowhere/wire.jsonl cannot be opened" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_next_run_begins_by_what_the_last_one_learned_unless_it_is_not_to_remember(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    # Long enough that more than four calls are there at once on a slow machine too.
    sandbox.seed_orders(80, 1)
    sandbox.faults = Faults(latency=0.1, slots=4, over_slots="reject")
    rows = [f"order_{number},line_{number}_1,delivered\n" for number in range(1, 81)]
    command.write("in.csv", HEADER + "".join(rows))
    state = command.directory.with_name(f"{command.directory.name}-state")
    patient = ("--attempts", "50", "--retry-base", "0.01", "--retry-max-delay", "0.05")
    assert here("sync", "in.csv", "--no-remember", *patient).returncode == 0
    assert not (state / "altcraft_async" / "limits.json").exists()

    assert here("sync", "in.csv", *patient).returncode == 0
    (entry,) = json.loads((state / "altcraft_async" / "limits.json").read_text()).values()
    assert 1 <= entry["limit"] <= 8
