"""The command ``sandbox``: the emulator as a server of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.text import Text

from altcraft_async import ConfigurationError
from altcraft_async.cli.display import stderr_console
from altcraft_async.cli.presets import PRESETS, faults_of
from altcraft_async.cli.signals import interruptible
from altcraft_async.sandbox import Readings, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["assumptions", "serve"]


def assumptions() -> int:
    """Print what the sandbox does where the platform's behaviour is not known."""
    for line in Sandbox.UNKNOWNS:
        sys.stdout.write(f"- {line}\n")
    return 0


def serve(*, faults: str, orders: int, readings: Mapping[str, Any], **settings: Any) -> int:
    """Run a sandbox until a signal comes; return 128 + its number.

    `readings` are the fields of `Readings`, no currencies where any is configured; `settings` those of `Sandbox`.
    """
    token = os.environ.get("ALTCRAFT_TOKEN") or "sandbox-token"
    chosen = Readings(**{**readings, "currencies": readings["currencies"] or None})
    sandbox = Sandbox(token, faults=faults_of(faults), readings=chosen, **settings)
    sandbox.seed_orders(orders, 4)
    return asyncio.run(_serve(sandbox, faults, orders))


async def _serve(sandbox: Sandbox, faults: str, orders: int) -> int:
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
            own = "the one in ALTCRAFT_TOKEN" if os.environ.get("ALTCRAFT_TOKEN") else "sandbox-token"
            console.print(Text(f"Sandbox with {orders:,} orders of 4 lines; faults: {PRESETS[faults]}; token: {own}."))
            shown = "$ALTCRAFT_TOKEN" if os.environ.get("ALTCRAFT_TOKEN") else "sandbox-token"
            setting = f"ALTCRAFT_BASE_URL={sandbox.base_url} ALTCRAFT_TOKEN={shown}"
            console.print(Text(f"Try: {setting} altcraft-async update order_1 line_1_1 delivered"))
            console.print("Ctrl-C ends it.")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
        finally:
            await sandbox.stop()
    seen = ", ".join(f"{count:,} {kind}" for kind, count in sorted(sandbox.ledger.answers.items()))
    console.print(f"{sandbox.ledger.requests:,} requests" + (f": {seen}" if seen else ""))
    return interruption.exit_code or 0
