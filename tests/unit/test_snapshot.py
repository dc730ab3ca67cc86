"""A journal that is made with a given id, and a copy of one that is being written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import pytest

from altcraft_async import JournalError
from altcraft_async.journal import JournalReader, begin_journal
from altcraft_async.journal.format import KIND
from altcraft_async.storage.snapshot import copy_database
from altcraft_async.storage.sqlite import open_database

if TYPE_CHECKING:
    from pathlib import Path

RUN = str(uuid5(NAMESPACE_URL, "run"))


async def test_two_runs_of_one_id_and_input_send_the_same(tmp_path, sandbox, connect):
    keys = sandbox.seed_orders(5)
    rows = [(*key, "delivered") for key in keys]
    ids = []
    for name in "ab":
        begin_journal(tmp_path / name, run_id=RUN, target=sandbox.base_url, now=1e9)
        async with connect(sandbox, dedup_window=1e10) as client:
            report = await client.market.orders.update_order_line_statuses(rows, journal=tmp_path / name)
        ids.append([outcome.request_id for outcome in report])
        with JournalReader(tmp_path / name) as journal:
            assert journal.summary().run_id == RUN
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 5
    assert sandbox.ledger.check(rows).ok


def test_a_journal_is_not_begun_twice(tmp_path: Path) -> None:
    begin_journal(tmp_path / "j", run_id=RUN, target="https://a.example", now=0.0)
    with pytest.raises(JournalError, match="records a run already"):
        begin_journal(tmp_path / "j", run_id=RUN, target="https://a.example", now=0.0)


def test_a_copy_has_what_is_committed_and_is_one_file(tmp_path: Path) -> None:
    path, copy = str(tmp_path / "j"), str(tmp_path / "copy")
    begin_journal(path, run_id=RUN, target="https://a.example", now=0.0)
    with closing(open_database(KIND, path)) as writing:
        writing.execute("INSERT INTO slowest VALUES (1, 2, 3)")  # in the log beside the file
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("INSERT INTO slowest VALUES (4, 5, 6)")
        for _ in range(2):  # over one that is there, too
            copy_database(KIND, path, copy)
        writing.execute("ROLLBACK")
    assert sorted(found.name for found in tmp_path.glob("copy*")) == ["copy"]
    with closing(sqlite3.connect(copy)) as reading:
        assert reading.execute("SELECT row FROM slowest").fetchall() == [(1,)]
    with JournalReader(copy) as journal:
        assert journal.summary().run_id == RUN


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("something else, and long enough to be read as a header of some kind" * 20)
    with pytest.raises(JournalError, match=str(tmp_path / "j")):
        copy_database(KIND, str(tmp_path / "j"), str(tmp_path / "copy"))
