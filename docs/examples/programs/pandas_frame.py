"""Statuses out of a pandas frame, and their outcomes beside them: ``python pandas_frame.py changes.csv``."""

import sys

import pandas as pd

from altcraft_async.blocking import AltcraftClient


def send(changes: pd.DataFrame) -> pd.DataFrame:
    """Send a frame with the columns order_external_id, order_line_external_id and status_external_id.

    Returns it with the columns ``state`` and ``error`` of each row's outcome.
    """
    changes = changes.reset_index(drop=True)  # an outcome's index is the place of its row
    with AltcraftClient.from_env() as altcraft:
        report = altcraft.market.orders.update_order_line_statuses(changes.to_dict("records"))
    outcomes = report.to_arrow().to_pandas().set_index("index")
    return changes.join(outcomes[["state", "error"]])


if __name__ == "__main__":
    found = send(pd.read_csv(sys.argv[1], dtype=str))
    print(found["state"].value_counts())
    found[found["error"].notna()].to_parquet("failed.parquet")
