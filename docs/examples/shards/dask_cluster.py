"""Deliver a directory of shards on a Dask cluster: ``python dask_cluster.py s3://bucket/run-1``."""

import sys

from distributed import Client, LocalCluster

from altcraft_async import Shared
from altcraft_async.integrations.dask import run_with_dask

if __name__ == "__main__":
    directory = sys.argv[1]
    # Client("scheduler:8786") for a cluster that is there; its workers have ALTCRAFT_TOKEN_FILE in their environment.
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        found = run_with_dask(client, directory, window=2, concurrency=Shared(40, among="shards"))
    print(f"{found.rows} rows, ok: {found.ok}")
