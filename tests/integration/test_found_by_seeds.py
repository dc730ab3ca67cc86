"""What random lives of a client brought to light, each in its smallest form, on a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging

import pytest

from altcraft_async import AltcraftClient, APIError, LineStatusUpdate, OutcomeState, RetryPolicy
from altcraft_async.outbox import Entry, EntryPage, Outbox
from altcraft_async.protocol.wire import WireResponse
from simulated_network import Network, Outage, Weather
from simulation import HORIZON, MemoryStore, new_loop

LINE = ("o1", "l1")
PAGE = b"<html>Forbidden</html>"


class Script:
    """A transport that answers each status, after 0.1 s, with what the test says; by default with success."""

    def __init__(self, **answers):
        self.answers = {status: itertools.chain(given) for status, given in answers.items()}
        self.sent = []

    async def send(self, request, *, connect, total, max_bytes, fresh=False):
        fields = json.loads(request.body)
        status = fields["status_external_id"]
        self.sent.append(status)
        await asyncio.sleep(0.1)
        code = next(self.answers.get(status, iter(())), 0)
        if code == 403:
            return WireResponse(403, {"Content-Type": "text/html"}, PAGE)
        data = {name: value for name, value in fields.items() if name.endswith("_external_id")}
        if code == "another":
            data["order_line_external_id"] = "l2"
        body = {"error": code if type(code) is int else 0, "error_text": "said", "data": data}
        return WireResponse(body["error"] or 200, {}, json.dumps(body).encode())

    async def aclose(self):
        """Have nothing to close."""


def run(work):
    """Run a coroutine function of a `Script` and a client of it on a virtual clock."""

    def runs(script, **options):
        options = {"retry": RetryPolicy(attempts=4, base=0.01), "retry_budget": None, **options}

        async def bounded():
            async with asyncio.timeout(HORIZON):
                async with AltcraftClient("http://127.0.0.1", "0123456789", transport=script, **options) as client:
                    return await work(script, client)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(bounded())

    return runs


def update(client, status, **options):
    return client.market.orders.update_order_line_status(*LINE, status, **options)


def test_a_run_whose_rows_all_wait_for_others_ends_at_its_deadline():
    @run
    async def life(script, client):
        holder = asyncio.create_task(update(client, "first"))
        await asyncio.sleep(0.05)
        report = await client.market.orders.update_order_line_statuses([(*LINE, "second")], deadline=0.01)
        assert not holder.done()
        await holder
        return report.counts[OutcomeState.NOT_SENT]

    assert life(Script()) == 1


def test_a_newer_update_does_not_take_a_place_before_one_that_claims_the_whole_order():
    @run
    async def life(script, client):
        go_on = asyncio.Event()

        async def rows():
            yield (*LINE, "older")
            await go_on.wait()
            yield (*LINE, "newer")

        orders = client.market.orders
        tasks = [asyncio.create_task(update(client, "first"))]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(orders.update_order_line_statuses(rows(), coalesce="latest")))
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(orders.update_order_line_statuses([(*LINE, "whole order")], lane="order")))
        await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(*tasks)
        return script.sent

    assert life(Script()) == ["first", "older", "whole order", "newer"]


def test_still_in_progress_is_no_refusal_where_the_caller_gave_the_id():
    @run
    async def life(script, client):
        await update(client, "s", request_id="asked before")
        return script.sent

    assert life(Script(s=[409, 409, 0])) == ["s"] * 3


def test_still_in_progress_is_a_refusal_where_nobody_can_have_asked_before():
    @run
    async def life(script, client):
        with pytest.raises(APIError) as caught:
            await update(client, "s")
        return caught.value.maybe_applied, script.sent

    assert life(Script(s=[409])) == (False, ["s"])


def test_a_page_does_not_settle_what_an_earlier_call_may_have_done_under_the_same_id():
    @run
    async def life(script, client):
        await update(client, "other")
        with pytest.raises(APIError) as caught:
            await update(client, "s", request_id="asked before")
        return caught.value.maybe_applied

    assert life(Script(s=[403] * 4)) is True


def test_a_refusal_is_confirmed_however_often_the_call_was_asked_again():
    @run
    async def life(script, client):
        await client.market.orders.update_order_line_status("o1", "l2", "other")
        echo = await update(client, "s")
        return echo.order_line_external_id, script.sent.count("s")

    # three times another's answer, a retry that fails, and then a refusal that could be another's as well
    script = Script(s=["another", "another", "another", 500, 500, 400, 0])
    assert life(script, retry=RetryPolicy(attempts=9, base=0.01)) == ("l1", 7)


class Store(MemoryStore):
    """A store of the simulation that tells nobody what is read, with room for all."""

    def __init__(self):
        super().__init__(None, capacity=100_000, commit=0.001)

    def add(self, entry):
        """Let an entry wait that was put in an earlier life."""
        self.entries[next(self._ids)] = entry

    async def pending(self, after, *, last, limit):
        found = [entry for entry in self.entries.values() if entry.id > after[0]][:limit]
        return EntryPage(found, frozenset({0}) if len(found) == limit else frozenset())


def test_a_single_call_right_after_a_put_comes_after_it():
    @run
    async def life(script, client):
        clock = asyncio.get_running_loop().time
        async with Outbox(Store(), client, clock=clock) as outbox:
            for number in range(5):
                await outbox.put((*LINE, f"put {number}"))
                await update(client, f"called {number}")
        return script.sent

    assert life(Script()) == [f"{what} {number}" for number in range(5) for what in ("put", "called")]


@pytest.mark.usefixtures("untraced")
def test_puts_do_not_wait_for_places_where_so_much_waits_that_no_more_is_read():
    @run
    async def life(script, client):
        loop = asyncio.get_running_loop()
        async with Outbox(Store(), client, clock=loop.time, drain_timeout=HORIZON) as outbox:
            started = loop.time()
            for number in range(1100):
                await outbox.put((*LINE, str(number)))
            return loop.time() - started, outbox.statistics().pending

    took, pending = life(Script())
    assert took < 10.0
    assert pending > 1000


def test_an_entry_of_an_earlier_run_is_asked_again_where_it_is_still_in_progress():
    @run
    async def life(script, client):
        store = Store()
        store.add(Entry(1, LineStatusUpdate(*LINE, "s"), "an id", 0.0))
        async with Outbox(store, client, clock=asyncio.get_running_loop().time):
            pass
        return len(store.dead), script.sent

    assert life(Script(s=[409, 0])) == (0, ["s"] * 2)


def test_a_store_that_fails_in_an_odd_way_stops_nothing_for_good():
    class OddError(Exception):
        pass

    class Broken(Store):
        fails = 1

        async def settle(self, delivered, dead):
            if self.fails:
                self.fails -= 1
                raise OddError
            return await super().settle(delivered, dead)

    @run
    async def life(script, client):
        async with Outbox(Broken(), client, clock=asyncio.get_running_loop().time) as outbox:
            await outbox.put((*LINE, "s"))
            await asyncio.sleep(0.5)
            said = outbox.statistics().problem
            await asyncio.sleep(10.0)
            return said, outbox.statistics().pending, script.sent

    logging.disable(logging.CRITICAL)
    try:
        said, pending, sent = life(Script())
    finally:
        logging.disable(logging.NOTSET)
    assert "OddError" in said
    assert (pending, sent) == (0, ["s"] * 2)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", range(8))
def test_no_probe_is_wasted_on_a_worker_that_finds_nothing_to_send(seed):
    outage = Outage(0.05, 2.05, Weather.PAGE_404)
    network = Network(seed, latency=0.01, outages=(outage,), faults={}, refused=0.0)

    @run
    async def life(_, client):
        rows = [(f"o{number}", "l1", f"{number}/{status}") for status in range(3) for number in range(100)]
        report = await client.market.orders.update_order_line_statuses(rows)
        return report.ok, asyncio.get_running_loop().time()

    ok, ended = life(network, retry=RetryPolicy())
    assert ok
    assert ended < outage.end + 1.5


@pytest.mark.usefixtures("untraced")
def test_calls_that_an_outage_left_without_an_answer_keep_no_worker_from_the_others():
    outage = Outage(0.05, 6.05, Weather.SILENT)
    network = Network(1, latency=0.01, outages=(outage,), faults={}, refused=0.0)
    rows = [(f"o{number}", "l1", str(number)) for number in range(2000)]

    @run
    async def life(_, client):
        sending = asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows))
        await asyncio.sleep(outage.end + 3.0)
        assert not sending.done()  # some wait for answers that will not come
        return len(network.ledger.made), (await sending).ok

    made, ok = life(network, retry=RetryPolicy())
    assert made > 1700
    assert ok


def test_a_row_with_an_id_of_its_own_that_takes_anothers_place_may_have_been_asked_before():
    @run
    async def life(script, client):
        rows = [LineStatusUpdate(*LINE, "first"), LineStatusUpdate(*LINE, "second", request_id="mine")]
        report = await client.market.orders.update_order_line_statuses(rows, coalesce="latest")
        return [outcome.state.value for outcome in report.outcomes], script.sent

    assert life(Script(second=[409, 409])) == (["superseded", "applied"], ["second"] * 3)


def call(client, status):
    fields = dict(
        zip(("order_external_id", "order_line_external_id", "status_external_id"), (*LINE, status), strict=True)
    )
    return client.call("market/orders/update_order_line_status", fields)


def test_a_line_s_update_by_its_path_takes_the_line_s_lane():
    @run
    async def life(script, client):
        await asyncio.gather(call(client, "first"), update(client, "second"), call(client, "third"))
        return script.sent

    assert life(Script(first=[429], second=[429])) == ["first", "first", "second", "second", "third"]


def test_the_answer_to_a_line_s_update_by_its_path_is_compared_with_the_line():
    @run
    async def life(script, client):
        envelope = await call(client, "first")
        return envelope["data"]["order_line_external_id"], script.sent

    assert life(Script(first=["another"])) == ("l1", ["first", "first"])


@pytest.mark.parametrize("fields", [{}, {"order_external_id": "o1", "order_line_external_id": None}])
def test_a_call_by_its_path_that_names_no_line_is_sent_as_it_is(fields):
    @run
    async def life(script, client):
        path = "market/orders/update_order_line_status"
        return (await client.call(path, {**fields, "status_external_id": "new"}))["error"]

    assert life(Script()) == 0


def test_an_order_that_is_deleted_by_the_path_of_the_call_waits_for_its_lines():
    @run
    async def life(script, client):
        deleted = client.call("market/orders/delete", {"external_id": "o1", "status_external_id": "delete"})
        await asyncio.gather(update(client, "first"), deleted)
        return script.sent

    assert life(Script(first=[429])) == ["first", "first", "delete"]
