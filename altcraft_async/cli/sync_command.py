"""The commands ``sync`` and ``reconcile``: a file against the platform; their arguments and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from altcraft_async import Adaptive
from altcraft_async.cli.inputs import Input, input_options
from altcraft_async.cli.options import (
    ClientCommand,
    Failures,
    Seconds,
    Whole,
    client_options,
    environ_of,
    make_client,
    wire_log_option,
)
from altcraft_async.ingest import LastLine
from altcraft_async.settings import Environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.observe import Observer

__all__ = ["reconcile", "sync"]

_ONE_BY_ONE_FIRST = Adaptive(initial=1)
"""Doubling makes up for it in a few round trips, and a wrong token costs one refused call instead of ten."""


@click.command(
    cls=ClientCommand,
    short_help="Send the updates of a file.",
    epilog="With --journal you can run the same command again at any time, also after a kill: done rows are not sent "
    "again, and rows in doubt go out under their old ids. Without it, sending failed rows again "
    "(altcraft-async sync failed.csv) may make a change twice if its outcome was unknown.",
)
@click.argument("source", metavar="FILE|-")
@input_options("Default: by content and suffix.")
@click.option("--last-line", type=click.Choice([str(choice) for choice in LastLine]), default="auto", show_default=True,
              help="A last line without a line end: auto holds it back if it may be half a line.")  # fmt: skip
@click.option("--journal", metavar="FILE", help="Record the run in FILE, or go on with the run recorded there.")
@click.option("--retry-failed", is_flag=True, help="With --journal, when the run is finished: send failed rows again.")
@click.option("--extend", is_flag=True, help="With --journal: the input has more rows at its end.")
@click.option("--results", metavar="FILE",
              help="Write each outcome: JSON lines, CSV to *.csv, Parquet to *.parquet; - is stdout.")  # fmt: skip
@click.option(
    "--failed",
    metavar="FILE",
    help="Write the failed rows: as CSV or JSON lines, like the input; of Parquet, CSV to *.csv.",
)
@click.option("--report", metavar="FILE", help="Write a report of the run when it ends: a page, or JSON to *.json.")
@click.option("--dry-run", is_flag=True, help="Read and check the whole input; send nothing and write no file.")
@click.option("--deadline", type=Seconds(), metavar="TIME", help="Stop after this time: 90, 15m, 2h.")
@click.option("--sample", "limit", type=Whole(), metavar="N",
              help="Send only the first N rows, and stop with the summary.")  # fmt: skip
@click.option("--max-failures", type=Failures(), metavar="N|N%", help="Stop at this number or share of failures; "
              "none: never stop. Default: stop when the first 100 are all rejected for one reason.")  # fmt: skip
@click.option("--coalesce", type=click.Choice(["all", "latest"]), default="all", show_default=True,
              help="latest: skip a waiting update that a newer one for its line replaces.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write the summary as one JSON object to stdout.")
@wire_log_option
@client_options
def sync(source: str, **fields: Any) -> int:
    """Send every update in FILE: CSV, JSON or Excel, also gzipped; - reads standard input.

    Parquet and Arrow too: a file, a directory, a pattern in quotes, or an address like s3://bucket/orders/*.parquet.

    The columns (keys) are order_external_id, order_line_external_id and
    status_external_id; others are ignored. Updates of one order line go in the
    order of their rows. A wrong row is reported with its line or row number, and the
    others go on. If it is not certain where rows begin, as after a quote that is
    not closed, everything from that line on is held back.
    """
    from altcraft_async.cli.job import SyncJob  # noqa: PLC0415 - quick start of the other commands
    from altcraft_async.cli.sync import sync as start  # noqa: PLC0415

    environ = environ_of(fields, source=source)
    own: dict[str, Any] = {"wire_log": fields.pop("wire_log")}
    if Environment.read(environ).settings.concurrency == Adaptive():
        own["concurrency"] = _ONE_BY_ONE_FIRST

    def client_for(observers: Sequence[Observer]) -> AltcraftClient:
        return make_client(environ, observers, **own)

    return start(SyncJob(input=Input.of(source, fields), **fields), client_for)


@click.command(cls=ClientCommand, short_help="Compare a file with the platform.")
@click.argument("source", metavar="FILE|-")
@input_options("Default: by content and suffix.")
@click.option("--journal", metavar="FILE", help="Expect only the updates that this journal of sync records as applied.")
@click.option("--by", type=click.Choice(["auto", "status", "list"]), default="auto", show_default=True,
              help="status: look up each order; list: read the list of all; auto: by their number.")  # fmt: skip
@click.option("--endpoint", metavar="ID", help="List only the orders of one touchpoint.")
@wire_log_option
@client_options
def reconcile(source: str, journal: str | None, by: Any, endpoint: str | None, quiet: bool, **fields: Any) -> int:
    """Compare the last status of every line in FILE with the platform.

    Each difference is a JSON object on stdout; the summary goes to stderr. A look-up of an order shows only that
    the order exists; the list may show the statuses of lines. The command counts lines that it could not check.
    The exit code is 0 only if everything was checked and nothing differs.
    """
    from altcraft_async.cli.reconcile import Comparison  # noqa: PLC0415 - quick start of the other commands

    client = make_client(environ_of(fields), wire_log=fields.pop("wire_log"))
    asked = Comparison(input=Input.of(source, fields), journal=journal, by=by, endpoint=endpoint, quiet=quiet)
    return asked.run(client)
