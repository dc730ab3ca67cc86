"""The options of the commands that make a client: one for each setting whose row has a flag.

What an option says takes the place of the variable in the environment that the
client is made of, so an option and its variable cannot mean two things.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from altcraft_async import AltcraftClient, ConfigurationError, FailureLimit, Settings, UnknownVariableWarning
from altcraft_async.cli.log import start_log
from altcraft_async.cli.results import refuse_clashes
from altcraft_async.kinds import FLAG, LARGEST, SECONDS, shown
from altcraft_async.settings import CREDENTIALS, FILE, TABLE
from altcraft_async.settings.table import near_misses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from altcraft_async.kinds import Kind
    from altcraft_async.observe import Observer
    from altcraft_async.settings import Setting

    _TextType = click.ParamType[str]
    _WholeType = click.ParamType[int]
    _SecondsType = click.ParamType[float]
    _FailuresType = click.ParamType[FailureLimit | Literal["none"]]
else:  # older releases of click are not generic
    _TextType = _WholeType = _SecondsType = _FailuresType = click.ParamType

__all__ = [
    "SETTINGS",
    "ClientCommand",
    "Failures",
    "Real",
    "Seconds",
    "Whole",
    "client_options",
    "environ_of",
    "make_client",
    "wire_log_option",
]

_ROWS = {row.name: row for row in (*FILE, *CREDENTIALS, *TABLE) if row.flag and row.kind is not None}
SETTINGS = frozenset(_ROWS)
"""The names of the options that are settings of the client."""

_HEADING = "Client settings (each is a variable too: --rate is ALTCRAFT_RATE)"

_Decorated = TypeVar("_Decorated", bound="Callable[..., Any]")


class _Text(_TextType):
    """A text that a setting's kind can read; it stays a text, for the environment."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar.lower()
        self._kind = kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self._kind.read(str(value), "it")
        except ConfigurationError as error:
            self.fail(f"{error.message}.", param, ctx)
        return str(value)


class Whole(_WholeType):
    """A whole number, `least` or more, and not beyond all use."""

    name = "integer"

    def __init__(self, least: int = 1, most: int = LARGEST) -> None:
        self.least = least
        self.most = most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; fail with the bounds where it lies beyond them."""
        try:
            number = int(str(value))
        except ValueError:
            self.fail(f"{shown(value)} is not a valid integer.", param, ctx)
        if not self.least <= number <= self.most:
            self.fail(f"it must lie between {self.least:,} and {self.most:,}.", param, ctx)
        return number


class Real(click.FloatRange):
    """A number within bounds; what is not a number is in none, though it passes each comparison with one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; fail with the bounds where it lies beyond them."""
        if str(value).strip().lower().lstrip("+-") == "nan":
            self.fail(f"{value} is not a number", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(_SecondsType):
    """A time span above zero: ``90``, ``90s``, ``15m`` or ``2h``."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; fail with an example where it is none."""
        try:
            span = SECONDS.read(value, self.name)
        except ConfigurationError:
            self.fail(f"{value!r} is no time span; write 90, 90s, 15m or 2h", param, ctx)
        return span if isinstance(span, int | float) else 0.0


class ClientCommand(click.Command):
    """A command whose help shows the settings of the client in a section of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the client's."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], _HEADING: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections[_HEADING if param.name in _ROWS else "Options"].append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _option(row: Setting) -> Callable[[_Decorated], _Decorated]:
    text = row.help.replace("`", "")
    text = f"{text[0].upper()}{text[1:]}."
    if row.kind is FLAG and row.of(Settings()):
        return click.option(f"--no-{row.option[2:]}", row.name, flag_value=False, default=None,
                            help=f"Do not {text[0].lower()}{text[1:]}")  # fmt: skip
    if row.kind is FLAG:
        return click.option(row.option, row.name, is_flag=True, default=None, help=text)
    kind = row.kind
    return click.option(row.option, row.name, type=_Text(kind), metavar=kind.metavar, help=text) if kind else _same


def _same(command: _Decorated) -> _Decorated:
    return command


class Failures(_FailuresType):
    """How much of a run may fail: ``500``, ``5%``, or ``none``."""

    name = "failures"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> FailureLimit | Literal["none"]:
        """Read the value."""
        text = str(value).strip()
        if text == "none":
            return "none"
        try:
            return FailureLimit(share=float(text[:-1]) / 100) if text.endswith("%") else FailureLimit(count=int(text))
        except ValueError:  # a ConfigurationError is one
            self.fail(f"{text!r} is no number of failures; write 500, 5% or none", param, ctx)


wire_log_option = click.option(
    "--log-wire", "wire_log", metavar="FILE", help="Add a JSON line for each request to FILE, without token and bodies."
)


_TALK = (
    click.option("--quiet", "-q", is_flag=True, help="Print nothing if all went well: for cron."),
    click.option("--verbose", "-v", count=True, help="Log the client's work on stderr; -vv logs everything."),
    click.option("--log-file", metavar="FILE", help="Add that log to FILE, with times; with -v everything."),
)


def client_options(command: _Decorated) -> _Decorated:
    """Give a command every option of the client, and those of how much is said."""
    for row in reversed(_ROWS.values()):
        command = _option(row)(command)
    for option in reversed(_TALK):
        command = option(command)
    return command


def environ_of(fields: dict[str, Any], *, source: str | None = None) -> dict[str, str]:
    """Take the client's options out of a command's `fields`; return the environment with them in it.

    The log that was asked for is begun, and both logs are other files than the `source` and what the command writes;
    `quiet` is left. A variable that sets the same as an option is left out. Raises `click.UsageError` for two options
    that do, and `ConfigurationError` for a log that is one of the other files.
    """
    files = {"--log-file": fields.pop("log_file"), "--log-wire": fields.get("wire_log"), "input": source}
    files |= {f"--{name}": fields.get(name) for name in ("journal", "results", "failed", "report")}
    if files["--log-wire"] == "-":
        msg = "--log-wire is a file; give its name, or ./- for one that is called so"
        raise click.UsageError(msg)
    if files["--log-file"] is not None or files["--log-wire"] is not None:
        refuse_clashes(**files)
    start_log(verbose=fields.pop("verbose"), path=files["--log-file"])
    environ = dict(os.environ)
    found = {name: fields.pop(name) for name in _ROWS}
    given = {name: value for name, value in found.items() if value is not None}
    paths: dict[tuple[str, ...], str] = {}
    for name in given:
        row = _ROWS[name]
        other = paths.setdefault(row.path, name)
        if other != name:
            msg = f"{_ROWS[other].option} and {row.option} set the same; give one of the two"
            raise click.UsageError(msg)
    for row in (*FILE, *CREDENTIALS, *TABLE):
        if row.path in paths:
            environ.pop(row.variable, None)
    return environ | {
        _ROWS[name].variable: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()
    }


def make_client(environ: Mapping[str, str], observers: Sequence[Observer] = (), **options: Any) -> AltcraftClient:
    """Make the client of an environment; slips in its variables' names are noted on standard error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownVariableWarning)
        client = AltcraftClient.from_env(environ, observers=observers, **options)
    for slip, meant in near_misses(environ).items():
        click.echo(f"Note: {slip} is no setting and was left alone; did you mean {meant}?", err=True)
    return client


def with_options(*options: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[..., Any]:
    """Return a decorator that gives a command these options."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
