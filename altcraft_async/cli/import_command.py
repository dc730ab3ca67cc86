"""The commands ``orders import``, ``products import`` and ``skus import``: rows of a file, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.options import (
    ClientCommand,
    Failures,
    Seconds,
    Whole,
    client_options,
    environ_of,
    make_client,
    wire_log_option,
    with_options,
)
from altcraft_async.ingest import LastLine
from altcraft_async.settings import Environment

if TYPE_CHECKING:
    from altcraft_async.cli.imports import What

__all__ = ["import_command"]

_ROWS = """ in FILE: JSON lines or one JSON array, also gzipped; - reads standard input.

    An object has the platform's names. Rows are checked for everything that the guide requires; a wrong row
    is reported with its line number, and the others go on. Rows go in batches; each batch is one call.
    """
_IMPORT_HELP: dict[str, str] = {
    "orders": f"Import the orders{_ROWS}A repeated order is imported again, after the first.",
    "products": f"Import the products{_ROWS}",
    "skus": f"Import the SKU{_ROWS}",
}
_TRIGGERS = (
    click.option("--triggers", is_flag=True, help="Start automations for these orders."),
    click.option("--skip-triggers", is_flag=True, help="Start no automations: for orders of the past."),
)
_IMPORT_OPTIONS = (
    click.option("--definitions", metavar="FILE",
                 help="A JSON object that goes with every batch: custom_fields, custom_line_statuses, categories."),
    click.option("--encoding", default="utf-8", show_default=True, metavar="NAME", help="Encoding: cp1251, utf-16, …"),
    click.option("--last-line", type=click.Choice([str(choice) for choice in LastLine]), default="auto",
                 show_default=True,
                 help="A last line without a line end: auto holds it back if it may be half a line."),
    click.option("--batch-size", type=Whole(), default=500, show_default=True,
                 help="Maximum rows of a call."),
    click.option("--batch-bytes", type=Whole(1000), default=1_000_000, show_default=True,
                 help="Maximum bytes of a call."),
    click.option("--split", is_flag=True,
                 help="Try a refused batch again in halves, until the wrong rows are found."),
    click.option("--batch-timeout", type=Seconds(), default="120", show_default=True, metavar="TIME",
                 help="Timeout of one attempt."),
    click.option("--journal", metavar="FILE", help="Record the run in FILE, or go on with the run recorded there."),
    click.option("--retry-failed", is_flag=True,
                 help="With --journal, when the run is finished: send failed rows again."),
    click.option("--extend", is_flag=True, help="With --journal: the input has more rows at its end."),
    click.option("--results", metavar="FILE",
                 help="Write each outcome: JSON lines, CSV to *.csv, Parquet to *.parquet; - is stdout."),
    click.option("--failed", metavar="FILE", help="Write the failed rows, as JSON lines."),
    click.option("--report", metavar="FILE", help="Write a report of the run when it ends: a page, or JSON to *.json."),
    click.option("--dry-run", is_flag=True, help="Read and check the whole input, count batches; send nothing."),
    click.option("--deadline", type=Seconds(), metavar="TIME", help="Stop after this time: 90, 15m, 2h."),
    click.option("--sample", "limit", type=Whole(), metavar="N", help="Send only the first N rows."),
    click.option("--max-failures", type=Failures(), metavar="N|N%",
                 help="Stop at this number or share of refused calls; none: never stop."),
    click.option("--json", "as_json", is_flag=True, help="Write the summary as one JSON object to stdout."),
)  # fmt: skip


def import_command(what: What) -> click.Command:
    """Make the command ``import`` of a group."""

    @click.command(
        "import",
        cls=ClientCommand,
        short_help=f"Import {what} from a file, in batches.",
        epilog="With --journal the same command can be run again at any time, also after it was killed.",
        help=_IMPORT_HELP[what],
    )
    @click.argument("source", metavar="FILE|-")
    @with_options(*(_TRIGGERS if what == "orders" else ()), *_IMPORT_OPTIONS)
    @wire_log_option
    @client_options
    def command(**fields: Any) -> int:
        from altcraft_async.cli.imports import run as start  # noqa: PLC0415 - quick start of the other commands

        environ = environ_of(fields, source=fields["source"])
        own: dict[str, Any] = {"wire_log": fields.pop("wire_log")}
        fields["request_format"] = Environment.read(environ).settings.request_format
        return start(what, lambda observers: make_client(environ, observers, **own), fields)

    return command
