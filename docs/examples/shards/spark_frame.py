"""Send a data frame by Spark's own way to write: ``python spark_frame.py changes.parquet 2026-11-26``."""

import sys

from pyspark.sql import SparkSession

from altcraft_async.integrations.spark import AltcraftDataSource

if __name__ == "__main__":
    source, run_id = sys.argv[1:]
    spark = SparkSession.builder.master("local[2,4]").getOrCreate()
    spark.dataSource.register(AltcraftDataSource)
    changes = spark.read.parquet(source)  # the three ids, and changed_at
    ordered = changes.repartition(2, "order_external_id").sortWithinPartitions("changed_at")
    job = ordered.write.format("altcraft").mode("append")
    job.options(runId=run_id, sequence="changed_at", concurrency="20").save()
    spark.stop()
