"""`AltcraftClient`: life cycle, settings, the tree of resources."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack

import attrs

from altcraft_async.engine.credentials import Token, TokenFile
from altcraft_async.errors import ClientClosedError, ConfigurationError
from altcraft_async.kinds import check_token, refusal
from altcraft_async.settings import Environment, Settings, all_of, check_base_url, with_keywords
from altcraft_async.settings.table import KEYWORDS, OF_THE_POOL, nearest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    import aiohttp

    from altcraft_async.engine.carrier import Transport
    from altcraft_async.engine.core import Engine
    from altcraft_async.engine.credentials import TokenSource
    from altcraft_async.flow.limit import Adaptive, LearnedLimit, Shared
    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.flow.retry import RetryPolicy
    from altcraft_async.market import Market
    from altcraft_async.observe import Observer
    from altcraft_async.outcome import RawResponse
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.wire import Format, TokenPlace
    from altcraft_async.settings import Timeout

__all__ = ["AltcraftClient", "ClientOptions", "ClientStatistics", "UnknownVariableWarning"]


class UnknownVariableWarning(UserWarning):
    """A variable that nothing reads looks like a misspelt variable of the client."""


class ClientOptions(TypedDict, total=False):
    """The keywords of `AltcraftClient`."""

    request_format: Format
    response_format: Format
    token_in: TokenPlace
    request_id_header: str
    timeout: float | Timeout
    retry: RetryPolicy
    max_retries: int
    retry_budget: float | None
    retry_refund: float
    outage: OutagePolicy
    concurrency: int | Adaptive | Shared
    rate: float | Shared | None
    group: Literal["host", "off"] | None
    remember: bool
    max_response_bytes: int
    dedup_window: float
    trust_env: bool
    allow_insecure: bool
    ca_file: str | Path | None
    client_cert: str | Path | None
    client_key: str | Path | None
    observers: Sequence[Observer]
    session: aiohttp.ClientSession | None
    trace_configs: Sequence[aiohttp.TraceConfig]
    tls: ssl.SSLContext | bool
    transport: Transport | None
    wire_log: str | os.PathLike[str] | None


T = TypeVar("T")
P = ParamSpec("P")

_NOT_SETTINGS = ClientOptions.__annotations__.keys() - attrs.fields_dict(Settings).keys() - {"max_retries"}


@attrs.frozen
class ClientStatistics:
    """A snapshot of a client.

    `limit` calls may be in flight and `in_flight` are; `waiting` calls wait for a permit; `rate` is the pace in calls
    a second, or None. `paused` is the rest, in seconds, of the pause that the server asked for, or the time to the
    next probe. `outage` is the number of seconds in which nobody has been served, None while calls are served; then
    `problem` says what was wrong with the last attempt. `sent` requests were started; `retries` of them were not a
    call's first, and `throttled` of them were answered with back-pressure. `retry_budget` is the number of retries
    left. `last_success` is the Unix time at which a call last succeeded, None before the first. `processes` share the
    limit, including this one, and `doing` says in words what the limit is doing.
    """

    limit: int
    in_flight: int
    waiting: int
    rate: float | None
    paused: float
    outage: float | None
    problem: str | None
    sent: int
    retries: int
    throttled: int
    retry_budget: float
    last_success: float | None
    processes: int = 1
    doing: str = ""


class AltcraftClient:
    """A client of one Altcraft platform: ``async with AltcraftClient(base_url, token=…) as altcraft``.

    `base_url` is the platform's address; plain ``http://`` to a host that is not loopback needs `allow_insecure`.
    `token` is a text, or a callable that returns one: it is called at first use and again after a refusal, once for
    all calls that wait. It may be async; a plain function runs on the event loop, so it must not block. The keywords,
    all with defaults:

    - `request_format`, `response_format`: ``"json"`` or ``"xml"``
    - `token_in`: ``"body"``, or ``"header"`` (newer platforms only)
    - `request_id_header`: ``"Request-ID"``, or ``"X-Request-ID"`` for older platforms
    - `timeout`: of one attempt, `Timeout` or a number of seconds: the total
    - `retry`: `RetryPolicy` of a call; `max_retries`: n is short for ``RetryPolicy(attempts=n + 1)``
    - `retry_budget`: how many retries all calls together may make between successes, or None; `retry_refund`: how
      many retries one success returns
    - `outage`: `OutagePolicy`, how long an outage is waited out
    - `concurrency`: `Adaptive`, or an int for a fixed limit of calls in flight
    - `rate`: the maximum calls a second, or None
    - either may be `Shared`: a total that the processes of this host, or the drainers of an outbox, share
    - `group`: ``"host"``: processes of one user on one host share an `Adaptive` limit; None: they do not
    - `remember`: an `Adaptive` limit begins at half of the limit that the last run ended with, if that is known
    - `max_response_bytes`: longer answers are refused
    - `dedup_window`: seconds for which the platform remembers a ``Request-ID``
    - `observers`: objects with ``on_event``, see `altcraft_async.observe`
    - `session`: an aiohttp session to use; it is never closed by the client
    - `trace_configs`, `trust_env`: passed to the aiohttp session
    - `tls`: True, an `ssl.SSLContext`, or False for no check of certificates
    - `ca_file`: the certificates (PEM) of an authority, which is then the only trusted one; `client_cert`,
      `client_key`: the client's own certificate
    - `transport`: another carrier of requests instead of aiohttp
    - `wire_log`: a file that gets a JSON line for each request, for support, without token and bodies

    All tasks of an event loop can safely share one client. It belongs to the loop of its first call: in another loop
    its calls raise `EventLoopError`. A setting that cannot work raises `ConfigurationError`, which names the setting.
    """

    def __init__(self, base_url: str, token: str | TokenSource, **options: Unpack[ClientOptions]) -> None:
        given: dict[str, Any] = dict(options)
        problems: list[ConfigurationError] = []
        settings = _tried(problems, lambda: _told(Settings(), given)) or Settings()
        address = _tried(problems, lambda: check_base_url(base_url, allow_insecure=settings.allow_insecure))
        secret = _tried(problems, lambda: _secret(token))
        if address is None or secret is None or problems:
            raise all_of(problems)
        observers = _with_log(_observers(given))
        self._closed = False
        self._root: AltcraftClient = self
        self._engine = _make_engine(address, secret, settings, given, observers)
        self._set_up(settings, secret, observers)

    def _set_up(self, settings: Settings, token: Token, observers: Sequence[Observer]) -> None:
        from altcraft_async.market import Market  # noqa: PLC0415 - loaded with the first client, like the engine

        self._settings = settings
        self._observers = tuple(observers)
        self._token = token
        self._dispatcher = self._engine.dispatcher(settings, token, self._observers)
        self._market = Market(self._dispatcher)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        token: str | TokenSource | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Make a client from ``ALTCRAFT_…`` variables of `environ` (default: of the process).

        ``ALTCRAFT_CONFIG`` names a TOML file of settings, ``ALTCRAFT_PROFILE`` a table in it. Variables take
        precedence over the file, and keywords over variables. ``ALTCRAFT_BASE_URL`` and ``ALTCRAFT_TOKEN`` (or
        ``ALTCRAFT_TOKEN_FILE``, a file that holds the token and that is read again after a refusal) are required, here
        or in the file. The other variables are those of `altcraft_async.settings.TABLE`. Foreign variables are
        ignored; one that looks like a misspelt variable of the client raises an `UnknownVariableWarning`. Raises one
        `ConfigurationError` for all mistakes, which names the variables.
        """
        found = Environment.read(os.environ if environ is None else environ)
        given: dict[str, Any] = dict(options)
        problems = list(found.problems)
        settings = _tried(problems, lambda: _told(found.settings, given)) or found.settings
        _tried(problems, lambda: found.address(allow_insecure=settings.allow_insecure))
        source = _tried(problems, lambda: _source(found) if token is None else token)
        if source is None or problems:
            raise all_of(problems)
        for slip, meant in found.slips.items():
            message = f"{slip} is no setting and was left alone; did you mean {meant}?"
            warnings.warn(message, UnknownVariableWarning, stacklevel=2)
        apart = {name: value for name, value in given.items() if name in _NOT_SETTINGS}
        told: Any = {field.name: getattr(settings, field.name) for field in attrs.fields(Settings)}
        return cls(found.base_url, source, **told, **apart)

    @classmethod
    def from_settings(
        cls,
        path: str | os.PathLike[str],
        *,
        profile: str | None = None,
        environ: Mapping[str, str] | None = None,
        token: str | TokenSource | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Make a client from the TOML file at `path`, as the command line does with ``--config``.

        The file has a table ``[altcraft]`` with the names of `altcraft_async.settings.TABLE` and with ``base_url`` and
        ``token_file`` (or ``token``); paths in it begin at its directory. A `profile` is a table
        ``[altcraft.profiles.NAME]``, which takes precedence over ``[altcraft]``. Variables of `environ` (default: of
        the process) take precedence over the file, and keywords over all. Raises one `ConfigurationError` for all
        mistakes, which names the keys and the file.
        """
        around = dict(os.environ if environ is None else environ)
        around["ALTCRAFT_CONFIG"] = os.fspath(path)
        if profile is not None:
            around["ALTCRAFT_PROFILE"] = profile
        return cls.from_env(around, token=token, **options)

    def with_options(self, *, token: str | TokenSource | None = None, **changes: Unpack[ClientOptions]) -> Self:
        """Return a cheap copy with other settings, sharing pool, gate, budget and observers.

        Settings of the shared parts (`concurrency`, `rate`, `retry_budget`, `retry_refund`, `session`, `tls` and its
        files, `trust_env`, `trace_configs`, `transport`, `wire_log`, `allow_insecure`) cannot be changed: make a new
        client for that. Closing a copy does nothing; closing the original client closes the copy too.
        """
        refused = changes.keys() & OF_THE_POOL
        if refused:
            msg = f"{min(refused)} belongs to the shared pool and cannot differ in a copy; make a new client"
            raise ConfigurationError(msg, field=min(refused))
        given: dict[str, Any] = dict(changes)
        settings = _told(self._settings, given)
        copy = object.__new__(type(self))
        copy._closed = False
        copy._root = self._root
        copy._engine = self._engine
        own = self._token if token is None else Token(token)
        copy._set_up(settings, own, _observers({"observers": self._observers, **given}))
        return copy

    def __repr__(self) -> str:
        """Show where to and in which state; never the token."""
        return f"<AltcraftClient {self.base_url} {'closed' if self.closed else repr(self._engine.gate)}>"

    @property
    def base_url(self) -> str:
        """The platform's address."""
        return self._engine.base_url

    @property
    def settings(self) -> Settings:
        """The client's settings, without address and token."""
        return self._settings

    @property
    def closed(self) -> bool:
        """Whether the client, or the client that it is a copy of, was closed."""
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
        `Orders.update_order_line_status`. XML answers have texts for numbers, and an array of
        one looks like a single element, except for the arrays of the Market's methods. A call that changes one order
        line, or deletes or commits one order by its external id, takes its place among the client's calls for it.

        Guide: "Working with User API".
        """
        self._check_open()
        path = method.strip("/").removeprefix("api/v1.1/")
        if not path or not path.replace("/", "").replace("_", "").replace("-", "").isalnum():
            msg = f"method must be a path like market/orders/get_status, not {method!r}"
            raise ConfigurationError(msg, field="method")
        return await self._dispatcher.ask(path, dict(fields or {}), request_id=request_id, deadline=deadline)

    async def with_raw_response(
        self, method: Callable[P, Awaitable[T]], *arguments: P.args, **keywords: P.kwargs
    ) -> RawResponse[T]:
        """Call a `method` of this client with its arguments, and return its value with status, headers and effort.

        ``await altcraft.with_raw_response(altcraft.market.orders.get_status, external_id="order_1")``. Errors and
        cancellation are those of the method. Raises `ConfigurationError` for a list, and for a bulk call, whose
        outcomes have the same facts.
        """
        from altcraft_async.engine.raw import noted_calls, raw_response  # noqa: PLC0415 - few programs ask for it

        with noted_calls() as calls:
            asked = method(*arguments, **keywords)
            if not inspect.isawaitable(asked):
                msg = "with_raw_response takes a method that makes one call, not a list, whose pages are calls"
                raise ConfigurationError(msg, field="method")
            value = await asked
        return raw_response(value, calls, asyncio.get_running_loop().time())

    def statistics(self) -> ClientStatistics:
        """Take a snapshot of the limit, the traffic and the retry budget."""
        gate = self._engine.gate.statistics()
        totals = self._engine.totals
        last = totals.last_success
        return ClientStatistics(
            limit=gate.limit,
            in_flight=gate.in_flight,
            waiting=gate.waiting,
            rate=gate.rate,
            paused=gate.paused,
            outage=gate.outage,
            problem=None if gate.outage is None else totals.problem,
            sent=totals.sent,
            retries=totals.retries,
            throttled=totals.throttled,
            retry_budget=self._engine.budget.tokens,
            last_success=None if last is None else time.time() - (asyncio.get_running_loop().time() - last),
            processes=gate.processes,
            doing=gate.doing,
        )

    @property
    def learned(self) -> LearnedLimit | None:
        """The limit and pace that an `Adaptive` limit has learned; None while it is still looking."""
        return self._engine.gate.learned

    def begin_at(self, learned: LearnedLimit) -> None:
        """Begin at half of what an earlier client of the server had `learned`, if this one knows nothing yet."""
        self._engine.gate.begin_at(learned)

    def take_part(self, part: float | None) -> bool:
        """Use this part, 0.0 to 1.0, of the totals that are `Shared` among ``"drainers"`` or ``"shards"``.

        An outbox and the delivery of a shard call it, the latter with None while its part is not known: no call starts.

        Returns whether no more than that part is under way: only then may others use the rest.
        """
        return self._engine.gate.take_part(part)

    async def aclose(self) -> None:
        """Close the client and its own session; harmless when called again, without effect on a copy.

        In another event loop it works only if the client's own loop is closed already; otherwise it raises
        `EventLoopError` and closes nothing.
        """
        if self._root is not self or self._closed:
            return
        loop = self._engine.gate.loop
        if loop is not None and not loop.is_closed():
            self._engine.gate.bind(asyncio.get_running_loop())
        self._closed = True
        await self._engine.aclose()

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
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.gate.loop is not None and self._root is self and not self._closed:
            message = f"unclosed {self!r}; use 'async with' or await aclose()"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def _check_open(self) -> None:
        if self.closed:
            raise ClientClosedError


def _make_engine(
    base_url: str, token: Token, settings: Settings, parts: Mapping[str, Any], observers: Sequence[Observer]
) -> Engine:
    from altcraft_async.engine.core import Engine  # noqa: PLC0415 - loaded with the first client: imports stay quick

    return Engine(base_url, token, settings, parts, observers)


def _told(settings: Settings, keywords: Mapping[str, Any]) -> Settings:
    """Return `settings` with the client's `keywords`; raises `ConfigurationError` for one that there is not."""
    unknown = keywords.keys() - KEYWORDS.keys()
    if unknown:
        name = min(unknown)
        meant = nearest(name, KEYWORDS)
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(sorted(KEYWORDS))}"
        msg = f"{name} is no setting of AltcraftClient; {hint}"
        raise ConfigurationError(msg, field=name)
    told = {name: value for name, value in keywords.items() if name not in _NOT_SETTINGS}
    try:
        return with_keywords(settings, told)
    except ConfigurationError as first:
        problems: list[ConfigurationError] = []
        for name, value in told.items():
            _tried(problems, partial(with_keywords, settings, {name: value}))
        raise all_of(problems or [first]) from None


def _secret(token: str | TokenSource) -> Token:
    secret = Token(token)
    if secret.value is not None:
        check_token(secret.value)
    return secret


def _observers(given: Mapping[str, Any]) -> tuple[Observer, ...]:
    observers = given.get("observers", ())
    fits = isinstance(observers, Sequence) and all(callable(getattr(one, "on_event", None)) for one in observers)
    if not fits:
        raise refusal(name="observers", words="a list of objects with a method on_event", value=observers)
    return tuple(observers)


def _with_log(observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
    """Return the observers, with one that logs where ``ALTCRAFT_LOG`` asks for it."""
    if not os.environ.get("ALTCRAFT_LOG"):
        return observers
    from altcraft_async.observe import switch_on_log  # noqa: PLC0415 - most programs do not watch

    log = switch_on_log(os.environ)
    return observers if log is None else (*observers, log)


def _source(found: Environment) -> str | TokenSource:
    """Return the token of an environment, or the file that holds it."""
    if found.token:
        _secret(found.token)
        return found.token
    if found.token_file:
        return TokenFile(found.token_file, name=found.called("token_file"))
    remedy = "set it, or ALTCRAFT_TOKEN_FILE to a file that holds the token"
    raise found.missing(variable="ALTCRAFT_TOKEN", remedy=remedy)


def _tried(problems: list[ConfigurationError], make: Callable[[], T]) -> T | None:
    """Return what `make` gives, or None after adding why it does not to `problems`."""
    try:
        return make()
    except ConfigurationError as error:
        problems.append(error)
        return None
