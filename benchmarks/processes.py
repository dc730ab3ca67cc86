"""Measure processes that share one adaptive limit: real ones, over real sockets, that join, leave and are killed.

The sandbox plays a server of 50 slots, or of 100 calls a second after 20 at once, with a latency of 100 ms. Members are
processes with a client of the default settings, started 0.6 seconds apart. When all are there for twenty seconds, the
last one ends, four seconds later a new one joins, and four seconds after that the first one, which leads the group, is
killed. A member writes down when its calls began and ended. First one process is measured alone: the others are
compared with it.

    python benchmarks/processes.py [--members 2,4,10] [--servers NAME,...] [--json] [--check]

Each play takes three quarters of a minute. It needs a machine with nothing else to do: a member that waits for the
processor looks like one that wants less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from altcraft_async import AltcraftClient, RetryPolicy
from altcraft_async.observe import AttemptEnded, AttemptStarted
from altcraft_async.sandbox import Faults, ThreadedSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async.observe import Event

__all__ = ["main"]

SLOTS, RATE, LATENCY = 50, 100.0, 0.1
SERVERS = {
    "queue-jitter": Faults(latency=LATENCY / 2, jitter=1.0, jitter_form="exponential", slots=SLOTS),
    "reject": Faults(latency=LATENCY, slots=SLOTS, over_slots="reject"),
    "reject-jitter": Faults(
        latency=LATENCY / 2, jitter=1.0, jitter_form="exponential", slots=SLOTS, over_slots="reject"
    ),
    "rate": Faults(latency=LATENCY, rate=RATE, burst=20),
}
LEAST_JAIN, WITHIN, MOST_QUEUED = 0.97, 0.02, 1.7
MOST_TO_SHARE, MOST_TO_TAKE, MOST_AFTER_KILL, DEEPEST = 2.0, 3.0, 3.0, 0.8
APART, SETTLE, MOMENT = 0.6, 3.0, 4.0
CALM = 20.0
"""Seconds that are counted: in each of them all leave room for strangers about once, and it is to weigh alike."""
COLUMNS = (
    "server", "members", "together", "Jain", "smallest share", "throttled", "in flight", "share after",
    "taken after", "after SIGKILL: lowest second", "whole after",
)  # fmt: skip
_TOKEN, _ORDERS, _EACH = "group-token", 200, 4
_STARTED, _SERVED, _THROTTLED, _OTHER = range(4)
_ENTRY = struct.Struct("<dB")


class _Diary:
    """An observer that writes down when calls begin and end; in a file, because its process may be killed."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._kept = bytearray()

    def on_event(self, event: Event, /) -> None:
        """Keep what concerns an attempt."""
        if type(event) is AttemptStarted:
            self._kept += _ENTRY.pack(time.monotonic(), _STARTED)
        elif type(event) is AttemptEnded:
            kind = _THROTTLED if event.throttled else _SERVED if event.error is None else _OTHER
            self._kept += _ENTRY.pack(time.monotonic(), kind)

    def write(self) -> None:
        """Bring what was kept to the file."""
        os.write(self._file, self._kept)
        self._kept.clear()


async def _member(base_url: str, path: str, first: int) -> None:
    """Send without end; SIGTERM ends it, and what is under way is waited for."""
    diary, ends = _Diary(path), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ends.set)

    def updates() -> Iterator[tuple[str, str, str]]:
        for number in itertools.count():
            if ends.is_set():
                return
            order = first + number // _EACH % _ORDERS
            yield f"order_{order}", f"line_{order}_{number % _EACH + 1}", "delivered"

    async def write() -> None:
        while True:
            await asyncio.sleep(0.05)
            diary.write()

    retry = RetryPolicy(attempts=50)
    async with AltcraftClient(base_url, _TOKEN, retry=retry, retry_budget=None, observers=[diary]) as client:
        writing = asyncio.create_task(write())
        async for _ in client.market.orders.stream_order_line_statuses(updates(), window=128):
            pass
        writing.cancel()
        diary.write()


@attrs.define
class _Seen:
    """What one member wrote down: when its calls began, were served, throttled, or ended otherwise."""

    times: tuple[list[float], list[float], list[float], list[float]]
    killed: float | None = None

    @classmethod
    def read(cls, path: Path, killed: float | None) -> _Seen:
        """Read a member's file; an entry that a kill cut off is left out."""
        data, times = path.read_bytes(), ([], [], [], [])
        for at, kind in _ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]):
            times[kind].append(at)
        return cls(times, killed)

    def served(self, begin: float, end: float) -> int:
        """Count the calls that were served in a time."""
        return sum(begin <= at < end for at in self.times[_SERVED])

    def throttled(self, begin: float, end: float) -> int:
        """Count those that were throttled in it."""
        return sum(begin <= at < end for at in self.times[_THROTTLED])

    def moves(self) -> Iterator[tuple[float, int]]:
        """Give when one more, or one less, was in flight."""
        for kind, times in enumerate(self.times):
            yield from ((at, 1 if kind == _STARTED else -1) for at in times)
        lost = len(self.times[_STARTED]) - sum(map(len, self.times[1:]))
        if self.killed is not None:
            yield self.killed, -lost


class _Group:
    """The members of one play, as their parent sees them."""

    def __init__(self, base_url: str, directory: str) -> None:
        self._base_url, self._directory = base_url, Path(directory)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._killed: dict[int, float] = {}

    def join(self) -> None:
        """Start one more."""
        number = len(self._processes)
        told = [self._base_url, str(self._directory / f"{number}"), str(number * _ORDERS + 1)]
        environment = {name: value for name, value in os.environ.items() if name != "ALTCRAFT_LIMIT_GROUP"}
        environment["XDG_RUNTIME_DIR"] = str(self._directory)
        self._processes.append(subprocess.Popen([sys.executable, __file__, "--member", *told], env=environment))

    def wait_for_all(self) -> None:
        """Wait until each has sent something."""
        for number in range(len(self._processes)):
            path = self._directory / f"{number}"
            while not path.exists() or not path.stat().st_size:
                time.sleep(0.01)

    def end(self, number: int, how: signal.Signals) -> float:
        """End one; return the time."""
        self._processes[number].send_signal(how)
        now = time.monotonic()
        if how is signal.SIGKILL:
            self._killed[number] = now
        return now

    def seen(self) -> list[_Seen]:
        """End all, and read what they wrote down."""
        for number, process in enumerate(self._processes):
            if process.poll() is None:
                self.end(number, signal.SIGTERM)
        for process in self._processes:
            process.wait(30)
        return [
            _Seen.read(self._directory / f"{number}", self._killed.get(number))
            for number in range(len(self._processes))
        ]

    def close(self) -> None:
        """Leave nobody behind."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _playing(server: str, members: int) -> Iterator[_Group]:
    with (
        tempfile.TemporaryDirectory() as directory,
        ThreadedSandbox(token=_TOKEN, faults=SERVERS[server], seed=1) as sandbox,
    ):
        sandbox.seed_orders(_ORDERS * (members + 1), _EACH)
        group = _Group(sandbox.base_url, directory)
        try:
            yield group
        finally:
            group.close()


def _alone(server: str) -> tuple[float, float]:
    """Give what one process is served in a second, and the share of its calls that are throttled."""
    with _playing(server, 1) as group:
        group.join()
        group.wait_for_all()
        time.sleep(SETTLE + CALM)
        now = time.monotonic()
        (one,) = group.seen()
    begin = now - CALM
    served, throttled = one.served(begin, now), one.throttled(begin, now)
    return served / CALM, throttled / (served + throttled)


def _together(server: str, members: int, alone: float) -> dict[str, object]:
    """Let the members play, and say how it went."""
    with _playing(server, members) as group:
        for _ in range(members):
            group.join()
            time.sleep(APART)
        group.wait_for_all()
        time.sleep(SETTLE)
        calm = time.monotonic()
        time.sleep(CALM)
        left = group.end(members - 1, signal.SIGTERM)
        time.sleep(MOMENT)
        group.join()
        group.wait_for_all()
        time.sleep(MOMENT)
        killed = group.end(0, signal.SIGKILL)
        time.sleep(MOMENT)
        now = time.monotonic()
        seen = group.seen()
    there = seen[:members]
    counts = [one.served(calm, left) for one in there]
    throttled = sum(one.throttled(calm, left) for one in there)
    seconds = _a_second(seen, killed, now)
    joined = seen[members]
    return {
        "server": server,
        "members": members,
        "together": sum(counts) / (left - calm) / alone,
        "jain": sum(counts) ** 2 / (members * sum(count * count for count in counts)),
        "smallest": min(counts) * members / sum(counts),
        "throttled": throttled / (throttled + sum(counts)),
        "in_flight": _most_in_flight(there, calm, left) / SLOTS if "rate" not in server else None,
        "share_after": _until([joined], joined.times[_STARTED][0], killed, alone / members / 2),
        "taken_after": _until(seen, left, left + MOMENT, 0.9 * alone),
        "lowest": min(seconds) / alone,
        "whole_after": _until(seen, killed, now, 0.9 * alone),
    }


def _a_second(seen: Sequence[_Seen], begin: float, end: float) -> list[float]:
    """Count what is served in each second from `begin` on, a tenth later each time."""
    steps = int((end - begin - 1) * 10) + 1
    return [sum(one.served(begin + step / 10, begin + step / 10 + 1) for one in seen) for step in range(steps)]


def _until(seen: Sequence[_Seen], begin: float, end: float, rate: float) -> float | None:
    """Give the seconds until a half second has this rate."""
    for step in range(int((end - begin - 0.5) * 10)):
        at = begin + step / 10
        if sum(one.served(at, at + 0.5) for one in seen) >= 0.5 * rate:
            return step / 10
    return None


def _most_in_flight(seen: Sequence[_Seen], begin: float, end: float) -> float:
    """Give what is in flight at most, but for one part in a hundred of the time."""
    count, before, held = 0, begin, []
    for at, more in sorted(itertools.chain.from_iterable(one.moves() for one in seen)):
        if begin <= at < end:
            held.append((count, at - before))
            before = at
        count += more
    longest = sorted(held, reverse=True)
    left = 0.01 * sum(seconds for _, seconds in longest)
    for number, seconds in longest:
        left -= seconds
        if left <= 0:
            return number
    return 0


def _missed(found: dict[str, object], alone_throttled: float) -> list[str]:
    """Name what is not as it is to be."""

    def over(name: str, most: float) -> bool:
        value = found[name]
        return value is None or float(str(value)) > most

    within = 1 - WITHIN
    wrong = {
        "together": float(str(found["together"])) < within,
        "jain": float(str(found["jain"])) < LEAST_JAIN,
        "throttled": over("throttled", alone_throttled + WITHIN),
        "in_flight": found["in_flight"] is not None and over("in_flight", MOST_QUEUED),
        "share_after": over("share_after", MOST_TO_SHARE),
        "taken_after": over("taken_after", MOST_TO_TAKE),
        "whole_after": over("whole_after", MOST_AFTER_KILL),
        "lowest": float(str(found["lowest"])) < DEEPEST,
    }
    return [name for name, is_wrong in wrong.items() if is_wrong]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if value <= 1 else f"{value:.2f}"
    return "" if value is None else str(value)


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure processes that share one adaptive limit.")
    parser.add_argument("--members", default="2,4,10", help="how many, one after the other (%(default)s)")
    parser.add_argument("--servers", default=",".join(SERVERS), help="on which servers (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--member", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.member:
        base_url, path, first = options.member
        asyncio.run(_member(base_url, path, int(first)))
        return 0
    if not options.json:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    missed = []
    for server in options.servers.split(","):
        alone, throttled = _alone(server)
        first = {"server": server, "members": 1, "served_a_second": alone, "throttled": throttled}
        print(
            json.dumps(first)
            if options.json
            else f"| {server} | 1 | {alone:.0f} a second |  |  | {throttled:.3f} |" + " |" * 5,
            flush=True,
        )
        for members in map(int, options.members.split(",")):
            found = _together(server, members, alone)
            missed += [f"{server}, {members}: {name}" for name in _missed(found, throttled)]
            print(json.dumps(found) if options.json else f"| {' | '.join(map(_cell, found.values()))} |", flush=True)
    for what in missed:
        print(f"missed: {what}", file=sys.stderr)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
