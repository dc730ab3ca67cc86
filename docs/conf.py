"""Sphinx configuration; the reference tables are written from the code, so that they cannot drift from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import altcraft_async
from altcraft_async import errors, settings
from altcraft_async.cli.app import cli
from altcraft_async.cli.exits import ExitCode
from altcraft_async.outcome import OutcomeState
from altcraft_async.protocol.verdict import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sphinx.application import Sphinx

project = "altcraft_async"
author = "The altcraft_async maintainers"
project_copyright = "2026, the altcraft_async maintainers"
release = version = "0.1.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "altcraft_async"
exclude_patterns = ["_build"]
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
doctest_global_setup = """
import asyncio
from altcraft_async import *
from altcraft_async.sandbox import Fault, Faults, Sandbox
"""

GENERATED = Path(__file__).parent / "reference" / "generated"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _first_sentence(thing: object) -> str:
    return (getattr(thing, "__doc__", "") or "").strip().split("\n\n")[0].replace("``", "`")


def _verdicts() -> str:
    yes = {True: "yes", False: ""}
    return _table(
        ("the attempt ended with", "state if it was the last", "retried", "back-pressure", "ends the run"),
        (
            (str(evidence), f"`{verdict.state}`", yes[verdict.retry], yes[verdict.pressure], yes[verdict.fatal])
            for evidence, verdict in TABLE.items()
        ),
    )


def _error_table() -> str:
    kinds = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    rows = ((f"`{kind.__name__}`", f"`{kind.__mro__[1].__name__}`", _first_sentence(kind)) for kind in kinds)
    return _table(("error", "is a", "meaning"), rows)


def _states() -> str:
    return _table(("state", "safe to send again"), ((f"`{state}`", state.safe_to_resend) for state in OutcomeState))


def _exit_codes() -> str:
    meanings = {
        ExitCode.OK: "every update was applied",
        ExitCode.USAGE: "a mistake in the command, a setting or the whole input; nothing was sent",
        ExitCode.NOT_ALL_APPLIED: "some updates were not applied",
        ExitCode.STOPPED: "the deadline or the retry budget ended the run before its end",
        ExitCode.AUTHENTICATION: "the token was refused (401, 403)",
    }
    rows = [(str(int(code)), meanings[code]) for code in ExitCode]
    return _table(("exit code", "meaning"), [*rows, ("130, 143", "stopped by SIGINT or SIGTERM; the results are complete")])


def _environment() -> str:
    names = ["base_url", "token", "token_file", *settings._READERS]
    return _table(("variable",), ((f"`ALTCRAFT_{name.upper()}`",) for name in names))


def _commands() -> str:
    parts = []
    for name, command in sorted(cli.commands.items()):
        context = click.Context(command, info_name=f"altcraft-async {name}", terminal_width=90)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _write_tables(app: Sphinx) -> None:
    del app
    GENERATED.mkdir(exist_ok=True)
    tables = {
        "verdicts": _verdicts(),
        "errors": _error_table(),
        "states": _states(),
        "exit-codes": _exit_codes(),
        "environment": _environment(),
        "commands": _commands(),
    }
    for name, text in tables.items():
        (GENERATED / f"{name}.md").write_text(text, encoding="utf-8")


exclude_patterns += ["reference/generated"]


def setup(app: Sphinx) -> None:
    """Write the generated tables before the sources are read."""
    assert altcraft_async.__all__
    app.connect("builder-inited", _write_tables)
