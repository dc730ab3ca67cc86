"""The commands ``orders import``, ``products import`` and ``skus import``: rows of a file, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.options import (
    ClientCommand,
    Failures,
    Seconds,
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

    An object has the platform's names. Rows are checked as far as the guide says what they must have; one
    that is wrong is named with its line number, and the others go on. They go in batches, each
    of which is one call.
    """
_IMPORT_HELP: dict[str, str] = {
    "orders": f"Import the orders{_ROWS}An order that comes again is imported again, after the first.",
    "products": f"Import the products{_ROWS}",
    "skus": f"Import the SKU{_ROWS}",
}
_TRIGGERS = (
    click.option("--triggers", is_flag=True, help="Start automations for these orders."),
    click.option("--skip-triggers", is_flag=True, help="Start no automations: for orders of the past."),
)
_IMPORT_OPTIONS = (
    click.option("--definitions", metavar="FILE",
                 help="A JSON object of what goes with every batch: custom_fields, custom_line_statuses, categories."),
    click.option("--encoding", default="utf-8", show_default=True, metavar="NAME", help="Of text: cp1251, utf-16, …"),
    click.option("--last-line", type=click.Choice([str(choice) for choice in LastLine]), default="auto",
                 show_default=True,
                 help="A last line without an end: auto holds it back where it may be half of one."),
    click.option("--batch-size", type=click.IntRange(min=1), default=500, show_default=True,
                 help="Most rows of a call."),
    click.option("--batch-bytes", type=click.IntRange(min=1000), default=1_000_000, show_default=True,
                 help="Most bytes of a call."),
    click.option("--split", is_flag=True,
                 help="Try a refused batch again in halves, until the wrong rows are found."),
    click.option("--batch-timeout", type=Seconds(), default="120", show_default=True, metavar="TIME",
                 help="For one attempt."),
    click.option("--journal", metavar="FILE", help="Record the run here; or go on with the run that is recorded here."),
    click.option("--retry-failed", is_flag=True, help="With --journal, when it is finished: send again what failed."),
    click.option("--extend", is_flag=True, help="With --journal: the input has got more rows at its end."),
    click.option("--results", metavar="FILE",
                 help="Write each outcome: JSON lines, CSV to *.csv, Parquet to *.parquet; - is stdout."),
    click.option("--failed", metavar="FILE", help="Write the rows that failed, as JSON lines."),
    click.option("--report", metavar="FILE", help="Write a report of the run when it ends: a page, or JSON to *.json."),
    click.option("--dry-run", is_flag=True, help="Read and check all of the input, count batches; send nothing."),
    click.option("--deadline", type=Seconds(), metavar="TIME", help="Stop after this time: 90, 15m, 2h."),
    click.option("--sample", "limit", type=click.IntRange(min=1), metavar="N", help="Send only the first N rows."),
    click.option("--max-failures", type=Failures(), metavar="N|N%",
                 help="Stop at so many refused calls, or none to go on regardless."),
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
