"""What a Prometheus server would scrape: exactly what the documents promise."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from altcraft_async import BadRequestError
from altcraft_async.integrations.prometheus import PrometheusObserver
from altcraft_async.observe import AttemptStarted, OutboxChanged
from altcraft_async.outbox import Outbox
from altcraft_async.sandbox import Fault, Faults

LINE = ("order_1", "line_1_1", "delivered")
METHOD = "market/orders/update_order_line_status"
DOCUMENT = (Path(__file__).parents[2] / "docs/howto/observe.md").read_text(encoding="utf-8")


@pytest.fixture
def registry():
    return CollectorRegistry()


def samples(registry):
    """Every sample by name and labels, without what depends on time."""
    found = {}
    for metric in registry.collect():
        for name, labels, value, *_ in metric.samples:
            if not name.endswith(("_created", "_bucket", "_sum")):
                found[name, frozenset(labels.items())] = value
    return found


def labels(**values):
    return frozenset(values.items())


IDLE = {
    ("altcraft_requests_in_flight", labels()): 0,
    ("altcraft_outbox_pending", labels()): 0,
    ("altcraft_outbox_dead", labels()): 0,
}


async def test_the_metrics_of_a_retried_call_are_exactly_these(sandbox, connect, registry):
    sandbox.faults = Faults(
        script=[Fault("error", status=503), *[Fault("reset_before")] * 2]
    )  # the first one is replaced
    client = connect(sandbox, observers=[PrometheusObserver(registry)], concurrency=5)
    await client.market.orders.update_order_line_status(*LINE)
    requests = "altcraft_request_duration_seconds_count"
    assert samples(registry) == IDLE | {
        (requests, labels(method=METHOD, status="503", error="ServerError")): 1,
        (requests, labels(method=METHOD, status="", error="ConnectionLostError")): 1,
        (requests, labels(method=METHOD, status="200", error="")): 1,
        ("altcraft_call_duration_seconds_count", labels(method=METHOD, state="applied")): 1,
        ("altcraft_retries_total", labels(method=METHOD)): 2,
        ("altcraft_rejected_sends_total", labels(method=METHOD)): 1,
        ("altcraft_limit", labels()): 5,
    }


async def test_a_call_that_fails_is_counted_by_its_state(sandbox, connect, registry):
    client = connect(sandbox, observers=[PrometheusObserver(registry)])
    with pytest.raises(BadRequestError):
        await client.market.orders.update_order_line_status("order_99", "line_9", "new")
    assert samples(registry)["altcraft_call_duration_seconds_count", labels(method=METHOD, state="rejected")] == 1


async def test_the_updates_of_a_run_are_counted_by_their_outcomes(sandbox, connect, registry):
    client = connect(sandbox, observers=[PrometheusObserver(registry)])
    rows = [LINE, ("order_2", "line_2_1", "new"), ("order_99", "line_9", "new"), ("order_3", "", "new")]
    await client.market.orders.update_order_line_statuses(rows)
    found = samples(registry)
    updates = {dict(key[1])["state"]: value for key, value in found.items() if key[0] == "altcraft_updates_total"}
    calls = {dict(key[1])["state"]: value for key, value in found.items() if key[0].startswith("altcraft_call")}
    assert updates == {"applied": 2, "rejected": 1, "invalid": 1}
    assert calls == {"applied": 2, "rejected": 1}


async def test_a_cancelled_call_is_in_flight_no_more(sandbox, connect, registry, watcher, until):
    sandbox.faults = Faults(latency=5.0)
    client = connect(sandbox, observers=[PrometheusObserver(registry), watcher])
    task = asyncio.ensure_future(client.market.orders.update_order_line_status(*LINE))
    await until(lambda: watcher.of(AttemptStarted))
    assert samples(registry)["altcraft_requests_in_flight", labels()] == 1
    task.cancel()
    await asyncio.wait([task])
    assert samples(registry)["altcraft_requests_in_flight", labels()] == 0
    assert samples(registry)["altcraft_call_duration_seconds_count", labels(method=METHOD, state="unknown")] == 1


def test_the_backlog_of_the_outbox_is_measured(registry):
    observer = PrometheusObserver(registry)
    observer.on_event(OutboxChanged(5, 1))
    observer.on_event(OutboxChanged(3, 2))
    assert samples(registry)["altcraft_outbox_pending", labels()] == 3
    assert samples(registry)["altcraft_outbox_dead", labels()] == 2


def test_two_clients_can_report_under_names_of_their_own(registry):
    PrometheusObserver(registry)
    PrometheusObserver(registry, namespace="other")
    assert {"altcraft_limit", "other_limit"} <= {name for name, _ in samples(registry)}


def test_the_default_registry_is_the_librarys_own():
    observer = PrometheusObserver(namespace="of_this_test")
    try:
        assert REGISTRY.get_sample_value("of_this_test_limit") == 0
    finally:
        for name in PrometheusObserver.__slots__:
            REGISTRY.unregister(getattr(observer, name))


async def test_the_documents_name_every_metric_with_its_labels(sandbox, connect, registry):
    sandbox.faults = Faults(script=[Fault("error", status=503)])
    client = connect(sandbox, observers=[PrometheusObserver(registry)])
    await client.market.orders.update_order_line_statuses([LINE])
    section = DOCUMENT.split("\n### Metrics of Prometheus\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", section, flags=re.MULTILINE)
    promised = {(name, kind, frozenset(re.findall(r"`(\w+)`", said))) for name, kind, said in rows}
    exposed = set()
    for metric in registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        exposed.add((name, metric.type, frozenset(metric.samples[0].labels) - {"le"}))
    assert promised == exposed
    assert generate_latest(registry)


def test_a_missing_library_is_named_with_its_extra():
    code = "import sys; sys.modules['prometheus_client'] = None; import altcraft_async.integrations.prometheus"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: prometheus-client is not installed" in run.stderr
    assert "pip install 'altcraft-async[prometheus]'" in run.stderr


WORKER = """
import asyncio, sys
from altcraft_async import AltcraftClient
from altcraft_async.integrations.prometheus import PrometheusObserver
from altcraft_async.outbox import Outbox

async def work(path):
    # nobody is there, so that what waits goes on waiting
    client = AltcraftClient("http://127.0.0.1:9", "0123456789", concurrency=5, observers=[PrometheusObserver()])
    async with client, Outbox(path, client, drain_timeout=0.01):
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(work(sys.argv[1]))
"""


@pytest.fixture
async def workers(tmp_path):
    """Start real worker processes of one service, all with the same outbox open; give what would be scraped of them."""
    folder, started = tmp_path / "metrics", []
    folder.mkdir()

    async def scrape(count, path):
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "ALTCRAFT_LIMIT_GROUP": "off"}
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WORKER, str(path), env=environ,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            started.append(process)
            assert (await process.stdout.readline()).strip() == b"open"
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(folder))
        return samples(registry)

    yield scrape
    for process in started:
        process.stdin.close()
    for process in started:
        await process.wait()


@pytest.mark.processes
@pytest.mark.slow
async def test_the_outbox_of_many_workers_counts_once_and_is_right_before_anything_changes(workers, tmp_path):
    path = tmp_path / "outbox.db"
    async with Outbox(path) as outbox:
        for number in range(40):
            await outbox.put((f"order_{number}", "line", "new"))
    found = await workers(3, path)
    assert found["altcraft_outbox_pending", labels()] == 40
    assert found["altcraft_outbox_dead", labels()] == 0
    assert found["altcraft_limit", labels()] == 15  # each has its own: these are added up
