"""What a person sees of the command line: progress, colours, reasons, words that are wrapped, a log when asked for."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from altcraft_async.cli.progress import Position, span_of
from altcraft_async.sandbox import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

HEADER = "order_external_id,order_line_external_id,status_external_id\n"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(command: CommandLine, *arguments: str, columns: int = 60, **environ: str) -> str:
    """Run the command with a terminal for its talk; return all that was written there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in command.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "altcraft_async", *arguments],
        cwd=command.directory, env={**kept, "TERM": "xterm", **environ}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    try:
        while block := os.read(leader, 65_536):
            seen += block
    except OSError:  # its end, on Linux
        pass
    os.close(leader)
    process.wait()
    command.said += seen.decode()
    return seen.decode().replace("\r\n", "\n")


@pytest.fixture
def failing(command: CommandLine) -> None:
    """Forty rows that go well, nine of an order that is not there, one with a wrong status, one that is invalid."""
    rows = [f"order_{n},line_{n}_{k},delivered" for n in range(1, 21) for k in (1, 2)]
    rows += [f"nope_{n},line_{n},delivered" for n in range(9)]
    command.write("in.csv", HEADER + "\n".join([*rows, "order_5,line_5_1,no-such", "order_6,,new"]) + "\n")


@pytest.mark.usefixtures("failing")
def test_one_reason_is_told_once_with_its_count_and_first_rows(here: Here) -> None:
    ended = here("sync", "in.csv", "--json")
    assert (
        "  9 rejected: the server answered error 400 (order_external_id: there is no order '…'; import it first)\n"
        "    lines 42, 43, 44 and 6 more\n"
    ) in ended.stderr
    assert (
        "  1 invalid: order_line_external_id is empty; every update needs all three ids\n    line 52\n" in ended.stderr
    )
    assert ended.stderr.count("there is no order") == 1
    first, *others = json.loads(ended.stdout)["reasons"]
    assert (first["state"], first["count"], first["lines"]) == ("rejected", 9, [42, 43, 44])
    assert sorted((reason["state"], reason["count"]) for reason in others) == [("invalid", 1), ("rejected", 1)]


def test_reasons_that_are_all_different_fill_no_screen(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "".join(f"order_1,line_1_1,status-{n}\n" for n in range(30)))
    said = here("sync", "in.csv").stderr
    assert said.count("1 rejected: ") == 10
    assert "  20 more: for 20 other reasons\n" in said


@pytest.mark.processes
@pytest.mark.usefixtures("failing")
def test_on_a_terminal_words_are_wrapped_and_a_command_is_whole(command: CommandLine) -> None:
    seen = COLOUR.sub("", on_terminal(command, "sync", "in.csv", "--failed", "failed.csv", columns=60))
    told = seen[seen.rindex("51 updates in") :].splitlines()
    assert "  9 rejected: the server answered error 400" in told
    command_line = next(line for line in told if "To send what failed again: " in line)
    assert command_line == "To send what failed again: altcraft-async sync failed.csv"
    assert all(len(line) <= 60 and line == line.rstrip() for line in told)


@pytest.mark.processes
@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_calm_and_can_be_turned_off(command: CommandLine, environ: dict[str, str], coloured: bool) -> None:
    seen = on_terminal(command, "sync", "in.csv", columns=100, **environ)
    assert ("\x1b[32m40 applied" in seen) is coloured
    assert ("\x1b[31m9 rejected\x1b[0m: the server" in seen) is coloured
    assert bool(re.search(r"\x1b\[[0-9;]*[349][0-7]m", seen)) is coloured


@pytest.mark.usefixtures("failing")
def test_a_pipe_gets_no_colours_and_no_wrapping(here: Here) -> None:
    ended = here("sync", "in.csv", COLUMNS="60")
    assert "\x1b" not in ended.stderr + ended.stdout
    assert "(order_external_id: there is no order '…'; import it first)\n" in ended.stderr
    assert "\x1b" not in here("sync", "nowhere.csv", COLUMNS="60").stderr


@pytest.mark.processes
def test_a_mistake_is_wrapped_on_a_terminal_too(command: CommandLine) -> None:
    seen = on_terminal(command, "sync", "in.csv", "--retry-failed", columns=40)
    assert seen.splitlines()[1].startswith("  ")
    assert all(len(line) <= 40 for line in seen.splitlines())


@pytest.mark.processes
def test_progress_says_percent_elapsed_rate_and_time_left(command: CommandLine, slow: Callable[[float], None]) -> None:
    slow(0.05)
    command.write("in.csv", HEADER + "".join(f"order_1,line_1_1,{s}\n" for s in ("new", "delivered") * 15))
    seen = COLOUR.sub("", on_terminal(command, "sync", "in.csv", columns=120))
    assert re.search(r"\d+ of 30 \(\d+%\), 0:0\d elapsed, \d+/s, 0:0\d left", seen)


@pytest.mark.parametrize(
    ("position", "said"),
    [
        (Position(0, None, 3.0, 0.0), "0, 0:03 elapsed, 0/s"),
        (Position(1200, None, 60.0, 20.0), "1,200, 1:00 elapsed, 20/s"),
        (Position(250, 1000, 10.0, 25.0), "250 of 1,000 (25%), 0:10 elapsed, 25/s, 0:30 left"),
        (Position(999, 1000, 10.0, 0.0), "999 of 1,000 (99%), 0:10 elapsed, 0/s"),
        (Position(1003, 1000, 10.0, 25.0), "1,003 of 1,000 (100%), 0:10 elapsed, 25/s, 0:00 left"),
    ],
)
def test_a_position_is_told_as_far_as_it_is_known(position: Position, said: str) -> None:
    assert str(position) == said


def test_a_span_is_written_as_a_clock_does() -> None:
    assert [span_of(seconds) for seconds in (0, 7.2, 750, 3750)] == ["0:00", "0:08", "12:30", "1:02:30"]


# -- how much is said


def test_a_quiet_command_says_nothing_where_all_went_well(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,delivered\n")
    for arguments in (
        ("sync", "in.csv", "-q"), ("update", "order_1", "line_1_1", "delivered", "-q"),
        ("doctor", "-q"), ("orders", "get-status", "order_1", "-q"),
    ):  # fmt: skip
        ended = here(*arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == "" or arguments[0] == "orders"  # what was asked for is no talk
    assert here("update", "nope", "nope", "new", "-q").stderr.startswith("Error: ")
    said = here("doctor", "-q", ALTCRAFT_TOKEN="wrong-token").stdout
    assert "failed" in said
    assert "ok " not in said


def test_the_log_is_told_when_asked_for_and_ends_with_the_command(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    sandbox.faults = Faults(script=[Fault("error", status=429)])
    ended = here("update", "order_1", "line_1_1", "delivered", "-v")
    assert ended.returncode == 0
    assert "INFO altcraft_async: retry 1 in " in ended.stderr
    assert "DEBUG" not in ended.stderr
    assert "DEBUG altcraft_async: AttemptEnded(" in here("update", "order_1", "line_1_1", "new", "-vv").stderr
    assert "DEBUG altcraft_async: " in here("update", "order_1", "line_1_1", "new", ALTCRAFT_LOG="debug").stderr
    assert here("update", "order_1", "line_1_1", "new").stderr == ""


def test_the_log_goes_to_a_file_with_times_and_without_the_token(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "nope,nope,delivered\n")
    for _ in range(2):
        assert here("sync", "in.csv", "--log-file", "run.log").returncode == 2
    assert (
        len(re.findall(r"^\d{4}-\d\d-\d\d .* WARNING .*update 0: rejected: ", command.read("run.log"), re.MULTILINE))
        == 2
    )
    here("sync", "in.csv", "--log-file", "all.log", "-v")
    assert "DEBUG altcraft_async: CallStarted(" in command.read("all.log")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sync", "in.csv", "--log-file", "in.csv"), "input and --log-file are the same file (in.csv)"),
        (("sync", "in.csv", "--log-file", "x", "--results", "x"), "--results and --log-file are the same file (x)"),
        (("doctor", "--log-file", "nowhere/x"), "--log-file nowhere/x cannot be written: No such file or directory"),
    ],
)
def test_a_log_that_would_spoil_a_file_is_refused(
    command: CommandLine, here: Here, arguments: tuple[str, ...], said: str
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,delivered\n")
    ended = here(*arguments)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert command.read("in.csv") == HEADER + "order_1,line_1_1,delivered\n"
