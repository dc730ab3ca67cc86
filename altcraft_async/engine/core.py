"""The engine of a client, put together: what all copies share, and the dispatchers over it.

Loaded with the first client, not with the package: a program that only imports it starts sooner.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from altcraft_async.engine.carrier import Carrier, OwnTransport
from altcraft_async.engine.credentials import Credentials
from altcraft_async.engine.delivery import Delivery, Totals
from altcraft_async.engine.dispatch import Dispatcher
from altcraft_async.engine.questions import Questions
from altcraft_async.engine.sharing import make_gate
from altcraft_async.engine.tls import tls_of
from altcraft_async.engine.transport import AiohttpTransport
from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.lanes import Lanes
from altcraft_async.flow.retry import RetryBudget
from altcraft_async.kinds import refusal
from altcraft_async.protocol.wire import Wire

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import Any

    from altcraft_async.engine.carrier import Transport
    from altcraft_async.engine.credentials import Token
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.work import WorkItem
    from altcraft_async.observe import Observer
    from altcraft_async.settings import Settings

__all__ = ["Engine"]


class Engine:
    """What a client and its copies share: transport, gate, budget, totals, lanes and what answers are held against.

    `parts` are the keywords of the client that are no settings: session, transport, tls, trace_configs, wire_log.
    """

    __slots__ = ("_tokens", "base_url", "budget", "gate", "lanes", "questions", "totals", "transport")

    def __init__(
        self, base_url: str, token: Token, settings: Settings, parts: Mapping[str, Any], observers: Sequence[Observer]
    ) -> None:
        self.base_url = base_url
        in_header = settings.token_in == "header"  # noqa: S105 - a place, not a password
        if in_header and getattr(parts.get("session"), "auth", None) is not None:
            msg = "the session has auth=, beside which no token can stand in the header; leave auth out"
            raise ConfigurationError(msg, field="session")
        self.transport = _transport(base_url, settings, parts)
        notifier = _notifier(observers, base_url)
        name = partial(_group_name, base_url, token)
        self.gate = make_gate(settings, name, in_group=parts.get("transport") is None, notifier=notifier)
        if notifier is not None:
            notifier.limit_changed(self.gate.limit, 0)
        self.budget = RetryBudget(settings.retry_budget, settings.retry_refund)
        self.totals = Totals()
        self.questions = Questions()
        self.lanes: Lanes[WorkItem] = Lanes()
        self._tokens: weakref.WeakSet[Token] = weakref.WeakSet()

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<Engine {self.gate!r}>"

    async def aclose(self) -> None:
        """Let nobody wait any longer, for a permit or a token, and close the transport."""
        self.gate.close()
        for token in self._tokens:
            token.close()
        await self.transport.aclose()

    def dispatcher(self, settings: Settings, token: Token, observers: Sequence[Observer]) -> Dispatcher:
        """Return what sends for the client, or for one copy of it, by its own settings."""
        self._tokens.add(token)
        make_wire = partial(
            Wire,
            request_format=settings.request_format,
            response_format=settings.response_format,
            token_in=settings.token_in,
            request_id_header=settings.request_id_header,
        )
        delivery = Delivery(
            credentials=Credentials(token, make_wire, within=settings.timeout.total),
            transport=self.transport,
            gate=self.gate,
            budget=self.budget,
            questions=self.questions,
            policy=settings.retry,
            outage=settings.outage,
            connect_timeout=settings.timeout.connect,
            total_timeout=settings.timeout.total,
            max_response_bytes=settings.max_response_bytes,
            notifier=_notifier(observers, self.base_url),
            base_url=self.base_url,
            totals=self.totals,
            dedup_window=settings.dedup_window,
            request_format=settings.request_format,
        )
        return Dispatcher(delivery, self.lanes)


def _transport(base_url: str, settings: Settings, parts: Mapping[str, Any]) -> Transport:
    rivals = [name for name in ("session", "transport") if parts.get(name) is not None]
    tls = tls_of(settings, parts.get("tls", True), others=rivals)
    given = parts.get("transport")
    if given is not None and not (callable(getattr(given, "send", None)) and callable(getattr(given, "aclose", None))):
        raise refusal(name="transport", words="an object with the methods send and aclose", value=given)
    transport: Transport = given or AiohttpTransport(
        base_url,
        session=parts.get("session"),
        tls=tls,
        trust_env=settings.trust_env,
        trace_configs=parts.get("trace_configs", ()),
    )
    if not isinstance(transport, OwnTransport):
        transport = Carrier(transport)
    log: str | os.PathLike[str] | None = parts.get("wire_log")
    if log is None:
        return transport
    from altcraft_async.engine.wire_log import LoggedTransport  # noqa: PLC0415 - few programs log their wire

    return LoggedTransport.to_file(transport, log)


def _group_name(base_url: str, token: Token, shared: str) -> str | None:
    """Give the name of the group with which a client shares a limit; None while the token is not known yet."""
    from altcraft_async.engine.group import group_name  # noqa: PLC0415 - for an import as quick as can be

    return None if token.value is None else group_name(base_url, token.value, shared)


def _notifier(observers: Sequence[Observer], base_url: str) -> Notifier | None:
    if not observers:
        return None
    from altcraft_async.engine.notifier import Notifier  # noqa: PLC0415 - most programs do not watch

    return Notifier(observers, base_url)
