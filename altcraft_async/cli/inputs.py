"""The inputs of commands: their options, how they are opened, and how they are named in the commands to run next."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from altcraft_async import ConfigurationError, InputChangedError, JournalError
from altcraft_async.cli.options import Whole
from altcraft_async.cli.talk import tidy
from altcraft_async.ingest import HeldBackError, InputError, InputFormat, LastLine, UpdateReader, read_updates
from altcraft_async.storage.places import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from typing import BinaryIO

__all__ = ["INPUT_OPTIONS", "Input", "command_again", "input_options", "named_in", "said_of", "started"]

INPUT_OPTIONS = ("pairs", "constants", "statuses", "status_file", "input_format", "encoding", "skip_lines")
"""The options that belong to an input, whichever command reads it."""


def input_options(format_help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command the options of an input; `Input.of` takes their values."""
    options = (
        click.option("--map", "pairs", multiple=True, metavar="FIELD=COLUMN",
                     help="Read FIELD from this column or key."),
        click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="FIELD is VALUE in every row."),
        click.option("--status", "statuses", multiple=True, metavar="FROM=TO",
                     help="Send TO for FROM in the input; other statuses unchanged."),
        click.option("--status-file", metavar="FILE", help="A file of FROM=TO, one a line."),
        click.option("--format", "input_format", type=click.Choice(list(map(str, InputFormat))), help=format_help),
        click.option("--encoding", default="utf-8", show_default=True, metavar="NAME",
                     help="Encoding: cp1251, utf-16, …"),
        click.option("--skip-lines", type=Whole(0), default=0, metavar="N",
                     help="Skip N lines before the header."),
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_HOW_TO_READ = ("columns", "constants", "statuses", "input_format", "encoding", "skip_lines", "last_line")


@attrs.frozen(kw_only=True)
class Input:
    """An input, and how it is to be read."""

    source: str
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    statuses: Mapping[str, str]
    input_format: str | None
    encoding: str
    skip_lines: int
    last_line: str = LastLine.AUTO

    @classmethod
    def of(cls, source: str, options: dict[str, Any]) -> Input:
        """Take the values of `input_options` out of a command's; raises `ConfigurationError` for what is none."""
        statuses = _pairs("--status", "FROM=TO", options.pop("statuses"), "--status Отгружен=delivered")
        file = options.pop("status_file")
        return cls(
            source=source,
            columns=_pairs("--map", "FIELD=COLUMN", options.pop("pairs"), "--map order_external_id=Order"),
            constants=_pairs("--set", "FIELD=VALUE", options.pop("constants"), "--set status_external_id=delivered"),
            statuses=statuses if file is None else {**_pairs_of_file(file), **statuses},
            input_format=options.pop("input_format"),
            encoding=options.pop("encoding"),
            skip_lines=options.pop("skip_lines"),
            last_line=options.pop("last_line", LastLine.AUTO),
        )

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, which can be read without waiting."""
        return self.source != "-" and Path(self.source).is_file()

    def open(self) -> UpdateReader:
        """Open a file, or for ``-`` standard input; the reader keeps the rows."""
        if self.source != "-":
            return self._reader(self.source)
        try:
            # Not sys.stdin's own buffer: its lock, held by a blocked read, would stop the interpreter from ending.
            stream = io.BufferedReader(io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
        except (AttributeError, OSError, ValueError):
            msg = "standard input is closed; give a file, or pipe the updates in"
            raise ConfigurationError(msg) from None
        return self._reader(stream, name="stdin")

    def _reader(self, source: str | BinaryIO, **given: Any) -> UpdateReader:
        given |= {name: getattr(self, name) for name in _HOW_TO_READ}
        return read_updates(source, keep_rows=True, opened_at=started(), **given)


def started() -> float:
    """Return the Unix time at which the running command began."""
    began: float = click.get_current_context().obj
    return began


def _pairs(option: str, form: str, given: Sequence[str], example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in given:
        name, equals, value = map(str.strip, pair.partition("="))
        if not (equals and name and value):
            msg = f"{option} {pair!r} is not {form}; for example {example}"
            raise ConfigurationError(msg)
        if name in pairs:
            msg = f"{option} gives {name} twice; keep one"
            raise ConfigurationError(msg)
        pairs[name] = value
    return pairs


def _pairs_of_file(path: str) -> dict[str, str]:
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        msg = f"{path} cannot be read: {reason}"
        raise ConfigurationError(msg) from None
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    return _pairs(f"--status-file {path}:", "FROM=TO", wanted, "Отгружен=delivered")


def command_again(
    *, source: str | None = None, only: Container[str] | None = None, without: Container[str] = ()
) -> list[str]:
    """Return the words of the running command, as it was typed, to be run again; without what is secret in addresses.

    With another `source` in the place of its input, with none but the options `only`, or `without` some.
    """
    context = click.get_current_context()
    command = context.command
    typed = sys.argv[sys.argv.index(context.info_name or "") + 1 :]
    given, _, _ = command.make_parser(context).parse_args(list(typed))
    words = context.command_path.split() if only is None else []
    for parameter in command.params:
        name = parameter.name or ""
        if isinstance(parameter, click.Argument):
            place = source or str(given[name])
            words.append(f"./{place}" if place.startswith("-") and place != "-" else place)
        elif name in given and name not in without and (only is None or name in only):
            for value in given[name] if parameter.multiple else [given[name]]:
                flag = isinstance(parameter, click.Option) and parameter.is_flag
                words += [parameter.opts[0]] if flag else [parameter.opts[0], str(value)]
    return [*map(shown, words)]


def said_of(error: InputError) -> str:
    """Return what is wrong with an input, with the option that helps."""
    said = tidy(str(error))
    if isinstance(error, HeldBackError) and error.last_line and error.line is not None:
        return f"{said} (--last-line send)"
    if error.encoding is not None:
        return f"{said} (--encoding {error.encoding})"
    return f"{said} (--map {error.field}=COLUMN)" if error.field is not None else said


def named_in(error: JournalError, reader: UpdateReader) -> JournalError:
    """Return the error with the place in the input where that differs from the journal, and the option that helps."""
    if not isinstance(error, InputChangedError):
        return error
    row = None if error.index is None else reader.take_row(error.index)
    place = "" if row is None else f"{reader.source}, {row.unit} {row.line}: "
    message = error.message.replace("(extend)", "(--extend)")
    return InputChangedError(f"{place}{message}", path=error.path, index=error.index)
