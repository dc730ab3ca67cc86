"""Statuses out of a polars frame, and their outcomes beside them: ``python polars_frame.py changes.parquet``."""

import sys

import polars as pl

from altcraft_async.blocking import AltcraftClient
from altcraft_async.ingest import read_updates


def send(changes: pl.DataFrame, **columns: str) -> pl.DataFrame:
    """Send a frame; ``columns`` names the columns that differ: ``status_external_id="state"``."""
    with AltcraftClient.from_env() as altcraft, read_updates(changes, columns=columns) as updates:
        outcomes = pl.DataFrame(altcraft.market.orders.update_order_line_statuses(updates).to_arrow())
    return changes.with_columns(outcomes.select(pl.col("state", "ok", "error").name.prefix("sent_")))


if __name__ == "__main__":
    send(pl.read_parquet(sys.argv[1])).filter(~pl.col("sent_ok")).write_parquet("failed.parquet")
