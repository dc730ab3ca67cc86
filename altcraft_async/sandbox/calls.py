"""How the sandbox serves the Market's requests: one after the other through faults, capacity and repeats.

What it does with a request, in this order: read the body, refuse what is no
well-formed and permitted call, write the arrival in the ledger, ask the rate
limit, ask the plan for a fault, wait for a slot, answer a repeat from memory or
process the call (`Faults.latency` long, the change made at its end), answer.
Each request goes to the next of the nodes in turn, and a node remembers only
the answers that it gave itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import time
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import unquote

import attrs
from aiohttp import web

from altcraft_async.sandbox.account import Refused, duplicate_key
from altcraft_async.sandbox.breaking import reset, send_broken
from altcraft_async.sandbox.faults import Fault, FaultKind, FaultPlan, Faults
from altcraft_async.sandbox.ledger import Arrival, ImportArrival
from altcraft_async.sandbox.state import Answer
from altcraft_async.sandbox.traffic import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.sandbox.account import Account, Call
    from altcraft_async.sandbox.traffic import Traffic

__all__ = ["CallRules", "Calls", "Repeats"]

_HTML = (
    b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
)


class Repeats(enum.StrEnum):
    """What a node does with a repeat that comes while the first request is still in process."""

    HOLD = "hold"
    """It waits, and gets the first one's answer."""
    REFUSE = "refuse"
    """It is refused with the code 409."""
    MAKE = "make"
    """It is processed as well, and its change made twice."""


@attrs.frozen(kw_only=True)
class CallRules:
    """How requests are served; see `altcraft_async.sandbox.Sandbox` for each."""

    seed: int
    nodes: int
    repeats: Repeats
    cache_failures: bool
    legacy_headers: bool
    max_body_bytes: int
    clock: Callable[[], float]


@attrs.define(slots=True)
class _Request:
    """One request on its way: what is known of it so far."""

    http: web.BaseRequest
    node: int
    at: float
    started: float
    body: bytes = b""
    call: Call | None = None


class Calls:
    """Serves the requests about the Market of one account."""

    __slots__ = ("_account", "_faults", "_next_node", "_pending", "_plan", "_rules", "_slots", "_traffic")

    def __init__(self, account: Account, rules: CallRules, faults: Faults, traffic: Traffic) -> None:
        self._account = account
        self._rules = rules
        self._traffic = traffic
        self._pending: dict[tuple[int, str], asyncio.Future[None]] = {}
        self._next_node = 0
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """How requests fail. Assigning starts a new plan from the seed, for the requests to come."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._plan = FaultPlan(faults, self._rules.seed)
        self._slots = None if faults.slots is None else asyncio.Semaphore(faults.slots)

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        request = _Request(http, self._next_node, self._rules.clock(), time.monotonic())
        self._next_node = (self._next_node + 1) % self._rules.nodes
        try:
            call = request.call = await self._read(request)
        except Refused as refused:
            return self._refuse(request, refused.answer)
        except ConnectionError:  # the client went away in the middle of its request
            self._count("cut by client")
            self._write(request, None, Result.CUT, None)
            raise
        arrival: Arrival | ImportArrival | None = None
        ledger = self._account.ledger
        if call.line is not None:
            arrival = ledger.arrived(call.line, call.fields["status_external_id"], call.request_id)
        elif call.rows:
            arrival = ledger.import_arrived(call.rows, call.request_id)
        fate = "dropped"
        try:
            answer, replayed, fault = await self._serve(call)
            fate = "replayed" if replayed else _fate(answer, fault)
        finally:
            self._settle(call, arrival, fate)
        if fault is not None and fault.kind is FaultKind.ERROR_AFTER:
            made, answer, replayed = answer, self._failure(call, fault), False
        else:
            made = answer
        self._write(request, answer, _result(made, fault, replayed=replayed), fault)
        return await self._send(request, call, answer, fault, replayed=replayed)

    async def _read(self, request: _Request) -> Call:
        account, http = self._account, request.http
        if http.method != "POST":
            raise Refused(account.envelope(405, "methods are called with POST", status=405))
        try:
            request.body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            text = f"the body is longer than {self._rules.max_body_bytes} bytes; send fewer objects in one call"
            raise Refused(account.refusal(413, text, xml=False)) from None
        return account.read(_path(http), http.headers, request.body, node=request.node)

    def _refuse(self, request: _Request, answer: Answer) -> web.Response:
        self._count(answer.kind)
        self._write(request, answer, Result.REFUSED, None)
        response = web.Response(body=answer.body, status=answer.status, headers={"Content-Type": answer.content_type})
        if answer.status == web.HTTPMethodNotAllowed.status_code:
            response.headers["Allow"] = "POST"
        if not request.http.content.is_eof():
            response.force_close()
        return response

    def _settle(self, call: Call, arrival: Arrival | ImportArrival | None, fate: str) -> None:
        if isinstance(arrival, ImportArrival):
            self._account.ledger.import_settled(arrival, fate)
        elif call.line is not None and arrival is not None:
            self._account.ledger.settled(call.line, arrival, fate)

    def _count(self, kind: str) -> None:
        self._account.ledger.answered(kind)

    def _write(self, request: _Request, answer: Answer | None, result: Result, fault: Fault | None) -> None:
        """Write a request and its answer into the traffic."""
        call = request.call
        order, line = (call.line if call is not None else None) or ("", "")
        facts: dict[str, object] = {
            "at": request.at,
            "seconds": round(time.monotonic() - request.started, 6),
            "node": request.node,
            "method": _path(request.http) if call is None else call.method,
            "request_id": None if call is None else call.request_id,
            "order": order,
            "line": line,
            "status": call.fields["status_external_id"] if call is not None and order else "",
            "rows": 0 if call is None else len(call.rows),
            "result": result,
            "fault": "" if fault is None else _named(fault),
            "http_status": 0 if answer is None else answer.status,
            "code": 0 if answer is None else answer.code,
            "reason": "" if answer is None else answer.reason,
        }
        self._traffic.add(request.http.headers, request.body, b"" if answer is None else answer.body, facts)

    async def _serve(self, call: Call) -> tuple[Answer, bool, Fault | None]:
        """Return the answer to a call, whether it is a repeat, and the fault that befalls it."""
        plan, slots = self._plan, self._slots
        now = time.monotonic()
        fault = plan.next(call.method, call.line, now)
        concerned = not plan.faults.only or call.method in plan.faults.only
        if concerned and not plan.admit(now):
            fault = plan.throttled()
        if fault is not None and fault.delay:
            await asyncio.sleep(fault.delay)
        if fault is None or fault.kind.applies:
            if slots is None or not concerned:
                return *await self._process(call, plan, concerned=concerned), fault
            if plan.faults.over_slots == "queue" or not slots.locked():
                async with slots:
                    return *await self._process(call, plan, concerned=True), fault
            fault = plan.throttled()
        answer = self._failure(call, fault)
        kept = self._rules.cache_failures and fault.kind is not FaultKind.RESET_BEFORE
        if kept and (call.node, call.key) not in self._pending:
            self._account.keep_first(call, answer, self._rules.clock())
        return answer, False, fault

    async def _process(self, call: Call, plan: FaultPlan, *, concerned: bool) -> tuple[Answer, bool]:
        """Return the answer kept for a repeat, else perform the call; of equal calls as the rules say."""
        account, clock, pending = self._account, self._rules.clock, self._pending
        place = None if call.key is None else (call.node, call.key)
        while place is not None:
            answer = account.repeat(call, clock())
            if answer is not None:
                return answer, True
            if place not in pending or self._rules.repeats is Repeats.MAKE:
                break
            if self._rules.repeats is Repeats.REFUSE:
                return account.refusal(409, _IN_PROCESS, xml=call.xml), False
            await asyncio.wait((pending[place],))
        latency = plan.latency() if concerned else 0.0
        if not latency:
            return account.perform(call, clock()), False
        done: asyncio.Future[None] | None = None
        if place is not None and place not in pending:
            done = pending[place] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.sleep(latency)
            return account.perform(call, clock()), False
        finally:
            if place is not None and done is not None:
                del pending[place]
                done.set_result(None)

    def _failure(self, call: Call, fault: Fault) -> Answer:
        if fault.kind is FaultKind.HTML:
            return Answer(fault.status, "text/html; charset=utf-8", _HTML, f"html {fault.status}")
        text = {429: "Too many requests", 503: "Service unavailable"}.get(fault.status, "Internal error")
        kind = f"error {fault.status}"
        answer = self._account.envelope(fault.status, text, status=fault.status, xml=call.xml, kind=kind)
        if fault.retry_after is None:
            return answer
        if self._faults.retry_after_form == "date":
            after = formatdate(math.ceil(time.time() + fault.retry_after), usegmt=True)
        else:
            after = f"{fault.retry_after:g}"
        return attrs.evolve(answer, retry_after=after)

    async def _send(
        self, request: _Request, call: Call, answer: Answer, fault: Fault | None, *, replayed: bool
    ) -> web.StreamResponse:
        """Send an answer as its fault wants it; a broken connection is nothing to complain of."""
        http = request.http
        kind = None if fault is None else fault.kind
        if kind in _NAMED:
            self._count(str(kind))
        else:
            self._count("replayed" if replayed else answer.kind)
        headers = {"Content-Type": answer.content_type}
        if answer.retry_after is not None:
            headers["Retry-After"] = answer.retry_after
        if replayed and call.key is not None:
            legacy = "X-" if self._rules.legacy_headers else ""
            headers[legacy + "Duplicate-Request"] = "true"
            headers[legacy + "Duplicate-Key"] = duplicate_key(call.key)
        if fault is None or kind not in _NAMED:
            return web.Response(body=answer.body, status=answer.status, headers=headers)
        if kind is FaultKind.MALFORMED:
            return web.Response(body=answer.body[: len(answer.body) // 2], status=answer.status, headers=headers)
        if kind in _RESETS:
            reset(http.transport)
            return web.Response()
        response = web.StreamResponse(status=answer.status, headers=headers)
        with contextlib.suppress(ConnectionError):
            await send_broken(http, response, answer, fault, xml=call.xml)
        return response


_IN_PROCESS = "a request of this Request-ID is still in process; ask again"
_RESETS = frozenset({FaultKind.RESET_BEFORE, FaultKind.RESET_AFTER})
_NAMED = _RESETS | {FaultKind.TRUNCATED, FaultKind.MALFORMED, FaultKind.OVERSIZED, FaultKind.SLOW_BODY}
"""The faults that are the kind of the answer, whatever it says."""
_THROTTLED = frozenset({425, 429, 503})


def _path(http: web.BaseRequest) -> str:
    return unquote(http.rel_url.raw_path)


def _named(fault: Fault) -> str:
    """Name a fault for people."""
    if fault.kind in {FaultKind.ERROR, FaultKind.ERROR_AFTER, FaultKind.HTML}:
        return f"{fault.kind} {fault.status}"
    return str(fault.kind)


def _fate(answer: Answer, fault: Fault | None) -> str:
    if fault is not None and not fault.kind.applies:
        return "throttled"
    return "applied" if answer.kind in {"applied", "imported"} else "refused"


def _result(answer: Answer, fault: Fault | None, *, replayed: bool) -> Result:
    if fault is not None and not fault.kind.applies:
        return Result.THROTTLED if fault.kind is FaultKind.ERROR and fault.status in _THROTTLED else Result.FAILED
    if replayed:
        return Result.REPLAYED
    if answer.code:
        return Result.REFUSED
    return Result.APPLIED if answer.kind in {"applied", "imported"} else Result.ANSWERED
