"""The command group ``outbox``: its commands, arguments and options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.options import ClientCommand, client_options, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async.outbox import PostgresStore

__all__ = ["database_options", "outbox", "store_of"]

_PLACE = click.argument("place", metavar="FILE|URL")
_IDS = click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(min=1))


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which outbox of a database is meant."""
    buckets = click.option("--buckets", type=click.IntRange(1, 1024), default=64, show_default=True,
                           help="How many buckets the database's tables were made for.")  # fmt: skip
    schema = click.option("--schema", default="altcraft", show_default=True, help="The database's schema with them.")
    return schema(buckets(command))


def store_of(place: str, *, make: bool = False, **options: Any) -> PostgresStore | str:
    """Return the store at a place; see `altcraft_async.cli.database.store_at`."""
    from altcraft_async.cli.database import store_at  # noqa: PLC0415 - quick start of the other commands

    return store_at(place, make=make, **options)


@click.group(short_help="Look into a service's outbox, deliver it, and tidy up its dead letters.")
def outbox() -> None:
    """Look into the outbox of a service, whether it runs or not.

    It is a file, or a database at an address like postgresql://USER@HOST/DATABASE; a password is better left to
    PGPASSWORD or ~/.pgpass. Only the command run delivers anything.
    """


@outbox.command(name="show", short_help="Say what waits, what is dead, and who delivers.")
@_PLACE
@click.option("--json", "as_json", is_flag=True, help="Write it as one JSON object to stdout.")
@database_options
def outbox_show(place: str, as_json: bool, **database: Any) -> int:
    """Say how many updates wait, for how long, and how many are dead.

    Of a database also who delivers, how many rows are deleted and not cleaned away, and how old its oldest
    transaction is.
    """
    from altcraft_async.cli.database import shown  # noqa: PLC0415 - quick start of the other commands
    from altcraft_async.cli.outbox import show  # noqa: PLC0415

    return show(store_of(place, **database), shown(place), as_json=as_json)


@outbox.command(name="run", cls=ClientCommand, short_help="Deliver an outbox until a signal comes.")
@_PLACE
@click.option("--listen", metavar="[HOST]:PORT", help="Answer /livez, /readyz and /metrics there.")
@click.option("--lease", type=click.FloatRange(min=0.5), default=45.0, show_default=True,
              help="Seconds after which others take over from a process that died, in a database.")  # fmt: skip
@database_options
@client_options
def outbox_run(  # noqa: PLR0913, PLR0917 - the options of the command
    place: str, listen: str | None, lease: float, schema: str, buckets: int, quiet: bool, **fields: Any
) -> int:
    """Deliver what is in an outbox, and what comes, until SIGTERM or Ctrl-C.

    Any number may run for one database: they share the work, and take over from each other. At the signal what is
    under way is ended, and the rest is left to the others, or delivered, for up to 10 seconds, where there are none.
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
@click.option("--since", type=int, metavar="VERSION", help="Print what brings tables of an older version to this one.")
@database_options
def outbox_schema(since: int | None, schema: str, buckets: int) -> int:
    """Print the SQL that makes the tables in PostgreSQL, for those who make them by hand.

    The role of a service then needs USAGE on the schema, SELECT, INSERT, UPDATE and DELETE on its tables.
    """
    from altcraft_async.outbox import schema_sql  # noqa: PLC0415 - quick start of the other commands

    sys.stdout.write(schema_sql(schema=schema, buckets=buckets, since=since))
    return 0


@outbox.command(name="dead", short_help="List the dead letters, as JSON lines.")
@_PLACE
@database_options
def outbox_dead(place: str, **database: Any) -> int:
    """Write the dead letters to stdout, one JSON object a line.

    A line can be fed to sync again, once it is corrected; it then gets a new Request-ID.
    """
    from altcraft_async.cli.outbox import dead  # noqa: PLC0415

    return dead(store_of(place, **database))


@outbox.command(name="retry", short_help="Let dead letters be delivered again.")
@_PLACE
@_IDS
@database_options
def outbox_retry(place: str, ids: Sequence[int], **database: Any) -> int:
    """Let dead letters be delivered again: those with these ids, or all.

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
    """Delete the dead letters with these ids, or with --all all of them."""
    from altcraft_async.cli.outbox import purge  # noqa: PLC0415

    if bool(ids) == everything:
        msg = "say which dead letters to delete: their ids, or --all"
        raise click.UsageError(msg)
    return purge(store_of(place, **database), ids)


@outbox.command(name="forget", short_help="Delete what concerns an order.")
@_PLACE
@click.option("--order", metavar="ID", required=True, help="The order's external id.")
@database_options
def outbox_forget(place: str, order: str, **database: Any) -> int:
    """Delete what waits for an order and its dead letters, for requests of people to be forgotten.

    What the service has just read may still be sent. Of a file nothing is left of the order then; a database takes
    deleted rows out of its files when it cleans up.
    """
    from altcraft_async.cli.outbox import forget  # noqa: PLC0415 - quick start of the other commands

    return forget(store_of(place, **database), order)
