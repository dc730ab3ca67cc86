"""Write a data frame as shards, and deliver them with Spark: ``python spark_job.py changes.parquet DIRECTORY``."""

import sys

from pyspark.sql import SparkSession

from altcraft_async import Shared
from altcraft_async.integrations.spark import run_with_spark
from altcraft_async.shards import adopt_shards

if __name__ == "__main__":
    source, directory = sys.argv[1:]
    spark = SparkSession.builder.master("local[2,4]").getOrCreate()
    changes = spark.read.parquet(source)  # the three ids, and changed_at
    changes.repartition(4, "order_external_id").sortWithinPartitions("changed_at").write.parquet(directory)
    adopt_shards(directory)
    found = run_with_spark(spark, directory, concurrency=Shared(40, among="shards"))
    spark.stop()
    print(f"{found.rows} rows, ok: {found.ok}")
