"""The same directory of shards through Dask, Ray and Spark: workers killed, run again, one shard twice at once."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from altcraft_async import ConfigurationError, Shared
from altcraft_async.ingest import FIELDS
from altcraft_async.shards import ShardState, plan_shards, report, run_shards

fsspec = pytest.importorskip("fsspec")
pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "shards"
LIMITS = {"concurrency": 4}
IDS = ["ebf3de8a-0469-5807-9308-765da336cdef", "bf88f0a6-b743-55e6-a816-755c3f2050d2"]
"""Those of the instants 2026-11-01 05:30 and 06:10 UTC, under the run's name ``r``."""


def pool(job, **options):
    return run_shards(job.directory, processes=2, **options)


def dask(job, **options):
    distributed = pytest.importorskip("distributed")
    from altcraft_async.integrations.dask import run_with_dask  # noqa: PLC0415

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        return run_with_dask(client, job.directory, **options)


def ray(job, **options):
    engine = pytest.importorskip("ray")
    from altcraft_async.integrations.ray import run_with_ray  # noqa: PLC0415

    engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        return run_with_ray(job.directory, **options)
    finally:
        engine.shutdown()


def spark(job, **options):
    sql = pytest.importorskip("pyspark.sql")
    from altcraft_async.integrations.spark import run_with_spark  # noqa: PLC0415

    session = sql.SparkSession.builder.master("local[2,8]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        return run_with_spark(session, job.directory, **options)
    finally:
        end(session)


def end(session):
    """End the virtual machine too: it would keep the environment of this test for the next."""
    from pyspark import SparkContext  # noqa: PLC0415

    session.stop()
    SparkContext._gateway.shutdown()
    SparkContext._gateway.proc.stdin.close()
    SparkContext._gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None


ENGINES = [pool, dask, ray, spark]


@pytest.mark.parametrize("engine", ENGINES)
def test_two_workers_are_killed_one_shard_is_run_twice_and_the_report_is_the_same(job, engine):
    job.plan()
    with ThreadPoolExecutor(2) as threads:
        kills, joined = threads.submit(job.kill), threads.submit(job.join)
        try:
            found = engine(job, **LIMITS)
        finally:
            kills.result()
        joined.result()
    assert len(job.killed) == 2, "nobody was killed"
    assert job.check().rows == found.rows
    before = job.sandbox.ledger.requests
    again = engine(job, **LIMITS)
    assert (again, job.sandbox.ledger.requests) == (job.check(), before), "a rerun sends nothing"


def test_a_client_of_dask_that_cannot_be_waited_with_is_refused_in_words(job):
    distributed = pytest.importorskip("distributed")
    from altcraft_async.integrations.dask import run_with_dask  # noqa: PLC0415

    async def ask():
        async with distributed.Client(processes=False, asynchronous=True, dashboard_address=None) as client:
            with pytest.raises(ConfigurationError, match="client is an asynchronous one"):
                run_with_dask(client, job.directory)

    asyncio.run(ask())


def test_tasks_of_ray_that_ask_for_no_cpu_are_as_many_as_the_cpus(job):
    engine = pytest.importorskip("ray")
    from altcraft_async.integrations.ray import run_with_ray  # noqa: PLC0415

    job.plan()
    engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        assert run_with_ray(job.directory, num_cpus=0).complete
    finally:
        engine.shutdown()


def test_two_directories_on_one_cluster_of_dask_have_each_its_own_results(job, tmp_path):
    distributed = pytest.importorskip("distributed")
    from altcraft_async.integrations.dask import run_with_dask  # noqa: PLC0415

    half = len(job.rows) // 2
    places = [tmp_path / name for name in "ab"]
    for place, rows in zip(places, (job.rows[:half], job.rows[half:]), strict=True):
        plan_shards(rows, place, shards=2)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as one,
        distributed.Client(cluster, set_as_default=False) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        found = list(threads.map(lambda of: run_with_dask(*of, concurrency=4), zip((one, other), places, strict=True)))
    assert [(shards.rows, shards.complete) for shards in found] == [(half, True)] * 2


def test_a_relative_path_is_the_callers_also_for_workers_elsewhere(job, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from altcraft_async.integrations.dask import run_with_dask  # noqa: PLC0415

    plan_shards(job.rows, job.directory, shards=2)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        monkeypatch.chdir(Path(job.directory).parent)
        assert run_with_dask(client, Path(job.directory).name).complete


@pytest.mark.parametrize("engine", [dask, ray, spark])
def test_a_total_is_kept(job, engine):
    job.plan()
    engine(job, concurrency=Shared(8, among="shards"))
    job.check()
    assert job.sandbox.ledger.peak_in_flight <= 8


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of S3, on a server of this machine that speaks its protocol."""
    server_of = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
        "FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
    s3fs.S3FileSystem.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket/run"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_bucket_of_s3_is_a_directory_like_any_other(job, bucket):
    plan_shards(job.rows, bucket, shards=4, target=job.sandbox.base_url)
    assert {shard.state for shard in report(bucket).shards} == {ShardState.WAITING}  # a listing is remembered
    job.directory = bucket
    with ThreadPoolExecutor(1) as threads:
        kills = threads.submit(job.kill)
        found = run_shards(bucket, processes=2, **LIMITS)
        assert kills.result() == 2
    assert (found.ok, report(bucket)) == (True, found)
    assert job.sandbox.check(job.rows).ok
    files = fsspec.filesystem("s3")
    assert not [path for path in files.find("bucket") if job.token.encode() in files.cat_file(path)]


def run_example(name, *arguments):
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(("name", "engine"), [("dask_cluster.py", "distributed"), ("ray_job.py", "ray")])
def test_the_documents_example_of_a_runner_runs(job, name, engine):
    pytest.importorskip(engine)
    job.plan()
    assert f"{len(job.rows)} rows, ok: True" in run_example(name, job.directory)
    job.check()


def test_the_documents_example_of_spark_writes_shards_and_delivers_them(job, tmp_path):
    pytest.importorskip("pyspark")
    said = run_example("spark_job.py", job.write(tmp_path / "in.parquet"), job.directory)
    assert f"{len(job.rows)} rows, ok: True" in said
    job.check()


def test_the_documents_example_of_a_data_frame_is_harmless_when_it_is_run_again(job, tmp_path):
    pytest.importorskip("pyspark")
    source = job.write(tmp_path / "in.parquet")
    for _ in range(2):
        run_example("spark_frame.py", source, "2026-11-26")
    checked = job.sandbox.check(job.rows)
    assert checked.ok, str(checked)
    assert job.sandbox.ledger.requests >= 2 * len(job.rows)


@pytest.fixture
def session():
    sql = pytest.importorskip("pyspark.sql")
    from altcraft_async.integrations.spark import AltcraftDataSource  # noqa: PLC0415

    found = sql.SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false").getOrCreate()
    found.dataSource.register(AltcraftDataSource)
    yield found
    end(found)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"concurrency": "0"}, "string", "concurrency must be a whole number above zero"),
        ({"concurrency": "-3"}, "string", "concurrency must be a whole number above zero"),
        ({"rate": "nan"}, "string", "rate must be a number above zero"),
        ({"rate": "inf"}, "string", "rate must be a number above zero"),
        ({"typo": "1"}, "string", "there is no option 'typo'; the options are runId, sequence, concurrency, rate"),
        ({"path": "x"}, "string", None),
        ({}, "double", "order_external_id is of type double, and ids are texts or whole numbers"),
        ({}, "decimal(10,2)", "order_external_id is of type decimal"),
        ({}, "array<string>", "order_external_id is of type array<string>"),
        ({}, "long", None),
        ({"concurrency": "4", "rate": "0.5"}, "string", None),
    ],
)
def test_what_no_partition_can_work_with_is_refused_before_any_begins(options, kind, said):
    types = pytest.importorskip("pyspark.sql.types")
    from altcraft_async.integrations.spark import AltcraftDataSource  # noqa: PLC0415

    fields = [types.StructField(name, types.StringType()) for name in (*FIELDS[1:], "at")]
    id_type = types._parse_datatype_json_value(kind) if kind != "array<string>" else types.ArrayType(types.StringType())
    schema = types.StructType([types.StructField(FIELDS[0], id_type), *fields])
    source = AltcraftDataSource({"runId": "r", "sequence": "at", **options})
    with contextlib.nullcontext() if said is None else pytest.raises(ConfigurationError, match=said):
        source.writer(schema, overwrite=False)


@pytest.mark.parametrize("process", ["UTC", "America/New_York"])
@pytest.mark.parametrize("session_zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_ids_of_a_data_frame_are_the_same_in_each_time_zone(monkeypatch, process, session_zone):
    pytest.importorskip("pyspark")
    pa = pytest.importorskip("pyarrow")
    from altcraft_async.integrations.spark import AltcraftWriter  # noqa: PLC0415

    # In New York the second is 40 minutes later, and 20 minutes earlier by the clock on the wall.
    instants = pa.array([1793511000_000000, 1793513400_000000], pa.timestamp("us", session_zone))
    ids = [pa.array(values) for values in (["o", "o"], ["l", "l"], ["processing", "delivered"])]
    batch = pa.RecordBatch.from_arrays([instants, *ids], ["at", *FIELDS])
    monkeypatch.setenv("TZ", process)
    time.tzset()
    try:
        found = [update.request_id for update in AltcraftWriter("r", "at", [1, 2, 3, 0], {})._updates(iter([batch]))]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == IDS


def test_a_data_frame_whose_rows_are_refused_or_unsorted_says_what_was_sent(job, session, capfd):
    rows = [("order_1", "line_1_1", "processing", 1), ("nowhere", "l", "new", 2)]
    names = ["order_external_id", "order_line_external_id", "status_external_id", "seq"]

    def save(given, **options):
        frame = session.createDataFrame(given, names).coalesce(1)
        frame.write.format("altcraft").mode("append").options(**options).save()

    with pytest.raises(Exception, match="the option runId is not set"):
        save(rows, sequence="seq")
    with pytest.raises(Exception, match="the data frame has no column other"):
        save(rows, sequence="other", runId="r")
    with pytest.raises(Exception, match="seq is a array<bigint>; give a column of numbers, times or texts"):
        save([(*row[:3], [1]) for row in rows], sequence="seq", runId="r")
    with pytest.raises(Exception, match="1 of 2 updates were not applied"):
        save(rows, sequence="seq", runId="r")
    assert job.sandbox.line_status("order_1", "line_1_1") == "processing"
    with pytest.raises(Exception, match="sortWithinPartitions"):
        save([rows[0], ("order_1", "line_1_2", "new", 0)], sequence="seq", runId="s")
