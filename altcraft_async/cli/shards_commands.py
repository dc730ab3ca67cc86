"""The command group ``shards``: its commands, arguments and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from altcraft_async.cli.inputs import Input, input_options
from altcraft_async.cli.options import ClientCommand, Real, Seconds, Whole, client_options, environ_of
from altcraft_async.kinds import LARGEST
from altcraft_async.settings.address import check_base_url

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["shards"]

_DIRECTORY = click.argument("directory", metavar="DIR")


def _checked_target(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Check the address, and call it by the name under which it was given."""
    by_variable = context.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
    name = "ALTCRAFT_BASE_URL" if by_variable else "--target"
    return None if value is None else check_base_url(value, allow_insecure=True, name=name)


_TARGET = click.option("--target", metavar="URL", envvar="ALTCRAFT_BASE_URL", callback=_checked_target,
                       help="The platform that the shards are for. Default: ALTCRAFT_BASE_URL, or any.")  # fmt: skip

_EPILOG = """
\b
Exit codes of run: 0 all applied; 1 usage or configuration; 2 some updates not applied;
3 not all shards have come to their end: run it again; 128 + its number on a signal.
"""


@click.group(short_help="Deliver a large input in parts, on many processes or machines.")
def shards() -> None:
    """Deliver a large input in parts: plan them once, run them anywhere, show their progress.

    DIR is a directory that all machines see, or an fsspec address like s3://bucket/run-1. It has the rows, one
    Parquet file for each shard, and below _altcraft the plan, journals and reports; never the token. Needs the extra
    arrow.
    """


@shards.command(name="plan", short_help="Divide an input into shards.")
@click.argument("source", metavar="FILE|-")
@_DIRECTORY
@click.option("--shards", "count", type=click.IntRange(1, 500), required=True, metavar="N", help="Number of shards.")
@input_options("Default: by content and suffix.")
@_TARGET
def shards_plan(source: str, directory: str, count: int, target: str | None, **fields: Any) -> int:
    """Write the rows of FILE into N Parquet files in DIR, all rows of an order into one, and the plan beside them.

    FILE is as for sync. Wrong rows are included, and end invalid. Nothing is sent.
    """
    from altcraft_async.cli.shards import plan  # noqa: PLC0415 - quick start of the other commands

    return plan(Input.of(source, fields), directory, count=count, target=target)


@shards.command(name="adopt", short_help="Take the Parquet files of another tool as shards.")
@_DIRECTORY
@click.option("--map", "pairs", multiple=True, metavar="FIELD=COLUMN", help="Read FIELD from this column.")
@click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="FIELD is VALUE in every row.")
@click.option("--status", "statuses", multiple=True, metavar="FROM=TO", help="Send TO for FROM in the rows.")
@_TARGET
def shards_adopt(directory: str, target: str | None, **fields: Any) -> int:
    """Make a plan of the Parquet files in DIR: each file is a shard, in the order of its rows.

    All rows of an order must be in one file; the command checks that.
    """
    from altcraft_async.cli.shards import adopt  # noqa: PLC0415 - quick start of the other commands

    given = dict.fromkeys(("status_file", "input_format"))
    how = Input.of("-", {**fields, **given, "encoding": "utf-8", "skip_lines": 0})
    return adopt(how, directory, target=target)


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((
        click.option("--shard", type=Whole(0), envvar="JOB_COMPLETION_INDEX", show_envvar=True,
                     metavar="N", help="Only this shard, in this process."),
        click.option("--processes", type=Whole(1, 10_000), metavar="N",
                     help="Processes of this machine. Default: one for each core."),
        click.option("--concurrency-total", type=Whole(), metavar="N",
                     help="Total calls in flight of all processes that run shards of DIR, on any machine; "
                     "each process has one at least."),
        click.option("--rate-total", type=Real(0, LARGEST, min_open=True), metavar="N",
                     help="Total updates a second of all these processes."),
        click.option("--retry-failed", is_flag=True, help="Send the failed rows of done shards again."),
        click.option("--deadline", type=Seconds(), metavar="TIME", help="With --shard: stop after this time."),
        click.option("--json", "as_json", is_flag=True, help="Write the report as one JSON object to stdout."),
    )):  # fmt: skip
        command = option(command)
    return command


@shards.command(name="run", cls=ClientCommand, short_help="Deliver the shards, or one of them.", epilog=_EPILOG)
@_DIRECTORY
@_run_options
@client_options
def shards_run(directory: str, **fields: Any) -> int:
    """Deliver all shards of DIR that are not done, with some processes of this machine; or one, with --shard N.

    Run it again at any time, also after a kill, and on several machines: done rows are not sent again, rows in
    doubt go out under their old ids, and the command waits for a shard that another process delivers.
    """
    from altcraft_async.cli.shards import ShardsJob, run  # noqa: PLC0415 - quick start of the other commands

    environ = environ_of(fields)
    of_a_job = click.get_current_context().get_parameter_source("shard") is ParameterSource.ENVIRONMENT
    return run(ShardsJob(directory=directory, of_a_job=of_a_job, **fields), environ)


@shards.command(name="show", short_help="Show the progress of the shards.")
@_DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="Write the report as one JSON object to stdout.")
def shards_show(directory: str, as_json: bool) -> int:
    """Show the progress of the shards of DIR, also while they run, from any machine."""
    from altcraft_async.cli.shards import show  # noqa: PLC0415 - quick start of the other commands

    return show(directory, as_json=as_json)
