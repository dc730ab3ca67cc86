"""The checks in their order: what one finds decides whether the next can be made."""

from __future__ import annotations

import os
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

import attrs

from altcraft_async.client import AltcraftClient
from altcraft_async.doctor.calls import Caller, Listener, check_clock, check_repeats, check_round_trips, check_token
from altcraft_async.doctor.finding import Check, Level, skipped
from altcraft_async.doctor.network import check_connection, check_name
from altcraft_async.doctor.place import Place
from altcraft_async.doctor.setup import examine
from altcraft_async.engine.tls import tls_of
from altcraft_async.engine.transport import AiohttpTransport
from altcraft_async.flow.retry import RetryPolicy
from altcraft_async.settings import Timeout

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from altcraft_async.client import ClientOptions
    from altcraft_async.doctor.finding import Finding
    from altcraft_async.doctor.setup import Setup

__all__ = ["diagnose"]

_RETRY = RetryPolicy(attempts=2, base=0.1)
"""One slip is forgiven; more are what is looked for."""


async def diagnose(
    environ: Mapping[str, str] | None = None,
    *,
    within: float = 10.0,
    calls: int = 10,
    **options: Unpack[ClientOptions],
) -> AsyncGenerator[Finding, None]:
    """Check a client that `AltcraftClient.from_env` would make of `environ` and `options`; yield the findings.

    The checks are those of `Check`, in that order, and each yields one finding, the settings one for each problem. A
    check is skipped if an earlier check that it needs failed. No step takes longer than `within` seconds. Round trips
    are measured over `calls` calls. A `session` is used and not closed; with a `transport` of your own the checks of
    the network are left out.

    It changes nothing on the platform: every call asks for the status of an order that does not exist. A refused token
    is tried once more in the other place (`token_in`). It never raises for a failure that it finds.
    """
    setup = examine(os.environ if environ is None else environ, options)
    told = {Check.OUTBOX}  # that has no part in whether the platform can be used
    async with aclosing(_checks(setup, within, calls, options)) as findings:
        async for finding in findings:
            told.add(finding.check)
            yield finding
    if options.get("transport") is not None:
        told |= {Check.NAME, Check.CONNECTION}
    for check in Check:
        if check not in told:
            yield skipped(check, "not checked, because of what was found before")


async def _checks(setup: Setup, within: float, calls: int, options: ClientOptions) -> AsyncGenerator[Finding, None]:
    """Make the checks that can be made."""
    for finding in setup.findings:
        yield finding
    if setup.base_url is None:
        return
    link = None
    if options.get("transport") is None:
        place = Place.of(setup.base_url, trust_env=setup.settings.trust_env)
        finding, addresses = await check_name(place, within=within)
        yield finding
        if not addresses:
            return
        finding, link = await check_connection(place, addresses, within=within, tls=_tls(setup, options))
        yield finding
        if link is None:
            return
    if not setup.has_token:
        return
    async with _caller(setup, within, options) as caller:
        finding, heard = await check_token(caller, setup.settings)
        yield finding
        yield check_clock(heard)
        if finding.level is Level.OK:
            yield await check_round_trips(caller, setup.settings, link, calls=calls)
            yield await check_repeats(caller, setup.settings)


def _tls(setup: Setup, options: ClientOptions) -> ssl.SSLContext | bool:
    return tls_of(setup.settings, options.get("tls", True))


@asynccontextmanager
async def _caller(setup: Setup, within: float, options: ClientOptions) -> AsyncIterator[Caller]:
    """Open a client like the one that is checked, which listens to its own transport."""
    told: dict[str, Any] = dict(options)
    carrier: dict[str, Any] = {name: told.pop(name) for name in ("session", "trace_configs") if name in told}
    carrier["tls"] = _tls(setup, options)
    told.pop("tls", None)
    trust_env, timeout = setup.settings.trust_env, setup.settings.timeout
    inner = told.pop("transport", None) or AiohttpTransport(setup.base_url or "", trust_env=trust_env, **carrier)
    listener = Listener(inner)
    told |= {
        "transport": listener,
        "retry": attrs.evolve(_RETRY, rules=setup.settings.retry.rules),
        "concurrency": 1,
        "rate": None,
        **dict.fromkeys(("ca_file", "client_cert", "client_key")),  # the transport has them
        "timeout": Timeout(connect=min(timeout.connect, within), total=min(timeout.total, within)),
    }
    async with AltcraftClient.from_env(setup.environ, **told) as client:
        yield Caller(client, listener, within=within)
