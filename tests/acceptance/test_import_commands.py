"""``orders import`` and its like, as a person runs them."""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from conftest import CANARY
from journal_runs import orders_of

from altcraft_async.sandbox import Readings, ThreadedSandbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from conftest import CommandLine

    Here = Callable[..., subprocess.CompletedProcess[str]]


pytestmark = pytest.mark.slow


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox(token=CANARY, readings=Readings(currencies=["RUB"])) as running:
        yield running


def put(command: CommandLine, rows: list[dict[str, Any]], *more: str, name: str = "in.jsonl") -> None:
    command.write(name, "".join(json.dumps(row) + "\n" for row in rows) + "".join(more))


def test_orders_must_say_whether_they_start_automations(command: CommandLine, here: Here) -> None:
    put(command, orders_of(3, 9, 1))
    for options in ((), ("--triggers", "--skip-triggers")):
        ended = here("orders", "import", "in.jsonl", *options)
        assert ended.returncode == 1
        assert "--skip-triggers" in ended.stderr


def test_a_file_is_imported_and_what_failed_can_be_corrected(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    rows = orders_of(60, 1000, 1)
    wrong = {**rows[7], "external_id": "wrong", "currency": "XXX"}
    put(command, [*rows[:30], wrong, *rows[30:]], '{"external_id": "x"}\n', "nonsense\n")
    ended = here(
        "orders", "import", "in.jsonl", "--skip-triggers", "--batch-size", "20", "--split", "--failed", "failed.jsonl",
        "--results", "results.csv",
    )  # fmt: skip
    assert ended.returncode == 2
    assert "1 invalid: endpoint is required" in ended.stderr
    assert "    line 62\n" in ended.stderr
    assert sandbox.ledger.check_imports("orders", rows).ok
    failed = (command.directory / "failed.jsonl").read_text().splitlines()
    assert [line[:30] for line in failed] == [json.dumps(wrong)[:30], '{"external_id": "x"}', "nonsense"]
    with (command.directory / "results.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 63
    assert next(row["external_id"] for row in found if row["state"] == "rejected") == "wrong"


def test_a_journalled_import_goes_on_and_then_has_nothing_to_do(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    rows = orders_of(50, 40, 1)
    put(command, rows)
    how = ("orders", "import", "in.jsonl", "--triggers", "--batch-size", "7", "--journal", "run.journal")
    assert here(*how).returncode == 0
    again = here(*how)
    assert again.returncode == 0
    assert "Nothing is left to do" in again.stderr
    assert sandbox.ledger.check_imports("orders", rows).ok
    refused = here("journal", "failed", "run.journal")
    assert refused.returncode == 1
    assert "--input FILE" in refused.stderr


@pytest.fixture
def half_wrong(command: CommandLine, here: Here) -> list[dict[str, Any]]:
    """Run an import with a journal, of which one batch is refused and one row is invalid; give its rows."""
    rows = orders_of(30, 1000, 1)
    rows[12]["currency"] = "XXX"
    put(command, rows, '{"external_id": "x"}\n')
    how = ("orders", "import", "in.jsonl", "--skip-triggers", "--batch-size", "10", "--journal", "run.journal")
    assert here(*how).returncode == 2
    return rows


def test_the_journal_of_an_import_gives_back_the_rows_that_failed(
    command: CommandLine, here: Here, half_wrong: list[dict[str, Any]]
) -> None:
    ended = here("journal", "failed", "run.journal", "--input", "in.jsonl", "-o", "failed.jsonl")
    assert ended.returncode == 0
    failed = (command.directory / "failed.jsonl").read_text().splitlines()
    assert failed == [*map(json.dumps, half_wrong[10:20]), '{"external_id": "x"}']
    said = "in.jsonl --skip-triggers --batch-size 10 --journal run.journal --retry-failed"
    assert said in here("journal", "show", "run.journal").stdout
    with contextlib.closing(sqlite3.connect(command.directory / "run.journal", isolation_level=None)) as journal:
        journal.execute("DROP TABLE note")  # as of a journal that a program made
    said = "INPUT --skip-triggers --batch-size 10 --batch-bytes 1000000 --journal run.journal --retry-failed"
    assert said in here("journal", "show", "run.journal").stdout
    assert "orders import with --retry-failed" in ended.stderr


def test_the_journal_of_an_import_is_exported_like_its_results(
    command: CommandLine, here: Here, half_wrong: list[dict[str, Any]]
) -> None:
    ended = here("journal", "export", "run.journal", "--input", "in.jsonl", "-o", "out.csv")
    assert ended.returncode == 0
    with (command.directory / "out.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [row["external_id"] for row in told] == [*(row["external_id"] for row in half_wrong), ""]
    assert [row["state"] for row in told] == ["applied"] * 10 + ["rejected"] * 10 + ["applied"] * 10 + ["invalid"]
    alone = here("journal", "export", "run.journal")
    ids = [json.loads(line)["external_id"] for line in alone.stdout.splitlines()]
    assert ids == [None] * 10 + [row["external_id"] for row in half_wrong[10:20]] + [None] * 11


def test_another_input_than_the_imports_is_named_by_its_line(
    command: CommandLine, here: Here, half_wrong: list[dict[str, Any]]
) -> None:
    half_wrong[4]["status"] = "paid"
    put(command, half_wrong, name="other.jsonl")
    for kind in ("failed", "export"):
        ended = here("journal", kind, "run.journal", "--input", "other.jsonl")
        assert ended.returncode == 1
        assert "other.jsonl, line 5" in ended.stderr
    (command.directory / "updates.csv").write_text(
        "order_external_id,order_line_external_id,status_external_id\no,l,new\n"
    )
    for words in (("reconcile", "updates.csv"), ("sync", "updates.csv", "--dry-run")):
        ended = here(*words, "--journal", "run.journal")
        assert ended.returncode == 1
        assert "records a run of market/orders/import" in ended.stderr
    refused = here("journal", "failed", "run.journal", "--input", "in.jsonl", "--status", "a=b")
    assert refused.returncode == 1
    assert "--status" in refused.stderr


def test_a_dry_run_with_a_journal_counts_what_is_left(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    rows = orders_of(50, 1000, 1)
    put(command, rows)
    how = ("orders", "import", "in.jsonl", "--skip-triggers", "--batch-size", "10", "--journal", "run.journal")
    begun = here(*how, "--dry-run", "--json")
    assert json.loads(begun.stdout)["batches"] == 5
    assert not (command.directory / "run.journal").exists()
    assert here(*how, "--sample", "20").returncode == 0
    assert len(sandbox.ledger.import_arrivals) == 2
    left = json.loads(here(*how, "--dry-run", "--json").stdout)
    assert (left["batches"], left["states"], left["done_before"]) == (3, {"valid": 30}, 20)
    assert here(*how).returncode == 0
    assert sandbox.ledger.check_imports("orders", rows).ok
    assert len(sandbox.ledger.import_arrivals) == 5
    other = here(*how[:-4], "--batch-size", "7", "--journal", "run.journal", "--dry-run")
    assert other.returncode == 1
    assert "batch_size" in other.stderr


@pytest.mark.parametrize("options", [("--sample", "15"), ("--sample", "20", "--dry-run")])
def test_a_sample_with_a_journal_is_of_whole_batches(
    command: CommandLine, here: Here, options: tuple[str, ...]
) -> None:
    put(command, orders_of(30, 1000, 1))
    ended = here(
        "orders", "import", "in.jsonl", "--triggers", "--batch-size", "10", "--journal", "run.journal", *options
    )
    assert ended.returncode == 1
    assert "--sample" in ended.stderr
    assert not (command.directory / "run.journal").exists()


def test_a_dry_run_counts_batches_and_bytes_and_sends_nothing(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    put(command, orders_of(45, 1000, 1))
    ended = here("orders", "import", "in.jsonl", "--skip-triggers", "--batch-size", "20", "--dry-run", "--json")
    said = json.loads(ended.stdout)
    assert (said["batches"], said["states"]) == (3, {"valid": 45})
    assert said["size"] > 45 * 100
    assert not sandbox.ledger.requests


def test_products_and_skus_come_from_standard_input_and_with_definitions(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    (command.directory / "more.json").write_text('{"categories": [{"external_id": "c", "name": "Cups"}]}')
    products = b'{"external_id": "p", "name": "Cup"}\n'
    assert here("products", "import", "-", "--definitions", "more.json", stdin=products).returncode == 0
    skus = b'[{"external_id": "s", "name": "Cup", "product_external_id": "p"}]'
    assert here("skus", "import", "-", stdin=skus).returncode == 0
    assert len(sandbox.ledger.imports("products", "p")) == len(sandbox.ledger.imports("sku", "s")) == 1


@pytest.mark.parametrize("text", ['{"tags": []}', "[", "[]"])
def test_definitions_that_are_none_are_refused_in_words(command: CommandLine, here: Here, text: str) -> None:
    put(command, orders_of(1, 9, 1))
    (command.directory / "more.json").write_text(text)
    ended = here("orders", "import", "in.jsonl", "--triggers", "--definitions", "more.json")
    assert ended.returncode == 1
    assert "more.json" in ended.stderr


def test_a_csv_is_refused_in_words(command: CommandLine, here: Here) -> None:
    (command.directory / "in.csv").write_text("external_id,status\n1,new\n")
    ended = here("orders", "import", "in.csv", "--triggers")
    assert ended.returncode == 1
    assert "is not JSON" in ended.stderr
