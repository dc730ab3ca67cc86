"""What all that hand out shards have in common: which ones, and with which options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.limit import Shared
from altcraft_async.kinds import WHOLE
from altcraft_async.shards.plan import read_plan
from altcraft_async.shards.report import report

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from altcraft_async.flow.limit import Adaptive

__all__ = ["numbers_of", "options_of"]


def numbers_of(directory: str | os.PathLike[str], shards: Sequence[int] | None, *, retry_failed: bool) -> list[int]:
    """Return the numbers of the shards to deliver: of `shards`, or of all, those that are not done.

    Raises `ShardError` for a number that no shard has.
    """
    plan, found = read_plan(directory), report(directory)
    asked = None if shards is None else {plan.check_number(number, found.directory) for number in shards}
    open_ = [shard.number for shard in found.shards if not shard.complete or (retry_failed and shard.failed)]
    return [number for number in open_ if asked is None or number in asked]


def options_of(
    window: int,
    concurrency: int | Adaptive | Shared | None,
    rate: float | Shared | None,
    *,
    retry_failed: bool,
) -> dict[str, Any]:
    """Return the keywords of `deliver_shard` for each of at most `window` shards at once.

    A total that is `Shared` among ``"shards"`` is divided by the window, which nobody needs to agree about then.
    """
    WHOLE.check("window", window)
    if isinstance(concurrency, Shared) and concurrency.among == "shards":
        if concurrency.total < window:
            msg = (
                f"concurrency is {concurrency.total:g} for all, and {window} shards at once need one each; lower window"
            )
            raise ConfigurationError(msg, field="concurrency")
        concurrency = int(concurrency.total // window)
    if isinstance(rate, Shared) and rate.among == "shards":
        rate = rate.total / window
    return {"concurrency": concurrency, "rate": rate, "retry_failed": retry_failed}
