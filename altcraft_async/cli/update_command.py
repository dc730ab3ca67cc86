"""The command ``update``: one update, and how it ended."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from altcraft_async import APIError, DeliveryError, InvalidUpdateError
from altcraft_async.cli.exits import ExitCode, exit_code_of
from altcraft_async.cli.options import (
    ClientCommand,
    Seconds,
    client_options,
    environ_of,
    make_client,
    wire_log_option,
)
from altcraft_async.cli.signals import interruptible
from altcraft_async.cli.talk import complain, emit
from altcraft_async.ingest import FIELDS

if TYPE_CHECKING:
    from altcraft_async import AltcraftClient

__all__ = ["update"]


@click.command(cls=ClientCommand, short_help="Send one update.")
@click.argument("order")
@click.argument("line")
@click.argument("status")
@click.option("--deadline", type=Seconds(), metavar="TIME", help="Give up after this time: 90, 15m, 2h.")
@click.option("--json", "as_json", is_flag=True, help="Write the server's echo as one JSON object.")
@wire_log_option
@client_options
def update(  # noqa: PLR0913, PLR0917 - the arguments of the command
    order: str, line: str, status: str, deadline: float | None, as_json: bool, quiet: bool, **fields: Any
) -> int:
    """Set the STATUS of the LINE of ORDER, by their external ids.

    STATUS is new, processing, delivering, delivered, canceled, refunded, or the
    id of a custom status.
    """
    wire_log = fields.pop("wire_log")
    client = make_client(environ_of(fields), wire_log=wire_log)
    return asyncio.run(_update(client, (order, line, status), deadline, as_json=as_json, quiet=quiet))


async def _update(
    client: AltcraftClient, ids: tuple[str, str, str], deadline: float | None, *, as_json: bool, quiet: bool
) -> int:
    with interruptible() as interruption:
        try:
            async with client:
                echo = await client.market.orders.update_order_line_status(*ids, deadline=deadline)
        except InvalidUpdateError:
            raise
        except DeliveryError as error:
            complain(f"Error: {error}")
            if not isinstance(error, APIError):
                complain("altcraft-async doctor looks for the reason.")
            return exit_code_of(error)
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            complain("Interrupted; the change may have been applied.")
            return interruption.exit_code
    values = {field: getattr(echo, field) for field in FIELDS}
    if as_json or not quiet:
        emit((json.dumps(values) if as_json else " ".join(values.values())) + "\n")
    return ExitCode.OK
