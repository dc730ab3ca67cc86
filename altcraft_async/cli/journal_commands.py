"""The command group ``journal``: its commands, arguments and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.inputs import input_options

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["journal"]

_JOURNAL_EPILOG = """
\b
Exit codes: 0 done; 1 no such journal, a damaged one, or an input that is not the
one it records; 2 the output could not be written.
"""


@click.group(short_help="Show or export the journal of a run.", epilog=_JOURNAL_EPILOG)
def journal() -> None:
    """Read the journal that sync or an import wrote with --journal, also while a run writes it.

    Data goes to stdout, messages to stderr.
    """


def _extract_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("-o", "--output", metavar="FILE|-", default="-", show_default=True, help="Where to write."),
        click.option("--input", "source", metavar="FILE|-", help="The input of the run, unchanged."),
        click.argument("path", metavar="JOURNAL"),
    ):
        command = option(command)
    return command


@journal.command("show", short_help="Show how the run went.")
@click.argument("path", metavar="JOURNAL")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def journal_show(path: str, as_json: bool) -> int:
    """Show in words how the run went, and what to do next."""
    from altcraft_async.cli.journal import show  # noqa: PLC0415 - quick start of the other commands

    return show(path, as_json=as_json)


@journal.command("failed", short_help="Extract the failed rows.")
@_extract_options
@input_options("Format of INPUT; without INPUT of the output, csv or jsonl. Default: by suffix.")
def journal_failed(path: str, output: str, source: str | None, **fields: Any) -> int:
    """Write the failed rows as a file that the same command takes.

    With --input the rows are unchanged, with all columns; the input is compared with
    the journal first. Without it the rows have only the three ids, as the journal has
    them, in the --format, and invalid rows are missing. An import needs --input,
    because the journal does not keep its rows.
    """
    from altcraft_async.cli.journal import Extract, failed  # noqa: PLC0415 - quick start of the other commands

    return failed(Extract.of(path, output, source, fields))


@journal.command("export", short_help="Extract every outcome.")
@_extract_options
@input_options("Format of INPUT. Default: by content and suffix.")
def journal_export(path: str, output: str, source: str | None, **fields: Any) -> int:
    """Write every recorded outcome, in input order, like the option --results does.

    The output is JSON lines, CSV to *.csv, or Parquet to *.parquet. With --input every row has its ids, request
    id and line of the file; without it only failed rows have ids.
    """
    from altcraft_async.cli.journal import Extract, export  # noqa: PLC0415 - quick start of the other commands

    return export(Extract.of(path, output, source, fields))


@journal.command("forget", short_help="Delete the data of an order.")
@click.argument("path", metavar="JOURNAL")
@click.option("--order", metavar="ID", required=True, help="The order's external id.")
def journal_forget(path: str, order: str) -> int:
    """Delete the data of an order from JOURNAL, when a person asks to be forgotten.

    Afterwards the journal can be read, and its run can go on, as before. The journal does not have the ids of rows
    that were applied. You must delete the order from FILE, results and logs yourself.
    """
    from altcraft_async.cli.journal import forget_order  # noqa: PLC0415 - quick start of the other commands

    return forget_order(path, order)
