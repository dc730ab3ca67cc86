"""The command group ``outbox``: its commands, arguments and options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.options import ClientCommand, Real, Whole, client_options, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async.outbox import PostgresStore

__all__ = ["database_options", "outbox", "store_of"]

_PLACE = click.argument("place", metavar="FILE|URL")
_IDS = click.argument("ids", metavar="[ID]...", nargs=-1, type=Whole(1, 2**63 - 1))


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which outbox of a database is meant."""
    buckets = click.option("--buckets", type=click.IntRange(1, 1024), default=64, show_default=True,
                           help="How many buckets the database's tables have, or get where they are made.")  # fmt: skip
    schema = click.option(
        "--schema", default="altcraft", show_default=True, help="The database schema that has these tables."
    )
    return schema(buckets(command))


def store_of(place: str, *, make: bool = False, **options: Any) -> PostgresStore | str:
    """Return the store at a place; see `altcraft_async.cli.database.store_at`."""
    from altcraft_async.cli.database import store_at  # noqa: PLC0415 - quick start of the other commands

    return store_at(place, make=make, **options)


@click.group(short_help="Inspect or deliver a service's outbox, and handle its dead letters.")
def outbox() -> None:
    """Inspect or deliver the outbox of a service, whether the service runs or not.

    The outbox is a file, or a database at an address like postgresql://USER@HOST/DATABASE; keep the password in
    PGPASSWORD or ~/.pgpass. Only the command run delivers updates.
    """


@outbox.command(name="show", short_help="Show waiting updates, dead letters, and who delivers.")
@_PLACE
@click.option("--json", "as_json", is_flag=True, help="Write it as one JSON object to stdout.")
@database_options
def outbox_show(place: str, as_json: bool, **database: Any) -> int:
    """Show how many updates wait, for how long, and how many are dead.

    For a database it also shows who delivers, how many deleted rows are not cleaned up yet, and how old the
    oldest transaction is.
    """
    from altcraft_async.cli.database import shown  # noqa: PLC0415 - quick start of the other commands
    from altcraft_async.cli.outbox import show  # noqa: PLC0415

    return show(store_of(place, **database), shown(place), as_json=as_json)


@outbox.command(name="run", cls=ClientCommand, short_help="Deliver an outbox until a signal comes.")
@_PLACE
@click.option("--listen", metavar="[HOST]:PORT", help="Serve /livez, /readyz and /metrics at this address.")
@click.option("--lease", type=Real(0.5, 86_400), default=45.0, show_default=True,
              help="For a database: seconds after which others take over from a dead process.")  # fmt: skip
@database_options
@client_options
def outbox_run(  # noqa: PLR0913, PLR0917 - the options of the command
    place: str, listen: str | None, lease: float, schema: str, buckets: int, quiet: bool, **fields: Any
) -> int:
    """Deliver the updates of an outbox, also new ones, until SIGTERM or Ctrl-C.

    Any number of processes may run for one database: they share the work, and take over from each other. At the
    signal it finishes the updates under way and leaves the rest to the other processes. If there are none, it goes on
    delivering for up to 10 seconds.
    """
    from altcraft_async.cli.database import is_database  # noqa: PLC0415 - quick start of the other commands
    from altcraft_async.cli.outbox import run  # noqa: PLC0415

    options = {"schema": schema, "buckets": buckets, **({"lease": lease} if is_database(place) else {})}
    return run(store_of(place, make=True, **options), environ_of(fields), listen=_address(listen), quiet=quiet)


def _address(listen: str | None) -> tuple[str, int] | None:
    if listen is None:
        return None
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        msg = "give --listen as HOST:PORT or :PORT"
        raise click.UsageError(msg)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - without a host it is meant so


@outbox.command(name="schema", short_help="Print the SQL that makes a database's tables.")
@click.option("--since", type=int, metavar="VERSION", help="Print the SQL that upgrades tables of this older version.")
@database_options
def outbox_schema(since: int | None, schema: str, buckets: int) -> int:
    """Print the SQL that makes the tables in PostgreSQL, to make them by hand.

    The comment at its end says what to grant to the role of a service.
    """
    from altcraft_async.outbox import schema_sql  # noqa: PLC0415 - quick start of the other commands

    sys.stdout.write(schema_sql(schema=schema, buckets=buckets, since=since))
    return 0


@outbox.command(name="dead", short_help="List the dead letters, as JSON lines.")
@_PLACE
@database_options
def outbox_dead(place: str, **database: Any) -> int:
    """Write the dead letters to stdout, one JSON object a line.

    Once you have corrected a line, you can send it with sync; it then gets a new Request-ID.
    """
    from altcraft_async.cli.outbox import dead  # noqa: PLC0415

    return dead(store_of(place, **database))


@outbox.command(name="retry", short_help="Deliver dead letters again.")
@_PLACE
@_IDS
@database_options
def outbox_retry(place: str, ids: Sequence[int], **database: Any) -> int:
    """Put dead letters back for delivery: those with these ids, or all.

    Without ids the overtaken ones stay dead: they would put their lines back to an
    older status.
    """
    from altcraft_async.cli.outbox import retry  # noqa: PLC0415

    return retry(store_of(place, **database), ids)


@outbox.command(name="purge", short_help="Delete dead letters.")
@_PLACE
@_IDS
@click.option("--all", "everything", is_flag=True, help="Delete all dead letters.")
@database_options
def outbox_purge(place: str, ids: Sequence[int], everything: bool, **database: Any) -> int:
    """Delete the dead letters with these ids, or all of them with --all."""
    from altcraft_async.cli.outbox import purge  # noqa: PLC0415

    if bool(ids) == everything:
        msg = "say which dead letters to delete: their ids, or --all"
        raise click.UsageError(msg)
    return purge(store_of(place, **database), ids)


@outbox.command(name="forget", short_help="Delete the data of an order.")
@_PLACE
@click.option("--order", metavar="ID", required=True, help="The order's external id.")
@database_options
def outbox_forget(place: str, order: str, **database: Any) -> int:
    """Delete the waiting updates and dead letters of an order, when a person asks to be forgotten.

    Updates that the service has just read may still be sent. A file then has nothing left of the order; a database
    removes deleted rows from its files when it cleans up.
    """
    from altcraft_async.cli.outbox import forget  # noqa: PLC0415 - quick start of the other commands

    return forget(store_of(place, **database), order)
