"""The settings of a client: frozen, checked, readable from an environment or from TOML."""

from __future__ import annotations

from altcraft_async.settings.values import READERS, Settings, Timeout, check_base_url

__all__ = ["READERS", "Settings", "Timeout", "check_base_url"]
