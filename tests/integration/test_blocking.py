"""The blocking client: threads, rows read where they belong, interruptions, forks and ends of processes."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import altcraft_async
from altcraft_async import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    EventLoopError,
    LineStatusUpdate,
    OutcomeState,
    RetryPolicy,
    SourceError,
)
from altcraft_async.blocking import AltcraftClient
from altcraft_async.market import IncompleteListWarning
from altcraft_async.observe import CallStarted
from altcraft_async.sandbox import Fault, Faults, Readings, ThreadedSandbox
from altcraft_async.values import CustomField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(altcraft_async.__file__).parents[1]

QUICK = RetryPolicy(attempts=3, base=0.001, max_delay=0.01)


@pytest.fixture
def server() -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox() as sandbox:
        sandbox.seed_orders(50)
        yield sandbox


@pytest.fixture
def altcraft(server: ThreadedSandbox) -> Iterator[AltcraftClient]:
    with connected(server) as client:
        yield client


def connected(server: ThreadedSandbox, **options: Any) -> AltcraftClient:
    return AltcraftClient(server.base_url, server.token, **{"retry": QUICK, "concurrency": 8, **options})


def rows(count: int = 50, status: str = "delivered") -> list[tuple[str, str, str]]:
    return [(f"order_{n}", f"line_{n}_1", status) for n in range(1, count + 1)]


# -- calls


def test_a_single_call_returns_what_the_asynchronous_one_does(altcraft, server):
    updated = altcraft.market.orders.update_order_line_status("order_1", "line_1_1", "delivered")
    assert updated.status_external_id == "delivered"
    assert server.line_status("order_1", "line_1_1") == "delivered"
    assert altcraft.market.orders.get_status(external_id="order_2").status == "new"


def test_a_refusal_is_the_same_error(altcraft):
    with pytest.raises(BadRequestError) as caught:
        altcraft.market.orders.update_order_line_status("nope", "nope", "delivered")
    assert caught.value.request_id


def test_any_method_is_called_by_its_path(altcraft):
    assert altcraft.call("market/orders/get_status", {"external_id": "order_1"})["error"] == 0


def test_a_raw_response_stands_beside_the_value(altcraft):
    raw = altcraft.with_raw_response(altcraft.market.orders.get_status, external_id="order_1")
    assert (raw.value.status, raw.status, raw.attempts) == ("new", 200, 1)
    with pytest.raises(ConfigurationError):
        altcraft.with_raw_response(altcraft.market.orders.update_order_line_statuses, rows(2))


def test_a_copy_shares_the_thread_and_closing_it_closes_nothing(altcraft):
    copy = altcraft.with_options(timeout=3)
    assert copy.settings.timeout.total == 3
    before = threading.active_count()
    altcraft.market.orders.get_status(external_id="order_1")
    copy.market.orders.get_status(external_id="order_1")
    assert threading.active_count() == before + 1
    copy.close()
    assert not altcraft.closed
    assert altcraft.statistics().sent == 2


def test_clients_are_made_of_the_environment_and_of_a_file(server, tmp_path):
    with AltcraftClient.from_env({"ALTCRAFT_BASE_URL": server.base_url, "ALTCRAFT_TOKEN": server.token}) as client:
        assert client.base_url == server.base_url
    path = tmp_path / "altcraft.toml"
    path.write_text(f'[altcraft]\nbase_url = "{server.base_url}"\ntoken = "{server.token}"\n')
    with AltcraftClient.from_settings(path, environ={}, rate=5.0) as client:
        assert client.settings.rate == 5.0
        assert server.token not in repr(client)


def test_lists_are_read_row_by_row_and_page_by_page(altcraft):
    assert len({order.external_id for order in altcraft.market.orders.list(limit=20)}) == 50
    pages = list(altcraft.market.orders.list(limit=20).pages())
    assert [len(page.items) for page in pages] == [20, 20, 10]
    assert len(list(altcraft.market.orders.list(limit=20).pages(pages[0].next_from_id))) == 2


def test_the_warning_of_a_list_that_is_cut_names_the_callers_line():
    with ThreadedSandbox(readings=Readings(cursor=False)) as sandbox:
        sandbox.seed_orders(3)
        with AltcraftClient(sandbox.base_url, sandbox.token) as altcraft:
            listing = altcraft.market.orders.list(limit=3)
            for read in (listing, listing.pages()):
                with pytest.warns(IncompleteListWarning) as caught:
                    list(read)
                assert [warning.filename for warning in caught] == [__file__]


def test_a_list_that_is_left_early_leaves_nothing_behind(altcraft):
    for _ in altcraft.market.orders.list(limit=20):
        break
    assert altcraft.market.orders.get_status(external_id="order_1").status == "new"


def test_a_reconciliation_and_deletions_take_iterables_of_this_thread(altcraft, server):
    altcraft.market.orders.update_order_line_statuses(rows(3))
    found = altcraft.market.orders.reconcile((row for row in rows(3)), by="list")
    assert (found.orders, found.differences) == (3, ())
    server.import_rows("products", [{"external_id": "p", "name": "P"}])
    assert altcraft.market.products.delete(external_ids=only_here(["p"])) == 1
    with pytest.raises(TypeError, match="external_ids must be an iterable of ids"):
        altcraft.market.products.delete(external_ids="p")


def order(number: int) -> dict[str, object]:
    line = {"external_id": f"l{number}", "product": "p", "status": "new", "count": 1}
    return {
        "external_id": f"o{number}",
        "endpoint": "shop",
        "status": "new",
        "total_price": "1",
        "currency": "RUB",
        "lines": [line],
        "matching": "email",
        "email": "a@b.example",
    }


def test_imports_are_gathered_streamed_and_previewed(altcraft, server):
    orders = [order(number) for number in range(30)]
    field = CustomField(
        external_id="f", name="F", entity_type="order", required=False, value_type="unicode", default_value="x"
    )
    report = altcraft.market.orders.import_orders(
        only_here(orders), skip_triggers=True, batch_size=7, custom_fields=only_here([field])
    )
    assert report.ok, report.failures
    assert [outcome.row for outcome in report] == orders
    assert server.check_imports("orders", orders).ok
    outcomes = list(altcraft.market.orders.stream_import_orders(orders, skip_triggers=True, batch_size=7))
    assert sorted(outcome.index for outcome in outcomes) == list(range(30))
    assert len(list(altcraft.market.orders.preview_import_orders(orders, batch_size=7))) == 5


# -- bulk calls: rows


def only_here(values: list[Any]) -> Iterator[Any]:
    """Give values to the thread that asked for this, and to no other."""
    ident = threading.get_ident()
    for value in values:
        assert threading.get_ident() == ident, "read in a foreign thread"
        yield value


class Model:
    """An object that looks a field up when it is asked for, as a queryset's do, in its own thread alone."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.thread = threading.get_ident()

    @property
    def order_external_id(self) -> str:
        assert threading.get_ident() == self.thread, "looked up in a foreign thread"
        return f"order_{self.number}"

    @property
    def order_line_external_id(self) -> str:
        return f"line_{self.number}_1"

    @property
    def status_external_id(self) -> str:
        return "delivered"


def test_rows_are_read_in_the_callers_thread(altcraft, server):
    report = altcraft.market.orders.update_order_line_statuses(only_here([Model(n) for n in range(1, 51)]))
    assert report.ok, report
    assert {outcome.row.number for outcome in report} == set(range(1, 51))
    assert server.check(rows()).ok


def test_a_cursor_of_sqlite_can_be_given_as_it_is(altcraft, tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE line (o, l, s)")
        connection.executemany("INSERT INTO line VALUES (?, ?, ?)", rows())
        cursor = connection.execute("SELECT o, l, s FROM line")
        outcomes = list(altcraft.market.orders.stream_order_line_statuses(cursor))
    connection.close()
    assert Counter(outcome.state for outcome in outcomes) == {OutcomeState.APPLIED: 50}


def test_a_source_that_raises_is_a_source_error_with_what_was_done(altcraft):
    def source() -> Iterator[tuple[str, str, str]]:
        yield from rows(20)
        raise ConnectionError

    with pytest.raises(SourceError) as caught:
        altcraft.market.orders.update_order_line_statuses(source())
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert caught.value.taken == 20
    assert caught.value.report.counts[OutcomeState.APPLIED] == len(caught.value.report) == 20
    stream = altcraft.market.orders.stream_order_line_statuses(source())
    assert all(next(stream).ok for _ in range(20))
    with pytest.raises(SourceError):
        next(stream)


@pytest.mark.parametrize("source", [("order_1", "line_1_1", "new"), "text", 5])
def test_one_row_instead_of_many_is_refused_at_once(altcraft, source):
    with pytest.raises(TypeError, match="iterable of rows"):
        altcraft.market.orders.stream_order_line_statuses(source)


def test_an_asynchronous_iterable_is_refused_with_the_place_for_it(altcraft):
    async def source() -> Any:
        yield rows()[0]

    with pytest.raises(TypeError, match=r"altcraft_async\.AltcraftClient"):
        altcraft.market.orders.update_order_line_statuses(source())


def test_what_is_both_kinds_of_iterable_is_read_here_as_a_queryset_must_be(altcraft):
    class Both(list[tuple[str, str, str]]):
        async def __aiter__(self) -> Any:
            raise AssertionError
            yield

    assert len(altcraft.market.orders.update_order_line_statuses(Both(rows(3)))) == 3


def test_rows_that_cannot_be_are_invalid_and_keep_their_place(altcraft):
    given = [*rows(2), ("", "l", "new"), *rows(1, "new")]
    report = altcraft.market.orders.update_order_line_statuses(given)
    assert [outcome.state for outcome in report] == [OutcomeState.APPLIED] * 2 + [
        OutcomeState.INVALID,
        OutcomeState.APPLIED,
    ]
    assert [outcome.row for outcome in report] == given


def test_a_slow_source_does_not_hold_back_what_is_there(altcraft, server):
    waited = []

    def source() -> Iterator[tuple[str, str, str]]:
        yield rows()[0]
        started = time.monotonic()
        while server.line_status("order_1", "line_1_1") != "delivered":
            assert time.monotonic() < started + 20, "the first row was held back"
        waited.append(time.monotonic() - started)
        yield rows()[1]

    assert altcraft.market.orders.update_order_line_statuses(source()).ok
    assert waited


def test_little_is_read_ahead_of_what_is_sent(server):
    server.faults = Faults(lines={("order_1", "line_1_1"): Fault("delay", delay=1.0)})
    read = []

    def source() -> Iterator[tuple[str, str, str]]:
        yield rows(2)[1]
        for number in range(100_000):
            read.append(number)
            yield rows(1)[0]

    with connected(server) as client:
        stream = client.market.orders.stream_order_line_statuses(source(), window=50)
        assert next(stream).row == rows(2)[1]
        assert len(read) <= 2 * 50 + 1
        stream.close()


def test_a_deadline_gives_the_rest_of_a_plain_iterable_its_outcomes(server):
    server.faults = Faults(latency=0.05)
    with connected(server, concurrency=1) as client:
        report = client.market.orders.update_order_line_statuses(rows() * 40, deadline=0.2)
    assert len(report) == 2000
    assert report.counts[OutcomeState.NOT_SENT] > 1900


def test_a_slow_consumer_slows_the_sending(altcraft, server):
    server.seed_orders(2000)
    stream = altcraft.market.orders.stream_order_line_statuses(rows(2000), window=20)
    next(stream)
    time.sleep(0.3)
    assert server.ledger.requests < 20 + 256 + 20 + 2
    assert len(list(stream)) == 1999


def test_outcomes_stand_in_the_order_of_a_line(altcraft, server):
    life = [row for status in ("processing", "delivering", "delivered") for row in rows(20, status)]
    outcomes = list(altcraft.market.orders.stream_order_line_statuses(life))
    assert all(outcome.ok for outcome in outcomes)
    assert server.check(life).ok


def test_a_journal_is_kept_and_continued(altcraft, server, tmp_path):
    path = tmp_path / "run.journal"
    assert altcraft.market.orders.update_order_line_statuses(rows(), journal=path).ok
    requests = server.ledger.requests
    assert len(altcraft.market.orders.update_order_line_statuses(rows(), journal=path)) == 50
    assert server.ledger.requests == requests


# -- streams that end early


def test_closing_a_stream_stops_the_run(server):
    server.faults = Faults(latency=0.01)
    read = []

    def source() -> Iterator[tuple[str, str, str]]:
        for row in rows() * 1000:
            read.append(row)
            yield row

    with connected(server) as client:
        stream = client.market.orders.stream_order_line_statuses(source())
        next(stream)
        stream.close()
        assert client.statistics().in_flight == 0
        count = server.ledger.requests
        time.sleep(0.1)
        assert server.ledger.requests == count
        assert len(read) < 3000


def test_a_stream_that_nobody_begins_costs_nothing(altcraft, server):
    altcraft.market.orders.stream_order_line_statuses(rows())
    assert server.ledger.requests == 0


# -- threads and loops


def test_many_threads_share_a_client(altcraft, server):
    def work(number: int) -> bool:
        own = [(f"order_{n}", f"line_{n}_1", "delivered") for n in range(number * 5 + 1, number * 5 + 6)]
        altcraft.market.orders.get_status(external_id=f"order_{number + 1}")
        ended = altcraft.market.orders.update_order_line_statuses(only_here_of(lambda: iter(own))).ok
        return ended and len(list(altcraft.market.orders.stream_order_line_statuses(own))) == 5

    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(work, range(10)))
    assert server.check(rows() * 2).ok


def only_here_of(make: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    yield from only_here(list(make()))


async def test_a_call_where_a_loop_runs_names_the_asynchronous_client(server, monkeypatch):
    client = connected(server)
    with pytest.raises(EventLoopError, match=r"altcraft_async\.AltcraftClient"):
        client.market.orders.get_status(external_id="order_1")
    with pytest.raises(EventLoopError):
        client.market.orders.stream_order_line_statuses(rows())
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)  # a notebook has a loop around each cell
    assert client.market.orders.get_status(external_id="order_1").status == "new"
    await asyncio.to_thread(client.close)


def test_an_observer_that_calls_the_client_is_told_so_and_does_not_hang(server):
    met = []

    class Curious:
        def on_event(self, event: object, /) -> None:
            if isinstance(event, CallStarted):
                met.append("called")
                with pytest.raises(EventLoopError):
                    orders.get_status(external_id="order_1")
                met.append("refused")

    observer = Curious()
    with connected(server, observers=[observer]) as client:
        orders = client.market.orders
        orders.get_status(external_id="order_1")
    assert met == ["called", "refused"]


# -- the end of a client


def test_a_closed_client_says_so(server):
    client = connected(server)
    client.market.orders.get_status(external_id="order_1")
    orders = client.market.orders
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        client.market  # noqa: B018
    with pytest.raises(ClientClosedError):
        orders.get_status(external_id="order_1")
    with pytest.raises(ClientClosedError):
        orders.update_order_line_statuses(rows())
    with pytest.raises(ClientClosedError), client:
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "altcraft-blocking"]


def test_closing_ends_what_other_threads_have_under_way(server):
    server.faults = Faults(latency=30)
    client = connected(server)
    orders = client.market.orders

    def waiting() -> Iterator[tuple[str, str, str]]:
        yield from rows(1)

    with ThreadPoolExecutor(3) as pool:
        single = pool.submit(orders.get_status, external_id="order_1")
        bulk = pool.submit(orders.update_order_line_statuses, waiting())
        stream = orders.stream_order_line_statuses(rows(1000))
        streamed = pool.submit(lambda: list(stream))
        while server.ledger.in_flight < 3:
            time.sleep(0.01)
        client.close()
        for ended in (single, bulk, streamed):
            assert isinstance(ended.exception(20), altcraft_async.AltcraftError)


def test_a_client_that_nobody_closed_is_missed_and_closed(server):
    client = connected(server)
    client.market.orders.get_status(external_id="order_1")
    kept = [client]
    del client
    with pytest.warns(ResourceWarning, match="unclosed blocking AltcraftClient"):
        kept.clear()
    deadline = time.monotonic() + 20
    while [thread for thread in threading.enumerate() if thread.name == "altcraft-blocking"]:
        assert time.monotonic() < deadline, "its thread went on"
        time.sleep(0.01)


def test_resources_outlive_the_name_of_their_client(server):
    kept = [connected(server).market.orders]
    assert kept[0].get_status(external_id="order_1").status == "new"
    assert kept[0].get_status(external_id="order_1").status == "new"
    with pytest.warns(ResourceWarning):
        kept.clear()


# -- processes


def run(code: str, server: ThreadedSandbox, *options: str) -> subprocess.CompletedProcess[str]:
    head = (
        "import os, sys, time, signal\n"
        "from altcraft_async import EventLoopError\n"
        "from altcraft_async.blocking import AltcraftClient\n"
        "altcraft = AltcraftClient.from_env(concurrency=8)\n"
        "orders = altcraft.market.orders\n"
    )
    environ = {**os.environ, "ALTCRAFT_BASE_URL": server.base_url, "ALTCRAFT_TOKEN": server.token}
    return subprocess.run(
        [sys.executable, *options, "-c", head + code],
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.processes
@pytest.mark.slow
def test_a_process_ends_with_a_client_that_was_not_closed_and_warns(server):
    ended = run("print(orders.get_status(external_id='order_1').status)\n", server, "-W", "always")
    assert (ended.returncode, ended.stdout) == (0, "new\n")
    assert "ResourceWarning: unclosed blocking AltcraftClient" in ended.stderr


@pytest.mark.processes
@pytest.mark.slow
def test_a_process_ends_with_a_stream_that_was_not_closed(server):
    ended = run(
        "stream = orders.stream_order_line_statuses([('order_1', 'line_1_1', 'new')] * 5000)\nnext(stream)\n", server
    )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr


@pytest.mark.processes
@pytest.mark.slow
def test_a_client_in_use_is_told_of_in_a_forked_process_and_none_hangs(server):
    code = (
        "orders.get_status(external_id='order_1')\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    one = lambda: orders.get_status(external_id='order_1')\n"
        "    for call in (one, lambda: orders.update_order_line_statuses([])):\n"
        "        try:\n"
        "            call()\n"
        "        except EventLoopError as error:\n"
        "            assert 'make a client in each process' in str(error)\n"
        "        else:\n"
        "            os._exit(3)\n"
        "    altcraft.close()\n"
        "    with AltcraftClient.from_env() as own:\n"
        "        assert own.market.orders.get_status(external_id='order_1').status == 'new'\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "altcraft.close()\n"
        "print('both ended')\n"
    )
    ended = run(code, server)
    assert (ended.returncode, ended.stdout) == (0, "both ended\n"), ended.stderr


@pytest.mark.processes
@pytest.mark.slow
def test_a_client_that_was_not_used_before_a_fork_works_in_each_process(server):
    code = (
        "pid = os.fork()\n"
        "assert orders.get_status(external_id='order_1').status == 'new'\n"
        "altcraft.close()\n"
        "assert not pid or os.waitpid(pid, 0)[1] == 0\n"
    )
    ended = run(code, server)
    assert ended.returncode == 0, ended.stderr


# -- Ctrl-C


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("way", ["list({call})", "orders.update_order_line_statuses(rows())"])
def test_an_interruption_gives_requests_in_flight_their_time_and_goes_on(server, way):
    server.faults = Faults(latency=0.2)
    code = (
        "import threading\n"
        "def rows():\n"
        "    yield from [(f'order_{n}', f'line_{n}_1', 'delivered') for n in range(1, 51)] * 100\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        f"    {way.format(call='orders.stream_order_line_statuses(rows())')}\n"
        "except KeyboardInterrupt:\n"
        "    print(altcraft.statistics().in_flight)\n"
        "altcraft.close()\n"
    )
    ended = run(code, server)
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
    assert 8 <= server.ledger.requests < 200
    changes = [change for key in server.ledger.lines for change in server.ledger.changes(*key)]
    assert len(changes) == server.ledger.requests, "requests in flight were dropped"


@pytest.mark.slow
def test_an_interruption_within_the_source_goes_on_as_it_is(altcraft):
    def source() -> Iterator[tuple[str, str, str]]:
        yield from rows(20)
        signal.raise_signal(signal.SIGINT)
        yield from rows(20)

    with pytest.raises(KeyboardInterrupt):
        altcraft.market.orders.update_order_line_statuses(source())
    assert altcraft.statistics().in_flight == 0


def test_an_interrupted_single_call_is_cancelled(server):
    server.faults = Faults(lines={("order_1", "line_1_1"): Fault("delay", delay=60)})
    with connected(server) as client:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.market.orders.update_order_line_status("order_1", "line_1_1", "new")
        assert time.monotonic() - started < 10
        assert client.statistics().in_flight == 0


def test_a_tag_and_an_id_of_ones_own_come_back(altcraft):
    update = LineStatusUpdate("order_1", "line_1_1", "new", request_id="mine", tag=7)
    outcome = altcraft.market.orders.update_order_line_statuses([update]).outcomes[0]
    assert (outcome.request_id, outcome.update.tag) == ("mine", 7)
