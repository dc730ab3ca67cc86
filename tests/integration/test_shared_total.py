"""A known total among real processes: together they keep to it, and they use all of it."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import pytest

from altcraft_async import LineStatusUpdate, Shared
from altcraft_async.engine.group import Group
from altcraft_async.flow.share import Load
from altcraft_async.flow.total import SharedTotal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="groups need fcntl")
TOKEN = "0123456789abcdef0123456789abcdef"
WORKER = Path(__file__).parents[1] / "limit_group.py"
SERVER = """
import asyncio, json, time
from aiohttp import web
inside = peak = 0
starts = []
async def handle(request):
    global inside, peak
    if request.method == "GET":
        return web.json_response({"peak": peak, "starts": starts})
    inside += 1
    peak = max(peak, inside)
    starts.append(time.monotonic())
    sent = json.loads(await request.read())
    await asyncio.sleep(0.1)
    inside -= 1
    return web.json_response({"error": 0, "error_text": "", **{key: sent[key] for key in sent if key.endswith("_id")}})
async def main():
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("ALTCRAFT_LIMIT_GROUP")
    return tmp_path / "altcraft_async"


@pytest.fixture
def base_url():
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    server.kill()
    server.communicate()


def run(base_url, processes, seconds, *settings):
    """Let several processes work side by side; give what they saw, and what the server saw."""
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), base_url, TOKEN, str(seconds), *settings], stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    seen = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    with urlopen(base_url) as answer:
        return seen, json.load(answer)


@pytest.mark.processes
@pytest.mark.slow
def test_three_processes_never_have_more_calls_in_flight_than_they_share(directory, base_url):
    for _ in range(3):  # a busy machine may start one when another has ended
        seen, server = run(base_url, 3, 4, "concurrency=host:12")
        if all(one["processes"] == 3 for one in seen):
            break

    served = [sum(one["served"].values()) for one in seen]
    assert [one["processes"] for one in seen] == [3, 3, 3]
    assert server["peak"] <= 12 + 2  # the first call of each newcomer
    assert sum(served) ** 2 / (3 * sum(count**2 for count in served)) >= 0.95
    assert sum(served) >= 0.75 * 12 * 10 * 4  # with the start of the processes in it


@pytest.mark.processes
@pytest.mark.slow
def test_three_processes_start_no_more_calls_a_second_than_they_share(directory, base_url):
    seen, server = run(base_url, 3, 4, "rate=host:60")

    served = [sum(one["served"].values()) for one in seen]
    seconds = Counter(int(at - server["starts"][0]) for at in server["starts"])
    assert max(seconds.values()) <= 60 * 1.1
    assert max(seconds[second] for second in (1, 2, 3)) >= 60 * 0.85  # another program may take one of them
    assert sum(served) ** 2 / (3 * sum(count**2 for count in served)) >= 0.9


@pytest.mark.parametrize(("rests", "seconds"), [(True, 0.3), (True, 3.0), (False, 3.0)])
def test_who_comes_back_has_one_permit_while_the_others_have_its_share(directory, rests, seconds):
    first, second = (Group(SharedTotal(Shared(40)), lambda: "group") for _ in range(2))
    for step in range(10):
        first.tick(100.0 + step * 0.1, Load(20, waiting=True))
        second.tick(100.05 + step * 0.1, Load(20, waiting=True))
    assert (first.limit.limit, second.limit.limit) == (20, 20)

    if rests:
        second.rest()  # else it is stopped
    for step in range(round(10 * seconds)):
        first.tick(101.0 + step * 0.1, Load(40, waiting=True))
    assert first.limit.limit == 40
    second.tick(101.0 + seconds, Load(1, waiting=True))
    assert second.limit.limit == 1

    for step in range(3):  # what the other gives back is the one's to use
        first.tick(101.1 + seconds + step * 0.1, Load(20, waiting=True))
        second.tick(101.15 + seconds + step * 0.1, Load(1, waiting=True))
    assert (first.limit.limit, second.limit.limit) == (20, 20)
    first.close()
    second.close()


async def update(client):
    await client.market.orders.update_order_line_status("order_1", "line_1_1", "delivered")


async def test_a_process_alone_has_all_of_it_from_its_second_call_on(directory, sandbox, connect):
    client = connect(sandbox, concurrency=Shared(12), rate=Shared(640))
    await update(client)
    seen = client.statistics()

    assert (seen.limit, seen.rate, seen.processes) == (12, 640, 1)
    assert seen.doing == "alone: 12 of 12, 640 of 640 a second"


async def test_two_clients_of_one_process_share_too(directory, sandbox, connect):
    first, second = connect(sandbox, concurrency=Shared(12)), connect(sandbox, concurrency=Shared(12))
    await update(first)
    await update(second)

    assert (first.statistics().limit, second.statistics().limit) == (12, 1)


async def test_clients_that_give_another_total_are_another_group(directory, sandbox, connect):
    first, second = connect(sandbox, concurrency=Shared(12)), connect(sandbox, concurrency=Shared(13))
    await update(first)
    await update(second)

    assert (first.statistics().limit, second.statistics().limit) == (12, 13)


async def test_where_no_other_can_be_seen_a_process_uses_all_of_it_and_says_so(directory, sandbox, connect, caplog):
    directory.write_text("no directory")
    client = connect(sandbox, concurrency=Shared(12))
    with caplog.at_level(logging.WARNING, "altcraft_async"):
        await update(client)

    assert client.statistics().limit == 12
    assert [record.getMessage() for record in caplog.records] == [
        "this process sees no others to share with, so it uses the whole total: <SharedTotal alone: 12 of 12>"
    ]


async def test_a_drainer_has_what_its_part_gives_it(directory, sandbox, connect):
    client = connect(sandbox, concurrency=Shared(12, among="drainers"), rate=Shared(640))
    await update(client)
    assert (client.statistics().limit, client.statistics().rate) == (1, 640)

    client.take_part(0.5)
    assert client.statistics().limit == 6


async def test_who_does_not_know_its_part_starts_nothing_and_goes_on_with_the_next(directory, sandbox, connect):
    client = connect(sandbox, concurrency=Shared(4, among="shards"))
    client.take_part(None)
    updates = [LineStatusUpdate(f"never_{number}", "l", "delivered") for number in range(20)]
    run = asyncio.create_task(client.market.orders.update_order_line_statuses(updates))
    await asyncio.sleep(0.2)
    assert sandbox.ledger.requests == 0
    client.take_part(0.5)
    assert len((await run).outcomes) == 20
