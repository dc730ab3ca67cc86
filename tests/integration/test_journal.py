"""The journal of a run: what ended is kept, what was in doubt is sent again under its id, and nothing else happens."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import warnings
from collections import Counter
from contextlib import aclosing

import attrs
import pytest
from read_only import read_only_file

from altcraft_async import (
    Adaptive,
    BadRequestError,
    ConfigurationError,
    DeadlineError,
    InputChangedError,
    JournalError,
    LineStatusUpdate,
    OutagePolicy,
    Outcome,
    OutcomeState,
    RetryPolicy,
    RunStoppedError,
    SourceError,
)
from altcraft_async.journal import DedupWindowWarning, JournalReader, Level
from altcraft_async.journal.recorder import Journal
from altcraft_async.observe import AttemptEnded, JournalOpened, UpdateSettled, UpdatesSkipped
from altcraft_async.sandbox import Fault, Faults
from altcraft_async.timeline import Sample

KEYS = [(f"order_{number}", f"line_{number}_1") for number in range(1, 21)]
TWICE = [(*key, status) for status in ("processing", "delivered") for key in KEYS]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.journal"


@pytest.fixture
def orders(sandbox, connect):
    return connect(sandbox).market.orders


def summary_of(path):
    with JournalReader(path) as reader:
        return reader.summary()


def ids_sent(sandbox):
    return {a.request_id for key in sandbox.ledger.lines for a in sandbox.ledger.arrivals(*key)}


async def cut_short(orders, updates, path, *, after, **options):
    """Begin a run, and leave it when some outcomes have come."""
    seen = []
    async with aclosing(orders.stream_order_line_statuses(updates, journal=path, **options)) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome)
            if len(seen) == after:
                break
    return seen


@pytest.mark.parametrize("codec", ["json", "xml"])
async def test_a_run_that_is_continued_sends_only_what_is_left(sandbox, connect, path, codec):
    orders = connect(sandbox, request_format=codec, response_format=codec, concurrency=2).market.orders
    await cut_short(orders, TWICE, path, after=15)
    before = sandbox.ledger.requests
    report = await orders.update_order_line_statuses(TWICE, journal=path)
    assert report.ok
    assert len(report.outcomes) == 40
    assert sandbox.ledger.requests <= 40 + 2
    assert sandbox.ledger.requests > before
    assert sandbox.ledger.check(TWICE).ok


async def test_a_finished_run_sends_nothing_and_reports_everything(sandbox, orders, path):
    first = await orders.update_order_line_statuses(TWICE, journal=path)
    requests = sandbox.ledger.requests
    second = await orders.update_order_line_statuses(TWICE, journal=path)
    assert sandbox.ledger.requests == requests
    assert second.sent == 0
    facts = [(o.index, o.update, o.state, o.attempts, o.request_id) for o in first.outcomes]
    assert [(o.index, o.update, o.state, o.attempts, o.request_id) for o in second.outcomes] == facts
    assert {o.request_id for o in second.outcomes} == ids_sent(sandbox)
    assert [o.elapsed for o in second.outcomes] == pytest.approx([o.elapsed for o in first.outcomes], abs=0.001)


async def test_a_stream_passes_over_what_ended_well_and_yields_failures_again(sandbox, orders, path):
    updates = [(*KEYS[0], "new"), ("nope", "nope", "new"), (*KEYS[1], "new"), ("order_1", "", "new")]
    first = [outcome async for outcome in orders.stream_order_line_statuses(updates, journal=path)]
    second = [outcome async for outcome in orders.stream_order_line_statuses(updates, journal=path)]
    assert len(first) == 4
    assert [(o.index, o.state) for o in second] == [(1, "rejected"), (3, "invalid")]


async def test_a_recorded_failure_comes_back_with_its_error(sandbox, orders, path):
    updates = [("nope", "nope", "new")]
    (first,) = (await orders.update_order_line_statuses(updates, journal=path)).outcomes
    (second,) = (await orders.update_order_line_statuses(updates, journal=path)).outcomes
    assert type(second.error) is BadRequestError
    assert str(second.error) == str(first.error)
    assert vars(second.error) == vars(first.error)
    assert (second.error.code, second.error.subject) == (400, "order line nope/nope")


async def test_what_a_deadline_cut_short_is_sent_by_the_next_run(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(latency=0.05))
    orders = connect(sandbox, concurrency=2).market.orders
    first = await orders.update_order_line_statuses(TWICE, journal=path, deadline=0.2)
    assert {type(o.error) for o in first.outcomes if not o.ok} == {DeadlineError}
    assert summary_of(path).failed == 0
    sandbox.faults = Faults()
    assert (await orders.update_order_line_statuses(TWICE, journal=path)).ok
    assert sandbox.ledger.check(TWICE).ok


async def test_a_refused_token_leaves_everything_to_the_run_with_the_right_one(sandbox, connect, path):
    wrong = connect(sandbox, token="wrong-token", concurrency=2).market.orders
    first = await wrong.update_order_line_statuses(TWICE, journal=path)
    assert first.counts[OutcomeState.REJECTED] >= 1
    assert summary_of(path).recorded == 0
    assert (await connect(sandbox).market.orders.update_order_line_statuses(TWICE, journal=path)).ok
    assert sandbox.ledger.check(TWICE).ok


async def test_a_server_out_of_reach_leaves_everything_to_the_next_run(sandbox, connect, path):
    policy = RetryPolicy(attempts=20, base=0.001, max_delay=0.01)
    outage = OutagePolicy(first_patience=0.01, patience=0.01)
    orders = connect(sandbox, retry=policy, outage=outage).market.orders
    await sandbox.stop()
    first = await orders.update_order_line_statuses(TWICE, journal=path)
    assert not first.ok
    assert any(isinstance(o.error, RunStoppedError) for o in first.outcomes)
    await sandbox.start()
    assert (await connect(sandbox).market.orders.update_order_line_statuses(TWICE, journal=path)).ok
    assert sandbox.ledger.check(TWICE).ok


async def test_a_cancelled_run_keeps_what_ended_in_its_grace(start_sandbox, connect, path, until):
    sandbox = await start_sandbox(faults=Faults(latency=0.05))
    orders = connect(sandbox, concurrency=4).market.orders
    task = asyncio.ensure_future(orders.update_order_line_statuses(TWICE, journal=path))
    await until(lambda: sandbox.ledger.requests >= 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert summary_of(path).recorded == sandbox.ledger.requests
    assert not summary_of(path).in_use


async def test_a_lost_answer_is_asked_for_again_on_request_under_the_same_id(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(lines={KEYS[0]: Fault("reset_after")}))
    orders = connect(sandbox, retry=RetryPolicy(attempts=1)).market.orders
    (first,) = (await orders.update_order_line_statuses([(*KEYS[0], "new")], journal=path)).outcomes
    (second,) = (await orders.update_order_line_statuses([(*KEYS[0], "new")], journal=path)).outcomes
    assert [first.state, second.state] == ["unknown", "unknown"]
    assert sandbox.ledger.requests == 1
    sandbox.faults = Faults()
    (third,) = (await orders.update_order_line_statuses([(*KEYS[0], "new")], journal=path, retry_failed=True)).outcomes
    assert third.state == "duplicate"
    assert ids_sent(sandbox) == {first.request_id} == {third.request_id}


async def test_failures_are_retried_on_request_a_refused_one_under_a_new_id(sandbox, orders, path):
    updates = [("order_99", "line_99_1", "new"), (*KEYS[0], "new")]
    first = await orders.update_order_line_statuses(updates, journal=path)
    assert (await orders.update_order_line_statuses(updates, journal=path)).counts[OutcomeState.REJECTED] == 1
    sandbox.add_order("order_99", ["line_99_1"])
    second = await orders.update_order_line_statuses(updates, journal=path, retry_failed=True)
    assert second.ok
    assert second.sent == 1
    assert first.outcomes[0].request_id != second.outcomes[0].request_id
    assert first.outcomes[1].request_id == second.outcomes[1].request_id


async def test_a_failure_that_was_overtaken_is_not_retried(sandbox, orders, path):
    updates = [(*KEYS[0], "no-such-status"), (*KEYS[0], "delivered")]
    await orders.update_order_line_statuses(updates, journal=path)
    requests = sandbox.ledger.requests
    report = await orders.update_order_line_statuses(updates, journal=path, retry_failed=True)
    assert [outcome.state for outcome in report.outcomes] == ["superseded", "applied"]
    assert sandbox.ledger.requests == requests


async def test_an_unfinished_run_is_finished_before_failures_are_retried(sandbox, connect, path):
    orders = connect(sandbox, concurrency=1).market.orders
    updates = [("order_99", "line_99_1", "new"), *TWICE]
    await cut_short(orders, updates, path, after=3)
    sandbox.add_order("order_99", ["line_99_1"])
    report = await orders.update_order_line_statuses(updates, journal=path, retry_failed=True)
    assert report.counts[OutcomeState.REJECTED] == 1
    assert (await orders.update_order_line_statuses(updates, journal=path, retry_failed=True)).ok


def failures_of(path):
    with JournalReader(path) as reader:
        return [(outcome.index, outcome.state, outcome.request_id, str(outcome.error)) for outcome in reader.outcomes()]


@pytest.mark.parametrize(
    "other",
    [
        [(*KEYS[9], "new")],  # another input
        [("order_99", "line_99_1", "new"), (*KEYS[9], "new")],  # differs after the first that failed
        [("order_99", "line_99_1", "new"), (*KEYS[0], "new")],  # ends too soon
        None,  # has a row more
    ],
)
async def test_a_refused_retry_leaves_what_failed_as_it_was(start_sandbox, connect, path, other):
    sandbox = await start_sandbox(faults=Faults(lines={KEYS[1]: [Fault("reset_after")] * 9}))
    orders = connect(sandbox, retry=RetryPolicy(attempts=1)).market.orders
    updates = [
        ("order_99", "line_99_1", "new"), (*KEYS[0], "new"), ("order_98", "line_98_1", "new"), (*KEYS[1], "new"),
        (*KEYS[2], "no-such-status"), (*KEYS[2], "new"),
    ]  # fmt: skip
    await orders.update_order_line_statuses(updates, journal=path)
    before, summary = failures_of(path), summary_of(path)
    longer = [*updates, (*KEYS[9], "new")]
    with pytest.raises(InputChangedError):
        await orders.update_order_line_statuses(other or longer, journal=path, retry_failed=True)
    assert failures_of(path) == before
    assert summary_of(path) == attrs.evolve(summary, size=summary_of(path).size)
    sandbox.faults = Faults()
    sandbox.add_order("order_98", ["line_98_1"])
    report = await orders.update_order_line_statuses(updates, journal=path, retry_failed=True)
    states = [str(outcome.state) for outcome in report.outcomes]
    assert states == ["rejected", "applied", "applied", "duplicate", "superseded", "applied"]


@pytest.mark.parametrize("option", ["retry_failed", "extend"])
async def test_options_of_a_journal_need_one(orders, option):
    with pytest.raises(ConfigurationError, match=f"{option} goes with a journal"):
        await orders.update_order_line_statuses(TWICE, **{option: True})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "changed", [(*KEYS[5], "refunded"), ("order_7", "line_6_1", "processing"), ("order_6", "", "x")]
)
async def test_a_changed_row_is_named_and_nothing_from_there_on_is_sent(sandbox, orders, path, changed, streamed):
    await orders.update_order_line_statuses(TWICE[:20], journal=path)
    requests = sandbox.ledger.requests
    edited = [*TWICE[:5], changed, *TWICE[6:20], *TWICE[20:]]
    with pytest.raises(InputChangedError, match="row 6 of the input is not the one") as caught:  # noqa: PT012
        if streamed:
            async for _ in orders.stream_order_line_statuses(edited, journal=path, extend=True):
                pass
        else:
            await orders.update_order_line_statuses(edited, journal=path, extend=True)
    assert caught.value.index == 5
    assert caught.value.path == str(path)
    assert sandbox.ledger.requests == requests
    if not streamed:
        assert [o.state for o in caught.value.report.outcomes] == ["applied"] * 5


async def test_a_shorter_input_is_refused(orders, path):
    await orders.update_order_line_statuses(TWICE, journal=path)
    with pytest.raises(InputChangedError, match="ends after 30 rows"):
        await orders.update_order_line_statuses(TWICE[:30], journal=path)


async def test_a_longer_input_needs_the_word_for_it(sandbox, orders, path):
    await orders.update_order_line_statuses(TWICE[:20], journal=path)
    with pytest.raises(InputChangedError, match="more rows than the 20") as caught:
        await orders.update_order_line_statuses(TWICE, journal=path)
    assert caught.value.index == 20
    assert (await orders.update_order_line_statuses(TWICE, journal=path, extend=True)).ok
    assert summary_of(path).length == 40
    assert sandbox.ledger.check(TWICE).ok


async def test_an_edited_row_that_was_in_doubt_is_another_change(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(latency=5.0))
    orders = connect(sandbox).market.orders
    await orders.update_order_line_statuses([(*KEYS[0], "new")], journal=path, deadline=0.05)
    sandbox.faults = Faults()
    assert (await orders.update_order_line_statuses([(*KEYS[0], "delivered")], journal=path)).ok
    assert sandbox.line_status(*KEYS[0]) == "delivered"
    assert len(ids_sent(sandbox)) == 2


async def test_a_run_against_another_address_is_refused(sandbox, start_sandbox, connect, path):
    await connect(sandbox).market.orders.update_order_line_statuses(TWICE[:1], journal=path)
    other = await start_sandbox()
    with pytest.raises(JournalError, match=f"records a run against {sandbox.base_url}, not {other.base_url}"):
        await connect(other).market.orders.update_order_line_statuses(TWICE[:1], journal=path)
    assert other.ledger.requests == 0


async def test_a_second_run_on_the_same_journal_is_refused_and_the_first_goes_on(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(latency=0.01))
    orders = connect(sandbox, concurrency=1).market.orders
    async with aclosing(orders.stream_order_line_statuses(TWICE, journal=path)) as outcomes:
        await anext(outcomes)
        with pytest.raises(JournalError, match="is in use by another run; wait until that has ended"):
            await orders.update_order_line_statuses(TWICE, journal=path)
        assert summary_of(path).in_use
        assert len([outcome async for outcome in outcomes]) == 39
    assert sandbox.ledger.check(TWICE).ok


async def test_an_asynchronous_source_is_continued_too(sandbox, connect, path):
    async def source():
        for row in TWICE:
            yield row

    orders = connect(sandbox, concurrency=2).market.orders
    await cut_short(orders, source(), path, after=10)
    skipped = [outcome async for outcome in orders.stream_order_line_statuses(source(), journal=path)]
    assert len(skipped) <= 30
    assert sandbox.ledger.check(TWICE).ok
    assert summary_of(path).finished


async def test_a_source_that_fails_is_continued_when_it_is_well_again(sandbox, orders, path):
    def broken():
        yield from TWICE[:17]
        raise OSError

    with pytest.raises(SourceError) as caught:
        await orders.update_order_line_statuses(broken(), journal=path)
    assert caught.value.taken == 17
    assert summary_of(path).length is None
    assert (await orders.update_order_line_statuses(TWICE, journal=path)).ok
    assert sandbox.ledger.check(TWICE).ok


async def test_coalesced_updates_stay_superseded(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(latency=0.02))
    orders = connect(sandbox, concurrency=1).market.orders
    updates = [(*KEYS[0], status) for status in ("new", "processing", "delivering", "delivered")]
    first = await orders.update_order_line_statuses(updates, journal=path, coalesce="latest")
    second = await orders.update_order_line_statuses(updates, journal=path, coalesce="latest")
    assert [o.state for o in first.outcomes] == [o.state for o in second.outcomes]
    assert first.counts[OutcomeState.SUPERSEDED] > 0


async def test_a_lane_opens_only_when_its_outcome_is_on_disk(sandbox, orders, path, monkeypatch):
    seen = []
    committed = Journal._committed

    def watching(self, group):
        entries = [outcome for item in group if type(item) is tuple for outcome in item]
        if entries:  # the line's next update has not gone out yet
            assert len(sandbox.ledger.arrivals(*KEYS[0])) == len(seen) + 1
        seen.extend(entries)
        committed(self, group)

    monkeypatch.setattr(Journal, "_committed", watching)
    updates = [(*KEYS[0], status) for status in ("new", "processing", "delivered")]
    assert (await orders.update_order_line_statuses(updates, journal=path)).ok
    assert len(seen) == len(sandbox.ledger.arrivals(*KEYS[0])) == 3


async def test_an_outcome_is_handed_on_within_a_tenth_of_a_second(sandbox, connect, path):
    loop = asyncio.get_running_loop()

    class Times:
        def __init__(self):
            self.answered, self.settled = {}, {}

        def on_event(self, event, /):
            if isinstance(event, AttemptEnded):
                self.answered[event.request_id] = loop.time()
            elif isinstance(event, UpdateSettled):
                self.settled[event.outcome.request_id] = loop.time()

    times = Times()
    orders = connect(sandbox, observers=[times]).market.orders
    await orders.update_order_line_statuses(TWICE, journal=path)
    waits = sorted(times.settled[id_] - answered for id_, answered in times.answered.items())
    assert waits[len(waits) // 2] < 0.1


async def test_observers_hear_what_was_skipped(sandbox, connect, path, watcher):
    orders = connect(sandbox, observers=[watcher]).market.orders
    updates = [*TWICE[:10], ("nope", "nope", "new"), *TWICE[10:]]
    await orders.update_order_line_statuses(updates, journal=path)
    watcher.events.clear()
    failed = [outcome async for outcome in orders.stream_order_line_statuses(updates, journal=path)]
    (opened,) = watcher.of(JournalOpened)
    assert (opened.path, opened.recorded, opened.retried) == (str(path), 41, 0)
    skipped = [index for event in watcher.of(UpdatesSkipped) for index in range(event.first, event.first + event.count)]
    assert skipped == [*range(10), *range(11, 41)]
    assert [outcome.index for outcome in failed] == [10]


async def test_a_run_continued_after_the_dedup_window_warns_of_what_can_happen(sandbox, connect, path):
    orders = connect(sandbox, concurrency=1, dedup_window=3600.0).market.orders
    await cut_short(orders, TWICE, path, after=3)
    journal = Journal(path, target=sandbox.base_url, dedup_window=-1.0)
    with pytest.warns(DedupWindowWarning, match="is now applied a second time"):
        await journal.open(lambda _: None, lambda _: None)
    await journal.aclose()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (await orders.update_order_line_statuses(TWICE, journal=path)).ok
        late = Journal(path, target=sandbox.base_url, dedup_window=-1.0)
        await late.open(lambda _: None, lambda _: None)  # finished: nothing is in doubt
        await late.aclose()


async def test_the_reader_tells_what_happened(sandbox, orders, path):
    updates = [(*KEYS[0], "new"), ("nope", "nope", "new"), ("order_1", "", "new")]
    report = await orders.update_order_line_statuses(updates, journal=path)
    with JournalReader(path) as reader:
        summary = reader.summary()
        assert (summary.recorded, summary.length, summary.failed, summary.finished) == (3, 3, 2, True)
        assert summary.target == sandbox.base_url
        assert summary.created <= summary.written
        assert [o.index for o in reader.outcomes(OutcomeState.REJECTED)] == [1]
        assert [o.update and o.update.order_external_id for o in reader.outcomes()] == [None, "nope", None]
        rows = [LineStatusUpdate(*updates[0]), LineStatusUpdate(*updates[1]), report.outcomes[2].error]
        joined = list(reader.joined([*rows, LineStatusUpdate(*KEYS[1], "new")]))
        assert [o and (o.state, o.request_id) for o in joined] == [
            *((o.state, o.request_id) for o in report.outcomes),
            None,
        ]
        with pytest.raises(InputChangedError, match="row 2 of the input"):
            list(reader.joined([rows[0], rows[0]]))
        with pytest.raises(InputChangedError, match="ends after 1 rows"):
            list(reader.joined(rows[:1]))


async def test_the_reader_tells_what_took_long_and_what_happened_when(sandbox, connect, path):
    orders = connect(sandbox, concurrency=2).market.orders
    await cut_short(orders, TWICE, path, after=10)
    await orders.update_order_line_statuses([*TWICE, ("nope", "nope", "new")], journal=path, extend=True)
    with JournalReader(path) as reader:
        buckets, slowest, summary = reader.timeline(), reader.slowest(), reader.summary()
        outcomes = {outcome.index: outcome for outcome in reader.outcomes()}
    ended = Counter()
    for bucket in buckets:
        ended.update(bucket.ended)
    assert ended == {OutcomeState.APPLIED: 40, OutcomeState.REJECTED: 1}
    assert sum(sum(bucket.latencies.values()) for bucket in buckets) == summary.recorded == 41
    assert all(bucket.width == 1 for bucket in buckets)
    assert 0 < buckets[0].latency(0.5) <= buckets[0].latency(0.99) < 1
    assert len(slowest) == 20
    assert [slow.elapsed for slow in slowest] == sorted((o.elapsed for o in outcomes.values()), reverse=True)[:20]
    assert all(outcomes[slow.index].attempts == slow.attempts for slow in slowest)


async def test_the_journal_and_the_report_have_the_same_figures(sandbox, connect, path):
    orders = connect(sandbox).market.orders
    rows = [*TWICE, ("nope", "nope", "new"), ("order_1", "line_1_1", "")]
    report = await orders.update_order_line_statuses(rows, journal=path)
    with JournalReader(path) as reader:
        recorded = reader.figures()
    seen = report.figures()
    for name in ("states", "attempts", "sent", "retries", "throttled", "complete", "failed", "finished", "noun"):
        assert getattr(recorded, name) == getattr(seen, name), name
    assert [(r.state, r.text, r.count) for r in recorded.reasons] == [(r.state, r.text, r.count) for r in seen.reasons]
    assert {slow.place.index for slow in recorded.slowest} <= set(range(len(rows)))
    assert len(seen.timeline) == 1
    assert sum(seen.timeline[0].ended.values()) == len(rows)


async def test_a_failure_that_is_to_be_sent_again_is_no_failure_of_the_report(sandbox, connect, path):
    orders = connect(sandbox).market.orders
    await orders.update_order_line_statuses([*TWICE[:5], ("nope", "nope", "new")], journal=path)
    journal = Journal(path, target=sandbox.base_url, retry_failed=True)
    await journal.open(lambda _: None, lambda _: None)
    with JournalReader(path) as reader:
        figures = reader.figures()
    await journal.aclose()
    assert (figures.in_use, figures.failed, figures.waiting, figures.reasons) == (True, 0, 1, [])


async def test_of_more_different_failures_than_are_looked_at_the_kinds_are_counted(sandbox, connect, path, monkeypatch):
    monkeypatch.setattr("altcraft_async.journal.figures._DIFFERENT", 3)
    rows = [(f"no_{number}", "nope", "new") for number in range(20)]
    await connect(sandbox).market.orders.update_order_line_statuses(rows, journal=path)
    with JournalReader(path) as reader:
        figures = reader.figures()
    assert sum(reason.count for reason in figures.reasons) == 20
    assert {reason.code for reason in figures.reasons} == {400}


async def test_what_the_engine_shows_of_itself_is_in_the_timeline(path):
    clock, shown = iter(number / 4 for number in range(4000, 5000)), []

    def sample():
        shown.append(Sample(5 * len(shown), len(shown), 0, limit=7, in_flight=3 - len(shown), outage=len(shown) == 1))
        return shown[-1]

    for restart in (1, 2):
        shown.clear()
        journal = Journal(path, target="https://platform.test", clock=lambda: next(clock))
        await journal.open(lambda _: None, lambda _: None, sample)
        journal._take_sample()  # now, not in a second
        await journal.aclose()
        with JournalReader(path) as reader:
            buckets = reader.timeline()
        assert sum(bucket.sent for bucket in buckets) == 10 * restart
        assert sum(bucket.retries for bucket in buckets) == 2 * restart
        assert max(bucket.in_flight.most for bucket in buckets) == 3
        assert (buckets[-1].in_flight.last, buckets[-1].limit) == (1, Level(7, 7))
        assert 0.25 * restart <= sum(bucket.outage for bucket in buckets) <= 1.0 * restart


async def test_a_group_of_outcomes_is_recorded_together(path):
    journal, told = Journal(path, target="https://platform.test"), []
    await journal.open(told.append, pytest.fail)
    updates = [LineStatusUpdate(*row) for row in TWICE[:30]]
    for first in (0, 10, 20):
        group = [Outcome(index, updates[index], OutcomeState.APPLIED, 1, 0.01) for index in range(first, first + 10)]
        journal.record(group)
    journal.exhausted(30)
    await journal.aclose()
    assert [outcome.index for outcomes in told for outcome in outcomes] == list(range(30))
    assert all(len(outcomes) % 10 == 0 for outcomes in told)
    assert summary_of(path).finished


async def test_a_journal_of_a_run_of_another_kind_is_refused(sandbox, orders, path):
    await orders.update_order_line_statuses(TWICE[:1], journal=path)
    other = Journal(path, target=sandbox.base_url, method="market/orders/import")
    with pytest.raises(JournalError, match="records a run of market/orders/update_order_line_status, not of market/or"):
        await other.open(lambda _: None, lambda _: None)
    assert repr(other) == f"<Journal {path} (not open)>"
    await other.aclose()
    assert (await orders.update_order_line_statuses(TWICE[:1], journal=path)).ok


async def test_the_token_is_in_none_of_the_files(start_sandbox, connect, path):
    sandbox = await start_sandbox(token="canary-0b5e55ed", faults=Faults(script=[Fault("html"), Fault("error")]))
    orders = connect(sandbox, retry=RetryPolicy(attempts=1)).market.orders
    async with aclosing(orders.stream_order_line_statuses(TWICE, journal=path)) as outcomes:
        async for _ in outcomes:
            assert not [file for file in path.parent.iterdir() if b"canary" in file.read_bytes()]
    assert not [file for file in path.parent.iterdir() if b"canary" in file.read_bytes()]


# -- a file that cannot be used


def execute(path, statement):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"order,line,status\n" * 300), "is damaged|is no journal"),
        (lambda path: path.write_bytes(path.read_bytes()[:4096]), "is damaged"),
        (lambda path: execute(path, "PRAGMA user_version = 99"), "format version 99, and this altcraft_async knows"),
        (lambda path: execute(path, "PRAGMA application_id = 7"), "is no journal of altcraft_async"),
        (lambda path: execute(path, "UPDATE meta SET value = 'other' WHERE name = 'run_id'"), "is damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be written|is a directory"),
    ],
    ids=["text", "cut short", "other version", "another's file", "another run's id", "a directory"],
)
async def test_a_file_that_cannot_be_used_is_told_with_its_path_and_nothing_is_sent(
    sandbox, orders, path, damage, said
):
    await orders.update_order_line_statuses(TWICE, journal=path)
    requests = sandbox.ledger.requests
    damage(path)
    with pytest.raises(JournalError, match=said) as caught:
        await orders.update_order_line_statuses([*TWICE, (*KEYS[0], "refunded")], journal=path, extend=True)
    assert str(path) in str(caught.value)
    assert sandbox.ledger.requests == requests


async def test_a_directory_that_is_not_there_is_told(orders, tmp_path):
    with pytest.raises(JournalError, match="check that its directory is there"):
        await orders.update_order_line_statuses(TWICE, journal=tmp_path / "no" / "run.journal")


async def test_a_journal_that_cannot_be_written_is_noticed_before_anything_is_sent(sandbox, connect, path):
    orders = connect(sandbox, concurrency=1).market.orders
    await cut_short(orders, TWICE, path, after=3)
    requests = sandbox.ledger.requests
    with read_only_file(path), pytest.raises(JournalError, match=r"run\.journal cannot be written"):
        await orders.update_order_line_statuses(TWICE, journal=path)
    assert sandbox.ledger.requests == requests
    assert (await orders.update_order_line_statuses(TWICE, journal=path)).ok


async def test_two_runs_whose_lock_cannot_be_taken_are_both_refused(sandbox, orders, path):
    lock = path.with_name("run.journal.lock")
    lock.touch()
    with read_only_file(lock):
        runs = [orders.update_order_line_statuses(TWICE, journal=path) for _ in range(2)]
        refusals = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(refusal) for refusal in refusals] == [JournalError, JournalError]
    assert "the lock of the journal" in str(refusals[0])
    assert sandbox.ledger.requests == 0


async def test_a_write_that_fails_stops_the_run_and_loses_nothing_that_was_committed(start_sandbox, connect, path):
    sandbox = await start_sandbox(faults=Faults(latency=0.005))
    orders = connect(sandbox, concurrency=2).market.orders
    await cut_short(orders, TWICE, path, after=5)
    execute(path, "CREATE TRIGGER refuse BEFORE INSERT ON outcome BEGIN SELECT RAISE(ABORT, 'out of luck'); END")
    requests = sandbox.ledger.requests
    with pytest.raises(JournalError, match="out of luck") as caught:
        await orders.update_order_line_statuses(TWICE, journal=path)
    assert sandbox.ledger.requests - requests <= 30
    assert sum(o.ok for o in caught.value.report.outcomes) == summary_of(path).recorded
    execute(path, "DROP TRIGGER refuse")
    assert (await orders.update_order_line_statuses(TWICE, journal=path)).ok
    assert sandbox.ledger.check(TWICE).ok


@pytest.mark.slow
async def test_no_flipped_bit_leads_to_a_wrong_send(start_sandbox, connect, tmp_path):
    sandbox = await start_sandbox()
    good = tmp_path / "good.journal"
    orders = connect(sandbox, concurrency=4).market.orders
    await cut_short(orders, TWICE, good, after=25)
    whole, chance = good.read_bytes(), random.Random(3)
    found = []
    for number in range(60):
        bits = bytearray(whole)
        bits[chance.randrange(len(bits))] ^= 1 << chance.randrange(8)
        flipped = tmp_path / f"{number}.journal"
        flipped.write_bytes(bits)
        try:
            report = await orders.update_order_line_statuses(TWICE, journal=flipped)
        except JournalError as error:
            found.append(str(flipped) in str(error))
        else:
            assert report.ok
    assert sandbox.ledger.check(TWICE).ok, "a change was lost, made under another id, or made twice"
    assert found
    assert all(found)


# -- a server that goes and comes


@pytest.mark.slow
async def test_a_server_that_is_restarted_in_the_middle_loses_and_doubles_nothing(
    start_sandbox, connect, path, tmp_path
):
    sandbox = await start_sandbox(state_file=tmp_path / "state", faults=Faults.mixed(0.05, latency=0.005), seed=4)
    policy = RetryPolicy(attempts=30, base=0.01, max_delay=0.1)
    client = connect(sandbox, concurrency=4, retry=policy, retry_budget=None)
    updates = [(*key, status) for status in ("processing", "delivering", "delivered") for key in KEYS] * 2

    async def restart():
        for _ in range(2):
            await asyncio.sleep(0.1)
            await sandbox.stop()
            await asyncio.sleep(0.05)
            await sandbox.start()

    restarting = asyncio.ensure_future(restart())
    await cut_short(client.market.orders, updates, path, after=60)
    report = await client.market.orders.update_order_line_statuses(updates, journal=path)
    await restarting
    assert report.ok
    check = sandbox.ledger.check(updates)
    assert check.ok, str(check)
    assert len(ids_sent(sandbox)) == len(updates)


async def test_a_run_that_goes_on_begins_by_what_the_limit_had_learned(start_sandbox, connect, path):
    sandbox = await start_sandbox(orders=400, faults=Faults(latency=0.01, slots=8, over_slots="reject"))
    keys = [(f"order_{number}", f"line_{number}_1", "delivered") for number in range(1, 401)]
    first = connect(sandbox, concurrency=Adaptive(initial=40), retry=RetryPolicy(attempts=50, base=0.05))
    assert (await first.market.orders.update_order_line_statuses(keys, journal=path)).ok
    with contextlib.closing(sqlite3.connect(path)) as connection:
        facts = dict(connection.execute("SELECT name, value FROM meta"))
    assert facts["learned_limit"] == first.learned.limit

    second = connect(sandbox, concurrency=Adaptive(initial=40))
    await second.market.orders.update_order_line_statuses(keys, journal=path)
    assert second.statistics().limit == max(1, first.learned.limit)
    third = connect(sandbox, concurrency=Adaptive(initial=40), remember=False)
    await third.market.orders.update_order_line_statuses(keys, journal=path)
    assert third.statistics().limit == 40
