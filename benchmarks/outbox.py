"""Measure an outbox, in a file and in PostgreSQL: puts, how long they take, and updates put and delivered a second.

The file lies in a temporary directory, on a real disk where ``--directory`` says so: a put returns when the
disk has it, so the numbers are those of the disk as much as ours. For comparison the same disk makes one
bare SQLite commit after the other. PostgreSQL is a fresh cluster in the same directory, with its defaults, so with
fsync; ``--url`` measures another. Delivered is to the raw server, in a process of its own, by one drainer; all
share the machine.

    python benchmarks/outbox.py [--quick] [--directory DIR] [--url URL] [--rows N] [--json] [--check]

``--rows`` puts and delivers so many more in PostgreSQL, half of them beside a transaction that stays open, and tells
how large the tables are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from raw_server import running_server

from altcraft_async import AltcraftClient
from altcraft_async.outbox import Outbox, PostgresStore, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


async def _puts(make: Callable[[int], OutboxStore], callers: int, count: int) -> tuple[float, list[float]]:
    async with Outbox(make(2 * count)) as outbox:
        return await _put(outbox, callers, count)


async def _delivered(
    make: Callable[[int], OutboxStore], port: int, count: int, rate: float | None = None
) -> tuple[float, float, list[float]]:
    """Put and deliver; return the seconds until all are put and until all are settled, and those of each put, sorted.

    One put of each caller goes before: connections are opened with them.
    """
    store = make(10 * count)
    client = AltcraftClient(f"http://127.0.0.1:{port}", "token", concurrency=SERVED_AT_ONCE)
    async with client as altcraft, Outbox(store, altcraft, drain_timeout=600.0) as outbox:
        while not outbox.statistics().draining:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        await _put_and_settled(outbox, CALLERS)
        return await _put_and_settled(outbox, count, rate)


async def _put_and_settled(outbox: Outbox, count: int, rate: float | None = None) -> tuple[float, float, list[float]]:
    started, before = time.perf_counter(), outbox.statistics().delivered
    putting, taken = await _put(outbox, CALLERS, count, rate)
    while outbox.statistics().delivered - before < count // CALLERS * CALLERS:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.005)
    return putting, time.perf_counter() - started, taken


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


def _measure(make: Callable[[str], Callable[[int], OutboxStore]], count: int) -> dict[str, float]:
    """Measure one kind of store; `make` gives a maker of stores of one fresh outbox, by its name."""
    seconds, taken = asyncio.run(_puts(make("many"), CALLERS, count))
    alone, _ = asyncio.run(_puts(make("alone"), 1, count // 40))
    with running_server() as port:
        _, through, under_load = asyncio.run(_delivered(make("through"), port, count))
        half = min(count / through, LEAST_DELIVERED_A_SECOND) / 2
        putting, _, at_half = asyncio.run(_delivered(make("half"), port, count // 2, half))
    return {
        "puts_a_second": round(count / seconds),
        "p50_ms": _part(taken, 0.5),
        "p99_ms": _part(taken, 0.99),
        "one_caller_ms": round(alone / (count // 40) * 1e3, 3),
        "delivered_a_second": round(count / through),
        "p99_under_load_ms": _part(under_load, 0.99),
        "half_load_a_second": round(len(at_half) / putting),
        "p50_at_half_load_ms": _part(at_half, 0.5),
        "p99_at_half_load_ms": _part(at_half, 0.99),
    }


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
                    open_one.execute("SELECT count(*) FROM grown.entry")
                    open_one.execute("CREATE TEMP TABLE pinned (one integer)")  # it has a number of its own
                _, seconds, _ = asyncio.run(
                    _delivered(lambda most: PostgresStore(url, schema=schema, capacity=most), port, rows // 2)
                )
                found[name] = {"a_second": round(rows / 2 / seconds), **_sizes(url, schema)}
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
        folder = Path(directory)
        in_files = _measure(lambda name: lambda most: SqliteStore(folder / f"{name}.db", capacity=most), count)
        found["sqlite"] = {
            **in_files,
            "bytes_an_update": round((folder / "many.db").stat().st_size / count),
            "bare_commit_ms": round(_bare_commits(folder / "bare.db", count // 40) * 1e3, 3),
        }
        if url is not None:
            found["postgres"] = dict(
                _measure(lambda name: lambda most: PostgresStore(url, schema=name, capacity=most), count)
            )
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
        missed = missed or database["delivered_a_second"] < LEAST_DELIVERED_A_SECOND
        missed = missed or database["p99_at_half_load_ms"] > MOST_P99_AT_HALF_LOAD_MS
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
