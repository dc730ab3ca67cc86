"""Settings, address and token from environment variables, and from the file that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.settings.address import check_base_url
from altcraft_async.settings.file import SettingsFile
from altcraft_async.settings.load import read
from altcraft_async.settings.table import CREDENTIALS, PREFIX, near_misses, variables
from altcraft_async.settings.values import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["Environment"]


@attrs.frozen
class Environment:
    """The settings of an environment, and below that of the file that it names.

    `settings` is made of the values that can work, and `problems` has an error for each that cannot. `in_file` are the
    settings that the file at `path` has. `slips` has variables that nothing reads and that look misspelt, each with the
    one meant. An address or token that is not set is empty.
    """

    base_url: str
    token: str = attrs.field(repr=False)
    token_file: str
    settings: Settings
    problems: Sequence[ConfigurationError]
    slips: Mapping[str, str]
    path: str = ""
    in_file: AbstractSet[str] = frozenset()

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """Read the ``ALTCRAFT_…`` variables of `environ`; an empty one is absent, a foreign one is left alone."""
        rows = {row.name: row for row in variables().values()}
        given: dict[str, object] = {name: value for name, row in rows.items() if (value := environ.get(row.variable))}
        problems: list[ConfigurationError] = []
        path, profile = str(given.pop("config", "")), given.pop("profile", None)
        said = _said_in_file(path, None if profile is None else str(profile), problems)
        own = {rows[name].path for name in given}
        below = {name: value for name, value in said.items() if name not in rows or rows[name].path not in own}

        def called(setting: str) -> str:
            return f"{setting} in {path}" if path and setting not in given else PREFIX + setting.upper()

        values = below | given
        where = dict.fromkeys((row.name for row in CREDENTIALS), "")
        for row in CREDENTIALS:
            if row.name in values and row.kind is not None:
                try:
                    where[row.name] = str(row.kind.read(values.pop(row.name), called(row.name)))
                except ConfigurationError as error:
                    problems.append(error)
        settings, others = read(Settings(), values, name=called)
        return cls(
            **where,
            settings=settings,
            problems=[*problems, *others],
            slips=near_misses(environ),
            path=path,
            in_file=frozenset(below),
        )

    def called(self, setting: str) -> str:
        """Return the name under which `setting` was read: of its variable, or of its key in the file."""
        return f"{setting} in {self.path}" if setting in self.in_file else PREFIX + setting.upper()

    def address(self, *, allow_insecure: bool) -> str:
        """Return the platform's address; raises `ConfigurationError` if it is missing or cannot work."""
        if not self.base_url:
            remedy = "set it to the platform's address, like https://ru.altkraft.com"
            raise self.missing(variable="ALTCRAFT_BASE_URL", remedy=remedy)
        return check_base_url(self.base_url, allow_insecure=allow_insecure, name=self.called("base_url"))

    def missing(self, variable: str, remedy: str) -> ConfigurationError:
        """Return the error of a variable that is not set, with the name that was perhaps meant to be it."""
        row = variables()[variable]
        slip = next((name for name, meant in self.slips.items() if variables()[meant].keyword == row.keyword), None)
        hint = f" ({slip} is set; is {self.slips[slip]} meant?)" if slip else ""
        return ConfigurationError(f"{variable} is not set{hint}; {remedy}", field=row.keyword)


def _said_in_file(path: str, profile: str | None, problems: list[ConfigurationError]) -> Mapping[str, object]:
    """Return what the file sets; what is wrong with it is added to `problems`."""
    if not path:
        if profile is not None:
            msg = "ALTCRAFT_PROFILE names a table in a file of settings, and no file is named; set ALTCRAFT_CONFIG"
            problems.append(ConfigurationError(msg, field="profile"))
        return {}
    try:
        return SettingsFile.read(path, profile).values
    except ConfigurationError as error:
        problems.append(error)
        return {}
