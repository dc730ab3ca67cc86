"""The commands ``products …`` and ``skus …``: the platform's products and SKU, one JSON object a line."""

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
    from collections.abc import AsyncIterable, Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.market import Products, Skus
    from altcraft_async.protocol.values import JSON

__all__ = ["products", "skus"]


def _group(name: str, words: str) -> click.Group:
    """Make the commands of products, or of SKU."""

    def resource(client: AltcraftClient) -> Products | Skus:
        return client.market.products if name == "products" else client.market.skus

    @click.group(
        name,
        short_help=f"Import, list and delete {words}.",
        help=f"Import, read and delete the {words} of the platform.\n\n"
        "Data goes to stdout, one JSON object a line, messages to stderr.",
    )
    def group() -> None:
        pass

    @group.command(
        "list",
        cls=ClientCommand,
        short_help=f"List the {words}.",
        help=f"Write all {words}, with the platform's names.\n\nThe exit code is 0 only if the whole list was written.",
    )
    @click.option("--limit", type=Whole(), default=1000, show_default=True, help="Maximum rows of a page.")
    @click.option("--deadline", type=Seconds(), metavar="TIME", help="Give up a page after this time: 90, 15m, 2h.")
    @wire_log_option
    @client_options
    def list_all(limit: int, deadline: float | None, wire_log: str | None, **fields: Any) -> int:
        from altcraft_async.cli.rows import write_list  # noqa: PLC0415 - quick start of the other commands

        client = make_client(environ_of(fields), wire_log=wire_log)
        return asyncio.run(write_list(client, resource(client).list(limit=limit, deadline=deadline)))

    @group.command(
        "delete",
        cls=ClientCommand,
        short_help=f"Delete {words}.",
        help=f"Delete {words} by their external ids, and print how many the platform deleted.\n\n"
        "With - the ids are read from standard input: a line each, the id alone or a JSON object with "
        "external_id or id. A thousand go into one call. Deleting again is harmless.",
    )
    @click.argument("given", metavar="ID|-...", nargs=-1, required=True)
    @click.option("--id", "numbers", is_flag=True, help="ID is the number on the platform.")
    @click.option("--deadline", type=Seconds(), metavar="TIME", help="Give up a call after this time: 90, 15m, 2h.")
    @wire_log_option
    @client_options
    def delete(given: Sequence[str], numbers: bool, deadline: float | None, wire_log: str | None, **fields: Any) -> int:
        from altcraft_async.cli.rows import names_of, write_all  # noqa: PLC0415 - quick start of the other commands

        names = list(names_of(given, numbers=numbers))
        ids = [one["id"] for one in names if "id" in one]
        external_ids = [one["external_id"] for one in names if "external_id" in one]

        async def rows(client: AltcraftClient) -> AsyncIterable[dict[str, JSON]]:
            deleted = await resource(client).delete(
                ids=ids,  # type: ignore[arg-type]  # numbers, as `names_of` reads them
                external_ids=external_ids,  # type: ignore[arg-type]
                deadline=deadline,
            )
            yield {"asked": len(names), "deleted": deleted}

        client = make_client(environ_of(fields), wire_log=wire_log)
        return asyncio.run(write_all(client, rows, ends="some may be deleted; to delete all again is harmless"))

    group.add_command(import_command("products" if name == "products" else "skus"))
    return group


products = _group("products", "products")
skus = _group("skus", "SKU")
