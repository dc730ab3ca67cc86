"""The settings of a client: frozen, checked, readable from an environment or from TOML."""

from __future__ import annotations

from altcraft_async.settings.address import check_base_url
from altcraft_async.settings.environment import Environment
from altcraft_async.settings.load import all_of
from altcraft_async.settings.table import CREDENTIALS, FILE, TABLE, Setting
from altcraft_async.settings.values import Settings, Timeout, with_keywords

__all__ = [
    "CREDENTIALS",
    "FILE",
    "TABLE",
    "Environment",
    "Setting",
    "Settings",
    "Timeout",
    "all_of",
    "check_base_url",
    "with_keywords",
]
