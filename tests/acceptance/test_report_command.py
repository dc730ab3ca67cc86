"""``sync --report`` and ``report``: what a person asks of a nightly run, as a page and as JSON."""

from __future__ import annotations

import builtins
import json
from typing import TYPE_CHECKING

import pytest

from altcraft_async.cli.results import RecordFile
from altcraft_async.sandbox import Faults

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

HEADER = "order_external_id,order_line_external_id,status_external_id\n"
EVIL = "<script>alert(1)</script>"
ROWS = [*((f"order_{n}", f"line_{n}_{k}", "delivered") for n in range(1, 21) for k in (1, 2)), (EVIL, "1", "new"),
        ("order_1", "line_1_1", "")]  # fmt: skip


@pytest.fixture
def table(command):
    command.write("in.csv", HEADER + "".join(",".join(row) + "\n" for row in ROWS))


def page_of(command, name="run.html") -> str:
    return (command.directory / name).read_text(encoding="utf-8")


def json_of(command, name="run.json"):
    return json.loads((command.directory / name).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("table")
def test_a_run_leaves_a_page_that_says_what_did_not_arrive_and_why(command, here):
    ended = here("sync", "in.csv", "--report", "run.html")
    assert ended.returncode == 2
    assert "Report: run.html" in ended.stderr
    html = page_of(command)
    assert "No: 2 of 42 did not" in html
    assert "there is no order &#39;…&#39;; import it first" in html
    assert "line 42: <bdi>&lt;script&gt;alert(1)&lt;/script&gt; / 1</bdi>" in html
    assert EVIL not in html


@pytest.mark.parametrize("journal", [(), ("--journal", "run.journal")])
@pytest.mark.usefixtures("table")
def test_the_report_the_summary_and_the_last_lines_say_the_same(command, here, journal):
    ended = here("sync", "in.csv", "--report", "run.json", "--json", *journal)
    summary, report = json.loads(ended.stdout), json_of(command)
    same = ("updates", "states", "requests", "retries", "throttled", "done_before")
    assert {name: report[name] for name in same} == {name: summary[name] for name in same}
    assert report["elapsed"] == pytest.approx(summary["elapsed"], abs=1.0)
    assert report["source"] == summary["source"] == "in.csv"
    assert f"{report['requests']} requests, {report['retries']} of them retries" in ended.stderr
    assert sum(sum(bucket["ended"].values()) for bucket in report["timeline"]) == 42
    assert report["attempts"] == {"0": 1, "1": 41}
    assert {place["subject"] for place in report["slowest"]} <= {f"{order} / {line}" for order, line, _ in ROWS}
    assert all(place["line"] for place in report["slowest"])


@pytest.mark.usefixtures("table")
def test_a_run_that_goes_on_reports_both_parts(command, here):
    first = here("sync", "in.csv", "--journal", "run.journal", "--sample", "10", "--report", "run.json")
    assert first.returncode == 0
    assert json_of(command)["updates"] == 10
    assert json_of(command)["finished"] is False
    here("sync", "in.csv", "--journal", "run.journal", "--report", "run.json")
    report = json_of(command)
    assert (report["updates"], report["finished"], report["failed"]) == (42, True, 2)
    assert [reason["count"] for reason in report["reasons"]] == [1, 1]


@pytest.mark.usefixtures("table")
def test_a_journal_is_reported_later_and_its_input_names_the_slowest(command, here):
    here("sync", "in.csv", "--journal", "run.journal")
    assert here("report", "run.journal", "-o", "run.html").returncode == 0
    assert "No: 2 of 42 did not" in page_of(command)
    assert "not in the journal" in page_of(command)
    assert here("report", "run.journal", "--input", "in.csv", "-o", "run.html").returncode == 0
    assert "not in the journal" not in page_of(command)
    said = here("report", "run.journal", "--json")
    assert json.loads(said.stdout)["updates"] == 42
    assert here("report", "run.journal").stdout.startswith("<!DOCTYPE html>")


@pytest.mark.usefixtures("table")
def test_an_input_that_is_not_the_runs_is_refused(command, here):
    here("sync", "in.csv", "--journal", "run.journal")
    command.write("other.csv", HEADER + "order_2,line_2_1,new\n")
    ended = here("report", "run.journal", "--input", "other.csv", "-o", "run.html")
    assert ended.returncode == 1
    assert "other.csv" in ended.stderr
    assert not (command.directory / "run.html").exists()


@pytest.mark.usefixtures("table")
def test_an_outage_and_what_was_throttled_are_in_the_report(command, here, sandbox):
    sandbox.faults = Faults(rate=20, burst=2, retry_after=0.05)
    here("sync", "in.csv", "--report", "run.json")
    report = json_of(command)
    assert report["throttled"] > 0
    assert sum(bucket["throttled"] for bucket in report["timeline"]) == report["throttled"]


@pytest.mark.usefixtures("table")
def test_a_refused_token_is_what_stopped_the_run(command, here):
    ended = here("sync", "in.csv", "--report", "run.html", ALTCRAFT_TOKEN="wrong")
    assert ended.returncode == 4
    assert "<strong>Stopped:</strong>" in page_of(command)
    assert "No: the run is not finished" in page_of(command)


@pytest.mark.usefixtures("table")
def test_an_import_has_a_report_too(command, here):
    command.write("orders.jsonl", "".join(json.dumps({"external_id": f"new_{n}"}) + "\n" for n in range(5)))
    options = ("--skip-triggers", "--journal", "run.journal", "--report", "run.json")
    here("orders", "import", "orders.jsonl", *options)
    report = json_of(command)
    assert (report["updates"], report["noun"]) == (5, "row")


# -- what cannot be


@pytest.mark.usefixtures("table")
def test_a_dry_run_writes_no_report(command, here):
    here("sync", "in.csv", "--report", "run.html", "--dry-run")
    assert not (command.directory / "run.html").exists()


@pytest.mark.usefixtures("table")
def test_without_the_extra_nothing_is_sent_and_json_works(command, here, sandbox, monkeypatch):
    usual = builtins.__import__

    def without(name, *rest, **more):
        if name == "jinja2":
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    ended = here("sync", "in.csv", "--report", "run.html")
    assert ended.returncode == 1
    assert "pip install 'altcraft-async[report]'" in ended.stderr
    assert sandbox.ledger.requests == 0
    assert not (command.directory / "run.html").exists()
    assert here("sync", "in.csv", "--report", "run.json").returncode == 2


@pytest.mark.usefixtures("table")
def test_a_report_where_another_file_stands_is_refused(here, sandbox):
    for path, said in (
        ("in.csv", "are the same file"),
        ("-", "--report is a file"),
        ("no/run.html", "cannot be written"),
    ):
        ended = here("sync", "in.csv", "--report", path)
        assert ended.returncode == 1
        assert said in ended.stderr
    assert sandbox.ledger.requests == 0


@pytest.mark.usefixtures("table")
def test_a_run_that_does_not_come_about_leaves_the_last_report_alone(command, here):
    here("sync", "in.csv", "--journal", "run.journal", "--report", "run.html")
    before = page_of(command)
    command.write("in.csv", HEADER + "order_2,line_2_1,new\n")
    assert here("sync", "in.csv", "--journal", "run.journal", "--report", "run.html").returncode == 1
    assert page_of(command) == before


@pytest.mark.usefixtures("table")
def test_a_report_that_cannot_be_written_at_the_end_is_said(command, here, monkeypatch):
    command.write("good.csv", HEADER + "order_1,line_1_1,delivered\n")

    def full(self: RecordFile, record: bytes) -> None:
        del record
        self.problem = f"{self.path} cannot be written: No space left on device"

    monkeypatch.setattr(RecordFile, "write", full)
    ended = here("sync", "good.csv", "--report", "run.html")
    assert ended.returncode == 2
    assert "The report is missing: run.html cannot be written: No space left on device" in ended.stderr


def test_a_report_of_no_journal_says_so(here, tmp_path: Path):
    ended = here("report", str(tmp_path / "no.journal"), "-o", "run.html")
    assert ended.returncode == 1
    assert "no.journal" in ended.stderr
