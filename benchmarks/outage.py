"""Play outages of every kind to real clients over real sockets: what is applied, how much is sent, how soon it goes on.

The server of `tests/hostile.py` is in a process of its own: 50 slots of 50 ms. The
outage begins when a third of the lines is made, or (``start``) before the first;
everything about the client is a default, but that ``start`` has a first patience of a minute.

    python benchmarks/outage.py [--kinds reset,502] [--ways run,outbox,start] [--seconds 12] [--quick] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from altcraft_async import AltcraftClient
from altcraft_async.outbox import Outbox
from hostile import Attempts, HostileServer, Ledger, Weather, lost_names, numbered_updates, outage_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["main"]

SLOTS = 50
SLOT_SECONDS = 0.05
MOST_SENDS = 350
SOON = 200
"""The send after the end of an outage that tells how soon the client is back."""
SOON_SECONDS = 3.0
PATIENCE_AT_START = 60.0


@attrs.frozen
class Kind:
    """One kind of outage.

    `soon` says whether the time to the 200th send is held to its target, `told` whether an outbox must say
    that something is wrong: it cannot know that before anything has timed out.
    """

    weather: Weather
    tls: bool = False
    by_name: bool = False
    soon: bool = True
    told: bool = True


KINDS = {
    "refused": Kind(Weather.REFUSED),
    "name": Kind(Weather.REFUSED, by_name=True),
    "reset": Kind(Weather.RESET),
    "closed": Kind(Weather.CLOSED),
    "silent": Kind(Weather.SILENT, told=False),
    "accepts": Kind(Weather.ACCEPTS_ONLY, tls=True, told=False),
    "black-hole": Kind(Weather.BLACK_HOLE, told=False),  # what was in flight ends by its timeout
    "tls-dropped": Kind(Weather.TLS_DROPPED, tls=True),
    "tls-fails": Kind(Weather.TLS_FAILS, tls=True),
    "502": Kind(Weather.BAD_GATEWAY),
    "504": Kind(Weather.GATEWAY_TIMEOUT),
    "503": Kind(Weather.UNAVAILABLE),
    "503-1s": Kind(Weather.UNAVAILABLE_1S, soon=False),  # the server asks to be left alone
    "429": Kind(Weather.THROTTLED),
    "maintenance": Kind(Weather.MAINTENANCE),
    "500": Kind(Weather.ERROR_500),
    "foreign-json": Kind(Weather.FOREIGN_JSON),
    "404": Kind(Weather.NOT_FOUND),
    "405": Kind(Weather.NOT_ALLOWED),
    "redirect": Kind(Weather.REDIRECT),
    "403": Kind(Weather.FORBIDDEN),
}
NO_SERVER_AT_START = ("404", "405", "redirect", "403", "maintenance", "foreign-json")
"""At the start these are no outage but a wrong address, which stops a run at its third answer."""


@attrs.frozen
class Case:
    """One outage to play: `way` is ``run``, ``outbox`` or ``start``."""

    kind: str
    way: str
    lines: int
    seconds: float
    limit: float


@attrs.frozen
class Result:
    """How one outage went.

    `applied` is a share of the lines, by the server's ledger, `states` what the
    others became. `sends` were begun during the outage; the 200th after it was
    `soon` seconds after its end, None where there was none. `told` is how many seconds an outbox
    took to say that something is wrong. `total` is the time of it all, in seconds.
    """

    kind: str
    way: str
    applied: float
    states: Mapping[str, int]
    sends: int
    soon: float | None
    told: float | None
    total: float
    finished: bool

    @property
    def missed(self) -> list[str]:
        """Name the targets that were missed."""
        missed = []
        if self.applied < 1.0 or self.states or not self.finished:
            missed.append("applied")
        if self.sends > MOST_SENDS:
            missed.append("sends")
        if KINDS[self.kind].soon and (self.soon is None or self.soon > SOON_SECONDS):
            missed.append("soon")
        if self.way == "outbox" and KINDS[self.kind].told and self.told is None:
            missed.append("told")
        return missed


async def _run(client: AltcraftClient, lines: int) -> tuple[Counter[str], float | None]:
    """Deliver the lines by one bulk call; return the states of what was not applied."""
    states: Counter[str] = Counter()
    async for outcome in client.market.orders.stream_order_line_statuses(numbered_updates(lines)):
        if not outcome.ok:
            states[str(outcome.state)] += 1
    return states, None


async def _outbox(client: AltcraftClient, lines: int) -> tuple[Counter[str], float | None]:
    """Deliver the lines by an outbox; return the number of dead letters, and when it told that something is wrong."""
    told: float | None = None
    with tempfile.TemporaryDirectory() as directory:
        async with Outbox(Path(directory, "outbox.db"), client, drain_timeout=0.1) as outbox:
            await asyncio.gather(*(outbox.put(update) for update in numbered_updates(lines)))
            while outbox.statistics().pending:
                if told is None and outbox.statistics().problem is not None:
                    told = time.monotonic()
                await asyncio.sleep(0.05)
            dead = outbox.statistics().dead
    return Counter({"dead": dead} if dead else {}), told


WAYS: dict[str, Callable[[AltcraftClient, int], Awaitable[tuple[Counter[str], float | None]]]] = {
    "run": _run,
    "outbox": _outbox,
    "start": _run,
}


async def _send(case: Case, url: str, options: dict[str, Any]) -> tuple[Counter[str], float | None, bool]:
    if case.way == "start":
        options = options | outage_options(first_patience=PATIENCE_AT_START)
    async with AltcraftClient(url, **options) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(case.limit):
                return *(await WAYS[case.way](client, case.lines)), True
    return Counter(), None, False


def play(case: Case) -> Result:
    """Play one outage to one client."""
    kind = KINDS[case.kind]
    attempts = Attempts()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(HostileServer(tls=kind.tls, slots=SLOTS, seconds=SLOT_SECONDS))
        options: dict[str, Any] = {"token": server.token, "tls": server.client_tls, "observers": [attempts]}
        url = server.base_url
        if kind.by_name:
            url = stack.enter_context(lost_names(server))
            options["allow_insecure"] = True
        server.plan(kind.weather, after=0 if case.way == "start" else case.lines // 3, seconds=case.seconds)
        started = time.monotonic()
        states, told, finished = asyncio.run(_send(case, url, options))
        total = time.monotonic() - started
        ledger = server.ledger
    return _result(case, ledger, attempts, (states, told, finished), total)


def _result(
    case: Case,
    ledger: Ledger,
    attempts: Attempts,
    ended: tuple[Counter[str], float | None, bool],
    total: float,
) -> Result:
    states, told, finished = ended
    begin, end = ledger.outage
    after = [arrival.at for arrival in ledger.arrivals if arrival.at >= end]
    arrived = sum(begin <= arrival.at < end for arrival in ledger.arrivals)
    return Result(
        kind=case.kind,
        way=case.way,
        applied=len({(made.order, made.line) for made in ledger.made}) / case.lines,
        states=states,
        sends=max(arrived, attempts.between(begin, end)),
        soon=after[SOON - 1] - end if len(after) >= SOON else None,
        told=None if told is None or told > end else told - begin,
        total=total,
        finished=finished,
    )


def _row(result: Result) -> str:
    others = ", ".join(f"{count} {state}" for state, count in result.states.items()) or "-"
    if not result.finished:
        others = "not finished in time"
    soon = "-" if result.soon is None else f"{result.soon:.1f} s"
    told = "-" if result.told is None else f"{result.told:.1f} s"
    missed = ", ".join(result.missed) or "ok"
    numbers = f"{result.applied:>8.1%}  {others:<22}{result.sends:>6}{soon:>8}{told:>8}{result.total:>8.1f} s"
    return f"{result.way:<8}{result.kind:<14}{numbers}  {missed}"


def _cases(options: argparse.Namespace) -> list[Case]:
    lines = options.lines or (1500 if options.quick else 4000)
    seconds = options.seconds or (4.0 if options.quick else 12.0)
    at_start = options.start_seconds or (8.0 if options.quick else 30.0)
    cases = []
    for way in options.ways:
        lasts = at_start if way == "start" else seconds
        limit = lasts + 60.0 + lines / 200
        kinds = [kind for kind in options.kinds if way != "start" or kind not in NO_SERVER_AT_START]
        cases += [Case(kind, way, lines, lasts, limit) for kind in kinds]
    return cases


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            msg = f"{', '.join(unknown)}: known are {', '.join(known)}"
            raise argparse.ArgumentTypeError(msg)
        return names

    return read


def main() -> int:
    """Play, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Play outages of every kind to real clients.")
    parser.add_argument("--kinds", type=_names(list(KINDS)), default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--ways", type=_names(list(WAYS)), default=list(WAYS), help=", ".join(WAYS))
    parser.add_argument("--lines", type=int, help="default 4000, with --quick 1500")
    parser.add_argument("--seconds", type=float, help="of an outage; default 12, with --quick 4")
    parser.add_argument("--start-seconds", type=float, help="of one at the start; default 30, with --quick 8")
    parser.add_argument("--quick", action="store_true", help="fewer lines and shorter outages")
    parser.add_argument("--jobs", type=int, default=2, help="outages played side by side (default 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    if not options.json:
        print(f"{'':<22}{'applied':>8}  {'the rest':<22}{'sends':>6}{'back':>8}{'told':>8}{'total':>10}  missed")
    missed = False
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(play, _cases(options)):
            shown = attrs.asdict(result) | {"missed": result.missed}
            print(json.dumps(shown) if options.json else _row(result), flush=True)
            missed = missed or bool(result.missed)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
