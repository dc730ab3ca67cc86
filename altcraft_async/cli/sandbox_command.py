"""The command ``sandbox``: an option for every setting of `altcraft_async.sandbox.Sandbox` and of `Readings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from altcraft_async.cli.options import Real, Whole, with_options
from altcraft_async.cli.presets import PresetName
from altcraft_async.errors import ConfigurationError
from altcraft_async.kinds import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["sandbox"]

_READINGS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "row_results": click.option("--row-results", type=click.Choice(["none", "result", "data"]), default="none",
                                show_default=True, help="Whether an import answers per row: in order, or by id."),
    "partial_imports": click.option("--partial-imports", is_flag=True,
                                    help="An import with wrong rows applies the other rows."),
    "status_result": click.option("--status-result", type=click.Choice(["object", "array"]), default="object",
                                  show_default=True, help="The form of result in get_status."),
    "cursor": click.option("--cursor/--no-cursor", default=True, show_default=True,
                           help="Whether lists have next_from_id."),
    "page_limit": click.option("--page-limit", type=Whole(), default=1000, show_default=True,
                               metavar="N", help="Maximum rows of a page."),
    "line_statuses": click.option("--line-statuses", is_flag=True, help="The list shows the statuses of lines."),
    "unknown_orders": click.option("--unknown-orders", type=click.Choice(["refused", "ignored"]), default="refused",
                                   show_default=True, help="How the deletion of an unknown order ends."),
    "unknown_goods": click.option("--unknown-goods", type=click.Choice(["refused", "ignored"]), default="ignored",
                                  show_default=True, help="The same for products and SKU."),
    "currencies": click.option("--currency", "currencies", multiple=True, metavar="CODE",
                               help="A configured currency; can be given again. Default: all."),
}  # fmt: skip
"""The options that choose a reading, by the fields of `altcraft_async.sandbox.Readings`."""

_SETTINGS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "host": click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
                         help="Address to listen on; 0.0.0.0 for a container."),
    "port": click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
                         help="Port to listen on; 0 takes a free one."),
    "faults": click.option("--faults", type=PresetName(), default="none", show_default=True,
                           help="How the sandbox misbehaves."),
    "seed": click.option("--seed", type=int, default=1, show_default=True, help="Repeats the same faults."),
    "state_file": click.option("--state", "state_file", metavar="FILE",
                               help="Keep the sandbox's state here, also after a restart or a kill."),
    "tokens": click.option("--role", "tokens", multiple=True, metavar="TOKEN=ROLE",
                           help="A further token; it may do all (market), only read (read), or nothing (none)."),
    "market_right": click.option("--market-right/--no-market-right", default=True, show_default=True,
                                 help="Whether tokens may use the market at all."),
    "wrong_token_code": click.option("--wrong-token-code", type=click.Choice(["401", "403"]), default="401",
                                     show_default=True, help="The code of a wrong token."),
    "error_style": click.option("--error-style", type=click.Choice(["http200", "http4xx"]), default="http200",
                                show_default=True,
                                help="The answer to a refused call: HTTP 200 with a code, or the code as HTTP status."),
    "answer_format": click.option("--answer-format", type=click.Choice(["json", "xml"]),
                                  help="Always answer in this format. Default: as requested."),
    "custom_statuses": click.option("--custom-status", "custom_statuses", multiple=True, metavar="ID",
                                    help="A known custom line status; can be given again."),
    "nodes": click.option("--nodes", type=click.IntRange(1, 1000), default=1, show_default=True,
                          help="Nodes behind the address; each recognises only the repeats of its own answers."),
    "repeats": click.option("--repeats", type=click.Choice(["hold", "refuse", "make"]), default="hold",
                            show_default=True, help="A repeat that comes while the first is in process: it waits for "
                            "the answer, is refused with 409, or is made twice."),
    "dedup_request_id": click.option("--dedup-request-id/--no-dedup-request-id", default=True, show_default=True,
                                     help="Whether repeats are recognised by Request-ID."),
    "dedup_checksum": click.option("--dedup-checksum/--no-dedup-checksum", default=True, show_default=True,
                                   help="Whether repeats without an id are recognised by headers and body."),
    "dedup_window": click.option("--dedup-window", type=Real(0, LARGEST), default=86400.0,
                                 show_default=True, metavar="SECONDS", help="How long an answer is kept."),
    "cache_failures": click.option("--cache-failures", is_flag=True,
                                   help="Also keep the 429 and 5xx answers of faults."),
    "legacy_headers": click.option("--legacy-headers", is_flag=True, help="Use X- before Duplicate-Request and -Key."),
    "max_body_bytes": click.option("--max-body-bytes", type=Whole(), default=10 * 2**20,
                                   show_default=True, metavar="N", help="The longest accepted body."),
    "admin": click.option("--admin", type=click.Choice(["loopback", "network", "off"]), default="loopback",
                          show_default=True, help="Who reaches the admin API and the page: this machine, whoever "
                          "reaches the port, nobody."),
    "admin_hosts": click.option("--admin-host", "admin_hosts", multiple=True, metavar="NAME",
                                help="A further host name for the admin API and the page; can be given again."),
    "keep_requests": click.option("--keep-requests", type=Whole(0), default=1000, show_default=True,
                                  metavar="N", help="Requests that the admin API and the page show."),
}  # fmt: skip
"""The options of the sandbox itself, by the keywords of `altcraft_async.sandbox.Sandbox`."""


def _tokens(roles: Sequence[str]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for one in roles:
        token, equals, role = one.partition("=")
        if not (token and equals and role in {"market", "read", "none"}):
            msg = "--role must be TOKEN=market, TOKEN=read or TOKEN=none"
            raise ConfigurationError(msg)
        tokens[token] = role
    return tokens


def _given(fields: dict[str, Any]) -> set[str]:
    """Return the names of the options that were given, and do not stand at their default."""
    context = click.get_current_context()
    return {name for name in fields if context.get_parameter_source(name) is not ParameterSource.DEFAULT}


@click.command(short_help="Run an Altcraft to try things on.")
@click.option("--scenario", metavar="FILE", help="Take settings, orders, and faults over time from a TOML file; "
              "options take precedence over it.")  # fmt: skip
@click.option("--orders", type=click.IntRange(0, 100_000), default=100, show_default=True,
              help="How many orders it has: order_1 with line_1_1 to line_1_4, and so on.")  # fmt: skip
@with_options(*_SETTINGS.values(), *_READINGS.values())
@click.option("--assumptions", is_flag=True, help="Print the assumptions about the real platform, and exit.")
def sandbox(assumptions: bool, scenario: str | None, orders: int, **fields: Any) -> int:
    """Run a sandbox of the platform on this machine until Ctrl-C.

    The command prints the sandbox's address to stdout. Open it in a browser: the page shows orders, requests and
    faults to switch on. Below /_sandbox/ is an admin API for programs. The sandbox accepts the token in
    ALTCRAFT_TOKEN, or sandbox-token if that is not set. The last options choose how it behaves where the
    platform's guide leaves something open, so that you can try a program both ways.
    """
    from altcraft_async.cli import serve  # noqa: PLC0415 - the sandbox is slow to import

    if assumptions:
        return serve.assumptions()
    given = _given(fields) | _given({"orders": orders})
    fields["tokens"] = _tokens(fields["tokens"])
    fields["wrong_token_code"] = int(fields["wrong_token_code"])
    fields["currencies"] = fields["currencies"] or None
    readings = {name: fields.pop(name) for name in _READINGS}
    return serve.serve(scenario, given, orders=orders, readings=readings, settings=fields)
