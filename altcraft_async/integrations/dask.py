"""Shards on the workers of a Dask cluster.

.. code-block:: python

    from distributed import Client

    from altcraft_async import Shared
    from altcraft_async.integrations.dask import run_with_dask

    with Client("scheduler:8786") as client:
        found = run_with_dask(client, "s3://bucket/run-1", window=32, concurrency=Shared(640, among="shards"))

The workers need this package, and address and token in their own environment: the client's environment does not reach
them. Nothing is kept in the scheduler: after any death, make the call again, and it goes on. Needs ``distributed``.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid4

from altcraft_async.errors import AltcraftError, ConfigurationError, MissingExtraError
from altcraft_async.shards import ShardError, deliver_shard, report
from altcraft_async.shards.window import numbers_of, options_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from distributed import Client

    from altcraft_async import Adaptive, Shared
    from altcraft_async.shards import ShardsReport

try:
    from distributed import as_completed
except ImportError:
    _message = "the Dask integration needs distributed, which is not installed: pip install distributed"
    raise MissingExtraError(_message) from None

__all__ = ["run_with_dask"]


def _window_of(client: Client, window: int | None) -> int:
    """Return how many shards go out at once; raises `ConfigurationError` for a client that cannot be waited with."""
    if client.asynchronous:
        msg = "client is an asynchronous one, which this call cannot wait with; give a synchronous Client, in a thread"
        raise ConfigurationError(msg, field="client")
    if window is not None:
        return window
    threads: int = sum(client.nthreads().values())
    if not threads:
        msg = "the cluster has no workers yet; wait for them (client.wait_for_workers), or give window"
        raise ConfigurationError(msg, field="window")
    return threads


def run_with_dask(  # noqa: PLR0913 - what can be said of a run, by keyword
    client: Client,
    directory: str | os.PathLike[str],
    *,
    window: int | None = None,
    shards: Sequence[int] | None = None,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
) -> ShardsReport:
    """Deliver the shards of a directory on a Dask cluster, at most `window` at once, and return the report of all.

    `client` is a synchronous one. `window` is one for each thread of the workers by default. `concurrency` and `rate`
    are for each shard; `Shared` among ``"shards"`` is a total, of which each shard in the window has its part. If a
    worker dies, another delivers its shard again, by Dask's own rules; when Dask gives up, that is a `ShardError`. An
    error of one shard does not end the others; the first such error is raised when all have ended.
    """
    at_once = _window_of(client, window)
    numbers = numbers_of(directory, shards, retry_failed=retry_failed)
    options = options_of(at_once, concurrency, rate, retry_failed=retry_failed)
    waiting = iter(numbers)
    call = uuid4().hex  # a key of its own for each call: Dask gives who asks by a known key what another gets
    problems: list[Exception] = []

    def begin(number: int) -> object:
        # A synchronous function, which runs in the worker's threads: on its event loop it would stop the heartbeats.
        return client.submit(deliver_shard, str(directory), number, **options, key=f"altcraft-shard-{number}-{call}")

    under_way = as_completed([begin(number) for number in islice(waiting, at_once)])
    for future in under_way:
        try:
            future.result()
        except AltcraftError as error:
            problems.append(error)
        except Exception as error:  # noqa: BLE001 - whatever an engine says, the other shards go on
            said = f"{future.key} of {directory} failed ({type(error).__name__}: {error}); run it again, and it goes on"
            problems.append(ShardError(said, directory=str(directory)))
        future.release()
        number = next(waiting, None)
        if number is not None:
            under_way.add(begin(number))
    if problems:
        raise problems[0]
    return report(directory)
