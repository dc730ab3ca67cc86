"""The commands ``outbox …``: what waits in a service's outbox, and what to do with its dead letters."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from altcraft_async import OutboxError
from altcraft_async.cli.display import stderr_console, utc
from altcraft_async.cli.exits import ExitCode
from altcraft_async.ingest import FIELDS
from altcraft_async.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from altcraft_async.outbox import DeadLetter, OutboxStatistics

__all__ = ["dead", "purge", "retry", "show"]


def _run(work: Coroutine[object, object, int], path: str) -> int:
    if not Path(path).is_file():
        work.close()
        msg = f"the outbox {path} does not exist; check the path"
        raise OutboxError(msg, path=path)
    return asyncio.run(work)


def show(path: str, *, as_json: bool) -> int:
    """Say what waits, for how long, and what is dead."""

    async def work() -> int:
        async with Outbox(path) as outbox:
            now = outbox.statistics()
        if as_json:
            _write({"pending": now.pending, "oldest": round(now.oldest, 3), "dead": now.dead})
        else:
            sys.stdout.write(_told(path, now) + "\n")
        return ExitCode.OK

    return _run(work(), path)


def _told(path: str, now: OutboxStatistics) -> str:
    waits = "1 update waits" if now.pending == 1 else f"{now.pending:,} updates wait"
    if now.pending:
        waits += f", the first for {now.oldest:,.0f} s"
    said = f"{path}: {waits}; {_letters(now.dead)}."
    return f"{said} To list them: altcraft-async outbox dead {path}" if now.dead else said


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"


def dead(path: str) -> int:
    """Write the dead letters to stdout, one JSON object a line."""

    async def work() -> int:
        async with Outbox(path) as outbox:
            async for letter in outbox.dead_letters():
                _write(_record(letter))
        return ExitCode.OK

    return _run(work(), path)


def retry(path: str, ids: Sequence[int]) -> int:
    """Let dead letters wait again; the service that drains the outbox delivers them."""

    async def work() -> int:
        async with Outbox(path) as outbox:
            count = await outbox.retry(ids or None)
            left = outbox.statistics().dead
        stderr_console().print(f"{_letters(count)} put back, {left:,} left.")
        return ExitCode.OK

    return _run(work(), path)


def purge(path: str, ids: Sequence[int]) -> int:
    """Delete dead letters: these, or all."""

    async def work() -> int:
        async with Outbox(path) as outbox:
            count = await outbox.purge(ids or None)
        stderr_console().print(f"{_letters(count)} deleted.")
        return ExitCode.OK

    return _run(work(), path)


def _record(letter: DeadLetter) -> dict[str, object]:
    values = attrs.asdict(letter, recurse=False)
    update = values.pop("update")
    ids = {field: getattr(update, field) for field in FIELDS}
    times = {name: utc(values.pop(name)) for name in ("put_at", "died_at")}
    return {"id": values.pop("id"), **ids, **values, "state": str(letter.state), **times}


def _write(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()
