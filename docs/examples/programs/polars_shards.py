"""Write a frame, the three ids and changed_at, as shards: ``python polars_shards.py changes.parquet run-1``."""

import sys
from pathlib import Path

import polars as pl

from altcraft_async.shards import adopt_shards


def write_shards(changes: pl.DataFrame, directory: Path) -> None:
    directory.mkdir()
    numbered = changes.sort("changed_at").with_columns(shard=pl.col("order_external_id").hash() % 64)
    for (number, *_), rows in numbered.partition_by("shard", as_dict=True).items():
        rows.drop("shard").write_parquet(directory / f"{number:05}.parquet")
    adopt_shards(directory)


if __name__ == "__main__":
    write_shards(pl.read_parquet(sys.argv[1]), Path(sys.argv[2]))
