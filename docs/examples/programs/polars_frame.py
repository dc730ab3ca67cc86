"""Statuses out of a polars frame, and their outcomes into another: ``python polars_frame.py changes.parquet``."""

import sys

import polars as pl

from altcraft_async.blocking import AltcraftClient


def send(changes: pl.DataFrame) -> pl.DataFrame:
    """Send a frame with the columns order_external_id, order_line_external_id and status_external_id."""
    with AltcraftClient.from_env() as altcraft:
        report = altcraft.market.orders.update_order_line_statuses(changes.iter_rows(named=True))
    return pl.DataFrame(report.to_arrow())


if __name__ == "__main__":
    outcomes = send(pl.read_parquet(sys.argv[1]))
    print(outcomes["state"].value_counts())
