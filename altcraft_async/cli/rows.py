"""Rows in and out of the commands of the Market: one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from altcraft_async import AltcraftError, DeliveryError
from altcraft_async.cli.exits import ExitCode, exit_code_of
from altcraft_async.cli.signals import interruptible
from altcraft_async.cli.talk import complain, emit

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.market import Listing
    from altcraft_async.protocol.values import JSON

__all__ = ["Named", "ask_each", "names_of", "objects_of", "preorder_of", "write_all", "write_list", "write_row"]

Named: TypeAlias = "dict[str, str | int]"
"""What names one thing: ``external_id``, or ``id``, its number on the platform."""

_NOT_WHOLE = "what was written is not the whole list"
_MAYBE_NOT_WHOLE = (
    "the answer has no next_from_id; where the platform has shorter pages than were asked for, there are more rows"
)
_AT_ONCE = 200
"""Rows whose answers are awaited together; the client's own limit says how many are really under way."""


def write_row(row: object) -> None:
    """Write one JSON object to stdout, in ASCII."""
    emit(json.dumps(row) + "\n")


def objects_of(source: str) -> Iterator[dict[str, JSON]]:
    """Read JSON objects from a file, or from standard input for ``-``: one a line."""
    with click.open_file(source, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(line, number)


def _object(line: str, number: int) -> dict[str, JSON]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        msg = f"line {number} is no JSON object; give one object a line"
        raise click.UsageError(msg)
    return found


def names_of(given: Sequence[str], *, numbers: bool) -> Iterator[Named]:
    """Read what a command is about: ids, or ``-`` for a line each on standard input, plain or JSON with its name."""
    for word in given:
        if not word.strip():
            msg = "an id is empty; give it, or leave it out"
            raise click.UsageError(msg)
        for text in sys.stdin if word == "-" else (word,):
            if text.strip():
                yield _named(text.strip(), numbers=numbers)


def _named(text: str, *, numbers: bool) -> Named:
    if text.startswith("{"):
        found = _object(text, 1)
        for field, kind in (("external_id", str), ("id", int)):
            value = found.get(field)
            if isinstance(value, kind) and not isinstance(value, bool) and str(value).strip():
                return {field: value}
        msg = f"{text[:80]} has neither an external_id nor an id"
        raise click.UsageError(msg)
    if not numbers:
        return {"external_id": text}
    if not text.isdecimal():
        msg = f"{text[:80]!r} is no number; leave --id out for external ids"
        raise click.UsageError(msg)
    return {"id": int(text)}


async def write_all(
    client: AltcraftClient,
    rows: Callable[[AltcraftClient], AsyncIterable[dict[str, JSON]]],
    *,
    ends: str = _NOT_WHOLE,
) -> int:
    """Write every row; return the exit code. `ends` says what it means where they end early."""
    with interruptible() as interruption:
        try:
            async with client:
                async for row in rows(client):
                    write_row(row)
        except AltcraftError as error:
            complain(f"Error: {error}; {ends}.")
            return exit_code_of(error)
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            complain(f"Interrupted; {ends}.")
            return interruption.exit_code
    return ExitCode.OK


async def write_list(client: AltcraftClient, listing: Listing[Any]) -> int:
    """Write every row of a list; return the exit code, which is 2 where the platform has probably cut it."""
    cut: list[str] = []

    async def rows(_: AltcraftClient) -> AsyncIterable[dict[str, JSON]]:
        async for page in listing.walk():
            if page.cut:
                cut.append(str(listing.warning(page)))
            elif page.unsure:
                complain(f"Note: {_MAYBE_NOT_WHOLE}.")
            for value in page.items:
                yield value.to_dict()

    code = await write_all(client, rows)
    if cut and code == ExitCode.OK:
        complain(f"Error: {cut[0]}; {_NOT_WHOLE}.")
        return ExitCode.NOT_ALL_APPLIED
    return code


async def ask_each(
    client: AltcraftClient,
    named: Sequence[Named],
    ask: Callable[[AltcraftClient, Named], Awaitable[dict[str, JSON]]],
) -> int:
    """Ask about each thing, many at once, and write a row each in their order; return the exit code.

    The row of one that failed has `error` instead of what was asked, and `maybe_applied` where that is so.
    A token that is refused ends it.
    """
    codes = {ExitCode.OK}
    under_way: deque[asyncio.Task[tuple[dict[str, JSON], ExitCode]]] = deque()
    left = iter(named)
    with interruptible() as interruption:
        try:
            async with client, asyncio.TaskGroup() as group:
                while True:
                    for one in islice(left, _AT_ONCE - len(under_way)):
                        under_way.append(group.create_task(_answered(client, one, ask)))
                    if not under_way:
                        break
                    row, code = await under_way.popleft()
                    write_row(row)
                    codes.add(code)
                    if code is ExitCode.AUTHENTICATION:
                        left = iter(())
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            complain("Interrupted; what was under way may have been done, and has no row.")
            return interruption.exit_code
    return max(codes)


async def _answered(
    client: AltcraftClient, one: Named, ask: Callable[[AltcraftClient, Named], Awaitable[dict[str, JSON]]]
) -> tuple[dict[str, JSON], ExitCode]:
    try:
        return {**one, **await ask(client, one)}, ExitCode.OK
    except AltcraftError as error:
        row: dict[str, JSON] = {**one, "error": error.message}
        if isinstance(error, DeliveryError) and error.maybe_applied:
            row["maybe_applied"] = True
        return row, exit_code_of(error)


def preorder_of(row: dict[str, JSON]) -> tuple[dict[str, JSON], dict[str, JSON]]:
    """Take a preorder's request apart: the order, and what else is asked."""
    order = row.pop("data", None)
    row.pop("matching", None)
    unknown = row.keys() - {"external_id", "email", "phone", "profile_id"}
    if not isinstance(order, dict) or "external_id" not in row or unknown:
        what = f"{min(unknown)} is unknown" if unknown else "external_id and data are required"
        msg = f"a preorder has external_id, one of email, phone and profile_id, and data: {what}"
        raise click.UsageError(msg)
    return order, row
