"""The command ``sandbox``: the emulator as a server of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import attrs
from rich.text import Text

from altcraft_async import ConfigurationError
from altcraft_async.cli.display import stderr_console
from altcraft_async.cli.presets import words_of
from altcraft_async.cli.signals import interruptible
from altcraft_async.sandbox import PRESETS, Readings, Sandbox, Scenario

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["assumptions", "serve"]

_OWN_TOKEN = "sandbox-token"  # noqa: S105 - a token for nothing but the sandbox
_LINES_PER_ORDER = 4


def assumptions() -> int:
    """Print what the sandbox does where the platform's behaviour is not known."""
    for line in Sandbox.UNKNOWNS:
        sys.stdout.write(f"- {line}\n")
    return 0


def serve(
    path: str | None,
    given: Collection[str],
    *,
    orders: int,
    readings: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> int:
    """Run a sandbox until a signal comes; return 128 + its number.

    `path` is a scenario, whose own values go before those of options that were not `given`. `readings` are the fields
    of `Readings`, `settings` those of `Sandbox`.
    """
    scenario = Scenario() if path is None else _scenario(path)
    own = scenario.settings
    chosen = {name: value for name, value in settings.items() if name in given or name not in own}
    if "faults" in chosen:
        chosen["faults"] = PRESETS[chosen["faults"]].faults
    said = {name: value for name, value in readings.items() if name in given or "readings" not in own}
    base = own.get("readings")
    chosen["readings"] = attrs.evolve(base if isinstance(base, Readings) else Readings(), **said)
    token = os.environ.get("ALTCRAFT_TOKEN")
    if token or "token" not in own:
        chosen["token"] = token or _OWN_TOKEN
    sandbox = scenario.sandbox(**chosen)
    if "orders" in given or not (scenario.seeds or scenario.orders):
        sandbox.seed_orders(orders, _LINES_PER_ORDER)
    faults = str(settings["faults"]) if "faults" in given or "faults" not in own else ""
    return asyncio.run(_serve(sandbox, scenario, faults))


def _scenario(path: str) -> Scenario:
    try:
        return Scenario.read(path)
    except OSError as error:
        msg = f"the scenario {path} cannot be read: {error.strerror or error}"
        raise ConfigurationError(msg, field="scenario") from None


async def _serve(sandbox: Sandbox, scenario: Scenario, faults: str) -> int:
    console = stderr_console()
    with interruptible() as interruption:
        try:
            await sandbox.start()
        except OSError as error:
            msg = f"the port cannot be used ({error.strerror or error}); give another one with --port"
            raise ConfigurationError(msg) from None
        try:
            sys.stdout.write(sandbox.base_url + "\n")
            sys.stdout.flush()
            for line in _introduction(sandbox, scenario, faults):
                console.print(Text(line))
            await scenario.play(sandbox)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
        finally:
            await sandbox.stop()
    seen = ", ".join(f"{count:,} {kind}" for kind, count in sorted(sandbox.ledger.answers.items()))
    console.print(f"{sandbox.ledger.requests:,} requests" + (f": {seen}" if seen else ""))
    return interruption.exit_code or 0


def _introduction(sandbox: Sandbox, scenario: Scenario, faults: str) -> list[str]:
    token = os.environ.get("ALTCRAFT_TOKEN")
    own = "the one in ALTCRAFT_TOKEN" if token else sandbox.token if sandbox.token == _OWN_TOKEN else "the scenario's"
    shown = "$ALTCRAFT_TOKEN" if token else _OWN_TOKEN if sandbox.token == _OWN_TOKEN else "TOKEN"
    words = words_of(faults) if faults else "the scenario's"
    setting = f"ALTCRAFT_BASE_URL={sandbox.base_url} ALTCRAFT_TOKEN={shown}"
    lines = [
        f"Sandbox with {sandbox.order_count:,} orders; faults: {words}; token: {own}.",
        f"Try: {setting} altcraft-async update order_1 line_1_1 delivered",
    ]
    if sandbox.has_admin:
        lines.append(f"Look: {sandbox.base_url}/ in a browser; for programs {sandbox.base_url}/_sandbox/")
    if scenario.steps:
        lines.append(f"Its faults change {len(scenario.steps)} times, the last time after {scenario.steps[-1][0]:g} s.")
    return [*lines, "Ctrl-C ends it."]
