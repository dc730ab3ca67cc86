"""The check of the settings: each variable by itself, so that all that is wrong is told at once."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from altcraft_async.client import AltcraftClient
from altcraft_async.doctor.finding import Check, Finding, Level, count, parted
from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.limit import Adaptive
from altcraft_async.settings import READERS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from altcraft_async.client import ClientOptions
    from altcraft_async.protocol.values import JSON

__all__ = ["Setup", "examine"]

_PREFIX = "ALTCRAFT_"
_URL, _TOKEN, _TOKEN_FILE = "ALTCRAFT_BASE_URL", "ALTCRAFT_TOKEN", "ALTCRAFT_TOKEN_FILE"
_INSECURE = "ALTCRAFT_ALLOW_INSECURE"
_KNOWN = [_URL, _TOKEN, _TOKEN_FILE, *(_PREFIX + name.upper() for name in READERS)]
_OTHERS = {_URL: "https://name.invalid", _TOKEN: "token"}
"""What stands in for the rest while one variable is tried."""
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
    """Try every ``ALTCRAFT_…`` variable by itself, and all of them together with `options`."""
    given = {name: value for name, value in environ.items() if name.startswith(_PREFIX) and value}
    works = dict(given)
    findings = list(_strangers(environ))
    for name in sorted(given.keys() - {_URL, _TOKEN, _TOKEN_FILE}):
        finding = _try(name, _OTHERS | {name: given[name]})
        if finding is not None:
            findings.append(finding)
            del works[name]
    address = {name: works[name] for name in (_URL, _INSECURE) if name in works}
    wrong_address = _try(_URL, {_TOKEN: _OTHERS[_TOKEN]} | address, options)
    token = {name: works[name] for name in (_TOKEN, _TOKEN_FILE) if name in works}
    wrong_token = _try(_TOKEN, {_URL: _OTHERS[_URL]} | token)
    findings += [finding for finding in (wrong_address, wrong_token) if finding is not None]
    if wrong_address is not None:
        return Setup(findings, works, has_token=wrong_token is None)
    stand_in = works if wrong_token is None else works | {_TOKEN: _OTHERS[_TOKEN]}
    try:
        client = AltcraftClient.from_env(stand_in, **options)
    except ConfigurationError as error:  # of a keyword, for each variable was tried
        findings.append(_failed(error))
        return Setup(findings, works, has_token=wrong_token is None)
    if all(finding.level is not Level.FAILED for finding in findings):
        findings.append(_effective(client, given))
    return Setup(findings, works, client.base_url, wrong_token is None, client.settings)


def _strangers(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell of variables that look like settings and are passed over."""
    for name in sorted(environ):
        if name.upper().startswith(("ALTCRAFT", "ALTKRAFT")) and not name.startswith(_PREFIX):
            yield Finding(
                check=Check.SETTINGS,
                level=Level.WARNING,
                said=f"{name} is set, and nothing reads it",
                remedy="The names of the settings begin with ALTCRAFT_, in capitals and with a C.",
            )


def _try(name: str, environ: Mapping[str, str], options: ClientOptions | None = None) -> Finding | None:
    """Make a client of `environ`; return what is wrong with `name`, or None."""
    insecure = {"allow_insecure": True} if options and options.get("allow_insecure") else {}
    try:
        AltcraftClient.from_env(environ, **insecure)  # type: ignore[arg-type]
    except ConfigurationError as error:
        if name in _KNOWN:
            return _failed(error)
        near = difflib.get_close_matches(
            name.removeprefix(_PREFIX), [known.removeprefix(_PREFIX) for known in _KNOWN], 1
        )
        remedy = f"Did you mean {_PREFIX}{near[0]}?" if near else f"Known are {', '.join(_KNOWN)}."
        said = f"{name} is no setting"
        return Finding(check=Check.SETTINGS, level=Level.FAILED, said=said, remedy=remedy, error=error)
    return None


def _failed(error: ConfigurationError) -> Finding:
    """Tell of an error under the name of the variable, which a client made by hand does not know."""
    said, remedy = parted(error.message)
    if error.field in {"base_url", "token"} and said.startswith(f"{error.field} "):
        said = f"{_PREFIX}{error.field.upper()}{said.removeprefix(error.field)}"
    remedy = remedy or "Mend it, or unset it: the default will do."
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
    return Finding(
        check=Check.SETTINGS,
        level=level,
        said=f"{client.base_url}, token: set, {count(len(token), 'character')}, from {source}",
        remedy=remedy,
        notes=(", ".join(f"{name} {_written(value)}" for name, value in values.items()),),
        facts={"base_url": client.base_url, "token_length": len(token), "token_from": source, "settings": values},
    )


def _plain(settings: Settings) -> dict[str, JSON]:
    """Give the settings under the names that the environment has for them."""
    limit = settings.concurrency
    special: dict[str, JSON] = {
        "timeout": settings.timeout.total,
        "connect_timeout": settings.timeout.connect,
        "attempts": settings.retry.attempts,
        "concurrency": f"adaptive up to {limit.maximum}" if isinstance(limit, Adaptive) else limit,
    }
    return {name: special[name] if name in special else getattr(settings, name) for name in READERS}


def _written(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
