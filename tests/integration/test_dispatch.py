"""One dispatcher for all callers of a client: order per line, precedence, and what becomes of every call.

On a virtual clock, with a transport that holds each request until the test lets it go.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path
from random import Random

import attrs
import pytest

from altcraft_async import (
    AltcraftClient,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    DeadlineError,
    FailureLimit,
    LineStatusUpdate,
    OutageError,
    OutagePolicy,
    RetryPolicy,
    RunFailedError,
    RunStoppedError,
)
from altcraft_async.engine.run import Run, RunOptions
from altcraft_async.market.orders import _call_of
from altcraft_async.protocol.wire import WireResponse

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from virtual import VirtualLoop  # noqa: E402


@attrs.define(eq=False)
class Sent:
    """One request as the server has it: of which line and status, and when it came and was answered."""

    order: str
    line: str
    status: str
    began: float
    answer: asyncio.Future[WireResponse]
    ended: float | None = None


class Server:
    """A transport that answers a request after `latency` seconds, or when `release` is called.

    `answers` are, by status, functions that give the code of each next answer, or raise.
    """

    def __init__(self, latency=0.1):
        self.latency = latency
        self.sent: list[Sent] = []
        self.codes: dict[str, list[object]] = {}
        self.closed = False

    async def send(self, request, *, connect, total, max_bytes, fresh=False):
        del connect, max_bytes, fresh
        if self.closed:
            msg = "the client is closed; make a new one"
            raise ClientClosedError(msg)
        loop = asyncio.get_running_loop()
        fields = json.loads(request.body)
        sent = Sent(
            fields["order_external_id"],
            fields["order_line_external_id"],
            fields["status_external_id"],
            loop.time(),
            loop.create_future(),
        )
        self.sent.append(sent)
        if self.latency is not None:
            loop.call_later(self.latency, self.release, sent)
        try:
            return await sent.answer
        finally:
            sent.ended = loop.time()

    def release(self, sent):
        """Answer a request: with the next of its status's codes, or with success."""
        if sent.answer.done():
            return
        codes = self.codes.get(sent.status)
        code = codes.pop(0) if codes else 0
        if isinstance(code, Exception):
            sent.answer.set_exception(code)
            return
        body = json.dumps({"error": code, "error_text": "" if code == 0 else "no"}).encode()
        headers = {"Content-Type": "application/json"}
        sent.answer.set_result(WireResponse(200 if code == 0 else code, headers, body))

    async def aclose(self):
        self.closed = True
        for sent in self.sent:
            if not sent.answer.done():
                sent.answer.set_exception(ConnectionLostError("the connection was closed"))

    # -- what it saw

    @property
    def statuses(self):
        return [sent.status for sent in self.sent]

    def overlaps(self, key):
        """The pairs of requests with an equal key that were under way together, or began in another order."""
        found = []
        for early, late in itertools.combinations(self.sent, 2):
            if key(early) == key(late) and (early.ended is None or late.began < early.ended):
                found.append((early, late))
        return found


def line_of(sent):
    return sent.order, sent.line


def order_of(sent):
    return sent.order


def run(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def client_of(server, **options):
    options = {"concurrency": 8, "retry": RetryPolicy(attempts=3, base=0.01, max_delay=0.01), **options}
    return AltcraftClient("http://127.0.0.1", "0123456789abcdef0123456789abcdef", transport=server, **options)


def start(work):
    return asyncio.ensure_future(work)


def clock():
    return asyncio.get_running_loop().time()


async def turns(count=10):
    """Let everything run that can run now."""
    for _ in range(count):
        await asyncio.sleep(0)


def played(latency=0.1, **options):
    """Decorate a test that is given a client and its server, on a virtual clock."""

    def decorate(test):
        def wrapper():
            async def work():
                server = Server(latency)
                async with client_of(server, **options) as client:
                    await test(client, server)

            run(work())

        wrapper.__name__ = test.__name__
        wrapper.__doc__ = test.__doc__
        return wrapper

    return decorate


# -- order per line, over all callers


@played()
async def test_single_calls_of_one_line_go_one_after_the_other_in_their_order(client, server):
    orders = client.market.orders
    await asyncio.gather(*(orders.update_order_line_status("o", "l", f"s{n}") for n in range(5)))
    assert server.statuses == [f"s{n}" for n in range(5)]
    assert not server.overlaps(line_of)


@played()
async def test_a_retry_of_one_call_keeps_the_next_of_its_line_waiting(client, server):
    server.codes["first"] = [500, 500]
    orders = client.market.orders
    await asyncio.gather(*(orders.update_order_line_status("o", "l", status) for status in ("first", "second")))
    assert server.statuses == ["first", "first", "first", "second"]
    assert not server.overlaps(line_of)


@played()
async def test_single_calls_of_other_lines_go_side_by_side(client, server):
    orders = client.market.orders
    await asyncio.gather(*(orders.update_order_line_status("o", f"l{n}", "s") for n in range(5)))
    assert {sent.began for sent in server.sent} == {0.0}


@played()
async def test_a_bulk_run_beside_a_single_call_keeps_the_order_of_their_line(client, server):
    orders = client.market.orders
    bulk = start(orders.update_order_line_statuses([("o", "l", "bulk 1"), ("o", "l", "bulk 2")]))
    await asyncio.sleep(0.05)
    single = start(orders.update_order_line_status("o", "l", "single"))
    await asyncio.gather(bulk, single)
    assert server.statuses == ["bulk 1", "bulk 2", "single"]
    assert not server.overlaps(line_of)


@played()
async def test_two_runs_of_one_client_keep_the_order_of_a_line(client, server):
    orders = client.market.orders
    first = start(orders.update_order_line_statuses([("o", "l", "a1"), ("o", "l", "a2")]))
    await asyncio.sleep(0.05)
    second = start(orders.update_order_line_statuses([("o", "l", "b1"), ("o", "m", "b2")]))
    await asyncio.gather(first, second)
    assert [sent.status for sent in server.sent if sent.line == "l"] == ["a1", "a2", "b1"]
    assert not server.overlaps(line_of)


@played()
async def test_copies_of_a_client_share_its_lanes(client, server):
    copy = client.with_options(retry=RetryPolicy(attempts=1))
    calls = [
        one.market.orders.update_order_line_status("o", "l", f"s{n}")
        for n, one in enumerate((client, copy, client.with_options(), copy))
    ]
    await asyncio.gather(*calls)
    assert server.statuses == ["s0", "s1", "s2", "s3"]
    assert not server.overlaps(line_of)


@played()
async def test_a_run_over_whole_orders_and_single_calls_of_their_lines_never_overlap(client, server):
    orders = client.market.orders
    early = start(orders.update_order_line_status("o", "l1", "early"))
    await asyncio.sleep(0.01)
    rows = [("o", f"l{n}", f"run {n}") for n in range(3)]
    bulk = start(orders.update_order_line_statuses(rows, lane="order"))
    await asyncio.sleep(0.01)
    late = [start(orders.update_order_line_status("o", f"l{n}", f"late {n}")) for n in range(3)]
    await asyncio.gather(early, bulk, *late)
    assert server.statuses == ["early", "run 0", "run 1", "run 2", "late 0", "late 1", "late 2"]
    assert not [pair for pair in server.overlaps(order_of) if not all(sent.status.startswith("late") for sent in pair)]
    assert len({sent.began for sent in server.sent[4:]}) == 1  # of different lines, so side by side


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", range(15))
def test_whoever_calls_whatever_fails_each_line_sees_its_statuses_in_the_order_of_calling(seed):
    chance = Random(f"dispatch {seed}")

    async def work():
        server, expected, calls = Server(None), {}, []

        async def answer():
            while True:
                await asyncio.sleep(chance.expovariate(20))
                waiting = [sent for sent in server.sent if not sent.answer.done()]
                if waiting:
                    server.release(chance.choice(waiting))

        def status_for(line):
            name = f"{line} {len(expected.setdefault(line, []))}"
            expected[line].append(name)
            server.codes[name] = [500] * chance.choice((0, 0, 0, 1, 2))
            return name

        async with client_of(server, concurrency=chance.choice((1, 3, 8))) as client:
            copies = [client, client.with_options(retry=RetryPolicy(attempts=4, base=0.3))]
            answering = start(answer())
            for _ in range(20):
                orders = chance.choice(copies).market.orders
                if chance.random() < 0.5:
                    line = chance.choice("abc")
                    calls.append(start(orders.update_order_line_status("o", line, status_for(line))))
                else:
                    lines = [chance.choice("abc") for _ in range(chance.randint(1, 6))]
                    rows = [("o", line, status_for(line)) for line in lines]
                    lane = chance.choice(("line", "order"))
                    calls.append(start(orders.update_order_line_statuses(rows, lane=lane)))
                await turns()  # taken in, and so in its lanes
                await asyncio.sleep(chance.choice((0.0, 0.05, 0.3)))
            await asyncio.gather(*calls)
            answering.cancel()
            assert len(client._engine.lanes) == 0
            assert client.statistics().in_flight == client.statistics().waiting == 0
        for line, statuses in expected.items():
            seen = [sent.status for sent in server.sent if sent.line == line]
            assert [status for status, _ in itertools.groupby(seen)] == statuses
        assert not server.overlaps(line_of)

    run(work())


# -- precedence


def precedence(*, concurrency=1):
    """Start a run of 20 lines, and when the first is under way a single call of a waiting line; give what was sent."""

    async def work():
        server = Server()
        async with client_of(server, concurrency=concurrency) as client:
            orders = client.market.orders
            bulk = start(orders.update_order_line_statuses([("o", f"l{n}", f"bulk {n}") for n in range(20)]))
            await asyncio.sleep(0.05)
            single = start(orders.update_order_line_status("o", "l15", "single"))
            report, _ = await asyncio.gather(bulk, single)
            assert report.ok
            assert len(report.outcomes) == 20
            assert len(client._engine.lanes) == 0
        return server

    return run(work())


def test_a_single_call_lends_its_precedence_to_the_bulk_item_that_it_waits_behind():
    statuses = precedence().statuses
    assert statuses[:2] == ["bulk 0", "bulk 15"]
    assert statuses.index("single") <= 3  # the permit of its forerunner may go to one bulk item


def test_an_item_that_was_hurried_is_sent_once():
    server = precedence(concurrency=3)
    assert sorted(server.statuses) == sorted([f"bulk {n}" for n in range(20)] + ["single"])
    assert not server.overlaps(line_of)


@played(concurrency=1)
async def test_precedence_reaches_all_that_wait_before_the_single_call(client, server):
    orders = client.market.orders
    rows = [("o", f"l{n}", f"bulk {n}") for n in range(10)] + [("o", "l9", "bulk 9 again")]
    bulk = start(orders.update_order_line_statuses(rows))
    await asyncio.sleep(0.05)
    await orders.update_order_line_status("o", "l9", "single")
    seen = [status for status in server.statuses if "9" in status or status == "single"]
    assert seen == ["bulk 9", "bulk 9 again", "single"]
    assert len(server.sent) <= 6  # the permit of each forerunner may go to one bulk item
    await bulk


@played(latency=1.0, concurrency=4)
async def test_while_a_hurried_item_is_under_way_nothing_spins(client, server):
    async def rows():
        yield ("o", "l", "bulk 1")
        yield ("o", "l", "bulk 2")
        await asyncio.sleep(0.9)
        yield ("o", "x", "bulk x")

    orders = client.market.orders
    bulk = start(orders.update_order_line_statuses(rows()))
    await asyncio.sleep(0.5)
    single = start(orders.update_order_line_status("o", "l", "single"))
    await asyncio.sleep(1.3)
    assert server.statuses == ["bulk 1", "bulk x", "bulk 2"]
    # x ends before bulk 2: a crew that span there would let no time pass on this clock
    await asyncio.gather(bulk, single)
    assert server.statuses == ["bulk 1", "bulk x", "bulk 2", "single"]


# -- the end of a run while one of its items is being hurried


@pytest.mark.parametrize("how", ["deadline", "cancel", "fatal"])
@pytest.mark.parametrize("after", [0.0, 0.05])
def test_a_run_that_ends_while_an_item_is_hurried_ends_cleanly(how, after):
    async def work():
        server = Server()
        async with client_of(server, concurrency=1) as client:
            orders = client.market.orders
            rows = [("o", f"l{n}", f"bulk {n}") for n in range(5)]
            options = {"deadline": 0.05 + after} if how == "deadline" else {}
            if how == "fatal":
                server.codes["bulk 0"] = [401]
            bulk = start(orders.update_order_line_statuses(rows, **options))
            await asyncio.sleep(0.05 if how != "fatal" else 0.1 - after)
            single = start(orders.update_order_line_status("o", "l4", "single"))
            if how == "cancel":
                await asyncio.sleep(after)
                bulk.cancel()
            result, _ = await asyncio.gather(bulk, single, return_exceptions=True)
            await asyncio.sleep(1.0)
            if how == "cancel":
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert len(result.outcomes) == 5
            assert single.exception() is None
            assert len(client._engine.lanes) == 0
            assert client.statistics().in_flight == 0

    run(work())


@played(concurrency=1)
async def test_a_run_that_stops_in_the_moment_in_which_an_item_is_hurried_ends_cleanly(client, server):
    orders = client.market.orders
    rows = [("o", f"l{n}", f"bulk {n}") for n in range(5)]
    bulk = Run(client._dispatcher, rows, RunOptions(), call_of=_call_of, gathered=True)
    gathering = start(bulk.gather())
    await asyncio.sleep(0.05)
    single = start(orders.update_order_line_status("o", "l4", "single"))
    asyncio.get_running_loop().call_soon(bulk._stop, RunStoppedError("enough"))
    report = await gathering
    await single
    assert [str(outcome.state) for outcome in report.outcomes] == ["applied"] + ["not_sent"] * 4
    assert server.statuses == ["bulk 0", "single"]
    assert client.statistics().in_flight == 0
    assert len(client._engine.lanes) == 0


# -- coalescing


@played(concurrency=1)
async def test_the_latest_replaces_the_runs_own_last_waiting_update_of_a_line(client, server):
    rows = [("o", "x", "first"), ("o", "l", "old"), ("o", "l", "older"), ("o", "l", "new")]
    report = await client.market.orders.update_order_line_statuses(rows, coalesce="latest")
    assert [str(outcome.state) for outcome in report.outcomes] == ["applied", "superseded", "superseded", "applied"]
    assert server.statuses == ["first", "new"]
    assert report.outcomes[3].update == LineStatusUpdate("o", "l", "new")


@played(concurrency=1)
async def test_what_is_under_way_is_never_replaced(client, server):
    async def rows():
        yield ("o", "l", "old")
        await asyncio.sleep(0.05)
        yield ("o", "l", "new")

    report = await client.market.orders.update_order_line_statuses(rows(), coalesce="latest")
    assert report.counts["applied"] == 2
    assert server.statuses == ["old", "new"]


@played(concurrency=1)
async def test_an_update_of_another_caller_is_never_replaced_nor_jumped_over(client, server):
    orders = client.market.orders

    async def rows():
        yield ("o", "l", "run 1")
        await asyncio.sleep(0.05)
        yield ("o", "l", "run 2")
        await asyncio.sleep(0.01)  # here the single call comes
        yield ("o", "l", "run 3")

    bulk = start(orders.update_order_line_statuses(rows(), coalesce="latest"))
    await asyncio.sleep(0.055)
    single = start(orders.update_order_line_status("o", "l", "single"))
    report, _ = await asyncio.gather(bulk, single)
    assert server.statuses == ["run 1", "run 2", "single", "run 3"]
    assert report.counts["applied"] == 3


@played(concurrency=1)
async def test_two_runs_that_coalesce_replace_nothing_of_each_other(client, server):
    orders = client.market.orders
    first = start(orders.update_order_line_statuses([("o", "x", "a"), ("o", "l", "b")], coalesce="latest"))
    await turns()
    second = start(orders.update_order_line_statuses([("o", "l", "c"), ("o", "l", "d")], coalesce="latest"))
    reports = await asyncio.gather(first, second)
    assert server.statuses == ["a", "b", "d"]
    assert [report.counts["superseded"] for report in reports] == [0, 1]


# -- waiting for the turn


@played()
async def test_cancelling_a_call_that_waits_for_its_turn_frees_its_place(client, server):
    orders = client.market.orders
    first, gone, last = (start(orders.update_order_line_status("o", "l", f"s{n}")) for n in range(3))
    await asyncio.sleep(0.05)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.gather(first, last)
    assert server.statuses == ["s0", "s2"]
    assert len(client._engine.lanes) == 0


@played()
async def test_cancelling_a_call_in_the_moment_in_which_its_turn_comes_frees_its_place(client, server):
    orders = client.market.orders
    first, gone, last = (start(orders.update_order_line_status("o", "l", f"s{n}")) for n in range(3))
    first.add_done_callback(lambda _: gone.cancel())
    await asyncio.gather(first, last)
    await asyncio.wait([gone])
    assert server.statuses in (["s0", "s2"], ["s0", "s1", "s2"])
    assert not server.overlaps(line_of)
    assert len(client._engine.lanes) == 0
    assert client.statistics().in_flight == 0


@played(latency=1.0)
async def test_a_deadline_while_waiting_for_the_turn_is_a_deadline_error_and_frees_the_place(client, server):
    orders = client.market.orders
    first = start(orders.update_order_line_status("o", "l", "s0"))
    await turns()
    with pytest.raises(DeadlineError) as caught:
        await orders.update_order_line_status("o", "l", "s1", deadline=0.3)
    assert clock() == pytest.approx(0.3)
    assert (caught.value.attempts, caught.value.maybe_applied, caught.value.request_id) == (0, False, None)
    await asyncio.gather(first, orders.update_order_line_status("o", "l", "s2"))
    assert server.statuses == ["s0", "s2"]
    assert len(client._engine.lanes) == 0


@played()
async def test_a_call_that_fails_fast_does_not_wait_behind_an_item_that_waits_out_an_outage(client, server):
    orders = client.market.orders
    await orders.update_order_line_status("o", "warm", "s")
    rows = [("o", f"l{n}", "bulk") for n in range(4)]
    server.codes["bulk"] = [500] * 1000
    bulk = start(orders.update_order_line_statuses(rows, outage=OutagePolicy(patience=100.0)))
    await asyncio.sleep(5.0)
    assert client.statistics().outage
    began = clock()
    with pytest.raises(OutageError):
        await orders.update_order_line_status("o", "l0", "single", outage=OutagePolicy(fail_fast=True))
    assert clock() - began <= 1.1  # of a probe that is under way, at most
    await bulk


# -- the end of a run


@played(concurrency=1)
async def test_so_many_failures_as_stop_after_allows_end_the_run(client, server):
    server.codes["bad"] = [400] * 100
    rows = [("o", f"l{n}", "bad" if n % 2 else "good") for n in range(20)]
    report = await client.market.orders.update_order_line_statuses(rows, stop_after=FailureLimit(count=3))
    assert report.counts["rejected"] == 3
    assert report.counts["applied"] == 3
    assert report.counts["not_sent"] == 14
    assert len(server.sent) == 6
    assert isinstance(report.outcomes[-1].error, RunStoppedError)
    assert "3 of 6 updates have failed, as many as the failure limit allows" in str(report.outcomes[-1].error)


@played(concurrency=4)
async def test_rows_that_are_wrong_count_as_failures(client, server):
    rows = [("o", f"l{n}") for n in range(10)] + [("o", f"l{n}", "good") for n in range(10)]
    report = await client.market.orders.update_order_line_statuses(rows, stop_after=FailureLimit(count=10))
    assert (report.counts["invalid"], report.counts["not_sent"]) == (10, 10)
    assert not server.sent


@played(latency=None, concurrency=2)
async def test_the_report_is_kept_where_the_client_is_closed_under_the_run(client, server):
    gathering = start(client.market.orders.update_order_line_statuses([("o", f"l{n}", "s") for n in range(6)]))
    await turns()
    server.release(server.sent[0])
    await turns()
    await client.aclose()
    with pytest.raises(ClientClosedError) as caught:
        await gathering
    states = [str(outcome.state) for outcome in caught.value.report.outcomes]
    assert states[0] == "applied"
    assert states.count("unknown") == 2  # were under way
    assert states.count("not_sent") == 3


@played()
async def test_closing_ends_a_run_that_waits_for_its_pace_at_once(client, server):
    rows = [("o", f"l{n}", "s") for n in range(6)]
    gathering = start(client.market.orders.update_order_line_statuses(rows, rate=0.001))
    await asyncio.sleep(1.0)
    await client.aclose()
    with pytest.raises(ClientClosedError) as caught:
        await gathering
    assert clock() == 1.0
    assert caught.value.report.counts["not_sent"] == len(rows) - len(server.sent)


@played(latency=0.1, concurrency=2)
async def test_what_a_transport_raises_oddly_after_sending_leaves_the_line_in_doubt(client, server):
    server.codes["odd"] = [RuntimeError("the handler is closed")] * 3
    report = await client.market.orders.update_order_line_statuses([("o", "l1", "odd"), ("o", "l2", "fine")])
    odd, fine = report.outcomes
    assert (odd.state, odd.attempts, fine.state) == ("unknown", 3, "applied")
    assert isinstance(odd.error, ConnectionLostError)
    assert odd.error.maybe_applied
    assert "RuntimeError" in str(odd.error)


@played(latency=0.1)
async def test_what_a_transport_raises_oddly_is_tried_again(client, server):
    server.codes["odd"] = [RuntimeError("the handler is closed")]
    await client.market.orders.update_order_line_status("o", "l", "odd")
    assert server.statuses == ["odd", "odd"]


@played(latency=0.1)
async def test_a_single_call_tells_of_a_transports_odd_failure_as_of_a_lost_connection(client, server):
    server.codes["odd"] = [RuntimeError("the handler is closed")] * 3
    with pytest.raises(ConnectionLostError) as caught:
        await client.market.orders.update_order_line_status("o", "l", "odd")
    assert (caught.value.maybe_applied, caught.value.attempts) == (True, 3)


# -- a machine without room for connections


class Cramped(Server):
    """A server that this machine has room for only so many connections to."""

    room = 1
    refused = 0

    async def send(self, request, **how):
        if sum(sent.ended is None for sent in self.sent[-100:]) >= self.room:
            self.refused += 1
            msg = "no connection to the server (Too many open files)"
            raise ConnectError(msg, local=True)
        return await super().send(request, **how)


def test_a_moment_without_room_for_connections_does_not_hold_the_client_down():
    async def work():
        server = Cramped()
        async with client_of(server, concurrency=32) as client:
            gathering = start(client.market.orders.update_order_line_statuses(rows_of(1000)))
            await asyncio.sleep(0.05)
            assert client.statistics().limit == 1
            server.room = 100
            assert (await gathering).ok
            assert client.statistics().limit == 32

    run(work())


def test_room_for_few_connections_is_found_and_seldom_tried_anew():
    async def work():
        server = Cramped()
        server.room = 4
        async with client_of(server, concurrency=16) as client:
            began = clock()
            assert (await client.market.orders.update_order_line_statuses(rows_of(2000))).ok
            assert 4 <= client.statistics().limit <= 5
        assert clock() - began < 1.1 * 2000 / 4 * server.latency
        assert server.refused < 40

    run(work())


def rows_of(count):
    return [("o", f"l{n}", "s") for n in range(count)]


@played(concurrency=1)
async def test_a_defect_ends_the_run_with_the_report_of_what_was_done(client, server):
    run_of = Run(
        client._dispatcher,
        [("o", f"l{n}", "s") for n in range(4)],
        RunOptions(),
        call_of=_call_of,
        gathered=True,
    )
    gathering = start(run_of.gather())
    await asyncio.sleep(0.15)
    client._dispatcher.delivery.credentials = None  # any defect of our own
    with pytest.raises(RunFailedError) as caught:
        await gathering
    assert isinstance(caught.value.__cause__, AttributeError)
    states = [str(outcome.state) for outcome in caught.value.report.outcomes]
    assert states == ["applied", "applied", "not_sent", "not_sent"]
    assert len(client._engine.lanes) == 0
    assert client.statistics().in_flight == 0


@pytest.mark.usefixtures("untraced")
@pytest.mark.slow
@played(latency=0.0)
async def test_thousands_of_calls_of_one_line_do_not_slow_each_other_down(client, server):
    orders = client.market.orders
    calls = [start(orders.update_order_line_status("o", "l", "s")) for _ in range(2000)]
    await asyncio.gather(*calls)
    assert len(server.sent) == 2000
