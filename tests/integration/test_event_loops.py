"""A client belongs to the event loop of its first call: anywhere else it says so at once, and never hangs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings

import aiohttp
import pytest

from altcraft_async import AltcraftClient, EventLoopError, RetryPolicy
from altcraft_async.engine.gate import Gate
from altcraft_async.flow.limit import FixedLimit
from altcraft_async.sandbox import Faults, ThreadedSandbox

LINE = ("order_1", "line_1_1", "delivered")
SAID = "the client belongs to another event loop"


@pytest.fixture
def sandbox():
    with ThreadedSandbox() as running:
        running.seed_orders(3)
        yield running


@pytest.fixture
def home():
    """An event loop that runs on a thread of its own, where the client is at home."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def client(sandbox, home):
    """A client that has been used at home."""
    client = AltcraftClient(sandbox.base_url, sandbox.token, concurrency=1, retry=RetryPolicy(attempts=1))
    home(client.market.orders.update_order_line_status(*LINE))
    yield client
    home(client.aclose())


async def single(client):
    await client.market.orders.update_order_line_status(*LINE)


async def gathered(client):
    await client.market.orders.update_order_line_statuses([LINE])


async def streamed(client):
    async for _ in client.market.orders.stream_order_line_statuses([LINE]):
        pass


async def any_method(client):
    await client.call("market/orders/get_status", {"external_id": "order_1"})


WAYS = [single, gathered, streamed, any_method]


@pytest.mark.parametrize("way", WAYS)
def test_use_in_another_loop_is_one_clear_error(client, sandbox, way):
    with pytest.raises(EventLoopError, match=SAID):
        asyncio.run(way(client))
    assert sandbox.ledger.requests == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_belongs_to_the_loop_of_the_first(client, way):
    with pytest.raises(EventLoopError, match=SAID):
        asyncio.run(way(client.with_options(response_format="xml")))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_that_is_used_first_decides_for_all(sandbox, home, way):
    client = AltcraftClient(sandbox.base_url, sandbox.token)
    home(single(client.with_options(response_format="xml")))
    with pytest.raises(EventLoopError, match=SAID):
        asyncio.run(way(client))
    home(client.aclose())


def test_a_call_from_elsewhere_does_not_wait_for_a_permit(client, sandbox, home):
    sandbox.faults = Faults(latency=0.1)
    under_way = threading.Thread(target=home, args=(single(client),))
    under_way.start()
    with pytest.raises(EventLoopError):
        asyncio.run(single(client))
    under_way.join()
    home(single(client))


def test_a_second_run_of_asyncio_is_another_loop(sandbox):
    client = AltcraftClient(sandbox.base_url, sandbox.token)

    async def use():
        async with client:
            await single(client)

    async def only_use():
        await single(client)
        await client._engine.transport._session.close()  # so that no socket is left over from the loop that ends

    asyncio.run(only_use())
    with pytest.raises(EventLoopError, match=SAID):
        asyncio.run(use())
    assert client.closed  # its own loop is closed, so there is nothing to wait for


def test_closing_from_elsewhere_is_refused_while_the_clients_loop_lives(client, home):
    with pytest.raises(EventLoopError):
        asyncio.run(client.aclose())
    assert not client.closed
    home(single(client))


def test_a_client_that_was_never_used_belongs_to_no_loop(sandbox):
    client = AltcraftClient(sandbox.base_url, sandbox.token)

    async def enter():
        client.statistics()
        await asyncio.sleep(0)

    async def use():
        async with client:
            await single(client)

    asyncio.run(enter())
    asyncio.run(use())


def test_a_session_from_another_loop_is_one_clear_error(sandbox, home):
    async def open_session():
        return aiohttp.ClientSession()

    session = home(open_session())

    async def use():
        async with AltcraftClient(sandbox.base_url, sandbox.token, session=session) as client:
            await single(client)

    with pytest.raises(EventLoopError, match="the session that was given belongs to another event loop"):
        asyncio.run(use())
    home(session.close())


FORK = """
import asyncio, os, sys
from altcraft_async import AltcraftClient, EventLoopError

client = AltcraftClient(sys.argv[1], sys.argv[2])
update = client.market.orders.update_order_line_status

async def in_the_child():
    try:
        await update("order_1", "line_1_1", "delivered")
    except EventLoopError as error:
        print(error, flush=True)

async def in_the_parent():
    async with client:
        await update("order_1", "line_1_1", "delivered")
        if os.fork() == 0:
            try:
                asyncio.run(in_the_child())
            finally:
                os._exit(0)
        os.wait()
        await update("order_1", "line_1_1", "refunded")

asyncio.run(in_the_parent())
"""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_is_told_to_make_its_own_client(sandbox):
    command = [sys.executable, "-c", FORK, sandbox.base_url, sandbox.token]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert SAID in ended.stdout
    assert sandbox.line_status(*LINE[:2]) == "refunded"
    assert sandbox.ledger.requests == 2


async def test_a_gate_is_bound_once():
    gate = Gate(FixedLimit(1))
    loop = asyncio.get_running_loop()
    gate.bind(loop)
    gate.bind(loop)
    other = asyncio.new_event_loop()
    with pytest.raises(EventLoopError):
        gate.bind(other)
    other.close()
    assert gate.loop is loop


# -- left open


async def cut_short(client):
    task = asyncio.ensure_future(single(client))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})  # awaiting it would let the interpreter keep its error, and with that the client


@pytest.mark.parametrize("use", [single, cut_short])
async def test_a_client_left_open_is_told_of_when_it_is_collected(start_raw_server, use):
    server = await start_raw_server(None)
    server.answers = [server.HANG if use is cut_short else server.answer(b'{"error": 0}')]
    client = AltcraftClient(server.base_url, "t")
    await use(client)
    session = client._engine.transport._session
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    await session.close()
    (said,) = (str(warning.message) for warning in caught if "AltcraftClient" in str(warning.message))
    assert said.startswith(f"unclosed <AltcraftClient {server.base_url} ")
    assert said.endswith("; use 'async with' or await aclose()")


async def test_a_copy_that_is_dropped_is_nothing_to_tell(sandbox):
    async with AltcraftClient(sandbox.base_url, sandbox.token) as client:
        copy = client.with_options(response_format="xml")
        await single(copy)
        del copy
        gc.collect()  # a warning would be an error here
