"""The command ``sandbox``: its options, of which most choose how it takes what the guide leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from altcraft_async.cli.options import with_options
from altcraft_async.cli.presets import PRESETS
from altcraft_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["sandbox"]

_READINGS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "row_results": click.option("--row-results", type=click.Choice(["none", "result", "data"]), default="none",
                                show_default=True, help="Whether an import answers per row: in order, or by id."),
    "partial_imports": click.option("--partial-imports", is_flag=True,
                                    help="An import with wrong rows applies the others."),
    "status_result": click.option("--status-result", type=click.Choice(["object", "array"]), default="object",
                                  show_default=True, help="What result of get_status is."),
    "cursor": click.option("--cursor/--no-cursor", default=True, show_default=True,
                           help="Whether lists have next_from_id."),
    "page_limit": click.option("--page-limit", type=click.IntRange(min=1), default=1000, show_default=True,
                               metavar="N", help="Most rows of a page."),
    "line_statuses": click.option("--line-statuses", is_flag=True, help="The list shows the statuses of lines."),
    "unknown_orders": click.option("--unknown-orders", type=click.Choice(["refused", "ignored"]), default="refused",
                                   show_default=True, help="How deleting an order that is not there ends."),
    "unknown_goods": click.option("--unknown-goods", type=click.Choice(["refused", "ignored"]), default="ignored",
                                  show_default=True, help="The same for products and SKU."),
    "currencies": click.option("--currency", "currencies", multiple=True, metavar="CODE",
                               help="One that is configured; can be given again. Default: any is."),
}  # fmt: skip
"""The options that choose a reading, by the fields of `altcraft_async.sandbox.Readings`."""

_OTHERS = (
    click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
                 help="0 takes any free one."),
    click.option("--faults", type=click.Choice(list(PRESETS)), default="none", show_default=True,
                 help="How it misbehaves."),
    click.option("--seed", type=int, default=1, show_default=True, help="Repeats the same faults."),
    click.option("--orders", type=click.IntRange(0, 100_000), default=100, show_default=True,
                 help="Orders that are there: order_1 with line_1_1 to line_1_4, and so on."),
    click.option("--state", "state_file", metavar="FILE", help="Keep all of it here, over restarts and kills."),
    click.option("--role", "roles", multiple=True, metavar="TOKEN=ROLE",
                 help="A further token, which may do all (market), only read (read), or nothing (none)."),
    click.option("--error-style", type=click.Choice(["http200", "http4xx"]), default="http200", show_default=True,
                 help="How a refused call comes: HTTP 200 with a code, or the code's own HTTP status."),
    click.option("--answer-format", type=click.Choice(["json", "xml"]),
                 help="Answer always so. Default: as asked."),
)  # fmt: skip


def _tokens(roles: Sequence[str]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for one in roles:
        token, equals, role = one.partition("=")
        if not (token and equals and role in {"market", "read", "none"}):
            msg = "--role must be TOKEN=market, TOKEN=read or TOKEN=none"
            raise ConfigurationError(msg)
        tokens[token] = role
    return tokens


@click.command(short_help="Run an Altcraft to try things on.")
@with_options(*_OTHERS, *_READINGS.values())
@click.option("--assumptions", is_flag=True, help="Tell what is assumed about the real platform, and end.")
def sandbox(assumptions: bool, roles: Sequence[str], **fields: Any) -> int:
    """Run a sandbox of the platform on this machine until Ctrl-C.

    Its address goes to stdout. It accepts the token in ALTCRAFT_TOKEN, or
    sandbox-token where that is not set. The last options choose how it takes what the
    platform's guide leaves open, so that a program can be tried both ways.
    """
    from altcraft_async.cli import serve  # noqa: PLC0415 - the sandbox is slow to import

    if assumptions:
        return serve.assumptions()
    readings = {name: fields.pop(name) for name in _READINGS}
    return serve.serve(readings=readings, tokens=_tokens(roles), **fields)
