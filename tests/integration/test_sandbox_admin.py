"""The sandbox's admin API over loopback, called with a bare HTTP client."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import PRESETS, Fault, Faults, Sandbox, ThreadedSandbox
from altcraft_async.sandbox.admin import ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

TOKEN = "canary-7f3a91"
FOREIGN = "stranger-55aa77"
UPDATE = "/api/v1.1/market/orders/update_order_line_status"
IMPORT = "/api/v1.1/market/products/import"


class Admin:
    """Calls the admin API and the Market of one sandbox."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.http = http

    async def __call__(
        self, method: str, path: str, body: object = None, status: int = 200, headers: Mapping[str, str] = {}
    ) -> Any:
        url = f"{self.sandbox.base_url}/_sandbox{path}"
        async with self.http.request(method, url, json=body, headers=headers) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if response.content_type == "application/json" else text

    async def update(
        self,
        order: str = "order_1",
        line: str = "line_1_1",
        status: str = "delivered",
        *,
        token: str = TOKEN,
        request_id: str | None = None,
        header: bool = False,
    ) -> dict[str, Any]:
        fields = {"order_external_id": order, "order_line_external_id": line, "status_external_id": status}
        headers = {"Request-ID": request_id} if request_id else {}
        if header:
            headers["Authorization"] = f"Bearer {token}"
        else:
            fields["token"] = token
        async with self.http.post(self.sandbox.base_url + UPDATE, json=fields, headers=headers) as response:
            told: dict[str, Any] = json.loads(await response.read())
            return told


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def admin(start_sandbox, http) -> Admin:
    return Admin(await start_sandbox(token=TOKEN, orders=3, lines=2), http)


async def test_health_and_state(admin):
    assert (await admin("GET", "/health"))["status"] == "ok"
    await admin.update()
    state = await admin("GET", "/state")
    assert (state["orders"], state["lines"], state["requests"], state["results"]["applied"]) == (3, 6, 1, 1)


async def test_the_admin_api_is_no_part_of_the_platform(admin):
    admin.sandbox.faults = Faults(error_500=1.0)
    await admin("GET", "/state")
    assert admin.sandbox.ledger.requests == 0
    assert (await admin("GET", "/requests"))["requests"] == []


async def test_orders_are_seeded_made_found_and_paged(admin):
    assert (await admin("POST", "/seed", {"orders": 5, "lines_per_order": 1}))["orders"] == 5
    made = await admin("PUT", "/orders/a%2Fb", {"lines": {"x": "delivering"}, "status": "paid", "endpoint": "shop"})
    assert (made["external_id"], made["status"], made["endpoint"]) == ("a/b", "paid", "shop")
    assert made["lines"] == [{"external_id": "x", "status": "delivering"}]
    assert (await admin("GET", "/orders/a%2Fb"))["external_id"] == "a/b"
    first = await admin("GET", "/orders?limit=4")
    rest = await admin("GET", f"/orders?limit=4&after={first['next']}")
    assert [one["external_id"] for one in first["orders"] + rest["orders"]] == [
        "order_1", "order_2", "order_3", "order_4", "order_5", "a/b",
    ]  # fmt: skip
    assert rest["next"] is None
    assert (await admin("GET", "/orders?search=LINE_2"))["found"] == 1


async def test_a_line_tells_its_history(admin):
    admin.sandbox.faults = Faults(script=[Fault("reset_before")])
    with pytest.raises(aiohttp.ClientError):
        await admin.update(request_id="a")
    await admin.update(request_id="a")
    await admin.update(request_id="a")
    await admin.update(status="sent", request_id="b")
    line = await admin("GET", "/orders/order_1/lines/line_1_1")
    assert line["status"] == "delivered"
    assert [one["fate"] for one in line["arrivals"]] == ["throttled", "applied", "replayed", "refused"]
    assert line["changes"] == [{"status": "delivered", "request_id": "a"}]
    assert [one["result"] for one in line["requests"]] == ["refused", "replayed", "applied", "failed"]


async def test_faults_are_read_replaced_and_changed(admin):
    told = await admin("PUT", "/faults", {"preset": "mixed"})
    assert told["preset"] == "mixed"
    assert admin.sandbox.faults == PRESETS["mixed"].faults
    await admin("PATCH", "/faults", {"latency": 0.25})
    assert (admin.sandbox.faults.latency, admin.sandbox.faults.slots) == (0.25, 24)
    await admin("PUT", "/faults", {"script": ["reset_after", {"kind": "error", "status": 503}]})
    assert admin.sandbox.faults.script == [Fault("reset_after"), Fault("error", status=503)]
    assert (await admin("GET", "/faults"))["faults"]["latency"] == 0.0


async def test_wrong_faults_are_refused_and_change_nothing(admin):
    told = await admin("PUT", "/faults", {"latency": "much"}, status=400)
    assert told == {"error": "latency must be a number", "field": "latency"}
    assert admin.sandbox.faults == Faults()


async def test_requests_are_kept_with_body_and_answer(admin):
    await admin.update(request_id="a")
    await admin.update(status="sent")
    newest, first = (await admin("GET", "/requests"))["requests"]
    assert (newest["result"], newest["code"], newest["status"]) == ("refused", 400, "sent")
    assert "is neither a system status" in newest["reason"]
    whole = await admin("GET", f"/requests/{first['number']}")
    assert json.loads(whole["body"])["order_external_id"] == "order_1"
    assert json.loads(whole["answer"])["error"] == 0
    assert (whole["request_id"], whole["headers"]["Request-ID"], whole["http_status"]) == ("a", "a", 200)


async def test_requests_are_filtered_and_paged(admin):
    for number in range(6):
        await admin.update(status="sent" if number % 2 else "delivered", request_id=f"id-{number}")
    assert len((await admin("GET", "/requests?result=refused"))["requests"]) == 3
    assert [one["request_id"] for one in (await admin("GET", "/requests?search=ID-4"))["requests"]] == ["id-4"]
    page = await admin("GET", "/requests?limit=4")
    rest = await admin("GET", f"/requests?limit=4&before={page['next']}")
    assert [one["request_id"] for one in page["requests"] + rest["requests"]] == [f"id-{n}" for n in (5, 4, 3, 2, 1, 0)]
    await admin("GET", "/requests?result=bad", status=400)


async def test_only_the_newest_requests_are_kept(start_sandbox, http):
    admin = Admin(await start_sandbox(token=TOKEN, keep_requests=2), http)
    for _ in range(5):
        await admin.update()
    assert [one["number"] for one in (await admin("GET", "/requests"))["requests"]] == [5, 4]
    await admin("GET", "/requests/3", status=404)


async def test_refusals_name_the_lines_and_the_reasons(admin):
    await admin.update(status="sent")
    await admin.update(status="sent")
    await admin.update(order="order_9")
    await admin.update("order_2", "line_2_1", "sent")
    await admin.update("order_2", "line_2_1", "delivered")
    rows = (await admin("GET", "/refusals"))["refusals"]
    assert [(one["order"], one["times"], one["applied_later"]) for one in rows] == [
        ("order_2", 1, True), ("order_9", 1, False), ("order_1", 2, False),
    ]  # fmt: skip
    assert "there is no order 'order_9'" in rows[1]["reason"]


async def test_a_fault_is_no_refusal(admin):
    admin.sandbox.faults = Faults(script=[Fault("error", status=500), Fault("error", status=429), Fault("error_after")])
    for _ in range(3):
        await admin.update()
    assert (await admin("GET", "/refusals"))["found"] == 0
    results = [one["result"] for one in (await admin("GET", "/requests"))["requests"]]
    assert results == ["applied", "throttled", "failed"]


async def test_the_ledger_says_what_was_made_twice(start_sandbox, http):
    admin = Admin(await start_sandbox(token=TOKEN, dedup_request_id=False), http)
    assert (await admin("GET", "/ledger"))["ok"]
    await admin.update(request_id="a")
    await admin.update(request_id="a")
    told = await admin("GET", "/ledger")
    assert not told["ok"]
    assert told["findings"][0] == {"ok": False, "text": "Changes made twice under one Request-ID: 1."}
    assert [one["request_id"] for one in told["made_twice"]] == ["a"]


async def test_the_ledger_is_checked_against_what_was_meant(admin):
    await admin.update()
    good = await admin("POST", "/ledger/check", {"expected": [["order_1", "line_1_1", "delivered"]]})
    assert good["ok"]
    bad = await admin("POST", "/ledger/check", {"expected": [["order_2", "line_2_1", "delivered"]]})
    assert (bad["ok"], bad["counts"]["lost"], bad["counts"]["unexpected"]) == (False, 1, 1)
    assert bad["lost"][0]["order_external_id"] == "order_2"


async def test_imports_are_checked_too(admin):
    row = {"name": "Cup", "external_id": "cup"}
    body = {"token": TOKEN, "data": [row]}
    async with admin.http.post(admin.sandbox.base_url + IMPORT, json=body) as response:
        assert (await response.json())["error"] == 0
    assert (await admin("POST", "/ledger/check-imports", {"kind": "products", "expected": [row]}))["ok"]
    await admin("POST", "/ledger/check-imports", {"kind": "cups", "expected": [row]}, status=400)


async def test_a_reset_forgets_everything_and_keeps_the_custom_statuses(start_sandbox, http):
    admin = Admin(await start_sandbox(token=TOKEN, custom_statuses=["packed"]), http)
    await admin.update(request_id="a")
    admin.sandbox.faults = PRESETS["harsh"].faults
    await admin("POST", "/reset")
    state = await admin("GET", "/state")
    assert (state["orders"], state["requests"], state["answers_kept"], state["faults"]) == (0, 0, 0, "none")
    assert state["custom_statuses"] == ["packed"]
    assert (await admin("GET", "/requests"))["requests"] == []


async def test_a_snapshot_comes_back_with_answers_and_ledger(admin):
    await admin.update(request_id="a")
    row = {"name": "Cup", "external_id": "cup"}
    admin.sandbox.import_rows("products", [row])
    snapshot = await admin("GET", "/snapshot")
    await admin.update(status="canceled", request_id="b")
    await admin("POST", "/reset")
    assert (await admin("POST", "/restore", snapshot))["orders"] == 3
    assert await admin("GET", "/snapshot") == snapshot
    assert admin.sandbox.line_status("order_1", "line_1_1") == "delivered"
    assert admin.sandbox.has("products", "cup")
    await admin.update(request_id="a")  # is answered from memory
    assert admin.sandbox.ledger.check([("order_1", "line_1_1", "delivered")]).ok


async def test_numbers_of_removed_orders_are_not_given_again_after_a_restore(admin):
    sandbox = admin.sandbox
    url = f"{sandbox.base_url}/api/v1.1/market/orders/delete"
    async with admin.http.post(url, json={"token": TOKEN, "external_id": "order_3"}) as response:
        assert (await response.json())["error"] == 0
    sandbox.restore(sandbox.snapshot())
    sandbox.add_order("new", ["l"])
    assert (await admin("GET", "/orders/new"))["number"] == 4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda one: one.pop("market"), "market"),
        (lambda one: one.update(format="altcraft-sandbox-snapshot/9"), "format"),
        (lambda one: one["market"].update(orders=[["1"]]), "market.orders[0]"),
        (lambda one: one["market"]["orders"][0].__setitem__(4, {"l": 1}), "market.orders[0][4].l"),
        (lambda one: one["ledger"].update(overlaps=True), "ledger.overlaps"),
        (lambda one: one["answers"].append([[1]]), "answers[1][0]"),
    ],
)
async def test_what_is_no_snapshot_is_refused_and_changes_nothing(admin, change, field):
    await admin.update(request_id="a")
    before = await admin("GET", "/snapshot")
    wrong = json.loads(json.dumps(before))
    change(wrong)
    assert (await admin("POST", "/restore", wrong, status=400))["field"] == field
    assert await admin("GET", "/snapshot") == before


async def test_a_restore_outlives_a_restart(tmp_path, start_sandbox):
    path = tmp_path / "state.jsonl"
    sandbox = await start_sandbox(orders=2, state_file=path)
    snapshot = sandbox.snapshot()
    sandbox.add_order("late", ["l"])
    sandbox.restore(snapshot)
    sandbox.add_order("later", ["l"])
    await sandbox.stop()
    again = await start_sandbox(orders=0, state_file=path)
    assert [again.has("orders", name) for name in ("order_2", "late", "later")] == [True, False, True]


async def test_a_restore_before_the_state_file_is_read_is_refused(tmp_path):
    sandbox = Sandbox(state_file=tmp_path / "state.jsonl")
    with pytest.raises(RuntimeError, match="start it first"):
        sandbox.reset()


def test_the_threaded_sandbox_has_them_too():
    with ThreadedSandbox() as sandbox:
        sandbox.seed_orders(1)
        snapshot = sandbox.snapshot()
        sandbox.reset()
        assert not sandbox.has("orders", "order_1")
        sandbox.restore(snapshot)
        assert sandbox.has("orders", "order_1")
        assert (sandbox.requests(), sandbox.refusals()) == ([], [])


# -- tokens -----------------------------------------------------------------------------------------


async def test_no_answer_of_the_admin_api_has_a_token(admin):
    for header in (False, True):
        await admin.update(header=header, request_id=f"id-{header}")
        await admin.update(token=FOREIGN, header=header)
    await admin.update(order=TOKEN)  # by a slip in the wrong field
    await admin.update(status=TOKEN)
    url = admin.sandbox.base_url
    async with admin.http.post(f"{url}/api/{TOKEN}?token={TOKEN}", data=f'{{"token": "{TOKEN}'):
        pass
    async with admin.http.post(
        url + UPDATE, data=f"<xml><token>{FOREIGN}</token>", headers={"Content-Type": "text/xml"}
    ):
        pass
    paths = [one.path for one in ROUTES if one.method == "GET" and "{" not in one.path and one.path != "/events"]
    paths += [f"/requests/{number}" for number in range(1, admin.sandbox.traffic.last + 1)]
    paths.append("/orders/order_1/lines/line_1_1")
    texts = [json.dumps(await admin("GET", path)) for path in paths]
    texts.append((await _events(admin, after=0)).decode())
    for text in texts:
        assert TOKEN not in text
        assert FOREIGN not in text
    assert len(texts) >= 20


# -- events -----------------------------------------------------------------------------------------


async def _events(admin: Admin, after: int) -> bytes:
    """Return the first event."""
    async with admin.http.get(f"{admin.sandbox.base_url}/_sandbox/events?after={after}") as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        return await response.content.readuntil(b"\n\n")


async def test_events_come_as_requests_do(admin):
    url = f"{admin.sandbox.base_url}/_sandbox/events"
    async with asyncio.timeout(20), admin.http.get(url) as response:
        first = await response.content.readuntil(b"\n\n")
        assert b'"requests":[]' in first
        await admin.update(status="sent")
        lines = (await response.content.readuntil(b"\n\n")).decode().splitlines()
    assert lines[:2] == ["id: 1", "event: news"]
    news = json.loads(lines[2].removeprefix("data: "))
    assert [one["result"] for one in news["requests"]] == ["refused"]
    assert news["state"]["refused"] == 1


async def test_a_browser_that_comes_back_gets_what_it_missed(admin):
    for _ in range(3):
        await admin.update()
    url = f"{admin.sandbox.base_url}/_sandbox/events"
    async with admin.http.get(url, headers={"Last-Event-ID": "1"}) as response:
        news = json.loads((await response.content.readuntil(b"\n\n")).decode().splitlines()[2].removeprefix("data: "))
    assert [one["number"] for one in news["requests"]] == [2, 3]


async def test_a_stop_ends_the_streams(admin):
    async with asyncio.timeout(10), admin.http.get(f"{admin.sandbox.base_url}/_sandbox/events") as response:
        await response.content.readuntil(b"\n\n")
        await admin.sandbox.stop()
        with pytest.raises(aiohttp.ClientError):
            await response.content.readuntil(b"\n\n")
        assert not [task for task in asyncio.all_tasks() if "handle" in repr(task.get_coro())]


async def test_streams_are_bounded(admin):
    url = f"{admin.sandbox.base_url}/_sandbox/events"
    streams = [await admin.http.get(url) for _ in range(32)]
    await admin("GET", "/events", status=503)
    for stream in streams:
        stream.close()


# -- who is let in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "10.0.0.1"},
    ],
)
async def test_foreign_pages_are_refused(admin, headers):
    told = await admin("POST", "/reset", headers=headers, status=403)
    assert "error" in told
    assert admin.sandbox.order_count == 3


async def test_a_form_of_another_site_cannot_write(admin):
    url = f"{admin.sandbox.base_url}/_sandbox/faults"
    async with admin.http.put(url, data='{"preset": "down"}', headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415
    assert admin.sandbox.faults == Faults()


async def test_another_machine_is_refused(http):
    address = _own_address()
    async with Sandbox(TOKEN, host="0.0.0.0") as sandbox:
        port = sandbox.base_url.rpartition(":")[2]
        async with http.get(f"http://{address}:{port}/_sandbox/state") as response:
            assert response.status == 403


def _own_address() -> str:
    """Return an address of this machine that is not loopback; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has only loopback")
        address: str = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has only loopback")
    return address


async def test_switched_off_it_is_not_there(start_sandbox, http):
    sandbox = await start_sandbox(admin="off")
    async with http.get(f"{sandbox.base_url}/_sandbox/state") as response:
        assert response.status == 405
    async with http.get(f"{sandbox.base_url}/") as response:
        assert response.status == 405


async def test_an_unknown_setting_of_it_is_refused():
    with pytest.raises(ConfigurationError, match="admin must be one of"):
        Sandbox(admin="all")  # type: ignore[arg-type]


# -- its own description ----------------------------------------------------------------------------


async def test_every_route_is_in_both_descriptions(admin):
    page = await admin("GET", "/")
    document = await admin("GET", "/openapi.json")
    for route in ROUTES:
        assert f"{route.method} /_sandbox{route.path}" in page
        operation = document["paths"][f"/_sandbox{route.path}"][route.method.lower()]
        assert operation["summary"] == route.summary
        assert {one["name"] for one in operation["parameters"]} == {
            one.name for one in route.arguments if one.place != "body"
        }
    assert document["openapi"] == "3.1.0"
    assert len({one["operationId"] for path in document["paths"].values() for one in path.values()}) == len(ROUTES)
    faults = document["components"]["schemas"]["Faults"]["properties"]
    assert faults["slots"]["type"] == ["integer", "null"]


async def test_every_example_of_the_description_works(admin):
    await admin.update()
    for route in ROUTES:
        if route.answers in {"text/event-stream", "*/*"}:
            continue
        path = route.path.replace("{order}", "order_1").replace("{line}", "line_1_1").replace("{number}", "1")
        body = route.example
        if path == "/restore":
            body = await admin("GET", "/snapshot")
        if path == "/reset":
            continue
        await admin(route.method, path, body)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("DELETE", "/state", None, 405),
        ("GET", "/seed", None, 405),
        ("POST", "/seed", {}, 400),
        ("POST", "/seed", {"orders": "1"}, 400),
        ("POST", "/seed", {"orders": True}, 400),
        ("POST", "/seed", {"orders": 1, "rows": 1}, 400),
        ("POST", "/seed", {"orders": 10**9}, 400),
        ("POST", "/seed", [], 400),
        ("GET", "/orders?limit=x", None, 400),
        ("GET", "/orders/none", None, 404),
        ("PUT", "/orders/o", {"lines": {"l": "no status"}}, 400),
        ("PUT", "/orders/o", {"lines": {"l": 1}}, 400),
        ("PUT", "/orders/o", {"lines": [1]}, 400),
        ("PUT", "/orders/o", {"lines": {"": "new"}}, 400),
        ("GET", "/orders/order_1/lines/none", None, 404),
        ("GET", "/requests/1", None, 404),
        ("GET", "/requests/x", None, 400),
        ("GET", "/page/secret", None, 404),
        ("GET", "/page/..%2Fserver.py", None, 404),
        ("POST", "/ledger/check", {"expected": [["a", "b"]]}, 400),
        ("POST", "/ledger/check", {"expected": [1]}, 400),
        ("POST", "/restore", {}, 400),
    ],
)
async def test_what_is_wrong_is_refused_with_a_sentence(admin, method, path, body, status):
    told = await admin(method, path, body, status=status)
    assert told["error"]


async def test_broken_json_is_refused(admin):
    url = f"{admin.sandbox.base_url}/_sandbox/faults"
    for text in ("{", '{"latency": NaN}', "[" * 100_000):
        async with admin.http.put(url, data=text, headers={"Content-Type": "application/json"}) as response:
            assert response.status == 400


# -- the page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/_sandbox/", "/_sandbox/page/page.js", "/_sandbox/page/page.css", "/_sandbox/state"]
)
async def test_every_answer_has_the_strict_policy(admin, path):
    async with admin.http.get(admin.sandbox.base_url + path) as response:
        assert response.status == 200
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_needs_nothing_from_elsewhere(admin):
    for name in ("index.html", "page.css", "page.js"):
        text = await admin("GET", f"/page/{name}")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
