"""The small JSON files of a directory of shards: each is what it must be, or it is damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import UnionType

    from altcraft_async.storage.places import Place

__all__ = ["DamagedError", "checked", "read_record"]

Kinds: TypeAlias = "Mapping[str, type | UnionType]"

_MOST: Final = 2**53
"""Beyond it a number of JSON is no number that any of these files has."""


class DamagedError(ValueError):
    """A file is not what it must be: cut off, of other types, no object."""


def read_record(place: Place, name: str, kinds: Kinds) -> dict[str, Any]:
    """Return the object in a file; raises `DamagedError`, and `FileNotFoundError` if there is no such file."""
    content = place.read(name)
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    return checked(said, kinds)


def checked(said: object, kinds: Kinds) -> dict[str, Any]:
    """Return what an object has under the names of `kinds`, each of its kind; raises `DamagedError` otherwise.

    Numbers are finite and at least zero, also those within a ``dict[str, int]``. Other names are left out.
    """
    if not isinstance(said, dict) or not all(name in said and _fits(said[name], kind) for name, kind in kinds.items()):
        raise DamagedError
    return {name: said[name] for name in kinds}


def _fits(value: object, kind: type | UnionType) -> bool:
    if kind is int:
        return type(value) is int and 0 <= value <= _MOST
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST
    if kind == dict[str, int]:
        return isinstance(value, dict) and all(_fits(count, int) for count in value.values())
    return isinstance(value, kind)
