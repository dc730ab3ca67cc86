"""The commands ``doctor`` and ``demo``, which try things out; their options."""

from __future__ import annotations

from typing import Any

import click

from altcraft_async.cli.options import ClientCommand, client_options, environ_of
from altcraft_async.cli.outbox_commands import database_options, store_of
from altcraft_async.cli.presets import PresetName

__all__ = ["demo", "doctor"]


@click.command(cls=ClientCommand, short_help="Find out why it does not work.")
@click.option("--json", "as_json", is_flag=True, help="Write all findings as one JSON object.")
@click.option("--outbox", metavar="FILE|URL", help="Also check this outbox, a file or a database.")
@database_options
@client_options
def doctor(as_json: bool, outbox: str | None, schema: str, buckets: int, quiet: bool, **fields: Any) -> int:
    """Check settings, name, connection, TLS, token, clock and round trips.

    Each check prints a line on stdout: ok, warning, failed or skipped, with its
    remedy. The command changes nothing on the platform, and never shows the
    token.

    Exit codes: 0 no failure; 1 a setting is wrong; 4 the token is refused; 2 any
    other failure. Of several failures the first counts.
    """
    from altcraft_async.cli.doctor import doctor as start  # noqa: PLC0415 - quick start of the other commands

    store = None if outbox is None else store_of(outbox, schema=schema, buckets=buckets)
    return start(environ_of(fields), as_json=as_json, quiet=quiet, outbox=store)


@click.command(short_help="Show the whole job against a server that misbehaves; needs no account.")
@click.option(
    "--lines", type=click.IntRange(min=1, max=200_000), default=2000, show_default=True, help="Number of order lines."
)
@click.option("--faults", type=PresetName(), default="mixed", show_default=True,
              help="How the server misbehaves.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Repeats the same orders and faults.")
@click.option("--json", "as_json", is_flag=True, help="Write the report as one JSON object to stdout.")
def demo(lines: int, faults: str, seed: int, as_json: bool) -> int:
    """Run the whole job on this machine, without network or account.

    The command starts a sandbox of the platform, with orders of four lines each,
    and pushes their status updates through its injected faults. Then it checks
    the sandbox's ledger. The exit code is 0 only if no update was lost,
    duplicated or reordered, and every update has an outcome.
    """
    from altcraft_async.cli.demo import demo as start  # noqa: PLC0415 - the sandbox is slow to import

    return start(lines=lines, faults=faults, seed=seed, as_json=as_json)
