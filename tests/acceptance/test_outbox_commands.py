"""``outbox …``: a person looks into a service's outbox from outside."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from altcraft_async import AltcraftClient
from altcraft_async.outbox import Outbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture
def filled(command: CommandLine, sandbox: ThreadedSandbox) -> str:
    """An outbox with one update that waits and two dead letters, one of them overtaken."""
    path = command.directory / "outbox.db"

    async def fill() -> None:
        async with (
            AltcraftClient(sandbox.base_url, sandbox.token) as altcraft,
            Outbox(path, altcraft) as outbox,
        ):
            for update in (("order_1", "line_1_1", "no-such"), ("order_1", "line_1_1", "new"), ("nope", "l", "new")):
                await outbox.put(update)
        async with Outbox(path) as outbox:
            await outbox.put(("order_2", "line_2_1", "delivered"))

    asyncio.run(fill())
    return "outbox.db"


def test_dead_letters_are_shown_listed_retried_and_purged(here: Here, filled: str) -> None:
    shown = here("outbox", "show", filled)
    assert shown.returncode == 0
    assert "1 update waits, the first for" in shown.stdout
    assert "2 dead letters. To list them: altcraft-async outbox dead outbox.db" in shown.stdout

    listed = here("outbox", "dead", filled)
    first, second = (json.loads(line) for line in listed.stdout.splitlines())
    assert (first["order_external_id"], first["state"], first["overtaken"]) == ("order_1", "rejected", True)
    assert (second["status_external_id"], second["overtaken"]) == ("new", False)
    assert "there is no order 'nope'" in second["reason"]

    assert "1 dead letter put back, 1 left." in here("outbox", "retry", filled).stderr
    assert "1 dead letter deleted." in here("outbox", "purge", filled, "--all").stderr
    ended = here("outbox", "show", filled, "--json")
    assert ended.returncode == 0
    assert (json.loads(ended.stdout)["pending"], json.loads(ended.stdout)["dead"]) == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "no.db"), "the outbox no.db does not exist; check the path"),
        (("show", "text.db"), "is damaged|is no outbox"),
        (("purge", "no.db"), "say which dead letters to delete: their ids, or --all"),
        (("retry", "no.db", "x"), "'x' is not a valid integer"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    command: CommandLine, here: Here, arguments: tuple[str, ...], said: str
) -> None:
    command.write("text.db", "not a database " * 100)
    ended = here("outbox", *arguments)
    assert ended.returncode == 1
    assert any(part in ended.stderr for part in said.split("|"))


def test_what_concerns_an_order_is_forgotten(command: CommandLine, here: Here, filled: str) -> None:
    ended = here("outbox", "forget", filled, "--order", "order_1")
    assert ended.returncode == 0
    assert ended.stderr == "0 updates that waited and 1 dead letter of this order deleted.\n"
    ended = here("outbox", "forget", filled, "--order", "order_2")
    assert ended.stderr == "1 update that waited and 0 dead letters of this order deleted.\n"
    assert b"order_1" not in (command.directory / filled).read_bytes()
    assert "Missing option '--order'" in here("outbox", "forget", filled).stderr


def test_the_statements_for_older_tables_are_printed(here: Here) -> None:
    printed = here("outbox", "schema", "--schema", "shop", "--since", "1").stdout
    assert 'ALTER TABLE "shop".entry ADD COLUMN IF NOT EXISTS traceparent text;' in printed
    assert "CREATE TABLE" not in printed
    ended = here("outbox", "schema", "--since", "7")
    assert (ended.returncode, ended.stderr) == (
        1,
        "Error: since must be an older version of the tables than 2, not 7\n",
    )
