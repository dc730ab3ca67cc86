"""Statuses out of a pandas frame, and their outcomes beside them: ``python pandas_frame.py changes.csv``."""

import sys

import pandas as pd

from altcraft_async.blocking import AltcraftClient
from altcraft_async.ingest import read_updates


def send(changes: pd.DataFrame, **columns: str) -> pd.DataFrame:
    """Send a frame; ``columns`` names the columns that differ: ``status_external_id="state"``."""
    with AltcraftClient.from_env() as altcraft, read_updates(changes, columns=columns) as updates:
        outcomes = altcraft.market.orders.update_order_line_statuses(updates).to_arrow().to_pandas()
    return changes.reset_index(drop=True).join(outcomes[["state", "ok", "error"]].add_prefix("sent_"))


if __name__ == "__main__":
    found = send(pd.read_csv(sys.argv[1], dtype=str))
    found[~found["sent_ok"]].to_csv("failed.csv", index=False)
