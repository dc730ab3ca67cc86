"""Deliver a directory of shards with one worker of an engine: ``python driver.py ENGINE DIRECTORY CONCURRENCY``.

Writes the report as JSON. It is a process of its own, because an engine is there once in a process, and so that a
driver can be killed with all that it has begun.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from altcraft_async.shards import ShardsReport


def pool(directory: str, concurrency: int) -> ShardsReport:
    from altcraft_async.shards import run_shards  # noqa: PLC0415

    return run_shards(directory, processes=1, concurrency=concurrency)


def dask(directory: str, concurrency: int) -> ShardsReport:
    from distributed import Client, LocalCluster  # noqa: PLC0415

    from altcraft_async.integrations.dask import run_with_dask  # noqa: PLC0415

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        return run_with_dask(client, directory, concurrency=concurrency)


def ray(directory: str, concurrency: int) -> ShardsReport:
    import ray as engine  # noqa: PLC0415

    from altcraft_async.integrations.ray import run_with_ray  # noqa: PLC0415

    engine.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        return run_with_ray(directory, concurrency=concurrency)
    finally:
        engine.shutdown()


def spark(directory: str, concurrency: int) -> ShardsReport:
    from pyspark.sql import SparkSession  # noqa: PLC0415

    from altcraft_async.integrations.spark import run_with_spark  # noqa: PLC0415

    session = SparkSession.builder.master("local[1,8]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        return run_with_spark(session, directory, concurrency=concurrency)
    finally:
        session.stop()


if __name__ == "__main__":
    engine, directory, concurrency = sys.argv[1:]
    found = {"pool": pool, "dask": dask, "ray": ray, "spark": spark}[engine](directory, int(concurrency))
    sys.stdout.write(json.dumps(found.to_dict()) + "\n")
