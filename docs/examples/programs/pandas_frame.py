"""Statuses out of a pandas frame, and their outcomes beside them: ``python pandas_frame.py changes.csv``."""

import sys

import pandas as pd

from altcraft_async.blocking import AltcraftClient


def send(changes: pd.DataFrame) -> pd.DataFrame:
    """Send a frame with the names of an update as columns; return it with each outcome's ``state`` and ``error``."""
    with AltcraftClient.from_env() as altcraft:
        report = altcraft.market.orders.update_order_line_statuses(changes.to_dict("records"))
    outcomes = report.to_arrow().to_pandas().set_index("index")
    return changes.reset_index(drop=True).join(outcomes[["state", "error"]])


if __name__ == "__main__":
    found = send(pd.read_csv(sys.argv[1], dtype=str))
    found[found["error"].notna()].to_parquet("failed.parquet")
