"""tenacity's strategies around an outage: they see the attempts that cost one, and the time without the outage."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import tenacity

from altcraft_async import AltcraftClient, ConnectError, RetryPolicy
from altcraft_async.observe import RetryPlanned
from altcraft_async.protocol.wire import WireResponse

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from virtual import VirtualLoop

pytestmark = pytest.mark.usefixtures("untraced")

OUTAGE = 900.0
LINES = [("o", f"l{number}", "new") for number in range(4)]


class Platform:
    """A transport: nobody is served for `OUTAGE` seconds, and of each line but the first one call more fails.

    With `room` false the outage is this machine's: there is no room for a connection.
    """

    def __init__(self, *, room=True):
        self.room = room
        self.late = Counter()

    async def send(self, request, **options):
        del options
        await asyncio.sleep(0.05)
        update = json.loads(request.body)
        line = update["order_line_external_id"]
        if line == "warm":
            return answer(200, update)
        if asyncio.get_running_loop().time() < OUTAGE:
            if not self.room:
                msg = "too many open files"
                raise ConnectError(msg, local=True)
            return answer(502, update)
        self.late[line] += 1
        return answer(502 if self.late[line] == 1 and line != "l0" else 200, update)

    async def aclose(self):
        pass


def answer(status, update):
    if status != 200:
        return WireResponse(status, {"Content-Type": "text/html"}, b"<html>")
    body = {"error": 0, "error_text": "", "data": {name: value for name, value in update.items() if name != "token"}}
    return WireResponse(200, {"Content-Type": "application/json"}, json.dumps(body).encode())


class Delays:
    """What is waited before attempts that are not those of an outage."""

    def __init__(self):
        self.seen = []

    def on_event(self, event):
        if isinstance(event, RetryPlanned) and event.delay:
            self.seen.append(event.delay)


def states_after_the_outage(platform=None, **policy):
    """Deliver the lines through the outage; give their states, and what was waited."""
    delays = Delays()

    async def work():
        async with AltcraftClient(
            "http://127.0.0.1", "tok-abc-123", concurrency=4, retry=RetryPolicy(**policy), observers=[delays],
            transport=platform or Platform(),
        ) as client:  # fmt: skip
            orders = client.market.orders
            await orders.update_order_line_status("o", "warm", "new")
            report = await orders.update_order_line_statuses(LINES)
            return [str(outcome.state) for outcome in report.outcomes]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work()), delays.seen


@pytest.mark.parametrize(
    "stop",
    [
        tenacity.stop_after_attempt(3),
        tenacity.stop_after_delay(600),
        tenacity.stop_before_delay(600),
        tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(5),
    ],
)
def test_an_outage_uses_up_no_stop_strategy(stop):
    states, _ = states_after_the_outage(stop=stop, base=0.1)
    assert states == ["applied"] * 4


def test_an_outage_is_no_step_of_a_wait_strategy():
    _, delays = states_after_the_outage(wait=tenacity.wait_exponential(multiplier=0.1))
    assert delays
    assert max(delays) <= 0.2


def test_the_time_without_room_for_a_connection_uses_up_no_stop_strategy():
    states, _ = states_after_the_outage(Platform(room=False), stop=tenacity.stop_after_delay(5), base=0.1)
    assert states == ["applied"] * 4


def test_the_time_of_attempts_that_cost_one_is_counted():
    """One line that always fails is its own trouble, and its strategy ends it."""
    seen = []

    class Failing(Platform):
        async def send(self, request, **options):
            del options
            await asyncio.sleep(1.0)
            return answer(502, json.loads(request.body))

    def stop(state):
        seen.append((state.attempt_number, round(state.seconds_since_start)))
        return state.seconds_since_start >= 12

    async def work():
        retry = RetryPolicy(stop=stop, wait=tenacity.wait_fixed(2))
        async with AltcraftClient("http://127.0.0.1", "tok-abc-123", retry=retry, transport=Failing()) as client:
            await client.market.orders.update_order_line_statuses(LINES[:1])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())
    assert seen == [(1, 1), (2, 4), (3, 7), (4, 10), (5, 13)]
