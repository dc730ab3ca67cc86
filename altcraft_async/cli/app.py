"""The commands and their options; every user's mistake ends in one sentence on stderr and exit code 1."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from altcraft_async import (
    Adaptive,
    AltcraftError,
    APIError,
    DeliveryError,
    InvalidUpdateError,
)
from altcraft_async.cli.exits import ExitCode, exit_code_of
from altcraft_async.cli.goods import products, skus
from altcraft_async.cli.inputs import Input, input_options, said_of
from altcraft_async.cli.options import (
    ClientCommand,
    Failures,
    Seconds,
    client_options,
    environ_of,
    make_client,
    wire_log_option,
)
from altcraft_async.cli.orders import orders
from altcraft_async.cli.outbox_commands import database_options, store_of
from altcraft_async.cli.outbox_commands import outbox as outbox_group
from altcraft_async.cli.presets import PresetName
from altcraft_async.cli.sandbox_command import sandbox
from altcraft_async.cli.shards_commands import shards
from altcraft_async.cli.signals import interruptible
from altcraft_async.cli.talk import complain, emit
from altcraft_async.ingest import FIELDS, HeldBackError, InputError, LastLine
from altcraft_async.settings import Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async import AltcraftClient
    from altcraft_async.observe import Observer

__all__ = ["cli", "run"]

_EPILOG = """
\b
Exit codes: 0 all applied; 1 usage or configuration; 2 some updates not applied;
3 stopped by deadline or retry budget; 4 token refused; 128 + its number on a signal.

\b
Settings come from ALTCRAFT_BASE_URL, ALTCRAFT_TOKEN (or ALTCRAFT_TOKEN_FILE) and the
other ALTCRAFT_ variables. Data goes to stdout, talk to stderr. NO_COLOR is honoured.

\b
Completion:  eval "$(_ALTCRAFT_ASYNC_COMPLETE=bash_source altcraft-async)"
(zsh_source for zsh; fish: _ALTCRAFT_ASYNC_COMPLETE=fish_source altcraft-async | source)
"""


_JOURNAL_EPILOG = """
\b
Exit codes: 0 done; 1 no such journal, a damaged one, or an input that is not the
one it records; 2 the output could not be written.
"""


def run(started: float | None = None) -> int:
    """Run the command that ``sys.argv`` asks for and return its exit code.

    `started` is the Unix time at which the process began, now by default.
    """
    logging.getLogger("altcraft_async").addHandler(logging.NullHandler())  # the commands say it in words
    try:
        code = cli.main(prog_name="altcraft-async", standalone_mode=False, obj=started or time.time())
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        complain("Interrupted.")
        return 130
    except InputError as error:
        complain(f"Error: {said_of(error)}")
        return ExitCode.NOT_ALL_APPLIED if isinstance(error, HeldBackError) else ExitCode.USAGE
    except AltcraftError as error:
        complain(f"Error: {error}")
        return ExitCode.USAGE
    except BrokenPipeError:
        # Whoever read the output has gone; nothing is left to say, nor may the interpreter's last flush say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NOT_ALL_APPLIED
    return int(code or 0)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="altcraft-async")
def cli() -> None:
    """Tell Altcraft what became of every order line."""


for group in (orders, products, skus):
    cli.add_command(group)


_ONE_BY_ONE_FIRST = Adaptive(initial=1)
"""Doubling makes up for it in a few round trips, and a wrong token costs one refused call instead of ten."""


@cli.command(
    cls=ClientCommand,
    short_help="Send the updates of a file.",
    epilog="With --journal the same command can be run again at any time, also after it was killed: what is done is "
    "not sent again, and what was in doubt goes out under its old id. Without it, sending again what failed "
    "(altcraft-async sync failed.csv) may make a change twice whose outcome was unknown.",
)
@click.argument("source", metavar="FILE|-")
@input_options("Default: by content and suffix.")
@click.option("--last-line", type=click.Choice([str(choice) for choice in LastLine]), default="auto", show_default=True,
              help="A last line without an end: auto holds it back where it may be half of one.")  # fmt: skip
@click.option("--journal", metavar="FILE", help="Record the run here; or go on with the run that is recorded here.")
@click.option("--retry-failed", is_flag=True, help="With --journal, when the run is finished: send again what failed.")
@click.option("--extend", is_flag=True, help="With --journal: the input has got more rows at its end.")
@click.option("--results", metavar="FILE",
              help="Write each outcome: JSON lines, CSV to *.csv, Parquet to *.parquet; - is stdout.")  # fmt: skip
@click.option("--failed", metavar="FILE", help="Write the rows that failed: as CSV or JSON lines, like the input.")
@click.option("--dry-run", is_flag=True, help="Read and check all of the input; send nothing and write no file.")
@click.option("--deadline", type=Seconds(), metavar="TIME", help="Stop after this time: 90, 15m, 2h.")
@click.option("--sample", "limit", type=click.IntRange(min=1), metavar="N",
              help="Send only the first N rows, and stop with the summary.")  # fmt: skip
@click.option("--max-failures", type=Failures(), metavar="N|N%", help="Stop at so many failures, or none to go on "
              "regardless. Default: stop when the first 100 are all rejected for one reason.")  # fmt: skip
@click.option("--coalesce", type=click.Choice(["all", "latest"]), default="all", show_default=True,
              help="latest: skip a waiting update that a newer one for its line replaces.")  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="Say nothing where all went well: for cron.")
@click.option("--json", "as_json", is_flag=True, help="Write the summary as one JSON object to stdout.")
@wire_log_option
@client_options
def sync(source: str, **fields: Any) -> int:
    """Send every update in FILE: CSV, JSON or Excel, also gzipped; - reads standard input.

    Parquet and Arrow too: a file, a directory, a pattern in quotes, or an address like s3://bucket/orders/*.parquet.

    The columns (keys) are order_external_id, order_line_external_id and
    status_external_id; others are left alone. Updates of one order line go in
    the order of their rows. A row that is wrong is named with its line number,
    and the others go on. Where no row can be told for certain any more, as behind
    a quote that is not closed, everything from that line on is held back.
    """
    from altcraft_async.cli.job import SyncJob  # noqa: PLC0415 - quick start of the other commands
    from altcraft_async.cli.sync import sync as start  # noqa: PLC0415

    environ = environ_of(fields)
    own: dict[str, Any] = {"wire_log": fields.pop("wire_log")}
    if Environment.read(environ).settings.concurrency == Adaptive():
        own["concurrency"] = _ONE_BY_ONE_FIRST

    def client_for(observers: Sequence[Observer]) -> AltcraftClient:
        return make_client(environ, observers, **own)

    return start(SyncJob(input=Input.of(source, fields), **fields), client_for)


@cli.command(cls=ClientCommand, short_help="Compare a file with what the platform shows.")
@click.argument("source", metavar="FILE|-")
@input_options("Default: by content and suffix.")
@click.option("--journal", metavar="FILE", help="Expect only what this journal of sync says was applied.")
@click.option("--by", type=click.Choice(["auto", "status", "list"]), default="auto", show_default=True,
              help="status: look up each order; list: read the list of all; auto: by their number.")  # fmt: skip
@click.option("--endpoint", metavar="ID", help="Of the list, only the orders of one touchpoint.")
@wire_log_option
@client_options
def reconcile(source: str, journal: str | None, by: Any, endpoint: str | None, **fields: Any) -> int:
    """Compare the last status of every line in FILE with what the platform shows.

    Each difference is a JSON object on stdout, the whole is said on stderr. Orders that are looked up show
    only that they are there; the list may show the statuses of lines. What could not be checked is
    counted, and the exit code is 0 only where all was checked and nothing differs.
    """
    from altcraft_async.cli.reconcile import Comparison  # noqa: PLC0415 - quick start of the other commands

    client = make_client(environ_of(fields), wire_log=fields.pop("wire_log"))
    return Comparison(input=Input.of(source, fields), journal=journal, by=by, endpoint=endpoint).run(client)


@cli.group(short_help="Tell what the journal of a run says.", epilog=_JOURNAL_EPILOG)
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


@cli.command(cls=ClientCommand, short_help="Send one update.")
@click.argument("order")
@click.argument("line")
@click.argument("status")
@click.option("--deadline", type=Seconds(), metavar="TIME", help="Give up after this time: 90, 15m, 2h.")
@click.option("--json", "as_json", is_flag=True, help="Write the server's echo as one JSON object.")
@wire_log_option
@client_options
def update(order: str, line: str, status: str, deadline: float | None, as_json: bool, **fields: Any) -> int:
    """Give the LINE of ORDER, by their external ids, this STATUS.

    STATUS is new, processing, delivering, delivered, canceled, refunded, or the
    id of a custom status.
    """
    wire_log = fields.pop("wire_log")
    client = make_client(environ_of(fields), wire_log=wire_log)
    return asyncio.run(_update(client, (order, line, status), deadline, as_json=as_json))


async def _update(client: AltcraftClient, ids: tuple[str, str, str], deadline: float | None, *, as_json: bool) -> int:
    with interruptible() as interruption:
        try:
            async with client:
                echo = await client.market.orders.update_order_line_status(*ids, deadline=deadline)
        except InvalidUpdateError:
            raise
        except DeliveryError as error:
            complain(f"Error: {error}")
            if not isinstance(error, APIError):
                complain("altcraft-async doctor looks for the reason.")
            return exit_code_of(error)
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            complain("Interrupted; the change may have been applied.")
            return interruption.exit_code
    values = {field: getattr(echo, field) for field in FIELDS}
    emit((json.dumps(values) if as_json else " ".join(values.values())) + "\n")
    return ExitCode.OK


@cli.command(cls=ClientCommand, short_help="Say what is wrong when it does not work.")
@click.option("--json", "as_json", is_flag=True, help="Write all findings as one JSON object.")
@click.option("--outbox", metavar="FILE|URL", help="Check this outbox too, a file or a database.")
@database_options
@client_options
def doctor(as_json: bool, outbox: str | None, schema: str, buckets: int, **fields: Any) -> int:
    """Check settings, name, connection, TLS, token, clock and round trips.

    Each check is told in a line on stdout: ok, warning, failed or skipped, with
    what to do about it. Nothing is changed on the platform, and the token is
    never shown.

    Exit codes: 0 no failure; 1 a setting is wrong; 4 the token is refused; 2 any
    other failure. Of several failures the first counts.
    """
    from altcraft_async.cli.doctor import doctor as start  # noqa: PLC0415 - quick start of the other commands

    store = None if outbox is None else store_of(outbox, schema=schema, buckets=buckets)
    return start(environ_of(fields), as_json=as_json, outbox=store)


@cli.command(short_help="Show the whole job against a server that misbehaves; needs no account.")
@click.option("--lines", type=click.IntRange(min=1, max=200_000), default=2000, show_default=True, help="Order lines.")
@click.option("--faults", type=PresetName(), default="mixed", show_default=True,
              help="How the server misbehaves.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Repeats the same orders and faults.")
@click.option("--json", "as_json", is_flag=True, help="Write the report as one JSON object to stdout.")
def demo(lines: int, faults: str, seed: int, as_json: bool) -> int:
    """Run the whole job on this machine, without network or account.

    A sandbox of the platform is started inside, with orders of four lines each.
    Their status updates are pushed through its injected faults. Then the
    server's ledger is checked: nothing lost, duplicated or reordered, and an
    outcome for every update. The exit code is 0 only then.
    """
    from altcraft_async.cli.demo import demo as start  # noqa: PLC0415 - the sandbox is slow to import

    return start(lines=lines, faults=faults, seed=seed, as_json=as_json)


cli.add_command(sandbox)
cli.add_command(outbox_group)
cli.add_command(shards)
