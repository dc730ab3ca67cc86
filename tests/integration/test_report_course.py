"""What a gathering run remembers of its course, for its report."""

from __future__ import annotations

import asyncio
import pickle
import time

import pytest

from altcraft_async import OutcomeState
from altcraft_async.engine.history import History
from altcraft_async.journal import JournalReader, JournalSummary
from altcraft_async.journal.figures import _elapsed
from altcraft_async.outcome import Outcome
from altcraft_async.timeline import Bucket, Sample

APPLIED = OutcomeState.APPLIED


class Clock:
    """A loop's clock and timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 50.0
        self.due: list[tuple[float, object]] = []

    def time(self):
        return self.now

    def call_at(self, when, what):
        self.due.append((when, what))
        return self

    def call_later(self, delay, what):
        return self.call_at(self.now + delay, what)

    def cancel(self):
        self.due.clear()

    def run_to(self, moment, *, late=0.0):
        while self.due and self.due[0][0] <= moment:
            when, what = self.due.pop(0)
            self.now = when + late
            what()
        self.now = moment


def outcomes_of(count):
    return {index: Outcome(index, None, APPLIED, 1, 0.1) for index in range(count)}


def test_rows_stand_in_the_second_in_which_they_ended():
    clock, sent = Clock(), [0]
    history = History(clock, lambda: Sample(sent[0], 0, 0, 8, 4, outage=False))
    for second in range(100):
        history.ended(2 * second)
        history.ended(2 * second + 1)
        sent[0] += 3
        clock.run_to(51.01 + second, late=0.012)  # a timer is late, each time
    timeline = history.close().timeline(outcomes_of(200))
    assert [bucket.start for bucket in timeline] == list(range(101))
    assert [sum(bucket.ended.values()) for bucket in timeline] == [2] * 100 + [0]
    assert [bucket.sent for bucket in timeline] == [3] * 100 + [0]


def test_a_run_of_less_than_a_second_takes_no_look():
    history = History(Clock(), pytest.fail)
    history.ended(0)
    (bucket,) = history.close().timeline(outcomes_of(1))
    assert (bucket.ended, bucket.limit) == ({APPLIED: 1}, None)


async def test_a_report_shows_its_run_over_time(sandbox, connect):
    altcraft = connect(sandbox, concurrency=4)
    rows = [("order_1", f"line_1_{n}", "delivered") for n in range(1, 8)]

    async def slowly():
        for row in rows:
            yield row
            await asyncio.sleep(0.2)

    report = await altcraft.market.orders.update_order_line_statuses(slowly())
    figures = pickle.loads(pickle.dumps(report)).figures()
    assert len(figures.timeline) == 2
    assert sum(sum(bucket.ended.values()) for bucket in figures.timeline) == 7
    assert sum(bucket.sent for bucket in figures.timeline) == report.sent
    assert figures.timeline[1].limit.last == 4
    assert "Updates per second" in report.to_html()


async def test_the_rows_of_a_run_that_was_cancelled_leave_no_timer(sandbox, connect):
    altcraft = connect(sandbox)

    async def forever():
        while True:
            yield ("order_1", "line_1_1", "delivered")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(altcraft.market.orders.update_order_line_statuses(forever()))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    looks = [handle for handle in asyncio.get_running_loop()._scheduled if "History" in repr(handle)]
    assert all(handle.cancelled() for handle in looks)


def test_a_timer_that_is_due_a_rounding_before_its_second_does_not_spin():
    clock = Clock()
    clock.now = 0.3 + 1e-16
    history = History(clock, lambda: Sample(0, 0, 0, 8, 4, outage=False))
    clock.run_to(100.3)
    assert len(history.close().moments) <= 101


@pytest.mark.parametrize("hour", [3600, -3600])
async def test_a_clock_that_is_set_in_a_run_leaves_no_hour_in_its_report(sandbox, connect, tmp_path, monkeypatch, hour):
    path = tmp_path / "run.journal"
    updates = [(*key, "delivered") for key in sandbox.seed_orders(30)]
    real = time.time
    async with connect(sandbox) as altcraft:
        async for _ in altcraft.market.orders.stream_order_line_statuses(updates, journal=path):
            monkeypatch.setattr("time.time", lambda: real() + hour)
    monkeypatch.undo()
    with JournalReader(path) as reader:
        figures = reader.figures()
    assert figures.course.pauses == []
    assert 0 < figures.elapsed < 60


def test_a_run_that_was_killed_in_an_outage_lasted_as_long_as_it_was_seen():
    summary = JournalSummary(
        path="run.journal", run_id="id", target="http://127.0.0.1", created=1000.0, written=1001.0, length=None,
        counts={APPLIED: 5}, reopened=0, size=1, in_use=False,
    )  # fmt: skip
    assert _elapsed(summary, [Bucket(start=second, outage=1.0) for second in range(60)]) == 59.0
