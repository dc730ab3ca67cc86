"""The programs of the documents for Celery, Django, Airflow, pandas and polars, run against the sandbox."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
import types
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from altcraft_async import BatchError
from altcraft_async.sandbox import Fault, Faults, ThreadedSandbox
from altcraft_async.shards import deliver_shard, read_plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[2] / "docs" / "examples" / "programs"
ROWS = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(1, 31)]
NAMES = ("order_external_id", "order_line_external_id", "status_external_id")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox() as sandbox:
        sandbox.seed_orders(30)
        monkeypatch.setenv("ALTCRAFT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("ALTCRAFT_TOKEN", sandbox.token)
        yield sandbox


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_a_program_has_at_most_twenty_lines(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 20
    compile(path.read_text(), str(path), "exec")


# -- Celery


def test_a_celery_task_sends_once_under_its_own_id_over_its_retries(server):
    pytest.importorskip("celery")
    server.faults = Faults(lines={("order_1", "line_1_1"): [Fault("delay", delay=1.0)]})
    task = program("celery_task")
    task.app.conf.task_always_eager = True
    task.altcraft = task.altcraft.with_options(timeout=0.3, max_retries=0)
    try:
        result = task.send_status.apply(args=ROWS[0], task_id="task-1")
        assert result.get() == "delivered"
    finally:
        task.AltcraftClient.close(task.altcraft)
    arrivals = server.ledger.arrivals("order_1", "line_1_1")
    assert [arrival.request_id for arrival in arrivals] == ["task-1"] * len(arrivals)
    assert server.check(ROWS[:1]).ok


# -- Django


def test_a_django_command_reads_a_queryset_and_notes_what_was_sent(server, monkeypatch):
    django = pytest.importorskip("django")
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            USE_TZ=True,
        )
        django.setup()
    from django.db import connection, models  # noqa: PLC0415

    class LineStatus(models.Model):
        order_external_id = models.TextField()
        order_line_external_id = models.TextField()
        status_external_id = models.TextField()
        sent = models.BooleanField(default=False)

        class Meta:
            app_label = "shop"

        def __str__(self) -> str:
            return str(self.pk)

    shop = types.ModuleType("shop")
    shop.models = types.ModuleType("shop.models")  # type: ignore[attr-defined]
    shop.models.LineStatus = LineStatus  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", shop)
    monkeypatch.setitem(sys.modules, "shop.models", shop.models)
    with connection.schema_editor() as editor:
        editor.create_model(LineStatus)
    for row in [*ROWS, ("nope", "nope", "new")]:
        LineStatus.objects.create(**dict(zip(NAMES, row, strict=True)))
    said = StringIO()
    call_command(program("django_command").Command(), stderr=said, no_color=True)
    assert LineStatus.objects.filter(sent=True).count() == 30
    assert said.getvalue().startswith("row 31: rejected: ")
    assert server.check(ROWS).ok
    connection.close()


# -- Airflow


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow, or, where it is not installed, what stands in for it: decorators that leave the function."""
    if importlib.util.find_spec("airflow") is not None:
        return

    def task(**_: object) -> object:
        def decorated(function: object) -> object:
            def call(*_: object) -> None:
                """Stand for the task in the DAG, which runs nothing."""

            call.function = function  # type: ignore[attr-defined]
            return call

        return decorated

    class DAG:
        def __init__(self, name: str, **_: object) -> None:
            self.name = name

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    sdk = types.ModuleType("airflow.sdk")
    sdk.DAG, sdk.task = DAG, task  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow", types.ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)


@pytest.mark.usefixtures("airflow")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_airflow_task_goes_on_where_it_stopped_when_it_is_tried_again(server, tmp_path):
    path = tmp_path / "shop.db"
    rows = [*ROWS, ("order_31", "line_31_1", "delivered")]
    with closing(sqlite3.connect(path)) as shop, shop:
        shop.execute("CREATE TABLE changes (id INTEGER PRIMARY KEY, day, order_id, line_id, status)")
        shop.executemany(
            "INSERT INTO changes (day, order_id, line_id, status) VALUES ('2026-11-25', ?, ?, ?)",
            rows,
        )
    send = program("airflow_dag").send_statuses.function
    with pytest.raises(BatchError):
        send(str(path), ds="2026-11-25")
    server.add_order("order_31", ["line_31_1"])
    send(str(path), ds="2026-11-25")
    assert server.ledger.requests == 32
    assert server.check(rows).ok


# -- frames


def test_a_pandas_frame_goes_out_and_comes_back_as_outcomes(server):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    outcomes = program("pandas_frame").send(pandas.DataFrame([*ROWS, ("nope", "nope", "new")], columns=NAMES))
    assert dict(outcomes["sent_state"].value_counts()) == {"applied": 30, "rejected": 1}
    assert list(outcomes["order_external_id"][:2]) == ["order_1", "order_2"]
    assert list(outcomes[~outcomes["sent_ok"]]["order_external_id"]) == ["nope"]
    assert server.check(ROWS).ok


def test_a_polars_frame_goes_out_and_comes_back_as_outcomes(server):
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    frame = polars.DataFrame(ROWS, schema=["order", "line", "state"], orient="row")
    names = dict(zip(NAMES, frame.columns, strict=True))
    outcomes = program("polars_frame").send(frame, **names)
    assert outcomes["sent_state"].to_list() == ["applied"] * 30
    assert outcomes["sent_ok"].all()
    assert outcomes["state"].to_list() == frame["state"].to_list()
    assert server.check(ROWS).ok


def test_a_polars_frame_becomes_shards_with_each_order_in_one_of_them(server, tmp_path):
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    steps = [(*row[:2], status) for status in ("processing", "delivered") for row in ROWS]
    changes = polars.DataFrame(
        [(*row, number) for number, row in enumerate(steps)], schema=[*NAMES, "changed_at"], orient="row"
    )
    program("polars_shards").write_shards(changes.sort("changed_at", descending=True), tmp_path / "run-1")
    plan = read_plan(tmp_path / "run-1")
    for number in range(len(plan.shards)):
        assert deliver_shard(tmp_path / "run-1", number).complete
    assert len(plan.shards) > 1
    assert server.check(steps).ok
