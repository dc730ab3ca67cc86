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


@click.group(short_help="Tell what the journal of a run says.", epilog=_JOURNAL_EPILOG)
def journal() -> None:
    """Look into the journal that sync or an import wrote with --journal, also while a run writes it.

    Data goes to stdout, talk to stderr.
    """


def _extract_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("-o", "--output", metavar="FILE|-", default="-", show_default=True, help="Where to write."),
        click.option("--input", "source", metavar="FILE|-", help="The input of the run, as it was."),
        click.argument("path", metavar="JOURNAL"),
    ):
        command = option(command)
    return command


@journal.command("show", short_help="Say what became of the run.")
@click.argument("path", metavar="JOURNAL")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def journal_show(path: str, as_json: bool) -> int:
    """Say what became of the run, in words, and what to do next."""
    from altcraft_async.cli.journal import show  # noqa: PLC0415 - quick start of the other commands

    return show(path, as_json=as_json)


@journal.command("failed", short_help="Extract the rows that failed.")
@_extract_options
@input_options("Of INPUT; without one csv or jsonl, of what is written. Default: by suffix.")
def journal_failed(path: str, output: str, source: str | None, **fields: Any) -> int:
    """Write the rows that failed as a file that the same command takes.

    With --input they are as they stood there, with all columns; the input is held
    against the journal first. Without it they are the three ids, as the journal has
    them, in the --format, and rows that were invalid are missing; of an import, whose
    rows the journal does not keep, --input is needed.
    """
    from altcraft_async.cli.journal import Extract, failed  # noqa: PLC0415 - quick start of the other commands

    return failed(Extract.of(path, output, source, fields))


@journal.command("export", short_help="Extract every outcome.")
@_extract_options
@input_options("Of INPUT; default: by content and suffix.")
def journal_export(path: str, output: str, source: str | None, **fields: Any) -> int:
    """Write every recorded outcome, in input order, like the option --results does.

    As JSON lines, CSV to *.csv, or Parquet to *.parquet. Ids, request ids and lines of the file are there for
    every row with --input; without it, ids only for those that failed.
    """
    from altcraft_async.cli.journal import Extract, export  # noqa: PLC0415 - quick start of the other commands

    return export(Extract.of(path, output, source, fields))


@journal.command("forget", short_help="Delete what it says of an order.")
@click.argument("path", metavar="JOURNAL")
@click.option("--order", metavar="ID", required=True, help="The order's external id.")
def journal_forget(path: str, order: str) -> int:
    """Delete what JOURNAL says of an order, for requests of people to be forgotten.

    The journal can be read and gone on with as before. It does not have the ids of rows that were applied; what
    FILE, results and logs have of the order is yours to delete.
    """
    from altcraft_async.cli.journal import forget_order  # noqa: PLC0415 - quick start of the other commands

    return forget_order(path, order)
