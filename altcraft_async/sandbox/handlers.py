"""What each method of the sandbox does, one function a method: from the call to its answer.

API guide: the pages of Market → Orders, Products and SKU.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from altcraft_async.sandbox.ledger import mark_of
from altcraft_async.sandbox.reading import Refusal
from altcraft_async.sandbox.state import order_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from altcraft_async.sandbox.account import Account, Call
    from altcraft_async.sandbox.reading import Fields
    from altcraft_async.sandbox.state import Answer, Order

__all__ = ["HANDLERS", "put_order"]

_T = TypeVar("_T")


# -- orders -----------------------------------------------------------------------------------------


def _update(account: Account, call: Call) -> Answer:
    fields, market = call.fields, account.market
    order, line, status = (
        fields["order_external_id"],
        fields["order_line_external_id"],
        fields["status_external_id"],
    )
    text = market.refusal(order, line, status)
    if text is not None:
        return account.refusal(400, text, xml=call.xml)
    market.set_line(order, line, status)
    account.ledger.applied((order, line), status, call.request_id)
    account.note({"kind": "line", "change": [order, line, status], "request_id": call.request_id})
    data = {"order_external_id": order, "order_line_external_id": line, "status_external_id": status}
    return account.success({"data": data}, "Successful operation", kind="applied", xml=call.xml)


def _import_orders(account: Account, call: Call) -> Answer:
    market = account.market
    custom = [status["external_id"] for status in call.fields.get("custom_line_statuses", ())]

    def wrong(place: int, order: Fields) -> str | None:
        for number, line in enumerate(order["lines"]):
            status = line.get("status", "new")
            if status not in custom and not market.knows_status(status):
                return market.status_refusal(f"data[{place}].lines[{number}].status", status)
        return None

    def put(orders: Sequence[Fields]) -> None:
        market.custom_statuses.update(custom)
        for order in orders:
            put_order(account, order)
        if custom:
            account.note({"kind": "custom", "ids": custom})
        if account.keeps_file:
            for record in order_records(market, dict.fromkeys(order["external_id"] for order in orders)):
                account.note(record)

    return _import(account, call, "orders", wrong, put)


def put_order(account: Account, order: Fields) -> None:
    """Make an order of an import's row, or replace its fields and add to its lines."""
    market = account.market
    there = market.orders.get(order["external_id"])
    known = {} if there is None else there.lines
    lines = {
        line["external_id"]: line.get("status") or known.get(line["external_id"], "new") for line in order["lines"]
    }
    market.put(order["external_id"], endpoint=order["endpoint"], status=order["status"], lines=lines, row=order)


def _get_status(account: Account, call: Call) -> Answer:
    order = account.market.find(number=call.fields.get("id"), external_id=call.fields.get("external_id"))
    if order is None:
        return account.refusal(400, "id, external_id: there is no such order; import it first", xml=call.xml)
    result: object = {"endpoint": order.endpoint, "status": order.status}
    if account.readings.status_result == "array":
        result = [result]
    return account.success({"result": result}, "", kind="told", xml=call.xml)


def _list_orders(account: Account, call: Call) -> Answer:
    endpoint = call.fields.get("endpoint")
    orders = account.market.orders
    found = ((order.number, external_id) for external_id, order in orders.items() if endpoint in {None, order.endpoint})

    def show(external_id: str) -> Fields:
        return _listed(external_id, orders[external_id], with_status=account.readings.line_statuses)

    return _page(account, call, found, show)


def _listed(external_id: str, order: Order, *, with_status: bool) -> Fields:
    row: Fields = json.loads(order.row) if order.row else {"total_price": "0", "currency": "RUB", "lines": []}
    known: dict[str, Fields] = {line["external_id"]: line for line in row.pop("lines")}
    currency = row["currency"]
    lines = []
    for name, status in order.lines.items():
        line = {"currency": currency, **known.get(name, {}), "external_id": name}
        line.pop("status", None)
        lines.append({**line, "status": status} if with_status else line)
    for of_import in ("matching", "email", "phone"):
        row.pop(of_import, None)
    profile = {"profile_id": order.number, "xxh": f"{order.number:016x}"}
    times = {"create_time": "2022-01-02T15:04:05.141Z", "update_time": "2022-01-02T15:04:05.141Z"}
    shown = {"external_id": external_id, "endpoint": order.endpoint, "status": order.status, "lines": lines}
    listed = {"profile": profile, **times, **row, **shown}
    return {name: value for name, value in listed.items() if value not in ("", [], {})}


def _delete_order(account: Account, call: Call) -> Answer:
    external_id = account.market.name_of(number=call.fields.get("id"), external_id=call.fields.get("external_id"))
    if external_id is None:
        if account.readings.unknown_orders == "refused":
            return account.refusal(400, "id, external_id: there is no such order", xml=call.xml)
    else:
        account.market.remove(external_id)
        account.note({"kind": "gone", "of": "orders", "ids": [external_id]})
    return account.success({}, "", kind="deleted", xml=call.xml)


def _preorder(account: Account, call: Call) -> Answer:
    data = call.fields["data"]
    total = data.get("final_total_price", data["total_price"])
    payload = {"data": {"external_id": call.fields["external_id"], "final_total_price": total}}
    return account.success(payload, "", kind="calculated", xml=call.xml)


def _commit(account: Account, call: Call) -> Answer:
    fields = call.fields
    external_id, data = fields["external_id"], fields["data"]
    if external_id in account.market.orders:
        return account.refusal(400, "external_id: there is such an order already", xml=call.xml)
    row = {**data, "external_id": external_id}
    put_order(account, row)
    account.ledger.imported("orders", external_id, mark_of(row), call.request_id)
    for record in order_records(account.market, [external_id]):
        account.note(record)
    return account.success({"data": {"external_id": external_id}}, "", kind="committed", xml=call.xml)


# -- products and SKU -------------------------------------------------------------------------------


def _import_goods(kind: str) -> Callable[[Account, Call], Answer]:
    def handle(account: Account, call: Call) -> Answer:
        def put(rows: Sequence[Fields]) -> None:
            for row in rows:
                account.market.goods[kind].put(row)
            account.note({"kind": "goods", "of": kind, "rows": list(rows)})

        return _import(account, call, kind, lambda _place, _row: None, put)

    return handle


def _list_goods(kind: str) -> Callable[[Account, Call], Answer]:
    def handle(account: Account, call: Call) -> Answer:
        variants = account.market.variants() if kind == "products" else {}

        def show(row: Fields) -> Fields:
            inner = [_named(one) for one in variants.get(row["external_id"], ())]
            return {**_named(row), "sku": inner} if inner else _named(row)

        return _page(account, call, account.market.goods[kind].numbered(), show)

    return handle


def _named(row: Fields) -> Fields:
    return {"name": row["name"], "external_id": row["external_id"]}


def _delete_goods(kind: str) -> Callable[[Account, Call], Answer]:
    def handle(account: Account, call: Call) -> Answer:
        goods = account.market.goods[kind]
        ids, external_ids = call.fields.get("ids", ()), call.fields.get("external_ids", ())
        named = [(f"ids: {number}", goods.name_of(number)) for number in ids]
        named += [(f"external_ids: {name[:80]!r}", name if name in goods.rows else None) for name in external_ids]
        unknown = [said for said, name in named if name is None]
        if unknown and account.readings.unknown_goods == "refused":
            return account.refusal(400, f"{unknown[0]} is unknown", xml=call.xml)
        known = list(dict.fromkeys(name for _, name in named if name is not None))
        for name in known:
            goods.remove(name)
        account.note({"kind": "gone", "of": kind, "ids": known})
        return account.success({"deleted_count": len(known)}, "", kind="deleted", xml=call.xml)

    return handle


# -- what they share --------------------------------------------------------------------------------


def _import(
    account: Account,
    call: Call,
    kind: str,
    wrong: Callable[[int, Fields], str | None],
    put: Callable[[Sequence[Fields]], None],
) -> Answer:
    """Put the rows that are right, or none where one is wrong, as the account reads it."""
    rows: list[Any] = call.fields["data"]
    problems = [_problem(account, place, row, wrong) for place, row in enumerate(rows)]
    bad = [problem for problem in problems if problem is not None]
    if bad and not account.readings.partial_imports:
        return account.refusal(400, bad[0], xml=call.xml)
    good = [row for row, problem in zip(rows, problems, strict=True) if problem is None]
    put(good)
    marks = [(row["external_id"], mark_of(row)) for row in good]
    for external_id, mark in marks:
        account.ledger.imported(kind, external_id, mark, call.request_id)
    account.note({"kind": "imported", "of": kind, "marks": marks, "request_id": call.request_id})
    results = _results(account.readings.row_results, rows, problems)
    if bad and not results:
        text = f"{len(bad)} of {len(rows)} rows were not imported; the first: {bad[0]}"
        return account.refusal(400, text, xml=call.xml)
    return account.success(results, "Successful operation", kind="imported", xml=call.xml)


def _problem(account: Account, place: int, row: object, wrong: Callable[[int, Fields], str | None]) -> str | None:
    if isinstance(row, Refusal):
        return row.text
    fields: Fields = row  # type: ignore[assignment]
    currencies, currency = account.readings.currencies, fields.get("currency")
    if currencies is not None and currency is not None and currency not in currencies:
        return f"data[{place}].currency: {currency[:80]!r} is not configured"
    return wrong(place, fields)


def _results(style: str, rows: Sequence[Any], problems: Sequence[str | None]) -> dict[str, object]:
    results = [{"error": 0 if text is None else 400, "error_text": text or ""} for text in problems]
    if style == "result":
        return {"result": results}
    if style == "data":
        named = [
            {"external_id": row.row_id if isinstance(row, Refusal) else row["external_id"], **one}
            for row, one in zip(rows, results, strict=True)
        ]
        return {"data": named[::-1]}
    return {}


def _page(account: Account, call: Call, found: Iterable[tuple[int, _T]], show: Callable[[_T], Fields]) -> Answer:
    """Answer with the rows behind the cursor, by number."""
    from_id = call.fields.get("from_id", "")
    if from_id and not (from_id[:1] == "n" and from_id[1:].isdecimal()):
        return account.refusal(400, "from_id: is no cursor of this list", xml=call.xml)
    limit = call.fields.get("limit", account.readings.page_limit)
    if limit < 1:
        return account.refusal(400, "limit: must be above 0", xml=call.xml)
    behind = int(from_id[1:]) if from_id else 0
    rows = list(islice((one for one in found if one[0] > behind), min(limit, account.readings.page_limit)))
    payload: dict[str, object] = {"result": [show(row) for _, row in rows]}
    if account.readings.cursor:
        payload["next_from_id"] = f"n{rows[-1][0]}" if rows else ""
    return account.success(payload, "", kind="listed", xml=call.xml)


HANDLERS: Mapping[str, Callable[[Account, Call], Answer]] = {
    "market/orders/update_order_line_status": _update,
    "market/orders/import": _import_orders,
    "market/orders/list": _list_orders,
    "market/orders/get_status": _get_status,
    "market/orders/delete": _delete_order,
    "market/orders/preorder": _preorder,
    "market/orders/preorder_commit": _commit,
    "market/products/import": _import_goods("products"),
    "market/products/list": _list_goods("products"),
    "market/products/delete": _delete_goods("products"),
    "market/sku/import": _import_goods("sku"),
    "market/sku/list": _list_goods("sku"),
    "market/sku/delete": _delete_goods("sku"),
}
"""What each method does."""
