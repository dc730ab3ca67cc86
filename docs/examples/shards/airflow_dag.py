"""Plan shards, deliver each as a mapped task, and look at the whole: a DAG of Airflow 3."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag, task

DIRECTORY = "s3://bucket/orders/{{ ds }}"


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False, max_active_tasks=16)
def altcraft_orders() -> None:
    """Deliver the changes of a day; the workers have ALTCRAFT_BASE_URL and ALTCRAFT_TOKEN_FILE in their environment."""

    @task
    def plan(directory: str) -> list[int]:
        from altcraft_async.shards import ShardError, plan_shards, read_plan

        try:
            found = plan_shards(f"{directory}/changes/*.parquet", f"{directory}/shards", shards=64)
        except ShardError:  # this task has been run before: the plan, with its ids, is there
            found = read_plan(f"{directory}/shards")
        return list(range(len(found.shards)))

    @task(retries=5, max_active_tis_per_dag=16)
    def deliver(number: int, directory: str) -> None:
        from altcraft_async import Shared
        from altcraft_async.shards import deliver_shard

        found = deliver_shard(f"{directory}/shards", number, concurrency=Shared(320, among="shards"))
        if not found.complete:
            raise RuntimeError(found.problem)  # Airflow tries it again, and it goes on

    @task(trigger_rule="all_done")
    def look(directory: str) -> None:
        from altcraft_async.shards import report

        found = report(f"{directory}/shards")
        if not found.ok:
            message = f"{found.counts}, unfinished shards: {found.unfinished}"
            raise RuntimeError(message)

    numbers = plan(DIRECTORY)
    deliver.partial(directory=DIRECTORY).expand(number=numbers) >> look(DIRECTORY)


altcraft_orders()
