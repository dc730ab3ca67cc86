"""``sync --journal`` and ``journal``: run it again until it is done, and see what happened."""

from __future__ import annotations

import csv
import io
import itertools
import json
import resource
import shutil
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest
from read_only import read_only_folder

from altcraft_async.sandbox import Faults

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import TypeAlias

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

HEADER = "order_external_id,order_line_external_id,status_external_id,note\n"
LIFE = ("processing", "delivering", "delivered")
TABLE = [(f"order_{n}", f"line_{n}_{k}", status) for status in LIFE * 10 for n in range(1, 21) for k in (1, 2)]
SYNC = ("sync", "in.csv", "--journal", "run.journal")


def csv_of(table: list[tuple[str, str, str]]) -> str:
    return HEADER + "".join(",".join((*row, f"row {number}")) + "\n" for number, row in enumerate(table))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture
def started(command: CommandLine, sandbox: ThreadedSandbox, slow: Callable[[float], None]):
    """Start ``sync --journal`` of the whole table, and give the process when some of it was sent."""

    def start(*arguments: str, fresh: int = 40, **options: object) -> subprocess.Popen[bytes]:
        slow(0.01)
        before = sandbox.ledger.requests
        process = command.start(*SYNC, "--rate", "100", *arguments, **options)  # so that what ends it is in time
        wait_until(lambda: sandbox.ledger.requests >= before + fresh, process)
        return process

    command.write("in.csv", csv_of(TABLE))
    return start


@pytest.fixture
def mixed(command: CommandLine, here: Here) -> None:
    """A finished run of five rows: two rejected, one invalid."""
    rows = [("order_1", "line_1_1", "delivered"), ("order_77", "line_77_1", "delivering"), ("order_2", "", "new"),
            ("order_77", "line_77_1", "delivered"), ("order_2", "line_2_1", "delivered")]  # fmt: skip
    command.write("in.csv", csv_of(rows))
    ended = here(*SYNC, "--failed", "failed.csv", "--results", "results.csv")
    assert ended.returncode == 2
    assert "Next: to send again what failed: altcraft-async sync in.csv --journal run.journal" in ended.stderr


@pytest.mark.processes
@pytest.mark.usefixtures("untraced")
def test_a_run_that_is_killed_again_and_again_ends_with_every_change_made_once(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    for _ in range(2):
        process = started("--results", "results.jsonl")
        process.kill()
        process.communicate()
    sandbox.faults = Faults()
    ended = here(*SYNC, "--results", "results.jsonl")
    assert ended.returncode == 0
    assert "Journal run.journal: a run goes on; rows that have ended: " in ended.stderr
    assert " more were done in an earlier run; " in ended.stderr
    assert sandbox.check(TABLE).ok
    records = [json.loads(line) for line in command.read("results.jsonl").splitlines()]
    assert len({record["index"] for record in records}) == len(records)
    assert len(records) > len(TABLE) - 200

    sent = sandbox.ledger.requests
    again = here(*SYNC, "--json")
    assert again.returncode == 0
    said = json.loads(again.stdout)
    assert (said["updates"], said["done_before"], said["requests"]) == (0, len(TABLE), 0)
    assert sandbox.ledger.requests == sent


@pytest.mark.processes
@pytest.mark.usefixtures("untraced")
def test_a_run_that_is_stopped_says_what_to_run_next(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = started("--json", "--failed", "failed.csv")
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    command.said += stderr.decode()
    assert process.returncode == 143
    assert "Next: to finish the run, run the same command again: altcraft-async sync in.csv" in stderr.decode()
    said = json.loads(stdout)
    assert said["journal"]["continued"] is False
    unread = len(TABLE) - said["updates"]
    assert unread > 0
    assert command.read("failed.csv") == HEADER  # what was only cut short is sent by the next run
    sandbox.faults = Faults()
    late = here(*SYNC, "--failed", "failed.csv", ALTCRAFT_DEDUP_WINDOW="0.001")
    assert late.returncode == 0
    assert "Note: the journal run.journal was last written 0 hours ago" in late.stderr
    assert command.read("failed.csv") == HEADER
    assert sandbox.check(TABLE).ok


@pytest.mark.processes
def test_a_second_process_is_refused_and_leaves_the_files_of_the_first_alone(
    command: CommandLine, here: Here, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    files = ("--results", "results.jsonl", "--failed", "failed.csv")
    process = started(*files, fresh=30)
    while not (before := command.read("results.jsonl")):  # they are written after the journal
        assert process.poll() is None
        time.sleep(0.01)
    refused = here(*SYNC, *files)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "the journal run.journal is in use by another run; wait until that has ended" in refused.stderr
    assert "in use             yes" in here("journal", "show", "run.journal").stdout
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert command.read("results.jsonl").startswith(before)
    assert command.read("failed.csv").startswith(HEADER)


@pytest.mark.usefixtures("mixed")
def test_what_failed_is_told_by_every_run_and_sent_again_on_request(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    bad = command.read("failed.csv")
    assert [line.rpartition(" ")[2] for line in bad.splitlines()[1:]] == ["1", "2", "3"]
    sandbox.add_order("order_77", ["line_77_1"])
    sent = sandbox.ledger.requests
    idle = here(*SYNC, "--failed", "failed.csv", "--results", "results.csv", "--json")
    assert (idle.returncode, sandbox.ledger.requests) == (2, sent)
    assert command.read("failed.csv") == bad
    said = json.loads(idle.stdout)
    assert (said["states"], said["done_before"]) == ({"rejected": 2, "invalid": 1}, 2)
    assert said["journal"]["failed_before"] == 3
    assert "2 rejected, 1 invalid (3 of them in an earlier run); 2 more were done in an earlier run" in idle.stderr
    assert len(command.read("results.csv").splitlines()) == 6

    again = here(*SYNC, "--retry-failed", "--failed", "failed.csv", "--results", "results.csv")
    assert (again.returncode, sandbox.ledger.requests) == (2, sent + 2)
    assert "failed ones that are sent again: 2" in again.stderr
    assert "--retry-failed" not in again.stderr
    assert "altcraft-async journal failed run.journal --input in.csv -o FILE" in again.stderr
    assert sandbox.line_status("order_77", "line_77_1") == "delivered"
    assert [line.rpartition(" ")[2] for line in command.read("failed.csv").splitlines()[1:]] == ["2"]
    assert len(command.read("results.csv").splitlines()) == 8


@pytest.mark.usefixtures("mixed")
def test_a_changed_input_is_refused_by_its_line_and_a_longer_one_wants_a_flag(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    sent = sandbox.ledger.requests
    whole = command.read("in.csv")
    command.write("in.csv", whole.replace("line_77_1,delivering", "line_77_1,canceled"))
    for arguments in (SYNC, (*SYNC, "--dry-run"), ("journal", "export", "run.journal", "--input", "in.csv")):
        changed = here(*arguments)
        assert changed.returncode == 1
        assert "Error: in.csv, line 3: row 2 of the input is not the one that the journal run.jo" in changed.stderr
    command.write("in.csv", whole + "order_3,line_3_1,delivered,row 5\n")
    for arguments in (SYNC, (*SYNC, "--dry-run")):
        longer = here(*arguments)
        assert longer.returncode == 1
        assert "Error: in.csv, line 7: the input has more rows than the 5 that the journal" in longer.stderr
        assert "--extend" in longer.stderr
    assert sandbox.ledger.requests == sent
    assert here(*SYNC, "--extend").returncode == 2
    assert sandbox.line_status("order_3", "line_3_1") == "delivered"


@pytest.mark.usefixtures("mixed")
def test_show_says_what_happened(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    ended = here("journal", "show", "run.journal")
    assert (ended.returncode, ended.stderr) == (0, "")
    for fact in (
        f"target             {sandbox.base_url}",
        "rows of the input  5",
        "finished           yes",
        "  rejected         2",
        "  invalid          1",
    ):
        assert f"{fact}\n" in ended.stdout
    assert "  2 rejected: the server answered error 400 (order_external_id: there is no order '…'" in ended.stdout
    assert "    rows 2, 4\n" in ended.stdout
    again = "altcraft-async sync in.csv --journal run.journal --results results.csv --failed failed.csv --retry-failed"
    assert f"Next: to send again what failed: {again}\n" in ended.stdout
    said = json.loads(here("journal", "show", "run.journal", "--json").stdout)
    assert said["states"] == {"applied": 2, "rejected": 2, "invalid": 1}
    assert [(reason["state"], reason["count"]) for reason in said["reasons"]] == [("rejected", 2), ("invalid", 1)]
    assert (said["rows"], said["recorded"], said["finished"], said["in_use"]) == (5, 5, True, False)
    assert said["started"] <= said["last_written"]


@pytest.mark.usefixtures("mixed")
def test_a_refused_retry_leaves_the_record_of_failures(command: CommandLine, here: Here) -> None:
    known = [here("journal", what, "run.journal").stdout for what in ("show", "export")]
    command.write("other.csv", csv_of([("order_1", "line_1_1", "canceled")]))
    refused = here("sync", "other.csv", "--journal", "run.journal", "--retry-failed")
    assert refused.returncode == 1
    assert "Error: other.csv, line 2: row 1 of the input is not the one" in refused.stderr
    after = [here("journal", what, "run.journal").stdout for what in ("show", "export")]
    assert after[1] == known[1]
    assert "to be sent again" not in after[0]
    assert "  rejected         2\n" in after[0]


@pytest.mark.usefixtures("mixed")
def test_a_journal_is_read_where_nothing_can_be_written(command: CommandLine, here: Here, tmp_path_factory) -> None:
    known = [here("journal", what, "run.journal").stdout for what in ("failed", "export")]
    archive = tmp_path_factory.mktemp("archive")
    with read_only_folder(archive) as seal:
        for name in ("run.journal", "run.journal.lock"):
            shutil.copyfile(command.directory / name, archive / name)
        seal()
        path = str(archive / "run.journal")
        assert [here("journal", what, path).stdout for what in ("failed", "export")] == known
        shown = here("journal", "show", path)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "in use             no" in shown.stdout
        refused = here("sync", "in.csv", "--journal", path)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
        assert "cannot be written" in refused.stderr


@pytest.mark.usefixtures("mixed")
def test_failed_rows_come_as_they_stood_or_as_their_ids(command: CommandLine, here: Here) -> None:
    whole = here("journal", "failed", "run.journal", "--input", "in.csv")
    assert (whole.returncode, whole.stdout) == (0, command.read("failed.csv"))
    ids = here("journal", "failed", "run.journal")
    assert ids.stdout.splitlines()[1:] == ["order_77,line_77_1,delivering", "order_77,line_77_1,delivered"]
    assert "Invalid rows, or forgotten ones, whose ids the journal does not have: 1; give --input FILE" in ids.stderr
    here("journal", "failed", "run.journal", "-o", "failed.jsonl")
    assert [json.loads(line)["status_external_id"] for line in command.read("failed.jsonl").splitlines()] == [
        "delivering",
        "delivered",
    ]
    assert here("sync", "failed.jsonl", "--dry-run").returncode == 0


@pytest.mark.usefixtures("mixed")
def test_export_gives_every_outcome_in_the_form_of_the_results(command: CommandLine, here: Here) -> None:
    ended = here("journal", "export", "run.journal", "--input", "in.csv", "-o", "export.csv")
    assert (ended.returncode, ended.stdout) == (0, "")
    exported, results = (
        list(csv.DictReader(io.StringIO(command.read(name)))) for name in ("export.csv", "results.csv")
    )
    results.sort(key=lambda record: int(record["index"]))
    for record in (*exported, *results):
        del record["elapsed"]
    assert exported == results
    bare = [json.loads(line) for line in here("journal", "export", "run.journal").stdout.splitlines()]
    assert [record["state"] for record in bare] == ["applied", "rejected", "invalid", "rejected", "applied"]
    assert [record["order_external_id"] for record in bare] == [None, "order_77", None, "order_77", None]


@pytest.mark.usefixtures("mixed")
def test_a_dry_run_holds_the_input_against_the_journal(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    sent = sandbox.ledger.requests
    ended = here(*SYNC, "--dry-run", "--json")
    assert ended.returncode == 2
    assert "the input is the one that it records; 2 rows are done, 3 failed, 0 are left." in ended.stderr
    assert json.loads(ended.stdout)["journal"]["left"] == 0
    assert "2 rows are done, 1 failed, 2 are left." in here(*SYNC, "--dry-run", "--retry-failed").stderr
    new = here("sync", "in.csv", "--journal", "new.journal", "--dry-run")
    assert "Journal new.journal: not there yet; a run would begin it." in new.stderr
    assert not (command.directory / "new.journal").exists()
    assert sandbox.ledger.requests == sent


def test_a_limit_is_not_taken_for_the_end_of_the_input(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", csv_of(TABLE[:50]))
    first = here(*SYNC, "--sample", "20")
    assert first.returncode == 0
    assert "Only the first 20 rows were asked for; to go on with the rest, leave --sample out." in first.stderr
    assert "rows of the input  not read to its end yet" in here("journal", "show", "run.journal").stdout
    piped = here("sync", "-", *SYNC[2:], "--sample", "30", stdin=csv_of(TABLE[:50]).encode())
    assert piped.returncode == 0
    assert "20 more were done in an earlier run" in piped.stderr
    assert here(*SYNC).returncode == 0
    assert sandbox.check(TABLE[:50]).ok
    assert "Next: nothing is left to do" in here("journal", "show", "run.journal").stdout
    assert here(*SYNC, "--sample", "20").returncode == 0


@pytest.mark.processes
@pytest.mark.usefixtures("untraced")
def test_a_journal_that_cannot_grow_stops_the_run_in_one_sentence(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))

    process = started("--rate", "none", "--failed", "failed.csv", fresh=1, preexec_fn=limited)
    _, stderr = process.communicate(timeout=60)
    command.said += stderr.decode()
    assert process.returncode == 2
    assert sum(line.startswith("Stopped: ") for line in stderr.decode().splitlines()) == 1
    assert "run.journal" in stderr.decode()
    assert "run the same command again: altcraft-async sync in.csv --journal run.journal" in stderr.decode()
    sandbox.faults = Faults()
    assert here(*SYNC).returncode == 0
    assert sandbox.check(TABLE).ok


@pytest.mark.usefixtures("mixed")
def test_files_that_are_no_journal_are_refused_in_one_sentence(command: CommandLine, here: Here) -> None:
    journal = command.directory / "run.journal"
    command.write("schema.journal", journal.read_bytes().replace(b"CREATE TABLE failure", b"CREATE TABL\xb4 failure"))
    command.write("cut.journal", journal.read_bytes()[:6000])
    for name, change in (("other.journal", "application_id = 5"), ("newer.journal", "user_version = 99")):
        command.write(name, journal.read_bytes())
        with sqlite3.connect(command.directory / name) as connection:
            connection.execute(f"PRAGMA {change}")
        connection.close()
    said = {
        "absent.journal": "does not exist",
        "in.csv": "in.csv is no journal of altcraft_async, or is damaged",
        "schema.journal": "is damaged",
        "cut.journal": "is damaged",
        "other.journal": "is no journal of altcraft_async",
        "newer.journal": "has format version 99",
    }
    commands = itertools.cycle(["show", "failed", "export"])
    for (name, expected), what in zip(said.items(), commands, strict=False):
        ended = here("journal", what, name)
        assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)
        assert expected in ended.stderr
    ended = here("sync", "in.csv", "--journal", "newer.journal")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sync", "in.csv", "--retry-failed"), "--retry-failed goes with --journal FILE"),
        (("sync", "in.csv", "--extend"), "--extend goes with --journal FILE"),
        (("sync", "in.csv", "--journal", "in.csv"), "--journal and input are the same file"),
        (("sync", "in.csv", "--journal", "-"), "a journal is a file"),
        (("journal", "failed", "run.journal", "--map", "order_external_id=Order"), "give that with --input FILE"),
    ],
    ids=["retry without", "extend without", "the input", "standard output", "map without input"],
)
def test_options_that_do_not_go_together_are_refused(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox, arguments: tuple[str, ...], said: str
) -> None:
    command.write("in.csv", csv_of(TABLE[:1]))
    ended = here(*arguments)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert said in ended.stderr
    assert sandbox.ledger.requests == 0


@pytest.mark.usefixtures("mixed")
def test_an_order_is_forgotten_and_the_journal_goes_on(command: CommandLine, here: Here) -> None:
    before = here("journal", "show", "run.journal", "--json").stdout
    ended = here("journal", "forget", "run.journal", "--order", "order_77")
    assert ended.returncode == 0
    assert ended.stderr == "2 failed rows were about this order; what the journal said of it is deleted.\n"
    assert b"order_77" not in (command.directory / "run.journal").read_bytes()
    after = here("journal", "show", "run.journal", "--json").stdout
    assert json.loads(after)["states"] == json.loads(before)["states"]
    exported = [json.loads(line) for line in here("journal", "export", "run.journal").stdout.splitlines()]
    assert [record["state"] for record in exported] == ["applied", "rejected", "invalid", "rejected", "applied"]
    assert "forgotten ones, whose ids the journal does not have: 3" in here("journal", "failed", "run.journal").stderr
    assert here(*SYNC).returncode == 2


@pytest.mark.processes
def test_show_says_how_to_go_on_from_another_directory_and_after_a_kill(
    command: CommandLine, here: Here, started: Callable[..., subprocess.Popen[bytes]], monkeypatch, tmp_path_factory
) -> None:
    process = started("--encoding", "utf-8")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    ended = here("journal", "show", str(command.directory / "run.journal"))
    again = "altcraft-async sync in.csv --encoding utf-8 --journal run.journal --rate 100"
    assert f"to finish the run, run the same command again: cd {command.directory} && {again}\n" in ended.stdout


def test_a_command_that_names_a_forgotten_order_is_forgotten_too(command: CommandLine, here: Here) -> None:
    command.write("in.csv", "order_line_external_id,status_external_id\nnope,new\n")
    here(*SYNC, "--set", "order_external_id=secret-order")
    assert b"secret-order" in (command.directory / "run.journal").read_bytes()
    here("journal", "forget", "run.journal", "--order", "secret-order")
    assert b"secret-order" not in (command.directory / "run.journal").read_bytes()
    assert "sync INPUT --journal" in here("journal", "show", "run.journal").stdout
