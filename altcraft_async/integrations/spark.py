"""Shards as tasks of Spark, and Spark's own way to write a data frame.

.. code-block:: python

    from pyspark.sql import SparkSession

    from altcraft_async.integrations.spark import AltcraftDataSource, run_with_spark

    spark = SparkSession.builder.getOrCreate()
    found = run_with_spark(spark, "s3://bucket/run-1", concurrency=8)  # over a directory of shards

    spark.dataSource.register(AltcraftDataSource)  # or straight from a data frame
    changes = spark.read.parquet("s3://bucket/changes.parquet")
    ordered = changes.repartition(32, "order_external_id").sortWithinPartitions("changed_at")
    ordered.write.format("altcraft").mode("append").options(runId="2026-11-26", sequence="changed_at").save()

The executors need this package, and address and token in their own environment, or a token file. Needs ``pyspark``.

**The data source.** Spark runs tasks again, and the rows may then have another order; so ids come from the content of
a row. ``runId`` names the job, and ``sequence`` is a column that grows within each order: the id of a change follows
from both and from its ids. A task that is run again, or the whole job under the same ``runId``, sends the same changes
under the same ids, which the platform recognises. All rows of an order must be in one partition, sorted by the
sequence; an unsorted partition is refused at the first such row. A ``TIMESTAMP`` counts as the instant that it is, so
that no time zone, of the session or of an executor, makes other ids of it. There is no journal, so after a death the
whole partition goes out again: for large jobs write shards, and deliver those.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import NAMESPACE_URL, uuid4, uuid5

import attrs

from altcraft_async.client import AltcraftClient
from altcraft_async.engine.rows import read_row
from altcraft_async.errors import (
    AltcraftError,
    BatchError,
    ConfigurationError,
    InvalidUpdateError,
    MissingExtraError,
    SourceError,
)
from altcraft_async.ingest import FIELDS
from altcraft_async.kinds import WHOLE
from altcraft_async.protocol.values import LineStatusUpdate
from altcraft_async.shards import report
from altcraft_async.shards.deliver import limits_of
from altcraft_async.shards.window import Queue, failed, hand_out, numbers_of, raise_first, try_shard
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from pyarrow import RecordBatch
    from pyspark.sql import SparkSession

    from altcraft_async import Adaptive, Shared
    from altcraft_async.shards import ShardsReport
    from altcraft_async.shards.report import Known
    from altcraft_async.shards.window import Answer

try:
    from pyspark import inheritable_thread_target
    from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage
    from pyspark.sql.types import (
        ArrayType,
        CharType,
        IntegralType,
        MapType,
        StringType,
        StructType,
        VarcharType,
    )
except ImportError:
    _message = "the Spark integration needs pyspark 4, which is not installed: pip install 'pyspark>=4'"
    raise MissingExtraError(_message) from None

__all__ = ["AltcraftDataSource", "run_with_spark"]

_log = logging.getLogger("altcraft_async")
_SHOWN: Final = 5
_OPTIONS: Final = ("runId", "sequence", "concurrency", "rate")


def run_with_spark(  # noqa: PLR0913 - what can be said of a run, by keyword
    spark: SparkSession,
    directory: str | os.PathLike[str],
    *,
    window: int = 128,
    shards: Sequence[int] | None = None,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
) -> ShardsReport:
    """Deliver the shards of a directory as tasks of Spark, and return the report of all.

    Each shard is a job of one task. At most `window` jobs are with Spark at once, which delivers as many of them as it
    has cores; a cluster with more cores needs a larger window. `concurrency` and `rate` are for each shard;
    ``Shared(64, among="shards")`` is a total, which the shards under way share through the directory. If an executor
    dies, Spark runs its task again, up to ``spark.task.maxFailures``. A shard that somebody else delivers, on this
    cluster or elsewhere, takes no core: it is left until no other is free, and waited for then. An error of one shard
    does not end the others; the first such error is raised when all have ended. An interruption ends the jobs.
    """
    WHOLE.check("window", window)
    numbers = numbers_of(directory, shards, retry_failed=retry_failed)
    options = {**limits_of(concurrency, rate), "retry_failed": retry_failed}
    with _Jobs(spark, Place(directory).to_open, options, window) as jobs:
        problems = hand_out(Queue(directory, numbers), jobs, window)
    raise_first(problems)
    return report(directory)


class _Jobs:
    """The jobs of one call, each of one task, for one shard; a job that is under way has a thread here."""

    def __init__(self, spark: SparkSession, directory: str, options: dict[str, Any], window: int) -> None:
        self._spark = spark
        self._directory = directory
        self._options = options
        self._tag = f"altcraft-{uuid4().hex}"
        # With the caller's pool, group and description of jobs, which belong to a thread.
        self._run: Callable[[int, Known], Answer] = inheritable_thread_target(spark)(self._deliver)
        self._threads = ThreadPoolExecutor(window, thread_name_prefix="altcraft-shard")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._spark.interruptTag(self._tag)
        self._threads.shutdown(cancel_futures=True)

    def begin(self, number: int, known: Known) -> Future[Answer]:
        return self._threads.submit(self._run, number, known)

    def wait(self, tasks: Sequence[Future[Answer]], seconds: float) -> Iterable[Future[Answer]]:
        return wait(tasks, seconds, FIRST_COMPLETED).done

    def answer(self, number: int, task: Future[Answer]) -> Answer:
        del number
        return task.result()

    def _deliver(self, number: int, known: Known) -> Answer:
        """Run a job, and return what its task says, or what Spark says in its place."""
        self._spark.addTag(self._tag)
        task = partial(_in_executor, self._directory, number, known, self._options)
        try:
            # An action that is run once: two on one data frame would deliver twice.
            (row,) = self._spark.range(0, 1, 1, numPartitions=1).mapInArrow(task, "answer binary").collect()
        except Exception as error:  # noqa: BLE001 - whatever an engine says, the other shards go on
            return failed(self._directory, number, error)
        answer: Answer = pickle.loads(row["answer"])  # noqa: S301 - of this call's own task
        return answer


def _in_executor(
    directory: str, number: int, known: Known, options: dict[str, Any], batches: Iterator[RecordBatch]
) -> Iterator[RecordBatch]:
    """Deliver the shard for which there is one row."""
    import pyarrow as pa  # noqa: PLC0415 - in the executor

    for _ in chain.from_iterable(batch.to_pylist() for batch in batches):
        answer = pickle.dumps(try_shard(directory, number, known, options))
        yield pa.RecordBatch.from_arrays([pa.array([answer], pa.binary())], ["answer"])


@attrs.define
class _Written(WriterCommitMessage):  # type: ignore[misc]  # pyspark is not there for mypy
    """What one partition has sent."""

    counts: dict[str, int]
    failures: list[str]


class AltcraftDataSource(DataSource):  # type: ignore[misc]  # pyspark is not there for mypy
    """``df.write.format("altcraft")``: the rows of a data frame as status updates; see the module.

    Options: ``runId`` and ``sequence``, which are required; ``concurrency`` and ``rate`` for each partition; others are
    refused. The columns are those of an update. `commit`, at the end of all partitions, raises `BatchError`
    if rows were not applied. Sent updates are never taken back; a job that Spark aborts says so in a warning.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return "altcraft"

    def writer(self, schema: StructType, overwrite: bool) -> AltcraftWriter:
        """Return what writes the partitions; raises `ConfigurationError` for options that cannot work."""
        if overwrite:
            msg = 'status updates overwrite nothing; write with mode("append")'
            raise ConfigurationError(msg, field="mode")
        known = {name.lower() for name in _OPTIONS}
        unknown = sorted(name for name in self.options if name.lower() not in known | {"path"})  # which Spark may add
        if unknown:
            msg = f"there is no option {unknown[0]!r}; the options are {', '.join(_OPTIONS)}"
            raise ConfigurationError(msg, field=unknown[0])
        missing = [name for name in ("runId", "sequence") if not self.options.get(name)]
        if missing:
            msg = f"the option {missing[0]} is not set; ids follow from the job's runId and a sequence column"
            raise ConfigurationError(msg, field=missing[0])
        sequence = self.options["sequence"]
        lacking = [column for column in (*FIELDS, sequence) if column not in schema.names]
        if lacking:
            msg = f"the data frame has no column {lacking[0]}; select or rename it"
            raise ConfigurationError(msg, field=lacking[0])
        if isinstance(schema[sequence].dataType, ArrayType | MapType | StructType):
            msg = (
                f"{sequence} is a {schema[sequence].dataType.simpleString()}; give a column of numbers, times or texts"
            )
            raise ConfigurationError(msg, field="sequence")
        for column in FIELDS:
            kind = schema[column].dataType
            if not isinstance(kind, StringType | CharType | VarcharType | IntegralType):
                msg = (
                    f"{column} is of type {kind.simpleString()}, and ids are texts or whole numbers; cast it to string"
                )
                raise ConfigurationError(msg, field=column)
        columns = [schema.names.index(column) for column in (*FIELDS, sequence)]
        return AltcraftWriter(self.options["runId"], sequence, columns, _limits(self.options))


def _limits(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"concurrency": None, "rate": None}
    for name, kind in (("concurrency", int), ("rate", float)):
        if options.get(name) is not None:
            try:
                found[name] = kind(options[name])
            except ValueError:
                msg = f"the option {name} must be a number, not {options[name]!r}"
                raise ConfigurationError(msg, field=name) from None
    return limits_of(**found)


class AltcraftWriter(DataSourceArrowWriter):  # type: ignore[misc]  # pyspark is not there for mypy
    """Writes partitions, each in a task of its own, and says at the end what was sent."""

    def __init__(self, run_id: str, sequence: str, columns: Sequence[int], limits: dict[str, Any]) -> None:
        self._run_id = run_id
        self._sequence = sequence
        self._columns = columns
        self._limits = limits

    def write(self, iterator: Iterator[RecordBatch]) -> WriterCommitMessage:
        """Send the rows of a partition, in an executor."""
        try:
            return asyncio.run(self._send(iterator))
        except SourceError as error:
            if isinstance(error.__cause__, AltcraftError):  # Spark shows the last error alone
                raise error.__cause__ from None
            raise

    async def _send(self, batches: Iterator[RecordBatch]) -> _Written:
        counts: dict[str, int] = {}
        failures: list[str] = []
        async with AltcraftClient.from_env(**self._limits) as client:
            orders = client.market.orders
            async for outcome in orders.stream_order_line_statuses(self._updates(batches)):
                counts[str(outcome.state)] = counts.get(str(outcome.state), 0) + 1
                if not outcome.ok and len(failures) < _SHOWN:
                    failures.append(f"{outcome.state}: {outcome.error}")
        return _Written(counts, failures)

    def _updates(self, batches: Iterator[RecordBatch]) -> Iterator[LineStatusUpdate | InvalidUpdateError]:
        last: dict[str, Any] = {}
        for *ids, place in chain.from_iterable(map(self._rows, batches)):
            update = read_row(tuple(ids))
            if not isinstance(update, LineStatusUpdate):
                yield update
                continue
            order = update.order_external_id
            if place is None or (order in last and not last[order] < place):
                msg = (
                    f"order {order!r} has {place!r} in {self._sequence} behind {last.get(order)!r}; give each row of "
                    f"an order another value, and sort by it: sortWithinPartitions({self._sequence!r})"
                )
                raise ConfigurationError(msg, field="sequence")
            last[order] = place
            said = json.dumps([self._run_id, str(place), *(getattr(update, field) for field in FIELDS)])
            yield attrs.evolve(update, request_id=str(uuid5(NAMESPACE_URL, said)))

    def _rows(self, batch: RecordBatch) -> Iterator[tuple[Any, ...]]:
        """Yield the ids of each row, and its place in the sequence."""
        import pyarrow as pa  # noqa: PLC0415 - in the executor

        *ids, places = (batch.column(number) for number in self._columns)
        if pa.types.is_timestamp(places.type) and places.type.tz is not None:
            # It has the session's zone; in a row of Spark the process's, in which an hour of autumn is there twice.
            places = places.cast(pa.timestamp("us", "UTC"))
        return zip(*(column.to_pylist() for column in (*ids, places)), strict=True)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """Raise `BatchError` if rows were not applied; sent updates are not taken back."""
        counts, failures = _summed(messages)
        failed = sum(count for state, count in counts.items() if state not in {"applied", "duplicate", "superseded"})
        if failed:
            said = ", ".join(f"{count} {state}" for state, count in counts.items())
            msg = (
                f"{failed} of {sum(counts.values())} updates were not applied ({said}); the others were sent, and stay "
                f"so; the first: {'; '.join(failures[:_SHOWN])}"
            )
            raise BatchError(msg)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """Log what the ended partitions sent; nothing can be taken back."""
        counts, _ = _summed(messages)
        said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing"
        lost = sum(message is None for message in messages)
        _log.warning(
            "the job %s was aborted: the partitions that ended have sent %s, and %d others an unknown part of theirs; "
            "nothing is taken back, and the job under the same runId sends the same changes under the same ids",
            self._run_id,
            said,
            lost,
        )


def _summed(messages: Sequence[WriterCommitMessage | None]) -> tuple[dict[str, int], list[str]]:
    counts: dict[str, int] = {}
    failures: list[str] = []
    for message in messages:
        if isinstance(message, _Written):
            failures += message.failures
            for state, count in message.counts.items():
                counts[state] = counts.get(state, 0) + count
    return counts, failures
