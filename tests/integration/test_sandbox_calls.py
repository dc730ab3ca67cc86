"""The sandbox over loopback, called with a bare HTTP client: methods, formats, tokens, refusals."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import xmltodict

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

UPDATE = "market/orders/update_order_line_status"
IMPORT = "market/orders/import"
GET_STATUS = "market/orders/get_status"
TOKEN = "canary-7f3a91"
DELIVERED = {
    "order_external_id": "order_1",
    "order_line_external_id": "line_1_1",
    "status_external_id": "delivered",
}
ORDER = {
    "external_id": "order_9",
    "email": "someone@example.com",
    "endpoint": "shop",
    "status": "new",
    "total_price": "10",
    "currency": "RUB",
    "lines": [{"external_id": "line_9", "status": "packed"}, {"external_id": "line_10"}],
}
PACKED = {"external_id": "packed", "name": "Packed", "type": "in_process"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def call(
    http: aiohttp.ClientSession,
    sandbox: Sandbox,
    method: str,
    fields: Mapping[str, object],
    *,
    xml: bool = False,
    headers: Mapping[str, str] = {},
) -> tuple[int, str, dict[str, Any]]:
    """Send one call; return HTTP status, content type and the envelope, its code an int."""
    body = xmltodict.unparse({"xml": fields}) if xml else json.dumps(fields)
    kind = "application/xml" if xml else "application/json"
    url = f"{sandbox.base_url}/api/v1.1/{method}"
    async with http.post(url, data=body.encode(), headers={"Content-Type": kind, **headers}) as response:
        text = await response.text()
        if response.content_type == "application/xml":
            envelope: dict[str, Any] = xmltodict.parse(text)["xml"]
            envelope["error"] = int(envelope["error"])
        else:
            envelope = json.loads(text)
        return response.status, response.content_type, envelope


@pytest.mark.parametrize("ask_xml", [False, True])
@pytest.mark.parametrize("send_xml", [False, True])
async def test_an_update_is_applied_in_every_pair_of_formats(
    http: aiohttp.ClientSession, *, send_xml: bool, ask_xml: bool
) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.seed_orders(1)
        fields = {"token": TOKEN, "format": "xml" if ask_xml else "json", **DELIVERED}
        status, kind, envelope = await call(http, sandbox, UPDATE, fields, xml=send_xml)
        assert (status, kind) == (200, "application/xml" if ask_xml else "application/json")
        assert envelope == {"data": DELIVERED, "error": 0, "error_text": "Successful operation"}
        assert sandbox.line_status("order_1", "line_1_1") == "delivered"


@pytest.mark.parametrize("always", ["json", "xml"])
async def test_the_answer_format_can_be_fixed_whatever_is_asked(http: aiohttp.ClientSession, always: Any) -> None:
    other = {"json": "xml", "xml": "json"}[always]
    async with Sandbox(TOKEN, answer_format=always) as sandbox:
        sandbox.seed_orders(1)
        _, kind, envelope = await call(http, sandbox, UPDATE, {"token": TOKEN, "format": other, **DELIVERED})
        assert (kind, envelope["error"]) == (f"application/{always}", 0)
        _, kind, envelope = await call(http, sandbox, "no/such/method", {})
        assert (kind, envelope["error"]) == (f"application/{always}", 404)


async def test_a_bearer_token_is_taken_for_the_token_of_the_body(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.seed_orders(1)
        _, _, envelope = await call(http, sandbox, UPDATE, DELIVERED, headers={"Authorization": f"Bearer {TOKEN}"})
        assert envelope["error"] == 0


@pytest.mark.parametrize(
    ("settings", "fields", "headers", "code"),
    [
        ({}, {}, {}, 401),
        ({}, {"token": ""}, {}, 401),
        ({}, {"token": "wrong-wrong"}, {}, 401),
        ({}, {}, {"Authorization": "Bearer wrong-wrong"}, 401),
        ({}, {}, {"Authorization": f"Basic {TOKEN}"}, 401),
        ({}, {"token": TOKEN}, {"Authorization": "Bearer wrong-wrong"}, 401),
        ({}, {"token": 17}, {}, 400),
        ({"wrong_token_code": 403}, {"token": "wrong-wrong"}, {}, 403),
        ({"market_right": False}, {"token": TOKEN}, {}, 403),
    ],
)
async def test_a_call_without_the_right_is_refused(
    http: aiohttp.ClientSession, settings: Any, fields: Any, headers: Any, code: int
) -> None:
    async with Sandbox(TOKEN, **settings) as sandbox:
        sandbox.seed_orders(1)
        _, _, envelope = await call(http, sandbox, UPDATE, {**fields, **DELIVERED}, headers=headers)
        assert envelope["error"] == code
        assert sandbox.line_status("order_1", "line_1_1") == "new"


@pytest.mark.parametrize(("style", "status"), [("http200", 200), ("http4xx", 400)])
async def test_a_refusal_comes_in_the_chosen_error_style(http: aiohttp.ClientSession, style: Any, status: int) -> None:
    async with Sandbox(TOKEN, error_style=style) as sandbox:
        answer = await call(http, sandbox, UPDATE, {"token": TOKEN, **DELIVERED})
        text = "order_external_id: there is no order 'order_1'; import it first"
        assert answer == (status, "application/json", {"error": 400, "error_text": text})


@pytest.mark.parametrize(
    "fields",
    [
        {"token": TOKEN, **DELIVERED, "order_external_id": TOKEN},
        {"token": TOKEN, **DELIVERED, "status_external_id": f"a{TOKEN}b"},
        {"token": TOKEN, **DELIVERED, TOKEN: "x"},
        {"token": TOKEN, **DELIVERED, "format": TOKEN},
        {"token": "wrong-wrong", **DELIVERED, "wrong-wrong": 1},
    ],
)
async def test_no_error_text_and_no_repr_tells_a_token(http: aiohttp.ClientSession, fields: dict[str, str]) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.seed_orders(1)
        _, _, envelope = await call(http, sandbox, UPDATE, fields)
        assert envelope["error"] != 0
        assert TOKEN not in envelope["error_text"]
        assert "wrong-wrong" not in envelope["error_text"]
        assert TOKEN not in repr(sandbox) + repr(sandbox.ledger)


async def test_an_import_makes_orders_and_custom_statuses(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        request = {"token": TOKEN, "custom_line_statuses": [PACKED], "data": [ORDER]}
        _, _, envelope = await call(http, sandbox, IMPORT, request)
        assert envelope == {"error": 0, "error_text": "Successful operation"}
        assert sandbox.line_status("order_9", "line_9") == "packed"
        assert sandbox.line_status("order_9", "line_10") == "new"


async def test_an_import_from_xml_does_the_same(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        request = {"token": TOKEN, "custom_line_statuses": PACKED, "data": [ORDER, {**ORDER, "external_id": "o2"}]}
        _, _, envelope = await call(http, sandbox, IMPORT, request, xml=True)
        assert envelope["error"] == 0
        assert sandbox.line_status("o2", "line_9") == "packed"


async def test_an_import_with_one_wrong_order_changes_nothing(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        good = {**ORDER, "external_id": "good", "lines": [{"external_id": "a"}]}
        _, _, envelope = await call(http, sandbox, IMPORT, {"token": TOKEN, "data": [good, ORDER]})
        assert envelope["error_text"].startswith("data[1].lines[0].status: 'packed' is neither a system status")
        with pytest.raises(KeyError):
            sandbox.order_status("good")


async def test_importing_an_order_again_keeps_the_statuses_it_does_not_name(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.add_order("order_9", {"line_9": "delivered", "line_10": "delivering"})
        lines = [{"external_id": "line_9"}, {"external_id": "line_11"}]
        await call(http, sandbox, IMPORT, {"token": TOKEN, "data": [{**ORDER, "status": "paid", "lines": lines}]})
        assert sandbox.order_status("order_9") == "paid"
        statuses = [sandbox.line_status("order_9", line) for line in ("line_9", "line_10", "line_11")]
        assert statuses == ["delivered", "delivering", "new"]


@pytest.mark.parametrize("question", [{"external_id": "b"}, {"id": 2}])
@pytest.mark.parametrize("xml", [False, True])
async def test_get_status_tells_endpoint_and_status(
    http: aiohttp.ClientSession, question: dict[str, object], *, xml: bool
) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.add_order("a", ["l"])
        sandbox.add_order("b", ["l"], status="paid", endpoint="shop")
        _, _, envelope = await call(http, sandbox, GET_STATUS, {"token": TOKEN, **question}, xml=xml)
        assert envelope == {"result": {"endpoint": "shop", "status": "paid"}, "error": 0, "error_text": ""}


async def test_get_status_of_no_order_is_refused(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        _, _, envelope = await call(http, sandbox, GET_STATUS, {"token": TOKEN, "id": 1})
        assert envelope["error"] == 400


async def test_a_custom_status_may_be_known_from_the_start(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN, custom_statuses=["packed"]) as sandbox:
        sandbox.seed_orders(1)
        fields = {"token": TOKEN, **DELIVERED, "status_external_id": "packed"}
        assert (await call(http, sandbox, UPDATE, fields))[2]["error"] == 0


async def test_an_unknown_method_is_not_found(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        status, _, envelope = await call(http, sandbox, "market/orders/explode", {"token": TOKEN})
        assert (status, envelope["error"]) == (404, 404)
        async with http.post(f"{sandbox.base_url}/{UPDATE}", json={}) as response:
            assert response.status == 404


async def test_another_verb_than_post_is_not_allowed(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox, http.get(f"{sandbox.base_url}/api/v1.1/{UPDATE}") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_a_body_above_the_limit_is_refused_in_words(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN, max_body_bytes=10_000) as sandbox:
        _, _, envelope = await call(http, sandbox, IMPORT, {"token": TOKEN, "data": ["x" * 20_000]})
        assert envelope == {
            "error": 413,
            "error_text": "the body is longer than 10000 bytes; send fewer objects in one call",
        }


async def test_the_ledger_counts_each_kind_of_answer(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.seed_orders(1)
        fields = {"token": TOKEN, **DELIVERED}
        await call(http, sandbox, UPDATE, fields, headers={"Request-ID": "a"})
        await call(http, sandbox, UPDATE, fields, headers={"Request-ID": "a"})
        await call(http, sandbox, UPDATE, {**fields, "order_external_id": "x"})
        await call(http, sandbox, UPDATE, {})
        await call(http, sandbox, "x", {})
        assert sandbox.ledger.answers == {
            "applied": 1,
            "replayed": 1,
            "refused 400": 1,
            "refused 401": 1,
            "refused 404": 1,
        }
        assert sandbox.ledger.requests == 5
        assert [arrival.fate for arrival in sandbox.ledger.arrivals("order_1", "line_1_1")] == ["applied", "replayed"]


async def test_it_starts_in_less_than_a_tenth_of_a_second() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        async with Sandbox():
            seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.1  # a busy machine may keep one of them waiting


async def test_it_stops_and_starts_again_on_its_port_with_its_state(http: aiohttp.ClientSession) -> None:
    async with Sandbox(TOKEN) as sandbox:
        sandbox.seed_orders(1)
        url = sandbox.base_url
        await call(http, sandbox, UPDATE, {"token": TOKEN, **DELIVERED})
        await sandbox.stop()
        assert "stopped" in repr(sandbox)
        with pytest.raises(aiohttp.ClientConnectionError):
            await call(http, sandbox, UPDATE, {"token": TOKEN, **DELIVERED})
        await sandbox.start()
        assert sandbox.base_url == url
        assert (await call(http, sandbox, GET_STATUS, {"token": TOKEN, "id": 1}))[2]["error"] == 0
        assert sandbox.line_status("order_1", "line_1_1") == "delivered"


async def test_starting_twice_is_an_error() -> None:
    async with Sandbox() as sandbox:
        with pytest.raises(RuntimeError, match="already running"):
            await sandbox.start()


async def test_a_taken_port_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = Sandbox(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await sandbox.start()
        await sandbox.stop()


def test_the_address_before_the_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="start it first"):
        Sandbox().base_url  # noqa: B018 - the property is what is tested


@pytest.mark.parametrize("settings", [{"error_style": "http500"}, {"answer_format": "yaml"}, {"token": ""}])
def test_a_setting_that_cannot_work_is_named(settings: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Sandbox(**settings)
    assert caught.value.field in settings
