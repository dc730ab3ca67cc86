"""Settings from an environment or from plain values; all that is wrong is named at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.settings.address import check_base_url
from altcraft_async.settings.table import BY_NAME, PREFIX, near_misses, nearest, variables
from altcraft_async.settings.values import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Environment", "all_of", "parse", "read"]


@attrs.frozen
class Environment:
    """What an environment says.

    `settings` is made of the variables that can work, and `problems` has an error
    for each that cannot. `slips` names variables that nobody reads and that look like
    one, each with the one meant. An address or token that is not set is empty.
    """

    base_url: str
    token: str = attrs.field(repr=False)
    token_file: str
    settings: Settings
    problems: Sequence[ConfigurationError]
    slips: Mapping[str, str]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """Read the ``ALTCRAFT_…`` variables of `environ`; an empty one is absent, a foreign one is left alone."""
        given = {row.name: environ[name] for name, row in variables().items() if environ.get(name)}
        base_url, token, token_file = (given.pop(name, "") for name in ("base_url", "token", "token_file"))
        settings, problems = read(given, name=lambda setting: PREFIX + setting.upper())
        return cls(base_url, token, token_file, settings, problems, near_misses(environ))

    def address(self, *, allow_insecure: bool) -> str:
        """Return the platform's address; raises `ConfigurationError` where it is missing or cannot work."""
        if not self.base_url:
            remedy = "set it to the platform's address, like https://ru.altkraft.com"
            raise self.missing(variable="ALTCRAFT_BASE_URL", remedy=remedy)
        return check_base_url(self.base_url, allow_insecure=allow_insecure, name="ALTCRAFT_BASE_URL")

    def missing(self, variable: str, remedy: str) -> ConfigurationError:
        """Return the error of a variable that is not set, with the name that was perhaps meant to be it."""
        row = variables()[variable]
        slip = next((name for name, meant in self.slips.items() if variables()[meant].keyword == row.keyword), None)
        hint = f" ({slip} is set; is {self.slips[slip]} meant?)" if slip else ""
        return ConfigurationError(f"{variable} is not set{hint}; {remedy}", field=row.keyword)


def read(values: Mapping[str, object], *, name: Callable[[str], str]) -> tuple[Settings, list[ConfigurationError]]:
    """Make settings of those `values` that can work; return them with an error for each that cannot.

    The errors call a setting by its `name`, and their `field` is the setting's own.
    """
    problems: list[ConfigurationError] = []
    filled: dict[tuple[str, ...], str] = {}
    changes: dict[str, Any] = {}
    for setting, value in values.items():
        row = BY_NAME.get(setting)
        if row is None or row.kind is None:
            problems.append(_unknown(setting, name))
            continue
        try:
            found = row.kind.read(value, name(setting))
        except ConfigurationError as error:
            problems.append(ConfigurationError(error.message, field=setting))
            continue
        if row.path in filled:
            msg = f"{name(filled[row.path])} and {name(setting)} both set the {row.path[-1]}; give one of the two"
            problems.append(ConfigurationError(msg, field=setting))
            continue
        filled[row.path] = setting
        _put(changes, row.path, row.stored(found))
    settings: Settings = _changed(Settings(), changes)
    return settings, problems


def parse(values: Mapping[str, object], *, name: Callable[[str], str] = str) -> Settings:
    """Make settings of plain values; see `Settings.parse`."""
    settings, problems = read(values, name=name)
    if problems:
        raise all_of(problems)
    return settings


def all_of(problems: Sequence[ConfigurationError]) -> ConfigurationError:
    """Return one error that tells all `problems`, in one line; its ``field`` is the first's."""
    if len(problems) == 1:
        return problems[0]
    told = "; ".join(problem.message for problem in problems)
    return ConfigurationError(f"{len(problems)} settings cannot work: {told}", field=problems[0].field)


def _unknown(setting: str, name: Callable[[str], str]) -> ConfigurationError:
    meant = nearest(setting, BY_NAME)
    remedy = f"did you mean {name(meant)}?" if meant else f"known are {', '.join(sorted(map(name, BY_NAME)))}"
    return ConfigurationError(f"{name(setting)} is no setting; {remedy}", field=setting)


def _put(changes: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for field in path[:-1]:
        changes = changes.setdefault(field, {})
    changes[path[-1]] = value


def _changed(value: Any, changes: Mapping[str, Any]) -> Any:
    """Return a frozen value with `changes`, of which some are within its own values."""
    new = {
        field: _changed(getattr(value, field), change) if isinstance(change, dict) else change
        for field, change in changes.items()
    }
    return attrs.evolve(value, **new)
