"""A platform and the network before it that exist only in a simulation: weather, faults, and a ledger of the truth.

`Network` is a client's transport on a `VirtualLoop`. What it does is drawn from the
seed, from the change that a request carries, and from how often that was sent: so what
happens to one change hangs on nothing else, and a seed can be made smaller by leaving
callers, faults or outages out.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING

import attrs
import xmltodict

from altcraft_async.errors import AttemptTimeoutError, ConnectError, ConnectionLostError
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.protocol.wire import WireRequest

__all__ = ["Fault", "Ledger", "Network", "Outage", "Weather"]

PAGE = b"<html><body>Sorry</body></html>"
MADE_ANYHOW = 0.3
"""The share of calls whose change is made although the answer says or shows otherwise."""
ANOMALY = 59.0
"""Seconds for which a client that was given another line's answer looks twice at refusals; it says a minute."""


class Weather(enum.Enum):
    """How an outage shows itself."""

    REFUSED = "no connection"
    RESET = "reset after the request"
    CLOSED = "closed after the request"
    SILENT = "no answer"
    PAGE_502 = "502 page"
    SAYS_503 = "503"
    SAYS_429 = "429"
    PAGE_200 = "200 page"
    ENVELOPE_500 = "500 envelope"
    PAGE_404 = "404 page"
    PAGE_403 = "403 page"


class Fault(enum.Enum):
    """What may happen to one request in fair weather."""

    LOST_BEFORE = "the request is lost"
    LOST_AFTER = "the change is made, and the answer lost"
    LATE = "the change is made, and the answer comes too late"
    ANOTHERS = "an answer that names another line"
    STALE_REFUSAL = "a refusal of another line, after such an answer"
    RESENT = "the request went out twice"
    ERROR_500 = "error 500"
    THROTTLED = "429"
    UNAVAILABLE = "503"


@attrs.frozen
class Outage:
    """Weather from `begin` to `end`, in seconds of the loop's clock."""

    begin: float
    end: float
    weather: Weather


@attrs.frozen
class Sending:
    """A request as the client began it; `moment` is a number of the ledger."""

    moment: int
    key: str
    request_id: str


@attrs.frozen
class Making:
    """A change as the platform made it, and the moment in which the request for it was begun."""

    moment: int
    asked: int


class Ledger:
    """All that happened, by moments: numbers that rise with each entry.

    A change is known by its `key`, which is its status; no two changes have the same.
    """

    def __init__(self) -> None:
        self.moment = 0
        self.sendings: list[Sending] = []
        self.made: dict[str, Making] = {}
        self.made_again: list[str] = []

    def now(self) -> int:
        """Give the next moment."""
        self.moment += 1
        return self.moment

    def send(self, key: str, request_id: str) -> Sending:
        """Note that a request was begun."""
        sending = Sending(self.now(), key, request_id)
        self.sendings.append(sending)
        return sending

    def make(self, sending: Sending) -> None:
        """Note that a change was made."""
        if sending.key in self.made:
            self.made_again.append(sending.key)
        self.made.setdefault(sending.key, Making(self.now(), sending.moment))


class _State(enum.Enum):
    """What the platform knows of a ``Request-ID``."""

    AT_WORK = "at work"
    MADE = "made"
    REFUSED = "refused"


@attrs.define(eq=False)
class _Visit:
    """A request on its way: what it asks for, how its luck is drawn, and where the answer goes."""

    sending: Sending
    update: Mapping[str, str]
    luck: Random
    answer: asyncio.Future[WireResponse]
    latency: float
    resent: bool = False

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def say(self, status: int, body: bytes, **headers: str) -> bool:
        """Answer; say whether anybody still listens."""
        if self.answer.done():
            return False
        kind = "text/html" if body is PAGE else "application/json"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer.set_result(WireResponse(status, {"Content-Type": kind, **named}, body, resent=self.resent))
        return True

    def envelope(self, code: int, text: str = "", *, data: object = None, **headers: str) -> bool:
        body: dict[str, object] = {"error": code, "error_text": text}
        if data is not None:
            body["data"] = data
        return self.say(code or 200, json.dumps(body).encode(), **headers)


class Network:
    """The transport; see the module.

    `faults` are shares of the requests in fair weather, `refused` is the share of the
    changes that the platform refuses, `latency` the usual one in seconds. Where the
    platform `renames`, its answers give lines a name of its own.
    """

    def __init__(
        self,
        seed: int,
        *,
        latency: float,
        outages: tuple[Outage, ...],
        faults: Mapping[Fault, float],
        refused: float,
        renames: bool = False,
    ) -> None:
        self.ledger = Ledger()
        self.sent: Counter[str] = Counter()
        self.under_way = 0
        self._seed = seed
        self._latency = latency
        self._outages = outages
        self._faults = faults
        self._refused = refused
        self._renames = renames
        self._known: dict[str, _State] = {}
        self._asked: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lines: list[tuple[str, str]] = []
        self._anomaly = float("-inf")

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Carry one request; see `altcraft_async.engine.carrier.Transport`."""
        loop = asyncio.get_running_loop()
        visit = self._visit(request, loop)
        weather = next((it.weather for it in self._outages if it.begin <= loop.time() < it.end), None)
        self.under_way += 1
        try:
            if weather is None:
                self._serve(visit, total, fresh=fresh)
            else:
                self._storm(visit, weather)
            async with asyncio.timeout(total):
                return await visit.answer
        except TimeoutError:
            failure = AttemptTimeoutError("no answer in time")
        finally:
            self.under_way -= 1
            if not visit.answer.cancel() and not visit.answer.cancelled():
                visit.answer.exception()  # it came as the client left: nobody else looks
        raise failure

    async def aclose(self) -> None:
        """Have nothing to close."""

    def _visit(self, request: WireRequest, loop: asyncio.AbstractEventLoop) -> _Visit:
        if request.headers["Content-Type"].startswith("application/json"):
            update = json.loads(request.body)
        else:
            (update,) = xmltodict.parse(request.body).values()
        key, request_id = update["status_external_id"], request.headers["Request-ID"]
        asked = self._asked[key]
        asked[request_id] += 1
        self.sent[request_id] += 1
        line = update["order_external_id"], update["order_line_external_id"]
        if line not in self._lines:
            self._lines.append(line)
        luck = Random(f"{self._seed} {key} {asked.total()}")
        latency = self._latency * (0.5 + luck.expovariate(2.0))
        return _Visit(self.ledger.send(key, request_id), update, luck, loop.create_future(), latency)

    # -- outages

    def _storm(self, visit: _Visit, weather: Weather) -> None:
        """Answer as the weather is; behind some weathers the platform is at work all the same."""
        W = Weather  # noqa: N806 - a table
        told: dict[Weather, Callable[[], object]] = {
            W.REFUSED: lambda: visit.fail(ConnectError("no connection (Connection refused)")),
            W.RESET: lambda: visit.fail(ConnectionLostError("the connection was reset")),
            W.CLOSED: lambda: visit.fail(ConnectionLostError("the connection was closed")),
            W.SILENT: lambda: None,
            W.PAGE_502: lambda: visit.say(502, PAGE),
            W.SAYS_503: lambda: visit.say(503, PAGE),
            W.SAYS_429: lambda: visit.say(429, PAGE, Retry_After="1"),
            W.PAGE_200: lambda: visit.say(200, PAGE),
            W.ENVELOPE_500: lambda: visit.envelope(500, "Internal error"),
            W.PAGE_404: lambda: visit.say(404, PAGE),
            W.PAGE_403: lambda: visit.say(403, PAGE),
        }
        may_be_made = {W.RESET, W.CLOSED, W.SILENT, W.PAGE_502, W.SAYS_503, W.PAGE_200, W.ENVELOPE_500}
        if weather in may_be_made and visit.luck.random() < MADE_ANYHOW:
            self._work(visit, visit.latency * visit.luck.choice((1.0, 20.0)), lambda: None)
        self._later(min(visit.latency, 0.05), told[weather])

    # -- fair weather

    def _serve(self, visit: _Visit, total: float, *, fresh: bool) -> None:  # noqa: C901 - one branch a fault
        luck, fault = visit.luck, self._fault(visit.luck)
        made = luck.random() < MADE_ANYHOW
        delay = visit.latency
        wait = {"Retry_After": luck.choice(("1", "2", "0.5"))} if luck.random() < 0.5 else {}
        if fault is Fault.LOST_BEFORE:
            self._later(delay, lambda: visit.fail(ConnectionLostError("the connection was reset")))
        elif fault is Fault.LOST_AFTER:  # be it before the change is made: a repeat finds it at work
            self._work(visit, delay, lambda: None)
            lost = delay * luck.choice((0.1, 1.0))
            self._later(lost, lambda: visit.fail(ConnectionLostError("the connection was reset")))
        elif fault is Fault.LATE:
            late = luck.choice((0.1, 1.0, 10.0))
            self._work(visit, total + late, lambda: self._tell(visit))
        elif fault is Fault.ANOTHERS and len(self._lines) > 1:
            if made:
                self._work(visit, delay / 2, lambda: None)
            self._later(delay, lambda: self._mistake(visit))
        elif fault is Fault.STALE_REFUSAL and not fresh and asyncio.get_running_loop().time() < self._anomaly:
            if made:
                self._work(visit, delay / 2, lambda: None)
            self._later(0.0, lambda: visit.envelope(400, "No such line"))
        elif fault is Fault.RESENT:
            visit.resent = True
            if made:
                self._work(visit, delay / 2, lambda: None)
            self._later(delay, lambda: self._work(visit, delay, lambda: self._tell(visit)))
        elif fault in _SAID:
            if made and fault is not Fault.THROTTLED:
                self._work(visit, delay / 2, lambda: None)
            self._later(delay, lambda: visit.envelope(_SAID[fault], "Not now", **wait))
        else:
            self._work(visit, delay, lambda: self._tell(visit))

    def _fault(self, luck: Random) -> Fault | None:
        drawn = luck.random()
        for fault, share in self._faults.items():
            drawn -= share
            if drawn < 0.0:
                return fault
        return None

    def _mistake(self, visit: _Visit) -> None:
        own = visit.update["order_external_id"], visit.update["order_line_external_id"]
        order, line = visit.luck.choice([line for line in self._lines if line != own])
        data = {"order_external_id": order, "order_line_external_id": line, "status_external_id": "x"}
        if visit.envelope(0, data=data):
            asyncio.get_running_loop().call_soon(self._warned)

    def _warned(self) -> None:
        self._anomaly = asyncio.get_running_loop().time() + ANOMALY

    # -- the platform

    def _work(self, visit: _Visit, delay: float, then: Callable[[], object]) -> None:
        """Do what a request asks for, once for each id, and then `then`; no client that leaves ends it."""
        request_id = visit.sending.request_id
        if request_id in self._known:
            self._later(delay, then)
            return
        self._known[request_id] = _State.AT_WORK

        def work() -> None:
            if Random(f"{self._seed} {visit.sending.key}").random() < self._refused:
                self._known[request_id] = _State.REFUSED
            else:
                self._known[request_id] = _State.MADE
                self.ledger.make(visit.sending)
            visit.update = {**visit.update, "first": "yes"}
            then()

        self._later(delay, work)

    def _tell(self, visit: _Visit) -> None:
        """Answer what the platform knows of a request's id."""
        state = self._known[visit.sending.request_id]
        again = {} if "first" in visit.update else {"Duplicate_Request": "true"}
        if state is _State.AT_WORK:
            visit.envelope(409, "Still in progress")
        elif state is _State.REFUSED:
            visit.envelope(400, "No such status", **again)
        else:
            data = {name: value for name, value in visit.update.items() if name.endswith("_external_id")}
            if self._renames:
                data["order_line_external_id"] = f"renamed {data['order_line_external_id']}"
            visit.envelope(0, data=data, **again)

    def _later(self, delay: float, work: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(delay, work)


_SAID = {Fault.ERROR_500: 500, Fault.THROTTLED: 429, Fault.UNAVAILABLE: 503}
