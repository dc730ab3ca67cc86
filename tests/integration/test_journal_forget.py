"""A person asks to be forgotten: what a journal says of an order goes, and its run goes on."""

from __future__ import annotations

import pytest
from test_imports import order

from altcraft_async import JournalError
from altcraft_async.journal import JournalReader, forget
from altcraft_async.sandbox import Fault, Faults
from altcraft_async.storage.lock import Lock

LINE = ("order_1", "line_1_1", "delivered")
SECRET = ("secret-order", "secret-line", "delivered")
ROWS = [LINE, SECRET, ("order_77", "line_77_1", "delivered"), ("secret-order", "secret-other", "new")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.journal"


def bytes_of(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


async def run(client, path, rows, **options):
    return await client.market.orders.update_order_line_statuses(rows, journal=path, **options)


async def test_nothing_of_the_order_is_left_and_all_else_is_as_it_was(sandbox, connect, path):
    await run(connect(sandbox), path, ROWS)
    with JournalReader(path) as journal:
        before = list(journal.outcomes())
    assert b"secret" in bytes_of(path)
    assert forget(path, "secret-order") == 2
    assert b"secret" not in bytes_of(path)
    with JournalReader(path) as journal:
        after = list(journal.outcomes())
        assert journal.summary().finished
    assert [outcome.state for outcome in after] == [outcome.state for outcome in before]
    assert after[0] == before[0]
    assert after[2] == before[2]
    assert after[1].update is None
    assert after[1].attempts == before[1].attempts
    assert type(after[1].error) is type(before[1].error)
    assert after[1].error.code == before[1].error.code
    assert after[1].error.message == "what this row said was deleted from the journal"
    assert forget(path, "order_55") == 0


async def test_the_run_goes_on_and_does_not_send_what_was_forgotten(sandbox, connect, path):
    await run(connect(sandbox), path, ROWS)
    forget(path, "secret-order")
    sent = sandbox.ledger.requests
    report = await run(connect(sandbox), path, ROWS)
    assert sandbox.ledger.requests == sent
    assert [outcome.state for outcome in report.outcomes] == ["applied", "rejected", "rejected", "rejected"]
    assert report.outcomes[1].update.key == SECRET[:2]  # from the input, which is the caller's
    again = await run(connect(sandbox), path, ROWS, retry_failed=True)
    assert sandbox.ledger.requests == sent + 3
    assert again.outcomes[1].error.message != report.outcomes[1].error.message


async def test_an_order_of_an_import_is_forgotten_in_the_errors_of_its_batch_too(sandbox, connect, path):
    sandbox.faults = Faults(script=[Fault("error", status=400)])
    orders = [{**order(number), "external_id": external_id} for number, external_id in enumerate(("secret", "order_b"))]
    await connect(sandbox).market.orders.import_orders(orders, journal=path)
    assert b"secret" in bytes_of(path)
    assert forget(path, "secret") == 1
    assert b"secret" not in bytes_of(path)
    with JournalReader(path) as journal:
        first, second = journal.outcomes()
    assert first.external_id is None
    assert second.external_id == "order_b"


async def test_a_journal_in_use_and_one_that_is_not_there_are_refused(sandbox, connect, path):
    with pytest.raises(JournalError, match="does not exist"):
        forget(path, "order_1")
    assert not path.exists()
    await run(connect(sandbox), path, ROWS)
    from altcraft_async.journal.format import KIND  # noqa: PLC0415

    lock = Lock(KIND, str(path))
    lock.acquire("taken")
    try:
        with pytest.raises(JournalError, match="is written by another process; wait"):
            forget(path, "secret-order")
    finally:
        lock.release()
