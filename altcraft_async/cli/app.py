"""The command, its groups, and what is said when something goes wrong: one sentence on stderr, and exit code 1."""

from __future__ import annotations

import logging
import os
import sys
import time

import click

from altcraft_async import AltcraftError
from altcraft_async.cli.examples import add_examples
from altcraft_async.cli.exits import ExitCode
from altcraft_async.cli.goods import products, skus
from altcraft_async.cli.inputs import said_of
from altcraft_async.cli.journal_commands import journal
from altcraft_async.cli.orders import orders
from altcraft_async.cli.outbox_commands import outbox
from altcraft_async.cli.report_command import report
from altcraft_async.cli.sandbox_command import sandbox
from altcraft_async.cli.shards_commands import shards
from altcraft_async.cli.sync_command import reconcile, sync
from altcraft_async.cli.talk import complain
from altcraft_async.cli.trial_commands import demo, doctor
from altcraft_async.cli.update_command import update
from altcraft_async.ingest import HeldBackError, InputError
from altcraft_async.storage.places import is_remote

__all__ = ["cli", "run"]

_EPILOG = """
\b
Exit codes: 0 all applied; 1 usage or configuration; 2 some updates not applied;
3 stopped by deadline or retry budget; 4 token refused; 128 + its number on a signal.

\b
Settings come from ALTCRAFT_BASE_URL, ALTCRAFT_TOKEN (or ALTCRAFT_TOKEN_FILE) and the
other ALTCRAFT_ variables. Data goes to stdout, messages to stderr. NO_COLOR is honoured.

\b
Examples:
  altcraft-async demo
  altcraft-async sync updates.csv --journal updates.journal --failed failed.csv

\b
Completion:  eval "$(_ALTCRAFT_ASYNC_COMPLETE=bash_source altcraft-async)"
(zsh_source for zsh; fish: _ALTCRAFT_ASYNC_COMPLETE=fish_source altcraft-async | source)
"""


def run(started: float | None = None) -> int:  # noqa: PLR0911 - one for each kind of end
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
        for note in getattr(error, "__notes__", ()):
            complain(note)
        return ExitCode.USAGE
    except BrokenPipeError:
        # Whoever read the output has gone; nothing is left to say, nor may the interpreter's last flush say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NOT_ALL_APPLIED
    except OSError as error:
        if error.errno is None:
            raise
        if error.filename is None:
            complain(f"Error: {error.strerror}; check the disk, and what this machine allows a process")
            return ExitCode.USAGE
        check = (
            "check the address, its credentials, and that the storage can be reached"
            if is_remote(error.filename)
            else "check the path, and who may read and write it"
        )
        complain(f"Error: {error.filename}: {error.strerror}; {check}")
        return ExitCode.USAGE
    return int(code or 0)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="altcraft-async")
def cli() -> None:
    """Send order-line statuses to Altcraft."""


for _command in (
    sync,
    update,
    reconcile,
    journal,
    report,
    orders,
    products,
    skus,
    shards,
    outbox,
    doctor,
    demo,
    sandbox,
):
    cli.add_command(_command)
add_examples(cli)
