"""The option ``--faults``: the ways in which the sandbox can be told to misbehave, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _TextType = click.ParamType[str]
else:  # older releases of click are not generic
    _TextType = click.ParamType

__all__ = ["PresetName", "words_of"]


def _names() -> tuple[str, ...]:
    from altcraft_async.sandbox import PRESETS  # noqa: PLC0415 - slow to import, and most commands need no sandbox

    return tuple(PRESETS)


def words_of(preset: str) -> str:
    """Return what a server with the faults of a preset does."""
    from altcraft_async.sandbox import PRESETS  # noqa: PLC0415

    return PRESETS[preset].text


class PresetName(_TextType):
    """The name of a preset. As a choice, but the names are asked for only when they are needed."""

    name = "preset"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - as click calls it
        """Show the names in the help."""
        return f"[{'|'.join(_names())}]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take a name that there is."""
        if value not in _names():
            self.fail(f"{value!r} is not one of {', '.join(map(repr, _names()))}.", param, ctx)
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - as click calls it
        param: click.Parameter,  # noqa: ARG002 - as click calls it
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the names."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - for the shell's completion alone

        return [CompletionItem(name) for name in _names() if name.startswith(incomplete)]
