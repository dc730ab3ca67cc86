"""What the commands know of an outbox in a database: how it is opened, who drains it, and how well it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from altcraft_async import AltcraftError, OutboxError
from altcraft_async.doctor import Check, Finding, Level
from altcraft_async.outbox import Outbox, PostgresStore

if TYPE_CHECKING:
    from typing import Any

    from altcraft_async.outbox import OutboxStatistics

__all__ = ["check_outbox", "is_database", "shown", "store_at"]

_LONG_TRANSACTION = 300.0
"""Seconds after which an open transaction keeps so many deleted rows that somebody should look."""
_BEHIND = 300.0


_PASSWORD = re.compile(r"^(\w+://[^:@/]*):[^@/]*(?=@)")
_PASSWORD_OPTION = re.compile(r"([?&])password=[^&]*(&?)")


def shown(place: str) -> str:
    """Write a place for people, and for commands that they copy: an address without its password."""
    return _PASSWORD_OPTION.sub(lambda found: found[1] if found[2] else "", _PASSWORD.sub(r"\1", place))


def is_database(place: str) -> bool:
    """Say whether a place is the address of a database, not a file."""
    return place.startswith(("postgresql://", "postgres://"))


def store_at(place: str, *, make: bool = False, **options: Any) -> PostgresStore | str:
    """Return the store at a place, with the `options` of a database; one that is not there is an `OutboxError`.

    With `make` it is made when it is opened.
    """
    if is_database(place):
        return PostgresStore(place, make_tables=make, **options)
    if not make and "://" not in place and not Path(place).is_file():
        msg = f"the outbox {place} does not exist; check the path"
        raise OutboxError(msg, path=place)
    return place


async def check_outbox(store: PostgresStore | str) -> Finding:
    """Look whether an outbox can be used, is delivered from, and cleans up."""
    drainers = None
    try:
        async with Outbox(store) as outbox:
            now = outbox.statistics()
            if isinstance(store, PostgresStore):
                await store.try_writing()
                drainers = sum(seen.buckets > 0 for seen in await store.drainers())
    except AltcraftError as error:
        return Finding(check=Check.OUTBOX, level=Level.FAILED, said=str(error), error=error)
    said = f"{now.pending:,} updates wait, {now.dead:,} are dead"
    said += "" if drainers is None else f", {drainers} deliver"
    facts: dict[str, int | float | None] = {
        "pending": now.pending, "dead": now.dead, "oldest": now.oldest, "drainers": drainers,
        "dead_tuples": now.dead_tuples, "oldest_transaction": now.oldest_transaction,
    }  # fmt: skip
    remedy = _remedy(now, drainers)
    return Finding(
        check=Check.OUTBOX, level=Level.OK if remedy is None else Level.WARNING, said=said, remedy=remedy, facts=facts
    )


def _remedy(now: OutboxStatistics, drainers: int | None) -> str | None:
    if drainers == 0:
        return "Nobody delivers it: start a drainer, `altcraft-async outbox run`."
    if now.oldest > _BEHIND:
        return f"The oldest has been waiting for {now.oldest:,.0f} s: look what keeps those that deliver."
    if (now.oldest_transaction or 0.0) > _LONG_TRANSACTION:
        return (
            f"A transaction has been open for {now.oldest_transaction:,.0f} s and keeps "
            f"{now.dead_tuples or 0:,} deleted rows from being cleaned away: end it."
        )
    return "Look at the dead letters: `altcraft-async outbox dead`." if now.dead else None
