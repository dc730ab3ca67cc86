"""A server with the weather and the manners of real networks, in a process of its own, and what must hold with it.

.. code-block:: python

    with HostileServer(slots=20, seconds=0.01) as server:
        server.plan(Weather.RESET, after=100, seconds=2.0)
        async with AltcraftClient(server.base_url, server.token) as altcraft:
            report = await altcraft.market.orders.update_order_line_statuses(updates)
    assert broken_promises(server.ledger, updates, report.outcomes) == []

Tests and benchmarks use it; it uses the library's public API alone.
"""

from __future__ import annotations

import functools
import multiprocessing
import socket
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import attrs

import altcraft_async
from altcraft_async import OutcomeState, RetryPolicy
from altcraft_async.observe import AttemptStarted
from hostile_answers import (
    FAILING_LINES,
    FIREWALL_LINES,
    REDIRECT_TARGET,
    REFUSED_LINES,
    TOKEN,
    Arrival,
    Made,
    Manners,
    Misdeed,
    Weather,
)
from hostile_server import serve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Sequence

    from altcraft_async import Outcome

__all__ = [
    "FAILING_LINES",
    "FIREWALL_LINES",
    "NAME",
    "REDIRECT_TARGET",
    "REFUSED_LINES",
    "Attempts",
    "HostileServer",
    "Ledger",
    "Misdeed",
    "Weather",
    "broken_promises",
    "lost_names",
    "numbered_updates",
    "outage_options",
]

NAME = "altcraft.test"
"""The host name that `lost_names` can make unknown."""


@attrs.frozen
class Ledger:
    """What the server saw and did; times are of the machine's monotonic clock."""

    arrivals: Sequence[Arrival] = attrs.field(repr=len)
    made: Sequence[Made] = attrs.field(repr=len)
    weathers: Sequence[tuple[float, Weather]]
    connections: int

    @property
    def outage(self) -> tuple[float, float]:
        """Begin and end of the first weather that was not fair; the end is infinite where it lasts."""
        begin = next(at for at, weather in self.weathers if weather is not Weather.FAIR)
        end = next((at for at, weather in self.weathers if at > begin and weather is Weather.FAIR), float("inf"))
        return begin, end

    def statuses(self) -> dict[tuple[str, str], list[str]]:
        """Return for each line the statuses that it was given, in order."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for made in self.made:
            found[made.order, made.line].append(made.status)
        return found


@functools.cache
def _quick_context() -> Any:
    """Return what starts processes: forks of one that has loaded the server, which takes longer than most tests."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hostile_server"])
    return context


class HostileServer:
    """The server, started and stopped by ``with``; keywords are those of `Manners`.

    With `tls`, a context that a client gives as ``tls=`` stands in `client_tls`.
    """

    def __init__(self, *, tls: bool = False, **manners: Any) -> None:
        self.token = TOKEN
        self.client_tls: ssl.SSLContext | bool = True
        self._manners = Manners(**manners)
        self._pem = self._make_certificate() if tls else None
        self._last: Ledger | None = None

    def __enter__(self) -> Self:
        context = _quick_context()
        self._pipe, its = context.Pipe()
        self._process = context.Process(target=serve, args=(self._manners, self._pem, its), daemon=True)
        self._process.start()
        its.close()
        self.port: int = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._last = self.ledger
        self._pipe.close()
        self._process.join(10)
        self._process.kill()  # nothing, where it has ended
        self._process.join()
        self._process.close()

    @property
    def base_url(self) -> str:
        return f"{'https' if self._pem else 'http'}://127.0.0.1:{self.port}"

    @property
    def ledger(self) -> Ledger:
        """The ledger as of now, or of the end."""
        return self._last or Ledger(*self._ask("ledger"))

    def switch(self, weather: Weather) -> None:
        """Let everybody meet `weather` from now on; it is so when this returns."""
        self._ask("switch", weather)

    def plan(self, weather: Weather, *, after: int, seconds: float) -> None:
        """Let `weather` begin with that many changes made, and last so many seconds."""
        self._ask("plan", weather, after, seconds)

    def behave(self, **manners: Any) -> None:
        """Have other manners from now on."""
        self._ask("behave", Manners(**manners))

    def _ask(self, command: str, *arguments: object) -> Any:
        self._pipe.send((command, arguments))
        return self._pipe.recv()

    def _make_certificate(self) -> bytes:
        import ssl  # noqa: PLC0415 - few servers speak TLS

        import trustme  # noqa: PLC0415

        authority = trustme.CA()
        self.client_tls = ssl.create_default_context()
        authority.configure_trust(self.client_tls)
        return authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()


class Attempts:
    """An observer that keeps when each attempt began, on the server's clock."""

    def __init__(self, clock: Any = None) -> None:
        self.at: list[float] = []
        self._clock = clock or time.monotonic

    def on_event(self, event: object, /) -> None:
        if type(event) is AttemptStarted:
            self.at.append(self._clock())

    def between(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in self.at)


def outage_options(*, attempts: int = 5, base: float = 0.5, **outage: Any) -> dict[str, Any]:
    """Return the client's keywords for a policy of outages: ``patience``, ``first_patience``, ``call_patience``."""
    policy = getattr(altcraft_async, "OutagePolicy", None)
    if policy is not None:
        return {"retry": RetryPolicy(attempts=attempts, base=base), "outage": policy(**outage)}
    known = {name: value for name, value in outage.items() if name in {"patience", "first_patience"}}
    return {"retry": RetryPolicy(attempts=attempts, base=base, **known)}


@contextmanager
def lost_names(server: HostileServer) -> Iterator[str]:
    """Give a URL of `server` by the name `NAME`, which is unknown in any weather but a fair one.

    A name is asked for only where no connection is kept, so this goes with
    `Weather.REFUSED`: the network is away with everything in it.
    """
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host != NAME:
            return real(host, port, *arguments, **options)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", port, *arguments, **options)

    socket.getaddrinfo = look_up
    try:
        yield f"http://{NAME}:{server.port}"
    finally:
        socket.getaddrinfo = real


def numbered_updates(lines: int, statuses: int = 1, *, names: str = "line") -> list[tuple[str, str, str]]:
    """Make updates of so many lines, each with that many different statuses, all of one round before the next."""
    return [
        (f"order_{line // 4}", f"{names}_{line}", f"status_{number}")
        for number in range(1, statuses + 1)
        for line in range(lines)
    ]


_OK = {OutcomeState.APPLIED, OutcomeState.DUPLICATE}


def _as_it_must(line: str, state: OutcomeState) -> bool:
    """Say whether `state` is what became of `line`, by what the server does with it."""
    if line.startswith(REFUSED_LINES):
        return state is OutcomeState.REJECTED
    if line.startswith(FIREWALL_LINES):  # in doubt where a connection broke under one of its attempts
        return state in {OutcomeState.REJECTED, OutcomeState.UNKNOWN}
    if line.startswith(FAILING_LINES):
        return state is OutcomeState.UNKNOWN
    return state in _OK


def broken_promises(
    ledger: Ledger, updates: Sequence[tuple[str, str, str]], outcomes: Iterable[Outcome], *, most: int = 10
) -> list[str]:
    """Return in words what does not hold of a run over different `updates`: nothing, where all is well.

    Each update has one outcome, which is what the server did with it: made once
    where it is applied or a duplicate, never where it is not; and the updates of a line were
    made in their order. At most so many are told in full, the rest are counted.
    """
    outcomes = list(outcomes)
    by_index = {outcome.index: outcome for outcome in outcomes}
    broken = []
    if len(outcomes) != len(by_index) or sorted(by_index) != list(range(len(updates))):
        broken.append(f"{len(outcomes)} outcomes of {len(by_index)} indexes for {len(updates)} updates")
    times = Counter((made.order, made.line, made.status) for made in ledger.made)
    ids = Counter(made.request_id for made in ledger.made)
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for index, update in enumerate(updates):
        outcome = by_index.get(index)
        if outcome is None:
            broken.append(f"{update} has no outcome")
            continue
        if not _as_it_must(update[1], outcome.state):
            broken.append(f"{update} is {outcome.state} (made {times[update]} times): {outcome.error}")
        elif (outcome.state in _OK) != (times[update] == 1) and outcome.state is not OutcomeState.UNKNOWN:
            broken.append(f"{update} is {outcome.state}, and was made {times[update]} times")
        if times[update]:
            wanted[update[:2]].append(update[2])
    broken += [
        f"the change under {request_id} was made {count} times" for request_id, count in ids.items() if count > 1
    ]
    statuses = ledger.statuses()
    broken += [
        f"line {key} was given {statuses[key]} instead of {order}"
        for key, order in wanted.items()
        if statuses[key] != order
    ]
    return broken if len(broken) <= most else [*broken[:most], f"and {len(broken) - most} more"]
