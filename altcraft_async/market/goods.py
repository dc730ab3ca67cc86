"""What products and SKU have in common: deletions of many."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from altcraft_async.errors import ConfigurationError
from altcraft_async.market.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON

__all__ = ["Goods"]

_AT_ONCE = 1000
"""How many ids go into one call: tens of kilobytes, far below every limit, and work of a moment."""


class Goods(Resource):
    """Products, or SKU."""

    __slots__ = ()

    async def _delete(
        self,
        method: Method,
        ids: Iterable[int],
        external_ids: Iterable[str],
        *,
        deadline: float | None,
        outage: OutagePolicy | None,
    ) -> int | None:
        deleted: int | None = 0
        for field, given, kind in (("ids", ids, int), ("external_ids", external_ids, str)):
            for some in _cut(field, given, kind):
                topic = f"{method.path} of {len(some)} {field}"
                payload = await self._ask(method, {field: some}, topic=topic, deadline=deadline, outage=outage)
                count = _count(payload.get(method.payload or ""))
                deleted = None if deleted is None or count is None else deleted + count
        return deleted


def _cut(field: str, given: Iterable[int | str], kind: type[int | str]) -> Iterator[list[JSON]]:
    if isinstance(given, str | bytes):
        msg = f"{field} must be an iterable of ids, not one {type(given).__name__}"
        raise TypeError(msg)
    left = iter(given)
    while some := list(islice(left, _AT_ONCE)):
        for one in some:
            if type(one) is not kind or (kind is str and not str(one).strip()):
                msg = f"{field} has {one!r}, which is no {'number' if kind is int else 'id'}"
                raise ConfigurationError(msg, field=field)
        yield [*some]


def _count(value: JSON) -> int | None:
    """Return how many were deleted; XML gives it as text."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if type(value) is int else None
