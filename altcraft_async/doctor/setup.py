"""The check of the settings: each variable by itself, so that all that is wrong is told at once."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from altcraft_async.client import AltcraftClient, UnknownVariableWarning
from altcraft_async.doctor.finding import Check, Finding, Level, count, parted
from altcraft_async.engine.group import group_name, others_there
from altcraft_async.engine.sharing import names_of
from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.limit import Adaptive, Shared
from altcraft_async.kinds import ranges
from altcraft_async.settings import CREDENTIALS, Environment, Settings
from altcraft_async.settings.table import BY_NAME, PREFIX, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from altcraft_async.client import ClientOptions
    from altcraft_async.protocol.values import JSON

__all__ = ["Setup", "examine"]

_URL, _TOKEN, _TOKEN_FILE = (row.variable for row in CREDENTIALS)
_OTHERS = {_URL: "https://name.invalid", _TOKEN: "token"}
"""What stands in for the rest while one part is tried."""
_ALWAYS = {"timeout", "connect_timeout", "attempts", "patience", "concurrency", "rate"}
"""What is told of the settings in words where it is as usual; the facts have all."""
_QUOTES = "\"'`"


@attrs.frozen
class Setup:
    """What came of the settings.

    `environ` is what can work of them, `base_url` the address or None, `settings`
    what a client would be told; `has_token` says whether there is a token that
    can be one.
    """

    findings: list[Finding]
    environ: Mapping[str, str] = attrs.field(repr=False)
    base_url: str | None = None
    has_token: bool = False
    settings: Settings = attrs.field(factory=Settings)


def examine(environ: Mapping[str, str], options: ClientOptions) -> Setup:
    """Try every ``ALTCRAFT_…`` variable, and all of them together with `options`."""
    found = Environment.read(environ)
    findings = [*_strangers(found, environ), *map(_failed, found.problems)]
    wrong = {row.variable for row in BY_NAME.values() for problem in found.problems if problem.field == row.name}
    works = {name: environ[name] for name in variables() if environ.get(name) and name not in wrong}
    wrong_address = _try(works | {_TOKEN: _OTHERS[_TOKEN]}, options)
    wrong_token = _try({_URL: _OTHERS[_URL]} | {name: works[name] for name in (_TOKEN, _TOKEN_FILE) if name in works})
    findings += [_failed(error) for error in (wrong_address, wrong_token) if error is not None]
    if wrong_address is not None:
        return Setup(findings, works, has_token=wrong_token is None)
    client = _make(works if wrong_token is None else works | {_TOKEN: _OTHERS[_TOKEN]}, options)
    if all(finding.level is not Level.FAILED for finding in findings):
        findings.append(_effective(client, works))
    return Setup(findings, works, client.base_url, wrong_token is None, client.settings)


def _strangers(found: Environment, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell of variables that look like settings and are passed over."""
    for name in sorted(environ):
        if name in found.slips:
            remedy = f"Did you mean {found.slips[name]}?"
        elif name.upper().startswith(("ALTCRAFT", "ALTKRAFT")) and not name.startswith(PREFIX):
            remedy = f"The names of the settings begin with {PREFIX}, in capitals and with a C."
        else:
            continue
        said = f"{name} is set, and nothing reads it"
        yield Finding(check=Check.SETTINGS, level=Level.WARNING, said=said, remedy=remedy)


def _try(environ: Mapping[str, str], options: ClientOptions | None = None) -> ConfigurationError | None:
    """Make a client of `environ`; return what is wrong with it, or None."""
    try:
        _make(environ, options or {})
    except ConfigurationError as error:
        return error
    return None


def _make(environ: Mapping[str, str], options: ClientOptions) -> AltcraftClient:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownVariableWarning)  # a finding tells of it
        return AltcraftClient.from_env(environ, **options)


def _failed(error: ConfigurationError) -> Finding:
    """Tell of an error under the name of the variable, which a client made by hand does not know."""
    said, remedy = parted(error.message)
    if error.field in {"base_url", "token"} and said.startswith(f"{error.field} "):
        said = f"{PREFIX}{error.field.upper()}{said.removeprefix(error.field)}"
    remedy = remedy or "Correct it, or unset it: the default will do."
    return Finding(check=Check.SETTINGS, level=Level.FAILED, said=said, remedy=remedy, error=error)


def _effective(client: AltcraftClient, given: Mapping[str, str]) -> Finding:
    """Tell what a client is told, with the token's length in its place."""
    source = _TOKEN if _TOKEN in given else _TOKEN_FILE
    token = given[_TOKEN] if _TOKEN in given else Path(given[_TOKEN_FILE]).read_text(encoding="utf-8").strip()
    level, remedy = Level.OK, None
    if token[0] in _QUOTES or token[-1] in _QUOTES:
        level, remedy = Level.WARNING, f"The token stands in quotes; take them out of {source}."
    elif _TOKEN in given and _TOKEN_FILE in given:
        level, remedy = Level.WARNING, f"Both {_TOKEN} and {_TOKEN_FILE} are set, and the first counts; unset one."
    values = _plain(client.settings)
    usual = _plain(Settings())
    shown = [name for name in values if name in _ALWAYS or values[name] != usual[name]]
    others = _others(client, token)
    return Finding(
        check=Check.SETTINGS,
        level=level,
        said=f"{client.base_url}, token: set, {count(len(token), 'character')}, from {source}",
        remedy=remedy,
        notes=(
            ", ".join(f"{name} {_written(values[name])}" for name in shown),
            *(
                [f"shares a limit with {count(others, 'other process', 'es')} of this host with the same settings"]
                if others
                else []
            ),
        ),
        facts={
            "base_url": client.base_url,
            "token_length": len(token),
            "token_from": source,
            "settings": values,
            "others_sharing": others,
        },
    )


def _others(client: AltcraftClient, token: str) -> int | None:
    """Return how many other processes share the limit at this moment; None if it is not shared."""
    names = [group_name(client.base_url, token, shared) for shared in names_of(client.settings)]
    found = [others_there(time.monotonic(), name) for name in names]
    return max((others for others in found if others is not None), default=None)


def _plain(settings: Settings) -> dict[str, JSON]:
    """Return the settings under the names that the environment has for them."""
    rows = [row for row in BY_NAME.values() if row.name != "max_retries"]  # the attempts in other words
    return {row.name: _json(row.of(settings)) for row in rows}


def _json(value: object) -> JSON:
    if isinstance(value, Adaptive):
        return f"adaptive up to {value.maximum}"
    if isinstance(value, Shared):
        return f"{value.among}:{value.total:g}"
    if isinstance(value, frozenset):
        return ranges(value)
    return value if isinstance(value, bool | int | float | None) else str(value)


def _written(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
