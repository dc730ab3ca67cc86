"""The checks that call the API: the token, the clock, round trips, repeats.

All of them make one reading call, ``market/orders/get_status`` of an order that
does not exist, through a client like any other.

Guide: "Get order status", "Deduplication of requests".
"""

from __future__ import annotations

import math
import statistics
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import attrs

from altcraft_async.doctor.finding import Check, Finding, Level, count, duration, skipped
from altcraft_async.doctor.verdicts import answered, judge, refused
from altcraft_async.engine.carrier import OwnTransport
from altcraft_async.errors import AltcraftError, APIError, DeadlineError
from altcraft_async.flow.limit import Adaptive, Shared
from altcraft_async.flow.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from altcraft_async.client import AltcraftClient, ClientOptions
    from altcraft_async.doctor.network import Link
    from altcraft_async.engine.carrier import Transport
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.wire import TokenPlace, WireRequest, WireResponse
    from altcraft_async.settings import Settings

__all__ = ["Caller", "Heard", "Listener", "check_clock", "check_repeats", "check_round_trips", "check_token"]

_METHOD = "market/orders/get_status"
_TOO_FAR = 5.0
"""Seconds between two clocks that are worth a warning."""
_SLOW_CALL = 1.0
_FAILURES = 3
"""Calls that may fail in a row before the measuring ends."""
_RATES = (10, 100, 1000)


@attrs.frozen
class Heard:
    """The head of an answer, when its request was sent and it came (Unix time), and the seconds between."""

    headers: Mapping[str, str]
    sent: float
    received: float
    elapsed: float


class Listener(OwnTransport):
    """A transport that remembers the head of the last answer of the one that it wraps."""

    __slots__ = ("_inner", "heard")

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.heard: Heard | None = None

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request` with the wrapped transport."""
        self.heard = None
        sent, started = time.time(), time.perf_counter()
        response = await self._inner.send(request, connect=connect, total=total, max_bytes=max_bytes, fresh=fresh)
        self.heard = Heard(response.headers, sent, time.time(), time.perf_counter() - started)
        return response

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._inner.aclose()


class Caller:
    """Makes the reading call, within `within` seconds each time."""

    __slots__ = ("_client", "_listener", "_order", "within")

    def __init__(self, client: AltcraftClient, listener: Listener, *, within: float) -> None:
        self._client = client
        self._listener = listener
        self._order = f"altcraft-async-doctor-{uuid4()}"
        self.within = within

    @property
    def heard(self) -> Heard | None:
        """What the last call heard, or None when it had no answer."""
        return self._listener.heard

    async def ask(self, *, request_id: str | None = None) -> AltcraftError | None:
        """Make the call; return the error that it ended with, or None.

        Where only the time for another attempt was wanting, that is the error of the last one.
        """
        self._listener.heard = None
        try:
            fields: dict[str, JSON] = {"external_id": self._order}
            await self._client.call(_METHOD, fields, request_id=request_id, deadline=self.within)
        except DeadlineError as error:
            return error.__cause__ if isinstance(error.__cause__, AltcraftError) else error
        except AltcraftError as error:
            return error
        return None

    def having(self, **changes: Unpack[ClientOptions]) -> Caller:
        """Return a caller whose client has other settings."""
        client = self._client.with_options(**changes)
        return Caller(client, self._listener, within=self.within)


# -- the token


async def check_token(caller: Caller, settings: Settings) -> tuple[Finding, Heard | None]:
    """Make the call once; try a token that is refused in the other place too.

    Returns the finding, and what was heard of the answer to the first call.
    """
    error = await caller.ask()
    heard = caller.heard
    level, said, remedy = judge(error)
    facts: dict[str, JSON] = {}
    if isinstance(error, APIError):
        facts = {"status": error.status, "code": error.code}
    if refused(error):
        other: TokenPlace = "header" if settings.token_in == "body" else "body"  # noqa: S105 - a place
        if answered(await caller.having(token_in=other).ask()):
            said, remedy = f"{said}, and accepted in the {other}", f"Set ALTCRAFT_TOKEN_IN={other}."
    failure = error if level is Level.FAILED else None
    return Finding(check=Check.TOKEN, level=level, said=said, remedy=remedy, facts=facts, error=failure), heard


# -- the clock


def check_clock(heard: Heard | None) -> Finding:
    """Compare the ``Date`` of an answer with this machine's clock.

    The header has whole seconds, and was written between the sending and the
    answer, so small differences cannot be told.
    """
    try:
        date = parsedate_to_datetime(heard.headers.get("Date", "")).timestamp() if heard else 0.0
    except ValueError:
        date = 0.0
    if heard is None or not date:
        return skipped(Check.CLOCK, "the answer has no Date that could be compared" if heard else "there was no answer")
    ahead = (heard.sent + heard.received) / 2 - (date + 0.5)
    facts: dict[str, JSON] = {"ahead": ahead}
    if abs(ahead) <= _TOO_FAR:
        said = f"agrees with the server's within {max(1.0, math.ceil(abs(ahead))):.0f} s"
        return Finding(check=Check.CLOCK, level=Level.OK, said=said, facts=facts)
    return Finding(
        check=Check.CLOCK,
        level=Level.WARNING,
        said=f"this machine's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's",
        remedy="Set it by NTP, or tell the operator: dates in Retry-After are read by it, and the day in which a "
        "repeat is recognised as one is counted by both.",
        facts=facts,
    )


# -- round trips


async def check_round_trips(caller: Caller, settings: Settings, link: Link | None, *, calls: int) -> Finding:
    """Make the call again and again over one connection, for as long as one check may take."""
    caller = caller.having(retry=RetryPolicy(attempts=1, rules=settings.retry.rules))
    times: list[float] = []
    failed, in_a_row, closes = 0, 0, False
    error: AltcraftError | None = None
    ends = time.perf_counter() + caller.within
    for _ in range(calls):
        trouble = await caller.ask()
        heard = caller.heard
        if heard is not None and answered(trouble):
            times.append(heard.elapsed)
            in_a_row = 0
            closes = heard.headers.get("Connection", "").lower() == "close"
        else:
            failed, in_a_row, error = failed + 1, in_a_row + 1, trouble
        if in_a_row == _FAILURES or time.perf_counter() > ends:
            break
    if not times:
        why = error.message if error is not None else "no answer"
        said = f"none of {failed} calls was answered: {why}"
        return Finding(check=Check.ROUND_TRIPS, level=Level.FAILED, said=said, remedy=_UNSTEADY, error=error)
    finding = _measured(times, settings, link)
    if failed and error is not None:
        said = f"{failed} of {failed + len(times)} calls failed ({error.message}); {finding.said}"
        return attrs.evolve(finding, level=Level.WARNING, said=said, remedy=_UNSTEADY)
    if closes:
        said = f"{finding.said}; the server closes every connection after one answer"
        remedy = "Have keep-alive turned on at the server or proxy: otherwise each call pays for a new connection."
        return attrs.evolve(finding, level=Level.WARNING, said=said, remedy=remedy)
    return finding


_UNSTEADY = "The client retries such calls, but the platform is not steady now: tell the operator what happened."


def _measured(times: list[float], settings: Settings, link: Link | None) -> Finding:
    low, middle, high = min(times), statistics.median(times), max(times)
    said = f"{duration(middle)} ({duration(low)} to {duration(high)}) over {count(len(times), 'call')}"
    facts: dict[str, JSON] = {"calls": len(times), "minimum": low, "median": middle, "maximum": high}
    if link is not None:
        said += f"; a new connection takes {duration(link.tcp + (link.tls or 0.0))} more"
        facts["connection"] = link.tcp + (link.tls or 0.0)
    needs = {rate: _in_flight(rate, middle) for rate in _RATES}
    rates, numbers = (", ".join(f"{number:,}" for number in part) for part in (needs.keys(), needs.values()))
    told = f"for {rates} updates a second {numbers} have to be in flight, if they take as long"
    notes = [f"{told}; one by one makes {1 / middle:,.0f} a second"]
    facts["in_flight_for_rate"] = {str(rate): number for rate, number in needs.items()}
    level, remedy = Level.OK, None
    concurrency, rate = settings.concurrency, settings.rate
    most = concurrency.maximum if isinstance(concurrency, Adaptive) else int(_total(concurrency))
    rate = None if rate is None else _total(rate)
    if rate is not None and _in_flight(rate, middle) > most:
        level = Level.WARNING
        remedy = (
            f"The rate of {rate:g} a second needs {_in_flight(rate, middle):,} calls in flight, and "
            f"concurrency allows {most:,}: raise ALTCRAFT_CONCURRENCY, or leave it adaptive."
        )
    elif middle > _SLOW_CALL:
        level, remedy = Level.WARNING, "Calls are slow: the platform has much to do, or is far away."
    return Finding(check=Check.ROUND_TRIPS, level=level, said=said, remedy=remedy, notes=notes, facts=facts)


def _total(number: float | Shared) -> float:
    """Return what all may make together."""
    return number.total if isinstance(number, Shared) else number


def _in_flight(rate: float, seconds: float) -> int:
    """Return the calls that must be under way at once for a rate (Little's law)."""
    return max(1, math.ceil(rate * seconds))


# -- repeats


async def check_repeats(caller: Caller, settings: Settings) -> Finding:
    """Make the call twice under one id, and look for the mark of a repeat; try the other name of the header too."""
    name = settings.request_id_header
    if await _recognised(caller):
        said = f"a repeat under the same {name} is recognised"
        return Finding(check=Check.REPEATS, level=Level.OK, said=said, facts={"header": name})
    other = "X-Request-ID" if name == "Request-ID" else "Request-ID"
    if await _recognised(caller.having(request_id_header=other)):
        return Finding(
            check=Check.REPEATS,
            level=Level.WARNING,
            said=f"a repeat is recognised under {other}, and not under {name}, which is what the client sends",
            remedy=f"Set ALTCRAFT_REQUEST_ID_HEADER={other}: otherwise a retry can make a change twice.",
            facts={"header": other},
        )
    return skipped(Check.REPEATS, "the server marks no repeat of a reading call, so nothing can be told about updates")


async def _recognised(caller: Caller) -> bool:
    request_id = str(uuid4())
    await caller.ask(request_id=request_id)
    await caller.ask(request_id=request_id)
    headers = caller.heard.headers if caller.heard is not None else {}
    return any(headers.get(f"{prefix}Duplicate-Request", "").lower() == "true" for prefix in ("", "X-"))
