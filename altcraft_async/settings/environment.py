"""Settings, address and token from environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.settings.address import check_base_url
from altcraft_async.settings.load import read
from altcraft_async.settings.table import PREFIX, near_misses, variables
from altcraft_async.settings.values import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Environment"]


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
        settings, problems = read(Settings(), given, name=lambda setting: PREFIX + setting.upper())
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
