"""An Airflow DAG: the status changes of each day, out of a database; a retry goes on where the task stopped."""

import sqlite3

from airflow.sdk import DAG, task  # before Airflow 3: `from airflow import DAG`, and task from airflow.decorators

from altcraft_async.blocking import AltcraftClient


@task(retries=5)
def send_statuses(path: str, ds: str | None = None) -> None:
    query = "SELECT order_id, line_id, status FROM changes WHERE day = ? ORDER BY id"
    with AltcraftClient.from_env() as altcraft:
        rows = sqlite3.connect(path).execute(query, [ds])
        orders, journal = altcraft.market.orders, f"{path}.{ds}.journal"
        orders.update_order_line_statuses(rows, journal=journal, retry_failed=True).raise_for_failures()


with DAG("altcraft_statuses", schedule="@daily"):
    send_statuses("/data/shop.db")
