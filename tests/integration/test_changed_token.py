"""A call that may have been made under one token is never repeated under another: nobody would recognise it."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import AsyncExitStack

import pytest

from altcraft_async import (
    AltcraftClient,
    AttemptTimeoutError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    NotSentError,
    RetryPolicy,
)
from altcraft_async.outbox import Outbox
from altcraft_async.protocol.wire import WireResponse

OLD, NEW = "old-token-1", "new-token-2"


class Platform:
    """A platform that knows an id only together with its token, and makes what it loses the answer of.

    `lost` are orders whose first answer is lost, after which only `NEW` is accepted where the platform `rotates`.
    Those of `held` are made and never answered. The next `away` calls find nobody.
    """

    away = 0

    def __init__(self, *lost, held=(), rotates=True):
        self.lost = set(lost)
        self.held = set(held)
        self.rotates = rotates
        self.valid = OLD
        self.known = set()
        self.made = []
        self.asked = []

    async def send(self, request, *, connect, total, max_bytes, fresh=False):
        fields = json.loads(request.body)
        token, order = fields["token"], fields.get("order_external_id")
        self.asked.append((token == NEW, order))
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            return WireResponse(502, {}, b"<html>")
        if token != self.valid:
            return self.answer(401)
        known = (token, request.headers["Request-ID"])
        if known not in self.known:
            self.known.add(known)
            self.made.append(order)
        if order in self.held:
            await asyncio.sleep(total)
            raise AttemptTimeoutError
        if order in self.lost:
            self.lost.remove(order)
            self.valid = NEW if self.rotates else OLD
            msg = "the connection broke"
            raise ConnectionLostError(msg)
        return self.answer(0)

    def answer(self, error):
        body = {"error": error, "error_text": "said", "result": [{"status": "new"}]}
        return WireResponse(error or 200, {}, json.dumps(body).encode())

    async def aclose(self):
        """Have nothing to close."""


@pytest.fixture
async def client_of():
    """Make clients of a platform, whose source gives these tokens in turn, and the last again and again."""
    async with AsyncExitStack() as stack:

        async def make(platform, *tokens, **options):
            left = list(tokens or (OLD, NEW))
            client = AltcraftClient(
                "http://127.0.0.1",
                lambda: left.pop(0) if len(left) > 1 else left[0],
                transport=platform,
                retry=RetryPolicy(attempts=5, base=0.05, max_delay=0.1),
                **{"concurrency": 1, **options},
            )
            return await stack.enter_async_context(client)

        yield make


def rows(*orders):
    return [(order, "l", "delivered") for order in orders]


async def test_a_single_call_in_doubt_is_not_repeated_when_another_call_has_changed_the_token(client_of):
    platform = Platform("A")
    client = await client_of(platform)
    call = client.market.orders.update_order_line_status
    lost, served = await asyncio.gather(call("A", "l", "new"), call("B", "l", "new"), return_exceptions=True)
    assert isinstance(lost, DeliveryError)
    assert lost.maybe_applied
    assert "the token was changed" in str(lost)
    assert served.order_external_id == "B"
    assert platform.made == ["A", "B"]


async def test_a_row_in_doubt_is_unknown_when_another_row_has_changed_the_token(client_of):
    platform = Platform("A")
    client = await client_of(platform)
    report = await client.market.orders.update_order_line_statuses(rows("A", "B", "C"))
    assert [outcome.state.value for outcome in report.outcomes] == ["unknown", "applied", "applied"]
    assert platform.made == ["A", "B", "C"]


async def test_a_row_in_doubt_is_repeated_while_the_token_is_the_same(client_of):
    platform = Platform("A", rotates=False)
    client = await client_of(platform)
    report = await client.market.orders.update_order_line_statuses(rows("A", "B"))
    assert report.ok
    assert platform.made == ["A", "B"]


async def test_a_call_that_only_reads_is_repeated_with_any_token(client_of):
    platform = Platform(None)
    client = await client_of(platform)
    assert (await client.market.orders.get_status(external_id="A")).status == "new"
    assert platform.asked == [(False, None), (False, None), (True, None)]


async def test_rows_that_an_earlier_run_may_have_made_are_unknown_under_another_token(client_of, tmp_path):
    platform = Platform(held={"B", "C"})
    first = await client_of(platform, OLD, concurrency=2)
    again = {"journal": tmp_path / "journal"}
    await first.market.orders.update_order_line_statuses(rows("A", "B", "C"), deadline=0.3, **again)
    assert platform.made == ["A", "B", "C"]
    platform.held.clear()
    platform.valid = NEW
    second = await client_of(platform)
    report = await second.market.orders.update_order_line_statuses(rows("A", "B", "C"), **again)
    assert [outcome.state.value for outcome in report.outcomes] == ["applied", "unknown", "unknown"]
    assert all(outcome.error.maybe_applied for outcome in report.outcomes[1:])
    assert platform.made == ["A", "B", "C"]


async def test_only_as_many_rows_as_a_window_has_can_be_in_doubt_from_an_earlier_run(client_of, tmp_path):
    platform = Platform(held={"B"})
    first = await client_of(platform, OLD)
    again = {"journal": tmp_path / "journal", "window": 2}
    await first.market.orders.update_order_line_statuses(rows(*"ABCDEF"), deadline=0.3, **again)
    platform.held.clear()
    platform.valid = NEW
    second = await client_of(platform)
    report = await second.market.orders.update_order_line_statuses(rows(*"ABCDEF"), **again)
    assert [outcome.state.value for outcome in report.outcomes] == ["applied"] + ["unknown"] * 2 + ["applied"] * 3
    assert platform.made == [*"AB", *"DEF"]


class Source:
    """A source that gives `OLD` first and `NEW` after `pause` seconds; with `fails` it fails then."""

    def __init__(self, pause=0.0, *, fails=False):
        self.asked, self.pause, self.fails = 0, pause, fails

    async def __call__(self):
        self.asked += 1
        if self.asked == 1:
            return OLD
        await asyncio.sleep(self.pause)
        if self.fails:
            raise OSError
        return NEW


@pytest.fixture
async def client_with():
    """Make clients of a platform with a source."""
    async with AsyncExitStack() as stack:

        async def make(platform, source, **options):
            client = AltcraftClient("http://127.0.0.1", source, transport=platform, **options)
            return await stack.enter_async_context(client)

        yield make


@pytest.mark.slow
async def test_a_source_that_is_slow_is_no_outage_and_every_call_is_made_with_the_new_token(client_with):
    platform, source = Platform(), Source(pause=1.6)
    client = await client_with(platform, source, concurrency=20)
    assert (await client.market.orders.update_order_line_statuses(rows("first"))).ok
    platform.valid = NEW
    call, get_status = client.market.orders.update_order_line_status, client.market.orders.get_status
    singles = [call(f"single {number}", "l", "new") for number in range(20)]
    reads = [get_status(external_id="x") for _ in range(20)]
    bulk = client.market.orders.update_order_line_statuses(rows(*map(str, range(200))))
    report, *_ = await asyncio.gather(bulk, *singles, *reads)
    assert report.ok
    assert client.statistics().outage is None
    assert source.asked == 2
    assert len(platform.asked) < 20 + 1 + 20 + 20 + 200 + 20  # nobody is sent while the source is asked


async def test_a_token_that_changes_in_an_outage_costs_nothing(client_with):
    platform = Platform()
    client = await client_with(platform, Source(), concurrency=20)
    assert (await client.market.orders.update_order_line_statuses(rows("first"))).ok
    platform.away, platform.valid = 5, NEW
    call = client.market.orders.get_status
    assert len(await asyncio.gather(*(call(external_id=f"{number}") for number in range(30)))) == 30


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_deadline_ends_the_wait_for_another_token(client_with, bulk):
    platform = Platform()
    platform.valid = NEW
    client = await client_with(platform, Source(pause=60))
    async with asyncio.timeout(5):
        if bulk:
            report = await client.market.orders.update_order_line_statuses(rows("A", "B"), deadline=0.1)
            assert {outcome.state.value for outcome in report.outcomes} == {"not_sent"}
        else:
            with pytest.raises(DeadlineError):
                await client.market.orders.update_order_line_status("A", "l", "new", deadline=0.1)


@pytest.mark.parametrize("first", [True, False])
async def test_closing_the_client_ends_the_wait_for_a_token(client_with, first):
    platform, source = Platform(), Source(pause=60)
    source.asked = int(first)  # the second time it is slow
    platform.valid = NEW
    client = await client_with(platform, source)
    waiting = [
        asyncio.ensure_future(client.market.orders.update_order_line_status("A", "l", "new")),
        asyncio.ensure_future(client.with_options(max_retries=1).market.orders.get_status(external_id="A")),
        asyncio.ensure_future(client.market.orders.update_order_line_statuses(rows("B", "C"))),
    ]
    await asyncio.sleep(0.05)
    await client.aclose()
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ClientClosedError] * 3


async def test_a_call_in_doubt_whose_token_is_refused_stays_in_doubt_where_the_source_fails(client_with):
    platform = Platform("A")
    client = await client_with(platform, Source(fails=True))
    with pytest.raises(NotSentError, match="the token was refused, and its source gives no other") as caught:
        await client.market.orders.update_order_line_status("A", "l", "new")
    assert caught.value.maybe_applied
    assert caught.value.request_id
    with pytest.raises(ConfigurationError, match="source of the token failed"):
        await client.market.orders.update_order_line_status("B", "l", "new")
    assert platform.made == ["A"]


async def test_a_token_that_changes_twice_in_the_life_of_a_call_is_asked_for_twice(client_of):
    platform = Platform()
    platform.valid = NEW
    client = await client_of(platform, OLD, "middle-token", NEW, concurrency=5)
    assert (await client.market.orders.update_order_line_status("A", "l", "new")).order_external_id == "A"
    platform.valid = "a-fourth-token"
    left = [NEW, "another-token", "a-fourth-token"]
    other = client.with_options(token=lambda: left.pop(0) if len(left) > 1 else left[0])
    assert (await other.market.orders.update_order_line_statuses(rows(*"BCDEFGH"))).ok


async def test_a_source_that_alternates_ends_with_the_attempts(client_of):
    platform = Platform()
    platform.valid = "neither"
    tokens = itertools.cycle([OLD, NEW])
    client = AltcraftClient(
        "http://127.0.0.1", lambda: next(tokens), transport=platform, retry=RetryPolicy(attempts=3, base=0.001)
    )
    async with client:
        with pytest.raises(AuthenticationError):
            await client.market.orders.update_order_line_status("A", "l", "new")
    assert len(platform.asked) == 4  # the first refusal is free


async def test_a_refused_token_is_no_sign_that_keeps_an_outage_from_being_seen(client_of):
    platform = Platform()
    platform.valid = NEW
    client = await client_of(platform, concurrency=20)
    served = 0

    async def send(request, **options):
        nonlocal served
        answer = await Platform.send(platform, request, **options)
        served += answer.status == 200
        if served == 5:
            served, platform.away = 6, 22
        return answer

    platform.send = send
    report = await client.market.orders.update_order_line_statuses(rows(*map(str, range(40))))
    assert report.counts["applied"] + report.counts["unknown"] == 40
    assert report.counts["unknown"] == 0


async def test_the_rate_of_a_run_holds_behind_a_wait_for_the_token(client_with):
    platform, source = Platform(), Source(pause=0.6)
    source.asked = 1  # the first time it is slow
    platform.valid = NEW
    client = await client_with(platform, source, concurrency=20)
    starts, send = [], platform.send

    async def timed(request, **options):
        starts.append(asyncio.get_running_loop().time())
        return await send(request, **options)

    platform.send = timed
    assert (await client.market.orders.update_order_line_statuses(rows(*map(str, range(8))), rate=20)).ok
    assert starts[-1] - starts[0] > 0.25  # 0.35 s at that pace; all at once when only the first waits for it


async def test_what_is_put_into_a_new_outbox_was_begun_by_nobody_before(client_of, tmp_path):
    platform = Platform()
    platform.valid = NEW
    async with Outbox(tmp_path / "outbox", await client_of(platform)) as outbox:
        await outbox.put(("A", "l", "new"))
        await until(lambda: not outbox.statistics().pending)
        assert outbox.statistics().dead == 0
    assert platform.made == ["A"]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it comes of the drainer's own doing
            await asyncio.sleep(0.01)


async def test_what_an_outbox_may_have_sent_before_its_restart_is_a_dead_letter_in_doubt(client_of, tmp_path):
    platform = Platform(held={"A"})
    async with Outbox(tmp_path / "outbox", await client_of(platform, OLD), drain_timeout=0.1) as outbox:
        await outbox.put(("A", "l", "new"))
        await until(lambda: platform.made == ["A"])
    assert outbox.statistics().pending == 1
    platform.held.clear()
    platform.valid = NEW
    async with Outbox(tmp_path / "outbox", await client_of(platform)) as outbox:
        await until(lambda: outbox.statistics().dead == 1)
        assert [letter.state.value async for letter in outbox.dead_letters()] == ["unknown"]
    assert platform.made == ["A"]


async def test_what_was_only_refused_with_the_old_token_is_delivered_with_the_new_one(client_of, tmp_path, monkeypatch):
    monkeypatch.setattr("altcraft_async.outbox.drain._FIRST_PAUSE", 0.05)
    platform = Platform()
    platform.valid = NEW
    client = await client_of(platform, OLD, OLD, NEW)  # the first refusal gives no other token: the run ends
    async with Outbox(tmp_path / "outbox", client) as outbox:
        await until(lambda: outbox.statistics().draining)
        for order in "ABC":
            await outbox.put((order, "l", "new"))
        await until(lambda: outbox.statistics().delivered == 3)
    assert (sorted(platform.made), outbox.statistics().dead) == (["A", "B", "C"], 0)
    assert (False, "A") in platform.asked


async def test_rows_behind_an_input_that_was_finished_are_in_no_doubt(client_of, tmp_path):
    platform = Platform()
    again = {"journal": tmp_path / "journal", "extend": True}
    first = await client_of(platform, OLD)
    await first.market.orders.update_order_line_statuses(rows(*"AB"), **again)
    platform.valid = NEW
    second = await client_of(platform)
    assert (await second.market.orders.update_order_line_statuses(rows(*"ABCD"), **again)).ok
    assert platform.made == [*"ABCD"]
    assert platform.asked[2] == (False, "C")
