"""Shards on the workers of a Dask cluster.

.. code-block:: python

    from distributed import Client

    from altcraft_async import Shared
    from altcraft_async.integrations.dask import run_with_dask

    with Client("scheduler:8786") as client:
        found = run_with_dask(client, "s3://bucket/run-1", window=32, concurrency=Shared(640, among="shards"))

The workers need this package, and address and token in their own environment: the client's environment does not reach
them. Nothing is kept in the scheduler: after any death, make the call again, and it goes on. A second such call, from
another client or on another cluster, works beside the first. Needs ``distributed``.
"""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from altcraft_async.errors import ConfigurationError, MissingExtraError
from altcraft_async.shards import report
from altcraft_async.shards.window import Queue, failed, hand_out, numbers_of, options_of, raise_first, try_shard
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from distributed import Client, Future

    from altcraft_async import Adaptive, Shared
    from altcraft_async.shards import ShardsReport
    from altcraft_async.shards.report import Known
    from altcraft_async.shards.window import Answer

try:
    import distributed  # noqa: F401 - that it is there
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
    are for each shard; `Shared` among ``"shards"`` is a total of this call, of which each shard in the window has its
    part. If a worker dies, another delivers its shard again, by Dask's own rules; when Dask gives up, that is a
    `ShardError`. A shard that somebody else delivers, on this cluster or elsewhere, takes no worker: it is left until
    no other is free, and waited for then. An error of one shard does not end the others; the first such error is raised
    when all have ended.
    """
    at_once = _window_of(client, window)
    numbers = numbers_of(directory, shards, retry_failed=retry_failed)
    options = options_of(at_once, concurrency, rate, retry_failed=retry_failed)
    problems = hand_out(Queue(directory, numbers), _Tasks(client, Place(directory).to_open, options), at_once)
    raise_first(problems)
    return report(directory)


class _Tasks:
    """The tasks of one call; each is a future of Dask."""

    def __init__(self, client: Client, directory: str, options: dict[str, Any]) -> None:
        self._client = client
        self._directory = directory
        self._options = options
        self._ended: SimpleQueue[Future] = SimpleQueue()

    def begin(self, number: int, known: Known) -> Future:
        # Its key is its own: who asks Dask by a known key is given what another task said.
        key = f"altcraft-shard-{number}-{uuid4().hex}"
        # A synchronous function, which runs in the worker's threads: on its event loop it would stop the heartbeats.
        future = self._client.submit(try_shard, self._directory, number, known, self._options, key=key)
        future.add_done_callback(self._ended.put)
        return future

    def wait(self, tasks: Sequence[Future], seconds: float) -> list[Future]:
        del tasks
        with contextlib.suppress(Empty):
            return [self._ended.get(timeout=seconds)]
        return []

    def answer(self, number: int, task: Future) -> Answer:
        try:
            answer: Answer = task.result()
        except Exception as error:  # noqa: BLE001 - whatever an engine says, the other shards go on
            return failed(self._directory, number, error)
        finally:
            task.release()
        return answer
