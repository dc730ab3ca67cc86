"""Files that the first edition wrote are read, and gone on with, as if they were our own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import sqlite3
import warnings
from pathlib import Path

import aiohttp
import attrs
import pytest
from aiohttp.abc import AbstractResolver

from altcraft_async import InputChangedError, InvalidUpdateError, JournalError, LineStatusUpdate, OutcomeState
from altcraft_async.journal import DedupWindowWarning, JournalReader
from altcraft_async.journal import format as present
from altcraft_async.outbox import Outbox
from altcraft_async.report import page
from altcraft_async.storage.sqlite import open_database

DATA = Path(__file__).parents[1] / "data" / "first_edition"
UPDATES = [tuple(row) for row in json.loads((DATA / "updates.json").read_text())]
FINISHED = {"applied": 12, "duplicate": 1, "rejected": 1, "unknown": 1, "not_sent": 1, "superseded": 10, "invalid": 1}
FAILED = [2, 4, 7, 8]


class OnLoopback(AbstractResolver):
    """Finds the name that the old files know on the sandbox's port."""

    def __init__(self, base_url):
        self.port = int(base_url.rpartition(":")[2])

    async def resolve(self, host, port=0, family=socket.AF_INET):
        place = {"hostname": host, "host": "127.0.0.1", "port": self.port}
        return [{**place, "family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}]

    async def close(self):
        pass


@pytest.fixture
def old(tmp_path):
    """Give a copy of an old file, as the kill or the close left it."""

    def copy(name):
        for file in DATA.glob(f"{name}*"):
            shutil.copyfile(file, tmp_path / file.name)
        return tmp_path / name

    return copy


@pytest.fixture
async def client(start_sandbox, connect):
    """A client, and the sandbox that the old files mean."""
    sandbox = await start_sandbox()
    connector = aiohttp.TCPConnector(resolver=OnLoopback(sandbox.base_url))
    async with aiohttp.ClientSession(connector=connector) as session:
        altcraft = connect("http://altcraft.test:8080", sandbox.token, allow_insecure=True, session=session)
        yield altcraft, sandbox


@pytest.fixture
def whole_run(client):
    """Send the updates with a journal; a day or more has passed since the old ones."""
    altcraft, _ = client

    async def run(path, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DedupWindowWarning)
            return await altcraft.market.orders.update_order_line_statuses(UPDATES, journal=path, **options)

    return run


def version_of(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def states(counts):
    return {str(state): count for state, count in counts.items() if count}


def said_of(path):
    with JournalReader(path) as reader:
        summary = reader.summary()
        return summary.run_id, summary.counts, summary.reopened, [str(outcome) for outcome in reader.outcomes()]


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_a_finished_journal_is_read_and_not_changed(old):
    path = old("finished.journal")
    before = digests(path.parent)
    with JournalReader(path) as reader:
        summary = reader.summary()
        outcomes = {outcome.index: outcome for outcome in reader.outcomes()}
        slowest, timeline = reader.slowest(), reader.timeline()
    assert states(summary.counts) == FINISHED
    assert (summary.length, summary.finished, summary.reopened) == (27, True, 0)
    assert summary.target == "http://altcraft.test:8080"
    assert [index for index, outcome in outcomes.items() if not outcome.ok] == FAILED
    assert outcomes[2].update == LineStatusUpdate("order_77", "line_77_1", "new")
    assert "there is no order 'order_77'" in str(outcomes[2].error)
    assert type(outcomes[4].error) is InvalidUpdateError
    assert outcomes[4].update is None
    assert outcomes[7].request_id[14] == "8"
    assert len(slowest) > 10
    assert [slow.elapsed for slow in slowest] == sorted((slow.elapsed for slow in slowest), reverse=True)
    assert timeline == []
    assert digests(path.parent) == before
    assert version_of(path) == 1


def test_a_report_of_an_old_journal_says_what_it_lacks(old):
    path = old("finished.journal")
    before = digests(path.parent)
    with JournalReader(path) as reader:
        figures = reader.figures()
    assert states(figures.states) == FINISHED
    assert (figures.sent, figures.timeline, figures.finished) == (None, [], True)
    assert sum(figures.attempts.values()) == 27
    assert sum(reason.count for reason in figures.reasons) == len(FAILED)
    html = page(figures)
    assert "Nobody looked at the run while it went on" in html
    assert "Not recorded" in html
    assert digests(path.parent) == before


def test_rows_of_a_run_that_was_killed_are_read_out_of_its_log(old):
    with JournalReader(old("killed.journal")) as reader:
        summary = reader.summary()
        failed = [outcome.index for outcome in reader.outcomes(*(s for s in OutcomeState if not s.ok))]
    assert (summary.recorded, summary.length) == (15, 27)
    assert failed == [2, 4, 7, 8, 9]


def test_rows_that_were_opened_again_are_open(old):
    with JournalReader(old("retried.journal")) as reader:
        assert (reader.summary().reopened, reader.summary().recorded) == (2, 25)
        rows = [LineStatusUpdate(*row) if all(row) else None for row in UPDATES]
        rows[4] = next(reader.outcomes(OutcomeState.INVALID)).error
        joined = list(reader.joined(rows))
    assert [index for index, outcome in enumerate(joined) if outcome is None] == [7, 8]


async def test_a_finished_run_is_recalled_as_it_was(old, client, whole_run):
    path = old("finished.journal")
    with JournalReader(path) as reader:
        before = {outcome.index: outcome for outcome in reader.outcomes()}
    report = await whole_run(path)
    assert (states(report.counts), report.sent) == (FINISHED, 0)
    for outcome in report.failures:
        known = before[outcome.index]
        assert (outcome.request_id, str(outcome.error)) == (known.request_id, str(known.error))
    assert version_of(path) == 2


async def test_a_killed_run_goes_on(old, client, whole_run):
    _, sandbox = client
    path = old("killed.journal")
    report = await whole_run(path)
    failures = {"rejected": 2, "unknown": 1, "not_sent": 1, "invalid": 1}
    assert states(report.counts) == {"applied": 21, "duplicate": 1, **failures}
    assert sandbox.ledger.requests == 12
    again = await whole_run(path, retry_failed=True)
    assert again.sent == 3
    assert states(again.counts) == {"applied": 23, "duplicate": 1, "rejected": 1, "superseded": 1, "invalid": 1}
    assert again.outcomes[9].state == "superseded"


async def test_a_retry_that_was_killed_goes_on_under_the_old_ids(old, client, whole_run):
    _, sandbox = client
    ids = {}
    with JournalReader(old("finished.journal")) as reader:
        ids = {outcome.index: outcome.request_id for outcome in reader.outcomes() if not outcome.ok}
    path = old("retried.journal")
    report = await whole_run(path)
    assert report.sent == 2
    assert [report.outcomes[index].state for index in (7, 8)] == ["applied", "applied"]
    assert [report.outcomes[index].request_id for index in (7, 8)] == [ids[7], ids[8]]
    rejected = await whole_run(path, retry_failed=True)
    assert rejected.outcomes[2].request_id not in {ids[2], report.outcomes[2].request_id}
    assert sandbox.ledger.requests == 3


@pytest.mark.filterwarnings("ignore::altcraft_async.journal.DedupWindowWarning")
async def test_a_changed_row_is_refused_as_ever(old, client):
    altcraft, _ = client
    path = old("finished.journal")
    with pytest.raises(InputChangedError, match="row 6 of the input"):
        await altcraft.market.orders.update_order_line_statuses(
            [*UPDATES[:5], ("order_1", "line_1_1", "new"), *UPDATES[6:]], journal=path, retry_failed=True
        )
    with JournalReader(path) as reader:
        assert [outcome.index for outcome in reader.outcomes(OutcomeState.UNKNOWN, OutcomeState.NOT_SENT)] == [7, 8]


def test_a_damaged_run_record_is_noticed_when_it_is_read_and_when_it_is_brought_over(old):
    path = old("finished.journal")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE run SET run_id = 'other'")
    with JournalReader(path) as reader, pytest.raises(JournalError, match="is damaged"):
        reader.summary()
    with (
        contextlib.closing(open_database(present.KIND, str(path))) as connection,
        pytest.raises(JournalError, match="is damaged"),
    ):
        present.RunRecord.read(connection, str(path))


@pytest.mark.parametrize("name", ["finished.journal", "killed.journal", "retried.journal"])
def test_a_kill_while_a_file_is_brought_over_leaves_the_old_or_the_new_one(old, name, monkeypatch):
    path = old(name)
    before, left, upgrade = said_of(path), [], present.KIND.upgrades[1]

    def kill(_statement):
        """Keep what a kill at this moment leaves: the files as they are."""
        folder = path.parent / f"{len(left)}"
        folder.mkdir()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", folder / f"{name}{suffix}")
        left.append(folder / name)

    def traced(connection):
        connection.set_trace_callback(kill)
        upgrade.write(connection)

    kind = attrs.evolve(present.KIND, upgrades={1: attrs.evolve(upgrade, write=traced)})
    open_database(kind, str(path)).close()
    assert len(left) > 10
    for kept in left:
        assert said_of(kept) == before
        assert version_of(kept) == 1
    assert said_of(path) == before
    assert version_of(path) == 2


async def test_an_outbox_is_delivered(old, client, until):
    altcraft, sandbox = client
    async with Outbox(old("outbox.db"), altcraft, give_up_after=None) as outbox:
        letters = [letter async for letter in outbox.dead_letters()]
        assert [(letter.update.key.order_external_id, letter.state) for letter in letters] == [
            ("order_5", "rejected"),
            ("order_77", "rejected"),
        ]
        await until(lambda: not outbox.statistics().pending)
        assert [a.status for a in sandbox.ledger.arrivals("order_1", "line_1_1")] == ["processing", "delivered"]
        assert sandbox.line_status("order_2", "line_2_1") == "delivered"
        sandbox.add_order("order_77", ["line_77_1"])
        assert await outbox.retry() == 1  # not the one that has been overtaken
    assert sandbox.line_status("order_77", "line_77_1") == "delivered"
