"""Shards as tasks of Ray.

.. code-block:: python

    import ray

    from altcraft_async import Shared
    from altcraft_async.integrations.ray import run_with_ray

    ray.init("auto")
    found = run_with_ray("s3://bucket/run-1", window=32, concurrency=Shared(640, among="shards"))

The nodes need this package, and address and token in their own environment, or a token file; a token in Ray's
``runtime_env`` would be shown by its dashboard. Needs ``ray``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from altcraft_async.errors import MissingExtraError
from altcraft_async.shards import report
from altcraft_async.shards.window import Queue, failed, hand_out, numbers_of, options_of, raise_first, try_shard
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from altcraft_async import Adaptive, Shared
    from altcraft_async.shards import ShardsReport
    from altcraft_async.shards.report import Known
    from altcraft_async.shards.window import Answer

try:
    import ray
except ImportError:
    _message = "the Ray integration needs ray, which is not installed: pip install ray"
    raise MissingExtraError(_message) from None

__all__ = ["run_with_ray"]


def run_with_ray(  # noqa: PLR0913 - what can be said of a run, by keyword
    directory: str | os.PathLike[str],
    *,
    window: int | None = None,
    shards: Sequence[int] | None = None,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
    num_cpus: float = 1.0,
    max_retries: int = 3,
) -> ShardsReport:
    """Deliver the shards of a directory as tasks of Ray, at most `window` at once, and return the report of all.

    `window` is one for each CPU of the cluster by default, `num_cpus` the CPUs that a task asks for. `concurrency` and
    `rate` are for each shard; `Shared` among ``"shards"`` is a total of this call, of which each shard in the window
    has its part. If a worker dies, Ray runs its task again, up to `max_retries` times. A shard that somebody else
    delivers, on this cluster or elsewhere, takes no CPU: it is left until no other is free, and waited for then. An
    error of one shard does not end the others; the first such error is raised when all have ended.
    """
    numbers = numbers_of(directory, shards, retry_failed=retry_failed)
    # A task that asks for no CPU could run any number of times at once.
    cpus = ray.cluster_resources().get("CPU", 1) // (num_cpus or 1.0)
    at_once = max(1, int(cpus)) if window is None else window
    options = options_of(at_once, concurrency, rate, retry_failed=retry_failed)
    # Only a worker's death is tried again: what a shard raises is an answer.
    remote = ray.remote(num_cpus=num_cpus, max_retries=max_retries, retry_exceptions=False)(try_shard)
    problems = hand_out(Queue(directory, numbers), _Tasks(remote, Place(directory).to_open, options), at_once)
    raise_first(problems)
    return report(directory)


class _Tasks:
    """The tasks of one call; each is the reference to what a remote function returns."""

    def __init__(self, remote: Any, directory: str, options: dict[str, Any]) -> None:
        self._remote = remote
        self._directory = directory
        self._options = options

    def begin(self, number: int, known: Known) -> ray.ObjectRef:
        return self._remote.remote(self._directory, number, known, self._options)

    def wait(self, tasks: Sequence[ray.ObjectRef], seconds: float) -> list[ray.ObjectRef]:
        ended, _ = ray.wait(list(tasks), num_returns=1, timeout=seconds)
        return list(ended)

    def answer(self, number: int, task: ray.ObjectRef) -> Answer:
        try:
            answer: Answer = ray.get(task)
        except ray.exceptions.RayError as error:
            return failed(self._directory, number, error)
        return answer
