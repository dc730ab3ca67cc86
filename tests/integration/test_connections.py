"""Connections to servers that say more than they are asked, or leave: on both ways and both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import ssl
import subprocess
import sys

import aiohttp
import attrs
import pytest
import trustme

from altcraft_async import AttemptTimeoutError, ConnectError, ConnectionLostError, UnreadableResponseError
from altcraft_async.engine.connections import CleanConnector, Tap
from altcraft_async.engine.transport import AiohttpTransport
from altcraft_async.protocol.wire import WireRequest

LOOPS = {"asyncio": None}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def answer(text: bytes, *, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


@attrs.define(eq=False)
class Visit:
    """One connection to the server: what it was asked, and the way to answer."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked: list[str] = attrs.Factory(list)

    async def request(self) -> str:
        """Read a request and return its body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        self.asked.append((await self.reader.readexactly(length)).decode())
        return self.asked[-1]

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    def asked_already(self) -> bool:
        """Whether the next request, or a part of it, is here, be it unread."""
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self.reader._buffer or poll.poll(0))

    async def echo(self) -> None:
        """Answer each request with its own body, to the end."""
        while True:
            self.say(answer((await self.request()).encode()))


class Server:
    """A server whose every connection is `script`, a coroutine function of its `Visit`."""

    def __init__(self, script, tls=None):
        self.script, self.tls, self.visits, self.tasks = script, tls, [], set()

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._visit, "127.0.0.1", 0, ssl=self.tls)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _visit(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        visit = Visit(len(self.visits) + 1, reader, writer)
        self.visits.append(visit)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.script(visit)
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    @property
    def asked(self) -> list[list[str]]:
        return [visit.asked for visit in self.visits]


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine on each kind of event loop."""

    def runs(work):
        async def bounded():
            async with asyncio.timeout(60):
                return await work

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(bounded())

    return runs


@pytest.fixture(params=["direct", "session"])
def options(request):
    """The two ways: traces need the session's."""
    return {} if request.param == "direct" else {"trace_configs": [aiohttp.TraceConfig()]}


class Caller:
    def __init__(self, server, *, scheme="http", **options):
        self.transport = AiohttpTransport(f"{scheme}://127.0.0.1:{server.port}", **options)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.transport.aclose()

    async def ask(self, text: str, *, total: float = 5.0, **options):
        request = WireRequest("m", {"Content-Type": "text/plain"}, text.encode())
        return await self.transport.send(request, connect=2.0, total=total, max_bytes=100_000, **options)

    async def heard(self, text: str, **options) -> str:
        return (await self.ask(text, **options)).body.decode()


UNASKED = {
    "a whole answer": answer(b"stale"),
    "a proxy's 408": answer(b"", status=b"408 Request Timeout"),
    "the start of an answer": answer(b"stale")[:30],
    "an informational answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "one byte": b"H",
    "an empty line": b"\r\n",
}


@pytest.mark.parametrize("when", ["in one piece with the answer", "later and read", "later and not read"])
@pytest.mark.parametrize("what", UNASKED)
def test_a_connection_that_said_more_than_it_was_asked_is_not_used_again(run, options, what, when):
    async def script(visit):
        asked = (await visit.request()).encode()
        if when == "in one piece with the answer":
            visit.say(answer(asked) + UNASKED[what])
        else:
            visit.say(answer(asked))
            await go_on.wait()
            visit.say(UNASKED[what])
            said.set()
        await visit.echo()

    async def scenario():
        nonlocal go_on, said
        go_on, said = asyncio.Event(), asyncio.Event()
        async with Server(script) as server, Caller(server, **options) as caller:
            first = await caller.ask("one")
            assert first.body == b"one"
            if when != "in one piece with the answer":
                go_on.set()
                await said.wait()
            if when == "later and read":
                await asyncio.sleep(0.02)
            go_on.set()
            second = await caller.ask("two")
            assert second.body == b"two"
            assert server.asked == [["one"], ["two"]]
            assert first.unasked or second.unasked

    go_on = said = None
    run(scenario())


def test_a_call_that_ends_while_a_connection_is_looked_at_closes_it(run, options, monkeypatch):
    async def script(visit):
        visit.say(answer((await visit.request()).encode()) + b"H")
        with contextlib.suppress(asyncio.IncompleteReadError):
            await visit.request()
        closed.set()

    async def never(_: Tap) -> int:
        return await asyncio.sleep(60, 0)

    async def scenario():
        nonlocal closed
        closed = asyncio.Event()
        async with Server(script) as server, Caller(server, **options) as caller:
            assert await caller.heard("one") == "one"
            with contextlib.suppress(AttemptTimeoutError, ConnectError):
                await caller.ask("two", total=0.05)
            gc.collect()  # one that is left open warns
            await closed.wait()

    closed = None
    monkeypatch.setattr(Tap, "read_on", never)
    run(scenario())


def test_an_answer_that_came_before_the_request_is_never_believed_at_any_moment(run, options):
    said = 0

    async def script(visit):
        nonlocal said
        while True:
            asked = int(await visit.request())
            visit.say(answer(b"%d" % asked))
            for _ in range(asked % 9):
                await asyncio.sleep(0)
            if not visit.asked_already():
                said += 1
                visit.say(answer(b"stale"))

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            for number in range(200):
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                assert await caller.heard(str(number)) == str(number)
        assert said > 50

    run(scenario())


@pytest.mark.parametrize("greeting", [answer(b"stale"), b"SSH-2.0-x\r\n", b"H"])
def test_a_new_connection_that_speaks_first_is_not_used(run, options, greeting):
    async def script(visit):
        visit.say(greeting)
        greeted.set()
        await visit.echo()

    async def scenario():
        nonlocal greeted
        greeted = asyncio.Event()
        async with Server(script) as server, Caller(server, **options) as caller:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", slowed(greeted))
                with pytest.raises(ConnectionLostError) as caught:
                    await caller.ask("one")
            assert not caught.value.maybe_applied
            assert server.asked == [[]]

    greeted = None
    run(scenario())


def slowed(greeted):
    """A way to connect that waits until the server has spoken."""
    import aiohappyeyeballs  # noqa: PLC0415

    original = aiohappyeyeballs.start_connection

    async def start(*arguments, **keywords):
        socket = await original(*arguments, **keywords)
        await greeted.wait()
        await asyncio.sleep(0.01)
        return socket

    return start


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_kept_connection_that_dies_before_a_byte_of_the_answer_is_replaced(run, options, how):
    async def script(visit):
        visit.say(answer((await visit.request()).encode()))
        if visit.number == 1:
            await visit.request()
            if how == "reset":
                visit.writer.transport.abort()
            return
        await visit.echo()

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            assert not (await caller.ask("one")).resent
            second = await caller.ask("two")
            assert (second.body, second.resent) == (b"two", True)
            assert not (await caller.ask("three")).resent
            assert server.asked[0] == ["one", "two"]
            assert [asked for visit in server.asked for asked in visit] == ["one", "two", "two", "three"]

    run(scenario())


def test_the_end_of_an_idle_connection_is_nothing_that_nobody_asked_for(run, options):
    async def script(visit):
        visit.say(answer((await visit.request()).encode()))
        visit.writer.close()

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            for text in ("one", "two"):
                answered = await caller.ask(text)
                assert (answered.body.decode(), answered.unasked) == (text, False)
                await asyncio.sleep(0.02)

    run(scenario())


def test_a_connection_is_replaced_once_only(run, options):
    async def script(visit):
        if visit.number == 1:
            visit.say(answer((await visit.request()).encode()))
        await visit.request()

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            await caller.ask("one")
            with pytest.raises(ConnectionLostError) as caught:
                await caller.ask("two")
            assert caught.value.maybe_applied
            assert server.asked == [["one", "two"], ["two"]]

    run(scenario())


def test_a_new_connection_that_dies_is_not_replaced(run, options):
    async def script(visit):
        await visit.request()

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            with pytest.raises(ConnectionLostError):
                await caller.ask("one")
            assert server.asked == [["one"]]

    run(scenario())


def test_one_byte_of_an_answer_means_no_replacement(run, options):
    async def script(visit):
        visit.say(answer((await visit.request()).encode()))
        await visit.request()
        visit.say(b"H")

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            await caller.ask("one")
            with pytest.raises((ConnectionLostError, UnreadableResponseError)) as caught:
                await caller.ask("two")
            assert caught.value.maybe_applied
            assert server.asked == [["one", "two"]]

    run(scenario())


def test_where_the_replacement_cannot_connect_the_request_stays_in_doubt(run, options):
    async def script(visit):
        visit.say(answer((await visit.request()).encode()))
        await visit.request()
        server.listener.close()

    async def scenario():
        nonlocal server
        async with Server(script) as server, Caller(server, **options) as caller:
            await caller.ask("one")
            with pytest.raises(ConnectionLostError) as caught:
                await caller.ask("two")
            assert caught.value.maybe_applied
            with pytest.raises(ConnectError) as caught:
                await caller.ask("three")
            assert not caught.value.maybe_applied

    server = None
    run(scenario())


def test_a_fresh_connection_carries_one_call(run, options):
    async def scenario():
        async with Server(Visit.echo) as server, Caller(server, **options) as caller:
            assert await caller.heard("one") == "one"
            assert await caller.heard("two", fresh=True) == "two"
            assert await caller.heard("three", fresh=True) == "three"
            assert await caller.heard("four") == "four"
            assert server.asked == [["one", "four"], ["two"], ["three"]]

    run(scenario())


def test_after_discard_nothing_else_is_sent_on_the_connection(run, options):
    async def scenario():
        async with Server(Visit.echo) as server, Caller(server, **options) as caller:
            (await caller.ask("one")).discard()
            await caller.ask("two")
            await caller.ask("three")
            assert server.asked == [["one"], ["two", "three"]]

    run(scenario())


def test_an_answer_whose_head_comes_in_pieces_keeps_its_connection(run, options):
    async def script(visit):
        while True:
            for byte in answer((await visit.request()).encode()):
                visit.say(bytes([byte]))
                await visit.writer.drain()
                await asyncio.sleep(0)

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            for text in ("one", "two", "three"):
                assert await caller.heard(text) == text
            assert server.asked == [["one", "two", "three"]]

    run(scenario())


def test_a_chunked_answer_keeps_its_connection_and_bytes_after_it_do_not(run, options):
    async def script(visit):
        while True:
            text = (await visit.request()).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            more = b"HTTP" if text == b"two" else b""
            visit.say(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text) + more)

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            for text in ("one", "two", "three"):
                assert await caller.heard(text) == text
            assert server.asked == [["one", "two"], ["three"]]

    run(scenario())


_CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n%x%s\r\n%s\r\n0%s\r\n%s\r\n"
)
PARTS_OF_AN_ANSWER = {
    "early hints": lambda text: [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(text)],
    "continue, apart": lambda text: [b"HTTP/1.1 100 Continue\r\n\r\n" * 2, answer(text)],
    "early hints in pieces": lambda text: [
        b"HTTP/1.1 103 E",
        b"arly Hints\r\n\r",
        b"\n" + answer(text)[:9],
        answer(text)[9:],
    ],
    "chunk extensions": lambda text: [_CHUNKED % (len(text), b";x=1", text, b";last", b"")],
    "trailers": lambda text: [_CHUNKED % (len(text), b"", text, b"", b"X-Sum: 1\r\nX-More: 2\r\n")],
    "the last chunk in pieces": lambda text: [
        _CHUNKED[:-2] % (len(text), b"", text, b"", b"X-Sum: 1\r"),
        b"\n",
        b"\r\n",
    ],
}


@pytest.mark.parametrize("how", PARTS_OF_AN_ANSWER)
def test_informational_answers_chunk_extensions_and_trailers_belong_to_the_answer(run, options, how):
    async def script(visit):
        while True:
            for piece in PARTS_OF_AN_ANSWER[how]((await visit.request()).encode()):
                visit.say(piece)
                await asyncio.sleep(0.01)

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            for text in ("one", "two", "three"):
                response = await caller.ask(text)
                assert (response.body.decode(), response.unasked) == (text, False)
                await asyncio.sleep(0.03)
            assert server.asked == [["one", "two", "three"]]

    run(scenario())


def test_a_connection_is_kept_after_answers_of_every_size(run, options):
    sizes = [0, 1, 32_768, 32_769, 65_536, 99_999, 5]

    async def script(visit):
        while True:
            visit.say(answer(b"x" * int(await visit.request())))

    async def scenario():
        async with Server(script) as server, Caller(server, **options) as caller:
            for size in sizes:
                assert await caller.heard(str(size)) == "x" * size
            assert server.asked == [list(map(str, sizes))]

    run(scenario())


def test_idle_connections_of_tls_are_kept(run, options):
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)

    async def script(visit):
        if visit.number == 1:
            for _ in range(3):
                visit.say(answer((await visit.request()).encode()))
            visit.say(b"H")
            await asyncio.sleep(0.02)
        await visit.echo()

    async def scenario():
        async with Server(script, theirs) as server, Caller(server, scheme="https", tls=ours, **options) as caller:
            for text in ("one", "two", "three"):
                assert await caller.heard(text) == text
                await asyncio.sleep(0.01)
            assert await caller.heard("four") == "four"
            assert await caller.heard("five", fresh=True) == "five"
            assert server.asked == [["one", "two", "three"], ["four"], ["five"]]

    run(scenario())


class ClosedTransport:
    """What uvloop does where its handle is closed and the transport does not know."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, _):
        msg = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        raise RuntimeError(msg)

    writelines = write


@pytest.mark.parametrize("kept", [True, False])
def test_writing_to_a_connection_that_is_closed_is_a_lost_connection_with_nothing_sent(run, options, kept, monkeypatch):
    original = CleanConnector.connect
    taps = []

    def close(tap):
        tap.transport = tap._inner.transport = ClosedTransport(tap.transport)

    async def connect(self, *arguments, **keywords):
        connection = await original(self, *arguments, **keywords)
        taps.append(Tap.of(connection))
        if not kept:
            close(taps[-1])
        return connection

    async def scenario():
        async with Server(Visit.echo) as server, Caller(server, **options) as caller:
            monkeypatch.setattr(CleanConnector, "connect", connect)
            if kept:
                assert await caller.heard("one") == "one"
                close(taps[0])
                assert await caller.heard("two") == "two"
                assert server.asked == [["one"], ["two"]]
            else:
                with pytest.raises(ConnectionLostError) as caught:
                    await caller.ask("one")
                assert not caught.value.maybe_applied

    run(scenario())


def test_many_callers_side_by_side_get_their_own_answers(run, options):
    async def scenario():
        async with Server(Visit.echo) as server, Caller(server, **options) as caller:

            async def worker(number):
                return [await caller.heard(f"{number}-{turn}") == f"{number}-{turn}" for turn in range(20)]

            results = await asyncio.gather(*(worker(number) for number in range(16)))
            assert all(map(all, results))
            assert len(server.visits) <= 24

    run(scenario())


NO_MORE_FILES = """
import asyncio, importlib, os, resource, sys
import aiohttp
from altcraft_async import ConnectError
from altcraft_async.engine.transport import AiohttpTransport
from altcraft_async.protocol.wire import WireRequest

async def main(way):
    traces = [aiohttp.TraceConfig()] if way == "session" else []
    transport = AiohttpTransport("http://127.0.0.1:1", trace_configs=traces)
    request = WireRequest("m", {}, b"{}")
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (None, max(map(int, os.listdir("/proc/self/fd"))) - 1):
        if limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, allowed[1]))
        try:
            await transport.send(request, connect=1.0, total=1.0, max_bytes=1000)
        except ConnectError as error:
            print(error.local, error.message)
    resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    await transport.aclose()

for loop in sys.argv[1:]:
    factory = importlib.import_module("uvloop").new_event_loop if loop == "uvloop" else None
    for way in ("direct", "session"):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(way))
"""


@pytest.mark.processes
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux does")  # noqa: PTH112
def test_too_many_open_files_is_a_connect_error_of_this_machine():
    command = [sys.executable, "-c", NO_MORE_FILES, *LOOPS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.stderr == ""
    said = ended.stdout.splitlines()
    assert said[::2] == ["False no connection to the server (Connection refused)"] * 2 * len(LOOPS)
    assert said[1::2] == ["True no connection to the server (Too many open files)"] * 2 * len(LOOPS)


WITHOUT_A_FILE = """
import asyncio, os, resource, sys, time
from altcraft_async import AltcraftClient, ConnectError, OutagePolicy

def hog():
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return held

def free(held):
    while held:
        os.close(held.pop())

async def main():
    loop = asyncio.get_running_loop()
    outage = OutagePolicy(call_patience=1.5, first_patience=0.1)
    async with AltcraftClient(*sys.argv[1:], group=None, outage=outage) as client:
        held = hog()
        started = loop.time()
        try:
            await client.market.orders.update_order_line_status("order", "line", "new")
        except ConnectError as error:
            gone, said = loop.time() - started, (error.local, error.maybe_applied)
            free(held)
            print(said, 1.0 < gone < 4.0)
        held = hog()
        loop.call_later(2.0, free, held)
        rows = [(f"order_{n}", f"line_{n}_1", "new") for n in range(1, 201)]
        report = await client.market.orders.update_order_line_statuses(rows)
        print(sum(one.ok for one in report), report.sent < 300, client.statistics().retry_budget > 400)

resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
asyncio.run(main())
"""


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="limits open files as POSIX does")
async def test_without_an_open_file_all_wait_within_their_patience_and_it_costs_nothing(start_sandbox):
    sandbox = await start_sandbox(orders=200)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITHOUT_A_FILE, sandbox.base_url, sandbox.token),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(child.communicate(), 60)
    assert (out.decode().splitlines(), child.returncode) == (["(True, False) True", "200 True True"], 0), err.decode()
