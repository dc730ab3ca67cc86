"""What every failed delivery says, whatever went wrong: which line, under which id, how often, and what may be done."""

from __future__ import annotations

import asyncio
import re

import pytest

from altcraft_async import (
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    InvalidUpdateError,
    OutageError,
    OutagePolicy,
    Outcome,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    RetryBudgetError,
    RetryPolicy,
    RunFailedError,
    RunStoppedError,
    ServerError,
    TariffLimitError,
    Timeout,
    TransportError,
    UnreadableResponseError,
)
from altcraft_async.protocol.wire import WireResponse
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")


def errors(*statuses: int) -> Faults:
    return Faults(script=[Fault("error", status=status) for status in statuses])


def each(kind: str) -> Faults:
    return Faults(script=[Fault(kind)] * 3)


FAULTS = {
    "400": (errors(400), BadRequestError, 1, False),
    "401": (errors(401), AuthenticationError, 1, False),
    "402": (errors(402), TariffLimitError, 1, False),
    "403": (errors(403), PermissionDeniedError, 1, False),
    "404": (errors(404), APIError, 1, False),
    "429": (errors(429, 429, 429), RateLimitError, 3, False),
    "500": (errors(500, 500, 500), ServerError, 3, True),
    "501": (errors(501), ServerError, 1, False),
    "503": (errors(503, 503, 503), ServerError, 3, True),
    "HTML": (Faults(html_502=1.0), ServerError, 3, True),
    "applied, then 500": (each("error_after"), ServerError, 3, True),
    "cut before": (each("reset_before"), ConnectionLostError, 3, True),
    "cut after": (each("reset_after"), ConnectionLostError, 3, True),
    "cut answer": (each("truncated"), UnreadableResponseError, 3, True),
    "malformed": (each("malformed"), UnreadableResponseError, 3, True),
    "too large": (each("oversized"), ResponseTooLargeError, 3, True),
    "slow": (Faults(latency=5.0), AttemptTimeoutError, 3, True),
    "429, then 500": (errors(429, 500, 500), ServerError, 3, True),
    "500, then 429": (errors(500, 429, 429), RateLimitError, 3, True),
    "500, then 401": (errors(500, 401), AuthenticationError, 2, True),
    "500, then 400": (errors(500, 400), BadRequestError, 2, False),
}
"""What the server does, the error that comes of it, the attempts made, and whether the change may have been made."""


@pytest.fixture(params=["single", "gathered", "streamed"])
def way(request):
    """The three ways to send one update; each gives the error that it ended with."""

    async def single(orders, update, **options):
        with pytest.raises(DeliveryError) as caught:
            await orders.update_order_line_status(*update, **options)
        return caught.value

    async def gathered(orders, update, **options):
        return told((await orders.update_order_line_statuses([update], **options)).outcomes[0])

    async def streamed(orders, update, **options):
        (outcome,) = [outcome async for outcome in orders.stream_order_line_statuses([update], **options)]
        return told(outcome)

    return {"single": single, "gathered": gathered, "streamed": streamed}[request.param]


def told(outcome: Outcome) -> DeliveryError:
    """Check that an outcome and its error say the same."""
    error = outcome.error
    assert (outcome.attempts, outcome.request_id) == (error.attempts, error.request_id)
    assert (outcome.state == "unknown") is error.maybe_applied
    return error


def check(
    error: DeliveryError, update: tuple[str, str, str], kind: type[DeliveryError], attempts: int, *, maybe_applied: bool
) -> None:
    assert (type(error), error.attempts, error.maybe_applied) == (kind, attempts, maybe_applied)
    assert error.subject == f"order line {update[0]}/{update[1]}"
    assert str(error).startswith(f"{error.subject}: ")
    assert str(error).endswith("; the change may have been applied") is error.maybe_applied
    if error.attempts:
        assert f"{error.attempts} attempt" in str(error)
        assert f"Request-ID {error.request_id}" in str(error)


@pytest.mark.parametrize("name", FAULTS)
async def test_every_failure_tells_its_facts(start_sandbox, connect, way, name):
    faults, kind, attempts, maybe_applied = FAULTS[name]
    sandbox = await start_sandbox(faults=faults)
    total = 0.05 if kind is AttemptTimeoutError else 5.0
    client = connect(sandbox, timeout=Timeout(total=total), max_response_bytes=10_000)
    error = await way(client.market.orders, LINE)
    check(error, LINE, kind, attempts, maybe_applied=maybe_applied)
    assert {arrival.request_id for arrival in sandbox.ledger.arrivals(*LINE[:2])} == {error.request_id}


async def test_no_connection_tells_its_facts(closed_port, connect, way):
    orders = connect(closed_port, retry=RetryPolicy(attempts=2, base=0.001)).market.orders
    check(await way(orders, LINE), LINE, ConnectError, 2, maybe_applied=False)


async def test_an_outage_that_outlasts_the_patience_tells_the_facts_of_its_last_attempt(closed_port, connect, way):
    orders = connect(closed_port, outage=OutagePolicy(first_patience=0.4)).market.orders
    error = await way(orders, LINE)
    assert error.attempts in {4, 5}  # the third failed connection begins an outage; then come its probes
    check(error, LINE, ConnectError, error.attempts, maybe_applied=False)


async def test_a_deadline_during_the_attempt_tells_its_facts(start_sandbox, connect, way):
    orders = connect(await start_sandbox(faults=Faults(latency=5.0))).market.orders
    check(await way(orders, LINE, deadline=0.05), LINE, DeadlineError, 1, maybe_applied=True)


async def test_a_deadline_before_any_attempt_tells_its_facts(start_sandbox, connect, way):
    orders = connect(await start_sandbox()).market.orders
    error = await way(orders, LINE, deadline=1e-9)
    check(error, LINE, DeadlineError, 0, maybe_applied=False)


async def test_an_empty_retry_budget_tells_its_facts(start_sandbox, connect, way):
    sandbox = await start_sandbox(faults=errors(500, 500, 500))
    orders = connect(sandbox, retry=RetryPolicy(attempts=5, base=0.001), retry_budget=1).market.orders
    check(await way(orders, LINE), LINE, RetryBudgetError, 2, maybe_applied=True)


async def test_a_run_that_was_stopped_tells_the_facts_of_each_line(start_sandbox, connect):
    client = connect(await start_sandbox(), "wrong-token", concurrency=1)
    updates = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 6)]
    report = await client.market.orders.update_order_line_statuses(updates)
    check(told(report.outcomes[0]), updates[0], AuthenticationError, 1, maybe_applied=False)
    for outcome, update in zip(report.outcomes[1:], updates[1:], strict=True):
        check(told(outcome), update, RunStoppedError, 0, maybe_applied=False)
        assert "check the token" in str(outcome.error)


async def test_another_transports_own_failure_may_have_been_applied(connect, way):
    class Pigeon:
        async def send(self, request, *, connect, total, max_bytes, fresh=False):
            msg = "the pigeon did not come back"
            raise TransportError(msg)

        async def aclose(self):
            pass

    orders = connect("https://example.test", transport=Pigeon()).market.orders
    check(await way(orders, LINE), LINE, TransportError, 3, maybe_applied=True)


GOOD = {"status": 200, "headers": {"Content-Type": "application/json"}, "body": b'{"error": 0}'}


@pytest.mark.parametrize(
    ("comes", "said"),
    [
        *[
            (kind("no"), rf"raised what no transport may \({kind.__name__}\)")
            for kind in (
                ClientClosedError,
                ConfigurationError,
                APIError,
                DeadlineError,
                OutageError,
                InvalidUpdateError,
            )
        ],
        (asyncio.CancelledError(), r"failed unexpectedly \(CancelledError\)"),
        (None, "returned what no transport may .NoneType instead of a WireResponse"),
        ((200, {}, b""), "tuple instead of a WireResponse"),
        (WireResponse(**{**GOOD, "body": '{"error": 0}'}), "a body of type str"),
        (WireResponse(**{**GOOD, "body": memoryview(b'{"error": 0}')}), "a body of type memoryview"),
        (WireResponse(**{**GOOD, "headers": None}), "headers of type NoneType"),
        (WireResponse(**{**GOOD, "headers": {"Content-Type": b"application/json"}}), "headers that are no text"),
        (WireResponse(**{**GOOD, "status": "200"}), "'200' as a status"),
        (WireResponse(**{**GOOD, "status": 0}), "0 as a status"),
    ],
)
async def test_what_another_transport_may_not_do_leaves_the_change_in_doubt(connect, way, comes, said):
    class Pigeon:
        async def send(self, request, *, connect, total, max_bytes, fresh=False):
            if isinstance(comes, BaseException):
                raise comes
            return comes

        async def aclose(self):
            pass

    orders = connect("https://example.test", transport=Pigeon()).market.orders
    error = await way(orders, LINE)
    check(error, LINE, ConnectionLostError, 3, maybe_applied=True)
    assert re.search(said, str(error))


async def test_a_defect_that_comes_up_after_sending_leaves_the_line_in_doubt(connect):
    class Pigeon:
        async def send(self, request, *, connect, total, max_bytes, fresh=False):
            raise GeneratorExit

        async def aclose(self):
            pass

    with pytest.raises(RunFailedError) as caught:
        await connect("https://example.test", transport=Pigeon()).market.orders.update_order_line_statuses([LINE])
    assert caught.value.report.outcomes[0].state == "unknown"


async def test_a_call_of_any_method_names_the_method(sandbox, connect):
    with pytest.raises(BadRequestError, match=r"^call market/orders/get_status: ") as caught:
        await connect(sandbox).call("market/orders/get_status", {"external_id": "nope"}, request_id="id-1")
    assert (caught.value.subject, caught.value.request_id) == ("call market/orders/get_status", "id-1")
