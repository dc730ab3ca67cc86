"""The commands ``outbox …``: what waits in a service's outbox, and what to do with its dead letters."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import attrs

from altcraft_async.cli.display import Talk, stderr_console, utc
from altcraft_async.cli.exits import ExitCode
from altcraft_async.cli.options import make_client
from altcraft_async.cli.signals import interruptible
from altcraft_async.cli.talk import shell
from altcraft_async.ingest import FIELDS
from altcraft_async.integrations.health import HealthServer
from altcraft_async.outbox import Outbox, PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from altcraft_async.outbox import DeadLetter, DrainerSeen, OutboxStatistics

__all__ = ["dead", "forget", "purge", "retry", "run", "show"]


def show(store: PostgresStore | str, place: str, *, as_json: bool) -> int:
    """Say what waits, for how long, what is dead, and of a database who delivers."""

    async def work() -> int:
        async with Outbox(store) as outbox:
            now = outbox.statistics()
            drainers = await store.drainers() if isinstance(store, PostgresStore) else None
        if as_json:
            told: dict[str, object] = {"pending": now.pending, "oldest": round(now.oldest, 3), "dead": now.dead}
            if drainers is not None:
                told |= {"dead_tuples": now.dead_tuples, "oldest_transaction": now.oldest_transaction}
                told["drainers"] = [attrs.asdict(seen) for seen in drainers]
            _write(told)
        else:
            sys.stdout.write("\n".join(_told(place, now, drainers)) + "\n")
        return ExitCode.OK

    return asyncio.run(work())


def _told(place: str, now: OutboxStatistics, drainers: Sequence[DrainerSeen] | None) -> Iterator[str]:
    waits = "1 update waits" if now.pending == 1 else f"{now.pending:,} updates wait"
    if now.pending:
        waits += f", the first for {now.oldest:,.0f} s"
    said = f"{place}: {waits}; {_letters(now.dead)}."
    to_list = shell(["altcraft-async", "outbox", "dead", place])
    yield f"{said} To list them: {to_list}" if now.dead else said
    if drainers is None:
        return
    for seen in drainers:
        yield f"{seen.host}, process {seen.pid}: {seen.buckets} buckets, seen {seen.seen:,.0f} s ago"
    if not any(seen.buckets for seen in drainers):
        yield "Nobody delivers."
    yield f"{now.dead_tuples or 0:,} deleted rows; the oldest transaction is {now.oldest_transaction or 0:,.0f} s old."


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"


def dead(store: PostgresStore | str) -> int:
    """Write the dead letters to stdout, one JSON object a line."""

    async def work() -> int:
        async with Outbox(store) as outbox:
            async for letter in outbox.dead_letters():
                _write(_record(letter))
        return ExitCode.OK

    return asyncio.run(work())


def retry(store: PostgresStore | str, ids: Sequence[int]) -> int:
    """Let dead letters wait again; the service that drains the outbox delivers them."""

    async def work() -> int:
        async with Outbox(store) as outbox:
            count = await outbox.retry(ids or None)
            left = outbox.statistics().dead
        stderr_console().print(f"{_letters(count)} put back, {left:,} left.")
        return ExitCode.OK

    return asyncio.run(work())


def purge(store: PostgresStore | str, ids: Sequence[int]) -> int:
    """Delete dead letters: these, or all."""

    async def work() -> int:
        async with Outbox(store) as outbox:
            count = await outbox.purge(ids or None)
        stderr_console().print(f"{_letters(count)} deleted.")
        return ExitCode.OK

    return asyncio.run(work())


def forget(store: PostgresStore | str, order: str) -> int:
    """Delete what concerns an order."""

    async def work() -> int:
        async with Outbox(store) as outbox:
            forgotten = await outbox.forget(order)
        waiting = "1 update that waited" if forgotten.waiting == 1 else f"{forgotten.waiting:,} updates that waited"
        stderr_console().print(f"{waiting} and {_letters(forgotten.dead)} of this order deleted.")
        return ExitCode.OK

    return asyncio.run(work())


def run(store: PostgresStore | str, environ: Mapping[str, str], *, listen: tuple[str, int] | None, quiet: bool) -> int:
    """Deliver what is in an outbox until a signal comes: then end what is under way, and leave the rest to others."""

    async def work() -> int:
        with interruptible() as interruption:
            async with make_client(environ) as altcraft, Outbox(store, altcraft) as outbox, AsyncExitStack() as stack:
                talk = Talk(quiet=quiet)
                if listen is not None:
                    server = HealthServer(altcraft, outbox, host=listen[0], port=listen[1])
                    await stack.enter_async_context(server)
                    talk.say(f"Health and metrics: {server.url}")
                talk.say(f"Delivering {outbox!r}; SIGTERM ends it in order.")
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if interruption.exit_code is None:
                        raise
                    interruption.settle()
        talk.say(f"{outbox.statistics().delivered:,} delivered, {outbox.statistics().pending:,} left.")
        return ExitCode.OK

    return asyncio.run(work())


def _record(letter: DeadLetter) -> dict[str, object]:
    values = attrs.asdict(letter, recurse=False)
    update = values.pop("update")
    ids = {field: getattr(update, field) for field in FIELDS}
    times = {name: utc(values.pop(name)) for name in ("put_at", "died_at")}
    return {"id": values.pop("id"), **ids, **values, "state": str(letter.state), **times}


def _write(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()
