"""The command ``doctor``: the findings, line by line, for people or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import ssl
import sys
import textwrap
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from altcraft_async.cli.database import check_outbox
from altcraft_async.cli.display import stderr_console
from altcraft_async.cli.exits import ExitCode, exit_code_of
from altcraft_async.cli.signals import interruptible
from altcraft_async.doctor import Check, Level, diagnose

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from altcraft_async.doctor import Finding
    from altcraft_async.outbox import PostgresStore
    from altcraft_async.protocol.values import JSON

__all__ = ["doctor"]

_STYLES = {Level.OK: "bold green", Level.WARNING: "bold yellow", Level.FAILED: "bold red", Level.SKIPPED: "dim"}
_FINE = {Level.OK, Level.SKIPPED}
_LEVEL, _CHECK = 9, 13
"""Widths of the columns."""
_INDENT = " " * (_LEVEL + _CHECK)


def doctor(
    environ: Mapping[str, str], *, as_json: bool, quiet: bool = False, outbox: PostgresStore | str | None = None
) -> int:
    """Make all checks, tell what they find on stdout, and return the exit code.

    A `quiet` one tells of warnings and failures only.
    """
    return asyncio.run(_doctor(environ, as_json=as_json, quiet=quiet, outbox=outbox))


async def _all(environ: Mapping[str, str], outbox: PostgresStore | str | None) -> AsyncGenerator[Finding, None]:
    async with contextlib.aclosing(diagnose(environ)) as findings:
        async for finding in findings:
            yield finding
    if outbox is not None:
        yield await check_outbox(outbox)


async def _doctor(environ: Mapping[str, str], *, as_json: bool, quiet: bool, outbox: PostgresStore | str | None) -> int:
    findings: list[Finding] = []
    page = None if as_json else _Page()
    with interruptible() as interruption:
        try:
            async with contextlib.aclosing(_all(environ, outbox)) as source:
                while (finding := await _next(source, findings)) is not None:
                    findings.append(finding)
                    if page is not None and not (quiet and finding.level in _FINE):
                        page.add(finding)
        except asyncio.CancelledError:
            if interruption.exit_code is None:
                raise
            stderr_console().print("Interrupted.")
            return interruption.exit_code
    code = _code(findings)
    if page is not None:
        if not quiet or any(finding.level not in _FINE for finding in findings):
            page.end(_verdict(findings))
    else:
        sys.stdout.write(json.dumps(_as_json(findings, code)) + "\n")
        sys.stdout.flush()
    return code


async def _next(source: AsyncGenerator[Finding, None], findings: Sequence[Finding]) -> Finding | None:
    """Await the next finding, and say on a terminal what is being waited for."""
    checks = list(Check)
    place = checks.index(findings[-1].check) + 1 if findings else 0
    talk = stderr_console()
    with contextlib.ExitStack() as shown:
        if talk.is_terminal and not talk.is_dumb_terminal and place < len(checks):
            shown.enter_context(talk.status(f"Checking: {checks[place]}"))
        return await anext(source, None)


class _Page:
    """The findings as lines for people; what is skipped for one reason shares a line."""

    __slots__ = ("_console", "_skipped")

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._skipped: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Tell of a finding."""
        if self._skipped and finding.said != self._skipped[0].said:
            self._tell_skipped()
        if finding.level is Level.SKIPPED:
            self._skipped.append(finding)
            return
        self._line(finding.level, finding.check, finding.said)
        self._more(finding.remedy or "", "bold", before="-> ")
        for note in finding.notes:
            self._more(note, "dim")

    def end(self, verdict: Text) -> None:
        """Tell the end of it all."""
        if self._skipped:
            self._tell_skipped()
        self._console.print(verdict)
        self._console.print(Text(", ".join(f"{name} {number}" for name, number in _versions().items()), style="dim"))

    def _tell_skipped(self) -> None:
        checks = [finding.check for finding in self._skipped]
        said = self._skipped[0].said
        if len(checks) == 1:
            self._line(Level.SKIPPED, checks[0], said)
        else:
            self._line(Level.SKIPPED, f"{len(checks)} checks", f"{', '.join(checks)}: {said}")
        self._skipped.clear()

    def _line(self, level: Level, check: str, said: str) -> None:
        first, *rest = self._wrapped(said)
        style = "dim" if level is Level.SKIPPED else ""
        columns = ((f"{level:<{_LEVEL}}", _STYLES[level]), (f"{check:<{_CHECK}}", style), (first, style))
        self._console.print(Text.assemble(*columns))
        for line in rest:
            self._console.print(Text(_INDENT + line, style=style))

    def _more(self, text: str, style: str, before: str = "") -> None:
        for line in self._wrapped(text, before):
            self._console.print(Text(_INDENT + line, style=style))

    def _wrapped(self, text: str, before: str = "") -> list[str]:
        """Cut a text to what a terminal's line has room for; elsewhere it stays one line."""
        if not text or not self._console.is_terminal:
            return [before + text] if text else []
        width = max(30, self._console.width - len(_INDENT) - 1)
        return textwrap.wrap(text, width, initial_indent=before, subsequent_indent=" " * len(before))


def _code(findings: Sequence[Finding]) -> ExitCode:
    for finding in findings:
        if finding.level is Level.FAILED:
            return ExitCode.NOT_ALL_APPLIED if finding.error is None else exit_code_of(finding.error)
    return ExitCode.OK


def _verdict(findings: Sequence[Finding]) -> Text:
    failed = list(dict.fromkeys(finding.check for finding in findings if finding.level is Level.FAILED))
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    if failed:
        return Text(f"It does not work yet; what failed: {', '.join(failed)}.", style="bold red")
    if warnings:
        return Text(f"It works, with {warnings} {'warning' if warnings == 1 else 'warnings'}.", style="bold yellow")
    return Text("All is well.", style="bold green")


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("altcraft-async", "aiohttp")}
    tls, number, *_ = ssl.OPENSSL_VERSION.split()
    return packages | {"Python": platform.python_version(), tls: number}


def _as_json(findings: Sequence[Finding], code: int) -> dict[str, object]:
    return {
        "ok": code == ExitCode.OK,
        "exit_code": int(code),
        "findings": [
            {
                "check": str(finding.check),
                "level": str(finding.level),
                "said": finding.said,
                "remedy": finding.remedy,
                "facts": _rounded(finding.facts),
            }
            for finding in findings
        ],
        "versions": _versions(),
    }


def _rounded(facts: JSON | Mapping[str, JSON]) -> object:
    """Cut times to microseconds."""
    if isinstance(facts, Mapping):
        return {name: _rounded(value) for name, value in facts.items()}
    return round(facts, 6) if isinstance(facts, float) else facts
