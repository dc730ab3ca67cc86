"""The checks below HTTP: the host's name, and the connection with its TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import attrs

from altcraft_async.doctor.finding import Check, Finding, Level, duration
from altcraft_async.doctor.tls import check_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from altcraft_async.doctor.place import Place
    from altcraft_async.protocol.values import JSON

__all__ = ["Link", "check_connection", "check_name"]

_SLOW_NAME = 1.0
_REFUSED = os.strerror(errno.ECONNREFUSED)


@attrs.frozen
class Link:
    """What a new connection cost, in seconds; `tls` is None without TLS."""

    tcp: float
    tls: float | None = None


# -- the name


async def check_name(place: Place, *, within: float) -> tuple[Finding, Sequence[str]]:
    """Look the host up; return the finding and the addresses."""
    if place.is_address:
        said = f"{place} is an address, so there is no name to look up"
        return Finding(check=Check.NAME, level=Level.OK, said=said), (place.host,)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(within):
            addresses = await _look_up(place)
    except TimeoutError:
        return _nameless(place, f"no name server answered within {duration(within)}"), ()
    except OSError as error:
        return _nameless(place, error.strerror or type(error).__name__), ()
    except UnicodeError:
        return _nameless(place, "it cannot be a host name"), ()
    elapsed = time.perf_counter() - started
    slow = elapsed > _SLOW_NAME
    finding = Finding(
        check=Check.NAME,
        level=Level.WARNING if slow else Level.OK,
        said=f"{place} is {', '.join(addresses)} ({duration(elapsed)})",
        remedy="Check this machine's name servers: new connections have to wait for them." if slow else None,
        facts={"addresses": [*addresses], "elapsed": elapsed},
    )
    return finding, addresses


def _nameless(place: Place, reason: str) -> Finding:
    remedy = "Check the host's spelling (the cloud's is ru.altkraft.com, with a k), and this machine's name servers."
    said = f"{place} has no address: {reason}"
    return Finding(check=Check.NAME, level=Level.FAILED, said=said, remedy=place.advise(remedy))


async def _look_up(place: Place) -> list[str]:
    """Resolve on a daemon thread: the loop's own threads are waited for at its end, and this can hang for long."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str], failure: Exception | None) -> None:
        if answer.done():
            return
        if failure is None:
            answer.set_result(found)
        else:
            answer.set_exception(failure)

    def resolve() -> None:
        found: list[str] = []
        failure: Exception | None = None
        try:
            known = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(address[0]) for *_, address in known))
        except (OSError, UnicodeError) as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=resolve, name="altcraft-doctor", daemon=True).start()
    return await answer


# -- the connection


@attrs.frozen
class _Attempt:
    """A connection to one address: open after `elapsed` seconds, or the reason why not."""

    address: str
    elapsed: float
    writer: asyncio.StreamWriter | None = None
    reason: str = ""


async def check_connection(
    place: Place, addresses: Sequence[str], *, within: float, tls: ssl.SSLContext | bool = True
) -> tuple[Finding, Link | None]:
    """Connect to every address, and shake hands with the first that answers.

    Returns the finding, and what the connection cost where it can be used.
    """
    attempts = await asyncio.gather(*(_connect(address, place.port, within) for address in addresses))
    lost = [attempt for attempt in attempts if attempt.writer is None]
    facts: dict[str, JSON] = {"port": place.port, "tcp": {one.address: one.reason or one.elapsed for one in attempts}}
    try:
        finding, link = await _use(place, attempts, within, tls)
    finally:
        for attempt in attempts:
            if attempt.writer is not None:
                attempt.writer.transport.abort()
    if link is not None and lost and not place.is_loopback:
        told = ", ".join(f"{one.address} ({one.reason})" for one in lost)
        finding = attrs.evolve(
            finding,
            level=Level.WARNING,
            said=f"{finding.said}; {len(lost)} of {len(attempts)} addresses do not answer: {told}",
            remedy=finding.remedy or "Tell the operator: addresses that do not answer slow new connections down.",
        )
    return attrs.evolve(finding, facts={**facts, **finding.facts}), link


async def _connect(address: str, port: int, within: float) -> _Attempt:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return _Attempt(address, within, reason=f"no answer within {duration(within)}")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error.strerror or type(error).__name__
        return _Attempt(address, time.perf_counter() - started, reason=reason)
    return _Attempt(address, time.perf_counter() - started, writer)


async def _use(
    place: Place, attempts: Sequence[_Attempt], within: float, tls: ssl.SSLContext | bool
) -> tuple[Finding, Link | None]:
    for attempt in attempts:
        if attempt.writer is None:
            continue
        if place.scheme == "http" or place.via_proxy:
            return _without_tls(place, attempt), Link(attempt.elapsed)
        answers = f"port {place.port} answers ({duration(attempt.elapsed)})"
        finding, elapsed = await check_tls(place, attempt.writer, attempt.address, answers, within=within, tls=tls)
        return finding, None if elapsed is None else Link(attempt.elapsed, elapsed)
    return _unreachable(place, attempts), None


def _unreachable(place: Place, lost: Sequence[_Attempt]) -> Finding:
    reasons = list(dict.fromkeys(one.reason for one in lost))
    if _REFUSED in reasons:
        remedy = f"Nothing listens on port {place.port}, or a firewall refuses: check host and port, and that it is up."
    else:
        remedy = "A firewall swallows the connection, or the host is down: check the network, VPN and proxy."
    said = f"no connection to port {place.port} of {place}: {', '.join(reasons)}"
    return Finding(check=Check.CONNECTION, level=Level.FAILED, said=said, remedy=place.advise(remedy))


def _without_tls(place: Place, attempt: _Attempt) -> Finding:
    level, remedy = Level.OK, None
    said = f"port {place.port} of {place} answers ({duration(attempt.elapsed)})"
    if place.via_proxy:
        said += "; what lies behind it is for the calls to tell"
    elif place.is_loopback:
        said += "; without TLS, which http:// to this machine does not need"
    else:
        level = Level.WARNING
        said += "; without TLS, so the token goes over the network in the clear"
        remedy = "Use https:// in ALTCRAFT_BASE_URL."
    return Finding(check=Check.CONNECTION, level=level, said=said, remedy=remedy)
