"""The command ``report``: its arguments and options."""

from __future__ import annotations

from typing import Any

import click

from altcraft_async.cli.inputs import Input, input_options

__all__ = ["report"]


@click.command(short_help="Make a report of a run from its journal.")
@click.argument("path", metavar="JOURNAL")
@click.option("-o", "--output", metavar="FILE|-", default="-", show_default=True, help="Where to write; - is stdout.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a page; *.json gets JSON anyway.")
@click.option("--input", "source", metavar="FILE|-", help="The input of the run, unchanged: names the slowest rows.")
@input_options("Format of INPUT. Default: by content and suffix.")
def report(path: str, output: str, source: str | None, as_json: bool, **fields: Any) -> int:
    """Make a report of the run that JOURNAL records, also while it goes on.

    The report is one page of HTML that loads nothing. It shows whether everything arrived, what did not and why, how
    long the run took, whether the server was the cause, and pictures over time. A page needs the extra report, JSON
    does not.
    """
    from altcraft_async.cli.report import of_journal  # noqa: PLC0415 - quick start of the other commands

    given = None if source is None else Input.of(source, fields)
    return of_journal(path, output, given, as_json=as_json)
