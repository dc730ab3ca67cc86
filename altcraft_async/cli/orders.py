"""The commands ``orders …``: the platform's orders, one JSON object a line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.import_command import import_command
from altcraft_async.cli.options import (
    ClientCommand,
    Seconds,
    Whole,
    client_options,
    environ_of,
    make_client,
    wire_log_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.cli.rows import Named
    from altcraft_async.protocol.values import JSON

__all__ = ["orders"]

_number_option = click.option("--id", "numbers", is_flag=True, help="ORDER is the number on the platform.")
_deadline_option = click.option(
    "--deadline", type=Seconds(), metavar="TIME", help="Give up a call after this time: 90, 15m, 2h."
)


@click.group(short_help="Import, list, look up and delete orders.")
def orders() -> None:
    """Import, read and delete the orders of the platform.

    Data goes to stdout, one JSON object a line, messages to stderr.
    """


orders.add_command(import_command("orders"))


@orders.command("list", cls=ClientCommand, short_help="List the orders.")
@click.option("--endpoint", metavar="ID", help="Only the orders of one touchpoint.")
@click.option("--limit", type=Whole(), default=1000, show_default=True, help="Maximum rows of a page.")
@_deadline_option
@wire_log_option
@client_options
def orders_list(endpoint: str | None, limit: int, deadline: float | None, wire_log: str | None, **fields: Any) -> int:
    """Write every order, with the platform's names.

    Amounts are unchanged, perhaps in minor units. The exit code is 0 only if the whole
    list was written, and 2 if the platform has cut it.
    """
    from altcraft_async.cli.rows import write_list  # noqa: PLC0415 - quick start of the other commands

    client = make_client(environ_of(fields), wire_log=wire_log)
    listing = client.market.orders.list(endpoint=endpoint, limit=limit, deadline=deadline)
    return asyncio.run(write_list(client, listing))


@orders.command("get-status", cls=ClientCommand, short_help="Print the status of orders.")
@click.argument("given", metavar="ORDER|-...", nargs=-1, required=True)
@_number_option
@_deadline_option
@wire_log_option
@client_options
def orders_get_status(
    given: Sequence[str], numbers: bool, deadline: float | None, wire_log: str | None, **fields: Any
) -> int:
    """Write the status and touchpoint of each ORDER, by its external id.

    With - the orders are read from standard input: a line each, the id alone or a JSON object
    with external_id or id. An order that cannot be read has an error instead, and the
    exit code is then 2.
    """
    from altcraft_async.cli.rows import ask_each, names_of  # noqa: PLC0415 - quick start of the other commands

    async def ask(client: AltcraftClient, named: Named) -> dict[str, JSON]:
        found = await client.market.orders.get_status(**named, deadline=deadline)  # type: ignore[arg-type]
        return found.to_dict()

    names = list(names_of(given, numbers=numbers))
    return asyncio.run(ask_each(make_client(environ_of(fields), wire_log=wire_log), names, ask))


@orders.command("delete", cls=ClientCommand, short_help="Delete orders.")
@click.argument("given", metavar="ORDER|-...", nargs=-1, required=True)
@_number_option
@_deadline_option
@wire_log_option
@client_options
def orders_delete(
    given: Sequence[str], numbers: bool, deadline: float | None, wire_log: str | None, **fields: Any
) -> int:
    """Delete each ORDER, by its external id, and write a row for it.

    With - the orders are read from standard input: a line each, the id alone or a JSON object
    with external_id or id. An order that was not deleted has an error, and the exit
    code is then 2. Deleting it again is harmless.
    """
    from altcraft_async.cli.rows import ask_each, names_of  # noqa: PLC0415 - quick start of the other commands

    async def ask(client: AltcraftClient, named: Named) -> dict[str, JSON]:
        await client.market.orders.delete(**named, deadline=deadline)  # type: ignore[arg-type]
        return {"deleted": True}

    names = list(names_of(given, numbers=numbers))
    return asyncio.run(ask_each(make_client(environ_of(fields), wire_log=wire_log), names, ask))


@orders.command("preorder", cls=ClientCommand, short_help="Calculate orders; creates nothing.")
@click.argument("source", metavar="FILE|-")
@_deadline_option
@wire_log_option
@client_options
def orders_preorder(source: str, deadline: float | None, wire_log: str | None, **fields: Any) -> int:
    """Calculate each order of FILE with promotions and points, and print the answer.

    A line is a JSON object with external_id, one of email, phone and profile_id, and data: the order.
    Nothing is created. Platforms before v75 do not have the method.
    """
    from altcraft_async.cli.rows import ask_each, objects_of, preorder_of  # noqa: PLC0415

    asked = [preorder_of(row) for row in objects_of(source)]

    async def ask(client: AltcraftClient, named: Named) -> dict[str, JSON]:
        order, whose = asked[int(named["row"]) - 1]
        return await client.market.orders.preorder(order, **whose, deadline=deadline)  # type: ignore[arg-type]

    names: list[Named] = [{"row": number} for number in range(1, len(asked) + 1)]
    return asyncio.run(ask_each(make_client(environ_of(fields), wire_log=wire_log), names, ask))
