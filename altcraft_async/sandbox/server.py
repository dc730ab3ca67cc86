"""The sandbox on the network: one aiohttp server around an `Account`, its calls, its admin API and its page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from aiohttp import web

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox.account import Account, AccountRules
from altcraft_async.sandbox.admin import ADMIN_BODY, PREFIX, Admin, is_admin
from altcraft_async.sandbox.calls import CallRules, Calls, Repeats
from altcraft_async.sandbox.faults import Faults
from altcraft_async.sandbox.ledger import Ledger
from altcraft_async.sandbox.readings import Readings
from altcraft_async.sandbox.state import Answers, Market, StateFile
from altcraft_async.sandbox.traffic import Traffic

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler


__all__ = ["Sandbox"]

_LISTEN_BACKLOG = 1024
"""A client that opens its whole pool at once must not be refused."""
_QUIET = logging.getLogger("altcraft_async.sandbox")


class Sandbox:
    """An Altcraft Market to run against, on loopback.

    .. code-block:: python

        import asyncio

        from altcraft_async import AltcraftClient
        from altcraft_async.sandbox import Faults, Sandbox


        async def main() -> None:
            async with Sandbox(faults=Faults.mixed(0.1), seed=7) as sandbox:
                updates = [(*key, "delivered") for key in sandbox.seed_orders(20, lines_per_order=5)]
                async with AltcraftClient(sandbox.base_url, sandbox.token, max_retries=20) as altcraft:
                    await altcraft.market.orders.update_order_line_statuses(updates)
                assert sandbox.ledger.check(updates).ok


        asyncio.run(main())

    `start` and `stop` do the same by hand; a stopped sandbox can be started
    again, on the same port and with the same state, which is an outage for its
    clients. `port` 0 takes any free one.

    `faults` says how it misbehaves; you can assign it while the sandbox runs. `seed` makes the faults repeatable.
    `error_style` chooses the answer to a refused call: HTTP 200 with a code in the envelope (``"http200"``), or the
    code's own HTTP status (``"http4xx"``). Faults, unknown methods (404) and wrong HTTP verbs (405) have their own
    status in both styles. With `answer_format` all answers are in ``"json"`` or ``"xml"``, whatever was requested.

    The answer is 401 to a missing token, `wrong_token_code` (401) to a wrong one, and 403 to any token if
    `market_right` is false. `tokens` are further tokens, each with its role: ``"market"`` may do everything,
    ``"read"`` may only read, ``"none"`` may do nothing. `readings` choose its behaviour where the guide of the Market
    leaves something open.

    The answer to a processed call, success or refusal, is kept for `dedup_window` seconds. With `dedup_request_id` it
    is returned again for the same ``Request-ID`` (or ``X-Request-ID``); with `dedup_checksum` also for the same
    headers and body without an id. Then it has ``Duplicate-Request`` and ``Duplicate-Key`` (with `legacy_headers`
    ``X-`` before both). A repeat that comes while the first is in process waits for its answer (`repeats` is
    ``"hold"``), is refused with the code 409 (``"refuse"``), or is made as well (``"make"``). `cache_failures` also
    keeps the 429 and 5xx answers of faults. With `nodes` above 1 requests go to that many nodes in turn; they share
    the orders, but only the node that gave an answer recognises its repeat.

    `state_file` keeps orders, answers and applied changes over a restart, also
    after a kill. `custom_statuses` are known from the start. A body longer than
    `max_body_bytes` is refused. `clock` gives wall time in seconds for the window.

    `admin` says who reaches the admin API below ``/_sandbox/`` and the page at ``/``: with ``"loopback"`` programs of
    this machine, with ``"network"`` everybody who reaches the port (for a container that is published on loopback),
    with ``"off"`` nobody. It answers only to the names and addresses of loopback, and to `admin_hosts`.
    `keep_requests` is the number of requests that it shows, with their bodies, and never with a token.

    Raises `altcraft_async.errors.ConfigurationError` if a setting cannot work, and `OSError` at the start if the port
    is taken.
    """

    UNKNOWNS: ClassVar[tuple[str, ...]] = (
        "Whether a refused call comes as HTTP 200 or HTTP 4xx: choose with error_style.",
        "The code of a wrong token (401 or 403): choose with wrong_token_code.",
        "Which codes unknown orders, lines and statuses get: here 400.",
        "Whether a status change can be forbidden by the line's present status: here every change is allowed.",
        "Whether a line's status changes the order's own: here it does not.",
        (
            "Whether failures are kept and replayed for their Request-ID: refusals of processed calls are, faults only "
            "with cache_failures."
        ),
        (
            "Which headers enter the checksum, and for which Market methods: here all but those of the connection, for "
            "update_order_line_status and import."
        ),
        (
            "Whether a Request-ID used for another method or change is refused: here the first answer is replayed, and "
            "the ledger counts it in id_conflicts."
        ),
        (
            "Whether all nodes of the platform recognise a repeat, and what becomes of one that comes while the first "
            "is in process: here one node, which holds it back; choose with nodes and repeats."
        ),
        "Any limit of rate, concurrency or time: choose with faults.",
        (
            "Whether an import is applied in part, and whether it answers per row: here all or nothing, a bare "
            "envelope; choose with readings. What it does to known orders: here fields are replaced and lines added."
        ),
        "Whether lists always have next_from_id, how many rows they give, and in which order: choose with readings.",
        "Whether result of get_status is an object or an array: choose with readings.",
        "What a deletion does with ids that there are not: choose with readings.",
        "Whether the lines of a list show their status: choose with readings. Amounts are those of the import.",
        "What preorder and preorder_commit answer: here data with external_id, and what the caller wanted to pay.",
        (
            "Which endpoints and products exist: here any; currencies: choose with readings. Profiles, triggers, "
            "points and custom field values are not emulated."
        ),
    )
    """Open questions about the real platform, and what the sandbox does instead."""

    __slots__ = (
        "_account",
        "_address",
        "_admin",
        "_calls",
        "_clock",
        "_host",
        "_listener",
        "_max_body",
        "_port",
        "_server",
        "ledger",
        "made_with",
        "token",
        "traffic",
    )

    def __init__(  # noqa: PLR0913 - the settings of an emulator
        self,
        token: str = "sandbox-token",  # noqa: S107 - a token for nothing but this sandbox
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
        seed: int = 0,
        error_style: Literal["http200", "http4xx"] = "http200",
        answer_format: Literal["json", "xml"] | None = None,
        dedup_request_id: bool = True,
        dedup_checksum: bool = True,
        dedup_window: float = 86400.0,
        cache_failures: bool = False,
        legacy_headers: bool = False,
        market_right: bool = True,
        tokens: Mapping[str, Literal["market", "read", "none"]] | None = None,
        readings: Readings | None = None,
        wrong_token_code: Literal[401, 403] = 401,
        custom_statuses: Iterable[str] = (),
        state_file: str | os.PathLike[str] | None = None,
        max_body_bytes: int = 10 * 2**20,
        nodes: int = 1,
        repeats: Literal["hold", "refuse", "make"] = "hold",
        admin: Literal["loopback", "network", "off"] = "loopback",
        admin_hosts: Iterable[str] = (),
        keep_requests: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_choice("error_style", error_style, ("http200", "http4xx"))
        _check_choice("answer_format", answer_format, (None, "json", "xml"))
        _check_choice("wrong_token_code", wrong_token_code, (401, 403))
        _check_choice("repeats", repeats, tuple(map(str, Repeats)))
        _check_choice("admin", admin, ("loopback", "network", "off"))
        for role in (tokens or {}).values():
            _check_choice("tokens", role, ("market", "read", "none"))
        for name, number, least in (("nodes", nodes, 1), ("keep_requests", keep_requests, 0)):
            _check_number(name, number, least)
        if not token:
            msg = "token must not be empty; the sandbox accepts this one token"
            raise ConfigurationError(msg, field="token")
        self.token = token
        self.ledger = Ledger()
        self.traffic = Traffic(keep_requests, (token, *(tokens or ())))
        rules = AccountRules(
            error_style=error_style,
            answer_format=answer_format,
            dedup_request_id=dedup_request_id,
            dedup_checksum=dedup_checksum,
            market_right=market_right,
            wrong_token_code=wrong_token_code,
            readings=readings or Readings(),
        )
        self._account = Account(
            token,
            rules,
            market=Market(custom_statuses),
            answers=[Answers(dedup_window) for _ in range(nodes)],
            ledger=self.ledger,
            file=None if state_file is None else StateFile(state_file),
            roles=dict(tokens or {}),
        )
        self.made_with = faults or Faults()
        serving = CallRules(
            seed=seed,
            nodes=nodes,
            repeats=Repeats(repeats),
            cache_failures=cache_failures,
            legacy_headers=legacy_headers,
            max_body_bytes=max_body_bytes,
            clock=clock,
        )
        self._calls = Calls(self._account, serving, self.made_with, self.traffic)
        self._admin = None if admin == "off" else Admin(self, self._account, admin == "network", admin_hosts)
        self._host = host
        self._port = port
        self._max_body = max_body_bytes
        self._clock = clock
        self._address: tuple[str, int] | None = None
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None

    def __repr__(self) -> str:
        """Show where it listens and what it has seen, never the token."""
        where = "stopped" if self._listener is None else self.base_url
        return (
            f"<Sandbox {where}: {len(self._account.market)} orders, {self.ledger.requests} requests, "
            f"{self.ledger.in_flight} in flight>"
        )

    # -- life cycle -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Read the state file and listen; the sandbox then answers until `stop`."""
        if self._listener is not None:
            msg = "the sandbox is already running"
            raise RuntimeError(msg)
        self._account.open(self._clock())
        self._server = web.Server(
            self._handle, request_factory=self._make_request, access_log=None, logger=_QUIET, lingering_time=1.0
        )
        loop = asyncio.get_running_loop()
        port = self._address[1] if self._address else self._port
        try:
            self._listener = await loop.create_server(self._server, self._host, port, backlog=_LISTEN_BACKLOG)
        except BaseException:
            self._account.close()
            raise
        host, port = self._listener.sockets[0].getsockname()[:2]
        self._address = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - recognised

    async def stop(self) -> None:
        """Stop listening, cut every open connection, close the state file; harmless twice.

        A request in process is dropped: its change is not made.
        """
        listener, server = self._listener, self._server
        if listener is None or server is None:
            return
        self._listener = self._server = None
        listener.close()
        if self._admin is not None:
            await self._admin.close()
        server.pre_shutdown()
        await server.shutdown(0.01)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listener.wait_closed(), 1.0)
        self._account.close()

    # -- what a test or a person touches --------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The URL to give to a client, for example ``http://127.0.0.1:41327``; known from the first start on."""
        if self._address is None:
            msg = "the sandbox has no address yet; start it first, with `async with`"
            raise RuntimeError(msg)
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def faults(self) -> Faults:
        """How the sandbox misbehaves. Assigning starts a new plan from the seed, for the requests to come."""
        return self._calls.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._calls.faults = faults
        self.traffic.tell()

    @property
    def has_admin(self) -> bool:
        """Whether it has an admin API and a page."""
        return self._admin is not None

    @property
    def order_count(self) -> int:
        """How many orders there are."""
        return len(self._account.market)

    def seed_orders(self, orders: int, lines_per_order: int = 1) -> list[tuple[str, str]]:
        """Make orders ``order_1``, … with lines ``line_1_1``, … of status ``new``; return every line's key.

        An existing order, from a state file, stays unchanged.
        """
        keys = [(f"order_{i}", f"line_{i}_{j}") for i in range(1, orders + 1) for j in range(1, lines_per_order + 1)]
        lines: dict[str, dict[str, str]] = {f"order_{i}": {} for i in range(1, orders + 1)}
        for order, line in keys:
            lines[order][line] = "new"
        self._account.seed((order, "sandbox", "new", statuses) for order, statuses in lines.items())
        return keys

    def add_order(
        self,
        order_external_id: str,
        lines: Iterable[str] | Mapping[str, str],
        *,
        status: str = "new",
        endpoint: str = "sandbox",
    ) -> None:
        """Make one order with these lines, of status ``new`` if `lines` has no statuses.

        An existing order stays unchanged.
        """
        statuses = dict(lines) if isinstance(lines, Mapping) else dict.fromkeys(lines, "new")
        self._account.seed([(order_external_id, endpoint, status, statuses)])

    def line_status(self, order_external_id: str, order_line_external_id: str) -> str:
        """Return the present status of a line; raises `KeyError` if there is none."""
        return self._account.market.orders[order_external_id].lines[order_line_external_id]

    def import_rows(self, kind: Literal["orders", "products", "sku"], rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows with the platform's names, unchecked, as an import would."""
        self._account.put_rows(kind, rows)

    def has(self, kind: Literal["orders", "products", "sku"], external_id: str) -> bool:
        """Return whether an order, product or SKU with this external id exists."""
        market = self._account.market
        return external_id in (market.orders if kind == "orders" else market.goods[kind].rows)

    def order_status(self, order_external_id: str) -> str:
        """Return the present status of an order; raises `KeyError` if there is none."""
        return self._account.market.orders[order_external_id].status

    # -- all of it ------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, object]:
        """Return orders, products, SKU, kept answers and the ledger, ready for JSON; faults and settings are no part.

        A request in process at this moment counts as dropped in it.
        """
        return self._account.snapshot()

    def restore(self, snapshot: Mapping[str, object]) -> None:
        """Replace the whole state by a `snapshot` of this sandbox or another.

        The traffic is forgotten. Raises `altcraft_async.errors.ConfigurationError` if it is no snapshot; then nothing
        has changed.
        """
        self._account.restore(snapshot)
        self.traffic.clear()

    def reset(self) -> None:
        """Forget all orders, products, SKU, answers and the ledger; misbehave again as at the beginning.

        The custom statuses that the sandbox was made with stay.
        """
        self._account.reset()
        self.faults = self.made_with
        self.traffic.clear()

    # -- one request ----------------------------------------------------------------------------

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        most = ADMIN_BODY if self._admin is not None and message.path.startswith(PREFIX) else self._max_body
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=most)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._admin is not None and is_admin(request):
            return await self._admin.handle(request)
        return await self._calls.handle(request)


def _check_choice(field: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        msg = f"{field} must be one of {', '.join(map(repr, allowed))}, not {value!r}"
        raise ConfigurationError(msg, field=field)


def _check_number(field: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        msg = f"{field} must be a whole number from {least} up, not {value!r}"
        raise ConfigurationError(msg, field=field)
