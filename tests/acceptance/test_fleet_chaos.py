"""A fleet of putters and drainers on one database, of which everything is killed, stopped, ended and restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest

from altcraft_async.sandbox import Faults, ThreadedSandbox
from postgres_server import PostgresServer, programs

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: nox -s postgres")

ROOT = Path(__file__).parents[2]
MEMBER = Path(__file__).with_name("fleet_member.py")
MOST = 20_000
LEASE = 3.0

pytestmark = [pytest.mark.postgres, pytest.mark.skipif(programs() is None, reason="needs PostgreSQL: nox -s postgres")]


@attrs.frozen
class Plan:
    updates: int
    kills: int
    stops: int
    restarts: int
    ended: int
    putters: int = 4
    drainers: int = 3
    lines: int = 30


@attrs.define(eq=False)
class Member:
    """A process that is started again whenever it was killed, and what it has said."""

    arguments: list[str]
    first: int = 1
    process: subprocess.Popen[str] | None = None
    put: list[tuple[int, int]] = attrs.field(factory=list)
    back: list[tuple[int, int]] = attrs.field(factory=list)
    thread: threading.Thread | None = None

    def start(self) -> None:
        first = [str(self.first)] if self.arguments[0] == "put" else []
        self.process = subprocess.Popen(
            [sys.executable, str(MEMBER), *self.arguments, *first],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.thread = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.thread.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for said in process.stdout:
                kind, *numbers = said.split()
                if len(numbers) == 2:
                    (self.put if kind == "put" else self.back).append((int(numbers[0]), int(numbers[1])))

    def end(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        assert self.thread is not None
        self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.thread.join(timeout=10)
        # none that may have been put is put again under another id
        self.first = 3 + max([self.first, *(number for _, number in self.put + self.back)])

    def restart(self) -> None:
        self.end()
        self.start()


def rage(plan: Plan, server: PostgresServer, members: list[Member], chance: random.Random) -> Counter[str]:
    """Do all that is planned, spread over the time in which the updates are put."""
    deeds = ["kill"] * plan.kills + ["stop"] * plan.stops + ["restart"] * plan.restarts + ["end"] * plan.ended
    chance.shuffle(deeds)
    drainers = [member for member in members if member.arguments[0] == "drain"]
    done: Counter[str] = Counter()
    for deed in deeds:
        time.sleep(chance.uniform(0.2, 0.8))
        assert all(member.process.poll() is None for member in members), "one ended by itself"
        if deed == "kill":
            chance.choice(members).restart()
        elif deed == "stop":
            process = chance.choice(drainers).process
            process.send_signal(signal.SIGSTOP)
            time.sleep(LEASE + chance.uniform(0.5, 1.5))
            process.send_signal(signal.SIGCONT)
        elif deed == "restart":
            server.restart(chance.choice(["fast", "immediate"]))
        else:
            with contextlib.suppress(psycopg.Error), psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'altcraft_async' "
                    "ORDER BY random() LIMIT 1"
                )
        done[deed] += 1
    return done


def waiting(server: PostgresServer) -> tuple[int, int]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        counts = "SELECT (SELECT count(*) FROM altcraft.entry), (SELECT count(*) FROM altcraft.dead)"
        return connection.execute(counts).fetchone()


def run(plan: Plan, seed: int) -> None:
    chance = random.Random(seed)
    statuses = [f"{kind}{number}" for kind in "sr" for number in range(MOST)]
    faults = Faults.mixed(0.05, latency=0.002)
    with PostgresServer() as server, ThreadedSandbox(custom_statuses=statuses, faults=faults, seed=seed) as sandbox:
        sandbox.seed_orders(plan.putters * plan.lines)
        where = [server.url(), sandbox.base_url, sandbox.token]
        putters = [Member(["put", *where, str(number), str(plan.lines)]) for number in range(plan.putters)]
        drainers = [Member(["drain", *where]) for _ in range(plan.drainers)]
        members = putters + drainers
        try:
            for member in members:
                member.start()
            began = time.monotonic()
            done = rage(plan, server, members, chance)
            while sum(len(member.put) for member in putters) < plan.updates:
                time.sleep(0.1)
                assert all(member.process.poll() is None for member in members), "one ended by itself"
                assert time.monotonic() - began < 1200
            for member in putters:
                member.end(signal.SIGTERM)
            while (left := waiting(server))[0]:
                time.sleep(0.2)
                assert all(member.process.poll() is None for member in drainers), "one ended by itself"
                assert time.monotonic() - began < 1500, left
            for member in drainers:
                member.end(signal.SIGTERM)
        finally:
            for member in members:
                if member.process is not None and member.process.poll() is None:
                    member.process.kill()
                    member.process.wait()
        accepted = [pair for member in putters for pair in member.put]
        rolled_back = [pair for member in putters for pair in member.back]
        print(  # noqa: T201 - the session shows it
            f"\n{len(accepted)} accepted, {len(rolled_back)} rolled back, {dict(done)}, "
              f"{time.monotonic() - began:.0f} s, {sandbox.ledger.requests} requests")  # fmt: skip
        assert left == (0, 0)
        assert len(accepted) >= plan.updates
        check(plan, sandbox, accepted)


def check(plan: Plan, sandbox: ThreadedSandbox, accepted: list[tuple[int, int]]) -> None:
    by_line: dict[int, set[int]] = {}
    for line, number in accepted:
        by_line.setdefault(line, set()).add(number)
    for line in range(1, plan.putters * plan.lines + 1):
        changes = [change.status for change in sandbox.ledger.changes(f"order_{line}", f"line_{line}_1")]
        assert all(status.startswith("s") for status in changes), "one that was rolled back was sent"
        numbers = [int(status[1:]) for status in changes]
        assert numbers == sorted(set(numbers)), f"made twice, or out of order: {line}"
        assert by_line.get(line, set()) <= set(numbers), f"lost: {line}"
        arrivals = sandbox.ledger.arrivals(f"order_{line}", f"line_{line}_1")
        assert len({(arrival.status, arrival.request_id) for arrival in arrivals}) == len(changes), "two ids"


@pytest.mark.slow
def test_a_fleet_that_is_killed_now_and_then_loses_nothing_and_makes_nothing_twice() -> None:
    run(Plan(updates=300, kills=3, stops=0, restarts=1, ended=2, putters=2, drainers=2, lines=8), seed=1)


@pytest.mark.chaos
def test_a_fleet_survives_kills_stops_restarts_and_ended_sessions() -> None:
    updates = int(os.environ.get("ALTCRAFT_CHAOS_UPDATES", "50000"))
    run(Plan(updates=updates, kills=100, stops=10, restarts=10, ended=50), seed=2)
