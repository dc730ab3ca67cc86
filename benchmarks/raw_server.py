"""The least HTTP/1.1 server that can answer an update: the fixed cost that every contender shares.

It runs in a process of its own, prints its port as the first line of stdout and
serves until its stdin is closed. Every POST is answered with a success that echoes
its ids; nothing else is parsed but the end of the headers and ``Content-Length``.

    python benchmarks/raw_server.py [--port 0] [--cpu N] [--delay SECONDS]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connection", "main", "running_server"]

_IDS = re.compile(rb'"(order_external_id|order_line_external_id|status_external_id)": ?"([^"]*)"')


def _answer(body: bytes) -> bytes:
    """Write the whole answer, headers and body, to a request: a success that names what was asked for."""
    ids = b", ".join(b'"%s": "%s"' % found for found in _IDS.findall(body))
    said = b'{"data": {%s}, "error": 0, "error_text": "Successful operation"}' % ids
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)


class Connection(asyncio.Protocol):
    """One keep-alive connection; pipelined and split requests are both understood."""

    __slots__ = ("_buffer", "_delay", "_transport")

    def __init__(self, delay: float) -> None:
        self._buffer = b""
        self._delay = delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        buffer = self._buffer + data if self._buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            size = end + 4 + _content_length(buffer, end)
            if len(buffer) < size:
                break
            answer = _answer(buffer[end + 4 : size])
            buffer = buffer[size:]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)
            else:
                self._transport.write(answer)
        self._buffer = buffer


def _content_length(buffer: bytes, end: int) -> int:
    head = buffer[:end].lower()
    start = head.find(b"content-length:")
    if start < 0:
        return 0
    stop = head.find(b"\r\n", start)
    return int(head[start + 15 : stop if stop >= 0 else end])


async def _serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)  # the parent's end of the pipe is our life


@contextlib.contextmanager
def running_server(*, cpu: int | None = None, delay: float = 0.0) -> Iterator[int]:
    """Run the server in a second process and give its port; end it on exit.

    `cpu` pins it to that core; `delay` is in seconds, before each answer.
    """
    command = [sys.executable, __file__, "--delay", str(delay)]
    if cpu is not None:
        command += ["--cpu", str(cpu)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=10)


def main() -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description="Serve one fixed answer, as fast as asyncio can.")
    parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free one")
    parser.add_argument("--cpu", type=int, default=None, help="pin the process to this core")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    if options.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - faster when it is there, and not needed

        run = uvloop.run
    run(_serve(options.port, options.delay))


if __name__ == "__main__":
    main()
