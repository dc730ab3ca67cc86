"""Plain values become settings by the table; all mistakes are reported at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.settings.table import BY_NAME, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from altcraft_async.settings.values import Settings

__all__ = ["all_of", "read"]


def read(
    settings: Settings, values: Mapping[str, object], *, name: Callable[[str], str]
) -> tuple[Settings, list[ConfigurationError]]:
    """Put the `values` that can work into `settings`; return them with an error for each that cannot.

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
    changed: Settings = _changed(settings, changes)
    return changed, problems


def all_of(problems: Sequence[ConfigurationError]) -> ConfigurationError:
    """Return one error that reports all `problems`, in one line; its ``field`` is the first's."""
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
