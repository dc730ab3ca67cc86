"""``orders import`` and its like, as a person runs them."""

from __future__ import annotations

import csv
import json
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


def put(command: CommandLine, rows: list[dict[str, Any]], *more: str) -> None:
    command.write("in.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + "".join(more))


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
    assert "line 62: endpoint is required" in ended.stderr
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
    assert "--failed" in refused.stderr


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
