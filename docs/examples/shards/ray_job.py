"""Deliver a directory of shards as tasks of Ray: ``python ray_job.py s3://bucket/run-1``."""

import sys

import ray

from altcraft_async import Shared
from altcraft_async.integrations.ray import run_with_ray

if __name__ == "__main__":
    directory = sys.argv[1]
    ray.init(num_cpus=2, include_dashboard=False)  # ray.init("auto") for a cluster that is there
    found = run_with_ray(directory, window=2, concurrency=Shared(40, among="shards"))
    ray.shutdown()
    print(f"{found.rows} rows, ok: {found.ok}")
