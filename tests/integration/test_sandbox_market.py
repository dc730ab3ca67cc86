"""The sandbox's Market: both readings of what the guide leaves open, its ledger of imports, its memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import Faults, Import, Ledger, Readings, Sandbox, mark_of


def order(external_id: str, status: str = "new", **changed: Any) -> dict[str, Any]:
    return {
        "external_id": external_id,
        "endpoint": "shop",
        "status": "new",
        "total_price": "1.00",
        "currency": "RUB",
        "email": "a@b.example",
        "lines": [{"external_id": "l", "status": status}],
        **changed,
    }


def product(external_id: str, **changed: Any) -> dict[str, Any]:
    return {"external_id": external_id, "name": "P", **changed}


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


async def call(
    http: aiohttp.ClientSession, sandbox: Sandbox, method: str, token: str | None = None, **fields: Any
) -> dict[str, Any]:
    request_id = fields.pop("request_id", None)
    headers = {} if request_id is None else {"Request-ID": request_id}
    body = {"token": token or sandbox.token, **fields}
    async with http.post(f"{sandbox.base_url}/api/v1.1/market/{method}", json=body, headers=headers) as response:
        return {**json.loads(await response.read()), "replayed": "Duplicate-Request" in response.headers}


BAD = order("bad", status="no such status")


async def test_an_import_with_a_wrong_row_imports_nothing(start_sandbox, http):
    sandbox = await start_sandbox()
    answer = await call(http, sandbox, "orders/import", data=[order("a"), BAD])
    assert answer["error"] == 400
    assert not sandbox.has("orders", "a")


async def test_a_partial_import_imports_the_others_and_says_how_many_it_did_not(start_sandbox, http):
    sandbox = await start_sandbox(readings=Readings(partial_imports=True))
    answer = await call(http, sandbox, "orders/import", data=[order("a"), BAD, {"external_id": "odd"}])
    assert answer["error"] == 400
    assert answer["error_text"].startswith("2 of 3 rows were not imported; the first: data[1].lines[0].status")
    assert sandbox.has("orders", "a")
    assert not sandbox.has("orders", "bad")


async def test_the_results_of_rows_come_in_order(start_sandbox, http):
    sandbox = await start_sandbox(readings=Readings(partial_imports=True, row_results="result"))
    answer = await call(http, sandbox, "orders/import", data=[order("a"), BAD])
    assert [row["error"] for row in answer["result"]] == [0, 400]
    assert answer["error"] == 0


async def test_the_results_of_rows_come_by_id_in_another_order(start_sandbox, http):
    sandbox = await start_sandbox(readings=Readings(partial_imports=True, row_results="data", currencies=["RUB"]))
    data = [product("a", currency="RUB"), product("b", currency="EUR"), {"external_id": "c"}]
    answer = await call(http, sandbox, "products/import", data=data)
    assert [(row["external_id"], row["error"]) for row in answer["data"]] == [("c", 400), ("b", 400), ("a", 0)]
    assert sandbox.has("products", "a")


async def test_a_second_import_replaces_fields_and_keeps_the_number(start_sandbox, http):
    sandbox = await start_sandbox(orders=0)
    await call(http, sandbox, "products/import", data=[product("a", price="1"), product("b")])
    await call(http, sandbox, "products/import", data=[product("a", name="Q")])
    listed = (await call(http, sandbox, "products/list"))["result"]
    assert listed == [{"name": "Q", "external_id": "a"}, {"name": "P", "external_id": "b"}]


async def test_the_ledger_knows_what_was_imported_under_which_id(start_sandbox, http):
    sandbox = await start_sandbox()
    first, second = order("a"), order("a", total_price="2.00")
    await call(http, sandbox, "orders/import", data=[first], request_id="one")
    await call(http, sandbox, "orders/import", data=[second], request_id="two")
    again = await call(http, sandbox, "orders/import", data=[second], request_id="two")
    assert again["replayed"]
    assert sandbox.ledger.imports("orders", "a") == (
        Import("orders", "a", mark_of(first), "one"),
        Import("orders", "a", mark_of(second), "two"),
    )
    assert sandbox.ledger.check_imports("orders", [first, second]).ok
    assert [arrival.fate for arrival in sandbox.ledger.import_arrivals] == ["applied", "applied", "replayed"]


def test_the_ledger_tells_lost_doubled_and_swapped_imports():
    ledger = Ledger()
    one, two, three = order("a"), order("a", total_price="2.00"), order("b")
    for row in (two, one, three, three):
        ledger.imported("orders", row["external_id"], mark_of(row), None)
    check = ledger.check_imports("orders", [one, two, three, order("c")])
    assert [found.external_id for found in check.lost] == ["c"]
    assert [found.external_id for found in check.duplicated] == ["b"]
    assert [found.external_id for found in check.reordered] == ["a"]


async def test_an_import_that_meets_another_of_its_order_or_a_line_of_it_is_an_overlap(start_sandbox, http):
    sandbox = await start_sandbox(faults=Faults(latency=0.05))
    line = {"order_external_id": "order_1", "order_line_external_id": "line_1_1", "status_external_id": "delivered"}
    await asyncio.gather(
        call(http, sandbox, "orders/import", data=[order("order_1"), order("b")]),
        call(http, sandbox, "orders/import", data=[order("c")]),
        call(http, sandbox, "orders/import", data=[order("b")]),
        call(http, sandbox, "orders/update_order_line_status", **line),
    )
    assert sandbox.ledger.statistics().overlaps == 2
    await call(http, sandbox, "orders/import", data=[order("order_1")])
    assert sandbox.ledger.statistics().overlaps == 2


async def test_an_id_is_scoped_to_its_token(start_sandbox, http):
    sandbox = await start_sandbox(tokens={"other": "market"})
    for token in (None, "other"):
        answer = await call(http, sandbox, "orders/import", token, data=[order("a")], request_id="one")
        assert not answer["replayed"]
    assert (await call(http, sandbox, "orders/import", "other", data=[order("a")], request_id="one"))["replayed"]


async def test_everything_is_there_again_after_a_restart(tmp_path, http):
    path = tmp_path / "state"
    async with Sandbox(state_file=path) as sandbox:
        await call(http, sandbox, "orders/import", data=[order("a", region="77"), order("b")], request_id="one")
        await call(http, sandbox, "orders/delete", external_id="b")
        await call(http, sandbox, "products/import", data=[product("p"), product("q")])
        await call(http, sandbox, "products/delete", external_ids=["q"])
        before = [await call(http, sandbox, f"{kind}/list") for kind in ("orders", "products")]
    async with Sandbox(state_file=path) as sandbox:
        assert [await call(http, sandbox, f"{kind}/list") for kind in ("orders", "products")] == before
        assert len(sandbox.ledger.imports("orders", "a")) == 1
        assert (await call(http, sandbox, "orders/import", data=[order("a")], request_id="one"))["replayed"]


async def test_the_lines_of_a_list_show_their_status_where_that_is_chosen(start_sandbox, http):
    sandbox = await start_sandbox(orders=1, readings=Readings(line_statuses=True))
    (listed,) = (await call(http, sandbox, "orders/list"))["result"]
    assert listed["lines"] == [{"external_id": "line_1_1", "currency": "RUB", "status": "new"}]


@pytest.mark.parametrize("cursor", ["x", "n", "nx"])
async def test_a_cursor_that_is_none_is_refused(start_sandbox, http, cursor):
    sandbox = await start_sandbox()
    assert (await call(http, sandbox, "orders/list", from_id=cursor))["error"] == 400


@pytest.mark.parametrize(
    ("method", "fields", "said"),
    [
        ("orders/delete", {}, "id, external_id: give exactly one"),
        ("products/delete", {"ids": []}, "ids, external_ids: give at least one id"),
        ("orders/list", {"limit": 0}, "limit: must be above 0"),
        ("sku/import", {"data": [product("s")]}, "data[0].product_external_id: required"),
        ("products/import", {"data": [product("p", description="x" * 1001)]}, "at most 1000 characters"),
        ("orders/preorder_commit", {"external_id": "o"}, "data: required"),
    ],
)
async def test_a_request_that_is_wrong_is_refused_in_words(start_sandbox, http, method, fields, said):
    sandbox = await start_sandbox()
    answer = await call(http, sandbox, method, **fields)
    assert answer["error"] == 400
    assert said in answer["error_text"]


def test_a_reading_that_there_is_not_is_named():
    with pytest.raises(ConfigurationError, match="row_results must be one of none, result, data, not 'rows'"):
        Readings(row_results="rows")
    with pytest.raises(ConfigurationError, match="tokens must be one of"):
        Sandbox(tokens={"a": "admin"})
