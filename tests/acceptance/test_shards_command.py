"""The commands ``shards plan|adopt|run|show``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import attrs
import pytest

from altcraft_async.ingest import FIELDS
from altcraft_async.journal.format import RunRecord
from altcraft_async.sandbox import Faults
from altcraft_async.shards import report
from altcraft_async.shards.report import Reports

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]


@pytest.fixture
def rows(sandbox, command):
    keys = sandbox.seed_orders(30, 2)
    found = [(*key, status) for status in ("processing", "delivered") for key in keys]
    command.write("in.csv", "\n".join(map(",".join, [FIELDS, *found])) + "\n")
    return found


def test_shards_are_planned_run_and_shown(here, rows, sandbox):
    planned = here("shards", "plan", "in.csv", "run", "--shards", "3")
    assert planned.returncode == 0, planned.stderr
    assert f"120 rows in 3 shards of 32 to 48 rows for {sandbox.base_url}." in planned.stderr
    assert "To deliver them: altcraft-async shards run run" in planned.stderr
    shown = here("shards", "show", "run")
    assert "120 rows in 3 shards: 3 waiting\nRows with an outcome: none yet\n" in shown.stdout
    ended = here("shards", "run", "run", "--processes", "2", "--json", "--concurrency-total", "10")
    assert ended.returncode == 0, ended.stderr
    assert "3 shards: 3 done" in ended.stderr
    said = json.loads(ended.stdout)
    assert (said["ok"], said["counts"]["applied"]) == (True, 120)
    assert json.loads(here("shards", "show", "run", "--json").stdout) == said
    assert sandbox.check(rows).ok
    assert here("shards", "run", "run", "-q").stderr == ""


def test_one_shard_is_run_by_its_number_or_that_of_a_kubernetes_job(here, rows, sandbox):
    here("shards", "plan", "in.csv", "run", "--shards", "2")
    first = here("shards", "run", "run", "--shard", "1", "--json")
    assert (first.returncode, json.loads(first.stdout)["number"]) == (0, 1), first.stderr
    second = here("shards", "run", "run", JOB_COMPLETION_INDEX="0")
    assert second.returncode == 0
    assert "Shard 0 after " in second.stderr
    assert sandbox.check(rows).ok


def test_the_input_can_be_a_pipe(here, rows, command):
    content = (command.directory / "in.csv").read_bytes()
    assert here("shards", "plan", "-", "run", "--shards", "2", stdin=content).returncode == 0
    assert report(command.directory / "run").rows == len(rows)


def test_files_are_adopted(here, rows, command, sandbox):
    here("shards", "plan", "in.csv", "run", "--shards", "2")
    for path in (command.directory / "run" / "_altcraft").iterdir():
        path.unlink()
    adopted = here("shards", "adopt", "run", "--status", "delivered=delivering")
    assert adopted.returncode == 0, adopted.stderr
    assert here("shards", "run", "run").returncode == 0
    assert sandbox.line_status("order_1", "line_1_1") == "delivering"


def test_failed_rows_and_shards_that_are_not_done_have_exit_codes(here, rows, command):
    with (command.directory / "in.csv").open("a") as file:
        file.write("unknown,l,new\n")
    here("shards", "plan", "in.csv", "run", "--shards", "1")
    wrong = here("shards", "run", "run", "--shard", "0", ALTCRAFT_TOKEN="wrong")
    assert wrong.returncode == 3
    assert "stopped, 0 of 121 rows" in wrong.stderr
    assert "token" in wrong.stderr
    failed = here("shards", "run", "run")
    assert failed.returncode == 2
    assert "shard 0: done, 121 of 121 rows: 120 applied, 1 rejected" in failed.stderr
    assert "run/_altcraft/*.failed.parquet" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "nowhere"), "has no plan"),
        (("show", "nowhere"), "has no plan"),
        (("run", "run", "--shard", "0", "--processes", "2"), "give one of the two"),
        (("run", "run", "--deadline", "5"), "--deadline goes with --shard"),
        (("run", "run", "--shard", "7"), "no shard 7"),
        (("run", "run", "--concurrency", "0"), "must be"),
        (("run", "run", "--rate-total", "nan"), "'--rate-total': nan is not a number"),
        (("plan", "in.csv", "run", "--shards", "2"), "has a plan already"),
        (("plan", "nowhere.csv", "other", "--shards", "2"), "does not exist"),
        (("plan", "in.csv", "", "--shards", "2"), "the directory has no name"),
        (("run", ""), "the directory has no name"),
        (("plan", "in.csv", "file://", "--shards", "2"), "file:// has no path; give the whole address"),
        (("plan", "file://", "other", "--shards", "2"), "file:// has no path; give the whole address"),
        (("plan", "", "other", "--shards", "2"), "the input has no name; give a path"),
        (
            ("plan", "in.csv", "http://me:pw@127.0.0.1:1/x", "--shards", "2"),
            "http://me:***@127.0.0.1:1/x cannot be read",
        ),
        (("adopt", "http://127.0.0.1:1/x"), "Connect call failed"),
        (("plan", ".", "other", "--shards", "2"), "other is within the input .,"),
        (("plan", "in.csv", "other", "--shards", "2", "--target", "x:y"), "Error: --target is not an http(s) address"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(here, rows, arguments, said):
    here("shards", "plan", "in.csv", "run", "--shards", "2")
    ended = here("shards", *arguments)
    assert ended.returncode in {1, 2} if "--concurrency" in arguments else ended.returncode == 1
    assert said in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGINT, ("--processes", "2")),
        (signal.SIGTERM, ("--shard", "0")),
        pytest.param(signal.SIGTERM, ("--processes", "2"), marks=pytest.mark.chaos),
        pytest.param(signal.SIGINT, ("--shard", "0"), marks=pytest.mark.chaos),
    ],
)
def test_a_signal_leaves_what_is_done_and_the_next_run_goes_on(command, rows, sandbox, number, how):
    sandbox.faults = Faults(latency=0.05)
    command("shards", "plan", "in.csv", "run", "--shards", "2")
    running = command.start("shards", "run", "run", "--concurrency", "1", *how)
    ends_at = time.monotonic() + 30
    while sandbox.ledger.requests < 10 and time.monotonic() < ends_at:
        time.sleep(0.02)
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == 128 + number, stderr
    assert b"Traceback" not in stdout + stderr
    before = report(command.directory / "run")
    assert 0 < sum(before.counts.values()) < len(rows)
    assert not before.complete
    sandbox.faults = Faults()
    assert command("shards", "run", "run").returncode == 0
    assert sandbox.check(rows).ok
    assert report(command.directory / "run").ok


@pytest.mark.parametrize("arguments", [("plan", "in.csv", "a-file", "--shards", "2"), ("adopt", "a-file")])
def test_a_directory_that_is_a_file_is_said_in_words(command, here, rows, sandbox, arguments):
    command.write("a-file", "x")
    ended = here("shards", *arguments)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "a-file" in ended.stderr


def until_a_worker_imports(pid):
    """Wait until a process that a run begins has loaded a module that only an import of this package needs."""
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                words, loaded = (Path(f"/proc/{child}/{what}").read_bytes() for what in ("cmdline", "maps"))
                if b"spawn_main" in words and b"/_ssl." in loaded:
                    return
        time.sleep(0.005)
    pytest.fail("no worker was begun")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_all_while_the_workers_start_ends_them_without_a_word(command, rows, number):
    command("shards", "plan", "in.csv", "run", "--shards", "2")
    running = command.start("shards", "run", "run", "--processes", "2", start_new_session=True)
    until_a_worker_imports(running.pid)
    os.killpg(running.pid, number)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode in {128 + number, -number}
    assert b"Traceback" not in stdout + stderr, stderr.decode()
    assert sum(report(command.directory / "run").counts.values()) == 0
    assert command("shards", "run", "run").returncode == 0


def test_a_disk_for_temporary_files_that_is_full_is_said_in_one_sentence(here, rows, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("altcraft_async.storage.columns.ParquetRows.add", full)
    ended = here("shards", "plan", "in.csv", "run", "--shards", "2")
    assert ended.returncode == 1
    assert "what is gathered in" in ended.stderr
    assert "No space left on device" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_number_of_a_job_is_named_where_it_does_not_go_with_processes(here, rows):
    ended = here("shards", "run", "run", "--processes", "2", JOB_COMPLETION_INDEX="3")
    assert ended.returncode == 1
    assert "from the environment: JOB_COMPLETION_INDEX=3" in ended.stderr


def test_the_journal_of_a_shard_advises_the_command_of_the_shard(here, rows, command):
    with (command.directory / "in.csv").open("a") as file:
        file.write("unknown,l,new\n")
    here("shards", "plan", "in.csv", "run", "--shards", "1")
    here("shards", "run", "run", "--shard", "0", ALTCRAFT_TOKEN="wrong")
    directory = command.directory / "run"
    shown = here("journal", "show", "run/_altcraft/00000.journal").stdout
    assert f"to finish the shard: altcraft-async shards run {directory} --shard 0\n" in shown
    here("shards", "run", "run", "--shard", "0")
    shown = here("journal", "show", "run/_altcraft/00000.journal").stdout
    assert f"the rows that failed: {directory}/_altcraft/00000.failed.parquet\n" in shown
    assert f"to send again what failed: altcraft-async shards run {directory} --shard 0 --retry-failed\n" in shown
    assert "altcraft-async sync" not in shown


def test_a_shard_by_its_number_that_cannot_come_to_its_end_has_the_exit_code_of_that(here, rows, command):
    here("shards", "plan", "in.csv", "run", "--shards", "2")
    (command.directory / "run" / "shard-00001.parquet").unlink()
    ended = here("shards", "run", "run", "--shard", "1", "--json", "-q")
    assert (ended.returncode, json.loads(ended.stdout)["number"]) == (3, 1)
    assert "is not there; put it back" in ended.stderr


def test_an_address_of_the_environment_is_called_by_its_name(here, rows):
    ended = here("shards", "plan", "in.csv", "run", "--shards", "2", ALTCRAFT_BASE_URL="nonsense")
    assert ended.returncode == 1
    assert "Error: ALTCRAFT_BASE_URL is not an http(s) address" in ended.stderr


def test_another_target_is_told_once(here, rows):
    here("shards", "plan", "in.csv", "run", "--shards", "4")
    ended = here("shards", "run", "run", ALTCRAFT_BASE_URL="http://127.0.0.1:1")
    assert (ended.returncode, ended.stderr.count("and the settings are for http://127.0.0.1:1")) == (1, 1)


def test_a_total_may_be_any_number(here, rows):
    here("shards", "plan", "in.csv", "run", "--shards", "1")
    assert here("shards", "run", "run", "--shard", "0", "--concurrency-total", "1000000000000").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="paths are bytes on Linux alone")
def test_a_directory_whose_name_is_no_text_is_shown(here, rows, command):
    name = os.fsdecode(b"run-\xff")
    here("shards", "plan", "in.csv", name, "--shards", "2")
    shown = here("shards", "show", name)
    assert (shown.returncode, "run-\\udcff: 120 rows in 2 shards: 2 waiting" in shown.stdout) == (0, True)


def age(journal, seconds):
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        run = RunRecord.read(connection, journal)
        attrs.evolve(run, written=run.written - seconds, created=run.created - seconds).write(connection)


@pytest.mark.parametrize("how", [("--shard", "0"), ("--processes", "1")])
def test_a_snapshot_that_is_old_or_damaged_is_told_with_its_place(here, rows, command, how):
    here("shards", "plan", "in.csv", "run", "--shards", "1")
    journal = command.directory / "run" / "_altcraft" / "00000.journal"
    here("shards", "run", "run", "--shard", "0", ALTCRAFT_TOKEN="wrong")
    age(journal, 400_000)
    ended = here("shards", "run", "run", *how, ALTCRAFT_TOKEN="wrong")
    note = f"Note: the journal {journal} was last written 111 hours ago, and the platform remembers"
    assert ended.stderr.count(note) == 1
    assert "Warning" not in ended.stderr
    journal.write_bytes(b"garbage" * 100)
    ended = here("shards", "run", "run", *how)
    assert (ended.returncode, ended.stderr.count("Note: the snapshot of shard 0 of ")) == (0, 1)


def test_all_shards_that_failed_are_named(here, rows, command):
    here("shards", "plan", "in.csv", "run", "--shards", "3")
    for number in (0, 2):
        (command.directory / "run" / f"shard-{number:05}.parquet").unlink()
    ended = here("shards", "run", "run", "--processes", "1", "--json")
    assert ended.returncode == 3
    assert json.loads(ended.stdout)["counts"]["applied"] > 0, "what was sent"
    said = [line for line in ended.stderr.splitlines() if "is not there; put it back" in line]
    assert [("shard-00000" in line, "shard-00002" in line) for line in said] == [(True, False), (False, True)]


def test_an_error_of_the_system_without_a_file_is_said_in_one_sentence(here, rows, monkeypatch):
    def few(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("altcraft_async.cli.shards.plan_shards", few)
    ended = here("shards", "plan", "in.csv", "run", "--shards", "2")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "Error: Too many open files" in ended.stderr


def test_a_look_at_the_progress_that_hangs_holds_up_no_shard(here, rows, monkeypatch, sandbox):
    looks, end = [], threading.Event()

    class Hanging(Reports):
        def look(self):
            looks.append(self)
            end.wait(60)
            return super().look()

    monkeypatch.setattr("altcraft_async.cli.shards._PLAIN_EVERY", 0.01)
    monkeypatch.setattr("altcraft_async.cli.shards.Reports", Hanging)
    here("shards", "plan", "in.csv", "run", "--shards", "3")
    begun = time.monotonic()
    try:
        ended = here("shards", "run", "run", "--processes", "1")
    finally:
        end.set()
    assert (ended.returncode, len(looks)) == (0, 1)
    assert time.monotonic() - begun < 30
    assert sandbox.check(rows).ok


def test_the_progress_of_one_shard_is_of_that_alone(here, rows, monkeypatch, sandbox):
    monkeypatch.setattr("altcraft_async.cli.shards._PLAIN_EVERY", 0.01)
    sandbox.faults = Faults(latency=0.1)
    here("shards", "plan", "in.csv", "run", "--shards", "3")
    ended = here("shards", "run", "run", "--shard", "1")
    assert ended.returncode == 0
    assert re.search(r"^shard 1: \d+ of \d+ rows, ", ended.stderr, re.MULTILINE)
    assert "shards done" not in ended.stderr
