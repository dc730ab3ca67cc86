"""Statuses out of a pandas frame, and their outcomes into another: ``python pandas_frame.py changes.csv``."""

import sys

import pandas as pd

from altcraft_async.blocking import AltcraftClient


def send(changes: pd.DataFrame) -> pd.DataFrame:
    """Send a frame with the columns order_external_id, order_line_external_id and status_external_id."""
    with AltcraftClient.from_env() as altcraft:
        report = altcraft.market.orders.update_order_line_statuses(changes.to_dict("records"))
    return report.to_arrow().to_pandas()


if __name__ == "__main__":
    outcomes = send(pd.read_csv(sys.argv[1], dtype=str))
    print(outcomes["state"].value_counts())
