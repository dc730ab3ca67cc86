"""A file of settings in TOML, with a table for each profile.

.. code-block:: toml

    [altcraft]
    base_url = "https://ru.altkraft.com"
    token_file = "token"
    timeout = 20

    [altcraft.profiles.staging]
    base_url = "https://staging.example.com"
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.settings.table import OF_PATHS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SettingsFile", "table_of"]


@attrs.frozen
class SettingsFile:
    """What the file at `path` sets: its ``[altcraft]``, and over that the table of the profile that was asked for."""

    path: str
    values: Mapping[str, object] = attrs.field(repr=False)

    @classmethod
    def read(cls, path: str, profile: str | None) -> SettingsFile:
        """Read it. The paths in it begin at its directory.

        Raises `ConfigurationError` if it cannot be read, is no TOML or has no such profile.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            msg = f"the settings {path} cannot be read: {getattr(error, 'strerror', None) or error}"
            raise ConfigurationError(msg, field="config") from None
        table = table_of(text, f"the settings {path}")
        profiles: object = table.pop("profiles", {})
        if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
            msg = f"the settings {path} have a profile that is no table; write [altcraft.profiles.NAME]"
            raise ConfigurationError(msg, field="profile")
        if profile is not None and profile not in profiles:
            known = f"it has {', '.join(sorted(profiles))}" if profiles else "it has none"
            msg = f"the settings {path} have no profile {profile!r}; {known}"
            raise ConfigurationError(msg, field="profile")
        base = Path(path).parent
        values = {
            name: str(base / value) if name in OF_PATHS and isinstance(value, str) else value
            for name, value in {**table, **profiles.get(profile, {})}.items()
        }
        return cls(path, values)


def table_of(text: str, what: str = "the settings") -> dict[str, object]:
    """Return the table ``[altcraft]`` of a TOML document, empty without one.

    Raises `ConfigurationError`, naming `what` it is, where it is no TOML.
    """
    import tomllib  # noqa: PLC0415 - few programs read settings from TOML

    try:
        table = tomllib.loads(text).get("altcraft", {})
    except tomllib.TOMLDecodeError as error:
        msg = f"{what} are not TOML: {error}"
        raise ConfigurationError(msg, field="config") from None
    if not isinstance(table, dict):
        msg = f"[altcraft] must be a table of {what}"
        raise ConfigurationError(msg, field="altcraft")
    return table
