"""`AltcraftClient`: life cycle, settings, the tree of resources."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack
from uuid import uuid4

import attrs

from altcraft_async.engine.credentials import Credentials
from altcraft_async.engine.delivery import Delivery, Totals
from altcraft_async.engine.dispatch import Dispatcher
from altcraft_async.engine.gate import Gate
from altcraft_async.engine.questions import Questions
from altcraft_async.engine.transport import AiohttpTransport
from altcraft_async.engine.work import WorkItem
from altcraft_async.errors import ClientClosedError, ConfigurationError
from altcraft_async.flow.lanes import Lanes
from altcraft_async.flow.limit import make_limit
from altcraft_async.flow.retry import RetryBudget
from altcraft_async.market import Market
from altcraft_async.protocol.values import check_request_id
from altcraft_async.protocol.wire import Call, Wire
from altcraft_async.settings import Settings, check_base_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import aiohttp

    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.transport import Transport
    from altcraft_async.flow.limit import Adaptive
    from altcraft_async.flow.retry import RetryPolicy
    from altcraft_async.observe import Observer
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.wire import Format, TokenPlace
    from altcraft_async.settings import Timeout

__all__ = ["AltcraftClient", "ClientOptions", "ClientStatistics"]


class ClientOptions(TypedDict, total=False):
    """The keywords of `AltcraftClient`."""

    request_format: Format
    response_format: Format
    token_in: TokenPlace
    request_id_header: str
    timeout: Timeout
    retry: RetryPolicy
    retry_budget: float | None
    retry_refund: float
    outage: OutagePolicy
    concurrency: int | Adaptive
    rate: float | None
    max_response_bytes: int
    dedup_window: float
    trust_env: bool
    allow_insecure: bool
    observers: Sequence[Observer]
    session: aiohttp.ClientSession | None
    trace_configs: Sequence[aiohttp.TraceConfig]
    tls: ssl.SSLContext | bool
    transport: Transport | None
    wire_log: str | os.PathLike[str] | None


_OF_THE_POOL = frozenset(
    {"concurrency", "rate", "trust_env", "allow_insecure", "session", "trace_configs", "tls", "transport", "wire_log"}
)
_NOT_SETTINGS = frozenset({"observers", "session", "trace_configs", "tls", "transport", "wire_log"})


@attrs.frozen
class ClientStatistics:
    """A snapshot of a client.

    `limit` calls may be in flight and `in_flight` are; `waiting` wait for a
    permit; `rate` is the pace in calls a second, None for none; `paused` is how many
    more seconds the server asked to be left alone, or a probe is away; `outage` is for how
    many seconds nobody has been served, None while calls are served. `sent` requests
    were started, `retries` of them not a call's first, `throttled` answered
    with back-pressure. `retry_budget` is how many retries are left to pay.
    `last_success` is the Unix time at which a call last succeeded, None before the
    first.
    """

    limit: int
    in_flight: int
    waiting: int
    rate: float | None
    paused: float
    outage: float | None
    sent: int
    retries: int
    throttled: int
    retry_budget: float
    last_success: float | None


class AltcraftClient:
    """A client of one Altcraft platform: ``async with AltcraftClient(base_url, token=…) as altcraft``.

    `base_url` is the platform's address; plain ``http://`` to a host that is not
    loopback needs `allow_insecure`. The keywords, all with defaults:

    - `request_format`, `response_format`: ``"json"`` or ``"xml"``
    - `token_in`: ``"body"``, or ``"header"`` (newer platforms only)
    - `request_id_header`: ``"Request-ID"``, or ``"X-Request-ID"`` for older platforms
    - `timeout`: `Timeout` of one attempt
    - `retry`: `RetryPolicy`
    - `concurrency`: `Adaptive`, or an int for a fixed limit of calls in flight
    - `rate`: the most calls a second, or None
    - `max_response_bytes`: longer answers are refused
    - `dedup_window`: seconds for which the platform remembers a ``Request-ID``
    - `observers`: objects with ``on_event``, see `altcraft_async.observe`
    - `session`: an aiohttp session to use; it is never closed by the client
    - `trace_configs`: passed to the aiohttp session
    - `trust_env`: use the proxies of the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``); never ``.netrc``
    - `tls`: True, an `ssl.SSLContext`, or False for no check of certificates
    - `transport`: another carrier of requests instead of aiohttp
    - `wire_log`: a file that gets a line of JSON a request, for support, without token and bodies

    One client is safe to share by all tasks of an event loop, and belongs to the
    loop of its first call: in another one its calls raise `EventLoopError`. Raises
    `ConfigurationError`, naming the setting, for one that cannot work.
    """

    def __init__(self, base_url: str, token: str, **options: Unpack[ClientOptions]) -> None:
        given: dict[str, Any] = dict(options)
        unknown = given.keys() - ClientOptions.__annotations__.keys()
        if unknown:
            raise _no_setting(min(unknown))
        settings = Settings(**{key: value for key, value in given.items() if key not in _NOT_SETTINGS})
        self._base_url = check_base_url(base_url, allow_insecure=settings.allow_insecure)
        observers = tuple(given.get("observers", ()))
        self._closed = False
        self._root: AltcraftClient = self
        self._transport: Transport = given.get("transport") or AiohttpTransport(
            self._base_url,
            session=given.get("session"),
            tls=given.get("tls", True),
            trust_env=settings.trust_env,
            trace_configs=given.get("trace_configs", ()),
        )
        if given.get("wire_log") is not None:
            self._transport = _logged(self._transport, given["wire_log"])
        law = make_limit(settings.concurrency)
        notifier = _notifier(observers, self._base_url)
        self._gate = Gate(law, rate=settings.rate, notifier=notifier)
        if notifier is not None:
            notifier.limit_changed(self._gate.limit, 0)
        self._budget = RetryBudget(settings.retry_budget, settings.retry_refund)
        self._totals = Totals()
        self._questions = Questions()
        self._lanes: Lanes[WorkItem] = Lanes()
        self._set_up(settings, token, observers)

    def _set_up(self, settings: Settings, token: str, observers: Sequence[Observer]) -> None:
        self._settings = settings
        self._token = token
        self._observers = tuple(observers)
        wire = Wire(
            token,
            request_format=settings.request_format,
            response_format=settings.response_format,
            token_in=settings.token_in,
            request_id_header=settings.request_id_header,
        )
        delivery = Delivery(
            credentials=Credentials(wire),
            transport=self._transport,
            gate=self._gate,
            budget=self._budget,
            questions=self._questions,
            policy=settings.retry,
            outage=settings.outage,
            connect_timeout=settings.timeout.connect,
            total_timeout=settings.timeout.total,
            max_response_bytes=settings.max_response_bytes,
            notifier=_notifier(self._observers, self._base_url),
            base_url=self._base_url,
            totals=self._totals,
            dedup_window=settings.dedup_window,
        )
        self._dispatcher = Dispatcher(delivery, self._lanes)
        self._market = Market(self._dispatcher)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from ``ALTCRAFT_…`` variables of `environ` (default: of the process).

        ``ALTCRAFT_BASE_URL`` and ``ALTCRAFT_TOKEN`` (or ``ALTCRAFT_TOKEN_FILE``, a
        file that holds it) are required. The others are ``ALTCRAFT_REQUEST_FORMAT``,
        ``_RESPONSE_FORMAT``, ``_TOKEN_IN``, ``_REQUEST_ID_HEADER``, ``_TIMEOUT``,
        ``_CONNECT_TIMEOUT``, ``_ATTEMPTS``, ``_CONCURRENCY``, ``_RATE``,
        ``_MAX_RESPONSE_BYTES``, ``_DEDUP_WINDOW``, ``_TRUST_ENV`` and
        ``_ALLOW_INSECURE``. Keywords go before variables. Raises `ConfigurationError`, naming the variable.
        """
        environ = os.environ if environ is None else environ
        values = {key[9:].lower(): value for key, value in environ.items() if key.startswith("ALTCRAFT_") and value}
        base_url = values.pop("base_url", "")
        token = values.pop("token", "")
        token_file = values.pop("token_file", "")
        if not token and token_file:
            token = _read_token(token_file)
        if not token:
            msg = "ALTCRAFT_TOKEN is not set; set it, or ALTCRAFT_TOKEN_FILE to a file that holds the token"
            raise ConfigurationError(msg, field="token")
        settings = Settings.parse(values, name=lambda field: f"ALTCRAFT_{field.upper()}")
        merged: Any = {field.name: getattr(settings, field.name) for field in attrs.fields(Settings)} | dict(options)
        return cls(base_url, token, **merged)

    def with_options(self, *, token: str | None = None, **changes: Unpack[ClientOptions]) -> Self:
        """Return a cheap copy with other settings, sharing pool, gate, budget and observers.

        What belongs to the shared parts (`concurrency`, `rate`, `session`, `tls`,
        `trust_env`, `trace_configs`, `transport`, `wire_log`, `allow_insecure`) cannot be
        changed: make a new client for that. Closing a copy does nothing; closing
        the client it came from closes it too.
        """
        refused = changes.keys() & _OF_THE_POOL
        if refused:
            msg = f"{min(refused)} belongs to the shared pool and cannot differ in a copy; make a new client"
            raise ConfigurationError(msg, field=min(refused))
        given: dict[str, Any] = dict(changes)
        observers = given.pop("observers", self._observers)
        try:
            settings = attrs.evolve(self._settings, **given)
        except TypeError:
            raise _no_setting(min(given.keys() - {field.name for field in attrs.fields(Settings)})) from None
        copy = object.__new__(type(self))
        copy._base_url = self._base_url
        copy._closed = False
        copy._root = self._root
        copy._transport, copy._gate = self._transport, self._gate
        copy._budget, copy._totals = self._budget, self._totals
        copy._questions, copy._lanes = self._questions, self._lanes
        copy._set_up(settings, self._token if token is None else token, observers)
        return copy

    def __repr__(self) -> str:
        """Show where to and in which state; never the token."""
        return f"<AltcraftClient {self._base_url} {'closed' if self.closed else repr(self._gate)}>"

    @property
    def base_url(self) -> str:
        """The platform's address."""
        return self._base_url

    @property
    def settings(self) -> Settings:
        """What the client was told, apart from where and who."""
        return self._settings

    @property
    def closed(self) -> bool:
        """Whether the client, or the one it is a copy of, was closed."""
        return self._root._closed  # noqa: SLF001 - of the same class

    @property
    def market(self) -> Market:
        """The Market's resources; raises `ClientClosedError` after ``aclose()``."""
        self._check_open()
        return self._market

    async def call(
        self,
        method: str,
        fields: Mapping[str, JSON] | None = None,
        *,
        request_id: str | None = None,
        deadline: float | None = None,
    ) -> dict[str, JSON]:
        """Call any method of the API by its path below ``/api/v1.1/`` and return the whole envelope.

        The token and ``format`` are added. Retries, errors, `request_id`,
        `deadline` and cancellation are those of
        `Orders.update_order_line_status`. XML answers have texts for numbers.

        Guide: "Working with User API".
        """
        self._check_open()
        path = method.strip("/").removeprefix("api/v1.1/")
        if not path or not path.replace("/", "").replace("_", "").replace("-", "").isalnum():
            msg = f"method must be a path like market/orders/get_status, not {method!r}"
            raise ConfigurationError(msg, field="method")
        item = WorkItem(
            Call(path, dict(fields or {})),
            str(uuid4()) if request_id is None else check_request_id(request_id),
            owner=self._dispatcher.caller(),
        )
        return dict(await self._dispatcher.call(item, deadline=deadline))

    def statistics(self) -> ClientStatistics:
        """Take a snapshot of the limit, the traffic and the retry budget."""
        gate = self._gate.statistics()
        totals = self._totals
        last = totals.last_success
        return ClientStatistics(
            limit=gate.limit,
            in_flight=gate.in_flight,
            waiting=gate.waiting,
            rate=gate.rate,
            paused=gate.paused,
            outage=gate.outage,
            sent=totals.sent,
            retries=totals.retries,
            throttled=totals.throttled,
            retry_budget=self._budget.tokens,
            last_success=None if last is None else time.time() - (asyncio.get_running_loop().time() - last),
        )

    async def aclose(self) -> None:
        """Close the client and its own session; harmless when called again, without effect on a copy.

        In another event loop than the client's it works only when that one is
        closed already; otherwise it raises `EventLoopError` and closes nothing.
        """
        if self._root is not self or self._closed:
            return
        loop = self._gate.loop
        if loop is not None and not loop.is_closed():
            self._gate.bind(asyncio.get_running_loop())
        self._closed = True
        self._gate.close()
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Return the client, which opens its session at the first call."""
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.aclose()

    def __del__(self) -> None:
        """Warn of a client that was used and never closed."""
        gate = getattr(self, "_gate", None)
        if gate is not None and gate.loop is not None and self._root is self and not self._closed:
            message = f"unclosed {self!r}; use 'async with' or await aclose()"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def _check_open(self) -> None:
        if self.closed:
            msg = "the client is closed; make a new one"
            raise ClientClosedError(msg)


def _notifier(observers: Sequence[Observer], base_url: str) -> Notifier | None:
    if not observers:
        return None
    from altcraft_async.engine.notifier import Notifier  # noqa: PLC0415 - most programs do not watch

    return Notifier(observers, base_url)


def _logged(transport: Transport, path: str | os.PathLike[str]) -> Transport:
    from altcraft_async.engine.wire_log import LoggedTransport  # noqa: PLC0415 - few programs log their wire

    return LoggedTransport.to_file(transport, path)


def _no_setting(name: str) -> ConfigurationError:
    known = ", ".join(sorted(ClientOptions.__annotations__))
    return ConfigurationError(f"{name} is no setting of AltcraftClient; known are {known}", field=name)


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        msg = f"ALTCRAFT_TOKEN_FILE {path} cannot be read ({reason}); check the path and who may read it"
        raise ConfigurationError(msg, field="token") from None
    if not token:
        msg = f"ALTCRAFT_TOKEN_FILE {path} is empty; put the token into it"
        raise ConfigurationError(msg, field="token")
    return token
