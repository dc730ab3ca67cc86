"""The processes of a pool and the one that has begun them: their log, their ends, and their beginnings."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from altcraft_async.sandbox import Faults
from altcraft_async.shards import ShardError, ShardState, pool, report, run_shards

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")
pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]


@pytest.fixture
def rows(sandbox, command):
    found = [(*key, "delivered") for key in sandbox.seed_orders(100, 1)]
    content = "order_external_id,order_line_external_id,status_external_id\n" + "\n".join(map(",".join, found)) + "\n"
    command.write("in.csv", content)
    command("shards", "plan", "in.csv", "run", "--shards", "2")
    return found


def until(true, what):
    ends_at = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends_at, f"{what} in 30 s"
        time.sleep(0.02)


@pytest.fixture
def settings(sandbox, monkeypatch):
    monkeypatch.setenv("ALTCRAFT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("ALTCRAFT_TOKEN", sandbox.token)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)


@pytest.mark.parametrize("options", [(), ("-v",), ("-vv",)])
def test_the_log_of_all_processes_is_where_it_was_asked_for(command, rows, options):
    ended = command("shards", "run", "run", "--processes", "2", *options, "--log-file", "log")
    assert ended.returncode == 0
    lines = command.read("log").splitlines()
    opened = [line for line in lines if " INFO altcraft_async: journal " in line]
    assert len(opened) == 2, lines
    debug = [line for line in lines if " DEBUG altcraft_async: " in line]
    assert (len(debug) >= len(rows)) == bool(options)
    on_stderr = ended.stderr.splitlines()
    assert sum(" INFO altcraft_async: journal " in line for line in on_stderr) == (2 if options else 0)
    assert any(" DEBUG altcraft_async: " in line for line in on_stderr) == ("-vv" in options)


def test_the_processes_log_to_the_loggers_of_the_program(command, rows, settings, caplog, monkeypatch):
    monkeypatch.setenv("ALTCRAFT_LOG", "info")
    with caplog.at_level(logging.INFO, "altcraft_async"):
        assert run_shards(command.directory / "run", processes=2).ok
    told = [record for record in caplog.records if record.getMessage().startswith("journal ")]
    assert len(told) == 2
    assert all(record.process != os.getpid() for record in told)


def workers_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_the_processes_end_in_order_with_the_one_that_has_begun_them(command, rows, sandbox, number):
    sandbox.faults = Faults(latency=0.2)
    running = command.start("shards", "run", "run", "--processes", "2", "--concurrency", "1")
    until(lambda: sandbox.ledger.requests >= 10, "nothing was sent")
    workers = workers_of(running.pid)
    running.send_signal(number)
    running.communicate(timeout=30)
    assert running.returncode == (128 + number if number == signal.SIGHUP else -number)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "the workers did not end")
    found = report(command.directory / "run")
    assert found.numbers(ShardState.STOPPED) == [0, 1]
    known, sent = sum(found.counts.values()), sandbox.ledger.requests
    assert known > 0
    assert sent - known <= 2, "the last snapshots have all but what was under way"
    sandbox.faults = Faults()
    assert command("shards", "run", "run").returncode == 0
    assert sandbox.check(rows).ok


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_interrupted_says_that_it_goes_on(command, rows, sandbox, number):
    sandbox.faults = Faults(latency=0.2)
    running = command.start("shards", "run", "run", "--processes", "2", "--concurrency", "1")
    until(lambda: sandbox.ledger.requests >= 4, "nothing was sent")
    running.send_signal(number)
    stderr = running.communicate(timeout=30)[1].decode()
    assert running.returncode == 128 + number
    assert "The run was interrupted; run it again, and it goes on." in stderr
    assert "Traceback" not in stderr


IGNORING = """
import signal
from altcraft_async.shards import run_shards
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_shards("run", processes=2, concurrency=1)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at /proc")
def test_the_processes_end_also_where_interrupts_are_ignored(command, rows, settings, sandbox):
    sandbox.faults = Faults(latency=0.2)
    command.write("program.py", IGNORING)
    running = subprocess.Popen([sys.executable, "program.py"], cwd=command.directory)
    try:
        until(lambda: sandbox.ledger.requests >= 10, "nothing was sent")
        workers = workers_of(running.pid)
    finally:
        running.kill()
        running.wait()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "the workers did not end")
    assert sum(report(command.directory / "run").counts.values()) > 0


PROGRAM = """
from altcraft_async.shards import ShardError, run_shards
try:
    run_shards("run", processes=2)
except ShardError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["stdin", "without a guard"])
def test_a_program_that_the_processes_cannot_import_ends_at_once_with_the_remedy(command, rows, settings, how):
    command.write("program.py", PROGRAM)
    name = "-" if how == "stdin" else "program.py"
    ended = subprocess.run(
        [sys.executable, name],
        input=PROGRAM, cwd=command.directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 'a file that Python can import, with the call below if __name__ == "__main__":' in ended.stdout, ended.stderr
    assert ended.stderr.count("Traceback") <= 4, "each process was begun once"


def test_a_process_that_is_killed_while_it_begins_is_no_death_over_a_shard(command, rows, settings, monkeypatch):
    monkeypatch.setattr("altcraft_async.shards.pool._work", die)
    with pytest.raises(ShardError, match="was ended by signal 9 before it took a shard; run it again"):
        run_shards(command.directory / "run", processes=2)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def ends(command, settings, monkeypatch):
    """Write down how each process of a run ends."""
    monkeypatch.chdir(command.directory)
    monkeypatch.setattr("altcraft_async.shards.pool._work", end_as_written)
    return lambda *words: Path("ends").write_text(" ".join(words))


def end_as_written(connection, *others):
    """Die `before` it is ready, or `over` the first shard, or work, as it is written for this process."""
    how, _, later = Path("ends").read_text().partition(" ")
    Path("ends").write_text(later)
    if how == "over":
        connection.send("ready")
        connection.recv()
    if how in {"over", "before"}:
        die()
    work(connection, *others)


work = pool._work


def test_a_process_that_is_killed_while_it_begins_in_the_place_of_one_that_died_is_replaced_too(ends, rows, caplog):
    ends("over", "before", "work")
    assert run_shards("run", processes=1).ok
    assert caplog.text.count("has died (exit code -9)") == 2


def test_an_end_of_all_replacements_is_an_error_of_each_shard_that_says_how_far_they_are(ends, rows, here):
    ends("over", *["before"] * 5)
    ended = here("shards", "run", "run", "--processes", "1", "--json")
    assert ended.returncode == 3
    assert [f"shard {number} of run was left: 3 processes have died over it" in ended.stderr for number in (0, 1)]
    assert json.loads(ended.stdout)["rows"] == len(rows)
