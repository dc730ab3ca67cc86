"""A sample for the default tests of what the session ``long`` plays whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["sampled"]


def sampled(values: Iterable[Any], *sample: Any) -> list[Any]:
    """Give the values of a parameter, all but those of the sample marked ``long``."""
    return [value if value in sample else pytest.param(value, marks=pytest.mark.long) for value in values]
