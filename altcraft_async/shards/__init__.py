"""Beyond one machine: an input is divided into shards, and the workers of any engine deliver them, with all guarantees.

.. code-block:: python

    from altcraft_async.shards import deliver_shard, plan_shards, report

    plan_shards("updates.parquet", "run-1", shards=4)  # once; all may be addresses, as s3://bucket/run-1
    for number in range(4):  # anywhere, in any order, also twice
        deliver_shard("run-1", number)
    print(report("run-1").counts)  # at any time

All rows of an order are in one shard, so workers need not communicate to keep the order per line. Each shard has a
journal, and ids that follow from the plan: after a death the shard goes on where it was, and a second copy of it sends
the same under the same ids. `run_shards` does it with the processes of this machine; `altcraft_async.integrations` has
runners for Dask, Ray and Spark. Needs the extra ``arrow``.
"""

from __future__ import annotations

from altcraft_async.shards.deliver import deliver_shard, deliver_shard_here
from altcraft_async.shards.errors import ShardBusyError, ShardError
from altcraft_async.shards.freezing import InputOptions, adopt_shards, plan_shards
from altcraft_async.shards.plan import Plan, ShardFile, read_plan
from altcraft_async.shards.pool import run_shards
from altcraft_async.shards.report import ShardReport, ShardsReport, ShardState, report

__all__ = [
    "InputOptions",
    "Plan",
    "ShardBusyError",
    "ShardError",
    "ShardFile",
    "ShardReport",
    "ShardState",
    "ShardsReport",
    "adopt_shards",
    "deliver_shard",
    "deliver_shard_here",
    "plan_shards",
    "read_plan",
    "report",
    "run_shards",
]
