"""How ``sync`` ends: the exit code speaks of the updates, whatever becomes of what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from altcraft_async.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.processes

HEADER = "order_external_id,order_line_external_id,status_external_id\n"


def shell(command: CommandLine, script: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script in which ``$sync`` is the command with its file."""
    return subprocess.run(
        ["bash", "-c", f"sync='{shlex.quote(sys.executable)} -m altcraft_async sync in.csv'; {script}"],
        cwd=command.directory,
        env=command.environ | environ,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "script",
    [
        "$sync --json >/dev/full",
        "$sync --json | true; exit ${PIPESTATUS[0]}",
        "$sync --json >&-",
        "$sync 2>&-",
        "$sync 2>/dev/full",
        "$sync --json >/dev/full 2>/dev/full </dev/null",
        "$sync --journal run.journal >&- 2>&- <&-",
    ],
)
def test_talk_that_cannot_be_written_changes_no_exit_code(
    command: CommandLine, sandbox: ThreadedSandbox, script: str
) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,delivered\n")
    ended = shell(command, script)
    assert ended.returncode == 0
    assert b"Traceback" not in ended.stderr
    assert sandbox.ledger.requests == 1


def test_a_message_that_the_terminal_cannot_show_is_escaped(command: CommandLine) -> None:
    command.write("in.csv", HEADER + "заказ,line_1_1,delivered\n")
    ended = shell(command, "$sync --json", PYTHONIOENCODING="ascii")
    assert ended.returncode == 2
    assert "заказ" in json.loads(ended.stdout)["failures"][0]["error"]


def test_a_file_whose_name_is_not_utf8_is_told_all_the_same(command: CommandLine) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    command.write(name, HEADER + ",line_1_1,delivered\norder_1,line_1_1,delivered\n")
    ended = shell(command, "${sync%in.csv}caf*.csv --results r.jsonl --json")
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["source"] == "caf\\udce9.csv"
    assert len(command.read("r.jsonl").splitlines()) == 2


def test_an_update_that_was_made_ends_with_0_though_its_echo_cannot_be_written(command: CommandLine) -> None:
    ended = shell(command, "${sync%sync in.csv}update order_1 line_1_1 delivered >/dev/full")
    assert ended.returncode == 0


def test_a_run_with_few_file_descriptors_ends_in_order(command: CommandLine, sandbox: ThreadedSandbox) -> None:
    sandbox.seed_orders(150, 1)
    sandbox.faults = Faults(latency=0.05, error_500=0.1)
    command.write("in.csv", HEADER + "".join(f"order_{n},line_{n}_1,processing\n" for n in range(1, 151)))
    ended = shell(command, "ulimit -n 40; $sync --concurrency 60 --json")
    assert b"Traceback" not in ended.stderr
    assert ended.returncode in {0, 2}
    assert json.loads(ended.stdout)["updates"] == 150


def test_a_failed_file_on_a_full_disk_is_not_recommended(command: CommandLine) -> None:
    command.write("in.csv", HEADER + "nope,nope,new\n" * 300)
    (command.directory / "f.csv").symlink_to("/dev/full")
    ended = shell(command, "$sync --failed f.csv")
    assert ended.returncode == 2
    assert b"Stopped: f.csv cannot be written" in ended.stderr
    assert b"are in f.csv" not in ended.stderr
    assert b"To send what failed again" not in ended.stderr


def test_quiet_says_nothing_when_all_went_well_and_everything_else(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    ended = here("sync", "in.csv", "--quiet", "--journal", "run.journal")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    command.write("in.csv", HEADER + "nope,line_1_1,new\n")
    ended = here("sync", "in.csv", "-q", "--failed", "failed.csv")
    assert ended.returncode == 2
    assert "there is no order 'nope'" in ended.stderr
    assert "To send what failed again" in ended.stderr


def test_a_finished_run_says_that_nothing_is_left_to_do(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "order_1,line_1_1,new\norder_2,line_2_1,new\n")
    here("sync", "in.csv", "--journal", "run.journal")
    said = here("sync", "in.csv", "--journal", "run.journal").stderr
    assert "Nothing is left to do: all 2 updates were done in an earlier run." in said
    assert "0 updates" not in said


def test_where_nothing_was_accepted_the_advice_is_to_look_first(command: CommandLine, here: Here) -> None:
    command.write("in.csv", HEADER + "".join(f"nope{n},line_1_1,new\n" for n in range(9)))
    said = here("sync", "in.csv", "--failed", "failed.csv").stderr
    assert "No update was accepted; before you send them again, look whether" in said


def started(command: CommandLine, *before: str) -> subprocess.Popen[bytes]:
    command.write("in.csv", HEADER + "".join(f"order_{n % 20 + 1},line_{n % 20 + 1}_1,new\n" for n in range(2000)))
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "altcraft_async", "sync", "in.csv", "--concurrency", "4", "--json",
         "--results", "out.jsonl", "--journal", "run.journal", "--failed", "failed.csv", "--sample", "400"],
        cwd=command.directory, env=command.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    results = command.directory / "out.jsonl"
    while not results.exists() or results.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        time.sleep(0.005)
    return process


def test_a_hangup_ends_a_run_politely(command: CommandLine, slow: Callable[[float], None]) -> None:
    slow(0.02)
    process = started(command)
    process.send_signal(signal.SIGHUP)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 129
    assert json.loads(stdout)["complete"] is False


def test_a_hangup_that_is_ignored_stays_so(command: CommandLine, slow: Callable[[float], None]) -> None:
    slow(0.005)
    process = started(command, "nohup")
    process.send_signal(signal.SIGHUP)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(stdout)["states"] == {"applied": 400}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_cut_short_is_not_failed_where_a_journal_sends_it(
    command: CommandLine, sandbox: ThreadedSandbox, slow: Callable[[float], None], number: int
) -> None:
    slow(0.02)
    process = started(command)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert command.read("failed.csv") == HEADER
    sandbox.faults = Faults()


def test_with_a_journal_the_failed_file_has_what_failed_finally_and_nothing_that_a_deadline_cut(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, slow: Callable[[float], None]
) -> None:
    slow(0.02)
    rows = [f"{'nope' if n == 3 else f'order_{n % 20 + 1}'},line_{n % 20 + 1}_1,new\n" for n in range(300)]
    command.write("in.csv", HEADER + ",bad,\n" + "".join(rows))
    ended = here("sync", "in.csv", "--journal", "run.journal", "--failed", "failed.csv", "--deadline", "0.4")
    assert ended.returncode == 3
    assert command.read("failed.csv") == HEADER + ",bad,\n" + rows[3]
    sandbox.faults = Faults()
    assert here("sync", "in.csv", "--journal", "run.journal", "--failed", "failed.csv").returncode == 2
    assert command.read("failed.csv") == HEADER + ",bad,\n" + rows[3]


def rejected_rows(count: int) -> str:
    return HEADER + "".join(f"order_{n},nowhere,new\n" for n in range(count))


def test_a_run_stops_where_the_first_hundred_are_rejected_for_one_reason(command, here, sandbox):
    command.write("in.csv", rejected_rows(2000))
    ended = here("sync", "in.csv", "--concurrency", "4", "--failed", "failed.csv")
    assert ended.returncode == 2
    assert "the first 100 updates were all rejected for one reason: the server answered error" in ended.stderr
    assert "to go on regardless, add --max-failures none" in ended.stderr
    assert 100 <= sandbox.ledger.requests <= 110
    assert len(command.read("failed.csv").splitlines()) == 2001
    seconds, rate = re.search(r"[\d,]+ updates in ([\d.]+) s \(([\d,]+)/s\)", ended.stderr).groups()
    handled = float(rate.replace(",", "")) * (float(seconds) + 0.05)
    assert handled < 300, "the rate has only the updates that had their turn"


def test_a_run_goes_on_regardless_where_it_is_told_to(command, here, sandbox):
    command.write("in.csv", rejected_rows(150))
    ended = here("sync", "in.csv", "--max-failures", "none")
    assert (ended.returncode, sandbox.ledger.requests) == (2, 150)


@pytest.mark.parametrize("bound", ["20", "5%"])
def test_a_bound_of_failures_stops_a_run(command, here, sandbox, bound):
    good = "".join(f"order_{n % 20 + 1},line_{n % 20 + 1}_1,new\n" for n in range(90))
    command.write("in.csv", HEADER + good + rejected_rows(500).removeprefix(HEADER))
    ended = here("sync", "in.csv", "--concurrency", "4", "--max-failures", bound)
    assert ended.returncode == 2
    assert "as many as the failure limit allows" in ended.stderr
    assert sandbox.ledger.requests < 140


@pytest.mark.parametrize("bound", ["0", "-1", "x", "200%", "%"])
def test_a_bound_that_is_none_is_a_usage_error(command, here, bound):
    command.write("in.csv", rejected_rows(1))
    ended = here("sync", "in.csv", "--max-failures", bound)
    assert ended.returncode == 1
    assert "write 500, 5% or none" in ended.stderr


def test_a_sample_is_sent_and_summed_up(command, here, sandbox):
    command.write("in.csv", HEADER + "".join(f"order_{n},line_{n}_1,new\n" for n in range(1, 20)))
    ended = here("sync", "in.csv", "--sample", "5")
    assert (ended.returncode, sandbox.ledger.requests) == (0, 5)
    assert "5 updates in" in ended.stderr


@pytest.mark.parametrize("other", ["input", "--results", "--journal", "--failed", "--report"])
def test_the_wire_log_is_a_file_of_its_own(command, here, sandbox, other):
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    path = "in.csv" if other == "input" else "run.html" if other == "--report" else "same.jsonl"
    ended = here("sync", "in.csv", "--log-wire", path, *(() if other == "input" else (other, path)))
    assert (ended.returncode, sandbox.ledger.requests) == (1, 0)
    assert "are the same file" in ended.stderr
    assert command.read("in.csv") == HEADER + "order_1,line_1_1,new\n"


def test_the_wire_log_is_no_stream(command, here):
    command.write("in.csv", HEADER + "order_1,line_1_1,new\n")
    ended = here("sync", "in.csv", "--log-wire", "-")
    assert ended.returncode == 1
    assert "--log-wire is a file" in ended.stderr
