"""Measure an outbox, in a file and in PostgreSQL: puts, how long they take, and updates put and delivered a second.

The file lies in a temporary directory, on a real disk where ``--directory`` says so: a put returns when the
disk has it, so the numbers are those of the disk as much as ours. For comparison the same disk makes one
bare SQLite commit after the other. PostgreSQL is a fresh cluster in the same directory, with its defaults, so with
fsync; ``--url`` measures another. Delivered is to the raw server, in a process of its own, by one drainer, which
puts too (`together`), or whose updates another process puts (`apart`), as replicas do; all share the machine.

    python benchmarks/outbox.py [--quick] [--directory DIR] [--url URL] [--rows N] [--json] [--check]

``--rows`` puts and delivers so many more in PostgreSQL, half of them beside a transaction that stays open, and tells
how large the tables are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from raw_server import running_server

from altcraft_async import AltcraftClient
from altcraft_async.outbox import Outbox, PostgresStore, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from altcraft_async.outbox import OutboxStore

__all__ = ["database", "main"]

CALLERS = 200
LEAST_PUTS_A_SECOND = 2000
MOST_P99_MS = 100.0
LEAST_DELIVERED_A_SECOND = 4000
MOST_P99_AT_HALF_LOAD_MS = 20.0
SERVED_AT_ONCE = 64


async def _put(outbox: Outbox, callers: int, count: int, rate: float | None = None) -> tuple[float, list[float]]:
    """Return the seconds for `count` puts by that many callers, and the sorted seconds of each put."""
    taken: list[float] = []
    started = time.perf_counter()

    async def call(caller: int) -> None:
        for number in range(count // callers):
            if rate is not None:  # each caller at its own moments, so that none waits for another's commit on purpose
                due = started + (number + caller / callers) * callers / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            await outbox.put((f"order_{caller}", f"line_{number}", "delivered"))
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(call(caller) for caller in range(callers)))
    return time.perf_counter() - started, sorted(taken)


def _store(place: str, name: str, most: int) -> OutboxStore:
    """Make a store of the outbox of that name: in a database, where `place` is its address, or in a directory."""
    if place.startswith("postgres"):
        return PostgresStore(place, schema=name, capacity=most)
    return SqliteStore(Path(place, f"{name}.db"), capacity=most)


async def _puts(place: str, name: str, callers: int, count: int) -> tuple[float, list[float]]:
    async with Outbox(_store(place, name, 2 * count)) as outbox:
        return await _put(outbox, callers, count)


@attrs.frozen
class _Load:
    """How many updates to put, how many a second at most, and whether in a process of its own."""

    count: int
    rate: float | None = None
    apart: bool = False


async def _put_apart(place: str, name: str, load: _Load, parent: Connection) -> None:
    async with Outbox(_store(place, name, 10 * load.count)) as outbox:
        await _put(outbox, CALLERS, CALLERS)
        await asyncio.to_thread(parent.recv)
        parent.send(await _put(outbox, CALLERS, load.count, load.rate))


def _run_apart(place: str, name: str, load: _Load, parent: Connection) -> None:
    asyncio.run(_put_apart(place, name, load, parent))


@attrs.frozen
class _Through:
    """What was put and settled: updates, seconds, those of each put, sorted, and the CPU of the drainer's process."""

    count: int
    put: float
    settled: float
    taken: list[float]
    cpu: float

    @property
    def a_second(self) -> int:
        return round(self.count / self.settled)


async def _delivered(place: str, name: str, port: int, load: _Load) -> _Through:
    """Put and deliver; one put of each caller goes before: connections are opened with them."""
    client = AltcraftClient(f"http://127.0.0.1:{port}", "token", concurrency=SERVED_AT_ONCE)
    store = _store(place, name, 10 * load.count)
    async with client as altcraft, Outbox(store, altcraft, drain_timeout=600.0) as outbox:
        while not outbox.statistics().draining:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        child, parent = multiprocessing.Pipe()
        if load.apart:
            spawned = multiprocessing.get_context("spawn")
            spawned.Process(target=_run_apart, args=(place, name, load, parent), daemon=True).start()
        else:
            await _put(outbox, CALLERS, CALLERS)
        await _settled(outbox, CALLERS)
        started, spent = time.perf_counter(), time.process_time()
        child.send("go")
        put = asyncio.to_thread(child.recv) if load.apart else _put(outbox, CALLERS, load.count, load.rate)
        (putting, taken), _ = await asyncio.gather(put, _settled(outbox, CALLERS + load.count))
        seconds, cpu = time.perf_counter() - started, time.process_time() - spent
        return _Through(load.count, putting, seconds, taken, cpu)


async def _settled(outbox: Outbox, count: int) -> None:
    while outbox.statistics().delivered < count:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.005)


def _bare_commits(path: Path, count: int) -> float:
    """Return the seconds of one SQLite commit, one row each, with the same settings."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE entry (id INTEGER PRIMARY KEY, said TEXT)"
        )
        started = time.perf_counter()
        for _ in range(count):
            connection.execute("INSERT INTO entry (said) VALUES ('order line delivered')")
        return (time.perf_counter() - started) / count


@contextlib.contextmanager
def database(url: str | None) -> Iterator[str | None]:
    """Give the address of a database: the one that was given, or that of a fresh cluster, or None."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from postgres_server import PostgresServer, programs  # noqa: PLC0415 - beside the tests

    if url is not None:
        yield url
    elif programs() is None:
        yield None
    else:
        with PostgresServer(fsync=True) as server:
            yield server.url()


def _measure(place: str, count: int) -> dict[str, float]:
    """Measure one kind of store."""
    seconds, taken = asyncio.run(_puts(place, "many", CALLERS, count))
    alone, _ = asyncio.run(_puts(place, "alone", 1, count // 40))
    found: dict[str, float] = {
        "puts_a_second": round(count / seconds),
        "p50_ms": _part(taken, 0.5),
        "p99_ms": _part(taken, 0.99),
        "one_caller_ms": round(alone / (count // 40) * 1e3, 3),
    }
    with running_server() as port:
        for apart, name in ((False, "together"), (True, "apart")):
            full = asyncio.run(_delivered(place, name, port, _Load(count, apart=apart)))
            rate = min(full.a_second, LEAST_DELIVERED_A_SECOND) / 2
            half = asyncio.run(_delivered(place, f"{name}_half", port, _Load(count // 2, rate, apart)))
            found |= {
                f"{name}_a_second": full.a_second,
                f"{name}_cpu_us": round(full.cpu / full.count * 1e6),
                f"{name}_p99_ms": _part(full.taken, 0.99),
                f"{name}_half_a_second": round(half.count / half.put),
                f"{name}_half_p50_ms": _part(half.taken, 0.5),
                f"{name}_half_p99_ms": _part(half.taken, 0.99),
            }
    return found


def _part(taken: list[float], part: float) -> float:
    return round(taken[int(len(taken) * part)] * 1e3, 2)


def _sizes(url: str, schema: str) -> dict[str, str]:
    import psycopg  # noqa: PLC0415 - an extra

    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT relname, pg_size_pretty(pg_total_relation_size(relid)), n_dead_tup FROM pg_stat_user_tables "
            "WHERE schemaname = %s AND relname IN ('entry', 'bucket', 'drainer') ORDER BY relname",
            (schema,),
        ).fetchall()
    return {name: f"{size}, {dead:,} dead rows" for name, size, dead in rows}


def _grow(url: str, rows: int) -> dict[str, object]:
    """Put and deliver many, then as many again beside an open transaction; return speed and sizes of both."""
    import psycopg  # noqa: PLC0415 - an extra

    schema, found = "grown", {}
    with running_server() as port:
        for name in ("alone", "beside_an_open_transaction"):
            with psycopg.connect(url) as open_one:
                if name != "alone":
                    open_one.execute("CREATE TEMP TABLE pinned (one integer)")  # it has a number of its own
                through = asyncio.run(_delivered(url, schema, port, _Load(rows // 2 // CALLERS * CALLERS)))
                found[name] = {"a_second": through.a_second, **_sizes(url, schema)}
    return found


def main() -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Measure an outbox.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the puts")
    parser.add_argument("--directory", help="where the files are made (default: the system's temporary directory)")
    parser.add_argument("--url", help="a PostgreSQL to measure (default: a fresh cluster, where it is installed)")
    parser.add_argument("--rows", type=int, default=0, help="how many to grow the tables with")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    count = 4_000 if options.quick else 40_000
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory, database(options.url) as url:
        found["sqlite"] = {
            **_measure(directory, count),
            "bytes_an_update": round(Path(directory, "many.db").stat().st_size / count),
            "bare_commit_ms": round(_bare_commits(Path(directory, "bare.db"), count // 40) * 1e3, 3),
        }
        if url is not None:
            found["postgres"] = dict(_measure(url, count))
            if options.rows:
                found["grown"] = _grow(url, options.rows)
    if options.json:
        print(json.dumps(found))
    else:
        for kind, figures in found.items():
            print(kind)
            print("\n".join(f"  {name:<28}{value}" for name, value in figures.items()))
    return 1 if options.check and _missed(found) else 0


def _missed(found: dict[str, dict[str, object]]) -> bool:
    file, database = found["sqlite"], found.get("postgres")
    missed = file["puts_a_second"] < LEAST_PUTS_A_SECOND or file["p99_ms"] > MOST_P99_MS
    if database is not None:
        missed = missed or database["apart_a_second"] < LEAST_DELIVERED_A_SECOND
        missed = missed or database["apart_half_p99_ms"] > MOST_P99_AT_HALF_LOAD_MS
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
