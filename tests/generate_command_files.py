"""Write the manual page and the completions of the command, which the wheel brings along, from its own parser.

    python tests/generate_command_files.py

They lie below ``share/``, as they are installed. A test fails where they are not what this would write.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from altcraft_async.cli.app import cli
from altcraft_async.cli.examples import commands_of
from altcraft_async.cli.options import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SHARE = ROOT / "share"
PROGRAM = "altcraft-async"
MADE_WITH = '.\\" Made by tests/generate_command_files.py with click '
"""The page's first words; releases of click write some defaults differently."""
PAGE = "man/man1/altcraft-async.1"
COMPLETIONS = {
    "bash-completion/completions/altcraft-async": BashComplete,
    "zsh/site-functions/_altcraft-async": ZshComplete,
    "fish/vendor_completions.d/altcraft-async.fish": FishComplete,
}


def generated() -> dict[str, str]:
    """Give the content of every file, by its path below ``share/``."""
    return {PAGE: page(), **{path: completion(kind) for path, kind in COMPLETIONS.items()}}


def completion(kind: type[BashComplete | ZshComplete | FishComplete]) -> str:
    """Give a shell's completion: it asks the program, so it knows every option of the release that is installed."""
    made = kind(cli, {}, PROGRAM, "_ALTCRAFT_ASYNC_COMPLETE")
    text = made.source_template % made.source_vars()  # without the question for a bash on this machine
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


def page() -> str:
    """Write the manual page: the commands, each with its options and examples, and once those of the client."""
    lines = [
        f"{MADE_WITH}{version('click')}",
        f'.TH "{PROGRAM.upper()}" "1" "" "altcraft_async" "User Commands"',
        ".SH NAME",
        f"{PROGRAM} \\- {roff((cli.help or '').rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {roff(PROGRAM)}",
        ".I COMMAND",
        "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
        ".PP",
        "Each command tells its options with \\fB\\-h\\fR or \\fB\\-\\-help\\fR.",
        ".SH COMMANDS",
    ]
    for path, command in commands_of(cli):
        lines += [f'.SS "{roff(" ".join(path))}"', *usage(path, command), *paragraphs(command.help or "")]
        if not isinstance(command, click.Group):
            lines += [*options(command, of_client=False), ".PP"]
        lines += paragraphs(command.epilog or "")
    lines += [
        ".SH CLIENT SETTINGS",
        "Of the commands that send something; each is a variable too:",
        ".BR \\-\\-rate",
        "is ALTCRAFT_RATE.",
    ]
    lines += options(cli.commands["sync"], of_client=True)
    lines += [".SH EXIT STATUS", *paragraphs(cli.epilog or "")]
    return "\n".join(lines) + "\n"


def usage(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """Write how a command is called."""
    context = click.Context(command)
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f".B {roff(' '.join((PROGRAM, *path)))}"
    yield roff(pieces)
    yield ".PP"


def options(command: click.Command, *, of_client: bool) -> Iterator[str]:
    """Write options: a command's own, or those of the client."""
    context = click.Context(command)
    for param in command.params:
        record = param.get_help_record(context)
        if record is not None and isinstance(param, click.Option) and (param.name in SETTINGS) is of_client:
            yield ".TP"
            yield f"\\fB{roff(record[0])}\\fR"
            yield roff(" ".join(record[1].split())) or "\\&"


def paragraphs(text: str) -> Iterator[str]:
    """Write a help text; a paragraph behind the mark of click's is left as it stands."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        rest = paragraph.strip("\n")
        if rest.lstrip().startswith("\b"):
            yield ".nf"
            yield from (roff(line) for line in rest.lstrip()[1:].strip("\n").splitlines())
            yield ".fi"
            yield ".PP"
        elif rest.strip():
            yield roff(" ".join(rest.split()))
            yield ".PP"


def roff(text: str) -> str:
    """Write a text so that nothing in it is an instruction; other letters than ASCII by their numbers."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main() -> None:
    """Write all files."""
    for path, text in generated().items():
        target = SHARE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
