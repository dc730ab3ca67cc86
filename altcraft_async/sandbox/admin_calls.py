"""The calls of the admin API: what each does, and the table of them all.

A call is a function of the admin and of what was given, which returns what the answer's JSON says. It is no part of
the emulated platform: it meets no fault, and neither ledger nor traffic knows of it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.sandbox.admin_http import EVENTS, PAGE_FILES, PREFIX, Given, Problem, file_answer, text_answer
from altcraft_async.sandbox.forms import FAULT_FIELDS, faults_from, faults_to_dict, preset_of
from altcraft_async.sandbox.presets import PRESETS
from altcraft_async.sandbox.routes import Argument, Body, Route, described, openapi
from altcraft_async.sandbox.snapshot import SNAPSHOT
from altcraft_async.sandbox.traffic import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from altcraft_async.sandbox.admin import Admin
    from altcraft_async.sandbox.ledger import Change, Import, LedgerCheck
    from altcraft_async.sandbox.state import Order

__all__ = ["ROUTES"]

_SHOWN = 1000
"""The most rows of an answer: a page and a program can ask again."""
_MOST_SEEDED = 1_000_000


def _description(admin: Admin, _: Given) -> web.Response:
    return text_answer(described(ROUTES, PREFIX, admin.sandbox.base_url), "text/html")


def _openapi(_: Admin, __: Given) -> object:
    return openapi(ROUTES, PREFIX, "Seed the sandbox, break it, look into it and check it.")


def _page_file(_: Admin, given: Given) -> web.Response:
    name = given.text("name")
    if name not in PAGE_FILES:
        raise Problem(404, "there is no such file of the page")
    return file_answer(name)


def _health(admin: Admin, _: Given) -> object:
    return {"status": "ok", "uptime": round(time.monotonic() - admin.since, 3)}


def _state(admin: Admin, _: Given) -> object:
    market, account = admin.account.market, admin.account
    return {
        **admin.figures(),
        "base_url": admin.sandbox.base_url,
        "uptime": round(time.monotonic() - admin.since, 3),
        "lines": sum(len(order.lines) for order in market.orders.values()),
        "products": len(market.goods["products"].rows),
        "sku": len(market.goods["sku"].rows),
        "custom_statuses": sorted(market.custom_statuses),
        "nodes": len(account.answers),
        "answers_kept": sum(map(len, account.answers)),
        "answers": admin.sandbox.ledger.answers,
    }


def _orders(admin: Admin, given: Given) -> object:
    after, limit, wanted = given.number("after", 0), given.number("limit", 50), given.text("search").lower()
    limit = min(max(limit, 1), _SHOWN)
    rows: list[dict[str, object]] = []
    found = 0
    for name, order in admin.account.market.orders.items():
        if wanted and wanted not in name.lower() and not any(wanted in line.lower() for line in order.lines):
            continue
        found += 1
        if order.number > after and len(rows) < limit:
            rows.append(_order_row(name, order))
    return {"orders": rows, "found": found, "next": rows[-1]["number"] if len(rows) == limit else None}


def _order_row(name: str, order: Order) -> dict[str, object]:
    lines = [{"external_id": line, "status": status} for line, status in order.lines.items()]
    return {
        "external_id": name, "number": order.number, "endpoint": order.endpoint, "status": order.status, "lines": lines
    }  # fmt: skip


def _order(admin: Admin, given: Given) -> object:
    name = given.text("order")
    order = admin.account.market.orders.get(name)
    if order is None:
        raise Problem(404, f"there is no order {name[:80]!r}")
    return {**_order_row(name, order), "imported": order.row and json.loads(order.row)}


def _put_order(admin: Admin, given: Given) -> object:
    lines = given.fields["lines"]
    statuses = lines if isinstance(lines, dict) else dict.fromkeys(map(_as_text, lines), "new")
    for line, status in statuses.items():
        text = admin.account.market.knows_status(_as_text(status))
        if not line or not text:
            raise Problem(400, f"lines: {status!r} is no status of an order line, or a line has no id", "lines")
    own = {name: given.fields[name] for name in ("status", "endpoint") if name in given.fields}
    admin.sandbox.add_order(given.text("order"), statuses, **own)
    admin.sandbox.traffic.tell()
    return _order(admin, given)


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise Problem(400, f"lines: must have texts, not {str(value)[:80]}", "lines")
    return value


def _line(admin: Admin, given: Given) -> object:
    key = order, line = given.text("order"), given.text("line")
    known = admin.account.market.orders.get(order)
    status = None if known is None else known.lines.get(line)
    book = admin.sandbox.ledger
    arrivals = book.arrivals(*key)
    if status is None and not arrivals:
        raise Problem(404, f"there is no line {line[:80]!r} of order {order[:80]!r}, and nothing came for it")
    fields = ("number", "request_id", "status", "fate")
    requests = [one.whole() for one in admin.sandbox.traffic.newest() if (one.order, one.line) == key]
    return {
        "order": order,
        "line": line,
        "status": status,
        "arrivals": [{name: getattr(one, name) for name in fields} for one in arrivals],
        "changes": [{"status": one.status, "request_id": one.request_id} for one in book.changes(*key)],
        "requests": requests[:_SHOWN],
    }


def _seed(admin: Admin, given: Given) -> object:
    orders, lines = given.number("orders", 0), given.number("lines_per_order", 1)
    if not (0 <= orders <= _MOST_SEEDED and lines >= 0 and orders * lines <= _MOST_SEEDED):
        raise Problem(400, f"orders and lines must be from 0 to {_MOST_SEEDED:,} together", "orders")
    keys = admin.sandbox.seed_orders(orders, lines)
    admin.sandbox.traffic.tell()
    return {"lines": len(keys), "orders": len(admin.account.market)}


def _faults(admin: Admin, _: Given) -> object:
    faults = admin.sandbox.faults
    return {
        "faults": faults_to_dict(faults),
        "preset": preset_of(faults),
        "presets": [{"name": name, "text": one.text} for name, one in PRESETS.items()],
        "fields": [{"name": name, **attrs.asdict(field)} for name, field in FAULT_FIELDS.items()],
    }


def _put_faults(admin: Admin, given: Given) -> object:
    admin.sandbox.faults = faults_from(given.body)
    return _faults(admin, given)


def _patch_faults(admin: Admin, given: Given) -> object:
    admin.sandbox.faults = faults_from(given.body, admin.sandbox.faults)
    return _faults(admin, given)


def _requests(admin: Admin, given: Given) -> object:
    traffic, result, wanted = admin.sandbox.traffic, given.text("result"), given.text("search").lower()
    before = given.number("before", traffic.last + 1)
    limit = min(max(given.number("limit", 100), 1), _SHOWN)
    if result and result not in set(Result):
        raise Problem(400, f"result must be one of {', '.join(Result)}", "result")
    rows = []
    for one in traffic.newest():
        texts = (one.order, one.line, one.status, one.method, one.request_id or "", one.reason, one.fault)
        found = not wanted or any(wanted in text.lower() for text in texts)
        if found and one.number < before and (not result or one.result == result):
            rows.append(one.brief())
        if len(rows) == limit:
            break
    return {"requests": rows, "next": rows[-1]["number"] if len(rows) == limit else None}


def _request(admin: Admin, given: Given) -> object:
    seen = admin.sandbox.traffic.get(given.number("number", 0))
    if seen is None:
        raise Problem(404, "this request is not kept any more, or never was")
    return seen.whole()


def _refusals(admin: Admin, _: Given) -> object:
    rows = admin.sandbox.traffic.refusals()
    return {"refusals": [one.to_dict() for one in rows[:_SHOWN]], "found": len(rows)}


async def _events(admin: Admin, given: Given) -> web.StreamResponse:
    return await admin.stream(given)


def _ledger(admin: Admin, _: Given) -> object:
    book = admin.sandbox.ledger
    twice = book.made_twice()
    statistics = book.statistics()
    findings = [
        _finding(len(twice), "No change was made twice under one Request-ID.",
                 "Changes made twice under one Request-ID"),
        _finding(statistics.overlaps, "No line had two different updates in process at once.",
                 "Updates that met another one of their line in process, so that the last one is chance"),
        _finding(statistics.id_conflicts, "No Request-ID was used for two different changes.",
                 "Requests under the Request-ID of another change"),
    ]  # fmt: skip
    return {
        "ok": all(one["ok"] for one in findings),
        "findings": findings,
        "made_twice": [_change(one) for one in twice[:_SHOWN]],
        "statistics": attrs.asdict(statistics),
    }


def _finding(count: int, good: str, bad: str) -> dict[str, object]:
    return {"ok": not count, "text": f"{bad}: {count:,}." if count else good}


def _check(admin: Admin, given: Given) -> object:
    rows = given.fields["expected"]
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 3 or not all(isinstance(one, str) for one in row):  # noqa: PLR2004
            raise Problem(400, f"expected[{place}]: must be an array of order, line and status", "expected")
    return _checked(admin.sandbox.ledger.check(tuple(row) for row in rows))


def _check_imports(admin: Admin, given: Given) -> object:
    rows, kind = given.fields["expected"], given.text("kind")
    if kind not in {"orders", "products", "sku"}:
        raise Problem(400, "kind must be orders, products or sku", "kind")
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or "external_id" not in row:
            raise Problem(400, f"expected[{place}]: must be an object with external_id", "expected")
    return _checked(admin.sandbox.ledger.check_imports(kind, rows))


def _checked(check: LedgerCheck) -> dict[str, object]:
    kinds = ("lost", "duplicated", "reordered", "unexpected")
    found: Mapping[str, Sequence[Change | Import]] = {kind: getattr(check, kind) for kind in kinds}
    return {
        "ok": check.ok,
        "text": str(check),
        "lines": check.lines,
        "expected": check.expected,
        "applied": check.applied,
        "counts": {kind: len(rows) for kind, rows in found.items()},
        **{kind: [_change(one) for one in rows[:_SHOWN]] for kind, rows in found.items()},
    }


def _change(change: Change | Import) -> dict[str, object]:
    return change._asdict()


def _reset(admin: Admin, _: Given) -> object:
    admin.sandbox.reset()
    return {"orders": 0}


def _snapshot(admin: Admin, _: Given) -> object:
    return admin.sandbox.snapshot()


def _restore(admin: Admin, given: Given) -> object:
    admin.sandbox.restore(given.body)
    return {"orders": len(admin.account.market)}


# -- the table --------------------------------------------------------------------------------------

_ORDER = Argument("order", "path", "text", "the order's external id, percent-encoded")
_LINE = Argument("line", "path", "text", "the line's external id, percent-encoded")
_LIMIT = Argument("limit", "query", "whole", f"the most rows, at most {_SHOWN:,}")
_SEARCH = Argument("search", "query", "text", "a part of an id, or of what else is shown")
_FAULT_BODY = Body(
    f"fields of Faults, or preset: {', '.join(PRESETS)}, with fields on top", {"$ref": "#/components/schemas/Faults"}
)
_ALL_FAULTS = "the faults, whether they are a preset, all presets and fields"

ROUTES: Final[tuple[Route, ...]] = (
    Route(method="GET", path="/", summary="This description", answer="a page", call=_description, answers="text/html"),
    Route(method="GET", path="/openapi.json", summary="The same for programs", answer="an OpenAPI document",
          call=_openapi),
    Route(method="GET", path="/page/{name}", summary="A file of the page at /", answer="the file", call=_page_file,
          answers="*/*", arguments=[Argument("name", "path", "text", f"one of {', '.join(PAGE_FILES)}")]),
    Route(method="GET", path="/health", summary="Whether it is up", answer="status and uptime in seconds",
          call=_health),
    Route(method="GET", path="/state", summary="All counts at once",
          answer="orders, lines, requests by result, what is in flight, nodes", call=_state),
    Route(method="POST", path="/seed", summary="Make orders order_1, … with lines line_1_1, …",
          answer="how many lines and orders there are", call=_seed, example={"orders": 100, "lines_per_order": 4},
          arguments=[Argument("orders", "body", "whole", "how many orders", required=True),
                     Argument("lines_per_order", "body", "whole", "lines of each, 1 by default")]),
    Route(method="GET", path="/orders", summary="The orders with their lines",
          answer="orders, how many were found, and next for the argument after", call=_orders,
          arguments=[_SEARCH, _LIMIT, Argument("after", "query", "whole", "the number behind which to begin")]),
    Route(method="GET", path="/orders/{order}", summary="One order", answer="the order, as it was imported too",
          call=_order, arguments=[_ORDER]),
    Route(method="PUT", path="/orders/{order}", summary="Make one order; one that is there stays as it is",
          answer="the order", call=_put_order, example={"lines": {"first": "new", "second": "delivering"}},
          arguments=[_ORDER, Argument("lines", "body", "object", "line ids, each with its status", required=True),
                     Argument("status", "body", "text", "the order's own status"),
                     Argument("endpoint", "body", "text", "the touchpoint")]),
    Route(method="GET", path="/orders/{order}/lines/{line}", summary="One line and its history",
          answer="its status, every arrival with its fate, every change made, and the requests that are kept",
          call=_line, arguments=[_ORDER, _LINE]),
    Route(method="GET", path="/faults", summary="How it misbehaves", answer=_ALL_FAULTS, call=_faults),
    Route(method="PUT", path="/faults", summary="Misbehave so, and in no other way", answer=_ALL_FAULTS,
          call=_put_faults, body=_FAULT_BODY, example={"error_503": 0.1, "retry_after": 1}),
    Route(method="PATCH", path="/faults", summary="Change some of the faults", answer=_ALL_FAULTS, call=_patch_faults,
          body=_FAULT_BODY, example={"latency": 0.2}),
    Route(method="GET", path="/requests", summary="The newest requests, the last one first",
          answer="requests without bodies, and next for the argument before", call=_requests,
          arguments=[Argument("result", "query", "text", f"only these: {', '.join(Result)}"), _SEARCH, _LIMIT,
                     Argument("before", "query", "whole", "the number before which to begin")]),
    Route(method="GET", path="/requests/{number}", summary="One request with headers, body and answer, without tokens",
          answer="the request", call=_request, arguments=[Argument("number", "path", "whole", "its number")]),
    Route(method="GET", path="/refusals", summary="Which lines were refused and why, the last one first",
          answer="a row a line, with reason, how often, and whether it was applied later", call=_refusals),
    Route(method="GET", path="/events", summary="What happens, as it happens", answer="server-sent events",
          call=_events, answers=EVENTS,
          arguments=[Argument("after", "query", "whole", "the number of the last request that is known")]),
    Route(method="GET", path="/ledger", summary="What the ledger says by itself",
          answer="whether all is well, findings in words, and counts", call=_ledger),
    Route(method="POST", path="/ledger/check", summary="Compare the changes made with those that should have been",
          answer="what was lost, duplicated, reordered or unexpected", call=_check,
          example={"expected": [["order_1", "line_1_1", "delivered"]]},
          arguments=[Argument("expected", "body", "array", "arrays of order, line and status, in order of sending",
                              required=True)]),
    Route(method="POST", path="/ledger/check-imports", summary="Compare the rows imported with those that should be",
          answer="what was lost, duplicated, reordered or unexpected", call=_check_imports,
          example={"kind": "products", "expected": [{"name": "Cup", "external_id": "cup"}]},
          arguments=[Argument("kind", "body", "text", "orders, products or sku", required=True),
                     Argument("expected", "body", "array", "the rows, with the platform's names", required=True)]),
    Route(method="POST", path="/reset", summary="Forget everything, and misbehave as at the start",
          answer="that no orders are left", call=_reset),
    Route(method="GET", path="/snapshot", summary="Everything but faults and settings", answer="a snapshot",
          call=_snapshot),
    Route(method="POST", path="/restore", summary="Put a snapshot in place of everything",
          answer="how many orders there are", call=_restore,
          body=Body("what the snapshot answered", {"type": "object", "properties": {"format": {"const": SNAPSHOT}},
                                                   "required": ["format"]})),
)  # fmt: skip
"""Every call. The description, the OpenAPI document and the docs' table are made of it."""
