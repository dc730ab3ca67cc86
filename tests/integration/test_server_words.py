"""What a server says comes into errors, logs and outcomes without the token, without control characters, and cut."""

from __future__ import annotations

import json
import logging
from itertools import count

import pytest

from altcraft_async import AltcraftClient, AltcraftError, RetryPolicy
from altcraft_async.protocol.wire import WireResponse

TOKEN = "SECRET-Token+123456"
SAYINGS = {
    "token": TOKEN,
    "token as a URL has it": "SECRET-Token%2b123456",
    "token in other letters": TOKEN.upper(),
    "half a pair": "\ud800x",
    "colours and lines": "\x1b[31mred\n\rnext\u2028line",
    "marks of direction": "a\u202eb\u2066c",
    "very long": "A" * 100_000,
}
LINE = ("order", "line", "new")


class Parrot:
    """A transport whose server answers as `say` says: a status, headers, and the fields of an envelope."""

    def __init__(self, say):
        self._say = say

    async def send(self, request, **options):
        del options
        status, headers, fields = self._say(json.loads(request.body))
        return WireResponse(status, {"Content-Type": "application/json", **headers}, json.dumps(fields).encode())

    async def aclose(self):
        pass


def success(order="order", status="new"):
    data = {"order_external_id": order, "order_line_external_id": "line", "status_external_id": status}
    return 200, {}, {"error": 0, "error_text": "", "data": data}


def client_of(say):
    retry = RetryPolicy(attempts=2, base=0.001)
    return AltcraftClient("http://127.0.0.1", TOKEN, retry=retry, transport=Parrot(say))


def assert_clean(text):
    assert text
    assert len(text) <= 600
    assert "SECRET" not in text
    assert text.isprintable()


async def seen_of(say, caplog):
    """Send one update alone and one in a run; return all that is heard of the server."""
    heard = []
    with caplog.at_level(logging.DEBUG, "altcraft_async"):
        async with client_of(say) as client:
            orders = client.market.orders
            try:
                heard += [*vars_of(await orders.update_order_line_status(*LINE))]
            except AltcraftError as error:
                heard += [str(error), error.message, *map(str, filter(None, [getattr(error, "retry_after", None)]))]
            report = await orders.update_order_line_statuses([LINE])
            outcome = report.outcomes[0]
            heard += [str(outcome.error)] if outcome.error is not None else vars_of(outcome.echo)
            heard += [] if (problem := client.statistics().problem) is None else [problem]
    return heard + [record.getMessage() for record in caplog.records]


def vars_of(echo):
    return [echo.order_external_id, echo.order_line_external_id, echo.status_external_id]


@pytest.mark.parametrize("words", SAYINGS.values(), ids=SAYINGS)
@pytest.mark.parametrize("place", ["other name each time", "other name", "status", "error_text", "page", "redirect"])
async def test_the_words_of_a_server_are_clean_wherever_they_come(place, words, caplog):
    number = count()

    def say(_):
        match place:
            case "other name each time":
                return success(order=f"{words}{next(number)}")
            case "other name":
                return success(order=f"{words}!")
            case "status":
                return success(status=words)
            case "error_text":
                return 400, {}, {"error": 400, "error_text": f"wrong: {words}"}
            case "page":
                return 502, {"Retry-After": words, "Content-Type": words}, {}
        return 302, {"Location": f"https://other.test/{words}"}, {}

    for text in await seen_of(say, caplog):
        assert_clean(text)


async def test_an_echo_that_is_as_it_was_asked_for_is_left_alone():
    async with client_of(lambda update: success(update["order_external_id"])) as client:
        echo = await client.market.orders.update_order_line_status("order \x41", "line", "new")
    assert echo.order_external_id == "order A"
